// What is chosen, above its panels, and the tabs to these.

import { h, put } from "handgrad/dom.js";
import { flowPanel } from "handgrad/flow.js";
import { mutantsPanel } from "handgrad/mutants.js";
import { count, short } from "handgrad/numbers.js";
import { nudgePanel } from "handgrad/nudge.js";
import { sheetPanel } from "handgrad/sheet.js";
import { axisName, comesBack, tensorPanel } from "handgrad/tensor.js";
import { trainingPanel } from "handgrad/training.js";

export const PANELS = {
  tensor: ["Tensor", tensorPanel],
  sheet: ["Formula and code", sheetPanel],
  nudge: ["Nudge", nudgePanel],
  flow: ["Flow", flowPanel],
  mutants: ["Break it", mutantsPanel],
  training: ["Training", trainingPanel],
};
const ABOUT = {
  flow: "Sizes of signals and gradients along the depth",
  mutants: "A known mistake in the backward of this pass",
  training: "The run that the model is from",
};
const WRONG_PASS = ["tensor", "nudge", "mutants"]; // panels that show a mistake
export const OF_A_TENSOR = ["tensor", "sheet", "nudge"];

/** The tabs of the panels; arrow keys go from one to the next. */
export function tabs(root, state, update) {
  const tab = ([key, [title]]) =>
    h(
      "button",
      {
        type: "button",
        role: "tab",
        id: `tab-${key}`,
        "aria-selected": String(key === state.panel),
        "aria-controls": "panel",
        tabindex: key === state.panel ? "0" : "-1",
        onclick: () => update({ panel: key }),
      },
      title,
    );
  put(root, Object.entries(PANELS).map(tab));
  root.onkeydown = (event) => {
    const keys = Object.keys(PANELS);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = keys[(keys.indexOf(state.panel) + step + keys.length) % keys.length];
    update({ panel: next });
    document.getElementById(`tab-${next}`).focus();
  };
}

/** What is chosen, in a line or two, above the tabs. */
export function heading(root, pass, state, update) {
  const tensor = pass.tensors.find((each) => each.name === state.node);
  const axes = tensor.axes.map((axis, n) => `${axis} = ${count(tensor.shape[n])} (${axisName(axis)})`);
  const norms = `norm ${short(tensor.norm)}, of its ${comesBack(tensor)} ${short(tensor.gradient_norm)}`;
  const ofTensor = OF_A_TENSOR.includes(state.panel);
  put(
    root,
    h("h2", { id: "detail-title", tabindex: "-1" }, ofTensor ? tensor.name : PANELS[state.panel][0]),
    h(
      "p",
      { class: "muted" },
      ofTensor ? [...(axes.length ? axes : ["one number"]), norms].join(" · ") : ABOUT[state.panel],
    ),
    state.mutation
      ? h(
          "p",
          { class: "mistake" },
          `With the mistake ${state.mutation}${WRONG_PASS.includes(state.panel) ? "" : "; here is the right pass"}`,
          h("button", { type: "button", class: "quiet", onclick: () => update({ mutation: "" }) }, "Undo"),
        )
      : null,
  );
}

// A run: how its loss fell, and the models that it kept on the way, the same text through each.

import { h, debounced, keepingFocus, put } from "handgrad/dom.js";
import { chart } from "handgrad/chart.js";
import { count, plural, short } from "handgrad/numbers.js";
import { isStatic, LIVE_ONLY } from "handgrad/source.js";

const AGAIN = 5000; // milliseconds between two looks at a run that is being trained
let shown = null; // the panel, which stays while its slider is held

export async function trainingPanel({ pass, ask, update, again, retrace }) {
  if (shown?.goesOn) again(AGAIN); // whatever becomes of this look
  const { header } = await ask("training", {}, "training");
  if (!header.run) {
    return h(
      "p",
      { class: "empty" },
      "This model is no run: give the explorer the folder of one, such as runs/1, and its losses and kept models are here.",
    );
  }
  if (!shown?.element.isConnected || shown.run !== header.run) shown = new Training(header.run, update, retrace);
  shown.goesOn = !isStatic && header.step < header.steps;
  if (shown.goesOn) again(AGAIN);
  shown.update(header, pass);
  return shown.element;
}

class Training {
  constructor(run, update, retrace) {
    this.run = run;
    this.move = debounced(120, (name) => update({ checkpoint: name }, { replace: true }));
    this.newer = h("button", { type: "button", class: "quiet", hidden: true, onclick: retrace });
    this.slider = h("input", { type: "range", id: "checkpoint", min: 0, step: 1, oninput: () => this.slide() });
    this.told = h("output", { for: "checkpoint" });
    this.progress = h("p", {});
    this.models = h("label", { class: "slider" }, h("span", {}, "Model"), this.slider, this.told, this.newer);
    this.alone = h("p", { class: "muted" });
    this.picture = h("div", {});
    this.result = h("p", {});
    this.element = h("div", { class: "training" }, this.progress, this.models, this.alone, this.picture, this.result);
    this.seen = new Map(); // the losses of this text by the steps of the models that it has been through
  }

  slide() {
    this.wanted = this.kept[Number(this.slider.value)];
    this.say(words(this.wanted));
    this.move(this.wanted.name);
  }

  say(text) {
    this.told.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
  }

  /** The slider stands at the model that is shown or, on the way there, at the one that is wanted. */
  place(pass) {
    if (this.wanted?.name === pass.checkpoint) this.wanted = null;
    const name = this.wanted?.name ?? pass.checkpoint;
    const there = this.kept.find((each) => each.name === pass.checkpoint);
    this.slider.max = Math.max(0, this.kept.length - 1);
    this.slider.value = Math.max(
      0,
      this.kept.findIndex((each) => each.name === name),
    );
    this.say(words(this.wanted ?? { name, step: pass.step }));
    this.newer.hidden = !there || there.step === pass.step;
    this.newer.textContent = there ? `Go on to ${plural(there.step, "update")}` : "";
  }

  update(header, pass) {
    this.kept = header.checkpoints;
    const at = pass.step;
    const text = JSON.stringify([pass.text, pass.tokens.map((each) => each.target)]);
    if (text !== this.text) this.seen.clear();
    this.text = text;
    if (at !== null && pass.loss !== null) this.seen.set(at, pass.loss);
    const going = header.active ? h("strong", {}, "It is being trained now: ") : null;
    put(this.progress, going, `${count(header.step)} of ${plural(header.steps, "update")}.`);
    const choice = this.kept.length > 1 && !isStatic;
    this.models.hidden = !choice;
    this.alone.hidden = choice;
    this.alone.textContent = isStatic
      ? `Another of the run's models ${LIVE_ONLY}.`
      : "The run keeps no other models; train with --set keep=true to keep one at each evaluation.";
    this.place(pass);
    const open = this.picture.querySelector("details")?.open;
    keepingFocus(this.picture, () => {
      put(this.picture, curves(header, this.seen, at));
      if (open) this.picture.querySelector("details").open = true;
    });
    put(
      this.result,
      "With this model, the loss on this text is ",
      h("strong", {}, short(pass.loss, 5)),
      " nats. The map, the tensors and every panel show the pass through it.",
    );
  }
}

function curves(header, seen, at) {
  const here = [...seen].sort((a, b) => a[0] - b[0]);
  return chart(
    "Loss",
    [
      { name: "training, smoothed", class: "forward-line", points: header.curve.map((each) => [each.step, each.loss]) },
      {
        name: "held-out text",
        class: "second-line",
        points: header.evaluations.map((each) => [each.step, each.loss]),
        dots: true,
      },
      { name: "this text", class: "backward-line", points: here, dots: true },
    ],
    { x: { title: "update" }, y: { title: "nats" }, marks: at === null ? [] : [{ x: at }] },
  );
}

const words = ({ name, step }) =>
  step === null ? "" : `${plural(step, "update")}${/^\d+$/.test(name) ? "" : `, ${name}`}`;

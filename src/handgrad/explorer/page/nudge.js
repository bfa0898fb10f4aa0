// One number is moved, and the model runs again: what the gradient foretells, and what the loss does.

import { h, put, say } from "handgrad/dom.js";
import { chart } from "handgrad/chart.js";
import { exact, quoted, short, visible } from "handgrad/numbers.js";
import { isStale, isStatic, LIVE_ONLY } from "handgrad/source.js";
import { axisName, firstOfInterest, keysOf, maskOf, placeOf } from "handgrad/tensor.js";

const DECADES = [-7, 1]; // that the slider reaches, in powers of ten of the tensor's root mean square
const HALF = 100; // places of the slider to each side
const FIRST = 40; // where it begins
const last = { entry: "", place: FIRST }; // for when the same is drawn anew

export async function nudgePanel(view) {
  const { pass, state, ask } = view;
  const tensor = pass.tensors.find((each) => each.name === state.node);
  if (isStatic) return h("p", { class: "empty" }, `Nudging runs the model again, which ${LIVE_ONLY}.`);
  if (tensor.name === "loss") {
    return h("p", { class: "empty" }, "The loss is what follows; choose something that it follows from.");
  }
  const index = await indexOf(tensor, view);
  const entry = { key: keysOf(tensor)[0], index, mutation: state.mutation };
  const { header: found } = await ask("nudge", entry, "nudge");
  const nudge = new Nudge(found, (step) => ask("nudge", { ...entry, step }, "nudge-step"), JSON.stringify(entry));
  const words = tensor.axes.flatMap((axis, n) =>
    axis === "T" || axis === "S"
      ? [`${axisName(axis)} ${index[n]} ${quoted(visible(pass.tokens[index[n]].text))}`]
      : [],
  );
  const where = words.length ? h("span", { class: "muted" }, `(${words.join(", ")}) `) : null;
  nudge.element = h(
    "div",
    { class: "nudge" },
    h(
      "p",
      {},
      `Move one number of ${tensor.name} `,
      where,
      "and the model runs again from there, in double precision.",
    ),
    h("div", { class: "controls" }, inputs(tensor, index, view)),
    witnesses(found, state.mutation),
    h("label", { class: "slider", for: "nudge-step" }, h("span", {}, "Step"), nudge.slider, nudge.told),
    nudge.readout,
    nudge.pictures,
  );
  nudge.move();
  return nudge.element;
}

/** The entry that is held or, where none is, the one with the largest cotangent of what the tensor panel shows. */
async function indexOf(tensor, { pass, state, ask }) {
  const { at, row, column } = placeOf(tensor, state, pass.config);
  let held = state.at;
  if (!held) {
    const key = keysOf(tensor)[1];
    const { arrays } = await ask("tensors", { keys: [key], at, row, column }, "nudge-place");
    const hides = maskOf(pass, tensor.name);
    const [r, c] = firstOfInterest(arrays[key], hides && ((r, c) => hides(r + row, c + column)));
    held = [r + row, c + column];
  }
  const last = held.slice(2 - Math.min(2, tensor.shape.length));
  return [...at, ...last].map((n, axis) => Math.min(n, tensor.shape[axis] - 1));
}

/** A field for each axis. */
function inputs(tensor, index, { pass, state, update }) {
  const rank = tensor.shape.length;
  const choose = (axis, text) => {
    const n = Math.max(0, Math.min(tensor.shape[axis] - 1, Math.trunc(Number(text)) || 0));
    const [row, column] = rank > 1 ? index.slice(-2) : [0, index[0]];
    if (axis < rank - 2) update({ head: tensor.axes[axis] === "G" ? (n * pass.config.heads) / tensor.shape[axis] : n });
    else update({ at: axis === rank - 1 ? [row, n] : [n, column] });
  };
  return tensor.axes.map((axis, n) => {
    if (axis === "B") return null;
    const limits = { type: "number", min: 0, max: tensor.shape[n] - 1, value: index[n], "data-key": `axis-${axis}` };
    const input = h("input", { ...limits, onchange: (event) => choose(n, event.target.value) });
    return h("label", { class: "field" }, h("span", {}, axisName(axis)), input);
  });
}

/** What the backward pass says of the entry, and the derivative without one. */
function witnesses({ value, gradient, complex_step: derivative }, mutation) {
  const known = derivative !== null && Number.isFinite(gradient);
  const apart = known ? Math.abs(derivative - gradient) / (Math.abs(derivative) || 1) : null;
  const words = apart === 0 ? " the same" : ` apart by ${short(apart, 2)}`;
  return h(
    "dl",
    { class: "facts witnesses" },
    h("dt", {}, "its value"),
    h("dd", { "data-value": "value" }, exact(value)),
    h("dt", {}, mutation ? "by the backward pass with the mistake" : "by the backward pass"),
    h("dd", { "data-value": "gradient", class: mutation ? "mistaken" : "" }, exact(gradient)),
    h("dt", {}, "by the complex step, without a backward"),
    h("dd", { "data-value": "complex" }, exact(derivative), apart === null ? null : h("small", {}, words)),
  );
}

/** The slider, what it says, and its pictures. */
class Nudge {
  constructor(found, run, entry) {
    Object.assign(this, { found, run });
    if (last.entry !== entry) Object.assign(last, { entry, place: FIRST });
    this.readout = h("dl", { class: "facts" });
    this.pictures = h("div", { class: "pair" });
    this.told = h("output", { id: "nudge-told", for: "nudge-step" });
    this.slider = h("input", {
      type: "range",
      min: -HALF,
      max: HALF,
      step: 1,
      value: last.place,
      id: "nudge-step",
      "aria-describedby": "nudge-told",
      oninput: () => this.move(),
    });
  }

  /** From the slider's place: nothing in the middle, and to each side by decades. */
  get step() {
    const place = Number(this.slider.value);
    const decade = DECADES[0] + ((DECADES[1] - DECADES[0]) * Math.abs(place)) / HALF;
    return place === 0 ? 0 : Math.sign(place) * this.found.unit * 10 ** decade;
  }

  /** Null where the gradient is not finite. */
  predicted(step) {
    return Number.isFinite(this.found.gradient) ? this.found.gradient * step : null;
  }

  /** Actual by predicted change; null where there is none. */
  ratio(step, loss) {
    const predicted = this.predicted(step);
    return loss === null || this.found.loss === null || !predicted ? null : (loss - this.found.loss) / predicted;
  }

  async move() {
    const { step } = this;
    last.place = Number(this.slider.value);
    this.told.textContent = step === 0 ? "no step" : `step ${short(step, 4)}`;
    try {
      const loss = step === 0 ? this.found.loss : (await this.run(step)).header.losses[0];
      if (step === this.step) this.show(step, loss);
    } catch (error) {
      if (!isStale(error)) put(this.readout, h("dt", {}, "error"), h("dd", {}, error.message));
    }
  }

  show(step, loss) {
    const quotient = step === 0 ? null : this.ratio(step, loss);
    const none = this.found.gradient === 0 ? "the gradient is 0: nothing is foretold" : "–";
    const facts = [
      ["step", short(step, 6), "step"],
      ["predicted change of the loss: gradient × step", short(this.predicted(step), 8), "predicted"],
      ["actual change: the model run again", loss === null ? "not finite" : short(loss - this.found.loss, 8), "actual"],
      ["actual ÷ predicted", quotient === null ? none : short(quotient, 9), "ratio"],
    ];
    put(
      this.readout,
      facts.map(([term, text, name]) => [h("dt", {}, term), h("dd", { "data-value": name }, text)]),
    );
    say(`ratio ${facts[3][1]}`);
    this.draw(step, loss);
    this.element.dataset.shows = this.slider.value;
  }

  draw(step, loss) {
    const { found } = this;
    const swept = found.steps.map((each, n) => [each, found.losses[n]]);
    const all = [...swept, [step, loss]].sort((a, b) => a[0] - b[0]);
    const near = all.filter(([each]) => Math.abs(each) <= (step ? 4 * Math.abs(step) : found.unit));
    const marks = step ? [{ x: step }] : [];
    const changes = near.map(([each, loss]) => [each, loss === null ? null : loss - found.loss]);
    const foretold = near.map(([each]) => [each, this.predicted(each)]);
    const off = (sign) =>
      swept
        .filter(([each]) => Math.sign(each) === sign)
        .map(([each, loss]) => [Math.abs(each), this.ratio(each, loss)])
        .map(([size, ratio]) => [size, ratio === null ? null : Math.max(Math.abs(ratio - 1), 1e-16)])
        .sort((a, b) => a[0] - b[0]);
    put(
      this.pictures,
      chart(
        "Change of the loss",
        [
          { name: "predicted", class: "backward-line", points: foretold },
          { name: "actual", class: "forward-line", points: changes, dots: true, line: false },
        ],
        { x: { title: "step" }, y: { title: "change, nats" }, marks },
      ),
      found.gradient === 0
        ? h("p", { class: "empty" }, "A gradient of 0 foretells no change, and there is no ratio.")
        : chart(
            "How far the ratio is from 1",
            [
              { name: "upwards", class: "forward-line", points: off(1), dots: true },
              { name: "downwards", class: "second-line", points: off(-1), dots: true },
            ],
            {
              x: { title: "size of the step", log: true },
              y: { title: "|ratio − 1|", log: true },
              marks: step ? [{ x: Math.abs(step) }] : [],
              note: "large steps: curvature; tiny ones: rounding",
            },
          ),
    );
  }
}

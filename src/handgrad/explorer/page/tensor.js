// A tensor beside what comes back for it: pictures, exact numbers, statistics, and for attention the softmax's row.

import { choice, h, put, say, table } from "handgrad/dom.js";
import { Heatmap } from "handgrad/heatmap.js";
import { histogramOf } from "handgrad/histogram.js";
import { count, exact, percent, plural, quoted, short, visible } from "handgrad/numbers.js";
import { softmaxRow } from "handgrad/softmax.js";
import { COLUMNS, ROWS, isStatic } from "handgrad/source.js";

const ATTENTION = ["scores", "masked_scores", "weights"];
const KINDS = { activations: "cotangents", parameters: "gradients" };
const AXES = {
  B: "sequence",
  T: "position",
  S: "key",
  C: "width",
  H: "head",
  G: "head of keys",
  D: "width of the head",
  F: "hidden unit",
  V: "token",
  HD: "width of all heads",
  GD: "width of all heads of keys",
  context: "position",
};

/** What a place along an axis is called, in one word or a few. */
export const axisName = (axis) => AXES[axis] ?? axis;

/** The gradient of a parameter, the cotangent of an activation. */
export const comesBack = (tensor) => (tensor.kind === "parameters" ? "gradient" : "cotangent");

/** The tensor's name in a key of the trace. */
export const nameOf = (key) => key.slice(key.indexOf("/") + 1);

/** The key of a tensor in the trace, and of what comes back to it. */
export const keysOf = ({ kind, name }) => [`${kind}/${name}`, `${KINDS[kind]}/${name}`];

/** The part of a tensor that is looked at: the place on the axes before the last two, and where the last two begin. */
export function placeOf(tensor, { head, from }, config) {
  const [rows, columns] = [1, 1, ...tensor.shape].slice(-2);
  const shared = (n) => Math.floor((n * tensor.shape[1]) / config.heads); // heads of queries share one of keys
  const at = tensor.axes.slice(0, -2).map((axis) => {
    if (axis === "H") return Math.min(head, tensor.shape[1] - 1);
    return axis === "G" ? Math.min(shared(head), tensor.shape[1] - 1) : 0;
  });
  return { at, row: Math.min(from[0], rows - 1), column: Math.min(from[1], columns - 1) };
}

export async function tensorPanel(view) {
  const { pass, state, ask, update, choose } = view;
  const tensor = pass.tensors.find((each) => each.name === state.node);
  const keys = keysOf(tensor);
  const place = placeOf(tensor, state, pass.config);
  const { header, arrays } = await ask("tensors", { keys, ...place }, "tensors");
  const wrong = state.mutation
    ? (await ask("tensors", { keys: keys.slice(1), ...place, mutation: state.mutation }, "wrong")).arrays[keys[1]]
    : null;
  const looks = looksOf(tensor, view, place, header.window);
  const pictures = picturesOf(tensor, arrays, wrong, looks);
  const softmax = looks.hidden ? await softmaxRow(view, place, looks) : null;
  const readout = h("div", { class: "readout" });
  const [heads, sizes] = [pass.config.heads, [1, 1, ...tensor.shape].slice(-2)];

  looks.show = (r, c, speak = false) => {
    for (const picture of [...pictures, ...(softmax?.pictures ?? [])]) picture.show([r, c]);
    read(readout, tensor, pictures, place, [r, c], { ...view, looks, speak });
    softmax?.point(r, c);
  };
  looks.hold = (r, c) => {
    looks.held = [r, c];
    update({ at: [r + place.row, c + place.column] }, { only: "address" });
    looks.show(r, c);
  };
  looks.show(...(looks.held ?? firstOfInterest(arrays[keys[1]], looks.hidden)));
  const parts = { max: "the largest", p99: "all but 1 %", log: "four decades" };
  const headChoices = Array.from({ length: heads }, (_, n) => [n, n]);
  return h(
    "div",
    { class: "tensor" },
    h(
      "div",
      { class: "controls" },
      heads > 1 && tensor.axes.length === 4
        ? choice("Head", Math.min(state.head, heads - 1), headChoices, (value) => update({ head: Number(value) }))
        : null,
      choice("Colours reach to", state.scale, Object.entries(parts), (value) => update({ scale: value })),
      more("Rows", place.row, sizes[0], ROWS, (start) => update({ from: [start, place.column] })),
      more("Columns", place.column, sizes[1], COLUMNS, (start) => update({ from: [place.row, start] })),
    ),
    readout,
    tensor.shape.length
      ? h(
          "div",
          { class: wrong ? "triple" : "pair" },
          pictures.map((each) => each.element),
        )
      : null,
    softmax?.element,
    state.mutation ? h("p", { class: "muted" }, "Below are the numbers of the right pass.") : null,
    measures(tensor, header.tensors, keys),
    paths(pass, tensor, choose),
    pass.trace_command
      ? h("p", { class: "muted" }, "All of this pass in a file: ", h("code", {}, pass.trace_command))
      : null,
  );
}

/** How the pictures of a tensor look: labels, what is hidden, the held entry; `show` and `hold` are told later. */
function looksOf(tensor, { pass, state }, { row, column }, window) {
  const [rowAxis, columnAxis] = ["", "", ...tensor.axes].slice(-2);
  const names = labels(pass);
  const hides = maskOf(pass, tensor.name);
  const held = state.at && [state.at[0] - row, state.at[1] - column];
  const within = held && held.every((n) => n >= 0) && held[0] < window.rows && held[1] < window.columns;
  const looks = {
    name: tensor.name,
    rowAxis,
    columnAxis,
    names,
    rowLabel: names[rowAxis] && ((r) => names[rowAxis](r + row)),
    columnLabel: names[columnAxis] && ((c) => names[columnAxis](c + column)),
    hidden: hides && ((r, c) => hides(r + row, c + column)),
    first: [row, column],
    scale: state.scale,
    held: within ? held : null,
  };
  looks.pointed = (r, c) => looks.show(r, c, true);
  looks.chosen = (r, c) => looks.hold(r, c);
  looks.left = () => looks.held && looks.show(...looks.held);
  return looks;
}

function picturesOf(tensor, arrays, wrong, looks) {
  const [value, gradient] = keysOf(tensor).map((key) => arrays[key]);
  const name = comesBack(tensor);
  const title = name[0].toUpperCase() + name.slice(1);
  const pictures = [
    new Heatmap(value, { ...looks, title: tensor.kind === "parameters" ? "Parameter" : "Value" }),
    new Heatmap(gradient, { ...looks, title, note: "∂ loss / ∂ each of these numbers" }),
  ];
  const scale = pictures[1].scale; // the same colours for the same numbers
  return wrong ? [...pictures, new Heatmap(wrong, { ...looks, title: `${title}, with the mistake`, scale })] : pictures;
}

/** The numbers at a place, in words and digits. */
function read(readout, tensor, pictures, { at, row, column }, [r, c], { looks, speak, update }) {
  const place = [r + row, c + column];
  const [value, gradient, wrong] = pictures.map((picture) => exact(picture.value(r, c), picture.matrix.dtype));
  const words = (axis, n) => {
    const text = looks.names[axis]?.(n);
    return axis ? `${axisName(axis)} ${n}${text === undefined ? "" : ` ${quoted(text)}`}` : "";
  };
  const leading = tensor.axes.length === 4 ? [`${axisName(tensor.axes[1])} ${at[1]}`] : [];
  const where = [...leading, words(looks.rowAxis, place[0]), words(looks.columnAxis, place[1])]
    .filter(Boolean)
    .join(" · ");
  const masked = looks.hidden?.(r, c) ?? false;
  put(
    readout,
    h("span", { class: "where" }, where || "one number", masked ? h("em", {}, " hidden by the mask") : null),
    h(
      "dl",
      {},
      fact("value", value, "value"),
      fact(comesBack(tensor), gradient, "gradient"),
      wrong === undefined ? null : fact("with the mistake", wrong, "mistaken"),
    ),
    tensor.name === "loss" || isStatic
      ? null
      : h(
          "button",
          { type: "button", class: "quiet", onclick: () => update({ at: place, panel: "nudge" }) },
          "Nudge it",
        ),
  );
  if (speak) say(`${where}: value ${value}, ${comesBack(tensor)} ${gradient}`);
}

const fact = (term, text, name) => h("div", {}, h("dt", {}, term), h("dd", { "data-value": name }, text));

/** By axis, texts for its places, where they have any: positions and keys are tokens, so is the vocabulary. */
function labels(pass) {
  const texts = pass.tokens.map((each) => visible(each.text));
  const known = { T: (n) => texts[n], S: (n) => texts[n] };
  if (pass.vocabulary) known.V = (n) => visible(pass.vocabulary[n] ?? "");
  return known;
}

/** Whether the mask hides a key from a query: the keys to come, and those before the window; null where none does. */
export function maskOf(pass, name) {
  if (!ATTENTION.includes(name.split(".").at(-1))) return null;
  const { window, full_blocks: full } = pass.config;
  const limited = window && Number(name.split(".")[1]) >= full ? window : Infinity;
  return (query, key) => key > query || query - key >= limited;
}

/** Where a picture begins to be read: the largest cotangent that no mask hides. */
export function firstOfInterest({ data, columns }, hidden) {
  let best = 0;
  data.forEach((x, n) => {
    if (Math.abs(x) > Math.abs(data[best]) && !hidden?.(Math.floor(n / columns), n % columns)) best = n;
  });
  return [Math.floor(best / columns), best % columns];
}

/** Buttons for the parts of an axis that is too long to be shown at once. */
function more(title, start, all, most, go) {
  const shown = Math.min(most, all - start);
  if (shown >= all) return null;
  const button = (text, name, to, disabled) =>
    h(
      "button",
      { type: "button", class: "quiet", disabled, "aria-label": `${title} ${name}`, onclick: () => go(to) },
      text,
    );
  return h(
    "span",
    { class: "field" },
    h("span", {}, `${title} ${count(start)}–${count(start + shown - 1)} of ${count(all)}`),
    button("‹", "before", Math.max(0, start - most), start === 0),
    button("›", "after", start + most, start + shown >= all),
  );
}

/** Statistics and histograms of the whole tensor; one number needs none. */
function measures(tensor, facts, keys) {
  if (tensor.shape.length === 0) return null;
  const whole = { size: "entries", finite: "finite", zeros: "zeros" };
  const others = { minimum: "smallest", maximum: "largest", mean: "mean", std: "standard deviation", norm: "norm" };
  const [a, b] = keys.map((key) => facts[key].statistics);
  const text = (name, x) => (name in whole ? count(x) : short(x, 6));
  const rows = Object.entries({ ...whole, ...others })
    .filter(([name]) => name !== "finite" || a.finite < a.size || b.finite < b.size)
    .map(([name, title]) => [title, text(name, a[name]), text(name, b[name])]);
  const name = comesBack(tensor);
  const caption = `All of ${tensor.name}: ${tensor.axes.map((axis, n) => `${axis} = ${count(tensor.shape[n])}`).join(", ")}`;
  const head = ["", tensor.kind === "parameters" ? "parameter" : "value", name];
  return [
    h("h3", {}, "Statistics"),
    table(caption, head, rows),
    h(
      "div",
      { class: "pair histograms" },
      histogramOf(facts[keys[0]].histogram, "Values"),
      histogramOf(facts[keys[1]].histogram, `${name[0].toUpperCase()}${name.slice(1)}s`),
    ),
  ];
}

/** The ways that the gradient came back, and that they add up. */
function paths(pass, tensor, choose) {
  const leaving = pass.paths.filter((path) => path.source === tensor.name);
  if (!leaving.length) return null;
  const go = (name) => h("button", { type: "button", class: "link", onclick: () => choose(name) }, name);
  const share = (path) => (leaving.length > 1 ? percent(path.share) : "all of it");
  const rows = leaving.map((path) => [go(path.target), short(path.norm, 6), share(path)]);
  const error = pass.sums[tensor.name];
  const sum = error === 0 ? "to the last bit" : `to within ${short(error)}`;
  return [
    h("h3", {}, `Where its ${comesBack(tensor)} comes from`),
    table(
      `What comes back to ${tensor.name}, by ${plural(leaving.length, "path")}`,
      ["from", "norm", "share of the whole"],
      rows,
    ),
    error === undefined
      ? null
      : h(
          "p",
          { class: "muted" },
          `Each path is computed anew by its layer's backward; together they are the ${comesBack(tensor)}, ${sum}. `,
          "A share is a path's component along the whole: they add up to 100 %, and one below zero pulls against the others.",
        ),
  ];
}

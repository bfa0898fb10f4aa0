// How large signals and gradients are along the depth: in this model, and in fresh ones that lack a choice.

import { choice, h, put } from "handgrad/dom.js";
import { chart } from "handgrad/chart.js";
import { label } from "handgrad/layout.js";
import { plural, short } from "handgrad/numbers.js";
import { isStale, isStatic } from "handgrad/source.js";

const SERIES = {
  stream: ["the residual stream", (name) => name === "embedding.output" || /residual_[12]$/.test(name)],
  norms: ["what the sub-layers read", (name) => /norm(_[12])?\.output$/.test(name)],
  q: ["queries", (name) => /attention\.q$/.test(name)],
  scores: ["scores", (name) => /attention\.scores$/.test(name)],
  weights: ["attention weights", (name) => /attention\.weights$/.test(name)],
  hidden: ["hidden units", (name) => /feed_forward\.hidden$/.test(name)],
  all: ["everything, in order", () => true],
};
const DEPTHS = [4, 8, 12, 24, 48];
const WHY = {
  norm:
    "The norm gives each layer an input of the same size, whatever the stream has grown to; without it the sizes " +
    "depend on those of the layers below.",
  init:
    "A sum of N products has N times the variance of one. Weights of variance 1/N keep the size; those of variance 1 " +
    "blow it up, softmax saturates, and its gradient dies.",
  scale:
    "A dot product of D terms has variance D. Divided by √D, the scores stay near 1; without, the wider the heads, the " +
    "nearer softmax is to one-hot, and the less of a gradient goes through it.",
  residual:
    "The path past each layer carries the gradient down unchanged. Without it every layer's Jacobian multiplies it, " +
    "and it grows or shrinks with the depth.",
};
const courses = new WeakMap(); // of each pass, what has been answered
const switched = new Set(["trained", "fresh"]);

export async function flowPanel({ pass, state, ask, update }) {
  const layers = state.layers || pass.config.layers;
  if (!courses.has(pass)) courses.set(pass, new Map());
  const known = courses.get(pass);
  const answer = (key) => {
    const name = key === "trained" ? key : `${key} ${layers}`;
    if (!known.has(name)) {
      const asked = ask("flow", { layers, key }, `flow ${key}`).then(({ header }) => header);
      known.set(name, asked);
      asked.catch(() => known.delete(name));
    }
    return known.get(name);
  };
  const { choices } = await answer("trained");
  const series = Object.hasOwn(SERIES, state.series) ? state.series : "stream";
  const body = h("div", {});

  let turns = 0;

  async function draw() {
    const turn = ++turns;
    body.setAttribute("aria-busy", "true");
    const wanted = choices.filter(({ key }) => switched.has(key));
    const chosen = (await Promise.all(wanted.map(({ key }) => answer(key)))).map(({ course }) => course);
    if (turn !== turns) return; // somebody has switched another on or off in the meantime
    put(
      body,
      chosen.length ? pictures(chosen, series) : h("p", { class: "empty" }, "Choose what to draw."),
      whys(chosen),
    );
    body.setAttribute("aria-busy", "false");
  }
  const toggle = (key, on) => {
    if (on) switched.add(key);
    else switched.delete(key);
    draw().catch((error) => {
      if (isStale(error)) return;
      put(body, h("p", { class: "alert" }, error.message));
      body.setAttribute("aria-busy", "false");
    });
  };
  const toggles = choices.map(({ key, title }) => {
    const box = {
      type: "checkbox",
      checked: switched.has(key),
      onchange: (event) => toggle(key, event.target.checked),
    };
    return h("label", { class: `flow-${key}` }, h("input", box), h("i", { "aria-hidden": "true" }), title);
  });
  const depths = [...new Set([pass.config.layers, layers, ...DEPTHS])].sort((a, b) => a - b);
  await draw();
  return h(
    "div",
    { class: "flow" },
    h(
      "p",
      {},
      "How large what goes forward is, and what comes back: this text through this model, and through fresh ones, each ",
      "without one of the choices that keep the sizes.",
    ),
    h(
      "div",
      { class: "controls" },
      choice(
        "Of",
        series,
        Object.entries(SERIES).map(([key, [text]]) => [key, text]),
        (value) => update({ series: value }),
      ),
      isStatic
        ? null
        : choice(
            "Fresh models of",
            layers,
            depths.map((n) => [n, plural(n, "block")]),
            (value) => update({ layers: Number(value) }),
          ),
    ),
    h("fieldset", { class: "toggles" }, h("legend", {}, "Draw"), toggles),
    body,
  );
}

function pictures(chosen, series) {
  const belongs = SERIES[series][1];
  const points = ({ points: all }) => all.filter((point) => belongs(point.name));
  const longest = chosen.reduce((a, b) => (points(b).length > points(a).length ? b : a));
  const names = points(longest).map((point) => point.name);
  const place = new Map(names.map((name, n) => [name, n]));
  const x = { title: "depth, from the embedding to the logits", names, ticks: ticks(names) };
  const lines = (value) =>
    chosen.map((course) => ({
      name: course.title,
      class: `flow-${course.key}`,
      dots: names.length < 40,
      points: points(course).map((point) => [place.get(point.name), point[value]]),
    }));
  const blocks = Math.max(...chosen.map((course) => course.sharpest.length));
  const numbers = Array.from({ length: blocks }, (_, n) => String(n));
  const everyFew = numbers.map((text, n) => (n % Math.ceil(blocks / 12) ? "" : text));
  const sharpest = chosen.map(({ key, title, sharpest: values }) => {
    return { name: title, class: `flow-${key}`, dots: true, points: values.map((value, n) => [n, value]) };
  });
  const legend = false; // the switches above are one
  return h(
    "div",
    { class: "pair" },
    chart("Standard deviation of activations", lines("std"), {
      x,
      y: { title: "standard deviation", log: true },
      legend,
    }),
    chart("Norm of cotangents", lines("norm"), {
      x,
      y: { title: "norm", log: true },
      note: "read from right to left: the way that it goes",
      legend,
    }),
    chart("Largest weight of attention in a row", sharpest, {
      x: { title: "block", names: numbers, ticks: everyFew },
      y: { title: "mean over rows" },
      note: "1: one key takes all, and softmax's gradient vanishes",
      legend,
    }),
  );
}

/** About seven names along the axis, each block's once. */
function ticks(names) {
  const blocks = names.map((name) => name.match(/^blocks\.(\d+)\./)?.[1]);
  const firsts = names.map((_, n) => blocks[n] === undefined || blocks[n] !== blocks[n - 1]);
  const every = Math.max(1, Math.ceil(firsts.filter(Boolean).length / 7));
  let seen = 0;
  return names.map((name, n) => {
    if (!firsts[n] || seen++ % every) return "";
    return name === "embedding.output" ? "embed" : blocks[n] === undefined ? label(name) : `block ${blocks[n]}`;
  });
}

function whys(chosen) {
  const told = chosen.filter((course) => Object.hasOwn(WHY, course.key));
  const loss = (course) => h("small", {}, ` loss ${short(course.loss, 4)}`);
  const entry = (course) => [
    h("dt", { class: `flow-${course.key}` }, course.title, loss(course)),
    h("dd", {}, WHY[course.key]),
  ];
  return told.length ? h("dl", { class: "whys" }, told.map(entry)) : null;
}

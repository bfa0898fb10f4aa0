// The formulas, and beside them the lines of source that computed the tensor.

import { h } from "handgrad/dom.js";
import { comesBack } from "handgrad/tensor.js";

export async function sheetPanel({ pass, state, ask }) {
  const tensor = pass.tensors.find((each) => each.name === state.node);
  const { header } = await ask("sheet", { name: state.node }, "sheet");
  const parameter = tensor.kind === "parameters";
  const none = h("p", { class: "muted" }, "The gradient of the loss by itself is 1: here the backward pass begins.");
  return h(
    "div",
    { class: "sheet" },
    header.forward.map(({ makes, made }) => half(parameter ? `Forward: it is used in ${makes}` : "Forward", made)),
    header.backward.length ? null : h("section", { class: "half" }, h("h3", {}, "Backward: its cotangent"), none),
    header.backward.map(({ made }) => half(`Backward: its ${comesBack(tensor)}`, made)),
    h(
      "p",
      { class: "muted" },
      "Formulas are the layer's own, in general: biases, windows and shared heads that this model has not are left out of its computation.",
    ),
  );
}

function half(title, made) {
  return h(
    "section",
    { class: "half" },
    h("h3", {}, title, h("small", {}, " where ", h("code", {}, made.symbol), " stands for it")),
    h(
      "div",
      { class: "beside" },
      h(
        "div",
        { class: "math", tabindex: "0", role: "region", "aria-label": `Formula, ${title}`, title: made.latex },
        made.mathml.map(mathml),
      ),
      h("div", {}, made.listings.map(listing)),
    ),
  );
}

function mathml(text) {
  return document.adoptNode(new DOMParser().parseFromString(text, "text/html").body.firstElementChild);
}

function listing({ function: name, file, line, source, marked }) {
  const lines = source.replace(/\n$/, "").split("\n");
  const code = cutDocstring(lines, line);
  const figure = h(
    "figure",
    { class: "listing" },
    h("figcaption", {}, h("b", {}, name), h("span", {}, `${file}, line ${line}`)),
    h(
      "pre",
      { tabindex: "0", role: "region", "aria-label": `Source of ${name}` },
      h(
        "code",
        {},
        code.map(([number, text]) =>
          number === null
            ? h("span", { class: "row cut" }, "    …\n")
            : h(
                "span",
                { class: marked.includes(number) ? "row marked" : "row" },
                h("i", { "aria-hidden": "true" }, String(number)),
                h("span", {}, ...coloured(text)),
                "\n",
              ),
        ),
      ),
    ),
  );
  requestAnimationFrame(() => {
    const marks = figure.querySelectorAll(".marked");
    if (marks.length) figure.querySelector("pre").scrollTop = marks[marks.length - 1].offsetTop - 170;
  });
  return figure;
}

/** The lines with their numbers; of a docstring, which says what the formula says, only that it is there. */
function cutDocstring(lines, first) {
  const found = [];
  let within = false;
  lines.forEach((text, n) => {
    const fences = (text.match(/"""/g) ?? []).length;
    if (within) {
      within = fences === 0;
    } else if (/^\s+r?"""/.test(text)) {
      found.push([null, ""]);
      within = fences === 1;
    } else {
      found.push([first + n, text]);
    }
  });
  return found;
}

const WORDS =
  /(#.*$|"(?:[^"\\]|\\.)*"|\b(?:def|return|for|in|if|else|elif|while|not|and|or|is|None|True|False|yield|from|del|lambda)\b)/;

/** Comments, strings and keywords, told apart. */
function coloured(text) {
  const pieces = [];
  let rest = text;
  for (let match = WORDS.exec(rest); match; match = WORDS.exec(rest)) {
    if (match.index) pieces.push(rest.slice(0, match.index));
    const kind = match[0].startsWith("#") ? "comment" : match[0].startsWith('"') ? "string" : "keyword";
    pieces.push(h("span", { class: kind }, match[0]));
    rest = rest.slice(match.index + match[0].length);
  }
  pieces.push(rest);
  return pieces;
}

// The softmax of attention: S, dS and dZ side by side, and the line that makes one from the other, with its numbers.

import { h, put, table } from "handgrad/dom.js";
import { Heatmap } from "handgrad/heatmap.js";
import { exact, plural, quoted, short, visible } from "handgrad/numbers.js";

const sub = (text) => h("sub", {}, text);
const digits = (x) => short(x, 6);

export async function softmaxRow({ pass, state, ask }, place, looks) {
  const scope = state.node.slice(0, state.node.lastIndexOf("."));
  const keys = [`activations/${scope}.weights`, `cotangents/${scope}.weights`, `cotangents/${scope}.masked_scores`];
  const { arrays } = await ask("tensors", { keys, ...place, mutation: state.mutation }, "softmax");
  const row = new Row(
    keys.map((key) => arrays[key]),
    pass,
    place,
    looks,
  );
  row.wrong = Boolean(state.mutation);
  const titles = [
    ["S", "the weights, softmax of Z"],
    ["dS, called E", "what comes back to the weights"],
    ["dZ", "what goes on to the masked scores"],
  ];
  const pictures = titles.map(([title, note], n) => new Heatmap(arrays[keys[n]], { ...looks, title, note }));
  const element = h(
    "section",
    { class: "softmax", "aria-label": "The softmax's backward" },
    h("h3", {}, "The softmax's backward", row.wrong ? h("small", {}, " with the mistake") : null),
    row.line,
    h(
      "div",
      { class: "triple" },
      pictures.map((each) => each.element),
    ),
    row.details,
  );
  return { element, pictures, point: (r, c) => row.point(r, c) };
}

/** A query's row: the line of one of its keys, and the table of all. */
class Row {
  constructor([S, E, Z], pass, place, looks) {
    Object.assign(this, { S, E, Z, pass, place, looks });
    this.line = h("div", { class: "line" });
    this.details = h("details", {}, h("summary", {}, "The whole row"));
    this.details.addEventListener("toggle", () => this.shown && this.fillTable(...this.shown));
  }

  at(matrix, r, j) {
    return matrix.data[r * matrix.columns + j];
  }

  text(n) {
    return visible(this.pass.tokens[n].text);
  }

  point(r, c) {
    this.shown = [r, c];
    const { S, E, Z, place } = this;
    let sum = 0;
    for (let j = 0; j < S.columns; j++) sum += this.at(E, r, j) * this.at(S, r, j);
    const [s, e, traced] = [S, E, Z].map((matrix) => this.at(matrix, r, c));
    const computed = s * (e - sum);
    const [query, key] = [r + place.row, c + place.column];
    const whose = ` for the query at position ${query} ${quoted(this.text(query))}, i = ${key} ${quoted(this.text(key))}`;
    const apart =
      computed === traced ? "the same to the last bit" : `apart by ${short(Math.abs(computed - traced), 2)}`;
    const masked = this.looks.hidden(r, c)
      ? " The mask makes S exactly 0 here: nothing goes on, whatever comes back."
      : "";
    const formula = [
      "dZ",
      sub("i"),
      " = S",
      sub("i"),
      " (E",
      sub("i"),
      " − Σ",
      sub("j"),
      " E",
      sub("j"),
      " S",
      sub("j"),
      ")",
    ];
    const filled = [sub(String(key)), ` = ${digits(s)} × (${digits(e)} − (${digits(sum)})) = `];
    put(
      this.line,
      h("p", { class: "formula" }, formula, h("span", { class: "muted" }, whose)),
      h(
        "p",
        { class: "formula filled", "data-line": "softmax" },
        "dZ",
        filled,
        h("b", { "data-value": "computed" }, digits(computed)),
      ),
      h(
        "p",
        { class: "muted" },
        this.wrong ? "In the pass with the mistake: " : "In the trace: ",
        h("b", { "data-value": "traced" }, exact(traced, Z.dtype)),
        `, ${apart}.${masked}`,
      ),
    );
    if (this.details.open) this.fillTable(r, c);
  }

  fillTable(r, c) {
    this.details.querySelector(".scroll")?.remove();
    if (!this.details.open) return;
    const { S, E, Z, place } = this;
    const keys = Array.from({ length: S.columns }, (_, j) => j).filter((j) => !this.looks.hidden(r, j));
    const rows = keys.map((j) => {
      const [s, e, dz] = [S, E, Z].map((matrix) => this.at(matrix, r, j));
      return [j + place.column, this.text(j + place.column), ...[s, e, e * s, dz].map(digits)];
    });
    const caption = `The ${plural(rows.length, "key")} that position ${r + place.row} sees`;
    this.details.append(table(caption, ["j", "key", "S", "E", "E · S", "dZ"], rows));
    const held = this.details.querySelectorAll("tbody tr")[keys.indexOf(c)];
    held?.classList.add("held");
    const scroller = this.details.querySelector(".scroll");
    if (held) scroller.scrollTop = held.offsetTop - scroller.clientHeight / 2;
  }
}

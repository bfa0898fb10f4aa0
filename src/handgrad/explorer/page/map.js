// The map: every tensor a node, forward edges thin lines, what comes back along them ribbons beside these.

import { h, keepingFocus, put, s, say } from "handgrad/dom.js";
import { arrowHead, chevron, ways } from "handgrad/curves.js";
import { WIDTH, blockOf, chipLabel, label, layout } from "handgrad/layout.js";
import { percent, plural, short } from "handgrad/numbers.js";
import { comesBack } from "handgrad/tensor.js";

const [WIDEST, PER_DECADE, THINNEST] = [11, 3, 0.75]; // of a ribbon
const HINT = "Thickness: three points for each power of ten. Point at a ribbon for its numbers.";
const WRONG_HINT =
  "Red: how far what comes back is off, relative to the right one. Ribbons are those of the right pass.";

/** Draws the map of a pass into an element. `choose(name)`, `fold(block)`, `foldAll(open)` tell what was asked for. */
export class ModelMap {
  constructor(root, { choose, fold, foldAll }) {
    Object.assign(this, { root, choose, fold, foldAll });
  }

  show(pass, state, wrongs) {
    Object.assign(this, { pass, state, wrongs });
    this.of = new Map(pass.tensors.map((each) => [each.name, each]));
    this.open = new Set(state.open);
    Object.assign(this, layout(pass, this.open));
    this.most = Math.max(...pass.paths.map((path) => path.norm ?? 0));
    const scroll = this.root.querySelector(".map-scroll")?.scrollTop ?? 0;
    this.reading = h("p", { class: "reading", "aria-hidden": "true" }, wrongs ? WRONG_HINT : HINT);
    keepingFocus(this.root, () => {
      put(this.root, this.toolbar(), h("div", { class: "map-scroll" }, this.drawing()), this.reading);
    });
    this.root.querySelector(".map-scroll").scrollTop = scroll;
    if (state.node !== this.shown) this.bringIntoView();
    this.shown = state.node;
  }

  /** Scroll the map, and not the page, to the node that is chosen. */
  bringIntoView() {
    const scroller = this.root.querySelector(".map-scroll");
    const node = this.root.querySelector(".node.chosen");
    if (!node) return;
    const [box, room] = [node.getBoundingClientRect(), scroller.getBoundingClientRect()];
    if (box.top < room.top + 20 || box.bottom > room.bottom - 20)
      scroller.scrollTop += box.top - room.top - room.height / 2;
  }

  toolbar() {
    const blocks = this.pass.config.layers;
    const all = this.open.size === blocks;
    const sample = (...parts) => s("svg", { viewBox: "0 0 34 12", class: "sample", "aria-hidden": "true" }, parts);
    const forward = sample(
      s("path", { d: "M1 6H27", class: "forward" }),
      s("path", { d: "M26 2L33 6L26 10Z", class: "forward-head" }),
    );
    const backward = sample(
      s("path", { d: "M33 6H3", class: "backward", "stroke-width": 6 }),
      s("path", { d: chevron(14, 6, Math.PI, 4), class: "chevron" }),
    );
    const wrong = this.wrongs ? h("li", { class: "is-wrong" }, "off by") : null;
    const button = (key, text, title, onclick) =>
      h("button", { type: "button", class: "quiet", "data-key": key, title, "aria-label": title, onclick }, text);
    const every = () => this.foldAll(all ? [] : [...Array(blocks).keys()]);
    return h(
      "div",
      { class: "map-tools" },
      h("h2", {}, "Map"),
      h("ul", { class: "key" }, h("li", {}, forward, "forward"), h("li", {}, backward, "backward"), wrong),
      h(
        "div",
        { class: "map-buttons" },
        blocks > 1
          ? button("fold-all", all ? "Fold all" : "Unfold all", all ? "Fold all blocks" : "Unfold all blocks", every)
          : null,
        button("save", "⤓", "Save the map as an SVG", () => this.save()),
      ),
    );
  }

  drawing() {
    const nodes = [...this.places].filter(([, place]) => place.shape !== "folded");
    const wide = WIDTH + (this.pass.config.tied ? 28 : 0);
    return s(
      "svg",
      {
        viewBox: `0 0 ${wide} ${this.height}`,
        class: "graph",
        role: "group",
        "aria-label": "Dataflow, from the embedding to the loss",
        onkeydown: (event) => this.key(event),
      },
      this.frames.map((frame) => this.frame(frame)),
      s("text", { x: 96, y: 12, class: "note", "text-anchor": "middle" }, plural(this.pass.tokens.length, "token")),
      this.edges(),
      nodes.map(([name, place]) => this.node(name, place)),
    );
  }

  frame({ n, top, height, folded }) {
    const wrong = folded && [...this.of.keys()].some((name) => blockOf(name) === n && this.errorOf(name));
    const kind = ["block", folded ? "is-folded" : "", wrong ? "wrong" : ""].join(" ");
    const middle = top + (folded ? 22 : 15);
    const turn = folded ? 3 : -3;
    const [left, right] = [WIDTH - 35, WIDTH - 25];
    return s(
      "g",
      { class: kind },
      s("rect", { x: 8, y: top, width: WIDTH - 16, height, rx: 8, class: "block-frame" }),
      s(
        "g",
        {
          role: "button",
          tabindex: "0",
          class: "block-head",
          "data-name": `blocks.${n}`,
          "aria-expanded": String(!folded),
          "aria-label": `${folded ? "Unfold" : "Fold"} block ${n}${wrong ? ", in which something is wrong" : ""}`,
          onclick: () => this.fold(n),
        },
        s("rect", { x: 70, y: top + 3, width: WIDTH - 82, height: folded ? 38 : 26, rx: 6, class: "hit" }),
        s("text", { x: WIDTH - 48, y: middle + 5, class: "block-name", "text-anchor": "end" }, `block ${n}`),
        folded ? s("text", { x: 84, y: middle + 5, class: "note" }, "attention and feed-forward") : null,
        s("path", {
          d: `M${left} ${middle - turn}L${WIDTH - 30} ${middle + turn}L${right} ${middle - turn}`,
          class: "fold",
        }),
      ),
    );
  }

  node(name, place) {
    const tensor = this.of.get(name);
    const chosen = this.state.node === name;
    const { x, y, width, height, shape } = place;
    const wrong = this.errorOf(name);
    const size = tensor.shape.join(" by ") || "a number";
    const off = wrong ? `; wrong, off by ${wrong.error === null ? "more than any number" : percent(wrong.error)}` : "";
    const text =
      shape === "sum"
        ? [
            s("text", { x, y: y + 5, class: "plus", "text-anchor": "middle" }, "+"),
            s("text", { x: x + 20, y: y + 22, class: "note" }, label(name)),
          ]
        : s(
            "text",
            { x, y: y + (shape === "chip" ? 3.5 : 4.5), "text-anchor": "middle" },
            shape === "chip" ? chipLabel(name) : label(name),
          );
    const tight = width < 75 ? " tight" : "";
    return s(
      "g",
      {
        role: "button",
        tabindex: chosen ? "0" : "-1",
        class: `node ${shape}${tight}${chosen ? " chosen" : ""}${wrong ? " wrong" : ""}`,
        "data-name": name,
        "aria-pressed": String(chosen),
        "aria-label": `${name}, ${size}; norm of its ${comesBack(tensor)} ${short(tensor.gradient_norm)}${off}`,
        onclick: () => this.choose(name),
      },
      shape === "sum"
        ? s("circle", { cx: x, cy: y, r: 12 })
        : s("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: shape === "chip" ? 8 : 5 }),
      text,
      this.wrongs ? this.errorText(name, place, wrong) : this.shares(name, place),
    );
  }

  errorText(name, { x, y, height, shape }, wrong) {
    if (!wrong || shape === "chip") return null;
    const first = this.wrongs.first === name ? "first: " : "";
    const where = shape === "sum" ? { x: x + 16, y: y - 8 } : { x: x - 6, y: y - height / 2 - 4, "text-anchor": "end" };
    return s("text", { ...where, class: "error" }, `${first}${wrong.error === null ? "∞" : percent(wrong.error)}`);
  }

  /** Below a node that several paths come back to: a bar, cut by their shares. */
  shares(name, { x, y, width, height, shape }) {
    const parts = this.pass.paths.filter((path) => path.source === name);
    const total = parts.reduce((sum, { share }) => sum + Math.abs(share ?? 0), 0);
    if (parts.length < 2 || !total) return null;
    const room = shape === "sum" ? 54 : width - 8;
    let left = shape === "sum" ? x + 20 : x - room / 2;
    const top = shape === "sum" ? y + 28 : y + height / 2 - 5;
    return parts.map(({ target, share }, n) => {
      const wide = (room * Math.abs(share)) / total;
      const kind = `share-bar part-${n % 3}${share < 0 ? " against" : ""}`;
      const title = s("title", {}, `${percent(share)} from ${target}`);
      const part = s("rect", { x: left, y: top, width: Math.max(0, wide - 1), height: 4, class: kind }, title);
      left += wide;
      return part;
    });
  }

  /** What is wrong with what comes back to this tensor; null where it is right. */
  errorOf(name) {
    const each = this.wrongs?.of.get(name);
    return each?.wrong ? each : null;
  }

  /** Where an edge ends: the node, or the folded block that it is in. */
  visible(name) {
    if (this.places.has(name)) return name;
    const block = `blocks.${blockOf(name)}`;
    return this.places.has(block) ? block : null;
  }

  edges() {
    const drawn = new Map();
    for (const path of this.pass.paths) {
      const from = this.visible(path.source);
      const to = this.visible(path.target);
      if (!from || !to || from === to) continue;
      // all paths into a folded block together are the source's whole gradient: nothing else reads the stream
      const whole = to === path.target ? {} : { norm: this.of.get(path.source).gradient_norm, share: 1, target: to };
      drawn.set(`${from}>${to}`, { ...path, ...whole, from, to });
    }
    const lines = [];
    const ribbons = [];
    for (const edge of drawn.values()) {
      const [way, back] = ways(this.places.get(edge.from), this.places.get(edge.to), edge.to);
      lines.push(
        s("path", { d: way.path, class: "forward" }),
        s("path", { d: arrowHead(way.end), class: "forward-head" }),
      );
      ribbons.push(this.ribbon(edge, back));
    }
    return [lines, ribbons];
  }

  ribbon(edge, way) {
    const decades = edge.norm > 0 ? Math.log10(edge.norm / this.most) : -Infinity;
    const width = edge.norm > 0 ? Math.max(THINNEST, WIDEST + PER_DECADE * decades) : 0;
    const [x, y, angle] = way.middle;
    const shared = this.meets(edge);
    const text = `back from ${edge.target} to ${edge.source}: norm ${short(edge.norm)}${shared ? `, ${percent(edge.share)} of the whole` : ""}`;
    const mark = chevron(x, y, angle + Math.PI, Math.max(2.6, width * 0.4));
    return s(
      "g",
      { class: "ribbon", onpointerenter: () => (this.reading.textContent = text) },
      s("title", {}, text),
      s("path", { d: way.path, class: "backward", "stroke-width": width }),
      s("path", { d: way.path, class: "catch" }),
      width > 0 ? s("path", { d: mark, class: width > 5 ? "chevron" : "chevron thin" }) : null,
      shared && !this.wrongs ? s("text", { ...way.share, class: "share" }, percent(edge.share)) : null,
    );
  }

  /** Whether other paths come back to where this one does, and this one is drawn for itself. */
  meets({ source, target }) {
    const all = this.pass.paths.filter((each) => each.source === source);
    return all.length > 1 && all.some((each) => each.target === target);
  }

  /** Arrow keys go from node to node, from the top to the bottom. */
  key(event) {
    const target = event.target.closest("[data-name]");
    if (!target) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
      return;
    }
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const place = (each) => each.getBoundingClientRect();
    const all = [...this.root.querySelectorAll("[data-name]")];
    all.sort((a, b) => place(a).top - place(b).top || place(a).left - place(b).left);
    const next = all[all.indexOf(target) + step];
    if (!next) return;
    next.focus();
    say(next.getAttribute("aria-label"));
  }

  /** As an SVG that looks as it does here, wherever it is opened. */
  save() {
    const drawing = this.root.querySelector("svg.graph");
    const copy = drawing.cloneNode(true);
    const { width, height } = drawing.viewBox.baseVal;
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    const looks = [
      "fill",
      "stroke",
      "stroke-width",
      "stroke-opacity",
      "stroke-dasharray",
      "opacity",
      "font",
      "paint-order",
    ];
    const [from, to] = [drawing, copy].map((each) => [...each.querySelectorAll("*")]);
    from.forEach((element, n) => {
      const style = getComputedStyle(element);
      for (const name of looks) to[n].style.setProperty(name, style.getPropertyValue(name));
    });
    const paper = getComputedStyle(document.body).backgroundColor;
    copy.prepend(s("rect", { width, height, style: { fill: paper } }));
    const text = new XMLSerializer().serializeToString(copy);
    h("a", { download: "map.svg", href: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}` }).click();
  }
}

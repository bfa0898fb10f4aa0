// A matrix as a picture: one cell for each number, exact numbers under the pointer, arrow keys to go about.

import { h } from "handgrad/dom.js";
import { colouring, gradient, isDark, scaleOf } from "handgrad/colours.js";
import { short } from "handgrad/numbers.js";

const FONT = 11; // pixels that a line of labels needs
const SIGN = 6; // and a character
const LONG = 46; // room for labels of several characters
const FREE_HEIGHT = 420; // of a picture whose rows have no labels

/**
 * options: title, note; texts `rowLabel(r)` and `columnLabel(c)` where numbers are not enough, `hidden(r, c)` for what a
 * mask hides; `scale`: a name, or another picture's; `held` [row, column]; `pointed(r, c)`, `chosen(r, c)`, `left()` are
 * told what somebody does; `first` [row, column]: the place of the matrix's first entry in its tensor.
 */
export class Heatmap {
  constructor(matrix, options) {
    Object.assign(this, { matrix, options, pointer: options.held });
    this.scale = typeof options.scale === "string" ? scaleOf(matrix.data, options.scale) : options.scale;
    const told = `${options.title}: ${matrix.rows} by ${matrix.columns}; arrow keys move, Enter holds an entry`;
    this.canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": told, "data-key": options.title });
    this.scroller = h("div", { class: "heat-scroll" }, this.canvas);
    const note = options.note ? h("small", {}, options.note) : null;
    const save = h(
      "button",
      {
        type: "button",
        class: "save",
        title: "Save the picture",
        "aria-label": `Save the picture ${options.title}`,
        onclick: () => this.save(),
      },
      "⤓",
    );
    this.element = h(
      "figure",
      { class: "heat" },
      h("figcaption", {}, options.title, note, save),
      this.scroller,
      this.legend(),
    );
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => options.left?.());
    this.canvas.addEventListener("click", (event) => this.point(event, true));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => (this.pointer ? this.show(this.pointer) : this.draw())).observe(this.scroller);
  }

  legend() {
    const { most, kind } = this.scale;
    const ends = most > 0 ? [short(-most), short(most)] : ["", "all 0"];
    const bar = h("i", { style: { background: gradient() } });
    const words = kind === "log" ? h("small", {}, "by decades") : null;
    return h(
      "div",
      { class: "legend", "aria-hidden": "true" },
      h("span", {}, ends[0]),
      bar,
      h("span", {}, ends[1]),
      words,
    );
  }

  /** The sizes in CSS pixels, from the room that there is. */
  layout() {
    const { matrix, options } = this;
    const left = options.rowLabel ? LONG : 34;
    const wanted = (this.scroller.clientWidth - left - 2) / matrix.columns;
    const width = Math.min(options.columnLabel ? 26 : 20, Math.max(wanted, options.columnLabel ? 6.5 : 1));
    const upright = options.columnLabel && SIGN * this.longest() <= width + 1;
    const free = matrix.rows === 1 ? 26 : Math.max(2, Math.min(14, FREE_HEIGHT / matrix.rows));
    const square = options.rowLabel && options.columnLabel && matrix.rows === matrix.columns;
    const height = square ? width : options.rowLabel ? Math.max(FONT, Math.min(18, free)) : free;
    return { left, top: options.columnLabel && !upright ? LONG : 18, width, height, upright };
  }

  /** The most characters that a column's label has. */
  longest() {
    let most = 0;
    for (let c = 0; c < this.matrix.columns; c++) most = Math.max(most, this.options.columnLabel(c).length);
    return most;
  }

  /** All but the cross, which moves, on a canvas of its own. */
  drawBelow() {
    const { left, top, width, height } = this.sizes;
    const { rows, columns } = this.matrix;
    this.below = document.createElement("canvas");
    this.below.width = this.canvas.width;
    this.below.height = this.canvas.height;
    const context = this.below.getContext("2d");
    context.scale(this.ratio, this.ratio);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture(), left, top, width * columns, height * rows);
    if (this.options.hidden) this.hatch(context);
    const style = getComputedStyle(document.body);
    const size = this.options.rowLabel ? Math.max(7, Math.min(FONT - 1, height + 0.5)) : FONT - 1;
    context.font = `${size}px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace`;
    context.fillStyle = style.getPropertyValue("--muted");
    this.ink = style.getPropertyValue("--ink");
    this.rowLabels(context);
    this.columnLabels(context);
  }

  draw() {
    if (!this.scroller.clientWidth) return;
    const sizes = this.layout();
    const ratio = devicePixelRatio || 1;
    const drawn = JSON.stringify([sizes, ratio, isDark()]);
    if (this.drawn !== drawn) {
      Object.assign(this, { drawn, sizes, ratio });
      const total = [
        sizes.left + sizes.width * this.matrix.columns + 2,
        sizes.top + sizes.height * this.matrix.rows + 2,
      ];
      [this.canvas.width, this.canvas.height] = total.map((size) => Math.ceil(size * ratio));
      this.canvas.style.width = `${total[0]}px`;
      this.canvas.style.height = `${total[1]}px`;
      this.drawBelow();
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.below, 0, 0);
    context.scale(ratio, ratio);
    if (this.pointer) this.cross(context);
  }

  /** A pixel for each number; what is not finite, though no mask hides it, in the colour of what is wrong. */
  picture() {
    const { rows, columns, data } = this.matrix;
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [columns, rows];
    const pixels = new ImageData(columns, rows);
    const colour = colouring(this.scale);
    for (let n = 0; n < data.length; n++) {
      const hidden = this.options.hidden?.(Math.floor(n / columns), n % columns);
      const [r, g, b] =
        Number.isFinite(data[n]) || hidden ? colour(hidden && !Number.isFinite(data[n]) ? 0 : data[n]) : [208, 0, 70];
      pixels.data[4 * n] = r;
      pixels.data[4 * n + 1] = g;
      pixels.data[4 * n + 2] = b;
      pixels.data[4 * n + 3] = 255;
    }
    picture.getContext("2d").putImageData(pixels, 0, 0);
    return picture;
  }

  /** Lines across what the mask hides: row by row, as far as it reaches. */
  hatch(context) {
    const { left, top, width, height } = this.sizes;
    const { rows, columns } = this.matrix;
    context.save();
    context.beginPath();
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        if (!this.options.hidden(r, c)) continue;
        let end = c;
        while (end + 1 < columns && this.options.hidden(r, end + 1)) end++;
        context.rect(left + c * width, top + r * height, (end - c + 1) * width, height);
        c = end;
      }
    }
    context.clip();
    context.strokeStyle = isDark() ? "rgb(255 255 255 / 0.22)" : "rgb(0 0 0 / 0.2)";
    context.lineWidth = 1;
    context.beginPath();
    const [across, down] = [columns * width, rows * height];
    for (let x = -down; x < across; x += 6) {
      context.moveTo(left + x, top + down);
      context.lineTo(left + x + down, top);
    }
    context.stroke();
    context.restore();
  }

  rowLabels(context) {
    const { left, top, height } = this.sizes;
    const { rowLabel, first = [0, 0] } = this.options;
    if (this.matrix.rows === 1 && !rowLabel) return;
    const every = rowLabel ? Math.ceil(6.5 / height) : round(22 / height);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let r = 0; r < this.matrix.rows; r += every) {
      context.fillText(rowLabel ? clip(rowLabel(r)) : String(r + first[0]), left - 4, top + (r + 0.5) * height);
    }
  }

  columnLabels(context) {
    const { left, top, width, upright } = this.sizes;
    const { columnLabel, first = [0, 0] } = this.options;
    const every = upright ? 1 : columnLabel ? Math.ceil((FONT - 2) / width) : round(40 / width);
    for (let c = 0; c < this.matrix.columns; c += every) {
      context.save();
      context.translate(left + (c + 0.5) * width, top - 4);
      context.textAlign = upright || (!columnLabel && c) ? "center" : "left";
      context.textBaseline = columnLabel && !upright ? "middle" : "bottom";
      if (columnLabel && !upright) context.rotate(-Math.PI / 2);
      const text = columnLabel ? clip(columnLabel(c)) : String(c + first[1]);
      context.fillText(text, columnLabel || c ? 0 : -width / 2, 0);
      context.restore();
    }
  }

  cross(context) {
    const [r, c] = this.pointer;
    const { left, top, width, height } = this.sizes;
    const { rows, columns } = this.matrix;
    if (r >= rows || c >= columns) return;
    context.strokeStyle = this.ink;
    context.globalAlpha = 0.35;
    context.lineWidth = 1;
    context.beginPath();
    context.rect(left, top + r * height, columns * width, height);
    context.rect(left + c * width, top, width, rows * height);
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = 2;
    const [w, t] = [Math.max(width, 4), Math.max(height, 4)];
    context.strokeRect(left + (c + 0.5) * width - w / 2 - 1, top + (r + 0.5) * height - t / 2 - 1, w + 2, t + 2);
  }

  point(event, click = false) {
    const { left, top, width, height } = this.sizes;
    const box = this.canvas.getBoundingClientRect();
    const c = Math.floor((event.clientX - box.left - left) / width);
    const r = Math.floor((event.clientY - box.top - top) / height);
    if (r < 0 || c < 0 || r >= this.matrix.rows || c >= this.matrix.columns) return;
    (click ? this.options.chosen : this.options.pointed)?.(r, c);
  }

  key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [r, c] = this.pointer ?? [0, 0];
    if (event.key in moves) {
      event.preventDefault();
      const [down, right] = moves[event.key];
      const clamp = (x, most) => Math.max(0, Math.min(most - 1, x));
      this.options.pointed?.(clamp(r + down, this.matrix.rows), clamp(c + right, this.matrix.columns));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.options.chosen?.(r, c);
    }
  }

  /** Show the cross here. */
  show(place) {
    this.pointer = place;
    this.draw();
    if (!this.sizes) return;
    const [from, to] = [0, 1].map((n) => this.sizes.left + (place[1] + n) * this.sizes.width);
    const { scrollLeft, clientWidth } = this.scroller;
    if (from < scrollLeft || to > scrollLeft + clientWidth) this.scroller.scrollLeft = from - clientWidth / 2;
  }

  value(r, c) {
    return this.matrix.data[r * this.matrix.columns + c];
  }

  /** As a PNG, without the cross, but with what it is. */
  save() {
    const line = 24;
    const { name, title } = this.options;
    const picture = document.createElement("canvas");
    picture.width = this.below.width;
    picture.height = this.below.height + 2 * line * this.ratio;
    const context = picture.getContext("2d");
    const style = getComputedStyle(document.body);
    context.fillStyle = style.backgroundColor;
    context.fillRect(0, 0, picture.width, picture.height);
    context.drawImage(this.below, 0, line * this.ratio);
    context.scale(this.ratio, this.ratio);
    context.fillStyle = style.color;
    context.font = `13px ${style.fontFamily}`;
    context.fillText(`${name}: ${title}`, 6, 17);
    const most = short(this.scale.most);
    context.fillText(`violet −${most} … 0 … ${most} green`, 6, picture.height / this.ratio - 8);
    h("a", {
      download: `${name}.${title.toLowerCase().replaceAll(/\W+/g, "-")}.png`,
      href: picture.toDataURL(),
    }).click();
  }
}

/** A step between labels: the next round number. */
function round(step) {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(step)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= step) ?? 1;
}

function clip(text, most = 6) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

// Lines over an axis, linear or logarithmic, with their numbers as a table below.

import { h, s, table } from "handgrad/dom.js";
import { short } from "handgrad/numbers.js";

const [WIDTH, HEIGHT] = [560, 240];
const MARGIN = { left: 58, right: 14, top: 10, bottom: 40 };

/**
 * series: [{name, points: [[x, y], ...], class, dots, line}], a y of null is a gap. options: title, x and y {title, log},
 * `marks`: x of vertical lines; `x.names`: what whole x's are called, and `x.ticks`: those that are written; `legend`: whether the series are named below.
 */
export function chart(title, series, { x, y, marks = [], note = "", legend = true }) {
  const points = series.flatMap((each) => each.points).filter(([a, b]) => usable(a, x) && usable(b, y));
  if (!points.length) return h("p", { class: "empty" }, `${title}: there is nothing to draw.`);
  const across = axis(
    points.map(([a]) => a),
    x,
    MARGIN.left,
    WIDTH - MARGIN.right,
  );
  const up = axis(
    points.map(([, b]) => b),
    y,
    HEIGHT - MARGIN.bottom,
    MARGIN.top,
  );
  const bottom = HEIGHT - MARGIN.bottom;
  const ticks = [
    across.ticks.map(([value, text]) =>
      s(
        "g",
        {},
        s("line", { x1: across.at(value), x2: across.at(value), y1: MARGIN.top, y2: bottom, class: "grid" }),
        s(
          "text",
          {
            x: across.at(value),
            y: bottom + 15,
            "text-anchor": across.at(value) > WIDTH - MARGIN.right - 24 ? "end" : "middle",
          },
          text,
        ),
      ),
    ),
    up.ticks.map(([value, text]) =>
      s(
        "g",
        {},
        s("line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: up.at(value), y2: up.at(value), class: "grid" }),
        s("text", { x: MARGIN.left - 6, y: up.at(value) + 4, "text-anchor": "end" }, text),
      ),
    ),
  ];
  const lines = series.map(({ points: all, class: kind, dots, line = true }) => {
    const parts = [];
    for (const [a, b] of all) {
      if (!usable(a, x) || !usable(b, y)) parts.push(null);
      else parts.push([across.at(a), up.at(b)]);
    }
    const d = parts
      .map((part, n) => (part ? `${n && parts[n - 1] ? "L" : "M"}${part[0].toFixed(1)} ${part[1].toFixed(1)}` : ""))
      .join("");
    return s(
      "g",
      { class: `series ${kind}` },
      line ? s("path", { d }) : null,
      dots ? parts.filter(Boolean).map(([cx, cy]) => s("circle", { cx, cy, r: 2.6 })) : null,
    );
  });
  const lined = marks
    .filter((mark) => usable(mark.x, x))
    .map((mark) =>
      s("line", {
        x1: across.at(mark.x),
        x2: across.at(mark.x),
        y1: MARGIN.top,
        y2: bottom,
        class: "mark",
      }),
    );
  const named = series.filter((each) => each.name);
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, title, note ? h("small", {}, note) : null),
    s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. The numbers are in the table below.` },
      ticks,
      lined,
      lines,
      s(
        "text",
        { x: (MARGIN.left + WIDTH - MARGIN.right) / 2, y: HEIGHT - 5, "text-anchor": "middle", class: "axis" },
        x.title,
      ),
      s(
        "text",
        { transform: `translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" },
        y.title,
      ),
    ),
    legend && named.length > 1
      ? h(
          "ul",
          { class: "names" },
          named.map((each) => h("li", { class: `${each.class}${each.line === false ? " dots" : ""}` }, each.name)),
        )
      : null,
    numbers(title, series, x, y),
  );
}

function numbers(title, series, x, y) {
  const details = h("details", {}, h("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const all = [...new Set(series.flatMap((each) => each.points.map(([a]) => a)))].sort((a, b) => a - b);
    const at = series.map((each) => new Map(each.points));
    details.append(
      table(
        title,
        [x.title, ...series.map((each) => each.name ?? y.title)],
        all.map((a) => [
          x.names?.[a] ?? short(a, 4),
          ...at.map((known) => (known.has(a) ? short(known.get(a), 4) : "")),
        ]),
      ),
    );
  });
  return details;
}

const usable = (value, { log }) => value !== null && Number.isFinite(value) && (!log || value > 0);

function axis(values, { log, ticks: shown }, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (log) {
    [low, high] = [Math.log10(low), Math.log10(high)];
    if (high - low < 0.2) [low, high] = [low - 0.5, high + 0.5];
    const every = Math.max(1, Math.ceil((high - low) / 6));
    const ticks = [];
    for (let n = Math.ceil(low - 1e-9); n <= high + 1e-9; n += every) ticks.push([10 ** n, power(n)]);
    if (ticks.length < 3) {
      ticks.length = 0;
      for (let n = Math.floor(low); n <= high; n++) {
        for (const part of high - low < 0.7 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : [1, 2, 5]) {
          const value = part * 10 ** n;
          if (Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9) ticks.push([value, short(value, 2)]);
        }
      }
    }
    return { at: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from), ticks };
  }
  if (high === low) [low, high] = [low - 1, high + 1];
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  if (shown) return { at, ticks: shown.map((text, n) => [n, text]).filter(([, text]) => text) };
  const step = nice((high - low) / 5);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++)
    ticks.push([n * step, short(n * step, 4)]);
  return { at, ticks };
}

function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].map((n) => n * power).find((each) => each >= step * 0.999);
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const power = (n) => (n >= -2 && n <= 3 ? short(10 ** n) : `10${[...String(n)].map((sign) => RAISED[sign]).join("")}`);

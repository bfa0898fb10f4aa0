// How often numbers occur, as bars.

import { h, s } from "handgrad/dom.js";
import { short } from "handgrad/numbers.js";

const [WIDTH, HEIGHT] = [240, 64];

export function histogramOf({ start, stop, counts }, title) {
  const most = Math.max(...counts);
  const bar = WIDTH / counts.length;
  const top = (x) => (x ? Math.max(1, (HEIGHT * Math.log1p(x)) / Math.log1p(most)) : 0);
  const bars = counts.map((x, n) => {
    const size = { x: n * bar, y: HEIGHT - top(x), width: Math.max(bar - 0.5, 0.5), height: top(x) };
    return s("rect", { ...size, class: "bar" });
  });
  const zero = start < 0 && stop > 0 ? (-start / (stop - start)) * WIDTH : null;
  const words = `${title}: from ${short(start)} to ${short(stop)}`;
  return h(
    "figure",
    { class: "histogram" },
    h("figcaption", {}, title, h("small", {}, "counts, on a logarithmic scale")),
    s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words, preserveAspectRatio: "none" },
      bars,
      zero === null ? null : s("line", { x1: zero, x2: zero, y1: 0, y2: HEIGHT, class: "zero" }),
    ),
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, short(start)), h("span", {}, short(stop))),
  );
}

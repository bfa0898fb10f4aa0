// The ways of the map's edges: forward, and beside each the way back.

import { STREAM, WIDTH } from "handgrad/layout.js";

const OFFSET = 9; // of a ribbon from the line that it goes back along

const onStream = ({ shape }) => shape === "sum" || shape === "folded" || shape === "end";
const streamOr = (place) => (onStream(place) ? STREAM : place.x);

/** The way from one place to another, and the way back: {path, middle, end, share}, where `share` is a text's place. */
export function ways(a, b, target) {
  if (a.shape === "chip" && a.home !== target) return [aside(a, b, 0), aside(a, b, OFFSET)];
  const points = between(a, b);
  return [cubic(points), { ...cubic(shifted(points)), share: shareAt(a, b, points) }];
}

/** Four points of a cubic. */
function between(a, b) {
  if (a.shape === "chip") {
    const [x1, x2] = [a.x - a.width / 2, b.x + b.width / 2];
    const y = Math.max(b.y - 9, Math.min(a.y - 3, b.y + 5));
    return [
      [x1, a.y - 3],
      [x1 - 8, a.y - 3],
      [x2 + 8, y],
      [x2, y],
    ];
  }
  const start = [streamOr(a), a.y + a.height / 2];
  if (b.shape === "sum" && !onStream(a)) {
    // what a sub-layer found goes back to the stream
    return [
      [a.x - a.width / 2, a.y],
      [STREAM + 90, a.y],
      [STREAM + 60, b.y],
      [STREAM + 12, b.y],
    ];
  }
  if (onStream(a) && !onStream(b)) {
    const left = b.x - b.width / 2;
    return [start, [STREAM + 10, start[1] + 28], [left - 60, b.y], [left, b.y]];
  }
  const end = [streamOr(b), b.y - b.height / 2];
  const bend = Math.min(26, (end[1] - start[1]) / 2);
  return [start, [start[0], start[1] + bend], [end[0], end[1] - bend], end];
}

/** A tied table's way to the head: down along the right side, past all blocks. */
function aside(a, b, inward) {
  const x = WIDTH + 16 - inward;
  const [top, bottom] = [a.y + inward * 0.6, b.y - inward];
  const [left, right] = [a.x + a.width / 2, b.x + b.width / 2];
  const corner = (y, toward) => `Q${x} ${y} ${toward}`;
  const path = `M${left} ${top}H${x - 12}${corner(top, `${x} ${top + 12}`)}V${bottom - 12}${corner(bottom, `${x - 12} ${bottom}`)}H${right}`;
  const share = { x: x - 14, y: top - 9, "text-anchor": "end" };
  return { path, middle: [x, (top + bottom) / 2, Math.PI / 2], end: [right, bottom, Math.PI], share };
}

/** Where the share of a path stands: beside a long ribbon, above the box or the chip that a short one comes from. */
function shareAt(a, b, points) {
  const [[x1], , , [x2, y2]] = points;
  if (a.shape === "chip") return { x: a.x, y: a.y - 12, "text-anchor": "middle" };
  if (x1 === x2 && onStream(a)) {
    const [x, y] = along(points, 0.45);
    return { x: x - 4, y: y + 4, "text-anchor": "end" };
  }
  if (onStream(a)) {
    const [x, y] = along(points, 0.6);
    return { x, y: y - 12 };
  }
  const left = x2 < x1 - OFFSET;
  return { x: b.x + (left ? -8 : 18), y: y2 - 6, "text-anchor": left ? "end" : "start" };
}

/** A cubic as it is drawn: its path, and place and direction of its middle and its end. */
function cubic(points) {
  const [a, b, c, d] = points;
  return { path: `M${a}C${b} ${c} ${d}`, middle: along(points, 0.5), end: along(points, 1) };
}

function shifted(points) {
  const [[x1, y1], , , [x2, y2]] = points;
  const flat = Math.abs(y2 - y1) < Math.abs(x2 - x1);
  return points.map(([x, y]) => (flat ? [x, y + OFFSET - 3] : [x + OFFSET, y]));
}

/** A point of a cubic, and the direction there. */
function along([a, b, c, d], t) {
  const u = 1 - t;
  const at = (n) => u ** 3 * a[n] + 3 * u * u * t * b[n] + 3 * u * t * t * c[n] + t ** 3 * d[n];
  const slope = (n) => 3 * u * u * (b[n] - a[n]) + 6 * u * t * (c[n] - b[n]) + 3 * t * t * (d[n] - c[n]);
  return [at(0), at(1), Math.atan2(slope(1), slope(0))];
}

/** The head of a forward line. */
export function arrowHead([x, y, angle]) {
  const point = (turn) => [x - 7 * Math.cos(angle + turn), y - 7 * Math.sin(angle + turn)];
  return `M${[x, y]}L${point(0.45)}L${point(-0.45)}Z`;
}

/** An open angle that points in this direction: the sign of the way back. */
export function chevron(x, y, angle, size) {
  const point = (turn) => [x + size * Math.cos(angle + turn), y + size * Math.sin(angle + turn)];
  return `M${point(2.3)}L${point(0)}L${point(-2.3)}`;
}

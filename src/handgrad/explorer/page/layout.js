// Where the map's nodes stand: the residual stream to the left, what each sub-layer does to the right of it.

export const WIDTH = 480;
export const STREAM = 50; // x of the residual stream
const ROW = 52;
const FORK = 24; // more room where a tensor goes several ways
const HEAD = 30; // height of a block's head
const FOLDED = 44; // and of a folded block

/** What stands in a row of a block: the tensor's name within the block, its x, and its width; a sum on the stream. */
const ROWS = [
  [["norm_1.output", 244, 96, "box", FORK]],
  [
    ["attention.q", 118, 48],
    ["attention.k", 244, 48],
    ["attention.v", 370, 48],
  ],
  [
    ["attention.q_normed", 112, 62],
    ["attention.k_normed", 244, 62],
  ],
  [
    ["attention.q_rotated", 118, 70],
    ["attention.k_rotated", 244, 70],
  ],
  [["attention.scores", 181, 84]],
  [["attention.masked_scores", 181, 84]],
  [["attention.weights", 181, 84]],
  [["attention.context", 244, 84]],
  [["attention.output", 244, 96, "box", -14]],
  [["residual_1", STREAM, 24, "sum"]],
  [["norm_2.output", 244, 96, "box", FORK]],
  [
    ["feed_forward.gate", 170, 60],
    ["feed_forward.up", 318, 60],
  ],
  [["feed_forward.activated", 170, 92]],
  [["feed_forward.hidden", 244, 84]],
  [["feed_forward.output", 244, 110, "box", -14]],
  [["residual_2", STREAM, 24, "sum"]],
];

export const blockOf = (name) => (name.startsWith("blocks.") ? Number(name.split(".")[1]) : null);

/** Short names of nodes as they stand in their boxes. */
export function label(name) {
  const parts = name.split(".");
  if (parts.at(-1) === "output") return parts.at(-2).replace("_", " ");
  return parts.at(-1).replace("masked_scores", "masked").replace("_", " ");
}

/** Short names of parameters; those of the norm of queries stand beside queries. */
export const chipLabel = (name) =>
  name
    .split(".")
    .at(-1)
    .replace(/^gamma_[qk]$/, "gamma");

/**
 * The places {x, y, width, height, shape} of all nodes that are drawn, the frames of the blocks, and the whole height.
 * Shapes: `box`, `end` (a box on the stream), `sum`, `folded`, and `chip` for a parameter, which has a `home`.
 */
export function layout(pass, open) {
  const of = new Map(pass.tensors.map((each) => [each.name, each]));
  const places = new Map();
  const frames = [];
  const put = (name, x, y, width, shape = "box") => {
    places.set(name, { x, y, width, height: shape === "sum" ? 24 : 28, shape });
  };
  let y = 42;
  put("embedding.output", 96, y, 132, "end");
  y += ROW;
  for (let n = 0; n < pass.config.layers; n++) {
    const top = y - 18;
    if (open.has(n)) {
      const bottom = unfolded(n, top + HEAD + 26);
      frames.push({ n, top, height: bottom - top, folded: false });
      y = bottom + 36;
    } else {
      frames.push({ n, top, height: FOLDED, folded: true });
      places.set(`blocks.${n}`, { x: STREAM, y: top + FOLDED / 2, width: 20, height: FOLDED, shape: "folded" });
      y = top + FOLDED + 36;
    }
  }
  y += 8;
  for (const name of ["norm.output", "head.logits", "loss"]) {
    if (!of.has(name)) continue;
    put(name, 96, y, 132, "end");
    y += ROW;
  }
  for (const { name, kind } of pass.tensors) if (kind === "parameters") chip(name);
  return { places, frames, height: y - ROW + 34 };

  function unfolded(n, from) {
    let y = from;
    for (const row of ROWS) {
      const there = row.filter(([name]) => of.has(`blocks.${n}.${name}`));
      for (const [name, x, width, shape] of there) put(`blocks.${n}.${name}`, x, y, width, shape);
      if (there.length) y += ROW + (there[0][4] ?? 0);
    }
    return y - ROW + 26;
  }

  /** A parameter stands beside the tensor that it is first used for. */
  function chip(name) {
    const target = homeOf(name);
    const home = places.get(target);
    if (!home) return;
    const all = pass.paths.filter((path) => path.target === target && of.get(path.source).kind === "parameters");
    const nth = all.findIndex((path) => path.source === name);
    const width = Math.max(40, 12 + 7 * chipLabel(name).length);
    const gap = target.endsWith("_normed") ? 10 : 18;
    const x = home.x + home.width / 2 + gap + width / 2;
    places.set(name, {
      x,
      y: home.y + (nth - (all.length - 1) / 2) * 19,
      width,
      height: 17,
      shape: "chip",
      home: target,
    });
  }

  function homeOf(name) {
    return pass.paths.find((path) => path.source === name).target;
  }
}

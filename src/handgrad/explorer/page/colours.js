// Colours of numbers: diverging, centred on zero, violet below and green above, in the tone of the page between.

const ENDS = {
  light: { low: [112, 40, 138], middle: [247, 246, 243], high: [16, 110, 62] },
  dark: { low: [203, 148, 232], middle: [32, 35, 41], high: [96, 211, 148] },
};
const STEPS = 128;
const tables = {};

export const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

/** 2 × 128 + 1 colours from the lowest to the highest, as r, g, b. */
function palette() {
  const name = isDark() ? "dark" : "light";
  tables[name] ??= Array.from({ length: 2 * STEPS + 1 }, (_, n) => {
    const t = Math.abs(n - STEPS) / STEPS;
    const { low, middle, high } = ENDS[name];
    const end = n < STEPS ? low : high;
    return middle.map((x, channel) => Math.round(x + (end[channel] - x) * t ** 0.85));
  });
  return tables[name];
}

/** What a number is divided by, and how: `max` its largest size; `p99` that of all but a hundredth; `log` by decades. */
export function scaleOf(data, kind) {
  const sizes = [];
  for (const x of data) if (Number.isFinite(x)) sizes.push(Math.abs(x));
  let most = 0;
  for (const x of sizes) most = Math.max(most, x);
  if (kind === "p99" && most > 0) {
    sizes.sort((a, b) => a - b);
    most = sizes[Math.min(sizes.length - 1, Math.floor(sizes.length * 0.99))] || most;
  }
  const floor = most * 1e-4; // four decades
  const part =
    kind === "log" && most > 0
      ? (x) => Math.sign(x) * (Math.log1p(Math.abs(x) / floor) / Math.log1p(most / floor))
      : (x) => (most > 0 ? x / most : 0);
  return { most, part, kind };
}

/** A function of a number: its colour on this scale. */
export function colouring(scale) {
  const colours = palette();
  return (x) => colours[Math.round((Math.max(-1, Math.min(1, scale.part(x))) + 1) * STEPS)];
}

/** A CSS gradient from the lowest to the highest. */
export function gradient() {
  const stops = palette().filter((_, n) => n % 32 === 0);
  return `linear-gradient(to right, ${stops.map((rgb) => `rgb(${rgb})`).join(", ")})`;
}

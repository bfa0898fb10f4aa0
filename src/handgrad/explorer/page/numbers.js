// Numbers as texts.

const MINUS = "\u2212";
const WORDS = { inf: Infinity, "-inf": -Infinity, nan: NaN };

/** Rounded to so many significant digits, for tables and labels: 0.0123, 1.2e−7. */
export function short(x, digits = 3) {
  if (x === null || x === undefined) return "not finite";
  if (!Number.isFinite(x)) return exact(x);
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size < 1e-3 || size >= 1e5 ? x.toExponential(digits - 1) : Number(x.toPrecision(digits)).toString();
  return signs(text.replace(/\.?0*e\+?/, "e"));
}

/** All digits: the shortest decimal that is this number, in double precision; in single, nine digits, which tell it. */
export function exact(told, dtype = "float64") {
  const x = WORDS[told] ?? told; // what JSON has not is told in words
  if (x === null || x === undefined || Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : `${MINUS}∞`;
  const number = dtype === "float32" ? Number(x.toPrecision(9)) : x;
  const text = x !== 0 && Math.abs(x) < 1e-3 ? number.toExponential() : number.toString();
  return signs(Object.is(x, -0) ? "0" : text.replace("e+", "e"));
}

export function percent(x) {
  if (x === null || x === undefined) return "not finite";
  const nearly = Math.abs(x) !== 1 && Math.abs(Math.abs(x) - 1) < 0.005; // and not quite the whole
  const text = nearly ? (100 * x).toFixed(2) : Math.abs(x) >= 0.0995 ? (100 * x).toFixed(0) : (100 * x).toPrecision(2);
  return `${signs(Number(text).toString())} %`;
}

export function count(x) {
  return x.toLocaleString("en-US");
}

function signs(text) {
  return text.replaceAll("-", MINUS);
}

const SIGNS = { " ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍" };

/** A token as it can be seen: a space is an open box. */
export function visible(text) {
  if (text === "") return "∅";
  return Object.entries(SIGNS).reduce((told, [sign, seen]) => told.replaceAll(sign, seen), text);
}

/** What somebody means who types a token as it is seen. */
export function typed(text) {
  return Object.entries(SIGNS).reduce((told, [sign, seen]) => told.replaceAll(seen, sign), text);
}

export const quoted = (text) => `‘${text}’`;

/** "1 block", "2 blocks". */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// Where answers come from: the server that sent the page, or the page itself where it is a single file.

export class Refused extends Error {}

const embedded = document.getElementById("answers");
const answers = embedded && JSON.parse(embedded.textContent);

/** Whether the page is a single file, with one text, and nobody who computes. */
export const isStatic = Boolean(answers);
export const LIVE_ONLY = "needs the live page: handgrad explore";

export const [ROWS, COLUMNS] = [256, 1024]; // of a matrix, that an answer has at most

const running = new Map();

/**
 * The answer to a question: its header, and its arrays by name as {rows, columns, data, dtype}.
 * A later question on the same `line` makes an earlier one stale, and so does the `signal`: it is given up here and on
 * the server.
 */
export async function ask(question, fields, { line = question, signal } = {}) {
  if (isStatic) return fromPage(question, fields);
  running.get(line)?.abort();
  const control = new AbortController();
  running.set(line, control);
  signal?.addEventListener("abort", () => control.abort(), { once: true, signal: control.signal });
  if (signal?.aborted) control.abort();
  try {
    const response = await post(question, fields, control.signal);
    if (response.headers.get("Content-Type")?.startsWith("application/json")) {
      throw new Refused((await response.json()).error);
    }
    if (!response.ok) throw new Refused(`the server answered ${response.status}`);
    return fromFrame(await response.arrayBuffer());
  } finally {
    if (running.get(line) === control) running.delete(line);
  }
}

async function post(question, fields, signal) {
  const headers = { "Content-Type": "application/json" };
  try {
    return await fetch(`ask/${question}`, { method: "POST", headers, body: JSON.stringify(fields), signal });
  } catch (error) {
    if (isStale(error)) throw error;
    throw new Refused("the server does not answer; is handgrad explore still running?");
  }
}

/** Whether an error only says that a later question has made this one stale. */
export const isStale = (error) => error.name === "AbortError";

function fromFrame(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let place = Math.ceil((4 + length) / 8) * 8;
  const arrays = {};
  for (const { name, shape } of header.arrays) {
    const size = shape.reduce((product, n) => product * n, 1);
    arrays[name] = matrix(shape, new Float64Array(buffer, place, size), "float64");
    place += 8 * size;
  }
  return { header, arrays };
}

function matrix(shape, data, dtype) {
  const [rows, columns] = [1, 1, ...shape].slice(-2);
  return { rows, columns, data, dtype };
}

async function fromPage(question, fields) {
  if (question === "pass") return { header: answers.pass };
  if (question === "sheet") return { header: answers.sheets[fields.name] };
  if (question === "tensors") return tensorsOfPage(fields);
  if (question === "flow")
    return { header: { choices: answers.flow.choices, course: answers.flow.courses[fields.key] } };
  if (question === "training") return { header: answers.training };
  throw new Refused(LIVE_ONLY);
}

function tensorsOfPage({ keys, at = [], row = 0, column = 0 }) {
  const arrays = {};
  let window;
  for (const key of keys) {
    const element = document.querySelector(`script[data-tensor="${key}"]`);
    if (!element) throw new Refused(`${key} was too large for this file; the live page shows it`);
    const shape = JSON.parse(element.dataset.shape);
    const [rows, columns] = [1, 1, ...shape].slice(-2);
    const all = decoded(element);
    const leading = shape.slice(0, -2);
    let place = 0;
    leading.forEach((size, axis) => (place = place * size + (at[axis] ?? 0)));
    const part = all.subarray(place * rows * columns, (place + 1) * rows * columns);
    window = { row, column, rows: Math.min(ROWS, rows - row), columns: Math.min(COLUMNS, columns - column) };
    const data = new Float64Array(window.rows * window.columns);
    for (let r = 0; r < window.rows; r++) {
      const start = (row + r) * columns + column;
      data.set(part.subarray(start, start + window.columns), r * window.columns);
    }
    arrays[key] = matrix([window.rows, window.columns], data, "float32");
  }
  const tensors = Object.fromEntries(keys.map((key) => [key, answers.tensors[key]]));
  return { header: { window, tensors }, arrays };
}

const known = new Map();

function decoded(element) {
  if (!known.has(element)) {
    const bytes = Uint8Array.from(atob(element.textContent), (sign) => sign.charCodeAt(0));
    known.set(element, new Float32Array(bytes.buffer));
  }
  return known.get(element);
}

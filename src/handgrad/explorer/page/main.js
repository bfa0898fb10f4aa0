// The page: what is looked at is in the address, and each part is drawn anew from it and from what the pass is.

import { h, keepingFocus, put, say } from "handgrad/dom.js";
import { OF_A_TENSOR, PANELS, heading, tabs } from "handgrad/detail.js";
import { blockOf } from "handgrad/layout.js";
import { ModelMap } from "handgrad/map.js";
import { plural } from "handgrad/numbers.js";
import { ask, isStale, isStatic, LIVE_ONLY } from "handgrad/source.js";
import { LIVE, read, write } from "handgrad/state.js";
import { strip } from "handgrad/strip.js";
import { nameOf } from "handgrad/tensor.js";

const RETRACED = ["text", "targets", "checkpoint"]; // what changes the pass

const at = (id) => document.getElementById(id);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
let state = readable(location.hash);
let pass = null; // what is shown, and in `pass.view` what it was asked with
let mistake = null; // the answer about the mistake of this name, for this pass
let panelControl = new AbortController(); // gives up what a panel asked for when another is drawn
let timer = null;
let unfit = null; // what was wrong with an address that does not fit this model
let submitted = ""; // what the box of the text held when it was last read or written

const map = new ModelMap(at("map"), {
  choose: (name) => {
    update({ ...chosen(name), panel: OF_A_TENSOR.includes(state.panel) ? state.panel : "tensor" });
    if (matchMedia("(max-width: 860px)").matches) at("detail").scrollIntoView(); // it is below the map there
  },
  fold: (block) => update({ open: toggled(state.open, block) }, { only: "map" }),
  foldAll: (open) => update({ open }, { only: "map" }),
});

/** The state that an address tells; of what a single file cannot follow, and what there is not, nothing. */
function readable(hash) {
  const told = read(hash);
  if (!Object.hasOwn(PANELS, told.panel)) told.panel = "tensor";
  if (isStatic) for (const name of Object.keys(LIVE)) told[name] = LIVE[name];
  return told;
}

const toggled = (blocks, block) =>
  blocks.includes(block) ? blocks.filter((n) => n !== block) : [...blocks, block].sort((a, b) => a - b);

/** The blocks that are unfolded where this tensor is chosen: its own too. */
function openTo(name) {
  const block = blockOf(name);
  const open = state.open ?? [];
  return block === null || open.includes(block) ? open : toggled(open, block);
}

/** What changes where another tensor is looked at. */
const chosen = (name) => ({ node: name, at: null, from: [0, 0], open: openTo(name) });

/**
 * Change what is looked at. `replace`: no step of its own in the browser's history; `only`: nothing but the address, or
 * nothing but the map, is drawn anew; `retraced`: the pass is asked for even if it is the same.
 */
function update(changes, { replace = false, only = null, retraced = false } = {}) {
  const before = state;
  state = { ...state, ...changes };
  const address = write(state);
  if (address !== location.hash) history[replace || only ? "replaceState" : "pushState"](null, "", address);
  if (only === "map") map.show(pass, state, wrongs());
  else if (only === null) follow(before, retraced);
}

/** Draw what has changed. */
function follow(before, retraced = false) {
  theme(state.theme);
  if (!pass || retraced || RETRACED.some((name) => !same(before[name], state[name]))) retrace();
  else draw();
}

/** The view as a request tells it. */
const view = () => ({
  ...(state.text === null ? {} : { text: state.text }),
  targets: state.targets,
  checkpoint: state.checkpoint,
});

async function retrace() {
  const asked = view();
  at("main").setAttribute("aria-busy", "true");
  if (!pass && state.text !== null) showText(state.text);
  try {
    const { header } = await ask("pass", asked, { line: "pass" });
    pass = { ...header, view: { ...asked, text: header.text, step_of_model: header.step } };
    complain(unfit);
    unfit = null;
  } catch (error) {
    if (isStale(error)) return;
    complain(error.message);
    if (!pass && (state.checkpoint || Object.keys(state.targets).length)) {
      unfit = error.message;
      Object.assign(state, { checkpoint: "", targets: {} });
      return retrace();
    }
    at("loading").hidden = true;
    at("main").setAttribute("aria-busy", "false");
    return;
  }
  at("loading").hidden = true;
  mistake = null;
  state.text = pass.text;
  header();
  await draw();
  at("main").setAttribute("aria-busy", "false");
  document.body.dataset.ready = "true";
}

function header() {
  const { config } = pass;
  at("model").textContent =
    `${pass.title} · ${plural(pass.parameters, "parameter")}, ${plural(config.layers, "block")} of width ${config.width} with ${plural(config.heads, "head")}`;
  document.title = `handgrad explorer: ${pass.title}`;
  if (document.activeElement !== at("text") || at("text").value === submitted) showText(pass.text);
  keepingFocus(at("strip"), () =>
    strip(at("strip"), pass, state, {
      change: (targets) => update({ targets: targets(state.targets) }),
      token: numberOf,
      row: (n) => runsOverTime() && update({ at: [n, state.at?.[1] ?? 0] }),
    }),
  );
}

/** Whether the rows of what is looked at are positions. */
const runsOverTime = () => pass.tensors.find((each) => each.name === state.node).axes.at(-2) === "T";

/** The number of the token that a text is; null, and a complaint, where it is none. */
async function numberOf(text) {
  try {
    return (await ask("token", { token: text, checkpoint: state.checkpoint }, { line: "token" })).header.token;
  } catch (error) {
    if (!isStale(error)) complain(error.message);
    return null;
  }
}

/** Nothing is looked at that the model has not. */
function fitToPass() {
  const { layers } = pass.config;
  const usual = `blocks.${Math.floor((layers - 1) / 2)}.attention.weights`;
  if (!pass.tensors.some((each) => each.name === state.node)) state.node = usual;
  state.open = (state.open ?? openTo(state.node)).filter((n) => n < layers);
  history.replaceState(null, "", write(state));
}

async function draw() {
  fitToPass();
  at("panel").dataset.drawing = "true";
  above();
  if (state.mutation && mistake?.name !== state.mutation) {
    const wanted = state.mutation;
    at("panel").setAttribute("aria-busy", "true");
    try {
      const { header: found } = await ask("mutation", { ...pass.view, name: wanted }, { line: "mutation" });
      if (state.mutation !== wanted) return;
      mistake = found;
    } catch (error) {
      if (isStale(error) || state.mutation !== wanted) return;
      complain(error.message);
      state.mutation = "";
      history.replaceState(null, "", write(state));
    }
  }
  above();
  map.show(pass, state, wrongs());
  await panel();
}

/** The tabs, and what is chosen above them. */
function above() {
  keepingFocus(at("tabs"), () => tabs(at("tabs"), state, update));
  keepingFocus(at("detail-head"), () => heading(at("detail-head"), pass, state, update));
  at("panel").setAttribute("aria-labelledby", `tab-${state.panel}`);
}

/** By the name of each tensor of the map how far what comes back to it is off. */
function wrongs() {
  if (!state.mutation || mistake?.name !== state.mutation) return null;
  return {
    first: mistake.first && nameOf(mistake.first),
    of: new Map(mistake.wrongs.map((each) => [nameOf(each.key), each])),
  };
}

async function panel() {
  panelControl.abort();
  const control = (panelControl = new AbortController());
  clearTimeout(timer);
  const root = at("panel");
  root.dataset.drawing = "true";
  const slow = setTimeout(() => {
    root.setAttribute("aria-busy", "true");
    if (root.dataset.shows !== state.panel) put(root, h("p", { class: "loading" }, "Computing …"));
  }, 120);
  let content;
  try {
    content = await PANELS[state.panel][1]({
      pass,
      state,
      mistake,
      update,
      ask: (question, fields, line) =>
        ask(question, { ...pass.view, ...fields }, { line: line ?? question, signal: control.signal }),
      again: (wait) => {
        clearTimeout(timer);
        timer = setTimeout(panel, wait);
      },
      choose: (name) => update({ ...chosen(name), panel: "tensor" }),
      retrace: () => update({}, { retraced: true }),
    });
    root.dataset.shows = state.panel;
  } catch (error) {
    if (control.signal.aborted || isStale(error)) return;
    content = h("p", { class: "alert" }, error.message);
    root.dataset.shows = "";
  } finally {
    clearTimeout(slow);
  }
  if (control.signal.aborted) return;
  if (root.firstChild !== content) keepingFocus(root, () => put(root, content));
  root.setAttribute("aria-busy", "false");
  delete root.dataset.drawing;
}

function complain(text) {
  at("alert").hidden = text === null;
  at("alert").textContent = text ?? "";
}

function showText(text) {
  at("text").value = submitted = text;
  fit();
}

/** As many lines as the text has. */
function fit() {
  const area = at("text");
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

at("text-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submitted = at("text").value;
  update({ text: submitted, targets: {}, at: null, from: [0, 0] }, { retraced: true });
});
at("text").addEventListener("input", fit);
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("text-form").requestSubmit();
  }
});
if (isStatic) {
  at("text").readOnly = true;
  at("run").replaceWith(h("span", { class: "muted" }, `Another text ${LIVE_ONLY}.`));
}
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("panel").focus();
});
at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    at("copy").textContent = "Copied";
  } catch {
    at("copy").textContent = "It is in the address bar";
  }
  say(at("copy").textContent);
  setTimeout(() => (at("copy").textContent = "Copy link"), 1500);
});
at("theme").addEventListener("click", () => {
  const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  update({ theme: dark ? "light" : "dark" }, { replace: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => pass && draw());
addEventListener("popstate", () => {
  const before = state;
  state = readable(location.hash);
  state.open ??= before.open;
  state.node ||= before.node;
  state.text ??= before.text;
  follow(before);
});
theme(state.theme);
retrace();

// The tokens: what is read, what should follow, and how probable that was. A target can be changed, or not count.

import { h, put } from "handgrad/dom.js";
import { percent, plural, quoted, short, typed, visible } from "handgrad/numbers.js";
import { isStatic, LIVE_ONLY } from "handgrad/source.js";

const IGNORED = -100;
const IN_NO_TEXT = -1; // no position

let opened = IN_NO_TEXT; // the position whose target can be changed

/** `change(f)` is told what makes new targets of those that differ from the text's; `token(text)` gives a number. */
export function strip(root, pass, state, { change, token, row }) {
  const { tokens } = pass;
  if (opened >= tokens.length) opened = IN_NO_TEXT;
  const losses = tokens.map((each) => (each.target === IGNORED ? 0 : (each.loss ?? Infinity)));
  const most = Math.max(1e-9, ...losses.filter(Number.isFinite));
  const editor = h("div", { class: "editor", hidden: opened === IN_NO_TEXT });
  const list = h(
    "ol",
    { class: "tokens", onkeydown: go },
    tokens.map((each, n) => {
      const ignored = each.target === IGNORED;
      const kind = [ignored ? "ignored" : "", n in state.targets ? "changed" : "", n === opened ? "open" : ""].join(
        " ",
      );
      const height = `${Math.max(3, (100 * Math.min(losses[n], most)) / most)}%`;
      return h(
        "li",
        { class: kind },
        h(
          "button",
          {
            type: "button",
            "data-key": n,
            tabindex: n === Math.max(opened, 0) ? "0" : "-1",
            "aria-label": `position ${n}, ${visible(each.text)}: ${told(each)}`,
            title: told(each),
            onclick: () => open(n),
          },
          h("b", {}, visible(each.text)),
          h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: { height } })),
          h("span", { class: "target" }, ignored ? "–" : visible(each.target_text)),
        ),
      );
    }),
  );
  put(root, heading(pass, state, change), list, editor);
  if (opened !== IN_NO_TEXT) edit(editor, pass, state, { change, token });

  function open(n) {
    opened = n;
    for (const [m, item] of [...list.children].entries()) item.classList.toggle("open", m === n);
    edit(editor, pass, state, { change, token });
    row(n);
  }

  /** Arrow keys go from token to token. */
  function go(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const buttons = [...list.querySelectorAll("button")];
    const next = step && buttons[buttons.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

function told(each) {
  if (each.target === IGNORED) return "its target does not count";
  const likely = `most probable: ${quoted(visible(each.guess_text))}, ${percent(each.guess_probability)}`;
  const target = `target ${quoted(visible(each.target_text))}, probability ${percent(each.probability)}`;
  return `${target}, ${short(each.loss)} nats; ${likely}`;
}

function heading(pass, state, change) {
  const counted = pass.tokens.filter((each) => each.target !== IGNORED).length;
  const changed = Object.keys(state.targets).length && !isStatic;
  return h(
    "p",
    { class: "strip-head" },
    h("span", {}, "Each token, the loss at it, and its target below."),
    changed
      ? h(
          "button",
          { type: "button", class: "quiet", "data-key": "as-in-the-text", onclick: () => change(() => ({})) },
          "All targets as in the text",
        )
      : null,
    h(
      "span",
      { class: "total" },
      "Loss ",
      h("strong", { id: "loss" }, short(pass.loss, 6)),
      ` nats, the mean over ${plural(counted, "target")}`,
    ),
  );
}

/** What can be done with the target of the position that is open. */
function edit(editor, pass, state, { change, token }) {
  const n = opened;
  const each = pass.tokens[n];
  const ignored = each.target === IGNORED;
  const others = (targets) => Object.fromEntries(Object.entries(targets).filter(([at]) => Number(at) !== n));
  const counts = (target) => target !== undefined && target !== IGNORED;
  const counting = (token) => (targets) => ({ ...others(targets), [n]: token });
  const value = ignored ? "" : visible(each.target_text);
  const input = h("input", { type: "text", size: 8, value, "aria-label": "Target", "data-key": "target" });
  const button = (key, text, targets) =>
    h("button", { type: "button", class: "quiet", "data-key": key, onclick: () => change(targets) }, text);
  const alone = Object.fromEntries(pass.tokens.map((_, m) => [m, IGNORED]).filter(([m]) => m !== n));
  const set = async (event) => {
    event.preventDefault();
    const found = await token(typed(input.value));
    if (found !== null) change(counting(found));
  };
  editor.hidden = false;
  put(
    editor,
    h("span", {}, `Position ${n}, `, h("b", {}, visible(each.text)), `: ${told(each)}`),
    isStatic
      ? h("span", { class: "muted" }, `Changing it ${LIVE_ONLY}.`)
      : [
          h(
            "form",
            { onsubmit: set },
            h("label", {}, "Target ", input),
            h("button", { type: "submit", class: "quiet", "data-key": "set" }, "Set"),
          ),
          button("count", ignored ? "Count it" : "Do not count it", ignored ? others : counting(IGNORED)),
          button("alone", "Count this one alone", (targets) => ({
            ...alone,
            ...(counts(targets[n]) && { [n]: targets[n] }),
          })),
        ],
  );
}

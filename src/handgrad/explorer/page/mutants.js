// Break it: a known mistake in the backward, how far it spreads, what the check says, and whether training notices.

import { breakable, h, put } from "handgrad/dom.js";
import { chart } from "handgrad/chart.js";
import { percent, plural, short } from "handgrad/numbers.js";
import { isStale, isStatic, LIVE_ONLY } from "handgrad/source.js";
import { nameOf } from "handgrad/tensor.js";

const VERDICTS = {
  "as well": "It trains as well as with right gradients. A falling loss proves nothing.",
  worse: "It trains, but worse.",
  no: "It does not train.",
  "not met": "The small model does not meet it.",
};
const CLASSICS = ["dw_q_of_the_raw_input", "dk_not_transposed", "layer_norm_without_the_mean_route", "mask_forgotten"];
const kept = { query: "", scroll: 0 }; // of the catalogue, while another mistake is chosen

export async function mutantsPanel({ pass, state, mistake, ask, update, choose }) {
  if (isStatic) return h("p", { class: "empty" }, `A mistake is made in the running code, which ${LIVE_ONLY}.`);
  const { header } = await ask("mutations", {}, "mutations");
  const chosen = state.mutation && mistake?.name === state.mutation ? mistake : null;
  const pick = (name) => update({ mutation: name === state.mutation ? "" : name });
  const result = h("div", { class: "result" });
  if (chosen) {
    const verdict = h("div", { class: "verdict", "aria-busy": "true" });
    put(result, explained(chosen), spreading(chosen, choose), verdict);
    judge(verdict, ask("verdict", { name: chosen.name }, "verdict"));
  } else {
    put(result, invitation(header.mutations, pick));
  }
  const concerned = header.mutations.filter((each) => each.met).length;
  return h(
    "div",
    { class: "mutants" },
    h(
      "p",
      {},
      "A mistake that people make is planted in the backward of this very pass. ",
      `${concerned} of the catalogue's ${header.mutations.length} concern parts of this model.`,
    ),
    h("div", { class: "columns" }, catalogue(header.mutations, state.mutation, pick), result),
  );
}

/** All mistakes that concern the model, by layer, with a search. */
function catalogue(all, chosen, pick) {
  const search = h("input", {
    type: "search",
    value: kept.query,
    placeholder: "Search the catalogue",
    "aria-label": "Search the catalogue",
    oninput: fill,
  });
  const list = h("div", { class: "catalogue", tabindex: "0", role: "region", "aria-label": "Catalogue of mistakes" });
  list.addEventListener("scroll", () => (kept.scroll = list.scrollTop));
  const entry = ({ name, why }) =>
    h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: name === chosen ? "chosen" : "",
          "aria-pressed": String(name === chosen),
          title: why,
          "data-key": name,
          onclick: () => pick(name),
        },
        breakable(name),
      ),
    );

  function fill() {
    kept.query = search.value;
    const words = kept.query.toLowerCase().replaceAll("_", " ").split(/\s+/).filter(Boolean);
    const text = (each) => `${each.name.replaceAll("_", " ")} ${each.layer} ${each.why}`.toLowerCase();
    const matching = all.filter((each) => words.every((word) => text(each).includes(word)));
    const shown = matching.filter((each) => each.met);
    const layers = [...new Set(shown.map((each) => each.layer))];
    const section = (layer) =>
      h("section", {}, h("h4", {}, layer), h("ul", {}, shown.filter((each) => each.layer === layer).map(entry)));
    const others = `${matching.length - shown.length} more concern parts that this model does not have.`;
    put(
      list,
      layers.map(section),
      h("p", { class: "muted" }, shown.length ? others : "Nothing of this model's parts matches."),
    );
  }
  fill();
  requestAnimationFrame(() => (list.scrollTop = kept.scroll));
  return h("div", {}, search, list);
}

function invitation(all, pick) {
  const button = (each) =>
    h(
      "li",
      {},
      h("button", { type: "button", class: "quiet", onclick: () => pick(each.name) }, each.name),
      " ",
      emphasised(each.why),
    );
  const classics = CLASSICS.map((name) => all.find((each) => each.name === name)).filter((each) => each?.met);
  return [
    h(
      "p",
      {},
      "Choose a mistake. The map then shows where it makes gradients wrong, and by how much; the check is run on it, and a small model trained with it. Four that everybody has made:",
    ),
    h("ul", { class: "classics" }, classics.map(button)),
  ];
}

/** Words between asterisks stand out. */
const emphasised = (text) => text.split("*").map((part, n) => (n % 2 ? h("em", {}, part) : part));

/** What a good teacher would say, and the code. */
function explained(found) {
  const prefix = (code, sign) =>
    `${code
      .split("\n")
      .map((line) => sign + line)
      .join("\n")}\n`;
  const code = [h("del", {}, prefix(found.right, "− ")), h("ins", {}, prefix(found.wrong, "+ "))];
  return [
    h("h3", { class: "name" }, breakable(found.name)),
    h("p", { class: "why" }, emphasised(found.why)),
    h(
      "figure",
      { class: "diff" },
      h("figcaption", {}, `in ${found.function}`),
      h("pre", { tabindex: "0", role: "region", "aria-label": "The right code and the wrong" }, code),
    ),
  ];
}

/** Every tensor from the loss down, and how far it is off. */
function spreading(found, choose) {
  if (!found.first) {
    return h(
      "p",
      { class: "note-box" },
      "This pass does not show it: what comes back is right, bit for bit or to rounding. One sequence, a fresh gain of 1, or ",
      "targets that all count can hide a mistake; the check's random cases have none of that.",
    );
  }
  const go = (key) =>
    h(
      "button",
      { type: "button", class: "link", onclick: () => choose(nameOf(key)) },
      breakable(key.replace("/", " ")),
    );
  const width = (error) => (error === null ? 100 : Math.max(3, Math.min(100, 50 + 25 * Math.log10(error + 1e-9))));
  const row = (each) =>
    h(
      "li",
      { class: each.wrong ? "wrong" : "" },
      go(each.key),
      h(
        "span",
        { class: "bar", "aria-hidden": "true" },
        h("i", { style: { width: `${each.wrong ? width(each.error) : 0}%` } }),
      ),
      h("span", { class: "number" }, !each.wrong ? "right" : each.error === null ? "not finite" : percent(each.error)),
    );
  const others = found.wrongs.filter((each) => each.wrong).length - 1;
  const spread = others
    ? `, and then in ${plural(others, "more", "more")} of the ${found.wrongs.length} tensors that come back`
    : ", and nowhere else";
  const list = h(
    "div",
    { class: "spread", tabindex: "0", role: "region", "aria-label": "How far each tensor is off, from the loss down" },
    h("ol", {}, found.wrongs.map(row)),
  );
  requestAnimationFrame(() => {
    const first = list.querySelector(".wrong");
    if (first) list.scrollTop = first.offsetTop - 2 * first.offsetHeight;
  });
  return [h("p", {}, "It first shows in ", go(found.first), `${spread}.`), list];
}

/** What the check says, and how a small model trains: when both are known. */
async function judge(verdict, asked) {
  put(
    verdict,
    h(
      "p",
      { class: "muted" },
      "The check runs, and two small models are trained, one with the mistake: some seconds …",
    ),
  );
  try {
    const { header: found, arrays } = await asked;
    put(verdict, sentence(found), training(arrays));
  } catch (error) {
    if (!isStale(error)) put(verdict, h("p", { class: "alert" }, error.message));
  }
  verdict.setAttribute("aria-busy", "false");
}

function sentence(found) {
  const off = found.error === null ? "not even finite" : `off by ${short(found.error)}, where 1e−12 passes`;
  const loss =
    found.loss === null
      ? " Its loss is not finite."
      : ` A small model comes to ${short(found.loss, 4)} nats on a held-out text, with right gradients to ${short(found.right_loss, 4)}.`;
  return [
    h("h3", {}, "What the check says"),
    h(
      "p",
      {},
      h("strong", { class: "caught" }, found.caught ? "Caught: " : "Not caught: "),
      `in its case of ${found.layer}, the gradient of ${found.tensor} is ${off}.`,
    ),
    h("h3", {}, "Does it still train?"),
    h("p", { "data-verdict": found.verdict }, h("strong", {}, VERDICTS[found.verdict]), loss),
  ];
}

function training(arrays) {
  const curve = (matrix) => smooth([...matrix.data]).map((loss, n) => [n + 1, loss]);
  const lines = [
    { name: "right gradients", class: "forward-line", points: curve(arrays.right_losses) },
    { name: "with the mistake", class: "wrong-line", points: curve(arrays.losses) },
  ];
  return chart("Training a small model", lines, {
    x: { title: "update" },
    y: { title: "loss of the batch, nats" },
    note: "running means",
  });
}

function smooth(losses) {
  let mean = losses[0];
  return losses.map((loss) => (mean = 0.9 * mean + 0.1 * loss));
}

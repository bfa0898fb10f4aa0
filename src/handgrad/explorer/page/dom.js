// Elements, made by one call each.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, x] of Object.entries(value)) element.style.setProperty(key, x);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return put(element, children);
}

/** What is in an element, anew; what is null or false is left out. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** An HTML element: `h("p", {class: "x", onclick: f}, "text", child)`. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A choice among a few values: a select with its label. */
export function choice(label, value, options, chosen) {
  const select = h(
    "select",
    { onchange: () => chosen(select.value) },
    options.map(([key, text]) => h("option", { value: key, selected: String(key) === String(value) }, text)),
  );
  return h("label", { class: "field" }, h("span", {}, label), select);
}

/** A table with a head, for numbers. */
export function table(caption, head, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((text) => h("th", { scope: "col" }, text)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((cell, n) => h(n ? "td" : "th", n ? {} : { scope: "row" }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** A name that may go on in the next line after a dot or an underscore. */
export const breakable = (name) => name.split(/(?<=[._/ ])/).flatMap((part) => [part, document.createElement("wbr")]);

/** Say something to those who do not see the page. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Draw a part anew. What had the focus there has it again: what is called so, or is in its place among the like. */
export function keepingFocus(root, drawAnew) {
  const active = document.activeElement;
  const name = root.contains(active) ? keyOf(active) : null;
  const alike = () => [...root.querySelectorAll(active.tagName)].filter((each) => keyOf(each) === name);
  const place = name ? alike().indexOf(active) : -1;
  drawAnew();
  if (place < 0) return;
  const there = alike();
  (there[place] ?? there[0] ?? document.getElementById("panel")).focus({ preventScroll: true });
}

const keyOf = ({ tagName, id, dataset, type }) => `${tagName} ${type ?? ""} ${id || dataset.key || dataset.name || ""}`;

/** Wait until nothing has called for a moment. */
export function debounced(wait, call) {
  let timer;
  return (...all) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...all), wait);
  };
}

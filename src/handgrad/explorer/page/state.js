// What is looked at, kept in the address after the `#`, so that a view can be sent to somebody.

export const DEFAULTS = {
  text: null, // none: what the page begins with
  targets: {}, // position: token, where it is not the one that follows
  checkpoint: "",
  node: "",
  head: 0,
  at: null, // [row, column] of the entry that is held
  from: [0, 0], // the first row and column of what is shown of a large tensor
  scale: "max",
  panel: "tensor",
  open: null, // blocks that are unfolded; null: that of what is looked at
  mutation: "",
  layers: 0, // of the fresh models; 0: as many as the model
  series: "stream",
  theme: "",
};

/** What only somebody who computes can follow, and what it is where nobody does. */
export const LIVE = { text: null, targets: {}, checkpoint: "", mutation: "", layers: 0 };

const DEEPEST = 48;

const TO_TEXT = {
  targets: (x) =>
    Object.entries(x)
      .map(([position, token]) => `${position}:${token}`)
      .join(","),
  at: (x) => x.join(","),
  from: (x) => x.join(","),
  open: (x) => x.join(","),
};
const integers = (text) =>
  text
    .split(",")
    .filter((each) => /^\d+$/.test(each))
    .map(Number);
const FROM_TEXT = {
  targets: (text) =>
    Object.fromEntries([...text.matchAll(/(\d+):(-?\d+)/g)].map((match) => [match[1], Number(match[2])])),
  head: (text) => integers(text)[0] ?? 0,
  at: (text) => (integers(text).length === 2 ? integers(text) : null),
  from: (text) => (integers(text).length === 2 ? integers(text) : [0, 0]),
  open: integers,
  layers: (text) => Math.min(integers(text)[0] ?? 0, DEEPEST),
};

/** The state that an address tells; what it does not tell is as usual. */
export function read(hash) {
  const state = { ...DEFAULTS };
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (Object.hasOwn(DEFAULTS, name)) state[name] = (FROM_TEXT[name] ?? ((x) => x))(text);
  }
  return state;
}

export function write(state) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const text = value === null ? null : (TO_TEXT[name] ?? String)(value);
    const usual = DEFAULTS[name] === null ? null : (TO_TEXT[name] ?? String)(DEFAULTS[name]);
    if (text !== usual) told.set(name, text);
  }
  return `#${told}`;
}

// The state of the page, and its short form in the address: a link opens the page as it was.

const RULE_LETTERS = { POSTERIOR: "p", VARIATIONAL: "v", HARD: "h", MAP: "m", PLANNING: "l", RISK: "r" };
const EDIT_LETTERS = { wall: "w", goal: "g", reward: "r", start: "s" };

const asNumber = { write: (x) => String(Number(x.toPrecision(6))), read: (text) => finiteNumber(text) };
const asWord = { write: (x) => x, read: (text) => text };

/** What is kept in the address: the key of each field, and how it is written and read. */
const CODECS = {
  alpha: { key: "a", ...asNumber },
  eta: { key: "n", ...asNumber },
  T: { key: "T", ...asNumber },
  variant: { key: "x", ...asNumber },
  rules: { key: "r", write: (rules) => rules.map((rule) => RULE_LETTERS[rule]).join(""), read: readRules },
  colour: { key: "m", ...asWord },
  dynamics: { key: "w", ...asWord },
  scale: { key: "z", ...asWord },
  t: { key: "t", ...asNumber },
  place: { key: "c", ...asNumber },
  layer: { key: "j", ...asNumber },
  rule: { key: "k", write: (rule) => RULE_LETTERS[rule], read: (text) => readRules(text)[0] },
  action: { key: "i", ...asNumber },
  tool: { key: "u", ...asWord },
  edits: { key: "e", write: writeEdits, read: readEdits },
  observed: { key: "o", write: ({ t, place }) => `${t}.${place}`, read: readObserved },
  question: { key: "q", ...asNumber },
  asking: { key: "y", ...asNumber },
  theme: { key: "d", ...asWord },
};

/** Write the fields that differ from their defaults: `#a=0.01&r=pv&t=37`. */
function toAddress(state, defaults) {
  const pairs = Object.entries(CODECS)
    .filter(([field]) => state[field] !== null && state[field] !== undefined)
    .map(([field, codec]) => [field, codec.key, codec.write(state[field])])
    .filter(([field, , text]) => text !== "" && text !== writtenDefault(field, defaults));
  return pairs.map(([, key, text]) => `${key}=${encodeURIComponent(text)}`).join("&");
}

function writtenDefault(field, defaults) {
  const value = defaults[field];
  return value === null || value === undefined ? null : CODECS[field].write(value);
}

/** Read an address back into a state; what cannot be read keeps its default. */
function fromAddress(hash, defaults) {
  const state = { ...defaults };
  const given = new Map(
    hash
      .replace(/^#/, "")
      .split("&")
      .map((pair) => pair.split("="))
      .filter((pair) => pair.length === 2),
  );
  for (const [field, codec] of Object.entries(CODECS)) {
    if (!given.has(codec.key)) continue;
    const value = codec.read(decoded(given.get(codec.key)));
    if (value !== undefined) state[field] = value;
  }
  return state;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function finiteNumber(text) {
  const x = Number(text);
  return text !== "" && Number.isFinite(x) ? x : undefined;
}

function readRules(text) {
  const rules = [...text].map((letter) => Object.keys(RULE_LETTERS).find((rule) => RULE_LETTERS[rule] === letter));
  const known = [...new Set(rules.filter(Boolean))];
  return known.length > 0 ? known : undefined;
}

/** `w12` a wall on cell 12, `g12.1` a goal worth 1, `r12.-0.5` a reward of −0.5 on entry, `s12` the start. */
function writeEdits(edits) {
  return edits
    .map(({ kind, cell, value }) => EDIT_LETTERS[kind] + cell + (value === undefined ? "" : `.${value}`))
    .join("_");
}

function readEdits(text) {
  const edits = text
    .split("_")
    .map((part) => /^([wgrs])(\d+)(?:\.(-?[\d.e-]+))?$/.exec(part))
    .filter((found) => found && !Number.isNaN(Number(found[3] ?? 0)));
  return edits.map(([, letter, cell, value]) => {
    const kind = Object.keys(EDIT_LETTERS).find((name) => EDIT_LETTERS[name] === letter);
    return value === undefined ? { kind, cell: Number(cell) } : { kind, cell: Number(cell), value: Number(value) };
  });
}

function readObserved(text) {
  const [t, place] = text.split(".").map(Number);
  return Number.isInteger(t) && Number.isInteger(place) ? { t, place } : undefined;
}

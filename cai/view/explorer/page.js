// The page: one state, one function that changes it, one that shows it.

"use strict";

const RULES = {
  POSTERIOR: "Given that all went well. It tilts chance, too.",
  VARIATIONAL: "The best policy, with a price for leaving the prior.",
  HARD: "The most expected reward. The prior costs nothing.",
  MAP: "The single most probable trajectory.",
  PLANNING: "The best actions, with chance tilted as in POSTERIOR.",
  RISK: "As POSTERIOR, with a temperature η for chance alone.",
};
const COLOURS_SHOWN = [
  { value: "value", label: "Value v", title: "What is still to come from a state at time t, reward units" },
  {
    value: "message",
    label: "Message β",
    title: "The backward message log β at time t, nats below its largest: ten nats are a factor of 22,026",
  },
  { value: "visits", label: "Visits", title: "Where the policy is at time t, as a probability" },
];
const TOOLS = [
  { value: "look", label: "Look" },
  { value: "wall", label: "Wall" },
  { value: "goal", label: "Goal" },
  { value: "reward", label: "Reward" },
  { value: "start", label: "Start" },
  { value: "observe", label: "Observe" },
];
const SETTINGS = ["alpha", "eta", "T", "variant", "edits"];
const PAINTS = ["wall", "goal", "reward"];
const MOST_PANELS = 4;
const MOST_ROWS = 400;

const byId = (id) => document.getElementById(id);

const page = {
  state: null,
  defaults: null,
  answers: null,
  sync: {},
  past: [],
  playing: null,
  frame: 0,
  lastMs: 0,
  guess: null,
  revealed: false,
  brush: 1,
  speed: 6,
};

function start() {
  const data = JSON.parse(byId("data").textContent);
  page.answers = new Answers(data);
  page.defaults = defaultsOf(data);
  page.state = sound(fromAddress(location.hash, page.defaults));
  byId("size").textContent = `· ${data.size}`;
  byId("notes").innerHTML = data.notes.map((note) => `<li>${escaped(note)}</li>`).join("");
  makeControls(data);
  makePanels();
  listen();
  render();
}

function defaultsOf(data) {
  const places = data.options.map(({ chosen }) => chosen);
  const state = {
    alpha: data.defaults.temperature,
    eta: data.defaults.eta,
    T: data.clock.start,
    variant: variantOf(data, places),
    rules: ["POSTERIOR", "VARIATIONAL", "HARD"],
    rule: "POSTERIOR",
    colour: "value",
    dynamics: "true",
    scale: "now",
    t: 0,
    place: null,
    layer: 0,
    action: null,
    tool: "look",
    edits: [],
    observed: null,
    question: 0,
    asking: 0,
    theme: "auto",
  };
  return { ...state, place: startCell(makeWorld(data, Engine.readModel(data, state.variant), [])) };
}

function within(observed, T, cells) {
  return observed !== null && observed.t >= 0 && observed.t <= T && observed.place >= 0 && observed.place < cells;
}

/** Bring a state from an address within what this world allows. */
function sound(state) {
  const { data } = page.answers;
  const count = data.options.reduce((product, { values }) => product * values.length, 1);
  const clamp = (x, low, high) => Math.min(high, Math.max(low, Math.round(x)));
  const T = clamp(state.T, 1, data.clock.longest);
  const cells = data.map.kind === "grid" ? data.map.rows * data.map.columns : data.states.count;
  const rules = state.rules.slice(0, MOST_PANELS);
  return {
    ...state,
    T,
    rules,
    t: clamp(state.t, 0, T),
    variant: clamp(state.variant, 0, count - 1),
    place: clamp(state.place, 0, cells - 1),
    alpha: state.alpha > 0 ? state.alpha : page.defaults.alpha,
    eta: state.eta === 0 ? page.defaults.eta : state.eta,
    rule: rules.includes(state.rule) ? state.rule : rules[0],
    edits: state.edits.filter(({ cell }) => cell < cells),
    observed: within(state.observed, T, cells) ? state.observed : null,
    layer: clamp(state.layer, 0, mostStatesInACell(data) - 1),
    question: clamp(state.question, 0, QUESTIONS.length - 1),
    action: state.action >= 0 && state.action < data.actions.count ? state.action : null,
  };
}

/** Change the state and show it; what was painted or observed can be undone. A new setting closes an open question. */
function change(patch, { undoable = false } = {}) {
  if (undoable) page.past.push({ edits: page.state.edits, observed: page.state.observed });
  const closes = SETTINGS.some((field) => field in patch) && !("asking" in patch);
  if (closes) Object.assign(page, { guess: null, revealed: false });
  page.state = sound({ ...page.state, ...(closes ? { asking: 0 } : {}), ...patch });
  if (!page.frame) page.frame = requestAnimationFrame(render);
}

function say(text) {
  byId("live").textContent = text;
}

// ------------------------------------------------------------------ showing

function render() {
  page.frame = 0;
  const began = performance.now();
  const { state, answers } = page;
  const world = answers.world(state);
  world.layer = state.layer;
  showTheme();
  showControls(world);
  showPanels(world);
  showInspected(world);
  showModel(world);
  showAsk(world);
  showQuestion(world);
  if (byId("table").open) showTable(world);
  page.lastMs = performance.now() - began;
  byId("timing").textContent = `The last change took ${page.lastMs.toFixed(0)} ms.`;
  clearTimeout(page.later);
  page.later = setTimeout(showEarned, 0);
  keepAddress();
}

/** In a notebook's frame there is no address to keep. */
function inNotebook() {
  return location.protocol === "about:";
}

function keepAddress() {
  clearTimeout(page.addressTimer);
  if (inNotebook()) return;
  page.addressTimer = setTimeout(() => {
    const address = toAddress(page.state, page.defaults);
    history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
  }, 150);
}

function darkNow() {
  return (
    page.state.theme === "dark" || (page.state.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches)
  );
}

function showTheme() {
  document.documentElement.dataset.theme = darkNow() ? "dark" : "light";
  byId("theme").textContent = darkNow() ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", darkNow() ? "Switch to light colours" : "Switch to dark colours");
}

function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "line", "surface", "wall", "blank", "hatch", "observed"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function showControls(world) {
  const { state, sync } = page;
  sync.alpha(state.alpha);
  sync.T(state.T);
  sync.layer(state.layer);
  sync.eta(state.eta);
  byId("eta").closest("label").hidden = !state.rules.includes("RISK");
  indicesOf(world.data, state.variant).forEach((place, i) => sync[`option ${i}`](place));
  sync.rules(state.rules);
  sync.colour(state.colour);
  sync.tool(state.tool);
  showBrush();
  showTimeline();
  byId("undo").disabled = page.past.length === 0;
  byId("reset").disabled = state.edits.length === 0 && !state.observed;
}

function showBrush() {
  const { tool, observed } = page.state;
  const box = byId("brush");
  const kind = tool === "goal" || tool === "reward" ? "worth" : tool === "observe" ? "observe" : "";
  if (box.dataset.kind === kind) return;
  box.dataset.kind = kind;
  box.className = kind ? "brush" : "";
  if (kind === "worth")
    box.innerHTML = `<label>worth <input type="number" id="worth" step="any" value="${page.brush}"> reward units</label>`;
  else if (kind === "observe")
    box.innerHTML = `<label>at time <input type="number" id="observe-time" min="0" max="${page.state.T}" step="1"
      value="${observed?.t ?? defaultObservedTime()}"></label>`;
  else box.innerHTML = "";
}

function defaultObservedTime() {
  return page.state.t > 0 ? page.state.t : Math.ceil(page.state.T / 2);
}

function showTimeline() {
  const { t, T, colour } = page.state;
  const time = byId("time");
  time.max = T;
  if (Number(time.value) !== t) time.value = t;
  const left = T - t;
  byId("time-text").innerHTML =
    `<b>t = ${t}</b>, ${left === 1 ? "1 step" : `${left} steps`} to go; ` +
    (colour === "visits" ? "visits pass forward" : "the message passes backward");
  time.setAttribute("aria-valuetext", `t = ${t}, ${left} steps to go`);
  byId("play").textContent = page.playing ? "Pause" : "Play";
  byId("step-back").disabled = t === 0;
  byId("step-on").disabled = t === T;
}

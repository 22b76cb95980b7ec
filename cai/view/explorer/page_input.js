// What a person does: sliders, choices, cards, play, the link. Clicks on maps are in page_paint.js, keys in page_keys.js.

const SLIDERS = {
  alpha: { id: "alpha", name: "temperature α", max: ALPHA_STEPS, title: "How much reward weighs against the prior" },
  eta: {
    id: "eta",
    name: "η of RISK",
    min: -ETA_STEPS,
    max: ETA_STEPS,
    title: "The temperature of chance. Negative: risk-averse. Positive: optimistic. Far from 0: chance as it is.",
  },
  T: { id: "T", name: "horizon T", min: 1, title: "How many steps there are" },
  layer: { id: "layer", name: "layer of states", title: "Several states lie on one cell: which of them is shown" },
};

function makeControls(data) {
  makeSliders(data);
  const rules = Engine.RULES.map((rule) => ({ value: rule, label: rule, title: RULES[rule] }));
  page.sync.rules = chips(byId("rules"), rules, changeRules);
  page.sync.colour = segment(byId("colours"), "colour", COLOURS_SHOWN, (colour) => change({ colour }));
  page.sync.tool = segment(byId("tools"), "tool", TOOLS, (tool) => change({ tool }));
  byId("legend-keys").innerHTML =
    `<span>Arrow: its area is the probability of the action. Hatched: ${MINUS}∞, no way to succeed.</span>
    <label>Scale <select id="span"><option value="now">of this time</option>
      <option value="all">of all times</option></select></label>
    <label>Visits <select id="dynamics"><option value="true">in the real world</option>
      <option value="own">as the rule imagines</option></select></label>`;
}

function makeSliders(data) {
  const { coldest, warmest } = data.defaults;
  const add = (field, made, codec, onChange) => {
    const { label, sync } = slider(made, codec, onChange ?? ((value) => change({ [field]: value })));
    byId("sliders").append(label);
    page.sync[field] = sync;
  };
  const rewards = (value) => `${show(value, 2)} reward units`;
  const steps = plainCodec((value) => (value === 1 ? "1 step" : `${value} steps`));
  const layers = mostStatesInACell(data);
  add("alpha", SLIDERS.alpha, logCodec(coldest, warmest, ALPHA_STEPS, rewards));
  add("eta", SLIDERS.eta, etaCodec(coldest, 10 * warmest));
  add("T", { ...SLIDERS.T, max: data.clock.longest }, steps, changeHorizon);
  add(
    "layer",
    { ...SLIDERS.layer, max: layers - 1 },
    plainCodec((value) => `${value + 1} of ${layers}`),
  );
  byId("layer").closest("label").hidden = layers === 1;
  data.options.forEach(({ name, labels }, i) => {
    const words = plainCodec((place) => labels[place]);
    add(`option ${i}`, { id: `option-${i}`, name, max: labels.length - 1 }, words, (place) =>
      changeOption(data, i, place),
    );
  });
}

/** A change of the horizon keeps the number of steps to go where it can, so that the maps stay comparable. */
function changeHorizon(T) {
  const { t, observed } = page.state;
  change({ T, t: Math.min(t, T), observed: observed && observed.t <= T ? observed : null });
}

function changeOption(data, i, place) {
  const places = indicesOf(data, page.state.variant);
  change({
    variant: variantOf(
      data,
      places.map((old, j) => (j === i ? place : old)),
    ),
  });
}

function changeRules(ticked) {
  const kept = page.state.rules.filter((rule) => ticked.includes(rule));
  const added = ticked.filter((rule) => !kept.includes(rule));
  if (kept.length + added.length > MOST_PANELS) say(`Four maps at most: ${kept[0]} makes room.`);
  change({ rules: [...kept, ...added].slice(-MOST_PANELS) });
}

function listen() {
  byId("time").addEventListener("input", (event) => change({ t: Number(event.target.value) }));
  byId("step-back").addEventListener("click", () => stepTime(-1));
  byId("step-on").addEventListener("click", () => stepTime(1));
  byId("play").addEventListener("click", togglePlay);
  byId("speed").addEventListener("change", (event) => changeSpeed(Number(event.target.value)));
  byId("span").addEventListener("change", (event) => change({ scale: event.target.value }));
  byId("dynamics").addEventListener("change", (event) => change({ dynamics: event.target.value }));
  byId("undo").addEventListener("click", undo);
  byId("reset").addEventListener("click", () => change({ edits: [], observed: null }, { undoable: true }));
  byId("theme").addEventListener("click", () => change({ theme: darkNow() ? "light" : "dark" }));
  byId("copy-link").addEventListener("click", copyLink);
  byId("open-help").addEventListener("click", openHelp);
  byId("table").addEventListener("toggle", () => change({}));
  document
    .querySelector("[data-skip]")
    .addEventListener("click", (event) => (event.preventDefault(), byId("maps-section").focus()));
  listenToMaps(byId("panels"));
  listenToCards();
  document.addEventListener("keydown", onKey);
  byId("copy-link").hidden = inNotebook();
  window.addEventListener("hashchange", openAddress);
  new ResizeObserver(() => change({})).observe(byId("panels"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => change({}));
}

/** A link within the page: its state, with its question not yet answered. */
function openAddress() {
  Object.assign(page, { guess: null, revealed: false });
  change(fromAddress(location.hash, page.defaults));
}

function listenToCards() {
  byId("brush").addEventListener("input", onBrush);
  byId("inspected").addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    change({ action: Number(button.dataset.action) });
    refocus(`[data-action="${button.dataset.action}"]`);
  });
  byId("ask").addEventListener(
    "click",
    (event) => event.target.id === "forget" && change({ observed: null }, { undoable: true }),
  );
  byId("question").addEventListener("click", onQuestion);
  byId("question").addEventListener("change", (event) => {
    page.guess = Number(event.target.value);
    change({});
    refocus(`input[name="guess"][value="${page.guess}"]`);
  });
}

function onBrush(event) {
  if (event.target.id === "worth" && Number.isFinite(event.target.valueAsNumber))
    page.brush = event.target.valueAsNumber;
  if (event.target.id === "observe-time" && page.state.observed && Number.isInteger(event.target.valueAsNumber)) {
    change({ observed: { ...page.state.observed, t: event.target.valueAsNumber } });
  }
}

function onQuestion(event) {
  if (event.target.id === "ask-me") {
    change({ asking: 1 });
    refocus('input[name="guess"]');
  }
  if (event.target.id === "next") {
    nextQuestion();
    refocus("#ask-me");
  }
  if (event.target.id === "reveal") {
    page.revealed = true;
    change({});
    requestAnimationFrame(() => requestAnimationFrame(() => say(document.querySelector(".answer").textContent)));
    refocus("#next");
  }
}

/** Put the focus back on what was pressed, after the card has been written anew. */
function refocus(selector) {
  requestAnimationFrame(() => document.querySelector(selector)?.focus());
}

// ------------------------------------------------------------------ time

function stepTime(step) {
  const { t, T } = page.state;
  const next = Math.min(T, Math.max(0, t + step));
  change({ t: next });
  if (!page.playing) say(`t = ${next}, ${T - next} steps to go.`);
}

/** The message runs from the last time to the first, the visits from the first to the last. */
function togglePlay() {
  if (page.playing) return pause();
  const forward = page.state.colour === "visits";
  const [first, last] = forward ? [0, page.state.T] : [page.state.T, 0];
  if (page.state.t === last) change({ t: first });
  page.playing = setInterval(() => playStep(forward, last), 1000 / page.speed);
  return change({});
}

function playStep(forward, last) {
  stepTime(forward ? 1 : -1);
  if (page.state.t === last) pause();
}

function pause() {
  clearInterval(page.playing);
  page.playing = null;
  change({});
}

function changeSpeed(speed) {
  page.speed = speed;
  if (!page.playing) return;
  pause();
  togglePlay();
}

async function copyLink() {
  const address = toAddress(page.state, page.defaults);
  const link = `${location.href.split("#")[0]}${address ? `#${address}` : ""}`;
  try {
    await navigator.clipboard.writeText(link);
    say("The link is copied. It opens the page as it is now.");
    byId("copy-link").textContent = "Copied";
  } catch {
    location.hash = address;
    say("The link is in the address bar.");
    byId("copy-link").textContent = "See the address";
  }
  setTimeout(() => (byId("copy-link").textContent = "Copy link"), 2000);
}

// The maps side by side: one panel a rule, one scale and one colour bar for all.

const FAINTEST = 10; // nats below the largest message at which the colours end

function makePanels() {
  const panel = (rule) => `<figure class="panel" data-rule="${rule}">
    <figcaption><span class="name">${rule}</span><p class="gloss"></p><dl class="numbers"></dl></figcaption>
    <canvas class="map" tabindex="0" role="application" aria-roledescription="map"
      aria-describedby="map-hint"></canvas></figure>`;
  byId("panels").innerHTML = page.state.rules.map(panel).join("");
  byId("panels").dataset.rules = page.state.rules.join();
}

/** The numbers that colour shows, for each rule: an array and where the time begins in it. */
function shownNumbers() {
  const { state, answers } = page;
  const { S } = answers.world(state).model;
  return state.rules.map((rule) => {
    if (state.colour === "visits") return { array: answers.visits(state, rule), from: state.t * S };
    const { v } = answers.messages(state, rule);
    const from = state.t * S;
    if (state.colour === "value") return { array: v, from };
    return { array: logMessage(v, from, S, state.alpha), from: 0 };
  });
}

/** log β at one time, nats below its largest, from v = α log β. */
function logMessage(v, from, S, alpha) {
  const largest = v.subarray(from, from + S).reduce((one, other) => Math.max(one, other), -Infinity);
  return Float64Array.from({ length: S }, (_, s) =>
    largest === -Infinity ? -Infinity : (v[from + s] - largest) / alpha,
  );
}

/** The range of all maps together; where nothing can happen any more a value does not count. */
function commonScale(numbers, { S, isOver }) {
  const { colour, scale } = page.state;
  if (colour === "message") return makeScale(-FAINTEST, 0);
  const all =
    scale === "all"
      ? numbers.map(({ array }) => [array, 0, array.length])
      : numbers.map(({ array, from }) => [array, from, from + S]);
  const counts = (i) => colour === "visits" || !isOver(i % S);
  const [low, high] = finiteRange(all, counts);
  return makeScale(colour === "visits" ? 0 : low, high, colour === "visits");
}

function showPanels(world) {
  const { state } = page;
  if (byId("panels").dataset.rules !== state.rules.join()) makePanels();
  byId("panels").style.setProperty("--across", state.rules.length);
  byId("panels").dataset.across = state.rules.length;
  const numbers = shownNumbers();
  const scale = commonScale(numbers, world);
  const hidden = hides();
  const look = {
    visits: state.colour === "visits",
    scale,
    theme: themeColours(),
    place: state.place,
    observed: state.observed?.place ?? null,
  };
  const figures = [...byId("panels").children];
  state.rules.forEach((rule, i) => {
    const { array, from } = numbers[i];
    const values = hidden ? null : array.subarray(from, from + world.S);
    const canvas = figures[i].querySelector("canvas");
    canvas.classList.toggle("painting", PAINTS.includes(state.tool));
    drawMap(canvas, world, { ...look, values, policy: hidden ? null : policyNow(rule) });
  });
  state.rules.forEach((rule, i) => showCaption(figures[i], world, rule, hidden)); // after all maps: one layout, not three
  showLegend(scale, hidden);
}

function policyNow(rule) {
  const { state, answers } = page;
  const { policy, model, possible } = answers.messages(state, rule);
  const from = Math.min(state.t, state.T - 1) * model.S * model.A;
  if (!possible || state.t === state.T) return null;
  return policy.subarray(from, from + model.S * model.A);
}

function showCaption(figure, world, rule, hidden) {
  const { state, answers } = page;
  const messages = answers.messages(state, rule);
  figure.querySelector(".gloss").textContent = messages.possible ? glossOf(world, rule) : messages.words;
  figure.querySelector(".numbers").innerHTML = headNumbers(rule, messages, hidden);
  const title = COLOURS_SHOWN.find(({ value }) => value === state.colour).label;
  const spoken = hidden ? "Hidden." : spokenCell(world, rule);
  figure.querySelector("canvas").setAttribute("aria-label", `${rule}: map of ${title} at t = ${state.t}. ${spoken}`);
}

function glossOf(world, rule) {
  const { observed } = page.state;
  if (rule !== "POSTERIOR" || !observed) return RULES[rule];
  return `Given that all went well, and that the agent is at ${placeName(world, observed.place)} at t = ${observed.t}.`;
}

/** What a rule promises, what its policy really earns (filled in later), and the evidence it answers for. */
function headNumbers(rule, { value, nats }, hidden) {
  const number = (name, x, unit, kind = "") => `<div><dt>${name}</dt>
    <dd><span class="${kind}">${hidden ? "?" : x}</span> <small>${unit}</small></dd></div>`;
  const evidence = { POSTERIOR: "log Z", VARIATIONAL: "best ELBO" }[rule];
  return [
    number("promises at the start", show(value), "reward units"),
    number("really earns", "…", "reward units", "earned"),
    evidence ? number(evidence, show(nats), "nats") : "",
  ].join("");
}

/** What each policy really earns takes a pass forward: it is filled in once the maps are drawn. */
function showEarned() {
  if (hides()) return;
  page.state.rules.forEach((rule, i) => {
    byId("panels").children[i].querySelector(".earned").textContent = show(page.answers.earned(page.state, rule));
  });
}

/** The selected cell in one sentence, for a screen reader. */
function spokenCell(world, rule) {
  const { state, answers } = page;
  const s = world.stateOf(state.place);
  const where = [placeName(world, state.place), placeKind(world, state.place)].filter(Boolean).join(", ");
  if (s < 0) return `${where}.`;
  const v = answers.messages(state, rule).v[state.t * world.S + s];
  const policy = policyNow(rule)?.subarray(s * world.A, (s + 1) * world.A);
  const best = policy ? policy.indexOf(Math.max(...policy)) : -1;
  const does =
    best >= 0 && world.chooses(s) ? `, mostly ${world.actions[best]}, probability ${show(policy[best], 2)}` : "";
  return `${where}: worth ${show(v)} reward units${does}.`;
}

function showLegend(scale, hidden) {
  const { colour, scale: span, t, dynamics } = page.state;
  const titles = {
    value: `value v at t = ${t}, reward units`,
    message: `message log β at t = ${t}, nats below its largest; darkest: ${FAINTEST} or more`,
    visits: `probability to be here at t = ${t}, square-root scale`,
  };
  byId("scale-title").textContent = hidden ? "hidden until you have answered the question" : titles[colour];
  byId("gradient").style.background = gradient();
  const middle = scale.root ? scale.low + (scale.high - scale.low) / 4 : (scale.low + scale.high) / 2;
  [
    ["scale-low", scale.low],
    ["scale-middle", middle],
    ["scale-high", scale.high],
  ].forEach(([id, x]) => (byId(id).textContent = hidden ? "" : show(x, 3)));
  byId("span").value = span;
  byId("span").closest("label").hidden = colour === "message";
  byId("dynamics").value = dynamics;
  byId("dynamics").closest("label").hidden = colour !== "visits";
}

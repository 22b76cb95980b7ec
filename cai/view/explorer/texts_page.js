// The page of texts: one state, one function that changes it, one that shows it.

"use strict";

const WRITERS = {
  optimum: { name: "optimum", gloss: "k1 in the reward: the exact conditional p(text | O)." },
  k2: { name: "k2", gloss: "k2, or ratio × k3, in the loss: no letter is charged for the KL of later ones." },
  k3: { name: "k3", gloss: "k3 in the loss: a polynomial tilt in the place of an exponential one." },
  k1: { name: "k1", gloss: "k1 in the loss: no regulariser, any maximiser of the reward; here the one next to the reference." },
  reference: { name: "reference", gloss: "What writes without a reward." },
};
const NAMES = Object.fromEntries(Object.entries(WRITERS).map(([kind, { name }]) => [kind, name]));
const VARIANTS = ["optimum", "k2", "k3", "k1"];
const ALPHAS = [0.02, 2];
const GRID = 29;
const TEXTS = 6;
const PACE = 70;

const texts = {
  data: null,
  reference: null,
  state: null,
  world: null,
  curves: null,
  uniforms: null,
  written: Infinity,
  timer: 0,
  frame: 0,
  policies: null,
  accounts: null,
};
const at = (id) => document.getElementById(id);

function startTexts() {
  texts.data = JSON.parse(at("data").textContent);
  texts.reference = Texts.reference(texts.data);
  const { pattern, horizon, alpha } = texts.data.first;
  texts.state = { pattern, horizon, alpha, ends: false, prefix: "", seed: 1, theme: "auto" };
  at("size").textContent = `· ${texts.data.size}`;
  at("pattern").value = pattern;
  at("horizon").max = texts.data.longest;
  at("horizon").value = horizon;
  at("alpha").value = String(Math.round(200 * shareOf(alpha)));
  at("writers").innerHTML = Object.keys(NAMES).map(writerFrame).join("");
  listen();
  changeTexts({});
}

function listen() {
  at("pattern").addEventListener("input", (event) => changeTexts({ pattern: event.target.value }));
  at("where").addEventListener("change", (event) => changeTexts({ ends: event.target.value === "ends" }));
  at("alpha").addEventListener("input", (event) => changeTexts({ alpha: alphaOf(Number(event.target.value) / 200) }));
  at("horizon").addEventListener("input", (event) => changeTexts({ horizon: Number(event.target.value) }));
  at("prefix").addEventListener("input", (event) => changeTexts({ prefix: event.target.value }));
  at("theme").addEventListener("click", () => changeTexts({ theme: darkPage() ? "light" : "dark" }));
  at("write").addEventListener("click", () => {
    changeTexts({ seed: texts.state.seed + 1 });
    write();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changeTexts({}));
  addEventListener("resize", () => changeTexts({}));
}

const shareOf = (alpha) => Math.log(alpha / ALPHAS[0]) / Math.log(ALPHAS[1] / ALPHAS[0]);
const alphaOf = (share) => ALPHAS[0] * (ALPHAS[1] / ALPHAS[0]) ** share;

function darkPage() {
  const { theme } = texts.state;
  return theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
}

/** Change the state, and show it at the next frame. */
function changeTexts(change) {
  const before = texts.state;
  texts.state = { ...before, ...change };
  if (["pattern", "horizon", "ends"].some((key) => key in change)) texts.world = null;
  if (!texts.frame) texts.frame = requestAnimationFrame(showTexts);
}

/** Say what is wrong with a text that was typed; empty where nothing is. */
function wrongWith(word, horizon) {
  const unknown = [...word].find((letter) => !texts.data.letters.includes(letter));
  if (unknown !== undefined) return `“${unknown}” is no letter of the reference: ${texts.data.letters.replace(" ", "␣")}`;
  if (!word) return "Type a pattern of one letter or more.";
  return word.length > horizon ? `A text of ${horizon} letters is too short for ${word.length}.` : "";
}

const numbersOf = (word) => [...word].map((letter) => texts.data.letters.indexOf(letter));
const spaced = (word) => escaped(word).replace(/ /g, "␣");

function showTexts() {
  texts.frame = 0;
  const { pattern, horizon, alpha, ends } = texts.state;
  document.documentElement.dataset.theme = darkPage() ? "dark" : "light";
  at("theme").textContent = darkPage() ? "Light" : "Dark";
  at("theme").setAttribute("aria-label", darkPage() ? "Switch to light colours" : "Switch to dark colours");
  at("alpha-text").textContent = `${show(alpha, 2)} reward units`;
  at("horizon-text").textContent = String(horizon);
  const wrong = wrongWith(pattern, horizon);
  at("said").textContent = wrong || `looks for ${pattern.replace(/ /g, "␣")}`;
  at("said").className = wrong ? "wrong" : "";
  at("pattern").setAttribute("aria-invalid", String(wrong !== ""));
  if (wrong) return;
  const began = performance.now();
  at("goal").textContent = `${ends ? "ends with" : "contains"} “${pattern.replace(/ /g, "␣")}”`;
  if (!texts.world) {
    texts.world = Texts.world(texts.reference, numbersOf(pattern), horizon, ends);
    texts.curves = curvesOf(texts.world);
  }
  solveTexts(alpha);
  showWriters();
  showCharts();
  showNumbers();
  at("timing").textContent = `${texts.world.S} states, ${show(performance.now() - began, 2)} ms.`;
}

function solveTexts(alpha) {
  texts.policies = Object.fromEntries(Object.keys(NAMES).map((kind) => [kind, Texts.solve(texts.world, kind, alpha)]));
  const best = texts.policies.optimum;
  texts.accounts = Object.fromEntries(
    Object.entries(texts.policies).map(([kind, policy]) => [kind, Texts.account(texts.world, policy, alpha, best)])
  );
}

/** The account of each variant at every α of the grid, from warm to cold. */
function curvesOf(world) {
  const greedy = Texts.solve(world, "k1", 1);
  return Array.from({ length: GRID }, (_, n) => {
    const alpha = alphaOf(1 - n / (GRID - 1));
    const best = Texts.solve(world, "optimum", alpha);
    const policy = { optimum: best, k1: greedy };
    const each = VARIANTS.map((kind) => [kind, Texts.account(world, policy[kind] ?? Texts.solve(world, kind, alpha), alpha, best)]);
    return { alpha, ...Object.fromEntries(each) };
  });
}

function writerFrame(kind) {
  const { name, gloss } = WRITERS[kind];
  return `<article class="writer" id="writer-${kind}" style="--colour: var(--${kind})"><h3>${name}</h3><p class="gloss">${gloss}</p><dl class="figures"></dl><ol></ol></article>`;
}

/** A generator of uniform numbers that a seed fixes (mulberry32). */
function uniform(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function showWriters() {
  const { pattern, ends, seed, horizon } = texts.state;
  const draw = uniform(seed);
  const uniforms = Array.from({ length: TEXTS }, () => Float64Array.from({ length: texts.data.longest }, draw));
  for (const kind of Object.keys(NAMES)) {
    const frame = at(`writer-${kind}`);
    const { accepted, gap } = texts.accounts[kind];
    const figures = [["pattern", showPercent(accepted)], ["nats short", show(gap, 3)]];
    frame.querySelector("dl").innerHTML = figures.map(([what, word]) => `<div><dt>${what}</dt><dd>${word}</dd></div>`).join("");
    frame.querySelector("ol").innerHTML = uniforms
      .map((numbers) => {
        const letters = Texts.sample(texts.world, texts.policies[kind], numbers);
        return `<li>${marked(letters.map((x) => texts.data.letters[x]).join("").slice(0, texts.written), pattern, ends, horizon)}</li>`;
      })
      .join("");
  }
}

/** A text with the pattern marked where it counts, and its spaces to be seen. */
function marked(text, pattern, ends, horizon) {
  const found = ends ? (text.length === horizon && text.endsWith(pattern) ? horizon - pattern.length : -1) : text.indexOf(pattern);
  const seen = (part) => escaped(part).replace(/ /g, '<span class="gap">␣</span>');
  if (found < 0) return seen(text);
  const end = found + pattern.length;
  return `${seen(text.slice(0, found))}<mark>${seen(text.slice(found, end))}</mark>${seen(text.slice(end))}`;
}

/** Write the texts letter by letter; at once where motion is not wanted. */
function write() {
  clearInterval(texts.timer);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !texts.policies) return;
  texts.written = 0;
  texts.timer = setInterval(() => {
    texts.written += 1;
    if (texts.written >= texts.state.horizon) {
      clearInterval(texts.timer);
      texts.written = Infinity;
    }
    showWriters();
  }, PACE);
}

function showCharts() {
  const { alpha, prefix, horizon } = texts.state;
  const { curves, accounts, policies, world } = texts;
  const wide = (id) => Math.max(280, at(id).clientWidth);
  const marks = Object.fromEntries(
    VARIANTS.map((kind) => [kind, { name: NAMES[kind], point: [accounts[kind].kl, accounts[kind].accepted], gap: accounts[kind].gap }])
  );
  const over = (kinds, read) => Object.fromEntries(kinds.map((kind) => [kind, curves.map((row) => read(row, row[kind]))]));
  at("plane").innerHTML = planeChart(wide("plane"), over(VARIANTS, (_, { kl, accepted }) => [kl, accepted]), marks, alpha);
  const { optimum, ...others } = marks;
  const short = over(Object.keys(others), (row, { gap }) => [row.alpha, gap]);
  at("drift").innerHTML = driftChart(wide("drift"), short, others, alpha, ALPHAS);
  const lost = Object.fromEntries(Object.keys(others).map((kind) => [kind, accounts[kind].lost]));
  at("lost").innerHTML = lostChart(wide("lost"), lost, NAMES);
  const letters = numbersOf(prefix);
  const wrong = letters.includes(-1) || letters.length >= horizon;
  at("prefix").setAttribute("aria-invalid", String(wrong));
  if (wrong) return;
  const from = (letters.length * world.S + Texts.after(world, letters)) * world.V;
  const probs = Object.entries(policies).map(([kind, policy]) => [kind, Array.from(policy.subarray(from, from + world.V), Math.exp)]);
  at("next").innerHTML = nextChart(wide("next"), texts.data.letters, Object.fromEntries(probs), NAMES);
}

function showNumbers() {
  const heads = ["policy", "chance of the pattern", "KL to the reference, nats", "ELBO, nats", "nats short", "entropy per letter, nats"];
  const rows = Object.entries(texts.accounts).map(([kind, { accepted, kl, elbo, gap, entropy }]) => {
    const cells = [accepted, kl, elbo, gap, entropy].map((x) => `<td>${show(x, 5)}</td>`).join("");
    return `<tr data-policy="${kind}"><th scope="row"><span class="dot" style="--colour: var(--${kind})"></span>${NAMES[kind]}</th>${cells}</tr>`;
  });
  const head = heads.map((word) => `<th scope="col">${word}</th>`).join("");
  const caption = `log Z = ${show(texts.accounts.optimum.elbo, 5)} nats at α = ${show(texts.state.alpha, 2)}`;
  at("numbers").innerHTML = `<table><caption>${caption}</caption><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

// Charts of the page of texts, as SVG: each function takes plain numbers and returns the graphic and its words.

"use strict";

const CHART = { left: 46, right: 14, top: 12, bottom: 36, height: 270 };

/** A chart in the making: places on its axes, and what has been drawn. */
function chart(width, xs, ys, { log = false } = {}) {
  const inner = [width - CHART.left - CHART.right, CHART.height - CHART.top - CHART.bottom];
  const at = log ? Math.log : (x) => x;
  const share = (x, [low, high]) => (at(x) - at(low)) / (at(high) - at(low) || 1);
  const x = (value) => CHART.left + inner[0] * share(value, xs);
  const y = (value) => CHART.top + inner[1] * (1 - (value - ys[0]) / (ys[1] - ys[0] || 1));
  return { width, xs, ys, x, y, parts: [] };
}

/** Ticks at 1, 2, 2.5 or 5 times a power of ten, four or so. */
function ticks(low, high, count = 4) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-9); n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function axes(c, below, xticks) {
  const floor = CHART.height - CHART.bottom;
  for (const value of ticks(...c.ys)) {
    c.parts.push(`<line class="grid" x1="${CHART.left}" x2="${c.width - CHART.right}" y1="${c.y(value)}" y2="${c.y(value)}"/>`);
    c.parts.push(`<text class="quiet" x="${CHART.left - 7}" y="${c.y(value) + 4}" text-anchor="end">${show(value, 3)}</text>`);
  }
  for (const [value, word] of xticks) {
    c.parts.push(`<text class="quiet" x="${c.x(value)}" y="${floor + 16}" text-anchor="middle">${word}</text>`);
  }
  c.parts.push(`<line class="axis" x1="${CHART.left}" x2="${c.width - CHART.right}" y1="${floor}" y2="${floor}"/>`);
  c.parts.push(`<text x="${c.width - CHART.right}" y="${floor + 31}" text-anchor="end">${below}</text>`);
}

function curve(c, points, colour, style = "") {
  const path = points.map(([x, y]) => `${c.x(x).toFixed(1)},${c.y(y).toFixed(1)}`).join(" ");
  c.parts.push(`<polyline class="curve" points="${path}" style="stroke: var(--${colour}); ${style}"/>`);
}

function dot(c, [x, y], colour, size = 5) {
  const place = `cx="${c.x(x).toFixed(1)}" cy="${c.y(y).toFixed(1)}"`;
  c.parts.push(`<circle ${place} r="${size}" style="fill: var(--${colour}); stroke: var(--surface); stroke-width: 1.5"/>`);
}

/** Write names beside points, one below another where they would overlap. */
function names(c, entries) {
  const floor = CHART.height - CHART.bottom - 4;
  const placed = [];
  const ordered = entries.map(({ point, word, colour }) => ({ x: c.x(point[0]), y: c.y(point[1]) + 4, word, colour }));
  for (const one of ordered.sort((a, b) => a.y - b.y)) {
    const near = placed.filter((other) => Math.abs(other.x - one.x) < 85);
    for (const other of near) if (Math.abs(other.y - one.y) < 15) one.y = other.y + 15;
    placed.push(one);
  }
  const over = Math.max(0, ...placed.map(({ y }) => y - floor));
  for (const { x, y, word, colour } of placed) {
    const left = x > c.width * 0.6;
    const high = over && y > floor - 60 ? y - over : y;
    const place = `x="${(left ? x - 11 : x + 11).toFixed(1)}" y="${high.toFixed(1)}" text-anchor="${left ? "end" : "start"}"`;
    c.parts.push(`<text class="name" ${place} style="fill: var(--${colour})">${word}</text>`);
  }
}

function drawn(c, words) {
  const label = escaped(words);
  return `<svg viewBox="0 0 ${c.width} ${CHART.height}" role="img" aria-label="${label}">${c.parts.join("")}</svg>`;
}

/** Chance of the pattern against KL to the reference: curves over α, marks at this α, the tangent of slope α. */
function planeChart(width, curves, marks, alpha) {
  const far = Math.max(...Object.values(curves).flat().map(([kl]) => kl), 0.1) * 1.06;
  const c = chart(width, [0, far], [0, 1.06]);
  axes(c, "KL to the reference, nats", ticks(0, far).map((kl) => [kl, show(kl, 3)]));
  const [kl, accepted] = marks.optimum.point;
  const from = Math.max(0, kl + (0 - accepted) / alpha);
  const to = Math.min(far, kl + (1.06 - accepted) / alpha);
  const line = [from, to].map((at) => [c.x(at), c.y(accepted + alpha * (at - kl))]);
  c.parts.push(`<line class="here" x1="${line[0][0]}" y1="${line[0][1]}" x2="${line[1][0]}" y2="${line[1][1]}"/>`);
  for (const [kind, points] of Object.entries(curves)) curve(c, points, kind);
  for (const [kind, { point }] of Object.entries(marks).reverse()) dot(c, point, kind);
  names(c, Object.entries(marks).map(([kind, { point, name }]) => ({ point, word: name, colour: kind })));
  const told = Object.values(marks).map(({ name, point }) => `${name}: ${show(point[1], 3)} at ${show(point[0], 3)} nats`);
  return drawn(c, `Chance of the pattern against KL to the reference. ${told.join("; ")}.`);
}

/** Nats short of the optimum against α, logarithmic from cold to warm. */
function driftChart(width, curves, marks, alpha, range) {
  const most = Math.max(...Object.values(curves).flat().map(([, gap]) => gap), 1e-3) * 1.08;
  const c = chart(width, range, [0, most], { log: true });
  axes(c, "temperature α, reward units", [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2].map((a) => [a, String(a)]));
  c.parts.push(`<line class="here" x1="${c.x(alpha)}" x2="${c.x(alpha)}" y1="${CHART.top}" y2="${CHART.height - CHART.bottom}"/>`);
  for (const [kind, points] of Object.entries(curves)) curve(c, points, kind);
  for (const [kind, { gap }] of Object.entries(marks)) dot(c, [alpha, gap], kind);
  const entries = Object.entries(marks).map(([kind, { gap, name }]) => ({ point: [alpha, gap], word: name, colour: kind }));
  names(c, entries);
  const told = Object.values(marks).map(({ name, gap }) => `${name}: ${show(gap, 3)}`);
  return drawn(c, `Nats short of the optimum at α = ${show(alpha, 2)}. ${told.join("; ")}.`);
}

/** The nats lost at each position of the text, bars side by side. */
function lostChart(width, lost, names_) {
  const kinds = Object.keys(lost);
  const T = lost[kinds[0]].length;
  const most = Math.max(...kinds.flatMap((kind) => [...lost[kind]]), 1e-3) * 1.08;
  const c = chart(width, [0.5, T + 0.5], [0, most]);
  const every = Math.ceil(T / 12);
  axes(c, "letter of the text", Array.from({ length: T }, (_, t) => [t + 1, t % every ? "" : String(t + 1)]));
  const wide = (c.x(2) - c.x(1)) / (kinds.length + 1);
  kinds.forEach((kind, n) =>
    lost[kind].forEach((nats, t) => {
      const left = c.x(t + 0.5) + wide * (n + 0.5);
      const high = c.y(0) - c.y(Math.max(0, nats));
      c.parts.push(
        `<rect x="${left.toFixed(1)}" y="${(c.y(0) - high).toFixed(1)}" width="${(wide * 0.92).toFixed(1)}" height="${high.toFixed(1)}" style="fill: var(--${kind})"/>`
      );
    })
  );
  kinds.forEach((kind, n) => {
    const place = `x="${c.width - CHART.right}" y="${CHART.top + 14 + 15 * n}" text-anchor="end"`;
    c.parts.push(`<text class="name" ${place} style="fill: var(--${kind})">${names_[kind]}</text>`);
  });
  const told = kinds.map((kind) => `${names_[kind]}: most at letter ${lost[kind].indexOf(Math.max(...lost[kind])) + 1}`);
  return drawn(c, `Nats lost by position. ${told.join("; ")}.`);
}

/** The probability of each next letter: bars of the reference, marks of the policies. */
function nextChart(width, letters, probs, names_) {
  const V = letters.length;
  const kinds = Object.keys(probs);
  const most = Math.max(...kinds.flatMap((kind) => probs[kind]), 0.05) * 1.06;
  const c = chart(width, [-0.5, V - 0.5], [0, most]);
  axes(c, "", [...letters].map((letter, x) => [x, letter === " " ? "␣" : escaped(letter)]));
  const wide = (c.x(1) - c.x(0)) * 0.78;
  probs.reference.forEach((p, x) => {
    const high = c.y(0) - c.y(p);
    c.parts.push(`<rect x="${(c.x(x) - wide / 2).toFixed(1)}" y="${(c.y(0) - high).toFixed(1)}" width="${wide.toFixed(1)}" height="${high.toFixed(1)}" style="fill: var(--reference); opacity: 0.35"/>`);
  });
  const others = kinds.filter((kind) => kind !== "reference").reverse();
  others.forEach((kind, n) =>
    probs[kind].forEach((p, x) => {
      if (p < most / 200) return;
      const shift = (n - (others.length - 1) / 2) * wide * 0.22;
      dot(c, [x + shift / (c.x(1) - c.x(0)), p], kind, kind === "optimum" ? 4.5 : 3.5);
    })
  );
  const told = kinds.map((kind) => {
    const best = probs[kind].indexOf(Math.max(...probs[kind]));
    return `${names_[kind]}: ${letters[best] === " " ? "space" : letters[best]} ${showPercent(probs[kind][best])}`;
  });
  return drawn(c, `The likeliest next letter. ${told.join("; ")}.`);
}

// A map of states that are no grid: nodes where the layout puts them,
// the policy as arcs to where each action most likely leads.

const MARGIN = 0.09; // of the width, around the nodes
const LARGEST_NODE = 20;

function drawGraph(pen, world, look) {
  const places = nodePlaces(pen, world);
  const radius = nodeRadius(pen, world);
  drawArcs(pen.context, world, look, places, radius);
  for (let s = 0; s < world.S; s++) drawNode(pen.context, world, look, s, places[s], radius);
  drawNodeRings(pen.context, world, look, places, radius);
}

/** The nodes' centres in CSS pixels; `world.xy` is in the unit square. */
function nodePlaces(pen, world) {
  const edge = MARGIN * pen.width;
  return world.xy.map(([x, y]) => [edge + x * (pen.width - 2 * edge), edge + y * (pen.height - 2 * edge)]);
}

function nodeRadius(pen, world) {
  return Math.max(2, Math.min(LARGEST_NODE, 0.34 * world.spacing * pen.width * (1 - 2 * MARGIN)));
}

function drawArcs(context, world, look, places, radius) {
  for (const { from, to, actions } of world.arcs) {
    const p = look.policy ? actions.reduce((sum, a) => sum + look.policy[from * world.A + a], 0) : 0;
    context.strokeStyle = context.fillStyle = p > 0.01 ? look.theme.ink : look.theme.line;
    context.globalAlpha = p > 0.01 ? 0.25 + 0.75 * p : 1;
    context.lineWidth = p > 0.01 ? 0.5 + Math.min(2.5, 0.2 * radius) * Math.sqrt(p) : 0.5;
    if (from === to) drawLoop(context, places[from], radius, p);
    else drawArc(context, world, places[from], places[to], radius, p);
  }
  context.globalAlpha = 1;
}

/** A bent line from rim to rim, with a head as large as its probability; those there and back bend apart. */
function drawArc(context, world, [x0, y0], [x1, y1], radius, p) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [right, down] = [(x1 - x0) / length, (y1 - y0) / length];
  const bend = world.chain ? Math.min(0.42 * length, 0.36 * context.canvas.clientHeight) : 0.12 * length;
  const [middleX, middleY] = [(x0 + x1) / 2 + 2 * down * bend * 0.5, (y0 + y1) / 2 - 2 * right * bend * 0.5];
  const [startX, startY] = towards([x0, y0], [middleX, middleY], radius);
  const [endX, endY] = towards([x1, y1], [middleX, middleY], radius + 1);
  context.beginPath();
  context.moveTo(startX, startY);
  context.quadraticCurveTo(middleX, middleY, endX, endY);
  context.stroke();
  if (p > 0.01) drawHead(context, [middleX, middleY], [endX, endY], 2.5 + 0.3 * radius * Math.sqrt(p));
}

function drawHead(context, [fromX, fromY], [x, y], size) {
  const angle = Math.atan2(y - fromY, x - fromX);
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - size * 1.6 * Math.cos(angle - 0.4), y - size * 1.6 * Math.sin(angle - 0.4));
  context.lineTo(x - size * 1.6 * Math.cos(angle + 0.4), y - size * 1.6 * Math.sin(angle + 0.4));
  context.fill();
}

function drawLoop(context, [x, y], radius, p) {
  const size = 0.55 * radius;
  context.beginPath();
  context.arc(x, y - radius - 0.6 * size, size, 0.35 * Math.PI, 2.65 * Math.PI);
  context.stroke();
  if (p > 0.01 && radius > 5)
    drawHead(context, [x + 1.5 * size, y - radius - 0.7 * size], [x + 0.45 * size, y - radius], 2 + 0.25 * radius);
}

function towards([x0, y0], [x1, y1], distance) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  return [x0 + ((x1 - x0) / length) * distance, y0 + ((y1 - y0) / length) * distance];
}

function drawNode(context, world, look, s, [x, y], radius) {
  const value = valueOf(world, look, s);
  const finite = Number.isFinite(value);
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = isWall(world, s) ? look.theme.wall : finite ? look.scale.fill(value) : look.theme.blank;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = look.theme.surface;
  context.stroke();
  if (radius < 11) return;
  const text = world.markOf(s) || (finite ? showShort(value) : "");
  context.font = `${Math.min(12, 0.72 * radius, (3 * radius) / Math.max(1, text.length))}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = finite ? look.scale.ink(value) : look.theme.ink;
  context.fillText(text, x, y);
}

function drawNodeRings(context, world, look, places, radius) {
  const square = (s) => [places[s][0] - radius - 4, places[s][1] - radius - 4, 2 * radius + 8, 2 * radius + 8];
  if (look.observed !== null) ring(context, square(look.observed), look.theme.observed, "#ffffff", true);
  if (look.place !== null) ring(context, square(look.place), look.theme.ink, look.theme.surface, false);
}

/** For each state and action the likeliest next state, actions to the same one together. */
function arcsOf(S, A, likeliest) {
  const arcs = new Map();
  for (let s = 0; s < S; s++) {
    for (let a = 0; a < A; a++) {
      const to = likeliest(s, a);
      if (to < 0) continue;
      const key = s * S + to;
      if (!arcs.has(key)) arcs.set(key, { from: s, to, actions: [] });
      arcs.get(key).actions.push(a);
    }
  }
  return [...arcs.values()];
}

/** The smallest distance between two neighbours, as a share of the width; from a sample where there are many nodes. */
function spacingOf(xy) {
  const sample = xy.length > 300 ? xy.filter((_, i) => i % Math.ceil(xy.length / 300) === 0) : xy;
  let least = 1;
  for (const [x0, y0] of sample) {
    for (const [x1, y1] of xy) {
      const distance = Math.hypot(x1 - x0, y1 - y0);
      if (distance > 1e-9 && distance < least) least = distance;
    }
  }
  return least;
}

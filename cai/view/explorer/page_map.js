// One map: a number for each state as colour, the policy as arrows.
// Drawn on a canvas: thousands of cells in a few milliseconds.

const REACH = 0.37; // length of the arrow of a certain action, in cells
const ARROW = [
  [-0.55, 0.09],
  [0.35, 0.09],
  [0.35, 0.3],
  [1, 0],
  [0.35, -0.3],
  [0.35, -0.09],
  [-0.55, -0.09],
];
const ROOM_FOR_DIGITS = 38; // CSS pixels of a cell below which it carries no digits
const TALLEST = 620; // CSS pixels of a map
const ROOM_FOR_ARROWS = 9;
const ROOM_FOR_LINES = 11;

/**
 * Draw a map.
 *
 * `look`: { values [S] or null where the answer is hidden, policy [S·A] or null, scale, selected place, observed place,
 * ink colours of the theme }; `world`: the world of the page.
 */
function drawMap(canvas, world, look) {
  const pen = fitted(canvas, world);
  if (world.grid) drawGrid(pen, world, look);
  else drawGraph(pen, world, look);
}

/** Size the canvas to its panel, and no taller than a screen, for the screen's pixels; return its context in CSS pixels. */
function fitted(canvas, world) {
  const ratio = world.grid ? world.rows / world.columns : world.aspect;
  const width = Math.round(Math.min(canvas.parentElement.clientWidth, TALLEST / ratio));
  const height = Math.round(width * ratio);
  const density = window.devicePixelRatio || 1;
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
  }
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function drawGrid(pen, world, look) {
  const size = pen.width / world.columns;
  for (let cell = 0; cell < world.rows * world.columns; cell++) drawCell(pen, world, look, cell, size);
  drawRings(pen, world, look, size);
}

function drawCell(pen, world, look, cell, size) {
  const x = (cell % world.columns) * size;
  const y = Math.floor(cell / world.columns) * size;
  const gap = size >= ROOM_FOR_LINES ? 0.5 : 0;
  const box = { x: x + gap, y: y + gap, size: size - 2 * gap };
  const s = world.stateOf(cell);
  if (s < 0) {
    pen.context.fillStyle = look.theme.wall;
    pen.context.fillRect(box.x, box.y, box.size, box.size);
  } else {
    const ink = drawGround(pen.context, look, valueOf(world, look, s), box);
    if (look.policy && world.chooses(s)) drawArrows(pen.context, world, look.policy, s, box, ink);
    if (look.values && !silent(world, look, s) && size >= ROOM_FOR_DIGITS)
      drawDigits(pen.context, look.values[s], box, ink);
    drawMark(pen.context, world.markOf(cell), box, ink);
  }
}

/** Where nothing can happen any more the 0 is no value among the others; a probability near 0 needs no digits. */
function silent(world, look, s) {
  return look.visits ? look.values[s] < 5e-4 : world.isOver(s) && look.values[s] > -Infinity;
}

/** The number that a state shows: NaN where it shows none. */
function valueOf(world, look, s) {
  return look.values && (look.visits || !silent(world, look, s)) ? look.values[s] : NaN;
}

/** Fill the ground of a cell and return the ink that can be read on it: hatched where the number is −∞. */
function drawGround(context, look, value, box) {
  const finite = Number.isFinite(value);
  context.fillStyle = finite ? look.scale.fill(value) : look.theme.blank;
  context.fillRect(box.x, box.y, box.size, box.size);
  if (value === -Infinity) hatch(context, box, look.theme.hatch);
  return finite ? look.scale.ink(value) : look.theme.ink;
}

function hatch(context, { x, y, size }, colour) {
  context.save();
  context.beginPath();
  context.rect(x, y, size, size);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  for (let shift = -size; shift < size; shift += 5) {
    context.moveTo(x + shift, y + size);
    context.lineTo(x + shift + size, y);
  }
  context.stroke();
  context.restore();
}

/** An arrow for each action whose area is its probability; a dot where the action is no move. */
function drawArrows(context, world, policy, s, box, ink) {
  if (box.size < ROOM_FOR_ARROWS) return;
  const rise = box.size >= ROOM_FOR_DIGITS ? 0.1 * box.size : 0;
  const reach = box.size >= ROOM_FOR_DIGITS ? 0.86 * REACH : 1.2 * REACH; // leave the foot of the cell to the number
  const x = box.x + box.size / 2;
  const y = box.y + box.size / 2 - rise;
  context.fillStyle = ink;
  for (let a = 0; a < world.A; a++) {
    const p = policy[s * world.A + a];
    if (!(p > 0.01)) continue;
    context.globalAlpha = 0.35 + 0.65 * Math.min(1, p);
    arrow(context, x, y, world.moves[a], Math.sqrt(p) * reach * box.size);
  }
  context.globalAlpha = 1;
}

function arrow(context, x, y, move, length) {
  context.beginPath();
  if (!move || (move[0] === 0 && move[1] === 0)) {
    context.arc(x, y, 0.34 * length, 0, 2 * Math.PI);
  } else {
    const norm = Math.hypot(move[0], move[1]);
    const [right, down] = [move[0] / norm, move[1] / norm];
    for (const [along, aside] of ARROW) {
      const forward = Math.max(0, along + 0.55) / 1.55; // the arrow starts near the middle of the cell
      const ahead = (0.12 + 0.88 * forward) * length;
      context.lineTo(x + right * ahead - down * aside * length, y + down * ahead + right * aside * length);
    }
  }
  context.fill();
}

function drawDigits(context, value, box, ink) {
  context.font = `${Math.min(11, 0.2 * box.size + 2)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  context.fillStyle = ink;
  context.fillText(showShort(value), box.x + box.size / 2, box.y + box.size - 0.08 * box.size);
}

function drawMark(context, mark, box, ink) {
  if (!mark || box.size < ROOM_FOR_LINES) return;
  context.font = `700 ${Math.max(8, Math.min(13, 0.3 * box.size))}px system-ui, sans-serif`;
  context.textAlign = "left";
  context.textBaseline = "top";
  context.fillStyle = ink;
  context.fillText(mark, box.x + 0.08 * box.size, box.y + 0.08 * box.size);
}

function drawRings(pen, world, look, size) {
  const square = (cell) => [(cell % world.columns) * size, Math.floor(cell / world.columns) * size, size, size];
  if (look.observed !== null) ring(pen.context, square(look.observed), look.theme.observed, "#ffffff", true);
  if (look.place !== null) ring(pen.context, square(look.place), "#10151b", "#ffffff", false);
}

/** A ring that is seen on every colour: dark outside, light inside; dashed for what was observed. */
function ring(context, [x, y, width, height], dark, light, dashed) {
  context.lineWidth = 2;
  context.setLineDash([]);
  context.strokeStyle = dark;
  context.strokeRect(x + 1, y + 1, width - 2, height - 2);
  context.strokeStyle = light;
  if (dashed) context.setLineDash([4, 3]);
  context.strokeRect(x + 3, y + 3, width - 6, height - 6);
  context.setLineDash([]);
}

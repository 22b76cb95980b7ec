// The world of the page: what the map and the words need to know of the model, after painting.

/**
 * The world that is shown: { data, model (with the edits), S, A, T limits …, and for the map: grid, rows, columns or xy, arcs }.
 * `edits`: [{ kind: "wall" | "goal" | "reward" | "start", cell, value }].
 */
function makeWorld(data, model, edits) {
  const painted = new Map(edits.filter((edit) => edit.kind !== "start").map((edit) => [edit.cell, edit]));
  const start = edits.find((edit) => edit.kind === "start");
  const world = {
    data,
    model,
    painted,
    edits,
    S: model.S,
    A: model.A,
    moves: data.actions.moves,
    layer: 0,
    grid: data.map.kind === "grid" && !isChain(data),
    start: start ? start.cell : null,
    actions: actionNames(data),
  };
  const byCell = statesByCell(data, model.S);
  const choosing = whereActionsDiffer(model);
  world.statesAt = (cell) => (isWall(world, cell) ? [] : (byCell.get(cell) ?? []));
  world.stateOf = (cell) => world.statesAt(cell)[Math.min(world.layer, world.statesAt(cell).length - 1)] ?? -1;
  world.markOf = (cell) => markOf(world, cell);
  const over = whereAllIsOver(model);
  world.chooses = (s) => choosing[s] === 1;
  world.isOver = (s) => over[s] === 1;
  return Object.assign(world, world.grid ? gridShape(data.map) : graphShape(data.map, model, isChain(data)));
}

/** What actions are called, without the name of their variable where they have but one: "wait", not "axe=wait". */
function actionNames({ actions: { labels } }) {
  const variable = /^[^=,]+=/.exec(labels[0])?.[0];
  const alone =
    variable &&
    labels.every(
      (label) =>
        label.startsWith(variable) && label.split("=").length === 2 && /[^\d.\s=-]/.test(label.slice(variable.length)),
    );
  return alone ? labels.map((label) => label.slice(variable.length)) : labels;
}

function statesByCell(data, S) {
  const byCell = new Map();
  for (let s = 0; s < S; s++) {
    const cell = data.map.cell[s];
    if (cell < 0) continue;
    if (!byCell.has(cell)) byCell.set(cell, []);
    byCell.get(cell).push(s);
  }
  return byCell;
}

/** How many states the fullest cell holds: above 1 the map shows one layer of them. */
function mostStatesInACell({ map }) {
  const counts = new Map();
  for (const cell of map.cell) if (cell >= 0) counts.set(cell, (counts.get(cell) ?? 0) + 1);
  return Math.max(1, ...counts.values());
}

function isWall(world, cell) {
  return world.painted.get(cell)?.kind === "wall";
}

/** The short text on a cell: what was painted on it, else the world's own mark. */
function markOf(world, cell) {
  const edit = world.painted.get(cell);
  if (edit?.kind === "goal") return `G ${showShort(edit.value)}`;
  if (edit?.kind === "reward") return `${edit.value > 0 ? "+" : ""}${showShort(edit.value)}`;
  const own = world.data.map.marks[cell];
  if (world.start !== null) return cell === world.start ? "S" : own === "S" ? "" : own;
  return own;
}

/** 1 for each state where the actions differ in what can come of them; elsewhere an arrow would say nothing. */
function whereActionsDiffer({ S, A, slices, ended }) {
  const differ = new Uint8Array(S);
  for (let s = 0; s < S; s++) {
    if (ended[s]) continue;
    for (let a = 1; a < A && !differ[s]; a++)
      differ[s] = slices.every((slice) => sameOutcomes(slice, s * A, s * A + a)) ? 0 : 1;
  }
  return differ;
}

/** 1 for each state from which nothing is earned any more: the episode has ended, or ends now, whatever is done. */
function whereAllIsOver({ S, A, slices, ended, terminal }) {
  const ends = (s, { offset, successor, reward }) => {
    for (let k = offset[s * A]; k < offset[(s + 1) * A]; k++) {
      if (reward[k] !== 0 || !(ended[successor[k]] || successor[k] === s) || terminal[successor[k]] !== 0) return false;
    }
    return terminal[s] === 0;
  };
  return Uint8Array.from({ length: S }, (_, s) => (ended[s] || slices.every((slice) => ends(s, slice)) ? 1 : 0));
}

function sameOutcomes({ offset, logProb, successor, reward }, one, other) {
  const count = offset[one + 1] - offset[one];
  if (offset[other + 1] - offset[other] !== count) return false;
  for (let i = 0; i < count; i++) {
    const [j, k] = [offset[one] + i, offset[other] + i];
    if (logProb[j] !== logProb[k] || successor[j] !== successor[k] || reward[j] !== reward[k]) return false;
  }
  return true;
}

function gridShape({ rows, columns }) {
  return { rows, columns, cells: rows * columns };
}

/** A row of states whose actions are no moves: its policy is drawn as arcs. */
function isChain({ map, actions }) {
  return map.kind === "grid" && map.rows === 1 && actions.moves.every((move) => move === null);
}

function graphShape(map, model, chain) {
  const S = model.S;
  const xy = chain
    ? Array.from({ length: S }, (_, s) => [s / Math.max(1, S - 1), 0.5])
    : map.x.map((x, s) => [x, map.y[s]]);
  const arcs = arcsOf(model.S, model.A, (s, a) =>
    model.ended[s] ? -1 : likeliestNext(model.slices[0], s * model.A + a),
  );
  return { xy, chain, arcs, aspect: chain ? 0.44 : 0.8, spacing: spacingOf(xy), cells: model.S };
}

function likeliestNext({ offset, prob, successor }, row) {
  let best = -1;
  for (let k = offset[row]; k < offset[row + 1]; k++) if (best < 0 || prob[k] > prob[best]) best = k;
  return best < 0 ? -1 : successor[best];
}

/** What a place of the map is called: "row 3, column 5", with the state's own name. */
function placeName(world, cell) {
  const s = world.stateOf(cell);
  const label = s >= 0 ? world.data.states.labels[s] : "a wall, no state";
  if (!world.grid || world.rows === 1) return label;
  return `row ${Math.floor(cell / world.columns) + 1}, column ${(cell % world.columns) + 1}${s >= 0 ? "" : ", a wall"}`;
}

/** What a state is called: by its place where the map is a grid. */
function stateName(world, s) {
  const cell = world.data.map.cell[s];
  return cell >= 0 && world.statesAt(cell).length === 1 ? placeName(world, cell) : world.data.states.labels[s];
}

/** What lies there, in words: "start", "goal", or nothing. */
function placeKind(world, cell) {
  const mark = world.markOf(cell);
  const words = { S: "the start", G: "the goal", H: "a hole", C: "the cliff" };
  if (!mark) return "";
  return words[mark] ?? (mark.startsWith("G") ? `a goal worth ${mark.slice(2)}` : `marked ${mark}`);
}

/** The cell one step in a direction, or the same one at the border; in a graph the nearest node that way. */
function neighbour(world, cell, right, down) {
  if (!world.grid) return nearestNode(world, cell, right, down);
  const row = Math.floor(cell / world.columns) + down;
  const column = (cell % world.columns) + right;
  const inside = row >= 0 && row < world.rows && column >= 0 && column < world.columns;
  return inside ? row * world.columns + column : cell;
}

function nearestNode(world, from, right, down) {
  const [x0, y0] = world.xy[from];
  let [best, least] = [from, Infinity];
  world.xy.forEach(([x, y], s) => {
    const along = (x - x0) * right + (y - y0) * down;
    const aside = Math.abs((x - x0) * down) + Math.abs((y - y0) * right);
    if (along > 1e-9 && along + 2 * aside < least) [best, least] = [s, along + 2 * aside];
  });
  return best;
}

/** The cell under a point of a canvas, or −1. */
function cellAt(world, canvas, x, y) {
  const pen = { width: canvas.clientWidth, height: canvas.clientHeight };
  if (world.grid) {
    const [column, row] = [Math.floor((x / pen.width) * world.columns), Math.floor((y / pen.height) * world.rows)];
    const inside = row >= 0 && row < world.rows && column >= 0 && column < world.columns;
    return inside ? row * world.columns + column : -1;
  }
  const reach = nodeRadius(pen, world) + 8;
  const distances = nodePlaces(pen, world).map(([nodeX, nodeY]) => Math.hypot(nodeX - x, nodeY - y));
  const nearest = distances.indexOf(Math.min(...distances));
  return distances[nearest] <= reach ? nearest : -1;
}

/** Whether a trajectory can start in a cell. */
function startsIn(world, cell) {
  return world.statesAt(cell).some((s) => world.model.logInitial[s] > -Infinity);
}

/** The cell that the trajectory most likely starts in. */
function startCell(world) {
  const { logInitial, S } = world.model;
  let start = 0;
  for (let s = 1; s < S; s++) if (logInitial[s] > logInitial[start]) start = s;
  return Math.max(0, world.data.map.cell[start]);
}

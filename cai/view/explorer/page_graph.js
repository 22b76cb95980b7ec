// The graphical model at the side: a few slices of nodes, and the message that passes along their edges.

const COLUMN = 128;
const ROW = 62;
const NODE = 17;
const SYMBOLS = { state: "s", action: "a", optimality: "O", latent: "z", survival: "d" };

/**
 * Draw the slices from time t on. `flow`: "back" where β passes from t + 1 to t, "on" where the state passes forward.
 * `observed`: the time at which the state was observed, or null. `moves`: whether the message is seen to pass, or only marked.
 */
function drawModel(box, graph, { t, flow, moves, pace, observed }) {
  if (!graph) {
    box.innerHTML = `<p class="small">This world has too many variables for a picture here: cai graph draws it.</p>`;
    return;
  }
  const place = placesOf(graph);
  const edges = graph.edges.map(([from, to]) => ({ from: place.get(from), to: place.get(to) }));
  const live = edges.filter((edge) => carries(edge, flow));
  const parts = [
    ...edges.map((edge) => edgePath(edge, "edge") + arrowHead(edge, "head")),
    ...live.map((edge) => messagePath(edge, flow, moves)),
    ...[...place.values()].map((node) => nodeShape(node, t, isLive(node, flow), observed)),
  ];
  const [width, height] = extent(place);
  box.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${graphWords(graph, t, flow)}"
    style="--pace:${pace}s">${parts.join("")}</svg>`;
}

function placesOf(graph) {
  return new Map(graph.nodes.map((node) => [node.id, { ...node, px: 30 + node.x * COLUMN, py: 26 + node.y * ROW }]));
}

function extent(place) {
  const nodes = [...place.values()];
  return [Math.max(...nodes.map((node) => node.px)) + 34, Math.max(...nodes.map((node) => node.py)) + 42];
}

/** The first slice's edges carry the message: backward into s_t, forward into s_{t+1}. */
function carries({ from, to }, flow) {
  if (flow === "back") return from.time === 0;
  return from.time === 0 && to.kind !== "optimality";
}

function isLive(node, flow) {
  return node.kind === "state" && node.time === (flow === "back" ? 0 : 1);
}

function ends({ from, to }) {
  const length = Math.hypot(to.px - from.px, to.py - from.py) || 1;
  const [right, down] = [(to.px - from.px) / length, (to.py - from.py) / length];
  return [from.px + right * NODE, from.py + down * NODE, to.px - right * (NODE + 5), to.py - down * (NODE + 5)];
}

function edgePath(edge, kind, extra = "") {
  const [x0, y0, x1, y1] = ends(edge);
  return `<path class="${kind}" d="M${x0} ${y0}L${x1} ${y1}" ${extra}/>`;
}

function arrowHead(edge, kind) {
  const [x0, y0, x, y] = ends(edge);
  const angle = (Math.atan2(y - y0, x - x0) * 180) / Math.PI;
  return `<path class="${kind}" d="M5 0L-3 3.4L-3 -3.4Z" transform="translate(${x} ${y}) rotate(${angle})"/>`;
}

/** A dash that runs along an edge: against the arrow backward, with it forward. */
function messagePath(edge, flow, moves) {
  const [x0, y0, x1, y1] = ends(edge);
  const length = Math.hypot(x1 - x0, y1 - y0);
  const [from, to] = flow === "back" ? [-length, 0] : [0, -length];
  const rest = moves
    ? `style="--from:${from};--to:${to};stroke-dashoffset:${to / 2}"`
    : `style="stroke-dasharray:none;stroke-width:2;opacity:.75"`;
  return edgePath(edge, moves ? "message flows" : "message", rest);
}

function nodeShape(node, t, live, observed) {
  const time = t + node.time;
  const symbol = SYMBOLS[node.kind] ?? "z";
  const name = node.kind === "optimality" ? "" : node.variable;
  const kind = `node${node.observed || (node.kind === "state" && time === observed) ? " observed" : ""}${live ? " live" : ""}`;
  return `<circle class="${kind}" cx="${node.px}" cy="${node.py}" r="${NODE}"/>
    <text x="${node.px}" y="${node.py + 4}"><tspan class="symbol">${symbol}</tspan><tspan class="below" dy="3">${time}</tspan></text>
    <text class="name" x="${node.px}" y="${node.py + NODE + 11}">${escaped(name)}</text>`;
}

function graphWords(graph, t, flow) {
  const names = graph.nodes.filter((node) => node.time === 0).map((node) => `${node.kind} ${node.variable}`);
  const passes =
    flow === "back"
      ? `The message passes backward from time ${t + 1} to time ${t}.`
      : `The state passes forward from time ${t} to time ${t + 1}.`;
  return escaped(
    `One slice has ${names.join(", ")}; arrows run to the next state and to the optimality node. ${passes}`,
  );
}

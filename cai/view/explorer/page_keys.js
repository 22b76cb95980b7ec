// The keyboard: everything on the maps without a mouse.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TOOL_KEYS = { w: "wall", g: "goal", r: "reward", s: "start", o: "observe" };
const KEYS = [
  ["← ↑ → ↓", "on a map: select the next cell"],
  ["Enter", "on a map: use the chosen tool there"],
  ["w g r s o", "on a map: wall, goal, reward, start, observe"],
  ["Delete", "on a map: take away what was painted"],
  ["Space", "play or pause"],
  ["[ ]", "one step earlier, later"],
  ["Home End", "on a map: the first, the last time"],
  ["Ctrl Z", "undo"],
  ["?", "this list"],
];

function onKey(event) {
  if (event.altKey || event.metaKey || byId("help").open) return;
  if (event.ctrlKey && event.key === "z" && !event.target.matches("input[type=number]")) return handled(event, undo);
  if (event.ctrlKey) return;
  if (event.target.matches(".map") && onMapKey(event)) return;
  if (event.target.closest("input, select, textarea, button, summary, a") && !event.target.matches("[type=range]"))
    return;
  const actions = { " ": togglePlay, "[": () => stepTime(-1), "]": () => stepTime(1), "?": openHelp };
  if (actions[event.key]) handled(event, actions[event.key]);
}

function onMapKey(event) {
  const { place, T, tool } = page.state;
  const { rule } = event.target.closest(".panel").dataset;
  const world = page.answers.world(page.state);
  const letter = TOOL_KEYS[event.key.toLowerCase()];
  const actions = {
    Enter: () => useTool(place, rule, tool),
    Delete: () => clearCell(place),
    Backspace: () => clearCell(place),
    Home: () => change({ t: 0 }),
    End: () => change({ t: T }),
  };
  if (ARROWS[event.key]) handled(event, () => select(neighbour(world, place, ...ARROWS[event.key]), rule));
  else if (letter) handled(event, () => useTool(place, rule, letter));
  else if (actions[event.key]) handled(event, actions[event.key]);
  else return false;
  return true;
}

function handled(event, action) {
  event.preventDefault();
  action();
}

function openHelp() {
  byId("keys").innerHTML = KEYS.map(
    ([keys, does]) =>
      `<dt>${keys
        .split(" ")
        .map((key) => `<kbd>${key}</kbd>`)
        .join(" ")}</dt><dd>${does}</dd>`,
  ).join("");
  byId("help").showModal();
}

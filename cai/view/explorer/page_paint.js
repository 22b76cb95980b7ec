// Clicks on a map: look at a cell, paint it, observe it; and undo.

function listenToMaps(panels) {
  let painted = null;
  const cellOf = (event) => cellAt(page.answers.world(page.state), event.target, event.offsetX, event.offsetY);
  panels.addEventListener("pointerdown", (event) => {
    if (!event.target.matches(".map")) return;
    const cell = cellOf(event);
    if (cell < 0) return;
    painted = new Set([cell]);
    useTool(cell, event.target.closest(".panel").dataset.rule, page.state.tool);
  });
  panels.addEventListener("pointermove", (event) => {
    if (!painted || !event.buttons || !event.target.matches(".map") || !PAINTS.includes(page.state.tool)) return;
    const cell = cellOf(event);
    if (cell < 0 || painted.has(cell)) return;
    painted.add(cell);
    paint(cell, page.state.tool, { keep: true });
  });
  window.addEventListener("pointerup", () => (painted = null));
}

/** A click or a key on a cell: look at it, paint it, or observe it. */
function useTool(cell, rule, tool) {
  if (tool === "look") return select(cell, rule);
  if (tool === "observe") return observe(cell);
  return paint(cell, tool);
}

function select(cell, rule) {
  change({ place: cell, rule, action: null });
  say(`${rule}, ${spokenCell(page.answers.world(page.state), rule)}`);
}

function observe(cell) {
  const world = page.answers.world(page.state);
  if (world.stateOf(cell) < 0) return say("Nobody can be in a wall.");
  const given = byId("observe-time")?.valueAsNumber;
  const t = Number.isInteger(given) ? given : defaultObservedTime();
  change({ observed: { t: Math.min(t, page.state.T), place: cell }, place: cell, dynamics: "own" }, { undoable: true });
  const messages = page.answers.messages(page.state, "POSTERIOR");
  return say(
    messages.possible
      ? `Observed: ${placeName(world, cell)} at t = ${t}.`
      : `Impossible. ${whyImpossible(world, page.state.observed, messages)}`,
  );
}

/** Paint a cell; the same again takes it away. A stroke (`keep`) only adds, and is undone as one. */
function paint(cell, kind, { keep = false } = {}) {
  const { edits } = page.state;
  if (kind === "wall" && startsIn(page.answers.world(page.state), cell)) return say("The start cannot be a wall.");
  const worth = kind === "goal" || kind === "reward" ? { value: page.brush } : {};
  const same = edits.find((edit) => edit.cell === cell && edit.kind === kind && edit.value === worth.value);
  if (same && keep) return undefined;
  const left = edits.filter((edit) => edit !== same && !replaces(kind, edit, cell));
  change({ edits: same ? left : [...left, { kind, cell, ...worth }], place: cell }, { undoable: !keep });
  const world = page.answers.world(page.state);
  return say(`${same ? "Taken away" : "Painted"}: ${kind} at ${placeName(world, cell)}.`);
}

/** A cell carries one edit, and there is one start. */
function replaces(kind, edit, cell) {
  if (kind === "start") return edit.kind === "start" || (edit.cell === cell && edit.kind === "wall");
  return edit.cell === cell && (edit.kind !== "start" || kind === "wall");
}

function clearCell(cell) {
  change({ edits: page.state.edits.filter((edit) => edit.cell !== cell) }, { undoable: true });
}

function undo() {
  const before = page.past.pop();
  if (before) change(before);
}

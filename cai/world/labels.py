"""The names of the values of a world's variables: its optional member ``labels``."""

from collections.abc import Collection, Mapping
from typing import Any

from cai.errors import Finding, WorldError, fault
from cai.world.spaces import Layout

MOVES = {(-1.0, 0.0): "left", (1.0, 0.0): "right", (0.0, -1.0): "up", (0.0, 1.0): "down", None: "stay"}
"""What the moves of a map are called."""


def labels_of(
    labels: Any, layout: Any, sizes: Mapping[str, int], actions: Collection[str] = ()
) -> dict[str, tuple[str | None, ...]]:
    """Return the names of the values of these variables, as far as the world gives any.

    Where it gives none of its one action, and each move on its map is one of its own, the moves' directions are.

    Args:
        labels, layout: these members of the world, None where it has none.
        sizes: how many values each variable takes.
        actions: which of the variables are the actions.

    Raises:
        WorldError: ``labels`` is no mapping, a name is missing or no text, or two values have the same.
    """
    moves = _moves(layout, sizes, actions)
    if labels is None:
        return moves
    if not isinstance(labels, Mapping):
        raise fault("labels", f"a {type(labels).__name__}", "a dict: {variable: a name for each of its values}")
    findings = [finding for name in labels if name in sizes for finding in _inspect(name, labels[name], sizes[name])]
    if findings:
        raise WorldError(findings)
    return moves | {name: tuple(labels[name]) for name in labels if name in sizes}


def _moves(layout: Any, sizes: Mapping[str, int], actions: Collection[str]) -> dict[str, tuple[str | None, ...]]:
    moves = layout.moves if isinstance(layout, Layout) else ()
    clear = bool(moves) and len(set(moves)) == len(moves) and set(moves) <= set(MOVES)
    if not clear or [sizes[name] for name in actions] != [len(moves)]:
        return {}
    return {name: tuple(MOVES[move] for move in moves) for name in actions}


def require_known(labels: Any, sizes: Mapping[str, int]) -> None:
    """Raise a ``WorldError`` where ``labels`` speak of other variables."""
    unknown = [name for name in labels or {} if name not in sizes]
    if unknown:
        raise fault("labels", f"variables {unknown}", f"some of the world's own, {sorted(sizes)}")


def _inspect(variable: str, names: Any, size: int) -> list[Finding]:
    where = f"labels, variable '{variable}'"
    if not isinstance(names, list | tuple):
        return [Finding(where, f"a {type(names).__name__}", f"a list of {size} names, None for a value without")]
    if len(names) != size:
        return [Finding(where, f"{len(names)} names", f"{size}, one for each value (None for a value without)")]
    wrong = [name for name in names if name is not None and not (isinstance(name, str) and name)]
    if wrong:
        return [Finding(where, f"{wrong[0]!r} as a name", "text, or None for a value without")]
    named = [name for name in names if name is not None]
    twice = sorted({name for name in named if named.count(name) > 1}) if len(set(named)) < len(named) else []
    return [Finding(where, f"the name '{twice[0]}' twice", "a name of its own for each value")] if twice else []

"""Maps of worlds with a layout: values, policies, visits and losses of each cell."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from cai.errors import fault, require_time
from cai.evaluation.evaluation import Evaluation
from cai.support.numbers import ROUNDING, show
from cai.view import readings
from cai.view.canvas import Room, colour_key, linear, logarithmic, panel
from cai.view.map_words import deeds, extremes, size_of_map
from cai.view.maps import Ground, draw_arrows_on, draw_cells, map_inches, reading_guide
from cai.view.readings import Result
from cai.view.style import amounts, pale
from cai.view.vector import tell

Scale = tuple[float, float] | None
NATS = {"policy": "policy_nats", "action": "action_nats", "luck": "luck_nats", "regret": "regret_per_state"}
"""What can be lost at a place: the name in a call, and the field of an ``Evaluation``."""
LOST = {
    "policy": "policy nats, against the best policy",
    "action": "action nats, against the posterior's actions",
    "luck": "luck nats, outcomes that only the posterior has",
    "regret": "regret, against the highest return",
}
VISITS_DEEP, NATS_DEEP = 1e4, 1e4


def value_map(
    result: Result,
    t: int = 0,
    *,
    arrows: bool = True,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw v_t(s) of every cell as colour and number, reward units, with the policy as arrows.

    Messages show the rule's own v. An evaluation shows the policy's value from each cell under the true dynamics, less
    α times its KL to the prior. A cell without actions (a hole, the goal) is hatched: it has no value. So is -∞.

    Args:
        result: what ``cai.solve`` or ``cai.evaluate`` returns.
        t: the time; any for an infinite horizon.
        arrows: draw the policy too.
        scale: the ends of the colours, reward units; those of this map unless given.
        title: above the map; the rule's name and the time unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the world has no layout, there is no such time, or the result is a batch or in parts.
    """
    where = "value_map"
    require_time(f"{where}, t", t, readings.model_of(result, where).horizon, end=not arrows)
    ground = Ground.of(result, where, t)
    v = readings.values_at(result, t)
    norm, cmap = linear([v[ground.open].numpy()], scale), pale("viridis", 0.6)
    ax = _map(ax, ground, title or _head(result, t))
    draw_cells(ax, ground, v, cmap, norm)
    words = f"Value map, {_head(result, t)}, α = {readings.alpha_of(result)}, {size_of_map(ground)}. "
    words += extremes(ground, v, "reward units")
    if arrows:
        probs = readings.probs_at(result, t)
        draw_arrows_on(ax, ground, probs)
        words += deeds(ground, probs)
    colour_key(ax, cmap, norm, "v, reward units")
    reading_guide(ax, ground, v)
    return tell(ax, words, (float(norm.vmin or 0.0), float(norm.vmax or 0.0)))


def policy_arrows(result: Result, t: int = 0, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the policy of time t: an arrow for each action, whose area is the action's probability.

    Args:
        result: what ``cai.solve`` or ``cai.evaluate`` returns.
        t: the time; any for an infinite horizon.
        title: above the map; the rule's name and the time unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the world has no layout, there is no such time, or the result is a batch or in parts.
    """
    require_time("policy_arrows, t", t, readings.model_of(result, "policy_arrows").horizon)
    ground = Ground.of(result, "policy_arrows", t)
    probs = readings.probs_at(result, t)
    ax = _map(ax, ground, title or _head(result, t), key=False)
    draw_cells(ax, ground, torch.zeros(len(ground.never)), None, Normalize(0, 1))
    draw_arrows_on(ax, ground, probs, on_colour=False)
    reading_guide(ax, ground, None)
    return tell(ax, f"Policy, {_head(result, t)}, {size_of_map(ground)}." + deeds(ground, probs))


def occupancy_map(
    result: Result, t: int | None = None, *, scale: Scale = None, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw how often each cell is visited: p(s_t, alive) at one time, or the expected number of visits over all times.

    Messages show the states under their own rule, for POSTERIOR p(s_t | O = 1). An evaluation shows the policy under
    the true dynamics. The colour scale is logarithmic; cells below 1/10,000 of the largest number stay blank.

    Args:
        result: what ``cai.solve`` or ``cai.evaluate`` returns.
        t: the time; unless given, the sum over all times.
        scale: the ends of the colours; those of this map unless given.
        title: above the map; the rule's name unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the world has no layout, there is no such time, or the result is a batch or in parts.
    """
    if t is not None:
        require_time("occupancy_map, t", t, readings.model_of(result, "occupancy_map").horizon, end=True)
    ground = Ground.of(result, "occupancy_map", t or 0)
    visits = readings.visits_of(result, t)
    by_cell = ground.added_up(visits)
    norm, cmap = logarithmic([by_cell[ground.open].numpy()], scale, VISITS_DEEP), amounts("Blues")
    ax = _map(ax, ground, title or _head(result, t))
    draw_cells(ax, ground, by_cell, cmap, norm)
    unit = "expected visits" if t is None else f"p(s at t = {t})"
    colour_key(ax, cmap, norm, unit)
    words = f"Map of where {_actor(result)} is, {size_of_map(ground)}. " + extremes(ground, by_cell, unit)
    return tell(ax, words, (float(norm.vmin or 0.0), float(norm.vmax or 0.0)))


def nats_map(
    result: Evaluation | Sequence[Evaluation],
    what: str = "policy",
    *,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a map of a policy's losses, added up over time: policy, action or luck nats, or regret in reward units.

    Args:
        result: an evaluation, or several of one world (such as a learner's seeds), of which the mean is drawn.
        what: "policy", "action", "luck" or "regret".
        scale: the ends of the colours; those of this map unless given.
        title: above the map; the total unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the world has no layout, ``what`` is something else, or the result is not an evaluation.
    """
    every = [result] if isinstance(result, Evaluation) else list(result)
    if what not in NATS:
        raise fault("nats_map, what", f"{what!r}", f"one of {list(NATS)}")
    if not every or not all(isinstance(one, Evaluation) for one in every):
        raise fault("nats_map, result", f"{[type(one).__name__ for one in every]}", "what cai.evaluate returns")
    ground = Ground.of(every[0], "nats_map", 0)
    lost = torch.stack([_all_times(getattr(one, NATS[what])) for one in every]).mean(0)
    lost = torch.where(lost.abs() < ROUNDING, 0.0, lost)
    unit = "reward units" if what == "regret" else "nats"
    by_cell = ground.added_up(lost)
    norm = logarithmic([by_cell[ground.open].numpy()], scale, NATS_DEEP)
    cmap = amounts("Purples" if what == "luck" else "Oranges")
    total, away = float(lost.sum()), float(lost[ground.layout.cell < 0].sum())
    ax = _map(ax, ground, title or f"{show(total)} {unit}")
    draw_cells(ax, ground, by_cell, cmap, norm)
    colour_key(ax, cmap, norm, unit)
    words = f"Map of {LOST[what]}, {size_of_map(ground)}: {show(total)} {unit} in all. "
    words += f"{away / total:.0%} of it off the map. " if away > ROUNDING * max(1.0, total) else ""
    words += extremes(ground, by_cell, unit) if total > 0 else "Zero everywhere."
    return tell(ax, words, (float(norm.vmin or 0.0), float(norm.vmax or 0.0)))


def _map(ax: Axes | None, ground: Ground, title: str, *, key: bool = True) -> Axes:
    room = Room(left=0.08, right=0.12, bottom=(0.42 if key else 0.12) + 0.2 * bool(ground.notes))
    return panel(ax, map_inches(ground.layout), room, title)


def _head(result: Result, t: int | None) -> str:
    at = readings.when(result, t)
    return readings.name_of(result) + (f", {at}" if at else "")


def _actor(result: Result) -> str:
    return f"{readings.name_of(result)}'s own chain" if not isinstance(result, Evaluation) else "the policy"


def _all_times(field: Float[Tensor, "..."]) -> Float[Tensor, " S"]:
    return field.reshape(-1, field.shape[-1]).sum(0)

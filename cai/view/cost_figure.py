"""Reward, KL to the prior, losses in nats and regret of policies by time."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.part_accounts import Part
from cai.support.numbers import ROUNDING, brief, rounded, show
from cai.view.canvas import Room, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.policy_looks import looks_of
from cai.view.readings import by_name
from cai.view.vector import tell

WHAT: dict[str, tuple[str, str]] = {
    "reward": ("expected reward", "reward units"),
    "kl": ("KL to the prior", "nats"),
    "policy": ("policy nats", "nats"),
    "action": ("action nats", "nats"),
    "luck": ("luck nats", "nats"),
    "regret": ("regret", "reward units"),
}
"""The numbers that can be drawn over time, each with its name and unit."""
LOST = ("policy", "action", "luck", "regret")
"""What is lost against an exact answer."""


def cost_over_time(
    results: Mapping[str, Evaluation] | Comparison,
    what: str = "reward",
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw one number of each policy by time, such as its reward or its KL: on any world, summed over states.

    The number beside a name is the sum over all times; of "reward" it is the return, the terminal reward included.

    Args:
        results: evaluations by name, or a comparison.
        what: "reward" (reward units), "kl" to the prior, "policy", "action" or "luck" nats, or "regret".
        scale: the ends of the vertical axis.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: ``what`` is none of these, a result is no evaluation, or the horizon is infinite.
        ImpossibleError: the exact answer behind it is not finite.
    """
    if what not in WHAT:
        raise fault("cost_over_time, what", f"{what!r}", f"one of {list(WHAT)}")
    every = by_name(results, "cost_over_time")
    rows = {name: by_time(result, what) for name, result in every.items()}
    sums = {name: total_of(every[name], what, row) for name, row in rows.items()}
    words, unit = WHAT[what][0], "" if WHAT[what][0].endswith("nats") else f", {WHAT[what][1]}"
    room = Room(left=0.62, right=width_of([(name, brief(total, 4)) for name, total in sums.items()]), bottom=0.45)
    ax = panel(ax, (2.5, 1.9), room, title or f"{words}{unit}")
    open_axes(ax, "time t")
    looks = looks_of(results)
    for n, (name, row) in enumerate(rows.items()):
        rim = 1.0 * (len(rows) - 1 - n) / max(1, len(rows) - 1)
        ax.plot(row, color=looks[name].colour, linestyle=looks[name].dash, linewidth=1.5 + rim)
    ax.margins(y=0.08)
    ax.set_xlim(0, max(1, *(len(row) - 1 for row in rows.values())))
    if scale is not None:
        ax.set_ylim(*scale)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    labels = [
        Label(float(row[-1]), name, brief(sums[name], 4), looks[name].colour, looks[name].dash)
        for name, row in rows.items()
    ]
    name_ends(ax, labels)
    ends = ((name, show(float(row[0])), show(float(row[-1])), len(row) - 1) for name, row in rows.items())
    each = (f"{name}: {a} at t = 0, {b} at t = {last}, {show(sums[name])} in all" for name, a, b, last in ends)
    return tell(ax, f"{words[0].upper()}{words[1:]} by time{unit}. {'; '.join(each)}.", ax.get_ylim())


def by_time(result: Any, what: str) -> Float[Tensor, " T"]:
    """Return one number of a policy by time, summed over states and parts, ``[T]``.

    Raises:
        WorldError: it is no evaluation, or the horizon is infinite.
    """
    if not isinstance(result, Evaluation):
        raise fault("cost_over_time", f"a {type(result).__name__}", "what cai.evaluate or cai.compare returns")
    if result.model.horizon is None:
        raise fault("cost_over_time", "an infinite horizon", "a finite one: the figure is over time")
    scale = abs(result.expected_return) if what in ("reward", "regret") else abs(result.kl_to_prior)
    row = sum(
        (_lost(part, what) if what in LOST else _expected(part, READ[what]) for part in result.parts), torch.zeros(())
    )
    return torch.where(row.abs() <= ROUNDING * max(1.0, scale if scale < float("inf") else 0.0), 0.0, row)


def _lost(part: Part, what: str) -> Float[Tensor, " T"]:
    field: Tensor = getattr(part, "regret" if what == "regret" else f"{what}_nats")
    return field.reshape(len(field), -1).sum(-1)


def _expected(part: Part, read: Callable[[Part, int, Any], Any]) -> Float[Tensor, " T"]:
    with torch.no_grad():
        return torch.stack(
            [part.operator.expect(joint, read(part, t, log_pi)).sum() for t, log_pi, joint in part.joints()]
        )


READ: dict[str, Callable[[Part, int, Any], Any]] = {
    "reward": lambda part, t, log_pi: part.operator.expected_reward(t),
    "kl": lambda part, t, log_pi: log_pi - part.operator.log_prior(t),
}
"""The function of state and action whose expectation is taken at each time."""


def total_of(result: Evaluation, what: str, row: Tensor) -> float:
    """Return the sum over all times, rounding left out; the return for the reward."""
    if what == "reward":
        return result.expected_return
    scale = result.expected_return if what == "regret" else None
    return float(rounded(float(row.sum()), scale) or 0.0)

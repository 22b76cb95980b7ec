"""The figure of many horizons: how much an answer depends on T."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cai.evaluation.by_horizon import ByHorizon
from cai.exact.horizons import HorizonValues
from cai.support.numbers import brief, show
from cai.view.canvas import Room, open_axes, panel, power
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.style import GREY, LINES
from cai.view.vector import tell

RULES = (("log Z", ":"), ("ELBO*", "--"))
"""The two exact answers, and how their lines are broken."""


def horizon_curves(
    answers: Sequence[ByHorizon],
    horizon: int,
    *,
    per_step: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw α log Z (dotted) and α ELBO* (dashed) against the horizon, reward units, one colour a temperature.

    The vertical line is the world's own horizon. With ``per_step``, a flat line gains the same with each further step.

    Args:
        answers: what ``by_horizon`` returns, for one or more temperatures.
        horizon: the world's own T.
        per_step: divide by T.
        title: above the panel.
        ax: where to draw; a new figure unless given.
    """
    words = "start value per step" if per_step else "start value"
    lines = {}
    for n, answer in enumerate(answers):
        for (rule, dash), values in zip(RULES, (answer.posterior, answer.variational), strict=True):
            lines[f"{rule}, α = {show(answer.temperature)}"] = (_heights(values, per_step), LINES[n % 8], dash)
    ends = {name: float(heights[-1]) for name, (heights, _, _) in lines.items()}
    room = Room(left=0.62, right=width_of([(name, brief(end)) for name, end in ends.items()]), bottom=0.45)
    ax = panel(ax, (2.4, 2.3), room, title or f"{words}, reward units")
    open_axes(ax, "horizon T, steps")
    for heights, colour, dash in lines.values():
        ax.plot(answers[0].posterior.horizons, heights, color=colour, linestyle=dash, linewidth=1.6)
    ax.axvline(horizon, color=GREY, linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    short = max(answers[0].posterior.horizons) < 30
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda T, _: power(T)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(right=max(answers[0].posterior.horizons))
    name_ends(ax, [Label(ends[name], name, brief(ends[name]), colour) for name, (_, colour, _) in lines.items()])
    at = f"T = {answers[0].posterior.horizons[0]} to {answers[0].posterior.horizons[-1]:,}"
    each = (f"{name}: {show(float(heights[0]))} to {show(ends[name])}" for name, (heights, _, _) in lines.items())
    return tell(ax, f"{words}, reward units, for {at}; this world has T = {horizon:,}. {'; '.join(each)}.")


def _heights(values: HorizonValues, per_step: bool) -> Sequence[float]:
    T = values.value.new_tensor(values.horizons)
    heights: list[float] = (values.value / T if per_step else values.value).tolist()
    return heights

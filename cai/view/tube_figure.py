"""Tubes: the mean of a variable over time and a band with most of its probability, one tube for each policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.exact.messages import Messages
from cai.support.numbers import brief, show
from cai.support.wording import listed
from cai.view.canvas import Room, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.policy_looks import looks_of
from cai.view.readings import by_name, require_one
from cai.view.real_readings import is_mixed, is_real, mixed_marginals, real_marginals, sure_times
from cai.view.vector import tell

Known = TypeVar("Known", Evaluation, Messages)


@runtime_checkable
class Marginal(Protocol):
    """The distribution of one variable at one time, as a tube needs it."""

    @property
    def mean(self) -> float:
        """The mean."""

    def quantile(self, share: float) -> float:
        """Return the value below which this share of the probability lies."""


@dataclass(frozen=True)
class Chances:
    """The marginal of a variable with finitely many values ``0 … n-1``, given that the trajectory lives.

    Attributes:
        probs: of each value, ``[n]``.
    """

    probs: Float[Tensor, " n"]

    @property
    def mean(self) -> float:
        """The mean of the value's number."""
        return float(self.probs @ torch.arange(len(self.probs), dtype=self.probs.dtype))

    def quantile(self, share: float) -> float:
        """Return the first value up to which this much of the probability lies."""
        return float((self.probs.cumsum(0) >= share - 1e-9).long().argmax())


@singledispatch
def marginals_over_time(result: Any, variable: str) -> Sequence[Marginal]:
    """Return the marginals of a variable at every time, 0 first; a kind of result with other marginals registers here.

    Raises:
        WorldError: nothing is known of such results, or there is no such variable.
    """
    raise fault("tubes", f"a {type(result).__name__}", "what cai.solve or cai.evaluate returns")


@marginals_over_time.register
def _(result: Evaluation, variable: str) -> Sequence[Marginal]:
    if is_real(result):
        return real_marginals(result, variable)
    if is_mixed(result) and variable not in result.model.states.modes.names:
        return mixed_marginals(result, variable)
    return _living(_of_state(result, variable).visits[variable])


@marginals_over_time.register
def _(result: Messages, variable: str) -> Sequence[Marginal]:
    if is_real(result):
        return real_marginals(result, variable)
    if is_mixed(result) and variable not in result.model.states.modes.names:
        return mixed_marginals(result, variable)
    times = range((_of_state(result, variable).model.horizon or 0) + 1)
    return _living(torch.stack([result.marginal(t, variable).detach() for t in times]))


def _of_state(result: Known, variable: str) -> Known:
    require_one(result, "tubes")
    if variable not in result.model.states.names:
        raise fault("tubes, variable", f"'{variable}'", f"one of {list(result.model.states.names)}")
    if result.model.horizon is None:
        raise fault("tubes", "an infinite horizon", "a finite one: the figure is over time")
    return result


def _living(joint: Float[Tensor, "T1 n"]) -> Sequence[Marginal]:
    return [Chances(row / row.sum()) for row in joint if float(row.sum()) > 0]


def tubes(
    results: Mapping[str, Any] | Comparison,
    variable: str,
    *,
    share: float | None = None,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a tube for each policy: the mean of a variable over time, in a band of probability ``share``.

    The values are the variable's numbers, or its names, given that the trajectory is alive. Messages show the states
    under their own rule (for POSTERIOR p(x_t | O = 1)), evaluations the policy under the true dynamics. On a
    linear-Gaussian world the variable is a coordinate of the state or of the action; a dot marks a time at which it is
    certain: observed, forced, or a sure start.

    Args:
        results: messages or evaluations by name, or a comparison, whose evaluations are drawn.
        variable: a state variable; of real states a coordinate of state or action, ``position`` or ``state[0]``.
        share: the probability inside the band, equal probabilities left out below and above; 0.95 of real variables,
            else 0.8, unless given.
        scale: the ends of the vertical axis.
        title: above the panel; the variable's name unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: there is no result or no such variable, the horizon is infinite, or ``share`` is not within 0 and 1.
    """
    every = by_name(results, "tubes")
    real = any(
        is_real(one) or (is_mixed(one) and variable not in one.model.states.modes.names) for one in every.values()
    )
    share = (0.95 if real else 0.8) if share is None else share
    if not 0 < share < 1:
        raise fault("tubes, share", f"{share}", "a number between 0 and 1")
    drawn = {name: marginals_over_time(result, variable) for name, result in every.items()}
    means = {name: [marginal.mean for marginal in each] for name, each in drawn.items()}
    room = Room(left=0.62, right=width_of([(name, brief(mean[-1])) for name, mean in means.items()]), bottom=0.45)
    ax = panel(ax, (2.5, 1.9), room, title or f"{variable} over time")
    open_axes(ax, "time t")
    labels, looks = [], looks_of(results)
    for n, (name, each) in enumerate(drawn.items()):
        low, high = ([marginal.quantile(0.5 + side * share / 2) for marginal in each] for side in (-1, 1))
        look: dict[str, Any] = {"step": None if real else "mid"}
        colour, dash = looks[name].colour, looks[name].dash
        ax.fill_between(range(len(each)), low, high, color=colour, alpha=0.16, linewidth=0, **look)
        rim = 1.0 * (len(drawn) - 1 - n) / max(1, len(drawn) - 1)
        ax.plot(means[name], color=colour, linestyle=dash, linewidth=1.5 + rim)
        sure = sure_times(each)
        ax.scatter(sure, [means[name][t] for t in sure], s=20, color=colour, clip_on=False, zorder=4)
        labels.append(Label(means[name][-1], name, brief(means[name][-1]), colour, dash))
    ax.set_xlim(0, max(1, *(len(each) - 1 for each in drawn.values())))
    if not real:
        _name_values(ax, next(iter(every.values())), variable)
    if scale is not None:
        ax.set_ylim(*scale)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    name_ends(ax, labels)
    told = (
        f"{name}: mean {show(mean[0])} at t = 0, {show(mean[-1])} at t = {len(mean) - 1}{_certain(drawn[name])}"
        for name, mean in means.items()
    )
    words = f"{variable} over time, mean and the band of {share:.0%} of the probability. {'; '.join(told)}."
    return tell(ax, words, ax.get_ylim())


def _certain(each: Sequence[Any]) -> str:
    """Say when a tube has no width."""
    sure = [str(t) for t in sure_times(each)]
    return f", certain at t = {listed(sure)}" if sure else ""


def _name_values(ax: Axes, result: Any, variable: str) -> None:
    """Write the names of values at the upright axis, where the variable has few and they have names."""
    states = getattr(getattr(result, "model", None), "states", None)
    if states is None:
        return
    states = states.modes if is_mixed(result) else states
    size = states.named_sizes[variable]
    ax.set_ylim(-0.04 * max(1, size - 1), 1.04 * max(1, size - 1))
    names = [states.value_label(variable, n) for n in range(size)]
    if size <= 6 and any(names):
        ax.set_yticks(range(size), [name or str(n) for n, name in enumerate(names)])
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_ylabel("value", fontsize=8.5, labelpad=2)

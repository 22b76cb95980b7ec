"""Figures over states and time: messages, visits and losses."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cai.errors import fault
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.losses import state_label
from cai.support.numbers import show
from cai.view import readings
from cai.view.canvas import HATCH, WIDE, Room, cells, colour_key, linear, logarithmic, open_axes, panel
from cai.view.cost_figure import cost_over_time
from cai.view.map_figures import LOST, NATS, Scale
from cai.view.readings import Result
from cai.view.real_readings import is_real
from cai.view.style import INK, amounts, pale
from cai.view.vector import tell

ROWS, COLUMNS = 18, 60
"""The most states and times of a panel; more times are shown at even steps."""
DEEP = 1e5
"""What is less than this share of the most is drawn as nothing."""


def messages_over_time(
    result: Result,
    *,
    states: Sequence[int] | None = None,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw v_t(s) = α log β_t(s) by state and time, reward units: bars for an infinite horizon.

    Args:
        result: what ``cai.solve`` or ``cai.evaluate`` returns.
        states: the numbers of the states that are shown; unless given the most visited ones, without ended states.
        scale: the ends of the colours, reward units; those of this field unless given.
        title: above the panel; the rule's name unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the result is a batch or in parts, or there is no such state.
    """
    rows = _rows(result, states, "messages_over_time")
    field = (result.v.detach())[..., rows]
    norm, cmap = linear([field.numpy()], scale), pale("viridis", 0.85)
    ax = _draw(ax, _labels(result, rows), field, cmap, norm, title or readings.name_of(result), "v, reward units")
    words = f"Value v by state and time, {readings.name_of(result)}, α = {readings.alpha_of(result)}. "
    return tell(ax, words + _words(result, rows, field, "reward units"), _ends(norm))


def occupancy_over_time(
    result: Result,
    *,
    states: Sequence[int] | None = None,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw p(s_t, alive) by state and time, on a logarithmic scale.

    Args:
        result: messages (the states under their own rule) or an evaluation (the policy under the true dynamics).
        states: the numbers of the states that are shown; unless given the most visited ones, without ended states.
        scale: the ends of the colours; those of this field unless given.
        title: above the panel; the rule's name unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the result is a batch or in parts, or there is no such state.
    """
    rows = _rows(result, states, "occupancy_over_time")
    T = result.model.horizon
    times = [readings.visits_of(result, t)[rows] for t in range((T or 0) + 1)]
    field = torch.stack(times) if T is not None else times[0]
    norm, unit = logarithmic([field.numpy()], scale, DEEP), "probability" if T is not None else "expected visits"
    ax = _draw(ax, _labels(result, rows), field, amounts("Blues"), norm, title or readings.name_of(result), unit)
    words = f"Occupancy by state and time, {readings.name_of(result)}. "
    return tell(ax, words + _words(result, rows, field, ""), _ends(norm))


def nats_over_time(
    evaluation: Evaluation,
    what: str = "policy",
    *,
    states: Sequence[int] | None = None,
    by: Callable[[str], str] | None = None,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a policy's losses by state and time, on a logarithmic scale: policy, action or luck nats, or regret.

    Where states are real, a loss has a time alone: it is drawn as ``cost_over_time``, which takes several policies.

    Args:
        evaluation: what ``cai.evaluate`` returns.
        what: "policy", "action", "luck" or "regret".
        states: the numbers of the states that are shown; unless given the most visited ones, without ended states.
        by: the group of a state, from its label: a row for each group, all its states together; of texts
            ``cai.view.place`` is the state of the automaton.
        scale: the ends of the colours; those of this field unless given.
        title: above the panel; the total unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: ``what`` is none of these, the evaluation is in parts, or ``states`` and ``by`` are both given.
        ImpossibleError: the exact answer behind it is not finite.
    """
    if what not in NATS:
        raise fault("nats_over_time, what", f"{what!r}", f"one of {list(NATS)}")
    if isinstance(evaluation, Evaluation) and is_real(evaluation):
        return cost_over_time({readings.name_of(evaluation): evaluation}, what, scale=scale, title=title, ax=ax)
    if by is not None and states is not None:
        raise fault("nats_over_time, states and by", "both", "one of them")
    every = getattr(evaluation, NATS[what])
    rows = _rows(evaluation, states, "nats_over_time")
    labels, field = _labels(evaluation, rows), every[..., rows]
    if by is not None:
        labels, field = _grouped(evaluation, every, by)
    unit = "reward units" if what == "regret" else "nats"
    norm, palette = logarithmic([field.numpy()], scale, DEEP), "Purples" if what == "luck" else "Oranges"
    total = show(float(every.sum()))
    ax = _draw(ax, labels, field, amounts(palette), norm, title or f"{total} {unit}", unit)
    rowed = "state" if by is None else "group of states"
    words = f"{LOST[what].capitalize()}, by {rowed} and time: {total} {unit} in all. "
    told = _words(evaluation, rows, field, unit) if by is None else _sums(labels, field, unit)
    return tell(ax, words + told, _ends(norm))


def place(label: str) -> str:
    """Return the last part of a label in parts, ``th|the`` of texts: where the automaton is."""
    return label.rsplit("|", 1)[-1]


def _grouped(
    evaluation: Evaluation, every: Float[Tensor, "... S"], by: Callable[[str], str]
) -> tuple[list[str], Float[Tensor, "... G"]]:
    """Return the groups in which somebody acts, the costliest where there are many, and the sums of their states."""
    model = readings.model_of(evaluation, "nats_over_time")
    each = [by(label) for label in _labels(evaluation, torch.arange(model.states.size))]
    acting = set((~readings.never_entered(model)).nonzero().flatten().tolist())
    groups = list(dict.fromkeys(group for s, group in enumerate(each) if s in acting))
    number = {group: n for n, group in enumerate(groups)}
    kept = torch.tensor([s for s in range(len(each)) if s in acting])
    index = torch.tensor([number[each[s]] for s in kept.tolist()])
    sums = every.new_zeros(*every.shape[:-1], len(groups)).index_add(-1, index, every[..., kept])
    most = sums.reshape(-1, len(groups)).sum(0).argsort(descending=True, stable=True)[:ROWS].sort().values
    return [groups[n] for n in most.tolist()], sums[..., most]


def _sums(labels: Sequence[str], field: Float[Tensor, "..."], unit: str) -> str:
    totals = field.reshape(-1, len(labels)).sum(0).tolist()
    return "; ".join(f"{label}: {show(total)} {unit}" for label, total in zip(labels, totals, strict=True)) + "."


def _rows(result: Result, states: Sequence[int] | None, where: str) -> Tensor:
    """Return the states that are shown, ascending."""
    S = readings.model_of(result, where).states.size
    if states is not None:
        if not states or not all(0 <= s < S for s in states):
            raise fault(f"{where}, states", f"{list(states)}", f"numbers from 0 to {S - 1}, at least one")
        return torch.tensor(sorted(states))
    acting = (~readings.never_entered(result.model)).nonzero().flatten()
    if len(acting) <= ROWS:
        return acting
    first = readings.visits_of(result)[acting].argsort(descending=True, stable=True)[:ROWS]
    return acting[first].sort().values


def _draw(
    ax: Axes | None,
    labels: Sequence[str],
    field: Float[Tensor, "..."],
    cmap: Colormap,
    norm: Normalize,
    title: str,
    unit: str,
) -> Axes:
    room = Room(left=0.2 + 0.075 * max(map(len, labels)), bottom=0.8 if field.dim() == 2 else 0.42)
    ax = panel(ax, (WIDE, max(0.9, 0.155 * len(labels))), room, title)
    if field.dim() == 1:
        _bars(ax, field.numpy(), cmap, norm, unit)
    else:
        _heat(ax, field.numpy(), cmap, norm)
        colour_key(ax, cmap, norm, unit, below=0.42)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    return ax


def _heat(ax: Axes, field: Any, cmap: Colormap, norm: Normalize) -> None:
    T, rows = field.shape
    stride = -(-T // COLUMNS)
    times = np.arange(0, T, stride)
    t, row = (axis.reshape(-1) for axis in np.meshgrid(times, np.arange(rows), indexing="ij"))
    number = field[t, row]
    low = float(norm.vmin or 0.0) if isinstance(norm, LogNorm) else -np.inf
    shown = np.isfinite(number) & (number >= low)
    middle = t + (stride - 1) / 2
    cells(ax, middle[shown], row[shown], number[shown], cmap, norm, wide=stride)
    lost = ~np.isfinite(number)
    if lost.any():
        ax.scatter(middle[lost], row[lost], marker="x", s=5, color=HATCH, linewidths=0.6)
    ax.set_xlim(-0.5, times[-1] + stride - 0.5)
    ax.set_xlabel("time t" + (f", every {stride}th shown" if stride > 1 else ""), fontsize=8.5, color=INK, labelpad=2)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _bars(ax: Axes, field: Any, cmap: Colormap, norm: Normalize, unit: str) -> None:
    finite = np.isfinite(field)
    ax.barh(np.arange(len(field)), np.where(finite, field, 0.0), color=cmap(0.6), height=0.8)
    ax.set_xlim(min(0.0, float(norm.vmin or 0.0)), max(0.0, float(norm.vmax or 0.0)) * 1.04)
    open_axes(ax, unit)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    for row in np.nonzero(~finite)[0].tolist():
        place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": "center", "va": "center"}
        ax.text(0.5, row, show(float(field[row])), **place, fontsize=8, color=INK)


def _labels(result: Result, rows: Tensor) -> list[str]:
    names = result.model.states.names
    labels = (state_label(result.model, int(s)) for s in rows)
    return [label.removeprefix(f"{names[0]}=") if len(names) == 1 else label for label in labels]


def _words(result: Result, rows: Tensor, field: Float[Tensor, "..."], unit: str) -> str:
    """Say the largest number and where it is, and how the likeliest start fares over time."""
    S = result.model.states.size
    shown = f"{len(rows)} of {S:,} states" if len(rows) < S else f"all {S} states"
    finite = torch.where(field.isfinite(), field, -torch.inf)
    place = int(finite.argmax())
    if not bool(field.isfinite().any()):
        return f"{shown.capitalize()}; none has a finite number."
    at, row = (None, place) if field.dim() == 1 else divmod(place, len(rows))
    where = state_label(result.model, int(rows[row])) + ("" if at is None else f" at t = {at}")
    text = f"{shown.capitalize()}. Largest: {show(float(finite.max()))} {unit}".rstrip() + f" at {where}."
    start = int(result.model.log_initial.argmax())
    if start in rows.tolist() and field.dim() == 2:
        own = field[:, rows.tolist().index(start)]
        text += f" At the start, {state_label(result.model, start)}: {show(float(own[0]))} at t = 0"
        text += f", {show(float(own[-1]))} at t = {len(own) - 1}."
    return text


def _ends(norm: Normalize) -> tuple[float, float]:
    return float(norm.vmin or 0.0), float(norm.vmax or 0.0)

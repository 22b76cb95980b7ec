"""The effective sample size of weighted trajectories over time: where a sampler still knows what it says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cai.approximation.approximation import Approximation
from cai.errors import fault
from cai.support.numbers import brief, show
from cai.view.canvas import Array, Room, log_ticks, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.readings import by_name
from cai.view.style import INK, LINES
from cai.view.vector import tell


def effective_sample_size(
    approximations: Mapping[str, Approximation] | Approximation,
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the effective sample size 1/Σw² at each time, on a logarithmic axis; at 1 one trajectory has all the weight.

    Args:
        approximations: by name, or one; those without weights are left out.
        scale: the ends of the vertical axis.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: none has weights, or a result is no approximation.
    """
    every = approximations_of(approximations, "effective_sample_size")
    rows: dict[str, Array] = {
        name: one.effective_sample_size.numpy() for name, one in every.items() if one.effective_sample_size is not None
    }
    if not rows:
        methods = ", ".join(one.method for one in every.values())
        raise fault("effective_sample_size", f"methods without weights: {methods}", "one that draws weighted samples")
    ends = {name: float(row[-1]) for name, row in rows.items()}
    room = Room(left=0.62, right=width_of([(name, brief(end)) for name, end in ends.items()]), bottom=0.45)
    ax = panel(ax, (2.5, 1.9), room, title or "Effective sample size")
    open_axes(ax, "time t")
    top = 1.3 * max(float(row.max()) for row in rows.values())
    log_ticks(ax, *(scale or (0.8, max(top, 10.0))), (0.0, np.inf))
    ax.axhline(1.0, color=INK, linewidth=0.9, linestyle=":")
    for n, row in enumerate(rows.values()):
        ax.plot(row, color=LINES[n % 8], linewidth=1.5, marker="o" if len(row) == 1 else None, markersize=4)
    ax.set_xlim(0, max(1, *(len(row) - 1 for row in rows.values())))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    name_ends(ax, [Label(end, name, brief(end), LINES[n % 8]) for n, (name, end) in enumerate(ends.items())])
    each = (
        f"{name}: {show(float(row[0]))} at t = 0, {show(ends[name])} at t = {len(row) - 1}, "
        f"least {show(float(row.min()))} at t = {int(row.argmin())}"
        for name, row in rows.items()
    )
    return tell(ax, f"Effective sample size over time, logarithmic. {'; '.join(each)}.", ax.get_ylim())


def approximations_of(results: Any, where: str) -> dict[str, Approximation]:
    """Return approximations by name; a single one has the name of its method.

    Raises:
        WorldError: there is none, or a result is something else.
    """
    every = {results.method: results} if isinstance(results, Approximation) else dict(by_name(results, where))
    for one in every.values():
        if not isinstance(one, Approximation):
            raise fault(where, f"a {type(one).__name__}", "what cai.approximate returns")
    return every

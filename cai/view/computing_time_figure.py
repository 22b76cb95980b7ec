"""Cost against computing time: what each method reaches with the seconds that it is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from cai.errors import fault
from cai.support.numbers import brief, show
from cai.view.canvas import Array, Room, log_ticks, open_axes, panel, power
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.style import LINES, MARKERS
from cai.view.vector import tell

NATS = "nats to the posterior"


def cost_against_time(
    rows: Mapping[str, Sequence[tuple[float, ...]]],
    what: str = NATS,
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw what each method costs against its computing time, one mark for each setting.

    Both axes are logarithmic; that of the cost is linear where a cost is not above 0, as returns are.

    Args:
        rows: of each method by name (seconds, cost) for each setting, or (seconds, cost, standard error).
        what: the cost and its unit, for the title.
        scale: the ends of the vertical axis.
        title: above the panel; ``what`` unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: there is no row, a row has another length, seconds are not above 0, or a number is not finite.
    """
    points = {name: _sorted(name, each) for name, each in rows.items()}
    if not points:
        raise fault("cost_against_time, rows", "none", "at least one method with its seconds and costs")
    ends = {name: float(each[-1, 1]) for name, each in points.items()}
    room = Room(left=0.72, right=width_of([(name, brief(end)) for name, end in ends.items()]), bottom=0.45)
    ax = panel(ax, (2.6, 2.2), room, title or what)
    open_axes(ax, "computing time, seconds")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: power(seconds)))
    ax.xaxis.set_minor_locator(NullLocator())
    if all(float(each[:, 1].min()) > 0 for each in points.values()):
        costs = np.concatenate([each[:, 1] for each in points.values()])
        low, high = float(costs.min()), float(costs.max())
        log_ticks(ax, low / 1.5, high * 1.5, (0.0, np.inf))
    for n, (seconds, cost, error) in enumerate(each.T for each in points.values()):
        look: dict[str, Any] = {"color": LINES[n % 8], "marker": MARKERS[n % 8], "markersize": 4.5, "capsize": 2}
        ax.errorbar(seconds, cost, yerr=error if error.any() else None, **look, linewidth=1.4, elinewidth=0.8)
    if scale is not None:
        ax.set_ylim(*scale)
    name_ends(ax, [Label(end, name, brief(end), LINES[n % 8]) for n, (name, end) in enumerate(ends.items())])
    each = (f"{name}: {_told(every[0])} to {_told(every[-1])}" for name, every in points.items())
    return tell(ax, f"{what[0].upper()}{what[1:]} against computing time. {'; '.join(each)}.", ax.get_ylim())


def _sorted(name: str, each: Sequence[tuple[float, ...]]) -> Array:
    """Return seconds, costs and standard errors (0 where there are none), by seconds, ``[N, 3]``."""
    where = f"cost_against_time, {name}"
    if not each or any(len(row) not in (2, 3) for row in each):
        raise fault(where, f"{list(each)}", "rows (seconds, cost) or (seconds, cost, standard error)")
    rows = np.array([(*row, 0.0)[:3] for row in each], dtype=float)
    if not np.isfinite(rows).all() or not (rows[:, 0] > 0).all():
        raise fault(where, f"{list(each)}", "finite numbers, and seconds above 0")
    ordered: Array = rows[rows[:, 0].argsort()]
    return ordered


def _told(row: Array) -> str:
    error = f" ± {brief(float(row[2]), 2)}" if row[2] else ""
    return f"{show(float(row[1]))}{error} in {brief(float(row[0]))} s"

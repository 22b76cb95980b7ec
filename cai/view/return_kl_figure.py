"""Return against KL: policies and the paths of learners, before the exact Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from cai.errors import fault
from cai.evaluation.across_seeds import over_seeds
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.pareto_front import ParetoFront, pareto_front
from cai.evaluation.subject import Run
from cai.support.numbers import brief, show
from cai.view.canvas import WIDE, Array, Room, inches, open_axes, panel
from cai.view.curve_names import LINE
from cai.view.policy_looks import Look, looks_of
from cai.view.readings import by_name
from cai.view.style import GREY, INK
from cai.view.vector import tell

WHERE = "return_against_kl"
DECADES, POINTS = 2, 25
"""How far the front goes, colder and warmer than the policies, and by how many temperatures."""
FAR = 2.5
"""A KL of more than so many times the front's is drawn at the edge."""


@dataclass(frozen=True)
class Place:
    """A policy in the plane.

    Attributes:
        kl: to the prior, nats; of a learner the interquartile mean over seeds.
        earned: the expected return, reward units.
        seeds: the ends of a learner's seeds, ``[N, 2]``; of another policy the place itself.
        paths: how each seed came there, ``[M, 2]`` each.
    """

    kl: float
    earned: float
    seeds: Array
    paths: tuple[Array, ...] = ()

    @property
    def words(self) -> str:
        """The two numbers."""
        return f"{brief(self.earned)} at {brief(self.kl)} nats"


def return_against_kl(
    results: Comparison | Mapping[str, Evaluation],
    *,
    temperatures: Sequence[float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw expected return against KL to the prior, the exact Pareto front behind the policies.

    On the front lie the optima of all temperatures. Its slope is α. The dashed line touches it at the α of the
    policies: a policy that lies h reward units below that line is h/α nats short of the optimum, which is its policy
    nats. A learner's path leads to its mark, a line for each seed. A KL that is infinite or far is at the right edge.

    Args:
        results: a comparison, or evaluations by name, all of one world at one temperature.
        temperatures: of the front, reward units; from α/100 to 100 α unless given.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: a result is no evaluation, there is none, the world cannot be compiled, or a temperature is wrong.
        ImpossibleError: every policy earns -inf.
    """
    evaluation = _first(results)
    alpha = float(evaluation.temperature)
    at = np.geomspace(alpha / 10**DECADES, alpha * 10**DECADES, POINTS) if temperatures is None else temperatures
    front = pareto_front(evaluation.model, [*map(float, at), alpha])
    places = _places(results)
    edge = _edge(front, places)
    room = Room(left=0.62, right=0.15, bottom=0.5 + LINE * (len(places) + 1))
    ax = panel(ax, (WIDE, 2.5), room, title or f"return, reward units, α = {show(alpha)}")
    open_axes(ax, "KL to the prior, nats")
    ax.set_xlim(-0.02 * edge, edge)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    touch = int((front.temperature - alpha).abs().argmin())
    best = float(front.kl[touch]), float(front.expected_return[touch])
    _draw_front(ax, front)
    _frame(ax, front, places)
    ax.axline(best, slope=alpha, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
    looks = looks_of(results)
    for n, (name, place) in enumerate(places.items()):
        _draw_place(ax, place, looks[name], 4 - n / 99, edge)
    _key(ax, places, looks)
    return tell(ax, _told(front, alpha, best, places), None)


def _first(results: Comparison | Mapping[str, Evaluation]) -> Evaluation:
    """Return an evaluation of these results: the world and the temperature are those of all.

    Raises:
        WorldError: see ``return_against_kl``.
    """
    if isinstance(results, Comparison):
        each = [one.evaluation for subjects in results.subjects.values() for one in subjects]
    else:
        each = list(by_name(results, WHERE).values())
    for one in each:
        if not isinstance(one, Evaluation):
            seen = "a world that cannot be compiled" if one is None else f"a {type(one).__name__}"
            raise fault(WHERE, seen, "what cai.evaluate returns, or cai.compare on a world that compiles")
    found = [one for one in each if one is not None]
    if any(one.model is not found[0].model or one.temperature != found[0].temperature for one in found):
        raise fault(WHERE, "results of several worlds or temperatures", "one compiled world at one temperature")
    return found[0]


def _places(results: Comparison | Mapping[str, Evaluation]) -> dict[str, Place]:
    if not isinstance(results, Comparison):
        return {name: _place([one], ()) for name, one in results.items()}
    found = {}
    for name, subjects in results.subjects.items():
        paths = tuple(path_of(one.run, results.temperature) for one in subjects if one.run is not None)
        found[name] = _place([one.evaluation for one in subjects if one.evaluation is not None], paths)
    return found


def _place(each: Sequence[Evaluation], paths: tuple[Array, ...]) -> Place:
    seeds = np.array([[one.kl_to_prior, one.expected_return] for one in each])
    kl, earned = (over_seeds(axis.tolist()) for axis in seeds.T)
    return Place(nan if kl is None else kl.value, nan if earned is None else earned.value, seeds, paths)


def path_of(run: Run, temperature: float) -> Array:
    """Return KL to the prior, nats, and return, reward units, of each evaluation of a learner, ``[M, 2]``.

    ``KL = return/α - ELBO``. An evaluation that does not know both is left out.
    """
    alpha = run.temperature or temperature
    known = [(row.stochastic_return, row.elbo) for row in run.history]
    pairs = [(j / alpha - elbo, j) for j, elbo in known if j is not None and elbo is not None]
    path = np.array(pairs, dtype=float).reshape(-1, 2)
    finite: Array = path[np.isfinite(path).all(-1)]
    return finite


def _edge(front: ParetoFront, places: Mapping[str, Place]) -> float:
    """Return the right end of the KL axis: what lies much farther than the front does is drawn there."""
    most = float(front.kl.max())
    near = [kl for place in places.values() for kl in place.seeds[:, 0] if kl <= FAR * most]
    return 1.06 * max([most, *near]) or 1.0


def _frame(ax: Axes, front: ParetoFront, places: Mapping[str, Place]) -> None:
    earned = [*front.expected_return.tolist(), *(j for place in places.values() for j in place.seeds[:, 1])]
    finite = [j for j in earned if isfinite(j)]
    low, high = min(finite), max(finite)
    air = 0.07 * (high - low) or 0.05 * max(1.0, abs(high))
    ax.set_ylim(low - air, high + air)


def _draw_front(ax: Axes, front: ParetoFront) -> None:
    """Draw the front: between two points the parabola that has their tangents; from its cold end on it is level."""
    kl, earned, alpha = (field.numpy() for field in (front.kl, front.expected_return, front.temperature))
    bends = front.bends.numpy()
    heights = earned[1:] + alpha[1:] * (bends - kl[1:])
    corners: list[tuple[float, float]] = [(float(kl[0]), float(earned[0]))]
    for n in range(len(bends)):
        corners += [(float(bends[n]), float(heights[n])), (float(kl[n + 1]), float(earned[n + 1]))]
    codes = [Path.MOVETO, *[Path.CURVE3] * (len(corners) - 1)]
    ax.add_patch(PathPatch(Path(corners, codes), fill=False, edgecolor=INK, linewidth=1.3, zorder=2))
    ax.plot([kl[0], ax.get_xlim()[1]], [earned[0], earned[0]], color=INK, linewidth=0.7, linestyle=":", zorder=1.4)


def _draw_place(ax: Axes, place: Place, own: Look, above: float, edge: float) -> None:
    colour, marker = own.colour, own.marker
    fine = len(place.paths) > 3
    for path in place.paths:
        ax.plot(
            *path.T,
            color=colour,
            linestyle=own.dash,
            linewidth=0.7 if fine else 1.1,
            alpha=0.5 if fine else 0.85,
            zorder=2.5,
        )
    for kl, earned in place.seeds:
        look: dict[str, Any] = {
            "markersize": 4 if len(place.seeds) > 1 else 5.5,
            "clip_on": False,
            "zorder": above,
        }
        beyond = kl >= edge
        ax.plot(min(kl, edge), earned, marker=">" if beyond else marker, color=colour, **look)


def _key(ax: Axes, places: Mapping[str, Place], looks: Mapping[str, Look]) -> None:
    """Name the policies below the panel, where a narrow page has room for them."""
    width, height = inches(ax)
    for n, (name, place) in enumerate(places.items()):
        y, own = -(0.52 + LINE * n) / height, looks[name]
        mark: dict[str, Any] = {
            "marker": own.marker,
            "markersize": 5.5,
            "linestyle": own.dash if place.paths else "",
            "linewidth": 1.1,
        }
        key = [-0.42 / width, -0.28 / width, -0.14 / width]
        ax.plot(key, [y] * 3, **mark, markevery=[1], color=own.colour, transform=ax.transAxes, clip_on=False)
        words: dict[str, Any] = {"transform": ax.transAxes, "va": "center", "fontsize": 8, "color": INK}
        ax.text(-0.05 / width, y, f"{name}: {place.words}", **words)


def _told(front: ParetoFront, alpha: float, best: tuple[float, float], places: Mapping[str, Place]) -> str:
    ends = f"from {show(float(front.expected_return[-1]))} at {show(float(front.kl[-1]))} nats"
    ends += f" to {show(float(front.expected_return[0]))} at {show(float(front.kl[0]))} nats"
    touch = f"at α = {show(alpha)} the optimum: {show(best[1])} at {show(best[0])} nats"
    each = (f"{name}: {show(place.earned)} at {show(place.kl)} nats" for name, place in places.items())
    return (
        f"Expected return, reward units, against KL to the prior, nats. The exact Pareto front goes {ends}; {touch}. "
        f"{'; '.join(each)}."
    )

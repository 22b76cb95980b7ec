"""A world of real states on a page: its equations, tubes, phase portraits, reward and nats by time, gains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.errors import NO_ANSWER
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.exact.messages import Messages
from cai.support.numbers import ROUNDING, show
from cai.support.wording import listed
from cai.view.cost_figure import cost_over_time
from cai.view.gain_figure import gains_over_time
from cai.view.panel_rows import side_by_side
from cai.view.portrait import phase_portrait
from cai.view.real_readings import acting_at, is_affine
from cai.view.reports import pictures
from cai.view.reports.cells import number, plain_table, words
from cai.view.reports.sections import Cell, Fold, Head, Line, Part, Request, Section, Table, Words
from cai.view.system_words import equations
from cai.view.tube_figure import tubes

MOST = 6
"""Coordinates, and policies, that are drawn, a panel each."""
LARGE = 12
"""Coordinates of the state up to which a system is written out."""
LONG = 2000
"""Times up to which something is drawn over time."""
PROMISED = "p(· | O)"


def system(request: Request) -> Iterator[Section]:
    """Write the world as equations and matrices, and say what nats are relative to."""
    model = request.each[0].model
    if not isinstance(model, LinearGaussian):
        return
    at = "shown at t = 0, since its slices differ over time" if model.timed else "the same at every time"
    parts: list[Part] = [Words(f"The world is a linear-Gaussian system, {at}.{measured_against(model)}")]
    if model.states.dimension <= LARGE:
        parts.append(plain_table("The system as equations", ("what", "is"), equations(model)))
        parts.append(Fold("Matrices", "A, B, and the covariance of the noise", tuple(_matrices(model))))
    yield Section("system", "The system", tuple(parts), "System")


def measured_against(model: LinearGaussian) -> str:
    """Say what the nats of a policy are relative to."""
    flat = model.slices.flat
    if not bool(flat.any()):
        return " Every number in nats is relative to its Gaussian action prior."
    which = "" if bool(flat.all()) else " in some directions"
    return (
        f" Its action prior is flat{which}, Lebesgue measure of density 1: numbers in nats are log densities, "
        "relative to it, and change with the unit of the action."
    )


def _matrices(model: LinearGaussian) -> Iterator[Table]:
    sl, n, m = model.at(0), model.states.dimension, model.actions.dimension
    G, states, actions = sl.transition[..., n + m :], model.states.labels, model.actions.labels
    following = tuple(f"next {name}" for name in states)
    yield _matrix("A: the next state per state", following, states, sl.transition[..., :n])
    yield _matrix("B: the next state per action", following, actions, sl.transition[..., n : n + m])
    yield _matrix("GGᵀ: the covariance of the noise", following, states, G @ G.mT)


def _matrix(label: str, rows: tuple[str, ...], columns: tuple[str, ...], M: Tensor) -> Table:
    lines = (Line(name, tuple(number(float(x)) for x in row)) for name, row in zip(rows, M, strict=True))
    return Table(label, label.partition(":")[0], tuple(map(Head, columns)), tuple(lines))


def marginals(request: Request) -> Iterator[Section]:
    """Draw each coordinate of state and action over time, a tube a policy."""
    comparison, model = _timed(request)
    if comparison is None or model is None:
        return
    shown = measured(comparison)
    names = [*model.states.labels[:MOST], *model.actions.labels[:MOST]]
    promised = _promised(comparison)
    lead = "Mean and 95 % band of each coordinate"
    caption = f"{lead}, a tube a policy, under the true dynamics."
    if promised:
        caption += f" {PROMISED} is the posterior's own marginal, given that all goes well."
    parts: list[Part] = [
        pictures.picture("marginals", "Marginals over time", caption, _tubes_of, shown | promised, names)
    ]
    more = model.states.dimension + model.actions.dimension - len(names)
    parts += [Words(f"{more} more coordinates are not drawn: cai.view.tubes draws any.", "mark")] if more else []
    parts += _left_out(comparison, shown)
    yield Section("marginals", f"Where state and action are, α = {show(comparison.temperature)}", tuple(parts), "Tubes")


def portraits(request: Request) -> Iterator[Section]:
    """Draw the first two coordinates of the state: value, mean path and marginals."""
    comparison, model = _timed(request)
    if comparison is None or model is None or model.states.dimension < 2:
        return
    x, y, *rest = model.states.labels
    own = _promised(comparison) | _best(comparison)
    caption = (
        "Level lines: v at t = 0, reward units, yellow is best. Line: the mean of s_0 to s_T; ellipses: 95 % of the "
        "probability at six times. Arrows: the mean of one step."
    )
    others = ", the other coordinates at their mean" if rest else ""
    parts: list[Part] = [Words(f"{y} over {x}{others}.")]
    parts += [pictures.picture("portraits", "What the rules expect", caption, _portraits_of, own, x, y)] if own else []
    affine = {name: one for name, one in measured(comparison).items() if is_affine(one)}
    if affine and comparison.elbo_star is not None:  # else what was observed is left to chance: the return is -inf
        few = dict(list(affine.items())[:MOST])
        caption = "The same under the true dynamics. Level lines: the expected return from t = 0 on, all on one scale."
        parts.append(
            pictures.picture(
                "portraits-policies", "What the policies get", caption, side_by_side, phase_portrait, few, x=x, y=y
            )
        )
    yield Section("portraits", "Phase portraits", tuple(parts), "Portraits")


def costs(request: Request) -> Iterator[Section]:
    """Draw reward, KL to the prior and losses by time."""
    comparison, _ = _timed(request)
    shown = {} if comparison is None else measured(comparison)
    if comparison is None or not shown:
        return
    whats = ["reward", "kl", "regret"]
    whats += ["policy"] if comparison.elbo_star is not None else []
    whats += ["action", "luck"] if comparison.log_evidence is not None else []
    caption = "At each time; the number beside a name is the sum over all times. Reward and regret in reward units."
    parts: list[Part] = [pictures.picture("costs", "Reward and nats by time", caption, _costs_of, shown, whats)]
    endless = [name for name, one in shown.items() if one.kl_to_prior == float("inf")]
    if endless:
        names = listed(endless)
        text = f"A deterministic policy has no density: the nats of {names} are infinite relative to a Gaussian prior."
        parts.append(Words(text, "mark"))
    yield Section("costs", "Reward and nats, by time", (*parts, *_left_out(comparison, shown)), "Costs")


def gains(request: Request) -> Iterator[Section]:
    """Show the gains of each affine policy: over time, and at t = 0 as a table."""
    comparison: Comparison = request.each[0]
    if not isinstance(comparison.model, LinearGaussian):
        return
    model = comparison.model
    affine = {name: one for name, one in measured(comparison).items() if is_affine(one)}
    if not affine:
        return
    text = (
        "Every policy here draws a ~ N(gain · s + offset, deviation²). A gain says how far one unit of a coordinate "
        "moves the action."
    )
    parts: list[Part] = [Words(text), _gain_table(model, affine)]
    if model.horizon is not None and model.horizon <= LONG:
        for name in model.actions.labels[:3]:
            few = dict(list(affine.items())[:MOST])
            caption = "The number beside a name is the gain at t = 0. All on one scale."
            parts.append(
                pictures.picture(
                    f"gains-{_plain(name)}",
                    f"Gains of {name}",
                    caption,
                    side_by_side,
                    gains_over_time,
                    few,
                    action=name,
                )
            )
    yield Section("gains", "The policies: gains over time", tuple(parts), "Gains")


def _gain_table(model: LinearGaussian, affine: Mapping[str, Evaluation]) -> Table:
    states = model.states.labels[:LARGE]
    heads = (Head("action", wordy=True), *(Head(f"per {name}") for name in states), Head("offset"), Head("deviation"))
    lines = []
    for name, one in affine.items():
        act = acting_at(one, 0)
        spread = act.covariance.diagonal().clamp(min=0).sqrt()
        for i, action in enumerate(model.actions.labels):
            row = [*act.gain[i, : len(states)].tolist(), float(act.offset[i]), float(spread[i])]
            cells: tuple[Cell, ...] = (words(action), *map(number, row))
            lines.append(Line(name, cells))
    return Table("The policies at t = 0", "policy", heads, tuple(lines))


def measured(comparison: Comparison) -> dict[str, Evaluation]:
    """Return the evaluations that are drawn, of a learner that of its first seed; the prior only where it is alone."""
    every = {
        name if len(each) == 1 or each[0].run is None else f"{name}, seed {each[0].run.seed}": each[0].evaluation
        for name, each in comparison.subjects.items()
    }
    known = {name: one for name, one in every.items() if one is not None}
    acting = {name: one for name, one in known.items() if one.kl_to_prior > ROUNDING}
    return acting or known


def _left_out(comparison: Comparison, shown: Mapping[str, Evaluation]) -> list[Part]:
    if len(shown) == len(comparison.subjects):
        return []
    return [Words("The prior is not drawn: its range is so large that the other curves could not be read.", "mark")]


def _timed(request: Request) -> tuple[Comparison | None, LinearGaussian | None]:
    """Return the coldest comparison and its system, where there is one that has times to be drawn."""
    comparison: Comparison = request.each[0]
    model = comparison.model
    if not isinstance(model, LinearGaussian) or model.horizon is None or model.horizon > LONG:
        return None, None
    return (comparison, model) if measured(comparison) else (None, None)


def _promised(comparison: Comparison) -> dict[str, Any]:
    return {} if comparison.log_evidence is None else _of(comparison, PROMISED, lambda one: one.posterior)


def _best(comparison: Comparison) -> dict[str, Any]:
    return {} if comparison.elbo_star is None else _of(comparison, "VARIATIONAL", lambda one: one.variational)


def _of(comparison: Comparison, name: str, read: Callable[[Evaluation], Messages]) -> dict[str, Any]:
    return {name: read(next(iter(measured(comparison).values())))}


def _tubes_of(results: Mapping[str, Any], names: Sequence[str]) -> dict[str, Figure]:
    return {name: tubes(results, name, title=name) for name in names}


def _portraits_of(results: Mapping[str, Any], x: str, y: str) -> dict[str, Figure]:
    return {name: phase_portrait(one, x, y, title=name) for name, one in results.items()}


def _costs_of(shown: Mapping[str, Evaluation], whats: Sequence[str]) -> dict[str, Figure]:
    """Draw what there is of these, the rest left out."""
    drawn = {}
    for what in whats:
        with suppress(*NO_ANSWER):
            drawn[what] = cost_over_time(shown, what)
    return drawn


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")

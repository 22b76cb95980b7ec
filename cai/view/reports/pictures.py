"""The figures of a report, in order, each with a line on how to read it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
from matplotlib.figure import Figure

from cai.compile.factor_model import Factors
from cai.evaluation.by_horizon import ByHorizon, by_horizon
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.learn.result import Learned
from cai.support.numbers import rounded
from cai.view.bars import column_bars, nats_bars
from cai.view.curves import elbo_curves
from cai.view.entanglement import entanglement_figure
from cai.view.graph_figure import graph
from cai.view.horizon_figures import horizon_curves
from cai.view.ladder import temperature_ladder
from cai.view.map_figures import nats_map, occupancy_map, value_map
from cai.view.over_time import messages_over_time, nats_over_time, occupancy_over_time, place
from cai.view.panel_rows import side_by_side
from cai.view.profiles import performance_profiles
from cai.view.reports.sections import Picture
from cai.view.return_kl_figure import return_against_kl
from cai.view.seed_curves import learning_curves
from cai.view.sizes import largest_part
from cai.view.tube_figure import tubes
from cai.view.twin_figure import twins
from cai.view.vector import svg
from cai.world.program import Guide

GRAPH = 24
"""Nodes up to which the graph of a world whose variables are kept apart is drawn: more are a thicket."""

SOLVED = 500_000
"""Entries of the tables of all times up to which the front of all temperatures is solved without being asked for."""
MOST = 12
"""State variables that are drawn, a panel each."""
PROMISED = "promised by POSTERIOR"


Draw = Callable[..., Figure | Mapping[str, Figure]]


def picture(name: str, title: str, caption: str, draw: Draw, *args: Any, **options: Any) -> Picture:
    """Draw a figure, or several side by side, as a part of a section: ``draw(*args, **options)``."""
    drawn = draw(*args, **options)
    each = [drawn] if isinstance(drawn, Figure) else list(drawn.values())
    return Picture(name, title, caption, tuple(svg(one) for one in each))


def each_of(draw: Callable[..., Figure], result: Any, whats: Sequence[str]) -> dict[str, Figure]:
    """Draw several things of one result, each on a scale of its own."""
    return {what: draw(result, what) for what in whats}


def key_picture(comparison: Comparison) -> Iterator[Picture]:
    """Draw return and ELBO of each policy as bars: the figure that matters first."""
    fields = ("expected_return", "elbo")
    known = [field for field in fields if any(row.cells.get(field) is not None for row in comparison.rows)]
    if known:
        caption = "Longer is better." + (" Lines: 95 % intervals over seeds." if over_seeds(comparison) else "")
        title = "Return and ELBO of each policy" if len(known) > 1 else "What each policy reaches"
        yield picture("key", title, caption, each_of, column_bars, comparison, known)


def across_pictures(comparisons: Sequence[Comparison]) -> Iterator[Picture]:
    """Draw what spans all temperatures, and other horizons."""
    first = comparisons[0]
    if first.model is None:
        return
    if len(comparisons) > 1:
        caption = (
            "Every policy at every temperature, colder to the left. Return and α·ELBO in reward units, gaps in nats."
        )
        whats = ("return", "elbo", "gap")
        yield picture("ladder", "The ladder of temperatures", caption, each_of, temperature_ladder, comparisons, whats)
    spans = [span for span in map(by_horizon, comparisons) if span is not None]
    T = first.model.horizon
    if spans and T is not None:
        caption = "The exact answers at other horizons. The upright line is this world's own horizon."
        yield picture("horizons", "How much time is enough?", caption, _horizons, spans, T)


def _horizons(spans: Sequence[ByHorizon], T: int) -> dict[str, Figure]:
    return {"value": horizon_curves(spans, T), "per step": horizon_curves(spans, T, per_step=True)}


def learning(comparison: Comparison) -> Iterator[Picture]:
    """Draw how fits and learners came to be good, and where they still lose."""
    key, runs = f"alpha-{comparison.temperature!r}", comparison.runs
    fits = {name: run for name, (run, *_) in runs.items() if isinstance(run, Learned) and run.estimator}
    if fits:
        caption = "ELBO(π) of each fit against its steps, and what was still missing to ELBO*."
        yield picture(f"{key}-fits", "How the fits went", caption, _fits, comparison, fits)
    if any("policy_nats" in curves for name, curves in comparison.curves.items() if name not in fits):
        caption = "What is still missing to ELBO*, step by step: lower is better. Band: 95 % over seeds."
        yield picture(
            f"{key}-learning", "Policy nats while learning", caption, learning_curves, comparison, "policy_nats"
        )
    known = [field for field in RETURNS if any(field in curves for curves in comparison.curves.values())]
    if known:
        caption = "The return of the policy, which acts by its chances, and of its most probable action."
        yield picture(f"{key}-returns", "Returns while learning", caption, each_of, learning_curves, comparison, known)
    if comparison.profiles and over_seeds(comparison):
        caption = "The share of runs above each score: 0 is the prior's ELBO, 1 is ELBO*. Farther right is better."
        yield picture(f"{key}-profiles", "Performance profiles", caption, performance_profiles, comparison)
    if runs and comparison.elbo_star is not None and has_map(comparison):
        caption = "Policy nats of each cell, all times together, the mean over seeds."
        each = {name: _evaluated(comparison, name) for name in runs}
        yield picture(
            f"{key}-losses", "Where each learner still loses", caption, side_by_side, nats_map, each, what="policy"
        )


RETURNS = ("stochastic_return", "deterministic_return")


def _evaluated(comparison: Comparison, name: str) -> list[Evaluation]:
    return [subject.evaluation for subject in comparison.subjects[name] if subject.evaluation is not None]


def _fits(comparison: Comparison, fits: Mapping[str, Learned]) -> Mapping[str, Figure]:
    """Draw fits against ELBO*, and full guides, which bend start and dynamics too, against log Z."""
    log_z, shown = comparison.log_evidence, dict(fits)
    for name, run in fits.items():
        if isinstance(run.policy, Guide):  # its gaps are to log Z: the figure's would be to ELBO*
            log_z = run.elbo_star
            points = tuple(replace(point, policy_nats=None) for point in run.history)
            shown[name] = replace(run, elbo_star=None, history=points)
    return elbo_curves(shown, elbo_star=comparison.elbo_star, log_evidence=log_z, among=comparison)


def over_seeds(comparison: Comparison) -> bool:
    """Return whether some learner has several seeds."""
    return any(len(runs) > 1 for runs in comparison.runs.values())


def has_map(comparison: Comparison) -> bool:
    """Return whether the world lies in space."""
    return comparison.tables is not None and comparison.tables.layout is not None


def model_pictures(comparison: Comparison, dag: nx.DiGraph | None) -> Iterator[Picture]:
    """Draw the model, and of a world whose variables are kept apart how a backup ties them."""
    model = comparison.model
    if dag is not None and (len(dag) <= GRAPH or not isinstance(model, Factors)):
        yield graph_picture(dag)
    if isinstance(model, Factors):
        caption = "Which variables the backward message ties as they are summed out, one after the other."
        yield picture("elimination", "One backup", caption, entanglement_figure, largest_part(model))


def graph_picture(dag: nx.DiGraph) -> Picture:
    """Draw a world's graph."""
    return picture("graph", "The graph of the model", "Read off the program. Shaded: observed.", graph, dag)


def at_temperature(comparison: Comparison) -> Iterator[Picture]:
    """Draw where the nats go; of tables what each policy is worth, where it goes and where it loses."""
    key = f"alpha-{comparison.temperature!r}"
    if comparison.log_evidence is not None:
        caption = "From log Z down to each policy's ELBO, and from ELBO* down to it. Shorter is better."
        yield picture(f"{key}-accounts", "Where the nats go", caption, _accounts, comparison)
    if off_the_front(comparison):
        caption = (
            "The line: the most that any policy earns with a given KL, the optimum at each temperature. How far a mark "
            "lies below the dashed line, over α, is its policy nats."
        )
        yield picture(f"{key}-front", "Return against KL to the prior", caption, return_against_kl, comparison)
    if isinstance(comparison.model, Factors) and comparison.model.horizon is not None:
        names = comparison.model.states.names[:MOST]
        caption = "The mean of each state variable and the band that holds most of its chances, a tube a policy."
        yield picture(f"{key}-variables", "How each variable fares", caption, each_of, tubes, comparison, names)
    if has_map(comparison) and comparison.evaluations:
        shown = _promised(comparison) | dict(comparison.evaluations)
        caption = "Colour and number: v in reward units, at the first step. Arrows: the policy, larger is likelier."
        yield picture(f"{key}-values", "Values and policies", caption, side_by_side, value_map, shown)
        caption = "How often each cell is visited in an episode, all times together."
        yield picture(f"{key}-visits", "Where each policy goes", caption, side_by_side, occupancy_map, comparison)
    if comparison.tables is not None and comparison.evaluations:
        yield from _losses(comparison, key)


def off_the_front(comparison: Comparison) -> bool:
    """Return whether a policy is neither the prior nor the optimum, on tables that are soon solved many times."""
    star, tables = comparison.elbo_star, comparison.tables
    if (
        tables is None
        or star is None
        or tables.log_prob.numel() * (1 if tables.timed else tables.horizon or 1) > SOLVED
    ):
        return False
    each = [one.evaluation for subjects in comparison.subjects.values() for one in subjects]
    return any(
        one is not None and 0 < one.kl_to_prior < float("inf") and rounded(one.optimality_gap, star) for one in each
    )


def _accounts(comparison: Comparison) -> Mapping[str, Figure]:
    drawn = {"evidence": nats_bars(comparison)}
    return drawn | ({"best": column_bars(comparison, "policy_nats")} if comparison.elbo_star is not None else {})


def over_time(comparison: Comparison) -> Iterator[Picture]:
    """Draw values and occupancy by state and time."""
    if comparison.tables is None or not comparison.evaluations:
        return
    key = f"alpha-{comparison.temperature!r}"
    shown = _promised(comparison) | dict(comparison.evaluations)
    caption = "v of each state and time: what is still to come. Messages run from right to left."
    yield picture(f"{key}-value-heat", "Values over time", caption, side_by_side, messages_over_time, shown)
    caption = "The probability of each state at each time."
    yield picture(
        f"{key}-occupancy", "Where each policy is, and when", caption, side_by_side, occupancy_over_time, comparison
    )


def _promised(comparison: Comparison) -> dict[str, object]:
    """Return POSTERIOR's own messages by name, where they are finite: what it promises, not what its policy gets."""
    if comparison.log_evidence is None:
        return {}
    return {PROMISED: next(iter(comparison.evaluations.values())).posterior}


def _losses(comparison: Comparison, key: str) -> Iterator[Picture]:
    """Draw policy nats and luck nats, on the map where there is one."""
    draw = nats_map if has_map(comparison) else nats_over_time
    for what, field, end, title, caption in (
        ("policy", "policy_nats", comparison.elbo_star, "Policy nats",
         "What a better policy could still win, place by place. Policies that lose nothing are left out."),
        ("luck", "luck_nats", comparison.log_evidence, "Luck nats",
         "Where the posterior counts on luck that the world does not give."),
    ):  # fmt: skip
        losing = {} if end is None else _losing(comparison, field)
        if losing:
            yield picture(f"{key}-{what}-nats", title, caption, side_by_side, draw, losing, what=what)
    tables = comparison.tables
    losing = {} if comparison.elbo_star is None else _losing(comparison, "policy_nats")
    if losing and tables is not None and in_parts(tables.states.labels):
        caption = "The same nats. States whose names end alike are one row: for texts, the state of the automaton."
        yield picture(f"{key}-places", "Policy nats by place", caption, side_by_side, nats_over_time, losing, by=place)


def in_parts(labels: Sequence[Sequence[str | None] | None]) -> bool:
    """Return whether states have names in parts, ``th|the``."""
    return (
        len(labels) == 1
        and labels[0] is not None
        and all((name and "|" in name) or name == "ended" for name in labels[0])
    )


def _losing(comparison: Comparison, field: str) -> dict[str, object]:
    scale = comparison.log_evidence or comparison.elbo_star
    return {
        name: evaluation
        for name, evaluation in comparison.evaluations.items()
        if rounded(float(getattr(evaluation, field).sum()), scale) != 0
    }


def nothing(comparison: Comparison, field: str) -> bool:
    """Return whether no policy has any of these nats, rounding apart."""
    return not _losing(comparison, field)


def twin_promises(names: Sequence[str], pairs: Sequence[tuple[Comparison, Comparison]]) -> Iterator[Picture]:
    """Draw log Z of both worlds on one line, and their two ELBO* apart."""
    fields = ("log_evidence", "elbo_star")
    if any(all(getattr(one, field) is not None for one in pair for field in fields) for pair in pairs):
        caption = "Diamonds: what the posterior promises, the same in both where one is a ring around the other."
        yield picture("twins-figure", "Promised, and reached", caption, twins, names, pairs)


def twin_maps(names: Sequence[str], a: Comparison, b: Comparison) -> Iterator[Picture]:
    """Draw the best policy of both worlds on their maps, side by side, on one scale, where both have one."""
    if not all(has_map(one) and one.evaluations and one.elbo_star is not None for one in (a, b)):
        return
    best = {name: next(iter(one.evaluations.values())).variational for name, one in zip(names, (a, b), strict=True)}
    caption = "v of VARIATIONAL at the first step, and its policy, on one scale."
    yield picture("twin-maps", "The best policy of each world", caption, side_by_side, value_map, best)

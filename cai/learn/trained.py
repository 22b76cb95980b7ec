"""learn_all and fit_all: many learners or fits at many temperatures, here or on a cluster."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.errors import CaiError
from cai.learn.names import at_temperature, learner_of
from cai.learn.remote import RemoteRun, learned_remotely
from cai.learn.result import Learned
from cai.learn.seeds import BrokenOff, checkpoint_of, many
from cai.learn.svi.fit import Compiled, fit
from cai.support.numbers import finite
from cai.support.parallel import each
from cai.support.progress import bar
from cai.world.program import Guide

Outcome = Learned | CaiError
Outcomes = Iterable[tuple[float, str, Sequence[Outcome]]]
"""A temperature, a name, and what became of its runs; fewer than all after Ctrl-C."""


@dataclass(frozen=True)
class Trained:
    """The runs of all learners at one temperature.

    Attributes:
        temperature: α, reward units.
        runs: by name, in the order of the seeds; after Ctrl-C some may be missing.
        left_out: the names without runs, and the reason.
        whole: whether nothing is missing.
    """

    temperature: float
    runs: Mapping[str, tuple[Learned, ...]]
    left_out: Mapping[str, CaiError]
    whole: bool


def learn_all(
    learners: Sequence[str],
    world: Any,
    *,
    temperatures: Sequence[float] = (1.0,),
    seeds: Sequence[int] = range(10),
    jobs: int = 1,
    ray: str | None = None,
    folder: Path | None = None,
    **settings: Any,
) -> Iterator[Trained]:
    """Run learners with many seeds at every temperature; yield the runs of a temperature as soon as all are done.

    A learner that cannot learn on this world is left out. Ctrl-C ends all runs and yields the finished ones.

    Args:
        learners: names of learners. A name with ``soft_`` before it learns at the temperature; one without learns the
            hard objective, and is measured at the temperature.
        world: the world or environment.
        temperatures: α > 0, reward units.
        seeds: one run each.
        jobs: processes at a time.
        ray: a Ray cluster in place of processes; all runs go on at once.
        folder: stores a checkpoint of every run, in a folder for each temperature; the same call goes on from them.
        settings: arguments of every learner and of its training.

    Raises:
        WorldError: the cluster cannot be reached, or an argument is not valid.
    """
    steps = settings.get("steps", "own")
    folders = {alpha: None if folder is None else folder / f"alpha-{alpha!r}-steps-{steps}" for alpha in temperatures}
    outcomes = (
        _learned_here(learners, world, folders, seeds, jobs, settings)
        if ray is None
        else _learned_remotely(learners, world, folders, seeds, ray, settings)
    )
    return _by_temperature(outcomes, temperatures, learners, len(seeds))


def fit_all(
    policies: Sequence[str],
    world: Any,
    *,
    temperatures: Sequence[float] = (1.0,),
    model: Compiled | None = None,
    ray: str | None = None,
    **settings: Any,
) -> Iterator[Trained]:
    """Fit policies at every temperature; yield the fits of a temperature as soon as all are done.

    A policy that cannot be fitted is left out. Ctrl-C ends all fits and yields the finished ones.

    Args:
        policies: by name, as ``fit`` makes them.
        world: a world.
        temperatures: α > 0, reward units.
        model: what the world was compiled to, if it is already.
        ray: a Ray cluster, on which all fits run at once.
        settings: other arguments of ``fit``.

    Raises:
        WorldError: the cluster cannot be reached.
    """
    asked = [(alpha, name) for alpha in temperatures for name in policies]

    def outcomes() -> Iterator[tuple[float, str, Sequence[Outcome]]]:
        for n, outcome in each(_fitted, (world, model, settings), asked, ray=ray, title="fits"):
            yield *asked[n], [outcome]
            if _interrupted(outcome):
                return

    return _by_temperature(outcomes(), temperatures, policies, 1)


def fit_record(name: str, fitted: Learned, log_evidence: float | None) -> dict[str, Any]:
    """Return the numbers of a fit as plain data, None where one is not known; the gap is ``bound`` - ELBO, nats."""
    full = isinstance(fitted.policy, Guide)
    numbers = {
        "elbo": fitted.elbo,
        "standard_error": fitted.standard_error,
        "samples": fitted.samples,
        "elbo_star": None if full else fitted.elbo_star,
        "log_evidence": fitted.elbo_star if full else log_evidence,
        "gap": fitted.gap,
    }
    head = {"name": name, "temperature": fitted.temperature, "estimator": fitted.estimator}
    bound = None if fitted.elbo_star is None else "log Z" if full else "ELBO*"
    return {**head, **finite(numbers), "bound": bound, "steps": fitted.steps, "stopped": fitted.stopped}


def _fitted(common: tuple[Any, Compiled | None, Mapping[str, Any]], asked: tuple[float, str]) -> Outcome:
    (world, model, settings), (alpha, name) = common, asked
    try:
        return fit(world, name, model=model, temperature=alpha, **settings)
    except CaiError as error:
        return error


def _learned_here(
    learners: Sequence[str],
    world: Any,
    folders: Mapping[float, Path | None],
    seeds: Sequence[int],
    jobs: int,
    settings: Mapping[str, Any],
) -> Iterator[tuple[float, str, Sequence[Outcome]]]:
    asked_for = [(alpha, folder, name) for alpha, folder in folders.items() for name in learners]
    with bar("learners", len(asked_for)) as tell:
        for n, (alpha, folder, name) in enumerate(asked_for):
            tell(n, f"{name} at α = {alpha:g}")
            asked = {**settings, **at_temperature(name, alpha), "folder": folder}
            try:
                yield alpha, name, many(name, world, seeds=seeds, jobs=jobs, **asked)
            except CaiError as error:
                yield alpha, name, [error]
            except BrokenOff as broken:
                yield alpha, name, broken.runs
                return


def _learned_remotely(
    learners: Sequence[str],
    world: Any,
    folders: Mapping[float, Path | None],
    seeds: Sequence[int],
    ray: str,
    settings: Mapping[str, Any],
) -> Iterator[tuple[float, str, Sequence[Outcome]]]:
    asked = [(alpha, name, seed) for alpha in folders for name in learners for seed in seeds]
    runs = [
        RemoteRun(
            learner_of(name),
            {**settings, **at_temperature(name, alpha), "seed": seed},
            None if folder is None else checkpoint_of(folder, name, seed),
        )
        for alpha, name, seed in asked
        for folder in [folders[alpha]]
    ]
    ended: dict[tuple[float, str], dict[int, Outcome]] = {(alpha, name): {} for alpha, name, _ in asked}
    try:
        for n, outcome in learned_remotely(world, runs, ray=ray):
            alpha, name, seed = asked[n]
            ended[alpha, name][seed] = outcome
            if len(ended[alpha, name]) == len(seeds):
                yield alpha, name, _in_order(ended.pop((alpha, name)))
    except KeyboardInterrupt:
        for (alpha, name), part in ended.items():
            yield alpha, name, _in_order(part)


def _in_order(by_seed: Mapping[int, Outcome]) -> list[Outcome]:
    return [by_seed[seed] for seed in sorted(by_seed)]


def _by_temperature(
    outcomes: Outcomes, temperatures: Sequence[float], names: Sequence[str], count: int
) -> Iterator[Trained]:
    """Gather what comes in any order; the temperatures are yielded in theirs, those cut short by Ctrl-C at the end."""
    ended: dict[float, dict[str, Sequence[Outcome]]] = {alpha: {} for alpha in temperatures}
    waiting, whole = list(ended), True
    try:
        for alpha, name, runs in outcomes:
            ended[alpha][name] = runs
            whole = whole and not any(map(_interrupted, runs)) and (len(runs) == count or bool(_failed(runs)))
            while whole and waiting and len(ended[waiting[0]]) == len(names):
                first = waiting.pop(0)
                yield _trained(first, names, ended[first], whole)
    except KeyboardInterrupt:
        whole = False
    if not whole:
        begun = [alpha for alpha in waiting if ended[alpha]] or waiting[:1]
        yield from (_trained(alpha, names, ended[alpha], whole) for alpha in begun)


def _trained(alpha: float, names: Sequence[str], ended: Mapping[str, Sequence[Outcome]], whole: bool) -> Trained:
    failed = {name: error for name in names for error in _failed(ended.get(name, ()))[:1]}
    runs = {
        name: tuple(run for run in ended[name] if isinstance(run, Learned))
        for name in names
        if name in ended and name not in failed
    }
    return Trained(alpha, runs, failed, whole)


def _failed(outcomes: Sequence[Outcome]) -> list[CaiError]:
    return [outcome for outcome in outcomes if isinstance(outcome, CaiError)]


def _interrupted(outcome: Outcome) -> bool:
    return isinstance(outcome, Learned) and outcome.stopped == "interrupted"

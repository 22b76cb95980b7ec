"""compare: several policies on one world, with the same exact numbers for each, in one table."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cai.errors import NO_ANSWER, CaiError, IntractableError, WorldError, fault
from cai.evaluation.answers import SAMPLES, Answers, answers_of
from cai.evaluation.columns import COLUMNS, Column, columns_of, known
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluate import measure
from cai.evaluation.rows import row_of
from cai.evaluation.subject import InferenceType, Run, Subject
from cai.exact.diagnose import evidence_explained
from cai.exact.forms import Compiled, compiled, otherwise_sampled
from cai.exact.rules import Rule
from cai.exact.temperature import as_temperature
from cai.support.progress import bar
from cai.world.conditions import NOTHING, Conditions
from cai.world.definition import World


@torch.no_grad()
def compare(
    world: World | Compiled,
    policies: Mapping[str, Any],
    *,
    temperature: float | Tensor = 1.0,
    columns: Sequence[Column] | None = None,
    leave_out: bool = False,
    conditions: Conditions = NOTHING,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Evaluate several policies on one world, exactly, with the same numbers for each.

    A learner's number is the interquartile mean over its seeds with a 95 % bootstrap interval (Agarwal et al. 2021,
    *Deep Reinforcement Learning at the Edge of the Statistical Precipice*).

    Args:
        world: a world, or what it was compiled to. If it cannot be compiled, only learners can be compared, by their
            sampled returns.
        policies: a dict by name. A policy is anything that ``evaluate`` takes (a ``Rule`` too), the result of a
            learner, or a list of its runs.
        temperature: α > 0, reward units; one number.
        columns: the columns to show, where they are known. Unless given, the world's own, ``world.compared_by``, if it
            has any, else ``COLUMNS``.
        leave_out: leave out rules without a finite answer, and a prior that is flat, instead of raising an error;
            ``left_out`` gives the reason.
        conditions: the conditions that a compiled world is under, for error messages.
        samples, seed: of trajectories, where a policy has to be sampled; see ``evaluate``.

    Raises:
        WorldError: a policy or the world is not valid, two runs have the same seed, or runs were made at another
            temperature.
        IntractableError: the world can be neither tabulated nor factorised, and there are no learners.
        ImpossibleError, NotConvergedError: a rule has no finite answer and ``leave_out`` is False, or no rule has one.
    """
    if not isinstance(policies, Mapping) or not policies:
        raise fault("compare, policies", f"{policies!r}", "a dict of at least one name and policy")
    alpha, columns = as_temperature(temperature), columns_of(world) if columns is None else columns
    runs = {name: runs_of(name, policy, alpha) for name, policy in policies.items()}
    try:
        with otherwise_sampled(world):
            model = compiled(world, under=policies.values())
    except IntractableError as error:
        if not any(runs.values()) or not (leave_out or all(runs.values())):
            raise
        learned = {name: each for name, each in runs.items() if each}
        return sampled(learned, float(alpha), columns, {name: str(error) for name in runs if name not in learned})
    answers = answers_of("compare", model, temperature, samples, seed)
    return _measured(answers, policies, runs, columns, leave_out, conditions)


def _measured(
    answers: Answers,
    policies: Mapping[str, Any],
    runs: Mapping[str, Sequence[Run]],
    columns: Sequence[Column],
    leave_out: bool,
    conditions: Conditions,
) -> Comparison:
    subjects: dict[str, tuple[Subject, ...]] = {}
    left_out: dict[str, CaiError] = {}
    with bar(f"policies at α = {float(answers.temperature):g}", len(policies)) as tell:
        for n, (name, policy) in enumerate(policies.items()):
            tell(n, name)
            try:
                with evidence_explained(policy, conditions) if isinstance(policy, Rule) else nullcontext():
                    subjects[name] = _subjects(answers, policy, runs[name])
            except (*NO_ANSWER, IntractableError, WorldError) as error:
                if not leave_out or not _may_be_left_out(answers, policy, error):
                    raise
                left_out[name] = error
    if left_out and all(policies[name] is None for name in subjects):
        raise left_out.popitem()[1]
    prior = _prior_elbo(answers) if any(runs.values()) else None
    reasons = {name: str(error) for name, error in left_out.items()}
    return _comparison(answers.model, float(answers.temperature), subjects, columns, reasons, answers.ends, prior)


def _prior_elbo(answers: Answers) -> float | None:
    """Return the ELBO of the action prior, nats; None where it is flat, or something was observed exactly."""
    try:
        return measure(answers, None).elbo if answers.model.proper_prior else None
    except (*NO_ANSWER, IntractableError):
        return None


def _may_be_left_out(answers: Answers, policy: Any, error: CaiError) -> bool:
    """Return whether it is a rule or the prior, and has no finite answer; or a flat prior."""
    if isinstance(error, WorldError):
        return policy is None and not answers.model.proper_prior
    return policy is None or isinstance(policy, Rule)


def _comparison(
    model: Compiled | None,
    alpha: float,
    subjects: Mapping[str, tuple[Subject, ...]],
    columns: Sequence[Column],
    left_out: Mapping[str, str],
    ends: tuple[float | None, float | None] = (None, None),
    prior: float | None = None,
) -> Comparison:
    shown = known(columns, subjects)
    rows = tuple(row_of(name, alpha, each, shown) for name, each in subjects.items())
    shown = tuple(
        column
        for column in shown
        if (column.of == "evaluation" and not column.optional) or any(row.cells[column.field] for row in rows)
    )
    rows = tuple(replace(row, cells={column.field: row.cells[column.field] for column in shown}) for row in rows)
    return Comparison(model, alpha, subjects, shown, rows, *ends, prior, left_out)


def _subjects(answers: Answers, policy: Any, runs: Sequence[Run]) -> tuple[Subject, ...]:
    if runs:
        return tuple(Subject(measure(answers, run.policy), run) for run in runs)
    inference = policy if isinstance(policy, InferenceType) else None
    return (Subject(measure(answers, policy), inference=inference),)


def sampled(
    runs: Mapping[str, Sequence[Run]],
    temperature: float,
    columns: Sequence[Column] = COLUMNS,
    left_out: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare learners by what they sampled, where the world has no exact numbers.

    Args:
        runs: of each learner, by name.
        temperature: α > 0, reward units.
        columns: the columns to show, where they are known.
        left_out: why others are not among them, by name.
    """
    subjects = {name: tuple(Subject(None, run) for run in each) for name, each in runs.items()}
    return _comparison(None, temperature, subjects, columns, left_out or {})


def runs_of(name: str, policy: Any, alpha: Tensor) -> tuple[Run, ...]:
    """Return the runs of a learner; none for a policy that was not learned, or a single one at another temperature.

    Raises:
        WorldError: of several runs one is none, a seed comes twice, or one was made at another temperature.
    """
    several = isinstance(policy, list | tuple) and any(isinstance(run, Run) for run in policy)
    if not several:
        fits = isinstance(policy, Run) and policy.history and policy.temperature in (None, float(alpha))
        return (policy,) if fits else ()
    where, seeds = f"compare, '{name}'", [getattr(run, "seed", None) for run in policy]
    strange = [run for run in policy if not isinstance(run, Run)]
    if strange:
        raise fault(where, f"a {type(strange[0]).__name__} among runs", "runs of one learner alone")
    if len(set(seeds)) < len(seeds):
        raise fault(where, f"seeds {seeds}", "runs of different seeds, each seed once")
    others = sorted({run.temperature for run in policy if run.temperature is not None} - {float(alpha)})
    if others:
        raise fault(
            where,
            f"learned at temperature {others[0]:g}",
            f"runs made at {float(alpha):g}, the temperature of this comparison",
        )
    if not all(run.history for run in policy):
        raise fault(where, "a run without history", "runs with at least one evaluation")
    return tuple(policy)

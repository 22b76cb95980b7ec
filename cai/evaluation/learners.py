"""compare_learners: learned policies beside the exact answers, every number over seeds and with its interval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import ImpossibleError, IntractableError, NotConvergedError, fault
from cai.evaluation.across_seeds import Curve, learning_curve
from cai.evaluation.comparison import Comparison, compare
from cai.evaluation.evaluate import Evaluation, measure
from cai.evaluation.learner_rows import LearnerRow, finite, learner_row, plain, rows_csv, runs_csv, table
from cai.evaluation.losses import UNITS, state_label
from cai.evaluation.row import possible, save
from cai.evaluation.statistics import Profile, performance_profile
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL
from cai.exact.solve import as_temperature, solve
from cai.learn.result import Learned
from cai.world.definition import World

CURVES = ("policy_nats", "stochastic_return", "deterministic_return")
"""The fields of ``Progress`` that are followed over the steps."""
THRESHOLDS = 1 - torch.logspace(1, -4, 251, dtype=torch.float64)
"""Scores to be beaten, from far below the prior (-9) to the best but one part in ten thousand."""
ROUNDING = 1e-9
"""Relative size below which a difference of two exact numbers is rounding."""


@dataclass(frozen=True)
class Place:
    """A state-time at which a learner still loses.

    Attributes:
        t: the time, or None for the infinite horizon, all times together.
        state: its number.
        label: its name for people.
        lost: what ``Evaluation.worst`` calls so, the mean over seeds.
        unit: "nats" or "reward units".
        seeds: how many of them lose there.
    """

    t: int | None
    state: int
    label: str
    lost: float
    unit: str
    seeds: int


@dataclass(frozen=True, repr=False)
class LearnerComparison:
    """Learners side by side with the exact answers of one world at one temperature.

    Attributes:
        temperature: α, reward units.
        exact: POSTERIOR, VARIATIONAL, HARD and the prior by the same accounts; None where there are no tables.
        learned: the runs of each learner.
        evaluations: the exact evaluation of each run's final policy; empty where there are no tables.
        rows: what each learner reached.
        curves: by learner, then by field of ``Progress``; without those that no history knows.
        scores: (ELBO(π) - ELBO(prior)) / (ELBO* - ELBO(prior)) of each run, ``[N]``; empty where it has no meaning.
        profiles: the fraction of each learner's runs above each score.
        remarks: what is missing, and why, in words.
    """

    temperature: float
    exact: Comparison | None
    learned: Mapping[str, tuple[Learned, ...]]
    evaluations: Mapping[str, tuple[Evaluation, ...]]
    rows: tuple[LearnerRow, ...]
    curves: Mapping[str, Mapping[str, Curve]]
    scores: Mapping[str, Float[Tensor, " N"]]
    profiles: Mapping[str, Profile]
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        return f"LearnerComparison at temperature {self.temperature:g}\n{self.table()}"

    @property
    def tables(self) -> Tables | None:
        """The compiled world; None where it cannot be tabulated."""
        return None if self.exact is None else self.exact.tables

    def policy_nats(self, name: str) -> Float[Tensor, "..."] | None:
        """Return where a learner still loses, the mean over its seeds, nats, ``[T, S]`` (``[S]`` without a horizon).

        None where there are no tables, or ELBO* is not finite.
        """
        return self._mean(name, "policy_nats")

    def regret(self, name: str) -> Float[Tensor, "..."] | None:
        """Return where a learner still gives reward away, the mean over its seeds, reward units, ``[T, S]``.

        None where there are no tables, or J* is not finite.
        """
        return self._mean(name, "regret_per_state")

    def worst(self, name: str, n: int = 10, by: str = "nats") -> tuple[Place, ...]:
        """Return the n state-times where a learner loses most over its seeds, the costliest first; fewer if fewer lose.

        Args:
            name: of the learner.
            n: how many at most.
            by: "nats", policy nats against VARIATIONAL, or "regret", reward units against HARD.

        Raises:
            WorldError: ``n`` is below 1, or ``by`` is neither.
        """
        if n < 1:
            raise fault("worst, n", f"{n}", "a number of state-times, at least 1")
        if by not in UNITS:
            raise fault("worst, by", f"{by!r}", f"one of {list(UNITS)}")
        field = "policy_nats" if by == "nats" else "regret_per_state"
        mean, tables = self._mean(name, field), self.tables
        if mean is None or tables is None:
            return ()
        lost, each = mean.flatten(), torch.stack([getattr(one, field).flatten() for one in self.evaluations[name]])
        first = lost.argsort(descending=True, stable=True)[:n].tolist()
        return tuple(_place(tables, i, float(lost[i]), UNITS[by], each[:, i]) for i in first if lost[i] > ROUNDING)

    def _mean(self, name: str, field: str) -> Tensor | None:
        """Return the mean over seeds of an account by state and time; None where the answer behind it is not finite."""
        if self.exact is None:
            return None
        mean: Tensor | None = possible(
            lambda: torch.stack([getattr(one, field) for one in self.evaluations[name]]).mean(0)
        )
        return mean

    def table(self) -> str:
        """Return the exact rows and the learners' as aligned text."""
        return table(self.exact.rows if self.exact else (), self.rows)

    def csv(self) -> str:
        """Return a line a row as CSV: interquartile mean, interval and number of infinite runs of everything."""
        return rows_csv(self.exact.rows if self.exact else (), self.rows)

    def json(self) -> str:
        """Return all of it as JSON: rows, every run, curves, profiles; null where a number is not finite."""
        exact = None if self.exact is None else json.loads(self.exact.json())
        told = [self._plain(row) for row in self.rows]
        head = {"temperature": self.temperature, "remarks": list(self.remarks), "exact": exact}
        return json.dumps({**head, "learners": told}, indent=2)

    def save(self, folder: str | Path) -> Path:
        """Write ``learners.csv``, ``runs.csv`` and ``learners.json`` into the folder, all of them or none."""
        return save(folder, {"learners.csv": self.csv(), "runs.csv": self.runs_csv(), "learners.json": self.json()})

    def runs_csv(self) -> str:
        """Return a line a run as CSV."""
        return runs_csv(self.rows, self.learned)

    def _plain(self, row: LearnerRow) -> dict[str, Any]:
        head = {"name": row.name, "seeds": [run.seed for run in self.learned[row.name]], "stopped": dict(row.stopped)}
        numbers = {field: plain(one) for field, one in row.estimates()}
        curves = {field: _columns(one) for field, one in self.curves[row.name].items()}
        scores = [finite(one) for one in self.scores[row.name].tolist()] if row.name in self.scores else None
        profile = _columns(self.profiles[row.name]) if row.name in self.profiles else None
        places = [{**asdict(one), "lost": finite(one.lost)} for one in self.worst(row.name)]
        return {**head, **numbers, "scores": scores, "profile": profile, "curves": curves, "worst": places}


def compare_learners(
    world: World | Tables, learned: Mapping[str, Sequence[Learned]], *, temperature: float | Tensor
) -> LearnerComparison:
    """Compare learners over seeds with each other and with the exact answers, by the same accounts.

    Every number is an interquartile mean over seeds with a 95 % bootstrap interval, of the final policy and of the
    worst evaluation at or after the best one, never of the best alone. A run's normalised score is
    ``(ELBO(π) - ELBO(prior)) / (ELBO* - ELBO(prior))``: 0 is the prior's, 1 the best there is.
    Source: Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice*.

    Args:
        world: a world, or its tables; one that cannot be tabulated has no exact rows, only what was sampled.
        learned: by name, the runs of a learner, a seed each.
        temperature: α > 0, reward units, at which all are measured.

    Raises:
        WorldError: there is no run, a seed comes twice, a run was made at another temperature, or a policy or the
            world does not conform.
    """
    alpha = as_temperature(temperature)
    if alpha.dim():
        raise fault("compare_learners, temperature", f"shape {list(alpha.shape)}", "one number")
    runs = _checked(learned, float(alpha))
    reason = ""
    try:
        exact = _exact(tabulate(world), alpha)
    except IntractableError as error:
        exact, reason = None, error.findings[0].seen
    evaluations = {} if exact is None else _measured(exact, runs)
    rows = tuple(learner_row(name, each, evaluations.get(name, ())) for name, each in runs.items())
    curves = {name: _curves(each) for name, each in runs.items()}
    scores, unscored = _scores(exact, evaluations)
    profiles = {name: performance_profile(each, THRESHOLDS) for name, each in scores.items()}
    missing = f"There are no exact answers, for the world cannot be tabulated ({reason}): only returns are told, as "
    remarks = [missing + "the learners sampled them while they learned."] if exact is None else [unscored]
    told = tuple(text for text in (*remarks, *_flaws(rows, curves, exact)) if text)
    return LearnerComparison(float(alpha), exact, runs, evaluations, rows, curves, scores, profiles, told)


def _checked(learned: Mapping[str, Sequence[Learned]], alpha: float) -> dict[str, tuple[Learned, ...]]:
    if not isinstance(learned, Mapping) or not learned:
        raise fault("compare_learners, learned", f"{learned!r}", "a dict of at least one name and its runs")
    alone = [name for name, each in learned.items() if not isinstance(each, Sequence)]
    if alone:
        raise fault(f"compare_learners, '{alone[0]}'", f"a {type(learned[alone[0]]).__name__}", "a list of its runs")
    runs = {name: tuple(each) for name, each in learned.items()}
    for name, each in runs.items():
        where, seeds = f"compare_learners, '{name}'", [one.seed for one in each]
        if not each:
            raise fault(where, "no runs", "at least one Learned")
        if len(set(seeds)) < len(seeds):
            raise fault(where, f"seeds {seeds}", "runs of different seeds: the same one twice tells nothing new")
        others = sorted({one.temperature for one in each if one.temperature is not None} - {alpha})
        if others:
            raise fault(where, f"learned at temperature {others[0]:g}", f"runs made at {alpha:g}, as is compared here")
        if not all(one.history for one in each):
            raise fault(where, "a run without history", "runs with at least one evaluation")
    return runs


def _exact(tables: Tables, alpha: Tensor) -> Comparison:
    """Return the exact rows; a rule without a finite answer has none."""
    found: dict[str, Any] = {}
    for rule in (POSTERIOR, VARIATIONAL, HARD):
        try:
            found[rule.name] = solve(tables, rule, temperature=alpha)
        except (ImpossibleError, NotConvergedError):
            continue
    return compare(tables, {**found, "prior": None}, temperature=alpha)


@torch.no_grad()
def _measured(exact: Comparison, runs: Mapping[str, Sequence[Learned]]) -> dict[str, tuple[Evaluation, ...]]:
    answers = exact.evaluations["prior"].answers
    return {name: tuple(measure(answers, one) for one in each) for name, each in runs.items()}


def _curves(runs: Sequence[Learned]) -> dict[str, Curve]:
    found = {field: learning_curve(runs, attrgetter(field)) for field in CURVES}
    return {field: one for field, one in found.items() if one is not None}


def _scores(exact: Comparison | None, evaluations: Mapping[str, Sequence[Evaluation]]) -> tuple[dict[str, Tensor], str]:
    """Return the normalised scores of every run, or none and why they have no meaning."""
    if exact is None:
        return {}, ""
    star, prior = exact.elbo_star, exact.evaluations["prior"].elbo
    why = ""
    if star is None:
        why = "ELBO* is not finite"
    elif prior == -torch.inf:
        why = "ELBO(prior) is -inf, since the prior risks what is forbidden"
    elif star - prior <= ROUNDING * max(1.0, abs(star)):
        why = "ELBO* is ELBO(prior), since the prior is a best policy already"
    if why or star is None:
        return {}, f"There are no normalised scores and no performance profiles: {why}."
    gaps = {name: torch.tensor([one.elbo for one in each], dtype=torch.float64) for name, each in evaluations.items()}
    return {name: (elbo - prior) / (star - prior) for name, elbo in gaps.items()}, ""


def _flaws(
    rows: Sequence[LearnerRow], curves: Mapping[str, Mapping[str, Curve]], exact: Comparison | None
) -> list[str]:
    """Say of every learner what its interquartile means do not show."""
    found = []
    for row in rows:
        if row.elbo is not None and row.elbo.infinite:
            lost = f"of {row.seeds} seeds, {row.elbo.infinite} end at ELBO -inf, where what is forbidden is risked"
            found.append(f"{row.name}: {lost}.")
        if row.stopped.get("interrupted"):
            found.append(f"{row.name}: of {row.seeds} runs, {row.stopped['interrupted']} were interrupted.")
        if exact is not None and exact.elbo_star is not None and "policy_nats" not in curves[row.name]:
            found.append(f"{row.name}: its history knows no policy nats; only the final policy was measured.")
    return found


def _place(tables: Tables, i: int, lost: float, unit: str, each: Tensor) -> Place:
    t, s = divmod(i, tables.states.size)
    seeds = int((each > ROUNDING).sum())
    return Place(None if tables.horizon is None else t, s, state_label(tables, s), lost, unit, seeds)


def _columns(one: Curve | Profile) -> dict[str, Any]:
    return {
        name: [finite(x) for x in field.tolist()] if isinstance(field, Tensor) else field
        for name, field in vars(one).items()
    }

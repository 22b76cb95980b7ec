"""The columns of every comparison: one list, from which terminal, page, CSV, JSON and the docs are made.

A new column is one entry of ``COLUMNS``, or of ``compare(…, columns=[*COLUMNS, mine])``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Literal

from cai.errors import NO_ANSWER
from cai.evaluation.across_seeds import worst_after_best
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.subject import Run, Subject

Value = float | str | None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        field: its name in a row, in CSV and in JSON.
        head: its name on a terminal.
        title: its name on a page.
        unit: "nats", "reward units" or another; empty for words.
        meaning: what it says, in a sentence.
        value: the number, or the words, of the part of a ``Subject`` that ``of`` names; to be sent to other processes
            it must not be a lambda.
        of: "evaluation", "run" or "inference".
        sampled: what a run says of it where the world has no exact numbers.
        shown: in which tables for people: "always", "single" (not beside learners of several seeds, whose intervals
            take the room) or "never" (in CSV and JSON alone).
        optional: left out of a comparison in which no policy has it.
    """

    field: str
    head: str
    title: str
    unit: str
    meaning: str
    value: Callable[[Any], Value]
    of: Literal["evaluation", "run", "inference"] = "evaluation"
    sampled: Callable[[Any], Value] | None = None
    shown: Literal["always", "single", "never"] = "always"
    optional: bool = False

    def read(self, subject: Subject) -> Value:
        """Return the value of one policy; None where it has none, or no exact answer behind it is finite or known."""
        part, ask = getattr(subject, self.of), self.value
        if part is None and self.sampled is not None:
            part, ask = subject.run, self.sampled
        try:
            return None if part is None else ask(part)
        except NO_ANSWER:
            return None

    def error(self, subject: Subject) -> float:
        """Return the standard error of the value; 0 where it is exact, or is not known."""
        if self.of != "evaluation" or subject.evaluation is None or self.read(subject) is None:
            return 0.0
        return subject.evaluation.standard_error_of(self.field)


def known(columns: Sequence[Column], subjects: Mapping[str, Sequence[Subject]]) -> tuple[Column, ...]:
    """Return the columns that these policies have: those of runs only where there are runs, and so on."""
    each = [subject for named in subjects.values() for subject in named]
    learned = any(subject.run is not None for subject in each)
    known_of = {column.of: any(getattr(subject, column.of) is not None for subject in each) for column in columns}
    return tuple(column for column in columns if known_of[column.of] or (column.sampled and learned))


def columns_of(world: Any) -> Sequence[Column]:
    """Return the columns of a world: its own, if it has any."""
    return getattr(world, "compared_by", None) or COLUMNS


def _last(field: str, run: Run) -> float | None:
    return getattr(run.history[-1], field, None)


def _named(field: str, run: Run) -> str | None:
    return getattr(run, field, None)


def _total(field: str, evaluation: Evaluation) -> float:
    return float(getattr(evaluation, field).sum())


def _entropy_per_step(evaluation: Evaluation) -> float:
    return evaluation.entropy / evaluation.parts[0].steps


def _not_zero(field: str, evaluation: Evaluation) -> float | None:
    return float(getattr(evaluation, field)) or None


COLUMNS: tuple[Column, ...] = (
    Column(
        "computes", "computes", "computes", "", "What a type of inference computes.",
        attrgetter("formula"), of="inference",
    ),
    Column(
        "objective", "objective", "objective", "nats", "The number that it computes.",
        attrgetter("objective"), of="inference",
    ),
    Column(
        "expected_return", "return", "return", "reward units",
        "E_π[Σ r], the expected return under the true dynamics.",
        attrgetter("expected_return"), sampled=partial(_last, "stochastic_return"),
    ),
    Column(
        "standard_error", "±", "standard error", "reward units",
        "The standard error of the return, where a policy has to be sampled.",
        partial(_not_zero, "standard_error"), shown="never", optional=True,
    ),
    Column(
        "success", "success", "success", "probability",
        "The probability that the episode ends with a positive reward.",
        attrgetter("success"), optional=True,
    ),
    Column(
        "regret", "regret", "regret", "reward units",
        "J* − J(π): how much less the policy earns than HARD, which earns the most.",
        attrgetter("regret"),
    ),
    Column(
        "entropy", "entropy", "entropy", "nats",
        "E_π[Σ H(π(·|s_t))]: how random the policy's choices are, all steps together.",
        attrgetter("entropy"), sampled=partial(_last, "entropy"),
    ),
    Column(
        "entropy_per_step", "H/step", "entropy per step", "nats",
        "The entropy over the expected number of steps: of texts, per token.",
        _entropy_per_step, shown="never",
    ),
    Column(
        "kl_to_prior", "KL prior", "KL to prior", "nats",
        "E_π[Σ KL(π ‖ prior)]: how much the policy differs from the prior, all steps together.",
        attrgetter("kl_to_prior"), shown="single",
    ),
    Column(
        "elbo", "ELBO", "ELBO(π)", "nats",
        "return/α − KL to prior: what the policy reaches. Higher is better.",
        attrgetter("elbo"), sampled=partial(_last, "elbo"),
    ),
    Column(
        "optimality_gap", "ELBO*-ELBO", "ELBO* − ELBO", "nats",
        "What a better policy could still win: 0 for the best one. The same number as policy nats.",
        attrgetter("optimality_gap"), shown="never",
    ),
    Column(
        "policy_nats", "policy nats", "policy nats", "nats",
        "ELBO* − ELBO(π) = Σ_t E KL(π ‖ π*), π* of VARIATIONAL: what a better policy could still win.",
        partial(_total, "policy_nats"), sampled=partial(_last, "policy_nats"),
    ),
    Column(
        "worst_policy_nats", "nats after best", "policy nats, worst after best", "nats",
        "The largest policy nats of a learner's evaluations at or after the smallest.",
        partial(worst_after_best, field="policy_nats", best=min), of="run",
    ),
    Column(
        "evidence_gap", "log Z-ELBO", "log Z − ELBO", "nats",
        "KL(policy's trajectories ‖ posterior): the sum of start, action and luck nats.",
        attrgetter("evidence_gap"), shown="single",
    ),
    Column(
        "start_nats", "start", "start", "nats",
        "KL(p(s₀) ‖ p(s₀|O)): the posterior assumes a better start than the world's. The same for every policy.",
        attrgetter("start_nats"), shown="single",
    ),
    Column(
        "action_nats", "action", "action", "nats",
        "Σ_t E KL(π ‖ p(a|s_t, O)): the policy acts otherwise than the posterior.",
        partial(_total, "action_nats"), shown="single",
    ),
    Column(
        "luck_nats", "luck", "luck", "nats",
        "Σ_t E KL(p(outcome) ‖ p(outcome|O)): the posterior counts on luck that the world does not give.",
        partial(_total, "luck_nats"),
    ),
    Column(
        "deterministic_return", "likeliest", "likeliest action", "reward units",
        "The final return of a learner's most probable action.",
        partial(_last, "deterministic_return"), of="run",
    ),
    Column(
        "worst_return", "return after best", "likeliest action, worst after best", "reward units",
        "The lowest such return at or after the highest.",
        partial(worst_after_best, field="deterministic_return", best=max), of="run",
    ),
    Column("steps", "steps", "steps", "steps", "How many steps the learner took.", attrgetter("steps"), of="run"),
    Column("seconds", "CPU s", "time", "CPU seconds", "CPU seconds of learning.", attrgetter("seconds"), of="run"),
    Column(
        "estimator", "estimator", "estimator", "", "Which estimator of the ELBO's gradient a fit used.",
        partial(_named, "estimator"), of="run",
    ),
    Column("stopped", "ended by", "ended by", "", "Why the runs ended.", attrgetter("stopped"), of="run"),
    Column("does", "does", "does", "", "What a type of inference does.", attrgetter("does"), of="inference"),
)  # fmt: skip
"""Every column, in the order in which they are shown."""

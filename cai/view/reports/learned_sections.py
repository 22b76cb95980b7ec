"""The results of a learner without exact answers: before, after, and the worst after the best."""

from collections.abc import Iterator

from cai.evaluation.comparison import Comparison
from cai.view.reports.cells import plain_table
from cai.view.reports.sections import Fold, Part, Request, Section, Table, Words


def progress(request: Request) -> Iterator[Section]:
    """Set the first evaluation of each run beside the last, and list them all below."""
    parts: list[Part] = []
    for comparison in request.each:
        if comparison.model is None:
            parts += [_before_and_after(comparison), *_histories(comparison)]
    if parts:
        note = "Before: the policy before its first update. What a learner adds is the difference to it."
        yield Section("progress", "Before and after", (Words(note), *parts))


def _before_and_after(comparison: Comparison) -> Table:
    heads = (
        "learner",
        "return before",
        "return after",
        "likeliest action, after",
        "worst after best",
        "steps",
        "ended by",
    )
    rows = [
        (
            f"{name}, seed {run.seed}", run.history[0].stochastic_return, run.history[-1].stochastic_return,
            run.history[-1].deterministic_return, getattr(run, "worst_after_best", None), float(run.steps), run.stopped,
        )
        for name, runs in comparison.runs.items()
        for run in runs
    ]  # fmt: skip
    return plain_table("What each run reached", heads, rows, "Returns in reward units.")


def _histories(comparison: Comparison) -> Iterator[Fold]:
    heads = ("steps", "return", "likeliest action", "ELBO", "policy nats", "CPU seconds")
    for name, runs in comparison.runs.items():
        for run in runs:
            points = run.history[:: max(1, len(run.history) // 40)]
            rows = [
                (f"{p.steps:,}", p.stochastic_return, p.deterministic_return, p.elbo, p.policy_nats, p.seconds)
                for p in points
            ]
            label = f"{name}, seed {run.seed}"
            yield Fold(label, f"{len(rows)} evaluations", (plain_table(f"Evaluations of {label}", heads, rows),))

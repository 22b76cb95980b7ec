"""The policy as a table by name, over the variables that make a difference, and why it does that in the first state."""

from collections.abc import Iterator

import torch

from cai.errors import ImpossibleError, NotConvergedError
from cai.evaluation.comparison import Comparison
from cai.exact.messages import Messages
from cai.policies.gaussian_action import GaussianAction
from cai.policies.policy_table import in_words
from cai.support.numbers import show
from cai.view.policies import AnyMessages, InMode, PolicyRows, policy_rows
from cai.view.real_readings import is_mixed, is_real
from cai.view.reports.cells import number, plain_table, words
from cai.view.reports.costliest_places import typeset
from cai.view.reports.sections import Fold, Head, Line, Part, Table, Title, Words

LARGE = 1_000_000
"""Entries of a policy's table up to which it is read."""
SHOWN = 12
"""The most rows of a table."""


def best_policy(comparison: Comparison, *, mapped: bool) -> Iterator[Part]:
    """Show what the best policy does first, and why; folded where a map has shown it already."""
    messages = _variational(comparison)
    if messages is None:
        return
    title = "What the best policy does first"
    lead = "A row for each kind of state at t = 0, the likeliest start first. The best policy is VARIATIONAL's."
    if is_real(messages):
        lead = "Its mean is affine in the state. The best policy is VARIATIONAL's."
    parts = (Words(lead, "mark"), *tables_of(messages, title), *_why(messages))
    if mapped:
        yield Fold(title, "as a table, and why", parts)
    else:
        yield from (Title(title), *parts)


def _variational(comparison: Comparison) -> Messages | None:
    model = comparison.model
    if model is None or not comparison.evaluations:
        return None
    try:
        messages = next(iter(comparison.evaluations.values())).variational
    except (ImpossibleError, NotConvergedError):
        return None
    if is_mixed(messages):
        return None
    small = all(is_real(part) or part.model.states.size * part.model.actions.size <= LARGE for part in messages.parts)
    return messages if small else None


def tables_of(messages: AnyMessages, label: str) -> Iterator[Part]:
    """Return what is done at t = 0, a table for each part of the world."""
    with torch.no_grad():
        found = list(policy_rows(messages, SHOWN))
    for n, rows in enumerate(found):
        yield _table(rows, label if len(found) == 1 else f"{label}, part {n + 1}")


def _table(rows: PolicyRows | GaussianAction | InMode, label: str) -> Table:
    if isinstance(rows, InMode):
        return _table(rows.action, f"{label.split(', part ')[0]}, {rows.mode}")
    if isinstance(rows, GaussianAction):
        top, *body = rows.table
        return plain_table(label, top, body, " ".join(rows.notes))
    heads = (Head("probability at the start"), Head("does at t = 0, with probability", wordy=True))
    lines = tuple(Line(name, (number(p), words(in_words(pi)))) for p, name, pi in rows.rows if p > 0)
    notes = [f"No difference is made by {', '.join(rows.unread)}."] if rows.unread else []
    if len(lines) < len(rows.rows):
        notes.append(f"The other {rows.states - len(lines):,} cannot be the start.")
    elif len(lines) < rows.states:
        notes.append(f"{len(lines)} of {rows.states:,} rows.")
    return Table(label, rows.what, heads, lines, " ".join(notes))


def _why(messages: Messages) -> Iterator[Part]:
    """Say why, in the likeliest start state of each part."""
    if is_real(messages):
        yield _why_real(messages)
        return
    for part in messages.parts:
        space, start = part.model.states, int(part.operator.initial().argmax())
        values = {name: int(value) for name, value in space.split(torch.tensor([start])).items()}
        with torch.no_grad():
            said = str(part.explain(0, **values))
        yield Fold(
            "Why",
            f"in {space.label(start)}, α = {show(float(messages.temperature))}",
            (Words(typeset(said), "account"),),
        )


def _why_real(messages: Messages) -> Fold:
    """Say why, at the mean of the start."""
    model = messages.model
    start = zip(model.states.labels, model.start_mean.tolist(), strict=True)
    with torch.no_grad():
        said = str(messages.explain(0, **dict(start)))
    lead = f"at the mean of the start, α = {show(float(messages.temperature))}"
    return Fold("Why", lead, (Words(typeset(said), "account"),))

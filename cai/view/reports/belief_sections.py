"""A world seen in part: the value of acting on observations, beside that of QMDP and of full sight."""

import json
from collections.abc import Iterator
from typing import TypeAlias

from cai.evaluation.rows import written
from cai.exact.rules import VARIATIONAL
from cai.partial.belief_messages import BeliefMessages
from cai.partial.gaussian_messages import GaussianBeliefMessages
from cai.support.numbers import finite, show
from cai.support.wording import listed
from cai.view.reports.cells import number
from cai.view.reports.game import rules_of, temperature_in_words
from cai.view.reports.policy_parts import tables_of
from cai.view.reports.question import asked
from cai.view.reports.sections import Cell, Head, Line, Part, Request, Section, Table, Title, Words

AnyBeliefs: TypeAlias = BeliefMessages | GaussianBeliefMessages
"""What ``cai.partial.solve`` returns."""
HEADS = ("rule", "QMDP", "value on what is seen", "value if the state were seen", "ELBO*")


def seen_game(request: Request) -> Iterator[Section]:
    """Explain the world, and what is seen of it."""
    first: AnyBeliefs = request.each[0]
    model = first.engine.model
    alphas = sorted({float(one.temperature) for one in request.each})
    parts = [Words(request.about)] if request.about else []
    parts += [Words(" ".join(rules_of(model))), Words(_seen(first)), Words(temperature_in_words(alphas, model))]
    yield Section("game", "The game", tuple(parts))


def _seen(first: AnyBeliefs) -> str:
    """Say what is seen, and what a belief is."""
    if isinstance(first, GaussianBeliefMessages):
        readings = listed(first.engine.seen.space.labels)
        return (
            f"The state is not seen. At each time this is read: {readings}. The policy acts on "
            "what was read and done so far. All that matters of it is the mean of the belief, which is Gaussian: its "
            "covariance is the same whatever is read."
        )
    return (
        f"The state is not seen. At each time one of {first.engine.seen.space.size:,} observations is seen, and the "
        "policy acts on what was seen and done so far. All that matters of it is the belief, the probability of each "
        f"state: {first.n_beliefs:,} beliefs can be held within {first.horizon:,} steps."
    )


def worth(request: Request) -> Iterator[Section]:
    """Show the value on what is seen between QMDP's and that of full sight."""
    heads = tuple(Head(head, "nats" if head == "ELBO*" else "reward units") for head in HEADS[1:])
    lines = [Line(f"{one.rule} at α = {show(float(one.temperature))}", _cells(one)) for one in request.each]
    one: AnyBeliefs = min(request.each, key=lambda each: float(each.temperature))
    full, value, qmdp = float(one.fully_observed), float(one.value), float(one.qmdp)
    text = (
        f"{one.rule} at α = {show(float(one.temperature))}: the best policy on what is seen is worth {show(value)} "
        f"reward units. To see the state would be worth {show(full - value)} more. QMDP acts as if all were seen from "
        f"the next step on, so that it never pays to find something out: it is worth {show(qmdp)}."
    )
    bound = [f"±{show(each.error_bound)}" for each in request.each if each.error_bound]
    note = f"An infinite horizon was cut: the values are exact to {bound[0]} reward units." if bound else ""
    parts: list[Part] = [Words(text), Table("Values of a world seen in part", "rule", heads, tuple(lines), note)]
    parts += [Words(note, "note") for note in request.notes]
    yield Section("worth", "What seeing is worth", tuple(parts))


def _cells(one: AnyBeliefs) -> tuple[Cell, ...]:
    elbo = float(one.elbo) if one.rule == VARIATIONAL else None
    values = (float(one.qmdp), float(one.value), float(one.fully_observed), elbo)
    return tuple(
        number(value, field) for value, field in zip(values, ("qmdp", "value", "full", "elbo_star"), strict=True)
    )


def first_acts(request: Request) -> Iterator[Section]:
    """List what is done after the first observation, a table a rule."""
    real = isinstance(request.each[0], GaussianBeliefMessages)
    what = (
        "What is done on the first estimate."
        if real
        else "What is done after the first observation, the likeliest first."
    )
    parts: list[Part] = [Words(what)]
    for one in request.each:
        label = f"{one.rule} at α = {show(float(one.temperature))}"
        parts += [Title(label), *tables_of(one, f"What is done at t = 0, {label}")]
    yield Section("acts", "What is done first", tuple(parts))


def belief_question(request: Request) -> Iterator[Section]:
    """Ask what an observation is worth."""
    one: AnyBeliefs = request.each[0]
    gap = float(one.fully_observed) - float(one.value)
    text = (
        f"To see the state would be worth {show(gap)} reward units. How much would you pay for one more observation, "
        "before you act for the first time?"
    )
    hint = "See which action the most certain belief takes, and what it is worth."
    yield asked(text, "the beliefs at t = 0", hint)


def belief_files(request: Request) -> dict[str, str]:
    """Return the answers, a line each, as CSV and JSON."""
    heads = ("rule", "temperature", "qmdp", "value", "fully_observed", "elbo", "error_bound", "beliefs")
    lines = [
        (
            str(one.rule), float(one.temperature), float(one.qmdp), float(one.value), float(one.fully_observed),
            float(one.elbo) if one.rule == VARIATIONAL else None, one.error_bound,
            one.n_beliefs if isinstance(one, BeliefMessages) else None,
        )
        for one in request.each
    ]  # fmt: skip
    rows = [finite(dict(zip(heads, line, strict=True))) for line in lines]
    return {"beliefs.csv": written(heads, lines), "beliefs.json": json.dumps(rows, indent=2) + "\n"}

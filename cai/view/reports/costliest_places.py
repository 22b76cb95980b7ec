"""Where each policy loses: its account in words, and its costliest places as a table."""

import re
from collections.abc import Sequence
from typing import Any

from cai.compile.model import is_finite
from cai.errors import NO_ANSWER
from cai.evaluation.comparison import Comparison
from cai.evaluation.losses import Loss, Place
from cai.support.numbers import MINUS, brief, chance, rounded, show
from cai.view.reports.cells import number, words
from cai.view.reports.sections import Cell, Fold, Head, Line, Table, Words


def losses_of(comparison: Comparison) -> tuple[Fold, ...]:
    """Say of every policy where its nats go, and the ten places at which it loses most.

    Where the slices do not differ over time, all times of a state are one place. A learner of several seeds is told by
    the mean over them, one of hard optimality by its regret.
    """
    if comparison.model is None:
        return ()
    single = comparison.evaluations
    if not is_finite(comparison.model):
        return tuple(_by_time(name, each[0].evaluation) for name, each in comparison.subjects.items())
    return tuple(
        _single(name, comparison) if name in single else _over_seeds(name, comparison) for name in comparison.subjects
    )


def _single(name: str, comparison: Comparison) -> Fold:
    evaluation, star = comparison.evaluations[name], comparison.elbo_star
    account = Words(typeset(evaluation.account()), "account")
    if star is None:
        return Fold(name, "ELBO* is not finite, so there is nothing to measure against", (account,))
    together = not evaluation.model.timed
    nats, regret = evaluation.worst(together=together), evaluation.worst(by="regret", together=together)
    lead = "no policy does better"
    if nats:
        gap = show(rounded(evaluation.optimality_gap, star))
        lead = f"{gap} nats below ELBO*, {show(nats[0].lost)} of them at {_where(nats[0])}"
    tables = [
        _losses(f"{name}: where it loses {unit}", found)
        for unit, found in (("nats", nats), ("return", regret))
        if found
    ]
    return Fold(name, lead, (account, *tables))


def _by_time(name: str, evaluation: Any) -> Fold:
    """Say what a policy loses on a world of real states, where a loss has a time alone; of a learner its first seed."""
    account = Words(typeset(evaluation.account()), "account")
    try:
        lost = evaluation.policy_nats
    except NO_ANSWER:
        return Fold(name, "ELBO* is not finite, so there is nothing to measure against", (account,))
    gap = rounded(float(lost.sum()), evaluation.elbo_star)
    if not gap:
        return Fold(name, "no policy does better", (account,))
    lead = f"{show(gap)} nats below ELBO*"
    if lost.dim() and gap < float("inf"):
        lead += f", {show(float(lost.max()))} of them at t = {int(lost.argmax())}"
    return Fold(name, lead, (account,))


def _over_seeds(name: str, comparison: Comparison) -> Fold:
    runs, model = comparison.runs[name], comparison.model
    hard = all(run.temperature is None for run in runs)
    together = model is not None and not model.timed
    places = comparison.worst(name, by="regret" if hard else "nats", together=together)
    if not places:
        return Fold(name, "no seed loses anything", ())
    lead = f"it loses most at {_where(places[0])}: {brief(places[0].lost)} {places[0].unit}"
    return Fold(name, lead, (_places(f"{name}: where its seeds lose {places[0].unit}", places, len(runs)),))


def _losses(label: str, losses: Sequence[Loss]) -> Table:
    unit, single = losses[0].unit, losses[0].until is None and losses[0].t is not None
    acts = (
        Head("too often", "the policy, and what is best", wordy=True),
        Head("too seldom", "the policy, and what is best", wordy=True),
    )
    heads = (
        Head("when", wordy=True), Head("lost", unit), Head("probability" if single else "visits"),
        *(acts if losses[0].does else ()),
    )  # fmt: skip
    return Table(label, f"where it loses {unit}", heads, tuple(_loss(loss) for loss in losses))


def _loss(loss: Loss) -> Line:
    choices = (choice for choice in (loss.does, loss.should) if choice is not None)
    acts = (words(f"{choice.label} {chance(choice.policy)} ({chance(choice.best)})") for choice in choices)
    cells: tuple[Cell, ...] = (_when(loss), number(loss.lost), number(loss.reach), *acts)
    return Line(loss.label, cells)


def _places(label: str, places: Sequence[Place], runs: int) -> Table:
    heads = (Head("when", wordy=True), Head("lost", places[0].unit), Head("seeds that lose there", wordy=True))
    lines = (
        Line(place.label, (_when(place), number(place.lost), words(f"{place.seeds} of {runs}"))) for place in places
    )
    return Table(label, "where", heads, tuple(lines), "Means over the seeds.")


def _when(loss: Loss | Place) -> Cell:
    if loss.t is None:
        return words("all times")
    return words(f"t = {loss.t}" + ("" if loss.until is None else f" … {loss.until}"))


def _where(loss: Loss | Place) -> str:
    return ", ".join(text for text in (loss.label, "" if loss.t is None else f"{_when(loss).shown}") if text)


def typeset(text: str) -> str:
    """Put true minus signs before numbers and between terms; names keep their hyphens."""
    return re.sub(r"(?<=\s)-", MINUS, text)

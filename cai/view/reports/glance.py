"""The main result first: return and ELBO of each policy at the coldest temperature, in words and a figure."""

from collections.abc import Iterator

from cai.errors import ImpossibleError, NotConvergedError
from cai.evaluation.comparison import Comparison
from cai.support.numbers import show
from cai.view.reports.cells import number
from cai.view.reports.game import soft
from cai.view.reports.pictures import key_picture
from cai.view.reports.sections import Cell, Items, Numbers, Part, Request, Section, Words
from cai.view.summary import summary


def glance(request: Request) -> Iterator[Section]:
    """Show return and ELBO of each policy as bars, the exact answers in large print, and what follows from them."""
    coldest: Comparison = request.each[0]
    parts: list[Part] = list(key_picture(coldest))
    if coldest.model is not None:
        parts += [Numbers(tuple(_answers(coldest))), Items(tuple(summary([coldest])))]
    parts += [Words(note, "note") for note in request.notes]
    at = f", α = {show(coldest.temperature)}" if soft(coldest) else ""
    yield Section("glance", f"At a glance{at}", tuple(parts), "At a glance")


def best_return(comparison: Comparison) -> float | None:
    """Return J* of HARD, reward units; None where it is not known or not finite."""
    for each in comparison.subjects.values():
        if each[0].evaluation is not None:
            try:
                return each[0].evaluation.best_return
            except (ImpossibleError, NotConvergedError):
                return None
    return None


def _answers(comparison: Comparison) -> Iterator[tuple[str, Cell, str, str]]:
    alpha = comparison.temperature
    for words, field, nats in (
        ("log Z, what the posterior promises", "log_evidence", comparison.log_evidence),
        ("ELBO*, what the best policy reaches", "elbo_star", comparison.elbo_star),
    ):
        worth = "" if nats is None else f"= {show(alpha * nats)} reward units"
        yield words, number(nats, field), "nats", worth
    best = best_return(comparison)
    if best is not None:
        yield "J*, the highest return of any policy", number(best, "best_return"), "reward units", ""

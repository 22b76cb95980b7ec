"""What a chapter of the report says besides its pictures: numbers in cells, the fits, and the accounts in words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cai.evaluation.comparison import Comparison, FactoredComparison
from cai.evaluation.measured import Measured
from cai.learn.svi.fit_result import Fit
from cai.view.words import MINUS, rounded, show


@dataclass(frozen=True)
class Cell:
    """A number in a table: as people read it, and in full as ``repr`` writes it (empty where there is none)."""

    shown: str
    exact: str
    field: str


def cell(field: str, value: float | None, shown: float | None = None) -> Cell:
    """Return the cell of a number, which may be shown rounded."""
    return Cell(show(value if shown is None else shown), "" if value is None else repr(float(value)), field)


@dataclass(frozen=True)
class FitRow:
    """One fit in the table of fits: ``stopped`` in words, the standard error of its ELBO (empty if exact), its gap."""

    name: str
    estimator: str
    steps: str
    stopped: str
    elbo: Cell
    error: str
    gap: Cell


STOPPED = {"gap": "within the tolerance", "steps": "all steps made", "interrupted": "interrupted"}


def fit_rows(fits: Mapping[str, Fit]) -> tuple[FitRow, ...]:
    """Lay out the fits of one temperature, a row each."""
    return tuple(
        FitRow(
            name,
            one.estimator,
            f"{one.steps:,}",
            STOPPED.get(one.stopped, one.stopped),
            cell("fit_elbo", one.elbo),
            f"± {show(one.standard_error)}" if one.samples else "exact",
            cell("fit_gap", one.gap, rounded(one.gap, one.elbo_star)),
        )
        for name, one in fits.items()
    )


@dataclass(frozen=True)
class Told:
    """What is said of one policy: a line to begin with, the account, and where it loses most nats, and most reward."""

    name: str
    lead: str
    account: str
    worst: tuple[str, ...]
    regret: tuple[str, ...]


def told(comparison: Comparison | FactoredComparison) -> tuple[Told, ...]:
    """Say of every policy of a comparison where its nats go, and the ten places at which it loses most.

    Where the slices do not differ over time, all times of a state are one place.
    """
    return tuple(_told(name, one, comparison.elbo_star is not None) for name, one in comparison.evaluations.items())


def _told(name: str, one: Measured, measurable: bool) -> Told:
    together = not one.timed
    worst = one.worst(together=together) if measurable else ()
    regret = one.worst(by="regret", together=together) if measurable else ()
    if not measurable:
        lead = "ELBO* is not finite, so there is nothing to measure against"
    elif not worst:
        lead = "no policy does better"
    else:
        first, gap = worst[0], rounded(one.optimality_gap, one.elbo_star)
        lead = f"{show(gap)} nats below ELBO*, the most in one place at {first.where} ({show(first.lost)} nats)"
    words = (tuple(_typeset(str(loss)) for loss in losses) for losses in (worst, regret))
    return Told(name, lead, _typeset(one.account()), *words)


def _typeset(text: str) -> str:
    """Put true minus signs before numbers and between terms; names keep their hyphens."""
    return re.sub(r"(?<=\s)-", MINUS, text)

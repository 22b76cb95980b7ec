"""The cost of a solve, predicted before memory is allocated."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """A prediction.

    Attributes:
        work: multiplications of one backup.
        peak: numbers that its largest intermediate result holds.
    """

    work: float
    peak: float

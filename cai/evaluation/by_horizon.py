"""The exact answers of a comparison's world at other horizons: the effect of more or less time."""

import math
from dataclasses import dataclass

from cai.errors import ImpossibleError
from cai.evaluation.comparison import Comparison
from cai.exact.horizons import HorizonValues, solve_horizons
from cai.exact.rules import POSTERIOR, VARIATIONAL

SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 10.0)
"""The horizons shown, as parts of the world's own."""


@dataclass(frozen=True)
class ByHorizon:
    """POSTERIOR and VARIATIONAL at several horizons, at one temperature."""

    temperature: float
    posterior: HorizonValues
    variational: HorizonValues


def by_horizon(comparison: Comparison) -> ByHorizon | None:
    """Solve the comparison's world at a twentieth to ten times its horizon, as far as there are all states.

    None where that cannot be asked: there are no tables, the slices depend on time, the horizon is infinite, or one of
    those horizons is too short for any trajectory to be optimal.
    """
    tables, alpha = comparison.tables, comparison.temperature
    if tables is None or tables.timed or tables.horizon is None:
        return None
    longest = math.inf if tables.longest is None else tables.longest
    horizons = sorted({max(1, round(share * tables.horizon)) for share in SHARES if share * tables.horizon <= longest})
    try:
        values = [solve_horizons(tables, horizons, rule, temperature=alpha) for rule in (POSTERIOR, VARIATIONAL)]
    except ImpossibleError:
        return None
    return ByHorizon(alpha, *values)

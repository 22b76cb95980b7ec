"""The values at large horizons, extrapolated from two vectors of a backward sweep, with a proved bound.

Let ``G = F^p`` be p backups of a stationary world without discount, and v the values with n steps to go. G is monotone,
and what is added everywhere is added to the result: ``G(v + c) = G(v) + c``. So with ``d = G(v) - v``

    v + m min d  <=  G^m(v)  <=  v + m max d            in every state, for every m.

Under POSTERIOR this is Collatz and Wielandt's bracket of the Perron eigenvalue: ``d/p`` closes in on ``α log λ``. With
a discount, ``G(v + c) <= G(v) + c`` for ``c >= 0`` only, and the bracket is widened to hold 0.

Where states come to grow at different rates, one bracket for all never closes. Then states are sorted into levels by
their d. A level whose states never lead to a level of higher d has a bracket of its own:

* from above, ``max d`` over the level: whatever its states lead to grows no faster;
* from below, ``min (G(u) - v)`` over it, with u = v on the level and -inf elsewhere: ways out of the level are dropped.

Both follow by induction over m. States at -inf need no bracket: which states are possible depends on nothing but which
were possible before, so once G leaves that set as it is, it stays for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_LEVELS = 8
"""So many rates at most are told apart."""

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Growth:
    """Every ``period`` more steps add between ``low [S]`` and ``high [S]``, reward units, for ever."""

    period: int
    low: Tensor
    high: Tensor

    @property
    def width(self) -> float:
        """The widest bracket, reward units."""
        return float((self.high - self.low).max())

    def best(self, slack: float) -> tuple[Tensor, float]:
        """Return a growth inside each bracket, ``[S]``, and how far from it the true one can be, reward units.

        The middle, or 0 where the bracket and ``slack`` around it hold 0: of an absorbing world that is the truth.
        """
        still = (self.low <= slack) & (self.high >= -slack)
        best = torch.where(still, 0.0, (self.low + self.high) / 2)
        return best, slack + float(torch.maximum(self.high - best, best - self.low).max())


def common_growth(v: Tensor, after: Tensor, period: int, *, discounted: bool) -> Growth | None:
    """Bracket with one rate for all states; None where the possible states still change, or none is left."""
    d = _difference(v, after)
    if d is None:
        return None
    low, high = torch.aminmax(d)
    if discounted:
        low, high = low.clamp(max=0), high.clamp(min=0)
    return Growth(period, low.expand(v.shape), high.expand(v.shape))


def growth_by_level(v: Tensor, after: Tensor, period: int, width: float, G: Operator, lead: Operator) -> Growth | None:
    """Bracket each level of states for itself; None where levels cannot be told apart, or one leads to a higher one.

    Args:
        v, after: values with n, and with n + period steps to go, ``[S]``, no discount.
        period: p.
        width: how wide a bracket may be, reward units.
        G: the backup, p times.
        lead: the backup of POSTERIOR, p times: only whether its values are -inf is asked.
    """
    d = _difference(v, after)
    if d is None:
        return None
    cuts = _cuts(d, width)
    if not 0 < len(cuts) < MOST_LEVELS:
        return None
    possible = v > -torch.inf
    level = torch.where(possible, torch.bucketize(torch.where(possible, after - v, 0.0), cuts), -1)
    low, high = torch.zeros_like(v), torch.zeros_like(v)
    for number in range(len(cuts) + 1):
        here, nothing = level == number, torch.full_like(v, -torch.inf)
        if bool((lead(torch.where(level > number, 0.0, nothing))[here] > -torch.inf).any()):
            return None
        least = (G(torch.where(here, v, nothing)) - v)[here].min()
        low[here], high[here] = least, (after - v)[here].max()
    return Growth(period, low, high)


def _difference(v: Tensor, after: Tensor) -> Tensor | None:
    """Return ``after - v`` of the possible states alone; None where those are not the same, or none."""
    d = after - v
    if bool(torch.isfinite(d.sum())):
        return d
    possible = v > -torch.inf
    if not bool(possible.any()) or not torch.equal(possible, after > -torch.inf):
        return None
    return d[possible]


def _cuts(d: Tensor, width: float) -> Tensor:
    """Return where sorted d jumps by more than ``width``."""
    ordered = d.sort().values
    jumps = (ordered.diff() > width).nonzero().flatten()
    return (ordered[jumps] + ordered[jumps + 1]) / 2

"""Large horizons of a stationary world: one backward sweep serves all of them, and ends when the growth has settled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import ImpossibleError, fault
from cai.exact.diagnose import blockers, no_answer
from cai.exact.growth import Growth, common_growth, growth_by_level
from cai.exact.messages import in_nats
from cai.exact.rounding import Rounding, largest
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule, require_a_rule
from cai.exact.tables.table_operator import TableOperator
from cai.exact.temperature import as_temperature
from cai.support.progress import bar
from cai.world.definition import World

LONGEST_PERIOD = 12
"""Periods of growth that are looked for: 12 is a multiple of the commonest."""
USES = 10_000
"""Backups that it pays to prepare for: most sweeps settle before."""
STRIDE = 0.1
"""Between two looks a sweep grows by this part of its length."""
SPARE = 8
"""Growth is read off until its bracket is so many times narrower than rounding over the same steps may be."""

SHARE = 1e-10
"""How far off a far horizon may be unless it is said, as a share of the largest reward or value."""


@dataclass(frozen=True, repr=False)
class HorizonValues:
    """The values of one stationary world at several horizons ``H``.

    Attributes:
        tables: the compiled world; its own horizon plays no part.
        rule: how outcomes and actions were marginalised.
        temperature: α, reward units.
        horizons: the horizons T, in the order of the argument.
        v: the values of every state with T steps to go, reward units.
        value: the start value of each horizon, reward units.
        rate: what one more step adds to v in the long run, reward units; -inf where v is -inf. Under POSTERIOR the
            largest is α log λ, λ the Perron eigenvalue. None if v had not settled at the last horizon.
        error_bound: a proved bound on the error of v and of the value at each horizon, reward units, rounding included.
        sweeps: how many backups were taken.
    """

    tables: Tables
    rule: Rule
    temperature: Float[Tensor, ""]
    horizons: tuple[int, ...]
    v: Float[Tensor, "H S"]
    value: Float[Tensor, " H"]
    rate: Float[Tensor, " S"] | None
    error_bound: Float[Tensor, " H"]
    sweeps: int

    def __repr__(self) -> str:
        return f"HorizonValues({self.rule} at {self.horizons}, after {self.sweeps:,} backups)"

    @property
    def log_evidence(self) -> Float[Tensor, " H"]:
        """log Z = log p(O=1) of each horizon, nats; POSTERIOR only."""
        return in_nats(self.rule, POSTERIOR, "log_evidence", self.value, self.temperature)

    @property
    def elbo(self) -> Float[Tensor, " H"]:
        """ELBO* = max over policies of ELBO(π) at each horizon, nats; VARIATIONAL only."""
        return in_nats(self.rule, VARIATIONAL, "elbo", self.value, self.temperature)


@torch.no_grad()
def solve_horizons(
    world: World | Tables,
    horizons: int | Sequence[int],
    rule: Rule = POSTERIOR,
    *,
    temperature: float | Tensor = 1.0,
    tolerance: float | None = None,
) -> HorizonValues:
    """Solve a stationary world at many horizons by one backward sweep, which extrapolates to the large ones exactly.

    ``v_n = F(v_{n-1})`` from the terminal reward. Once p more steps add the same everywhere, ``v_{n+mp} = v_n + m d``:
    for POSTERIOR ``d/p = α log λ`` with the Perron eigenvalue λ, for VARIATIONAL and HARD the gain of average reward.
    The error is at most ``m (max d - min d)`` (Seneta 2006, section 1.1; Puterman 1994, theorem 8.5.5). Groups of
    states that grow at different rates have a bound each, if no trajectory leads from a slower group to a faster one.
    If growth does not settle, the sweep goes on up to the last horizon. The result has no gradient.

    Args:
        world: a world, or its tables; its slices must not depend on time. Its own horizon is ignored.
        horizons: one horizon T or several, whole numbers from 1 on, in any order.
        rule: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING or RISK(eta).
        temperature: α > 0, reward units.
        tolerance: the largest error of an extrapolated value, reward units; None is 1e-10 of the largest reward or
            value.

    Raises:
        WorldError: the slices depend on time, or an argument is not valid; or the rule has a mean of your own, for
            which no bound is known.
        IntractableError: the world cannot be tabulated.
        ImpossibleError: at one of the horizons the start value is -inf; the message names the states.
    """
    require_a_rule(rule)
    if not rule.is_known:
        seen = f"{rule}, whose means say nothing of themselves"
        raise fault("solve_horizons, rule", seen, "cai's own means, whose growth has a bound; cai.solve takes any")
    asked = _whole(horizons)
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 <= tolerance < float("inf")):
        raise fault("tolerance", f"{tolerance!r}", "a finite number of reward units, 0 or more, or None")
    tables = _stationary(world)
    if tables.longest is not None and max(asked) > tables.longest:
        expected = f"at most {tables.longest:,}, the longest for which there are all states"
        raise fault("solve_horizons, horizons", f"{max(asked):,}", expected)
    alpha = as_temperature(temperature, tables)
    if alpha.dim():
        raise fault("temperature", f"{alpha.tolist()}", "one number")
    walk = _Walk(rule, tables, alpha, set(asked))
    growth = _settle(walk, tolerance)
    answers = [walk.kept.get(T) or _far(walk, growth, T) for T in asked]
    v = torch.stack([answer.v for answer in answers])
    value = rule.over_outcomes.value(v, tables.log_initial, alpha)
    for T, start in zip(asked, value, strict=True):
        if start == -torch.inf:
            raise _impossible(rule, tables, T)
    rate = None if growth is None else _rate(walk, growth)
    start_mean = Rounding(0.0, float(alpha))
    bounds = v.new_tensor(
        [answer.error + start_mean(answer.v, start) for answer, start in zip(answers, value, strict=True)]
    )
    return HorizonValues(tables, rule, alpha, asked, v, value, rate, bounds, walk.sweeps)


@dataclass(frozen=True)
class _Answer:
    """v with some number of steps to go, ``[S]``, and a bound on its error, reward units."""

    v: Tensor
    error: float


class _Walk:
    """The sweep, ``n`` steps from the end: v is ``offset`` and a small ``v [S]``, so that no digit is lost to its size.

    ``error`` bounds the rounding so far: F brings no two vectors further apart, so the rounding of each step adds up.
    """

    def __init__(self, rule: Rule, tables: Tables, alpha: Tensor, wanted: set[int]) -> None:
        self.tables, self.alpha, self.wanted, self.last = tables, alpha, wanted, max(wanted)
        self.op = TableOperator(replace(tables, horizon=min(self.last, USES)), rule, alpha)
        self.rounding = self.op.rounding()
        self.n, self.sweeps, self.error = 0, 0, 0.0
        self.offset, self.v = Fraction(0), tables.terminal
        self.kept: dict[int, _Answer] = {}

    @property
    def size(self) -> float:
        """The largest reward or value so far, reward units."""
        return max(self.rounding.reward, largest(self.v + float(self.offset)))

    def step(self) -> None:
        """Take one more step, and keep the values where they are wanted."""
        before, self.v = self.v, self.apply(self.v)
        self.n += 1
        self.error += self.rounding(before, self.v)
        if self.n in self.wanted:
            self.kept[self.n] = self.answer(self.v, self.offset, self.error)

    def apply(self, v: Tensor) -> Tensor:
        """Back up any v."""
        self.sweeps += 1
        return self.op.backup(0, v)

    def repeat(self, v: Tensor, p: int) -> Tensor:
        """Back up any v p times."""
        for _ in range(p):
            v = self.apply(v)
        return v

    def lead(self, v: Tensor, p: int) -> Tensor:
        """Back up v p times under POSTERIOR, to see which states lead where."""
        leading = self.op.under(POSTERIOR)
        for _ in range(p):
            v = leading.backup(0, v)
        return v

    def lift(self) -> None:
        """Move the size of v into the offset; with a discount, values do not grow with n and stay as they are."""
        top = float(self.v.max())
        if self.tables.discount == 1 and top > -torch.inf:
            self.v, self.offset = self.v - top, self.offset + Fraction(top)
            self.error += torch.finfo(self.v.dtype).eps * largest(self.v)

    def answer(self, v: Tensor, offset: Fraction, error: float) -> _Answer:
        """Return the values themselves."""
        whole = v + float(offset)
        return _Answer(whole, error + 2 * torch.finfo(v.dtype).eps * largest(whole))


def _settle(walk: _Walk, tolerance: float | None) -> Growth | None:
    """Sweep until growth is known well enough for the last horizon, or to the last horizon itself."""
    with bar("backups", walk.last) as update:
        while walk.n < walk.last:
            growth = _look(walk, tolerance)
            if growth is not None:
                return growth
            goal = min(walk.last, walk.n + max(LONGEST_PERIOD, int(STRIDE * walk.n)))
            while walk.n < goal:
                walk.step()
                if walk.n % 32 == 0:
                    walk.lift()
                    update(walk.n, "")
    return None


def _look(walk: _Walk, tolerance: float | None) -> Growth | None:
    """Take up to ``LONGEST_PERIOD`` steps in search of a period whose growth is known well enough."""
    walk.lift()
    v, start = walk.v, walk.n
    for p in range(1, min(LONGEST_PERIOD, walk.last - start) + 1):
        walk.step()
        width = _allowed(walk, tolerance, p)
        growth = common_growth(v, walk.v, p, discounted=walk.tables.discount < 1)
        if growth is not None and growth.width <= width:
            return growth
    if p == LONGEST_PERIOD and walk.tables.discount == 1:
        growth = growth_by_level(v, walk.v, p, width, lambda u: walk.repeat(u, p), lambda u: walk.lead(u, p))
        if growth is not None and growth.width <= width:
            return growth
    return None


def _allowed(walk: _Walk, tolerance: float | None, p: int) -> float:
    """Return how wide a bracket of p steps may be so that the last horizon is as near as was asked, or as it can be."""
    m = max(1, (walk.last - walk.n) // p)
    wanted = SHARE * walk.size if tolerance is None else tolerance
    return 2 * max(wanted, m * p * walk.rounding(walk.v) / SPARE) / m


def _far(walk: _Walk, growth: Growth | None, T: int) -> _Answer:
    """Return v with T steps to go: m periods of growth at once, then the few steps that are left over.

    The brackets were read off rounded backups, so each period may be off by their rounding, too.
    """
    assert growth is not None
    m, left = divmod(T - walk.n, growth.period)
    gain, doubt = growth.best(growth.period * walk.rounding(walk.v))
    top = gain.max() if walk.tables.discount == 1 else gain.new_zeros(())
    v, offset, error = walk.v + float(m) * (gain - top), walk.offset + m * Fraction(float(top)), walk.error + m * doubt
    error += 4 * torch.finfo(v.dtype).eps * max(largest(v), largest(walk.v))  # of the product and the sum
    for _ in range(left):
        before, v = v, walk.apply(v)
        error += walk.rounding(before, v)
    return walk.answer(v, offset, error)


def _rate(walk: _Walk, growth: Growth) -> Tensor:
    gain, _ = growth.best(growth.period * walk.rounding(walk.v))
    return torch.where(walk.v == -torch.inf, -torch.inf, gain / growth.period)


def _whole(horizons: int | Sequence[int]) -> tuple[int, ...]:
    asked = (horizons,) if isinstance(horizons, int) else tuple(horizons)
    if not asked or any(isinstance(T, bool) or not isinstance(T, int) or T < 1 for T in asked):
        raise fault("horizons", f"{horizons!r}", "whole numbers, 1 or more")
    return asked


def _stationary(world: World | Tables) -> Tables:
    tables = tabulate(world).detach()
    if tables.timed:
        raise fault("solve_horizons, world", "slices that differ over time", "a stationary world (cai.solve takes any)")
    if tables.batch_shape:
        raise fault("solve_horizons, world", f"a batch of shape {tuple(tables.batch_shape)}", "one world")
    return tables


def _impossible(rule: Rule, tables: Tables, T: int) -> ImpossibleError:
    # After S steps nothing new is reached, but which states are may alternate: the least common periods are kept.
    shown = min(T, tables.states.size + (T - tables.states.size) % LONGEST_PERIOD)
    findings = blockers(replace(tables, horizon=shown), risk=rule.lost_by_one)
    return no_answer(rule, findings, f" with {T:,} steps to go")

"""Samples of the next state from a factored slice, variable by variable, and its most probable outcome."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, aligned
from cai.exact.factors.algebra import Algebra, LogSum, MaxSum, summed
from cai.exact.factors.prepared_slice import PreparedSlice, finite, priced, separable
from cai.exact.operator import Pick
from cai.exact.rule_means import TIE, Mean
from cai.support.numerics import nats

CASE = "#"
"""The axis of the samples."""
ROOM = 1 << 24
"""Numbers of one batch of samples."""


def following(
    plan: PreparedSlice, over: Mean, c: Tensor, alpha: Tensor, s: Tensor, a: Tensor, pick: Pick
) -> tuple[Tensor, Tensor]:
    """Return the next state and the reward of N slices, ``[N]`` each: latents and s' picked from the rule's outcomes.

    Args:
        plan: the slice.
        over: the mean over outcomes, whose tilted distribution is drawn from.
        c: the continuation, reward units, ``[S]``.
        alpha: the temperature, reward units.
        s, a: states and actions, ``[N]``.
        pick: draws, or takes the largest.
    """
    size = max(1, ROOM // max(1, plan.states.size))
    parts = [_following(plan, over, c, alpha, s[i : i + size], a[i : i + size], pick) for i in range(0, len(s), size)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _following(
    plan: PreparedSlice, over: Mean, c: Tensor, alpha: Tensor, s: Tensor, a: Tensor, pick: Pick
) -> tuple[Tensor, Tensor]:
    known = {**plan.states.split(s), **plan.actions.split(a)}
    known = {name: value.long() for name, value in known.items()}
    if separable(over).kind == "averaged":
        for name, factor in plan.slice.chance.items():  # true dynamics: the program's own order
            known[name] = pick(aligned(_given(factor, known), (CASE, name)).expand(len(s), -1))
    else:
        _tilted(plan, over, c, alpha, known, pick)
    values = {name[:-1]: known[name] for name in plan.following}
    reward = torch.zeros(len(s), dtype=c.dtype)
    for piece in plan.slice.reward:
        reward = reward + _given(piece, known).table
    return plan.states.join(values), reward


def _tilted(plan: PreparedSlice, over: Mean, c: Tensor, alpha: Tensor, known: dict[str, Tensor], pick: Pick) -> None:
    """Pick the next state jointly, then the latents one by one, each given what is known by then."""
    mean = separable(over)
    soft = mean.kind == "linear"
    eta = alpha if mean.eta is None else alpha.new_tensor(mean.eta)
    algebra: Algebra = LogSum() if soft else MaxSum()
    price = alpha.new_tensor(1.0) if soft else alpha * float(mean.paid)  # log p + r/η, for a maximum α log p + r or r
    weights_of = (lambda x: x) if soft else _maximisers
    chance = [Factor(factor.scope, priced(factor.table, price)) for factor in plan.slice.chance.values()]
    pieces = [Factor(piece.scope, nats(finite(piece.table, eta), eta) if soft else piece.table) for piece in plan.mixed]
    left = [_given(factor, known) for factor in (*chance, *pieces)]
    ahead = plan.look_ahead(c)
    ahead = nats(finite(ahead, eta), eta) if soft else ahead
    weights = eliminated(algebra, left, (CASE, *plan.following))
    logits = aligned(weights, (CASE, *plan.following)) + ahead
    number = pick(weights_of(logits.expand(len(next(iter(known.values()))), *plan.states.sizes).flatten(1)))
    for name, value in plan.states.split(number).items():
        known[f"{name}'"] = value.long()
    for name in plan.variables.latents:
        left = [_given(factor, known) for factor in (*chance, *pieces)]
        of_this = aligned(eliminated(algebra, left, (CASE, name)), (CASE, name))
        known[name] = pick(weights_of(of_this.expand(len(number), -1)))


def _maximisers(scores: Tensor) -> Tensor:
    """Return log-weights ``[N, n]`` that share evenly among the best of each row, rounding apart."""
    best = scores.amax(-1, keepdim=True)
    return torch.where(scores >= best - TIE * torch.finfo(scores.dtype).eps * best.abs(), 0.0, -torch.inf)


def eliminated(algebra: Algebra, factors: Sequence[Factor], keep: tuple[str, ...]) -> Factor:
    """Multiply tables and sum out all but ``keep``, one variable after the other, the cheapest first."""
    left = list(factors)
    while True:
        gone = {name for factor in left for name in factor.scope} - set(keep)
        if not gone:
            break
        name = min(sorted(gone), key=lambda name: _width(left, name))
        touched = [factor for factor in left if name in factor.scope]
        left = [factor for factor in left if name not in factor.scope]
        product = touched[0]
        for factor in touched[1:]:
            product = algebra.combine(product, factor, tuple(dict.fromkeys((*product.scope, *factor.scope))))
        left.append(summed(algebra, product, tuple(other for other in product.scope if other != name)))
    product = left[0]
    for factor in left[1:]:
        product = algebra.combine(product, factor, tuple(dict.fromkeys((*product.scope, *factor.scope))))
    return product


def _width(factors: Sequence[Factor], name: str) -> int:
    sizes = {
        other: size
        for factor in factors
        if name in factor.scope
        for other, size in zip(factor.scope, factor.table.shape, strict=True)
    }
    return math.prod(sizes.values())


def _given(factor: Factor, known: Mapping[str, Tensor]) -> Factor:
    """Read a table at the known values ``[N]``: what is left is a table for each of the N."""
    seen = [name for name in factor.scope if name in known]
    rest = tuple(name for name in factor.scope if name not in known)
    if not seen:
        return (
            Factor(rest, factor.table)
            if rest
            else Factor((CASE,), factor.table.expand(len(next(iter(known.values())))))
        )
    table = aligned(factor, (*seen, *rest))
    return Factor((CASE, *rest), table[tuple(known[name] for name in seen)])

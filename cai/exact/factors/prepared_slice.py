"""One factored slice, ready for every rule: the mean over outcomes of ``r + c(s')`` for every state and action.

Each term of the reward is placed where it costs least. A term over (s, a) stays outside the mean, and one over s' alone
is added to c. Only a term over both, or over a latent, takes part in the elimination. If the rule averages outcomes,
even that is not needed: the term's mean is computed once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import opt_einsum
import torch
from torch import Tensor

from cai.compile.factor_model import Factor, FactoredSlice, SliceVariables, added_up, aligned, primed
from cai.errors import Finding, IntractableError
from cai.exact.cost import Cost
from cai.exact.factors.algebra import LogSum, MaxSum, SumProduct
from cai.exact.factors.cases import Cases, by_action
from cai.exact.factors.contraction import Contraction
from cai.exact.factors.elimination import Plan, plan
from cai.exact.rule_means import Assumption, Expect, Mean, assumption
from cai.support.numerics import log, nats

WARM = 0.5
"""Nats below which the logarithm is of a number near 1, and is taken as such."""
DEEP = 0.85
"""How much of the dtype's range, in nats, a product of probabilities and exponentials may span outside of log space."""


class PreparedSlice:
    """A slice with its plans of elimination.

    Args:
        variables: what its factors are over.
        slice_: the slice.
    """

    def __init__(self, variables: SliceVariables, slice_: FactoredSlice) -> None:
        self.variables, self.slice = variables, slice_
        self.sizes = variables.sizes
        self.states, self.actions = variables.states, variables.actions
        self.following = tuple(primed(name) for name in self.states.names)
        here, there = {*self.states.names, *self.actions.names}, set(self.following)
        self.outside = [piece for piece in slice_.reward if here.issuperset(piece.scope)]
        self.ahead = [piece for piece in slice_.reward if piece.scope and there.issuperset(piece.scope)]
        self.mixed = [
            piece for piece in slice_.reward if not (here.issuperset(piece.scope) or there.issuperset(piece.scope))
        ]
        self._cases = {name: by_action(factor, self.actions) for name, factor in slice_.chance.items()}
        self.every = list(self._cases.values())
        self.dynamics = self._needed(there)
        self.chance = self._needed(there.union(*(piece.scope for piece in self.mixed)))
        self.rewards = [by_action(piece, self.actions) for piece in self.mixed]
        self._contractions: dict[tuple[object, ...], Contraction] = {}

    @cached_property
    def plain(self) -> Plan:
        """The plan over probabilities alone."""
        return self._plan(self.dynamics)

    @cached_property
    def tied(self) -> Plan:
        """The plan over probabilities and the rewards that tie s' or latents to (s, a)."""
        return self._plan([*self.chance, *self.rewards]) if self.mixed else self.plain

    @cached_property
    def likeliest(self) -> Plan:
        """The plan over all that is in the slice: the likeliest value counts of a latent that nothing reads, too."""
        return self._plan([*self.every, *self.rewards])

    def _needed(self, names: set[str]) -> list[Cases]:
        """Return the distributions of some variables and of all that they read; the others sum to 1."""
        wanted, needed = set(names), list[Cases]()
        for name, factor in reversed(self.slice.chance.items()):  # children come after their parents
            if name in wanted or factor.table.requires_grad:
                needed.append(self._cases[name])
                wanted |= set(factor.scope)
        return needed[::-1]

    def _plan(self, cases: Sequence[Cases]) -> Plan:
        return plan(cases, self.sizes, self.following, self.states.names, self.actions.size)

    @cached_property
    def log_prior(self) -> Tensor:
        """log p(a|s), nats, ``[S, A]``."""
        return self.variables.log_prior(self.slice)

    def mean(self, over: Mean, c: Tensor, alpha: Tensor) -> Tensor:
        """Return q(s, a), the mean over outcomes of r + c(s'), reward units, ``[S, A]``.

        Args:
            over: the mean.
            c: the continuation, reward units, ``[S]``.
            alpha: the temperature, reward units.

        Raises:
            IntractableError: the mean says nothing of itself, so that it cannot be taken variable by variable.
        """
        x, known = self.look_ahead(c), separable(over)
        if known.kind == "averaged":
            return self._with(self._average(x), [*self.outside, *self.averaged])
        if known.kind == "maximum":
            price = alpha if known.paid else torch.zeros_like(alpha)
            q = self._contraction(("maximum", float(price)), lambda: self._maximum(price))(x)
            return self._with(q, self.outside)
        eta = alpha if known.eta is None else alpha.new_tensor(known.eta)
        return self._with(self._soft(x, eta), self.outside)

    @cached_property
    def expected_reward(self) -> Tensor:
        """E[r|s, a], reward units, ``[S, A]``."""
        zero = torch.zeros(self.states.size, dtype=self.variables.dtype)
        return self.mean(Expect(), zero, torch.ones((), dtype=self.variables.dtype))

    def pull(self, over: Mean, c: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return ``Σ_{s,a} weights(s, a) ∂q(s, a)/∂c(s')``, ``[S]``: the flow of probability into the next state.

        For a mean the derivative is its tilted distribution of s'; it is the same elimination, transposed by autograd.
        """
        with torch.enable_grad():
            c = c.detach().requires_grad_()
            q = self.mean(over, c, alpha)
            weights = torch.where(q.detach() == -torch.inf, 0.0, weights)
            (flow,) = torch.autograd.grad(q, c, weights)
        return flow

    def spread(self, over: Mean, c: Tensor, alpha: Tensor, weights: Tensor, names: tuple[str, ...]) -> Tensor:
        """Return how ``weights(s, a)`` spread over some variables of the slice, latents too, an axis for each.

        It is the derivative of q in a reward of these variables alone: for a mean, their tilted distribution.
        """
        reward = torch.zeros([self.sizes[name] for name in names], dtype=c.dtype, requires_grad=True)
        with torch.enable_grad():
            paid = replace(self.slice, reward=(*self.slice.reward, Factor(names, reward)))
            q = PreparedSlice(self.variables, paid).mean(over, c.detach(), alpha.detach())
            weights = torch.where(q.detach() == -torch.inf, 0.0, weights)
            (spread,) = torch.autograd.grad(q, reward, weights)
        return spread

    def step(self, weights: Tensor) -> Tensor:
        """Return p(s') where ``weights`` is p(s, a), ``[S, A]``, under the true dynamics, ``[S]``."""
        zero = torch.zeros(self.states.size, dtype=weights.dtype)
        with torch.enable_grad():
            x = zero.reshape(self.states.sizes).requires_grad_()
            (flow,) = torch.autograd.grad(self._probabilities(x), x, self._by_action(weights))
        return flow.reshape(-1)

    def cost(self, over: Mean) -> Cost:
        """Predict what one mean costs."""
        kind = separable(over).kind
        if kind == "maximum":
            return self.likeliest.cost
        return (self.plain if kind == "averaged" else self.tied).cost

    @cached_property
    def averaged(self) -> list[Factor]:
        """E[r_m|s, a] of each piece that ties s' or latents to (s, a), reward units."""
        return [self._averaged(piece) for piece in self.mixed]

    def look_ahead(self, c: Tensor) -> Tensor:
        """Return c(s') with the rewards of s' alone on it, reward units, an axis for each next-state variable."""
        x = c.reshape(self.states.sizes)
        for piece in self.ahead:
            x = x + aligned(piece, self.following)
        return x

    def _with(self, q: Tensor, pieces: Sequence[Factor]) -> Tensor:
        """Add pieces over (s, a) to ``[A, *s]``; those that do not see the action once for all of them."""
        states, actions = self.states, self.actions
        scope = (*actions.names, *states.names)
        blind = [piece for piece in pieces if not set(piece.scope) & set(actions.names)]
        seeing = [piece for piece in pieces if set(piece.scope) & set(actions.names)]
        split = q.reshape(*actions.sizes, *states.sizes)
        for group in (blind, seeing):
            if group:
                split = split + added_up(group, scope, self.variables.dtype)
        return split.reshape(actions.size, states.size).T

    def _by_action(self, weights: Tensor) -> Tensor:
        return weights.T.reshape(self.actions.size, *self.states.sizes)

    def _contraction(self, key: tuple[object, ...], make: Callable[[], Contraction]) -> Contraction:
        """Keep the pass of one kind; where tables are differentiated it is made anew each time."""
        if any(factor.tables.requires_grad for factor in (*self.chance, *self.rewards)):
            return make()
        if key not in self._contractions:
            self._contractions[key] = make()
        return self._contractions[key]

    def _probabilities(self, x: Tensor) -> Tensor:
        return self._contraction(("p",), self._expectation)(x)

    def _expectation(self) -> Contraction:
        return Contraction(self.plain, SumProduct(), [factor.tables.exp() for factor in self.dynamics])

    def _possible(self, x: Tensor) -> Tensor:
        """Return whether an outcome can lead to where x holds, for every action and state."""
        with torch.no_grad():
            return self._contraction(("possible",), self._support)(x.to(self.variables.dtype)) > 0

    def _support(self) -> Contraction:
        positive = [factor.tables > -torch.inf for factor in self.dynamics]
        return Contraction(self.plain, SumProduct(), [table.to(self.variables.dtype) for table in positive])

    def _average(self, x: Tensor) -> Tensor:
        barred = x.detach() == -torch.inf
        q = self._probabilities(torch.where(barred, 0.0, x))
        return torch.where(self._possible(barred), -torch.inf, q) if bool(barred.any()) else q

    def _averaged(self, piece: Factor) -> Factor:
        """Return the mean of a piece over what it reads beside (s, a), by the variables that lead there."""
        wanted, chain = set(piece.scope), []
        for name, factor in reversed(self.slice.chance.items()):  # children come after their parents
            if name in wanted:
                chain.append(factor)
                wanted |= set(factor.scope)
        out = tuple(name for name in (*self.actions.names, *self.states.names) if name in wanted)
        barred = piece.table.detach() == -torch.inf
        finite = Factor(piece.scope, torch.where(barred, 0.0, piece.table))
        mean = _contract([finite, *(Factor(factor.scope, factor.table.exp()) for factor in chain)], out)
        if not bool(barred.any()):
            return mean
        support = [Factor(factor.scope, (factor.table > -torch.inf).to(factor.table.dtype)) for factor in chain]
        risk = _contract([Factor(piece.scope, barred.to(piece.table.dtype)), *support], out)
        return Factor(out, torch.where(risk.table > 0, -torch.inf, mean.table))

    def _maximum(self, price: Tensor) -> Contraction:
        tables = [*(priced(factor.tables, price) for factor in self.every), *(factor.tables for factor in self.rewards)]
        return Contraction(self.likeliest, MaxSum(), tables)

    def _soft(self, x: Tensor, eta: Tensor) -> Tensor:
        """Return η log E exp((r + x)/η) over the tied rewards, ``[A, *s]``."""
        barred = x.detach() == -torch.inf
        if bool(eta < 0):  # the worst outcome decides: -inf as soon as one is possible
            q = self._log_mean(torch.where(barred, 0.0, x), eta)
            risk = self._possible(barred) if bool(barred.any()) else torch.zeros_like(q, dtype=torch.bool)
            for piece in self.averaged:
                if bool((piece.table == -torch.inf).any()):
                    risky = aligned(
                        Factor(piece.scope, piece.table == -torch.inf), (*self.actions.names, *self.states.names)
                    )
                    risk = risk | risky.expand(*self.actions.sizes, *self.states.sizes).reshape(q.shape)
            return torch.where(risk, -torch.inf, q)
        return self._log_mean(x, eta)

    def _log_mean(self, x: Tensor, eta: Tensor) -> Tensor:
        key = float(eta)
        rewards = [nats(finite(reward.tables, eta), eta) for reward in self.rewards]
        tops = [reward.detach().max() for reward in rewards]
        real = x.detach()[x.detach() > -torch.inf]
        if real.numel() == 0:
            return torch.full((self.actions.size, *self.states.sizes), -torch.inf, dtype=x.dtype)
        top = real.max() if key > 0 else real.min()
        y = nats(x - top, eta)
        shift = top + eta * sum(tops, torch.zeros_like(eta))
        depth = float((real - top).abs().max() / abs(key)) + sum(_span(reward) for reward in rewards)
        if depth < WARM and not rewards and real.numel() == x.numel():  # log of a number near 1 would lose digits
            return shift + eta * torch.log1p(self._probabilities(torch.expm1(y)))
        tables = [
            *(factor.tables for factor in self.chance),
            *(reward - top for reward, top in zip(rewards, tops, strict=True)),
        ]
        range_ = -DEEP * math.log(torch.finfo(x.dtype).tiny)
        if depth + sum(_span(factor.tables) for factor in self.chance) < range_:
            linear = self._contraction(
                ("soft", key), lambda: Contraction(self.tied, SumProduct(), [table.exp() for table in tables])
            )
            return shift + eta * log(linear(y.exp()))
        deep = self._contraction(("deep", key), lambda: Contraction(self.tied, LogSum(), tables))
        return shift + eta * deep(y)


def separable(over: Mean) -> Assumption:
    """Return what is known of a mean that is to be taken variable by variable.

    Raises:
        IntractableError: it says nothing of itself.
    """
    known = assumption(over)
    if known is None:
        seen = f"{over!r} over outcomes, a mean that cannot be taken variable by variable"
        raise IntractableError([Finding("factors", seen, "form='tables', or one of cai's own means")])
    return known


def priced(log_p: Tensor, price: Tensor) -> Tensor:
    """Return ``price · log p``, -inf where p is 0 at every price."""
    return torch.where(log_p == -torch.inf, log_p, price * log_p)


def _contract(factors: Sequence[Factor], out: tuple[str, ...]) -> Factor:
    """Multiply tables and sum out all but ``out``, in an order that opt_einsum finds."""
    names = dict.fromkeys(name for factor in factors for name in factor.scope)
    codes = {name: i for i, name in enumerate(names)}
    operands: list[object] = []
    for factor in factors:
        operands += [factor.table, [codes[name] for name in factor.scope]]
    return Factor(out, opt_einsum.contract(*operands, [codes[name] for name in out], optimize="greedy"))


def finite(tables: Tensor, eta: Tensor) -> Tensor:
    """Leave out -inf where η < 0 would turn it to +inf; the risk of it is told apart."""
    return torch.where(tables == -torch.inf, 0.0, tables) if bool(eta < 0) else tables


def _span(table: Tensor) -> float:
    """Return how far the finite numbers of a table reach below its largest, nats."""
    finite = table.detach()[table.detach() > -torch.inf]
    return float(finite.max().clamp(min=0) - finite.min()) if finite.numel() else 0.0

"""Local functions one step back: the mean of v(s') over outcomes, as local functions of the state and the action.

``E[Σ_i f_i(s'_i)|s, a] = Σ_i E[f_i|s, a]``: each term reads the parents of its own variables only (Guestrin, Koller,
Parr & Venkataraman 2003, section 4). The log-mean-exp of a sum whose terms share no random variable is such a sum, too:

    α log E exp(Σ_i f_i/α) = Σ_i α log E exp(f_i/α)

Terms that do share one are taken together. Where that would read too many variables at once, Hölder's inequality parts
them (Liu & Ihler 2011): ``E Π_k g_k <= Π_k E[g_k^K]^(1/K)``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import opt_einsum
import torch

from cai.approximation.bounds.local_sums import LocalSum
from cai.compile.factor_model import Factor

ROOM = 1 << 16
"""Numbers of one table of a mean."""
DEEP = 600.0
"""Nats below its largest term at which a log-mean is cut off from below: what underflows is not taken as impossible."""


@dataclass(frozen=True)
class Outcomes:
    """What is random between (s, a) and s'.

    Attributes:
        chance: log p(x|parents), nats, parents before children.
        sizes: the number of values of every variable.
    """

    chance: Mapping[str, Factor]
    sizes: Mapping[str, int]

    def ancestors(self, scope: Sequence[str]) -> tuple[str, ...]:
        """Return the random variables that decide a scope, children first."""
        wanted, found = set(scope), list[str]()
        for name in reversed(list(self.chance)):
            if name in wanted:
                found.append(name)
                wanted |= set(self.chance[name].scope)
        return tuple(found)

    def given(self, scope: Sequence[str]) -> tuple[str, ...]:
        """Return the variables of (s, a) that a mean over a scope reads."""
        chain = self.ancestors(scope)
        every = dict.fromkeys([*scope, *(name for other in chain for name in self.chance[other].scope)])
        return tuple(name for name in every if name not in chain)

    def expectation(self, piece: Factor) -> Factor:
        """Return E[f|s, a]: -inf where an outcome that is possible has f = -inf."""
        barred = piece.table == -torch.inf
        mean = self._mean([Factor(piece.scope, torch.where(barred, 0.0, piece.table))])
        if not bool(barred.any()):
            return mean
        risk = self._mean([Factor(piece.scope, barred.to(piece.table.dtype))], support=True)
        return Factor(mean.scope, torch.where(risk.table > 0, -torch.inf, mean.table))

    def log_mean(self, pieces: Sequence[Factor], eta: float) -> LocalSum:
        """Return local functions whose sum is at least ``η log E[exp(Σ f/η)|s, a]``, and is that if none is parted."""
        means: list[Factor] = []
        for group in self._tied(pieces):
            parts = self._parted(group)
            means += [self._log_mean(part, eta / len(parts)) for part in parts]  # Hölder where there are several
        return tuple(means)

    def _tied(self, pieces: Sequence[Factor]) -> list[list[Factor]]:
        """Group the terms that share a random variable."""
        groups: list[tuple[set[str], list[Factor]]] = []
        for piece in pieces:
            random, together = set(self.ancestors(piece.scope)), [piece]
            apart: list[tuple[set[str], list[Factor]]] = []
            for names, group in groups:
                if names & random:
                    random, together = random | names, [*group, *together]
                else:
                    apart.append((names, group))
            groups = [*apart, (random, together)]
        return [group for _, group in groups]

    def _parted(self, group: Sequence[Factor]) -> list[list[Factor]]:
        """Part terms so that the mean of each part reads few variables."""
        parts: list[list[Factor]] = []
        for piece in sorted(group, key=lambda piece: -piece.table.numel()):
            home = next((part for part in parts if self._numbers([*part, piece]) <= ROOM), None)
            if home is None:
                parts.append([piece])
            else:
                home.append(piece)
        return parts

    def _numbers(self, pieces: Sequence[Factor]) -> int:
        scope = [name for piece in pieces for name in piece.scope]
        return math.prod(self.sizes[name] for name in self.given(scope))

    def _log_mean(self, pieces: Sequence[Factor], eta: float) -> Factor:
        tops = [piece.table.max() for piece in pieces]
        if any(bool(top == -torch.inf) for top in tops):
            return Factor((), pieces[0].table.new_tensor(-torch.inf))
        weights = [
            Factor(piece.scope, ((piece.table - top) / eta).exp()) for piece, top in zip(pieces, tops, strict=True)
        ]
        mean = self._mean(weights)
        return Factor(mean.scope, sum(tops) + eta * mean.table.clamp(min=0).log().clamp(min=-DEEP))

    def _mean(self, pieces: Sequence[Factor], support: bool = False) -> Factor:
        scope = tuple(dict.fromkeys(name for piece in pieces for name in piece.scope))
        tables = [self.chance[name] for name in self.ancestors(scope)]
        known = [
            Factor(one.scope, (one.table > -torch.inf).to(one.table.dtype) if support else one.table.exp())
            for one in tables
        ]
        return contracted([*pieces, *known], self.given(scope))


def contracted(factors: Sequence[Factor], out: tuple[str, ...]) -> Factor:
    """Multiply tables and sum out all but ``out``, in an order that opt_einsum finds."""
    codes = {name: i for i, name in enumerate(dict.fromkeys(name for factor in factors for name in factor.scope))}
    operands: list[object] = []
    for factor in factors:
        operands += [factor.table, [codes[name] for name in factor.scope]]
    return Factor(out, opt_einsum.contract(*operands, [codes[name] for name in out], optimize="greedy"))

"""One step ahead of sampled states: q(s, a) of a sum of local functions of s', from the factors, without a joint table.

``q(s, a) = E[r + γ v(s') | s, a] = Σ_i E[f_i | s, a]``: each term needs only the distribution of its own variables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import opt_einsum
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.compile.factor_model import Factor, Factors, aligned, primed

CASE = "#"
"""The axis of the sampled states."""
States = Mapping[str, Tensor]
"""Values of the state variables, ``[N]`` each."""


def given(factor: Factor, known: States) -> Factor:
    """Read a table at known values ``[N]``; the axis ``CASE`` comes first, of size 1 where nothing known is read."""
    seen = [name for name in factor.scope if name in known]
    rest = tuple(name for name in factor.scope if name not in known)
    table = aligned(factor, (*seen, *rest))
    return Factor((CASE, *rest), table[tuple(known[name] for name in seen)] if seen else table.unsqueeze(0))


def value_of(pieces: Sequence[Factor], states: States) -> Float[Tensor, " N"]:
    """Return Σ_i f_i(s), reward units, ``[N]``."""
    n = len(next(iter(states.values())))
    total = torch.zeros(n, dtype=torch.float64)
    for piece in pieces:
        total = total + given(piece, states).table
    return total


@dataclass(frozen=True, eq=False)
class LookAhead:
    """The slices of a world of factors, at sampled states.

    Attributes:
        factors: the world.
    """

    factors: Factors

    def log_prior(self, t: int, states: States) -> Float[Tensor, "N A"]:
        """Return log p(a|s), nats."""
        return self._over_actions([given(piece, states) for piece in self.factors.at(t).prior.values()], states)

    def q(self, t: int, states: States, v_next: Sequence[Factor]) -> Float[Tensor, "N A"]:
        """Return E[r + γ v(s') | s, a], reward units; -inf where an outcome that is possible has it."""
        ahead = [
            Factor(tuple(map(primed, piece.scope)), self.factors.discount * piece.table)
            for piece in v_next
            if self.factors.discount
        ]
        chance = {name: given(factor, states) for name, factor in self.factors.at(t).chance.items()}
        pieces = [given(piece, states) for piece in (*self.factors.at(t).reward, *ahead)]
        return self._over_actions([self._mean(piece, chance) for piece in pieces], states)

    def draw(self, t: int, states: States, action: Int[Tensor, " N"], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the next states, variable by variable in the program's own order."""
        chosen = {name: value.long() for name, value in self.factors.actions.split(action).items()}
        known: dict[str, Tensor] = {**states, **chosen}
        for name, factor in self.factors.at(t).chance.items():
            probs = given(factor, known).table.exp()
            known[name] = picked(probs.expand(len(action), -1), generator)
        return {name: known[primed(name)] for name in self.factors.states.names}

    def start(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw n first states."""
        known: dict[str, Tensor] = {}
        for name, factor in self.factors.initial.items():
            known[name] = picked(given(factor, known).table.exp().expand(n, -1), generator)
        return {name: known[name] for name in self.factors.states.names}

    def _mean(self, piece: Factor, chance: Mapping[str, Factor]) -> Factor:
        """Return E[f | s, a] over the random variables that f reads, an axis for each action variable that counts."""
        barred = piece.table == -torch.inf
        finite = Factor(piece.scope, torch.where(barred, 0.0, piece.table))
        mean = self._product(finite, chance)
        if not bool(barred.any()):
            return mean
        lost = self._product(Factor(piece.scope, barred.to(piece.table.dtype)), chance).table > 0
        return Factor(mean.scope, torch.where(lost, -torch.inf, mean.table))

    def _product(self, piece: Factor, chance: Mapping[str, Factor]) -> Factor:
        actions, wanted, parts = self.factors.actions.names, set(piece.scope), [piece]
        for name in reversed(list(chance)):  # children come after their parents
            if name in wanted:
                parts.append(Factor(chance[name].scope, chance[name].table.exp()))
                wanted |= set(chance[name].scope)
        if len(parts) == 1:
            return piece
        keep = (CASE, *(name for name in actions if name in wanted))
        return Factor(keep, _summed(parts, keep))

    def _over_actions(self, pieces: Sequence[Factor], states: States) -> Tensor:
        """Add up terms over states and action variables, all joint actions in one axis, ``[N, A]``."""
        actions, n = self.factors.actions, len(next(iter(states.values())))
        total = torch.zeros((1,) * (1 + len(actions.names)), dtype=self.factors.dtype)
        for piece in sorted(pieces, key=lambda piece: piece.table.numel()):
            total = total + aligned(piece, (CASE, *actions.names))
        return total.expand(n, *actions.sizes).reshape(n, actions.size)


def picked(probs: Float[Tensor, "N K"], generator: torch.Generator) -> Int[Tensor, " N"]:
    """Draw one of K values in each row."""
    if probs.shape[-1] == 1:
        return torch.zeros(len(probs), dtype=torch.long)
    return torch.multinomial(probs, 1, generator=generator).squeeze(-1)


def _summed(parts: Sequence[Factor], keep: tuple[str, ...]) -> Tensor:
    """Multiply tables and sum out all but ``keep``; the axis ``CASE`` of those that read no state is dropped."""
    axes = {name: i for i, name in enumerate(dict.fromkeys(name for part in parts for name in part.scope))}
    arguments: list[object] = []
    wide = False
    for part in parts:
        one = part.scope[0] == CASE and part.table.shape[0] == 1
        wide = wide or not one
        table, scope = (part.table[0], part.scope[1:]) if one else (part.table, part.scope)
        arguments += [table, [axes[name] for name in scope]]
    kept = keep if wide else keep[1:]
    result: Tensor = opt_einsum.contract(*arguments, [axes[name] for name in kept])
    return result if wide else result.unsqueeze(0)

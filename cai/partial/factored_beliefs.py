"""Beliefs for worlds without tables: a vector over the joint states, updated by variable elimination.

    predict:  p(s') = Σ_s b(s) Σ_w Π_x p(x|parents, a)          one action's slice, factor by factor
    see:      b(s) ∝ b(s) Σ_latents Π_x p(x|parents)             the sites of ``observe``, at what was seen

There is no table over pairs of states, nor over states and observations: a belief needs memory of a few times S.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.factor_model import Factor, Factors, aligned, primed
from cai.compile.factorise import factorise
from cai.compile.observations import ObservationFactors, factorise_observations
from cai.errors import Finding, IntractableError
from cai.exact.factors.algebra import LogSum, SumProduct
from cai.exact.factors.ordering import Orders
from cai.exact.factors.outcome_sampling import eliminated
from cai.world.definition import World

MAX_BYTES = 6e9
"""What a belief and a step of its elimination may hold: more is refused before it is begun."""
TRIES = 4
"""Orders of elimination that are tried for each action."""


@dataclass(frozen=True)
class FactoredBeliefs:
    """Beliefs as vectors of probabilities over the joint states of a world whose variables are kept apart.

    Attributes:
        model: the compiled world.
        seen: log p(reading|what it looks at), and what the observations are.
    """

    model: Factors
    seen: ObservationFactors

    def start(self) -> Float[Tensor, " S"]:
        """Return p(s_0).

        Raises:
            IntractableError: a belief would need more than ``MAX_BYTES``.
        """
        _refuse_large(f"S = {self.model.states.size:,} joint states", float(self.model.states.size))
        return self.model.log_initial.exp()

    def predict(self, belief: Float[Tensor, " S"], action: int, t: int) -> Float[Tensor, " S"]:
        """Push a belief through one action's slice: ``Σ_{s,w} b(s) Π_x p(x|parents, a)``, latents w summed out.

        Raises:
            IntractableError: one step of variable elimination would need more than ``MAX_BYTES``.
        """
        states = self.model.states
        message = Factor(states.names, belief.reshape(states.sizes))
        for factor, left in self._steps(action, t):
            message = SumProduct().combine(message, factor, left)
        return aligned(message, tuple(primed(name) for name in states.names)).reshape(-1)

    def log_likelihood(self, observation: int) -> Float[Tensor, " S"]:
        """Return log p(o|s), nats."""
        states = self.model.states
        total = torch.zeros(states.sizes, dtype=self.model.dtype)
        for factor in self.likelihood(observation):
            total = total + aligned(factor, states.names)
        return total.reshape(-1)

    def likelihood(self, observation: int) -> list[Factor]:
        """Return log p(o|s), nats, as factors over variables of the state, whose sum it is."""
        values = {name: int(value) for name, value in self.seen.space.split(torch.tensor(observation)).items()}
        factors = [_at(factor, values) for factor in self.seen.sites.values()]
        sizes = self.model.sizes
        for name in values:
            if name not in self.seen.sites:  # a variable of the state, seen as it is
                point = torch.where(torch.arange(sizes[name]) == values[name], 0.0, -torch.inf)
                factors.append(Factor((name,), point.to(self.model.dtype)))
        for name in reversed(self.seen.latents):  # children come after their parents
            ties = [factor for factor in factors if name in factor.scope]
            others = tuple(dict.fromkeys(other for factor in ties for other in factor.scope if other != name))
            factors = [factor for factor in factors if name not in factor.scope]
            factors.append(eliminated(LogSum(), ties, others))
        return factors

    def _steps(self, action: int, t: int) -> list[tuple[Factor, tuple[str, ...]]]:
        """Return the factors of one action's slice in the order in which they are applied, and what is kept after."""
        slice_ = self.model.at(t)
        key = (id(slice_), action)
        if key not in self._orders:
            values = {name: int(value) for name, value in self.model.actions.split(torch.tensor(action)).items()}
            cut = [_at(factor, values) for factor in slice_.chance.values()]
            orders = Orders([factor.scope for factor in cut], self.model.sizes)
            here, ahead = (
                orders.mask(names)
                for names in (self.model.states.names, [primed(name) for name in self.model.states.names])
            )
            order = orders.best(here, range(len(cut)), ahead, TRIES)
            _refuse_large(f"{self.model.actions.label(action)}: one step of variable elimination", order.peak)
            chosen = zip(order.factors, order.after, strict=True)
            self._orders[key] = [
                (Factor(cut[i].scope, cut[i].table.exp()), orders.variables(after)) for i, after in chosen
            ]
        return self._orders[key]

    @cached_property
    def _orders(self) -> dict[tuple[int, int], list[tuple[Factor, tuple[str, ...]]]]:
        return {}


def factored_beliefs(world: World, factors: Factors | None = None) -> FactoredBeliefs:
    """Compile a world and what is seen of it, each variable kept apart.

    Args:
        world: a world with ``observe``.
        factors: what it was compiled to, if it was.

    Raises:
        WorldError, IntractableError: as ``factorise`` and ``factorise_observations`` do.
    """
    compiled = factorise(world) if factors is None else factors
    return FactoredBeliefs(compiled.detach(), factorise_observations(world))


def _at(factor: Factor, values: dict[str, int]) -> Factor:
    """Read a table at some values of its variables; what is left is over the others."""
    index = tuple(values.get(name, slice(None)) for name in factor.scope)
    return Factor(tuple(name for name in factor.scope if name not in values), factor.table[index])


def _refuse_large(what: str, numbers: float) -> None:
    need = 8.0 * numbers
    if need > MAX_BYTES:
        seen = f"{what}: {need:,.0f} bytes"
        raise IntractableError([Finding("beliefs", seen, f"at most {MAX_BYTES:,.0f}")])

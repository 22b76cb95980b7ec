"""Worlds that fall apart: variables that no factor ties have messages of their own, and their values add up.

If the two-slice graph separates into parts, ``p(τ, O=1) = Π_parts p(τ_part, O_part=1)``: log Z, ELBO*, and every start
value are sums over the parts, and the policies act side by side (Koller & Friedman 2009, section 3.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import networkx as nx
import torch
from torch import Tensor

from cai.compile.factor_model import Factor, FactoredSlice, Factors
from cai.compile.table_model import Trajectories
from cai.errors import Finding, IntractableError, fault
from cai.exact.factors.factored_messages import FactoredMessages
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from cai.policies.action_probabilities import ActionProbabilities
from cai.policies.fixed import FixedPolicy
from cai.policies.protocol import sampled, scored
from cai.support.numerics import nats
from cai.world.spaces import Space, Values

MANY = 1 << 16
"""Joint actions up to which they are listed."""


def parts_of(factors: Factors) -> list[Factors]:
    """Split factors into parts that share no variable; one alone where everything is tied.

    An action variable that no state meets joins the first part.
    """
    ties = nx.Graph()
    ties.add_nodes_from((*factors.states.names, *factors.actions.names, *factors.latents))
    for scope in _scopes(factors):
        plain = [name.removesuffix("'") for name in scope]
        ties.add_edges_from((plain[0], name) for name in plain[1:])
    groups = [set(group) for group in nx.connected_components(ties)]
    states = set(factors.states.names)
    kept = [group for group in groups if group & states]
    kept[0].update(*(group for group in groups if not group & states))
    return [_restricted(factors, group) for group in kept]


def _scopes(factors: Factors) -> list[tuple[str, ...]]:
    found = [one.scope for one in (*factors.initial.values(), *factors.terminal)]
    for part in factors.slices:
        found += [one.scope for one in (*part.prior.values(), *part.chance.values(), *part.reward)]
    return [scope for scope in found if scope]


def _restricted(factors: Factors, names: set[str]) -> Factors:
    """Keep the factors over some variables; a constant reward goes with the first state variable of the world."""
    first = factors.states.names[0] in names

    def mine(factor: Factor) -> bool:
        return factor.scope[0].removesuffix("'") in names if factor.scope else first

    def slice_of(one: FactoredSlice) -> FactoredSlice:
        prior = {name: factor for name, factor in one.prior.items() if name in names}
        chance = {name: factor for name, factor in one.chance.items() if name.removesuffix("'") in names}
        return FactoredSlice(prior, chance, tuple(piece for piece in one.reward if mine(piece)))

    return replace(
        factors,
        initial={name: factor for name, factor in factors.initial.items() if name in names},
        slices=tuple(slice_of(one) for one in factors.slices),
        terminal=tuple(piece for piece in factors.terminal if mine(piece)),
        states=_subspace(factors.states, names),
        actions=_subspace(factors.actions, names),
        latents={name: size for name, size in factors.latents.items() if name in names},
        layout=None,
        ends=factors.ends if factors.ends is not None and names.issuperset(factors.ends.scope) else None,
    )


def _subspace(space: Space, names: set[str]) -> Space:
    kept = [i for i, name in enumerate(space.names) if name in names]
    sizes, dtypes = tuple(space.sizes[i] for i in kept), tuple(space.dtypes[i] for i in kept)
    labels = tuple(space.labels[i] for i in kept) if space.labels else ()
    return Space(tuple(space.names[i] for i in kept), sizes, dtypes, named=True, labels=labels)


def _variables(factors: Factors) -> list[str]:
    return [*factors.states.names, *factors.actions.names, *factors.latents]


@dataclass(frozen=True, repr=False)
class SeparateMessages:
    """The messages of a world that falls apart: one ``FactoredMessages`` for each part, in no joint table.

    Attributes:
        factors: the whole world.
        parts: the messages of each part.
        rule: how outcomes and actions were marginalised.
        temperature: α, reward units.
        form: the compiled form that was used.
        error_bound: a proved bound on the error of ``value``, reward units: the sum of the parts', and the rounding of
            their start values; 0 for a finite horizon (rounding apart).
    """

    factors: Factors
    parts: tuple[FactoredMessages, ...]
    rule: Rule
    temperature: Tensor
    form: str = "separate factors"
    error_bound: float = 0.0

    def __repr__(self) -> str:
        sizes = " + ".join(f"{part.factors.states.size:,}" for part in self.parts)
        return f"SeparateMessages({self.rule} at temperature {float(self.temperature):g}, {sizes} states)"

    @property
    def iterations(self) -> int:
        """Backups of the part that took most."""
        return max(part.iterations for part in self.parts)

    @property
    def value(self) -> Tensor:
        """The start value, reward units: the sum of the parts'."""
        return torch.stack([part.value for part in self.parts]).sum()

    @property
    def log_evidence(self) -> Tensor:
        """log Z = Σ_parts log Z, nats; POSTERIOR only."""
        self._belongs_to(POSTERIOR, "log_evidence")
        return nats(self.value, self.temperature)

    @property
    def elbo(self) -> Tensor:
        """ELBO* = Σ_parts ELBO*, nats; VARIATIONAL only."""
        self._belongs_to(VARIATIONAL, "elbo")
        return nats(self.value, self.temperature)

    @property
    def policy(self) -> "SeparatePolicy":
        """The parts' policies, acting side by side."""
        return SeparatePolicy(self.factors.actions, tuple(part.policy for part in self.parts))

    def marginal(self, t: int, names: str | Sequence[str]) -> Tensor:
        """Return the marginal of some states, actions and latents of time t, one axis each; parts are independent.

        With a discount this counts living trajectories only, and the parts die together: alive they are independent.

        Raises:
            WorldError: a name is none of these variables.
        """
        wanted = (names,) if isinstance(names, str) else tuple(names)
        joint = torch.ones((), dtype=self.temperature.dtype)
        order: list[str] = []
        for part in self.parts:
            own = [n for n in wanted if n in _variables(part.factors)]
            if own:
                one = part.marginal(t, own)
                living = self.factors.discount**t if order else 1.0  # each part has the chance to live to t in it
                joint = joint.reshape(*joint.shape, *(1,) * one.dim()) * one / living
                order += own
        if sorted(order) != sorted(wanted) or not wanted:
            known = _variables(self.factors)
            raise fault("marginal, names", f"{list(wanted)}", f"some of {known}, each once")
        return joint.permute([order.index(name) for name in wanted])

    def sample(self, n: int, *, steps: int | None = None, generator: torch.Generator | None = None) -> Trajectories:
        """Draw n trajectories, each part for itself; states are numbered jointly. With a discount the parts die as one.

        Raises:
            IntractableError: joint states have numbers beyond 2^62.
        """
        self._require_numbers()
        parts = [part.sample(n, steps=steps, generator=generator, mortal=False) for part in self.parts]
        found, discount = self._joined(parts), self.factors.discount
        if discount == 1:
            return found
        survives = torch.rand(found.actions.shape, generator=generator, dtype=self.temperature.dtype) < discount
        alive = torch.cat([found.alive[:, :1], survives.cumprod(-1) > 0], -1)
        last = alive.sum(-1, keepdim=True).clamp(max=survives.shape[-1])  # the state in which it died: there it stays
        times = torch.arange(alive.shape[-1]).expand(alive.shape)
        states = found.states.gather(-1, torch.minimum(times, last))
        return Trajectories(states, found.actions, torch.where(alive[:, :-1], found.rewards, 0.0), alive)

    def most_probable(self) -> Trajectories:
        """Return the most probable trajectory, as a batch of one.

        Raises:
            IntractableError: joint states have numbers beyond 2^62, or there is a discount, by which all parts die at
                once: what is most probable of each is not so of all.
        """
        self._require_numbers()
        if self.factors.discount < 1:
            seen = f"parts that die together, γ = {self.factors.discount:g}"
            raise IntractableError([Finding("most_probable", seen, "no discount, or the parts one by one")])
        return self._joined([part.most_probable() for part in self.parts])

    def _require_numbers(self) -> None:
        if self.factors.states.size > 1 << 62:
            seen = f"{self.factors.states.size:,} joint states"
            raise IntractableError([Finding("sample", seen, "at most 2^62 to be numbered; ask the parts")])

    def _joined(self, drawn_parts: list[Trajectories]) -> Trajectories:
        states: dict[str, Tensor] = {}
        actions: dict[str, Tensor] = {}
        for part, found in zip(self.parts, drawn_parts, strict=True):
            states |= part.factors.states.split(found.states)
            actions |= part.factors.actions.split(found.actions)
        rewards = torch.stack([found.rewards for found in drawn_parts]).sum(0)
        numbers = self.factors.states.join(states), self.factors.actions.join(actions)
        return Trajectories(*numbers, rewards, drawn_parts[0].alive)

    def _belongs_to(self, rule: Rule, what: str) -> None:
        if self.rule != rule:
            raise AttributeError(f"{what} belongs to {rule}; these messages are {self.rule}: ask .value (reward units)")


@dataclass(frozen=True)
class SeparatePolicy:
    """Policies over separate variables, acting side by side."""

    actions: Space
    parts: tuple[FixedPolicy, ...]

    sample = sampled
    log_prob = scored

    def at(self, t: int, /, **state: int | str) -> ActionProbabilities:
        """Return what is done at time t in one state: the chances of the parts' actions, multiplied.

        Raises:
            WorldError: there is no such time, a variable is missing or unknown, or it has no such value.
            IntractableError: the joint actions are too many to be listed.
        """
        known = [name for part in self.parts for name in part.states.names]
        if self.actions.size > MANY:
            seen = f"{self.actions.size:,} joint actions"
            raise IntractableError([Finding("at", seen, f"at most {MANY:,}; ask the parts: policy.parts[0].at")])
        if set(state) != set(known):
            raise fault("at", f"variables {sorted(state)}", f"each of {known}")
        found = [part.at(t, **{name: state[name] for name in part.states.names}) for part in self.parts]
        values = self.actions.split(torch.arange(self.actions.size))
        each = [one.probs[one.actions.join(values)].expand(self.actions.size) for one in found]
        probs = torch.stack(each).prod(0)
        return ActionProbabilities(t, ", ".join(one.state for one in found), self.actions, probs)

    def act(self, state: Values, t: int) -> Values:
        """Sample the action variables, part by part."""
        chosen: dict[str, Tensor] = {}
        first = {part: self.actions.names.index(part.actions.names[0]) for part in self.parts if part.actions.names}
        for part in sorted(first, key=lambda one: first[one]):  # in the world's own order, as far as parts allow
            own = {name: value for name, value in state.items() if name in part.states.names}  # type: ignore[union-attr]
            chosen |= part.act(own, t)
        return self.actions.pack({name: chosen[name] for name in self.actions.names})

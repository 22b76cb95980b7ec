"""conditional: the exact distribution of texts given that they are optimal, p(text | O) ∝ p(text) exp(reward/α).

It is the perfect policy, and it knows log p(O | prefix) for every prefix. Rewards at the end alone make it the
reference conditioned on the constraint (Khalifa, Elsahar & Dymetman 2021; Korbak, Perez & Buckley 2022).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import ImpossibleError, fault
from cai.exact.messages import Messages
from cai.exact.rules import POSTERIOR
from cai.exact.solve import solve
from cai.language.hidden_markov import HiddenMarkov
from cai.language.hidden_messages import hidden_messages
from cai.language.language_world import LanguageWorld
from cai.language.prefix_world import PrefixWorld
from cai.language.text_world import TextWorld, require_text_world, require_texts
from cai.language.token_policy import written
from cai.learn.loop import require_number
from cai.policies.protocol import scored
from cai.support.numerics import logsumexp


@runtime_checkable
class Ahead(Protocol):
    """Backward messages, whatever a state is."""

    def log_ahead(self, t: int, state: Any) -> Float[Tensor, "*N"]:
        """Return log β_t(s), nats."""

    def log_joint(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        """Return log p(x|s) exp(r/α) β_{t+1}(s x), nats."""


@dataclass(frozen=True)
class Conditional:
    """p(x_t | prefix, O) = p(x_t | prefix) exp(r/α) β_{t+1}(prefix x_t) / β_t(prefix), a policy of its world.

    Attributes:
        world: the world.
        temperature: α, reward units.
        messages: log β.
    """

    world: TextWorld
    temperature: float
    messages: Ahead

    act = written
    log_prob = scored

    @property
    def log_evidence(self) -> float:
        """log Z = log E[exp(reward/α)] over the reference's texts, nats."""
        return float(self.log_ahead(0, self.world.begin()))

    def log_ahead(self, t: int, state: Any) -> Float[Tensor, "*N"]:
        """Return log β_t(s) = log E[exp(rewards from t on / α) | s], nats."""
        found = self.messages.log_ahead(t, state)
        never_paid = float(max(self.world.automaton.reward.max(), self.world.automaton.final.max())) <= 0
        return found.clamp(max=0.0) if never_paid else found  # a probability, which rounding takes above 1

    def log_q(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        """Return q/α = r/α + log β_{t+1}(s x) of each token, nats; -inf where the reference never says it."""
        log_p = self.world.log_tokens(state)
        joint = self.messages.log_joint(t, state)
        return torch.where(log_p > -torch.inf, joint - torch.where(log_p > -torch.inf, log_p, 0.0), -torch.inf)

    def log_next(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        """Return log p(x_t | s, O), nats; the reference's own where optimality is impossible."""
        joint = self.messages.log_joint(t, state)
        total = logsumexp(joint, -1, keepdim=True)
        if bool((total > -torch.inf).all()):
            return joint - total
        return torch.where(total > -torch.inf, joint - total, self.world.log_tokens(state))

    def log_constraint(self, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N T+1"]:
        """Return log β_t of every prefix of texts, nats: with a reward at the end alone, log p(O | prefix)."""
        require_texts("log_constraint", self.world, tokens, 0, self.world.horizon)
        s, found = self.world.begin(*tokens.shape[:-1]), list[Tensor]()
        for t, x in enumerate(tokens.unbind(-1)):
            found.append(self.log_ahead(t, s))
            s = self.world.append(s, x)
        return torch.stack([*found, self.log_ahead(tokens.shape[-1], s)], -1)


@torch.no_grad()
def conditional(world: TextWorld, *, temperature: float = 1.0) -> Conditional:
    """Return the exact conditional distribution of a world's texts.

    A ``LanguageWorld`` is solved by ``cai.solve`` under POSTERIOR. Of a hidden Markov model β is linear in the belief,
    so the messages are of its hidden states.

    Args:
        world: a world of language.
        temperature: α > 0, reward units.

    Raises:
        WorldError: the world is none of language, or the temperature is not positive.
        ImpossibleError: no text that the reference writes is allowed.
        IntractableError: a ``PrefixWorld`` of a finite memory has too many states.
    """
    require_text_world("conditional", world)
    alpha = require_number(
        "conditional, temperature", temperature, lambda a: 0 < a < torch.inf, "a positive, finite number"
    )
    found = Conditional(world, alpha, _messages(world, alpha))
    if found.log_evidence == -torch.inf:
        raise ImpossibleError(
            f"language_world, {world.automaton.name}: each text of {world.horizon} tokens that it accepts has "
            "probability 0 under the reference, or there is none"
        )
    return found


def _messages(world: TextWorld, alpha: float) -> Ahead:
    if isinstance(world, PrefixWorld) and isinstance(world.model, HiddenMarkov):
        return hidden_messages(world, alpha)
    listed = listed_world(world)
    return _Listed(solve(listed, POSTERIOR, temperature=alpha), listed, own=listed is world)


def listed_world(world: TextWorld) -> LanguageWorld:
    """Return the world of the same texts and rewards that lists its states, of a reference with a finite memory.

    Raises:
        WorldError: it is no world of language.
        IntractableError: the states need more memory than there is.
    """
    if isinstance(world, LanguageWorld):
        return world
    if not isinstance(world, PrefixWorld) or isinstance(world.model, HiddenMarkov):
        expected = "a world of cai.language_world, or a PrefixWorld"
        raise fault("conditional, world", f"a {type(world).__name__}", expected)
    return LanguageWorld(world.model, world.automaton, world.horizon, world.end)


@dataclass(frozen=True)
class _Listed:
    """Messages on listed states.

    Attributes:
        solved: the messages.
        listed: the world that was solved.
        own: whether the states are its own; else those of a ``PrefixWorld`` of the same model.
    """

    solved: Messages
    listed: LanguageWorld
    own: bool

    def log_ahead(self, t: int, state: Any) -> Float[Tensor, "*N"]:
        found: Tensor = self.solved.v[t][self._number(state)] / self.solved.temperature
        return found

    def log_joint(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        s, world = self._number(state), self.listed
        q: Tensor = world.reward[s] + self.solved.v[t + 1][world.successor[s]]
        return world.log_next[s] + q / self.solved.temperature

    def _number(self, state: Any) -> Int[Tensor, "*N"]:
        if self.own:
            listed: Tensor = state
            return listed
        Q, (known, number) = len(self.listed.automaton), self._keys
        ended = state["place"] == Q
        key = state["memory"] * Q + torch.where(ended, 0, state["place"])
        return torch.where(ended, len(known), number[torch.searchsorted(known, key).clamp(max=len(known) - 1)])

    @cached_property
    def _keys(self) -> tuple[Int[Tensor, " S"], Int[Tensor, " S"]]:
        """Return the keys m Q + q of the listed states, sorted, and their numbers."""
        known, number = (self.listed.memory * len(self.listed.automaton) + self.listed.place).sort()
        return known, number

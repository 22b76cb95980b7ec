"""Bayesian beliefs about a finite world, after whole episodes: Gaussian mean rewards and Dirichlet transitions.

    μ(s,a) ~ N(0, spread²), r ~ N(μ(s,a), noise²)   =>   μ | data ~ N(Σr/(n+k), noise²/(n+k)), k = noise²/spread²
    P(·|s,a) ~ Dirichlet(1/J, …, 1/J)               =>   P | data ~ Dirichlet(1/J + counts)

for each (s, a) independently, over the J possible next states of s under any action: all states, or those given to the
learner. ``following [S, J]`` has their numbers, padded with -1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.learn.training import Options
from cai.simulate.rollout import Rollout
from cai.world.spaces import Space


class BeliefOptions(Options, total=False):
    """The options of the learners that plan on beliefs, besides those of every learner.

    Keys:
        spread: the prior's standard deviation of a mean reward, reward units. 1 unless given.
        noise: the assumed standard deviation of a reward around its mean, reward units. 1 unless given.
        following: the possible next states of each state, ``[S, J]``, padded with -1, as ``neighbours`` returns them
            for tables; any state unless given.
        gamma: the discount; the world's own unless given.
    """

    spread: float
    noise: float
    following: Tensor | None
    gamma: float | None


@dataclass(frozen=True)
class Beliefs:
    """The posterior, and what is sure: where episodes were seen to end.

    Attributes:
        following: the states that may follow each, -1 for none, ``[S, J]``.
        counts: of a Dirichlet, prior included, ``[S, A, J]``.
        total: Σ r of each (s, a), reward units, ``[S, A]``.
        visits: n of each (s, a), ``[S, A]``.
        over: states in which the world was seen to end, ``[S]``.
    """

    following: Int[Tensor, "S J"]
    counts: Float[Tensor, "S A J"]
    total: Float[Tensor, "S A"]
    visits: Float[Tensor, "S A"]
    over: Bool[Tensor, " S"]

    def reward(self, spread: float, noise: float) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and standard deviation of μ(s, a), reward units, ``[S, A]`` each."""
        n = self.visits + (noise / spread) ** 2
        return self.total / n, noise / n.sqrt()

    def transitions(self) -> Float[Tensor, "S A J"]:
        """Return E P(s'|s, a)."""
        return self.counts / self.counts.sum(-1, keepdim=True)

    def sampled_transitions(self) -> Float[Tensor, "S A J"]:
        """Draw P from the posterior, from the ambient generator: a Dirichlet is Gammas over their sum."""
        tiny = torch.finfo(self.counts.dtype).tiny
        drawn = torch._standard_gamma(self.counts.clamp(min=1e-3)).clamp(min=tiny) * (self.counts > 0)
        return drawn / drawn.sum(-1, keepdim=True)


def nothing_seen(following: Int[Tensor, "S J"], actions: int) -> dict[str, Tensor]:
    """Return the prior, as a learner's values."""
    possible = (following >= 0).to(torch.get_default_dtype())
    states = len(following)
    return {
        "following": following,
        "counts": (possible / possible.sum(-1, keepdim=True)).unsqueeze(1).repeat(1, actions, 1),
        "total": torch.zeros(states, actions),
        "visits": torch.zeros(states, actions),
        "over": torch.zeros(states, dtype=torch.bool),
    }


def observed(values: Mapping[str, Tensor], rollout: Rollout, states: Space, actions: Space) -> dict[str, Tensor]:
    """Return the values after a batch of whole episodes: Bayes' rule, which here is counting.

    Raises:
        WorldError: a next state is not in ``following``.
    """
    s, reward = states.join(states.unpack(rollout.states)), rollout.rewards[rollout.alive]
    here, a = s[:-1][rollout.alive], actions.join(actions.unpack(rollout.actions))[rollout.alive]
    is_next = values["following"][here] == s[1:][rollout.alive].unsqueeze(-1)
    if not bool(is_next.any(-1).all()):
        wrong = int((~is_next.any(-1)).nonzero()[0])
        seen = f"{states.label(int(s[1:][rollout.alive][wrong]))} after {states.label(int(here[wrong]))}"
        raise fault("following", seen, "every state that may follow")
    over = values["over"].clone()
    over[s[-1][rollout.terminated]] = True
    ones = torch.ones_like(reward)
    return {
        "following": values["following"],
        "counts": values["counts"].index_put((here, a, is_next.long().argmax(-1)), ones, accumulate=True),
        "total": values["total"].index_put((here, a), reward, accumulate=True),
        "visits": values["visits"].index_put((here, a), ones, accumulate=True),
        "over": over,
    }


def beliefs_of(values: Mapping[str, Tensor]) -> Beliefs:
    """Read a learner's values as beliefs."""
    return Beliefs(*(values[name] for name in ("following", "counts", "total", "visits", "over")))


def any_state(states: int) -> Int[Tensor, "S S"]:
    """Return that any state may follow any."""
    return torch.arange(states).expand(states, states)


def neighbours(tables: Tables) -> Int[Tensor, "S J"]:
    """Return for each state the next states that some action, at some time, may lead to, ``[S, J]``, padded with -1."""
    S = tables.states.size
    links = torch.zeros(S, S, dtype=torch.bool)
    for slice_ in tables.slices():
        possible = slice_.log_prob > -torch.inf
        links[possible.nonzero()[:, 0], slice_.successor[possible]] = True
    most = int(links.sum(-1).max())
    ordered = links.to(torch.uint8).sort(dim=-1, descending=True, stable=True).indices[:, :most]
    return torch.where(links.gather(1, ordered), ordered, -1)

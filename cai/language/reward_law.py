"""The distribution of the reward of the reference's texts, and the samplers that look at nothing but the reward.

Best-of-n, rejection sampling and the exact conditional all have p(text) exp(g(reward)): so every KL between two of
them, or to the reference, is a sum over the values of the reward.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import Finding, IntractableError
from cai.language.conditional import conditional
from cai.language.language_world import LanguageWorld
from cai.language.texts import log_prob, paid, sample
from cai.learn.loop import require_number, require_whole
from cai.support.numerics import log, logsumexp

MOST = 10_000
"""The most values of the reward."""
DIGITS = 9
"""Decimals to which two rewards are the same."""


@dataclass(frozen=True)
class RewardLaw:
    """P(reward = r) under the reference, exactly.

    Attributes:
        rewards: the values, ascending, reward units; the first may be -inf. ``[R]``.
        log_probs: log P, nats, ``[R]``.
    """

    rewards: Float[Tensor, " R"]
    log_probs: Float[Tensor, " R"]


@dataclass(frozen=True)
class RewardSampler:
    """A sampler of whole texts: q(text) = p(text) exp(g(reward(text))).

    Attributes:
        name: what it is.
        world: the world.
        law: of the reward under the reference.
        log_ratio: g at each value of the reward, nats, ``[R]``.
        draw: n, a generator -> n texts ``[n, T]``.
    """

    name: str
    world: LanguageWorld
    law: RewardLaw
    log_ratio: Float[Tensor, " R"]
    draw: Callable[[int, torch.Generator], Int[Tensor, "n T"]]

    @property
    def expected_reward(self) -> float:
        """E reward, reward units."""
        p = (self.law.log_probs + self.log_ratio).exp()
        return float(torch.where(p > 0, p * self.law.rewards, 0.0).sum())

    def log_prob(self, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N"]:
        """Return log q(text), nats; the end token and all after it as in ``cai.language.log_prob``."""
        number = torch.searchsorted(self.law.rewards, paid(self.world, tokens) - 10.0**-DIGITS)
        return log_prob(self.world, None, tokens) + self.log_ratio[number]

    def kl(self, other: "RewardSampler | None" = None) -> float:
        """Return KL(q ‖ other), nats, exactly; to the reference unless another sampler of the same world is given."""
        p = (self.law.log_probs + self.log_ratio).exp()
        theirs = torch.zeros_like(p) if other is None else other.log_ratio
        return float(torch.where(p > 0, p * (self.log_ratio - theirs), 0.0).sum())

    def sample(self, n: int, generator: torch.Generator) -> Int[Tensor, "n T"]:
        """Draw n texts."""
        return self.draw(n, generator)


def reward_law(world: LanguageWorld) -> RewardLaw:
    """Return the distribution of the reward of the reference's texts, by dynamic programming over state and reward.

    Raises:
        IntractableError: the reward has more than 10,000 values.
    """
    S, p = world.size, world.log_next.exp()
    measure, never = {0.0: torch.zeros(S, dtype=torch.float64).index_fill(0, torch.tensor(0), 1.0)}, 0.0
    kinds = world.reward.unique().tolist()
    for t in range(world.horizon + 1):
        after = dict[float, Tensor]()
        for total, mu in measure.items():
            if t == world.horizon:
                moves = [(r, torch.where(world.final == r, mu, 0.0)) for r in world.final.unique().tolist()]
            else:
                joint = mu.unsqueeze(-1) * p
                moves = [(r, _moved(torch.where(world.reward == r, joint, 0.0), world.successor)) for r in kinds]
            for r, moved in moves:
                weight = float(moved.sum())
                if r == -torch.inf:
                    never += weight
                elif weight:
                    key = round(total + r, DIGITS)
                    after[key] = after[key] + moved if key in after else moved
        measure = after
        if len(measure) > MOST:
            raise IntractableError([Finding("reward_law", f"{len(measure):,} rewards", f"at most {MOST:,}")])
    each = ({-math.inf: never} if never else {}) | {r: float(measure[r].sum()) for r in sorted(measure)}
    probs = torch.tensor(list(each.values()), dtype=torch.float64)
    return RewardLaw(torch.tensor(list(each), dtype=torch.float64), probs.log())


def _moved(joint: Float[Tensor, "S V"], successor: Int[Tensor, "S V"]) -> Float[Tensor, " S"]:
    return torch.zeros(len(joint), dtype=joint.dtype).index_add(0, successor.reshape(-1), joint.reshape(-1))


def tilted(world: LanguageWorld, *, temperature: float = 1.0) -> RewardSampler:
    """Return the exact conditional as a sampler: g = r/α - log Z."""
    exact, law = conditional(world, temperature=temperature), reward_law(world)

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return sample(world, exact, n, generator)

    return RewardSampler("exact", world, law, law.rewards / temperature - exact.log_evidence, draw)


def best_of_n(world: LanguageWorld, n: int) -> RewardSampler:
    """Return best-of-n: of n texts of the reference, one with the highest reward (Stiennon et al. 2020).

    ``g(r) = log (F(r)^n - F(r-)^n) / P(r)``, F the distribution function of the reward: so the KL to the reference is
    exact, and at most log n - (n-1)/n (Beirami et al. 2024).

    Raises:
        WorldError: n is no whole number from 1 on.
    """
    require_whole("best_of_n, n", n, 1)
    law = reward_law(world)
    log_f = law.log_probs.logcumsumexp(0).clamp(max=0.0)
    share = (law.log_probs - log_f).exp().clamp(max=1.0)  # of the reward r among those up to r
    log_ratio = n * log_f + log(-torch.expm1(n * torch.log1p(-share))) - law.log_probs

    def draw(size: int, generator: torch.Generator) -> Tensor:
        texts = sample(world, None, size * n, generator).reshape(size, n, -1)
        return texts[torch.arange(size), paid(world, texts).argmax(-1)]

    return RewardSampler(f"best of {n}", world, law, log_ratio, draw)


def rejection_sampling(world: LanguageWorld, tries: int, *, temperature: float = 1.0) -> RewardSampler:
    """Return rejection sampling: a text of the reference is kept with probability exp((r - max r)/α), the last always.

    With A = E exp((r - max r)/α): ``exp g = a(r) (1 - (1-A)^(tries-1)) / A + (1-A)^(tries-1)``. It takes 1/A tries on
    average to draw from the exact conditional.

    Raises:
        WorldError: ``tries`` is no whole number from 1 on, or the temperature is not positive.
    """
    require_whole("rejection_sampling, tries", tries, 1)
    alpha = require_number("rejection_sampling, temperature", temperature, lambda a: 0 < a < math.inf, "positive")
    law = reward_law(world)
    log_a = (law.rewards - law.rewards[-1]) / alpha
    log_rate = float(logsumexp(law.log_probs + log_a, 0).clamp(max=0.0))
    late = (tries - 1) * math.log1p(-math.exp(log_rate)) if log_rate < 0 else (-math.inf if tries > 1 else 0.0)
    early = torch.tensor(-math.expm1(late), dtype=torch.float64).log() - log_rate
    log_ratio = torch.logaddexp(log_a + early, torch.full_like(log_a, late))

    def draw(size: int, generator: torch.Generator) -> Tensor:
        texts = sample(world, None, size * tries, generator).reshape(size, tries, -1)
        chance = ((paid(world, texts) - law.rewards[-1]) / alpha).exp()
        kept = torch.rand(size, tries, generator=generator, dtype=torch.float64) < chance
        kept[:, -1] = True
        return texts[torch.arange(size), kept.long().argmax(-1)]

    return RewardSampler(f"rejection, {tries} tries", world, law, log_ratio, draw)

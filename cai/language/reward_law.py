"""The distribution of the reward of the reference's texts, and the samplers that look at nothing but the reward.

Best-of-n, rejection sampling and the exact conditional all have p(text) exp(g(reward)): so every KL between two of
them, or to the reference, is a sum over the values of the reward.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import Finding, IntractableError, fault
from cai.language.conditional import conditional, listed_world
from cai.language.hidden_markov import HiddenMarkov
from cai.language.hidden_messages import emission
from cai.language.prefix_world import PrefixWorld
from cai.language.text_world import TextWorld, require_generator, require_text_world
from cai.language.texts import log_prob, paid, sample
from cai.learn.loop import require_number, require_whole
from cai.support.numerics import log, logsumexp

MOST = 10_000
"""The most values of the reward."""
CLOSE = 1e-9
"""Two rewards are the same where they differ by less than this share of the largest one."""


@dataclass(frozen=True)
class RewardLaw:
    """P(reward = r) under the reference, exactly.

    Attributes:
        rewards: the values, ascending, reward units; the first may be -inf. ``[R]``.
        log_probs: log P, nats, ``[R]``.
    """

    rewards: Float[Tensor, " R"]
    log_probs: Float[Tensor, " R"]

    def same(self, other: "RewardLaw") -> bool:
        """Return whether two laws are one."""
        return torch.equal(self.rewards, other.rewards) and torch.equal(self.log_probs, other.log_probs)

    def number(self, reward: Float[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """Return which of the values a reward is: the nearest one."""
        if not isinstance(reward, Tensor) or not reward.is_floating_point():
            raise fault("number, reward", f"a {type(reward).__name__}", "a tensor of rewards")
        return torch.searchsorted((self.rewards[1:] + self.rewards[:-1]) / 2, reward)


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
    world: TextWorld
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
        return log_prob(self.world, None, tokens) + self.log_ratio[self.law.number(paid(self.world, tokens))]

    def kl(self, other: "RewardSampler | None" = None) -> float:
        """Return KL(q ‖ other), nats, exactly; to the reference unless another sampler of the same world is given.

        Raises:
            WorldError: the other is none, or one of another world.
        """
        if other is not None and not (isinstance(other, RewardSampler) and self.law.same(other.law)):
            seen = "one of another world" if isinstance(other, RewardSampler) else f"a {type(other).__name__}"
            raise fault("kl, other", seen, "a sampler of the same world, or None for the reference")
        p = (self.law.log_probs + self.log_ratio).exp()
        theirs = torch.zeros_like(p) if other is None else other.log_ratio
        return max(float(torch.where(p > 0, p * (self.log_ratio - theirs), 0.0).sum()), 0.0)  # rounding apart

    def sample(self, n: int, generator: torch.Generator) -> Int[Tensor, "n T"]:
        """Draw n texts."""
        require_whole("sample, n", n, 1)
        require_generator("sample", generator)
        return self.draw(n, generator)


def reward_law(world: TextWorld) -> RewardLaw:
    """Return the distribution of the reward of the reference's texts, by dynamic programming over state and reward.

    Raises:
        IntractableError: the reward has more than 10,000 values.
    """
    require_text_world("reward_law", world)
    chain = _chain(world)
    close = CLOSE * max(float(x.abs().nan_to_num(posinf=0.0).max()) for x in (chain.reward, chain.final))
    measure, never = {0.0: chain.start}, 0.0
    for t in range(world.horizon + 1):
        after = dict[float, Tensor]()
        for total, mu in measure.items():
            for r, moved in chain.ends(mu) if t == world.horizon else chain.moves(mu):
                if r == -torch.inf:
                    never += float(moved.sum())
                elif bool(moved.any()):
                    after[total + r] = after[total + r] + moved if total + r in after else moved
        measure = _merged(after, close)
        if len(measure) > MOST:
            raise IntractableError([Finding("reward_law", f"{len(measure):,} rewards", f"at most {MOST:,}")])
    each = ({-math.inf: never} if never else {}) | {r: float(mu.sum()) for r, mu in measure.items()}
    probs = torch.tensor(list(each.values()), dtype=torch.float64)
    return RewardLaw(torch.tensor(list(each), dtype=torch.float64), probs.log())


def _merged(measure: dict[float, Tensor], close: float) -> dict[float, Tensor]:
    """Return the measures of rewards in rising order, as one where they differ by rounding alone."""
    found, last = dict[float, Tensor](), -math.inf
    for total in sorted(measure):
        if total - last > close:
            found[total], last = measure[total], total
        else:
            found[last] = found[last] + measure[total]
    return found


@dataclass(frozen=True)
class _Chain:
    """The reference's texts as a Markov chain over what pays, S, and what is hidden, H.

    Attributes:
        start: p(s_0, h_0), ``[S, H]``.
        emission: p(x|s, h), ``[S, V, H]``.
        transition: p(h'|h), ``[H, H]``.
        successor, reward: of each token, ``[S, V]``.
        final: at the end, ``[S]``.
    """

    start: Float[Tensor, "S H"]
    emission: Float[Tensor, "S V H"]
    transition: Float[Tensor, "H H"]
    successor: Int[Tensor, "S V"]
    reward: Float[Tensor, "S V"]
    final: Float[Tensor, " S"]

    def moves(self, mu: Float[Tensor, "S H"]) -> Iterator[tuple[float, Float[Tensor, "S H"]]]:
        """Yield each reward of a token, with the measure that is paid it."""
        joint = mu.unsqueeze(1) * self.emission
        for r in self.reward.unique().tolist():
            paid_r = torch.where((self.reward == r).unsqueeze(-1), joint, 0.0).flatten(0, 1)
            yield r, torch.zeros_like(mu).index_add(0, self.successor.reshape(-1), paid_r) @ self.transition

    def ends(self, mu: Float[Tensor, "S H"]) -> Iterator[tuple[float, Float[Tensor, "S H"]]]:
        """Yield each final reward, with the measure that is paid it."""
        for r in self.final.unique().tolist():
            yield r, torch.where((self.final == r).unsqueeze(-1), mu, 0.0)


def _chain(world: TextWorld) -> _Chain:
    if isinstance(world, PrefixWorld) and isinstance(world.model, HiddenMarkov):
        Q = len(world.final)
        start = torch.zeros(Q, world.model.hidden, dtype=torch.float64)
        start[world.automaton.start] = world.model.start
        each = torch.stack([emission(world, q).T for q in range(Q)])
        return _Chain(start, each, world.model.transition, world.successor, world.reward, world.final)
    listed = listed_world(world)
    start = torch.zeros(listed.size, 1, dtype=torch.float64)
    start[0] = 1
    one = torch.ones(1, 1, dtype=torch.float64)
    each = listed.log_next.exp().unsqueeze(-1)
    return _Chain(start, each, one, listed.successor, listed.reward, listed.final)


def _possible_law(world: TextWorld) -> RewardLaw:
    """Return it; the error of ``conditional`` where every text has the reward -inf."""
    law = reward_law(world)
    if law.rewards[-1] == -torch.inf:
        conditional(world)
    return law


def tilted(world: TextWorld, *, temperature: float = 1.0) -> RewardSampler:
    """Return the exact conditional as a sampler: g = r/α - log Z."""
    exact, law = conditional(world, temperature=temperature), reward_law(world)
    log_ratio = law.rewards / exact.temperature - exact.log_evidence
    return RewardSampler("exact", world, law, log_ratio, partial(sample, world, exact))


def best_of_n(world: TextWorld, n: int) -> RewardSampler:
    """Return best-of-n: of n texts of the reference, one with the highest reward (Stiennon et al. 2020).

    ``g(r) = log (F(r)^n - F(r-)^n) / P(r)``, F the distribution function of the reward: so the KL to the reference is
    exact, and at most log n - (n-1)/n (Beirami et al. 2024).

    Raises:
        WorldError: n is no whole number from 1 on.
    """
    require_whole("best_of_n, n", n, 1)
    law = _possible_law(world)
    log_f = law.log_probs.logcumsumexp(0).clamp(max=0.0)
    share = (law.log_probs - log_f).exp().clamp(max=1.0)  # of the reward r among those up to r
    log_ratio = n * log_f + log(-torch.expm1(n * torch.log1p(-share))) - law.log_probs
    return RewardSampler(f"best of {n}", world, law, log_ratio, partial(_best, world, law, n))


def _best(world: TextWorld, law: RewardLaw, n: int, size: int, generator: torch.Generator) -> Int[Tensor, "size T"]:
    texts = sample(world, None, size * n, generator).reshape(size, n, -1)
    return texts[torch.arange(size), law.number(paid(world, texts)).argmax(-1)]


def rejection_sampling(world: TextWorld, tries: int, *, temperature: float = 1.0) -> RewardSampler:
    """Return rejection sampling: a text of the reference is kept with probability exp((r - max r)/α), the last always.

    With A = E exp((r - max r)/α): ``exp g = a(r) (1 - (1-A)^(tries-1)) / A + (1-A)^(tries-1)``. It takes 1/A tries on
    average to draw from the exact conditional.

    Raises:
        WorldError: ``tries`` is no whole number from 1 on, or the temperature is not positive.
    """
    require_whole("rejection_sampling, tries", tries, 1)
    alpha = require_number("rejection_sampling, temperature", temperature, lambda a: 0 < a < math.inf, "positive")
    law = _possible_law(world)
    log_a = (law.rewards - law.rewards[-1]) / alpha
    log_rate = float(logsumexp(law.log_probs + log_a, 0).clamp(max=0.0))
    late = (tries - 1) * math.log1p(-math.exp(log_rate)) if log_rate < 0 else (-math.inf if tries > 1 else 0.0)
    early = torch.tensor(-math.expm1(late), dtype=torch.float64).log() - log_rate
    log_ratio = torch.logaddexp(log_a + early, torch.full_like(log_a, late))
    draw = partial(_first_kept, world, law, alpha, tries)
    return RewardSampler(f"rejection, {tries} tries", world, law, log_ratio, draw)


def _first_kept(
    world: TextWorld, law: RewardLaw, alpha: float, tries: int, size: int, generator: torch.Generator
) -> Int[Tensor, "size T"]:
    texts = sample(world, None, size * tries, generator).reshape(size, tries, -1)
    chance = ((paid(world, texts) - law.rewards[-1]) / alpha).exp()
    kept = torch.rand(size, tries, generator=generator, dtype=torch.float64) < chance
    kept[:, -1] = True
    return texts[torch.arange(size), kept.long().argmax(-1)]

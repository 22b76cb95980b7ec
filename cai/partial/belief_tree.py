"""The reachable beliefs at each time: a tree over histories in which equal beliefs are merged.

The belief of a history o_0, a_0, o_1 … is all that a policy needs of it (Åström 1965). So the tree of histories becomes
layers of different beliefs. Beliefs are equal where they are in the same cell of width ``CELL`` in every state (1.5
``CELL`` next to zero) and the same states are possible. The value of a policy is linear in the belief, so that a merge
moves a value by at most ``S · CELL`` times the spread of values over the possible states, once for each layer: below
1e-10 in all where ``T · S`` times the spread is below 880, and in practice far less.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import Finding, IntractableError, fault
from cai.partial.filtering import TableBeliefs

CELL = 2.0**-43
"""Probabilities nearer than this are taken for equal: 1.1e-13, the rounding of a few hundred steps."""
BLOCK = 1 << 22
"""Numbers to a block, where beliefs are grown block by block."""


@dataclass(frozen=True)
class Edges:
    """What may be seen next: one edge for each (belief, allowed action, possible observation).

    Attributes:
        source: n · A + a, ``[M]``; 0 at the start, where nothing was done.
        observation: the observation's number, ``[M]``.
        child: the belief it leads to, in the next layer, ``[M]``.
        prob: p(o|b,a), ``[M]``.
    """

    source: Int[Tensor, " M"]
    observation: Int[Tensor, " M"]
    child: Int[Tensor, " M"]
    prob: Float[Tensor, " M"]

    def follow(self, source: int, observation: int) -> int | None:
        """Return the belief that an observation leads to, None where it cannot be seen."""
        children = self.child[(self.source == source) & (self.observation == observation)]
        return int(children[0]) if len(children) else None


@dataclass(frozen=True)
class Layer:
    """All beliefs of one time, ``[N, S]``, the prior at each, log p(a|b) in nats ``[N, A]``, and the edges from them.

    The last layer has no edges: what follows it is linear in the belief.
    """

    beliefs: Float[Tensor, "N S"]
    log_prior: Float[Tensor, "N A"]
    edges: Edges | None


def grow(engine: TableBeliefs, T: int, max_beliefs: int) -> tuple[Edges, list[Layer]]:
    """Return the edges from the start, and the layers of the times 0 … T-1.

    Raises:
        WorldError: the action prior is no function of what is seen.
        IntractableError: there are more than ``max_beliefs`` beliefs.
    """
    layers, stored = [], 0
    before = _seen(engine, engine.start().unsqueeze(0), torch.zeros(1, dtype=torch.long))
    beliefs, root = _settle(before, stored, 0, max_beliefs)
    for t in range(T):
        stored += len(beliefs)
        log_prior = prior_of(engine, beliefs, t)
        if t == T - 1:
            layers.append(Layer(beliefs, log_prior, None))
            break
        following, edges = _settle(_children(engine, beliefs, log_prior, t), stored, t + 1, max_beliefs)
        layers.append(Layer(beliefs, log_prior, edges))
        beliefs = following
    return root, layers


@dataclass(frozen=True)
class _Block:
    """Beliefs after an observation, unmerged: ``[M, S]``, with source, observation and probability ``[M]``."""

    beliefs: Tensor
    source: Tensor
    observation: Tensor
    prob: Tensor


def _children(engine: TableBeliefs, beliefs: Tensor, log_prior: Tensor, t: int) -> Iterator[_Block]:
    """Yield what may follow each belief under each allowed action, block by block."""
    A = log_prior.shape[-1]
    K, O = engine.model.log_prob.shape[-1], engine.seen.space.size  # noqa: E741 — the number of observations
    size = max(1, BLOCK // (beliefs.shape[-1] * max(K, O)))
    for a in range(A):
        allowed = (log_prior[:, a] > -torch.inf).nonzero().flatten()
        for rows in allowed.split(size) if len(allowed) else ():  # torch splits nothing into one empty block
            yield from _seen(engine, engine.predict(beliefs[rows], a, t), rows * A + a)


def _seen(engine: TableBeliefs, predicted: Tensor, source: Tensor) -> Iterator[_Block]:
    likelihood = engine.seen.log_prob.exp()
    p = predicted @ likelihood
    row, observation = (p > 0).nonzero().unbind(-1)
    prob = p[row, observation]
    posterior = predicted[row] * likelihood.T[observation] / prob.unsqueeze(-1)
    yield _Block(posterior, source[row], observation, prob)


def _settle(blocks: Iterator[_Block], stored: int, t: int, max_beliefs: int) -> tuple[Tensor, Edges]:
    """Merge the blocks of one layer as they come: its different beliefs ``[N, S]``, and the edges that lead there."""
    known, keys, parts = None, None, []
    for block in blocks:
        new = cells(block.beliefs)
        before = 0 if known is None else len(known)
        all_keys = new if keys is None else torch.cat([keys, new])
        first, place = merged(all_keys)
        fresh = first[before:] - before  # what is known comes first, and keeps its numbers
        if stored + len(first) > max_beliefs:
            raise _too_many(stored + len(first), t, max_beliefs)
        known = block.beliefs[fresh] if known is None else torch.cat([known, block.beliefs[fresh]])
        keys = all_keys[first]
        parts.append((block.source, block.observation, place[before:], block.prob))
    assert known is not None
    return known, Edges(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _too_many(count: int, t: int, max_beliefs: int) -> IntractableError:
    seen = f"{count:,} different beliefs or more up to this time"
    expected = (
        f"at most max_beliefs = {max_beliefs:,}: a shorter horizon, fewer observations, or learn a policy instead"
    )
    return IntractableError([Finding(f"beliefs, t = {t}", seen, expected)])


def cells(x: Float[Tensor, "M S"]) -> Int[Tensor, "M S"]:
    """Return probabilities in whole cells; what is possible is never in the cell of what is not."""
    return torch.where(x > 0, (x / CELL).round().clamp(min=1), 0.0).long()


def merged(keys: Int[Tensor, "M S"]) -> tuple[Int[Tensor, " N"], Int[Tensor, " M"]]:
    """Return the first row of each kind, in the order in which they come, and for every row the number of its kind."""
    g = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (keys.shape[-1],), generator=g) * 2 + 1
    mixed = keys * -7046029254386353131  # an odd number: products wrap around, and lose nothing
    mixed = mixed ^ (mixed >> 29) ^ (mixed >> 40)
    first, kind = _kinds(torch.unique((mixed * weights).sum(-1), return_inverse=True)[1])
    if not torch.equal(keys[first[kind]], keys):  # two kinds under one number: compare the rows themselves
        first, kind = _kinds(torch.unique(keys, dim=0, return_inverse=True)[1])
    return first, kind


def _kinds(kind: Tensor) -> tuple[Tensor, Tensor]:
    M, N = len(kind), int(kind.max()) + 1
    first = torch.full((N,), M).scatter_reduce(0, kind, torch.arange(M), "amin")
    order = first.argsort()
    rank = torch.empty_like(order).scatter(0, order, torch.arange(N))
    return first[order], rank[kind]


def prior_of(engine: TableBeliefs, beliefs: Float[Tensor, "N S"], t: int) -> Float[Tensor, "N A"]:
    """Return log p(a|b), nats: the prior of any state that is possible, once all of them are known to share it.

    Raises:
        WorldError: two states are possible at once, and their priors differ: a policy would have to know which it is.
    """
    log_prior, possible = engine.model.at(t).log_prior, beliefs > 0
    first, kind = merged(cells(log_prior.exp()))
    if len(first) > 1:
        kinds = torch.nn.functional.one_hot(kind, len(first)).to(beliefs.dtype)
        several = (((possible.to(beliefs.dtype) @ kinds) > 0).sum(-1) > 1).nonzero().flatten()
        if len(several):
            raise _unlike(engine, possible[several[0]], kind, t)
    state = possible.to(torch.uint8).argmax(-1)
    return log_prior[state]


def _unlike(engine: TableBeliefs, possible: Tensor, kind: Tensor, t: int) -> Exception:
    numbers = possible.nonzero().flatten()
    first = int(numbers[0])
    other = int(numbers[kind[numbers] != kind[first]][0])
    name = engine.model.states.label
    seen = f"different action priors in the states {name(first)} and {name(other)}, which give the same observations"
    return fault(f"act, t = {t}", seen, "a prior that depends on observations only, or an observe that shows more")

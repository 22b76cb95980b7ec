"""What a policy reads: the fewest state variables from which it can be rebuilt."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations

import torch
from torch import Tensor

from cai.errors import fault
from cai.exact.factors.factored_messages import FactoredMessages
from cai.exact.messages import Messages
from cai.policies.fixed import FixedPolicy
from cai.policies.tabular import TabularPolicy
from cai.world.dependencies import listed

MOST = 4096
"""Sets of variables that are tried, the smallest first, before a set that merely has no spare variable is taken."""
NUMBERS = 1 << 27
"""Probabilities that are kept between two looks at the same time; beyond, they are computed again."""


@dataclass(frozen=True)
class Reads:
    """The state variables that a policy reads.

    Attributes:
        variables: the set, in the order of the state's variables.
        by_time: the part of it that is read at each time; one entry for a policy that is the same at all times.
        verified: the largest change of any probability when the policy is rebuilt from those variables alone.
        unread: the other state variables.
        smallest: whether no set of fewer variables would do; else only: none of them can be left out.
        free: pairs of a time and a state in which nothing can be gained, so that any action may be taken.
    """

    variables: tuple[str, ...]
    by_time: list[tuple[str, ...]]
    verified: float
    unread: tuple[str, ...] = ()
    smallest: bool = True
    free: int = 0

    def __str__(self) -> str:
        if not self.variables:
            what = "reads no state variable"
        elif not self.unread:
            what = f"reads every state variable, {listed(self.variables)}"
        else:
            what = f"reads {listed(self.variables)}, not {listed(self.unread)}"
        fewer = [f"{t}" for t, names in enumerate(self.by_time) if len(names) < len(self.variables)]
        few = "nothing" if all(not self.by_time[int(t)] for t in fewer) else "less"
        less = f" ({few} at t = {listed(fewer)})" if fewer else ""
        caution = "" if self.smallest else " (none can be left out; whether another set is smaller was not settled)"
        return (
            f"The policy {what}{less}{caution}. A policy of these variables alone has the same "
            f"probabilities, to {self.verified:.2g}."
        )


@dataclass(frozen=True)
class _Table:
    """The policy of one time in the states that count: their values ``[R, n]`` and probabilities ``[R, A]``."""

    values: Tensor
    probs: Tensor
    sizes: tuple[int, ...]

    def groups(self, columns: Sequence[int]) -> tuple[Tensor, int]:
        """Number the states by their values of some variables alone, ``[R]``."""
        key = torch.zeros(len(self.values), dtype=torch.long, device=self.values.device)
        for i in columns:
            key = key * self.sizes[i] + self.values[:, i]
        found, index = torch.unique(key, return_inverse=True)
        return index, len(found)

    def spread(self, columns: Sequence[int]) -> float:
        """Return how far a probability differs at most between states that agree in these variables."""
        if not len(self.values):
            return 0.0
        index, count = self.groups(columns)
        rows = index.unsqueeze(-1).expand_as(self.probs)
        ends = self.probs.new_zeros(count, self.probs.shape[-1])
        high = ends.scatter_reduce(0, rows, self.probs, "amax", include_self=False)
        low = ends.scatter_reduce(0, rows, self.probs, "amin", include_self=False)
        return float((high - low).max())

    def change(self, columns: Sequence[int]) -> float:
        """Rebuild the policy as the mean over states that agree; return the largest change of a probability."""
        if not len(self.values):
            return 0.0
        index, count = self.groups(columns)
        sums = self.probs.new_zeros(count, self.probs.shape[-1]).index_add_(0, index, self.probs)
        mean = sums / torch.bincount(index, minlength=count).unsqueeze(-1)
        return float((mean[index] - self.probs).abs().max())


def policy_reads(
    messages: Messages | FactoredMessages | FixedPolicy | TabularPolicy, *, tolerance: float = 1e-9
) -> Reads:
    """Find the smallest set of state variables that a policy reads.

    A set R does if ``|π_t(a|s) - π_t(a|s̃)| <= tolerance`` for all a, t, and all s, s̃ that agree in R. States where
    nothing is possible (v = -inf) do not count: any action may stand there. A variable is needed for certain where π
    changes along it while all others stay; on the full product of values these variables are the answer. With states
    that do not count it is a search from there, smaller sets first, through ``MOST`` sets at most; beyond that,
    variables are left out one by one as long as that can be done, and ``smallest`` is False. Of several smallest sets
    the first in the order of the variables is taken.

    ``cai.relevant`` reads the graph, and so speaks of every world that has it; this is about the numbers of one. It
    names no variable that is neither relevant, given the action, nor read by the action prior.

    Args:
        messages: of ``cai.solve``, on tables or on factors; or a policy over numbered states, where all states count.
        tolerance: the difference of probabilities that counts as none.

    Raises:
        WorldError: no such messages or policy, a batch of them, or a negative tolerance.

    Source: irrelevance as in Boutilier, Dearden & Goldszmidt (2000), Stochastic dynamic programming with factored
    representations.
    """
    if not tolerance >= 0:
        raise fault("policy_reads, tolerance", f"{tolerance!r}", "a number from 0 on")
    policy, possible = _policy(messages)
    space, times = policy.states, policy.horizon or 1
    names = space.names
    values = torch.stack([one.long() for one in space.split(torch.arange(space.size)).values()], -1)

    @lru_cache(maxsize=max(1, NUMBERS // (space.size * policy.actions.size)))
    def table(t: int) -> _Table:
        with torch.no_grad():
            probs = policy.probs(t)
        if probs.dim() != 2:
            raise fault("policy_reads", f"a batch of shape {list(probs.shape[:-2])}", "one entry: messages[i]")
        counts = possible(t)
        here = values.to(probs.device)
        if counts is None or bool(counts.all()):
            return _Table(here, probs, space.sizes)
        return _Table(here[counts], probs[counts], space.sizes)

    def serves(some: Sequence[int], when: Iterable[int]) -> bool:
        return all(table(t).spread(some) <= tolerance for t in when)

    everything = range(len(names))
    found, smallest = _smallest(everything, partial(serves, when=range(times)))
    by_time, change, free = [], 0.0, 0
    for t in range(times):
        own, certain = _smallest(found, partial(serves, when=[t]))
        by_time.append(tuple(names[i] for i in own))
        smallest, change = smallest and certain, max(change, table(t).change(own))
        free += space.size - len(table(t).values)
    return Reads(
        variables=tuple(names[i] for i in found),
        by_time=by_time,
        verified=change,
        unread=tuple(names[i] for i in everything if i not in found),
        smallest=smallest,
        free=free,
    )


def _smallest(variables: Sequence[int], serves: Callable[[Sequence[int]], bool]) -> tuple[list[int], bool]:
    """Return the smallest part of some variables that serves, and whether it is known to be that; all of them serve."""
    needed = [i for i in variables if not serves([j for j in variables if j != i])]
    spare = [i for i in variables if i not in needed]
    for n, some in enumerate(_smaller_first(spare)):
        if n == MOST:
            break
        if serves(found := sorted([*needed, *some])):
            return found, True
    kept = list(variables)
    for i in spare:
        if serves(fewer := [j for j in kept if j != i]):
            kept = fewer
    return kept, False


def _smaller_first(spare: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for k in range(len(spare) + 1):
        yield from combinations(spare, k)


def _policy(
    messages: Messages | FactoredMessages | FixedPolicy | TabularPolicy,
) -> tuple[FixedPolicy | TabularPolicy, Callable[[int], Tensor | None]]:
    """Return the policy, and which states count at a time, ``[S]``; None stands for all."""
    if isinstance(messages, FixedPolicy | TabularPolicy):
        return messages, lambda t: None
    if not isinstance(messages, Messages | FactoredMessages):
        raise fault("policy_reads", f"a {type(messages).__name__}", "what cai.solve returns, or a policy with tables")
    if isinstance(messages, Messages) and messages.batch_shape:
        raise fault("policy_reads", f"messages with a batch of shape {tuple(messages.batch_shape)}", "messages[i]")
    policy, v = messages.policy, messages.v.detach()
    return policy, lambda t: (v if policy.horizon is None else v[t]) > -torch.inf

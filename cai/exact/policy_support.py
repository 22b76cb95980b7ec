"""The support of a policy: the smallest set of state variables that determines it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations

import torch
from torch import Tensor

from cai.compile.model import is_finite
from cai.errors import Finding, IntractableError, fault
from cai.exact.messages import Messages
from cai.policies.fixed import FixedPolicy
from cai.policies.policy_table import StateRows
from cai.policies.tabular import TabularPolicy
from cai.support.wording import listed

MOST = 4096
"""Sets of variables that are tried, the smallest first, before a set that merely has no spare variable is taken."""
NUMBERS = 1 << 27
"""Probabilities that are kept between two looks at the same time; beyond, they are computed again."""


@dataclass(frozen=True)
class PolicySupport:
    """The state variables that a policy depends on.

    Attributes:
        variables: the set, in the order of the state's variables.
        by_time: the part of it that matters at each time; one entry for a policy that is the same at all times.
        verified: the largest change of any probability when the policy is rebuilt from those variables alone.
        unread: the other state variables.
        smallest: whether no set of fewer variables would do; else only: none of them can be left out.
        free: the number of pairs of a time and a state with v = -inf, where the policy is arbitrary.
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


def policy_support(messages: Messages | FixedPolicy | TabularPolicy, *, tolerance: float = 1e-9) -> PolicySupport:
    """Find the smallest set of state variables that a policy depends on.

    A set R is enough if ``|π_t(a|s) - π_t(a|s̃)| <= tolerance`` for all a, t, and all s, s̃ that agree in R. States
    with v = -inf do not count, because their policy is arbitrary. A variable is certainly needed if π changes when only
    this variable changes; if every state counts, these variables are the answer. Otherwise larger sets are tried,
    smaller ones first, up to ``MOST`` sets. After that, variables are removed one by one as long as possible, and
    ``smallest`` is False. Of several smallest sets the first in the order of the variables is returned.

    ``cai.graphs.relevant`` reads the graph alone, so its answer holds for every world with this graph. This function
    reads the numbers of one world, and finds a subset of those variables and of the variables that the action prior
    reads.

    Args:
        messages: what ``cai.solve`` returns, on tables or on factors; or a policy over numbered states, of which all
            states count.
        tolerance: the largest difference of probabilities that counts as equal.

    Raises:
        WorldError: the argument is something else or a batch, states are real, or the tolerance is negative.

    Source: irrelevance as in Boutilier, Dearden & Goldszmidt (2000), Stochastic dynamic programming with factored
    representations.
    """
    if not tolerance >= 0:
        raise fault("policy_support, tolerance", f"{tolerance!r}", "a number from 0 on")
    tables = _Tables(*_policy_of(messages))
    names, times = tables.states.names, range(tables.policy.horizon or 1)
    variables, smallest = _smallest(range(len(names)), partial(tables.suffice, times, tolerance))
    by_time, change, free = [], 0.0, 0
    for t in times:
        own, certain = _smallest(variables, partial(tables.suffice, [t], tolerance))
        by_time.append(tuple(names[i] for i in own))
        smallest, change = smallest and certain, max(change, tables.at(t).change(own))
        free += tables.states.size - len(tables.at(t).values)
    return PolicySupport(
        variables=tuple(names[i] for i in variables),
        by_time=by_time,
        verified=change,
        unread=tuple(name for i, name in enumerate(names) if i not in variables),
        smallest=smallest,
        free=free,
    )


class _Tables:
    """The policy of each time, in the states that count; what was computed last is kept, as far as there is room."""

    def __init__(self, policy: FixedPolicy | TabularPolicy, possible: Callable[[int], Tensor | None]) -> None:
        self.policy, self.possible, self.states = policy, possible, policy.states
        numbers = torch.arange(self.states.size)
        self.values = torch.stack([column.long() for column in self.states.split(numbers).values()], -1)
        self.at = lru_cache(maxsize=max(1, NUMBERS // (self.states.size * policy.actions.size)))(self._at)

    def suffice(self, times: Iterable[int], tolerance: float, columns: Sequence[int]) -> bool:
        """Return whether the policy depends at these times on no other variables, to a tolerance."""
        return all(self.at(t).spread(columns) <= tolerance for t in times)

    def _at(self, t: int) -> StateRows:
        with torch.no_grad():
            probs = self.policy.probs(t)
        if probs.dim() != 2:
            raise fault("policy_support", f"a batch of shape {list(probs.shape[:-2])}", "one entry: messages[i]")
        counts, values = self.possible(t), self.values.to(probs.device)
        if counts is None or bool(counts.all()):
            return StateRows(values, probs, self.states.sizes)
        return StateRows(values[counts], probs[counts], self.states.sizes)


def _smallest(variables: Sequence[int], suffice: Callable[[Sequence[int]], bool]) -> tuple[list[int], bool]:
    """Return the smallest part of some variables that suffices, and whether it is known to be that; all of them do."""
    needed = [i for i in variables if not suffice([j for j in variables if j != i])]
    spare = [i for i in variables if i not in needed]
    for n, some in enumerate(_smaller_first(spare)):
        if n == MOST:
            break
        if suffice(columns := sorted([*needed, *some])):
            return columns, True
    left = list(variables)
    for i in spare:
        if suffice(fewer := [j for j in left if j != i]):
            left = fewer
    return left, False


def _smaller_first(spare: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for k in range(len(spare) + 1):
        yield from combinations(spare, k)


def _policy_of(
    messages: Messages | FixedPolicy | TabularPolicy,
) -> tuple[FixedPolicy | TabularPolicy, Callable[[int], Tensor | None]]:
    """Return the policy, and which states count at a time, ``[S]``; None stands for all."""
    if isinstance(messages, FixedPolicy | TabularPolicy):
        return messages, lambda t: None
    if not isinstance(messages, Messages):
        raise fault("policy_support", f"a {type(messages).__name__}", "what cai.solve returns, or a policy with tables")
    if messages.batch_shape:
        raise fault("policy_support", f"messages with a batch of shape {tuple(messages.batch_shape)}", "messages[i]")
    if len(messages.operator.parts) > 1:
        seen = f"a world in {len(messages.operator.parts)} independent parts"
        raise IntractableError([Finding("policy_support", seen, "the policy of one part: messages.policy.parts[i]")])
    if not is_finite(messages.model):
        seen = f"a policy on real states, {', '.join(messages.model.states.names)}"
        raise fault("policy_support", seen, "numbered ones: messages.policy.at(t) has the gains of real actions")
    policy, v = messages.policy, messages.v.detach()
    return policy, lambda t: (v if policy.horizon is None else v[t]) > -torch.inf

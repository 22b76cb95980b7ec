"""States that matter: drawn from the world under a policy, where an upper bound is to be small."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cai.approximation.bounds.local_sums import LocalSum, value_at
from cai.compile.factor_model import Factor, Factors, aligned, primed


def visited(
    factors: Factors, generator: torch.Generator, n: int, q: Sequence[LocalSum] | None = None
) -> list[dict[str, Tensor]]:
    """Return states of every time, ``[n]`` a variable: under the prior, or greedy to ``q`` where it is given."""
    known: dict[str, Tensor] = {}
    for name, factor in factors.initial.items():
        known[name] = drawn(factor, known, name, n, generator)
    path = [known]
    for t in range(factors.horizon or 0):
        slice_, now = factors.at(t), dict(known)
        if q is None:
            for name, factor in slice_.prior.items():
                now[name] = drawn(factor, now, name, n, generator)
        else:
            now |= _greedy(factors, q[t], known, n)
        for name, factor in slice_.chance.items():
            now[name] = drawn(factor, now, name, n, generator)
        known = {name: now[primed(name)] for name in factors.states.names}
        path.append(known)
    return path


def drawn(factor: Factor, known: Mapping[str, Tensor], name: str, n: int, generator: torch.Generator) -> Tensor:
    """Draw a variable given those that its distribution reads, ``[n]``."""
    index = tuple(known[other] for other in factor.scope[:-1])
    rows = aligned(factor, factor.scope).exp()[index].expand(n, -1)
    return torch.multinomial(rows, 1, replacement=True, generator=generator).squeeze(-1)


def _greedy(factors: Factors, q: LocalSum, known: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    actions = factors.actions
    number = torch.arange(math.prod(actions.sizes))
    values = {name: value.unsqueeze(-1) for name, value in known.items()} | {
        name: value.long() for name, value in actions.split(number).items()
    }
    best = value_at(q, values).expand(n, len(number)).argmax(-1)
    return {name: value.long() for name, value in actions.split(best).items()}

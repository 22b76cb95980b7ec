"""Latents that are summed out before the message arrives: their factors do not depend on the action, so once is enough.

Variable elimination, the variable with the smallest product first (Koller & Friedman 2009, section 9.4).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.factor_model import Factor
from cai.exact.cost import Cost
from cai.exact.factors.algebra import Algebra, summed
from cai.exact.factors.cases import Cases

WIDEST = 1 << 24
"""Numbers of a product up to which a latent is summed out here."""


@dataclass(frozen=True)
class Step:
    """One latent summed out of the factors that it is in, whose place the result takes at the end of the line.

    Attributes:
        factors: their numbers, those of earlier results after those of the slice.
        scope: of the result.
    """

    factors: tuple[int, ...]
    scope: tuple[str, ...]


@dataclass(frozen=True)
class Reduction:
    """Latents summed out one after the other.

    Attributes:
        cases: the factors that it was made for.
        steps: what is done.
        cost: of all steps.
    """

    cases: tuple[Cases, ...]
    steps: tuple[Step, ...]
    cost: Cost

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of the factors that are left."""
        gone = {i for step in self.steps for i in step.factors}
        return tuple(i for i in range(len(self.cases) + len(self.steps)) if i not in gone)

    @property
    def left(self) -> tuple[Cases, ...]:
        """The factors that are left; the tables of new ones depend on the algebra."""
        like = self.cases[0]
        results = [Cases(step.scope, like.tables.new_empty(0), torch.zeros_like(like.case)) for step in self.steps]
        every = (*self.cases, *results)
        return tuple(every[i] for i in self.kept)

    def __call__(self, algebra: Algebra, tables: Sequence[Tensor]) -> list[Tensor]:
        """Return the tables of the factors that are left, ``[C, *scope]``, in the terms of the algebra."""
        every = list(tables)
        scopes = [case.scope for case in self.cases] + [step.scope for step in self.steps]
        for step in self.steps:
            first, *others = (Factor(scopes[i], every[i][0]) for i in step.factors)
            for other in others[:-1]:
                first = algebra.combine(first, other, tuple(dict.fromkeys((*first.scope, *other.scope))))
            result = algebra.combine(first, others[-1], step.scope) if others else summed(algebra, first, step.scope)
            every.append(result.table.unsqueeze(0))
        return [every[i] for i in self.kept]


def reduction(cases: Sequence[Cases], latents: Collection[str], sizes: Mapping[str, int]) -> Reduction:
    """Sum out, as far as products stay small, the latents of which no factor sees the action."""
    scopes = {i: frozenset(cases_.scope) for i, cases_ in enumerate(cases)}
    blind = {i for i, cases_ in enumerate(cases) if len(cases_.tables) == 1}
    open_ = {name for name in latents if all(i in blind for i, scope in scopes.items() if name in scope)}
    steps: list[Step] = []
    work, peak = 0.0, 0.0

    def product(name: str) -> frozenset[str]:
        return frozenset[str]().union(*(scope for scope in scopes.values() if name in scope))

    widths = {name: math.prod(sizes[other] for other in product(name)) for name in sorted(open_)}
    while widths:
        name = min(widths, key=widths.__getitem__)
        if widths[name] > WIDEST:
            break
        touched = tuple(i for i, scope in scopes.items() if name in scope)
        result = product(name) - {name}
        if touched:
            work, peak = work + len(touched) * widths[name], max(peak, float(widths[name]))
            scopes = {i: scope for i, scope in scopes.items() if i not in touched}
            scopes[len(cases) + len(steps)] = result
            steps.append(Step(touched, tuple(sorted(result))))
        del widths[name]
        for other in result & widths.keys():
            widths[other] = math.prod(sizes[third] for third in product(other))
    return Reduction(tuple(cases), tuple(steps), Cost(work, peak))

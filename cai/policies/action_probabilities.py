"""The action probabilities of a policy in one state at one time, by name, as a small table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault
from cai.support.display import in_notebook
from cai.support.wording import meant
from cai.world.spaces import Space

SHOWN = 12
"""The most actions that a table lists, the likeliest first."""


@dataclass(frozen=True, repr=False, eq=False)
class ActionProbabilities(Mapping[str, float]):
    """How likely each action is in one state at one time: the names of the actions and their probabilities.

    A mapping, ``probabilities["lift=up, push=no"]``, with the actions in the order of their numbers; as ``str`` a
    table, the likeliest action first.

    Attributes:
        t: the time.
        state: the state in words.
        actions: what the numbers of the actions mean.
        probs: π_t(a|s), ``[A]``.
    """

    t: int
    state: str
    actions: Space
    probs: Float[Tensor, " A"]

    _repr_html_ = in_notebook

    def __getitem__(self, action: str) -> float:
        for number, name in enumerate(self):
            if name == action:
                return float(self.probs[number])
        raise KeyError(action)

    def __iter__(self) -> Iterator[str]:
        return (self.actions.label(number) for number in range(len(self.probs)))

    def __len__(self) -> int:
        return len(self.probs)

    def of(self, variable: str) -> dict[str, float]:
        """Return how likely each value of one action variable is, by its name, the others summed out.

        Raises:
            WorldError: there is no such action variable.
        """
        known = self.actions.names
        if variable not in known:
            raise fault("of, variable", f"'{variable}'", f"one of {', '.join(known)}{meant(variable, known)}")
        which = self.actions.split(torch.arange(len(self)))[variable].long()
        size = self.actions.sizes[self.actions.names.index(variable)]
        total = self.probs.new_zeros(size).index_add(0, which, self.probs)
        return {self.actions.value_label(variable, n) or str(n): float(p) for n, p in enumerate(total)}

    def likeliest(self, n: int = SHOWN) -> dict[str, float]:
        """Return the n likeliest actions and their probabilities, those of probability 0 left out."""
        first = (self.probs * 1e9).round().argsort(descending=True, stable=True)[:n].tolist()  # rounding breaks no tie
        return {self.actions.label(a): float(self.probs[a]) for a in first if self.probs[a] > 0}

    def __str__(self) -> str:
        shown = self.likeliest()
        wide = max(map(len, shown), default=0)
        lines = [f"t = {self.t}, {self.state}", *(f"  {name.ljust(wide)}  {p:.4g}" for name, p in shown.items())]
        more = int((self.probs > 0).sum()) - len(shown)
        rest = max(0.0, 1 - sum(shown.values()))
        return "\n".join([*lines, *([f"  and {more:,} more, {rest:.2g} together"] if more else [])])

    __repr__ = __str__

"""A policy in many states, as a small table with a column for each variable that the policy depends on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.policies.action_probabilities import ActionProbabilities
from cai.support.display import in_notebook
from cai.world.spaces import Space, value_number

SAME = 1e-9
"""A difference of probabilities that is none."""
RARE = 1e-3
"""A probability below which an action is not named in a table."""
SHOWN = 40
"""The most rows that a table writes out."""


@dataclass(frozen=True)
class StateRows:
    """A policy of one time in some states: their values ``[R, n]`` and probabilities ``[R, A]``."""

    values: Int[Tensor, "R n"]
    probs: Float[Tensor, "R A"]
    sizes: tuple[int, ...]

    def groups(self, columns: Sequence[int]) -> tuple[Tensor, int]:
        """Number the states by their values of some variables alone, ``[R]``."""
        key = torch.zeros(len(self.values), dtype=torch.long, device=self.values.device)
        for i in columns:
            key = key * self.sizes[i] + self.values[:, i]
        kinds, index = torch.unique(key, return_inverse=True)
        return index, len(kinds)

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


@dataclass(frozen=True, repr=False, eq=False)
class PolicyTable(Sequence[ActionProbabilities]):
    """What is done at one time in all states that agree with what was given, a row for each kind of them.

    A row stands for all states with its values; a variable that changes nothing has no column. As ``str`` a table.

    Attributes:
        t: the time.
        given: the values that were given, by variable, in words.
        variables: the other variables that make a difference: the columns.
        values: of these variables in each row, in words.
        rows: what is done there.
        unread: the variables that the policy does not depend on.
        row_of: the row of every state, -1 where it does not agree, ``[S]``; None for a product of parts.
    """

    t: int
    given: Mapping[str, str]
    variables: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    rows: tuple[ActionProbabilities, ...]
    unread: tuple[str, ...] = ()
    row_of: Int[Tensor, " S"] | None = None

    _repr_html_ = in_notebook

    def __getitem__(self, row: Any) -> Any:
        return self.rows[row]

    def __len__(self) -> int:
        return len(self.rows)

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON; actions of probability 0 are left out."""
        rows = [
            {"state": dict(zip(self.variables, values, strict=True)), "actions": row.likeliest(len(row))}
            for values, row in zip(self.values, self.rows, strict=True)
        ]
        return {"t": self.t, "given": dict(self.given), "rows": rows, "unread": list(self.unread)}

    def lines(self, most: int = SHOWN) -> Iterator[tuple[str, ...]]:
        """Yield the first rows as text: the values, and what is done, the likeliest action first."""
        for values, row in zip(self.values[:most], self.rows[:most], strict=True):
            yield (*values, in_words(row))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the table: the variables that the policy does not depend on, and the number of rows left out."""
        notes = (f"does not depend on {', '.join(self.unread)}",) if self.unread else ()
        more = len(self) - SHOWN
        return (*notes, f"{more:,} more rows; give more variables") if more > 0 else notes

    def __str__(self) -> str:
        table = [(*self.variables, "does"), *self.lines()]
        wide = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        given = "".join(f", {name}={value}" for name, value in self.given.items())
        body = ("  " + "  ".join(cell.ljust(w) for cell, w in zip(line, wide, strict=True)).rstrip() for line in table)
        return "\n".join([f"t = {self.t}{given}", *body, *(f"  ({note})" for note in self.notes)])

    __repr__ = __str__


def in_words(row: ActionProbabilities, most: int = 4) -> str:
    """Write what is done in one line, ``repair 0.91; wait 0.09``, what is rarer than one in a thousand as "…"."""
    likeliest = row.likeliest(most)
    shown = {name: p for name, p in likeliest.items() if p >= min(RARE, max(likeliest.values(), default=0.0))}
    left = int((row.probs > 0).sum()) - len(shown)
    return "; ".join(f"{name} {p:.3g}" for name, p in shown.items()) + ("; …" if left > 0 else "")


def table_of(
    t: int,
    states: Space,
    actions: Space,
    probs: Float[Tensor, "S A"],
    given: Mapping[str, int | str],
    where: str = "at",
) -> PolicyTable:
    """Return what is done in the states that agree with what is given, as rows of the variables that matter there.

    Raises:
        WorldError: a given variable has no such value.
    """
    columns = torch.stack([column.long() for column in states.split(torch.arange(states.size)).values()], -1)
    fixed = {name: _number(states, name, value, where) for name, value in given.items()}
    agrees = torch.ones(states.size, dtype=torch.bool)
    for name, value in fixed.items():
        agrees &= columns[:, states.names.index(name)] == value
    rows = StateRows(columns[agrees], probs[agrees], states.sizes)
    read = list(range(len(states.names)))
    for i in reversed(range(len(states.names))):
        rest = [j for j in read if j != i]
        if states.names[i] in fixed or rows.spread(rest) <= SAME:
            read = rest
    index, count = rows.groups(read)
    first = torch.full((count,), len(index)).scatter_reduce(0, index, torch.arange(len(index)), "amin")
    numbers = agrees.nonzero().flatten()[first]

    def called(variable: int, value: int) -> str:
        return states.value_label(states.names[variable], value) or str(value)

    each = tuple(ActionProbabilities(t, states.label(int(s)), actions, probs[s]) for s in numbers)
    values = tuple(tuple(called(i, int(columns[s, i])) for i in read) for s in numbers)
    words = {name: called(states.names.index(name), value) for name, value in fixed.items()}
    unread = tuple(name for i, name in enumerate(states.names) if i not in read and name not in fixed)
    row_of = torch.full((states.size,), -1).masked_scatter(agrees, index)
    return PolicyTable(t, words, tuple(states.names[i] for i in read), values, each, unread, row_of)


def _number(states: Space, name: str, value: int | str, where: str) -> int:
    place = states.names.index(name)
    names = (states.labels[place] if states.labels else None) or ()
    return value_number(f"{where}, variable '{name}'", value, states.sizes[place], names)

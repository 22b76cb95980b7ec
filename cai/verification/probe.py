"""A probe: a small world with an exact answer, on which one kind of mistake changes what is learned."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cai.errors import fault

Outcome = tuple[float, str, float, bool]
"""Probability, next state, reward, and whether that ends the episode."""
Claim = Literal["temperature", "prior", "masks", "time", "bootstrap", "optimism"]
"""What an algorithm may or may not know of: a probe that needs it is left out where it does not."""
ALL = frozenset({"VARIATIONAL", "HARD", "POSTERIOR"})
"""The rules that a learner may follow, by name."""


@dataclass(frozen=True)
class Probe:
    """A small world as a table of outcomes, and the mistake that it is made for.

    Attributes:
        name: its name; ``cai/NAME-v0`` is its Gymnasium id.
        catches: the name of the mistake, one of ``MISTAKES``.
        words: in a sentence, how the mistake shows.
        rows: for each state and each of its actions the outcomes; a missing action is forbidden.
        start: p(s_0) by state.
        prior: the action prior by state, where it is not uniform over the allowed actions.
        horizon: T, where the task itself ends after T steps: the time is then observed, and the end terminates.
        cut: after how many steps a time limit that is not the task's cuts an episode off (truncates it); 1 or None.
        discount: γ.
        temperature: α, reward units, of a soft learner.
        needs: what a learner must know of.
        rules: the rules under which it tells the mistake from what is right.

    Raises:
        WorldError: a row, the start or a prior is no distribution or names what is not there, a number is out of range,
            an episode is cut off in a task that has a horizon or no discount, or nothing ever ends it.
    """

    name: str
    catches: str
    words: str
    rows: Mapping[str, Mapping[str, Sequence[Outcome]]]
    start: Mapping[str, float]
    prior: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    horizon: int | None = None
    cut: Literal[1] | None = None
    discount: float = 1.0
    temperature: float = 0.5
    needs: frozenset[Claim] = frozenset()
    rules: frozenset[str] = ALL

    @property
    def id(self) -> str:
        """The Gymnasium id."""
        return f"cai/{self.name}-v0"

    @property
    def states(self) -> tuple[str, ...]:
        """The states' names, in the order of their numbers."""
        return tuple(self.rows)

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions' names, in the order of their numbers."""
        return tuple(dict.fromkeys(action for row in self.rows.values() for action in row))

    def prior_of(self, state: str) -> Mapping[str, float]:
        """Return p(a|s) by action: uniform over the actions of the state unless said."""
        row = self.rows[state]
        return self.prior.get(state, dict.fromkeys(row, 1 / len(row)))

    def __post_init__(self) -> None:
        where = f"probe {self.name!r}"
        for state, row in self.rows.items():
            for action, outcomes in row.items():
                place = f"{where}, rows[{state!r}][{action!r}]"
                _require_distribution(place, [p for p, *_ in outcomes])
                _require_known(place, [after for _, after, *_ in outcomes], self.rows, "states of rows")
                wrong = [r for *_, r, _ in outcomes if not math.isfinite(r)]
                if wrong:
                    raise fault(place, f"a reward of {wrong[0]}", "a finite number; a forbidden action is left out")
        _require_distribution(f"{where}, start", self.start.values())
        _require_known(f"{where}, start", self.start, self.rows, "states of rows")
        _require_known(f"{where}, prior", self.prior, self.rows, "states of rows")
        for state, prior in self.prior.items():
            _require_distribution(f"{where}, prior[{state!r}]", prior.values())
            _require_known(f"{where}, prior[{state!r}]", prior, self.rows[state], "actions of the state")
        if not 0 < self.discount <= 1:
            raise fault(f"{where}, discount", f"{self.discount!r}", "a number above 0, at most 1")
        if not 0 < self.temperature < math.inf:
            raise fault(f"{where}, temperature", f"{self.temperature!r}", "a positive number, reward units")
        if self.horizon is not None and self.horizon < 1:
            raise fault(f"{where}, horizon", f"{self.horizon!r}", "at least 1, or None")
        if self.cut is not None and (self.cut != 1 or self.horizon is not None or self.discount == 1):
            seen = f"cut {self.cut!r}, horizon {self.horizon!r}, discount {self.discount:g}"
            raise fault(where, seen, "cut 1 with no horizon and a discount below 1, or no cut")
        endless = () if self.horizon or self.cut else self._endless()
        if endless:
            expected = "an outcome that ends the episode, a horizon, or cut 1"
            raise fault(f"{where}, rows[{endless[0]!r}]", "no way to an end", expected)

    def _endless(self) -> tuple[str, ...]:
        """Return the states from which no action of the prior ever leads to an end."""
        outcomes = {
            state: [one for action, ks in row.items() if self.prior_of(state).get(action) for one in ks if one[0] > 0]
            for state, row in self.rows.items()
        }
        ending, grown = set[str](), True
        while grown:
            more = {state for state, ks in outcomes.items() if any(over or to in ending for _, to, _, over in ks)}
            ending, grown = more, more > ending
        return tuple(state for state in self.rows if state not in ending)


def _require_distribution(where: str, probabilities: Iterable[float]) -> None:
    p = list(probabilities)
    if not all(0 <= x <= 1 for x in p) or abs(math.fsum(p) - 1) > 1e-9:
        raise fault(where, f"probabilities {', '.join(f'{x:g}' for x in p) or 'of nothing'}", "a sum of 1")


def _require_known(where: str, names: Iterable[str], known: Iterable[str], of: str) -> None:
    for name in names:
        if name not in known:
            raise fault(where, f"{name!r}", f"{of}: {', '.join(map(repr, known))}")

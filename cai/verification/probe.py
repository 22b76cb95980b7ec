"""A probe: a small world with an exact answer, on which one kind of mistake changes what is learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

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

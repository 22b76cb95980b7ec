"""Where a policy loses, in words: its costliest state-times, by the nats or by the reward that it gives away there.

    ELBO* - ELBO(π) = Σ_t Σ_s p(s_t = s, alive) KL(π_t(·|s) ‖ π*_t(·|s))              π* of VARIATIONAL, nats
    J* - J(π)       = Σ_t Σ_s p(s_t = s, alive) Σ_a π_t(a|s) (v*_t(s) - q*_t(s, a))   of HARD, reward units

The functions take what was measured, whoever learned the policy: a rule, a fit, a table, a function.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Model
from cai.errors import fault
from cai.evaluation.accounts import ROUNDING, number
from cai.evaluation.answers import Solved, shortfall
from cai.world.spaces import Layout

UNITS = {"nats": "nats", "regret": "reward units"}
"""By what a policy may be said to lose, and its unit."""


@dataclass(frozen=True)
class Choice:
    """An action in one state, and how often it is taken there.

    Attributes:
        action: its number.
        label: its name for people, e.g. ``move=left``; ``left`` alone where the variable is "move" or "action".
        policy: π_t(a|s), a probability.
        best: π*_t(a|s) of VARIATIONAL (of HARD where regret is told), a probability.
    """

    action: int
    label: str
    policy: float
    best: float


@dataclass(frozen=True)
class Loss:
    """What a policy loses in one state at one time, against the best policy π*; as ``str`` one sentence.

    Where several times of a state are told as one, probabilities are means over the visits.

    Attributes:
        t: the time, the first of several; None for the infinite horizon, all times together.
        state: its number.
        label: its name for people, e.g. ``cell=17``, with the map's mark where there is one.
        reach: p(s_t, alive) under the policy, a probability; expected visits where times are together.
        lost: the share of ELBO* - ELBO(π), nats, or of J* - J(π), reward units, that is lost here.
        unit: "nats" or "reward units".
        does: what the policy does too often: the action that adds most to ``lost``.
        should: what π* would do instead: the action whose probability π* raises most.
        until: the last of several times; None for one time, or all.
    """

    t: int | None
    state: int
    label: str
    reach: float
    lost: float
    unit: str
    does: Choice
    should: Choice
    until: int | None = None

    @property
    def per_visit(self) -> float:
        """The cost of one visit, KL(π_t(·|s) ‖ π*_t(·|s)) in nats, or Σ_a π_t(a|s) (v* - q*) in reward units."""
        return self.lost / self.reach

    @property
    def where(self) -> str:
        """The state and its time or times, e.g. ``t = 0 … 9, cell=17``."""
        if self.t is None:
            return self.label
        return f"t = {self.t}{'' if self.until is None else f' … {self.until}'}, {self.label}"

    def __str__(self) -> str:
        does, should = self.does, self.should
        return (
            f"{self.where}: {number(self.lost)} {self.unit} ({self._visits()}): it plays {does.label} with "
            f"{_chance(does.policy)} where the best policy does with {_chance(does.best)}; the best policy plays "
            f"{should.label} with {_chance(should.best)}, it with {_chance(should.policy)}."
        )

    def _visits(self) -> str:
        if self.t is None or self.until is not None:
            reached = f"{self.reach:.3g} visits expected"
        else:
            reached = f"reached with probability {_chance(self.reach)}"
        told = self.lost == torch.inf or abs(self.reach - 1) < ROUNDING
        return reached if told else f"{reached}, {number(self.per_visit)} {self.unit} a visit"


class Losing(ABC):
    """What must be known of a policy to tell where it loses."""

    @property
    @abstractmethod
    def world(self) -> Model:
        """The compiled world."""

    @property
    @abstractmethod
    def variational(self) -> Solved:
        """The variational optimum at this temperature: the best any policy can do."""

    @property
    @abstractmethod
    def hard(self) -> Solved:
        """Bellman optimality: the highest return that any policy can have."""

    @property
    @abstractmethod
    def reach(self) -> Float[Tensor, "..."]:
        """p(s_t, alive) under the policy, ``[T, S]``; without T for the infinite horizon, summed over all times."""

    @abstractmethod
    def log_policy_at(self, t: int) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats."""


def worst(
    one: Losing, by: str, lost: Float[Tensor, "..."], scale: float, n: int, *, together: bool
) -> tuple[Loss, ...]:
    """Return the n places where a policy loses most, the costliest first; fewer where fewer lose at all.

    Args:
        one: the policy and what it is measured against.
        by: "nats" or "regret".
        lost: what is lost, ``[T, S]``; without T for the infinite horizon.
        scale: the size of the numbers whose difference ``lost`` adds up to, to tell what is rounding.
        n: how many at most.
        together: all times of a state count as one place.

    Raises:
        WorldError: ``n`` is below 1.
    """
    if n < 1:
        raise fault("worst, n", f"{n}", "a number of state-times, at least 1")
    rows, rounding = lost.reshape(-1, lost.shape[-1]), ROUNDING * scale
    if float(rows.sum()) <= rounding:
        return ()
    losing = rows > rounding / rows.numel()  # one entry's share of what is rounding in the sum
    amounts = torch.where(losing, rows, 0.0).sum(0) if together else torch.where(losing, rows, 0.0).flatten()
    order = amounts.argsort(descending=True, stable=True)[:n]
    first = order[amounts[order] > 0].tolist()
    S = rows.shape[-1]
    places = [(losing[:, i].nonzero().flatten().tolist(), i) if together else ([i // S], i % S) for i in first]
    told = _Reader(one, by, [s for _, s in places])
    return tuple(told.loss(times, s, float(amounts[i])) for (times, s), i in zip(places, first, strict=True))


class _Reader:
    """Reads what a policy does in some states, and what it should, off the tables of each time, computed once."""

    def __init__(self, one: Losing, by: str, states: Sequence[int]) -> None:
        self.one, self.by, self.known = one, by, dict[int, tuple[Tensor, Tensor, Tensor]]()
        self.rows = {s: i for i, s in enumerate(dict.fromkeys(states))}
        self.reach = one.reach.reshape(-1, one.world.states.size)

    def loss(self, times: Sequence[int], s: int, lost: float) -> Loss:
        """Tell one place, its times together: probabilities and costs are weighed by the visits of each time."""
        one, visits = self.one, self.reach[times, s]
        pi, best, cost = (torch.stack([self.at(t)[i][self.rows[s]] for t in times]) for i in range(3))
        weights = (visits / visits.sum()).unsqueeze(-1)
        adds = torch.where(pi > 0, weights * pi * cost, 0.0)
        if bool((adds == torch.inf).any()):  # what π* never does costs without end: name the likeliest of these
            adds = torch.where(adds == torch.inf, weights * pi, 0.0)
        does, should = ((weights * p).sum(0) for p in (pi, best))

        def choice(a: int) -> Choice:
            return Choice(a, one.world.actions.label(a), float(does[a]), float(should[a]))

        most = choice(_first_largest(adds.sum(0))), choice(_first_largest(should - does))
        t, until = (times[0], times[-1]) if one.world.horizon is not None else (None, None)
        until = None if until == t else until
        return Loss(t, s, state_label(one.world, s), float(visits.sum()), lost, UNITS[self.by], *most, until)

    def at(self, t: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return π, π* and the cost of each action at time t, of the states asked for alone, ``[n, A]`` each."""
        if t not in self.known:
            log_pi, best = self.one.log_policy_at(t), self.one.variational if self.by == "nats" else self.one.hard
            log_best = best.policy.log_probs(t)
            cost = log_pi - log_best if self.by == "nats" else shortfall(self.one.world, best, t)
            kept = list(self.rows)  # the tables themselves may be large
            self.known[t] = log_pi[kept].exp(), log_best[kept].exp(), cost[kept]
        return self.known[t]


def _first_largest(x: Tensor) -> int:
    """Return the lowest number among the largest entries, ties up to rounding."""
    return int((x >= x.max() - 1e-12 * float(x.abs().max())).nonzero()[0])


def state_label(world: Model, number: int) -> str:
    """Name a state for people, with the map's mark where there is one."""
    layout: Layout | None = getattr(world, "layout", None)
    label = world.states.label(number)
    mark = layout.marks.get(int(layout.cell[number])) if layout is not None else None
    return f"{label} ({mark})" if mark else label


def _chance(p: float) -> str:
    return "0" if p == 0 else f"{p:.2f}" if p >= 0.005 else f"{p:.2g}"

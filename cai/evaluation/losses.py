"""Where a policy loses, in words: its costliest states and times, by nats or by reward.

ELBO* - ELBO(π) = Σ_t Σ_s p(s_t = s, alive) KL(π_t(·|s) ‖ π*_t(·|s))              π* of VARIATIONAL, nats
J* - J(π)       = Σ_t Σ_s p(s_t = s, alive) Σ_a π_t(a|s) (v*_t(s) - q*_t(s, a))   of HARD, reward units
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import FiniteModel, Model, is_finite
from cai.errors import fault
from cai.support.numbers import ROUNDING, amount, chance

UNITS = {"nats": "nats", "regret": "reward units"}
"""By what a policy may be said to lose, and its unit."""
Tables = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""From a time to π, π* and what each action costs against π*, ``[S, A]`` each."""


@dataclass(frozen=True)
class Choice:
    """An action in one state, and how often it is taken there.

    Attributes:
        action: its number.
        label: its name for people, e.g. ``move=left``; ``left`` alone where the variable is "move" or "action".
        policy: π_t(a|s), a probability.
        best: π*_t(a|s) of VARIATIONAL (of HARD by regret), a probability.
    """

    action: int
    label: str
    policy: float
    best: float


@dataclass(frozen=True)
class Loss:
    """What a policy loses in one state at one time, against the best policy π*; as ``str`` one sentence.

    Where several times of a state are taken together, probabilities are means over the visits. Where states are real it
    is what is lost at one time, wherever the state is.

    Attributes:
        t: the time, the first of several; None for the infinite horizon, all times together.
        state: its number; None where states are real.
        label: its name for people, e.g. ``cell=17``, with the map's mark where there is one.
        reach: p(s_t, alive) under the policy, a probability; expected visits where times are together.
        lost: the share of ELBO* - ELBO(π), nats, or of J* - J(π), reward units, that is lost here.
        unit: "nats" or "reward units".
        does: what the policy does too often: the action that adds most to ``lost``; None where actions are real.
        should: what π* would do instead: the action whose probability π* raises most; None where actions are real.
        until: the last of several times; None for one time, or all.
    """

    t: int | None
    state: int | None
    label: str
    reach: float
    lost: float
    unit: str
    does: Choice | None
    should: Choice | None
    until: int | None = None

    @property
    def per_visit(self) -> float:
        """The cost of one visit, KL(π_t(·|s) ‖ π*_t(·|s)) in nats, or Σ_a π_t(a|s) (v* - q*) in reward units."""
        return self.lost / self.reach

    @property
    def where(self) -> str:
        """The state and its time or times, e.g. ``t = 0 … 9, cell=17``."""
        return at(self.t, self.until, self.label)

    def __str__(self) -> str:
        if self.does is None or self.should is None:
            return f"{self.where}: {amount(self.lost)} {self.unit} lost."
        single = self.t is not None and self.until is None
        reached = f"probability {chance(self.reach)}" if single else f"{self.reach:.3g} visits"
        does, should = (
            f"{choice.label} {chance(choice.policy)} (best: {chance(choice.best)})"
            for choice in (self.does, self.should)
        )
        return f"{self.where}: {amount(self.lost)} {self.unit}, {reached}; too often {does}, too seldom {should}."


@dataclass(frozen=True)
class Place:
    """A state-time at which a policy loses, over seeds.

    Attributes:
        t: the time, the first of several; None for the infinite horizon, all times together.
        state: its number; None where states are real.
        label: its name for people.
        lost: the mean over seeds of what is lost there.
        unit: "nats" or "reward units".
        seeds: how many of them lose there.
        until: the last of several times; None for one time, or all.
    """

    t: int | None
    state: int | None
    label: str
    lost: float
    unit: str
    seeds: int
    until: int | None = None

    @property
    def where(self) -> str:
        """The state and its time or times, e.g. ``t = 0 … 9, cell=17``."""
        return at(self.t, self.until, self.label)


def at(t: int | None, until: int | None, label: str) -> str:
    """Name a state and its time or times; of a real state the time alone."""
    if t is None:
        return label or "all times"
    return f"t = {t}{'' if until is None else f' … {until}'}{f', {label}' if label else ''}"


def require_ranking(n: int, by: str) -> None:
    """Refuse what no losses can be listed by.

    Raises:
        WorldError: ``n`` is below 1, or ``by`` is neither "nats" nor "regret".
    """
    if by not in UNITS:
        raise fault("worst, by", f"{by!r}", f"one of {list(UNITS)}")
    if n < 1:
        raise fault("worst, n", f"{n}", "a number of state-times, at least 1")


def costliest(
    lost: Float[Tensor, "..."], scale: float, n: int, *, together: bool
) -> list[tuple[list[int], int, float]]:
    """Return the times, the state and what is lost of the n costliest places; fewer where fewer lose at all.

    Args:
        lost: what is lost, ``[T, S]``; without T for the infinite horizon.
        scale: the size of the numbers whose difference ``lost`` adds up to, to tell what is rounding.
        n: how many at most.
        together: all times of a state count as one place.
    """
    rows, rounding = lost.reshape(-1, lost.shape[-1]), ROUNDING * scale
    if float(rows.sum()) <= rounding:
        return []
    losing = rows > rounding / rows.numel()  # one entry's share of the rounding of the sum
    amounts = torch.where(losing, rows, 0.0)
    amounts = amounts.sum(0) if together else amounts.flatten()
    order = amounts.argsort(descending=True, stable=True)[:n]
    S = rows.shape[-1]

    def times(i: int) -> list[int]:
        return losing[:, i].nonzero().flatten().tolist() if together else [i // S]

    return [(times(i), i % S, float(amounts[i])) for i in order[amounts[order] > 0].tolist()]


def losses(
    world: FiniteModel,
    places: Sequence[tuple[list[int], int, float]],
    reach: Float[Tensor, "..."],
    by: str,
    tables: Tables,
) -> tuple[Loss, ...]:
    """Say what a policy does at each of these places, and what it should.

    Args:
        world: the compiled world.
        places: times, state and what is lost, as ``costliest`` returns them.
        reach: p(s_t, alive), ``[T, S]``; without T for the infinite horizon.
        by: "nats" or "regret".
        tables: what is done, what is best, and what each action costs.
    """
    states = sorted({s for _, s, _ in places})
    visits, row = reach.reshape(-1, world.states.size), {s: i for i, s in enumerate(states)}

    @cache
    def at_time(t: int) -> tuple[Tensor, Tensor, Tensor]:
        pi, best, cost = tables(t)
        return pi[states], best[states], cost[states]  # the whole tables may be large

    def loss(times: list[int], s: int, lost: float) -> Loss:
        pi, best, cost = (torch.stack([at_time(t)[part][row[s]] for t in times]) for part in range(3))
        reached = visits[times, s]
        weights = (reached / reached.sum()).unsqueeze(-1)
        adds = torch.where(pi > 0, weights * pi * cost, 0.0)
        if bool((adds == torch.inf).any()):  # an action that π* never takes costs inf: name the most probable of these
            adds = torch.where(adds == torch.inf, weights * pi, 0.0)
        does, should = ((weights * p).sum(0) for p in (pi, best))

        def choice(a: int) -> Choice:
            return Choice(a, world.actions.label(a), float(does[a]), float(should[a]))

        most = choice(_first_largest(adds.sum(0))), choice(_first_largest(should - does))
        t, until = _span(world, times)
        return Loss(t, s, state_label(world, s), float(reached.sum()), lost, UNITS[by], *most, until)

    return tuple(loss(*place) for place in places)


def losses_by_time(
    world: Model, places: Sequence[tuple[list[int], int, float]], alive: Sequence[float], by: str
) -> tuple[Loss, ...]:
    """Say when a policy loses what, where states are real.

    Args:
        world: the compiled world.
        places: times and what is lost, as ``costliest`` returns them for one state.
        alive: p(alive) at every time.
        by: "nats" or "regret".
    """

    def loss(times: list[int], lost: float) -> Loss:
        t, until = _span(world, times)
        return Loss(t, None, "", sum(alive[t] for t in times), lost, UNITS[by], None, None, until)

    return tuple(loss(times, lost) for times, _, lost in places)


def places_over_seeds(
    world: Model, each: Float[Tensor, "N *rest"], n: int, by: str, *, together: bool = False
) -> tuple[Place, ...]:
    """Return the n state-times where N seeds lose most in the mean, from what each loses, ``[N, T, S]``.

    With ``together`` all times of a state are one place. Where states are real each loses ``[N, T]``.
    """
    lost_by_state, places = by_state(world, each), []
    runs = lost_by_state.reshape(len(each), -1, lost_by_state.shape[-1])
    for times, s, lost in costliest(runs.mean(0), 1.0, n, together=together):
        seeds = int((runs[:, times, s].sum(-1) > ROUNDING).sum())
        t, until = _span(world, times)
        state, label = (s, state_label(world, s)) if is_finite(world) else (None, "")
        places.append(Place(t, state, label, lost, UNITS[by], seeds, until))
    return tuple(places)


def by_state(world: Model, lost: Tensor) -> Tensor:
    """Return what is lost with an axis of states at the end, of length 1 where they are real."""
    return lost if is_finite(world) else lost.unsqueeze(-1)


def _span(world: Model, times: Sequence[int]) -> tuple[int | None, int | None]:
    """Return the first time, and the last where it is another; neither for the infinite horizon."""
    if world.horizon is None:
        return None, None
    return times[0], None if times[-1] == times[0] else times[-1]


def _first_largest(x: Tensor) -> int:
    """Return the lowest number among the largest entries, ties up to rounding."""
    return int((x >= x.max() - 1e-12 * float(x.abs().max())).nonzero()[0])


def state_label(world: FiniteModel, number: int) -> str:
    """Name a state for people, with the map's mark where there is one."""
    layout, label = world.layout, world.states.label(number)
    mark = layout.marks.get(int(layout.cell[number])) if layout is not None else None
    return f"{label} ({mark})" if mark else label

"""Where a policy loses, in words: its costliest state-times, and the account of every nat it lacks.

    ELBO* - ELBO(π) = Σ_t Σ_s p(s_t = s, alive) KL(π_t(·|s) ‖ π*_t(·|s))            each term one ``Loss``
    log Z - ELBO(π) = start nats + Σ action nats + Σ luck nats                      ``account``

The functions take tensors and numbers, whoever learned the policy: a rule, a fit, a table, a function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import ImpossibleError, NotConvergedError, fault
from cai.exact.messages import Messages
from cai.types import Tables

Answer = TypeVar("Answer")

ROUNDING = 1e-9
"""Relative size below which a difference of two exact numbers is rounding."""
MOVES = {(-1.0, 0.0): "left", (1.0, 0.0): "right", (0.0, -1.0): "up", (0.0, 1.0): "down"}


@dataclass(frozen=True)
class Choice:
    """An action in one state, and how often it is taken there.

    Attributes:
        action: its number.
        label: its name for people: the map's direction where every action has one of its own, else e.g. ``action=2``.
        policy: π_t(a|s), a probability.
        best: π*_t(a|s) of VARIATIONAL, a probability.
    """

    action: int
    label: str
    policy: float
    best: float


@dataclass(frozen=True)
class Loss:
    """What a policy loses in one state at one time, against the best policy π*; as ``str`` one sentence.

    Attributes:
        t: the time, or None for the infinite horizon, all times together.
        state: its number.
        label: its name for people, e.g. ``cell=17``, with the map's mark where there is one.
        reach: p(s_t, alive) under the policy, a probability; for the infinite horizon expected visits.
        nats: reach · KL(π_t(·|s) ‖ π*_t(·|s)), nats: the share of ELBO* - ELBO(π) that is lost here.
        does: what the policy does too often: the action that adds most to the KL.
        should: what π* would do instead: the action whose probability π* raises most.
    """

    t: int | None
    state: int
    label: str
    reach: float
    nats: float
    does: Choice
    should: Choice

    @property
    def per_visit(self) -> float:
        """KL(π_t(·|s) ‖ π*_t(·|s)), nats: the cost of one visit."""
        return self.nats / self.reach

    def __str__(self) -> str:
        where = self.label if self.t is None else f"t = {self.t}, {self.label}"
        does, should = self.does, self.should
        return (
            f"{where}: {_nats(self.nats)} ({self._visits()}): it plays {does.label} with {_chance(does.policy)} where "
            f"the best policy does with {_chance(does.best)}; the best policy plays {should.label} with "
            f"{_chance(should.best)}, it with {_chance(should.policy)}."
        )

    def _visits(self) -> str:
        if self.t is None:
            reached = f"{self.reach:.3g} visits expected"
        else:
            reached = f"reached with probability {_chance(self.reach)}"
        told = self.nats == torch.inf or abs(self.reach - 1) < ROUNDING
        return reached if told else f"{reached}, {_nats(self.per_visit)} a visit"


def worst(
    best: Messages,
    log_policy: Float[Tensor, "..."],
    occupancy: Float[Tensor, "..."],
    nats: Float[Tensor, "..."],
    n: int,
) -> tuple[Loss, ...]:
    """Return the n state-times where a policy loses most, the costliest first; fewer where fewer lose at all.

    Args:
        best: the messages of VARIATIONAL.
        log_policy: log π_t(a|s), nats, ``[T, S, A]``; here and below without T for the infinite horizon.
        occupancy: p(s_t, a_t, alive) under the policy, ``[T, S, A]``.
        nats: the policy nats, ``[T, S]``.
        n: how many at most.

    Raises:
        WorldError: ``n`` is below 1.
    """
    if n < 1:
        raise fault("worst, n", f"{n}", "a number of state-times, at least 1")
    tables, S = best.tables, best.tables.states.size
    lost, rounding = nats.flatten(), ROUNDING * max(1.0, abs(float(best.elbo)))
    if float(lost.sum()) <= rounding:
        return ()
    losing = (lost > rounding / len(lost)).nonzero().flatten()  # one entry's share of what is rounding in the sum
    first = losing[lost[losing].argsort(descending=True, stable=True)[:n]]
    reach, log_pi = occupancy.sum(-1).flatten(), log_policy.reshape(-1, log_policy.shape[-1])
    found = []
    for i in first.tolist():
        t, s = divmod(i, S)
        does, should = _choices(tables, log_pi[i], best.policy.log_probs(t)[s])
        time = None if tables.horizon is None else t
        found.append(Loss(time, s, _state(tables, s), float(reach[i]), float(lost[i]), does, should))
    return tuple(found)


def _choices(tables: Tables, log_pi: Tensor, log_best: Tensor) -> tuple[Choice, Choice]:
    """Return what the policy does too often in one state, and what π* would do instead."""
    pi, best = log_pi.exp(), log_best.exp()
    adds = torch.where(pi > 0, pi * (log_pi - log_best), 0.0)
    if bool((adds == torch.inf).any()):  # what π* never does costs without end: name the likeliest of these
        adds = torch.where(adds == torch.inf, pi, 0.0)

    def choice(a: int) -> Choice:
        return Choice(a, _action(tables, a), float(pi[a]), float(best[a]))

    return choice(_first_largest(adds)), choice(_first_largest(best - pi))


def _first_largest(x: Tensor) -> int:
    """Return the lowest number among the largest entries, ties up to rounding."""
    return int((x >= x.max() - 1e-12 * float(x.abs().max())).nonzero()[0])


def _action(tables: Tables, number: int) -> str:
    moves = tables.layout.moves if tables.layout is not None else ()
    if len(set(moves)) == len(moves) == tables.actions.size and set(moves) <= {*MOVES, None}:
        move = moves[number]
        return "stay" if move is None else MOVES[move]
    return tables.actions.label(number)


def _state(tables: Tables, number: int) -> str:
    label, layout = tables.states.label(number), tables.layout
    mark = layout.marks.get(int(layout.cell[number])) if layout is not None else None
    return f"{label} ({mark})" if mark else label


def account(
    tables: Tables,
    elbo: float,
    best: Callable[[], float],
    promised: Callable[[], tuple[float, float, float, float]],
) -> str:
    """Say in words, a line a part, where every nat between a policy and the two exact answers goes.

    Args:
        tables: the world.
        elbo: ELBO(π), nats.
        best: gives ELBO* of VARIATIONAL, nats.
        promised: gives log Z of POSTERIOR and the start, action and luck nats. What either raises when there is no
            such number is said in its place.
    """
    star, parts = _asked(best), _asked(promised)
    lines = [f"ELBO(π) = {_nats(elbo)}{': it risks what is forbidden' if elbo == -torch.inf else ''}."]
    if isinstance(parts, str):
        lines.append(f"log Z - ELBO(π), and with it start, action and luck nats, cannot be had: {parts}.")
    else:
        lines += _below_evidence(tables, elbo, *parts)
    if isinstance(star, str):
        lines.append(f"ELBO* - ELBO(π), and with it the policy nats, cannot be had: {star}.")
    else:
        lines += _below_best(elbo, star)
    if not isinstance(parts, str) and not isinstance(star, str):
        lines.append(_moral(elbo, star, parts[0], parts[1]))
    return "\n".join(lines)


def _below_evidence(
    tables: Tables, elbo: float, log_evidence: float, start: float, action: float, luck: float
) -> list[str]:
    gap = _settled(log_evidence - elbo, log_evidence)
    start, action, luck = (_settled(part, log_evidence) for part in (start, action, luck))
    sure = float(tables.log_initial.exp().max()) > 1 - ROUNDING
    certain = tables.discount == 1 and bool((tables.log_prob.exp().amax(-1) > 1 - ROUNDING).all())
    no_wish = "there is one start state" if sure else "no other start is wished for"
    no_luck = "nothing is left to luck" + (": the dynamics are deterministic" if certain else " on this policy's way")
    wish = "KL(p(s_0) ‖ p(s_0|O)), the start that the posterior wishes for, which no policy can change"
    acts = "Σ E KL(π ‖ p(a|s_t, O)), for acting otherwise than the posterior does"
    luckily = "Σ E KL(p(outcome) ‖ p(outcome|O)), the luck that the posterior counts on along this policy's way"
    parts = [
        ("start", start, wish, no_wish),
        ("action", action, acts, "it acts as the posterior does"),
        ("luck", luck, luckily, no_luck),
    ]
    return [
        f"log Z - ELBO(π) = {_nats(gap)}, from what POSTERIOR promises, log Z = {_nats(log_evidence)}, down to it:",
        *(f"  {name} nats: " + (f"{_share(x, gap)}, {why}." if x else f"0, {none}.") for name, x, why, none in parts),
    ]


def _below_best(elbo: float, star: float) -> list[str]:
    gap = _settled(star - elbo, star)
    lost = f"{_number(gap)}, Σ E KL(π ‖ π*), for acting otherwise than the best policy does"
    return [
        f"ELBO* - ELBO(π) = {_nats(gap)}, from the best that any policy can reach, ELBO* = {_nats(star)}, down to it:",
        f"  policy nats: {lost}." if gap else "  policy nats: 0, no policy does better.",
    ]


def _moral(elbo: float, star: float, log_evidence: float, start: float) -> str:
    """Say how much of log Z - ELBO(π) a better policy could win, and why no policy can have the rest."""
    left, lost = _settled(log_evidence - elbo, log_evidence), _settled(star - elbo, star)
    out = _settled(log_evidence - star, log_evidence)
    start, luck = _settled(start, log_evidence), _settled(out - start, log_evidence)
    if left == 0:
        return "Nothing remains: this policy has all that the evidence promises."
    if out == 0:
        return "A better policy can win all of it: the best one reaches log Z."
    if lost == 0 and luck == 0:
        return "Only the start remains, which no policy can change."
    why = " and ".join(
        [*["the start"] * (start != 0), *["luck, which the posterior counts on and no policy commands"] * (luck != 0)]
    )
    if lost == 0:
        return f"No policy can win anything more: the {_nats(out)} that remain are out of every policy's reach: {why}."
    return f"A better policy can win {_nats(lost)}; {_nats(out)} are out of every policy's reach: {why}."


def _asked(ask: Callable[[], Answer]) -> Answer | str:
    try:
        return ask()
    except (ImpossibleError, NotConvergedError) as error:
        return "; ".join(str(error).split("; ")[:2])  # the reason, and the first place or the likely cause


def _settled(nats: float, scale: float) -> float:
    return 0.0 if abs(nats) <= ROUNDING * max(1.0, abs(scale)) else nats


def _nats(value: float) -> str:
    return f"{_number(value)} nats"


def _number(value: float) -> str:
    return "infinitely many" if value == torch.inf else f"{value:.3g}"


def _share(nats: float, whole: float) -> str:
    """Write a part of a sum, with its share where the sum has shares."""
    if not 0 < whole < torch.inf:
        return _number(nats)
    return f"{_number(nats)} ({'less than 1%' if nats < 0.005 * whole else f'{nats / whole:.0%}'})"


def _chance(p: float) -> str:
    return "0" if p == 0 else f"{p:.2f}" if p >= 0.005 else f"{p:.2g}"

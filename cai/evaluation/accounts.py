"""The account in words: where every nat between a policy and the two exact answers goes, and its regret beside them.

log Z - ELBO(π) = start nats + Σ action nats + Σ luck nats
ELBO* - ELBO(π) = Σ policy nats
J* - J(π)       = Σ regret, reward units
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cai.errors import ImpossibleError, NotConvergedError

Answer = TypeVar("Answer")

ROUNDING = 1e-9
"""Relative size below which a difference of two exact numbers is rounding."""


@dataclass(frozen=True)
class Ledger:
    """What an account is written from. What is asked for raises where there is no such number, and the reason is told.

    Attributes:
        elbo: ELBO(π), nats.
        expected_return: J(π), reward units.
        best: gives ELBO* of VARIATIONAL, nats.
        promised: gives log Z of POSTERIOR and the start, action and luck nats.
        highest: gives J* of HARD and the regret, reward units.
        one_start: whether there is one start state.
        certain: whether the dynamics are deterministic.
    """

    elbo: float
    expected_return: float
    best: Callable[[], float]
    promised: Callable[[], tuple[float, float, float, float]]
    highest: Callable[[], tuple[float, float]]
    one_start: bool
    certain: bool


def account(of: Ledger) -> str:
    """Say in words, a line a part, where every nat between a policy and the two exact answers goes, and its regret."""
    elbo, star, parts, highest = of.elbo, _asked(of.best), _asked(of.promised), _asked(of.highest)
    lines = [f"ELBO(π) = {nats(elbo)}{': it risks what is forbidden' if elbo == -float('inf') else ''}."]
    if isinstance(parts, str):
        lines.append(f"log Z - ELBO(π), and with it start, action and luck nats, cannot be had: {parts}.")
    else:
        lines += _below_evidence(of, *parts)
    if isinstance(star, str):
        lines.append(f"ELBO* - ELBO(π), and with it the policy nats, cannot be had: {star}.")
    else:
        lines += _below_best(elbo, star)
    if isinstance(highest, str):
        lines.append(f"J* - J(π), the regret, cannot be had: {highest}.")
    else:
        lines.append(_regret(of.expected_return, *highest))
    if not isinstance(parts, str) and not isinstance(star, str):
        lines.append(_moral(elbo, star, parts[0], parts[1]))
    return "\n".join(lines)


def _below_evidence(of: Ledger, log_evidence: float, start: float, action: float, luck: float) -> list[str]:
    gap = _settled(log_evidence - of.elbo, log_evidence)
    start, action, luck = (_settled(part, log_evidence) for part in (start, action, luck))
    no_wish = "there is one start state" if of.one_start else "no other start is wished for"
    sure = ": the dynamics are deterministic" if of.certain else " on this policy's way"
    wish = "KL(p(s_0) ‖ p(s_0|O)), the start that the posterior wishes for, which no policy can change"
    acts = "Σ E KL(π ‖ p(a|s_t, O)), for acting otherwise than the posterior does"
    luckily = "Σ E KL(p(outcome) ‖ p(outcome|O)), the luck that the posterior counts on along this policy's way"
    parts = [
        ("start", start, wish, no_wish),
        ("action", action, acts, "it acts as the posterior does"),
        ("luck", luck, luckily, f"nothing is left to luck{sure}"),
    ]
    return [
        f"log Z - ELBO(π) = {nats(gap)}, from what POSTERIOR promises, log Z = {nats(log_evidence)}, down to it:",
        *(f"  {name} nats: " + (f"{_share(x, gap)}, {why}." if x else f"0, {none}.") for name, x, why, none in parts),
    ]


def _below_best(elbo: float, star: float) -> list[str]:
    gap = _settled(star - elbo, star)
    lost = f"{number(gap)}, Σ E KL(π ‖ π*), for acting otherwise than the best policy does"
    return [
        f"ELBO* - ELBO(π) = {nats(gap)}, from the best that any policy can reach, ELBO* = {nats(star)}, down to it:",
        f"  policy nats: {lost}." if gap else "  policy nats: 0, no policy does better.",
    ]


def _regret(reached: float, highest: float, regret: float) -> str:
    if abs(regret) <= ROUNDING * max(abs(highest), abs(reached)):
        return f"J* - J(π) = 0 reward units, no regret: no policy has a higher return than J* = {number(highest)}."
    lost = "infinitely many" if regret == float("inf") else f"{regret:.3g}"
    own = f"the highest return of any policy is J* = {number(highest)}, its own J(π) = {number(reached)}"
    return f"J* - J(π) = {lost} reward units, the regret: {own}."


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
        return f"No policy can win anything more: the {nats(out)} that remain are out of every policy's reach: {why}."
    return f"A better policy can win {nats(lost)}; {nats(out)} are out of every policy's reach: {why}."


def _asked(ask: Callable[[], Answer]) -> Answer | str:
    try:
        return ask()
    except (ImpossibleError, NotConvergedError) as error:
        return "; ".join(str(error).split("; ")[:2])  # the reason, and the first place or the likely cause


def _settled(value: float, scale: float) -> float:
    return 0.0 if abs(value) <= ROUNDING * max(1.0, abs(scale)) else value


def nats(value: float) -> str:
    """Write an amount of nats."""
    return f"{number(value)} nats"


def number(value: float) -> str:
    """Write a number in three digits."""
    return "infinitely many" if value == float("inf") else f"{value:.3g}"


def _share(part: float, whole: float) -> str:
    """Write a part of a sum, with its share where the sum has shares."""
    if not 0 < whole < float("inf"):
        return number(part)
    return f"{number(part)} ({'less than 1%' if part < 0.005 * whole else f'{part / whole:.0%}'})"

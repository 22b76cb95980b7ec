"""The account in words: the gaps of a policy to log Z and to ELBO* as sums of losses in nats, and its regret.

log Z - ELBO(π) = start nats + Σ action nats + Σ luck nats
ELBO* - ELBO(π) = Σ policy nats
J* - J(π)       = Σ regret, reward units
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

from cai.compile.model import Model, is_finite
from cai.errors import NO_ANSWER, NoClosedFormError
from cai.support.numbers import amount, rounded


def account(evaluation: Any) -> str:
    """Explain the gaps to log Z and to ELBO* and the regret, one line each."""
    earned = f"J(π) = {amount(evaluation.expected_return)}{_error(evaluation, 'expected_return')} reward units."
    return "\n".join(
        [
            f"{_account_of('ELBO(π)', lambda: _elbo(evaluation))} {earned}",
            _account_of("log Z - ELBO(π)", lambda: _evidence(evaluation)),
            _account_of("ELBO* - ELBO(π)", lambda: _best(evaluation)),
            _account_of("J* - J(π)", lambda: _regret(evaluation)),
        ]
    )


def _elbo(evaluation: Any) -> str:
    elbo = evaluation.elbo
    risks = f": {why_infinite(evaluation.model)}" if elbo == -float("inf") else ""
    return f"{amount(elbo)}{_error(evaluation, 'elbo')} nats{risks};"


def _error(evaluation: Any, field: str) -> str:
    """Say how well a number is known that had to be sampled; nothing where it is exact."""
    size = evaluation.standard_error_of(field)
    return f" ± {size:.2g}" if size > 0 and isfinite(size) else ""


def why_infinite(model: Model) -> str:
    """Say what makes a policy's ELBO -inf."""
    if is_finite(model):
        return "it risks a forbidden reward or action"
    return "it is certain where the prior is not, leaves the prior's plane, or does not make the evidence certain"


def _evidence(evaluation: Any) -> str:
    log_z = evaluation.log_evidence
    parts = {name: getattr(evaluation, f"{name}_nats") for name in ("start", "action", "luck")}
    sums = {name: _rounded(float(part if name == "start" else part.sum()), log_z) for name, part in parts.items()}
    words = " + ".join(f"{amount(value)} {name}" for name, value in sums.items())
    gap = f"{amount(_rounded(evaluation.evidence_gap, log_z))}{_error(evaluation, 'evidence_gap')}"
    return f"{gap} nats: {words}. log Z = {amount(log_z)} nats."


def _best(evaluation: Any) -> str:
    star = evaluation.elbo_star
    gap = _rounded(evaluation.optimality_gap, star)
    words = "what a better policy can win" if gap else "no policy does better"
    known = f"{amount(gap)}{_error(evaluation, 'optimality_gap')}"
    return f"{known} nats, the policy nats: {words}. ELBO* = {amount(star)} nats."


def _regret(evaluation: Any) -> str:
    best = evaluation.best_return
    sizes = [abs(value) for value in (best, evaluation.expected_return) if abs(value) < float("inf")]
    regret = rounded(evaluation.regret, max(sizes, default=0.0)) or 0.0
    words = "what a better policy can earn" if regret else "no policy earns more"
    known = f"{amount(regret)}{_error(evaluation, 'regret')}"
    return f"{known} reward units, the regret: {words}. J* = {amount(best)} reward units."


def _rounded(value: float, scale: float) -> float:
    return rounded(value, scale) or 0.0


def _account_of(name: str, say: Callable[[], str]) -> str:
    """Return one line, or the reason why its number is not finite, with the first place or the likely cause."""
    try:
        return f"{name} = {say()}"
    except NoClosedFormError as error:
        return f"{name} is not available: {error}."
    except NO_ANSWER as error:
        return f"{name} has no finite value: {'; '.join(str(error).split('; ')[:2])}."

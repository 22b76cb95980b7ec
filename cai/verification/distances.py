"""How far a learned policy is from an exact answer, in nats an episode; and its return and ELBO, on the tables.

    path KL         Σ_t Σ_s d_t(s) KL(π̂_t(·|s) ‖ π_t(·|s)), without discount: over an episode as the environment runs it
    nats short      ELBO* - ELBO(π̂), with discount; where γ = 1 it is the path KL to the answer of VARIATIONAL

As everywhere in the library a discount is survival, and nobody acts after the end.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.exact.rule_means import is_maximum
from cai.exact.rules import VARIATIONAL
from cai.verification.answer import Answer, answer, right
from cai.verification.episode_visits import as_run, occupancy
from cai.verification.task import Task

TREMBLE = 0.01
"""The chance of any action at all where a policy takes one that an answer never takes: its distance is then finite."""


@dataclass(frozen=True)
class Accounts:
    """What a learned policy is worth on a probe, exactly.

    Attributes:
        expected_return: E[Σ γ^t r_t], reward units.
        elbo: ELBO(π̂), nats; -inf where it takes a forbidden action.
        nats_short: ELBO* - ELBO(π̂), nats.
    """

    expected_return: float
    elbo: float
    nats_short: float


def path_kl(task: Task, log_pi: Float[Tensor, "T S A"], other: Float[Tensor, "*H T S A"]) -> Float[Tensor, "*H"]:
    """Return the path KL of a policy to answers, nats an episode of the environment; a cut episode is one step.

    Under a rule that chooses, all best actions of a state are one: which of them is taken makes no difference. Where
    the policy takes an action that the answer never takes, the answer is read with a ``TREMBLE``.
    """
    p, q = log_pi.exp(), other.exp()
    if is_maximum(task.rule.over_actions):
        q = _alike(p, q, task.log_prior.exp())
    strays = ((q == 0) & (p > 0)).any(-1, keepdim=True)
    q = torch.where(strays, (1 - TREMBLE) * q + TREMBLE / q.shape[-1], q)
    nats = torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(-1)
    return (occupancy(as_run(task), log_pi) * nats).sum((-2, -1)).clamp(min=0.0)  # not below 0 by rounding


def _alike(p: Tensor, q: Tensor, prior: Tensor) -> Tensor:
    """Return, in the rows of q that choose, the policy nearest to p that takes the actions that q takes.

    A row that chooses is the prior among the best actions; one of a soft rule is not, and stays.
    """
    ratio = q / prior.clamp(min=1e-300)
    least = torch.where(q > 0, ratio, torch.inf).amin(-1, keepdim=True)
    chooses = ratio.amax(-1, keepdim=True) <= least * (1 + 1e-9)
    best = torch.where(q > 0, p, 0.0)
    mass = best.sum(-1, keepdim=True)
    return torch.where(chooses & (mass > 0), best / mass.clamp(min=1e-300), q)


def q_distance(task: Task, log_pi: Float[Tensor, "T S A"], q: Float[Tensor, "T S A"], exact: Answer) -> float:
    """Return the root mean square of q - q_exact over the policy's occupancy and the allowed actions, reward units."""
    allowed = (task.log_prior > -torch.inf) & exact.q.isfinite()
    weights = occupancy(as_run(task), log_pi).unsqueeze(-1) * allowed
    square = torch.where(allowed, q - exact.q, 0.0) ** 2
    return float(((weights * square).sum() / weights.sum()).sqrt())


def accounts(task: Task, log_pi: Float[Tensor, "T S A"]) -> Accounts:
    """Return a policy's return, ELBO and nats short."""
    paid, elbo = _return_and_elbo(task, log_pi)
    soft = replace(task, rule=VARIATIONAL)
    _, best = _return_and_elbo(soft, answer(soft, right(soft)).log_pi)
    return Accounts(paid, elbo, best - elbo)


def _return_and_elbo(task: Task, log_pi: Tensor) -> tuple[float, float]:
    """Return E[Σ r] and E[Σ r]/α - E[Σ KL(π ‖ prior)]."""
    visits, p = occupancy(task, log_pi), log_pi.exp()
    reward = torch.where(task.p > 0, task.p * task.r, 0.0).sum(-1)
    paid = float((visits * (p * reward).sum(-1)).sum())
    nats = torch.where(p > 0, p * (log_pi - task.log_prior), 0.0).sum(-1)
    return paid, paid / task.temperature - float(torch.where(visits > 0, visits * nats, 0.0).sum())

"""ELBO(π) of an affine-Gaussian policy on a linear-Gaussian world: a Gaussian pushed forward, in closed form.

ELBO(π) = Σ_t E_π[r/α - (log π - log p(a|s))] + E_π[r_T]/α,        differentiable in the policy and in the world
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic, aligned, stacked
from cai.exact.gaussian.gaussian_operator import GaussianOperator

Policy = Callable[[int], ConditionalGaussian]
"""p(a|s) of each time."""


@dataclass(frozen=True)
class RewardAndPrior:
    """Reward and log prior of every time, ``[T, …]``; ``[1, …]`` where the slices do not differ.

    Attributes:
        reward: E[r|s, a], reward units.
        log_prior: log p(a|s), nats.
    """

    reward: Quadratic
    log_prior: Quadratic


def reward_and_prior(op: GaussianOperator) -> RewardAndPrior:
    """Return the reward and the prior as functions of (s, a)."""
    times = range(op.model.horizon or 1) if op.model.timed else range(1)
    reward, log_prior = ([each(t) for t in times] for each in (op.expected_reward, op.log_prior))
    return RewardAndPrior(stacked(aligned(reward)), stacked(log_prior))


def affine_elbo(op: GaussianOperator, policy: Policy, known: RewardAndPrior) -> Tensor:
    """Return ELBO(π), nats, of one system."""
    joints, log_pi, last = _forward(op, policy)
    elbo = joints.expect(known.reward / op.alpha + known.log_prior - log_pi).sum()
    return elbo if last is None else elbo + last.expect(op.terminal()) / op.alpha


def affine_accounts(op: GaussianOperator, policy: Policy, known: RewardAndPrior) -> tuple[float, float, float]:
    """Return E Σ r, reward units, and E Σ KL(π ‖ prior) and E Σ H(π), nats; both of densities."""
    joints, log_pi, last = _forward(op, policy)
    value, kl = joints.expect(known.reward).sum(), joints.expect(log_pi - known.log_prior).sum()
    value = value if last is None else value + last.expect(op.terminal())
    return float(value), float(kl), -float(joints.expect(log_pi).sum())


def _forward(op: GaussianOperator, policy: Policy) -> tuple[Gaussian, Quadratic, Gaussian | None]:
    """Return p(s_t, a_t) and log π of every time, and p(s_T); for the infinite horizon one row, summed over all."""
    T = op.model.horizon
    acts = [policy(t) for t in range(T or 1)]
    log_pi = stacked(acts).log_density()
    if T is None:
        return stacked([op.joint(op.visits(acts[0]), acts[0])]), log_pi, None
    mu, joints = op.initial(), []
    for t, act in enumerate(acts):
        joints.append(op.joint(mu, act))
        mu = op.push(t, joints[-1])
    return stacked(joints), log_pi, mu

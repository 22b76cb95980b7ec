"""pytorch-mppi as users run it, by its distance to the exact posterior in nats, beside our plan and the best policy.

The world is linear-Gaussian and starts in a known state. MPPI keeps a plan U and draws actions from N(U, Σ), where Σ is
``noise_sigma``: an open-loop Gaussian policy, whose KL to the posterior ``cai.evaluate`` has in closed form. Σ is the
covariance of the action prior: that is what the control cost λ U'Σ⁻¹ε of pytorch-mppi stands for.
"""

from importlib.util import find_spec
from statistics import mean, stdev
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Delta
from torch import Tensor

import cai

T, SAMPLES, MOVES, SEEDS = 10, 1000, 10, range(10)


def known_start() -> Any:
    """Return a random system that starts in (1, -1)."""
    world = cai.load_world("lqg", {"states": 2, "actions": 1, "horizon": T})
    at = torch.tensor([1.0, -1.0], dtype=torch.float64)
    world.initial = lambda: pyro.sample("state", Delta(at, event_dim=1))
    return world


def gap(model: Any, plan: Tensor, covariance: Tensor, alpha: float) -> float:
    """Return the KL of the trajectories of a ~ N(plan_t, covariance) to the posterior, nats."""
    policy = (plan.new_zeros(T, 1, 2), plan, covariance.expand(T, 1, 1))
    return float(cai.evaluate(model, policy, temperature=alpha).evidence_gap)


def by_mppi(world: Any, alpha: float, seed: int, noisy: bool) -> Tensor:
    """Return the plan of pytorch-mppi after some moves, on the system with its noise or without; it pays at s'."""
    from pytorch_mppi import MPPI

    def dynamics(s: Tensor, a: Tensor) -> Tensor:
        following = s @ world.A.mT + a @ world.B.mT
        return following + torch.randn_like(s) @ world.W_root.mT if noisy else following

    def cost(s: Tensor, a: Tensor) -> Tensor:
        return 0.5 * (s @ world.C.mT).square().sum(-1) + 0.5 * a.square().sum(-1)

    torch.manual_seed(seed)
    one = torch.eye(1, dtype=torch.float64)
    control = MPPI(dynamics, cost, 2, one, num_samples=SAMPLES, horizon=T, lambda_=alpha)
    for _ in range(MOVES):
        control.command(torch.tensor([1.0, -1.0], dtype=torch.float64), shift_nominal_trajectory=False)
    plan: Tensor = control.get_action_sequence()
    return plan


def by_cai(world: Any, alpha: float, seed: int) -> Tensor:
    """Return our plan after as many moves of as many samples."""
    run = cai.approximate(
        world, "path_integral", temperature=alpha, seed=seed, samples=SAMPLES, iterations=MOVES, progress=False
    )
    plan: Tensor = run.guess.mean
    return plan


@pytest.mark.skipif(find_spec("pytorch_mppi") is None, reason="pytorch-mppi is not installed")
@pytest.mark.parametrize("alpha", [10.0, 1.0, 0.1])
def test_its_plan_is_as_far_as_ours(alpha: float) -> None:
    """Within four standard errors over the seeds; the best policy is nearer, and U without noise infinitely far."""
    world, one = known_start(), torch.eye(1, dtype=torch.float64)
    model = cai.linearise(world)
    best = float(cai.evaluate(model, cai.VARIATIONAL, temperature=alpha).evidence_gap)
    plans = {
        "pytorch-mppi, noisy dynamics": [by_mppi(world, alpha, seed, noisy=True) for seed in SEEDS],
        "pytorch-mppi, mean dynamics": [by_mppi(world, alpha, seed, noisy=False) for seed in SEEDS],
        "cai's path_integral": [by_cai(world, alpha, seed) for seed in SEEDS],
    }
    found = {name: [gap(model, plan, one, alpha) for plan in each] for name, each in plans.items()}
    print(f"\nα = {alpha:g}: the best policy {best:.3f} nats from the posterior")
    for name, nats in found.items():
        print(f"{name}: {mean(nats):.3f} ± {stdev(nats) / len(nats) ** 0.5:.3f} nats")
    theirs, ours = found["pytorch-mppi, noisy dynamics"], found["cai's path_integral"]
    error = ((stdev(theirs) ** 2 + stdev(ours) ** 2) / len(ours)) ** 0.5
    assert abs(mean(theirs) - mean(ours)) < 4 * error
    assert all(best < nats for each in found.values() for nats in each)
    assert gap(model, plans["pytorch-mppi, noisy dynamics"][0], 0 * one, alpha) == torch.inf

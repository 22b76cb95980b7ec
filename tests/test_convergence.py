"""Learners from samples come to the exact answer: 10 of 10 seeds, within a stated number of environment steps."""

from typing import Any

import pytest

import cai

SEEDS = range(10)
LAKE = {"id": "FrozenLake-v1", "horizon": 100}
CLIFF = {"id": "CliffWalking-v1", "horizon": 100}


def made(world: dict[str, Any]) -> Any:
    return cai.from_gymnasium(world["id"], horizon=world["horizon"])


@pytest.mark.parametrize(
    ("world", "alpha", "steps", "batch"),
    [
        (LAKE, 0.1, 2_500_000, 4000),
        (LAKE, 0.01, 1_000_000, 1000),
        (CLIFF, 1.0, 500_000, 200),
        (CLIFF, 0.1, 500_000, 100),
    ],
    ids=["lake, 0.1", "lake, 0.01", "cliff, 1", "cliff, 0.1"],
)
def test_soft_q_learning_comes_within_one_percent(world: dict[str, Any], alpha: float, steps: int, batch: int) -> None:
    settings: dict[str, Any] = {"temperature": alpha, "steps": steps, "batch": batch, "evaluations": 4}
    runs = cai.learn.many("soft_q", made(world), seeds=SEEDS, progress=False, **settings)
    to_gain = cai.evaluate(made(world), None, temperature=alpha).optimality_gap  # ELBO* - ELBO(prior)
    shares = [run.history[-1].policy_nats / to_gain for run in runs]
    assert max(shares) < 0.01, shares


@pytest.mark.parametrize(
    ("world", "steps", "batch"), [(LAKE, 500_000, 500), (CLIFF, 500_000, 100)], ids=["lake", "cliff"]
)
def test_q_learning_comes_to_the_hard_optimum(world: dict[str, Any], steps: int, batch: int) -> None:
    runs = cai.learn.many("q", made(world), seeds=SEEDS, steps=steps, batch=batch, evaluations=4, progress=False)
    best = float(cai.solve(made(world), cai.HARD).value)
    assert min(run.history[-1].stochastic_return for run in runs) > best - 0.01 * abs(best)


def test_soft_fitted_q_comes_within_one_percent_from_a_fixed_batch() -> None:
    runs = cai.learn.many("soft_fitted_q", made(CLIFF), seeds=SEEDS, steps=100_000, temperature=1.0, progress=False)
    to_gain = cai.evaluate(made(CLIFF), None, temperature=1.0).optimality_gap
    assert max(run.history[-1].policy_nats / to_gain for run in runs) < 0.01

"""Learners from samples come to the exact answer: 10 of 10 seeds, within a stated number of environment steps.

Each case learns in a process of its own, where no type checker stands in the hot loops. The longest, FrozenLake at
α = 0.1, is in ``tests/benchmarks/test_convergence.py``; here it has three seeds.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

import cai

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
LAKE, CLIFF = "FrozenLake-v1", "CliffWalking-v1"
LEARN = """
import json, sys, torch, cai
torch.set_num_threads(1)
given = json.loads(sys.argv[1])
world = cai.from_gymnasium(given.pop("id"), horizon=100)
runs = cai.learn.many(given.pop("learner"), world, seeds=range(given.pop("seeds")), progress=False, **given)
print(json.dumps([[run.history[-1].policy_nats, run.history[-1].stochastic_return] for run in runs]))
"""


def learned(**given: Any) -> list[list[float]]:
    """Return the policy nats and the return of each seed's final policy."""
    words = [sys.executable, "-c", LEARN, json.dumps({"seeds": 10, "evaluations": 4, **given})]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)})
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("world", "alpha", "steps", "batch", "seeds"),
    [
        (LAKE, 0.1, 2_500_000, 4000, 3),
        (LAKE, 0.01, 1_000_000, 1000, 10),
        (CLIFF, 1.0, 200_000, 200, 10),
        (CLIFF, 0.1, 200_000, 100, 10),
    ],
)
def test_soft_q_learning_comes_within_one_percent(world: str, alpha: float, steps: int, batch: int, seeds: int) -> None:
    found = learned(learner="soft_q_learning", id=world, temperature=alpha, steps=steps, batch=batch, seeds=seeds)
    to_gain = cai.evaluate(cai.from_gymnasium(world, horizon=100), None, temperature=alpha).optimality_gap
    assert len(found) == seeds
    assert max(nats / to_gain for nats, _ in found) < 0.01


@pytest.mark.parametrize(
    ("world", "alpha", "steps", "batch", "seeds"),
    [
        (LAKE, 0.1, 1_000_000, 1000, 3),
        (LAKE, 0.01, 400_000, 100, 4),
        (CLIFF, 1.0, 40_000, 100, 10),
        (CLIFF, 0.1, 40_000, 100, 10),
    ],
)
def test_the_soft_policy_gradient_comes_within_one_percent_in_fewer_steps(
    world: str, alpha: float, steps: int, batch: int, seeds: int
) -> None:
    found = learned(learner="soft_reinforce", id=world, temperature=alpha, steps=steps, batch=batch, seeds=seeds)
    to_gain = cai.evaluate(cai.from_gymnasium(world, horizon=100), None, temperature=alpha).optimality_gap
    assert len(found) == seeds
    assert max(nats / to_gain for nats, _ in found) < 0.01


@pytest.mark.parametrize(("world", "steps", "batch"), [(LAKE, 1_000_000, 500), (CLIFF, 200_000, 100)])
def test_q_learning_comes_to_the_hard_optimum(world: str, steps: int, batch: int) -> None:
    found = learned(learner="q_learning", id=world, steps=steps, batch=batch)
    best = float(cai.solve(cai.from_gymnasium(world, horizon=100), cai.HARD).value)
    assert min(value for _, value in found) > best - 0.01 * abs(best)


@pytest.mark.parametrize("algorithm", ["reinforce", "fitted_q"])
def test_a_preset_on_the_lake_comes_to_the_best_policy_without_time(algorithm: str) -> None:
    """In Gymnasium's own environment, the time of whose limit is not seen."""
    asked = {"evaluations": 1, "progress": False, **cai.learn.preset(algorithm, LAKE)}
    found = getattr(cai.learn, algorithm)(LAKE, seed=0, **asked)
    world, endless = (cai.from_gymnasium(LAKE, horizon=T) for T in (100, 1000))

    def earns(pi: torch.Tensor) -> float:
        return float(cai.evaluate(world, pi.expand(100, 17, 4)).expected_return)

    best = one_hot(cai.solve(endless, cai.HARD).q(0).argmax(-1), 4).double()
    ended = torch.full((1, 4), 0.25, dtype=torch.float64)
    learned_pi = torch.cat([found.policy.log_pi(torch.arange(16), 0).exp().double(), ended])
    assert earns(learned_pi) > 0.995 * earns(best)


def test_soft_fitted_q_comes_within_one_percent_from_a_fixed_batch() -> None:
    found = learned(learner="soft_fitted_q", id=CLIFF, temperature=1.0, steps=100_000)
    to_gain = cai.evaluate(cai.from_gymnasium(CLIFF, horizon=100), None, temperature=1.0).optimality_gap
    assert max(nats / to_gain for nats, _ in found) < 0.01

"""Roll-outs in the real environment agree with the exact expected return."""

from bisect import bisect
from itertools import repeat

import gymnasium
import numpy as np
import pytest

import cai
from tests.helpers import load_model, slow_after

T, N, ALPHA = 100, 5_000, 0.1


@pytest.fixture(scope="module")
def lake() -> cai.Tables:
    return cai.tabulate(load_model("frozen_lake")("8x8", horizon=T))


def play(policy: cai.Policy, seed: int) -> float:
    """Return the mean return of N episodes of at most T steps, by Gymnasium's own ``reset`` and ``step``."""
    env = gymnasium.make("FrozenLake-v1", map_name="8x8").unwrapped
    env.reset(seed=seed)
    uniform = np.random.default_rng(seed)
    # Cumulative tables without their last entry, 1: bisect inverts them without a rounding error at the top.
    thresholds = [policy.probs(t).cumsum(-1)[:, :-1].tolist() for t in range(T)]
    total = 0.0
    for _ in repeat(None, N):
        state, _ = env.reset()
        for table, u in zip(thresholds, uniform.random(T).tolist(), strict=True):
            state, reward, terminated, _, _ = env.step(bisect(table[state], u))
            total += reward
            if terminated:
                break
    return total / N


RETURNS = (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.RISK(-0.5))


@pytest.mark.parametrize("rule", slow_after(1, RETURNS), ids=str)
def test_rollouts_agree_with_the_exact_return(lake: cai.Tables, rule: cai.Rule) -> None:
    """5,000 episodes, 4 standard errors; a return is 0 or 1, so its exact mean gives its exact deviation."""
    policy = cai.solve(lake, rule, temperature=ALPHA).policy
    exact = cai.evaluate(lake, policy, temperature=ALPHA).expected_return
    assert abs(play(policy, seed=0) - exact) <= 4 * (exact * (1 - exact) / N) ** 0.5

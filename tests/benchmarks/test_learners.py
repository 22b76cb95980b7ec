"""Learners side by side: CPU seconds to a threshold, and whether it is held; BENCH_SEEDS says how many seeds each."""

import math
import os
import time

import gymnasium
import pytest
import torch

import cai
from cai.simulate.rollout import rollout
from tests.benchmarks.conftest import CURVES, SPEEDS
from tests.benchmarks.curves import THRESHOLDS
from tests.benchmarks.learners import LEARNERS

SEEDS = int(os.environ.get("BENCH_SEEDS", "3"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # CPU seconds of threads that wait for each other would count twice


@pytest.mark.parametrize("name", LEARNERS)
def test_learner(name: str) -> None:
    learner = LEARNERS[name]
    for needed in ("stable_baselines3",) * ("(SB3)" in name) + ("Box2D",) * (learner.task == "LunarLander-v3"):
        pytest.importorskip(needed, reason="the extra [bench] is not installed")
    curves = [learner.run(learner.first + n) for n in range(SEEDS)]
    CURVES.append({"name": name, "task": learner.task, "curves": curves})
    staying = [curve.settled(THRESHOLDS[learner.task]) is not None for curve in curves]
    assert sum(staying) >= math.floor(0.9 * SEEDS) or not learner.holds


def test_rollouts_on_frozen_lake() -> None:
    """Steps of slippery FrozenLake 8x8 under the prior: ten thousand copies at once, and one after the other."""
    world = cai.from_gymnasium("FrozenLake-v1", horizon=200, map_name="8x8")
    rollout(world, batch=10)  # what is compiled once
    began = time.process_time()
    steps = rollout(world, batch=10_000).steps
    ours = steps / (time.process_time() - began)
    env = gymnasium.make("FrozenLake-v1", map_name="8x8")
    env.reset(seed=0)
    env.action_space.seed(0)
    began, n = time.process_time(), 50_000
    for _ in range(n):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    plain = n / (time.process_time() - began)
    SPEEDS.append({"cai": ours, "loop": plain})
    assert steps > 10_000
    assert ours > plain

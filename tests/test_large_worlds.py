"""The benchmark of large worlds steps pyRDDLGym's simulator as the world steps: state by state, action by action."""

from typing import Any

import numpy as np
import pyro
import pytest
import torch

import cai

pytest.importorskip("pyRDDLGym")
pytest.importorskip("rddlrepository.core.manager")
from cai.approximation import Bounds
from tests.benchmarks.ippc import Runs, settings
from tests.benchmarks.large_worlds import kept

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]  # pyRDDLGym's simulator takes its time


def test_settings_of_an_action() -> None:
    assert settings("noop") == {}
    assert settings("a(x) + not b + move(c)=2") == {"a(x)": 1, "b": 0, "move(c)": 2}


def test_actions_that_are_objects_reach_the_simulator() -> None:
    """Every joint action of Intruders: the cameras' next cells, the reward, and the intruders' cells on average."""
    world: Any = cai.from_rddl("Intruders_Discrete", 0)
    runs, n = Runs("Intruders_Discrete", "0"), 12
    rng, start = np.random.default_rng(0), world.initial()
    who = sorted({name.rsplit(",x", 1)[0] for name in start})
    moved = np.zeros(5)
    for action, name in enumerate(world.action_names):
        state = dict.fromkeys(start, 0)
        for one in who:
            state[f"{one},x{rng.integers(1, 5)},y{rng.integers(1, 5)})"] = 1
        state |= {key: int("x2,y2" in key) for key in state if key.startswith("intruder-at(i1")}
        moves = {f"move-intruder(i{i})": torch.arange(5) for i in (1, 2, 3)}
        batch = {key: torch.tensor(value).expand(5) for key, value in state.items()}
        after, reward = pyro.poutine.condition(world.step, data=moves)(batch, torch.tensor(action).expand(5), 0)
        for _ in range(n):
            found, paid = runs.step(state, name)
            assert paid == float(reward.expand(5)[0])
            assert {key: value for key, value in found.items() if key.startswith("camera")} == {
                key: int(value.expand(5)[0]) for key, value in after.items() if key.startswith("camera")
            }
            mine = [key for key in state if key.startswith("intruder-at(i1")]
            hits = [all(found[key] == int(after[key][d]) for key in mine) for d in range(5)]
            assert sum(hits) == 1  # from the inside of the grid every direction leads elsewhere
            moved += hits
    each = len(world.action_names) * n / 5
    assert np.all(np.abs(moved - each) < 4 * np.sqrt(each * 0.8))


def test_runs_agree_with_the_sampled_elbo() -> None:
    """The mean of return/α - KL of 300 runs of a policy in the simulator, against its ELBO, within four errors."""
    world: Any = cai.from_rddl("Intruders_Discrete", 0, horizon=15)
    found = Bounds(minutes=None, steps=3).run(cai.factorise(world), 0.1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        nats = kept(world, found.policy, "Intruders_Discrete", "0", 0.1)
    error = np.hypot(nats.std(ddof=1) / len(nats) ** 0.5, found.elbo.standard_error)
    assert abs(nats.mean() - found.elbo.value) < 4 * error

"""PPO: it goes on where it stopped, takes continuous actions and endless worlds, and learns CartPole and FrozenLake."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cai
from cai.bridges.named import load_world
from cai.learn.algorithms.policy_gradient import PolicyGradient
from cai.learn.experience import next_steps, same_starts
from cai.learn.policy_search import PolicySearch
from cai.learn.training import first, problem_of
from cai.simulate.simulator import drawing, seeded
from tests.worlds import RandomWorld

QUIET: dict[str, Any] = {"progress": False, "evaluations": 1}
OBJECTIVE = cai.KLObjective(where="reward", baseline="value", length="batch", clip=0.2)


def world(**changed: Any) -> RandomWorld:
    return RandomWorld(**{"seed": 3, "S": 3, "A": 2, "K": 2, "horizon": 4, "holes": False, **changed})


def test_the_next_steps_go_on_from_where_the_copies_are() -> None:
    one = PolicySearch(PolicyGradient(OBJECTIVE, batch=5, length=3))
    problem = problem_of(one, world(), 0.5, None)
    state = first(one, problem, 0)
    actor = one.actor(problem)
    env_state = state.env_state
    times = []
    for _ in range(4):
        env_state, seen = next_steps(actor, state.values["theta"], env_state, 3)
        times += seen.times[:, 0].tolist()
        assert torch.equal(seen.worthless, seen.times == 3)  # nothing is paid after the horizon
        assert torch.equal(seen.going, seen.times != 3)
        assert seen.steps == 15
        assert torch.equal(seen.states[1:][seen.going[:-1]], seen.next_states[:-1][seen.going[:-1]])
    assert times == [0, 1, 2, 3] * 3


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "batch": 4, "length": 3, "steps": 120, **QUIET}
    whole = cai.learn.ppo(world(), **asked)
    stop = {"watch": lambda updates, metrics, policy: updates == 4}
    cai.learn.ppo(world(), **asked, **stop, checkpoint=tmp_path / "one")
    again = cai.learn.ppo(world(), **asked, checkpoint=tmp_path / "one")
    assert torch.equal(whole.policy.log_probs(1), again.policy.log_probs(1))


def test_ppo_takes_continuous_actions() -> None:
    pendulum = load_world("pendulum")
    found = cai.learn.ppo(pendulum, temperature=1.0, kl="k2", where="loss", steps=32, length=8, episodes=1, **QUIET)
    assert found.updates == 1
    assert found.history[-1].stochastic_return is not None
    with pytest.raises(cai.WorldError, match="'full' over continuous actions; expected finitely many"):
        cai.learn.ppo(pendulum, temperature=1.0, kl="full", steps=20, episodes=1, **QUIET)


def test_ppo_takes_a_world_without_an_end() -> None:
    endless = world(horizon=None, discount=0.9)
    found = cai.learn.ppo(endless, temperature=1.0, steps=8_000, batch=16, epochs=4, lam=1.0, **QUIET)
    assert found.gap < 0.1 * found.history[0].policy_nats


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"clip": None}, "ppo, epochs: 10 and minibatches = 4 without clip; expected 1; or clip=0.2"),
        ({"lam": 1.5}, "ppo, lam: 1.5; expected a finite number from 0 to 1"),
        ({"length": 0}, "ppo, length: 0; expected a whole number, at least 1"),
        ({"where": "loss"}, "ppo, where: 'loss' without a temperature, the weight of the KL"),
        ({"kl": "k4"}, "KL objective, kl: 'k4'; expected one of k1"),
    ],
)
def test_what_ppo_refuses(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.learn.ppo(world(), steps=10, **{**QUIET, **asked})


def test_a_group_starts_in_the_same_state() -> None:
    one = PolicySearch(PolicyGradient(replace(OBJECTIVE, baseline="leave_one_out", group=4), batch=400))
    problem = problem_of(one, world(), 0.5, None)
    with drawing(seeded(0)):
        starts = same_starts(problem.simulator, 4).state.reshape(100, 4)
    assert bool((starts == starts[:, :1]).all())
    assert len(starts[:, 0].unique()) > 1


@pytest.mark.slow
def test_ppo_holds_the_pole() -> None:
    found = cai.learn.ppo("CartPole-v1", steps=100_000, target=475, evaluations=20, progress=False)
    assert found.stopped == "target"


@pytest.mark.slow
def test_ppo_crosses_the_frozen_lake() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=100)
    asked: dict[str, Any] = {"batch": 32, "epochs": 4, "stationary": True, "steps": 200_000, **QUIET}
    found = cai.learn.ppo(lake, **asked)
    best = float(cai.solve(lake, cai.HARD).value)
    assert found.history[-1].deterministic_return > 0.97 * best

"""Trainers: learners as cai.verify takes them, and learners with one line wrong, which are caught and named."""

import random
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

import cai
from cai.verification import PROBES, environment_of
from cai.verification.diagnosis import RIGHT
from cai.verification.trainers.own import LACKS
from tests.mutants import CORNER, MUTANTS, OF_PPO, Mutant

QUICK = {"later entropy missing": "entropy-to-go", "truncation ends": "truncation"}

NEAR = {"best action", "prior not normalised"}
"""Mistakes that are told from those of PPO's mutants on their own probes alone."""
OF_MUTANTS = [probe.name for probe in PROBES.values() if probe.catches in {one.plants for one in OF_PPO} | NEAR]
"""The probes that are made for the mistakes which are planted in PPO, or near: all of them take it too long."""


def found(mutant: Mutant, probes: list[str] | None, seeds: int) -> Any:
    return cai.verify(mutant.train, probes=probes, seeds=seeds, progress=False)


@pytest.mark.parametrize("plants", QUICK)
def test_a_mutant_is_caught_and_learns_its_own_fixed_point(plants: str) -> None:
    mutant = next(one for one in MUTANTS if one.plants == plants)
    seen = found(mutant, [QUICK[plants]], 2)[QUICK[plants]]
    assert seen.verdict == "fail"
    assert plants in seen.causes
    assert seen.distances[plants].value < 0.01 * seen.distances[RIGHT].value


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_is_named_over_all_probes_and_learns_its_own_fixed_points(mutant: Mutant) -> None:
    seen = found(mutant, OF_MUTANTS if mutant in OF_PPO else None, 5)
    if mutant.plants == "seeds":
        assert seen["seeds"].verdict == "fail"
        return
    assert seen.failed
    assert seen.cause[:1] == (mutant.plants,)
    for one in seen.verdicts:
        if one.verdict == "fail" and mutant.plants in one.distances:
            assert one.distances[mutant.plants].value < one.distances[RIGHT].value / 4, one.probe


def test_an_ascent_with_the_wrong_sign_of_entropy_is_caught_in_a_corner() -> None:
    seen = found(CORNER, ["temperature"], 2)["temperature"]
    assert seen.verdict == "fail"
    assert seen.distances["no entropy"].value < 0.02 < seen.distances[RIGHT].value / 4


@pytest.mark.slow
@pytest.mark.parametrize("on", ["world", "environment"])
def test_a_sound_learner_raises_no_alarm(on: Any) -> None:
    seen = cai.verify(cai.trainers.own("soft_q_learning", on=on), seeds=20, progress=False)
    alarms = [one.probe for one in seen.verdicts if one.verdict not in ("pass", "left out")]
    assert len(alarms) <= 0.02 * len(seen.verdicts), alarms


def test_a_learner_learns_on_a_world_and_on_an_environment() -> None:
    for on, probe in (("world", "prior"), ("environment", "entropy")):
        learner = cai.trainers.own("soft_q_learning", on=on)
        seen = cai.verify(learner, probes=[probe, "masks"], seeds=2, progress=False)
        assert seen[probe].verdict == "pass"
        assert seen["masks"].verdict == ("pass" if on == "world" else "left out")
    hard = cai.trainers.own("q_learning", steps=1000)
    assert cai.verify(hard, rule=cai.HARD, probes=["discount"], seeds=2, progress=False).passed


@pytest.mark.parametrize("name", ["reinforce", "ppo", "sac", "fitted_q", "rloo", "certainty_equivalence"])
def test_each_learner_comes_to_the_right_answer(name: str) -> None:
    seen = cai.verify(cai.trainers.own(f"soft_{name}"), probes=["transition"], seeds=2, progress=False)
    assert seen.passed, seen.summary


def test_ppo_learns_on_an_environment() -> None:
    learner = cai.trainers.own("soft_ppo", on="environment", steps=12_000)
    assert cai.verify(learner, probes=["truncation"], seeds=2, progress=False).passed


def test_reinforce_follows_the_natural_gradient_unless_it_is_told_not_to() -> None:
    env = environment_of(PROBES["luck"])
    table, textbook = (cai.trainers.own("soft_reinforce", **given)(env, 0).policy for given in ({}, {"natural": False}))
    torch.testing.assert_close(table, textbook, rtol=0, atol=0.05)
    assert not torch.equal(table, textbook)


def test_a_trainer_says_what_its_learner_does_not_know() -> None:
    assert set(LACKS) <= set(cai.learn.__all__)
    assert cai.trainers.own("soft_sac").without == {"time"}
    assert cai.trainers.own("ppo", on="environment").without == {"prior", "masks"}
    seen = cai.verify(cai.trainers.own("reinforce"), probes=["truncation"], seeds=1, progress=False)
    assert seen["truncation"].verdict == "left out"


def test_a_module_is_read_by_what_it_has() -> None:
    log_pi = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log()

    class Agent(nn.Module):
        def get_action_and_value(self, x: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, ...]:
            rows = torch.distributions.Categorical(logits=x @ log_pi)
            return action, rows.log_prob(action), rows.entropy(), x.sum(-1)

    class Actor(nn.Module):
        def actor(self, x: torch.Tensor) -> torch.Tensor:
            return x @ log_pi

    class Critic(nn.Module):
        def q_network(self, x: torch.Tensor) -> torch.Tensor:
            return x @ log_pi

    env = environment_of(PROBES["luck"])
    expected = {"logits": log_pi[0], "q values": log_pi[0]}
    for module in (Agent(), Actor(), Critic()):
        read = cai.trainers.torch_module(lambda env, seed, module=module: module)(env, 0)
        row = read.policy(env.reset(seed=0)[0])
        torch.testing.assert_close(row.reshape(2).double(), expected[read.kind].double())
    linear = nn.Linear(2, 2)
    read = cai.trainers.torch_module(lambda env, seed: linear, reads="q")(env, 0)
    assert read.kind == "q values"


def test_scripts_see_vectors() -> None:
    shapes = []

    def script(env: gymnasium.Env[Any, Any], seed: int) -> nn.Module:
        shapes.append(env.observation_space.shape)
        return nn.Linear(*env.observation_space.shape, env.action_space.n)  # type: ignore[misc,attr-defined]

    for probe in ("luck", "time"):
        cai.trainers.torch_module(script)(environment_of(PROBES[probe]), 0)
    assert shapes == [(2,), (2 + 4,)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cai.trainers.own("dpo"), "a learner of other worlds"),
        (lambda: cai.trainers.own("soft_q_lerning"), "did you mean soft_q_learning"),
        (lambda: cai.trainers.own("sac"), "a temperature that it learns"),
        (lambda: cai.trainers.own("q_learning", on="here"), "'world' or 'environment'"),
        (lambda: cai.trainers.own("grpo", on="environment"), "an environment for q_learning, ppo, sac, reinforce"),
        (lambda: cai.trainers.stable_baselines("SAC"), "continuous actions only"),
        (lambda: cai.trainers.stable_baselines("Dreamer"), "one of PPO, A2C, MaskablePPO, DQN, QRDQN"),
        (lambda: cai.trainers.stable_baselines("DQN")(environment_of(PROBES["luck"]), 0), "rule=cai.HARD"),
        (lambda: cai.trainers.torch_module(nn.Linear, reads="v"), "'logits' or 'q'"),
        (lambda: cai.trainers.torch_module(lambda env, seed: None)(environment_of(PROBES["luck"]), 0), "Module"),
    ],
)
def test_what_cannot_be_verified_is_said_in_a_line(call: Any, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_stable_baselines_puts_the_global_generators_back() -> None:
    pytest.importorskip("stable_baselines3", reason="the extra [sb3] is not installed")
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index,union-attr]
    short = cai.trainers.stable_baselines("A2C", steps=64, copies=2)
    short(environment_of(PROBES["luck"]), 0)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index,union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["DQN", "QRDQN", "PPO", "MaskablePPO", "A2C"])
def test_stable_baselines_learns_returns(kind: str) -> None:
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    assert cai.verify(
        cai.trainers.stable_baselines(kind), rule=cai.HARD, probes=["discount"], seeds=3, progress=False
    ).passed


def test_a_torchrl_module_is_read_by_what_it_writes() -> None:
    tensordict = pytest.importorskip("tensordict", reason="the extra [torchrl] is not installed")
    module = tensordict.nn.TensorDictModule
    env, layer = environment_of(PROBES["luck"]), nn.Linear(2, 2)
    expected = layer(torch.tensor([[1.0, 0.0]]))
    for key, kind in (("action_value", "q values"), ("logits", "logits"), ("probs", "probabilities")):
        made = module(layer, in_keys=["observation"], out_keys=[key])
        read = cai.trainers.torchrl(lambda env, seed, made=made: made)(env, 0)
        assert read.kind == kind
        torch.testing.assert_close(read.policy(0), expected)
    other = module(layer, in_keys=["observation"], out_keys=["value"])
    with pytest.raises(cai.WorldError, match="one of action_value"):
        cai.trainers.torchrl(lambda env, seed: other)(env, 0)

"""RLOO, GRPO, DPO, IPO and trajectory balance as a whole: what they reach, and what they refuse."""

from typing import Any

import pytest
import torch

import cai
from cai.learn.names import forms, learner_of, with_kl
from tests.worlds import RandomWorld

QUIET: dict[str, Any] = {"progress": False, "evaluations": 1, "stationary": False}


class Certain(RandomWorld):
    """A deterministic random world."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(**{"seed": 4, "S": 3, "A": 2, "K": 1, "horizon": 3, "holes": False, **changed})


def test_trajectory_balance_knows_log_z() -> None:
    world = Certain()
    found = cai.learn.trajectory_balance(world, temperature=0.5, steps=30_000, batch=50, lr=0.1, **QUIET)
    assert found.gap < 1e-4
    assert found.history[-1].metrics["log_z"] == pytest.approx(found.elbo_star, abs=0.2)  # of the last batch's starts
    assert found.history[-1].metrics["loss"] < 1e-3


@pytest.mark.slow
def test_dpo_reaches_the_posterior_and_ipo_another_policy() -> None:
    # Azar et al. 2024: π ∝ p exp(E[P(τ ≻ τ')]/β), τ' from the prior: here over two actions and one step.
    world = Certain(horizon=1)
    asked: dict[str, Any] = {"temperature": 0.5, "steps": 150_000, "batch": 200, "lr": 0.05, **QUIET}
    assert cai.learn.dpo(world, **asked).gap < 1e-3
    found = cai.learn.ipo(world, **asked).policy.log_probs(0)
    returns = world.reward[0, :, :, 0] + world.last[world.successor[0, :, :, 0]]
    prior = world.prior[0]
    preferred = (returns.unsqueeze(-1) - returns.unsqueeze(-2)).sigmoid()
    expected = (prior.log() + (preferred * prior.unsqueeze(-2)).sum(-1) / 0.5).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("learn", [cai.learn.dpo, cai.learn.ipo, cai.learn.trajectory_balance])
def test_whole_trajectories_need_a_certain_world(learn: Any) -> None:
    with pytest.raises(cai.WorldError, match="dynamics that are not certain; expected a deterministic world"):
        learn(Certain(K=2), temperature=1.0, steps=10, **QUIET)
    with pytest.raises(cai.WorldError, match=r"discount: 0\.9; expected 1"):
        learn(Certain(discount=0.9), temperature=1.0, steps=10, **QUIET)
    with pytest.raises(cai.WorldError, match="temperature: None; expected α > 0"):
        learn(Certain(), temperature=None, steps=10, **QUIET)


@pytest.mark.parametrize(
    ("learn", "asked", "words"),
    [
        (cai.learn.rloo, {"group": 3}, "rloo, batch: 100; expected whole groups of 3"),
        (cai.learn.grpo, {"group": 1}, "KL objective, group: 1; expected a number of texts, at least 2"),
        (cai.learn.grpo, {"objective": "gspo"}, "KL objective: 'gspo'; expected one of"),
        (
            cai.learn.grpo,
            {"temperature": None, "kl": "k3"},
            "grpo, kl: 'k3' without a temperature, the weight of the KL; expected temperature=…",
        ),
        (cai.learn.dpo, {"batch": 7}, "dpo, batch: 7; expected a multiple of 2, at least 2"),
        (cai.learn.dpo, {"judge": 0.0}, "dpo, judge: 0.0; expected a number above 0"),
        (cai.learn.ipo, {"average": 2.0}, "ipo, average: 2.0; expected a finite number from 0 to 1"),
        (cai.learn.ipo, {"avrage": 0.5}, "ipo: no option avrage; .*; did you mean average"),
    ],
)
def test_what_they_refuse(learn: Any, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        learn(Certain(), **{"temperature": 1.0, "steps": 10, **QUIET, **asked})


def test_an_environment_with_several_starts_has_no_groups() -> None:
    with pytest.raises(cai.WorldError, match="an environment with several start states"):
        cai.learn.rloo("CartPole-v1", steps=10, progress=False)
    found = cai.learn.rloo("FrozenLake-v1", batch=8, steps=50, evaluations=1, episodes=2, progress=False)
    assert found.algorithm == "rloo"


def test_names_say_which_learners_are_soft() -> None:
    known = forms()
    assert {"grpo", "soft_grpo", "soft_rloo", "ppo", "dpo", "ipo", "trajectory_balance"} <= set(known)
    assert not {"soft_dpo", "soft_ipo", "soft_trajectory_balance"} & set(known)
    with pytest.raises(cai.WorldError, match="dpo, temperature: none; expected α > 0"):
        cai.learn.many("dpo", Certain(), seeds=[0])
    assert with_kl(["soft_grpo", "dpo"], ["k1", "k3"]) == ["soft_grpo-k1", "soft_grpo-k3", "dpo"]
    assert with_kl(["grpo", "soft_grpo", "rloo"], ["k2"]) == ["soft_grpo-k2", "soft_rloo"]  # a hard one has no KL
    assert with_kl(["grpo"], []) == ["grpo"]
    with pytest.raises(cai.WorldError, match="--kl: beside dpo, which take none"):
        with_kl(["dpo"], ["k1"])
    with pytest.raises(cai.WorldError, match="learner 'dpo-k1': an estimate of the KL, which it does not take"):
        learner_of("dpo-k1")
    asked: Any = {"temperatures": [0.5], "seeds": [0], "steps": 300, "progress": False}
    (runs,) = cai.learn.learn_all(["soft_grpo-k3", "soft_grpo-full"], Certain(), **asked)
    (three,), (full,) = (runs.runs[name] for name in ("soft_grpo-k3", "soft_grpo-full"))
    assert three.history[-1].elbo != full.history[-1].elbo
    (run,) = cai.learn.learn_all(["dpo"], Certain(), temperatures=[0.5], seeds=[0], steps=100, progress=False)
    assert run.runs["dpo"][0].temperature == 0.5

"""The exact optima of known environments."""

import json
import math
from typing import Any

import pyro
import pytest
import torch

import cai
from tests.command import cai as command

LAKE = ("FrozenLake-v1", {"map_name": "4x4"})


@pytest.mark.parametrize(("name", "settings", "actions"), [(*LAKE, 4), ("blackjack", {}, 2), ("cliff_walking", {}, 4)])
def test_the_numbers_of_an_optimum_belong_together(name: str, settings: dict[str, Any], actions: int) -> None:
    found = cai.optimum(name, settings, temperatures=(1.0, 0.05))
    world = cai.load_world(name, settings)
    assert found.expected_return == pytest.approx(float(cai.solve(world, cai.HARD).value), abs=1e-12)
    for one in found.soft:
        # Under a uniform prior KL = steps · log A - entropy.
        kl = one.steps * math.log(actions) - one.entropy
        assert one.elbo == pytest.approx(one.expected_return / one.temperature - kl, rel=1e-9)
        assert one.log_evidence == pytest.approx(
            float(cai.solve(world, cai.POSTERIOR, temperature=one.temperature).log_evidence), rel=1e-9
        )
        assert one.entropy_per_step == one.entropy / one.steps
        assert one.expected_return <= found.expected_return
    assert json.loads(json.dumps(found.plain()))["soft"][1]["temperature"] == 0.05


def test_evidence_that_is_not_finite_is_none() -> None:
    class Bonus:  # exp(1/α) > 1/γ: optimism has no bound
        horizon, discount = None, 0.9

        def initial(self) -> Any:
            return pyro.sample("s", cai.Point(torch.tensor(0), 1))

        def act(self, state: Any, t: int) -> Any:
            return pyro.sample("a", pyro.distributions.Categorical(torch.ones(2).expand(*state.shape, 2)))

        def step(self, state: Any, action: Any, t: int) -> Any:
            return pyro.sample("s", cai.Point(state, 1)), action.to(float)

    found = cai.optimum(Bonus(), temperatures=[1.0])
    assert found.soft[0].log_evidence is None
    assert found.expected_return == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"world": "FrozenLake-v1", "settings": {"map_name": "9x9"}}, "expected one of 4x4, 8x8"),
        ({"world": "FrozenLake-v1", "temperatures": ()}, "optimum, temperatures"),
        ({"world": "FrozenLake-v1", "temperatures": (0.0,)}, "temperature"),
        ({"world": cai.load_world("forest"), "settings": {"p": 0.1}}, "optimum, settings: .* those of a name"),
        ({"world": "CliffWalking-v1"}, "no time limit of its own; .*; or the world 'cliff_walking' of the catalogue"),
        ({"world": "Blackjack-v1"}, "or the world 'blackjack' of the catalogue"),
        ({"world": "CartPole-v1"}, "take the world 'cartpole' of the catalogue"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.optimum(**arguments)


def test_a_world_without_an_exact_optimum_names_the_command_that_approximates() -> None:
    with pytest.raises(cai.IntractableError, match=r"cai\.approximate, cai solve --approximate"):
        cai.optimum("pendulum", progress=False)


def test_the_command() -> None:
    done = command("optimum", "FrozenLake-v1", "--map", "4x4", "-t", "0.1")
    assert done.returncode == 0
    assert "T = 100, γ = 1: the best return is 0.74419" in done.stdout
    wrong = command("optimum", "FrozenLake-v1", "--map", "9x9")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "cai: Gymnasium id 'FrozenLake-v1': map_name = '9x9'; expected one of 4x4, 8x8\n"


def test_the_optimum_of_a_world_seen_in_part_says_that_all_is_seen() -> None:
    done = command("optimum", "tiger", "--set", "horizon=2", "-t", "1")
    assert done.returncode == 0
    assert "this answer assumes that the whole state is seen" in done.stderr
    found = cai.optimum("tiger", {"horizon": 2}, temperatures=(1.0,), progress=False)
    assert f"cai: {found.note}\n" == done.stderr
    assert found.plain()["note"] == found.note
    assert cai.optimum("forest", temperatures=(1.0,), progress=False).note is None

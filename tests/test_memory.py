"""What there is no room for: refused before it is allocated, with its size, and never blamed on the world."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cai
from tests.command import cai as run
from tests.worlds import RandomWorld

FAR = 10**13
"""No machine holds an 8-byte number for each of so many times."""


def world(T: int = FAR) -> RandomWorld:
    return RandomWorld(seed=0, S=3, A=2, K=2, horizon=T, holes=False)


class Drifts(RandomWorld):
    def step(self, state: Any, action: Any, t: int) -> Any:
        following, reward = self._slice(state, action, 0)
        return following, reward - 0.1 * t


TABLES, FACTORS = cai.tabulate(world(2)), cai.factorise(world(2))
ASKED: dict[str, Callable[[int], Any]] = {
    "solve": lambda T: cai.solve(world(T)),
    "solve, factors": lambda T: cai.solve(world(T), form="factors"),
    "solve on tables": lambda T: cai.solve(replace(TABLES, horizon=T), cai.HARD, temperature=[1.0, 2.0]),
    "solve on factors": lambda T: cai.solve(replace(FACTORS, horizon=T)),
    "solve, timed": lambda T: cai.solve(Drifts(seed=0, S=3, A=2, K=2, horizon=T, holes=False)),
    "solve, timed factors": lambda T: cai.solve(Drifts(seed=0, S=3, A=2, K=2, horizon=T, holes=False), form="factors"),
    "observe": lambda T: cai.solve(world(T), observe={"s_2": 1}),
    "observe on factors": lambda T: cai.solve(replace(FACTORS, horizon=T), observe={"s_2": 1}),
    "do": lambda T: cai.solve(world(T), do={"a_0": 1}),
    "evaluate": lambda T: cai.evaluate(world(T), None),
    "evaluate on factors": lambda T: cai.evaluate(replace(FACTORS, horizon=T), None),
    "compare": lambda T: cai.compare(world(T), {"prior": None, "best": cai.HARD}),
    "inference types": lambda T: cai.inference_types(world(T)),
    "marginal map": lambda T: cai.marginal_map(world(T)),
    "fit": lambda T: cai.fit(world(T), steps=1),
    "elbo": lambda T: cai.elbo(world(T), None),
    "full guide": lambda T: cai.learn.FullGuide(world(T)),
    "tabular policy": lambda T: cai.policies.TabularPolicy(world(T)),
    "neural policy": lambda T: cai.policies.NeuralPolicy(world(T)),
    "trajectory": lambda T: cai.trajectory(world(T)),
    "roll-out": lambda T: cai.rollout(world(T), batch=2),
    "q_learning": lambda T: cai.learn.q_learning(world(T), steps=1),
    "sac": lambda T: cai.learn.sac(world(T), steps=1),
    "fitted_q": lambda T: cai.learn.fitted_q(world(T), steps=1),
    "posterior_sampling": lambda T: cai.learn.posterior_sampling(world(T), steps=1),
}


@pytest.mark.parametrize("T", [FAR, 10**20])
@pytest.mark.parametrize("name", ASKED)
def test_a_horizon_that_cannot_be_held_is_refused_with_its_size(name: str, T: int) -> None:
    with pytest.raises(cai.IntractableError) as caught:
        ASKED[name](T)
    sizes = [int(digits.replace(",", "")) for digits in re.findall(r"\d[\d,]*\d", str(caught.value))]
    assert max(sizes) >= T


def test_sharded_messages_ask_for_room_on_disk(tmp_path: Path) -> None:
    with pytest.raises(cai.IntractableError, match=r"values of 3 states at T = 10,000,000,000,000 times"):
        cai.distributed.solve(world(), folder=tmp_path / "v")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_far_horizons_have_their_own_way() -> None:
    short, far = cai.solve_horizons(world(), [1000, 10**20]).value.tolist()
    rate = (short - float(cai.solve_horizons(world(), 500).value)) / 500
    assert far == pytest.approx(rate * 1e20, rel=1e-9)
    assert cai.check(world())[0].where == "solve"


@pytest.mark.parametrize("T", ["10000000000000", "100000000000000000000"])
@pytest.mark.parametrize("command", ["solve", "compare", "fit", "learn"])
def test_the_command_line_says_so_in_one_line(command: str, T: str) -> None:
    found = run(command, "grid", "--horizon", T)
    assert found.returncode != 0
    assert found.stdout + found.stderr == found.stderr
    assert found.stderr.startswith("cai: ")
    assert "bytes; expected at most" in found.stderr
    assert found.stderr.count("\n") == 1

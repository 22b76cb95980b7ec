"""Slices that are large in one way or another: they cost what they must, or are refused before they cost anything."""

import math
import resource
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai

FLIP = 0.1


class Counter:
    """A number that is told by a point mass on very many values."""

    horizon = 2
    many = 10**9

    def initial(self) -> Tensor:
        return pyro.sample("n", cai.Point(torch.tensor(0), self.many))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("up", Categorical(torch.ones(2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("n", cai.Point(state + action, self.many)), action.double()


@pytest.mark.parametrize(
    "verb",
    [
        cai.solve,
        cai.tabulate,
        cai.factorise,
        lambda world: cai.solve(world, form="factors"),
        lambda world: cai.solve(world, do={"n_1": 10**9 - 1}),
    ],
)
def test_a_point_of_a_billion_values_is_refused_before_it_takes_room(verb: Callable[[Any], Any]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(cai.IntractableError, match="1,000,000,000"):
        verb(Counter())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; its values alone are 8 GB
    assert [str(one) for one in cai.check(Counter()) if "1,000,000,000" in str(one)]


class Chain:
    """One state; a chain of n coins, each the one before it unless it flips; the last is paid."""

    horizon = 1

    def __init__(self, n: int) -> None:
        self.n = n

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.ones(1)))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("first", Categorical(torch.ones(2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        coin = action
        for i in range(self.n):
            coin = pyro.sample(f"coin{i}", Categorical(torch.tensor([[1 - FLIP, FLIP], [FLIP, 1 - FLIP]])[coin]))
        return pyro.sample("s", cai.Point(0 * state, 1)), coin.double()

    def log_evidence(self) -> float:
        p = [0.5, 0.5]
        for _ in range(self.n):
            p = [(1 - FLIP) * p[0] + FLIP * p[1], FLIP * p[0] + (1 - FLIP) * p[1]]
        return math.log(p[0] + p[1] * math.e)


def test_one_state_and_forty_latents_are_kept_in_factors() -> None:
    world = Chain(40)
    found = cai.solve(world)
    assert found.form == "factors"
    assert float(found.log_evidence) == pytest.approx(world.log_evidence(), abs=1e-12)
    assert cai.check(world) == []


def test_one_state_and_few_latents_are_tables() -> None:
    found = cai.solve(Chain(3))
    assert found.form == "tables"
    assert float(found.log_evidence) == pytest.approx(Chain(3).log_evidence(), abs=1e-12)

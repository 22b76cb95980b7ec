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


@pytest.mark.slow
def test_a_slice_of_more_variables_than_torch_has_dimensions() -> None:
    """90 sites, of which each reads one before it."""
    world = Chain(90)
    found = cai.solve(world)
    assert float(found.log_evidence) == pytest.approx(world.log_evidence(), abs=1e-12)
    assert cai.check(world) == []


class Switches:
    """Switches, each turned on by its neighbour or by luck, of which a few are paid."""

    horizon = 2

    def __init__(self, n: int, paid: int) -> None:
        self.names = [f"x{i}" for i in range(n)]
        self.paid = self.names[:paid]

    def initial(self) -> dict[str, Tensor]:
        start = {self.names[0]: pyro.sample(self.names[0], Categorical(torch.tensor([0.5, 0.5])))}
        for name, before in zip(self.names[1:], self.names, strict=False):
            start[name] = pyro.sample(name, Categorical(torch.tensor([[0.8, 0.2], [0.3, 0.7]])[start[before]]))
        return start

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("push", Categorical(torch.ones(2)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        following = {}
        for name, before in zip(self.names, [self.names[-1], *self.names], strict=False):
            on = 0.1 + 0.5 * state[before] + 0.2 * action * state[name]
            following[name] = pyro.sample(name, Categorical(torch.stack([1 - on, on], -1)))
        reward: Any = 0.0
        for name in self.paid:
            reward = reward + state[name] * 1.0
        return following, reward

    def terminal(self, state: dict[str, Tensor]) -> Tensor:
        return state[self.names[-1]] * 2.0


def test_factors_of_many_states_are_those_of_few() -> None:
    """The windows of a large slice hold what one run of a small one does: its factors repeat."""
    large, small = cai.factorise(Switches(70, 5)), cai.factorise(Switches(12, 5))
    for name in ("x3", "x7"):
        for a, b in ((large.initial, small.initial), (large.slices[0].chance, small.slices[0].chance)):
            own = name if a is large.initial else f"{name}'"
            assert a[own].scope == b[own].scope
            assert torch.equal(a[own].table, b[own].table)
    assert [one.scope for one in large.slices[0].reward] == [(f"x{i}",) for i in range(5)]
    assert [one.scope for one in large.terminal] == [("x69",)]
    assert list(large.slices[0].chance) == [f"x{i}'" for i in range(70)]
    with pytest.raises(cai.IntractableError, match="joint states"):
        cai.solve(large)


def test_a_factor_of_too_many_variables_says_both_numbers() -> None:
    with pytest.raises(cai.IntractableError, match="62 variables read at once; expected at most 61"):
        cai.factorise(Switches(62, 62))

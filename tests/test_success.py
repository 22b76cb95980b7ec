"""The success rate: the probability that an episode ends with a positive reward, exactly, where some end pays."""

import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai
from tests.worlds import RandomWorld


class Toss:
    """Each step wins 2 and ends with 0.3, loses 1 and ends with 0.2, else pays 1 and goes on; action 1 only waits."""

    horizon: int | None = 3
    discount = 1.0

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.tensor([1.0, 0.0, 0.0])))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        k = pyro.sample("k", Categorical(torch.tensor([0.5, 0.3, 0.2])))
        after = torch.where((state == 0) & (action == 0), k, state)
        reward = torch.tensor([1.0, 2.0, -1.0])[k] * (state == 0) * (action == 0)
        return pyro.sample("s", cai.Point(after, 3)), reward

    def terminated(self, state: Tensor) -> Tensor:
        return state > 0


ALWAYS, HALF = torch.tensor([1.0, 0.0]).expand(3, 2), torch.full((3, 2), 0.5)


@pytest.mark.parametrize(("policy", "goes_on"), [(ALWAYS, 0.5), (HALF, 0.75)])
def test_it_is_the_sum_over_the_steps_at_which_an_episode_is_won(policy: Tensor, goes_on: float) -> None:
    tried = float(policy[0, 0])
    expected = 0.3 * tried * (1 + goes_on + goes_on**2)
    assert cai.evaluate(Toss(), policy).success == pytest.approx(expected, abs=1e-7)


def test_without_a_horizon_it_is_the_whole_series() -> None:
    world = Toss()
    world.horizon, world.discount = None, 0.9
    assert cai.evaluate(world, ALWAYS).success == pytest.approx(0.3 / (1 - 0.45), abs=1e-6)


def test_where_only_the_goal_pays_it_is_the_return() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=12)
    found = cai.compare(lake, {"HARD": cai.HARD, "prior": None})
    for row in found.rows:
        assert row.success == pytest.approx(row.expected_return, abs=1e-12)
    assert "success" in found.table().splitlines()[0]


def test_where_no_end_pays_there_is_none() -> None:
    cliff = cai.from_gymnasium("CliffWalking-v1", horizon=5)
    for world in (cliff, RandomWorld(0, 3, 2, 2, 3, holes=False)):
        assert cai.evaluate(world, None).success is None
        assert "success" not in {column.field for column in cai.compare(world, {"prior": None}).columns}

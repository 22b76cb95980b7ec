"""Numbers that others have printed, each with its source, to the precision in which they are printed."""

from dataclasses import replace

import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai
from tests.helpers import load_model


def printed(values: list[float], decimals: int) -> object:
    """Return what compares equal to numbers that round to the printed ones."""
    return pytest.approx(values, abs=0.5 * 10.0**-decimals * (1 + 1e-9), rel=0)


def test_restaurant_agentmodels() -> None:
    """Evans et al., https://agentmodels.org/chapters/3-agents-as-programs.html: the preference flips between the rules.

    ``softMaxAgent`` there is VARIATIONAL at α = 1 (their expected utilities are 3.2 and 5.3); a ``factor`` on the
    utility of the sampled outcome, not on its expectation, is POSTERIOR.
    """
    world = load_model("restaurant")()
    variational = cai.solve(world, cai.VARIATIONAL)
    assert variational.q(0)[0].tolist() == pytest.approx([3.2, 5.3], abs=1e-12)
    assert float(variational.policy.probs(0)[0, 1]) == pytest.approx(0.8909031788, abs=1e-10)
    posterior = cai.solve(world, cai.POSTERIOR)
    assert float(posterior.policy.probs(0)[0, 1]) == pytest.approx(0.3792508719, abs=1e-10)
    assert float(posterior.marginals(0)[0, 1]) == pytest.approx(0.3792508719, abs=1e-10)


def test_forest_finite_horizon_mdptoolbox() -> None:
    """pymdptoolbox, ``FiniteHorizon(P, R, 0.9, 3)`` on ``example.forest()``, the table V of its docstring.

    https://pymdptoolbox.readthedocs.io/en/latest/api/mdp.html
    """
    messages = cai.solve(load_model("forest")(horizon=3, discount=0.9), cai.HARD)
    table = [[2.6973, 5.9373, 9.9373], [0.81, 3.24, 7.24], [0.0, 1.0, 4.0], [0.0, 0.0, 0.0]]
    for v, row in zip(messages.v.tolist(), table, strict=True):
        assert v == printed(row, 4)
    assert messages.policy.probs(0)[:, 0].tolist() == [1, 1, 1]
    assert messages.policy.probs(2)[1].tolist() == [0, 1]


def test_forest_infinite_horizon_mdptoolbox() -> None:
    """pymdptoolbox, ``PolicyIteration(P, R, 0.9)`` on ``example.forest()``: V = (26.244, 29.484, 33.484), wait."""
    messages = cai.solve(load_model("forest")(horizon=None, discount=0.9), cai.HARD)
    assert messages.v.tolist() == pytest.approx([26.244, 29.484, 33.484], abs=1e-9)
    assert messages.policy.probs()[:, 0].tolist() == [1, 1, 1]


class Puterman:
    """Two states; the second action moves on from the first state and is forbidden, reward -inf, in the second."""

    horizon, discount = None, 0.95

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.ones(2)))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        chance = torch.tensor([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.5, 0.5]]])[state, action]
        reward = torch.tensor([[5.0, 10.0], [-1.0, -torch.inf]])[state, action]
        return pyro.sample("s", Categorical(logits=chance.log())), reward


def test_puterman_quantecon() -> None:
    """Puterman (2005), Markov Decision Processes, section 6.2.1, as in the docstring of QuantEcon.py's ``DiscreteDP``.

    https://quanteconpy.readthedocs.io/en/latest/markov/ddp.html: v = (-8.57142857, -20), both times the first action.
    """
    messages = cai.solve(Puterman(), cai.HARD)
    assert messages.v.tolist() == printed([-8.57142857, -20.0], 8)
    assert messages.policy.probs().tolist() == [[1, 0], [1, 0]]


def test_four_by_three_russell_norvig() -> None:
    """Russell & Norvig (2010), Artificial Intelligence, figure 17.3: utilities at γ = 1, r = -.04.

    Undiscounted, so T = 1000 stands for ever; staying, the fifth action here, only costs and is never used.
    """
    goals = [(0, 3, 1.0), (1, 3, -1.0)]
    world = load_model("grid")(
        rows=3, columns=4, walls=[(1, 1)], goals=goals, start=(2, 0), slip=0.2, step_reward=-0.04, horizon=1000
    )
    messages = cai.solve(world, cai.HARD)
    printed_rows = {0: [0.812, 0.868, 0.918], 4: [0.762], 6: [0.660], 8: [0.705, 0.655, 0.611, 0.388]}
    for first, row in printed_rows.items():
        assert messages.v[0, first : first + len(row)].tolist() == printed(row, 3)
    assert messages.policy.probs(0)[8].tolist() == [0, 0, 0, 1, 0]  # up, along the safer way


class Teleports:
    """Sutton & Barto's 5 × 5 grid: from A to A' for 10, from B to B' for 5, bumping into the border for -1."""

    horizon, discount = None, 0.9

    def initial(self) -> Tensor:
        return pyro.sample("cell", Categorical(torch.ones(25)))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("move", Categorical(torch.ones(4).expand(*state.shape, 4)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        row = state // 5 + torch.tensor([-1, 1, 0, 0])[action]
        column = state % 5 + torch.tensor([0, 0, -1, 1])[action]
        bump = (row < 0) | (row > 4) | (column < 0) | (column > 4)
        reward = torch.where(bump, -1.0, 0.0)
        cell = torch.where(bump, state, row * 5 + column)
        for gate, landing, prize in ((1, 21, 10.0), (3, 13, 5.0)):
            cell = torch.where(state == gate, landing, cell)
            reward = torch.where(state == gate, prize, reward)
        return pyro.sample("cell", cai.Point(cell, 25)), reward


OPTIMAL = [
    [22.0, 24.4, 22.0, 19.4, 17.5],
    [19.8, 22.0, 19.8, 17.8, 16.0],
    [17.8, 19.8, 17.8, 16.0, 14.4],
    [16.0, 17.8, 16.0, 14.4, 13.0],
    [14.4, 16.0, 14.4, 13.0, 11.7],
]
UNIFORM = [
    [3.3, 8.8, 4.4, 5.3, 1.5],
    [1.5, 3.0, 2.3, 1.9, 0.5],
    [0.1, 0.7, 0.7, 0.4, -0.4],
    [-1.0, -0.4, -0.4, -0.6, -1.2],
    [-1.9, -1.3, -1.2, -1.4, -2.0],
]


def test_grid_optimum_sutton_barto() -> None:
    """Sutton & Barto (2018), Reinforcement Learning, figure 3.5: v* at γ = .9, all 25 cells."""
    v = cai.solve(Teleports(), cai.HARD).v.reshape(5, 5)
    for seen, row in zip(v.tolist(), OPTIMAL, strict=True):
        assert seen == printed(row, 1)


def test_grid_uniform_policy_sutton_barto() -> None:
    """Sutton & Barto (2018), figure 3.2: the uniform policy's values at γ = .9, all 25 cells, starting in each."""
    tables = cai.tabulate(Teleports())
    starts = torch.eye(25, dtype=torch.float64).log()
    returns = [cai.evaluate(replace(tables, log_initial=start), None).expected_return for start in starts]
    for row, expected in enumerate(UNIFORM):
        assert returns[5 * row : 5 * row + 5] == printed(expected, 1)
    # The hot limit of max-ent control is the prior's own value: one solve for all cells.
    hot = cai.solve(tables, cai.VARIATIONAL, temperature=1e7).v
    assert hot.tolist() == pytest.approx(returns, abs=1e-4)


@pytest.mark.parametrize(("map_name", "horizon", "optimum"), [("4x4", 100, 0.74), ("8x8", 200, 0.91)])
def test_frozen_lake_optimum_gymnasium(map_name: str, horizon: int, optimum: float) -> None:
    """Gymnasium's registry (``gymnasium/envs/__init__.py``) notes "optimum = …" beside each map and its time limit."""
    value = cai.solve(load_model("frozen_lake")(map_name, horizon=horizon), cai.HARD).value
    assert [float(value)] == printed([optimum], 2)


def test_deep_sea_optimum_bsuite() -> None:
    """bsuite's deep_sea.py: "the optimal policy gets 0.99 episode return", at every size and action mapping."""
    for size, seed in ((5, None), (10, 0), (20, 42)):
        value = cai.solve(load_model("deep_sea")(size=size, seed=seed), cai.HARD).value
        assert float(value) == pytest.approx(0.99, abs=1e-12)

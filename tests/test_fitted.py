"""Fitted Q-iteration: on enumerated data the exact backups, on sampled data within their errors, with any regressor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cai
from cai.learn.algorithms.fitted import Fitted, backup_targets, fitted_q
from cai.learn.batch import Transitions, of_values, to_values, transitions
from cai.learn.checkpoint import Checkpoint
from cai.learn.dynamic_programming import value_iteration
from cai.learn.problem import Problem, State
from cai.learn.regressors import Descent, ExternalRegressor, Means, Regressor, squared_loss
from cai.learn.training import problem_of, step
from cai.simulate.rollout import rollout
from cai.simulate.simulator import drawing, seeded
from cai.support.process import precision
from tests.helpers import load_model
from tests.worlds import FactoredWorld, RandomWorld, TimedWorld

EIGHTHS = 8
seeds = st.integers(0, 2**31 - 1)
QUIET: dict[str, Any] = {"progress": False, "evaluations": 1}


def in_eighths(world: RandomWorld) -> RandomWorld:
    """Round the dynamics to eighths, so that a list of transitions can hold them exactly."""
    counts = torch.floor(world.outcome * EIGHTHS)
    counts[..., 0] += EIGHTHS - counts.sum(-1)
    world.outcome = counts / EIGHTHS
    return world


def enumerated(world: RandomWorld, times: range) -> Transitions:
    """Every outcome of every (s, a), as often as its probability says; forbidden actions too."""
    rows = []
    for t in times:
        i = world.time(t)
        for cell in np.ndindex(world.S, world.A, world.K):
            following = int(world.successor[i][cell])
            late = world.horizon is not None and t == world.horizon - 1
            reward = float(world.reward[i][cell]) + (float(world.last[following]) if late else 0.0)
            n = round(float(world.outcome[i][cell]) * EIGHTHS)
            rows += [(cell[0], cell[1], reward, following, False, t)] * n
    return Transitions(*(np.array(column) for column in zip(*rows, strict=True)))


def begun(world: Any, data: Transitions | None, regressor: Regressor, alpha: float | None, n: int, **own: Any) -> Any:
    stationary = own.get("stationary", False)
    algorithm = Fitted(regressor, data, own.get("steps", 1), 10, stationary, n)
    problem = problem_of(algorithm, world, alpha, None)
    with precision(regressor.dtype), drawing(seeded(0)):
        state = State(0, 0, seeded(1), None, algorithm.init(problem)[1])
    return algorithm, problem, state


def after(algorithm: Fitted, problem: Problem, state: State, n: int) -> State:
    with precision(algorithm.dtype):
        for _ in range(n):
            state, _ = step(algorithm, problem, state)
        return state


@given(seed=seeds, K=st.sampled_from([1, 3]), timed=st.booleans(), alpha=st.sampled_from([None, 0.3, 2.0]))
@settings(max_examples=6, deadline=None)
def test_on_enumerated_data_every_iteration_is_the_exact_backup(
    seed: int, K: int, timed: bool, alpha: float | None
) -> None:
    """Forbidden actions, rewards of -inf, terminal rewards, slices that differ over time: all of ``cai.solve``'s q."""
    world = in_eighths((TimedWorld if timed else RandomWorld)(seed=seed, S=4, A=3, K=K, horizon=3))
    rule = cai.HARD if alpha is None else cai.VARIATIONAL
    try:
        exact = cai.solve(world, rule, temperature=alpha or 1.0)
    except cai.ImpossibleError:
        return  # no trajectory is allowed at all
    algorithm, problem, state = begun(world, enumerated(world, range(3)), Means(), alpha, 3)
    state = after(algorithm, problem, state, 3)
    for t in range(3):
        torch.testing.assert_close(state.values[f"q.{t}"], exact.q(t), rtol=0, atol=1e-10)


@given(seed=seeds, alpha=st.sampled_from([None, 0.5]))
@settings(max_examples=4, deadline=None)
def test_one_q_for_all_times_goes_to_the_fixed_point(seed: int, alpha: float | None) -> None:
    world = in_eighths(RandomWorld(seed=seed, S=3, A=2, K=2, horizon=None, holes=False, discount=0.6))
    solution = value_iteration(world, temperature=alpha)
    algorithm, problem, state = begun(world, enumerated(world, range(1)), Means(), alpha, 60, stationary=True)
    state = after(algorithm, problem, state, 60)
    rest = 0.6**60 * 10 / 0.4 + solution.error_bound  # |v| is at most 4, |q_0 - q*| at most 10
    torch.testing.assert_close(state.values["q.0"], solution.q, rtol=0, atol=rest + 1e-10)


def test_a_discount_is_in_every_target() -> None:
    world = in_eighths(RandomWorld(seed=3, S=3, A=2, K=2, horizon=4, holes=False, discount=0.7))
    world.last = torch.zeros(3, dtype=torch.float64)
    algorithm, problem, state = begun(world, enumerated(world, range(4)), Means(), 0.5, 4)
    state = after(algorithm, problem, state, 4)
    exact = cai.solve(world, cai.VARIATIONAL, temperature=0.5)
    torch.testing.assert_close(state.values["q.0"], exact.q(0), rtol=0, atol=1e-10)


def test_sampled_means_are_within_four_standard_errors() -> None:
    """One slice, so that a cell's mean is one of independent rewards, whose variance is known."""
    world = RandomWorld(seed=5, S=3, A=2, K=3, horizon=1, holes=False)
    algorithm, problem, state = begun(world, None, Means(), None, 1, steps=20_000)
    state = after(algorithm, problem, state, 1)
    data = of_values(state.values)
    visits = torch.bincount(data.states * 2 + data.actions, minlength=6).reshape(3, 2)
    paid, p = (world.reward + world.last[world.successor])[0], world.outcome[0]
    mean = (p * paid).sum(-1)
    error = ((p * (paid - mean.unsqueeze(-1)) ** 2).sum(-1) / visits).sqrt()
    assert len(data) == 20_000
    assert bool(((state.values["q.0"] - mean).abs() <= 4 * error).all())


@pytest.mark.parametrize("behaviour", ["prior", "best"])
def test_a_deterministic_world_is_learned_exactly_from_any_policy_that_tries_everything(behaviour: str) -> None:
    world = RandomWorld(seed=1, S=3, A=2, K=1, horizon=4, holes=False)
    policy = None if behaviour == "prior" else cai.solve(world, cai.VARIATIONAL, temperature=2.0).policy
    data = transitions(rollout(world, policy, batch=2000, generator=torch.Generator().manual_seed(0)))
    soft, hard = fitted_q(world, temperature=1.0, data=data, **QUIET), fitted_q(world, data=data, **QUIET)
    assert abs(soft.history[-1].policy_nats) < 1e-10
    assert cai.evaluate(world, soft).optimality_gap == pytest.approx(0, abs=1e-10)
    assert hard.history[-1].stochastic_return == pytest.approx(float(cai.solve(world, cai.HARD).value), abs=1e-10)


def test_frozen_lake_from_random_walks() -> None:
    """The prior hardly ever sees the goal; at this size ten of ten seeds hold 1 % of the optimum's return."""
    lake = load_model("frozen_lake")()
    found = fitted_q(lake, steps=100_000, batch=1000, **QUIET)
    best = float(cai.solve(lake, cai.HARD).value)
    assert 0.99 * best <= found.history[-1].stochastic_return <= best + 1e-12
    assert [one.steps for one in found.history] == [0, 100_000]
    assert (found.steps, found.updates, found.stopped) == (100_000, 100, "steps")


def test_transitions_are_the_steps_of_a_rollout() -> None:
    lake = load_model("frozen_lake")(horizon=12)
    found = rollout(lake, batch=200, generator=torch.Generator().manual_seed(0))
    data = transitions(found, found)
    assert len(data) == 2 * found.steps
    assert float(data.rewards.sum()) == pytest.approx(2 * float(found.returns.sum()))
    assert int(data.terminated.sum()) == 2 * int(found.terminated.sum())
    assert bool((lake.terminated(data.next_states) == data.terminated).all())
    for i in range(len(data)):
        t = int(data.times[i])
        same = (found.states[t] == data.states[i]) & (found.states[t + 1] == data.next_states[i]) & found.alive[t]
        assert bool(same.any())


def test_what_was_never_tried_is_not_trusted() -> None:
    """State 0: only action 0 was tried, which leads to state 1, where nothing was; state 2: both."""
    world = RandomWorld(seed=0, S=3, A=2, K=1, horizon=2, holes=False)
    world.last = torch.zeros(3, dtype=torch.float64)
    columns = ([0, 2, 2] * 2, [0, 0, 1] * 2, [5.0, -1, 2] * 2, [1, 2, 2] * 2, [0] * 6, [0] * 3 + [1] * 3)
    algorithm, problem, state = begun(world, Transitions(*map(np.array, columns)), Means(), None, 2)
    state = after(algorithm, problem, state, 2)
    infinity = -torch.inf
    assert state.values["q.1"].tolist() == [[5, infinity], [-1, -1], [-1, 2]]
    assert state.values["q.0"].tolist() == [[4, infinity], [1, 1], [1, 4]]
    policy = algorithm.policy(problem, state).probs(0)
    assert policy[[0, 2]].tolist() == [[1, 0], [0, 1]]
    torch.testing.assert_close(policy[1], world.prior[0, 1])


def test_before_the_first_fit_the_policy_is_the_prior() -> None:
    world = RandomWorld(seed=0, S=3, A=2, K=2, horizon=5, holes=False)
    algorithm, problem, state = begun(world, None, Means(), 1.0, 5, steps=1000)
    state = after(algorithm, problem, state, 2)
    policy = algorithm.policy(problem, state)
    torch.testing.assert_close(policy.probs(2), world.prior[0])
    assert not torch.allclose(policy.probs(3), world.prior[0])


def test_the_parts_are_pure_functions() -> None:
    y = backup_targets(torch.tensor([1.0, 2, 3]), torch.tensor([False, True, False]), torch.tensor([4.0, 5, -6]), 0.5)
    assert y.tolist() == [3, 2, 0]
    lost = torch.full((2,), -torch.inf)
    assert backup_targets(torch.zeros(2), torch.tensor([True, False]), lost, 0.5).tolist() == [0, -torch.inf]
    assert backup_targets(torch.ones(2), torch.zeros(2, dtype=torch.bool), lost, 0.0).tolist() == [1, 1]
    q = torch.tensor([[1.0, 2], [3, 4]])
    assert float(squared_loss(q, torch.tensor([1, 0]), torch.tensor([0.0, 0]))) == pytest.approx((4 + 9) / 2)


# Any regressor.


class Lookup:
    """The least that a regressor can be: the mean of the targets of equal rows; a row that it never saw is worth 0."""

    def fit(self, x: Any, y: Any) -> None:
        rows, at = np.unique(x, axis=0, return_inverse=True)
        means = np.bincount(at.reshape(-1), y) / np.bincount(at.reshape(-1))
        self.means = {tuple(row): mean for row, mean in zip(rows, means, strict=True)}

    def predict(self, x: Any) -> list[float]:
        return [self.means.get(tuple(row), 0.0) for row in x]


def trees(**settings: Any) -> Any:
    ensemble = pytest.importorskip("sklearn.ensemble", reason="the extra [test] is not installed")
    return ensemble.ExtraTreesRegressor(n_estimators=5, **settings)


@pytest.mark.parametrize("make", [Lookup, trees])
def test_fully_grown_regressors_are_the_table(make: Any) -> None:
    """One-hot features tell all cells apart, so a fit without regularisation is the mean in each."""
    world = RandomWorld(seed=2, S=4, A=3, K=2, horizon=3, holes=False)
    data = transitions(rollout(world, batch=300, generator=torch.Generator().manual_seed(0)))
    table, fit = (fitted_q(world, temperature=1.0, data=data, regressor=one, **QUIET) for one in (None, make()))
    for t in range(3):
        torch.testing.assert_close(fit.policy.probs(t), table.policy.probs(t), rtol=0, atol=1e-10)


def test_a_module_learns_the_table() -> None:
    """A linear map of one-hot states holds every table; Adam's step falls to 0, so what is left is small."""
    world = RandomWorld(seed=2, S=4, A=3, K=2, horizon=3, holes=False)
    data = transitions(rollout(world, batch=300, generator=torch.Generator().manual_seed(0)))
    module = nn.Linear(4, 3)
    before = [p.clone() for p in module.parameters()]
    table, fit = (
        fitted_q(world, temperature=1.0, data=data, regressor=one, epochs=500, lr=0.05, **QUIET)
        for one in (None, module)
    )
    for t in range(3):
        torch.testing.assert_close(fit.policy.probs(t).double(), table.policy.probs(t), rtol=0, atol=0.01)
    assert all(torch.equal(p, was) for p, was in zip(module.parameters(), before, strict=True))


def test_several_variables() -> None:
    world = FactoredWorld()
    data = transitions(rollout(world, batch=500, generator=torch.Generator().manual_seed(0)))
    again = of_values(to_values(data))
    assert all(torch.equal(again.states[name], one) for name, one in data.states.items())
    assert torch.equal(again.rewards, data.rewards)
    for regressor in (None, Lookup()):
        first, last = fitted_q(world, temperature=1.0, data=data, regressor=regressor, **QUIET).history
        assert last.policy_nats < first.policy_nats / 2


def test_an_environment_and_a_world_without_tables() -> None:
    for world, least in (("CartPole-v1", 1), (load_model("mountain_car")(horizon=30), -30)):
        found = fitted_q(world, stationary=True, steps=500, batch=5, iterations=3, epochs=5, episodes=2, **QUIET)
        assert (found.updates, found.steps) == (3, 500)
        assert found.history[-1].deterministic_return >= least


# Seeds and checkpoints.


@pytest.mark.parametrize("regressor", [None, (8,), "trees"])
def test_the_same_seed_gives_the_same_policy(regressor: Any) -> None:
    world = RandomWorld(seed=2, S=4, A=3, K=2, horizon=3, holes=False)

    def learned(seed: int) -> Tensor:
        own = trees(max_leaf_nodes=3) if regressor == "trees" else regressor
        found = fitted_q(world, temperature=1.0, regressor=own, steps=300, batch=10, seed=seed, epochs=5, **QUIET)
        return torch.stack([found.policy.probs(t) for t in range(3)])

    torch.manual_seed(7)
    drawn = torch.get_rng_state()
    assert torch.equal(learned(0), learned(0))
    assert not torch.equal(learned(0), learned(1))
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("kind", ["table", "network", "trees"])
def test_a_learner_goes_on_from_its_file(kind: str, tmp_path: Path) -> None:
    world = RandomWorld(seed=2, S=4, A=3, K=2, horizon=4, holes=False)
    made = {"table": Means, "network": lambda: Descent((8,), 5, 0.01)}
    regressor = made[kind]() if kind in made else ExternalRegressor(trees(max_leaf_nodes=3, random_state=0))
    algorithm, problem, state = begun(world, None, regressor, 1.0, 4, steps=300)
    half, keeper = after(algorithm, problem, state, 2), Checkpoint(tmp_path / "half", {})
    keeper.save(half, lambda state: state, (), 0.0)
    kept = keeper.load()
    assert kept is not None
    fresh = (
        replace(algorithm, regressor=ExternalRegressor(trees(max_leaf_nodes=3, random_state=0)))
        if kind == "trees"
        else None
    )
    straight, resumed = after(algorithm, problem, half, 2), after(fresh or algorithm, problem, kept[0], 2)
    assert straight.values.keys() == resumed.values.keys()
    assert all(torch.equal(one, resumed.values[name]) for name, one in straight.values.items())
    assert half.values.keys() < straight.values.keys()
    found = algorithm.policy(problem, straight).probs(0)
    assert torch.equal(found, (fresh or algorithm).policy(problem, resumed).probs(0))


def test_a_checkpoint_knows_its_data(tmp_path: Path) -> None:
    world = RandomWorld(seed=2, S=4, A=3, K=2, horizon=3, holes=False)
    one, two = (transitions(rollout(world, batch=9, generator=torch.Generator().manual_seed(n))) for n in (0, 1))
    kept = {"checkpoint": tmp_path / "kept", **QUIET}
    first, again = (fitted_q(world, temperature=1.0, data=one, **kept) for _ in range(2))
    assert torch.equal(first.policy.probs(0), again.policy.probs(0))
    assert first.history == again.history
    with pytest.raises(cai.WorldError, match="data"):
        fitted_q(world, temperature=1.0, data=two, **kept)


# Wrong arguments.


@pytest.fixture(scope="module")
def small() -> RandomWorld:
    return RandomWorld(seed=0, S=3, A=2, K=2, horizon=3, holes=False)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"regressor": "trees"}, "regressor"),
        ({"regressor": object()}, "regressor"),
        ({"regressor": nn.Linear(3, 5), "epochs": 1}, "output"),
        ({"regressor": nn.Linear(4, 2), "epochs": 1}, "regressor"),
        ({"iterations": 0}, "iterations"),
        ({"iterations": 4}, "at most 3"),
        ({"epochs": 0}, "epochs"),
        ({"batch": 0}, "batch"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"gamma": 2.0}, "gamma"),
        ({"gamma": 1.0, "stationary": True}, "gamma"),
        ({"data": [1]}, "data"),
    ],
)
def test_wrong_arguments_are_named(small: RandomWorld, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(cai.WorldError, match=word):
        fitted_q(small, **{"steps": 30, **arguments} if "data" not in arguments else arguments, **QUIET)


def rows(**changed: Any) -> Transitions:
    right = {"states": [0, 1], "actions": [0, 1], "rewards": [0.0, 1], "next_states": [1, 2], "terminated": [0, 1]}
    return Transitions(**{name: np.array(x) for name, x in {**right, "times": [0, 1], **changed}.items()})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"states": [0, 3]}, r"states, variable 's': 3; expected a whole number from 0 to 2"),
        ({"states": [0, 0.5]}, r"states, variable 's': 0.5"),
        ({"states": [[0], [1]]}, r"shape \[2, 1\]; expected \[2\]"),
        ({"actions": [0, 2]}, r"actions, variable 'a': 2"),
        ({"actions": [0]}, r"shape \[1\]; expected \[2\]"),
        ({"rewards": [[0.0], [1.0]]}, r"rewards: shape \[2, 1\]"),
        ({"rewards": []}, r"rewards: shape \[0\]"),
        ({"rewards": [0, float("nan")]}, "rewards: NaN"),
        ({"rewards": ["a", "b"]}, "rewards: TypeError"),
        ({"next_states": [-1, 0]}, "next_states, variable 's': -1"),
        ({"terminated": [0, 2]}, "terminated: 2"),
        ({"times": [0, 3]}, "times: 3"),
    ],
)
def test_wrong_data_are_named(small: RandomWorld, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        fitted_q(small, data=rows(**changed), **QUIET)


def test_data_and_worlds_that_do_not_fit_are_refused(small: RandomWorld) -> None:
    with pytest.raises(cai.WorldError, match="beside data"):
        fitted_q(small, data=rows(), steps=3, **QUIET)
    with pytest.raises(cai.WorldError, match="rewards of -inf"):
        fitted_q(small, data=rows(rewards=[0, -np.inf], times=[2, 2]), regressor=Lookup(), **QUIET)
    with pytest.raises(cai.WorldError, match="no transition for t = 2"):
        fitted_q(TimedWorld(seed=0, S=3, A=2, K=2, horizon=3), data=rows(), **QUIET)
    with pytest.raises(cai.WorldError, match="differ over time"):
        fitted_q(TimedWorld(seed=0, S=3, A=2, K=2, horizon=3), stationary=True, **QUIET)
    with pytest.raises(cai.WorldError, match="without a horizon"):
        fitted_q("CartPole-v1", stationary=False, **QUIET)
    with pytest.raises(cai.WorldError, match="not finite"):
        fitted_q(load_model("pendulum")(horizon=3), regressor=(4,), **QUIET)
    with pytest.raises(cai.WorldError, match=r"variables \['floor', 'gate'\]"):
        fitted_q(FactoredWorld(), data=replace(rows(), states={"floor": [0, 1], "gate": [0, 1]}), **QUIET)
    with pytest.raises(cai.WorldError, match="a dict of the variables"):
        fitted_q(FactoredWorld(), data=rows(), **QUIET)
    with pytest.raises(cai.WorldError, match="temperature"):
        fitted_q(small, temperature=0.0, **QUIET)
    with pytest.raises(cai.WorldError, match="rollouts"):
        transitions()


def test_somebody_elses_errors_are_quoted(small: RandomWorld) -> None:
    class Broken(Lookup):
        def predict(self, x: Any) -> list[float]:
            return [0.0]

    class Crash(Lookup):
        def fit(self, x: Any, y: Any) -> None:
            raise ValueError("no fit today")

    with pytest.raises(cai.WorldError, match="one number for each row"):
        fitted_q(small, regressor=Broken(), steps=30, **QUIET)
    with pytest.raises(cai.WorldError, match="no fit today"):
        fitted_q(small, regressor=Crash(), steps=30, **QUIET)

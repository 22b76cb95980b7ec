"""Simulators and roll-outs: against exact returns, against plain loops over Gymnasium, and against themselves."""

import copy
import io
import math
import pickle
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pyro
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from hypothesis import given
from hypothesis import strategies as st
from pyro.distributions import Bernoulli, Categorical, Normal
from torch import Tensor

import cai
from cai.bridges.named import load_world
from cai.simulate import outcomes
from cai.simulate.acting import prior_action
from cai.simulate.environments import EnvironmentMaker, EnvironmentSimulator
from cai.simulate.normalise import Moments, moments, normalised
from cai.simulate.rollout import Rollout, roll, simulator_of
from cai.simulate.simulator import EnvState, Simulator, drawing, seeded
from cai.simulate.vector_environments import VectorSimulator, forward_simulator
from cai.simulate.worlds import WorldSimulator
from cai.support.process import precision
from tests.helpers import load_model, slow_after
from tests.worlds import FactoredWorld, PointMass, RandomWorld, Ring, TimedWorld

N = 20_000


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Against the exact return


class Cut:
    """A random walk to a wall, which ends the episode; the time limit cuts others off."""

    horizon, stationary = 8, True

    def initial(self) -> Tensor:
        return pyro.sample("x", Categorical(torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("move", Categorical(torch.tensor([1.0, 2.0])))  # the same in every state, on purpose

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        slip = pyro.sample("slip", Bernoulli(torch.tensor(0.2))).long()
        at = (state + 1 - 2 * (action ^ slip)).clamp(0, 4)
        return pyro.sample("x", cai.Point(torch.where(state == 0, 0, at), 5)), torch.where(state == 0, 0.0, state + 1.0)

    def terminated(self, state: Tensor) -> Tensor:
        return state == 0


def worlds() -> dict[str, Callable[[], Any]]:
    return {
        "random": lambda: RandomWorld(1, 3, 2, 2, 3, holes=False),
        "timed": lambda: TimedWorld(2, 3, 3, 2, 4, holes=False),
        "forbidden": lambda: Quiet(5, 3, 3, 2, 4),
        "factored": lambda: FactoredWorld(3),
        "lake": lambda: load_model("frozen_lake")("4x4", horizon=30),
        "cut": Cut,
    }


class Quiet(TimedWorld):
    """Forbidden actions and impossible outcomes, but no reward of -inf."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reward = self.reward.clamp(min=-5.0)


def policies(world: Any) -> dict[str, Any]:
    tables = cai.tabulate(world)
    solved = cai.solve(tables, cai.VARIATIONAL, temperature=0.5)
    return {
        "prior": cai.policies.FixedPolicy(lambda t: _at(tables.log_prior, t, 2), tables.states, tables.actions),
        "solved": solved,
        "fixed": cai.policies.FixedPolicy(lambda t: solved.policy.log_probs(t), tables.states, tables.actions),
        "hard": cai.solve(tables, cai.HARD).policy,
    }


def _at(table: Tensor, t: int, dims: int) -> Tensor:
    return table[t] if table.dim() > dims else table


@pytest.mark.parametrize("name", slow_after(2, ["prior", "solved", "fixed", "hard"]))
@pytest.mark.parametrize("which", list(worlds()))
@pytest.mark.usefixtures("float64")
def test_the_mean_return_is_the_exact_one(which: str, name: str) -> None:
    world = worlds()[which]()
    policy = policies(world)[name]
    found = cai.rollout(world, policy, batch=N, generator=drawn())
    exact = cai.evaluate(world, policy, temperature=0.5).expected_return
    error = float(found.returns.std()) / N**0.5
    assert abs(float(found.returns.mean()) - exact) <= 4 * error + 1e-12
    if name == "prior":
        again = cai.rollout(world, None, batch=N, generator=drawn(1))
        assert abs(float(again.returns.mean()) - exact) <= 4 * float(again.returns.std()) / N**0.5


@pytest.fixture(params=["look-up", "program"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to step: without room for tables the program runs."""
    if request.param == "program":
        monkeypatch.setattr(outcomes, "MOST", 0)
    return str(request.param)


@pytest.mark.parametrize("which", ["timed", "factored", "lake"])
@pytest.mark.usefixtures("float64")
def test_every_time_and_state_is_visited_as_often_as_it_should_be(which: str, form: str) -> None:
    world = worlds()[which]()
    policy = cai.solve(world, cai.POSTERIOR, temperature=0.7).policy
    occupancy = cai.evaluate(world, policy, temperature=0.7).occupancy
    S, A = (space.size for space in policy.spaces)
    simulator = WorldSimulator(world, N)
    assert (simulator.outcomes is None) == (form == "program")
    found = cai.rollout(simulator, policy, generator=drawn(3))
    both = zip(policy.spaces, (found.states, found.actions), strict=True)
    states, actions = (space.join(space.unpack(x)) for space, x in both)
    for t, alive in enumerate(found.alive):
        share = torch.bincount((states[t] * A + actions[t])[alive], minlength=S * A).double() / N
        exact = occupancy[t] if occupancy.dim() == 3 else occupancy[t].unsqueeze(-1) * policy.probs(t)
        exact = torch.where(world.terminated(torch.arange(S)).unsqueeze(-1), 0.0, exact) if which == "lake" else exact
        exact = exact.flatten()
        assert bool(((share - exact).abs() <= 5 * (exact * (1 - exact) / N).sqrt() + 1e-12).all())


def test_only_the_copies_that_go_on_are_stepped() -> None:
    class Counting(Cut):
        stepped = 0

        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            Counting.stepped += len(state)
            return super().step(state, action, t)

    simulator = WorldSimulator(Counting(), 300)
    vars(simulator)["outcomes"] = None  # the program, whose steps can be counted
    Counting.stepped = 0
    found = cai.rollout(simulator, None, generator=drawn())
    assert found.steps == Counting.stepped < found.alive.numel()


class Begun(Cut):
    """Some episodes have ended before they begin."""

    def initial(self) -> Tensor:
        return pyro.sample("x", Categorical(torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0])))


@pytest.mark.parametrize("world", [Cut(), Begun()])
def test_a_policy_that_may_remember_the_copies_sees_them_all(world: Cut) -> None:
    class Remembering:
        """Is told the states of all copies."""

        def sample(self, state: Tensor, t: int) -> Tensor:
            assert state.shape == (40,)
            seen.append(state)
            return torch.ones_like(state)

    seen: list[Tensor] = []
    found = cai.rollout(world, Remembering(), batch=40, generator=drawn())
    assert bool(found.alive[0].all()) == (type(world) is Cut)
    assert not bool(found.alive.all())
    assert torch.equal(torch.stack(seen)[found.alive], found.states[:-1][found.alive])


def test_an_action_that_there_is_not_is_no_other_states_action() -> None:
    class Fourth:
        def sample(self, state: Tensor, t: int) -> Tensor:
            return torch.full_like(state, 4)

    with pytest.raises(cai.WorldError, match="variable 'action': the value 4; expected one of 0 … 3"):
        cai.rollout(load_model("frozen_lake")("4x4", horizon=30), Fourth(), batch=7)


@pytest.mark.parametrize("T", [1, 5])
def test_a_policy_is_told_the_time_and_only_the_running_copies_matter(T: int) -> None:
    times: list[int] = []

    class Telling:
        def sample(self, state: Tensor, t: int) -> Tensor:
            times.append(t)
            return torch.zeros_like(state)

    found = cai.rollout(RandomWorld(1, 3, 2, 2, T), Telling(), batch=7)
    assert times == list(range(T))
    assert found.rewards.shape == (T, 7)
    assert found.states.shape == (T + 1, 7)


class Coins:
    """Every distribution is one for all copies."""

    horizon = 1

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.ones(2)))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        coin = pyro.sample("coin", Categorical(torch.ones(2)))
        pyro.sample("unused", Normal(0.0, 1.0))
        return pyro.sample("s", cai.Point(coin, 2)), (state + 2 * action + 4 * coin)  # whole numbers


@pytest.mark.parametrize("policy", [None, lambda s, t: Categorical(torch.ones(2))])
def test_what_is_one_distribution_for_all_is_drawn_for_each(policy: Any) -> None:
    acting = policy and cai.policies.FunctionPolicy(Coins(), policy)
    found = cai.rollout(Coins(), acting, batch=8000, generator=drawn())
    assert found.actions.shape == (1, 8000)
    assert found.rewards.is_floating_point()
    share = torch.bincount(found.rewards[0].long(), minlength=8) / 8000
    assert bool(((share - 1 / 8).abs() <= 4.5 * (7 / 64 / 8000) ** 0.5).all())  # independent: all eight as likely


# Randomness


@pytest.mark.parametrize("world", [FactoredWorld(), "CartPole-v1", "Pendulum-v1"])
def test_the_same_generator_gives_the_same_tensors_and_the_global_one_is_left_alone(world: Any) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (cai.rollout(world, batch=4, generator=drawn(seed), max_steps=6) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, two)
    assert not same(one, other)
    three, four = (cai.rollout(world, batch=4, max_steps=6) for _ in range(2))
    assert not same(three, four)
    torch.manual_seed(5)
    assert same(cai.rollout(world, batch=4, max_steps=6), three)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else vars(value).values()
    return [one for part in parts if isinstance(part, Tensor | dict) for one in tensors(part)]


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


# Ends


def assert_ended(found: Rollout, ends: Callable[[Tensor], Tensor]) -> None:
    """An episode goes on exactly while its states are no ends; then nothing moves and nothing is paid."""
    over = torch.stack([ends(one) for one in found.states])
    assert torch.equal(found.alive, ~over[:-1])
    assert torch.equal(found.terminated, over[-1])
    assert torch.equal(found.truncated, ~over[-1])
    assert torch.equal(found.lengths, found.alive.sum(0))
    assert found.steps == int(found.lengths.sum())
    assert bool((found.rewards[~found.alive] == 0).all())
    for before, after, going in zip(found.states[:-1], found.states[1:], found.alive, strict=True):
        assert torch.equal(before[~going], after[~going])


def test_a_pole_that_fell_stays_where_it_lies() -> None:
    world = load_world("cartpole")
    found = cai.rollout(world, batch=50, generator=drawn(), max_steps=30)
    assert_ended(found, world.terminated)
    assert bool(found.terminated.any())
    assert bool(found.truncated.any())
    assert torch.equal(found.returns, found.lengths.float())


def test_a_lake_ends_in_a_hole_or_at_the_goal() -> None:
    world = load_model("frozen_lake")("4x4", horizon=30)
    found = cai.rollout(world, batch=500, generator=drawn())
    assert_ended(found, world.terminated)
    assert found.returns.max() == 1


class TimedCut(Cut):
    """The reward is the time."""

    stationary = False

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        following, _ = super().step(state, action, t)
        return following, torch.where(state == 0, 0.0, float(t))


def test_the_time_goes_on_where_the_first_copy_has_ended() -> None:
    found = cai.rollout(TimedCut(), batch=200, generator=drawn(5))
    assert int(found.lengths[0]) < len(found.rewards), "another seed, so that the first copy ends before the others"
    for t, (reward, alive) in enumerate(zip(found.rewards, found.alive, strict=True)):
        assert bool((reward[alive] == t).all())


def test_a_terminal_reward_is_paid_once_at_the_horizon() -> None:
    class Last(Cut):
        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            return super().step(state, action, t)[0], torch.zeros(())

        def terminal(self, state: Tensor) -> Tensor:
            return state.float()

    found = cai.rollout(Last(), batch=300, generator=drawn())
    assert torch.equal(found.returns, found.states[-1].float())
    short = cai.rollout(Last(), batch=300, generator=drawn(), max_steps=4)  # the caller's limit is no horizon
    assert bool((short.returns == 0).all())


class Goal:
    """A walk to its last cell, which absorbs; what is paid is paid on s_T, for being there."""

    discount = 1.0

    def __init__(self, horizon: int | None, discount: float = 1.0) -> None:
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        return pyro.sample("x", Categorical(torch.tensor([1.0, 0.0, 0.0])))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("move", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("x", cai.Point((state + action).clamp(max=2), 3)), -0.5 * (state < 2)

    def terminal(self, state: Tensor) -> Tensor:
        return 5.0 * (state == 2)

    def terminated(self, state: Tensor) -> Tensor:
        return state == 2


class Ahead:
    """Always moves on."""

    def sample(self, state: Tensor, t: int) -> Tensor:
        return torch.ones_like(state)


@pytest.mark.parametrize("T", [2, 3, 5])
def test_what_is_paid_at_the_horizon_is_paid_to_those_that_arrived_before(T: int) -> None:
    world = Goal(T)
    found = cai.rollout(world, Ahead(), batch=3)
    assert cai.check(world) == []
    assert found.returns.tolist() == [float(cai.solve(world, cai.HARD).value)] * 3
    assert bool(found.alive.all())  # no episode ends before T
    assert bool(found.truncated.all())


def test_without_a_horizon_nothing_is_paid_at_the_end_and_an_episode_may_end_early() -> None:
    found = cai.rollout(Goal(None, 0.9), Ahead(), batch=3, max_steps=9)
    assert found.returns.tolist() == [-1.0] * 3
    assert found.lengths.tolist() == [2] * 3
    assert bool(found.terminated.all())


@pytest.mark.parametrize("policy", [None, Ahead()], ids=["prior", "policy"])
def test_copies_that_all_begin_ended_take_no_step(policy: Any) -> None:
    class There(Goal):
        terminal = None  # type: ignore[assignment]

        def initial(self) -> Tensor:
            return pyro.sample("x", Categorical(torch.tensor([0.0, 0.0, 1.0])))

    found = cai.rollout(There(4), policy, batch=3)
    assert found.states.tolist() == [[2, 2, 2]]
    assert found.actions.shape == found.rewards.shape == found.alive.shape == (0, 3)
    assert (found.actions.dtype, found.rewards.dtype) == (torch.int64, torch.get_default_dtype())
    assert found.returns.tolist() == [0.0] * 3
    assert found.lengths.tolist() == [0] * 3
    assert found.steps == 0
    assert bool(found.terminated.all())
    assert not bool(found.truncated.any())
    with pytest.raises(cai.WorldError, match="a start state that is not ended"):  # a learner would wait forever
        cai.learn.q_learning(There(4), steps=10, progress=False)


def test_an_optional_member_that_is_none_is_absent() -> None:
    class Bare(Goal):
        terminal = terminated = features = None  # type: ignore[assignment]

    simulator = WorldSimulator(Bare(3), 2)
    assert simulator.features(torch.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert cai.check(Bare(3)) == []
    assert cai.rollout(simulator, Ahead()).rewards.T.tolist() == [[-0.5, -0.5, 0.0]] * 2


def test_restart_begins_anew_what_has_ended_and_nothing_else() -> None:
    simulator = WorldSimulator(Cut(), 60)
    with drawing(seeded(0)):
        env_state = simulator.begin()
        for _ in range(3):
            env_state, _ = simulator.step(env_state, prior_action(simulator, env_state.state, 0))
        ended = env_state.ended
        assert bool(ended.any())
        assert not bool(ended.all())
        after = simulator.restart(env_state)
        assert torch.equal(after.state[~ended], env_state.state[~ended])
        assert torch.equal(after.t, torch.where(ended, 0, 3))
        assert bool((after.state[ended] >= 2).all())
        assert not bool(after.ended.any())
        assert simulator.restart(after) is after
        for _ in range(5):
            after, _ = simulator.step(after, torch.zeros(60, dtype=torch.long))
        assert bool(after.ended[~ended].all())
        assert not bool(after.truncated[ended].any())  # their horizon counts from their own start


def test_a_timed_world_starts_again_once_all_have_ended() -> None:
    simulator = WorldSimulator(TimedCut(), 60)
    assert simulator.timed
    with drawing(seeded(0)):
        env_state = simulator.begin()
        while not bool(env_state.ended.all()):
            env_state, _ = simulator.step(env_state, prior_action(simulator, env_state.state, int(env_state.t.max())))
            after = simulator.restart(env_state)
            assert (after is env_state) is not bool(env_state.ended.all())
    assert bool((after.t == 0).all())


# Black boxes


def by_hand(make: Callable[[], Any], seeds: list[int], actions: Any) -> list[tuple[list[Any], list[float], bool, bool]]:
    """Plain loops over Gymnasium, one environment after the other."""
    found = []
    for i, seed in enumerate(seeds):
        env, over, cut = make(), False, False
        seen, _ = env.reset(seed=seed)
        states, rewards = [seen], list[float]()
        for action in actions[:, i]:
            if over or cut:
                break
            seen, reward, over, cut, _ = env.step(action)
            states.append(seen)
            rewards.append(float(reward))
        found.append((states, rewards, over, cut))
    return found


def limited() -> Any:
    return gymnasium.make("CartPole-v1", max_episode_steps=10)


BOXES: dict[str, tuple[Any, Callable[[], Any]]] = {
    "CartPole-v1": ("CartPole-v1", lambda: gymnasium.make("CartPole-v1")),
    "FrozenLake-v1": ("FrozenLake-v1", lambda: gymnasium.make("FrozenLake-v1")),
    "Pendulum-v1": ("Pendulum-v1", lambda: gymnasium.make("Pendulum-v1")),
    "limited": (limited, limited),
    "vector": (gymnasium.vector.SyncVectorEnv([limited] * 5), limited),
}


@pytest.mark.parametrize("name", list(BOXES))
def test_a_black_box_is_a_plain_loop(name: str) -> None:
    env, make = BOXES[name]
    simulator = simulator_of(env, 5)
    begun: list[EnvState] = []

    def choose(env_state: EnvState, t: int) -> Any:
        begun.append(env_state)
        return prior_action(simulator, env_state.state, t)

    with drawing(seeded(4)):
        found = roll(simulator, choose, 40)
    assert found.alive.shape[1] == 5
    seeds = [tape.seed for tape in begun[0].memory]
    actions = found.actions.numpy()
    for i, (states, rewards, over, cut) in enumerate(by_hand(make, seeds, actions)):
        n = len(rewards)
        assert int(found.lengths[i]) == n
        assert found.rewards[:n, i].tolist() == pytest.approx(rewards, abs=1e-6)
        assert np.array_equal(found.states[: n + 1, i].numpy(), np.array(states, found.states.numpy().dtype))
        assert bool(found.terminated[i]) == over
        assert bool(found.truncated[i]) == (cut or not over)
        assert bool((found.states[n:, i] == found.states[n, i]).all())
        assert bool((found.rewards[n:, i] == 0).all())
    if name == "limited":
        assert bool((found.truncated & (found.lengths == 10)).any())


def test_a_time_limit_is_no_end_of_the_world() -> None:
    env = gymnasium.make("CartPole-v1", max_episode_steps=10)
    assert env.spec is not None
    simulator = EnvironmentSimulator(lambda: gymnasium.make("CartPole-v1", max_episode_steps=10), 30)
    with drawing(seeded(0)):
        env_state = simulator.begin()
        while not bool(env_state.ended.all()):
            env_state, _ = simulator.step(env_state, prior_action(simulator, env_state.state, 0))
    assert not bool((env_state.terminated & env_state.truncated).any())
    assert torch.equal(
        env_state.terminated, (env_state.state[:, 2].abs() > math.radians(12)) | (env_state.state[:, 0].abs() > 2.4)
    )
    assert bool((env_state.t[env_state.truncated] == 10).all())
    assert bool(env_state.truncated.any())


class Counted(gymnasium.Env[int, int]):
    """Numbers that do not begin at 0, and a count of what is done to it."""

    observation_space = gymnasium.spaces.Discrete(4, start=3)
    action_space = gymnasium.spaces.Discrete(2, start=-1)
    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 3
        return self.at, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        type(self).steps += 1
        self.at = 3 + (self.at - 2 + 2 * action + int(self.np_random.integers(2))) % 4
        return self.at, float(action), False, False, {}


def test_numbers_that_do_not_begin_at_0_are_ours_from_0() -> None:
    found = cai.rollout(Counted, batch=50, generator=drawn(), max_steps=6)
    assert sorted(set(found.states.flatten().tolist())) == [0, 1, 2, 3]
    assert torch.equal(found.rewards, found.actions - 1.0)
    assert EnvironmentSimulator(Counted, 1).features(torch.tensor([0, 3])).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_going_on_costs_nothing_and_reading_shapes_disturbs_nothing() -> None:
    from cai.learn.action_heads import actor_of
    from cai.learn.functions import width_of

    simulator, Counted.steps = EnvironmentSimulator(Counted, 2), 0
    with drawing(seeded(0)):
        env_state = simulator.begin()
        for n in range(1, 6):
            assert width_of(simulator) == 4
            actor_of(simulator)
            env_state, _ = simulator.step(env_state, torch.zeros(2, dtype=torch.long))
            assert Counted.steps == 2 * n  # nothing was replayed


class BreakingError(Exception):
    """The environment broke."""


def test_an_environment_that_broke_off_is_brought_back() -> None:
    class Breaking(Counted):
        broken = False

        def step(self, action: int) -> Any:
            found = super().step(action)
            if self.broken:
                raise BreakingError  # after it has moved
            return found

    simulator, action = EnvironmentSimulator(Breaking, 1), torch.ones(1, dtype=torch.long)
    with drawing(seeded(0)):
        env_state = simulator.begin()
        whole = [env_state := simulator.step(env_state, action)[0] for _ in range(3)]
        here = whole[0]
        for n in (1, 2):  # from an old state, and then from the one where the environment is
            Breaking.broken = True
            with pytest.raises(BreakingError):
                simulator.step(here, action)
            Breaking.broken = False
            here, _ = simulator.step(here, action)
            assert same(here, whole[n])


# Vector environments


def test_a_vector_environment_is_the_single_one_on_all_copies() -> None:
    simulator, single = forward_simulator("CartPole-v1", 60), gymnasium.make("CartPole-v1", disable_env_checker=True)
    assert isinstance(simulator, VectorSimulator)
    assert isinstance(simulator, Simulator)
    with drawing(seeded(2)):
        found = roll(simulator, lambda env_state, t: prior_action(simulator, env_state.state, t), 40)
    single.reset(seed=0)
    inner: Any = single.unwrapped
    for t in range(0, len(found.alive), 5):
        for i in found.alive[t].nonzero().flatten().tolist():
            inner.state, inner.steps_beyond_terminated = found.states[t, i].double().numpy(), None
            seen, reward, over, _, _ = inner.step(int(found.actions[t, i]))
            assert found.states[t + 1, i].tolist() == pytest.approx(seen.tolist(), abs=1e-5)
            assert reward == found.rewards[t, i]
            assert over == bool((t + 1 == found.lengths[i]) & found.terminated[i])
    assert bool((found.rewards[~found.alive] == 0).all())
    assert int(found.lengths.max()) == 40
    assert found.lengths.double().mean() == pytest.approx(22, abs=4)  # of the prior


def test_a_vector_environment_has_the_time_limit_of_its_id_and_only_goes_forward() -> None:
    simulator = forward_simulator(EnvironmentMaker("CartPole-v1", {"max_episode_steps": 7}), 3)
    with drawing(seeded(2)):
        begun = simulator.begin()
        found = roll(simulator, lambda env_state, t: prior_action(simulator, env_state.state, t))
        assert bool((found.truncated & (found.lengths == 7)).all())
        with pytest.raises(cai.WorldError, match="an earlier state"):
            simulator.step(begun, torch.zeros(3, dtype=torch.long))
    assert isinstance(forward_simulator("Acrobot-v1", 2), EnvironmentSimulator)


def test_a_start_in_a_vector_environment_is_not_overwritten_by_its_next_steps() -> None:
    class OneBuffer:
        """Shows every step in one array, as vector environments of shared memory do."""

        def __init__(self) -> None:
            self.num_envs, self.seen = 3, np.zeros((3, 4), np.float32)

        def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
            self.seen[:] = 0
            return self.seen, {}

        def step(self, action: Any) -> tuple[Any, ...]:
            self.seen += 1
            return self.seen, np.ones(3), np.zeros(3, bool), np.zeros(3, bool), {}

    simulator: Any = VectorSimulator(EnvironmentSimulator("CartPole-v1", 1), OneBuffer())
    with drawing(seeded(2)):
        found = roll(simulator, lambda env_state, t: prior_action(simulator, env_state.state, t), 2)
    assert found.states[:, 0, 0].tolist() == [0.0, 1.0, 2.0]


# Scenes


SIMULATED = ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1", Cut(), TimedCut(), FactoredWorld(), PointMass()]


def went_on(simulator: Simulator, env_state: EnvState, n: int) -> list[tuple[EnvState, Tensor]]:
    """Go on from a state under the prior, with the randomness of seed n."""
    found = []
    with drawing(seeded(n)):
        for _ in range(n):
            env_state, reward = simulator.step(
                env_state, prior_action(simulator, env_state.state, int(env_state.t.max()))
            )
            found.append((env_state, reward))
            env_state = simulator.restart(env_state)
    return found


def agree(one: list[tuple[EnvState, Tensor]], other: list[tuple[EnvState, Tensor]]) -> bool:
    return all(same(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True))


@pytest.mark.parametrize("world", SIMULATED, ids=lambda one: one if isinstance(one, str) else type(one).__name__)
def test_an_old_scene_goes_on_as_it_did_before(world: Any) -> None:
    simulator = simulator_of(world, 3)
    with drawing(seeded(1)):
        begun = simulator.begin()
    held = [one.clone() for one in tensors(begun)]
    way = went_on(simulator, begun, 25)
    middle = simulator.restart(way[12][0]) if not bool(way[12][0].ended.any()) else None
    branch = went_on(simulator, way[6][0], 9)
    other = went_on(simulator, way[6][0], 7)
    assert agree(went_on(simulator, way[6][0], 9), branch)
    assert agree(went_on(simulator, way[6][0], 7), other)
    if middle is not None:
        assert agree(went_on(simulator, middle, 8), went_on(simulator, middle, 8))
    assert agree(went_on(simulator, begun, 25), way)
    assert all(torch.equal(a, b) for a, b in zip(tensors(begun), held, strict=True))


@pytest.mark.parametrize("world", SIMULATED, ids=lambda one: one if isinstance(one, str) else type(one).__name__)
@pytest.mark.parametrize("n", [0, 13])
def test_a_scene_can_be_kept_in_a_file(world: Any, n: int) -> None:
    simulator = simulator_of(world, 3)
    with drawing(seeded(1)):
        env_state = simulator.begin()
        if n:
            env_state = simulator.restart(went_on(simulator, env_state, n)[-1][0])
    file = io.BytesIO()
    torch.save(simulator.pack(env_state), file)
    whole = went_on(simulator, env_state, 20)
    file.seek(0)
    fresh = simulator_of(world, 3)
    again = fresh.unpack(torch.load(file, weights_only=True))
    assert same(again, env_state)
    assert agree(went_on(fresh, again, 20), whole)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=40))
def test_tapes_are_a_tree_of_futures(moves: list[tuple[int, int]]) -> None:
    from cai.simulate.environments import Tape

    tapes, told = [Tape(0, [], 0)], [[]]
    for parent, action in moves:
        n = parent % len(tapes)
        tapes.append(tapes[n].then(action))
        told.append([*told[n], action])
    for tape, actions in zip(tapes, told, strict=True):
        assert tape.actions[: tape.length] == actions


# What networks see, and priors


def test_features_are_one_hot_where_finite_and_the_worlds_own_where_it_has_some() -> None:
    simulator = WorldSimulator(FactoredWorld(), 2)
    state = {"floor": torch.tensor([0, 2]), "door": torch.tensor([1, 0])}
    assert simulator.features(state).tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]
    pendulum = load_world("pendulum")
    swinging = torch.tensor([[0.3, 0.0], [1.0, 2.0]])
    assert torch.equal(WorldSimulator(pendulum, 2).features(swinging), pendulum.features(swinging))
    assert EnvironmentSimulator("FrozenLake-v1", 1).features(torch.tensor([3])).argmax(-1).tolist() == [3]
    seen = torch.randn(4, 2, 3, generator=drawn())
    assert torch.equal(EnvironmentSimulator("Pendulum-v1", 2).features(seen), seen)
    assert WorldSimulator(PointMass(), 2).features(torch.tensor([0.5, 2.0])).tolist() == [[0.5], [2.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("world", ["CartPole-v1", "FrozenLake-v1", Cut(), Ring(4), TimedWorld(0, 3, 3, 2, 4)])
def test_features_and_priors_are_of_the_dtype_that_was_the_default(world: Any, dtype: torch.dtype) -> None:
    with precision(dtype):
        simulator = simulator_of(world, 3)
        with drawing(seeded(0)):
            env_state = simulator.begin()
    for default in (torch.float32, torch.float64):
        with precision(default):
            assert simulator.dtype == dtype
            assert simulator.features(env_state.state).dtype == dtype
            log_prior = simulator.log_prior(env_state.state, 0)
            assert log_prior.dtype == dtype
            assert log_prior.shape == (3, log_prior.shape[-1])
            torch.testing.assert_close(log_prior.logsumexp(-1), torch.zeros(3, dtype=dtype))


@pytest.mark.usefixtures("float64")
def test_a_prior_knows_state_time_and_what_is_forbidden() -> None:
    world = TimedWorld(5, 3, 3, 2, 4)
    simulator, state = WorldSimulator(world, 6), torch.tensor([0, 1, 2, 2, 1, 0])
    assert bool((world.prior == 0).any())
    for t in range(4):
        torch.testing.assert_close(simulator.log_prior(state, t).exp(), world.prior[t][state])
    times = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(simulator.log_prior(state, times).exp(), world.prior[times, state])


def test_a_prior_of_states_that_are_not_numbered_knows_state_and_time_too() -> None:
    class Tilted:
        """Acts on a real state; prior and action depend on the time."""

        horizon = 3

        def initial(self) -> Tensor:
            return pyro.sample("x", Normal(torch.tensor(0.0), 1.0))

        def act(self, state: Tensor, t: int) -> Tensor:
            return pyro.sample("a", Categorical(torch.stack([state.exp(), state * 0 + t, state * 0], -1)))

        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            return pyro.sample("x", Normal(state + action, 0.1)), -state

    simulator, x = WorldSimulator(Tilted(), 4), torch.tensor([0.0, 1.0, -1.0, 2.0])
    assert simulator.timed
    for t in (0, 2):
        weights = torch.stack([x.exp(), torch.full((4,), float(t)), torch.zeros(4)], -1)
        for time in (t, torch.full((4,), t)):
            torch.testing.assert_close(simulator.log_prior(x, time).exp(), weights / weights.sum(-1, keepdim=True))


def test_a_prior_that_is_the_same_everywhere_has_a_row_for_every_state() -> None:
    class Even(PointMass):
        def act(self, state: Tensor, t: int) -> Tensor:
            return pyro.sample("u", Categorical(torch.tensor([1.0, 3.0])))

    found = WorldSimulator(Even(), 4).log_prior(torch.zeros(5, 4)).exp()
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75]).expand(5, 4, 2))


# Normalised


@given(st.integers(0, 2**31 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_moments_of_parts_are_those_of_the_whole(seed: int, sizes: list[int]) -> None:
    parts = [torch.randn(n, 3, generator=drawn(seed + k), dtype=torch.float64) * (k + 1) for k, n in enumerate(sizes)]
    found = moments(parts[0])
    for part in parts[1:]:
        found = found.merged(moments(part))
    whole = torch.cat(parts)
    assert found.count == len(whole)
    torch.testing.assert_close(found.mean, whole.mean(0), rtol=0, atol=1e-12)
    if len(whole) > 1:
        torch.testing.assert_close(found.deviation, whole.std(0, correction=0), rtol=1e-10, atol=1e-12)


def test_what_never_changes_is_not_blown_up() -> None:
    assert Moments(3, torch.tensor([0.1]), torch.tensor([1e-18])).deviation.tolist() == [1.0]
    assert moments(torch.full((1000, 2), 0.1, dtype=torch.float64)).deviation.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("world", ["CartPole-v1", load_world("mountain_car"), FactoredWorld()])
def test_normalised_features_have_mean_0_and_deviation_1_under_the_prior(world: Any) -> None:
    simulator = simulator_of(world, 20)
    with drawing(seeded(0)), torch.no_grad():
        scaled = normalised(simulator, 4000)
        found = roll(scaled, lambda env_state, t: prior_action(scaled, env_state.state, t))
        again = normalised(simulator, 4000)
    assert isinstance(scaled, Simulator)
    states = found.states if isinstance(found.states, dict) else {"": found.states}
    states = {name: one[:-1][found.alive] for name, one in states.items()}
    x = scaled.features(states if isinstance(found.states, dict) else states[""])
    # Steps of one episode hang together: what is independent is the episodes, 20 of them.
    assert bool((x.mean(0).abs() < 5 * 20**-0.5).all())
    assert x.dtype == simulator.dtype
    assert bool(((x.std(0) > 0.3) & (x.std(0) < 3)).all())
    assert not torch.equal(again.features(scaled.example), scaled.features(scaled.example))  # other draws


def test_a_normalised_simulator_is_otherwise_the_simulator() -> None:
    plain = simulator_of("CartPole-v1", 3)
    with drawing(seeded(0)):
        scaled = normalised(plain, 500)
        begun = scaled.begin()
    assert agree(went_on(scaled, begun, 12), went_on(plain, begun, 12))
    assert torch.equal(scaled.log_prior(begun.state), plain.log_prior(begun.state))
    twin: Any = copy.deepcopy(normalised(WorldSimulator(PointMass(), 2), 100))
    assert twin.horizon == 4
    kept = pickle.loads(pickle.dumps(twin))
    assert torch.equal(kept.features(torch.ones(2)), twin.features(torch.ones(2)))
    with pytest.raises(AttributeError):
        getattr(kept, "nothing of this name")


# Faults


class Prior:
    """No policy."""


class Stuck(Counted):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)


@pytest.mark.parametrize(
    ("world", "options", "words"),
    [
        (Cut(), {"batch": 0}, "batch: 0"),
        (Cut(), {"batch": True}, "batch: True"),
        (Cut(), {"policy": Prior()}, "policy: a Prior"),
        (Cut(), {"max_steps": 0}, "max_steps: 0"),
        (Cut(), {"max_steps": True}, "max_steps: True"),
        (RandomWorld(0, 2, 2, 2, None, discount=0.9), {}, "max_steps: none"),
        ("NoSuchThing-v0", {}, "Gymnasium id 'NoSuchThing-v0': no such id"),
        (5, {}, "a int"),
        (gymnasium.make("CartPole-v1"), {}, "expected an id"),
        (Cut, {}, "makes a Cut"),
        (Cut(), {"env_options": {"is_slippery": False}}, "env_options: options ['is_slippery'] beside a Cut"),
        ("FrozenLake-v1", {"env_options": {"slips": 1}}, "Gymnasium id 'FrozenLake-v1': no option slips"),
    ],
)
def test_faults_are_one_line_that_names_the_argument(world: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError) as caught:
        cai.rollout(world, **options)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_library_that_is_not_installed_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)  # what import takes for a library that is not there
    with pytest.raises(cai.WorldError, match=r"Box2D is not installed; expected the extra: pip install 'cai\[box2d\]'"):
        cai.learn.ppo("LunarLander-v3", steps=1)
    monkeypatch.setitem(gymnasium.registry, "Gone-v0", EnvSpec("Gone-v0", entry_point="gone.envs:Gone"))
    with pytest.raises(cai.WorldError, match=r"'Gone-v0': No module named 'gone'; expected .* module gone\.envs can"):
        cai.rollout("Gone-v0")


def test_a_lander_flies_where_its_library_is_installed() -> None:
    pytest.importorskip("Box2D", reason="the extra [box2d] is not installed")
    flown = cai.rollout("LunarLander-v3", batch=2, max_steps=20)
    assert flown.steps == 40
    learned = cai.learn.ppo("LunarLander-v3", batch=2, length=8, steps=16, evaluations=1, episodes=1, progress=False)
    assert learned.steps == 16


def test_an_episode_that_never_ends_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.simulate.rollout.LONGEST", 50)
    with pytest.raises(cai.WorldError, match="50 steps"):
        cai.rollout(Stuck, batch=1)
    assert cai.rollout(Stuck, batch=1, max_steps=60).steps == 60


def test_a_world_that_does_not_broadcast_is_blamed() -> None:
    class Narrow(Cut):
        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            return pyro.sample("x", cai.Point(torch.zeros(3, dtype=torch.long), 5)), torch.zeros(3)

    with pytest.raises(cai.WorldError, match="step, t = 0"):
        cai.rollout(Narrow(), batch=7)


def test_a_uniform_prior_fills_the_box() -> None:
    found = cai.rollout("Pendulum-v1", batch=40, generator=drawn(), max_steps=50).actions
    assert found.shape == (50, 40, 1)
    u = found.flatten().sort().values / 4 + 0.5
    assert float((u - torch.linspace(0, 1, len(u))).abs().max()) < 1.95 / len(u) ** 0.5  # Kolmogorov, p = 0.001


def test_pairs_of_a_rollout_are_steps_of_the_world() -> None:
    world = load_world("mountain_car")
    found = cai.rollout(world, batch=5, generator=drawn(), max_steps=30)
    for t, (before, after) in enumerate(pairwise(found.states)):
        with pyro.poutine.block():
            expected, reward = world.step(before, found.actions[t], t)
        torch.testing.assert_close(after, expected)
        torch.testing.assert_close(found.rewards[t], reward)

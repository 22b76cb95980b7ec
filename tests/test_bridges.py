"""A world as a Gymnasium environment: it conforms, its spaces are the world's, and its returns have the exact law."""

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import gymnasium
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

import cai
from cai.bridges.environment import to_gymnasium
from tests.helpers import load_model
from tests.test_simulate import Goal
from tests.worlds import FactoredWorld, PointMass, RandomWorld, TimedWorld

WORLDS: dict[str, Callable[[], Any]] = {
    "frozen_lake": lambda: load_model("frozen_lake")(),
    "deep_sea": lambda: load_model("deep_sea")(size=4),
    "mountain_car": lambda: load_model("mountain_car")(),
    "pendulum": lambda: load_model("pendulum")(),
    "random": lambda: RandomWorld(0, 3, 2, 2, 3, holes=False),
    "timed": lambda: TimedWorld(0, 3, 2, 2, 3, holes=False),
    "factored": FactoredWorld,
    "point mass": lambda: PointMass(bounded=True),
    "mixed": lambda: Mixed(),
}
unbounded = pytest.mark.filterwarnings(  # true of these worlds, and meant: real states, torques up to 2 Nm
    r"ignore:.*A Box observation space (minimum|maximum) value is -?infinity:UserWarning",
    "ignore:.*For Box action spaces, we recommend using a symmetric and normalized space:UserWarning",
    "ignore:We recommend you to use a symmetric and normalized Box action space:UserWarning",
)


class Mixed:
    """A finite and a vector-valued state variable, and two continuous action variables of unequal shapes."""

    horizon = 2

    def initial(self) -> dict[str, Tensor]:
        kind = pyro.sample("kind", dist.Categorical(torch.ones(3)))
        return {"kind": kind, "place": pyro.sample("place", dist.Normal(torch.zeros(2), 1.0).to_event(1))}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        near = torch.zeros(2)
        push = pyro.sample("push", dist.Uniform(near - 0.5, near + 1).to_event(1))
        return {"push": push, "turn": pyro.sample("turn", dist.Uniform(-0.1, 0.1))}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        kind = pyro.sample("kind", cai.Point((state["kind"] + 1) % 3, 3))
        moved = state["place"] + action["push"] + action["turn"].unsqueeze(-1)
        return {"kind": kind, "place": pyro.sample("place", dist.Delta(moved, event_dim=1))}, moved.sum(-1)


def play(env: Any, choose: Callable[[Any, int], Any], episodes: int) -> np.ndarray[Any, Any]:
    """Return the returns of some episodes."""
    returns = np.zeros(episodes)
    for n in range(episodes):
        seen, info = env.reset(seed=n)
        over = False
        while not over:
            seen, reward, terminated, truncated, info = env.step(choose(seen, info["t"]))
            returns[n] += reward
            over = terminated or truncated
    return returns


@unbounded
@pytest.mark.parametrize("name", WORLDS)
def test_every_world_passes_gymnasiums_own_check(name: str) -> None:
    env = to_gymnasium(WORLDS[name](), render_mode="ansi")
    check_env(env, skip_render_check=True)  # of the render modes of a registered environment, which this is not
    env.reset(seed=0)
    assert env.render().startswith("t = 0: ")


@unbounded
@pytest.mark.parametrize("name", WORLDS)
def test_every_world_passes_the_check_of_stable_baselines(name: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="the extra [sb3] is not installed")
    env = to_gymnasium(WORLDS[name]())
    checker.check_env(env)
    assert env.reset(seed=0)[0] in env.observation_space


@pytest.mark.parametrize("name", ["timed", "factored"])
def test_returns_have_the_worlds_own_mean(name: str) -> None:
    """1000 episodes, 4 standard errors; the terminal reward and the clock of the timed world are in it."""
    world = WORLDS[name]()
    tables = cai.tabulate(world)
    env = to_gymnasium(world)
    probs = [cai.solve(tables, cai.VARIATIONAL).policy.probs(t).cumsum(-1).numpy() for t in range(world.horizon)]
    uniform = np.random.default_rng(0)

    def choose(seen: Any, t: int) -> Any:
        names = tables.states.names
        row = int(tables.states.join(dict(zip(names, torch.as_tensor(seen).reshape(-1), strict=True))))
        number = min(int(np.searchsorted(probs[t][row], uniform.random())), tables.actions.size - 1)
        action = [int(value) for value in tables.actions.split(torch.tensor(number)).values()]
        return action[0] if len(action) == 1 else np.array(action)

    returns = play(env, choose, 1000)
    exact = cai.evaluate(tables, cai.VARIATIONAL).expected_return
    assert abs(returns.mean() - exact) <= 4 * returns.std() / len(returns) ** 0.5


def test_frozen_lake_returns_what_it_should() -> None:
    """250 episodes; a return is 0 or 1, so its exact mean gives its exact deviation."""
    world = load_model("frozen_lake")(is_slippery=True, success_rate=0.8, horizon=20)
    policy = cai.solve(world, cai.HARD).policy
    greedy = [policy.probs(t).argmax(-1) for t in range(20)]
    exact = cai.evaluate(world, torch.stack([policy.probs(t) for t in range(20)])).expected_return
    greedy_return = cai.evaluate(world, torch.stack([torch.eye(4)[g] for g in greedy])).expected_return
    assert greedy_return == pytest.approx(exact)
    returns = play(to_gymnasium(world), lambda seen, t: int(greedy[t][seen]), 250)
    assert abs(returns.mean() - exact) <= 4 * (exact * (1 - exact) / 250) ** 0.5


def test_a_deterministic_world_returns_exactly_its_rewards() -> None:
    world = load_model("deep_sea")(size=4)
    tables = cai.tabulate(world)
    env = to_gymnasium(world)
    for dive in product(range(2), repeat=4):
        plan = torch.eye(2)[torch.tensor(dive)].unsqueeze(1).expand(4, tables.states.size, 2)
        got = float(play(env, lambda seen, t, dive=dive: dive[t], 1)[0])
        assert got == cai.evaluate(tables, plan).expected_return


def test_a_seed_fixes_every_draw_and_nothing_else_is_touched() -> None:
    env = to_gymnasium(WORLDS["random"]())
    before = torch.get_rng_state()
    first = play(env, lambda seen, t: t % 2, 20)
    assert (first == play(env, lambda seen, t: t % 2, 20)).all()
    assert len(set(first)) > 1
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


def test_the_spaces_are_the_worlds() -> None:
    spaces = {name: to_gymnasium(make()) for name, make in WORLDS.items()}
    assert spaces["frozen_lake"].observation_space == gymnasium.spaces.Discrete(17)
    assert spaces["factored"].observation_space == gymnasium.spaces.MultiDiscrete([3, 2])
    assert spaces["factored"].action_space == gymnasium.spaces.MultiDiscrete([2, 2])
    assert spaces["pendulum"].observation_space.shape == (3,)
    assert spaces["pendulum"].action_space == gymnasium.spaces.Box(-2, 2, (1,), np.float32)
    assert spaces["mixed"].observation_space.shape == (3,)
    low, high = np.array([-0.5, -0.5, -0.1], np.float32), np.array([1, 1, 0.1], np.float32)
    assert spaces["mixed"].action_space == gymnasium.spaces.Box(low, high)
    assert np.isinf(to_gymnasium(PointMass()).action_space.high).all()


def test_observations_and_actions_are_the_programs_own() -> None:
    world = Mixed()
    env: Any = to_gymnasium(world).unwrapped
    seen, _ = env.reset(seed=3)
    assert seen == pytest.approx(np.array([int(env.state["kind"]), *env.state["place"].tolist()]))
    after, reward, *_ = env.step(np.array([0.25, 1.0, 0.1], np.float32))
    assert after == pytest.approx(np.array([(seen[0] + 1) % 3, seen[1] + 0.35, seen[2] + 1.1]), abs=1e-6)
    assert reward == pytest.approx(after[1:].sum(), abs=1e-6)
    assert float(env.encoding.decode(np.array([0, 0, 0.1], np.float32))["turn"]) == 0.1  # float32's 0.1 lies beyond
    states = FactoredWorld()
    space = cai.tabulate(states).states
    seen = to_gymnasium(states).unwrapped.encoding.observe(space.pack(space.split(torch.arange(6))))  # type: ignore[attr-defined]
    assert seen.tolist() == [list(row) for row in product(range(3), range(2))]


def test_features_are_what_is_observed() -> None:
    world = load_model("pendulum")()
    env: Any = to_gymnasium(world).unwrapped
    seen, _ = env.reset(seed=0)
    assert seen == pytest.approx(world.features(env.state).numpy())


def test_an_absorbing_state_terminates_and_the_horizon_truncates() -> None:
    env = to_gymnasium(load_model("frozen_lake")(is_slippery=False, horizon=3))
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in (2, 1)]  # right, then down into the hole
    assert ends == [(False, False), (True, False)]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset()
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    endless = to_gymnasium(load_model("frozen_lake")(is_slippery=False, horizon=None, discount=0.9))
    endless.reset()
    assert [endless.step(0)[2:4] for _ in range(300)] == [(False, False)] * 300


@pytest.mark.parametrize("discount", [1.0, 0.5])
@pytest.mark.parametrize("T", [2, 3, 5])
def test_a_terminal_reward_is_paid_at_the_horizon_to_those_that_arrived_before(T: int, discount: float) -> None:
    world = Goal(T, discount)
    env = to_gymnasium(world)
    env.reset(seed=0)
    steps = [env.step(1) for _ in range(T)]
    assert [step[2:4] for step in steps] == [(False, False)] * (T - 1) + [(False, True)]
    discounted = sum(discount**t * float(step[1]) for t, step in enumerate(steps))
    ahead = torch.tensor([0.0, 1.0]).expand(T, 3, 2)
    assert discounted == pytest.approx(cai.evaluate(world, ahead).expected_return, abs=1e-12)


def test_an_optional_member_that_is_none_is_absent() -> None:
    class Bare(Goal):
        terminal = terminated = features = None  # type: ignore[assignment]

    env = to_gymnasium(Bare(3))
    assert env.observation_space == gymnasium.spaces.Discrete(3)
    env.reset(seed=0)
    assert [env.step(1)[1:4] for _ in range(3)] == [(-0.5, False, False), (-0.5, False, False), (0.0, False, True)]


def test_what_does_not_fit_is_named() -> None:
    class Simplex(PointMass):
        def act(self, state: Tensor, t: int) -> Tensor:
            return pyro.sample("u", dist.Dirichlet(torch.ones(2)))

    class HalfFinite(Mixed):
        def act(self, state: Any, t: int) -> dict[str, Tensor]:
            return {"go": pyro.sample("go", dist.Categorical(torch.ones(2))), "u": pyro.sample("u", dist.Normal(0, 1))}

    class Flat(PointMass):
        def features(self, state: Tensor) -> Tensor:
            return state

    world = RandomWorld(0, 2, 2, 1, 2, holes=False)
    for what, message in ((Simplex(), "'u'"), (HalfFinite(), r"\['go'\]"), (Flat(), "a vector")):
        with pytest.raises(cai.WorldError, match=message):
            to_gymnasium(what)
    with pytest.raises(cai.WorldError, match="render_mode"):
        to_gymnasium(world, render_mode="human")
    env = to_gymnasium(world)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset()
    with pytest.raises(cai.WorldError, match="action 2; expected one of Discrete"):
        env.step(2)
    world.reward[:] = -torch.inf
    env = to_gymnasium(world)
    env.reset()
    with pytest.raises(cai.WorldError, match="action 0: reward -inf; expected a finite reward"):
        env.step(0)


@pytest.mark.slow
def test_importing_cai_imports_no_learner() -> None:
    code = "import sys, cai; cai.evaluate; assert not {'stable_baselines3', 'gymnasium'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

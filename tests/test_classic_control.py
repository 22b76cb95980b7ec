"""The classic-control worlds: Gymnasium's, step by step, on any batch; ended is ended; no table, said in one line."""

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.bridges.named import load_world
from cai.support.catalogue import names

pytestmark = pytest.mark.usefixtures("float64")

# Gymnasium's id, the number of actions (None: any torque), and half of the box of states to look at.
GYMNASIUM: dict[str, tuple[str, int | None, tuple[float, ...]]] = {
    "cartpole": ("CartPole-v1", 2, (2.4, 5, 0.2, 5)),
    "pendulum": ("Pendulum-v1", None, (30, 8)),
    "acrobot": ("Acrobot-v1", 3, (math.pi, math.pi, 4 * math.pi, 9 * math.pi)),
    "mountain_car": ("MountainCar-v0", 3, (1.2, 0.07)),
}
# What ends an episode soon, and swings far on the way: push the way it moves, or (CartPole) left only.
DRIVEN = {
    "cartpole": lambda state: 0,
    "pendulum": lambda state: math.copysign(2, state[1]),
    "acrobot": lambda state: 2 if state[3] > 0 else 0,
    "mountain_car": lambda state: 2 if state[1] >= 0 else 0,
}
WORLDS = pytest.mark.parametrize("name", GYMNASIUM)
BITS = {"rtol": 1e-13, "atol": 1e-13}  # both compute in float64; sines may differ in their last bit


@dataclass(frozen=True)
class Episode:
    """T steps of a Gymnasium environment, as its own ``state`` tells them (observations are float32)."""

    states: Tensor  # [T+1, D]
    actions: Tensor  # [T]
    rewards: Tensor  # [T]
    terminated: Tensor  # [T]
    observations: Tensor  # [T+1, F]


def play(name: str, seed: int, driven: bool) -> Episode:
    """Play one whole episode, at most to Gymnasium's time limit."""
    id_, n_actions, _ = GYMNASIUM[name]
    inner, rng = gymnasium.make(id_).unwrapped, np.random.default_rng(seed)
    observation, _ = inner.reset(seed=seed)
    states, observations, steps = [np.array(inner.state, dtype=float)], [observation], []
    for _ in range(load_world(name).horizon):
        if driven and rng.random() < 0.9:
            action = DRIVEN[name](states[-1])
        else:
            action = rng.uniform(-2, 2) if n_actions is None else int(rng.integers(n_actions))
        observation, reward, terminated, _, _ = inner.step(np.array([action]) if n_actions is None else action)
        states.append(np.array(inner.state, dtype=float))
        observations.append(observation)
        steps.append((action, float(reward), terminated))
        if terminated:
            break
    actions, rewards, ends = (torch.tensor(column) for column in zip(*steps, strict=True))
    return Episode(torch.tensor(np.array(states)), actions, rewards, ends, torch.tensor(np.array(observations)))


def ends(world: Any, states: Tensor) -> Tensor:
    """Tell which states have ended; a world that never ends does not have ``terminated``."""
    own = getattr(world, "terminated", None)
    return torch.zeros(states.shape[:-1], dtype=torch.bool) if own is None else own(states)


EPISODES = pytest.mark.parametrize(
    ("name", "seed", "driven"), [(name, seed, seed > 2) for name in GYMNASIUM for seed in range(6)]
)


@EPISODES
def test_every_step_of_an_episode_is_gymnasiums(name: str, seed: int, driven: bool) -> None:
    """All steps as one batch, each from the state that Gymnasium was in."""
    world, episode = load_world(name), play(name, seed, driven)
    states, rewards = world.step(episode.states[:-1], episode.actions, 0)
    torch.testing.assert_close(states, episode.states[1:], **BITS)
    torch.testing.assert_close(rewards, episode.rewards, **BITS)
    assert torch.equal(ends(world, states), episode.terminated)
    features = world.features(episode.states)
    assert torch.equal(features.float(), episode.observations)


@EPISODES
def test_a_roll_out_from_gymnasiums_start_stays_with_it(name: str, seed: int, driven: bool) -> None:
    """Step after step on our own states; the acrobot is chaotic, so that only its first five seconds can be told."""
    world, episode = load_world(name), play(name, seed, driven)
    state = episode.states[0]
    for t in range(min(len(episode.actions), 25 if name == "acrobot" else 500)):
        state, _ = world.step(state, episode.actions[t], t)
        torch.testing.assert_close(state, episode.states[t + 1], rtol=1e-9, atol=1e-9)


def test_driven_episodes_end_where_they_can() -> None:
    """The episodes above do come to the end that they are to compare."""
    for name in ("cartpole", "acrobot", "mountain_car"):
        assert any(bool(play(name, seed, True).terminated[-1]) for seed in (3, 4, 5)), name


@WORLDS
@given(data=st.data())
def test_a_step_from_any_state_is_gymnasiums(name: str, data: st.DataObject) -> None:
    """Walls, clipped speeds and full turns included."""
    id_, n_actions, half = GYMNASIUM[name]
    world, inner = load_world(name), gymnasium.make(id_).unwrapped
    state = [data.draw(st.floats(-x, x, allow_subnormal=False)) for x in half]
    if name == "mountain_car":
        state[0] = min(state[0], 0.6)
    action = data.draw(st.floats(-3, 3) if n_actions is None else st.integers(0, n_actions - 1))
    before = torch.tensor(state)
    if bool(ends(world, before)):
        return
    inner.reset(seed=0)
    inner.state = np.array(state)
    _, reward, terminated, _, _ = inner.step(np.array([action]) if n_actions is None else action)
    after, ours = world.step(before, torch.tensor(action), 0)
    torch.testing.assert_close(after, torch.tensor(np.array(inner.state, dtype=float)), **BITS)
    assert float(ours) == pytest.approx(float(reward), rel=1e-13, abs=1e-13)
    assert bool(ends(world, after)) == terminated


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_wall_stops_the_car(dtype: torch.dtype) -> None:
    before = torch.tensor([[-1.19, -0.06], [-1.2, -0.07]], dtype=dtype)
    state, reward = load_world("mountain_car").step(before, torch.tensor([0, 0]), 0)
    assert torch.equal(state, torch.tensor([[-1.2, 0], [-1.2, 0]], dtype=dtype))
    assert reward.tolist() == [-1, -1]


ENDED = {
    "cartpole": [[2.5, 1, 0, 1], [-2.5, 0, 0, 0], [0, 1, 0.21, 1], [0, 1, -0.21, -1]],
    "acrobot": [[math.pi, 0, 1, 1], [-3, 0.2, 0, -2], [2, 1, 0, 3]],
    "mountain_car": [[0.5, 0], [0.6, 0.07], [0.51, 0.01]],
}


@pytest.mark.parametrize("name", ENDED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_has_ended_stays_and_pays_nothing(name: str, dtype: torch.dtype) -> None:
    world, states = load_world(name), torch.tensor(ENDED[name], dtype=dtype)
    assert world.terminated(states).all()
    for action in range(GYMNASIUM[name][1] or 0):
        after, rewards = world.step(states, torch.full(states.shape[:1], action), 0)
        assert torch.equal(after, states)
        assert rewards.eq(0).all()


@WORLDS
def test_a_pendulum_alone_never_ends(name: str) -> None:
    assert hasattr(load_world(name), "terminated") == (name != "pendulum")


def batch(name: str, *shape: int) -> tuple[Tensor, Tensor]:
    """Draw states from the box and actions for them."""
    _, n_actions, half = GYMNASIUM[name]
    g = torch.Generator().manual_seed(1)
    box = torch.tensor(half)
    states = (2 * torch.rand((*shape, len(half)), generator=g) - 1) * box
    return states, torch.randint(n_actions, shape, generator=g) if n_actions else 4 * torch.rand(shape, generator=g) - 2


@WORLDS
def test_a_batch_is_each_alone(name: str) -> None:
    """Bit by bit: dynamics, reward, features and end, on a batch of 2 x 9."""
    world, (states, actions) = load_world(name), batch(name, 2, 9)
    after, rewards = world.step(states, actions, 0)
    for i in np.ndindex(2, 9):
        alone, reward = world.step(states[i], actions[i], 0)
        torch.testing.assert_close(after[i], alone, **BITS)
        torch.testing.assert_close(rewards[i], reward, **BITS)
        torch.testing.assert_close(world.features(states)[i], world.features(states[i]), **BITS)
        assert torch.equal(ends(world, states)[i], ends(world, states[i]))


@WORLDS
def test_actions_may_have_a_dimension_of_their_own(name: str) -> None:
    """As where they are enumerated: all actions ``[A, 1]`` in all states ``[B]``."""
    world, states, n_actions = load_world(name), batch(name, 7)[0], GYMNASIUM[name][1]
    every = torch.tensor([-1.5, 0, 2]) if n_actions is None else torch.arange(n_actions)
    after, rewards = world.step(states, every.unsqueeze(-1), 0)
    assert after.shape == (len(every), *states.shape)
    for a, action in enumerate(every):
        alone, reward = world.step(states, action.expand(7), 0)
        torch.testing.assert_close(after[a], alone, **BITS)
        torch.testing.assert_close(rewards.expand(len(every), 7)[a], reward, **BITS)


@WORLDS
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_everything_follows_the_states_dtype(name: str, default: torch.dtype) -> None:
    """A step in float32 is the step in float64 to float32's precision, whichever of them is the default."""
    world, (states, actions) = load_world(name), batch(name, 50)
    exact, exact_rewards = world.step(states, actions, 0)
    torch.set_default_dtype(default)  # the fixture sets it back
    narrow = states.float()
    actions = actions if GYMNASIUM[name][1] else actions.float()
    after, rewards = world.step(narrow, actions, 0)
    with pyro.plate("n", 50):
        prior = world.act(narrow, 0)
    assert after.dtype == rewards.dtype == world.features(narrow).dtype == torch.float32
    assert prior.dtype == (torch.float32 if name == "pendulum" else torch.int64)
    # The acrobot's speeds go up to 28 and enter squared, four times over.
    torch.testing.assert_close(after.double(), exact, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rewards.double(), exact_rewards, rtol=1e-4, atol=1e-4)


START = {
    "cartpole": [0.05] * 4,
    "pendulum": [math.pi, 1],
    "acrobot": [0.1] * 4,
    "mountain_car": [0.1, 0],
}


@WORLDS
def test_the_start_is_gymnasiums_box(name: str) -> None:
    """Ours fill it: all within, nearly at its bounds, its centre within five standard errors. Theirs keep to it."""
    world, n = load_world(name), 10_000
    centre, half = torch.zeros(len(START[name])), torch.tensor(START[name])
    if name == "mountain_car":
        centre[0] = -0.5
    pyro.set_rng_seed(0)
    with pyro.plate("n", n):
        starts = world.initial()
    assert starts.shape == (n, len(half))
    off = (starts - centre).abs()
    assert (off <= half).all()
    assert (off.max(0).values >= 0.995 * half).all()
    inner = gymnasium.make(GYMNASIUM[name][0]).unwrapped
    theirs = [inner.reset(seed=seed) and np.array(inner.state, dtype=float) for seed in range(200)]
    assert (torch.tensor(np.array(theirs)).sub(centre).abs() <= half + 1e-8).all()  # the acrobot rounds to float32
    error = half / math.sqrt(3 * n)  # of the mean of n uniform draws
    assert ((starts.mean(0) - centre).abs() <= 5 * error).all()


@WORLDS
def test_the_prior_is_even(name: str) -> None:
    n_actions, states = GYMNASIUM[name][1], batch(name, 5)[0]
    prior = pyro.poutine.trace(load_world(name).act).get_trace(states, 0)
    (site,) = (site for site in prior.nodes.values() if site["type"] == "sample")
    values = torch.tensor([-2.0, 0.3, 1.99]) if n_actions is None else torch.arange(n_actions)
    log_p = site["fn"].log_prob(values.unsqueeze(-1))
    torch.testing.assert_close(log_p, torch.full((3 if n_actions is None else n_actions, 5), -math.log(n_actions or 4)))


@WORLDS
def test_the_trajectory_program_runs(name: str) -> None:
    """In a plate: the states are its sites, the potentials are rewards over the temperature, log p is finite."""
    world, alpha = load_world(name, overrides={"horizon": 4}), 0.5
    pyro.set_rng_seed(0)
    with pyro.plate("n", 3):
        trace = pyro.poutine.trace(cai.trajectory(world, temperature=alpha)).get_trace()
    action = "torque" if name in {"pendulum", "acrobot"} else "push"
    for t in range(4):
        state, taken = (trace.nodes[f"{site}_{t}"]["value"] for site in ("state", action))
        after, reward = world.step(state, taken, t)
        assert torch.equal(trace.nodes[f"state_{t + 1}"]["value"], after)
        assert torch.equal(trace.nodes[f"O_{t}"]["fn"].log_potential.expand(3), reward.expand(3) / alpha)
    assert trace.log_prob_sum().isfinite()


@WORLDS
def test_a_horizon_and_a_discount_are_arguments(name: str) -> None:
    world = load_world(name, overrides={"horizon": None, "discount": 0.9})
    assert (world.horizon, world.discount) == (None, 0.9)
    id_ = GYMNASIUM[name][0]
    assert load_world(name).horizon == gymnasium.spec(id_).max_episode_steps
    assert load_world(name).discount == 1
    assert isinstance(world, cai.World)


@WORLDS
def test_there_is_no_table_and_one_line_says_so(name: str) -> None:
    world = load_world(name)
    seen = "^initial, variable '(state|place)': Uniform, which "
    with pytest.raises(cai.IntractableError, match=seen + r"has no finite support to enumerate; expected [^\n]*$"):
        cai.tabulate(world)
    why = "is not Gaussian" if GYMNASIUM[name][0] == "Pendulum-v1" else "has no finite support"  # its actions are real
    with pytest.raises(cai.IntractableError, match=f"{seen}{why}[^\n]*$"):
        cai.solve(world)
    (finding,) = cai.check(world)
    assert why in str(finding)


@WORLDS
def test_the_graph_is_a_markov_decision_process(name: str) -> None:
    """Each state is a node, though no more random than its parents; only two of the rewards read the action."""
    dag = cai.graph(load_world(name), slices=2)
    action = "torque" if name in {"pendulum", "acrobot"} else "push"
    assert {node for node, data in dag.nodes(data=True) if data["kind"] == "state"} == {"state_0", "state_1", "state_2"}
    for t in (0, 1):
        assert set(dag.predecessors(f"{action}_{t}")) == {f"state_{t}"}
        assert set(dag.predecessors(f"state_{t + 1}")) == {f"state_{t}", f"{action}_{t}"}
    assert list(dag.predecessors("state_0")) == (["place_0"] if name == "mountain_car" else [])
    reads = {f"{action}_0"} if name in {"pendulum", "acrobot"} else set()
    assert set(dag.predecessors("O_0")) == {"state_0"} | reads


@WORLDS
def test_the_catalogue_has_it(name: str) -> None:
    assert name in names()
    with pytest.raises(cai.WorldError, match="no argument colour"):
        load_world(name, {"colour": "red"})


def test_rewards_can_be_differentiated_back_to_the_torques() -> None:
    """The pendulum is smooth: the gradient of a return is the finite difference of it."""
    world, start = load_world("pendulum"), torch.tensor([2.0, -0.5])

    def earned(torques: Tensor) -> Tensor:
        state, total = start, torch.zeros(())
        for t, torque in enumerate(torques):
            state, reward = world.step(state, torque, t)
            total = total + reward
        return total

    assert torch.autograd.gradcheck(earned, torch.tensor([0.5, -1.0, 1.5, 0.2], requires_grad=True))

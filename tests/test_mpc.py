"""cai.mpc: it plans at every step, in worlds and in environments; and a recorded program is the program."""

import pickle
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import cai
from cai.approximation.mpc import RecedingHorizon
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.compile.traced_program import Recordings, traced

OPTIONS: dict[str, Any] = {"horizon": 6, "temperature": 0.5, "samples": 30}


def pendulum(**changed: Any) -> RecedingHorizon:
    """Return control of the pendulum, quick and poor."""
    return cai.mpc(cai.load_world("pendulum"), **(OPTIONS | changed))


def points(program: NoiseProgram, n: int, seed: int) -> tuple[Tensor, ...]:
    """Draw states after a step, actions, and noise of a step."""
    g = torch.Generator().manual_seed(seed)
    sizes = (program.start_noise, program.act_noise, program.step_noise, program.step_noise)
    start, w, first, z = (torch.randn(n, size, generator=g, dtype=torch.float64) for size in sizes)
    s = program.start(start)
    s = program.step(0, s, program.act(0, s, w), first)[0]
    return s, w, program.act(0, s, w), z


@pytest.mark.parametrize(
    "name", ["pendulum", "cartpole", "acrobot", "mountain_car", "mountain_car_continuous", "lqg", "icy_road", "grid"]
)
def test_a_recorded_program_is_the_program(name: str) -> None:
    plain = noise_program(cai.load_world(name))
    fast = traced(plain)
    assert isinstance(fast.caller, Recordings)
    for seed in range(3):
        s, w, a, z = points(plain, 7, seed)
        torch.testing.assert_close(fast.act(0, s, w), plain.act(0, s, w), rtol=1e-12, atol=1e-12)
        for ours, theirs in zip(fast.step(0, s, a, z), plain.step(0, s, a, z), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        if plain.spec.early_end is not None:
            assert torch.equal(fast.ended(s), plain.ended(s))  # type: ignore[arg-type]
    w, z = (torch.randn(7, 4, k, dtype=torch.float64) for k in (plain.act_noise, plain.step_noise))
    for ours, theirs in zip(fast.roll(s, w, z), plain.roll(s, w, z), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert fast.caller.loops
    assert all(recording is not None for recording in fast.caller.known.values())


class Crooked:
    """A world whose step is written in a way that a recording would get wrong."""

    horizon, discount = 5, 1.0

    def __init__(self, way: str) -> None:
        self.way = way

    def initial(self) -> Tensor:
        return pyro.sample("x", dist.Normal(torch.tensor(0.0), 1.0))

    def act(self, x: Tensor, t: int) -> Tensor:
        return pyro.sample("u", dist.Normal(torch.zeros_like(x), 1.0))

    def step(self, x: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        ways = {
            "branch": lambda: x + u if bool((x > 0).all()) else x - u,
            "number": lambda: x + float(x.max()),
            "numpy": lambda: x + torch.as_tensor(np.cos(x.detach().numpy())),
            "copied": lambda: x + torch.tensor([float(v) for v in x.reshape(-1)]).reshape(x.shape),
            "drawn": lambda: x + torch.rand(x.shape),
        }
        return pyro.sample("x", dist.Normal(ways[self.way](), 0.1)), -x.square()


@pytest.mark.parametrize("way", ["branch", "number", "numpy", "copied", "drawn"])
def test_what_a_recording_would_get_wrong_runs_as_it_is_written(way: str) -> None:
    plain = noise_program(Crooked(way))
    fast = traced(plain)
    s, _, a, z = points(plain, 7, 0)
    fast.step(0, s, a, z)
    assert isinstance(fast.caller, Recordings)
    assert list(fast.caller.known.values()) == [None]
    if way != "drawn":
        for sign in (-1.0, 1.0):
            moved = sign * s.abs()
            assert torch.equal(fast.step(0, moved, a, z)[0], plain.step(0, moved, a, z)[0])


def test_a_recording_leaves_time_and_derivatives_alone() -> None:
    timed = cai.load_world("tracking")
    program = noise_program(timed)
    if program.spec.timed:
        assert traced(program) is program
    plain = noise_program(cai.load_world("pendulum"))
    fast, (s, _, a, z) = traced(plain), points(plain, 4, 0)
    fast.step(0, s, a, z)
    slopes = [torch.func.jacfwd(lambda a, p=p: p.step(0, s, a, z)[0])(a) for p in (plain, fast)]
    assert torch.equal(*slopes)
    assert slopes[0].abs().sum() > 0
    assert fast.step(0, s, a.clone().requires_grad_(), z)[0].requires_grad
    assert pickle.loads(pickle.dumps(Recordings())).known == {}


def test_the_same_seed_gives_the_same_actions_and_a_copy_acts_as_if_alone() -> None:
    one, again, other = (
        cai.rollout("Pendulum-v1", pendulum(seed=s), seeds=[3], batch=1, max_steps=4) for s in (0, 0, 1)
    )
    assert torch.equal(one.actions, again.actions)
    assert not torch.equal(one.actions, other.actions)
    two = cai.rollout("Pendulum-v1", pendulum(), seeds=[3, 9], max_steps=4)
    torch.testing.assert_close(two.actions[:, :1], one.actions)
    start, _ = gymnasium.make("Pendulum-v1").reset(seed=9)
    torch.testing.assert_close(two.states[0, 1], torch.as_tensor(start))


def test_a_new_episode_starts_afresh() -> None:
    policy, shown = pendulum(), torch.tensor([[0.5, 0.3]])
    first = [policy.sample(shown, t) for t in range(3)]
    again = [policy.sample(shown, t) for t in range(3)]
    assert torch.equal(torch.stack(first), torch.stack(again))
    jumped = pendulum()
    jumped.sample(shown, 0)
    assert torch.equal(jumped.sample(shown, 2), pendulum().sample(shown, 2))


def test_a_warm_start_helps() -> None:
    """The plan of the time before, shifted, is a better one to draw from than the prior."""
    world, warm = cai.load_world("pendulum"), pendulum(horizon=15, samples=100, temperature=5.0)
    state, gains = torch.tensor([3.0, 0.0], dtype=torch.float64), []
    for t in range(8):
        better = warm.plan(state, t).history[0]
        if t:
            gains.append(better - pendulum(horizon=15, samples=100, temperature=5.0).plan(state, t).history[0])
        state = world.step(state, warm.sample(state, t).to(state.dtype), t)[0]
    assert sum(gains) > 0
    assert gains[-1] > 0


@pytest.mark.parametrize("draw", [False, True])
def test_actions_are_inside_their_bounds_and_are_the_worlds_own_sites(draw: bool) -> None:
    policy = pendulum(draw=draw, temperature=0.01, horizon=3)
    shown = torch.tensor([[3.0, 0.0], [0.1, 7.9], [-2.0, -8.0]])
    for t in range(3):
        trace = pyro.poutine.trace(policy.act).get_trace(shown, t)
        torque = trace.nodes["torque"]["value"]
        assert torque.shape == (3,)
        assert (torque.abs() <= 2).all()
        log_p = policy.log_prob(shown, torque, t)
        assert log_p.shape == (3,)
        assert log_p.isfinite().all()
    if not draw:
        assert (policy.log_prob(shown, torque + 0.01, 2) == -torch.inf).all()


@pytest.mark.parametrize("horizon", [1, 50])
def test_a_horizon_of_one_and_one_beyond_the_worlds_end(horizon: int) -> None:
    world = cai.load_world("pendulum", {"horizon": 3})
    policy = cai.mpc(world, horizon=horizon, samples=20)
    run = cai.rollout(world, policy, batch=2)
    assert run.actions.shape == (3, 2)
    assert policy.program.starting(torch.zeros(2), 2, horizon).horizon == 1
    with pytest.raises(cai.WorldError, match=r"^mpc, t = 3: a time after the last action; expected t below .* 3$"):
        policy.sample(torch.zeros(1, 2), 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"horizon": 0}, "^mpc, horizon: 0; expected a whole number, at least 1"),
        ({"seed": -1}, "^mpc, seed: -1"),
        ({"temperature": 0.0}, "temperature"),
        ({"method": "path_integrl"}, "did you mean path_integral"),
        ({"sample": 3}, "^mpc, sample: no option of path_integral.*samples"),
        ({"state_of": 3}, "^mpc, state_of: a int; expected a function"),
        ({"value": 3}, "^mpc, value: a int; expected a function"),
        ({"samples": 0}, None),
    ],
)
def test_bad_arguments_are_told_in_a_line(changed: dict[str, Any], said: str | None) -> None:
    with pytest.raises(cai.WorldError, match=said or "samples"):
        pendulum(**changed).sample(torch.zeros(1, 2), 0)


def test_what_is_no_state_is_told_in_a_line() -> None:
    with pytest.raises(cai.WorldError, match=r"^mpc, t = 0: a state of shape \[1, 5\]; expected .*'state' \[\*, 2\]"):
        cai.mpc(cai.load_world("mountain_car"), **OPTIONS).sample(torch.zeros(1, 5), 0)
    with pytest.raises(cai.WorldError, match=r"^mpc, state_of, t = 0: "):
        pendulum().sample(torch.zeros(1, 5), 0)
    with pytest.raises(cai.WorldError, match="not finite"):
        pendulum().sample(torch.tensor([[torch.nan, 0.0]]), 0)
    with pytest.raises(cai.WorldError, match=r"^rollout, seeds: "):
        cai.rollout("Pendulum-v1", pendulum(), batch=2, seeds=[1])
    with pytest.raises(cai.WorldError, match=r"^rollout, seeds: seeds for a Pendulum"):
        cai.rollout(cai.load_world("pendulum"), pendulum(), batch=1, seeds=[1])


def test_a_function_makes_states_of_what_is_shown() -> None:
    def turned(shown: Tensor) -> Tensor:
        return torch.stack((torch.atan2(shown[..., 1], shown[..., 0]), shown[..., 2]), -1)

    angle, speed = torch.tensor([2.5]), torch.tensor([-1.0])
    shown = torch.stack((angle.cos(), angle.sin(), speed), -1).double()
    ours, own = pendulum(state_of=turned), pendulum()
    torch.testing.assert_close(ours.sample(shown, 0), own.sample(shown, 0))
    state = torch.stack((angle, speed), -1)
    torch.testing.assert_close(own.sample(state, 0).float(), ours.sample(shown, 0).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "id_", "action"),
    [
        ("cartpole", "CartPole-v1", "push"),
        ("mountain_car", "MountainCar-v0", "push"),
        ("mountain_car_continuous", "MountainCarContinuous-v0", "force"),
    ],
)
def test_other_environments_take_its_actions(name: str, id_: str, action: str) -> None:
    policy = cai.mpc(cai.load_world(name), horizon=4, samples=10)
    run = cai.rollout(id_, policy, batch=2, max_steps=3)
    assert run.actions.shape == (3, 2)
    assert policy.program.actions.names == (action,)


def test_a_copy_that_has_ended_is_not_planned_for() -> None:
    policy = cai.mpc(cai.load_world("cartpole"), horizon=4, samples=10)
    policy.sample(torch.tensor([[5.0, 0, 0, 0], [0, 0, 0, 0]]), 0)
    assert list(policy.plans) == [1]


def test_the_continuous_car_is_gymnasiums() -> None:
    world, inner = cai.load_world("mountain_car_continuous"), gymnasium.make("MountainCarContinuous-v0").unwrapped
    g = torch.Generator().manual_seed(0)
    span, centre = torch.tensor([0.9, 0.07]), torch.tensor([-0.3, 0.0])
    edges = torch.tensor([[-1.19, -0.06], [0.44, 0.05], [0.59, 0.07], [-0.5, 0.0]])
    states = torch.cat((edges, centre + (2 * torch.rand(60, 2, generator=g) - 1) * span)).double()
    states = states[~world.terminated(states)]
    forces = 3 * torch.rand(len(states), generator=g, dtype=torch.float64) - 1.5
    after, rewards = world.step(states, forces, 0)
    for i, (state, force) in enumerate(zip(states, forces, strict=True)):
        inner.reset(seed=0)
        inner.state = state.numpy()
        theirs, reward, over, _, _ = inner.step(force.reshape(1).numpy())
        torch.testing.assert_close(after[i].float(), torch.as_tensor(theirs))
        assert float(rewards[i]) == pytest.approx(float(reward), abs=1e-12)
        assert bool(world.terminated(after[i])) == over
    stays, paid = world.step(torch.tensor([[0.5, 0.01]]), torch.tensor([1.0]), 0)
    assert torch.equal(stays, torch.tensor([[0.5, 0.01]]))
    assert paid.item() == 0
    assert world.horizon == gymnasium.spec("MountainCarContinuous-v0").max_episode_steps


@dataclass(frozen=True)
class Counted:
    """A guess that counts how often it was shifted."""

    shifts: int = 0

    def shifted(self) -> "Counted":
        return Counted(self.shifts + 1)


@dataclass(frozen=True)
class Counting:
    """A method of one's own: path-integral control that passes a counter on."""

    name = "counting"

    def run(self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, **_: Any) -> Any:
        inner = cai.approximation.PathIntegral(samples=5).run(world, temperature, generator)
        return replace(inner, guess=guess or Counted())


def test_a_method_of_ones_own_gets_its_guess_back_shifted() -> None:
    policy = cai.mpc(cai.load_world("pendulum"), Counting(), 3)
    shown = torch.zeros(1, 2)
    for t in range(4):
        policy.sample(shown, t)
        policy.sample(shown, t)  # the same plan again
    assert policy.plans[0].found.guess == Counted(3)


class Late:
    """A push moves x, and x costs only at the step after."""

    horizon, discount = 2, 1.0

    def initial(self) -> Tensor:
        return pyro.sample("x", dist.Delta(torch.tensor(1.0)))

    def act(self, x: Tensor, t: int) -> Tensor:
        return pyro.sample("u", dist.Normal(torch.zeros_like(x), 1.0))

    def step(self, x: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("x", dist.Delta(x + u)), -10 * x.square()


def test_a_value_stands_for_what_comes_after_the_last_step_it_looks_at() -> None:
    """-10 (x + u)² and the prior -u²/2 meet at u = -20/21 x; at the world's own end the value is not asked."""
    asked = []

    def value(state: Tensor, t: int) -> Tensor:
        asked.append(t)
        return -10 * state.square()

    state = torch.tensor(1.0, dtype=torch.float64)
    for given, expected in ((None, 0.0), (value, -20 / 21)):
        policy = cai.mpc(Late(), horizon=1, value=given, samples=20_000, iterations=3)
        assert float(policy.sample(state, 0)) == pytest.approx(expected, abs=0.03)
    assert set(asked) == {1}
    cai.mpc(Late(), horizon=2, value=value, samples=10).sample(state, 0)
    assert set(asked) == {1}

"""The smooth nonlinear worlds of the catalogue: they broadcast, follow their equations and refuse nonsense."""

import math
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

import cai
from cai.bridges.named import load_world
from cai.compile.noise_program import noise_program

pytestmark = pytest.mark.usefixtures("float64")
WORLDS = ("quadrotor_2d", "reacher", "obstacle_field")
CALM = {"quadrotor_2d": {"wind": 0.0}, "obstacle_field": {"wind": 0.0}}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_runs_on_noise_in_float64_and_has_gradients(name: str) -> None:
    """A batch is each alone; the return is differentiable in the noise of actions, as a finite difference says."""
    world = load_world(name, {"horizon": 5})
    program = noise_program(world)
    start, w = normal(3, program.start_noise), normal(3, 5, program.act_noise, seed=1)
    wind = normal(3, 5, program.step_noise, seed=2)

    def earned(w: Tensor, i: Any) -> Tensor:
        s, total = program.start(start[i]), torch.zeros(())
        for t in range(5):
            s, r = program.step(t, s, program.act(t, s, w[..., t, :]), wind[i][..., t, :])
            total = total + r
        assert s.dtype == torch.float64
        return total + program.terminal(s)

    total = earned(w, slice(None))
    torch.testing.assert_close(total, torch.stack([earned(w[i], i) for i in range(3)]), rtol=1e-12, atol=1e-12)
    w.requires_grad_()
    (slope,) = torch.autograd.grad(earned(w, slice(None)).sum(), w)
    nudge = 1e-6 * normal(*w.shape, seed=3)
    with torch.no_grad():
        rise = (earned(w + nudge, slice(None)) - earned(w - nudge, slice(None))).sum()
    assert float(rise) == pytest.approx(2 * float((slope * nudge).sum()), rel=1e-6)


@pytest.mark.parametrize("name", WORLDS)
def test_a_trajectory_is_a_pyro_program(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)  # the fixture sets it back
        with pyro.plate("n", 2):
            trace = pyro.poutine.trace(cai.trajectory(load_world(name, {"horizon": 3}))).get_trace()
        values = [one["value"] for one in trace.nodes.values() if one["type"] == "sample" and not one["is_observed"]]
        assert {value.dtype for value in values} == {dtype}
        assert trace.log_prob_sum().isfinite()


def test_a_quadrotor_hovers_falls_and_turns_as_newton_says() -> None:
    world = load_world("quadrotor_2d", {**CALM["quadrotor_2d"], "tick": 0.01})
    rest, half = torch.zeros(6), torch.full((2,), 0.5 * 0.5 * 9.81)
    torch.testing.assert_close(world.step(rest, half, 0)[0], rest)
    assert float(world.step(rest, half, 0)[1]) == 0
    fallen = world.step(rest, torch.zeros(2), 0)[0]
    torch.testing.assert_close(fallen[4], torch.tensor(-0.0981))
    right = torch.tensor([0.0, 1.0])
    turned = world.step(rest, right, 0)[0]
    assert turned[5] > 0  # the right rotor lifts the right arm: it tilts to the left,
    tilted = torch.tensor([0.0, 0, math.pi / 2, 0, 0, 0])
    torch.testing.assert_close(world.step(tilted, half, 0)[0][3], torch.tensor(-0.0981))  # and flies there


def test_an_arm_moves_as_its_lagrangian_says() -> None:
    """Euler and Lagrange by automatic differentiation of the kinetic energy of two uniform rods, integrated exactly."""
    world = load_world("reacher", {"friction": 0.0})

    def energy(q: Tensor, v: Tensor) -> Tensor:
        """½ ∫ |velocity|² dm; a quadratic along each rod, so that Simpson's rule is exact."""
        (a, b), (da, db) = q, v
        total = torch.zeros(())
        for share, part in ((0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6)):
            first = 0.5 * share * da * torch.stack((-a.sin(), a.cos()))
            elbow = 0.5 * da * torch.stack((-a.sin(), a.cos()))
            second = elbow + 0.5 * share * (da + db) * torch.stack((-(a + b).sin(), (a + b).cos()))
            total = total + 0.5 * part * (first.square().sum() + second.square().sum())
        return total

    for n in range(3):
        q, v, torque = normal(3, 2, seed=n).unbind(0)
        acceleration = world.acceleration(torch.cat((q, v)), torque)
        M = torch.func.hessian(energy, 1)(q, v)
        turned = torch.func.jacfwd(torch.func.grad(energy, 1), 0)(q, v) @ v
        expected = torque + torch.func.grad(energy, 0)(q, v) - turned
        torch.testing.assert_close(M @ acceleration, expected)


def test_a_field_is_the_same_seen_in_a_mirror() -> None:
    """So the posterior weighs the ways on both sides alike."""
    world = load_world("obstacle_field", CALM["obstacle_field"])
    mirror = torch.tensor([1.0, -1.0])
    state, force = {"position": normal(4, 2), "velocity": normal(4, 2, seed=1)}, normal(4, 2, seed=2)
    following, reward = world.step(state, force, 0)
    mirrored, same = world.step({name: x * mirror for name, x in state.items()}, force * mirror, 0)
    torch.testing.assert_close(same, reward)
    for name in following:
        torch.testing.assert_close(mirrored[name], following[name] * mirror)
    assert float(world.blocked(torch.zeros(2))) == pytest.approx(10.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("quadrotor_2d", {"wind": -1.0}, "wind: -1.0"),
        ("quadrotor_2d", {"goal": (1.0,)}, "two numbers"),
        ("reacher", {"tick": 0.0}, "tick 0.0"),
        ("obstacle_field", {"obstacles": ((0.0, 0.0, 0.0),)}, "a radius above 0"),
        ("obstacle_field", {"push": 0.0}, "push 0.0"),
    ],
)
def test_nonsense_is_refused(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        load_world(name, arguments)

"""The linear-Gaussian worlds of the catalogue: they broadcast, follow their equations, and refuse nonsense."""

from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

import cai
from cai.bridges.named import load_world

pytestmark = pytest.mark.usefixtures("float64")

WORLDS: list[tuple[str, dict[str, Any]]] = [
    ("double_integrator", {"horizon": 4}),
    ("double_integrator", {"horizon": 4, "noise": 0.0}),
    ("lqg", {"horizon": 4}),
    ("lqg", {"states": 2, "actions": 1, "sensors": 1, "seed": 3, "horizon": 4}),
    ("tracking", {"horizon": 4}),
    ("thermostat", {"horizon": 4}),
    ("icy_road", {"horizon": 4}),
]
EACH = pytest.mark.parametrize(("name", "arguments"), WORLDS, ids=lambda x: str(x).replace("'", ""))


def drawn(world: Any, n: int) -> tuple[Any, Any]:
    """Draw n states and actions."""
    pyro.set_rng_seed(0)
    with pyro.plate("n", n):
        state = world.initial()
        return state, world.act(state, 0)


def one_of(values: Any, i: int) -> Any:
    """Return one copy of named values."""
    return {name: x[i] for name, x in values.items()} if isinstance(values, dict) else values[i]


@EACH
def test_a_batch_is_each_alone(name: str, arguments: dict[str, Any]) -> None:
    """Every site of a slice, given the sites before it, and the reward."""
    world = load_world(name, arguments)
    state, action = drawn(world, 3)
    batch = pyro.poutine.trace(world.step).get_trace(state, action, 1)
    sites = {key: site for key, site in batch.nodes.items() if site["type"] == "sample"}
    _, rewards = batch.nodes["_RETURN"]["value"]
    assert rewards.shape == (3,)
    for i in range(3):
        values = {key: site["value"][i] if site["fn"].batch_shape else site["value"] for key, site in sites.items()}
        given = pyro.poutine.condition(world.step, data=values)
        alone = pyro.poutine.trace(given).get_trace(one_of(state, i), one_of(action, i), 1)
        for key, site in sites.items():
            if site["fn"].has_enumerate_support:
                logits = site["fn"].logits[i] if site["fn"].batch_shape else site["fn"].logits
                torch.testing.assert_close(alone.nodes[key]["fn"].logits, logits)
                continue
            mean = site["fn"].mean[i] if site["fn"].batch_shape else site["fn"].mean
            torch.testing.assert_close(alone.nodes[key]["fn"].mean, mean, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(alone.nodes["_RETURN"]["value"][1], rewards[i], rtol=1e-13, atol=1e-13)


@EACH
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_a_program_runs_in_the_default_dtype(name: str, arguments: dict[str, Any], default: torch.dtype) -> None:
    torch.set_default_dtype(default)  # the fixture sets it back
    world = load_world(name, arguments)
    with pyro.plate("n", 2):
        trace = pyro.poutine.trace(cai.trajectory(world)).get_trace()
    sampled = [site["value"] for site in trace.nodes.values() if site["type"] == "sample" and not site["is_observed"]]
    assert {value.dtype for value in sampled} - {torch.long} == {default}
    assert trace.log_prob_sum().isfinite()
    rollout = cai.rollout(world, batch=3, generator=torch.Generator().manual_seed(0))
    assert rollout.rewards.shape == (4, 3)


@pytest.mark.parametrize("name", ["lqg", "thermostat"])
def test_a_reading_is_a_function_of_the_state_and_noise(name: str) -> None:
    world = load_world(name, {"sensors": 2} if name == "lqg" else {})
    state, _ = drawn(world, 3)
    trace = pyro.poutine.trace(world.observe).get_trace(state)
    mean = trace.nodes["reading"]["fn"].mean
    torch.testing.assert_close(mean, state @ world.H.mT if name == "lqg" else state["room"])
    assert load_world("lqg").observe is None


def test_a_system_is_drawn_by_its_seed_and_has_the_radius_asked_for() -> None:
    first, again, other = (load_world("lqg", {"seed": seed, "radius": 1.1}) for seed in (1, 1, 2))
    assert torch.equal(first.A, again.A)
    assert not torch.equal(first.A, other.A)
    for world in (first, other):
        assert float(torch.linalg.eigvals(world.A).abs().max()) == pytest.approx(1.1)


def test_a_pen_follows_a_closed_curve() -> None:
    world = load_world("tracking", {"period": 12})
    curve = torch.stack([world.reference(t) for t in range(13)])
    torch.testing.assert_close(curve[12], curve[0])
    x, y = curve.unbind(-1)
    torch.testing.assert_close(x**4, x**2 - y**2)  # the lemniscate's own equation


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("double_integrator", {"noise": -1.0}, "noise: -1.0"),
        ("double_integrator", {"tick": 0}, "tick 0"),
        ("lqg", {"states": 0}, "states: 0; expected a whole number"),
        ("lqg", {"actions": 1.5}, "actions: 1.5; expected a whole number"),
        ("lqg", {"sensors": 0}, "sensors: 0; expected a whole number"),
        ("lqg", {"radius": float("inf")}, "radius: inf"),
        ("tracking", {"horizon": None}, "the reward changes over time"),
        ("thermostat", {"sensor": 0.0}, "sensor 0.0"),
    ],
)
def test_nonsense_is_refused(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        load_world(name, arguments)


def matrices(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return A, B and the covariance of the noise as a textbook writes them."""
    h = 0.2
    if name == "double_integrator":
        A, B = torch.tensor([[1, h], [0, 1]]), torch.tensor([[h * h / 2], [h]])
        return A, B, 0.25 * B @ B.mT
    if name == "thermostat":
        h, room, wall = 0.5, 1.0, 8.0
        A = torch.eye(3)
        A[0] += h / room * torch.tensor([-1 - 1 / 10, 1, 1 / 10])
        A[1] += h / wall * torch.tensor([1, -1 - 1 / 4, 1 / 4])
        A[2, 2] = 0.98
        return A, torch.tensor([[h / room], [0], [0]]), 0.04 * torch.eye(3)
    if name == "tracking":
        one = torch.eye(2)
        move, push = torch.cat((h * 0.95 * one, 0.95 * one)), torch.cat((h * h * one, h * one))
        A = torch.cat((torch.cat((one, 0 * one)), move), -1)
        G = 0.05 * torch.cat((h * one, one))
        return A, push, G @ G.mT
    world = load_world(name)
    return world.A, world.B, world.W_root @ world.W_root.mT


@pytest.mark.parametrize("name", ["double_integrator", "lqg", "tracking", "thermostat"])
def test_a_world_compiles_to_its_textbook_matrices(name: str) -> None:
    world = load_world(name, {"horizon": 4})
    assert cai.check(world) == []
    model = cai.linearise(world)
    A, B, W = matrices(name)
    n, m = B.shape
    one = model.at(3)
    seen_A, seen_B, G = one.transition.split([n, m, model.noise], -1)
    for seen, expected in ((seen_A, A), (seen_B, B), (G @ G.mT, W)):
        torch.testing.assert_close(seen, expected, rtol=1e-10, atol=1e-10)
    assert model.timed == (name == "tracking")
    assert not one.flat.any()


@pytest.mark.parametrize(("name", "arguments"), [world for world in WORLDS if world[0] != "icy_road"], ids=str)
def test_sampling_the_program_agrees_with_the_exact_return(name: str, arguments: dict[str, Any]) -> None:
    """4,000 trajectories of the plain program under the prior: five standard errors."""
    world, generator = load_world(name, arguments), torch.Generator().manual_seed(0)
    returns = cai.rollout(world, batch=4000, generator=generator).returns
    exact = cai.evaluate(world, None).expected_return
    assert abs(float(returns.mean()) - exact) <= 5 * float(returns.std()) / 4000**0.5

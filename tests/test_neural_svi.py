"""The method svi: a neural policy's ELBO bounds the exact ELBO* from below, and comes close to it."""

from typing import Any

import pytest
import torch

import cai
from cai.compile.noise_program import noise_program

ALPHA = 2.0


@pytest.fixture(scope="module")
def cart() -> Any:
    return cai.load_world("double_integrator", {"horizon": 5})


def best(world: Any) -> float:
    return float(cai.solve(world, cai.VARIATIONAL, temperature=ALPHA).value) / ALPHA


def reached(found: cai.approximation.Approximation) -> tuple[float, float]:
    """Read ELBO(π) and its standard error off the note."""
    value, error = found.notes[0].removeprefix("ELBO(π) = ").split(" nats")[0].split(" ± ")
    return float(value), float(error)


def test_the_bound_lies_below_and_above_the_priors(cart: Any) -> None:
    found = cai.approximate(
        cart, "svi", temperature=ALPHA, steps=40, particles=30, learning_rate=0.02, samples=1000, progress=False
    )
    value, error = reached(found)
    assert found.elbo.lower == pytest.approx(value - 3 * error, abs=0.02 * error + 1e-3)
    assert found.elbo.sampled
    assert found.log_evidence == found.elbo
    assert value <= best(cart) + 4 * error
    assert found.elbo.lower > cai.elbo(cart, None, temperature=ALPHA, samples=1000).value
    assert len(found.history) == 40
    again = cai.approximate(cart, found_as(), temperature=ALPHA, progress=False)
    assert again.elbo == cai.approximate(cart, found_as(), temperature=ALPHA, progress=False).elbo
    action = found.policy.act({"position": torch.ones(3), "velocity": torch.zeros(3)}, 0)
    assert action.shape == (3,)


def found_as() -> cai.approximation.NeuralSVI:
    return cai.approximation.NeuralSVI(steps=2, particles=5, samples=50)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), [("double_integrator", {}), ("lqg", {"states": 2, "actions": 1})])
def test_it_comes_close_to_the_exact_best(name: str, arguments: dict[str, Any]) -> None:
    world = cai.load_world(name, {**arguments, "horizon": 5})
    found = cai.approximate(world, "svi", temperature=ALPHA, steps=400, particles=50, progress=False)
    value, error = reached(found)
    assert best(world) - 0.1 - 4 * error <= value <= best(world) + 4 * error


@pytest.mark.parametrize("name", ["pendulum", "quadrotor_2d", "reacher", "obstacle_field"])
def test_it_takes_smooth_worlds_without_an_exact_answer(name: str) -> None:
    world = cai.load_world(name, {"horizon": 3})
    found = cai.approximate(world, "svi", steps=2, particles=5, samples=50, progress=False)
    assert found.notes[-1] == "2 updates, gradients: reparameterised"
    assert found.elbo.lower < 0


def test_the_bound_of_tables_is_exact() -> None:
    world = cai.load_world("mountain_pass", {"horizon": 3})
    found = cai.approximate(world, "svi", steps=3, progress=False)
    assert not found.elbo.sampled
    exact = cai.evaluate(world, found.policy, temperature=1.0)
    assert found.elbo.lower == pytest.approx(exact.elbo)
    assert exact.elbo <= exact.log_evidence


def test_what_it_cannot_take_is_said(cart: Any) -> None:
    for options, words in (
        ({"steps": 0}, "svi, steps"), ({"learning_rate": 0.0}, "a step size above 0"), ({"samples": 1}, "svi, samples"),
    ):  # fmt: skip
        with pytest.raises(cai.WorldError, match=words):
            cai.approximate(cart, "svi", progress=False, **options)
    later = noise_program(cart).starting(torch.zeros(2, dtype=torch.float64), 1, 3)
    with pytest.raises(cai.WorldError, match="from t = 1 on"):
        cai.approximate(later, "svi", progress=False)


def test_a_fit_is_the_same_where_gradients_are_off() -> None:
    """A network learns inside torch.no_grad, too."""
    world, few = cai.load_world("double_integrator", {"horizon": 3}), {"steps": 3, "particles": 4, "samples": 4}
    found = cai.approximate(world, "svi", progress=False, **few)
    with torch.no_grad():
        again = cai.approximate(world, "svi", progress=False, **few)
    assert again.history == found.history

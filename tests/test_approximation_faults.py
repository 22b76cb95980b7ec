"""What approximate inference refuses, in words: options that are no numbers, and worlds whose numbers are NaN."""

import math
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import cai
from cai.approximation.methods import METHODS
from cai.compile.noise_program import noise_program

SHORT: dict[str, dict[str, int]] = {
    "path_integral": {"samples": 20},
    "particles": {"samples": 20, "runs": 1},
    "iterated_gaussian": {"iterations": 1, "samples": 4, "checks": 4},
}
NUMBERS = [
    ("path_integral", ("movers", "least_deviation", "correlation", "fresh")),
    ("particles", ("resample_below", "least_deviation")),
    ("iterated_gaussian", ("nudge", "tolerance")),
    ("svi", ("learning_rate",)),
    ("bounds", ("minutes", "errors")),
]


def walk(drift: Any = None, terminal: Any = None) -> Any:
    """Return a noisy walk on the line; ``drift`` makes the mean of the next place."""

    def act(x: Tensor, t: int) -> Tensor:
        return pyro.sample("a", dist.Normal(torch.zeros_like(x), 1.0))

    def step(x: Tensor, a: Tensor, t: int) -> tuple[Tensor, Tensor]:
        mean = x + a if drift is None else drift(x + a, t)
        return pyro.sample("x", dist.Normal(mean, 0.3)), -(x**2) - 0.1 * a**2

    pieces: dict[str, Any] = {} if terminal is None else {"terminal": terminal}
    start = lambda: pyro.sample("x", dist.Normal(torch.zeros(()), 1.0))  # noqa: E731
    return SimpleNamespace(horizon=3, initial=start, act=act, step=step, **pieces)


@pytest.mark.parametrize("value", [math.nan, -1.0, "x", [], torch.tensor(0.5)], ids=repr)
@pytest.mark.parametrize(("method", "option"), [(name, one) for name, options in NUMBERS for one in options])
def test_an_option_that_is_no_number_is_named(method: str, option: str, value: Any) -> None:
    options = {"steps": 1} | {option: value} if method in ("svi", "bounds") else {option: value}
    with pytest.raises(cai.WorldError, match=f"{method}, {option}"):
        METHODS[method](**options).run(walk(), 1.0, torch.Generator())


@pytest.mark.parametrize("value", [0, 1.5, True, "x"])
@pytest.mark.parametrize("method", SHORT)
def test_a_look_ahead_is_a_whole_number(method: str, value: Any) -> None:
    with pytest.raises(cai.WorldError, match=r"horizon: .* expected a whole number of steps"):
        cai.approximate(walk(), method, horizon=value, progress=False, **SHORT[method])


def test_nothing_is_seen_after_the_end() -> None:
    assert [noise_program(walk(), steps).horizon for steps in (None, 1, 3, 9)] == [3, 1, 3, 3]


@pytest.mark.parametrize("method", SHORT)
def test_a_state_that_is_nan_is_named_with_its_time(method: str) -> None:
    world = walk(lambda x, t: x if t < 1 else x * math.nan)
    with pytest.raises(cai.CaiError, match=r"t = [12].*(nan|a next state .* is not finite)"):
        cai.approximate(world, method, progress=False, **SHORT[method])


@pytest.mark.parametrize("method", SHORT)
@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_terminal_reward_is_a_number(method: str, end: float) -> None:
    with pytest.raises(cai.WorldError, match="terminal"):
        cai.approximate(walk(terminal=lambda x: x * 0 + end), method, progress=False, **SHORT[method])


@pytest.mark.parametrize("method", ["path_integral", "particles"])
def test_a_weight_beyond_float64_is_refused(method: str) -> None:
    world = walk(terminal=lambda x: 1e300 + 0 * x)
    with pytest.raises(cai.WorldError, match="smaller rewards, or a higher temperature"):
        cai.approximate(world, method, temperature=1e-12, progress=False, **SHORT[method])


@pytest.mark.parametrize(
    "option",
    [{"low": "x"}, {"high": {}}, {"low": math.nan}, {"periodic": 1.5}, {"periodic": [1]}, {"periodic": torch.ones(())}],
)
def test_a_box_is_of_numbers_and_names(option: dict[str, Any]) -> None:
    with pytest.raises(cai.WorldError, match=f"grid, {next(iter(option))}"):
        cai.approximate(walk(), "grid", points=3, progress=False, **option)


@pytest.mark.parametrize("method", [*SHORT, "grid"])
def test_a_reward_is_one_number_for_each_state(method: str) -> None:
    world = walk()
    world.step = lambda x, a, t: (pyro.sample("x", dist.Normal(x + a, 0.3)), torch.zeros(3))
    with pytest.raises(cai.WorldError, match=r"step, t = 0: a reward of shape \(3,\)"):
        cai.approximate(world, method, progress=False, **SHORT.get(method, {"points": 5}))


def test_an_evidence_beyond_float64_is_refused() -> None:
    world = walk()
    world.step = lambda x, a, t: (pyro.sample("x", dist.Normal(x + a, 0.3)), 1e308 + 0 * x)
    with pytest.raises(cai.WorldError, match="beyond float64"):
        cai.approximate(world, "particles", progress=False, **SHORT["particles"])

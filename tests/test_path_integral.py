"""Path-integral control: log Z against exact forms, and what it says where it fails."""

from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import cai
from cai.approximation.open_loop_plan import Plan
from cai.approximation.path_integral import PathIntegral
from cai.approximation.rollouts import log_optimality
from tests.helpers import slow_after


def lqg(horizon: int = 3, **options: Any) -> Any:
    return cai.load_world("lqg", {"states": 2, "actions": 1, "horizon": horizon, **options})


def exact(world: Any, alpha: float) -> float:
    return float(cai.solve(world, temperature=alpha).log_evidence)


def walk(forbidden: float = -2.0, horizon: int = 3, discount: float = 1.0) -> Any:
    """A walk on 0 … 3 with a slippery step; state 3 costs ``forbidden``."""

    def start() -> Tensor:
        return pyro.sample("cell", dist.Categorical(torch.tensor([0.0, 0.6, 0.4, 0.0])))

    def act(cell: Tensor, t: int) -> Tensor:
        return pyro.sample("move", dist.Categorical(torch.tensor([0.3, 0.2, 0.5]).expand(*cell.shape, 3)))

    def step(cell: Tensor, move: Tensor, t: int) -> tuple[Tensor, Tensor]:
        slip = pyro.sample("slip", dist.Bernoulli(torch.tensor(0.2)))
        following = (cell + (move - 1) * (1 - slip.long())).clamp(0, 3)
        reward = torch.where(following == 3, forbidden, -0.5 * (following - 2.0).abs())
        return pyro.sample("cell", cai.Point(following, 4)), reward

    return SimpleNamespace(horizon=horizon, discount=discount, initial=start, act=act, step=step)


@pytest.mark.parametrize(("alpha", "seed"), [(3.0, 0), (1.0, 1)])
@pytest.mark.parametrize("iterations", [1, 4])
def test_log_evidence_agrees_with_the_exact_one(alpha: float, seed: int, iterations: int) -> None:
    """Within four standard errors, the plan moved or not."""
    found = cai.approximate(
        lqg(), "path_integral", temperature=alpha, seed=seed, samples=20_000, iterations=iterations, progress=False
    )
    off = found.log_evidence.value - exact(lqg(), alpha)
    assert abs(off) < 4 * found.log_evidence.standard_error < 0.2
    assert found.elbo.lower < exact(lqg(), alpha)


@pytest.mark.parametrize("more", slow_after(1, [{}, {"adapt_deviation": False, "correlation": 0.4, "fresh": 0.3}]))
def test_the_evidence_has_no_bias(more: dict[str, Any]) -> None:
    """The mean of Ẑ/Z over many small runs, with an adapted plan, is 1 within four standard errors."""
    world, log_z = lqg(2), exact(lqg(2), 1.0)
    options: dict[str, Any] = {"samples": 30, "iterations": 2, "adapt_deviation": True, "movers": 10} | more
    method = PathIntegral(**options)
    runs = [cai.approximate(world, method, seed=seed, progress=False) for seed in range(150)]
    ratios = torch.tensor([run.log_evidence.value - log_z for run in runs]).exp()
    assert abs(float(ratios.mean()) - 1) < 4 * float(ratios.std()) / len(ratios) ** 0.5 < 0.5


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("forbidden", [-2.0, -torch.inf])
def test_agrees_with_tables(discount: float, forbidden: float) -> None:
    """On a finite world, with survival summed out and with forbidden states."""
    world = walk(forbidden, discount=discount)
    found = cai.approximate(world, "path_integral", samples=20_000, iterations=2, progress=False, temperature=0.5)
    off = found.log_evidence.value - exact(world, 0.5)
    assert abs(off) < 4 * found.log_evidence.standard_error < 0.2


def test_survival_is_summed_out() -> None:
    """The recursion ``e^r (γ g' + 1-γ)`` from behind gives the last; -inf stays."""
    r, end = torch.randn(4, 5).double(), torch.randn(4).double()
    r[0, 2] = -torch.inf
    g = end.exp()
    for t in reversed(range(5)):
        g = r[:, t].exp() * (0.9 * g + 0.1)
    assert torch.allclose(log_optimality(r, end, 0.9)[:, -1], g.log())
    assert torch.allclose(log_optimality(r, end, 1.0)[:, -1], r.sum(-1) + end)


def test_smoothed_moments() -> None:
    """Weighted states have the mean of p(s_t|O) within four standard errors."""
    found = cai.approximate(lqg(), "path_integral", samples=20_000, iterations=3, progress=False)
    assert found.trajectories is not None
    mean, covariance = found.trajectories.moments(2)
    truth = cai.solve(lqg(), temperature=1.0).marginals(2)
    error = (covariance.diagonal() / found.trajectories.effective_sample_size).sqrt()
    assert bool(((mean - truth.mean[:2]).abs() < 4 * error).all())


def test_moving_the_plan_raises_its_elbo() -> None:
    """The policy's exact ELBO is above the prior's, and the history rises."""
    world = lqg(10)
    found = cai.approximate(world, "path_integral", samples=2000, iterations=8, movers=50, progress=False)
    assert found.history[-1] > found.history[0]
    assert cai.evaluate(world, found.policy).elbo > cai.evaluate(world, None).elbo


def test_a_goal_that_no_draw_reaches_is_an_error_with_its_time() -> None:
    """All weights are 0: the message names the time and the best return before it."""

    def step(s: Tensor, a: Tensor, t: int) -> tuple[Tensor, Tensor]:
        reward = torch.where(s + a > 100.0, 0.0, -torch.inf) if t == 2 else -(a**2)
        return pyro.sample("s", dist.Delta(s + a)), reward

    start = lambda: pyro.sample("s", dist.Normal(torch.tensor(0.0), 1.0))  # noqa: E731
    act = lambda s, t: pyro.sample("a", dist.Normal(torch.zeros_like(s), 1.0))  # noqa: E731
    world = SimpleNamespace(horizon=4, initial=start, act=act, step=step)
    with pytest.raises(cai.ImpossibleError, match=r"t = 2: none of 50 trajectories.*best return before is -"):
        cai.approximate(world, "path_integral", samples=50, progress=False)


def test_too_cold_is_said() -> None:
    """One trajectory has all the weight: finite numbers, an error that is not known, and a note."""
    found = cai.approximate(lqg(10), "path_integral", temperature=1e-6, samples=20, iterations=2, progress=False)
    assert float(found.effective_sample_size[-1]) == pytest.approx(1, abs=1e-3)
    assert "raise the temperature or the samples" in str(found)
    assert "± unknown" in str(found.log_evidence)
    assert found.plain()["log_evidence"]["standard_error"] is None
    assert torch.tensor([found.log_evidence.value, *found.history]).isfinite().all()


def test_horizon_of_one_and_a_warm_start() -> None:
    """A plan of one step; a guess is shifted, and cut or filled with the prior."""
    found = cai.approximate(lqg(1), "path_integral", samples=5000, progress=False)
    assert abs(found.log_evidence.value - exact(lqg(1), 1.0)) < 4 * found.log_evidence.standard_error
    assert isinstance(found.guess, Plan)
    later = found.guess.shifted()
    assert torch.equal(later.mean, torch.zeros(1, 1).double())
    again = PathIntegral(samples=10).run(lqg(3), 1.0, torch.Generator().manual_seed(0), guess=found.guess)
    assert again.guess.mean.shape == (3, 1)


@pytest.mark.parametrize(
    "option",
    [{"samples": 0}, {"iterations": 0}, {"movers": 0.5}, {"least_deviation": 0}, {"correlation": 1.0}, {"fresh": 1.0}],
)
def test_options_are_checked(option: dict[str, Any]) -> None:
    """An option that makes no sense is named."""
    with pytest.raises(cai.WorldError, match=next(iter(option))):
        cai.approximate(lqg(), "path_integral", progress=False, **option)


def test_a_plan_s_draws_have_its_correlation_and_its_density() -> None:
    """Against the joint Gaussian over all times."""
    T, rho, g = 5, 0.8, torch.Generator().manual_seed(0)
    mean, deviation, xi = (torch.randn(n, T, 1, generator=g, dtype=torch.float64) for n in (1, 1, 100_000))
    plan = Plan(mean[0], deviation[0].abs() + 0.3, rho)
    w = plan.drawn(xi)
    t = torch.arange(T)
    covariance = plan.deviation * plan.deviation.T * rho ** (t[:, None] - t).abs()
    torch.testing.assert_close(w[..., 0].T.cov(), covariance, rtol=0, atol=0.05)
    joint = dist.MultivariateNormal(plan.mean[:, 0], covariance)
    torch.testing.assert_close(plan.log_prob(w[:9]).sum(-1), joint.log_prob(w[:9, :, 0]))
    assert plan.shifted().mean[-1] == rho * plan.mean[-1]

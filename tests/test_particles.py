"""Sequential Monte Carlo: log Z against exact forms, twists, and what it says where it fails."""

from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import cai
from cai.approximation.particles import forward, systematic
from cai.approximation.twist import gaussian_twist, untwisted
from cai.compile.noise_program import noise_program
from tests.test_path_integral import exact, lqg, walk


def found(world: Any, **options: Any) -> Any:
    return cai.approximate(world, "particles", progress=False, **options)


@pytest.mark.parametrize(("alpha", "seed"), [(3.0, 0), (1.0, 1), (0.3, 2)])
def test_log_evidence_agrees_with_the_exact_one(alpha: float, seed: int) -> None:
    """Within four standard errors, of many runs and of one."""
    world = lqg(6)
    for options in ({"runs": 10, "samples": 300}, {"runs": 1, "samples": 2000}):
        log_z = found(world, temperature=alpha, seed=seed, **options).log_evidence
        assert abs(log_z.value - exact(world, alpha)) < 4 * log_z.standard_error < 1


def test_the_evidence_has_no_bias() -> None:
    """The mean of Ẑ/Z over many small runs is 1 within four standard errors."""
    world, alpha = lqg(3), 0.7
    run = found(world, temperature=alpha, samples=20, runs=100)
    ratios = (torch.tensor(run.history) - exact(world, alpha)).exp()
    assert abs(float(ratios.mean()) - 1) < 4 * float(ratios.std()) / len(ratios) ** 0.5 < 0.5


def test_a_twist_that_ignores_death_is_refused() -> None:
    """A Gaussian proposal is too narrow for the trajectories that die: their weights have heavy tails."""
    with pytest.raises(cai.IntractableError, match="to survive or to end is a mixture"):
        found(lqg(4, discount=0.8), twist="iterated_gaussian")
    assert found(lqg(4, discount=0.8), samples=100).log_evidence.standard_error > 0


@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_the_true_twist_leaves_no_variance(alpha: float) -> None:
    """On a linear-Gaussian world every particle has the same weight, at any temperature."""
    world = lqg(6)
    run = found(world, temperature=alpha, samples=10, runs=3, twist="iterated_gaussian")
    assert torch.allclose(torch.tensor(run.history), torch.tensor(exact(world, alpha)), rtol=1e-6)
    assert torch.allclose(run.effective_sample_size, torch.tensor(10.0).double(), rtol=1e-6)


def test_a_wrong_twist_costs_variance_and_no_bias() -> None:
    """The twist of another temperature."""
    world, generator = lqg(4), torch.Generator().manual_seed(0)
    program = noise_program(world)
    twist = gaussian_twist(program, 2.0, generator)
    runs = [forward(program, twist, 1.0, 20, 0.5, generator).log_evidence for _ in range(40)]
    ratios = (torch.tensor(runs) - exact(world, 1.0)).exp()
    assert abs(float(ratios.mean()) - 1) < 4 * float(ratios.std()) / len(ratios) ** 0.5 < 0.5


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("forbidden", [-2.0, -torch.inf])
def test_agrees_with_tables(discount: float, forbidden: float) -> None:
    """On a finite world, with survival summed out and with forbidden states."""
    world = walk(forbidden, discount=discount)
    log_z = found(world, temperature=0.5, samples=2000).log_evidence
    assert abs(log_z.value - exact(world, 0.5)) < 4 * log_z.standard_error < 0.2


@pytest.mark.parametrize("twist", ["none", pytest.param("iterated_gaussian", marks=pytest.mark.slow)])
def test_smoothed_moments(twist: str) -> None:
    """The mean of p(s_t|O) over independent runs, within four standard errors."""
    world, t = lqg(5), 2
    truth = cai.solve(world, temperature=1.0).marginals(t).mean[:2]
    means = []
    for seed in range(10):
        means.append(found(world, seed=seed, runs=1, samples=1000, twist=twist).trajectories.moments(t)[0])
    each = torch.stack(means)
    # ratios of estimates have a bias of order 1/N, far below these errors
    assert bool(((each.mean(0) - truth).abs() < 4 * each.std(0) / len(each) ** 0.5).all())


def test_a_goal_that_no_particle_reaches_is_an_error_with_its_time() -> None:
    """All weights are 0: the message names the time and the best return before it."""
    world = SimpleNamespace(
        horizon=4,
        initial=lambda: pyro.sample("s", dist.Normal(torch.tensor(0.0), 1.0)),
        act=lambda s, t: pyro.sample("a", dist.Normal(torch.zeros_like(s), 1.0)),
        step=to_the_goal,
    )
    with pytest.raises(cai.ImpossibleError, match=r"t = 2: none of 50 particles.*best return before is -"):
        found(world, samples=50)


def to_the_goal(s: Tensor, a: Tensor, t: int) -> tuple[Tensor, Tensor]:
    reward = torch.where(s + a > 100.0, 0.0, -torch.inf) if t == 2 else -(a**2)
    return pyro.sample("s", dist.Delta(s + a)), reward


def test_an_ended_episode_pays_no_more() -> None:
    """Against tables: a world that ends at cell 3."""
    world = walk(-2.0, horizon=4)
    world.terminated = lambda cell: cell == 3
    world.step = lambda cell, move, t: ended_step(cell, move)
    log_z = found(world, temperature=0.5, samples=2000).log_evidence
    assert abs(log_z.value - exact(world, 0.5)) < 4 * log_z.standard_error < 0.2


def ended_step(cell: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    slip = pyro.sample("slip", dist.Bernoulli(torch.tensor(0.2)))
    over = cell == 3
    following = torch.where(over, cell, (cell + (move - 1) * (1 - slip.long())).clamp(0, 3))
    reward = torch.where(over, 0.0, torch.where(following == 3, -2.0, -0.5 * (following - 2.0).abs()))
    return pyro.sample("cell", cai.Point(following, 4)), reward


def test_too_cold_is_said_and_a_horizon_of_one() -> None:
    """One particle has all the weight: finite numbers, and a note."""
    run = found(lqg(1), temperature=1e-7, samples=20, runs=2)
    assert float(run.effective_sample_size.min()) < 1.1
    assert "raise the temperature or the samples" in str(run)
    assert torch.tensor([run.log_evidence.value, run.log_evidence.standard_error]).isfinite().all()


@pytest.mark.slow
def test_a_twist_of_the_pendulum_agrees_with_none() -> None:
    """On the pendulum no expansion is exact: still numbers without bias, with less spread."""
    twist_is_better(cai.load_world("pendulum", {"horizon": 8}), temperature=3.0, samples=300)


def test_a_twist_is_better_than_none_where_little_is_nonlinear() -> None:
    """On a spring that hardens."""
    world = SimpleNamespace(
        horizon=5,
        initial=lambda: pyro.sample("s", dist.Normal(torch.tensor(1.0), 0.5)),
        act=lambda s, t: pyro.sample("a", dist.Normal(torch.zeros_like(s), 1.0)),
        step=hardening,
    )
    twist_is_better(world, samples=200)


def twist_is_better(world: Any, **options: Any) -> None:
    """The numbers agree within four standard errors, and the twist's own error is a third or less."""
    plain, twisted = (found(world, twist=twist, **options).log_evidence for twist in ("none", "iterated_gaussian"))
    error = (plain.standard_error**2 + twisted.standard_error**2) ** 0.5
    assert abs(plain.value - twisted.value) < 4 * error < 1
    assert twisted.standard_error < plain.standard_error / 3


def hardening(s: Tensor, a: Tensor, t: int) -> tuple[Tensor, Tensor]:
    following = pyro.sample("s", dist.Normal(s + 0.3 * a - 0.1 * torch.sin(s), 0.2))
    return following, -0.5 * (s**2 + 0.1 * torch.cosh(0.5 * s)) - 0.5 * a**2


def test_a_path_is_what_the_program_does_under_its_noise() -> None:
    """Traced back through the ancestors, states, actions and rewards of a trajectory belong together."""
    program = noise_program(lqg(6))
    twist = untwisted(program, 1.0, torch.Generator())
    cloud = forward(program, twist, 1.0, 30, 0.9, torch.Generator().manual_seed(0)).last
    paths, (w, z) = cloud.paths(), cloud.along(cloud.noise).split([program.act_noise, program.step_noise], -1)
    s, rewards = paths.states[:, 0], []
    for t in range(program.horizon):
        a, s, r = program.advance(t, s, w[:, t], z[:, t])
        rewards.append(r)
        assert torch.allclose(a, paths.actions[:, t])
        assert torch.allclose(s, paths.states[:, t + 1])
    rewards[-1] = rewards[-1] + program.terminal(s)
    assert torch.allclose(torch.stack(rewards, 1), paths.rewards)
    assert len(cloud.lines[0].unique()) < 30


def test_systematic_resampling_rounds_up_or_down() -> None:
    """Each particle is taken as often as N times its weight, rounded."""
    weights = torch.softmax(torch.randn(50, generator=torch.Generator().manual_seed(0)).double() * 2, 0)
    counts = torch.bincount(systematic(weights.log(), torch.Generator().manual_seed(1)), minlength=50)
    assert int(counts.sum()) == 50
    assert bool(((counts - 50 * weights).abs() < 1).all())


@pytest.mark.parametrize("option", [{"samples": 1}, {"runs": 0}, {"twist": "left"}, {"resample_below": 2.0}])
def test_options_are_checked(option: dict[str, Any]) -> None:
    """An option that makes no sense is named."""
    with pytest.raises(cai.WorldError, match=next(iter(option))):
        found(lqg(), **option)


@pytest.mark.parametrize("twist", ["none", pytest.param("iterated_gaussian", marks=pytest.mark.slow)])
def test_backward_simulation_has_the_exact_moments_at_the_start(twist: str) -> None:
    """Mean and variance of p(s_0|O) within four standard errors, from more particles than there are ancestors."""
    world, means, early = lqg(4), [], []
    truth = cai.solve(world, temperature=0.3).marginals(0).mean[:2]
    spread = cai.solve(world, temperature=0.3).marginals(0).covariance[:2, :2].diagonal()
    for seed in range(12):
        run = found(world, temperature=0.3, seed=seed, runs=1, samples=200, twist=twist, backward=True)
        mean, covariance = run.trajectories.moments(0)
        means.append(torch.cat((mean - truth, covariance.diagonal() - spread)))
        early.append(len(run.trajectories.states[:, 0].unique(dim=0)))
    each = torch.stack(means)
    # estimates of a ratio have a bias of order 1/N, below these errors
    assert bool((each.mean(0).abs() < 4 * each.std(0) / len(each) ** 0.5).all())
    traced = found(world, temperature=0.3, runs=1, samples=200, twist=twist).trajectories.states[:, 0].unique(dim=0)
    assert twist != "none" or early[0] > 1.2 * len(traced)


def test_backward_trajectories_pay_what_the_program_pays() -> None:
    """Rewards belong to the states and actions of the trajectory."""
    world = lqg(4)
    paths = found(world, runs=1, samples=50, backward=True).trajectories
    s, a = paths.states, paths.actions
    due = -0.5 * (s[:, :-1] @ world.C.mT).square().sum(-1) - 0.5 * a.square().sum(-1)
    due[:, -1] = due[:, -1] + world.terminal(s[:, -1])
    assert torch.allclose(paths.rewards, due)


def test_a_next_state_without_a_density_is_refused() -> None:
    """A certain next state, and an episode that may end."""
    with pytest.raises(cai.IntractableError, match="a certain value, which has no density"):
        found(cai.load_world("pendulum", {"horizon": 2}), samples=10, runs=1, backward=True)
    with pytest.raises(cai.IntractableError, match="an episode that may end"):
        found(lqg(2, discount=0.9), samples=10, backward=True)


def test_the_error_of_a_few_runs_is_not_small_by_chance() -> None:
    """Of two runs, 30 times over: their spread alone is off by more than four standard errors in one of six."""
    world, alpha = lqg(2), 1.0
    log_z = [found(world, temperature=alpha, seed=seed, samples=60, runs=2).log_evidence for seed in range(30)]
    off = torch.tensor([(one.value - exact(world, alpha)) / one.standard_error for one in log_z])
    assert float(off.abs().max()) < 4
    assert 0.5 < float(off.std()) < 1.5

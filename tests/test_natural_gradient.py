"""The natural policy gradient on tables: its step, its critic, and the optimum that it comes to."""

from typing import Any

import pytest
import torch
from torch import Tensor

import cai
from cai.exact.tables.policy_evaluation import occupancy, policy_elbo, values
from cai.learn.algorithms.natural_gradient import NaturalGradient
from cai.learn.functions import named, part
from cai.learn.problem import Problem, State
from cai.learn.tallies import Tally, nothing_seen
from cai.learn.training import first, problem_of, step
from tests.worlds import RandomWorld, TimedWorld

pytestmark = pytest.mark.usefixtures("float64")
QUIET: dict[str, Any] = {"evaluations": 1, "progress": False}


def certain(seed: int = 3, horizon: int = 4) -> RandomWorld:
    world = RandomWorld(seed=seed, S=3, A=2, K=1, horizon=horizon, holes=False)
    world.start, world.last, world.terminal = torch.full((3,), 1 / 3), torch.zeros(3), None
    return world


def set_going(world: Any, one: NaturalGradient, alpha: float | None, theta: Tensor) -> tuple[Problem, State]:
    """A learner that has seen every transition and has a policy of its own."""
    problem = problem_of(one, world, alpha, None)
    state, _ = step(one, problem, first(one, problem, 0))
    return problem, State(state.steps, 0, state.random, None, {**state.values, "theta": theta.flatten()})


@pytest.mark.parametrize("lr", [0.3, 1.0])
def test_a_step_is_the_gradient_of_the_elbo_through_the_inverse_fisher_matrix(lr: float) -> None:
    # θ ← θ + lr/α F⁻¹ ∇ α ELBO with F = d_t(s) (diag π - π πᵀ) in each (t, s); autograd and the matrix, by hand.
    world, alpha = certain(), 0.7
    tables, log_prior = cai.tabulate(world), world.prior[0].log()
    theta = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1))
    problem, state = set_going(world, NaturalGradient(batch=300, epochs=1, lr=lr), alpha, theta)
    after, _ = step(NaturalGradient(batch=300, epochs=1, lr=lr), problem, state)
    free = theta.clone().requires_grad_()
    log_pi = (log_prior + free).log_softmax(-1)
    (gradient,) = torch.autograd.grad(alpha * policy_elbo(tables, log_pi, torch.tensor(alpha)), free)
    pi, d = log_pi.detach().exp(), occupancy(tables, log_pi.detach())[:-1]
    fisher = d[..., None, None] * (torch.diag_embed(pi) - pi.unsqueeze(-1) * pi.unsqueeze(-2))
    moved = theta + lr / alpha * (torch.linalg.pinv(fisher) @ gradient.unsqueeze(-1)).squeeze(-1)
    expected = (log_prior + moved).log_softmax(-1)
    found = (log_prior + after.values["theta"].view(4, 3, 2)).log_softmax(-1)
    there = (d > 1e-9).unsqueeze(-1)
    torch.testing.assert_close(torch.where(there, found, 0.0), torch.where(there, expected, 0.0), rtol=0, atol=1e-9)


def test_the_critic_of_a_certain_world_is_exact_whatever_policy_the_transitions_are_of() -> None:
    world, alpha = certain(seed=5), 0.4
    theta = 3 * torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(2))
    one = NaturalGradient(batch=300, epochs=1)
    problem, state = set_going(world, one, alpha, theta)  # seen under the prior
    world.start = torch.tensor([0.0, 1.0, 0.0])
    after, metrics = step(one, problem, state)  # η = 1: θ is Q̂/α
    log_pi = (world.prior[0].log() + theta).log_softmax(-1)
    exact = values(cai.tabulate(world), log_pi, torch.tensor(alpha))
    torch.testing.assert_close(alpha * after.values["theta"].view(4, 3, 2), exact.q, rtol=0, atol=1e-9)
    assert metrics["value"] == pytest.approx(float(exact.v[0, 1]), abs=1e-9)  # of the start


def gap(world: Any, alpha: float | None, seed: int, **settings: Any) -> float:
    run = cai.learn.reinforce(world, temperature=alpha, seed=seed, **QUIET, **settings)
    last = run.history[-1]
    if alpha is not None:
        assert last.policy_nats is not None
        return last.policy_nats
    assert last.deterministic_return is not None
    return float(cai.solve(world, cai.HARD).value) - last.deterministic_return


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_it_comes_to_the_exact_optimum_of_a_certain_world_in_ten_seeds(alpha: float | None) -> None:
    assert max(abs(gap(certain(), alpha, seed, steps=600, batch=30)) for seed in range(10)) < 1e-9


def test_it_comes_close_to_the_optimum_of_an_uncertain_world_in_ten_seeds() -> None:
    world = RandomWorld(seed=4, S=3, A=2, K=2, horizon=4, holes=False)
    assert max(gap(world, 0.5, seed, steps=16_000, batch=400) for seed in range(10)) < 0.008  # nats


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_where_the_slices_differ_each_time_has_transitions_of_its_own(alpha: float | None) -> None:
    world = TimedWorld(5, 3, 3, 2, 4, positive=False, holes=False)
    value = cai.evaluate(world, None, temperature=0.5).optimality_gap
    assert abs(gap(world, alpha, 0, steps=40_000, batch=1000)) < 0.02 * value
    with pytest.raises(cai.WorldError, match="slices that differ"):
        gap(world, alpha, 0, stationary=True, natural=True)


def test_a_tally_of_both_is_that_of_all_transitions() -> None:
    world = TimedWorld(5, 3, 3, 2, 4, positive=False, holes=False)
    one = NaturalGradient(batch=50)
    problem = problem_of(one, world, 0.5, None)
    state = first(one, problem, 0)
    half, _ = step(one, problem, state)
    whole, _ = step(one, problem, half)
    seen = Tally(**part(whole.values, "tally"))
    assert float(seen.times.sum()) == whole.steps == 400
    assert bool((seen.cell[1:] >= seen.cell[:-1]).all())
    slices = seen.by_slice(4, 9)
    assert [float(tally.times.sum()) for tally in slices] == [100.0] * 4
    again = nothing_seen().and_also(seen)
    assert all(torch.equal(x, y) for x, y in zip(named("", vars(again)).values(), vars(seen).values(), strict=True))


def test_the_plain_gradient_stays_where_it_is_asked_for() -> None:
    world = certain()
    plain = cai.learn.reinforce(world, natural=False, steps=400, batch=10, **QUIET)
    meant = cai.learn.reinforce(world, lr=0.05, steps=400, batch=10, **QUIET)
    natural = cai.learn.reinforce(world, steps=400, batch=10, **QUIET)
    x = torch.tensor([0, 1, 2])
    assert torch.equal(plain.policy.log_pi(x, 0), meant.policy.log_pi(x, 0))
    assert not torch.equal(plain.policy.log_pi(x, 0), natural.policy.log_pi(x, 0))
    for settings in ({"baseline": None}, {"clip": 0.2}, {"network": (8,)}, {"average": 0.5}):
        with pytest.raises(cai.WorldError, match="natural=False"):
            cai.learn.reinforce(world, natural=True, steps=10, **settings, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(cai.WorldError, match="no table"):
        cai.learn.reinforce("CartPole-v1", natural=True, steps=10, **QUIET)

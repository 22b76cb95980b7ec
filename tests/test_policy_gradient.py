"""REINFORCE and the soft policy gradient: the three steps as the lectures write them, and their exact expectations."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.exact.tables.policy_evaluation import policy_elbo
from cai.learn.advantages import generalised_advantages, less_others, rewards_to_go
from cai.learn.algorithms.policy_gradient import PolicyGradient
from cai.learn.policy_search import PolicySearch
from cai.learn.surrogates import clipped, score_function
from cai.learn.training import first, problem_of, step
from cai.simulate.simulator import drawing, seeded
from tests.helpers import examples
from tests.oracles.enumeration import Path, paths
from tests.worlds import RandomWorld

pytestmark = pytest.mark.usefixtures("float64")
seeds = st.integers(0, 2**31 - 1)


def algorithm(baseline: Any, batch: int = 8, lr: float = 0.1) -> PolicySearch:
    method = PolicyGradient(cai.KLObjective(where="reward", baseline=baseline), batch=batch)
    return PolicySearch(method, lr=lr, settle=False)


def test_the_loss_has_the_gradient_of_the_three_steps() -> None:
    # 1. sample; 2. Ĵ = 1/N Σ_i (Σ_t log π) (Σ_t r); 3. its gradient: written out as the lectures do, in plain loops.
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, generator=g).requires_grad_()
    states, actions = torch.randint(3, (5, 4), generator=g), torch.randint(2, (5, 4), generator=g)
    rewards = torch.randn(5, 4, generator=g)
    total = torch.zeros(())
    for i in range(4):
        log_pi = sum(logits.log_softmax(-1)[states[t, i], actions[t, i]] for t in range(5))
        total = total + log_pi * float(rewards[:, i].sum()) / 4
    (expected,) = torch.autograd.grad(total, logits)
    taken = logits.log_softmax(-1)[states, actions]
    loss = -score_function(taken, rewards_to_go(rewards, 1.0)[0].expand(5, 4)).sum() / 4
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, -expected, rtol=0, atol=1e-13)


@given(seeds, st.floats(0, 1))
def test_the_reward_to_go_is_the_discounted_sum_from_here_on(seed: int, gamma: float) -> None:
    rewards = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    found = rewards_to_go(rewards, gamma)
    for t in range(4):
        expected = sum(gamma**k * rewards[t + k] for k in range(4 - t))
        torch.testing.assert_close(found[t], expected, rtol=0, atol=1e-12)


def weights_of(
    path: Path, world: RandomWorld, log_pi: Tensor, alpha: float | None, to_go: bool, gamma: float
) -> Tensor:
    """Ψ_t of one trajectory, from the library's own functions; the terminal reward belongs to the last step."""
    rewards = [float(world.reward[0, s, a, k]) for s, a, k in path.visits]
    assert path.end is not None
    rewards[-1] += float(world.last[path.end])
    paid = torch.tensor(rewards).unsqueeze(-1)
    if alpha is not None:
        price = [float(log_pi[t, s, a] - world.prior[0, s, a].log()) for t, (s, a, _) in enumerate(path.visits)]
        paid = paid - alpha * torch.tensor(price).unsqueeze(-1)
    found = rewards_to_go(paid, gamma)
    return found if to_go else found[0].expand_as(found)


def expected_gradient(world: RandomWorld, logits: Tensor, alpha: float | None, to_go: bool) -> Tensor:
    """E[∇ of the estimator], every trajectory enumerated and weighted by its probability under the policy."""
    total = torch.zeros_like(logits)
    prior = world.prior[0].log()
    with torch.no_grad():
        fixed = (prior + logits).log_softmax(-1)
    for path in paths(world):
        p = math.exp(path.log_dynamics + sum(float(fixed[t, s, a]) for t, (s, a, _) in enumerate(path.visits)))
        psi = weights_of(path, world, fixed, alpha, to_go, 1.0)
        log_pi = (prior + logits).log_softmax(-1)
        taken = torch.stack([log_pi[t, s, a] for t, (s, a, _) in enumerate(path.visits)]).unsqueeze(-1)
        (gradient,) = torch.autograd.grad(-score_function(taken, psi).sum(), logits)
        total -= p * gradient
    return total


@pytest.mark.parametrize("to_go", [False, True])
@examples(4)
@given(seeds, st.sampled_from([0.3, 1.0, 5.0]))
def test_the_soft_gradient_is_that_of_the_elbo(to_go: bool, seed: int, alpha: float) -> None:
    # ∇ E Σ_t (r_t - α log π/p): α times the exact gradient of the ELBO, in expectation over all trajectories.
    world = RandomWorld(seed=seed, S=2, A=2, K=2, horizon=3, holes=False)
    logits = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    tables = cai.tabulate(world)
    elbo = policy_elbo(tables, (world.prior[0].log() + logits).log_softmax(-1), torch.tensor(alpha))
    (exact,) = torch.autograd.grad(elbo, logits)
    found = expected_gradient(world, logits, alpha, to_go)
    torch.testing.assert_close(found, alpha * exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("to_go", [False, True])
@examples(4)
@given(seeds)
def test_reinforce_climbs_the_expected_return(to_go: bool, seed: int) -> None:
    world = RandomWorld(seed=seed, S=2, A=2, K=2, horizon=3, holes=False)
    logits = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    prior = world.prior[0].log()

    log_pi = (prior + logits).log_softmax(-1)
    value = torch.zeros(())  # the expected return as a differentiable sum over trajectories: another road to ∇J
    for path in paths(world):
        taken = torch.stack([log_pi[t, s, a] for t, (s, a, _) in enumerate(path.visits)])
        value = value + path.rewards * (taken.sum() + path.log_dynamics).exp()
    (exact,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(expected_gradient(world, logits, None, to_go), exact, rtol=1e-10, atol=1e-10)


@given(seeds)
def test_a_baseline_of_the_others_does_not_know_its_own_trajectory(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    to_go, alive = torch.randn(3, 5, generator=g), torch.rand(3, 5, generator=g) < 0.7
    before = to_go - less_others(to_go, alive, 5)
    changed = to_go.clone()
    changed[:, 2] += 100.0
    after = changed - less_others(changed, alive, 5)
    torch.testing.assert_close(after[:, 2], before[:, 2])
    for t in range(3):  # and is the mean of the others
        for i in range(5):
            others = [float(to_go[t, j]) for j in range(5) if j != i and alive[t, j]]
            expected = sum(others) / len(others) if others and alive[t, i] else 0.0
            assert float(before[t, i]) == pytest.approx(expected, abs=1e-12)


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_the_advantages_are_a_weighted_mean_of_those_over_n_steps(seed: int, gamma: float, lam: float) -> None:
    # Schulman et al. 2016, equations 11 and 16: (1 - λ) Σ_n λ^(n-1) Â^(n); the last one has the weight that is left.
    g = torch.Generator().manual_seed(seed)
    r, v = torch.randn(4, 1, generator=g), torch.randn(5, 1, generator=g)
    going = torch.tensor([True, True, True, False]).unsqueeze(
        -1
    )  # the episode goes on after the batch: V(s_4) is to come
    found = generalised_advantages(r, v[:-1], v[1:], going, gamma, lam)
    for t in range(4):
        steps = [sum(gamma**k * r[t + k] for k in range(n)) + gamma**n * v[t + n] - v[t] for n in range(1, 5 - t)]
        weights = [(1 - lam) * lam**n for n in range(len(steps) - 1)] + [lam ** (len(steps) - 1)]
        expected = sum(w * x for w, x in zip(weights, steps, strict=True))
        torch.testing.assert_close(found[t], expected, rtol=0, atol=1e-12)


def test_the_clipped_surrogate_has_the_same_gradient_where_nothing_is_clipped() -> None:
    g = torch.Generator().manual_seed(1)
    log_pi, weights = torch.randn(4, 3, generator=g).requires_grad_(), torch.randn(4, 3, generator=g)
    (plain,) = torch.autograd.grad(score_function(log_pi, weights).sum(), log_pi)
    (found,) = torch.autograd.grad(clipped(log_pi, log_pi.detach(), weights, 0.2).sum(), log_pi)
    torch.testing.assert_close(found, plain)
    far = log_pi.detach() - 1.0  # the ratio is e: gains beyond 1.2 are cut off, losses are not
    (cut,) = torch.autograd.grad(clipped(log_pi, far, weights, 0.2).sum(), log_pi)
    assert bool(((cut == 0) == (weights > 0)).all())


@pytest.mark.parametrize("baseline", ["none", "leave_one_out", "value"])
def test_one_step_goes_the_way_of_the_exact_gradient(baseline: str) -> None:
    # A large batch: the direction of a sampled step agrees with the exact one.
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    one = algorithm(batch=20_000, baseline=baseline, lr=1.0)
    problem = problem_of(one, world, 0.5, None)
    state = first(one, problem, 0)
    after, _ = step(one, problem, state)
    found = -after.values["theta_adam.mean"].view(3, 3, 2) / 0.1
    tables = cai.tabulate(world)
    logits = torch.zeros(3, 3, 2).requires_grad_()
    elbo = policy_elbo(tables, (world.prior[0].log() + logits).log_softmax(-1), torch.tensor(0.5))
    (exact,) = torch.autograd.grad(0.5 * elbo, logits)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0)
    assert float(cosine) > 0.99
    assert float(found.norm() / exact.norm()) == pytest.approx(1.0, abs=0.1)


def test_a_step_is_a_function_of_the_state() -> None:
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    one = algorithm(baseline="value")
    problem = problem_of(one, world, 0.5, None)
    state = first(one, problem, 0)
    before = {name: value.clone() for name, value in state.values.items()}
    with drawing(seeded(7)):  # what surrounds a step is not its business
        again, _ = step(one, problem, state)
    after, _ = step(one, problem, state)
    assert all(torch.equal(after.values[name], again.values[name]) for name in before)
    assert all(torch.equal(state.values[name], before[name]) for name in before)
    assert replace(after, values={}).steps == again.steps == 24


@pytest.mark.parametrize("alpha", ["measured_at", "temperature"])
def test_learning_improves_on_the_prior_on_a_network_too(alpha: str) -> None:
    world = cai.from_gymnasium("CliffWalking-v1", horizon=20)
    asked: dict[str, Any] = {alpha: 1.0, "network": (16,), "steps": 40_000, "evaluations": 2, "progress": False}
    found = cai.learn.reinforce(world, **asked)
    assert found.history[-1].policy_nats < 0.5 * found.history[0].policy_nats
    one = cai.evaluate(world, found, temperature=1.0)
    assert one.optimality_gap == pytest.approx(found.history[-1].policy_nats, abs=1e-3)

"""Gradients: the analytic adjoint against plain unrolled autograd, finite differences and the marginals."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

import cai
from tests.helpers import examples, slow_after
from tests.oracles import enumeration as oracle
from tests.worlds import RandomWorld, TimedWorld, random_worlds, temperatures

RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-1.3), cai.RISK(2.0)]


def leaves(tables: cai.Tables) -> tuple[cai.Tables, dict[str, Tensor]]:
    names = ("log_initial", "log_prior", "log_prob", "reward", "terminal")
    fresh = {name: getattr(tables, name).clone().requires_grad_() for name in names}
    return replace(tables, **fresh), fresh


@examples(16)
@given(random_worlds(), temperatures)
def test_reward_gradient_is_the_posterior_marginals_over_alpha(world: RandomWorld, alpha: float) -> None:
    assume(oracle.log_evidence(world, alpha) > -math.inf)
    tables, fresh = leaves(cai.tabulate(world))
    messages = cai.solve(tables, temperature=alpha)
    messages.log_evidence.backward()
    T = world.horizon
    marginals = torch.stack([torch.tensor(oracle.marginal(world, alpha, t), dtype=torch.float64) for t in range(T)])
    expected = marginals if tables.timed else marginals.sum(0)
    torch.testing.assert_close(fresh["reward"].grad, expected / alpha, rtol=0, atol=1e-9 / alpha)
    torch.testing.assert_close(fresh["log_prob"].grad, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(fresh["log_prior"].grad, expected.sum(-1), rtol=0, atol=1e-9)
    torch.testing.assert_close(fresh["log_initial"].grad, messages.initial().detach(), rtol=0, atol=1e-9)


def plain(tables: cai.Tables, alpha: Tensor) -> Tensor:
    """log Z by textbook code under plain autograd, for worlds without holes and without discount."""
    v = tables.terminal
    for t in range(tables.horizon - 1, -1, -1):
        one = tables.at(t)
        q = alpha * torch.logsumexp(one.log_prob + (one.reward + v[one.successor]) / alpha, -1)
        v = alpha * torch.logsumexp(one.log_prior + q / alpha, -1)
    return torch.logsumexp(tables.log_initial + v / alpha, -1)


@examples(12)
@given(random_worlds(holes=False, discount=1.0), temperatures)
def test_gradient_equals_unrolled_autograd(world: RandomWorld, temperature: float) -> None:
    ours, fresh = leaves(cai.tabulate(world))
    theirs, other = leaves(cai.tabulate(world))
    alpha, beta = (torch.tensor(temperature, dtype=torch.float64, requires_grad=True) for _ in range(2))
    cai.solve(ours, temperature=alpha).log_evidence.backward()
    plain(theirs, beta).backward()
    for name in fresh:
        torch.testing.assert_close(fresh[name].grad, other[name].grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(alpha.grad, beta.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rule", slow_after(3, RULES[::-1]), ids=str)
@pytest.mark.parametrize(("horizon", "discount"), slow_after(1, [(3, 0.8), (3, 1.0), (None, 0.8)]))
def test_gradcheck_of_every_rule(rule: cai.Rule, discount: float, horizon: int | None) -> None:
    kind = TimedWorld if horizon else RandomWorld
    world = kind(seed=11, S=3, A=2, K=2, horizon=horizon, holes=False, discount=discount, positive=False)
    if horizon is None and rule in (cai.RISK(-1.3),):
        world.reward *= 0.02  # so that the mean over lifetimes is finite
    tables = cai.tabulate(world)
    names = ("log_initial", "log_prior", "log_prob", "reward") + (() if horizon is None else ("terminal",))
    alpha = torch.tensor(0.7, dtype=torch.float64)
    inputs = [getattr(tables, name).clone().requires_grad_() for name in names] + [alpha.requires_grad_()]

    def value(*tensors: Tensor) -> Tensor:
        given_tables = replace(tables, **dict(zip(names, tensors[:-1], strict=True)))
        return cai.solve(given_tables, rule, temperature=tensors[-1]).value

    assert torch.autograd.gradcheck(value, inputs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_q_is_differentiable_too(rule: cai.Rule) -> None:
    tables = cai.tabulate(RandomWorld(seed=5, S=3, A=2, K=2, horizon=3, holes=False))
    reward = tables.reward.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda r: cai.solve(replace(tables, reward=r), rule, temperature=0.7).q(1), (reward,), atol=1e-6
    )


@examples(16)
@given(random_worlds(holes=True), temperatures)
def test_no_gradient_is_nan_where_something_is_impossible(world: RandomWorld, temperature: float) -> None:
    assume(oracle.log_evidence(world, temperature) > -math.inf)
    tables, fresh = leaves(cai.tabulate(world))
    alpha = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    cai.solve(tables, temperature=alpha).log_evidence.backward()
    for grad in (*(leaf.grad for leaf in fresh.values()), alpha.grad):
        assert bool(grad.isfinite().all())


def test_gradient_reaches_the_parameters_of_a_program() -> None:
    logits = torch.zeros(2, requires_grad=True, dtype=torch.float64)

    class Coin:
        horizon = 2

        def initial(self):
            import pyro

            return pyro.sample("s", cai.Point(torch.tensor(0), 2))

        def act(self, state, t):
            import pyro
            from pyro.distributions import Categorical

            return pyro.sample("a", Categorical(logits=logits.expand(*state.shape, 2)))

        def step(self, state, action, t):
            import pyro

            return pyro.sample("s", cai.Point(action, 2)), -1.0 * action

    cai.solve(Coin()).log_evidence.backward()
    marginals = cai.solve(Coin()).marginals(0).sum(0) + cai.solve(Coin()).marginals(1).sum(0)
    torch.testing.assert_close(logits.grad, (marginals - 2 * torch.tensor([0.5, 0.5])).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_a_probability_of_zero_has_a_finite_gradient(rule: cai.Rule) -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]], requires_grad=True)

    class Moves(RandomWorld):
        def step(self, state, action, t):
            import pyro

            following = pyro.sample("s", pyro.distributions.Categorical(p.double()[state]))
            return following, self.reward[0][state, action, 0]

    cai.solve(Moves(seed=0, S=3, A=2, K=1, horizon=3, holes=False), rule).value.backward()
    assert bool(p.grad.isfinite().all())


def test_policies_have_finite_gradients_beside_forbidden_rewards() -> None:
    tables, fresh = leaves(cai.tabulate(RandomWorld(seed=7, S=3, A=2, K=3, horizon=3)))
    assert bool((tables.reward == -torch.inf).any())
    cai.solve(tables).policy.probs(0).square().sum().backward()
    for leaf in fresh.values():
        assert leaf.grad is None or bool(leaf.grad.isfinite().all())


def test_a_second_derivative_is_refused() -> None:
    tables, fresh = leaves(cai.tabulate(RandomWorld(seed=1, S=2, A=2, K=2, horizon=2, holes=False)))
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(cai.solve(tables).log_evidence, fresh["reward"], create_graph=True)

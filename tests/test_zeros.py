"""Zero probabilities, rewards of -inf, Bernoulli sites, death: where programs and gradients like to turn into NaN."""

from typing import Any

import pyro
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pyro.distributions import Bernoulli, Binomial, Categorical, Normal, Uniform
from torch import nn

import cai
from cai.learn.svi.estimators import Objective, estimator_of
from tests.helpers import examples, slow_after
from tests.test_elbo import by_pyro, by_tables, random_policy
from tests.worlds import FactoredWorld, RandomWorld, random_worlds, temperatures

pytestmark = pytest.mark.usefixtures("float64")


class Coins:
    """Every variable a Bernoulli or a Binomial, some of whose values are impossible."""

    horizon = 2

    def __init__(self, discount: float = 1.0) -> None:
        self.discount = discount

    def initial(self):
        return pyro.sample("up", Bernoulli(torch.tensor(0.5)))

    def act(self, state, t):
        return pyro.sample("push", Bernoulli(0.5 * state))

    def step(self, state, action, t):
        coins = pyro.sample("coins", Binomial(2, 0.5 * state))
        up = pyro.sample("up", Bernoulli(0.3 + 0.5 * action * state))
        return up, -state + 0.3 * action + 0.1 * coins


class Forbids(FactoredWorld):
    """The first action variable has a value that no joint action allows, in one state."""

    def act(self, state, t):
        barred = torch.tensor([[0.0, -torch.inf], [0.0, 0.0], [0.0, 0.0]])
        lift = pyro.sample("lift", Categorical(logits=barred[state["floor"]]))
        return {"lift": lift, "push": pyro.sample("push", Categorical(logits=self.push[state["door"], lift]))}


WORLDS: dict[str, Any] = {
    "coins": Coins,
    "dying coins": lambda: Coins(0.7),
    "forbids": Forbids,
    "holes": lambda: RandomWorld(5, 3, 2, 2, 3, holes=True),
}


def finite(world: Any) -> Any:
    if isinstance(world, RandomWorld):
        world.reward = world.reward.clamp(min=-5.0)
    return world


def made(kind: str, world: Any) -> nn.Module:
    tabular = cai.policies.TabularPolicy(world)
    if kind == "tabular":
        return tabular
    if kind == "neural":
        return cai.policies.NeuralPolicy(world, hidden=(4,))
    return cai.policies.MixturePolicy([tabular, cai.policies.NeuralPolicy(world, hidden=(4,))])


@pytest.mark.parametrize("kind", ["tabular", "neural", "mixture"])
@pytest.mark.parametrize("name", slow_after(1, ["dying coins", "holes", "coins", "forbids"]))
def test_every_estimator_survives_zeros(name: str, kind: str) -> None:
    world = finite(WORLDS[name]())
    torch.manual_seed(0)
    truth = cai.elbo(world, made(kind, world)).value
    assert cai.elbo(world, made(kind, world), method="enumeration").value == pytest.approx(truth, abs=1e-10)
    sampled = cai.elbo(world, made(kind, world), method="sampling", samples=1000)
    assert abs(sampled.value - truth) < 5 * sampled.standard_error
    for estimator in ("tables", "enumeration", "score"):
        policy = made(kind, world)
        found = cai.fit(world, policy, estimator=estimator, steps=2, particles=50, tolerance=0.0, optimizer=0.01)
        assert all(bool(p.isfinite().all()) for p in policy.parameters())
        assert found.gap >= -1e-9
        if estimator != "score":
            assert found.elbo > truth


@examples(6)
@given(random_worlds(holes=True), temperatures, st.integers(0, 1000))
def test_gradients_on_tables_and_of_pyro_agree_around_holes(world: RandomWorld, alpha: float, seed: int) -> None:
    policy = random_policy(finite(world), seed)
    ours, theirs = by_tables(world, policy, alpha), by_pyro(world, policy, alpha)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-10, abs=1e-10)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coins", "forbids"])
def test_the_full_guide_goes_where_the_posterior_does(name: str) -> None:
    world = finite(WORLDS[name]())
    world.horizon = 2
    found = cai.fit(world, cai.learn.FullGuide(world), steps=300, tolerance=1e-5)
    assert found.stopped == "gap"
    assert found.elbo == pytest.approx(float(cai.solve(world).log_evidence), abs=1e-4)


@examples(3)
@given(random_worlds(holes=True, horizon=2))
def test_the_full_guide_starts_without_what_is_forbidden(world: RandomWorld) -> None:
    try:
        log_z = float(cai.solve(world).log_evidence)
    except cai.ImpossibleError:
        assume(False)
    found = cai.fit(world, cai.learn.FullGuide(world), steps=25, tolerance=1e-3)
    assert -1e-9 < found.gap < 0.5
    assert found.elbo_star == pytest.approx(log_z, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize(
    "world",
    [
        pytest.param(FactoredWorld(), id="factored", marks=pytest.mark.slow),
        pytest.param(RandomWorld(3, 3, 2, 2, 3, holes=False), id="plain"),
    ],
)
def test_our_score_estimator_is_unbiased(world: Any, discount: float) -> None:
    """With a random baseline and the dynamics left to chance: the mean of 60 gradients of 250 trajectories each."""
    world.discount = discount
    policy = random_policy(world, 1)
    truth = by_tables(world, policy, 1.0)[1]
    tables = cai.tabulate(world)
    torch.manual_seed(0)
    with pyro.get_param_store().scope():
        at = estimator_of("score", Objective(world, tables, policy, torch.tensor(1.0)), 250)
        for p in at.modules["baseline"].parameters():
            nn.init.normal_(p, std=0.3)
        drawn = []
        for _ in range(60):
            policy.zero_grad()
            at.loss.loss_and_grads(at.model, at.guide)
            drawn.append(-policy.logits.grad.clone())
    samples = torch.stack(drawn)
    error = samples.std(0) / len(samples) ** 0.5
    assert bool(((samples.mean(0) - truth).abs() <= 4.5 * error + 1e-12).all())


class Bounded:
    """Continuous actions on an interval, and death: an ended trajectory acts by the prior, out to its very bounds."""

    horizon, discount = 30, 0.6

    def initial(self):
        return pyro.sample("x", Normal(torch.tensor(0.0), 1.0))

    def act(self, state, t):
        return pyro.sample("u", Uniform(-torch.ones_like(state), torch.ones_like(state)))

    def step(self, state, action, t):
        return pyro.sample("x", Normal(state + action, 0.1)), -((state + action) ** 2)


@pytest.mark.slow
def test_a_squashed_policy_lives_with_death() -> None:
    policy = cai.policies.NeuralPolicy(Bounded(), hidden=(4,))
    edge = torch.tensor([-1.0, 1.0, 0.9999999999, 1.5])
    assert bool(policy.log_prob(torch.tensor(0.0), edge, 0).isfinite().all())
    found = cai.fit(Bounded(), policy, steps=2, particles=500, samples=1000)
    assert all(bool(p.isfinite().all()) for p in policy.parameters())
    assert found.standard_error > 0


def test_sites_in_another_order_than_the_world_s_are_refused_after_death() -> None:
    class Swapped(nn.Module):
        def act(self, state, t):
            push = pyro.sample("push", Categorical(logits=torch.zeros(2)))
            return {"lift": pyro.sample("lift", Categorical(logits=torch.zeros(2))), "push": push}

    world = FactoredWorld()
    with pytest.raises(cai.WorldError, match="the world's own action sites"):
        cai.elbo(world, Swapped(), method="sampling", samples=10)
    world.discount = 0.7
    with pytest.raises(cai.WorldError, match="'lift' here"):
        pyro.poutine.trace(cai.trajectory(world, Swapped())).get_trace()


def test_a_gradient_that_is_not_finite_never_reaches_the_policy() -> None:
    world = RandomWorld(3, 3, 2, 2, 3, holes=False)

    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(2))

        def act(self, state, t):
            return pyro.sample("a", Categorical(logits=(self.x.abs().sqrt()).expand(*state.shape, 2)))

    for estimator in ("tables", "enumeration", "score"):
        policy = Bad()
        with pytest.raises(cai.WorldError, match="parameter 'x': a gradient that is not finite"):
            cai.fit(world, policy, estimator=estimator, steps=3)
        assert bool((policy.x == 0).all())


def test_a_function_with_zeros_can_be_fitted_and_wrong_rows_are_named_in_programs_too() -> None:
    world = RandomWorld(3, 3, 2, 2, 3, holes=False)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(3, 2))

        def forward(self, state, t):
            p = self.x[state].softmax(-1) * torch.tensor([1.0, 0.0])
            return p / p.sum(-1, keepdim=True)

    for estimator in ("tables", "enumeration", "score"):
        policy = cai.policies.FunctionPolicy(world, Masked())
        cai.fit(world, policy, estimator=estimator, steps=2)
        assert bool(policy.function.x.isfinite().all())
    for wrong in (torch.ones(2), torch.zeros(2), torch.tensor([torch.nan, 1.0]), torch.ones(3) / 3):
        for method in ("enumeration", "sampling"):
            with pytest.raises(cai.WorldError, match="policy, t = 0"):
                cai.elbo(world, lambda s, t, wrong=wrong: wrong, method=method, samples=10)
    assert cai.policies.FunctionPolicy(world, lambda s, t: torch.ones(2) / 2).sample(torch.zeros(7).long()).shape == (
        7,
    )


def test_a_float32_policy_goes_with_a_float64_world() -> None:
    world = RandomWorld(3, 3, 2, 2, 3, holes=False)
    for estimator in ("tables", "enumeration", "score"):
        policy = cai.policies.NeuralPolicy(world, hidden=(4,), dtype=torch.float32)
        found = cai.fit(world, policy, estimator=estimator, steps=3)
        assert next(policy.parameters()).dtype == torch.float32
        assert found.gap > 0


def test_the_parameters_of_a_world_are_left_alone_and_a_submodule_named_policy_is_no_policy() -> None:
    class Learned(nn.Module):
        horizon = 3

        def __init__(self) -> None:
            super().__init__()
            self.inner = RandomWorld(3, 3, 2, 2, 3, holes=False)
            self.initial, self.act = self.inner.initial, self.inner.act
            self.bonus = nn.Parameter(torch.tensor(0.5))

        def step(self, state, action, t):
            following, reward = self.inner.step(state, action, t)
            return following, reward + self.bonus

    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = nn.Embedding(3, 2)

        def act(self, state, t):
            return pyro.sample("a", Categorical(logits=self.policy(state)))

    world = Learned()
    for estimator in ("tables", "enumeration", "score"):
        found = cai.fit(world, Agent(), estimator=estimator, steps=2)
        assert cai.evaluate(cai.tabulate(world), found).elbo == pytest.approx(found.elbo, abs=1e-6)
        assert world.bonus.grad is None
        assert world.bonus.requires_grad


class Extra(nn.Module):
    """Draws a private coin beside the action: the model has no such site."""

    def act(self, state, t):
        pyro.sample("z", Categorical(torch.ones(2)))
        return pyro.sample("a", Categorical(torch.ones(*state.shape, 2)))


def test_a_policy_that_samples_something_else_is_refused_on_programs_too() -> None:
    world = RandomWorld(3, 3, 2, 2, 3, holes=False)
    for method in ("enumeration", "sampling"):
        with pytest.raises(cai.WorldError, match="the world's own action sites"):
            cai.elbo(world, Extra(), method=method, samples=10)
    wrong = {
        "the world's own action sites": lambda state, t: Categorical(torch.ones(*state.shape, 3)),
        "point mass where the prior has a density": lambda s, t: pyro.distributions.Delta(0.5 * torch.ones_like(s)),
    }
    for words, policy in wrong.items():
        with pytest.raises(cai.WorldError, match=words):
            cai.elbo(Bounded(), policy, samples=10)

    class Other(nn.Module):
        def act(self, state, t):
            return pyro.sample("a", Categorical(torch.ones(*state.shape, 2))) * 0

    with pytest.raises(cai.WorldError, match="none of the sampled sites"):
        cai.elbo(world, Other(), method="sampling", samples=10)


def test_a_full_guide_belongs_to_its_world_and_is_measured_as_a_whole() -> None:
    world = RandomWorld(3, 3, 2, 2, 2, holes=False)
    found = cai.fit(world, cai.learn.FullGuide(world), steps=40)
    assert cai.elbo(world, found).value == pytest.approx(found.elbo, abs=1e-9)
    with pytest.raises(cai.WorldError, match="full guide"):
        cai.elbo(world, found, method="tables")
    with pytest.raises(cai.WorldError, match="another world"):
        cai.fit(RandomWorld(4, 3, 2, 2, 2, holes=False), cai.learn.FullGuide(world))
    with pytest.raises(cai.WorldError, match="not its tables"):
        cai.learn.FullGuide(cai.tabulate(world))


def test_a_reward_of_nan_is_no_number() -> None:
    class Broken(Bounded):
        def step(self, state, action, t):
            following, reward = super().step(state, action, t)
            return following, reward * torch.nan

    with pytest.raises(cai.WorldError, match="NaN"):
        cai.elbo(Broken(), None, samples=10)

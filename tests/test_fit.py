"""fit: what it reaches, that it can be stopped and taken up again, and that it says what is wrong."""

from dataclasses import replace

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.infer import Trace_ELBO, TraceEnum_ELBO

import cai
from tests.helpers import examples, load_model
from tests.worlds import FactoredWorld, PointMass, RandomWorld, Ring, random_worlds

pytestmark = pytest.mark.usefixtures("float64")


def small(**options) -> RandomWorld:
    return RandomWorld(3, 3, 2, 2, 3, holes=False, **options)


# What it reaches


@pytest.mark.slow
def test_frozen_lake_comes_within_a_thousandth_of_elbo_star() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=100, map_name="8x8")
    found = cai.fit(lake, temperature=0.1, tolerance=1e-3)
    assert (found.estimator, found.stopped) == ("tables", "gap")
    assert 0 <= cai.evaluate(lake, found, temperature=0.1).optimality_gap <= 1e-3


@pytest.mark.slow
def test_slippery_cliff_comes_within_a_thousandth_and_a_stationary_policy_cannot() -> None:
    cliff = cai.tabulate(cai.from_gymnasium("CliffWalking-v1", horizon=100, is_slippery=True))
    found = cai.fit(cliff, tolerance=1e-3)
    assert found.stopped == "gap"
    assert 0 <= cai.evaluate(cliff, found).optimality_gap <= 1e-3
    still = cai.fit(cliff, cai.policies.TabularPolicy(cliff, stationary=True), tolerance=1e-3, steps=600)
    assert still.stopped == "steps"
    assert 4.0 < still.gap < 4.2  # near the end nothing is to be gained any more, which a stationary table cannot know
    assert still.history[-1].policy_nats == still.gap


@examples(6)
@given(random_worlds(discount=1.0), st.sampled_from([0.3, 1.0]))
def test_any_random_world_is_climbed_to_elbo_star(world: RandomWorld, alpha: float) -> None:
    try:
        star = float(cai.solve(world, cai.VARIATIONAL, temperature=alpha).elbo)
    except cai.ImpossibleError:
        with pytest.raises(cai.ImpossibleError):
            cai.fit(world, temperature=alpha)
        return
    found = cai.fit(world, temperature=alpha, tolerance=1e-6, progress=False)
    assert found.stopped == "gap"
    assert found.elbo == pytest.approx(star, abs=2e-6)


@pytest.mark.slow
def test_deterministic_dynamics_and_one_start_leave_no_kl_to_the_posterior() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=20, is_slippery=False)
    for alpha in (1.0, 0.1):
        found = cai.fit(lake, temperature=alpha, tolerance=1e-7)
        account = cai.evaluate(lake, found, temperature=alpha)
        assert account.evidence_gap < 1e-6
        assert account.start_nats == pytest.approx(0.0, abs=1e-9)
        assert float(account.luck_nats.sum()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_taxi_keeps_exactly_the_nats_of_its_random_start() -> None:
    taxi = cai.tabulate(load_model("taxi")())
    taxi = replace(taxi, horizon=25)
    found = cai.fit(taxi, tolerance=1e-3)
    account = cai.evaluate(taxi, found)
    start = cai.solve(taxi).initial()
    p = taxi.log_initial.exp()
    kl = torch.where(p > 0, p * (p / start.clamp(min=1e-300)).log(), 0.0).sum()
    assert account.start_nats > 0.1
    assert account.start_nats == pytest.approx(float(kl), rel=1e-9)
    assert found.gap <= 1e-3
    assert account.evidence_gap == pytest.approx(account.start_nats + found.gap, abs=1e-9)


@pytest.mark.parametrize("estimator", ["tables", "enumeration"])
def test_exact_estimators_make_the_same_climb(estimator: str) -> None:
    world = small(discount=0.8)
    here = cai.fit(world, cai.policies.TabularPolicy(world), estimator=estimator, steps=12, tolerance=0.0)
    there = cai.fit(world, cai.policies.TabularPolicy(world), estimator="tables", steps=12, tolerance=0.0)
    for one, two in zip(here.history, there.history, strict=True):
        assert one.elbo == pytest.approx(two.elbo, abs=1e-9)
        assert one.policy_nats == pytest.approx(two.policy_nats, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("discount", [pytest.param(1.0, marks=pytest.mark.slow), 0.8])
def test_the_score_function_climbs_too(discount: float) -> None:
    world = small(discount=discount)
    found = cai.fit(world, cai.policies.TabularPolicy(world), estimator="score", steps=60, tolerance=0.002, every=5)
    start = found.elbo_star - cai.elbo(world, None).value
    assert found.gap < 0.1 * start
    assert found.standard_error == 0.0  # the fit was sampled, its measure is exact
    noisy, exact = found.history[3], found.history[10]
    assert noisy.policy_nats is None
    assert exact.policy_nats is not None


def test_the_infinite_horizon_is_climbed_on_its_tables() -> None:
    world = RandomWorld(3, 4, 2, 2, None, holes=False, discount=0.9, positive=False)
    found = cai.fit(world, temperature=0.5, tolerance=1e-5)
    assert (found.estimator, found.stopped) == ("tables", "gap")


def test_a_neural_policy_learns_on_tables() -> None:
    world = FactoredWorld()
    found = cai.fit(world, cai.policies.NeuralPolicy(world, hidden=(32,)), steps=600, tolerance=1e-3)
    assert found.stopped == "gap"
    assert cai.evaluate(world, found).optimality_gap < 1e-3


def test_a_module_of_one_s_own_with_act_alone_can_be_fitted() -> None:
    world = small()

    class Mine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.zeros(3, 2))

        def act(self, state, t):
            return pyro.sample("a", pyro.distributions.Categorical(logits=self.table[state]))

    for estimator in ("tables", "enumeration"):
        found = cai.fit(world, Mine(), steps=25, estimator=estimator)
        assert found.history[-1].elbo > found.history[0].elbo + 0.1
        assert cai.evaluate(world, found).elbo == pytest.approx(found.elbo, abs=1e-9)


# Where the exact answer cannot be had


@pytest.mark.slow
def test_ten_to_the_twelve_states_get_a_standard_error_and_no_gap() -> None:
    world = Ring()
    with pytest.raises(cai.IntractableError):
        cai.tabulate(world)
    before = cai.elbo(world, cai.policies.NeuralPolicy(world), temperature=0.05, samples=2000)
    found = cai.fit(world, temperature=0.05, steps=6, particles=20, samples=2000)
    assert isinstance(found.policy, cai.policies.NeuralPolicy)
    assert (found.estimator, found.elbo_star, found.gap) == ("score", None, None)
    assert found.standard_error > 0
    assert found.samples == 2000
    both = (found.standard_error**2 + before.standard_error**2) ** 0.5
    assert found.elbo > before.value + 3 * both
    assert "±" in repr(found)


@pytest.mark.slow
def test_a_continuous_world_is_climbed_through_its_samples() -> None:
    """The posterior of a linear-Gaussian world by conditioning one joint Gaussian: no fit may beat log Z."""
    world = PointMass()
    found = cai.fit(world, "neural", steps=300, particles=50, optimizer=pyro.optim.Adam({"lr": 0.02}))
    assert found.estimator == "reparameterised"
    assert found.elbo_star == pytest.approx(float(riccati_elbo(world.horizon)), abs=1e-6)
    assert found.gap is None
    log_z = gaussian_evidence(world.horizon)
    assert found.elbo < log_z + 4 * found.standard_error
    assert found.elbo > cai.elbo(world, None, samples=20_000).value + 3.0
    # the best policy: u = -x m with the Riccati gain of cost (x + u)² and price u²/2; x' noise cannot be steered
    assert found.elbo == pytest.approx(riccati_elbo(world.horizon), abs=0.1)


def gaussian_evidence(T: int) -> float:
    """log Z with x_{t+1} = x_t + u_t + 0.1 ε, r = -(x_t + u_t)²: a backward recursion of exp(-a x² - c)."""
    a, c = torch.tensor(0.0), torch.tensor(0.0)
    for _ in range(T):
        # over ε: exp(-a (y + 0.1 ε)²) -> exp(-a' y²)/sqrt(1 + 2 a 0.01), a' = a/(1 + 2 a 0.01)
        c = c + 0.5 * torch.log1p(2 * a * 0.01)
        a = a / (1 + 2 * a * 0.01) + 1.0
        # over u ~ N(0, 1): y = x + u, the same with variance 1
        c = c + 0.5 * torch.log1p(2 * a)
        a = a / (1 + 2 * a)
    c = c + 0.5 * torch.log1p(2 * a * 0.25)
    a = a / (1 + 2 * a * 0.25)
    return float(-a * 1.0 - c)


def riccati_elbo(T: int) -> float:
    """ELBO* with the dynamics held: the noise costs its mean, the action is soft."""
    a, c = torch.tensor(0.0), torch.tensor(0.0)
    for _ in range(T):
        c = c + a * 0.01  # E[a (y + 0.1 ε)²] = a y² + 0.01 a
        a = a + 1.0
        c = c + 0.5 * torch.log1p(2 * a)
        a = a / (1 + 2 * a)
    return float(-a * (1.0 + 0.25) - c)


@pytest.mark.slow
def test_a_bounded_action_space_is_climbed_by_a_squashed_gaussian() -> None:
    world = PointMass(bounded=True)
    found = cai.fit(world, steps=150, particles=50, optimizer=pyro.optim.Adam({"lr": 0.02}))
    assert found.estimator == "reparameterised"
    assert found.elbo > cai.elbo(world, None, samples=20_000).value + 0.5


# The full guide


@pytest.mark.parametrize(
    "kind", ["plain", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dying", "factored"))]
)
@pytest.mark.slow
def test_the_full_guide_becomes_the_posterior(kind: str) -> None:
    world = FactoredWorld() if kind == "factored" else small(discount=0.8 if kind == "dying" else 1.0)
    world.horizon = 2
    guide = cai.learn.FullGuide(world)
    found = cai.fit(world, guide, steps=500, tolerance=1e-7)
    assert found.estimator == "enumeration"
    post = cai.solve(world)
    assert found.elbo_star == pytest.approx(float(post.log_evidence), abs=1e-12)
    assert abs(found.gap) < 1e-6  # KL(guide ‖ p(τ|O))
    with torch.no_grad():
        bent = cai.tabulate(guide)
    close = {"rtol": 0, "atol": 3e-3}  # KL is quadratic in the distance: its root
    torch.testing.assert_close(bent.log_initial.exp(), post.initial(), **close)
    for t in range(world.horizon):
        seen = post.marginals(t) > 1e-3
        torch.testing.assert_close(bent.at(t).log_prior.exp(), post.policy.probs(t), **close)
        torch.testing.assert_close(bent.at(t).log_prob.exp()[seen], post.dynamics(t).exp()[seen], **close)
    if guide.survival is not None:
        s = torch.arange(3)
        torch.testing.assert_close(guide.survive(s, 0).detach(), post.survival(0), **close)


def test_the_full_guide_at_the_posterior_has_no_kl_at_all() -> None:
    """Set by hand to p(x|…) times the messages' tilt: the enumerated ELBO is log Z to rounding."""
    world = small()
    post, guide = cai.solve(world), cai.learn.FullGuide(world)
    guide.tables["initial"]["of s"].data = post.log_initial() - cai.tabulate(world).log_initial
    for t in range(3):
        guide.tables["act"]["of a"].data[t] = post.policy.log_probs(t)
        guide.tables["step"]["of k"].data[t] = post.dynamics(t)
    for t in range(3):
        one = cai.tabulate(world).at(t)
        guide.tables["act"]["of a"].data[t] -= one.log_prior
        guide.tables["step"]["of k"].data[t] -= one.log_prob
    found = cai.fit(world, guide, steps=0)
    assert found.elbo == pytest.approx(float(post.log_evidence), abs=1e-12)


def test_what_a_full_guide_cannot_bend() -> None:
    with pytest.raises(cai.WorldError, match="finite horizon"):
        cai.learn.FullGuide(RandomWorld(0, 2, 2, 2, None, discount=0.9))
    with pytest.raises(cai.IntractableError, match="parameters"):
        cai.learn.FullGuide(small(), max_entries=10)
    with pytest.raises(cai.IntractableError, match="parameters"):
        cai.learn.FullGuide(Ring(70))


# Optimisers and objectives


def test_any_optimiser_and_any_pyro_objective() -> None:
    world = small()
    for optimizer in (pyro.optim.ClippedAdam({"lr": 0.05}), pyro.optim.SGD({"lr": 0.5})):
        found = cai.fit(world, optimizer=optimizer, steps=60)
        assert found.history[-1].elbo > found.history[0].elbo
    policy = cai.policies.TabularPolicy(world)
    found = cai.fit(world, policy, optimizer=torch.optim.RMSprop(policy.parameters(), lr=0.05), steps=60)
    assert found.history[-1].elbo > found.history[0].elbo
    scheduled = pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5})
    policy = cai.policies.TabularPolicy(world)
    cai.fit(world, policy, optimizer=scheduled, steps=60, tolerance=0.0)
    assert float(policy.logits.detach().abs().max()) < 0.2 + 1e-9  # Σ 0.1 · 0.5^n: the schedule was followed
    plateau = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "patience": 1}
    cai.fit(world, cai.policies.TabularPolicy(world), optimizer=pyro.optim.ReduceLROnPlateau(plateau), steps=10)
    for objective in (Trace_ELBO(num_particles=5), TraceEnum_ELBO(max_plate_nesting=0)):
        found = cai.fit(world, cai.policies.TabularPolicy(world), estimator=objective, steps=5)
        assert found.estimator == type(objective).__name__


def test_the_param_store_and_the_random_state_of_the_caller_are_left_alone() -> None:
    store = pyro.get_param_store()
    store.clear()
    pyro.param("mine", torch.tensor(2.0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    cai.fit(small(), cai.policies.TabularPolicy(small()), estimator="score", steps=3)
    assert list(store.keys()) == ["mine"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float64
    store.clear()

"""ELBO(π) and its gradient: tables, the enumerated program, samples and every trajectory one by one agree."""

import math

import pyro
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor

import cai
from cai.exact.tables.policy_evaluation import gradient, occupancy, policy_elbo, values
from tests.gradients import samples
from tests.helpers import examples, slow_after
from tests.oracles import enumeration as oracle
from tests.worlds import FactoredWorld, PointMass, RandomWorld, Ring, random_worlds, temperatures

seeds = st.integers(0, 10_000)


pytestmark = pytest.mark.usefixtures("float64")


def random_policy(world, seed: int) -> cai.policies.TabularPolicy:
    policy = cai.policies.TabularPolicy(world)
    policy.logits.data = torch.randn(policy.logits.shape, generator=torch.Generator().manual_seed(seed))
    return policy


def by_pyro(world, policy: cai.policies.TabularPolicy, alpha: float) -> tuple[float, Tensor]:
    """ELBO(π) and its gradient by Pyro's TraceEnum_ELBO: the guide enumerated, the model replayed."""
    policy.zero_grad()

    def guide() -> None:
        pyro.module("policy", policy)
        cai.trajectory(world, policy)()

    with pyro.get_param_store().scope():
        loss = TraceEnum_ELBO(max_plate_nesting=0)
        value = -loss.loss_and_grads(cai.trajectory(world, temperature=alpha), config_enumerate(guide))
    assert policy.logits.grad is not None
    return value, -policy.logits.grad.clone()


def by_tables(world, policy: cai.policies.TabularPolicy, alpha: float) -> tuple[float, Tensor]:
    policy.zero_grad()
    tables = cai.tabulate(world)
    log_pi = torch.stack([policy.log_probs(t) for t in range(tables.horizon)])
    value = policy_elbo(tables, log_pi, torch.tensor(alpha))
    value.backward()
    assert policy.logits.grad is not None
    return value.item(), policy.logits.grad.clone()


@examples(12)
@given(random_worlds(), temperatures, seeds)
def test_elbo_on_tables_equals_every_trajectory(world: RandomWorld, alpha: float, seed: int) -> None:
    policy = random_policy(world, seed)
    truth = oracle.elbo(world, [policy.probs(t).tolist() for t in range(world.horizon)], alpha)
    ours = cai.elbo(world, policy, temperature=alpha)
    assert (ours.method, ours.standard_error) == ("tables", 0.0)
    assert ours.value == pytest.approx(truth, rel=1e-10, abs=1e-10)
    assert cai.evaluate(world, policy, temperature=alpha).elbo == pytest.approx(truth, rel=1e-10, abs=1e-10)


@examples(10)
@given(random_worlds(holes=False), temperatures, seeds)
def test_value_and_gradient_on_tables_equal_pyro_s_to_1e_10(world: RandomWorld, alpha: float, seed: int) -> None:
    policy = random_policy(world, seed)
    ours, our_gradient = by_tables(world, policy, alpha)
    theirs, their_gradient = by_pyro(world, policy, alpha)
    assert ours == pytest.approx(theirs, rel=1e-10, abs=1e-10)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-10)


def test_factored_world_value_and_gradient_equal_pyro_s() -> None:
    world = FactoredWorld()
    policy = random_policy(world, 0)
    ours, theirs = by_tables(world, policy, 0.5), by_pyro(world, policy, 0.5)
    assert ours[0] == pytest.approx(theirs[0], abs=1e-11)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-10, atol=1e-10)


@examples(6)
@given(temperatures, seeds)
def test_the_gradient_of_the_infinite_horizon_equals_finite_differences(alpha: float, seed: int) -> None:
    world = RandomWorld(seed, 3, 2, 2, None, holes=False, discount=0.8)
    tables, policy = cai.tabulate(world), random_policy(world, seed)
    log_pi = policy.log_probs().detach().requires_grad_()
    a = torch.tensor(alpha)
    policy_elbo(tables, log_pi, a).backward()
    for s in range(world.S):
        for act in range(world.A):
            step = torch.zeros_like(log_pi)
            step[s, act] = 1e-5
            with torch.no_grad():
                both = policy_elbo(tables, log_pi + step, a) - policy_elbo(tables, log_pi - step, a)
            assert float(log_pi.grad[s, act]) == pytest.approx(float(both) / 2e-5, rel=1e-4, abs=1e-5)


def test_a_second_derivative_is_refused() -> None:
    world = RandomWorld(0, 2, 2, 2, 2, holes=False)
    log_pi = torch.stack([random_policy(world, 0).log_probs(t) for t in range(2)]).detach().requires_grad_()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(policy_elbo(cai.tabulate(world), log_pi, torch.tensor(1.0)), log_pi, create_graph=True)


# The soft policy gradient is the ELBO gradient


@examples(10)
@given(random_worlds(discount=1.0), seeds)
def test_the_soft_policy_gradient_of_the_notes_is_the_elbo_gradient(world: RandomWorld, seed: int) -> None:
    """E[Σ_t ∇log π_t (r_t + Σ_{t'>t} (r_t' - log π_t') - log π_t - 1)], over every trajectory, α = 1.

    The notes have no prior: a uniform one adds the constant -T log A to the ELBO, and nothing to its gradient.
    """
    for name in ("prior", "reward"):
        field = getattr(world, name)
        setattr(world, name, torch.full_like(field, 1 / world.A) if name == "prior" else field.clamp(min=-9.0))
    policy = random_policy(world, seed)
    pi = [policy.probs(t).tolist() for t in range(world.horizon)]
    total, ones = torch.zeros_like(policy.logits), torch.zeros_like(policy.logits)
    for path in oracle.paths(world):
        log_q = path.log_dynamics + sum(math.log(pi[t][s][a]) for t, (s, a, _) in enumerate(path.visits))
        rewards = [float(world.reward[world.time(t), s, a, k]) for t, (s, a, k) in enumerate(path.visits)]
        last = path.rewards - sum(rewards)  # the terminal reward
        for t, (s, a, _) in enumerate(path.visits):
            later = range(t + 1, len(path.visits))
            to_go = rewards[t] + last
            to_go += sum(rewards[i] - math.log(pi[i][path.visits[i][0]][path.visits[i][1]]) for i in later)
            score = -policy.probs(t)[s].detach()
            score[a] += 1.0  # ∇log π of the softmax
            total[t, s] += math.exp(log_q) * score * (to_go - math.log(pi[t][s][a]) - 1.0)
            ones[t, s] += math.exp(log_q) * score * -1.0
    torch.testing.assert_close(ones, torch.zeros_like(ones), rtol=0, atol=1e-12)  # the -1 has mean zero
    _, truth = by_tables(world, policy, 1.0)
    torch.testing.assert_close(total.detach(), truth, rtol=1e-9, atol=1e-9)


@examples(8)
@given(random_worlds(holes=False), temperatures, seeds)
def test_its_expectation_is_the_formula_of_acting(world: RandomWorld, alpha: float, seed: int) -> None:
    tables, policy = cai.tabulate(world), random_policy(world, seed)
    log_pi = torch.stack([policy.log_probs(t) for t in range(world.horizon)])
    q = values(tables, log_pi, torch.tensor(alpha)).q
    each = gradient(tables, log_pi.detach(), q.detach(), torch.tensor(alpha))
    (chained,) = torch.autograd.grad(log_pi, policy.logits, each)
    torch.testing.assert_close(chained, by_tables(world, policy, alpha)[1])
    # With the -1 taken out the same comes out: it multiplies Σ_a π ∇log π = 0.
    weight = occupancy(tables, log_pi)[:-1].unsqueeze(-1) * log_pi.exp()
    log_pi = torch.stack([policy.log_probs(t) for t in range(world.horizon)])
    (without,) = torch.autograd.grad(log_pi, policy.logits, each + weight.detach())
    torch.testing.assert_close(without, chained, rtol=1e-9, atol=1e-9)


# Sampling


@examples(4)
@given(random_worlds(holes=False), st.sampled_from([0.3, 1.0]), seeds)
def test_three_ways_agree(world: RandomWorld, alpha: float, seed: int) -> None:
    policy = random_policy(world, seed)
    found = {
        how: cai.elbo(world, policy, temperature=alpha, method=how) for how in ("tables", "enumeration", "sampling")
    }
    assert found["enumeration"].value == pytest.approx(found["tables"].value, rel=1e-10, abs=1e-10)
    sampled = found["sampling"]
    assert sampled.samples == 10_000
    assert abs(sampled.value - found["tables"].value) <= 4.5 * sampled.standard_error + 1e-12


class Narrow(RandomWorld):
    """A world whose own tensors are float32, torch's default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start", "prior", "outcome", "reward", "last"):
            setattr(self, name, getattr(self, name).float())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_world_in_float32_has_its_own_numbers_to_the_last_digit_and_the_wide_ones_to_seven(seed: int) -> None:
    wide, narrow = (kind(seed, S=3, A=2, K=2, horizon=3, holes=False) for kind in (RandomWorld, Narrow))
    policy = [[[0.5, 0.5]] * 3] * 3
    exact = oracle.elbo(narrow, policy, 0.3)
    for how in ("tables", "enumeration"):
        found = cai.elbo(narrow, torch.full((3, 2), 0.5), temperature=0.3, method=how).value
        assert found == pytest.approx(exact, abs=2e-6)  # the oracle takes rows as they are: sums of 1 to seven digits
        assert found == pytest.approx(cai.elbo(narrow, torch.full((3, 2), 0.5), temperature=0.3).value, abs=1e-10)
        assert found == pytest.approx(oracle.elbo(wide, policy, 0.3), rel=1e-5)


def test_elbo_of_anything_that_acts() -> None:
    world = FactoredWorld()
    table = cai.solve(world).policy.probs(0)
    for policy in (None, cai.VARIATIONAL, cai.solve(world), table, cai.policies.TabularPolicy(world), world):
        exact = cai.elbo(world, policy)
        sampled = cai.elbo(world, policy, method="sampling", samples=5000)
        assert cai.elbo(world, policy, method="enumeration").value == pytest.approx(exact.value, abs=1e-10)
        assert abs(sampled.value - exact.value) < 4.5 * sampled.standard_error


def test_sampling_needs_no_finite_world() -> None:
    world = PointMass()
    prior = cai.elbo(world, None, samples=50_000)
    # E[Σ (x_t + u_t)²] under u ~ N(0, 1), x' = x + u + 0.1 ε: a random walk from N(1, 0.25)
    truth = -sum(1.0 + 0.25 + t * 1.01 + 1.0 for t in range(4))
    assert abs(prior.value - truth) < 4.5 * prior.standard_error
    with pytest.raises(cai.IntractableError):
        cai.elbo(world, None, method="tables")
    assert cai.elbo(Ring(), None, samples=500).method == "sampling"


def test_a_policy_that_risks_the_forbidden_has_an_elbo_of_minus_infinity() -> None:
    class Risky(RandomWorld):
        def step(self, state, action, t):
            following, reward = super().step(state, action, t)
            return following, torch.where(action == 1, -torch.inf, reward)

    world = Risky(0, 3, 2, 2, 2, holes=False)
    for how in ("tables", "enumeration", "sampling"):
        assert cai.elbo(world, None, method=how, samples=100).value == -math.inf


def test_wrong_arguments() -> None:
    world = FactoredWorld()
    for wrong in ({"method": "magic"}, {"samples": 1, "method": "sampling"}, {"temperature": -1.0}):
        with pytest.raises(cai.WorldError):
            cai.elbo(world, None, **wrong)
    with pytest.raises(cai.WorldError, match="tables"):
        cai.elbo(cai.tabulate(world), None, method="sampling")


def test_the_draws_are_seeded_and_leave_the_caller_s_stream_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (cai.elbo(FactoredWorld(), None, method="sampling", samples=50, seed=3) for _ in range(2))
    assert one == two
    assert torch.equal(torch.get_rng_state(), before)
    assert cai.elbo(FactoredWorld(), None, method="sampling", samples=50, seed=4) != one


# The sampled estimators of the gradient

KINDS = ("score function", "reward-to-go", "baseline", "TraceGraph")


@pytest.mark.parametrize("discount", slow_after(1, [0.8, 1.0]))
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_10_000_gradient_samples_is_the_exact_gradient(kind: str, discount: float) -> None:
    world, alpha = RandomWorld(3, 3, 2, 2, 4, discount=discount, holes=False), 0.7
    logits = torch.randn((4, 3, 2), generator=torch.Generator().manual_seed(1))
    policy = cai.policies.TabularPolicy(world)
    policy.logits.data = logits - policy.log_base
    _, truth = by_tables(world, policy, alpha)
    drawn = samples(world, logits, kind, 10_000, alpha)
    error = drawn.std(0) / 100
    assert bool(((drawn.mean(0) - truth).abs() <= 4 * error + 1e-12).all())


def test_every_refinement_takes_variance_away() -> None:
    world = RandomWorld(3, 3, 2, 2, 6, holes=False)
    logits = torch.randn((6, 3, 2), generator=torch.Generator().manual_seed(1))
    variance = {kind: float(samples(world, logits, kind, 20_000, 0.7).var(0).sum()) for kind in KINDS}
    assert variance["score function"] > variance["reward-to-go"] > variance["TraceGraph"] > variance["baseline"]


def test_the_reparameterised_gradient_is_the_derivative_of_the_mean() -> None:
    """One step, x_0 = 1 exactly: d/dm of E[-(1 + m + σ ε)²] - KL(N(m, σ) ‖ N(0, 1)) at m = 0.3, σ = 0.5."""

    class OneStep(PointMass):
        horizon = 1

        def initial(self):
            return pyro.sample("x", pyro.distributions.Delta(torch.tensor(1.0)))

    class Mean(torch.nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.m = torch.nn.Parameter(torch.full((n,), 0.3))

        def act(self, state, t):
            return pyro.sample("u", pyro.distributions.Normal(self.m, 0.5))

    n, copies = 10_000, Mean(10_000)
    pyro.set_rng_seed(0)

    def guide() -> None:
        pyro.module("policy", copies)
        cai.trajectory(OneStep(), copies)()

    with pyro.get_param_store().scope():
        loss = Trace_ELBO(num_particles=n, vectorize_particles=True, max_plate_nesting=0)
        loss.loss_and_grads(cai.trajectory(OneStep()), guide)
    drawn = -n * copies.m.grad
    assert abs(float(drawn.mean()) - (-2 * 1.3 - 0.3)) < 4 * float(drawn.std()) / 100


@examples(8)
@given(random_worlds(), temperatures, seeds)
def test_both_gaps_split_for_any_policy(world: RandomWorld, alpha: float, seed: int) -> None:
    """log Z - ELBO = start + action + luck nats and ELBO* - ELBO = policy nats, to 1e-9."""
    assume(oracle.log_evidence(world, alpha) > -math.inf)
    tables = cai.tabulate(world)
    acting = [random_policy(world, seed)]
    for rule in (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-1.0)):
        try:
            acting.append(cai.solve(tables, rule, temperature=alpha))
        except cai.ImpossibleError:
            continue
    for policy in acting:
        one = cai.evaluate(tables, policy, temperature=alpha)
        if one.elbo == -math.inf:
            continue
        scale = max(1.0, abs(one.elbo))
        parts = one.start_nats + float(one.action_nats.sum()) + float(one.luck_nats.sum())
        assert one.evidence_gap == pytest.approx(parts, abs=1e-9 * scale)
        assert one.optimality_gap == pytest.approx(float(one.policy_nats.sum()), abs=1e-9 * scale)

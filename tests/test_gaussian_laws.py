"""Laws of linear-Gaussian worlds: the order of the rules, their limits, Pyro's densities, SciPy's Riccati equation."""

from dataclasses import replace
from itertools import pairwise

import pyro
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.exact.rule_means import Assumption, Best, Expect, Soft, Viterbi
from cai.exact.rules import Rule
from cai.support.process import precision
from tests.helpers import examples
from tests.linear_worlds import LinearWorld, System, random_system, systems, temperatures
from tests.oracles import dense_gaussian as dense
from tests.oracles import program_gaussian, quadrature
from tests.test_gaussian import close, same_function, same_law, same_measure

few = examples(2)
SLACK = 1e-9


def value(system: System, rule: cai.Rule, alpha: float) -> Tensor:
    return cai.solve(system.model(), rule, temperature=alpha).value


class TestOrder:
    @few
    @given(systems(noise=0.1), temperatures)
    def test_values_rise_with_the_taste_for_risk(self, system: System, alpha: float) -> None:
        """-∞ < RISK(-40) <= RISK(-400) <= VARIATIONAL <= RISK(400) <= RISK(40) <= POSTERIOR where α < 40."""
        rules = [cai.RISK(-40.0), cai.RISK(-400.0), cai.VARIATIONAL, cai.RISK(400.0), cai.RISK(40.0), cai.POSTERIOR]
        try:
            dense.solve(system, *dense.means("RISK", alpha, -40.0))
        except dense.InfiniteMeanError:
            rules = rules[2:]
        values = [value(system, rule, alpha) for rule in rules]
        for less, more in pairwise(values):
            assert float(less) <= float(more) + SLACK * max(1.0, abs(float(more)))

    @few
    @given(systems(), temperatures)
    def test_variational_is_below_posterior_in_every_state(self, system: System, alpha: float) -> None:
        post = cai.solve(system.model(), temperature=alpha)
        var = cai.solve(system.model(), cai.VARIATIONAL, temperature=alpha)
        for t in range(system.T + 1):
            M = post.v[t].M - var.v[t].M  # v of POSTERIOR minus v of VARIATIONAL is at least 0 at every s
            b, c = post.v[t].b - var.v[t].b, post.v[t].c - var.v[t].c
            whole = torch.cat([torch.cat([2 * c.reshape(1, 1), b[None]], 1), torch.cat([b[:, None], M], 1)])
            assert dense.least(whole) >= -1e-8 * max(1.0, float(whole.abs().max()))

    @few
    @given(systems(k=0, start=0), temperatures)
    def test_without_noise_they_are_one(self, system: System, alpha: float) -> None:
        post = cai.solve(system.model(), temperature=alpha)
        var = cai.solve(system.model(), cai.VARIATIONAL, temperature=alpha)
        close(var.elbo, post.log_evidence)
        for t in range(system.T):
            ours, truth = var.policy.conditional(t), post.policy.conditional(t)
            same_law(ours, dense.Law(truth.gain, truth.offset, truth.scale))


class TestLimits:
    @few
    @given(systems(), temperatures)
    def test_risk_is_posterior_at_alpha_and_variational_at_infinity(self, system: System, alpha: float) -> None:
        close(value(system, cai.RISK(alpha), alpha), value(system, cai.POSTERIOR, alpha), 1e-12)
        for eta in (float("inf"), float("-inf")):
            close(value(system, cai.RISK(eta), alpha), value(system, cai.VARIATIONAL, alpha), 1e-12)
        seeking, averse = (value(system, cai.RISK(eta), alpha) for eta in (1e5, -1e5))
        close(0.5 * (seeking + averse), value(system, cai.VARIATIONAL, alpha), 1e-6)  # 1/η cancels, 1/η² is left
        close(seeking, value(system, cai.VARIATIONAL, alpha), 0.05)

    @few
    @given(systems(flat=False, free=None))
    def test_variational_grows_cold_into_hard(self, system: System) -> None:
        system = replace(system, L=torch.eye(system.m, dtype=torch.float64).expand_as(system.L))
        cold, hard = (cai.solve(system.model(), rule, temperature=1e-8) for rule in (cai.VARIATIONAL, cai.HARD))
        close(cold.value, hard.value, 1e-5)
        for t in range(system.T):
            close(cold.policy.conditional(t).gain, hard.policy.conditional(t).gain, 1e-5)
            close(cold.policy.conditional(t).covariance, torch.zeros(system.m, system.m), 1e-5)

    @few
    @given(systems(flat=False))
    def test_posterior_grows_hot_into_the_prior(self, system: System) -> None:
        laws = [dense.prior(system, t) for t in range(system.T)]
        close(value(system, cai.POSTERIOR, 1e9), dense.returns(system, laws)[1].sum(), 1e-5)

    def test_long_horizons_reach_scipys_riccati_equation(self) -> None:
        linalg = pytest.importorskip("scipy.linalg", reason="scikit-learn of the extra [test] brings it")
        system = random_system(1, 3, 2, 2, 80)
        n, m, M = 3, 2, system.M[0]
        Q, R, N = -M[:n, :n], -M[n : n + m, n : n + m], -M[:n, n : n + m]
        A, B = system.A[0], system.B[0]
        P = torch.as_tensor(linalg.solve_discrete_are(*(x.numpy() for x in (A, B, Q, R)), s=N.numpy()))
        v = cai.solve(system.model(), cai.HARD)
        close(v.v[0].M, -P)
        gain = -torch.linalg.solve(R + B.mT @ P @ B, B.mT @ P @ A + N.mT)
        close(v.policy.conditional(0).gain, gain)


class Unsaid:
    """A mean that says nothing of itself; it is the expectation."""

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        return Expect().value(x, log_w, alpha)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        return Expect().log_weights(x, log_w, alpha, value)

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        return Expect().by_log_w(x, log_w, alpha, weights)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        return Expect().by_alpha(x, log_w, alpha, value, weights)


class Said(Unsaid):
    """The same, and says so."""

    def assumption(self) -> Assumption:
        return Assumption("averaged")


MIXED = {
    "soft 3, soft 0.8": (Soft(3.0), Soft(0.8), dense.Mean("soft", 3.0), dense.Mean("soft", 0.8)),
    "soft -30, best": (Soft(-30.0), Best(), dense.Mean("soft", -30.0), dense.Mean("best")),
    "best, soft": (Best(), Soft(), dense.Mean("best"), dense.Mean("soft", 0.6)),
    "viterbi, best": (Viterbi(), Best(), dense.Mean("viterbi", 0.6), dense.Mean("best")),
    "expect, expect": (Expect(), Expect(), dense.Mean("expect"), dense.Mean("expect")),
    "soft, expect": (Soft(), Expect(), dense.Mean("soft", 0.6), dense.Mean("expect")),
    "said, viterbi": (Said(), Viterbi(), dense.Mean("expect"), dense.Mean("viterbi", 0.6)),
}


class TestRulesOfYourOwn:
    @pytest.mark.parametrize("name", MIXED)
    def test_a_mean_that_says_what_it_is_is_exact(self, name: str) -> None:
        over, act, *means = MIXED[name]
        system = random_system(4, 2, 2, 2, 3, timed=True, noise=0.3)
        truth = dense.solve(system, *means)
        messages = cai.solve(system.model(), Rule(name, over, act), temperature=0.6)
        close(messages.value, truth.value)
        for t in range(system.T):
            same_measure(messages.marginals(t), truth.joint(t))

    def test_it_is_that_of_a_fine_grid(self) -> None:
        system = replace(random_system(3, 1, 1, 1, 1), S=torch.zeros(1, 0, dtype=torch.float64))
        rule = Rule("mine", Soft(-5.0), Best())
        truth = quadrature.value(system, quadrature.soft(-5.0), quadrature.best, system.mean.item(), step=0.1)
        close(value(system, rule, 2.0), truth)

    def test_a_mean_that_says_nothing_is_refused(self) -> None:
        system = random_system(0)
        for rule in (Rule("outcomes", Unsaid(), Soft()), Rule("actions", Expect(), Unsaid())):
            with pytest.raises(cai.IntractableError, match="Unsaid"):
                cai.solve(system.model(), rule)

    def test_an_average_over_a_flat_prior_is_refused(self) -> None:
        """Lebesgue measure has no mean: E q over all actions is infinite."""
        system = random_system(0, flat=True)
        with pytest.raises((cai.NotConvergedError, cai.IntractableError), match="flat"):
            cai.solve(system.model(), Rule("prior", Expect(), Expect()))


class TestPrograms:
    """The messages of a program, against Pyro and autograd on the program."""

    @few
    @given(st.integers(0, 2**20), st.booleans(), st.booleans(), temperatures)
    def test_evidence_mode_and_marginals_are_those_of_the_density(
        self, seed: int, timed: bool, noisy: bool, alpha: float
    ) -> None:
        world = LinearWorld(seed, timed=timed, noisy=noisy, horizon=2)
        with precision(torch.float64):
            truth = program_gaussian.posterior(world, alpha)
        post, best = (cai.solve(world, rule, temperature=alpha) for rule in (cai.POSTERIOR, cai.MAP))
        close(post.log_evidence, truth.log_evidence)
        close(best.value / alpha, truth.log_mode)
        same_measure(post.marginal(1, "e"), truth.moments("e_1"))
        same_measure(post.marginal(1, ("e", "a")), truth.moments("e_1", "a_1"))
        if noisy:
            same_measure(post.marginals(1), truth.moments("s_1", "a_1"))
        assert repr(post).startswith("Messages(POSTERIOR at temperature")

    def test_every_sample_weighs_the_evidence(self, float64: None) -> None:
        """log p(τ, O) - log q(τ) = log Z at each sample τ of q = p(τ|O): its importance weights are constant."""
        world, alpha = LinearWorld(5, latent=0, timed=True, horizon=3), 0.8
        messages = cai.solve(world, temperature=alpha)
        drawn = messages.sample(6, generator=torch.Generator().manual_seed(0))
        program = cai.trajectory(world, temperature=alpha)
        for s, a in zip(drawn.states, drawn.actions, strict=True):
            log_q = messages.log_initial()(s[0])
            values = {"s_0": s[0]}
            for t in range(3):
                chain, seen = messages.tilt(t), torch.cat([s[t], a[t]])
                log_q = log_q + chain.log_policy.log_density()(seen)
                log_q = log_q + chain.log_outcome.log_density()(torch.cat([seen, s[t + 1]]))
                values |= {f"a_{t}": a[t], f"s_{t + 1}": s[t + 1]}
            trace = pyro.poutine.trace(pyro.poutine.condition(program, values)).get_trace()
            close(trace.log_prob_sum() - log_q, messages.log_evidence)


def conditioned(
    system: System, alpha: float, facts: tuple[str, ...]
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Return values of some sites, log Z with them, and mean and covariance of all noise given O and them."""
    whole = dense.posterior(system, alpha)
    seen = [(whole.x.states if name[0] == "s" else whole.x.actions)[int(name[2:])] for name in facts]
    rows = torch.cat(seen)
    mean, covariance = whole.moments(rows)
    assume(float(torch.linalg.cond(covariance)) < 1e5)
    value = mean + torch.linalg.cholesky(covariance).sum(-1)
    log_z = whole.log_evidence + torch.distributions.MultivariateNormal(mean, covariance).log_prob(value)
    gain = whole.covariance @ rows[:, 1:].mT @ torch.linalg.inv(covariance)
    values = dict(zip(facts, value.split([len(x) for x in seen]), strict=True))
    given = whole.mean + gain @ (value - mean), whole.covariance - gain @ rows[:, 1:] @ whole.covariance
    return values, log_z, *given


class TestConditions:
    @few
    @given(st.integers(0, 2**20), st.booleans(), st.sampled_from([("s_2",), ("a_0",), ("s_1", "a_1"), ("a_0", "s_3")]))
    def test_evidence_is_the_posterior_density_of_what_was_seen(
        self, seed: int, noisy: bool, facts: tuple[str, ...]
    ) -> None:
        """log p(O, x) = log p(O) + log p(x|O), and the rest is the Gaussian given x: goals, also without noise."""
        world, alpha = LinearWorld(seed, noisy=noisy, m=2, timed=True), 0.7
        system = world.system()
        values, log_z, mean, covariance = conditioned(system, alpha, facts)
        found = cai.solve(world, temperature=alpha, observe=values)
        close(found.log_evidence, log_z, 1e-8)
        x = dense.unroll(system)
        for t in range(3):
            rows = torch.cat([x.states[t], x.actions[t]])
            F = rows[:, 1:]
            joint = found.marginals(t)
            close(joint.mean, rows[:, 0] + F @ mean, 1e-8)
            close(joint.covariance, F @ covariance @ F.mT, 1e-8)

    @few
    @given(st.integers(0, 2**20), st.sampled_from([("s_2",), ("e_0", "a_1"), ("s_0", "e_1")]))
    def test_evidence_mode_and_marginals_are_those_of_the_conditioned_program(
        self, seed: int, facts: tuple[str, ...]
    ) -> None:
        world, alpha, g = LinearWorld(seed, horizon=2), 1.3, torch.Generator().manual_seed(seed)
        values = {name: torch.randn(1 if name[0] in "ae" else 2, generator=g, dtype=torch.float64) for name in facts}
        with precision(torch.float64):
            program = pyro.poutine.condition(cai.trajectory(world, temperature=alpha), values)
            truth = program_gaussian.of_program(program)
        post, best = (cai.solve(world, rule, temperature=alpha, observe=values) for rule in (cai.POSTERIOR, cai.MAP))
        close(post.log_evidence, truth.log_evidence, 1e-8)
        close(best.value / alpha, truth.log_mode, 1e-8)
        for name in truth.slices:
            t = int(name[2:])
            if t < 2:
                ours, (mean, covariance) = post.marginal(t, name[0]), truth.moments(name)
                close(ours.mean, mean, 1e-8)
                close(ours.covariance, covariance, 1e-8)

    def test_a_goal_is_reached_without_noise_and_its_price_is_no_nan(self) -> None:
        """VARIATIONAL is POSTERIOR there. ELBO* is a density, so a policy has no ELBO beside it."""
        world, goal = LinearWorld(2, noisy=False, latent=0, timed=True, horizon=4), torch.tensor([0.5, -0.25])
        world = cai.condition(world, observe={"s_4": goal})
        post, var = (cai.solve(world, rule, temperature=0.7) for rule in (cai.POSTERIOR, cai.VARIATIONAL))
        close(var.v.M, post.v.M)
        close(var.v.b, post.v.b)
        close(var.states(4).mean, goal)
        close(var.states(4).covariance, torch.zeros(2, 2))
        it = cai.evaluate(world, var.policy, temperature=0.7)
        for read in (lambda: it.elbo, lambda: it.optimality_gap, lambda: it.policy_nats):
            with pytest.raises(cai.IntractableError, match="a density: no policy makes it certain"):
                read()
        assert torch.as_tensor(it.expected_return).isfinite()


class TestBreakdown:
    @pytest.mark.parametrize("t", [0, 1, 3])
    def test_the_time_at_which_the_value_turns_infinite_is_named(self, t: int) -> None:
        """Only slice t pays for noise: E exp(r/η) is finite iff 1 - M_zz/η > 0 there."""
        system = random_system(6, 1, 1, 1, 4, timed=True)
        M = torch.zeros_like(system.M)
        M[:, 1, 1] = -1.0
        M[t, 2, 2] = -3.0
        still = replace(system, M=M, b=0 * system.b, Ms=0 * system.Ms, bs=0 * system.bs)
        close(value(still, cai.RISK(-3.1), 1.0), dense.solve(still, *dense.means("RISK", 1.0, -3.1)).value)
        with pytest.raises(cai.NotConvergedError, match=rf"RISK\(-2.9\), t = {t}: the value is -inf.*noise"):
            value(still, cai.RISK(-2.9), 1.0)
        paid = replace(still, M=-M * torch.tensor([[0.0], [0.0], [1.0]]))
        with pytest.raises(cai.NotConvergedError, match=rf"POSTERIOR, t = {t}: the value is inf.*noise"):
            value(paid, cai.POSTERIOR, 2.9)
        close(value(paid, cai.POSTERIOR, 3.1), dense.solve(paid, *dense.means("POSTERIOR", 3.1)).value)

    @few
    @given(systems(lift=1.5), temperatures)
    def test_nothing_is_ever_not_a_number(self, system: System, alpha: float) -> None:
        for rule in (cai.POSTERIOR, cai.HARD, cai.MAP, cai.RISK(-0.3)):
            try:
                messages = cai.solve(system.model(), rule, temperature=alpha)
            except cai.NotConvergedError as error:
                assume("nan" not in str(error))
            else:
                assert bool(messages.value.isfinite())
                assert all(bool(x.isfinite().all()) for x in messages.v.tensors)


class TestForever:
    def test_hard_solves_scipys_riccati_equation_of_a_discount(self) -> None:
        """A discount γ is a system √γ (A, B) without one."""
        linalg = pytest.importorskip("scipy.linalg", reason="scikit-learn of the extra [test] brings it")
        system = random_system(1, 3, 2, 2, 2, discount=0.9)
        n, m, M, root = 3, 2, system.M[0], 0.9**0.5
        parts = (root * system.A[0], root * system.B[0], -M[:n, :n], -M[n : n + m, n : n + m])
        P = torch.as_tensor(linalg.solve_discrete_are(*(x.numpy() for x in parts), s=-M[:n, n : n + m].numpy()))
        found = cai.solve(replace(system.model(), horizon=None), cai.HARD)
        close(found.v.M, -P)
        assert found.error_bound < 1e-9

    @pytest.mark.parametrize("flat", [False, True])
    def test_it_is_the_limit_of_long_horizons(self, flat: bool) -> None:
        model, T = random_system(5, 2, 1, 2, 2, discount=0.6, flat=flat).model(), 60
        endless, long = (cai.solve(replace(model, horizon=t), cai.VARIATIONAL, temperature=0.6) for t in (None, T))
        close(endless.elbo, long.elbo)
        same_function(endless.v, (long.v[0].M, long.v[0].b, long.v[0].c))
        same_function(endless.q(), (long.q(0).M, long.q(0).b, long.q(0).c))
        ours, truth = endless.policy.conditional(0), long.policy.conditional(0)
        same_law(ours, dense.Law(truth.gain, truth.offset, truth.scale))
        it = cai.evaluate(replace(model, horizon=None), endless.policy, temperature=0.6)
        close(torch.tensor(it.elbo, dtype=torch.float64), endless.elbo)

    def test_visits_are_the_sum_over_all_times(self) -> None:
        model, T = random_system(5, 2, 1, 2, 2, discount=0.6).model(), 60
        endless, long = (cai.solve(replace(model, horizon=t), cai.VARIATIONAL) for t in (None, T))
        each = [long.states(t) for t in range(T)]
        mass = sum(mu.mass for mu in each)
        mean = sum(mu.mass * mu.mean for mu in each) / mass
        second = sum(mu.mass * (mu.covariance + torch.outer(mu.mean, mu.mean)) for mu in each) / mass
        close(endless.states().mass, mass)
        close(endless.states().mean, mean, 1e-8)
        close(endless.states().covariance, second - torch.outer(mean, mean), 1e-8)

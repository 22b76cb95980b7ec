"""Every quantity of a linear-Gaussian world under every rule, against the tree of histories and one dense Gaussian."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from tests.helpers import examples
from tests.linear_worlds import System, model_of, random_system, systems, temperatures
from tests.oracles import dense_gaussian as dense

TOLERANCE = 1e-9
few, many = examples(2), examples(200)
RULES = {
    "POSTERIOR": cai.POSTERIOR,
    "VARIATIONAL": cai.VARIATIONAL,
    "HARD": cai.HARD,
    "MAP": cai.MAP,
    "PLANNING": cai.PLANNING,
}
etas = st.sampled_from([-6.0, -40.0, 0.7, 5.0])


def close(ours: Tensor, truth: Tensor | float, tolerance: float = TOLERANCE) -> None:
    ours, truth = ours.detach(), torch.as_tensor(truth, dtype=torch.float64).detach()
    scale = max(1.0, float(truth.abs().amax()) if truth.numel() else 1.0)
    torch.testing.assert_close(ours, truth, rtol=0, atol=tolerance * scale)


def same_function(ours: Quadratic, truth: tuple[Tensor, Tensor, Tensor]) -> None:
    for mine, its in zip((ours.M, ours.b, ours.c), truth, strict=True):
        close(mine, its)


def same_law(ours: ConditionalGaussian, truth: dense.Law) -> None:
    close(ours.gain, truth.gain)
    close(ours.offset, truth.offset)
    close(ours.covariance, truth.covariance)


def same_measure(ours: Gaussian, truth: tuple[Tensor, Tensor]) -> None:
    close(ours.mean, truth[0])
    close(ours.covariance, truth[1])


def all_equal(system: System, rule: cai.Rule, means: tuple[dense.Mean, dense.Mean], alpha: float) -> None:
    """Check all that a rule says of a system, at every time."""
    truth = dense.solve(system, *means)
    messages = cai.solve(system.model(), rule, temperature=alpha)
    close(messages.value, truth.value)
    same_measure(messages.initial(), truth.moments(truth.x.states[0]))
    for t in range(system.T):
        v = dense.v(system, *means, t)
        same_function(messages.v[t], v)
        same_function(messages.operator.backup(t, messages.v[t + 1]), v)
        same_function(messages.q(t), dense.q(system, *means, t))
        same_law(messages.policy.conditional(t), dense.policy(system, *means, t))
        same_law(messages.tilt(t).noise, dense.outcomes(system, *means, t))
        same_measure(messages.marginals(t), truth.joint(t))
        both = torch.cat([truth.x.states[t], truth.x.states[t + 1]])
        same_measure(messages.pairs(t), truth.moments(both))
    same_measure(messages.states(system.T), truth.moments(truth.x.states[-1]))


def refused(system: System, rule: cai.Rule, fault: dense.InfiniteMeanError, alpha: float) -> None:
    """Check that an infinite value is an error that names the rule and the time."""
    assume(fault.least < -1e-6)
    with pytest.raises(cai.NotConvergedError, match=f"t = {fault.t}:") as error:
        cai.solve(system.model(), rule, temperature=alpha)
    said = str(error.value)
    assert rule.name in said
    assert {"outcomes": "noise", "actions": "action", "start": "start"}[fault.where] in said
    assert "nan" not in said


def equal_or_refused(system: System, name: str, alpha: float, eta: float = 0.0) -> None:
    """Check all that a rule says of a system, or that it says why there is no answer."""
    means, rule = dense.means(name, alpha, eta), RULES.get(name) or cai.RISK(eta)
    try:
        dense.solve(system, *means)
    except dense.InfiniteMeanError as fault:
        refused(system, rule, fault, alpha)
    else:
        all_equal(system, rule, means, alpha)


class TestEveryRule:
    @few
    @given(systems(), st.sampled_from(list(RULES)), temperatures)
    def test_it_equals_the_tree_of_histories(self, system: System, name: str, alpha: float) -> None:
        all_equal(system, RULES[name], dense.means(name, alpha), alpha)

    @pytest.mark.parametrize("name", RULES)
    def test_it_equals_the_tree_of_histories_in_a_fixed_system(self, name: str) -> None:
        system = random_system(1, 2, 2, 3, 3, timed=True, start=1, free=1)
        all_equal(system, RULES[name], dense.means(name, 0.6), 0.6)

    def test_any_factor_of_a_covariance_will_do(self) -> None:
        """A density depends on ``L L'`` alone: a factor with more columns than rows has the values of a square one."""
        wide = random_system(2, 2, 2, 2, 2, start=3, free=3)
        square = replace(wide, L=torch.linalg.cholesky(wide.L @ wide.L.mT), S=torch.linalg.cholesky(wide.S @ wide.S.mT))
        for name in ("POSTERIOR", "MAP"):
            close(cai.solve(wide.model(), RULES[name]).value, dense.solve(wide, *dense.means(name, 1.0)).value)
            close(*(cai.solve(system.model(), RULES[name]).value for system in (wide, square)))
        ours, truth = (system.model().at(0).log_prior() for system in (wide, square))
        same_function(ours, (truth.M, truth.b, truth.c))

    @few
    @given(systems(noise=1.0, n=2, k=2), temperatures, etas)
    def test_risk_equals_it_or_is_refused_at_its_time(self, system: System, alpha: float, eta: float) -> None:
        equal_or_refused(system, "RISK", alpha, eta)

    @few
    @given(systems(lift=0.8, flat=False), st.sampled_from(list(RULES)), temperatures)
    def test_rewards_without_a_bound_have_an_answer_or_an_error(self, system: System, name: str, alpha: float) -> None:
        equal_or_refused(system, name, alpha)

    @pytest.mark.slow
    @many
    @given(systems(), st.sampled_from([*RULES, "RISK"]), temperatures, etas)
    def test_many_equal_the_tree_of_histories(self, system: System, name: str, alpha: float, eta: float) -> None:
        equal_or_refused(system, name, alpha, eta)

    @pytest.mark.slow
    @many
    @given(systems(lift=0.8), st.sampled_from([*RULES, "RISK"]), temperatures, etas)
    def test_many_without_a_bound(self, system: System, name: str, alpha: float, eta: float) -> None:
        equal_or_refused(system, name, alpha, eta)

    @few
    @given(systems(discount=0.8), temperatures)
    def test_a_discount_is_exact_for_averages_and_refused_for_others(self, system: System, alpha: float) -> None:
        for name in ("VARIATIONAL", "HARD"):
            truth = dense.solve(system, *dense.means(name, alpha))
            messages = cai.solve(system.model(), RULES[name], temperature=alpha)
            close(messages.value, truth.value)
            for t in range(system.T):
                same_function(messages.v[t], dense.v(system, *dense.means(name, alpha), t))
                joint = messages.marginals(t)
                same_measure(joint, truth.joint(t))
                close(joint.mass, 0.8**t)
        for rule in (cai.POSTERIOR, cai.MAP, cai.PLANNING, cai.RISK(2.0)):
            with pytest.raises(cai.IntractableError, match="discount"):
                cai.solve(system.model(), rule, temperature=alpha)


class TestTies:
    @pytest.mark.parametrize("horizon", [4, 20])
    def test_where_no_action_matters_the_best_one_is_the_priors(self, horizon: int) -> None:
        """Two pushes bring a cart to rest: where only the end is paid for, what is done before them does not matter."""
        cart = cai.load_world("double_integrator", {"horizon": horizon, "noise": 0.1})
        cart.step = lambda state, force, t, move=cart.step: (move(state, force, t)[0], 0 * force)
        hard = cai.solve(cart, cai.HARD)
        matters = [bool(hard.policy.conditional(t).gain.any()) for t in range(horizon)]
        assert matters == [False] * (horizon - 2) + [True] * 2
        close(hard.value, cai.evaluate(cart, hard).expected_return)
        b, before = torch.tensor([0.02, 0.2]), torch.tensor([0.06, 0.2])  # what a gust of the last tick moves, and of
        left = before.square().sum() - (before @ b).square() / (b @ b)  # the one before it, less what a force undoes
        close(hard.value, -10 * 0.1**2 * (b @ b + left), 1e-7)


class TestOneGaussian:
    @few
    @given(systems(), temperatures)
    def test_it_is_the_posterior(self, system: System, alpha: float) -> None:
        truth, messages = dense.posterior(system, alpha), cai.solve(system.model(), temperature=alpha)
        close(messages.log_evidence, truth.log_evidence)
        for t in range(system.T):
            same_measure(messages.marginals(t), truth.joint(t))
            same_measure(messages.tilt(t).joint(messages.states(t)), truth.slice(t))

    @few
    @given(systems(), temperatures)
    def test_its_top_is_the_most_probable_trajectory(self, system: System, alpha: float) -> None:
        """The mode of a Gaussian is its mean: MAP's trajectory is the posterior mean of each state and action."""
        truth, found = dense.posterior(system, alpha), cai.solve(system.model(), temperature=alpha).most_probable()
        for t in range(system.T):
            mean = truth.joint(t)[0]
            close(found.states[0, t], mean[: system.n])
            close(found.actions[0, t], mean[system.n :])
        close(found.states[0, -1], truth.moments(truth.x.states[-1])[0])

    @few
    @given(systems(n=2, k=2, start=2), temperatures)
    def test_forward_and_backward_messages_meet(self, system: System, alpha: float) -> None:
        """log p(s_t, O_{<t}) + v_t/α - log Z is the log density of s_t given O, at random states."""
        messages, truth = cai.solve(system.model(), temperature=alpha), dense.posterior(system, alpha)
        s = torch.randn(2, generator=torch.Generator().manual_seed(system.T), dtype=torch.float64)
        for t in range(system.T + 1):
            mean, covariance = truth.moments(truth.x.states[t])
            assume(float(torch.linalg.cond(covariance)) < 1e5)
            density = torch.distributions.MultivariateNormal(mean, covariance).log_prob(s)
            met = messages.forward[t](s) + messages.v[t](s) / alpha - messages.log_evidence
            close(met, density, 1e-8)

    @pytest.mark.parametrize("timed", [False, True])
    def test_samples_have_its_moments(self, timed: bool) -> None:
        """Means and covariances within 4 standard errors of 4,000 draws."""
        system, alpha, N = random_system(8, 2, 1, 2, 4, timed=timed), 0.7, 4000
        truth = dense.posterior(system, alpha)
        drawn = cai.solve(system.model(), temperature=alpha).sample(N, generator=torch.Generator().manual_seed(1))
        for t in range(system.T):
            mean, covariance = truth.joint(t)
            apart = torch.cat([drawn.states[:, t], drawn.actions[:, t]], -1) - mean
            variance = covariance.diagonal()
            assert bool((apart.mean(0).abs() <= 4 * (variance / N).sqrt()).all())
            spread = ((variance[:, None] * variance + covariance.square()) / N).sqrt()
            assert bool(((apart.mT @ apart / N - covariance).abs() <= 4 * spread).all())
        reward = truth.x.rewards[0]
        mean, covariance = truth.mean, truth.covariance
        one = torch.cat([torch.ones(1).double(), mean])
        expected = 0.5 * one @ reward @ one + 0.5 * (reward[1:, 1:] * covariance).sum()
        error = 4 * float(drawn.rewards[:, 0].std()) / N**0.5
        assert abs(float(drawn.rewards[:, 0].mean() - expected)) <= error


class TestGradients:
    @few
    @given(systems(n=2, k=2, start=1, flat=False, free=None), temperatures)
    def test_they_equal_those_of_the_dense_value(self, system: System, alpha: float) -> None:
        """In every number of the system, of every rule; of log Z they are moments of the posterior."""
        for name, rule in RULES.items():
            leaves = system.with_gradients()
            tensors = [x for x in vars(leaves).values() if isinstance(x, Tensor)]
            truth = torch.autograd.grad(
                dense.solve(leaves, *dense.means(name, alpha)).value, tensors, allow_unused=True
            )
            value = cai.solve(leaves.model(), rule, temperature=alpha).value
            ours = torch.autograd.grad(value, tensors, allow_unused=True)
            for mine, its, x in zip(ours, truth, tensors, strict=True):
                mine, its = (torch.zeros_like(x) if g is None else g for g in (mine, its))
                matrix = x is leaves.M or x is leaves.Ms
                close(*((g + g.mT for g in (mine, its)) if matrix else (mine, its)), 1e-8)

    @few
    @given(systems(timed=True), temperatures)
    def test_of_the_evidence_are_posterior_moments(self, system: System, alpha: float) -> None:
        leaves, a = system.with_gradients(), torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        log_z = cai.solve(leaves.model(), temperature=a).log_evidence
        by_M, by_b, by_c, by_a = torch.autograd.grad(log_z, [leaves.M, leaves.b, leaves.c, a])
        truth = dense.posterior(system, alpha)
        total = 0.0
        for t in range(system.T):
            mean, covariance = truth.slice(t)
            second = covariance + torch.outer(mean, mean)
            close(0.5 * (by_M[t] + by_M[t].mT), 0.5 * second / alpha)
            close(by_b[t], mean / alpha)
            close(by_c[t], 1 / alpha)
            total = total + 0.5 * (system.M[t] * second).sum() + system.b[t] @ mean + system.c[t]
        mean, covariance = truth.moments(truth.x.states[-1])
        total = total + 0.5 * (system.Ms * (covariance + torch.outer(mean, mean))).sum() + system.bs @ mean + system.cs
        close(by_a, -total / alpha**2, 1e-8)


class TestBatches:
    @pytest.mark.parametrize("timed", [False, True])
    @pytest.mark.parametrize("flat", [False, True])
    def test_a_batch_is_its_systems_one_by_one(self, timed: bool, flat: bool) -> None:
        several = [random_system(seed, 3, 2, 2, 3, timed=timed, flat=flat, start=2) for seed in range(2)]
        for rule in (cai.POSTERIOR, cai.HARD, cai.RISK(-60.0)):
            together = cai.solve(model_of(several), rule, temperature=0.7)
            joint = together.marginals(2)
            for i, system in enumerate(several):
                alone = cai.solve(system.model(), rule, temperature=0.7)
                close(together.value[i], alone.value)
                own = alone.marginals(2)
                for one in (joint[i], together[i].marginals(2)):
                    same_measure(one, (own.mean, own.covariance))

    @pytest.mark.parametrize("rule", RULES)
    def test_several_temperatures_are_one_by_one(self, rule: str) -> None:
        system, alphas = random_system(2, 2, 1, 2, 3), [0.3, 1.0, 5.0]
        together = cai.solve(system.model(), RULES[rule], temperature=alphas)
        for i, alpha in enumerate(alphas):
            truth = dense.solve(system, *dense.means(rule, alpha))
            close(together.value[i], truth.value)
            same_measure(together[i].marginals(2), truth.joint(2))

    @few
    @given(systems(timed=False), temperatures)
    def test_a_system_written_out_for_each_time_is_the_same(self, system: System, alpha: float) -> None:
        for rule in (cai.POSTERIOR, cai.VARIATIONAL):
            once = cai.solve(system.model(), rule, temperature=alpha)
            each = cai.solve(system.repeated().model(), rule, temperature=alpha)
            assert each.model.timed or system.T == 1
            torch.testing.assert_close(each.value, once.value, rtol=1e-12, atol=1e-12)

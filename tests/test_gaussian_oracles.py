"""The oracles of linear-Gaussian worlds against each other: one Gaussian, histories, quadrature, Pyro, HMM."""

import math
from dataclasses import replace

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from tests.helpers import examples
from tests.linear_worlds import LinearWorld, System, random_system, systems, temperatures
from tests.oracles import dense_gaussian as dense
from tests.oracles import program_gaussian, quadrature

few = examples(3)
pytestmark = pytest.mark.usefixtures("float64")


def close(ours: Tensor | float, truth: Tensor | float, tolerance: float = 1e-9) -> None:
    ours, truth = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, truth))
    scale = max(1.0, float(truth.abs().amax()) if truth.numel() else 1.0)
    torch.testing.assert_close(ours, truth, rtol=0, atol=tolerance * scale)


class TestOneGaussian:
    @few
    @given(systems(), temperatures)
    def test_it_equals_the_tree_of_histories(self, system: System, alpha: float) -> None:
        whole, tree = dense.posterior(system, alpha), dense.solve(system, *dense.means("POSTERIOR", alpha))
        close(alpha * whole.log_evidence, tree.value)
        for t in range(system.T):
            for ours, truth in zip(whole.joint(t), tree.joint(t), strict=True):
                close(ours, truth)

    @few
    @given(st.integers(0, 2**20), st.booleans(), st.booleans(), temperatures)
    def test_it_equals_the_density_of_the_program(self, seed: int, noisy: bool, timed: bool, alpha: float) -> None:
        world = LinearWorld(seed, noisy=noisy, timed=timed, horizon=2)
        ours, truth = dense.posterior(world.system(), alpha), program_gaussian.posterior(world, alpha)
        close(ours.log_evidence, truth.log_evidence)
        close(dense.solve(world.system(), *dense.means("MAP", alpha)).value, alpha * truth.log_mode)
        names = ("s_1", "a_1") if noisy else ("a_1",)
        for mine, its in zip(ours.joint(1), truth.moments(*names), strict=True):
            close(mine if noisy else mine[(slice(world.n, None),) * mine.dim()], its)

    @pytest.mark.parametrize("noisy", [True, False])
    def test_every_posterior_draw_weighs_the_evidence(self, noisy: bool) -> None:
        """log p(τ, O) - log p(τ|O) = log Z at each draw: the importance weights of the posterior are constant."""
        world, alpha = LinearWorld(11, noisy=noisy, timed=True), 0.7
        system, T = world.system(), world.horizon
        whole = dense.posterior(system, alpha)
        gaussian = torch.distributions.MultivariateNormal(whole.mean, whole.covariance)
        volume = dense.volume(system.S) + system.log_volume.sum() + torch.linalg.slogdet(system.L).logabsdet.sum()
        program = cai.trajectory(world, temperature=alpha)
        torch.manual_seed(0)
        for x in gaussian.sample((10,)):
            at = torch.cat([torch.ones(1), x])
            values = {"s_0": whole.x.states[0] @ at}
            for t in range(T):
                values[f"a_{t}"] = whole.x.actions[t] @ at
                values[f"e_{t}"] = world.mu[t] + world.tau[t] * (whole.x.noises[t] @ at)[: world.latent]
                if noisy:
                    values[f"s_{t + 1}"] = whole.x.states[t + 1] @ at
            trace = pyro.poutine.trace(pyro.poutine.condition(program, values)).get_trace()
            close(trace.log_prob_sum() - (whole.log_density(x) - volume), whole.log_evidence)

    def test_it_equals_pyros_hidden_markov_model(self) -> None:
        """With rewards α log N(0; C s', I) the optimality nodes observe the state: log Z is a likelihood."""
        alpha, C = 0.6, torch.tensor([[1.0, -0.4], [0.3, 0.8]])
        system = random_system(4, 2, 1, 2, 5)
        F = torch.cat([C @ system.A[0], C @ system.B[0], C @ system.G[0]], -1)
        f = C @ system.d[0]
        here = system.__class__(
            **{
                **vars(system),
                "M": -alpha * (F.mT @ F)[None],
                "b": -alpha * (F.mT @ f)[None],
                "c": torch.tensor([-alpha * (0.5 * f @ f + math.log(2 * math.pi))]),
                "Ms": torch.zeros(2, 2),
                "bs": torch.zeros(2),
                "cs": torch.zeros(()),
            }
        )
        A, spread = system.A[0] + system.B[0] @ system.K[0], torch.cat([system.B[0] @ system.L[0], system.G[0]], -1)
        normal = pyro.distributions.MultivariateNormal
        hmm = pyro.distributions.GaussianHMM(
            normal(system.mean, system.S @ system.S.mT),
            A.mT,
            normal(system.d[0] + system.B[0] @ system.e[0], spread @ spread.mT),
            C.mT,
            normal(torch.zeros(2), torch.eye(2)),
            duration=5,
        )
        close(dense.posterior(here, alpha).log_evidence, hmm.log_prob(torch.zeros(5, 2)))


PAIRS = {
    "POSTERIOR": (quadrature.soft(2.0), quadrature.soft(2.0)),
    "VARIATIONAL": (quadrature.expect, quadrature.soft(2.0)),
    "HARD": (quadrature.expect, quadrature.best),
    "MAP": (quadrature.viterbi(2.0), quadrature.viterbi(2.0)),
    "PLANNING": (quadrature.soft(2.0), quadrature.viterbi(2.0)),
    "RISK": (quadrature.soft(-5.0), quadrature.soft(2.0)),
}


class TestHistories:
    @pytest.mark.parametrize("rule", PAIRS)
    @pytest.mark.parametrize("flat", [False, True])
    def test_they_equal_quadrature_in_one_dimension(self, rule: str, flat: bool) -> None:
        system = random_system(3, 1, 1, 1, 1, flat=flat)
        M, b, c = dense.v(system, *dense.means(rule, 2.0, -5.0), 0)
        close(0.5 * M.squeeze() * 0.09 + 0.3 * b.squeeze() + c, quadrature.value(system, *PAIRS[rule], 0.3, step=0.1))

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", PAIRS)
    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("seed", range(2))
    def test_they_equal_quadrature_over_two_times(self, rule: str, flat: bool, seed: int) -> None:
        system = random_system(seed, 1, 1, 1, 2, flat=flat, timed=True)
        system = system if flat else replace(system, L=0.5 * system.L)  # the grid resolves what is wider than a step
        M, b, c = dense.v(system, *dense.means(rule, 2.0, -5.0), 0)
        close(0.5 * M.squeeze() * 0.09 + 0.3 * b.squeeze() + c, quadrature.value(system, *PAIRS[rule], 0.3, step=0.3))

    @few
    @given(systems(discount=0.9, free=None), temperatures)
    def test_the_best_elbo_is_that_of_its_own_policy(self, system: System, alpha: float) -> None:
        rule = dense.means("VARIATIONAL", alpha)
        laws = [dense.policy(system, *rule, t) for t in range(system.T)]
        close(dense.elbo(system, laws, alpha), dense.solve(system, *rule).value / alpha)

    @few
    @given(systems(k=2, free=None), temperatures)
    def test_no_policy_near_the_best_has_a_greater_elbo(self, system: System, alpha: float) -> None:
        """The gradient of the dense ELBO in every number of the policy is 0 there, and a step away costs."""
        rule = dense.means("VARIATIONAL", alpha)
        laws = [dense.policy(system, *rule, t) for t in range(system.T)]
        leaves = [[x.clone().requires_grad_() for x in (p.gain, p.offset, p.scale)] for p in laws]
        top = dense.elbo(system, [dense.Law(*one) for one in leaves], alpha)
        for slope in torch.autograd.grad(top, [x for one in leaves for x in one]):
            close(slope / top.detach().abs().clamp(min=1), torch.zeros_like(slope), 1e-8)
        g = torch.Generator().manual_seed(0)
        moved = [dense.Law(*(x.detach() + 0.1 * torch.randn(x.shape, generator=g) for x in one)) for one in leaves]
        assert float(dense.elbo(system, moved, alpha)) < float(top.detach())

    @few
    @given(systems(start=1, n=1, free=None), temperatures)
    def test_the_accounts_add_up(self, system: System, alpha: float) -> None:
        posterior, variational = dense.means("POSTERIOR", alpha), dense.means("VARIATIONAL", alpha)
        best = dense.solve(system, *variational).value / alpha
        log_z = dense.posterior(system, alpha).log_evidence
        hard = dense.solve(system, *dense.means("HARD", alpha)).value
        for rule in (posterior, variational):
            it = dense.account(system, [dense.policy(system, *rule, t) for t in range(system.T)], alpha)
            close(it.elbo, best - it.policy_nats.sum())
            close(it.elbo, log_z - it.start_nats - it.action_nats.sum() - it.luck_nats.sum())
            close(it.expected_return, hard - it.regret.sum())

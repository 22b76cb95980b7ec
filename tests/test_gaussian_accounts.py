"""The accounts of affine-Gaussian policies on linear-Gaussian worlds, each number against the dense trajectory."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from torch import Tensor

import cai
from cai.compile.quadratic import ConditionalGaussian
from cai.policies.affine_gaussian import AffineGaussianPolicy
from tests.helpers import examples
from tests.linear_worlds import System, random_system, systems, temperatures
from tests.oracles import dense_gaussian as dense
from tests.test_gaussian import close

few, many = examples(2), examples(60)


@dataclass(frozen=True)
class Laws:
    """A list of affine-Gaussian conditionals, one for each time."""

    laws: tuple[dense.Law, ...]

    def __call__(self, t: int) -> ConditionalGaussian:
        return ConditionalGaussian(self.laws[t].gain, self.laws[t].offset, self.laws[t].scale)


def some_laws(system: System) -> tuple[dense.Law, ...]:
    """Draw a policy that has nothing to do with any rule."""
    g = torch.Generator().manual_seed(int(system.c[0].abs() * 1e6))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    n, m, one = system.n, system.m, torch.eye(system.m, dtype=torch.float64)
    return tuple(dense.Law(0.5 * normal(m, n), normal(m), 0.3 * normal(m, m) + one) for _ in range(system.T))


def as_policy(system: System, laws: tuple[dense.Law, ...]) -> AffineGaussianPolicy:
    model = system.model()
    return AffineGaussianPolicy(Laws(laws), model.states, model.actions, system.T)


def all_accounts(system: System, laws: tuple[dense.Law, ...], alpha: float) -> None:
    ours, truth = (
        cai.evaluate(system.model(), as_policy(system, laws), temperature=alpha),
        dense.account(system, list(laws), alpha),
    )

    def same(mine: float, its: Tensor) -> None:
        close(torch.tensor(mine, dtype=torch.float64), its)

    same(ours.expected_return, truth.expected_return)
    same(ours.elbo, truth.elbo)
    same(ours.kl_to_prior, truth.kl.sum())
    same(ours.start_nats, truth.start_nats)
    same(ours.regret, truth.regret.sum())
    for mine, its in (
        (ours.policy_nats, truth.policy_nats),
        (ours.action_nats, truth.action_nats),
        (ours.luck_nats, truth.luck_nats),
    ):
        close(mine, its)
    same(ours.optimality_gap, truth.policy_nats.sum())
    same(ours.evidence_gap, truth.start_nats + truth.action_nats.sum() + truth.luck_nats.sum())
    assert ours.standard_error == 0


class TestAccounts:
    @few
    @given(systems(free=None), temperatures)
    def test_they_equal_the_dense_trajectory(self, system: System, alpha: float) -> None:
        all_accounts(system, some_laws(system), alpha)

    @pytest.mark.slow
    @many
    @given(systems(free=None), temperatures)
    def test_many_equal_the_dense_trajectory(self, system: System, alpha: float) -> None:
        all_accounts(system, some_laws(system), alpha)

    @pytest.mark.parametrize("flat", [False, True])
    def test_a_rules_own_policy_has_its_own_account(self, flat: bool) -> None:
        system, alpha = random_system(12, 2, 2, 3, 3, timed=True, flat=flat, start=1), 0.8
        for name, rule in (("POSTERIOR", cai.POSTERIOR), ("VARIATIONAL", cai.VARIATIONAL)):
            messages = cai.solve(system.model(), rule, temperature=alpha)
            ours = cai.evaluate(system.model(), messages.policy, temperature=alpha)
            laws = [dense.policy(system, *dense.means(name, alpha), t) for t in range(system.T)]
            truth = dense.account(system, laws, alpha)
            close(torch.tensor(ours.elbo, dtype=torch.float64), truth.elbo)
            close(ours.luck_nats, truth.luck_nats)
            own = ours.action_nats if name == "POSTERIOR" else ours.policy_nats
            close(own, torch.zeros(system.T, dtype=torch.float64))

    @few
    @given(systems(discount=0.8, free=None), temperatures)
    def test_a_discount_counts_survivors(self, system: System, alpha: float) -> None:
        laws = some_laws(system)
        ours = cai.evaluate(system.model(), as_policy(system, laws), temperature=alpha)
        rewards = dense.returns(system, list(laws))[1]
        close(torch.tensor(ours.expected_return, dtype=torch.float64), rewards.sum())
        close(torch.tensor(ours.elbo, dtype=torch.float64), dense.elbo(system, list(laws), alpha))
        best = dense.solve(system, *dense.means("VARIATIONAL", alpha)).value / alpha
        close(ours.policy_nats.sum(), best - dense.elbo(system, list(laws), alpha))

    @few
    @given(systems(flat=True), temperatures)
    def test_risk_costs_return_under_a_flat_prior(self, system: System, alpha: float) -> None:
        """VARIATIONAL has the best gain, and loses ½ α an action coordinate and time; POSTERIOR loses at least that."""
        best = float(cai.solve(system.model(), cai.HARD).value)
        lost = [
            best
            - cai.evaluate(system.model(), cai.solve(system.model(), rule, temperature=alpha).policy).expected_return
            for rule in (cai.VARIATIONAL, cai.POSTERIOR)
        ]
        slack = 1e-9 * max(1.0, abs(best))
        assert abs(lost[0] - 0.5 * alpha * system.m * system.T) < slack
        assert lost[1] >= lost[0] - slack

"""The rules' limits and order on real worlds, with bounds that are proved rather than guessed."""

import math

import pytest
import torch

import cai
from tests.helpers import load_model

T = 60


@pytest.fixture(scope="module")
def lake() -> cai.Tables:
    return cai.tabulate(load_model("frozen_lake")("8x8", horizon=T))


@pytest.mark.parametrize("alpha", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6])
def test_variational_tends_to_hard_as_it_cools(lake: cai.Tables, alpha: float) -> None:
    """``max q - α log A <= α log mean exp(q/α) <= max q``, so over T steps the gap lies in [0, T α log A]."""
    gap = cai.solve(lake, cai.HARD).v - cai.solve(lake, cai.VARIATIONAL, temperature=alpha).v
    rounding = 1e-13
    assert float(gap.min()) >= -rounding
    assert float(gap.max()) <= T * alpha * math.log(4) + rounding
    assert float(gap.max()) > 0


@pytest.mark.parametrize("alpha", [1e1, 1e2, 1e4, 1e6])
def test_variational_tends_to_the_prior_as_it_heats(lake: cai.Tables, alpha: float) -> None:
    """Hoeffding: ``0 <= α log mean exp(q/α) - mean q <= range(q)² / 8α``; here returns lie in [0, 1]."""
    prior = cai.evaluate(lake, None).expected_return
    gap = float(cai.solve(lake, cai.VARIATIONAL, temperature=alpha).value) - prior
    rounding = T * alpha * torch.finfo(torch.float64).eps
    assert -rounding <= gap <= T / (8 * alpha) + rounding
    assert gap > 0 or alpha > 1e4


def test_posterior_is_never_below_variational(lake: cai.Tables) -> None:
    """FrozenLake 8x8, T = 100 as in the issue: POSTERIOR >= VARIATIONAL >= 0, in every state, at every time."""
    tables = cai.tabulate(load_model("frozen_lake")("8x8", horizon=100))
    temperatures = [1.0, 0.1, 0.01, 0.001]
    posterior = cai.solve(tables, cai.POSTERIOR, temperature=temperatures).v
    variational = cai.solve(tables, cai.VARIATIONAL, temperature=temperatures).v
    assert float((posterior - variational).min()) >= -1e-13
    assert float(variational.min()) >= 0
    assert ((posterior - variational)[:, 0, 0] > 1e-4).all()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("frozen_lake", {"is_slippery": False}),
        ("cliff_walking", {}),
        ("taxi", {}),
        ("deep_sea", {}),
        ("grid", {"slip": 0}),
    ],
)
def test_without_luck_the_two_agree_state_by_state(name: str, arguments: dict[str, object]) -> None:
    tables = cai.tabulate(load_model(name)(**arguments))
    for alpha in (10.0, 0.1):
        posterior = cai.solve(tables, cai.POSTERIOR, temperature=alpha).v
        variational = cai.solve(tables, cai.VARIATIONAL, temperature=alpha).v
        torch.testing.assert_close(posterior, variational, rtol=1e-12, atol=1e-12)


def test_risk_is_monotone_between_its_ends(lake: cai.Tables) -> None:
    """From averse to seeking: ``(1/θ) log E exp(θx)`` rises in θ = 1/η; VARIATIONAL is at 0, POSTERIOR at 1/α."""
    alpha = 0.2
    averse = [cai.RISK(eta) for eta in (-0.02, -0.1, -0.2, -1.0, -100.0)]
    seeking = [cai.RISK(eta) for eta in (100.0, 1.0, 0.2, 0.1, 0.02)]
    values = torch.stack([cai.solve(lake, rule, temperature=alpha).v for rule in [*averse, cai.VARIATIONAL, *seeking]])
    assert float(values.diff(dim=0).min()) >= -1e-12
    assert (values.diff(dim=0)[:, 0, 0] > 0).all()


def test_risk_meets_posterior_and_variational(lake: cai.Tables) -> None:
    """At η = α it is POSTERIOR; as ``|η| → ∞`` it is VARIATIONAL, by Hoeffding within T/8|η| for returns in [0, 1]."""
    alpha = 0.2
    posterior = cai.solve(lake, cai.POSTERIOR, temperature=alpha).v
    # POSTERIOR is taken over merged successors: it has the digits of α, not those of a far smaller v.
    risk = cai.solve(lake, cai.RISK(alpha), temperature=alpha).v
    torch.testing.assert_close(risk, posterior, rtol=1e-13, atol=16 * alpha * torch.finfo(risk.dtype).eps)
    variational = cai.solve(lake, cai.VARIATIONAL, temperature=alpha).v
    for eta in (1e2, 1e4, 1e6, -1e2, -1e4, -1e6):
        gap = (cai.solve(lake, cai.RISK(eta), temperature=alpha).v - variational) * math.copysign(1, eta)
        rounding = T * abs(eta) * torch.finfo(torch.float64).eps
        assert -rounding <= float(gap.min()) <= float(gap.max()) <= T / (8 * abs(eta)) + rounding
    for eta in (math.inf, -math.inf):
        assert torch.equal(cai.solve(lake, cai.RISK(eta), temperature=alpha).v, variational)


def test_the_cliff_keeps_its_evidence_and_loses_its_elbo() -> None:
    """Slippery or not, the prior walks the same walk: one evidence; ELBO* tens to thousands of nats apart."""
    safe, slippery = (cai.tabulate(load_model("cliff_walking")(is_slippery=slips)) for slips in (False, True))
    lost = []
    for alpha in (1.0, 0.3, 0.1, 0.03, 0.01):
        evidence = [
            float(cai.solve(world, cai.POSTERIOR, temperature=alpha).log_evidence) for world in (safe, slippery)
        ]
        assert evidence[0] == pytest.approx(evidence[1], abs=1e-9, rel=1e-12)
        elbo = [float(cai.solve(world, cai.VARIATIONAL, temperature=alpha).elbo) for world in (safe, slippery)]
        assert elbo[0] == pytest.approx(evidence[0], abs=1e-9, rel=1e-12)  # nothing is left to luck where it is safe
        lost.append(elbo[0] - elbo[1])
    assert lost == sorted(lost)
    assert 10 < lost[0] < 100
    assert 1000 < lost[-1] < 10_000
    # Cooler still, every lost unit of reward costs 1/α nats.
    values = [float(cai.solve(world, cai.HARD).value) for world in (safe, slippery)]
    assert lost[-1] == pytest.approx((values[0] - values[1]) / 0.01, rel=0.2)

"""Numerical safety at every temperature: nothing lost, nothing NaN, no wrong finite value."""

import mpmath
import pytest
import torch

import cai
from tests.helpers import load_model
from tests.worlds import RandomWorld


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 0.1, 1.0, 1e4])
def test_a_large_grid_is_right_at_every_temperature(alpha: float) -> None:
    """Each backup is checked in arbitrary precision at random state-times.

    A backup never widens an error (it is a mean), so local errors below e bound the global one by T e.
    """
    mpmath.mp.dps = 40
    tables = cai.tabulate(load_model("grid")(rows=100, columns=100, horizon=100))
    messages = cai.solve(tables, temperature=alpha)
    assert bool(messages.v.isfinite().all())
    g = torch.Generator().manual_seed(0)
    worst = 0.0
    for _ in range(150):
        t = int(torch.randint(0, 100, (), generator=g))
        s = int(torch.randint(0, tables.states.size, (), generator=g))
        worst = max(worst, abs(float(messages.v[t, s]) - _exact_backup(tables, messages.v[t + 1], s, alpha)))
    # v = α log(…): at a high temperature the logarithm is of a number near 1, exact to α times the rounding.
    assert worst <= 1e-14 * max(1.0, float(messages.v.abs().max()), alpha)


def _exact_backup(tables: cai.Tables, v_next: torch.Tensor, s: int, alpha: float) -> float:
    total = mpmath.mpf(0)
    for a in range(tables.actions.size):
        inner = mpmath.mpf(0)
        for k in range(tables.log_prob.shape[-1]):
            following = mpmath.mpf(float(v_next[int(tables.successor[s, a, k])]))
            gain = (mpmath.mpf(float(tables.reward[s, a, k])) + following) / mpmath.mpf(alpha)
            inner += mpmath.exp(mpmath.mpf(float(tables.log_prob[s, a, k])) + gain)
        total += mpmath.exp(mpmath.mpf(float(tables.log_prior[s, a]))) * inner
    return float(mpmath.mpf(alpha) * mpmath.log(total))


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.RISK(-0.5)], ids=str)
@pytest.mark.parametrize("alpha", [1e-4, 1e4])
def test_everything_on_demand_is_a_number(rule, alpha: float) -> None:
    messages = cai.solve(RandomWorld(seed=1, S=3, A=2, K=2, horizon=3), rule, temperature=alpha)
    for t in range(3):
        for quantity in (messages.q(t), messages.policy.log_probs(t), messages.marginals(t), messages.dynamics(t)):
            assert not bool(quantity.isnan().any())
        torch.testing.assert_close(messages.policy.probs(t).sum(-1), torch.ones(3, dtype=torch.float64))
        assert float(messages.marginals(t).sum()) == pytest.approx(1.0)


def test_a_low_temperature_keeps_finite_nats() -> None:
    """Probabilities underflow at α = 1e-4; the accounts stay in log space and finite."""
    world = RandomWorld(seed=1, S=3, A=2, K=2, horizon=3, holes=False, discount=0.9)
    one = cai.evaluate(world, None, temperature=1e-4)
    total = one.start_nats + float(one.action_nats.sum()) + float(one.luck_nats.sum())
    assert total == pytest.approx(one.evidence_gap, rel=1e-12)


@pytest.mark.parametrize("eta", [1e9, 1e13, 1e15, 1e17, -1e13, -1e17])
def test_risk_meets_variational_however_large_eta_is(eta: float) -> None:
    world = RandomWorld(seed=1, S=3, A=2, K=2, horizon=3, holes=False)
    assert float(cai.solve(world, cai.RISK(eta)).value) == pytest.approx(
        float(cai.solve(world, cai.VARIATIONAL).value), abs=1e-8
    )


def test_a_high_temperature_in_single_precision_keeps_its_digits() -> None:
    world = RandomWorld(seed=1, S=3, A=2, K=2, horizon=3, holes=False)
    single, double = (cai.tabulate(world, dtype=dtype) for dtype in (torch.float32, torch.float64))
    for rule in (cai.POSTERIOR, cai.VARIATIONAL):
        ours, exact = (float(cai.solve(tables, rule, temperature=1e6).value) for tables in (single, double))
        assert ours == pytest.approx(exact, rel=1e-5)


def test_near_ties_are_no_ties() -> None:
    world = RandomWorld(seed=1, S=1, A=3, K=1, horizon=1, holes=False)
    world.reward[0, 0, :, 0] = torch.tensor([1000.0, 999.7, 999.4])
    policy = cai.solve(cai.tabulate(world, dtype=torch.float32), cai.HARD).policy.probs(0)
    assert policy[0].tolist() == [1.0, 0.0, 0.0]


def test_a_rule_that_fears_risk_names_the_states_at_risk() -> None:
    world = RandomWorld(seed=1, S=2, A=2, K=2, horizon=2, holes=False)
    world.reward[0, :, :, 1] = -torch.inf
    assert float(cai.solve(world).log_evidence) > -torch.inf
    with pytest.raises(cai.ImpossibleError, match=r"every allowed action risks.*|state s="):
        cai.solve(world, cai.VARIATIONAL)


def test_evidence_zero_names_the_states_that_block_it() -> None:
    world = RandomWorld(seed=1, S=3, A=2, K=2, horizon=3, holes=False)
    world.reward[:] = -torch.inf
    with pytest.raises(cai.ImpossibleError, match=r"no trajectory can be optimal.*step, t = 0, state s=0"):
        cai.solve(world)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), []])
def test_a_wrong_temperature_is_refused(temperature) -> None:
    with pytest.raises(cai.WorldError, match="temperature"):
        cai.solve(RandomWorld(seed=1, S=2, A=2, K=1, horizon=1), temperature=temperature)


def test_what_belongs_to_another_rule_says_so() -> None:
    messages = cai.solve(RandomWorld(seed=1, S=2, A=2, K=1, horizon=1), cai.HARD)
    with pytest.raises(AttributeError, match="belongs to POSTERIOR"):
        _ = messages.log_evidence
    with pytest.raises(cai.WorldError, match="a time from 0 to 0"):
        messages.q(5)
    with pytest.raises(cai.WorldError, match="eta"):
        cai.RISK(0.0)

"""Temperatures and rewards at the edge: cold, float32 and infinite; against plain Python and mpmath."""

import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch

import cai
from cai.exact.tables import adjoints
from cai.exact.tables import backup_forms as forms
from cai.exact.temperature import as_temperature
from tests.helpers import slow_after
from tests.test_engine import tables_of
from tests.test_separate import Islands
from tests.worlds import FactoredWorld, RandomWorld


def lever(rewards: tuple[float, float], horizon: int, prior: tuple[float, float] = (0.3, 0.7)) -> cai.Tables:
    """One state and two actions."""
    world = RandomWorld(0, 1, 2, 1, horizon, holes=False)
    world.prior, world.last = torch.tensor([[prior]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    world.reward = torch.tensor(rewards, dtype=torch.float64).reshape(1, 1, 2, 1)
    return tables_of(world)


@pytest.mark.parametrize("work", [math.inf, 0])
@pytest.mark.parametrize("rule", slow_after(2, [cai.POSTERIOR, cai.RISK(-1e-6), cai.VARIATIONAL]), ids=str)
def test_weights_sum_to_one_however_cold(rule: cai.Rule, work: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for room, name in ((forms, "KERNEL_WORK"), (adjoints, "WORTH_MERGING")):
        monkeypatch.setattr(room, name, work if name == "KERNEL_WORK" else 8)
    tables = lever((1e8, 0.0), 200)
    reward, alpha = tables.reward.clone().requires_grad_(), torch.tensor(1e-6).double().requires_grad_()
    found = cai.solve(replace(tables, reward=reward), rule, temperature=alpha)
    found.value.backward()
    quiet = cai.solve(tables, rule, temperature=1e-6)
    with mpmath.workdps(60):
        each = [p * mpmath.exp(mpmath.mpf(r) / mpmath.mpf(1e-6)) for p, r in ((0.3, 1e8), (0.7, 0))]
        truth = float(200 * mpmath.mpf(1e-6) * mpmath.log(sum(each)))
    assert float(quiet.value) == pytest.approx(truth, rel=1e-14)
    for t in (0, 50, 199):
        torch.testing.assert_close(quiet.policy.probs(t)[0], torch.tensor([1.0, 0.0]).double(), rtol=0, atol=1e-14)
        assert float(quiet.marginals(t).sum()) == pytest.approx(1, abs=1e-12)
    assert float(reward.grad.sum()) == pytest.approx(200, abs=1e-10)
    assert float(alpha.grad) == pytest.approx(200 * math.log(0.3), rel=1e-10)
    assert cai.evaluate(tables, quiet, temperature=1e-6).expected_return == pytest.approx(200e8, rel=1e-12)


@pytest.mark.parametrize("rewards", [(1e-14, 0.0), (0.0, 1e-14)])
def test_a_small_reward_is_a_preference(rewards: tuple[float, float]) -> None:
    found = cai.solve(lever(rewards, 3), cai.HARD)
    assert found.policy.probs(0)[0].tolist() == [float(r > 0) for r in rewards]
    assert cai.evaluate(found.model, found).expected_return == pytest.approx(float(found.value), rel=1e-14)


def test_a_choice_of_1e_6_counts_beside_1e8() -> None:
    tables = replace(lever((1e-6, 0.0), 1), terminal=torch.tensor([1e8], dtype=torch.float64))
    found = cai.solve(tables, cai.HARD)
    assert found.policy.probs(0)[0].tolist() == [1, 0]


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.MAP, cai.PLANNING], ids=str)
@pytest.mark.parametrize("horizon", [3, 12])
@pytest.mark.parametrize("best", [1.0, -1.0])
def test_rewards_over_a_temperature_may_overflow(rule: cai.Rule, horizon: int, best: float) -> None:
    found = cai.solve(lever((best, -3.0), horizon), rule, temperature=1e-310)
    assert float(found.value) == pytest.approx(horizon * best, rel=1e-14)
    assert found.policy.probs(0)[0].tolist() == [1, 0]
    if rule == cai.POSTERIOR:
        with pytest.raises(cai.IntractableError, match="too large in nats"):
            _ = found.log_evidence


def test_a_temperature_of_float32_is_what_was_written() -> None:
    tables, alpha = lever((1.0, 0.0), 3), torch.tensor(0.1, requires_grad=True)
    found = cai.solve(tables, temperature=alpha)
    assert found.temperature.tolist() == 0.1
    found.value.backward()
    exact = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    cai.solve(tables, temperature=exact).value.backward()
    assert float(alpha.grad) == pytest.approx(float(exact.grad), rel=1e-6)
    several = cai.solve(tables, temperature=torch.tensor([0.3, 1 / 3, 2.0])).temperature.tolist()
    assert several == [0.3, 0.33333334, 2.0]
    half = cai.solve(tables, temperature=torch.tensor(0.1, dtype=torch.bfloat16)).temperature
    assert float(half) == 0.1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_temperature_of_numpy_is_what_was_written(kind: type) -> None:
    read: Callable[[object], torch.Tensor] = inspect.unwrap(as_temperature)  # under pytest types are checked before
    assert float(read(kind(0.1))) == 0.1
    assert read(np.array([0.1, 0.7], dtype=kind)).tolist() == [0.1, 0.7]


def test_luck_of_what_cannot_be_is_none() -> None:
    """An outcome of probability 0 leads to a state with v = -inf, under a discount."""
    world = RandomWorld(0, 2, 1, 2, 2, holes=False, discount=0.9)
    world.start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    world.outcome = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 2, 1, 2).clone()
    world.successor = torch.tensor([0, 1]).expand(1, 2, 1, 2).clone()
    world.reward = torch.tensor([-1.0, -torch.inf], dtype=torch.float64).reshape(1, 2, 1, 1).expand(1, 2, 1, 2).clone()
    world.last = torch.tensor([0.5, 0.0], dtype=torch.float64)
    found = cai.evaluate(tables_of(world), None, temperature=1.0)
    v, luck, alive = 0.5, 0.0, 1.0
    stages = []
    for _ in range(2):
        survives = 0.9 * math.exp(v) / (0.9 * math.exp(v) + 0.1)
        stages.append(0.9 * math.log(0.9 / survives) + 0.1 * math.log(0.1 / (1 - survives)))
        v = -1 + math.log(0.9 * math.exp(v) + 0.1)
    for nats in reversed(stages):
        luck, alive = luck + alive * nats, alive * 0.9
    assert float(found.luck_nats.sum()) == pytest.approx(luck, abs=1e-12)
    assert "nan" not in found.account()


def test_what_is_too_large_in_nats_is_told() -> None:
    """3 reward units at a temperature of 1e-310 are 3e310 nats, and -3 are no impossible event."""
    for best in (1.0, -1.0):
        tables = lever((best, -3.0), 3)
        posterior, uniform = cai.solve(tables, temperature=1e-310), torch.full((1, 2), 0.5, dtype=torch.float64)
        seen = cai.evaluate(tables, uniform, temperature=1e-310)
        assert f"{seen.expected_return:g}" in repr(seen)
        assert seen.regret == pytest.approx(3 * (best + 3) / 2, rel=1e-14)
        asked: dict[str, Callable[[], object]] = {
            "forward": lambda m=posterior: m.forward,
            "horizons": lambda one=tables: cai.solve_horizons(one, [3, 1000], temperature=1e-310).log_evidence,
            "marginal_map": lambda one=tables: cai.marginal_map(one, temperature=1e-310),
            "inference_types": lambda one=tables: cai.inference_types(one, temperature=1e-310),
            "fit": lambda one=tables: cai.fit(one, temperature=1e-310, steps=1),
            "elbo": lambda one=tables: cai.elbo(one, None, temperature=1e-310),
            "account": lambda e=seen: e.account(),
            "worst": lambda e=seen: e.worst(),
        }
        gaps = ("elbo", "elbo_star", "log_evidence", "optimality_gap", "evidence_gap", "policy_nats", "action_nats")
        for name in gaps:
            asked[f"evaluate, {name}"] = lambda e=seen, name=name: getattr(e, name)
        assert_told(asked)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_too_large_in_nats_is_told_of_programs_and_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    world, factors = FactoredWorld(1), cai.factorise(FactoredWorld(1))
    monkeypatch.setattr("cai.exact.forms.JOINT", 1)
    apart, cold = cai.factorise(Islands((0, 3))), 1e-310
    assert_told(
        {
            "factors": lambda: cai.solve(factors, temperature=cold),
            "factors, elbo": lambda: cai.solve(factors, cai.VARIATIONAL, temperature=cold).elbo,
            "factors, evaluate": lambda: cai.evaluate(factors, None, temperature=cold).policy_nats,
            "parts": lambda: cai.solve(apart, temperature=cold),
            "parts, elbo": lambda: cai.solve(apart, cai.VARIATIONAL, temperature=cold).elbo,
            "sampling": lambda: cai.elbo(world, None, temperature=cold, method="sampling", samples=10),
        }
    )


def mirrored(n: int = 6, slip: float = 0.2) -> cai.Tables:
    """A slippery grid with rewards that are the same mirrored: on the diagonal right is down, and left is up."""
    seed = torch.Generator().manual_seed(2)
    pays = torch.tensor([0.1, -0.1, 0.3, 1 / 3, -0.7, 0.0, -0.01], dtype=torch.float64)
    pays = pays[torch.randint(0, 7, (n, n), generator=seed)].triu()
    pays = pays + pays.triu(1).T
    world = RandomWorld(0, n * n, 4, 3, 10, holes=False, discount=0.999)
    world.prior = torch.full_like(world.prior, 0.25)
    moves = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    for x, y, a in itertools.product(range(n), range(n), range(4)):
        for k, i in enumerate(torch.randperm(3, generator=seed).tolist()):
            dx, dy = moves[(a + (0, 1, 3)[i]) % 4]
            to = min(max(x + dx, 0), n - 1), min(max(y + dy, 0), n - 1)
            world.successor[0, x * n + y, a, k] = to[0] * n + to[1]
            world.outcome[0, x * n + y, a, k] = 1 - 2 * slip if i == 0 else slip
            world.reward[0, x * n + y, a, k] = pays[to]
    return replace(tables_of(world), horizon=None)


@pytest.mark.parametrize("work", [math.inf, 0])
def test_what_is_equal_by_symmetry_is_tied_however_long(work: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "KERNEL_WORK", work)
    found = cai.solve(mirrored(), cai.HARD)
    on_diagonal = found.policy.probs()[::7]
    assert torch.equal(on_diagonal[:, 0], on_diagonal[:, 1])
    assert torch.equal(on_diagonal[:, 2], on_diagonal[:, 3])
    joint = found.tilt().log_policy.exp()[::7]
    torch.testing.assert_close(joint, on_diagonal, rtol=0, atol=1e-15)


def assert_told(asked: dict[str, Callable[[], object]]) -> None:
    for ask in asked.values():
        with pytest.raises(cai.IntractableError, match="too large in nats"):
            ask()

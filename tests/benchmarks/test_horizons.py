"""Long and infinite horizons: what reading off the growth and mixing backups save, beside plain backups."""

import time
from typing import Any

import pytest
import torch

import cai
from cai.exact.fixed_point import Search
from cai.exact.horizons import HorizonValues
from cai.exact.tables.table_operator import TableOperator
from tests.helpers import load_model

FAR, NEAR = 10**6, 10**4


def grid(**settings: Any) -> cai.Tables:
    return cai.tabulate(load_model("grid")(rows=100, columns=100, **settings))


def plainly(tables: cai.Tables, rule: cai.Rule, alpha: float, most: int, rounding: bool) -> tuple[torch.Tensor, int]:
    """Back up ``most`` times, or until a backup changes no more than rounding may."""
    temperature = torch.tensor(alpha, dtype=torch.float64)
    problem, v = Search(TableOperator(tables, rule, temperature)), tables.terminal
    for n in range(1, most + 1):
        before, v = v, problem.backup(v)
        if rounding and n % 10 == 0 and float((v - before).abs().max()) <= problem.rounding(v):
            return v, n
    return v, most


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("step_reward", [-0.01, -1.0])
def test_a_million_steps(benchmark: Any, rule: cai.Rule, alpha: float, step_reward: float) -> None:
    tables = grid(step_reward=step_reward)

    def far() -> HorizonValues:
        return cai.solve_horizons(tables, [NEAR, FAR], rule, temperature=alpha)

    found = benchmark.pedantic(far, rounds=3, warmup_rounds=1)
    started = time.perf_counter()
    v, _ = plainly(tables, rule, alpha, NEAR, rounding=False)
    seconds = (time.perf_counter() - started) * FAR / NEAR
    torch.testing.assert_close(found.v[0], v, rtol=0, atol=1e-9)
    benchmark.extra_info.update(backups=found.sweeps, bound=float(found.error_bound[1]), plain_seconds=seconds)
    took = f"{benchmark.stats.stats.median:.2f} s, {found.sweeps:,} backups; plain {seconds:.0f} s, {FAR:,}"
    print(f"\n{rule}, α = {alpha:g}, {step_reward:g} a step, T = {FAR:,}: {took}")


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD], ids=str)
@pytest.mark.parametrize("discount", [0.99, 0.999])
def test_for_ever(benchmark: Any, rule: cai.Rule, discount: float) -> None:
    tables = grid(horizon=None, discount=discount, step_reward=-0.01)

    def for_ever() -> cai.Messages:
        with torch.no_grad():
            return cai.solve(tables, rule, temperature=0.1)

    found = benchmark.pedantic(for_ever, rounds=3, warmup_rounds=1)
    v, n = plainly(tables, rule, 0.1, 100_000, rounding=True)
    assert float((found.v - v).abs().max()) <= 2 * found.error_bound
    benchmark.extra_info.update(backups=found.iterations, bound=found.error_bound, plain_backups=n)
    took = f"{found.iterations:,} backups, bound {found.error_bound:.1e}; plain {n:,}"
    print(f"\n{rule}, γ = {discount:g}: {benchmark.stats.stats.median:.2f} s, {took}")

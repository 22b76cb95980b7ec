"""Bounds from parts of a world set free of each other, held to the exact values of small worlds."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import cai
from cai.approximation.bounds.dual_decomposition import DualDecomposition, decomposed
from cai.errors import IntractableError
from tests.helpers import slow_after
from tests.test_ended import Fall
from tests.test_factors import Machines
from tests.test_upper_bounds import possible
from tests.worlds import Ring, TimedPair, TimedWorld


@pytest.mark.parametrize("seed", slow_after(3, range(100)))
@pytest.mark.parametrize("rule", [cai.HARD, cai.VARIATIONAL, cai.POSTERIOR], ids=str)
def test_the_bound_is_above_the_exact_value_at_any_prices(seed: int, rule: cai.Rule) -> None:
    factors, g, alpha = possible(seed), np.random.default_rng(seed), (0.5, 0.05, 5.0)[seed // 2 % 3]
    exact = float(cai.solve(factors, rule, temperature=alpha).value)
    for most in (60, 600):
        dual = DualDecomposition(factors, most, rule, alpha)
        none = dual.no_prices()
        assert dual.bound(g.normal(size=none.shape)) >= exact
        assert dual.bound(dual.tightened(none, 0.1, float("inf"))) >= exact


@pytest.mark.parametrize("seed", slow_after(2, range(100)))
def test_luck_that_regions_share_is_paid_for_once(seed: int) -> None:
    """A storm fells all machines at once, rewards read what follows, and regions overlap: still above log Z."""
    n, alpha = 3 + seed % 3, (0.3, 0.03, 3.0)[seed % 3]
    world = (Machines(n), Ring(n, 3 + seed % 4))[seed % 2]
    factors, g = cai.factorise(world), np.random.default_rng(seed)
    exact = float(cai.solve(factors, cai.POSTERIOR, temperature=alpha).value)
    for most in (30, 100, 1000):
        dual = DualDecomposition(factors, most, cai.POSTERIOR, alpha)
        none = dual.no_prices()
        for prices in (none, 0.3 * g.normal(size=none.shape), dual.tightened(none, 0.1, time.monotonic() + 1)):
            assert dual.bound(prices) >= exact


@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.POSTERIOR], ids=str)
def test_the_gradient_is_how_far_the_regions_disagree(rule: cai.Rule) -> None:
    dual = DualDecomposition(cai.factorise(Machines(4)), 40, rule, 0.5)
    g = np.random.default_rng(0)
    prices, along = (g.normal(size=dual.no_prices().shape) for _ in range(2))
    _, gradient = dual.smoothed(prices, 0.3)
    up, down = (dual.smoothed(prices + by * along, 0.3)[0] for by in (1e-5, -1e-5))
    assert float((gradient * along).sum()) == pytest.approx((up - down) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("discount", slow_after(1, [0.8, 1.0]))
def test_one_region_with_room_for_all_is_exact(discount: float) -> None:
    factors = cai.factorise(Machines(4, discount=discount))
    *_, last = decomposed(factors, cai.HARD, seconds=5)
    assert last == pytest.approx(float(cai.solve(factors, cai.HARD).value), rel=0.02)


def test_prices_make_the_bound_tight() -> None:
    factors = cai.factorise(cai.load_world("sysadmin", {"n": 6, "horizon": 10}))
    exact = float(cai.solve(factors, cai.VARIATIONAL, temperature=0.5).value)
    dual = DualDecomposition(factors, 100, cai.VARIATIONAL, 0.5)
    prices = dual.no_prices()
    bounds = [dual.bound(prices)]
    for tau in (0.03, 0.003):
        prices = dual.tightened(prices, tau, float("inf"))
        bounds.append(dual.bound(prices))
    assert all(a > b for a, b in pairwise(bounds))
    assert exact <= bounds[-1] <= 1.1 * exact


@pytest.mark.slow
def test_a_world_that_elimination_refuses_is_bounded() -> None:
    first, *_, last = decomposed(cai.factorise(Ring(40)), cai.HARD, seconds=10)
    assert last < first


@pytest.mark.parametrize("rule", [cai.HARD, cai.VARIATIONAL, cai.POSTERIOR], ids=str)
@pytest.mark.parametrize(
    "world",
    [Fall(), Fall(bonus=-2.0), cai.from_gymnasium("FrozenLake-v1", horizon=8)],
    ids=["fall", "fall with a fine", "frozen_lake"],
)
def test_after_the_end_of_an_episode_nothing_is_paid(world: Any, rule: cai.Rule) -> None:
    factors = cai.factorise(world)
    assert factors.ends is not None
    exact = float(cai.solve(factors, rule, temperature=0.5).value)
    found = list(decomposed(factors, rule, 0.5, seconds=1.0))
    assert min(found) >= exact
    if rule == cai.HARD:  # all in one region, and no KL to share
        assert min(found) == pytest.approx(exact, abs=0.02)


def test_what_cannot_be_decomposed_is_refused() -> None:
    pair = TimedPair(tuple(TimedWorld(seed, 2, 2, 1, 3, holes=False) for seed in (0, 1)))
    with pytest.raises(IntractableError, match="differ over time"):
        next(decomposed(cai.factorise(pair), cai.HARD))
    with pytest.raises(IntractableError, match="POSTERIOR with γ"):
        next(decomposed(cai.factorise(Machines(3, discount=0.8)), cai.POSTERIOR))
    with pytest.raises(cai.WorldError, match="HARD, VARIATIONAL or POSTERIOR"):
        next(decomposed(cai.factorise(Machines(3)), cai.MAP))

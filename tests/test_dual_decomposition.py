"""Bounds from parts of a world set free of each other, held to the exact values of small worlds."""

from itertools import pairwise

import numpy as np
import pytest

import cai
from cai.approximation.bounds.dual_decomposition import DualDecomposition, decomposed
from cai.errors import IntractableError
from tests.helpers import slow_after
from tests.test_factors import Machines
from tests.test_upper_bounds import possible
from tests.worlds import Ring, TimedPair, TimedWorld


@pytest.mark.parametrize("seed", slow_after(6, range(100)))
@pytest.mark.parametrize("temperature", [None, 0.5])
def test_the_bound_is_above_the_exact_value_at_any_prices(seed: int, temperature: float | None) -> None:
    factors, g = possible(seed), np.random.default_rng(seed)
    if temperature is not None and any(set(p.scope) & set(factors.states.names) for p in factors.at(0).prior.values()):
        temperature = None
    rule = cai.HARD if temperature is None else cai.VARIATIONAL
    exact = float(cai.solve(factors, rule, temperature=temperature or 1.0).value)
    for most in (60, 600):
        dual = DualDecomposition(factors, most, temperature)
        shape = (dual.T, dual.prices.shape[1])
        assert dual.bound(g.normal(size=shape)) >= exact
        assert dual.bound(dual.tightened(np.zeros(shape), 0.1, float("inf"))) >= exact


def test_the_gradient_is_how_far_the_regions_disagree() -> None:
    dual = DualDecomposition(cai.factorise(Machines(4)), 40, 0.5)
    g = np.random.default_rng(0)
    prices, along = (g.normal(size=(dual.T, dual.prices.shape[1])) for _ in range(2))
    _, gradient = dual.smoothed(prices, 0.3)
    up, down = (dual.smoothed(prices + by * along, 0.3)[0] for by in (1e-5, -1e-5))
    assert float((gradient * along).sum()) == pytest.approx((up - down) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_one_region_with_room_for_all_is_exact(discount: float) -> None:
    factors = cai.factorise(Machines(4, discount=discount))
    *_, last = decomposed(factors, seconds=5)
    assert last == pytest.approx(float(cai.solve(factors, cai.HARD).value), rel=0.02)


def test_prices_make_the_bound_tight() -> None:
    factors = cai.factorise(cai.load_world("sysadmin", {"n": 6, "horizon": 10}))
    exact = float(cai.solve(factors, cai.VARIATIONAL, temperature=0.5).value)
    dual = DualDecomposition(factors, 100, 0.5)
    prices = np.zeros((dual.T, dual.prices.shape[1]))
    bounds = [dual.bound(prices)]
    for tau in (0.03, 0.003):
        prices = dual.tightened(prices, tau, float("inf"))
        bounds.append(dual.bound(prices))
    assert all(a > b for a, b in pairwise(bounds))
    assert exact <= bounds[-1] <= 1.1 * exact


@pytest.mark.slow
def test_a_world_that_elimination_refuses_is_bounded() -> None:
    first, *_, last = decomposed(cai.factorise(Ring(40)), seconds=10)
    assert last < first


def test_what_cannot_be_decomposed_is_refused() -> None:
    pair = TimedPair(tuple(TimedWorld(seed, 2, 2, 1, 3, holes=False) for seed in (0, 1)))
    with pytest.raises(IntractableError, match="differ over time"):
        next(decomposed(cai.factorise(pair)))

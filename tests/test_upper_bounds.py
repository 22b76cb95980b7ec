"""Proved upper bounds on worlds of factors, held to the exact values and to every state of small worlds."""

import math
from typing import Any

import pytest
import torch

import cai
from cai.approximation.bounds import upper_bounds as bounds
from cai.approximation.bounds.local_fit import LocalFit
from cai.approximation.bounds.local_sums import LocalSum, value_at
from cai.approximation.bounds.max_elimination import maximum
from cai.compile.factor_model import Factor
from tests.helpers import slow_after
from tests.test_factors import Machines
from tests.worlds import FactoredWorld, Pair, RandomWorld, Ring


def world_of(seed: int) -> Any:
    """Return a random world of factors; every second one has forbidden actions and rewards of -inf."""
    if seed % 2:
        return FactoredWorld(seed)
    sizes = ((2, 2, 2), (3, 2, 1))
    return Pair(tuple(RandomWorld(2 * seed + i, *size, horizon=3) for i, size in enumerate(sizes)))  # type: ignore[arg-type]


def possible(seed: int) -> Any:
    """Return the factors of the first world, from a seed on in steps of 100, whose HARD value is not -inf."""
    while True:
        factors = cai.factorise(world_of(seed))
        try:
            cai.solve(factors, cai.HARD)
        except cai.ImpossibleError:  # there any number is a bound: nothing to be held to
            seed += 100
        else:
            return factors


@pytest.mark.parametrize("seed", slow_after(2, range(100)))
def test_bounds_are_above_the_exact_values_and_fall(seed: int) -> None:
    factors, alpha = possible(seed), 0.5
    exact = {None: float(cai.solve(factors, cai.HARD).value), alpha: float(cai.solve(factors, temperature=alpha).value)}
    assert exact[None] >= float(cai.solve(factors, cai.VARIATIONAL, temperature=alpha).value) - 1e-12
    for temperature, truth in exact.items():
        found = [one.value for one in bounds.upper_bounds(factors, temperature, seconds=0.25)]
        assert found == sorted(found, reverse=True)
        assert found[-1] >= truth
        assert not math.isnan(found[-1])


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_each_value_function_is_above_its_backup_in_every_state(discount: float) -> None:
    factors = cai.factorise(Machines(4, discount=discount))
    exact = cai.solve(factors, cai.HARD)
    *_, best = bounds.upper_bounds(factors, seconds=0.3)
    assert best.values
    states = {name: value.long() for name, value in factors.states.split(torch.arange(factors.states.size)).items()}
    operator = exact.operator
    values = [value_at(v, states).expand(factors.states.size) for v in best.values]
    for t in range(3):
        assert bool((values[t] >= operator.backup(t, values[t + 1])).all())
    assert best.value <= 1.1 * float(exact.value)


def test_weights_of_no_use_still_give_a_bound() -> None:
    factors = cai.factorise(Machines(4))
    backup = bounds.Backup(factors, None)
    q = backup.q(2, factors.terminal)
    fit = LocalFit([("m0",), ("m1", "m2")], factors.states.named_sizes, factors.actions.named_sizes, True)
    wrong: LocalSum = (Factor(("m0",), torch.tensor([-90.0, 7.0]).double()),)
    v, _, violation = fit.proved(wrong, q)
    states = {name: value.long() for name, value in factors.states.split(torch.arange(factors.states.size)).items()}
    assert violation > 0
    assert bool((value_at(v, states) >= fit.target(q, states)).all())


def test_a_maximum_of_tables_too_wide_is_bounded_from_above() -> None:
    g = torch.Generator().manual_seed(0)
    names = "abcdef"
    pairs = [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]
    pieces = [Factor(pair, torch.randn(3, 3, generator=g, dtype=torch.float64)) for pair in pairs]
    sizes = dict.fromkeys(names, 3)
    exact, split = maximum(pieces, sizes, ("a",)), maximum(pieces, sizes, ("a",), room=27)
    every = torch.cartesian_prod(*[torch.arange(3)] * 6)
    whole = value_at(pieces, {name: every[:, i] for i, name in enumerate(names)}).reshape(3, -1).amax(-1)
    assert exact.exact
    assert not split.exact
    torch.testing.assert_close(exact.upper, whole)
    assert bool((split.upper >= whole).all())
    torch.testing.assert_close(value_at(pieces, {**exact.where, "a": torch.arange(3)}), whole)


@pytest.mark.slow
def test_a_world_that_elimination_refuses_is_bounded() -> None:
    factors = cai.factorise(Ring(40))
    with pytest.raises(cai.IntractableError):
        cai.solve(factors, cai.HARD)
    first, *_, last = bounds.upper_bounds(factors, seconds=20)
    assert last.value < first.value - 0.1


def test_what_cannot_be_bounded_is_refused() -> None:
    with pytest.raises(cai.WorldError, match="infinite horizon"):
        next(bounds.upper_bounds(cai.factorise(Machines(3, None, 0.9))))
    with pytest.raises(cai.IntractableError, match="POSTERIOR"):
        next(bounds.upper_bounds(cai.factorise(Machines(3, discount=0.9)), 0.5))
    with pytest.raises(cai.WorldError, match="temperature"):
        next(bounds.upper_bounds(cai.factorise(Machines(3)), -1.0))

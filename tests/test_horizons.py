"""Long horizons of a stationary world: against the plain sweep, the Perron eigenvalue, and powers of a matrix."""

from dataclasses import replace

import mpmath
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import cai
from cai.exact.sweep import sweep
from cai.exact.tables.table_operator import TableOperator
from tests.helpers import examples, load_model, slow_after
from tests.oracles.endless import DIGITS, Endless
from tests.worlds import RandomWorld, TimedWorld

RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(3.0), cai.RISK(-2.0)]
HORIZONS = [200, 1, 201, 17]


def plain(tables: cai.Tables, rule: cai.Rule, alpha: float, last: int) -> torch.Tensor:
    """Return v with n steps to go at row n, by the sweep."""
    alpha_ = torch.tensor(alpha, dtype=torch.float64)
    return sweep(TableOperator(replace(tables, horizon=last), rule, alpha_)).flip(0)


def assert_equal_to_the_sweep(tables: cai.Tables, rule: cai.Rule, alpha: float, horizons: list[int]) -> None:
    found = cai.solve_horizons(tables, horizons, rule, temperature=alpha)
    swept = plain(tables, rule, alpha, max(horizons))
    for T, v, bound in zip(horizons, found.v, found.error_bound, strict=True):
        off = torch.where(v == swept[T], 0.0, (v - swept[T]).abs()).max()
        assert float(off) <= float(bound) * 2  # the sweep rounds as well
        assert float(bound) < 1e-8


@pytest.mark.parametrize("rule", slow_after(3, RULES), ids=str)
@examples(4)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.sampled_from([1.0, 0.9]), st.sampled_from([0.1, 1.0]))
def test_every_horizon_is_that_of_the_sweep(rule, seed: int, holes: bool, discount: float, alpha: float) -> None:
    tables = cai.tabulate(RandomWorld(seed=seed, S=4, A=2, K=2, horizon=3, holes=holes, discount=discount))
    try:
        assert_equal_to_the_sweep(tables, rule, alpha, HORIZONS)
    except cai.ImpossibleError:
        swept = plain(tables, rule, alpha, 201)
        starts = swept[torch.tensor(HORIZONS)][:, tables.log_initial > -torch.inf]
        assert bool((starts == -torch.inf).any())


def deterministic(successor: list[list[int]], reward: list[list[float]]) -> RandomWorld:
    """A world of S states and A actions in which nothing is left to chance but the start."""
    to = torch.tensor(successor)
    S, A = to.shape
    world = RandomWorld(seed=0, S=S, A=A, K=1, horizon=5, holes=False)
    world.successor, world.outcome = to[None, :, :, None], torch.ones(1, S, A, 1, dtype=torch.float64)
    world.reward = torch.tensor(reward, dtype=torch.float64)[None, :, :, None]
    return world


def ring(n: int) -> RandomWorld:
    """A walk round n states, one way; each pays its own number."""
    return deterministic([[(s + 1) % n] for s in range(n)], [[s / n] for s in range(n)])


@pytest.mark.parametrize("n", slow_after(2, [1, 5, 2, 3, 7, 12]))
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.HARD, cai.RISK(-1.0)], ids=str)
def test_a_ring_grows_by_the_same_with_every_round(rule, n: int) -> None:
    tables = cai.tabulate(ring(n))
    assert_equal_to_the_sweep(tables, rule, 0.5, list(range(395, 401)))
    found = cai.solve_horizons(tables, 10**9, rule)
    assert found.sweeps < 100 + n
    torch.testing.assert_close(found.rate, torch.full((n,), (n - 1) / 2 / n, dtype=torch.float64))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_states_that_grow_at_different_rates_are_told_apart(rule) -> None:
    """0 and 1 each stay for ever, at 0 and 0.5 a step; 2 goes to either, 3 only to 0; 4 loses and may escape to 2."""
    world = deterministic([[0, 0], [1, 1], [0, 1], [0, 3], [4, 2]], [[0, 0], [0.5, 0.5], [2, -3], [1, -4], [-1, -2]])
    tables = cai.tabulate(world)
    assert_equal_to_the_sweep(tables, rule, 0.4, [399, 400])
    found = cai.solve_horizons(tables, 10**7, rule, temperature=0.4)
    paid = 0.4 * world.prior[0].log().amax(-1) if rule in (cai.MAP, cai.PLANNING) else torch.zeros(5)
    slow, fast = float(paid[0]), 0.5 + float(paid[1])
    assert found.rate.tolist() == pytest.approx([slow, fast, fast, slow, fast], abs=1e-12)
    assert found.sweeps < 2000


def test_where_growth_never_settles_the_sweep_goes_on() -> None:
    """A thousandth leaves a state for one that grows as fast: v is n c + α log n, and no rate is the last word."""
    world = deterministic([[0, 1], [1, 1]], [[-0.5, -0.5], [-0.5, -0.5]])
    world.prior = torch.tensor([[[0.999, 0.001], [0.999, 0.001]]], dtype=torch.float64)
    world.reward[0, 1] += float(torch.tensor(0.999, dtype=torch.float64).log())
    tables = cai.tabulate(world)
    found = cai.solve_horizons(tables, 700)
    assert found.sweeps >= 700
    assert found.rate is None
    torch.testing.assert_close(found.v[0], plain(tables, cai.POSTERIOR, 1.0, 700)[700], rtol=1e-12, atol=1e-12)


def test_a_trajectory_that_must_end_in_one_state() -> None:
    """A terminal reward of -inf: which states are possible alternates with the horizon."""
    world = ring(2)
    world.last = torch.tensor([0.25, -torch.inf], dtype=torch.float64)
    world.start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    tables = cai.tabulate(world)
    found = cai.solve_horizons(tables, [10**6, 10, 10**6 + 2])
    assert found.log_evidence.tolist() == pytest.approx([250000.25, 2.75, 250000.75], rel=1e-14)
    assert (found.v[:, 1] == -torch.inf).all()
    with pytest.raises(cai.ImpossibleError, match=r"1,000,001 steps.*terminal"):
        cai.solve_horizons(tables, [10, 10**6 + 1])


def gains(tables: cai.Tables, alpha: float) -> torch.Tensor:
    """Return M(s, s') = Σ p(a|s) p(outcome|s,a) exp(r/α)."""
    S = tables.states.size
    weights = tables.log_prior.softmax(-1)[..., None] * tables.log_prob.softmax(-1) * (tables.reward / alpha).exp()
    return weights.new_zeros(S, S).scatter_add(-1, tables.successor.flatten(1), weights.flatten(1))


@pytest.mark.parametrize("seed", range(6))
def test_the_rate_is_the_perron_eigenvalue(seed: int) -> None:
    tables = cai.tabulate(RandomWorld(seed=seed, S=6, A=3, K=3, horizon=3, holes=False))
    found = cai.solve_horizons(tables, 10**6, temperature=0.7)
    largest = torch.linalg.eigvals(gains(tables, 0.7)).abs().max()
    assert float(found.rate.max()) == pytest.approx(0.7 * float(largest.log()), abs=1e-13)
    assert found.sweeps < 1000


@pytest.mark.parametrize("seed", slow_after(1, range(4)))
@pytest.mark.parametrize("alpha", [0.05, 1.0, 300.0])
def test_the_bound_is_a_bound_in_arbitrary_precision(seed: int, alpha: float) -> None:
    """β with T steps to go is a power of a matrix times the last β; here with 60 digits."""
    mpmath.mp.dps = 60
    tables = cai.tabulate(RandomWorld(seed=seed, S=3, A=2, K=2, horizon=3, holes=False))
    horizons = [3, 10**4, 10**7]
    found = cai.solve_horizons(tables, horizons, temperature=alpha)
    M, last = _exact(tables, mpmath.mpf(alpha))
    for T, v, bound in zip(horizons, found.v, found.error_bound, strict=True):
        beta = M**T * last
        off = max(abs(mpmath.mpf(float(x)) - mpmath.mpf(alpha) * mpmath.log(b)) for x, b in zip(v, beta, strict=True))
        assert off <= float(bound) < 2e-12 * T


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e8])
def test_far_horizons_are_as_good_in_whatever_unit(size: float) -> None:
    mpmath.mp.dps = 60
    world, T = RandomWorld(seed=3, S=4, A=2, K=2, horizon=3, holes=False), 10**4
    world.reward, world.last = world.reward * size, world.last * size
    tables = cai.tabulate(world)
    found = cai.solve_horizons(tables, T, temperature=0.7 * size)
    M, last = _exact(tables, mpmath.mpf(0.7 * size))
    truth = [mpmath.mpf(0.7 * size) * mpmath.log(b) for b in M**T * last]
    off = max(abs(mpmath.mpf(float(x)) - y) for x, y in zip(found.v[0], truth, strict=True))
    assert off <= float(found.error_bound) < 1e-8 * max(size, *(abs(float(y)) for y in truth))
    assert 5 < found.sweeps < 400
    asked = cai.solve_horizons(tables, T, temperature=0.7 * size, tolerance=0.1 * size)
    assert asked.sweeps < found.sweeps


@pytest.mark.parametrize("rule", slow_after(3, RULES), ids=str)
@settings(max_examples=3, phases=[Phase.generate])
@given(st.integers(0, 2**31 - 1), st.floats(-12, 8), st.floats(-6, 6), st.sampled_from([1.0, 0.9]))
def test_the_bound_holds_for_v_and_for_the_start_value_at_every_scale(
    rule: cai.Rule, seed: int, size: float, heat: float, gamma: float
) -> None:
    mpmath.mp.dps = DIGITS
    world = RandomWorld(seed=seed, S=3, A=2, K=2, horizon=3, holes=False, discount=gamma)
    world.reward *= 10**size
    world.last *= 10**size
    tables, horizons = cai.tabulate(world), [1, 5, 30]
    found = cai.solve_horizons(tables, horizons, rule, temperature=10**heat, tolerance=0.0)
    oracle = Endless(tables, str(rule), 10**heat)
    v = [mpmath.mpf(r) for r in tables.terminal.tolist()]
    for n in range(1, 31):
        v = [one[0] for one in oracle.backup(v)]
        if n in horizons:
            i = horizons.index(n)
            bound = float(found.error_bound[i])
            assert max(abs(mpmath.mpf(x) - w) for x, w in zip(found.v[i].tolist(), v, strict=True)) <= bound
            assert abs(mpmath.mpf(float(found.value[i])) - oracle.start(v, tables.log_initial)) <= bound
            assert bound < 1e-11 * max(10**size, *(abs(float(w)) for w in v))


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_holds_where_the_start_alone_is_costly(seed: int) -> None:
    """One action, one outcome, so that v is small; under MAP the start value is α log p(s_0) and more."""
    mpmath.mp.dps = DIGITS
    tables = cai.tabulate(RandomWorld(seed=seed, S=3, A=1, K=1, horizon=1, holes=False))
    found, oracle = cai.solve_horizons(tables, 1, cai.MAP, temperature=1e5), Endless(tables, "MAP", 1e5)
    v = [one[0] for one in oracle.backup([mpmath.mpf(r) for r in tables.terminal.tolist()])]
    off = abs(mpmath.mpf(float(found.value)) - oracle.start(v, tables.log_initial))
    assert off <= float(found.error_bound) < 1e-8


def _exact(tables: cai.Tables, alpha: mpmath.mpf) -> tuple[mpmath.matrix, mpmath.matrix]:
    S = tables.states.size

    def normal(logs: torch.Tensor) -> list[mpmath.mpf]:
        weights = [mpmath.exp(mpmath.mpf(float(x))) for x in logs]
        return [w / mpmath.fsum(weights) for w in weights]

    M = mpmath.matrix(S, S)
    for s in range(S):
        for a, p in enumerate(normal(tables.log_prior[s])):
            for k, w in enumerate(normal(tables.log_prob[s, a])):
                M[s, int(tables.successor[s, a, k])] += (
                    p * w * mpmath.exp(mpmath.mpf(float(tables.reward[s, a, k])) / alpha)
                )
    return M, mpmath.matrix([mpmath.exp(mpmath.mpf(float(r)) / alpha) for r in tables.terminal])


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD], ids=str)
def test_a_grid_with_an_absorbing_goal(rule) -> None:
    tables = cai.tabulate(load_model("grid")(rows=20, columns=20, step_reward=-1.0))
    found = cai.solve_horizons(tables, [1000, 10**6], rule, temperature=0.1)
    torch.testing.assert_close(found.v[0], plain(tables, rule, 0.1, 1000)[1000], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.v[1], found.v[0], rtol=1e-12, atol=1e-12)
    assert found.rate.tolist() == [0.0] * 400
    assert found.sweeps < 500


def test_nats_belong_to_their_rule() -> None:
    world = ring(3)
    posterior = cai.solve_horizons(world, 5, temperature=0.5)
    alone = cai.solve(world, temperature=0.5)
    assert float(posterior.log_evidence) == pytest.approx(float(alone.log_evidence), abs=1e-13)
    variational = cai.solve_horizons(world, [5], cai.VARIATIONAL, temperature=0.5)
    assert float(variational.elbo) == pytest.approx(float(cai.solve(world, cai.VARIATIONAL, temperature=0.5).elbo))
    with pytest.raises(AttributeError, match="belongs to POSTERIOR"):
        variational.log_evidence  # noqa: B018
    assert repr(posterior).startswith("HorizonValues(POSTERIOR at (5,), after ")


def test_a_world_without_a_horizon_will_do() -> None:
    endless = RandomWorld(seed=3, S=3, A=2, K=2, horizon=None, holes=False, discount=0.9, positive=False)
    found = cai.solve_horizons(endless, 10**6, cai.VARIATIONAL)
    for_ever = cai.solve(endless, cai.VARIATIONAL)
    off = float((found.v[0] - for_ever.v).abs().max())
    assert off <= for_ever.error_bound + float(found.error_bound[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"horizons": 0}, "horizons"),
        ({"horizons": []}, "horizons"),
        ({"horizons": [3, -1]}, "whole numbers"),
        ({"horizons": True}, "horizons"),
        ({"horizons": 5, "tolerance": -1.0}, "tolerance"),
        ({"horizons": 5, "temperature": torch.tensor([1.0, 2.0])}, "one number"),
        ({"horizons": 5, "temperature": 0.0}, "temperature"),
    ],
)
def test_wrong_arguments_are_named(arguments, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.solve_horizons(ring(2), **arguments)


def test_what_is_not_one_stationary_world_is_refused() -> None:
    with pytest.raises(cai.WorldError, match="differ over time"):
        cai.solve_horizons(TimedWorld(seed=0, S=2, A=2, K=1, horizon=3), 5)
    with pytest.raises(cai.WorldError, match="batch"):
        cai.solve_horizons(cai.stack([cai.tabulate(ring(2))] * 2), 5)

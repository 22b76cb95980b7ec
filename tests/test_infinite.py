"""The infinite horizon: the fixed point, its proved bound, and policies evaluated over a lifetime."""

import math
from dataclasses import replace

import mpmath
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import cai
from cai.exact.fixed_point import Search
from cai.exact.tables.chain import DENSE, chain_of
from cai.exact.tables.table_operator import TableOperator
from tests.helpers import examples, load_model, slow_after
from tests.oracles.endless import DIGITS, Endless
from tests.worlds import RandomWorld

RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(3.0)]


def endless(seed: int, discount: float = 0.8) -> RandomWorld:
    return RandomWorld(seed=seed, S=3, A=2, K=2, horizon=None, holes=False, discount=discount, positive=False)


@pytest.mark.parametrize("rule", slow_after(3, RULES), ids=str)
@examples(6)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.2, 1.0]))
def test_the_fixed_point_is_the_limit_of_long_horizons_within_its_bound(rule, seed: int, alpha: float) -> None:
    tables = cai.tabulate(endless(seed))
    found = cai.solve(tables, rule, temperature=alpha)
    # A finite horizon that outlives the discount: 0.8^400 is 1e-39.
    long = cai.solve(
        replace(tables, horizon=400, terminal=torch.zeros(3, dtype=torch.float64)), rule, temperature=alpha
    )
    assert found.error_bound < 1e-9
    assert float((found.v - long.v[0]).abs().max()) <= found.error_bound + 1e-12
    assert found.v.shape == (3,)
    assert found.q().shape == (3, 2)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_the_bound_is_a_bound_in_arbitrary_precision(rule, alpha: float) -> None:
    mpmath.mp.dps = 50
    world = endless(12, 0.9)
    tables = cai.tabulate(world)
    found = cai.solve(tables, rule, temperature=alpha)
    truth = _exact_fixed_point(tables, rule is cai.POSTERIOR, mpmath.mpf(alpha))
    error = max(abs(float(mpmath.mpf(float(v)) - w)) for v, w in zip(found.v, truth, strict=True))
    assert error <= found.error_bound < 1e-9


def _exact_fixed_point(tables: cai.Tables, posterior: bool, alpha: mpmath.mpf) -> list[mpmath.mpf]:
    """Iterate the textbook equations on the tables' own numbers, normalised, with 50 digits."""
    S, A, K = tables.log_prob.shape
    gamma = mpmath.mpf(tables.discount)

    def normal(logs: torch.Tensor) -> list[mpmath.mpf]:
        weights = [mpmath.exp(mpmath.mpf(float(x))) for x in logs]
        return [w / mpmath.fsum(weights) for w in weights]

    def soft(w: list, x: list) -> mpmath.mpf:
        return alpha * mpmath.log(mpmath.fsum(p * mpmath.exp(y / alpha) for p, y in zip(w, x, strict=True)))

    def mean(w: list, x: list) -> mpmath.mpf:
        return mpmath.fsum(p * y for p, y in zip(w, x, strict=True))

    over = soft if posterior else mean
    prior = [normal(tables.log_prior[s]) for s in range(S)]
    p = [[normal(tables.log_prob[s, a]) for a in range(A)] for s in range(S)]
    v = [mpmath.mpf(0)] * S
    for _ in range(400):  # 0.9^400 is 5e-19
        c = [over([gamma, 1 - gamma], [value, mpmath.mpf(0)]) for value in v]

        def q(s: int, a: int, c: list = c) -> mpmath.mpf:
            outcomes = [mpmath.mpf(float(tables.reward[s, a, k])) + c[int(tables.successor[s, a, k])] for k in range(K)]
            return over(p[s][a], outcomes)

        v = [soft(prior[s], [q(s, a) for a in range(A)]) for s in range(S)]
    return v


@pytest.mark.parametrize("form", ["tables", "factors"])
@pytest.mark.parametrize("rule", slow_after(3, [*RULES, cai.RISK(-2.0)]), ids=str)
@settings(max_examples=3, phases=[Phase.generate])
@given(
    st.integers(0, 2**31 - 1),
    st.floats(-12, 8),
    st.floats(-6, 6),
    st.sampled_from([0.5, 0.9, 0.99, 0.999]),
    st.integers(1, 3),
)
def test_every_bound_holds_against_60_digits_at_every_scale(
    rule, form: str, seed: int, size: float, heat: float, gamma: float, S: int
) -> None:
    mpmath.mp.dps = DIGITS
    world = RandomWorld(seed=seed, S=S, A=2, K=2, horizon=None, holes=False, discount=gamma, positive=False)
    world.reward *= 10**size
    alpha = 10**heat
    oracle = Endless(cai.tabulate(world), str(rule), alpha)
    try:
        found = cai.solve(world, rule, temperature=alpha, form=form)
    except cai.NotConvergedError:
        assert rule not in (cai.VARIATIONAL, cai.HARD)  # a contraction, always
        if rule is cai.MAP:
            assert oracle.settled() != [one[0] for one in oracle.backup(oracle.settled())]
        return
    truth = oracle.settled() if rule is cai.MAP else oracle.solve([mpmath.mpf(v) for v in found.v.tolist()])
    error = max(abs(float(mpmath.mpf(v) - w)) for v, w in zip(found.v.tolist(), truth, strict=True))
    scale = max(10**size, *(abs(float(w)) for w in truth))
    heat_counts = form == "factors" and rule not in (cai.VARIATIONAL, cai.HARD)  # plain logarithms
    assert error <= found.error_bound < 1e-8 * max(scale, alpha if heat_counts else 0)
    assert found.error_bound <= scale


@pytest.mark.parametrize("form", ["tables", "factors"])
def test_the_best_path_may_end_at_once(form: str) -> None:
    """One state that pays nothing: every step that is survived costs α log γ, the last one α log(1 - γ)."""
    world = RandomWorld(seed=0, S=1, A=1, K=1, horizon=None, holes=False, discount=0.9)
    world.reward[:] = 0.0
    found = cai.solve(world, cai.MAP, form=form)
    assert float(found.v) == pytest.approx(math.log(0.1), abs=1e-15)
    assert found.iterations <= 8
    world.reward[:] = 0.2  # more than -log γ = 0.105
    with pytest.raises(cai.NotConvergedError, match=r"infinite: values still rise by 0.0946 after S = 1 sweeps"):
        cai.solve(world, cai.MAP, form=form)
    world.reward[:] = -math.log(0.9)
    with pytest.raises(cai.NotConvergedError, match="costs nothing, as far as rounding"):
        cai.solve(world, cai.MAP, form=form)


@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD, cai.POSTERIOR], ids=str)
def test_a_discount_near_one_is_no_obstacle(rule) -> None:
    found = cai.solve(endless(13, 1 - 1e-6), rule)
    assert found.iterations <= 2000
    assert found.error_bound < 1e-3 * float(found.v.abs().max())
    if rule is not cai.POSTERIOR:
        assert cai.evaluate(endless(13, 1 - 1e-6), found).occupancy.sum() == pytest.approx(1e6, rel=1e-6)


def test_posterior_equals_the_dense_linear_system() -> None:
    """In β the posterior's fixed point is linear: β = M β + b, solved here by torch.linalg."""
    world = endless(3)
    alpha = 0.7
    gain = world.prior[0][:, :, None] * world.outcome[0] * (world.reward[0] / alpha).exp()
    M = torch.zeros(3, 3, dtype=torch.float64)
    for s in range(3):
        M[s].index_add_(0, world.successor[0, s].reshape(-1), gain[s].reshape(-1))
    beta = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - 0.8 * M, 0.2 * M.sum(-1))
    v = cai.solve(world, temperature=alpha).v
    torch.testing.assert_close(v, alpha * beta.log(), rtol=1e-12, atol=1e-12)


def test_policy_evaluation_equals_the_dense_linear_system() -> None:
    world = endless(4)
    pi = torch.rand(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pi = pi / pi.sum(-1, keepdim=True)
    joint = pi[:, :, None] * world.outcome[0]
    P = torch.zeros(3, 3, dtype=torch.float64)
    for s in range(3):
        P[s].index_add_(0, world.successor[0, s].reshape(-1), joint[s].reshape(-1))
    r = (joint * world.reward[0]).sum((-1, -2))
    v = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - 0.8 * P, r)
    found = cai.evaluate(world, pi)
    assert found.expected_return == pytest.approx(float(world.start @ v), abs=1e-12)
    d = torch.linalg.solve((torch.eye(3, dtype=torch.float64) - 0.8 * P).T, world.start)
    torch.testing.assert_close(found.occupancy.sum(-1), d, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("policy", [None, cai.POSTERIOR, cai.VARIATIONAL, cai.HARD])
def test_the_decompositions_hold_over_a_lifetime(policy) -> None:
    world = endless(5)
    acting = policy if policy is None else cai.solve(world, policy)
    one = cai.evaluate(world, acting)
    assert float(one.policy_nats.sum()) == pytest.approx(one.optimality_gap, abs=1e-9)
    total = one.start_nats + float(one.action_nats.sum()) + float(one.luck_nats.sum())
    assert total == pytest.approx(one.evidence_gap, abs=1e-9)


def test_infinite_evidence_is_refused_with_its_reason() -> None:
    world = endless(6)
    world.reward += 5.0
    with pytest.raises(cai.NotConvergedError, match="outweigh the chance"):
        cai.solve(world)


def test_slices_that_read_the_time_are_refused() -> None:
    class Clocked(RandomWorld):
        def step(self, state, action, t):
            return self._slice(state, action, t * 0)

    with pytest.raises(cai.WorldError, match="read t"):
        cai.solve(Clocked(seed=0, S=2, A=2, K=2, horizon=None, discount=0.9))


def test_marginals_count_the_expected_visits() -> None:
    world = endless(7)
    messages = cai.solve(world)
    drawn = messages.sample(4000, steps=60, generator=torch.Generator().manual_seed(0))
    visits = drawn.alive[:, :-1].double().sum() / 4000
    assert float(messages.marginals().sum()) == pytest.approx(float(visits), rel=0.1)
    with pytest.raises(cai.WorldError, match="steps"):
        messages.sample(3)


@pytest.mark.parametrize("seed", range(12))
def test_a_forbidden_reward_costs_only_who_can_come_to_it(seed: int) -> None:
    world = RandomWorld(seed=seed, S=6, A=2, K=2, horizon=None, holes=False, discount=0.9)
    world.successor[0, :4] %= 4  # the first four states are closed
    world.reward[0, 5] = -torch.inf
    v = cai.evaluate(world, None).v
    assert bool(v[:4].isfinite().all())
    assert float(v[5]) == -torch.inf


# Beyond the dense size: Anderson's acceleration, and lifetimes summed where they are not solved.


def wide(**changes) -> cai.Tables:
    settings = {"rows": 40, "columns": 40, "horizon": None, "discount": 0.99, "step_reward": -0.01, **changes}
    tables = cai.tabulate(load_model("grid")(**settings))
    assert tables.states.size > DENSE
    return tables


@pytest.mark.parametrize(("rule", "fewer"), [(cai.POSTERIOR, 2), (cai.VARIATIONAL, 5), (cai.HARD, 0.6)], ids=str)
def test_a_large_world_is_solved_in_fewer_backups_within_its_bound(rule, fewer: float) -> None:
    """HARD spreads from the goal cell by cell: no mixing hurries it, and some steps are spent in vain."""
    tables, alpha = wide(), torch.tensor(1.0, dtype=torch.float64)
    found = cai.solve(tables, rule)
    plain, v, change = Search(TableOperator(tables, rule, alpha)), torch.zeros_like(tables.terminal), 1.0
    while change > plain.rounding(v):
        before, v = v, plain.backup(v)
        change = float((v - before).abs().max())
    assert found.iterations * fewer < plain.backups
    assert float((found.v - v).abs().max()) <= found.error_bound + 100 * plain.rounding(v)
    assert found.error_bound < 1e-9


def test_a_large_world_that_is_worth_nothing_has_no_fixed_point() -> None:
    """-inf spreads one cell a backup: plain steps, until it has come to rest."""
    tables = wide(goals=[(39, 39, -float("inf"))])
    v = cai.solve(tables, cai.VARIATIONAL).v
    assert bool(v[:-42].isfinite().all())
    assert v.isinf().sum() < 5


def test_visits_of_a_large_world_are_those_of_many_steps() -> None:
    messages = cai.solve(wide(discount=0.9), cai.POSTERIOR, temperature=0.5)
    visits, d = torch.zeros(1600, dtype=torch.float64), messages.initial()
    chain = chain_of(messages.tilt(), torch.ones(1600, dtype=torch.bool))
    for _ in range(400):
        visits, d = visits + d, chain.push(d)
    torch.testing.assert_close(messages.marginals().sum(-1), visits, rtol=1e-10, atol=1e-13)
    assert bool((messages.marginals() >= 0).all())
    assert float(cai.evaluate(wide(), None).occupancy.sum()) == pytest.approx(100, rel=1e-11)


def test_gradients_of_a_large_world_are_differences() -> None:
    tables = wide(discount=0.95)
    reward = tables.reward.clone().requires_grad_()
    cai.solve(replace(tables, reward=reward), temperature=0.5).log_evidence.backward()
    weight = torch.rand(reward.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    up, down = (cai.solve(replace(tables, reward=tables.reward + e * weight), temperature=0.5) for e in (1e-5, -1e-5))
    slope = float(up.log_evidence - down.log_evidence) / 2e-5
    assert float((reward.grad * weight).sum()) == pytest.approx(slope, rel=1e-6)

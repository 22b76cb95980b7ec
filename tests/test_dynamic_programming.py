"""Dynamic programming: published values, bounds proved in arbitrary precision, laws of improvement, and termination."""

from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import mpmath
import numpy as np
import pyro
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.learn.dynamic_programming import (
    Solution,
    policy_evaluation,
    policy_iteration,
    value_iteration,
)
from tests.helpers import examples, load_model
from tests.oracles.endless import DIGITS, Endless
from tests.test_published import UNIFORM, Puterman, Teleports, printed
from tests.worlds import RandomWorld, TimedWorld, temperatures

HARD = [value_iteration, policy_iteration]
SOFT = [partial(value_iteration, temperature=1.0), partial(policy_iteration, temperature=1.0)]
POLICIES = [HARD[1], SOFT[1]]
ALL = [policy_evaluation, *HARD, *SOFT]
GAMMA = 0.6
seeds = st.integers(0, 2**31 - 1)


def endless(seed: int, holes: bool = True, S: int = 3) -> RandomWorld:
    return RandomWorld(seed=seed, S=S, A=2, K=2, horizon=None, holes=holes, discount=GAMMA)


class Listed:
    """A world read off lists: ``chance[s][a][s']``, ``reward[s][a]``; an action without a row is forbidden."""

    horizon = 5

    def __init__(self, chance: list, reward: list) -> None:
        self.allowed = torch.tensor([[float(sum(row) > 0) for row in rows] for rows in chance])
        rows = torch.tensor(chance, dtype=torch.float64)
        rows[..., 0] = torch.where(rows.sum(-1) > 0, rows[..., 0], 1.0)
        self.chance, self.reward = rows, torch.tensor(reward, dtype=torch.float64)

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.ones(len(self.chance))))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(logits=self.allowed[state].log()))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        following = pyro.sample("s", Categorical(logits=self.chance[state, action].log()))
        return following, self.reward[state, action]


SMALL = Listed([[[0.5, 0.5], [0.0, 1.0]], [[0.8, 0.2], [0.1, 0.9]]], [[5.0, 10.0], [-1.0, 2.0]])


# Published values.


@pytest.mark.parametrize("learn", HARD)
def test_the_small_example_of_mdptoolbox(learn) -> None:
    """pymdptoolbox, ``example.small()`` at γ = .9: V = (42.4418604651, 36.0465116279), policy (1, 0)."""
    found = learn(SMALL, gamma=0.9, tolerance=1e-11)
    assert found.v.tolist() == printed([42.4418604651, 36.0465116279], 10)
    assert found.policy.probs().tolist() == [[0, 1], [1, 0]]


def test_the_sweeps_of_mdptoolbox() -> None:
    """pymdptoolbox, ``ValueIteration(P, R, 0.9)``: V = (40.048625392716815, 33.65371175967546) after 26 sweeps.

    https://pymdptoolbox.readthedocs.io/en/latest/api/mdp.html
    """
    found = value_iteration(SMALL, gamma=0.9, max_iterations=26)
    assert found.v.tolist() == pytest.approx([40.048625392716815, 33.65371175967546], abs=1e-13)
    assert (found.iterations, found.stopped) == (26, "iterations")
    assert found.error_bound >= 42.4418604651 - 40.048625392716815


@pytest.mark.parametrize("gamma", [0.95, 0.513])
@pytest.mark.parametrize("learn", HARD)
def test_the_test_domains_of_msdm(learn, gamma: float) -> None:
    """msdm, ``msdm/tests/domains``: GeometricCounter, Puterman's example 9.1.1, DeterministicUnreachableCounter.

    https://github.com/markkho/msdm: an absorbing state is tied between all actions, a state may never be reached.
    """
    p = 1 / 13
    counter = learn(Listed([[[1 - p, p], [1, 0]], [[0, 1], [0, 1]]], [[-1, -1], [0, 0]]), gamma=gamma)
    assert counter.v.tolist() == pytest.approx([-1 / (1 - (1 - p) * gamma), 0], abs=counter.error_bound + 1e-14)
    assert counter.policy.probs().tolist() == [[1, 0], [0.5, 0.5]]

    one, two, three = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    puterman = learn(Listed([[one, two], [two, three], [three, [0, 0, 0]]], [[3, 1], [0, 1], [2, 0]]), gamma=gamma)
    forever = 1 / (1 - gamma)
    wanted = [3 * forever, 1 + gamma * 2 * forever, 2 * forever]
    assert puterman.v.tolist() == pytest.approx(wanted, abs=puterman.error_bound + 1e-14)
    assert puterman.policy.probs().tolist() == [[1, 0], [0, 1], [1, 0]]

    up, down = np.eye(5)[[1, 2, 3, 3, 4]], np.eye(5)[[0, 0, 1, 3, 4]]  # 4 goes nowhere, and nothing goes there
    lonely = learn(Listed(np.stack([up, down], 1).tolist(), [[-1, -1]] * 3 + [[0, 0], [-1, -1]]), gamma=gamma)
    wanted = [-1 - gamma - gamma**2, -1 - gamma, -1, 0, -forever]
    assert lonely.v.tolist() == pytest.approx(wanted, abs=lonely.error_bound + 1e-14)
    assert lonely.policy.probs()[:, 0].tolist() == [1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("learn", HARD)
def test_puterman_with_a_forbidden_reward(learn) -> None:
    """Puterman (2005), section 6.2.1: v = (-8.57142857, -20); the second action of the second state is worth -inf."""
    found = learn(Puterman(), tolerance=1e-10)
    assert found.v.tolist() == printed([-8.57142857, -20.0], 8)
    assert found.policy.probs().tolist() == [[1, 0], [1, 0]]
    assert found.q[1, 1] == -torch.inf


def test_the_uniform_policy_of_sutton_and_barto() -> None:
    """Sutton & Barto (2018), figure 3.2: the uniform policy's values at γ = .9, all 25 cells."""
    for row, wanted in zip(policy_evaluation(Teleports()).v.reshape(5, 5).tolist(), UNIFORM, strict=True):
        assert row == printed(wanted, 1)


# Bounds, against 50 digits and against every deterministic policy.


def in_50_digits(world: RandomWorld, alpha: float | None, pi: Tensor | None = None) -> list[mpmath.mpf]:
    """Iterate the textbook equations from v = 0, .6^140 = 9e-32; the soft ones at ``alpha``, a policy's where given."""
    mpmath.mp.dps = 50
    S, A, K = world.successor.shape[1:]
    mpf, low = mpmath.mpf, mpmath.mpf("-inf")

    def normal(weights: Tensor) -> list:
        w = [mpf(float(x)) for x in weights]
        return [x / mpmath.fsum(w) for x in w]

    prior = [normal(world.prior[0, s]) for s in range(S)]
    chance = [[normal(world.outcome[0, s, a]) for a in range(A)] for s in range(S)]
    acting = None if pi is None else [normal(pi[s]) for s in range(S)]
    reward = [[[mpf(float(world.reward[0, s, a, k])) for k in range(K)] for a in range(A)] for s in range(S)]

    def q(v: list, s: int, a: int) -> mpmath.mpf:
        terms = []
        for k in range(K):
            if chance[s][a][k] > 0:
                following = reward[s][a][k] + mpf(GAMMA) * v[int(world.successor[0, s, a, k])]
                terms.append(following * chance[s][a][k] if following > low else low)
        return low if low in terms else mpmath.fsum(terms)

    def backup(v: list, s: int) -> mpmath.mpf:
        actions = [a for a in range(A) if (prior[s][a] if acting is None else acting[s][a]) > 0]
        qs = [q(v, s, a) for a in actions]
        if acting is not None:
            if low in qs:
                return low
            price = [0 if alpha is None else alpha * mpmath.log(acting[s][a] / prior[s][a]) for a in actions]
            return mpmath.fsum(acting[s][a] * (x - c) for a, x, c in zip(actions, qs, price, strict=True))
        if alpha is None or max(qs) == low:
            return max(qs)
        total = mpmath.fsum(prior[s][a] * mpmath.exp(x / alpha) for a, x in zip(actions, qs, strict=True) if x > low)
        return alpha * mpmath.log(total)

    v = [mpf(0)] * S
    for _ in range(140):
        v = [backup(v, s) for s in range(S)]
    return v


def assert_within_bound(found: Solution, truth: list[mpmath.mpf]) -> None:
    for v, w in zip(found.v.tolist(), truth, strict=True):
        if mpmath.isinf(w):
            assert v == -float("inf") or found.error_bound == float("inf")
        else:
            assert abs(float(mpmath.mpf(v) - w)) <= found.error_bound


@pytest.mark.parametrize("learn", HARD)
@examples(4)
@given(seeds, st.booleans())
def test_the_bound_holds_after_every_iteration(learn, seed: int, holes: bool) -> None:
    world = endless(seed, holes)
    tables, truth = cai.tabulate(world), in_50_digits(world, None)
    for n in (1, 2, 3, 5, 20, 200):
        assert_within_bound(learn(tables, tolerance=0.0, max_iterations=n), truth)


@pytest.mark.parametrize("learn", SOFT)
@examples(4)
@given(seeds, st.booleans(), st.sampled_from([1e-3, 0.3, 1.0, 7.0, 1e4]))
def test_the_soft_bound_holds_after_every_iteration(learn, seed: int, holes: bool, alpha: float) -> None:
    world = endless(seed, holes)
    tables, truth = cai.tabulate(world), in_50_digits(world, alpha)
    for n in (1, 2, 3, 5, 20, 200):
        assert_within_bound(learn(tables, temperature=alpha, tolerance=0.0, max_iterations=n), truth)


@examples(4)
@given(seeds, st.booleans(), st.sampled_from([None, 1e-3, 1.0, 1e4]))
def test_the_bound_of_an_evaluation_holds_after_every_sweep(seed: int, holes: bool, alpha: float | None) -> None:
    world = endless(seed, holes)
    pi = world.prior[0] * torch.rand(3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pi = pi / pi.sum(-1, keepdim=True)
    tables, truth = cai.tabulate(world), in_50_digits(world, alpha, pi)
    for n in (1, 2, 3, 5, 20, 200):
        found = policy_evaluation(tables, pi, temperature=alpha, tolerance=0.0, max_iterations=n)
        assert_within_bound(found, truth)


@pytest.mark.parametrize("learn", HARD)
@examples(6)
@given(seeds)
def test_no_deterministic_policy_is_better(learn, seed: int) -> None:
    """Every deterministic policy by numpy's linear solve; the best of them in each state is v*."""
    world = endless(seed, holes=False)
    r, p, successor = (x[0].numpy() for x in (world.reward, world.outcome, world.successor))
    best = np.full(3, -np.inf)
    for actions in product(range(2), repeat=3):
        P, gain = np.zeros((3, 3)), np.zeros(3)
        for s, a in enumerate(actions):
            np.add.at(P[s], successor[s, a], p[s, a])
            gain[s] = p[s, a] @ r[s, a]
        best = np.maximum(best, np.linalg.solve(np.eye(3) - GAMMA * P, gain))
    found = learn(world)
    assert np.abs(found.v.numpy() - best).max() <= found.error_bound + 1e-13


@examples(10)
@given(seeds, temperatures)
def test_the_exact_fixed_point_agrees_within_both_bounds(seed: int, alpha: float) -> None:
    world = cai.tabulate(endless(seed, holes=False))
    for rule, learners in ((cai.HARD, HARD), (cai.VARIATIONAL, SOFT)):
        exact = cai.solve(world, rule, temperature=alpha)
        for learn in learners:
            found = learn(world) if rule is cai.HARD else learn(world, temperature=alpha)
            assert float((found.v - exact.v).abs().max()) <= found.error_bound + exact.error_bound
            assert found.value == pytest.approx(float(exact.value), abs=found.error_bound + exact.error_bound)
            assert found.error_bound <= 1e-9 or found.stopped == "rounding"


# Laws.


@examples(10)
@given(seeds, st.booleans(), st.one_of(st.none(), temperatures))
def test_every_policy_improves_on_the_one_before(seed: int, holes: bool, alpha: float | None) -> None:
    """In every state, up to rounding; and no slower than value iteration: |v_k - v*| <= γ^k |v_0 - v*|."""
    world = cai.tabulate(endless(seed, holes))

    def after(n: int) -> Solution:
        return policy_iteration(world, temperature=alpha, tolerance=0.0, max_iterations=n)

    steps = [after(n) for n in range(1, 8)]
    final = after(100)
    possible = final.v > -torch.inf
    rounding = 1e-12 * max(1.0, alpha or 1.0)
    first = (final.v - steps[0].v)[possible]
    for k, (before, one) in enumerate(pairwise(steps), 1):
        assert bool((one.v >= before.v - rounding).all())
        if possible.any():
            assert float((final.v - one.v)[possible].abs().max()) <= GAMMA**k * float(first.max()) + rounding


@pytest.mark.parametrize("learn", [*HARD, *SOFT])
@examples(4)
@given(seeds)
def test_the_residuals_shrink_by_gamma(learn, seed: int) -> None:
    history = learn(endless(seed, holes=False)).history
    for before, one in pairwise(history):
        assert one <= GAMMA * before + 1e-13 or learn in POLICIES
    assert history[-1] <= 1e-9


@pytest.mark.parametrize("learn", [*HARD, *SOFT])
@examples(4)
@given(seeds)
def test_the_policy_goes_through_evaluate_and_loses_no_more_than_its_bound(learn, seed: int) -> None:
    world = cai.tabulate(endless(seed, holes=False))
    for n in (3, 100):
        found = learn(world, max_iterations=n)
        one = cai.evaluate(world, found)
        reached = one.elbo if found.temperature else one.expected_return
        best = learn(world, tolerance=0.0)
        assert reached <= best.value + best.error_bound + 1e-12
        assert reached >= best.value - 2 * GAMMA / (1 - GAMMA) * found.error_bound - best.error_bound - 1e-12
        again = policy_evaluation(world, found, temperature=found.temperature)
        assert again.value == pytest.approx(reached, abs=again.error_bound + 1e-12)


def test_a_comparison_takes_solutions() -> None:
    world = RandomWorld(seed=0, S=3, A=2, K=2, horizon=None, holes=False, discount=GAMMA, positive=False)
    comparison = cai.compare(world, {"soft": policy_iteration(world, temperature=1.0), "prior": None})
    assert comparison.evaluations["soft"].optimality_gap == pytest.approx(0, abs=1e-9)


def test_a_cold_soft_optimum_is_the_hard_one() -> None:
    world = load_model("forest")(horizon=None, discount=0.9)
    cold, hard = policy_iteration(world, temperature=1e-6), policy_iteration(world)
    torch.testing.assert_close(cold.v, hard.v, rtol=0, atol=1e-6 * float(np.log(2)) * 10)


# Termination: ties, unreachable states, forbidden actions, rewards of -inf.


@pytest.mark.parametrize("learn", [*HARD, *SOFT])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.99, pytest.param(0.999, marks=pytest.mark.slow)])
def test_a_world_of_ties_ends_with_all_tied_actions(learn, gamma: float) -> None:
    world = endless(0, holes=False)
    world.reward[:] = 0.1
    found = learn(world, gamma=gamma, tolerance=1e-8)
    assert found.stopped == "tolerance"
    torch.testing.assert_close(found.v, torch.full((3,), 0.1 / (1 - gamma), dtype=torch.float64), rtol=0, atol=1e-8)
    torch.testing.assert_close(found.policy.probs(), world.prior[0])


def test_ties_between_twins_do_not_cycle() -> None:
    """Actions in equal pairs whose numbers differ by rounding alone: the greedy choice is free to change for ever."""
    g = torch.Generator().manual_seed(0)
    chance = torch.rand(30, 2, 30, generator=g, dtype=torch.float64)
    chance = chance / chance.sum(-1, keepdim=True)
    twin = chance * (1 + 1e-16 * torch.randn(30, 2, 30, generator=g, dtype=torch.float64))
    reward = torch.rand(30, 2, generator=g, dtype=torch.float64)
    world = Listed(torch.cat([chance, twin], 1).tolist(), torch.cat([reward, reward], 1).tolist())
    found = policy_iteration(world, gamma=0.999, tolerance=0.0)
    assert found.stopped == "rounding"
    assert found.iterations < 10
    pi = found.policy.probs()
    torch.testing.assert_close(pi[:, :2], pi[:, 2:])


@pytest.mark.parametrize("learn", [*HARD, *SOFT])
def test_forbidden_actions_are_never_taken(learn) -> None:
    """The forbidden action would pay best; a policy of one's own may take it, at an infinite price."""
    world = Listed([[[1, 0], [0, 1]], [[0, 1], [0, 0]]], [[0, 1], [-1, 99]])
    found = learn(world, gamma=0.5)
    assert found.policy.probs()[1].tolist() == [1, 0]
    assert float(found.v[1]) == pytest.approx(-2, abs=1e-8)
    outlaw = [[1, 0], [0, 1]]
    assert float(policy_evaluation(world, outlaw, gamma=0.5).v[1]) == pytest.approx(99, abs=1e-8)
    assert float(policy_evaluation(world, outlaw, gamma=0.5, temperature=1.0).v[1]) == -torch.inf


@pytest.mark.parametrize("learn", [*HARD, *SOFT])
def test_risk_is_left_out_from_the_start(learn) -> None:
    """The prior risks -inf everywhere, so that its q says nothing: 0 stays or goes to 1, 1 back or to 2 and to -inf."""
    zero, one, two = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    world = Listed([[zero, one], [zero, two], [two, two]], [[1, 5], [0, 9], [-torch.inf, -torch.inf]])
    assert policy_evaluation(world, gamma=0.5).v.tolist() == [-torch.inf] * 3
    found = learn(world, gamma=0.5)
    if learn in HARD:
        assert found.v.tolist() == pytest.approx([20 / 3, 10 / 3, -torch.inf], abs=1e-9)
        assert found.policy.probs().tolist() == [[0, 1], [1, 0], [0.5, 0.5]]
    else:
        from_zero = replace(found.tables, log_initial=torch.tensor(zero, dtype=torch.float64).log())
        exact = cai.solve(from_zero, cai.VARIATIONAL)
        torch.testing.assert_close(found.v, exact.v, rtol=0, atol=found.error_bound + exact.error_bound)
        assert found.policy.probs()[1:].tolist() == [[1, 0], [0.5, 0.5]]
    assert found.error_bound <= 1e-9


def test_everything_lost_is_worth_minus_infinity() -> None:
    world = Listed([[[1, 0], [0, 1]]] * 2, [[-torch.inf] * 2] * 2)
    for learn in ALL:
        found = learn(world, gamma=0.5)
        assert found.v.tolist() == [-torch.inf] * 2
        assert found.policy.probs().tolist() == [[0.5, 0.5]] * 2
        assert found.value == -float("inf")


@pytest.mark.parametrize("learn", ALL)
def test_a_horizon_and_a_terminal_reward_play_no_part(learn) -> None:
    tables = cai.tabulate(endless(3, holes=False))
    finite = replace(tables, horizon=4, terminal=tables.terminal + 100, discount=1.0)
    torch.testing.assert_close(learn(finite, gamma=GAMMA).v, learn(tables).v, rtol=0, atol=0)


@pytest.mark.parametrize("learn", ALL)
def test_single_precision_stops_at_its_own_rounding(learn) -> None:
    world = endless(3, holes=False)
    rough, fine = learn(cai.tabulate(world, dtype=torch.float32)), learn(world)
    assert rough.stopped == "rounding"
    assert 1e-9 < rough.error_bound < 1e-3
    assert float((rough.v.double() - fine.v).abs().max()) <= rough.error_bound + fine.error_bound


@pytest.mark.parametrize("learn", POLICIES)
def test_a_discount_near_one_is_no_obstacle(learn) -> None:
    rule = cai.HARD if learn in HARD else cai.VARIATIONAL
    found = learn(endless(4, holes=False), gamma=1 - 1e-6)
    exact = cai.solve(found.tables, rule)
    assert found.iterations < 20
    assert float((found.v - exact.v).abs().max()) <= found.error_bound + exact.error_bound < 1.0


def test_thousands_of_states() -> None:
    """Beyond the dense solver; a few policies find what takes many sweeps."""
    world = load_model("grid")(rows=45, columns=45, horizon=None, discount=0.99)
    few, many = policy_iteration(world, tolerance=1e-6), value_iteration(world, tolerance=1e-6)
    assert float((few.v - many.v).abs().max()) <= few.error_bound + many.error_bound <= 2e-6
    assert few.iterations < many.iterations


# Wrong arguments.


@pytest.mark.parametrize("learn", ALL)
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"gamma": 1.0}, "gamma"),
        ({"gamma": -0.1}, "gamma"),
        ({"gamma": float("nan")}, "gamma"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": float("inf")}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
    ],
)
def test_wrong_arguments_are_named(learn, arguments: dict, word: str) -> None:
    with pytest.raises(cai.WorldError, match=rf"^{word}"):
        learn(endless(0), **arguments)


@pytest.mark.parametrize("learn", [policy_evaluation, *SOFT])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_temperature_is_named(learn, temperature: object) -> None:
    with pytest.raises(cai.WorldError, match=r"^temperature"):
        learn(endless(0), temperature=temperature)


@pytest.mark.parametrize("learn", ALL)
def test_worlds_that_are_no_stationary_problem_are_refused(learn) -> None:
    with pytest.raises(cai.WorldError, match="differ over time"):
        learn(TimedWorld(seed=0, S=2, A=2, K=2, horizon=3), gamma=0.9)
    with pytest.raises(cai.WorldError, match="discount is 1"):
        learn(RandomWorld(seed=0, S=2, A=2, K=2, horizon=3))
    tables = cai.tabulate(endless(0))
    with pytest.raises(cai.WorldError, match="batch"):
        learn(cai.stack([tables, tables]))


def test_a_wrong_policy_is_named() -> None:
    world = RandomWorld(seed=0, S=3, A=2, K=2, horizon=3)
    with pytest.raises(cai.WorldError, match=r"\[S, A\] = \[3, 2\]"):
        policy_evaluation(world, torch.ones(2, 2) / 2, gamma=0.9)
    with pytest.raises(cai.WorldError, match="horizon 3"):
        policy_evaluation(world, cai.solve(world), gamma=0.9)


@pytest.mark.parametrize("learn", [*HARD, *SOFT])
@settings(max_examples=3, phases=[Phase.generate])
@given(seeds, st.floats(-12, 8), st.floats(-6, 6), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_bound_holds_against_60_digits_at_every_scale(
    learn, seed: int, size: float, heat: float, gamma: float
) -> None:
    mpmath.mp.dps = DIGITS
    world = RandomWorld(seed, 3, 2, 2, None, holes=False, discount=gamma)
    world.reward *= 10**size
    tables, soft = cai.tabulate(world), {"temperature": 10**heat} if learn in SOFT else {}
    found = learn(tables, **soft)
    oracle = Endless(tables, "VARIATIONAL" if soft else "HARD", 10**heat)
    truth = oracle.solve([mpmath.mpf(x) for x in found.v.tolist()])
    off = max(abs(mpmath.mpf(x) - y) for x, y in zip(found.v.tolist(), truth, strict=True))
    scale = max(float(tables.reward.abs().max()), *(abs(float(y)) for y in truth))
    assert off <= found.error_bound <= 1.01e-10 * scale
    assert found.stopped == "tolerance"


@settings(max_examples=6, phases=[Phase.generate])
@given(seeds, st.floats(-12, 8), st.one_of(st.none(), st.floats(-6, 6)), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_bound_of_an_evaluation_holds_against_60_digits_at_every_scale(
    seed: int, size: float, heat: float | None, gamma: float
) -> None:
    """v = (I - γ P)⁻¹ r, the price of acting otherwise than the prior in r."""
    mpmath.mp.dps = DIGITS
    world = RandomWorld(seed, 3, 2, 2, None, holes=False, discount=gamma)
    world.reward *= 10**size
    pi = torch.rand(3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    pi, tables = pi / pi.sum(-1, keepdim=True), cai.tabulate(world)
    alpha = None if heat is None else 10**heat
    found = policy_evaluation(tables, pi, temperature=alpha)
    known, P, r, dear = Endless(tables, "HARD", 1.0), mpmath.matrix(3, 3), mpmath.matrix(3, 1), mpmath.mpf(0)
    for s in range(3):
        w = [mpmath.mpf(x) for x in pi[s].tolist()]
        for a in range(2):
            share = w[a] / mpmath.fsum(w)
            price = mpmath.mpf(alpha or 0) * mpmath.log(share / known.prior[s][a])
            r[s], dear = r[s] - share * price, max(dear, abs(share * price))
            for p, to, paid in zip(known.p[s][a], known.to[s][a], known.reward[s][a], strict=True):
                P[s, to] += share * p
                r[s] += share * p * mpmath.mpf(paid)
    truth = list(mpmath.lu_solve(mpmath.eye(3) - known.gamma * P, r))
    off = max(abs(mpmath.mpf(x) - y) for x, y in zip(found.v.tolist(), truth, strict=True))
    scale = max(float(tables.reward.abs().max()), float(dear), *(abs(float(y)) for y in truth))
    assert off <= found.error_bound <= 1e-9 * scale

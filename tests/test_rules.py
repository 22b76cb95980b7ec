"""Every pair of means, a user's own among them, in every form: the plain sweep of the equation in plain Python."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cai
from cai.exact.rule_means import Best, Expect, Mean, Soft, Viterbi
from cai.exact.rules import Rule
from cai.exact.tables import adjoints
from cai.exact.tables import backup_forms as forms
from tests.helpers import examples
from tests.means import Halved, Pairs, Quantile, Sparse, average, greatest, quantile, soft, sparse
from tests.test_engine import tables_of
from tests.test_separate import Islands
from tests.worlds import FactoredWorld, RandomWorld, TimedWorld

Plain = Callable[[Pairs, float], tuple[float, list[float]]]
MEANS: dict[str, tuple[Mean, Plain]] = {
    "soft": (Soft(), soft),
    "soft at 2": (Soft(2.0), lambda pairs, alpha: soft(pairs, 2.0)),
    "averse": (Soft(-0.7), lambda pairs, alpha: soft(pairs, -0.7)),
    "average": (Expect(), average),
    "best": (Best(), lambda pairs, alpha: greatest(pairs, 0.0)),
    "viterbi": (Viterbi(), greatest),
    "sparse": (Sparse(), sparse),
    "quantile": (Quantile(), quantile),
    "halved": (Halved(), lambda pairs, alpha: soft(pairs, alpha / 2)),
}
PAIRS = list(itertools.product(MEANS, MEANS))
FEW = [
    *zip(MEANS, [*list(MEANS)[4:], *list(MEANS)[:4]], strict=True),
    ("average", "soft"),
    ("soft", "sparse"),
    ("sparse", "viterbi"),
]
"""Each mean in each place."""
every_pair = pytest.mark.parametrize(
    "names", [pytest.param(one, marks=[] if one in FEW else [pytest.mark.slow]) for one in PAIRS], ids=" / ".join
)
seeds = st.integers(0, 2**31 - 1)


def step(world: RandomWorld, names: tuple[str, str], alpha: float, v: list[float], t: int) -> tuple[list, list, list]:
    """One backup of the equation: q, v and the policy."""
    (over, act), i = (MEANS[name][1] for name in names), world.time(t)
    c = [over([(world.discount, x), (1 - world.discount, 0.0)], alpha)[0] for x in v] if world.discount < 1 else v
    prior, p, to, r = (x[i].tolist() for x in (world.prior, world.outcome, world.successor, world.reward))
    q = [[over([(p[s][a][k], r[s][a][k] + c[to[s][a][k]]) for k in range(world.K)], alpha)[0] for a in range(world.A)]
         for s in range(world.S)]  # fmt: skip
    best = [act(list(zip(prior[s], q[s], strict=True)), alpha) for s in range(world.S)]
    return q, [value for value, _ in best], [pi for _, pi in best]


def sweep(world: RandomWorld, names: tuple[str, str], alpha: float) -> tuple[list[float], list, float]:
    """v_0, π_0 and the start value."""
    assert world.horizon is not None
    v = world.last.tolist()
    for t in reversed(range(world.horizon)):
        _, v, pi = step(world, names, alpha, v, t)
    return v, pi, MEANS[names[0]][1](list(zip(world.start.tolist(), v, strict=True)), alpha)[0]


def rule_of(names: tuple[str, str]) -> Rule:
    return Rule(" / ".join(names), MEANS[names[0]][0], MEANS[names[1]][0])


@contextmanager
def road(work: float) -> Iterator[None]:
    """Kernels from so many outcomes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "KERNEL_WORK", work)
        for room in (forms, adjoints):
            patch.setattr(room, "WORTH_MERGING", 8)
        yield


def assert_is_the_sweep(world: RandomWorld, names: tuple[str, str], alpha: float) -> None:
    v, pi, value = sweep(world, names, alpha)
    tables, rule = tables_of(world), rule_of(names)
    if value == -math.inf:
        with pytest.raises(cai.ImpossibleError):
            cai.solve(tables, rule, temperature=alpha)
        return
    found = cai.solve(tables, rule, temperature=alpha)
    size = max(1.0, *(abs(x) for x in v if x > -math.inf))
    torch.testing.assert_close(found.v[0], torch.tensor(v, dtype=torch.float64), rtol=0, atol=1e-11 * size)
    torch.testing.assert_close(found.value, torch.tensor(value, dtype=torch.float64), rtol=0, atol=1e-11 * size)
    seen = found.policy.probs(0)
    torch.testing.assert_close(seen, torch.tensor(pi, dtype=torch.float64), rtol=0, atol=1e-9 * size / min(1.0, alpha))
    several = cai.solve(tables, rule, temperature=[alpha, 3.0])
    torch.testing.assert_close(several.v[0], found.v, rtol=0, atol=1e-11 * size)


@every_pair
def test_a_rule_is_its_two_means(names) -> None:
    world = RandomWorld(PAIRS.index(names), 4, 5, 3, 9, holes=False, discount=0.8)  # A and K of other tests' kernels
    for work in (math.inf, 0):
        with road(work):
            assert_is_the_sweep(world, names, 0.6)


@examples(40)
@given(
    *(st.sampled_from(PAIRS), seeds, st.sampled_from([2, 8]), st.sampled_from([0.05, 0.6, 4.0])),
    *(st.sampled_from([1.0, 0.8]), st.booleans(), st.booleans(), st.sampled_from([math.inf, 0])),
)
def test_a_rule_is_its_two_means_in_every_form(names, seed, horizon, alpha, discount, timed, holes, work) -> None:
    world = (TimedWorld if timed else RandomWorld)(seed, 4, 5, 3, horizon, holes=holes, discount=discount)
    with road(work):
        assert_is_the_sweep(world, names, alpha)


@every_pair
def test_the_fixed_point_is_that_of_the_two_means(names) -> None:
    """Where going on costs what a rule fears, or pays what it may choose, no answer is finite, and none is given."""
    world = RandomWorld(PAIRS.index(names), 4, 5, 3, 5, holes=False, discount=0.5, positive=False)
    world.reward = (0.02 if names[0] == "best" else -0.02) * world.reward
    endless, rule = replace(tables_of(world), horizon=None), rule_of(names)
    v, before = [0.0] * world.S, [0.0] * world.S
    for _ in range(100):
        before, (_, v, pi) = v, step(world, names, 0.6, v, 0)
    if max(abs(x - y) for x, y in zip(v, before, strict=True)) > 1e-6:
        with pytest.raises(cai.NotConvergedError):
            cai.solve(endless, rule, temperature=0.6)
        return
    found = cai.solve(endless, rule, temperature=0.6)
    assert 0 < found.error_bound < 1e-11
    torch.testing.assert_close(found.v, torch.tensor(v, dtype=torch.float64), rtol=0, atol=found.error_bound)
    torch.testing.assert_close(found.policy.probs(), torch.tensor(pi, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("act", ["soft", "average", "halved", "best"])
def test_the_best_path_may_end_at_once(act: str) -> None:
    """One state, one action: v = max(α log γ + r + v, α log (1-γ) + r), and going on costs."""
    world = RandomWorld(0, 1, 1, 1, 1, holes=False, discount=0.95)
    world.reward = torch.full_like(world.reward, -0.01)
    found = cai.solve(replace(tables_of(world), horizon=None), rule_of(("viterbi", act)), temperature=2.6)
    assert found.v.tolist() == pytest.approx([2.6 * math.log(1 - 0.95) - 0.01], rel=1e-13)
    assert found.error_bound < 1e-11


def test_factors_find_the_path_that_ends_at_once(variables) -> None:
    tables, factors = (replace(one, discount=0.9, horizon=None) for one in variables)
    whole, apart = (cai.solve(one, rule_of(("viterbi", "soft")), temperature=5.0) for one in (tables, factors))
    torch.testing.assert_close(apart.v, whole.v, rtol=0, atol=1e-11)


@pytest.fixture(scope="module")
def variables() -> tuple[cai.Tables, cai.Factors]:
    return cai.tabulate(FactoredWorld(1)), cai.factorise(FactoredWorld(1))


@pytest.mark.parametrize("act", MEANS)
@pytest.mark.parametrize("over", ["soft", "soft at 2", "averse", "average", "best", "viterbi"])
def test_factors_take_every_mean_over_actions(variables, over: str, act: str) -> None:
    tables, factors = (replace(one, discount=0.9) for one in variables)
    rule = rule_of((over, act))
    whole, apart = (cai.solve(one, rule, temperature=0.6) for one in (tables, factors))
    torch.testing.assert_close(apart.v, whole.v, rtol=0, atol=1e-12)
    torch.testing.assert_close(apart.policy.probs(1), whole.policy.probs(1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("over", ["sparse", "quantile", "halved"])
def test_factors_refuse_a_mean_over_outcomes_that_they_do_not_know(variables, over: str, monkeypatch) -> None:
    """Of itself each verb takes tables then, however many variables a world has."""
    rule = rule_of((over, "soft"))
    with pytest.raises(cai.IntractableError, match="cannot be taken variable by variable"):
        cai.solve(variables[1], rule)
    found = cai.solve(FactoredWorld(1), rule)
    assert found.form == "tables"
    torch.testing.assert_close(found.v, cai.solve(variables[0], rule).v)
    monkeypatch.setattr("cai.exact.forms.SMALL", 1)
    monkeypatch.setattr("cai.exact.forms.MAX_BYTES", 1)  # tables are too large to be chosen
    assert cai.solve(FactoredWorld(1)).form == "factors"
    flat = cai.evaluate(variables[0], rule)
    assert cai.evaluate(FactoredWorld(1), rule).elbo == pytest.approx(flat.elbo, rel=1e-12)
    assert cai.compare(FactoredWorld(1), {"mine": rule}).rows[0].elbo == pytest.approx(flat.elbo, rel=1e-12)


@pytest.mark.parametrize("names", [pair for pair in PAIRS if pair[0] in {"average", "soft", "best"}], ids=" / ".join)
def test_parts_are_solved_apart_only_where_means_add_up(names) -> None:
    factors, rule = cai.factorise(Islands((0, 3))), rule_of(names)
    whole = cai.solve(factors, rule, temperature=0.6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cai.exact.forms.JOINT", 1)
        found = cai.solve(factors, rule, temperature=0.6)
    assert (len(found.parts) > 1) == rule.is_known
    assert float(found.value) == pytest.approx(float(whole.value), abs=1e-12)


@pytest.mark.parametrize("names", [("quantile", "sparse"), ("best", "soft"), ("sparse", "best"), ("average", "averse")])
def test_a_derivative_is_that_of_the_two_means(names) -> None:
    """Against differences of the plain sweep."""
    world = RandomWorld(5, 4, 5, 3, 4, holes=False, discount=0.8)
    tables, a = tables_of(world), torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    reward = tables.reward.clone().requires_grad_()
    cai.solve(replace(tables, reward=reward), rule_of(names), temperature=a).value.backward()

    def moved(h: float, by_alpha: float) -> float:
        return sweep(world, names, 0.6 + by_alpha * h)[2]

    assert float(a.grad) == pytest.approx((moved(1e-5, 1) - moved(-1e-5, 1)) / 2e-5, abs=1e-8)
    kept = world.reward.clone()
    for s, k in ((0, 0), (2, 1)):
        found = []
        for h in (1e-5, -1e-5):
            world.reward = kept.clone()
            world.reward[0, s, 1, k] += h
            found.append(moved(h, 0))
        assert float(reward.grad[s, 1, k]) == pytest.approx((found[0] - found[1]) / 2e-5, abs=1e-8)


def test_what_is_no_mean_is_refused() -> None:
    for wrong in (cai.POSTERIOR, Soft, None, "soft"):
        rule = Rule("mine", Soft(), Soft())
        object.__setattr__(rule, "over_actions", wrong)  # under pytest a type check is made before
        with pytest.raises(cai.WorldError, match="rule 'mine', over_actions"):
            rule.__post_init__()


def test_a_rule_of_a_mean_that_has_no_hash_can_be_compared() -> None:
    world = tables_of(RandomWorld(2, 4, 5, 3, 4))
    mine = rule_of(("average", "sparse"))
    found = cai.compare(world, {"mine": mine, "again": mine}, temperature=0.6)
    assert found.rows[0].elbo == found.rows[1].elbo


def test_far_horizons_are_refused_to_a_mean_of_which_nothing_is_known() -> None:
    with pytest.raises(cai.WorldError, match="whose means say nothing"):
        cai.solve_horizons(tables_of(RandomWorld(2, 4, 5, 3, 4)), 100, rule_of(("sparse", "soft")))

"""The engine's forms of a backup, its adjoint and its sweep, against the equation as it stands."""

import math
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.exact.sweep import sweep
from cai.exact.tables import adjoints, doubling
from cai.exact.tables import backup_forms as forms
from cai.exact.tables import laid as layout
from cai.exact.tables.backup import Equation, Step
from cai.exact.tables.fused import Linear, fused
from cai.exact.tables.fused_adjoint import fused_gathering
from cai.exact.tables.gathered import Gathering
from cai.exact.tables.kernels import arithmetic
from cai.exact.tables.table_operator import TableOperator
from tests.helpers import examples, load_model, slow_after
from tests.oracles.sweep import Swept
from tests.worlds import RandomWorld, TimedWorld, random_worlds

RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-0.5), cai.RISK(2.0)]


def eager(equation: Equation) -> Step:
    """A few tensor operations, at whatever temperature."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "out_of_range", lambda equation, scale: False)
        return forms.merged(equation, 1000, 0.0) or forms.averaged(equation, 1000, 0.0) or equation


FORMS: list[Callable[[Equation], Step]] = [eager, fused]

alphas = st.floats(-4, 4).map(lambda x: 10**x)
seeds = st.integers(0, 2**31 - 1)


@cache
def shape_of(kind: type[RandomWorld], S: int, A: int, K: int, horizon: int) -> cai.Tables:
    return cai.tabulate(kind(0, S, A, K, horizon))


def tables_of(world: RandomWorld) -> cai.Tables:
    """The world's tables, its numbers put straight in: compiling each of a thousand worlds would take minutes."""
    like = shape_of(type(world), world.S, world.A, world.K, world.horizon)
    i = slice(None) if like.timed else 0
    numbers = {
        "log_initial": world.start.log(),
        "log_prior": world.prior[i].log(),
        "log_prob": world.outcome[i].log(),
        "successor": world.successor[i],
        "reward": world.reward[i],
        "terminal": world.last,
    }
    return replace(like, discount=world.discount, **numbers)


def tables(seed: int, discount: float = 1.0) -> cai.Tables:
    """A world with zero probabilities, forbidden actions and rewards of -inf, large enough that rows differ."""
    return tables_of(RandomWorld(seed, 7, 5, 3, 4, holes=seed % 2 == 0, discount=discount))


def some_values(seed: int, scale: float) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    v = scale * torch.randn(7, generator=g, dtype=torch.float64)
    return torch.where(torch.rand(7, generator=g) < 0.2, -torch.inf, v) if seed % 3 == 0 else v


def assert_same(seen: Tensor, truth: Tensor, tolerance: float) -> None:
    assert not bool(seen.isnan().any())
    assert torch.equal(seen == -torch.inf, truth == -torch.inf)
    size = truth[truth > -torch.inf].abs().max() if bool((truth > -torch.inf).any()) else torch.ones(())
    gap = torch.where(seen == truth, 0.0, (seen - truth).abs()).max()
    assert float(gap) <= tolerance * max(1.0, float(size)), (seen, truth)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", slow_after(4, RULES), ids=str)
@examples(5)
@given(seeds, alphas, st.sampled_from([1.0, 0.8]), st.sampled_from([1e-3, 1.0, 30.0, 3000.0]))
@example(8, 0.01, 1.0, 30.0)  # β far beyond a float's range, on a row whose best successor is likely
def test_every_form_is_the_backup(form, rule, seed: int, alpha: float, discount: float, scale: float) -> None:
    world, v = tables(seed, discount), some_values(seed, scale)
    a = torch.tensor(alpha, dtype=torch.float64)
    truth = Equation(rule, world.at(0), a, world.log_survival)(v)
    # At a high temperature the merged form's logarithm is of a number near 1; ``ready`` does not choose it there.
    assert_same(form(Equation(rule, world.at(0), a, world.log_survival))(v), truth, 1e-13 * max(1.0, alpha))


@examples(10)
@given(seeds, st.sampled_from([50.0, 1e4, 1e9]), st.sampled_from([1.0, 0.8]))
def test_a_high_temperature_keeps_its_digits(seed: int, alpha: float, discount: float) -> None:
    world, v = tables(seed, discount), some_values(seed, 1.0)
    a = torch.tensor(alpha, dtype=torch.float64)
    for rule in (cai.POSTERIOR, cai.VARIATIONAL, cai.RISK(alpha)):
        truth = Equation(rule, world.at(0), a, world.log_survival)(v)
        for uses in (100, 10**9):
            step = forms.ready(Equation(rule, world.at(0), a, world.log_survival), uses=uses)
            # An entry of -inf makes a state's value of the size of α, the rest keep their own.
            assert_same(step(v), truth, 1e-13)


@examples(8)
@given(seeds, st.sampled_from([1.0, 0.8]))
def test_several_temperatures_share_a_step(seed: int, discount: float) -> None:
    world = tables(seed, discount)
    several = torch.tensor([[0.01, 0.3, 1.0], [2.0, 40.0, 1e-4]], dtype=torch.float64)
    v = torch.stack([some_values(seed + i, 5.0) for i in range(3)]).expand(2, 3, 7)
    for rule in RULES:
        for form in FORMS:
            both = form(Equation(rule, world.at(0), several, world.log_survival))(v)
            assert both.shape == (2, 3, 7)
            for i, j in np.ndindex(2, 3):
                alone = Equation(rule, world.at(0), several[i, j], world.log_survival)(v[i, j])
                assert_same(both[i, j], alone, 1e-12 * max(1.0, float(several[i, j])))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_threads_and_broadcast_tables_change_nothing(rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BLOCK", 100)
    world = cai.tabulate(load_model("grid")(rows=30, columns=30, step_reward=-0.1))
    assert world.log_prob.stride(0) == 0  # held once for all states
    full = replace(world, log_prob=world.log_prob.clone(), log_prior=world.log_prior.clone())
    v, a = torch.randn(900, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    truth = Equation(rule, world.at(0), a, world.log_survival)(v)
    with two_threads():
        for one in (world, full):
            assert_same(fused(Equation(rule, one.at(0), a, world.log_survival))(v), truth, 1e-13)


class two_threads:  # noqa: N801 — used like a function
    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(2)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


@pytest.mark.parametrize("rule", slow_after(1, [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD]), ids=str)
def test_single_precision(rule) -> None:
    for seed in range(4):
        single, double = tables(seed).to(dtype=torch.float32), tables(seed)
        for alpha in (0.01, 1.0, 100.0):
            a = torch.tensor(alpha)
            seen = fused(Equation(rule, single.at(0), a, single.log_survival))(some_values(seed, 3.0).float())
            truth = Equation(rule, double.at(0), a.double(), double.log_survival)(some_values(seed, 3.0))
            assert seen.dtype == torch.float32
            assert_same(seen.double(), truth, 1e-5)


def test_probabilities_too_small_for_products_are_left_to_log_space() -> None:
    world = tables(1)
    one = replace(
        world.at(0), log_prior=torch.tensor([-1e-300, -400.0, -900.0, -1000.0, -1000.0]).double().expand(7, 5)
    )
    assert not layout.kernels_can(one)
    v, a = some_values(1, 1.0), torch.tensor(1e-3, dtype=torch.float64)
    step = forms.ready(Equation(cai.POSTERIOR, one, a, world.log_survival), uses=10**9)
    assert_same(step(v), Equation(cai.POSTERIOR, one, a, world.log_survival)(v), 1e-13)


def test_rewards_too_far_apart_for_products_are_not_merged() -> None:
    world, v = tables(1), some_values(1, 1.0)
    for alpha, kind in ((1.0, "Linear"), (1e-4, "Staged")):
        step = fused(Equation(cai.POSTERIOR, world.at(0), torch.tensor(alpha, dtype=torch.float64), world.log_survival))
        assert [type(form).__name__ for form in step.forms] == [kind]
        truth = Equation(cai.POSTERIOR, world.at(0), torch.tensor(alpha, dtype=torch.float64), world.log_survival)
        assert_same(step(v), truth(v), 1e-13)


@pytest.fixture
def always_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "KERNEL_WORK", 0)


def leaves(world: cai.Tables) -> tuple[cai.Tables, dict[str, Tensor]]:
    names = ("log_initial", "log_prior", "log_prob", "reward", "terminal")
    fresh = {name: getattr(world, name).clone().requires_grad_() for name in names}
    return replace(world, **fresh), fresh


@pytest.mark.parametrize("kind", [RandomWorld, TimedWorld])
@examples(6)
@given(seeds, st.sampled_from([0.02, 0.3, 2.0]), st.sampled_from([1.0, 0.8]), st.booleans())
def test_a_solve_is_the_same_by_every_road(kind, seed: int, alpha: float, discount: float, holes: bool) -> None:
    """Values, policies, state marginals and every derivative, by the equation, merged, and by kernels."""
    world = tables_of(kind(seed, 5, 5, 3, 12, holes=holes, discount=discount, positive=False))
    found = []
    for work, merging in ((math.inf, math.inf), (math.inf, 0), (0, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forms, "KERNEL_WORK", work)
            for room in (forms, adjoints):
                patch.setattr(room, "WORTH_MERGING", merging)
            ours, fresh = leaves(world)
            a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
            try:
                messages = cai.solve(ours, temperature=a)
            except cai.ImpossibleError:
                return
            (messages.log_evidence + messages.v[3].clamp(min=-1e3).sum()).backward()
            solved = cai.solve(world, temperature=alpha)
            parts = [solved.v, solved.policy.probs(2), solved.marginals(4), a.grad * alpha]
            found.append([*parts, *(leaf.grad for leaf in fresh.values())])
    for road in found[1:]:
        for seen, truth in zip(road, found[0], strict=True):
            assert_same(seen, truth, 1e-9)


@examples(6)
@given(seeds, st.sampled_from([0.02, 0.3, 2.0]), st.sampled_from([1.0, 0.8]))
def test_the_adjoint_flows_alike_in_every_form(seed: int, alpha: float, discount: float) -> None:
    world, v_next = tables(seed, discount), some_values(seed, 1.0)
    a = torch.tensor(alpha, dtype=torch.float64)
    equation = Equation(cai.POSTERIOR, world.at(0), a, world.log_survival)
    v = equation(v_next)
    v_bar = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    v_bar = torch.where(v == -torch.inf, 0.0, v_bar)
    every: list[Gathering | None] = [adjoints.Plain(equation), adjoints.Linear(equation), fused_gathering(equation)]
    sent = []
    for one in every:
        if one is not None:
            back = [one.push(v_next, v_bar), one.push(v_next, 2 * v_bar)]
            sent.append([*back, *(getattr(one.total(), name) for name in ("log_prior", "log_prob", "reward", "alpha"))])
    assert len(sent) > 1
    for other in sent[1:]:
        for seen, truth in zip(other, sent[0], strict=True):
            assert_same(seen, truth, 1e-10)


def test_messages_of_a_large_world_come_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cai.tabulate(load_model("grid")(rows=12, columns=12, horizon=20))
    whole = {rule: cai.solve(world, rule, temperature=0.3) for rule in RULES}
    monkeypatch.setattr("cai.exact.tables.backup.BLOCK", 100)
    for rule, messages in whole.items():
        again = cai.solve(world, rule, temperature=0.3)
        truth = Equation(rule, world.at(5), messages.temperature, world.log_survival).back_up(messages.v[6])
        torch.testing.assert_close(again.q(5), truth.q, rtol=0, atol=1e-15)
        torch.testing.assert_close(again.policy.probs(5), messages.tilt(5).log_policy.exp(), rtol=1e-12, atol=1e-14)


@examples(8)
@given(random_worlds(horizon=3), alphas)
def test_merged_successors_keep_the_sum(world: RandomWorld, alpha: float) -> None:
    one, a = cai.tabulate(world).at(0), torch.tensor(alpha, dtype=torch.float64)
    from cai.exact.tables.merged import log_weights, merge

    merged = merge(Equation(cai.POSTERIOR, one, a, torch.tensor([0.0, -torch.inf])))
    dense = torch.full((world.S, world.S), -torch.inf, dtype=torch.float64)
    log_w = log_weights(one, a, merged.gain)
    for s, action, k in np.ndindex(*log_w.shape):
        to = int(one.successor[s, action, k])
        dense[s, to] = torch.logaddexp(dense[s, to], log_w[s, action, k])
    seen = torch.full_like(dense, -torch.inf)
    for s, e in np.ndindex(world.S, merged.log_m.shape[-1]):
        to = int(merged.successor[s, 0, e])
        seen[s, to] = torch.logaddexp(seen[s, to], merged.log_m[s, 0, e])
    assert_same(seen, dense, 1e-13)
    possible = log_w > -torch.inf
    at = merged.successor.expand(world.S, world.A, -1).gather(-1, merged.entry)
    assert torch.equal(at[possible], one.successor[possible])


@examples(8)
@given(seeds, st.sampled_from([0.05, 0.3, 2.0]), st.sampled_from([1.0, 0.9]), st.integers(1000, 1100))
def test_doubling_is_the_sweep(seed: int, alpha: float, discount: float, horizon: int) -> None:
    world = replace(tables(seed, discount), horizon=horizon)
    a = torch.tensor([alpha, 1.0], dtype=torch.float64)
    op = TableOperator(world, cai.POSTERIOR, a)
    assert doubling.pays(op.equation(0), horizon, 0.0)
    seen = op.at_once()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doubling, "SHORTEST", math.inf)
        truth = sweep(op)
    if seen is not None:
        assert_same(seen, truth, 1e-11)
    assert_same(sweep(op), truth, 1e-11)


def test_doubling_gives_way_where_a_float_cannot_hold_a_product() -> None:
    world = replace(cai.tabulate(load_model("grid")(rows=6, columns=6, step_reward=-1.0)), horizon=1000)
    assert TableOperator(world, cai.POSTERIOR, torch.tensor(1.0).double()).at_once() is not None
    assert TableOperator(world, cai.POSTERIOR, torch.tensor(0.005).double()).at_once() is None
    v = cai.solve(world, temperature=0.005).v
    assert bool(v.isfinite().all())


def test_results_without_derivatives_can_be_asked_of_tables_that_have_them() -> None:
    world = tables_of(RandomWorld(3, 5, 5, 3, 12, holes=False))
    ours, _ = leaves(world)
    with torch.no_grad():
        quiet = cai.solve(ours, temperature=0.5)
    torch.testing.assert_close(quiet.marginals(4).detach(), cai.solve(world, temperature=0.5).marginals(4))
    best = cai.solve(ours, temperature=0.5).most_probable()
    assert torch.equal(best.states, cai.solve(world, temperature=0.5).most_probable().states)


def test_arithmetic_is_right_to_two_units_in_the_last_place() -> None:
    mpmath.mp.dps = 40
    g = np.random.default_rng(0)

    def worst(ours: Callable, exact: Callable, xs: np.ndarray) -> float:
        truth = [exact(mpmath.mpf(float(x))) for x in xs]
        return max(float(abs((mpmath.mpf(float(ours(x))) - y) / y)) for x, y in zip(xs, truth, strict=True) if y)

    kernel = arithmetic.inlined
    exp = kernel(lambda x: arithmetic.exp(x))
    log = kernel(lambda x: arithmetic.log(x))
    log1p = kernel(lambda x: arithmetic.log1p(x))
    eps = np.finfo(float).eps
    assert worst(exp, mpmath.exp, np.r_[g.uniform(-700, 700, 300), g.uniform(-1, 1, 300)]) <= 2 * eps
    assert worst(log, mpmath.log, np.r_[np.exp(g.uniform(-700, 700, 300)), g.uniform(0.5, 2, 300)]) <= 2 * eps
    assert worst(log1p, lambda x: mpmath.log1p(x), np.r_[g.uniform(-0.5, 1, 300), 10 ** g.uniform(-18, -1, 300)]) <= (
        2 * eps
    )
    assert exp(-1000.0) == 0.0
    assert exp(-np.inf) == 0.0
    assert log(8.0) == math.log(8.0)


def test_kernels_are_compiled_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    twice = arithmetic.kernel(lambda x: 2.0 * x)
    assert twice(3.0) == 6.0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_the_form_of_a_gpu_is_the_backup_on_a_cpu_too(rule) -> None:
    for seed in (1, 2):
        world, v, a = tables(seed), some_values(seed, 1.0), torch.tensor(0.5, dtype=torch.float64)
        equation = Equation(rule, world.at(0), a, world.log_survival)
        step = torch.compile(eager(equation), dynamic=True)
        assert_same(step(v), equation(v), 1e-13)


def test_the_linear_form_is_what_large_worlds_get(always_kernels: None) -> None:
    world = cai.tabulate(load_model("grid")(rows=5, columns=5))
    step = forms.ready(Equation(cai.POSTERIOR, world.at(0), torch.tensor(0.1).double(), world.log_survival))
    assert isinstance(step.forms[0], Linear)
    assert step.forms[0].product.E == 5  # ahead, left, right, behind by another action, and here


Crowd = tuple[RandomWorld, cai.Tables]


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    world = RandomWorld(seed=5, S=100_000, A=4, K=3, horizon=10, holes=False)
    return world, cai.tabulate(world)


@pytest.mark.parametrize(
    "rule", ["POSTERIOR", *(pytest.param(r, marks=pytest.mark.slow) for r in ("VARIATIONAL", "HARD", "MAP"))]
)
def test_a_hundred_thousand_states_are_those_of_numpy(rule: str, crowd: Crowd) -> None:
    """v, the start value, π and the marginals, to the rounding of ten backups of numbers below 20."""
    world, tables = crowd
    assert forms.kernels_pay(TableOperator(tables, cai.POSTERIOR, torch.tensor(0.5)).equation(0), 10)
    found, swept = cai.solve(tables, getattr(cai, rule), temperature=0.5), Swept(world, rule, 0.5)
    rounding = 10 * 32 * np.finfo(float).eps * 20
    assert np.abs(found.v.numpy() - swept.v).max() < rounding
    assert abs(float(found.value) - swept.value) < rounding
    assert np.abs(found.policy.probs(3).numpy() - swept.policy(3)).max() < rounding / 0.5
    marginals = swept.marginals(3)
    assert np.abs(found.marginals(3).numpy() - marginals).max() < 3 * rounding / 0.5 * marginals.max()


def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent(
    always_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "BLOCK", 100)
    world = cai.tabulate(load_model("grid")(rows=30, columns=30, horizon=10))
    with two_threads():
        before = cai.solve(world, temperature=0.3).value
        monkeypatch.setattr(sys.modules[__name__], "INHERITED", world)  # sent, it would be another world
        with multiprocessing.get_context("fork").Pool(1, torch.set_num_threads, (1,)) as pool:
            assert pool.apply_async(_start_value).get(timeout=20) == float(before)


INHERITED: cai.Tables | None = None


def _start_value() -> float:
    assert INHERITED is not None
    return float(cai.solve(INHERITED, temperature=0.3).value)

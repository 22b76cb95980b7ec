"""Two-sided bounds on ELBO* and log Z, against exact elimination; the policy's ELBO, against its exact evaluation."""

import json
import math
import time

import pytest
import torch
from typer.testing import CliRunner

import cai
from cai.approximation.bounds.dual_decomposition import DualDecomposition
from cai.approximation.bounds.fitted_values import basis, fitted
from cai.approximation.bounds.local_policy import LocalPolicy
from cai.approximation.bounds.look_ahead import LookAhead, value_of
from cai.approximation.bounds.sampled_elbo import lower_bound, sampled_elbo, visits
from cai.approximation.bounds.two_sided import Bounds, _Search, reward_bounds
from cai.cli import app
from cai.errors import IntractableError, WorldError
from cai.exact.factors.factor_operator import FactorOperator
from tests.helpers import slow_after
from tests.worlds import FactoredWorld, Pair, PointMass, RandomWorld, Ring, TimedPair, TimedWorld

QUICK = {"minutes": None, "steps": 2, "samples": 100, "reported": 200, "errors": 4.0}


def world_of(seed: int) -> object:
    """Return one of several kinds of random factored worlds: latents, ties within s', holes, discounts, rings."""
    kind, gamma = seed % 4, (1.0, 0.8)[seed // 4 % 2]
    if kind == 0:
        return FactoredWorld(seed)
    if kind == 1:
        return Ring(3 + seed % 6, 2 + seed % 4)
    if kind == 2:
        return RandomWorld(seed, 4, 3, 2, 4, discount=gamma)
    one, pair = ((RandomWorld, Pair), (TimedWorld, TimedPair))[seed // 8 % 2]
    sizes = ((seed, 3, 2, 2, 3), (seed + 1, 2, 2, 1, 3))
    return pair(tuple(one(*each, holes=False, discount=gamma) for each in sizes))


def policy_of(world: object, temperature: float, steps: int = 2) -> LocalPolicy:
    factors = cai.factorise(world)
    generator = torch.Generator().manual_seed(0)
    policy = LocalPolicy(LookAhead(factors), [*[()] * factors.horizon, factors.terminal], temperature)
    for _ in range(steps):
        policy = fitted(policy, visits(policy, 100, generator).states, basis(factors))
    return policy


@pytest.mark.parametrize("seed", range(4))
def test_the_backup_of_local_values_is_that_of_exact_messages(seed: int) -> None:
    world = world_of(seed)
    factors, policy = cai.factorise(world), policy_of(world, 0.7)
    states = factors.states.split(torch.arange(factors.states.size))
    operator = FactorOperator(factors, cai.VARIATIONAL, torch.tensor(0.7, dtype=torch.float64))
    for t in range(factors.horizon):
        named = {name: value.long() for name, value in states.items()}
        exact = operator.q(t, value_of(policy.values[t + 1], named))
        torch.testing.assert_close(policy.ahead.q(t, named, policy.values[t + 1]), exact)


@pytest.mark.parametrize("seed", range(4))
def test_the_sampled_elbo_of_a_policy_is_its_exact_one(seed: int) -> None:
    policy = policy_of(world_of(seed), 0.7)
    exact = float(cai.evaluate(policy.ahead.factors, policy, temperature=0.7).elbo)
    found = lower_bound(sampled_elbo(policy, 2000, torch.Generator().manual_seed(1)))
    if exact == -math.inf:
        assert found.lower == -math.inf
    else:
        assert found.value == pytest.approx(exact, abs=4 * found.standard_error + 1e-9)


def inside(seed: int) -> None:
    world, alpha = world_of(seed), (0.3, 1.0, 3.0)[seed % 3]
    found = cai.approximate(world, "bounds", temperature=alpha, seed=seed, progress=False, **QUICK)
    elbo = float(cai.solve(world, cai.VARIATIONAL, temperature=alpha).elbo)
    log_z = float(cai.solve(world, cai.POSTERIOR, temperature=alpha).log_evidence)
    assert found.elbo.lower - 1e-9 <= elbo <= found.elbo.upper + 1e-9
    assert found.log_evidence.lower - 1e-9 <= log_z <= found.log_evidence.upper + 1e-9


@pytest.mark.parametrize("seed", slow_after(3, range(8)))
def test_the_interval_contains_the_exact_answer(seed: int) -> None:
    inside(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8, 100))
def test_the_interval_contains_the_exact_answer_of_all_hundred(seed: int) -> None:
    inside(seed)


@pytest.mark.parametrize("n", [10, pytest.param(40, marks=pytest.mark.slow)])  # of 40: too large for tables
def test_the_policy_acts_and_is_fitted_step_by_step(n: int) -> None:
    world = Ring(n, 6)
    found = list(Bounds(**QUICK).refined(world, 0.1, torch.Generator().manual_seed(0)))
    assert len(found) == 2
    assert found[1].elbo.lower > found[0].elbo.lower  # the second policy knows what the first has seen
    assert found[-1].history == tuple(one.elbo.gap for one in found)
    run = cai.rollout(world, found[-1].policy, batch=20, generator=torch.Generator().manual_seed(0))
    state = {name: value[0] for name, value in run.states.items()}
    every = torch.stack([found[-1].policy.log_prob(state, torch.full((20,), a), 0) for a in range(3)])
    torch.testing.assert_close(every.exp().sum(0), torch.ones(20, dtype=torch.float64))


def test_what_is_not_done_in_time_is_dropped() -> None:
    factors, over = cai.factorise(Ring(16, 6)), time.monotonic()
    search = _Search(Bounds(**QUICK), factors, 0.1, torch.Generator().manual_seed(0))
    first, policy = search.step(over), search.best  # the first one is always done
    assert first.lower > -math.inf
    assert search.step(over) == first
    assert search.best is policy
    assert search.step().lower > first.lower
    with pytest.raises(TimeoutError):
        DualDecomposition(factors, 300, cai.HARD, deadline=over)


def test_the_same_seed_gives_the_same_interval() -> None:
    one, two = (cai.approximate(FactoredWorld(), name, seed=3, progress=False, **QUICK) for name in ("bounds", None))
    assert (one.elbo, one.log_evidence) == (two.elbo, two.log_evidence)


def test_a_discount_is_counted_on_average_for_the_elbo_and_at_its_luckiest_for_log_z() -> None:
    factors = cai.factorise(RandomWorld(1, 2, 2, 1, 3, discount=0.5))
    on_average, luckiest = reward_bounds(factors)
    r, last = max(p.table.max() for p in factors.at(0).reward), max(p.table.max() for p in factors.terminal)
    assert on_average == pytest.approx(float(r * 1.75 + last / 8))
    assert luckiest == pytest.approx(float(max(r, 2 * r, 3 * r, 3 * r + last)))


def test_what_has_no_bounds_is_refused() -> None:
    with pytest.raises(IntractableError, match="infinite horizon"):
        cai.approximate(RandomWorld(0, 2, 2, 1, None, discount=0.9), "bounds", **QUICK)
    with pytest.raises(IntractableError):
        cai.approximate(PointMass(), "bounds", **QUICK)
    with pytest.raises(WorldError, match="minutes nor steps"):
        cai.approximate(FactoredWorld(), "bounds", minutes=None)
    with pytest.raises(WorldError, match="bounds, minutes: -1"):
        cai.approximate(FactoredWorld(), "bounds", minutes=-1)


def told(*words: str) -> tuple[int, str]:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["solve", *words])
    return done.exit_code, done.output


def test_the_command_line_gives_the_interval() -> None:
    code, said = told("frozen_lake", "--horizon", "4", "--approximate", "--minutes", "0.005", "--json", "-t", "0.3")
    assert code == 0, said
    (found,) = json.loads(said)
    exact = cai.solve(cai.load_world("frozen_lake", {"horizon": 4}), cai.VARIATIONAL, temperature=0.3).elbo
    assert found["elbo"]["lower"] - 1e-3 <= float(exact) <= found["elbo"]["upper"]
    code, said = told("frozen_lake", "--horizon", "4", "--approximate", "--minutes", "0.005")
    assert code == 0
    assert "log Z: " in said
    assert "in reward units: " in said


@pytest.mark.parametrize("words", [["--approximate", "--rule", "MAP"], ["--minutes", "3"], ["--method", "bounds"]])
def test_the_command_line_refuses_what_does_nothing(words: list[str]) -> None:
    code, said = told("frozen_lake", *words)
    assert code == 2
    assert "--approximate" in said

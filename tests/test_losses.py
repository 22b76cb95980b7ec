"""Where a policy loses, in words: the sentences and the account say what the tensors hold, and no more."""

import math
from typing import Any

import pyro
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.support.numbers import ROUNDING
from tests.helpers import examples, load_model
from tests.oracles import enumeration as oracle
from tests.worlds import FactoredWorld, RandomWorld, random_worlds, temperatures


class Fork:
    """One step from one of two states, evenly: in s = 0 the second action pays log 3, in s = 1 both pay nothing.

    By hand, at α = 1: π*(1|0) = 3/4, π*(a|1) = 1/2, and p(s_0 = 0|O) = 2/3.
    """

    horizon = 1
    layout = cai.Layout(cell=torch.tensor([0, 1]), shape=(1, 2), moves=((-1.0, 0.0), (1.0, 0.0)), marks={0: "S"})

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.tensor([0.5, 0.5])))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("s", cai.Point(state, 2)), math.log(3) * ((state == 0) & (action == 1))


class Bare(Fork):
    """The same without a map."""

    layout = None


class Gamble(Fork):
    """Whatever is done, one time in ten something forbidden follows: ELBO* = -inf, log Z is finite."""

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        k = pyro.sample("k", Categorical(torch.tensor([0.9, 0.1])))
        return pyro.sample("s", cai.Point(state, 2)), torch.where(k == 1, -torch.inf, action * 1.0)


class Hopeless(Fork):
    """Everything is forbidden."""

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("s", cai.Point(state, 2)), -torch.inf * torch.ones_like(action)


LEFT = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # goes left in s = 0, and as π* does in s = 1


def everywhere(one: cai.Evaluation) -> tuple[cai.evaluation.losses.Loss, ...]:
    return one.worst(one.policy_nats.numel())


# The state-times


@pytest.mark.parametrize("world", [Fork(), Bare()])
def test_a_world_by_hand(world: Any) -> None:
    (loss,) = cai.evaluate(world, LEFT).worst()
    assert (loss.t, loss.state, loss.reach) == (0, 0, 0.5)
    assert loss.lost == pytest.approx(0.5 * math.log(4))
    assert loss.per_visit == pytest.approx(math.log(4))
    assert (loss.does.action, loss.does.policy, loss.does.best) == (0, 1.0, pytest.approx(0.25))
    assert (loss.should.action, loss.should.policy, loss.should.best) == (1, 0.0, pytest.approx(0.75))
    where, left, right = ("s=0 (S)", "a=left", "a=right") if world.layout else ("s=0", "a=0", "a=1")
    often, seldom = f"too often {left} 1.00 (best: 0.25)", f"too seldom {right} 0 (best: 0.75)"
    assert str(loss) == f"t = 0, {where}: 0.693 nats, probability 0.50; {often}, {seldom}."


def test_every_form_of_policy_loses_at_the_same_places() -> None:
    class Elsewhere:
        """What another library learned: a program of actions."""

        def act(self, state: Tensor, t: int) -> Tensor:
            return pyro.sample("a", Categorical(probs=LEFT[state]))

    forms = [LEFT, LEFT.numpy(), LEFT.expand(1, 2, 2), lambda state, t: LEFT[state], Elsewhere()]
    told = {tuple(map(str, cai.evaluate(Fork(), form).worst())) for form in forms}
    assert len(told) == 1
    world = RandomWorld(3, 4, 3, 3, 4, holes=False)
    messages = cai.solve(world, cai.HARD)
    assert cai.evaluate(world, messages).worst() == cai.evaluate(world, cai.HARD).worst()
    assert len(cai.evaluate(world, messages).worst()) == 10


@examples(16)
@given(random_worlds(), temperatures, st.integers(0, 3))
def test_the_losses_are_the_policy_nats(world: RandomWorld, alpha: float, which: int) -> None:
    assume(oracle.value(world, "VARIATIONAL", alpha) > -math.inf)
    one = cai.evaluate(world, (None, cai.POSTERIOR, cai.HARD, cai.MAP)[which], temperature=alpha)
    assume(one.elbo > -math.inf)
    found, scale = everywhere(one), max(1.0, abs(float(one.variational.elbo)))
    assert sum(loss.lost for loss in found) == pytest.approx(float(one.policy_nats.sum()), abs=2 * ROUNDING * scale)
    nats = [loss.lost for loss in found]
    assert nats == sorted(nats, reverse=True)
    assert found[:2] == one.worst(2)[: len(found)]
    for loss in found:
        assert loss.lost == one.policy_nats[loss.t, loss.state]
        pi, best = one.policy.probs(loss.t)[loss.state], one.variational.policy.probs(loss.t)[loss.state]
        assert (loss.does.policy, loss.does.best) == (
            pytest.approx(float(pi[loss.does.action])),
            pytest.approx(float(best[loss.does.action])),
        )
        assert float((best - pi)[loss.should.action]) == pytest.approx(float((best - pi).max()), abs=1e-11)
        assert loss.per_visit == pytest.approx(float(torch.xlogy(pi, pi / best).sum()), rel=1e-6, abs=1e-9)


def test_the_best_policy_loses_nowhere() -> None:
    world = load_model("frozen_lake")()
    assert cai.evaluate(world, cai.VARIATIONAL, temperature=0.1).worst() == ()
    assert cai.evaluate(world, cai.solve(world, cai.VARIATIONAL, temperature=0.1), temperature=0.1).worst() == ()


def test_states_and_actions_of_several_variables_are_named() -> None:
    first = cai.evaluate(FactoredWorld(), cai.HARD).worst()[0]
    assert str(first).startswith(f"t = {first.t}, floor=")
    assert ", door=" in first.label
    assert "too often lift=" in str(first)
    assert ", push=" in first.does.label


def test_what_the_best_policy_never_does_costs_without_end() -> None:
    world = RandomWorld(seed=1, S=2, A=3, K=1, horizon=2, holes=False)
    world.prior[0] = torch.tensor([0.0, 0.4, 0.6])
    one = cai.evaluate(world, torch.tensor([0.5, 0.3, 0.2]).expand(2, 3))
    for loss in one.worst():
        assert loss.lost == loss.per_visit == math.inf
        assert loss.does.action == 0
        assert f"{loss.label}: infinitely many nats, probability" in str(loss)
        assert "too often a=0 0.50 (best: 0)," in str(loss)


def test_ties_go_to_the_lowest_number() -> None:
    class Even(Fork):
        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            return pyro.sample("s", cai.Point(state, 2)), 0.0 * action

        def act(self, state: Tensor, t: int) -> Tensor:
            return pyro.sample("a", Categorical(torch.ones(4).expand(*state.shape, 4)))

    Even.layout = None
    first, second = cai.evaluate(Even(), torch.tensor([0.0, 0.5, 0.0, 0.5]).expand(2, 4)).worst()
    assert (first.state, second.state) == (0, 1)
    assert [(loss.does.action, loss.should.action) for loss in (first, second)] == [(1, 0), (1, 0)]


def test_the_infinite_horizon_counts_visits() -> None:
    world = RandomWorld(2, 6, 3, 3, None, holes=False, discount=0.9, positive=False)
    one = cai.evaluate(world, None)
    found = everywhere(one)
    assert sum(loss.lost for loss in found) == pytest.approx(one.optimality_gap, abs=1e-7)
    assert {loss.t for loss in found} == {None}
    assert sum(loss.reach for loss in found) == pytest.approx(10)  # a life of 1/(1-γ) steps
    assert str(found[0]).startswith(f"s={found[0].state}: ")
    assert f" nats, {found[0].reach:.3g} visits; too often" in str(found[0])


def test_a_map_names_its_moves_where_each_is_one_of_its_own() -> None:
    first = cai.evaluate(load_model("grid")(horizon=10, slip=0.0), None, temperature=0.1).worst(1)[0]
    assert {first.does.label, first.should.label} <= {"left", "down", "right", "up", "stay"}

    class Twice(Fork):
        layout = cai.Layout(cell=torch.tensor([0, 1]), shape=(1, 2), moves=((1.0, 0.0), (1.0, 0.0)), marks={})

    assert cai.evaluate(Twice(), LEFT).worst()[0].does.label == "a=0"


def test_what_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(cai.ImpossibleError):
        cai.evaluate(Gamble(), None).worst()
    with pytest.raises(cai.WorldError, match="at least 1"):
        cai.evaluate(Fork(), None).worst(0)


# The account


def test_the_account_by_hand() -> None:
    # p(O) ∝ 1/2 · 2 + 1/2 · 1: log Z = log 3/2, ELBO* = (log 2)/2, ELBO(π) = -(log 2)/2.
    start, policy = 0.5 * math.log(9 / 8), 0.5 * math.log(4)
    assert cai.evaluate(Fork(), LEFT).account().splitlines() == [
        f"ELBO(π) = {-0.5 * math.log(2):.3g} nats; J(π) = 0 reward units.",
        f"log Z - ELBO(π) = {start + policy:.3g} nats: {start:.3g} start + {policy:.3g} action + 0 luck. "
        f"log Z = {math.log(1.5):.3g} nats.",
        f"ELBO* - ELBO(π) = {policy:.3g} nats, the policy nats: what a better policy can win. "
        f"ELBO* = {0.5 * math.log(2):.3g} nats.",
        f"J* - J(π) = {0.5 * math.log(3):.3g} reward units, the regret: what a better policy can earn. "
        f"J* = {0.5 * math.log(3):.3g} reward units.",
    ]


def test_of_taxi_only_the_start_remains() -> None:
    taxi = cai.tabulate(load_model("taxi")(horizon=12))
    one = cai.evaluate(taxi, cai.VARIATIONAL)
    p, q = taxi.log_initial.exp(), one.posterior.initial()
    start = float(torch.where(p > 0, p * (p / q).log(), 0.0).sum())
    assert one.evidence_gap == pytest.approx(start, abs=1e-9)
    told = one.account()
    assert f"log Z - ELBO(π) = {start:.3g} nats: {start:.3g} start + 0 action + 0 luck." in told
    assert "ELBO* - ELBO(π) = 0 nats, the policy nats: no policy does better." in told


def test_the_account_says_what_cannot_be_had() -> None:
    told = cai.evaluate(Gamble(), None).account()
    assert told.startswith("ELBO(π) = -inf nats: it risks a forbidden reward or action;")
    assert "log Z - ELBO(π) = infinitely many nats" in told
    assert "ELBO* - ELBO(π) has no finite value: under VARIATIONAL" in told
    told = cai.evaluate(Hopeless(), None).account()
    assert "log Z - ELBO(π) has no finite value: the evidence is zero" in told
    assert "ELBO* - ELBO(π) has no finite value" in told
    greedy = RandomWorld(3, 4, 3, 3, None, holes=False, discount=0.9)
    told = cai.evaluate(greedy, None, temperature=0.2).account()
    assert "has no finite value: POSTERIOR with γ = 0.9" in told
    assert "likely rewards that outweigh the chance" in told
    assert "the policy nats: " in told


# Worlds kept in factors, and worlds that fall apart


@pytest.mark.parametrize("policy", [None, cai.HARD, cai.POSTERIOR])
def test_factors_say_what_tables_say(policy: Any) -> None:
    flat, kept = (
        cai.evaluate(form(FactoredWorld()), policy, temperature=0.7) for form in (cai.tabulate, cai.factorise)
    )
    assert kept.account() == flat.account()
    for by in ("nats", "regret"):
        for together in (False, True):
            there, here = (one.worst(4, by, together=together) for one in (flat, kept))
            assert list(map(str, there)) == list(map(str, here))


def test_the_worst_places_of_parts_are_those_of_the_whole(monkeypatch: Any) -> None:
    from tests.test_separate import Islands

    monkeypatch.setattr("cai.exact.forms.JOINT", 1)
    apart = cai.evaluate(cai.factorise(Islands((0, 1))), None)
    whole = cai.evaluate(cai.tabulate(Islands((0, 1))), None)
    assert apart.account() == whole.account()
    for by, total in (("nats", apart.optimality_gap), ("regret", apart.regret)):
        found = apart.worst(1000, by)
        assert [loss.lost for loss in found] == sorted((loss.lost for loss in found), reverse=True)
        assert sum(loss.lost for loss in found) == pytest.approx(total, abs=1e-8)
        assert apart.worst(2, by) == found[:2]

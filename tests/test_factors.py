"""Messages on factors: every way in which a backup can be carried out gives the tables' numbers."""

from dataclasses import replace
from functools import cache
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.compile.factor_model import Factor
from cai.exact.factors import elimination
from cai.exact.factors import prepared_slice as factored_slice
from tests.helpers import slow_after
from tests.test_forms import RULES, agree, same_on_whole
from tests.worlds import FactoredWorld, Ring


class Machines:
    """A ring of machines with a crew, a common cause of failure, and rewards of every kind: seen, ahead, and tied."""

    def __init__(self, n: int = 4, horizon: int | None = 3, discount: float = 1.0) -> None:
        self.horizon, self.discount = horizon, discount
        self.names = [f"m{i}" for i in range(n)]

    def initial(self) -> dict[str, Tensor]:
        return {name: pyro.sample(name, Categorical(torch.tensor([0.3, 0.7]))) for name in self.names}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        crew = pyro.sample("crew", Categorical(torch.ones(len(self.names) + 1)))
        calm = torch.stack([torch.ones_like(state["m0"]) * 0.5, 0.5 + 0.0 * state["m0"]], -1)
        return {"crew": crew, "pace": pyro.sample("pace", Categorical(calm))}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Any]:
        storm = pyro.sample("storm", Categorical(torch.tensor([0.8, 0.2])))
        following, reward = {}, -0.1 * action["pace"] - 0.4 * (action["crew"] < len(self.names))
        for i, name in enumerate(self.names):
            up = torch.where(state[name] == 1, 0.55 + 0.3 * state[self.names[i - 1]], 0.05 + 0.1 * action["pace"])
            up = torch.where(action["crew"] == i, 0.95, up * (1 - 0.3 * storm))
            following[name] = pyro.sample(name, Categorical(torch.stack([1 - up, up], -1)))
            reward = reward + following[name] + 0.2 * state[name]
        broke = (following["m0"] < state["m0"]) * (1.0 + storm)
        return following, reward - broke

    def terminal(self, state: dict[str, Tensor]) -> Any:
        return 0.5 * state["m0"] - 0.25 * state["m1"] * state["m2"]


@pytest.mark.parametrize("rule", slow_after(3, RULES), ids=str)
@pytest.mark.parametrize("discount", slow_after(1, [0.8, 1.0]))
def test_machines_with_rewards_of_every_kind(rule: cai.Rule, discount: float) -> None:
    for alpha in (0.05, 1.0, 50.0):
        found = solved(rule, alpha, discount)
        same_on_whole(*found)
    pieces = factored_slice.PreparedSlice(found[1].model.variables, found[1].model.slices[0])
    assert pieces.outside
    assert pieces.ahead
    assert pieces.mixed


@pytest.mark.parametrize("rule", slow_after(1, RULES), ids=str)
def test_a_split_tree_of_actions_changes_nothing(rule: cai.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "LEAF", 40)
    for many in (40, 2):  # every place to split is weighed, or actions are halved
        monkeypatch.setattr(elimination, "MANY", many)
        found = solved(rule, 0.5)
        assert found[1].operator.plan(0).plain.root.parts
        same_on_whole(*found)


def test_a_gather_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.exact.factors.contraction.GATHERED", 1)
    found = solved(cai.VARIATIONAL, 0.5)
    same_on_whole(*found)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.RISK(-0.7), cai.RISK(2.0)], ids=str)
def test_log_space_changes_nothing(rule: cai.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored_slice, "DEEP", -1.0)
    monkeypatch.setattr(factored_slice, "WARM", -1.0)
    found = solved(rule, 0.5)
    same_on_whole(*found)


@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 1e4])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.RISK(-1e-3)], ids=str)
def test_cold_and_hot(rule: cai.Rule, alpha: float) -> None:
    found = solved(rule, alpha)
    assert agree(found[0].v, found[1].v, 1e-10)


def test_marginal_of_any_variables() -> None:
    kept = cai.solve(Machines(), temperature=0.7, form="factors")
    joint = kept.marginals(1).reshape(2, 2, 2, 2, 5, 2)
    assert agree(kept.marginal(1, "m2"), joint.sum((0, 1, 3, 4, 5)))
    assert agree(kept.marginal(1, ("crew", "m3")), joint.sum((0, 1, 2, 5)).T)
    assert agree(kept.marginal(3, ["m1", "m0"]).sum(), torch.ones(()))
    for wrong in ("m9", [], ["m0", "m0"]):
        with pytest.raises(cai.WorldError, match="marginal, names"):
            kept.marginal(1, wrong)


def test_the_gradient_of_the_evidence_is_the_marginals() -> None:
    factors = cai.factorise(Machines(3))
    piece = next(one for one in factors.slices[0].reward if one.scope == ("m1'",))
    table = piece.table.clone().requires_grad_()
    reward = tuple(Factor(one.scope, table) if one is piece else one for one in factors.slices[0].reward)
    learned = replace(factors, slices=(replace(factors.slices[0], reward=reward),))
    (gradient,) = torch.autograd.grad(cai.solve(learned, temperature=0.7).log_evidence, table)
    kept = cai.solve(factors, temperature=0.7)
    truth = sum(kept.marginal(t, "m1") for t in (1, 2, 3)) / 0.7
    assert agree(gradient, truth)


@pytest.mark.slow
def test_auto_takes_factors_where_tables_cannot_be_had() -> None:
    large = cai.solve(Ring(16, 3), cai.VARIATIONAL)
    assert large.form == "factors"
    assert cai.solve(Ring(4, 3), cai.VARIATIONAL).form == "tables"
    assert cai.solve(FactoredWorld()).form == "tables"
    with pytest.raises(cai.IntractableError, match="joint states"):
        cai.solve(Ring(40, 3), cai.VARIATIONAL)
    with pytest.raises(cai.WorldError, match="one at a time"):
        cai.solve(Ring(16, 3), temperature=[1.0, 2.0])
    with pytest.raises(cai.WorldError, match="compiled to factors"):
        cai.solve(cai.factorise(FactoredWorld()), form="tables")


def test_large_ring_against_the_same_ring_on_tables() -> None:
    kept = cai.solve(Ring(8, 3), cai.POSTERIOR, temperature=0.3, form="factors")
    flat = cai.solve(Ring(8, 3), cai.POSTERIOR, temperature=0.3, form="tables")
    assert agree(flat.v, kept.v)


@cache
def machines(discount: float = 1.0) -> tuple[cai.Tables, cai.Factors]:
    return cai.tabulate(Machines(discount=discount)), cai.factorise(Machines(discount=discount))


def solved(rule: cai.Rule, alpha: float, discount: float = 1.0) -> tuple[cai.Messages, cai.Messages]:
    """Solve the machines in both forms; what was made ready for the factors is not taken up."""
    tables, factors = machines(discount)
    messages = (cai.solve(model, rule, temperature=alpha) for model in (tables, replace(factors)))
    return next(messages), next(messages)


class Odd:
    """Sums that are changed in place, added as truth values, rounded, and chosen between."""

    horizon = 3

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def initial(self) -> dict[str, Tensor]:
        return {name: pyro.sample(name, Categorical(torch.ones(3))) for name in ("x", "y")}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(2)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Any]:
        following = {name: pyro.sample(name, Categorical(torch.ones(3))) for name in ("x", "y")}
        noise = pyro.sample("noise", Categorical(torch.stack([0.5 + 0.1 * state["x"], 0.5 - 0.1 * state["x"]], -1)))
        x, y = state["x"], state["y"]
        total = 1.0 * x + 1.0 * y
        if self.kind == "set":
            total[x == y] = -4.0
        elif self.kind == "clamp":
            total.clamp_(max=1.0)
        elif self.kind == "truth":
            total = (x == 2) + (y == 2)
        elif self.kind == "rounded":
            total = (0.5 * x + 0.5 * y).to(torch.long)
        elif self.kind == "chosen":
            total = torch.zeros(()).where(action == 1, total)
        elif self.kind == "index":
            total = torch.arange(5.0)[torch.where(action == 1, x + y, 0)]
        elif self.kind == "added":
            total += 0.5 * x
        elif self.kind == "twice":
            total = 1.0 * x + 2.0 * noise  # two pieces over x alone, once the noise is averaged
        return following, total


@pytest.mark.parametrize("kind", ["set", "clamp", "truth", "rounded", "chosen", "index", "added", "twice"])
@pytest.mark.parametrize("rule", slow_after(1, [cai.POSTERIOR, cai.VARIATIONAL]), ids=str)
def test_sums_mean_what_torch_means(kind: str, rule: cai.Rule) -> None:
    flat, kept = (cai.solve(Odd(kind), rule, temperature=0.7, form=form) for form in ("tables", "factors"))
    assert agree(flat.v, kept.v)


def test_narrow_factors_do_not_underflow() -> None:
    class Far(Odd):
        def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Any]:
            following = {name: pyro.sample(name, cai.Point(state[name], 3)) for name in ("x", "y")}
            return following, 100.0 * state["x"] + 1.0 * state["y"]

    for rule in (cai.POSTERIOR, cai.RISK(-1.0)):
        wide = cai.solve(cai.factorise(Far("")), rule)
        narrow = cai.solve(cai.factorise(Far(""), dtype=torch.float32), rule)
        assert agree(wide.v, narrow.v.double(), 1e-5)


def test_what_factors_refuse() -> None:
    class Late(Odd):
        def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Any]:
            following, total = super().step(state, action, t)
            return following, total + pyro.sample("late", Categorical(torch.ones(2))) if t == 2 else total

    with pytest.raises(cai.WorldError, match="the same at all times"):
        cai.factorise(Late(""))
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    class Endless(Odd):
        horizon, discount, stationary = None, 0.9, True

        def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Any]:
            following, _ = super().step(state, action, t)
            return following, scale * state["x"]

    with pytest.raises(cai.WorldError, match="gradients, with an infinite horizon"):
        cai.solve(Endless(""), cai.VARIATIONAL, form="factors")


def test_messages_survive_a_pickle_and_worlds_are_planned_once() -> None:
    import pickle

    factors = cai.factorise(Machines())
    kept = cai.solve(factors, cai.VARIATIONAL, temperature=0.7)
    kept.marginals(1)
    there = pickle.loads(pickle.dumps(kept))
    assert agree(there.q(0), kept.q(0), 0.0)
    assert agree(there.marginals(1), kept.marginals(1), 0.0)
    assert cai.solve(factors, cai.POSTERIOR).operator.plan(0) is kept.operator.plan(0)

"""Messages on factors against tables and enumeration: every rule, every way in which a backup can be carried out."""

import math
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.compile.factor_model import Factor
from cai.exact.factors import elimination
from cai.exact.factors import prepared_slice as factored_slice
from tests.oracles import enumeration as oracle
from tests.worlds import FactoredWorld, RandomWorld, Ring, random_worlds, temperatures

RULES = (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-0.7), cai.RISK(2.0))
rules = st.sampled_from(RULES)
some = settings(max_examples=40)


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


def agree(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> bool:
    gap = torch.where(a == b, 0.0, (a - b).abs() / (1 + a.abs()))
    return bool((gap <= tolerance).all())


def solved(world: Any, rule: cai.Rule, alpha: float) -> tuple[cai.Messages, cai.Messages] | None:
    """Solve in both forms; None where both say that nothing is possible."""
    found = []
    for form in ("tables", "factors"):
        try:
            found.append(cai.solve(world, rule, temperature=alpha, form=form))
        except cai.ImpossibleError:
            found.append(None)
    assert (found[0] is None) == (found[1] is None)
    return None if found[0] is None else (found[0], found[1])


def same(flat: cai.Messages, kept: cai.Messages) -> None:
    """Hold everything that follows from the messages to the tables'."""
    assert agree(flat.v, kept.v)
    assert agree(flat.value, kept.value)
    T = flat.model.horizon
    for t in range(T or 1):
        assert agree(flat.q(t), kept.q(t))
        assert agree(flat.policy.probs(t), kept.policy.probs(t))
        if T and flat.rule != cai.MAP:
            assert agree(flat.marginals(t), kept.marginals(t))
    if flat.rule == cai.POSTERIOR and T:
        possible = flat.v > -torch.inf
        assert agree(torch.where(possible, flat.forward, 0.0), torch.where(possible, kept.forward, 0.0))


@some
@given(random_worlds(), rules, temperatures)
def test_factors_equal_tables(world: RandomWorld, rule: cai.Rule, alpha: float) -> None:
    found = solved(world, rule, alpha)
    if found is not None:
        same(*found)


@settings(max_examples=8)
@given(random_worlds(), temperatures)
def test_evidence_equals_enumeration(world: RandomWorld, alpha: float) -> None:
    truth = oracle.log_evidence(world, alpha)
    if truth > -math.inf:
        ours = cai.solve(world, temperature=alpha, form="factors")
        assert float(ours.log_evidence) == pytest.approx(truth, rel=1e-10, abs=1e-10)
        best = ours.most_probable()
        scores = [alpha * path.log_p + path.rewards for path in oracle.paths(world)]
        mapped = cai.solve(world, cai.MAP, temperature=alpha, form="factors")
        assert float(mapped.value) == pytest.approx(max(scores), rel=1e-10, abs=1e-10)
        assert math.isfinite(float(best.rewards.sum()))
    else:
        with pytest.raises(cai.ImpossibleError, match="evidence is zero"):
            cai.solve(world, temperature=alpha, form="factors")


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_machines_with_rewards_of_every_kind(rule: cai.Rule, discount: float) -> None:
    for alpha in (0.05, 1.0, 50.0):
        found = solved(Machines(discount=discount), rule, alpha)
        assert found is not None
        same(*found)
    pieces = factored_slice.PreparedSlice(found[1].model.variables, found[1].model.slices[0])
    assert pieces.outside
    assert pieces.ahead
    assert pieces.mixed


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_split_tree_of_actions_changes_nothing(rule: cai.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "LEAF", 40)
    for many in (40, 2):  # every place to split is weighed, or actions are halved
        monkeypatch.setattr(elimination, "MANY", many)
        found = solved(Machines(), rule, 0.5)
        assert found is not None
        assert found[1].operator.plan(0).plain.root.parts
        same(*found)


def test_a_gather_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.exact.factors.contraction.GATHERED", 1)
    found = solved(Machines(), cai.VARIATIONAL, 0.5)
    assert found is not None
    same(*found)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.RISK(-0.7), cai.RISK(2.0)], ids=str)
def test_log_space_changes_nothing(rule: cai.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored_slice, "DEEP", -1.0)
    monkeypatch.setattr(factored_slice, "WARM", -1.0)
    found = solved(Machines(), rule, 0.5)
    assert found is not None
    same(*found)


@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 1e4])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.RISK(-1e-3)], ids=str)
def test_cold_and_hot(rule: cai.Rule, alpha: float) -> None:
    found = solved(Machines(), rule, alpha)
    assert found is not None
    assert agree(found[0].v, found[1].v, 1e-10)


@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD, cai.POSTERIOR], ids=str)
def test_infinite_horizon(rule: cai.Rule) -> None:
    world = Machines(horizon=None, discount=0.7)
    world.terminal = None
    alpha = 10.0
    flat, kept = (cai.solve(world, rule, temperature=alpha, form=form) for form in ("tables", "factors"))
    assert kept.error_bound < 1e-9
    assert float((flat.v - kept.v).abs().max()) <= flat.error_bound + kept.error_bound


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_samples_follow_the_marginals(rule: cai.Rule, discount: float) -> None:
    kept = cai.solve(Machines(3, discount=discount), rule, temperature=0.7, form="factors")
    n = 20_000
    drawn = kept.sample(n, generator=torch.Generator().manual_seed(0))
    S, A = kept.model.states.size, kept.model.actions.size
    for t in range(3):
        truth = kept.marginals(t).reshape(-1)
        alive = drawn.alive[:, t]
        seen = torch.bincount((drawn.states[:, t] * A + drawn.actions[:, t])[alive], minlength=S * A) / n
        error = (truth * (1 - truth) / n).sqrt()
        assert bool(((seen - truth).abs() <= 5 * error + 1e-4).all())
    if discount == 1.0:
        spread = float(drawn.returns.std()) / math.sqrt(n)
        truth_return = _expected_return(kept)
        assert abs(float(drawn.returns.mean()) - truth_return) <= 4 * spread


def _expected_return(kept: cai.Messages) -> float:
    """E[Σ r] without the terminal reward, by the derivative of the start value in a scale of the rewards."""
    world = Machines(3)
    if kept.rule == cai.VARIATIONAL:
        end = kept.states(3)
        last = float((end * kept.operator.terminal()).sum())
        return cai.evaluate(cai.factorise(world), kept, temperature=0.7).expected_return - last
    flat = cai.solve(world, temperature=0.7, form="tables")
    return sum(float((flat.outcome_marginals(t) * flat.model.at(t).reward).sum()) for t in range(3))


def test_marginal_of_any_variables() -> None:
    kept = cai.solve(Machines(), temperature=0.7, form="factors")
    joint = kept.marginals(1).reshape(2, 2, 2, 2, 5, 2)
    assert agree(kept.marginal(1, "m2"), joint.sum((0, 1, 3, 4, 5)))
    assert agree(kept.marginal(1, ("crew", "m3")), joint.sum((0, 1, 2, 5)).T)
    assert agree(kept.marginal(3, ["m1", "m0"]).sum(), torch.ones(()))
    for wrong in ("m9", [], ["m0", "m0"]):
        with pytest.raises(cai.WorldError, match="marginal, names"):
            kept.marginal(1, wrong)


ACCOUNTS = ("expected_return", "entropy", "kl_to_prior", "elbo", "optimality_gap", "evidence_gap", "start_nats")
NATS = ("policy_nats", "action_nats", "luck_nats")


@some
@given(random_worlds(holes=False), st.sampled_from([None, cai.HARD, cai.POSTERIOR, "random"]), temperatures)
def test_accounts_equal_the_tables(world: RandomWorld, policy: Any, alpha: float) -> None:
    tables, factors = cai.tabulate(world), cai.factorise(world)
    if policy == "random":
        policy = torch.rand(world.S, world.A, generator=torch.Generator().manual_seed(world.seed), dtype=torch.float64)
        policy = policy / policy.sum(-1, keepdim=True)
    flat = cai.evaluate(tables, policy, temperature=alpha)
    kept = cai.evaluate(factors, policy, temperature=alpha)
    for name in (*ACCOUNTS, *NATS):
        a, b = (torch.as_tensor(getattr(one, name), dtype=torch.float64) for one in (flat, kept))
        assert agree(a, b, 1e-9), name


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_decompositions_hold(discount: float) -> None:
    kept = cai.evaluate(cai.factorise(Machines(discount=discount)), cai.HARD, temperature=0.5)
    assert kept.optimality_gap == pytest.approx(float(kept.policy_nats.sum()), abs=1e-10)
    parts = kept.start_nats + float(kept.action_nats.sum()) + float(kept.luck_nats.sum())
    assert kept.evidence_gap == pytest.approx(parts, abs=1e-10)
    assert float(kept.variational.elbo) <= float(kept.posterior.log_evidence)


def test_accounts_of_the_infinite_horizon() -> None:
    world = Machines(3, horizon=None, discount=0.7)
    world.terminal = None
    flat = cai.evaluate(cai.tabulate(world), cai.HARD, temperature=10.0)
    kept = cai.evaluate(cai.factorise(world), cai.HARD, temperature=10.0)
    for name in ("expected_return", "entropy", "kl_to_prior", "elbo", "optimality_gap", "evidence_gap"):
        assert getattr(kept, name) == pytest.approx(getattr(flat, name), abs=1e-8), name


def test_a_comparison_of_factors_is_that_of_tables(tmp_path: Any) -> None:
    policies = {"max-ent": cai.VARIATIONAL, "prior": None}
    flat = cai.compare(cai.tabulate(Machines()), policies, temperature=0.5)
    kept = cai.compare(cai.factorise(Machines()), policies, temperature=0.5)
    assert isinstance(kept.model, cai.Factors)
    assert kept.elbo_star == pytest.approx(flat.elbo_star, rel=1e-10)
    assert kept.log_evidence == pytest.approx(flat.log_evidence, rel=1e-10)
    assert kept.table().split() == flat.table().split()
    assert {path.name for path in kept.save(tmp_path).iterdir()} == {"comparison.csv", "comparison.json"}


def test_the_gradient_of_the_evidence_is_the_marginals() -> None:
    factors = cai.factorise(Machines(3))
    piece = next(one for one in factors.slices[0].reward if one.scope == ("m1'",))
    table = piece.table.clone().requires_grad_()
    from dataclasses import replace

    reward = tuple(Factor(one.scope, table) if one is piece else one for one in factors.slices[0].reward)
    learned = replace(factors, slices=(replace(factors.slices[0], reward=reward),))
    (gradient,) = torch.autograd.grad(cai.solve(learned, temperature=0.7).log_evidence, table)
    kept = cai.solve(factors, temperature=0.7)
    truth = sum(kept.marginal(t, "m1") for t in (1, 2, 3)) / 0.7
    assert agree(gradient, truth)


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
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
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

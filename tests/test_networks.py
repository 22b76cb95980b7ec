"""Two-slice networks as worlds: random ones against plain Python that reads the graph's tables; every fault's words."""

import math
import random
from collections.abc import Iterator
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.bridges.networks.networkx import from_networkx, to_networkx
from cai.compile.factorise import factorise
from cai.graphs.conditionals import Logistic, NoisyOr
from tests.helpers import examples, load_model
from tests.oracles.enumeration import NEVER, log, soft
from tests.worlds import FactoredWorld, Ring, TimedWorld, temperatures

RULES = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD}
ALL_RULES = [*RULES.values(), cai.MAP, cai.RISK(-0.7), cai.RISK(1.5)]
seeds = st.integers(0, 2**31 - 1)


def small() -> nx.DiGraph:
    """A machine that rusts unless it is mended."""
    dag = nx.DiGraph()
    dag.add_node("rust_0", states=["no", "yes"], table=[0.9, 0.1])
    dag.add_node("crew_0", kind="action", states=["rest", "mend"])
    dag.add_node("rust_1", parents=["rust_0", "crew_0"], table=[[[0.7, 0.3], [1, 0]], [[0, 1], [0.6, 0.4]]])
    dag.add_node("O_0", table=[0.0, -1.0])
    dag.add_edges_from([("rust_0", "rust_1"), ("crew_0", "rust_1"), ("rust_0", "O_0")])
    return dag


def random_network(seed: int, largest: int = 20_000) -> nx.DiGraph:
    """Draw a network: random edges, zero probabilities, rewards of -inf, priors left out, nodes in any order."""
    g = random.Random(seed)
    while True:
        states = [f"x{i}" for i in range(g.randint(2, 3) if largest > 1000 else 2)]
        actions = [f"a{i}" for i in range(g.randint(1, 2))]
        latents = [f"z{i}" for i in range(g.randint(0, 2))]
        sizes = {name: g.randint(2, 4) for name in [*states, *actions, *latents]}
        total = math.prod(sizes.values()) * math.prod(sizes[name] for name in states)
        if total <= largest:
            break
    kinds = {**dict.fromkeys(states, "state"), **dict.fromkeys(actions, "action"), **dict.fromkeys(latents, "latent")}
    nodes: dict[str, dict[str, Any]] = {}

    def table(parents: list[str], own: int | None) -> Any:
        if parents:
            return [table(parents[1:], own) for _ in range(nodes[parents[0]]["cardinality"])]
        if own is None:
            return NEVER if g.random() < 0.03 else g.uniform(-3, 1)
        row = [0.0 if g.random() < 0.2 else g.uniform(0.05, 1) for _ in range(own)]
        row[g.randrange(own)] += 0.1
        return [p / sum(row) for p in row]

    def add(name: str, time: int, among: list[str]) -> None:
        parents = g.sample(among, min(len(among), g.randint(0, 3)))
        kind, size = kinds[name], sizes[name]
        nodes[f"{name}_{time}"] = {"kind": kind, "cardinality": size, "parents": parents, "table": table(parents, size)}

    for i, name in enumerate(states):
        add(name, 0, [f"{one}_0" for one in states[:i]])
    for i, name in enumerate(actions):
        add(name, 0, [f"{one}_0" for one in [*states, *actions[:i]]])
        if g.random() < 0.3:
            nodes[f"{name}_0"].update(table=None, parents=[])
    for name, time in g.sample(rest := [*((one, 1) for one in states), *((one, 0) for one in latents)], len(rest)):
        add(name, time, list(nodes))
    for i in range(g.randint(1, 3)):
        parents = g.sample([key for key in nodes if not key.startswith("pay")], g.randint(0, 3))
        nodes[f"pay{i}_0"] = {"kind": "reward", "parents": parents, "table": table(parents, None)}
    if g.random() < 0.5:
        parents = [f"{states[0]}_1"]
        nodes["end_1"] = {"kind": "reward", "parents": parents, "table": table(parents, None), "terminal": True}
    dag = nx.DiGraph()
    dag.add_nodes_from(g.sample(list(nodes.items()), len(nodes)))
    dag.add_edges_from((parent, key) for key, data in nodes.items() for parent in data["parents"])
    return dag


class Oracle:
    """Reads the tables of a graph's nodes, one assignment of all variables after the other."""

    def __init__(self, dag: nx.DiGraph, T: int, gamma: float) -> None:
        self.dag, self.T, self.gamma = dag, T, gamma
        order = [(key, dag.nodes[key]) for key in nx.topological_sort(dag)]
        self.start = [key for key, data in order if data["kind"] == "state" and key.endswith("_0")]
        self.actions = [key for key, data in order if data["kind"] == "action"]
        self.slice = [
            key for key, data in order if data["kind"] == "latent" or key in {f"{k[:-2]}_1" for k in self.start}
        ]
        self.rewards = [key for key, data in order if data["kind"] == "reward" and not data.get("terminal")]
        self.last = [key for key, data in order if data.get("terminal")]
        self.seen: dict[Any, Any] = {}

    def row(self, key: str, values: dict[str, int]) -> Any:
        table, size = self.dag.nodes[key]["table"], self.dag.nodes[key].get("cardinality")
        if table is None:
            return [1 / size] * size
        for parent in self.dag.nodes[key]["parents"]:
            table = table[values[parent]]
        return table

    def assign(self, keys: list[str], values: dict[str, int], p: float = 1.0) -> Iterator[tuple[float, dict[str, int]]]:
        if not keys:
            yield p, values
            return
        for i, chance in enumerate(self.row(keys[0], values)):
            if chance > 0:
                yield from self.assign(keys[1:], {**values, keys[0]: i}, p * chance)

    def outcomes(self, s: tuple[int, ...]) -> list[tuple[float, list[tuple[float, float, tuple[int, ...]]]]]:
        if s not in self.seen:
            found = []
            for prior, values in self.assign(self.actions, dict(zip(self.start, s, strict=True))):
                listed = []
                for p, full in self.assign(self.slice, values):
                    r = sum(self.row(key, full) for key in self.rewards)
                    listed.append((p, r, tuple(full[f"{key[:-2]}_1"] for key in self.start)))
                found.append((prior, listed))
            self.seen[s] = found
        return self.seen[s]

    def end(self, s: tuple[int, ...]) -> float:
        values = {f"{key[:-2]}_1": value for key, value in zip(self.start, s, strict=True)}
        return sum((self.row(key, values) for key in self.last), 0.0)

    def starts(self) -> list[tuple[float, tuple[int, ...]]]:
        return [(p, tuple(values[key] for key in self.start)) for p, values in self.assign(self.start, {})]

    def value(self, rule: str, alpha: float) -> float:
        """The start value under a rule, by recursion over states."""
        known: dict[Any, float] = {}

        def over(pairs: list[tuple[float, float]]) -> float:
            return soft(pairs, alpha) if rule == "POSTERIOR" else sum(p * x for p, x in pairs if p > 0)

        def v(s: tuple[int, ...], t: int) -> float:
            if t == self.T:
                return self.end(s)
            if (s, t) not in known:
                entries = []
                for prior, listed in self.outcomes(s):
                    then = [(p, r + over([(self.gamma, v(k, t + 1)), (1 - self.gamma, 0.0)])) for p, r, k in listed]
                    entries.append((prior, over(then)))
                known[s, t] = max(x for _, x in entries) if rule == "HARD" else soft(entries, alpha)
            return known[s, t]

        return over([(p, v(s, 0)) for p, s in self.starts()])

    def trajectories(self, s: tuple[int, ...], t: int, p: float, r: float) -> Iterator[tuple[float, float]]:
        """Every trajectory from a state on: its probability and what it pays."""
        if t == self.T:
            yield p, r + self.end(s)
            return
        for prior, listed in self.outcomes(s):
            for chance, reward, k in listed:
                if self.gamma < 1:
                    yield p * prior * chance * (1 - self.gamma), r + reward
                yield from self.trajectories(k, t + 1, p * prior * chance * self.gamma, r + reward)


def agree(found: Tensor | float, expected: float) -> None:
    assert float(found) == pytest.approx(expected, abs=1e-10, rel=1e-10)


@examples(16)
@given(seeds, st.sampled_from([2, 3]), st.sampled_from([1.0, 0.8]), temperatures)
def test_a_random_network_has_the_values_of_its_own_tables(seed: int, T: int, gamma: float, alpha: float) -> None:
    dag = random_network(seed, 4000)
    tables = cai.tabulate(from_networkx(dag, horizon=T, discount=gamma))
    oracle = Oracle(dag, T, gamma)
    for name, rule in RULES.items():
        expected = oracle.value(name, alpha)
        if expected == NEVER:
            with pytest.raises(cai.ImpossibleError):
                cai.solve(tables, rule, temperature=alpha)
            continue
        messages = cai.solve(tables, rule, temperature=alpha)
        agree(messages.log_evidence * alpha if name == "POSTERIOR" else messages.value, expected)


@examples(8)
@given(seeds, st.sampled_from([1.0, 0.8]))
def test_the_evidence_is_the_sum_over_every_trajectory(seed: int, gamma: float) -> None:
    dag = random_network(seed, 200)
    oracle, terms = Oracle(dag, 2, gamma), []
    for p, s in oracle.starts():
        terms += [log(one) + r for one, r in oracle.trajectories(s, 0, p, 0.0)]
    top = max(terms)
    if top > NEVER:
        expected = top + math.log(math.fsum(math.exp(x - top) for x in terms))
        agree(cai.solve(from_networkx(dag, horizon=2, discount=gamma)).log_evidence, expected)


@examples(12)
@given(seeds, st.sampled_from([2, 3]), st.sampled_from([1.0, 0.8]), temperatures)
def test_factors_agree_with_tables(seed: int, T: int, gamma: float, alpha: float) -> None:
    world = from_networkx(random_network(seed), horizon=T, discount=gamma)
    tables, factors = cai.tabulate(world), factorise(world)
    for rule in ALL_RULES:
        try:
            expected = cai.solve(tables, rule, temperature=alpha)
        except cai.ImpossibleError:
            with pytest.raises(cai.ImpossibleError):
                cai.solve(factors, rule, temperature=alpha)
            continue
        found = cai.solve(factors, rule, temperature=alpha)
        torch.testing.assert_close(found.v, expected.v, atol=1e-9, rtol=1e-9)
        agree(found.value, float(expected.value))


@examples(6)
@given(seeds)
def test_round_trips(seed: int) -> None:
    dag = random_network(seed)
    world = from_networkx(dag, horizon=3)
    back = from_networkx(to_networkx(world), horizon=3)
    one, other = cai.tabulate(world), cai.tabulate(back)
    assert one.states.names == other.states.names
    try:
        expected = cai.solve(one)
    except cai.ImpossibleError:
        return
    torch.testing.assert_close(cai.solve(other).v, expected.v, atol=1e-10, rtol=1e-10)
    merged = {key: "O_0" for key, data in dag.nodes(data=True) if data["kind"] == "reward"}
    edges = {(a, merged.get(b, b)) for a, b in dag.edges if b != "end_1"}
    assert set(cai.graph(world, 1).edges) == edges


@examples(10)
@given(seeds)
def test_functions_are_as_good_as_tables(seed: int) -> None:
    dag = random_network(seed, 4000)
    called = dag.copy()
    for _, data in called.nodes(data=True):
        if data["table"] is not None and data["parents"]:
            numbers = torch.tensor(data.pop("table"), dtype=torch.float64)
            data["conditional"] = lambda *values, numbers=numbers: numbers[values]
    one, other = (factorise(from_networkx(g, horizon=2)) for g in (dag, called))
    for a, b in zip(one.slices[0].chance.values(), other.slices[0].chance.values(), strict=True):
        assert a.scope == b.scope
        torch.testing.assert_close(a.table, b.table)
    assert len(one.slices[0].reward) == len(other.slices[0].reward)


@pytest.mark.parametrize("world", [load_model("forest")(), FactoredWorld(), load_model("forest")(horizon=None)])
def test_a_program_and_its_network_solve_alike(world: Any) -> None:
    dag = to_networkx(world)
    assert (dag.graph["horizon"], dag.graph["discount"]) == (world.horizon, getattr(world, "discount", 1.0))
    back = from_networkx(dag, horizon=dag.graph["horizon"], discount=dag.graph["discount"])
    for rule in RULES.values():
        expected = cai.solve(world, rule, temperature=50.0)
        torch.testing.assert_close(cai.solve(back, rule, temperature=50.0).v, expected.v)
    assert cai.check(back) == []


def test_a_reward_of_many_pieces_stays_one() -> None:
    ring = Ring(10)
    dag = to_networkx(ring)
    pieces = [key for key, data in dag.nodes(data=True) if data["kind"] == "optimality"]
    assert pieces[:2] == ["O.1_0", "O.2_0"]
    assert max(len(data["parents"]) for _, data in dag.nodes(data=True)) <= 3
    again = factorise(from_networkx(dag, horizon=3))
    assert len(again.slices[0].reward) == len(factorise(ring).slices[0].reward) == len(pieces)


def test_slices_that_differ_have_no_network() -> None:
    with pytest.raises(cai.WorldError, match="to_networkx: slices that differ over time"):
        to_networkx(TimedWorld(0, 2, 2, 2, 3))


def test_labels_survive() -> None:
    world = from_networkx(small(), horizon=2)
    assert world.labels == {"rust": ("no", "yes"), "crew": ("rest", "mend")}  # type: ignore[attr-defined]
    assert to_networkx(world).nodes["rust_1"]["states"] == ["no", "yes"]


def test_a_certain_next_state_takes_no_outcomes() -> None:
    dag = small()
    dag.nodes["rust_1"]["table"] = [[[0, 1], [1, 0]], [[0, 1], [1, 0]]]
    world = from_networkx(dag, horizon=2)
    assert cai.tabulate(world).log_prob.shape == (2, 2, 1)
    assert set(cai.graph(world, 1).edges) == set(dag.edges)


def test_nodes_may_be_called_anything() -> None:
    expected = cai.solve(from_networkx(small(), horizon=3)).v
    pairs = nx.relabel_nodes(small(), {key: (key[:-2], int(key[-1])) for key in small()})
    pairs.nodes["rust", 1]["parents"] = [("rust", 0), ("crew", 0)]
    pairs.nodes["O", 0]["kind"] = "optimality"
    said = nx.relabel_nodes(small(), {"rust_0": "before", "rust_1": "after", "crew_0": 7, "O_0": "cost"})
    said.nodes["before"].update(variable="rust", time=0)
    said.nodes["after"].update(variable="rust", time=1, parents=["before", 7])
    said.nodes[7].update(variable="crew", time=0)
    said.nodes["cost"]["kind"] = "reward"
    for dag in (pairs, said):
        world = from_networkx(dag, horizon=3)
        assert cai.tabulate(world).states.names == ("rust",)
        torch.testing.assert_close(cai.solve(world).v, expected)


def test_a_network_without_rewards_pays_nothing() -> None:
    dag = small()
    dag.remove_node("O_0")
    agree(cai.solve(from_networkx(dag, horizon=3)).log_evidence, 0.0)


def test_gradients_reach_tables_and_forms() -> None:
    weights, pay = torch.tensor(0.3, requires_grad=True), torch.zeros(2, requires_grad=True)
    dag = small()
    dag.nodes["rust_1"].update(table=None, form=NoisyOr([weights, 0.5], leak=0.1))
    dag.nodes["O_0"].update(table=pay)
    world = from_networkx(dag, horizon=2)
    for _ in range(2):
        cai.solve(world, cai.VARIATIONAL).elbo.backward()
    assert weights.grad is not None
    assert pay.grad is not None
    agree(pay.grad.sum(), 4.0)  # twice, two slices


def test_samples_follow_the_tables() -> None:
    torch.manual_seed(0)
    world = from_networkx(small(), horizon=2)
    policy = cai.solve(world, cai.VARIATIONAL).policy
    roll = cai.rollout(world, policy, batch=4000)
    exact = cai.evaluate(world, policy).expected_return
    returns = roll.returns
    assert abs(float(returns.mean() - exact)) < 4 * float(returns.std()) / 4000**0.5


def test_forms() -> None:
    x, y = torch.arange(2).reshape(2, 1), torch.arange(3)
    p = NoisyOr([0.3, [0.1, 0.2, 0.9]], leak=0.05)(x, y)
    for i in range(2):
        for j, w in enumerate((0.1, 0.2, 0.9)):
            agree(p[i, j, 1], 1 - 0.95 * (1 - 0.3 * i) * (1 - w))
    p = Logistic([0.5, -1.0], bias=0.2)(x, y)
    agree(p[1, 2, 1], 1 / (1 + math.exp(-(0.2 + 0.5 - 2.0))))
    several = Logistic([[0.0, 0.5], [0.0, -1.0]], bias=[0.0, 0.2])
    assert several.size == 2
    torch.testing.assert_close(several(x, y), p)
    assert NoisyOr([0.2])(torch.tensor(0)).tolist() == [1.0, 0.0]  # exact zeros stay
    for wrong in (lambda: NoisyOr([1.2]), lambda: NoisyOr(["a"]), lambda: Logistic([math.nan])):
        with pytest.raises(cai.WorldError, match=r"weights\[0\]"):
            wrong()
    with pytest.raises(cai.WorldError, match=r"weights\[0\]: shape \(\); expected \(2,\), the shape of the bias"):
        Logistic([1.0], bias=[0.0, 1.0])


def test_parents_alone_are_enough() -> None:
    """Edges are what the parents say; only an edge without an axis contradicts them."""
    bare, full = nx.DiGraph(), small()
    full.nodes["O_0"]["parents"] = ["rust_0"]
    bare.add_nodes_from(full.nodes(data=True))
    assert not bare.edges
    a, b = (cai.solve(from_networkx(dag, horizon=3)).v for dag in (bare, full))
    assert torch.equal(a, b)
    assert not bare.edges  # what was given is as it was


@pytest.mark.parametrize("written", ["table", "conditional"])
def test_the_rounding_of_a_complement_is_no_negative_probability(written: str) -> None:
    """1 - ok - worn is -2.8e-17 for 0.9 and 0.1: it counts as 0, a probability of 0 and not of 2.8e-17."""
    dust = 1 - 0.9 - 0.1
    assert -1e-16 < dust < 0
    dag = nx.DiGraph()
    dag.add_node("pump_0", cardinality=3, table=[0.9, 0.1, dust])
    row = torch.tensor([0.9, 0.1, dust], dtype=torch.float64)
    content: Any = torch.stack([row] * 3) if written == "table" else lambda pump: row.expand(*pump.shape, 3)
    dag.add_node("pump_1", parents=["pump_0"], **{written: content})
    dag.add_node("O_0", parents=["pump_1"], table=[1.0, 0.0, 60.0])
    for form in ("tables", "factors"):
        found = cai.solve(from_networkx(dag, horizon=2), form=form)
        assert float(found.log_evidence) == pytest.approx(2 * math.log(0.9 * math.e + 0.1), abs=1e-12)


def test_a_chain_without_actions_is_a_world() -> None:
    """A forward pass in plain Python: the evidence of two sights of a chain, and where it was between them."""
    dag, move = nx.DiGraph(), [[0.7, 0.3], [0.2, 0.8]]
    dag.add_node("x_0", table=[0.5, 0.5])
    dag.add_node("x_1", parents=["x_0"], table=move)
    world = from_networkx(dag, horizon=2)
    for form in ("tables", "factors"):
        found = cai.solve(world, form=form, observe={"x_0": 0, "x_2": 1})
        path = [0.5 * move[0][x] * move[x][1] for x in (0, 1)]
        assert float(found.log_evidence) == pytest.approx(math.log(sum(path)), abs=1e-12)
        between = found.marginal(1, "x")
        assert between.tolist() == pytest.approx([p / sum(path) for p in path], abs=1e-12)
    assert cai.check(world) == []


def test_the_likeliest_value_counts_of_a_latent_that_nothing_reads() -> None:
    """MAP is max over trajectories, all of it: a coin on the side costs log of its likelier side."""
    dag = small()
    dag.add_node("coin_0", kind="latent", table=[0.4, 0.6])
    plain, coin = (cai.factorise(from_networkx(one, horizon=2)) for one in (small(), dag))
    gap = cai.solve(coin, cai.MAP).value - cai.solve(plain, cai.MAP).value
    assert float(gap) == pytest.approx(2 * math.log(0.6), abs=1e-12)
    for rule in (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD):
        assert float(cai.solve(coin, rule).value) == pytest.approx(float(cai.solve(plain, rule).value), abs=1e-12)

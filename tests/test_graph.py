"""The graph is the program's own: nodes, edges, independence, entanglement."""

import networkx as nx
import pyro
import pytest
import torch
from pyro.distributions import Categorical
from pyro.infer.inspect import get_dependencies

import cai
from cai.world.dependencies import read_by_sites
from tests.worlds import FactoredWorld, RandomWorld, Ring, TimedWorld


def grid(discount: float = 1.0, horizon: int | None = 4) -> RandomWorld:
    return RandomWorld(seed=0, S=3, A=2, K=2, horizon=horizon, holes=False, discount=discount)


def test_edges_are_those_that_the_code_reads() -> None:
    dag = cai.graph(grid(), slices=2)
    assert nx.is_directed_acyclic_graph(dag)
    slices = {
        ("s_0", "a_0"),
        ("s_0", "s_1"),
        ("a_0", "s_1"),
        ("k_0", "s_1"),
        ("s_0", "O_0"),
        ("a_0", "O_0"),
        ("k_0", "O_0"),
    }
    later = {tuple(f"{n[0]}_{int(n[2]) + 1}" for n in edge) for edge in slices}
    latents = {("s_0", "k_0"), ("a_0", "k_0"), ("s_1", "k_1"), ("a_1", "k_1")}
    assert set(dag.edges) == slices | later | latents


@pytest.mark.parametrize("world", [grid(), FactoredWorld(), TimedWorld(1, 3, 2, 2, 4, discount=0.9), Ring(6)])
def test_parents_are_pyros_prior_dependencies(world) -> None:
    program = cai.trajectory(world)
    _, parents = read_by_sites(program)
    expected = get_dependencies(program)["prior_dependencies"]
    assert {child: {*above, child} for child, above in parents.items()} == {n: {*up} for n, up in expected.items()}
    assert [*parents] == [*expected]


def test_nodes_carry_kind_time_and_observation() -> None:
    dag = cai.graph(grid(discount=0.9), slices=2)
    kinds = {node: data["kind"] for node, data in dag.nodes(data=True)}
    assert kinds["s_2"] == "state"
    assert kinds["a_1"] == "action"
    assert kinds["k_0"] == "latent"
    assert kinds["O_0"] == "optimality"
    assert kinds["alive_1"] == "survival"
    assert [n for n, data in dag.nodes(data=True) if data["observed"]] == ["O_0", "O_1"]
    assert dag.nodes["s_2"]["time"] == 2
    assert ("alive_1", "O_1") in dag.edges
    assert dag.nodes["s_2"]["plates"] == ()


def test_the_terminal_reward_stands_at_its_own_time_only() -> None:
    assert "O_4" not in cai.graph(grid(), slices=3)
    assert set(cai.graph(grid(), slices=4).predecessors("O_4")) == {"s_4"}


def test_a_plate_is_noted() -> None:
    class Plated:
        horizon = 2

        def initial(self):
            with pyro.plate("machines", 3):
                return pyro.sample("up", Categorical(logits=torch.zeros(2)))

        def act(self, state, t):
            return pyro.sample("fix", Categorical(logits=torch.zeros(3)))

        def step(self, state, action, t):
            with pyro.plate("machines", 3):
                up = pyro.sample("up", Categorical(logits=torch.stack([state, 1 - state], -1).float()))
            return up, -1.0 * (state == 0).sum(-1)

    dag = cai.graph(Plated())
    assert dag.nodes["up_1"]["plates"] == ("machines",)
    assert dag.nodes["fix_0"]["plates"] == ()


def test_the_policy_needs_the_state_only() -> None:
    """Is a_t independent of O_{<t} given s_t? Yes; without s_t it is not; and a_t does depend on what is to come."""
    dag = cai.graph(grid(), slices=3)
    assert cai.graphs.is_independent(dag, "a_1", ["O_0", "a_0", "s_0"], given="s_1")
    assert not cai.graphs.is_independent(dag, "a_1", "O_0")
    assert not cai.graphs.is_independent(dag, "a_1", "O_1", given="s_1")
    with pytest.raises(cai.WorldError, match="no node 'b_1'"):
        cai.graphs.is_independent(dag, "b_1", "O_0")


class Two:
    """Two machines; the flags say what couples them."""

    horizon = 3

    def __init__(self, shared_action: bool, joint_reward: bool, coupled: bool) -> None:
        self.shared_action, self.joint_reward, self.coupled = shared_action, joint_reward, coupled

    def initial(self):
        return {name: pyro.sample(name, Categorical(logits=torch.zeros(2))) for name in ("x", "y")}

    def act(self, state, t):
        names = ("a",) if self.shared_action else ("a", "b")
        return {name: pyro.sample(name, Categorical(logits=torch.zeros(2))) for name in names}

    def step(self, state, action, t):
        first, second = action["a"], action.get("b", action["a"])
        x = pyro.sample("x", Categorical(logits=torch.stack([state["x"] * 1.0, first * 1.0], -1)))
        pull = state["y"] + (state["x"] if self.coupled else 0)
        y = pyro.sample("y", Categorical(logits=torch.stack([pull * 1.0, second * 1.0], -1)))
        return {"x": x, "y": y}, -1.0 * (x * y if self.joint_reward else x)


@pytest.mark.parametrize(
    ("shared", "joint", "coupled", "groups"),
    [
        (False, False, False, [{"x_1"}, {"y_1"}]),
        (True, True, False, [{"x_1", "y_1"}]),
        (False, True, False, [{"x_1", "y_1"}]),
        # y is never rewarded, so neither a shared action nor the coupling x -> y ties it to what matters.
        (True, False, False, [{"x_1"}, {"y_1"}]),
        (False, False, True, [{"x_1"}, {"y_1"}]),
    ],
)
def test_what_entangles(shared: bool, joint: bool, coupled: bool, groups: list) -> None:
    assert cai.graphs.entangled(cai.graph(Two(shared, joint, coupled), slices=2), 1) == groups


def test_the_graph_of_a_factored_world() -> None:
    dag = cai.graph(FactoredWorld(), slices=1)
    assert set(dag.predecessors("door_1")) == {"floor_1", "door_0", "push_0"}
    assert set(dag.predecessors("floor_1")) == {"floor_0", "lift_0", "wind_0"}


def test_wrong_questions_are_refused() -> None:
    for slices in (0, 9):
        with pytest.raises(cai.WorldError, match="slices"):
            cai.graph(grid(), slices=slices)
    with pytest.raises(cai.WorldError, match="time"):
        cai.graphs.entangled(cai.graph(grid()), 7)


def test_infinite_and_timed_worlds_have_graphs() -> None:
    assert "O_2" in cai.graph(grid(0.9, None), slices=3)
    assert "O_1" in cai.graph(TimedWorld(seed=0, S=2, A=2, K=2, horizon=3, holes=False))


def test_conditions_show_in_the_graph() -> None:
    plain = cai.graph(FactoredWorld(), 2)
    dag = cai.graph(FactoredWorld(), 2, observe={"wind_0": 1, "floor_2": 0}, do={"door_1": 1, "lift_0": 0})
    assert dag.nodes["wind_0"]["observed"]
    assert dag.nodes["floor_2"]["observed"]
    assert not list(dag.predecessors("door_1"))
    assert not list(dag.predecessors("lift_0"))
    assert set(dag.successors("door_1")) == set(plain.successors("door_1"))
    assert list(plain.predecessors("door_1"))
    # What is forced says nothing about what would have caused it; what is seen does.
    assert cai.graphs.is_independent(dag, "door_1", "door_0")
    with pytest.raises(cai.WorldError, match="no node 'door_9'"):
        cai.graph(FactoredWorld(), 2, do={"door_9": 1})

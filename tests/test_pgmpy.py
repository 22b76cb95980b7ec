"""pgmpy's networks as worlds, against pgmpy's own variable elimination on the network written out over time."""

import importlib
import math
import re
import warnings
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import cai
from cai.bridges.networks.networkx import from_networkx, to_networkx
from cai.bridges.networks.pgmpy import from_bif, from_pgmpy
from tests.helpers import slow_after

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pgmpy")
    from pgmpy.factors.discrete import TabularCPD  # type: ignore[import-untyped]
    from pgmpy.inference import VariableElimination  # type: ignore[import-untyped]
    from pgmpy.models import (  # type: ignore[import-untyped]
        DiscreteBayesianNetwork,
        DynamicBayesianNetwork,
    )
    from pgmpy.readwrite import BIFWriter, XMLBIFWriter  # type: ignore[import-untyped]

SIZES = {"wear": 3, "load": 2, "crew": 2, "dust": 2}
PARENTS = {  # by node; slice 1 is written with its slice
    ("load", 0): [],
    ("wear", 0): [("load", 0)],
    ("crew", 0): [("wear", 0)],
    ("dust", 0): [("load", 0), ("crew", 0)],
    ("load", 1): [("load", 0)],
    ("wear", 1): [("load", 1), ("wear", 0), ("crew", 0), ("dust", 0)],
}
NAMES = {"wear": ["none", "some", "much"], "load": ["low", "high"], "crew": ["rest", "mend"], "dust": ["no", "yes"]}
PAY = {"wear": [0.0, -0.4, -2.0], ("crew", ("load", 1)): [[0.1, 0.3], [-0.5, -0.2]]}
ALPHA, T = 0.7, 3

pytestmark = pytest.mark.filterwarnings("ignore:::pgmpy.*", "ignore:::networkx.*", "ignore:::pandas.*")


def tables(seed: int = 0) -> dict[Any, np.ndarray]:
    """The columns of each CPD ``[own, parents]``."""
    g = np.random.default_rng(seed)
    found = {}
    for (name, time), parents in PARENTS.items():
        columns = math.prod(SIZES[one] for one, _ in parents)
        found[name, time] = g.dirichlet(np.ones(SIZES[name]), columns).T
    return found


def cpd(node: Any, own: str, parents: list[tuple[Any, str]], values: np.ndarray, named: bool = False) -> Any:
    """A TabularCPD whose nodes are called anything, with the variables that they are copies of."""
    names = {one: NAMES[name] for one, name in [(node, own), *parents]} if named else {}
    cards = [SIZES[name] for _, name in parents]
    return TabularCPD(node, SIZES[own], values, [one for one, _ in parents] or None, cards or None, state_names=names)


def dynamic(named: bool = False, seed: int = 0) -> Any:
    dbn = DynamicBayesianNetwork([(parent, node) for node, parents in PARENTS.items() for parent in parents])
    for node, values in tables(seed).items():
        dbn.add_cpds(cpd(node, node[0], [(one, one[0]) for one in PARENTS[node]], values, named))
    return dbn


def at(node: tuple[str, int], t: int) -> str:
    return f"{node[0]}_{node[1] + t}"


def unrolled(seed: int = 0) -> tuple[Any, float]:
    """The network of all times with binary optimality nodes p(O=1) = exp(r/α)/scale, and the log of all scales."""
    net, found = DiscreteBayesianNetwork(), tables(seed)
    slices = [(node, 0) for node in PARENTS if node[1] == 0]
    slices += [(node, t) for t in range(T) for node in PARENTS if node[1] == 1]
    slices += [(node, t) for t in range(1, T) for node in PARENTS if node[0] in ("crew", "dust")]
    log_scale = 0.0
    for node, t in slices:
        parents = [(at(one, t), one[0]) for one in PARENTS[node]]
        net.add_node(at(node, t))
        net.add_edges_from((one, at(node, t)) for one, _ in parents)
        net.add_cpds(cpd(at(node, t), node[0], parents, found[node]))
    for t in range(T):
        for i, (read, table) in enumerate(
            {(("wear", 0),): PAY["wear"], (("crew", 0), ("load", 1)): PAY[list(PAY)[1]]}.items()
        ):
            potential = np.exp(np.array(table).reshape(-1) / ALPHA)
            log_scale += math.log(potential.max())
            on, goal = potential / potential.max(), f"O{i}_{t}"
            net.add_edges_from((at(one, t), goal) for one in read)
            cards = [SIZES[one] for one, _ in read]
            net.add_cpds(TabularCPD(goal, 2, np.stack([1 - on, on]), [at(one, t) for one in read], cards))
    return net, log_scale


def test_variable_elimination_agrees() -> None:
    world = from_pgmpy(dynamic(), actions=["crew"], rewards=PAY, horizon=T)
    messages = cai.solve(world, temperature=ALPHA)
    net, log_scale = unrolled()
    engine, goals = VariableElimination(net), [f"O{i}_{t}" for t in range(T) for i in range(2)]
    joint = engine.query(goals, show_progress=False)
    evidence = math.log(joint.get_value(**dict.fromkeys(goals, 1))) + log_scale
    assert float(messages.log_evidence) == pytest.approx(evidence, abs=1e-9)
    space = cai.tabulate(world).states
    assert space.names == ("load", "wear")
    for t in range(T):
        states = messages.marginals(t).sum(-1).reshape(space.sizes)
        for name, other in (("load", 1), ("wear", 0)):
            truth = engine.query([f"{name}_{t}"], evidence=dict.fromkeys(goals, 1), show_progress=False)
            torch.testing.assert_close(states.sum(other), torch.as_tensor(truth.values), atol=1e-9, rtol=0)


def test_states_are_what_must_be_known_before_acting() -> None:
    dag = to_networkx(from_pgmpy(dynamic(named=True), actions="crew", rewards=PAY, horizon=T))
    kinds = {key: data["kind"] for key, data in dag.nodes(data=True) if data["kind"] != "optimality"}
    expected = {"load_0": "state", "wear_0": "state", "crew_0": "action", "dust_0": "latent"}
    assert kinds == {**expected, "load_1": "state", "wear_1": "state"}
    assert dag.nodes["wear_1"]["states"] == NAMES["wear"]
    dbn = dynamic()  # dust that is seen by who acts is a state, though nothing carries it over
    dbn.remove_cpds(dbn.get_cpds(("crew", 0)), dbn.get_cpds(("dust", 0)))
    dbn.remove_edge(("crew", 0), ("dust", 0))
    dbn.remove_edge(("crew", 1), ("dust", 1))
    dbn.add_edge(("dust", 0), ("crew", 0))
    dbn.add_cpds(cpd(("dust", 0), "dust", [(("load", 0), "load")], tables()["dust", 0][:, :2]))
    world = from_pgmpy(dbn, actions="crew", rewards={("dust", 1): [0, -1]}, horizon=2)
    assert set(cai.tabulate(world).states.names) == {"load", "wear", "dust"}
    prior = cai.tabulate(world).log_prior
    torch.testing.assert_close(prior, torch.full_like(prior, -math.log(2)))  # an action without a CPD


def static() -> Any:
    """The two slices as one network without time."""
    net = DiscreteBayesianNetwork()
    net.name = "wear"
    for node, values in tables().items():
        parents = [(at(one, 0), one[0]) for one in PARENTS[node]]
        net.add_node(at(node, 0))
        net.add_edges_from((one, at(node, 0)) for one, _ in parents)
        net.add_cpds(cpd(at(node, 0), node[0], parents, values, named=True))
    return net


REWARDS = {"wear_0": PAY["wear"], ("crew_0", "load_1"): PAY[list(PAY)[1]]}


@pytest.mark.parametrize("suffix", slow_after(1, [".bif", ".xmlbif", ".xml"]))
def test_files_are_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"machine{suffix}"
    writer = BIFWriter if suffix == ".bif" else XMLBIFWriter
    writer(static()).write(str(path))
    world = from_bif(path, actions=["crew"], rewards=REWARDS, horizon=T)
    truth = from_pgmpy(dynamic(), actions=["crew"], rewards=PAY, horizon=T)
    for rule in (cai.POSTERIOR, cai.VARIATIONAL):
        found, expected = (cai.solve(one, rule, temperature=ALPHA) for one in (world, truth))
        assert float(found.value) == pytest.approx(float(expected.value), abs=1e-9)
    assert world.labels["wear"] == tuple(NAMES["wear"])  # type: ignore[attr-defined]
    assert str(world.name) == "machine"  # type: ignore[attr-defined]


BIF = """network lamp {
}
variable on_0 { type discrete [ 2 ] { off, on };
}
variable on_1 { type discrete [ 2 ] { off, on };
}
variable push_0 { type discrete [ 3 ] { none, half, full };
}
probability ( on_0 ) { table 0.333, 0.666;
}
probability ( push_0 ) { table 0.3333, 0.3333, 0.3333;
}
probability ( on_1 | on_0, push_0 ) {
  (off, none) 1.0, 0.0; (off, half) 0.5, 0.5; (off, full) 0.0, 1.0;
  (on, none) 0.0, 1.0; (on, half) 0.5, 0.5; (on, full) 1.0, 0.0;
}"""


def lamp(tmp_path: Path, text: str, name: str = "lamp.bif", **options: Any) -> Any:
    path = tmp_path / name
    path.write_text(text)
    return from_bif(path, **{"actions": "push", "rewards": {"on_1": [0, 1]}, "horizon": 2, **options})


@pytest.mark.slow
def test_a_file_by_hand(tmp_path: Path) -> None:
    world = lamp(tmp_path, BIF)  # no newline at its end, and digits that do not quite sum to 1
    start = cai.tabulate(world).log_initial.exp()
    torch.testing.assert_close(start, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), atol=1e-12, rtol=0)
    blanks = lamp(tmp_path, BIF.replace("}\n", "}  \r\n"))
    for rule in (cai.POSTERIOR, cai.HARD):
        assert float(cai.solve(world, rule).value) == pytest.approx(float(cai.solve(blanks, rule).value))
    assert float(cai.solve(world, cai.HARD).value) == pytest.approx(2.0)
    back = from_networkx(to_networkx(world), horizon=2)
    assert float(cai.solve(back).value) == pytest.approx(float(cai.solve(world).value))


@pytest.mark.parametrize(
    ("change", "words"),
    slow_after(
        3,
        [
            (
                ("0.333, 0.666", "0.3, 0.6"),
                "'on_0': probabilities that do not sum to 1 in 1 of 1 rows, first: 0.3, 0.6",
            ),
            (("1.0, 0.0;\n}", "1.0, 0.0;\n} x"), "3 blocks 'probability', of which 2 could be read"),
            ((BIF, "once upon a time"), "no variables; expected a network in BIF"),
            (("0.333, 0.666", "0.3, 0.6, 0.1"), r"from_bif\('lamp.bif'\): ValueError: .*; expected a network in BIF"),
            (
                ("on_0, push_0 )", "on_0, pull_0 )"),
                r"from_bif\('lamp.bif'\): KeyError: 'pull_0'; expected a network in BIF",
            ),
            (("(on, full) 1.0, 0.0;", ""), "rows, first at on_0=on, push_0=full: 0, 0"),
            ((BIF, ""), "no variables|Must specify"),
            (("on_1", "lit_1"), "horizon: 2; expected 1: a network without a second slice"),
        ],
    ),
)
def test_broken_files_get_one_clear_line(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    options = {"rewards": {"lit_1": [0, 1]}} if "lit_1" in change else {}
    with pytest.raises(cai.WorldError, match=words) as caught:
        lamp(tmp_path, BIF.replace(*change), **options)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, text, words in (
        ("lamp.xml", "<BIF><NETWORK>", "XMLBIF"),
        ("lamp.xml", "<BIF></BIF>", "text that is no such network"),
        ("lamp.net", BIF, "the suffix '.net'; expected a file in .bif, .xmlbif, .xml"),
    ):
        with pytest.raises(cai.WorldError, match=re.escape(words)):
            lamp(tmp_path, text, name)
    with pytest.raises(cai.WorldError, match=r"FileNotFoundError.* expected a file of text"):
        from_bif(tmp_path / "none.bif", actions=[], rewards={}, horizon=1)
    with pytest.raises(cai.WorldError, match="actions: no variable 'pull_0'; expected variables among"):
        lamp(tmp_path, BIF, actions="pull")


def test_networks_that_are_no_world() -> None:
    def refused(words: str, dbn: Any, actions: Any = "crew", rewards: Any = PAY) -> None:
        with pytest.raises(cai.WorldError, match=words):
            from_pgmpy(dbn, actions=actions, rewards=rewards, horizon=T)

    refused("from_pgmpy, actions: no variable 'crew'", static())
    refused("from_pgmpy: a DiGraph; expected a pgmpy.models.Dyn", nx.DiGraph())
    refused("from_pgmpy, actions: no variable 'boss'", dynamic(), "boss")
    refused("'load': an edge from the slice before", dynamic(), ["crew", "load"])
    refused("node 'O_0': a missing parent 'boss_0'", dynamic(), rewards={"boss": [0, 1]})
    refused(r"'O_0': a table of shape \(2,\); expected \(3,\)", dynamic(), rewards={"wear": [0, 1]})
    refused("node 'O_0': a missing parent 'crew_1'", dynamic(), rewards={("crew", 1): [0, 1]})
    dbn = dynamic()
    dbn.remove_cpds(dbn.get_cpds(("wear", 0)))
    refused("node 'wear_0': no distribution", dbn)
    dbn = dynamic()
    dbn.add_edge(("dust", 0), ("load", 1))
    refused(r"CPD of load, slice 1: parents \['load_0'\]; expected \['dust_0', 'load_0'\]", dbn)
    dbn = dynamic()
    slow = cpd(("crew", 1), "crew", [(("wear", 1), "wear")], tables(1)["crew", 0])
    dbn.add_cpds(slow)
    refused("variable 'crew': distributions that differ between the slices", dbn)
    dbn = dynamic(named=True)
    other = {("load", 0): ["high", "low"], ("wear", 0): NAMES["wear"]}
    dbn.remove_cpds(dbn.get_cpds(("wear", 0)))
    dbn.add_cpds(TabularCPD(("wear", 0), 3, tables()["wear", 0], [("load", 0)], [2], state_names=other))
    refused("CPD of wear, slice 0: the states .* of its parent 'load'", dbn)


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> Any:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(cai.WorldError, match=r"No module named .* pip install 'cai\[pgmpy\]'"):
        lamp(tmp_path, BIF)

"""What is wrong with a network is said in words, every fault at once."""

import math
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

import cai
from cai.bridges.networks.networkx import from_networkx
from cai.graphs.conditionals import NoisyOr
from tests.test_networks import small


def broken(node: str, **data: Any) -> nx.DiGraph:
    dag = small()
    dag.nodes[node].update(data)
    return dag


def joined(*edges: tuple[str, str], **nodes: Any) -> nx.DiGraph:
    dag = small()
    dag.add_nodes_from(nodes.items())
    dag.add_edges_from(edges)
    return dag


def lacking(*nodes: str) -> nx.DiGraph:
    dag = small()
    dag.remove_nodes_from(nodes)
    return dag


def raising(*values: Tensor) -> Tensor:
    raise KeyError("no such part")


LATENT = {"kind": "latent", "table": [0.5, 0.5]}
FAULTS: list[tuple[str, Any, str]] = [
    ("graph", nx.Graph(), "from_networkx: a Graph; expected a networkx.DiGraph"),
    (
        "cycle",
        joined(("rust_1", "dew_0"), ("dew_0", "rust_1"), dew_0=LATENT),
        "a cycle (rust_1 → dew_0 → rust_1|dew_0 → rust_1 → dew_0);",
    ),
    ("missing", broken("rust_1", parents=["rust_0", "crew_0", "dew_0"]), "node 'rust_1': a missing parent 'dew_0'"),
    ("table", broken("O_0", parents=["rust_0", "crew_0"]), r"'O_0': a table of shape \(2,\); expected \(2, 2\)"),
    ("twice", broken("O_0", parents=["rust_0", "rust_0"]), "node 'O_0': the parent 'rust_0' twice"),
    ("axis", joined(("dew_0", "rust_1"), dew_0=LATENT), "an edge dew_0 → rust_1 without an axis"),
    ("shape", broken("rust_0", table=[[0.9, 0.1]]), r"'rust_0': a table of shape \(1, 2\); expected \(2,\)"),
    ("reward", broken("O_0", table=0.0), r"'O_0': a table of shape \(\); expected \(2,\): an axis .* parent, rust_0"),
    ("sum", broken("rust_0", table=[0.9, 0.2]), "'rust_0': probabilities that do not sum to 1 in 1 of 1 rows"),
    ("row", broken("rust_1", table=[[[1, 0]] * 2, [[1, 0], [0.5, 0.4]]]), "at rust_0=yes, crew_0=mend: 0.5, 0.4"),
    ("negative", broken("rust_0", table=[1.1, -0.1]), "negative probabilities"),
    ("no dust", broken("rust_0", table=[1 + 2e-9, -2e-9]), "negative probabilities"),
    ("nan", broken("rust_0", table=[math.nan, 1]), "NaN or infinite"),
    ("nan reward", broken("O_0", table=[0, math.nan]), "1 rewards are NaN, first at rust_0=yes"),
    ("inf reward", broken("O_0", table=[math.inf, 0]), r"1 rewards are \+inf, first at rust_0=no"),
    ("kind", broken("crew_0", kind="decision"), "node 'crew_0': unknown kind 'decision'"),
    ("unsaid", joined(dew_0={"table": [0.5, 0.5]}), "node 'dew_0': no kind; expected kind = 'state', "),
    ("time", joined(dew=LATENT), "node 'dew': no time: None; expected a name such as cell_0"),
    ("late", joined(dew_1=LATENT), "node 'dew_1': a latent at time 1; expected time 0"),
    ("twin", lacking("rust_1"), "node 'rust_0': no kind"),
    ("half", joined(dew_0={**LATENT, "kind": "state"}), "variable 'dew': a state at time 0 only"),
    ("sizes", broken("rust_1", states=None, cardinality=3), "variable 'rust': 3 values at time 1; expected 2"),
    ("names", broken("rust_1", states=["yes", "no"]), r"states \('yes', 'no'\) at time 1; expected \('no', 'yes'\)"),
    ("backwards", joined(("rust_1", "rust_0")), "edge rust_1 → rust_0: an edge backwards in time"),
    ("start", joined(("crew_0", "rust_0")), "edge crew_0 → rust_0: a start that reads an action"),
    ("spy", joined(("dew_0", "crew_0"), dew_0=LATENT), "edge dew_0 → crew_0: an action that reads a latent"),
    ("prophet", joined(("rust_1", "crew_0")), "edge rust_1 → crew_0: an action that reads a next state"),
    ("read", joined(("O_0", "rust_1")), "edge O_0 → rust_1: a reward that is read"),
    (
        "end",
        joined(("crew_0", "end"), end={"kind": "reward", "terminal": True, "table": [0, 1]}),
        "a terminal reward that reads",
    ),
    ("cardinality", broken("crew_0", states=None, cardinality=0), "node 'crew_0', cardinality: 0; expected a whole"),
    ("alike", broken("crew_0", states=["a", "a"]), "node 'crew_0', states: .* no two alike"),
    ("list", broken("crew_0", states=2), "node 'crew_0', states: a int; expected a list of names"),
    ("number", broken("crew_0", cardinality=3), "node 'crew_0', states: 2 names; expected 3"),
    ("unknown", broken("crew_0", states=None), "node 'crew_0': an unknown number of values"),
    ("orphan", lacking("crew_0"), "node 'rust_1': a missing parent 'crew_0'"),
    ("empty", nx.DiGraph(), "from_networkx: a graph without nodes"),
    ("nothing", broken("rust_0", table=None), "node 'rust_0': no distribution"),
    ("unpaid", broken("O_0", table=None), "node 'O_0': a reward without a table"),
    ("both", broken("rust_0", form=NoisyOr([])), "node 'rust_0': both table and form"),
    ("ragged", broken("rust_0", table=[[1], [2, 3]]), "node 'rust_0': a table that is no array: ValueError"),
    (
        "raises",
        broken("O_0", table=raising),
        "'O_0': a function that raises KeyError: 'no such part' .test_network_faults.py:",
    ),
    ("grows", broken("O_0", table=lambda r: torch.zeros(5)), r"gives shape \(5,\); expected .* broadcasts to \(2,\)"),
    ("own", broken("rust_0", table=lambda: torch.ones(1)), r"gives shape \(1,\); expected .* to \(2,\)"),
    ("weights", broken("rust_1", table=None, form=NoisyOr([0.1])), "'rust_1', NoisyOr, weights: 1 for 2 parents"),
    ("reserved", joined(alive_0=LATENT), "node 'alive_0': a name that the trajectory program uses itself"),
    ("double", joined(spare={**LATENT, "variable": "rust", "time": 0}), "the variable and time of node 'rust_0'"),
]


@pytest.mark.parametrize(("dag", "words"), [one[1:] for one in FAULTS], ids=[one[0] for one in FAULTS])
def test_faults_are_named(dag: Any, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        from_networkx(dag, horizon=2)


def test_every_fault_is_named_at_once() -> None:
    dag = broken("rust_0", table=[0.9, 0.2])
    dag.nodes["O_0"]["table"] = [math.nan, math.inf]
    dag.nodes["crew_0"].update(kind="decision")
    with pytest.raises(cai.WorldError) as caught:
        from_networkx(dag, horizon=2)
    where = {finding.where for finding in caught.value.findings}
    assert where >= {"node 'rust_0'", "node 'O_0'", "node 'crew_0'"}


@pytest.mark.parametrize(("horizon", "discount"), [(0, 1.0), (None, 1.0), (2, 1.5)])
def test_horizon_and_discount_are_checked(horizon: int | None, discount: float) -> None:
    with pytest.raises(cai.WorldError, match=r"horizon|discount"):
        from_networkx(small(), horizon=horizon, discount=discount)

"""Networks without time or decisions as worlds of horizon 1, against pgmpy's elimination and plain enumeration."""

import math
import warnings

import pytest
import torch

import cai
from cai.bridges.pgmpy import from_pgmpy

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pgmpy")
    from pgmpy.inference import VariableElimination  # type: ignore[import-untyped]
    from pgmpy.utils import get_example_model  # type: ignore[import-untyped]

pytestmark = pytest.mark.filterwarnings("ignore:::pgmpy.*", "ignore:::networkx.*", "ignore:::pandas.*")

QUESTIONS = [
    ("cancer", {"Xray": "positive", "Dyspnoea": "True"}, ["Pollution", "Smoker", "Cancer"]),
    ("asia", {"xray": "yes", "dysp": "yes"}, ["asia", "smoke", "lung", "bronc"]),
    ("survey", {"T": "car"}, ["A", "O"]),
    ("sachs", {"Akt": "LOW", "Erk": "HIGH"}, ["PKA", "Raf"]),
    ("alarm", {"HRBP": "HIGH", "BP": "LOW"}, ["HYPOVOLEMIA", "LVFAILURE", "CATECHOL"]),
    ("win95pts", {"Problem1": "No_Output", "Problem3": "No"}, ["PrtOn", "NetOK", "PrtPaper"]),
]


@pytest.mark.parametrize(("name", "seen", "asked"), QUESTIONS, ids=[one[0] for one in QUESTIONS])
def test_pgmpys_elimination_agrees(name: str, seen: dict[str, str], asked: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = get_example_model(name)
    values = {node: network.get_cpds(node).state_names[node] for node in network.nodes()}
    engine = VariableElimination(network)
    world = from_pgmpy(network)
    evidence = {f"{node}_0": values[node].index(value) for node, value in seen.items()}
    forms = ("tables", "factors") if len(values) < 10 else ("auto",)
    every = [cai.solve(world, form=form, observe=evidence) for form in forms]
    truth = engine.query(list(seen), show_progress=False)
    for found in every:
        assert math.exp(float(found.log_evidence)) == pytest.approx(float(truth.get_value(**seen)), rel=1e-7)
    for node in asked:
        truth = engine.query([node], evidence=seen, show_progress=False).values
        for found in every:
            got = found.marginal(0, "O_" if node == "O" else node)
            torch.testing.assert_close(got, torch.as_tensor(truth), atol=1e-7, rtol=0)

"""Networks without time or decisions as worlds of horizon 1, against pgmpy's elimination and plain enumeration."""

import math
import warnings
from typing import Any

import pytest
import torch

import cai
from cai.bridges.networks.pgmpy import from_bif, from_pgmpy

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pgmpy")
    from pgmpy.factors.discrete import TabularCPD  # type: ignore[import-untyped]
    from pgmpy.inference import VariableElimination  # type: ignore[import-untyped]
    from pgmpy.models import DiscreteBayesianNetwork  # type: ignore[import-untyped]
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
@pytest.mark.slow
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


def umbrella(seen: bool = True) -> Any:
    """Weather, a forecast, and an umbrella that reads both, or the forecast alone."""
    edges = [("weather", "forecast"), ("forecast", "take"), *([("weather", "take")] if seen else [])]
    network = DiscreteBayesianNetwork([*edges, ("take", "wet"), ("weather", "wet")])
    parents = ["forecast", "weather"] if seen else ["forecast"]
    network.add_cpds(
        TabularCPD("weather", 2, [[0.7], [0.3]], state_names={"weather": ["dry", "rain"]}),
        TabularCPD("forecast", 2, [[0.8, 0.25], [0.2, 0.75]], ["weather"], [2]),
        TabularCPD("take", 2, [[0.5] * 2 ** len(parents)] * 2, parents, [2] * len(parents)),
        TabularCPD("wet", 2, [[0.9, 0.2, 1.0, 0.95], [0.1, 0.8, 0.0, 0.05]], ["take", "weather"], [2, 2]),
    )
    return network


def test_a_decision_is_an_action_and_what_it_reads_the_state() -> None:
    """Plain Python: for each weather and forecast the better of taking it, at a cost of 0.2, and of getting wet."""
    world = from_pgmpy(umbrella(), actions="take", rewards={"wet": [0.0, -1.0], "take": [0.0, -0.2]})
    wet = {(0, 0): 0.1, (0, 1): 0.8, (1, 0): 0.0, (1, 1): 0.05}  # by take and weather
    best = [max(-wet[take, weather] - 0.2 * take for take in (0, 1)) for weather in (0, 1)]
    for form in ("tables", "factors"):
        found = cai.solve(world, cai.HARD, form=form)
        assert float(found.value) == pytest.approx(0.7 * best[0] + 0.3 * best[1], abs=1e-12)
        got = found.marginal(0, ("weather", "wet"))
        choices = [0 if -wet[0, w] > -wet[1, w] - 0.2 else 1 for w in (0, 1)]
        p = [[q * (1 - wet[a, w]), q * wet[a, w]] for w, (q, a) in enumerate(zip((0.7, 0.3), choices, strict=True))]
        torch.testing.assert_close(got, torch.tensor(p, dtype=torch.float64))
    assert cai.check(world) == []
    with pytest.raises(cai.WorldError, match=r"an action that reads 'forecast', but not \['weather'\]"):
        from_pgmpy(umbrella(seen=False), actions=["take"])
    with pytest.raises(cai.WorldError, match="horizon: 2; expected 1"):
        from_pgmpy(umbrella(), horizon=2)


def test_a_network_that_pgmpy_ships_is_read_by_its_name() -> None:
    """The names of its values are the file's; evidence may be uncertain."""
    world = from_bif("asia")
    found = cai.solve(world, observe={"smoke_0": "yes", "xray_0": [0.9, 0.2]})
    sure = [cai.solve(world, observe={"smoke_0": "yes", "xray_0": value}) for value in ("yes", "no")]
    total = 0.9 * math.exp(float(sure[0].log_evidence)) + 0.2 * math.exp(float(sure[1].log_evidence))
    assert math.exp(float(found.log_evidence)) == pytest.approx(total, abs=1e-12)
    with pytest.raises(cai.WorldError, match="value 'perhaps'; expected yes, no, or 0 … 1"):
        cai.solve(world, observe={"smoke_0": "perhaps"})

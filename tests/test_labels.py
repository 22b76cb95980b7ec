"""What values are called: the optional member ``labels`` of a world, Gymnasium's names, a network's states."""

from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Categorical

import cai


class Pump:
    """A pump that is ok or worn; it is used, or mended (half of the time)."""

    horizon = 3

    def __init__(self, labels: Any) -> None:
        self.labels = labels

    def initial(self) -> Any:
        """Start ok, one step from the shop."""
        return {"pump": pyro.sample("pump", cai.Point(torch.tensor(0), 2)), "way": pyro.sample("way", _even(3))}

    def act(self, state: Any, t: int) -> Any:
        """Use or mend."""
        return pyro.sample("job", _even(2))

    def step(self, state: Any, action: Any, t: int) -> Any:
        """Wear, and pay for it."""
        worn = pyro.sample("luck", Bernoulli(torch.tensor(0.5))).long()
        pump = pyro.sample("pump", cai.Point((1 - action) * torch.maximum(state["pump"], worn), 2))
        way = pyro.sample("way", cai.Point(state["way"] + 0 * action, 3))
        return {"pump": pump, "way": way}, -1.0 * state["pump"]


NAMES = {"pump": ["ok", "worn"], "job": ("use", "mend"), "way": ["near", None, "far"]}


def _even(n: int) -> Categorical:
    return Categorical(logits=torch.zeros(n))


@pytest.mark.parametrize("compiled", [cai.tabulate, cai.factorise])
def test_values_are_called_by_their_names(compiled: Any) -> None:
    world = compiled(Pump(NAMES))
    found = [world.states.label(n) for n in range(6)]
    assert found == [
        "pump=ok, way=near",
        "pump=ok, way=1",
        "pump=ok, way=far",
        "pump=worn, way=near",
        "pump=worn, way=1",
        "pump=worn, way=far",
    ]
    assert [world.actions.label(n) for n in range(2)] == ["job=use", "job=mend"]
    assert compiled(Pump(None)).states.label(4) == "pump=1, way=1"


@pytest.mark.parametrize(
    ("labels", "seen"),
    [
        (["ok", "worn"], "a list"),
        ({"pomp": ["ok", "worn"]}, "['pomp']"),
        ({"pump": ["ok"]}, "1 names"),
        ({"pump": "ok"}, "a str"),
        ({"pump": ["ok", 1]}, "1 as a name"),
        ({"pump": ["ok", "ok"]}, "'ok' twice"),
    ],
)
def test_labels_are_checked(labels: Any, seen: str) -> None:
    (found,) = cai.check(Pump(labels))
    assert found.where.startswith("labels")
    assert seen in found.seen
    with pytest.raises(cai.WorldError, match="labels"):
        cai.tabulate(Pump(labels))


def test_gymnasium_names_its_moves_and_the_end() -> None:
    lake = cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=2))
    assert [lake.states.label(n) for n in (0, 15, 16)] == ["state=0", "state=15", "ended"]
    assert [lake.actions.label(n) for n in range(4)] == ["left", "down", "right", "up"]

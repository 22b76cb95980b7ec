"""An unknown name is told with the known one that is near to it, in the library as on the command line."""

from collections.abc import Callable
from typing import Any

import pytest

import cai
from cai.support.wording import meant
from tests.helpers import load_model


def test_what_is_near_is_offered_whatever_its_capitals() -> None:
    assert meant("frozenlake", ["grid", "frozen_lake"]) == "; did you mean frozen_lake?"
    assert meant("posteriour", ["POSTERIOR", "HARD"]) == "; did you mean POSTERIOR?"
    assert meant("sofq", ["sac", "soft_fitted_q", "soft_q_learning"]) == "; did you mean soft_q_learning?"
    assert meant("soft_q", ["soft_sac", "soft_q_learning"]) == "; did you mean soft_q_learning?"
    assert meant("zebra", ["grid", "frozen_lake"]) == ""


NAMES = ("machine_0", "machine_1")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        (lambda world: cai.load_world("sysadmn"), "sysadmin"),
        (lambda world: cai.load_world("FrozenLke-v1"), "FrozenLake-v1"),
        (lambda world: cai.load_world("sysadmin", {"topolgy": "star"}), "topology"),
        (lambda world: cai.from_gymnasium("FrozenLake-v1", horizon=3, is_slipery=True), "is_slippery"),
        (lambda world: cai.solve(world, "POSTERIOUR"), "cai.POSTERIOR"),
        (lambda world: cai.solve(world, form="factor"), "factors"),
        (lambda world: cai.solve(world, observe={"rebot_1": 1}), "reboot"),
        (lambda world: cai.solve(world, observe={"machine_0_1": "runing"}), "running"),
        (lambda world: cai.graph(world, do={"machin_0_1": 1}), "machine_0_1"),
        (lambda world: cai.fit(world, "tabluar"), "tabular"),
        (lambda world: cai.fit(world, estimator="scor"), "score"),
        (lambda world: cai.learn.many("q_leaning", world, seeds=[0]), "q_learning"),
        (lambda world: cai.learn.q_learning(world, evaluatons=3), "evaluations"),
        (lambda world: cai.compare(world, {"prior": None}).row("piror"), "prior"),
        (lambda world: cai.solve(world).policy.at(0, **dict.fromkeys(NAMES, 1)).of("rebot"), "reboot"),
    ],
)
def test_the_library_offers_what_is_near(asked: Callable[[Any], Any], near: str) -> None:
    with pytest.raises(cai.WorldError, match=rf"; did you mean {near}\?$"):
        asked(load_model("sysadmin")(n=2, horizon=2))

"""Whatever the library answers can be pickled: it is sent to other processes, and kept."""

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import cai
from cai.learn.names import at_temperature, learner_of
from tests.helpers import load_model
from tests.test_partial import HiddenWorld
from tests.worlds import FactoredWorld, RandomWorld

WORLD = RandomWorld(seed=3, S=3, A=2, K=2, horizon=2, holes=False)
EVEN = torch.full((3, 2), 0.5)
LEARNERS = ("q_learning", "soft_q_learning", "soft_reinforce", "soft_fitted_q", "sac", "posterior_sampling")


@cache
def factors() -> cai.Factors:
    return cai.factorise(FactoredWorld())


def learned(name: str) -> Any:
    asked = {"steps": 4, "evaluations": 1, "progress": False, **at_temperature(name, 1.0)}
    return learner_of(name)(WORLD, **asked)


RESULTS: dict[str, Callable[[], Any]] = {
    "messages": lambda: cai.solve(WORLD),
    "factored messages": lambda: cai.solve(factors()),
    "separate messages": lambda: cai.solve(load_model("sysadmin")(n=2)),
    "partial": lambda: cai.partial.solve(HiddenWorld(seed=1, S=2, A=2, K=1, horizon=2, holes=False)),
    "horizons": lambda: cai.solve_horizons(WORLD, horizons=[1, 4]),
    "marginal map": lambda: cai.marginal_map(WORLD),
    "types": lambda: cai.inference_types(WORLD),
    "prior": lambda: cai.evaluate(WORLD, None),
    "tensor": lambda: cai.evaluate(WORLD, EVEN),
    "tensor over time": lambda: cai.evaluate(WORLD, torch.stack([EVEN, EVEN])),
    "program": lambda: cai.evaluate(WORLD, WORLD),
    "factored evaluation": lambda: cai.evaluate(factors(), None),
    "comparison": lambda: cai.compare(WORLD, {"best": cai.VARIATIONAL, "prior": None}),
    "factored comparison": lambda: cai.compare(factors(), {"prior": None}),
    "fit": lambda: cai.fit(WORLD, steps=1, progress=False),
    "table": lambda: cai.policies.TabularPolicy(WORLD),
    "network": lambda: cai.policies.NeuralPolicy(WORLD),
    "guide": lambda: cai.learn.FullGuide(WORLD),
    "network on tables": lambda: cai.policies.NeuralPolicy(cai.tabulate(WORLD)),
    "value iteration": lambda: cai.learn.value_iteration(WORLD, gamma=0.9),
    "network of q": lambda: cai.learn.q_learning(WORLD, steps=4, evaluations=1, progress=False, network=(2,)),
    **{name: lambda name=name: learned(name) for name in LEARNERS},
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_answer_survives_a_pickle(name: str) -> None:
    found = RESULTS[name]()
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is type(found)
    assert repr(again) == repr(found)
    policies = [getattr(one, "policy", one) for one in (found, again)]
    if hasattr(policies[0], "probs"):
        before, after = (one.probs(1) for one in policies)
        assert torch.equal(before, after)
    for number in ("value", "elbo", "expected_return", "log_evidence", "objective"):
        if isinstance(getattr(found, number, None), float):
            assert getattr(again, number) == getattr(found, number)

"""What is no world and what is no policy, given to everything that takes one, where no type is checked on the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cai
from tests.worlds import RandomWorld

WORLD = RandomWorld(seed=3, S=3, A=2, K=2, horizon=2, holes=False)
EVEN = torch.full((3, 2), 0.5)


class Without:
    """The world without one of its members."""

    def __init__(self, member: str) -> None:
        for name in {"horizon", "initial", "act", "step"} - {member}:
            setattr(self, name, getattr(WORLD, name))


TAKES_WORLD: dict[str, Callable[[Any], Any]] = {
    "solve": cai.solve,
    "solve factors": lambda world: cai.solve(world, form="factors"),
    "tabulate": cai.tabulate,
    "factorise": cai.factorise,
    "graph": cai.graph,
    "trajectory": lambda world: cai.trajectory(world)(),
    "condition": lambda world: cai.condition(world, observe={"a_0": 1}),
    "evaluate": lambda world: cai.evaluate(world, None),
    "compare": lambda world: cai.compare(world, {"prior": None}),
    "rollout": cai.rollout,
    "fit": lambda world: cai.fit(world, steps=1, estimator="score", progress=False),
    "guide": cai.learn.FullGuide,
    "network": cai.policies.NeuralPolicy,
    "learn": lambda world: cai.learn.reinforce(world, steps=1, progress=False),
    "dynamic programming": lambda world: cai.learn.value_iteration(world, gamma=0.9),
    "partial": cai.partial.solve,
    "filter": lambda world: cai.partial.filter_beliefs(world, [0], []),
    "horizons": lambda world: cai.solve_horizons(world, horizons=[1]),
    "types": cai.inference_types,
    "gymnasium": cai.to_gymnasium,
    "elbo": lambda world: cai.elbo(world, None),
}
NO_WORLDS: dict[str, Any] = {
    **{f"without {member}": Without(member) for member in ("horizon", "initial", "act", "step")},
    "class": RandomWorld,
    "None": None,
    "number": 3,
}


class Acting:
    def act(self, state: Tensor, t: int) -> Tensor:
        return WORLD.act(state, t)


class ActOfNumber:
    act = 3


class Complex:
    def log_probs(self, t: int = 0) -> Tensor:
        return EVEN.log() + 0j


TAKES_POLICY: dict[str, Callable[[Any], Any]] = {
    "evaluate": lambda policy: cai.evaluate(WORLD, policy),
    "compare": lambda policy: cai.compare(WORLD, {"one": policy}),
    "rollout": lambda policy: cai.rollout(WORLD, policy),
    "trajectory": lambda policy: cai.trajectory(WORLD, policy)(),
    "fit": lambda policy: cai.fit(WORLD, policy, steps=1, progress=False),
    "elbo": lambda policy: cai.elbo(WORLD, policy),
    "policy evaluation": lambda policy: cai.learn.policy_evaluation(WORLD, policy, gamma=0.9),
}
NO_POLICIES: dict[str, Any] = {
    "complex": EVEN + 0j,
    "complex function": lambda state, t: EVEN + 0j,
    "complex list": [[0.5j, 0.5]] * 3,
    "complex object": Complex(),
    "class": Acting,
    "class of the library": cai.policies.TabularPolicy,
    "class of a world": RandomWorld,
    "act is a number": ActOfNumber(),
    "words": np.array([["a", "b"]] * 3),
    "ragged": [[1.0, 2.0], [3.0]],
    "text": "best",
    "dict": {"a": 1},
}


def tell(file: Path) -> None:
    """Try everything with everything; write down which call raised what, where it was no WorldError."""
    found = {}
    for takes, things in ((TAKES_WORLD, NO_WORLDS), (TAKES_POLICY, NO_POLICIES)):
        for name, call in takes.items():
            for kind, thing in things.items():
                try:
                    call(thing)
                    found[f"{name}, {kind}"] = "no error"
                except cai.WorldError as error:
                    found[f"{name}, {kind}"] = f"WorldError {error}"
                except Exception as error:
                    found[f"{name}, {kind}"] = f"{type(error).__name__} {error}"
    found |= {f"check, {kind}": "; ".join(map(str, cai.check(thing))) for kind, thing in NO_WORLDS.items()}
    file.write_text(json.dumps(found))

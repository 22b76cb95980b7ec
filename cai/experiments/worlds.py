"""The catalogue's worlds for experiments, and a learner's life in one of them, episode by episode."""

from collections.abc import Iterator
from typing import Any

import torch

from cai.learn.problem import Algorithm, Metrics, Problem, State
from cai.learn.training import problem_of, step
from cai.simulate.simulator import drawing, seeded
from cai.support.catalogue import load_world
from cai.support.process import precision


def world_of(name: str, **settings: Any) -> Any:
    """Return a world of the catalogue with its settings."""
    return load_world(name, {key: repr(value) for key, value in settings.items()})


def life(
    algorithm: Algorithm, world: Any, *, temperature: float | None, seed: int
) -> Iterator[tuple[Problem, State, Metrics]]:
    """Yield a learner's problem, state and metrics after every update, for as long as somebody asks."""
    with precision(algorithm.dtype):
        problem = problem_of(algorithm, world, temperature, None)
        with drawing(seeded(seed)):
            env_state, values = algorithm.init(problem)
            state = State(0, 0, torch.get_rng_state(), env_state, values)
    metrics: Metrics = {}
    while True:
        yield problem, state, metrics
        with precision(algorithm.dtype):
            state, metrics = step(algorithm, problem, state)

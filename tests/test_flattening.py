"""Gymnasium's spaces as variables: every value there and back, and learners on what is neither Discrete nor Box."""

from collections import defaultdict
from math import exp, log
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Sequence, Text, Tuple

import cai
from cai.learn.batch import transitions
from cai.simulate.environments import EnvironmentSimulator
from cai.simulate.flattening import flattened
from tests.worlds import FactoredWorld

UNIT = Box(0, 1, (2, 3), np.float32)
FINITE: list[tuple[Any, list[int]]] = [
    (Discrete(4, start=3), [4]),
    (MultiDiscrete([2, 3], start=[-1, 5]), [2, 3]),
    (MultiDiscrete([[2, 3], [4, 5]]), [2, 3, 4, 5]),
    (MultiBinary(3), [2, 2, 2]),
    (Tuple([Discrete(32), Discrete(11), Discrete(2)]), [32, 11, 2]),
    (Dict({"b": Discrete(3, start=1), "a": Tuple([MultiBinary(2), Discrete(5)])}), [2, 2, 5, 3]),
]
OTHERS: list[Any] = [
    UNIT,
    Dict({"image": UNIT, "way": Discrete(4)}),
    Tuple([UNIT, Text(3)]),
    MultiBinary(100),
    Dict({"big": MultiDiscrete([1000, 1000]), "more": Discrete(2)}),
]


@pytest.mark.parametrize("space", [one for one, _ in FINITE] + [UNIT, Tuple([UNIT, UNIT])], ids=str)
def test_a_value_goes_there_and_back(space: Any) -> None:
    space.seed(0)
    code = flattened("action", space, bounded=True)
    for _ in range(5):
        value = space.sample()
        flat = code.flat(value)
        assert tuple(flat.shape) == code.shape
        again = code.value(flat.numpy())
        assert again in space
        assert np.array_equal(gymnasium.spaces.flatten(space, again), gymnasium.spaces.flatten(space, value))
        assert torch.equal(code.unpack(code.pack(flat.expand(2, *flat.shape)))[1], flat)


@pytest.mark.parametrize(("space", "sizes"), FINITE, ids=str)
def test_a_finite_space_is_numbered(space: Any, sizes: list[int]) -> None:
    code = flattened("state", space)
    assert [one.size for one in code.variables] == sizes
    assert len({one.name for one in code.variables}) == len(sizes)
    space.seed(1)
    flat = code.flat(space.sample())
    assert bool((flat >= 0).all() and (flat < torch.tensor(sizes).reshape(code.shape)).all())


@pytest.mark.parametrize("space", OTHERS, ids=str)
def test_other_observations_are_gymnasiums_vector(space: Any) -> None:
    space.seed(0)
    value = space.sample()
    flat = flattened("state", space).flat(value)
    assert np.array_equal(flat.reshape(-1).numpy(), gymnasium.spaces.flatten(space, value))


@pytest.mark.parametrize(
    ("space", "acted"),
    [
        (Graph(UNIT, None), False),
        (Sequence(Discrete(2)), False),
        (Dict({"push": UNIT, "way": Discrete(4)}), True),
        (Box(-np.inf, np.inf, (1,)), True),
        (MultiBinary(30), True),
    ],
    ids=str,
)
def test_what_cannot_be_flattened_is_named(space: Any, acted: bool) -> None:
    with pytest.raises(cai.WorldError, match="environment, thing space"):
        flattened("thing", space, bounded=acted)


def test_the_features_of_blackjack_are_gymnasiums_own() -> None:
    env = gymnasium.make("Blackjack-v1")
    simulator = EnvironmentSimulator("Blackjack-v1", 1)
    env.observation_space.seed(0)
    for _ in range(10):
        value = env.observation_space.sample()
        state = simulator.seen.pack(simulator.seen.flat(value).unsqueeze(0))
        found = simulator.features(state)[0].numpy()
        assert np.array_equal(found, gymnasium.spaces.flatten(env.observation_space, value))
    found = cai.learn.fitted_q("Blackjack-v1", steps=3000, gamma=0.9, evaluations=1, episodes=200, progress=False)
    assert found.history[-1].deterministic_return > found.history[0].stochastic_return + 0.2


@pytest.mark.slow
def test_our_own_environment_of_several_variables_is_learned_from() -> None:
    """Every kind of learner does better than the uniform policy, whose return is exact."""
    world = FactoredWorld()
    uniform = cai.evaluate(world, torch.full((3, 6, 4), 0.25)).expected_return
    settings: dict[str, Any] = {"batch": 4, "steps": 1500, "evaluations": 1, "episodes": 8, "progress": False}
    for learner in (cai.learn.q_learning, cai.learn.reinforce, cai.learn.fitted_q):
        found = learner(lambda: cai.to_gymnasium(world), **settings)  # type: ignore[operator]
        assert found.history[-1].deterministic_return > uniform + 0.3, learner.__name__


def test_options_of_an_environment_reach_it_by_id() -> None:
    generator = torch.Generator().manual_seed(0)
    sure = cai.rollout("FrozenLake-v1", batch=50, generator=generator, env_options={"is_slippery": False})
    led = defaultdict(set)
    steps = torch.stack([sure.states[:-1], sure.actions, sure.states[1:]], -1)[sure.alive]
    for s, a, following in steps.tolist():
        led[s, a].add(following)
    assert len(led) > 20
    assert all(len(one) == 1 for one in led.values())
    asked: dict[str, Any] = {"env_options": {"desc": ["SG"], "is_slippery": False}, "steps": 50, "progress": False}
    for learner in (cai.learn.q_learning, cai.learn.reinforce, cai.learn.fitted_q):
        assert learner("FrozenLake-v1", batch=10, evaluations=1, **asked).history[-1].deterministic_return == 1.0
    with pytest.raises(cai.WorldError, match="options of an environment in env_options"):
        cai.learn.q_learning("FrozenLake-v1", is_slippery=False, progress=False)


def fitted_by_hand(data: Any, gamma: float, alpha: float, iterations: int) -> dict[tuple[int, int], float]:
    """Soft fitted Q-iteration in plain Python: means of targets; what was never tried is nothing that is chosen."""
    rows = [[one.tolist() for one in row] for row in zip(*(getattr(data, name) for name in FIELDS), strict=True)]
    q: dict[tuple[int, int], float] = {}
    for _ in range(iterations):
        least = min(q.values(), default=0.0)

        def value(s: int, q: dict[tuple[int, int], float] = q, least: float = least) -> float:
            own = [q[s, a] for a in range(4) if (s, a) in q]
            return alpha * log(sum(exp(x / alpha) for x in own) / 4) if own else least

        targets = defaultdict(list)
        for s, a, r, following, over in rows:
            targets[s, a].append(r if over or not q else r + gamma * value(following))
        q = {cell: sum(each) / len(each) for cell, each in targets.items()}
    return q


FIELDS = ("states", "actions", "rewards", "next_states", "terminated")


def test_a_finite_observation_gets_a_table() -> None:
    """The policy of a table is what plain means give; a network would need minutes for as many fits."""
    generator = torch.Generator().manual_seed(3)
    options = {"is_slippery": False}
    data = transitions(cai.rollout("FrozenLake-v1", batch=300, generator=generator, env_options=options))
    found = cai.learn.fitted_q(
        "FrozenLake-v1", data=data, env_options=options, gamma=0.9, temperature=0.1, evaluations=1, progress=False
    )
    q = fitted_by_hand(data, 0.9, 0.1, found.updates)
    probs = found.policy.probs(0)
    for s in {s for s, _ in q}:
        own = [exp(q[s, a] / 0.1) if (s, a) in q else 0.0 for a in range(4)]
        assert probs[s].tolist() == pytest.approx([x / sum(own) for x in own], abs=1e-6)

"""Gymnasium's tables as they occur: read by plain Python beside ours, or refused in one line."""

from math import exp, log
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import cai
from cai.bridges.environment import to_gymnasium

NEVER = -float("inf")
T, ALPHA = 4, 0.5


class Tabled(gymnasium.Env[int, int]):
    """An environment that is nothing but its table."""

    def __init__(self, table: Any, start: Any, n: int | None = None, first: int = 0) -> None:
        self.P, self.initial_state_distrib = table, start
        if n is not None:
            self.action_space = gymnasium.spaces.Discrete(n, start=first)


PLAIN = {
    0: {0: [(0.5, 0, 1.0, False), (0.5, 1, 0.0, False)], 1: [(1.0, 1, -0.5, False)]},
    1: {0: [(0.25, 0, 0.3, False), (0.75, 1, 0.1, True)], 1: [(1.0, 0, 0.2, False)]},
}


def as_array(table: dict[Any, Any]) -> dict[Any, Any]:
    return {s: {a: np.array(row, float) for a, row in each.items()} for s, each in table.items()}


def renamed(table: dict[Any, Any], state: Any, action: Any) -> dict[Any, Any]:
    """The same table under other keys."""
    return {
        state(s): {action(a): [(p, state(n), *rest) for p, n, *rest in row] for a, row in each.items()}
        for s, each in table.items()
    }


def without(table: dict[Any, Any], s: Any, a: Any) -> dict[Any, Any]:
    return {key: {b: row for b, row in each.items() if (key, b) != (s, a)} for key, each in table.items()}


THREE = {s: {a: [one[:3] for one in row] for a, row in each.items()} for s, each in PLAIN.items()}
NAMED = renamed(PLAIN, lambda s: ("ice", "shore")[s], lambda a: ("stay", "go")[a])
FROM_1 = renamed(PLAIN, lambda s: s + 1, lambda a: a)
END = {**PLAIN, 0: {0: [(0.5, 2, 1.0, False), (0.5, 1, 0.0, False)], 1: [(1.0, 1, -0.5, False)]}, 2: {}}
TABLES: dict[str, tuple[Any, Any]] = {
    "plain": (PLAIN, [0.25, 0.75]),
    "lists": ([[list(row) for row in each.values()] for each in PLAIN.values()], np.array([0.25, 0.75])),
    "arrays": (as_array(PLAIN), (0.25, 0.75)),
    "three entries": (THREE, [0.25, 0.75]),
    "a missing action": (without(PLAIN, 0, 1), [0.25, 0.75]),
    "an end": (END, [0.2, 0.7, 0.1]),
    "numbers from 1": (FROM_1, [0.25, 0.75]),
    "names": (NAMED, [0.25, 0.75]),
    "a start by name": (NAMED, {"shore": 1.0}),
    "rounding": ({0: {0: [(1 / 3, 0, 1.0), (2 / 3 - 1e-9, 0, 0.0), (-2.8e-17, 0, 9.0)]}}, [1.0]),
}


def by_hand(table: Any, start: Any, soft: bool) -> float:
    """The start value of VARIATIONAL or HARD, reward units, by recursion over the table as it stands."""
    table = table if isinstance(table, dict) else dict(enumerate(table))
    begin = start if isinstance(start, dict) else dict(zip(table, start, strict=True))

    def value(s: Any, t: int) -> float:
        each = table[s] if isinstance(table[s], dict) else dict(enumerate(table[s]))
        if t == T or not each:
            return 0.0
        q = [
            sum(max(p, 0) * (r + (0.0 if done and done[0] else value(n, t + 1))) for p, n, r, *done in row)
            for row in each.values()
        ]
        return ALPHA * log(sum(exp(x / ALPHA) for x in q) / len(q)) if soft else max(q)

    return float(sum(p * value(s, 0) for s, p in begin.items()))


@pytest.mark.parametrize("name", list(TABLES))
def test_a_table_means_what_it_says(name: str) -> None:
    table, start = TABLES[name]
    world = cai.from_gymnasium(Tabled(table, start), horizon=T)
    assert cai.check(world) == []
    assert float(cai.solve(world, cai.VARIATIONAL, temperature=ALPHA).value) == pytest.approx(
        by_hand(table, start, True), rel=1e-8
    )
    assert float(cai.solve(world, cai.HARD).value) == pytest.approx(by_hand(table, start, False), rel=1e-8)


def test_names_stay_as_labels() -> None:
    tables = cai.tabulate(cai.from_gymnasium(Tabled(NAMED, [0.25, 0.75]), horizon=T))
    assert [tables.states.label(s) for s in range(3)] == ["ice", "shore", "ended"]
    assert [tables.actions.label(a) for a in range(2)] == ["stay", "go"]
    numbers = cai.tabulate(cai.from_gymnasium(Tabled(FROM_1, [0.25, 0.75]), horizon=T))
    assert [numbers.states.label(s) for s in range(3)] == ["1", "2", "ended"]
    assert numbers.actions.label(1) == "action=1"


def test_a_missing_action_is_forbidden_and_an_end_is_nobodys() -> None:
    tables = cai.tabulate(cai.from_gymnasium(Tabled(without(END, 0, 1), [0.2, 0.7, 0.1], 2), horizon=T))
    assert tables.log_prior[:3].exp().tolist() == [[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]
    env: Any = to_gymnasium(cai.from_gymnasium(Tabled(without(END, 0, 1), [1.0, 0, 0]), horizon=T))
    env.reset(seed=0)
    assert env.action_masks().tolist() == [True, False]
    ends = {(int(seen), over) for seen, _, over, *_ in (stepped(env, n) for n in range(40))}
    assert ends == {(2, True), (1, False)}  # where the table has no actions the episode is over


def stepped(env: Any, seed: int) -> Any:
    env.reset(seed=seed)
    return env.step(0)


def test_a_fickle_passenger_who_never_is_may_ride() -> None:
    sure, plain = (
        cai.from_gymnasium("Taxi-v4", horizon=20, **options)
        for options in ({"fickle_passenger": True, "fickle_probability": 0.0}, {})
    )
    assert float(cai.solve(sure, cai.HARD).value) == float(cai.solve(plain, cai.HARD).value)


def spoiled(row: Any, s: int = 0, a: int = 0) -> dict[Any, Any]:
    return {key: {b: row if (key, b) == (s, a) else each for b, each in PLAIN[key].items()} for key in PLAIN}


OK = [0.25, 0.75]


@pytest.mark.parametrize(
    ("table", "start", "words"),
    [
        (spoiled([(0.5, 0, 1.0, False), (0.4, 1, 0.0, False)]), OK, "P[0][0]: probabilities that sum to 0.9"),
        (spoiled([(1.5, 0, 1.0, False), (-0.5, 1, 0.0, False)]), OK, "P[0][0]: probability 1.5"),
        (spoiled([(float("nan"), 0, 1.0, False)]), OK, "P[0][0]: probability nan"),
        (spoiled([(1.0, 5, 1.0, False)]), OK, "leads to 5; expected a state of the table"),
        (spoiled([(1.0, [0], 1.0, False)]), OK, "leads to [0]; expected a state of the table"),
        (spoiled([(1.0, 0)]), OK, "an outcome (1.0, 0); expected (p, s', r, done)"),
        (spoiled((1.0, 0, 1.0, False)), OK, "an outcome 1.0; expected"),
        (spoiled([("all", 0, 1.0, False)]), OK, "expected (p, s', r, done) or (p, s', r), numbers"),
        (spoiled([(1.0, 0, float("nan"), False)]), OK, "P[0][0]: reward nan"),
        (spoiled([]), OK, "P[0][0]: no outcome; expected a list of outcomes"),
        (spoiled(None), OK, "P[0][0]: a NoneType"),
        ({0: 3}, [1.0], "P[0]: a int; expected a dict or a list of actions"),
        (None, [1.0], "a NoneType; expected a dict or a list of states"),
        ({0: {}}, [1.0], "no state with an action"),
        (PLAIN, [1.0, 1.0], "initial_state_distrib: probabilities that sum to 2"),
        (PLAIN, [1.0], "initial_state_distrib: shape [1]; expected a probability for each of the 2 states"),
        (PLAIN, {0: 0.5, 7: 0.5}, "initial_state_distrib: 7; expected states of the table"),
        (PLAIN, None, "initial_state_distrib: "),
        (PLAIN, ["a", "b"], "initial_state_distrib: a list; expected a probability"),
    ],
    ids=range(19),
)
def test_what_is_not_plain_is_one_line(table: Any, start: Any, words: str) -> None:
    with pytest.raises(cai.WorldError) as caught:
        cai.from_gymnasium(Tabled(table, start), horizon=T)
    assert words in str(caught.value)
    assert str(caught.value).startswith("from_gymnasium('Tabled')")
    assert len(str(caught.value).splitlines()) == 1


def test_actions_are_those_of_the_action_space() -> None:
    few = without(without(PLAIN, 0, 1), 1, 1)
    world = cai.tabulate(cai.from_gymnasium(Tabled(few, OK, 2), horizon=T))
    assert world.actions.size == 2
    assert bool((world.log_prior[:2, 1] == -torch.inf).all())
    shifted = cai.tabulate(cai.from_gymnasium(Tabled(renamed(PLAIN, int, lambda a: a + 3), OK, 2, 3), horizon=T))
    assert torch.equal(shifted.reward, cai.tabulate(cai.from_gymnasium(Tabled(PLAIN, OK), horizon=T)).reward)
    with pytest.raises(cai.WorldError, match=r"actions .*the 3 of the action space"):
        cai.from_gymnasium(Tabled(NAMED, OK, 3), horizon=T)


def with_prior(table: Any, prior: Any) -> Tabled:
    env = Tabled(table, [0.25, 0.75])
    env.action_prior = prior
    return env


def test_an_action_prior_of_the_environment_is_the_worlds() -> None:
    world = cai.from_gymnasium(with_prior(PLAIN, np.array([[0.9, 0.1], [0.0, 1.0]])), horizon=1)
    assert cai.check(world) == []
    assert cai.tabulate(world).log_prior[:2].exp().numpy() == pytest.approx(np.array([[0.9, 0.1], [0.0, 1.0]]))
    first = ALPHA * log(0.9 * exp(0.5 / ALPHA) + 0.1 * exp(-0.5 / ALPHA))
    found = cai.solve(world, cai.VARIATIONAL, temperature=ALPHA)
    assert float(found.value) == pytest.approx(0.25 * first + 0.75 * 0.2, rel=1e-6)
    env: Any = to_gymnasium(world)
    while env.reset()[0] != 1:
        pass
    assert env.action_masks().tolist() == [False, True]


@pytest.mark.parametrize(
    ("table", "prior", "words"),
    [
        (PLAIN, [[0.5, 0.5]], "action_prior: shape [1, 2]; expected probabilities, [2 states, 2 actions]"),
        (PLAIN, "uniform", "action_prior: a str; expected probabilities"),
        (PLAIN, [[0.5, 0.6], [0.5, 0.5]], "action_prior[0]: probabilities that sum to 1.1; expected a sum of 1"),
        (PLAIN, [[0.5, 0.5], [1.5, -0.5]], "action_prior[1]: probability 1.5; expected numbers from 0 to 1"),
        (without(PLAIN, 0, 1), [[0.5, 0.5], [0.5, 0.5]], "action_prior[0]: probability 0.5 of the action 1, which"),
    ],
    ids=["shape", "word", "sum", "negative", "missing"],
)
def test_a_prior_that_is_none_is_one_line(table: Any, prior: Any, words: str) -> None:
    with pytest.raises(cai.WorldError) as caught:
        cai.from_gymnasium(with_prior(table, prior), horizon=T)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

"""Random worlds as plain numbers, and the same worlds as Pyro programs.

A ``Case`` is nested lists of floats: all that the oracle reads. ``Flat`` and ``Paired`` are the programs of a case with
one state variable and with two; a pair is numbered row-major, as the library numbers states.
"""

import math
import random
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai

NEVER = -math.inf


@dataclass(frozen=True)
class Slice:
    """One time: ``prior[s][a]`` and the outcomes ``(probability, successor, reward)`` of ``outcomes[s][a]``."""

    prior: list[list[float]]
    outcomes: list[list[list[tuple[float, int, float]]]]


@dataclass(frozen=True)
class Case:
    """A world as numbers, one slice a time or one for all times, and what is asked of it."""

    seed: int
    S: int
    A: int
    horizon: int | None
    discount: float
    start: list[float]
    slices: list[Slice]
    last: list[float]
    ended: frozenset[int]
    alpha: float
    world: Any = field(repr=False)

    def at(self, t: int) -> Slice:
        """Return the slice of time t."""
        return self.slices[t if len(self.slices) > 1 else 0]


def weights(rng: random.Random, n: int, holes: bool) -> list[float]:
    """Draw n probabilities, some of them zero."""
    raw = [0.0 if holes and rng.random() < 0.3 else rng.choice([rng.random(), 1.0, 1e-3]) + 1e-9 for _ in range(n)]
    raw[rng.randrange(n)] += 0.1
    return [x / math.fsum(raw) for x in raw]


def draw(seed: int) -> Case:
    """Draw a case; the same seed gives the same case."""
    rng = random.Random(seed)
    infinite = rng.random() < 0.25
    horizon = None if infinite else rng.choice([1, 2, 3, 5, 9, 20])
    discount = rng.choice([0.5, 0.9, 0.95]) if infinite else rng.choice([1.0, 1.0, 0.8, 0.99])
    alpha = 10 ** rng.uniform(-6, 6) if rng.random() < 0.7 else rng.choice([0.1, 1.0, 1e-6, 1e6])
    scale = rng.choice([alpha * 10 ** rng.uniform(-2, 2), 1.0, 10 ** rng.uniform(-6, 8)])
    if rng.random() < 0.25:
        return paired(rng, seed, horizon, discount, alpha, scale)
    return flat(rng, seed, horizon, discount, alpha, scale)


def reward(rng: random.Random, scale: float, holes: bool) -> float:
    """Draw a reward, sometimes forbidden, sometimes a round number that makes ties."""
    if holes and rng.random() < 0.08:
        return NEVER
    return scale * rng.choice([0.0, -1.0, rng.uniform(-1, 0), rng.uniform(-1, 0), rng.uniform(-1, 1)])


def flat(rng: random.Random, seed: int, horizon: int | None, discount: float, alpha: float, scale: float) -> Case:
    """Draw a world of one state variable; half of them have a state in which the episode has ended."""
    S, A, K, holes = rng.randint(1, 4), rng.randint(1, 3), rng.randint(1, 3), rng.random() < 0.6
    times = horizon if horizon and rng.random() < 0.4 else 1
    ended = frozenset({S - 1}) if S > 1 and rng.random() < 0.5 else frozenset()
    slices = []
    for _ in range(times):
        prior = [weights(rng, A, holes) for _ in range(S)]
        outcomes = [
            [[(p, rng.randrange(S), reward(rng, scale, holes)) for p in weights(rng, K, holes)] for _ in range(A)]
            for _ in range(S)
        ]
        for s in ended:
            outcomes[s] = [[(p, s, 0.0) for p, *_ in row] for row in outcomes[s]]
        slices.append(Slice(prior, outcomes))
    last = [0.0 if ended else reward(rng, scale, False) for _ in range(S)]
    start = weights(rng, S, holes)
    program = Flat(slices, start, last, S, horizon, discount)
    if ended:
        program = Ending(slices, start, last, S, horizon, discount)
    return Case(seed, S, A, horizon, discount, start, slices, last, ended, alpha, program)


def paired(rng: random.Random, seed: int, horizon: int | None, discount: float, alpha: float, scale: float) -> Case:
    """Draw a world of two state variables that share actions; the reward is a sum of two."""
    X, Y, A, K, holes = rng.randint(1, 3), rng.randint(1, 3), rng.randint(1, 3), rng.randint(1, 2), rng.random() < 0.5
    fields = {
        "start_x": weights(rng, X, holes),
        "start_y": [weights(rng, Y, holes) for _ in range(X)],
        "prior": [weights(rng, A, holes) for _ in range(X)],
        "noise": [[weights(rng, K, holes) for _ in range(A)] for _ in range(X)],
        "move": [[[rng.randrange(X) for _ in range(K)] for _ in range(A)] for _ in range(X)],
        "follow": [[[weights(rng, Y, holes) for _ in range(A)] for _ in range(Y)] for _ in range(X)],
        "pay_x": [[[reward(rng, scale, holes) for _ in range(K)] for _ in range(A)] for _ in range(X)],
        "pay_y": [[reward(rng, scale, holes) for _ in range(Y)] for _ in range(Y)],
    }
    program = Paired(fields, (X, Y, A), horizon, discount)
    prior, outcomes = [], []
    for s in range(X * Y):
        x, y = divmod(s, Y)
        prior.append(fields["prior"][x])
        outcomes.append(
            [
                [
                    (
                        fields["noise"][x][a][k] * fields["follow"][fields["move"][x][a][k]][y][a][y_next],
                        fields["move"][x][a][k] * Y + y_next,
                        fields["pay_x"][x][a][k] + fields["pay_y"][y][y_next],
                    )
                    for k in range(K)
                    for y_next in range(Y)
                ]
                for a in range(A)
            ]
        )
    start = [fields["start_x"][s // Y] * fields["start_y"][s // Y][s % Y] for s in range(X * Y)]
    slices, last = [Slice(prior, outcomes)], [0.0] * (X * Y)
    return Case(seed, X * Y, A, horizon, discount, start, slices, last, frozenset(), alpha, program)


def tensor(numbers: Any) -> Tensor:
    """Return nested lists as float64."""
    return torch.tensor(numbers, dtype=torch.float64)


class Flat:
    """The program of a world with one state variable ``s``, one action ``a`` and one latent ``k``."""

    def __init__(
        self, slices: list[Slice], start: list[float], last: list[float], S: int, horizon: Any, discount: float
    ):
        self.horizon, self.discount, self.S, self.last = horizon, discount, S, tensor(last)
        self.stationary = len(slices) == 1
        self.start = tensor(start).log()
        self.prior = tensor([one.prior for one in slices]).log()
        parts = [[[list(zip(*row, strict=True)) for row in rows] for rows in one.outcomes] for one in slices]
        self.chance, successor, self.pay = (
            tensor([[[row[n] for row in rows] for rows in one] for one in parts]) for n in range(3)
        )
        self.chance, self.successor = self.chance.log(), successor.long()

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(logits=self.start))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(logits=self.prior[self._now(t)][state]))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        now = self._now(t)
        k = pyro.sample("k", Categorical(logits=self.chance[now][state, action]))
        following = pyro.sample("s", cai.Point(self.successor[now][state, action, k], self.S))
        return following, self.pay[now][state, action, k]

    def terminal(self, state: Tensor) -> Tensor:
        return self.last[state]

    def _now(self, t: int) -> int:
        return 0 if self.stationary else t


class Ending(Flat):
    """The same, with an end: in the last state nobody acts any more."""

    terminal = None  # type: ignore[assignment]

    def terminated(self, state: Tensor) -> Tensor:
        return state == self.S - 1


class Paired:
    """The program of a world with the state variables ``x`` and ``y``, one action ``a`` and one latent ``k``."""

    def __init__(self, fields: dict[str, Any], sizes: tuple[int, int, int], horizon: Any, discount: float) -> None:
        self.horizon, self.discount = horizon, discount
        (self.X, self.Y, self.A), self.move = sizes, torch.tensor(fields["move"])
        logs = ("start_x", "start_y", "prior", "noise", "follow")
        self.log = {name: tensor(fields[name]).log() for name in logs}
        self.pay_x, self.pay_y = tensor(fields["pay_x"]), tensor(fields["pay_y"])

    def initial(self) -> dict[str, Tensor]:
        x = pyro.sample("x", Categorical(logits=self.log["start_x"]))
        return {"x": x, "y": pyro.sample("y", Categorical(logits=self.log["start_y"][x]))}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("a", Categorical(logits=self.log["prior"][state["x"]]))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        x, y = state["x"], state["y"]
        k = pyro.sample("k", Categorical(logits=self.log["noise"][x, action]))
        x_next = pyro.sample("x", cai.Point(self.move[x, action, k], self.X))
        y_next = pyro.sample("y", Categorical(logits=self.log["follow"][x_next, y, action]))
        return {"x": x_next, "y": y_next}, self.pay_x[x, action, k] + self.pay_y[y, y_next]

"""Random small worlds, as Pyro code over plain numbers that the oracles can read without it."""

from dataclasses import dataclass, field

import pyro
import torch
from hypothesis import strategies as st
from pyro.distributions import Categorical
from torch import Tensor

import cai


@dataclass
class RandomWorld:
    """A world of random numbers: zero probabilities, forbidden actions, -inf rewards, several rewards on one successor.

    ``start [S]``, ``prior [T, S, A]``, ``outcome [T, S, A, K]`` are probabilities; ``successor`` and ``reward``
    ``[T, S, A, K]``; ``last [S]`` is the terminal reward. The time axis has length 1 where the world is stationary.
    """

    seed: int
    S: int
    A: int
    K: int
    horizon: int | None
    holes: bool = True
    discount: float = 1.0
    positive: bool = True
    start: Tensor = field(init=False)

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(self.seed)
        T = self.times()
        S, A, K = self.S, self.A, self.K

        def probs(*shape: int) -> Tensor:
            p = torch.rand(shape, generator=g, dtype=torch.float64) + 0.05
            if self.holes:
                p = torch.where(torch.rand(shape, generator=g) < 0.3, 0.0, p)
                p[..., 0] += 0.1  # one entry of every row stays possible
            return p / p.sum(-1, keepdim=True)

        self.start, self.prior, self.outcome = probs(S), probs(T, S, A), probs(T, S, A, K)
        self.successor = torch.randint(0, S, (T, S, A, K), generator=g)
        shift = 0.5 if self.positive else 1.5
        self.reward = torch.rand((T, S, A, K), generator=g, dtype=torch.float64) * 3 - 3 * shift
        if self.holes:
            self.reward[torch.rand(self.reward.shape, generator=g) < 0.1] = -torch.inf
        self.last = torch.rand(S, generator=g, dtype=torch.float64) - 0.5

    def times(self) -> int:
        return 1

    def time(self, t: int) -> int:
        return 0

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(logits=self.start.log()))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(logits=self.prior[0][state].log()))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return self._slice(state, action, 0)

    def _slice(self, state: Tensor, action: Tensor, i: int) -> tuple[Tensor, Tensor]:
        k = pyro.sample("k", Categorical(logits=self.outcome[i][state, action].log()))
        state_next = pyro.sample("s", cai.Point(self.successor[i][state, action, k], self.S))
        return state_next, self.reward[i][state, action, k]

    def terminal(self, state: Tensor) -> Tensor:
        return self.last[state]


class TimedWorld(RandomWorld):
    """The same, with prior, dynamics and reward that change over time."""

    def times(self) -> int:
        assert self.horizon is not None
        return self.horizon

    def time(self, t: int) -> int:
        return t

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(logits=self.prior[t][state].log()))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return self._slice(state, action, t)


class Pair:
    """Two random worlds side by side that nothing ties: states ``x, y``, actions ``a, b``, latents ``k, l``.

    All forms can be had of it: tables, factors, and independent parts.
    """

    def __init__(self, halves: tuple[RandomWorld, RandomWorld]) -> None:
        self.halves, self.horizon, self.discount = halves, halves[0].horizon, halves[0].discount
        if self.horizon is None:
            self.terminal = None

    def initial(self) -> dict[str, Tensor]:
        pairs = zip("xy", self.halves, strict=True)
        return {x: pyro.sample(x, Categorical(logits=half.start.log())) for x, half in pairs}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        return self._choice(state, 0)

    def _choice(self, state: dict[str, Tensor], i: int) -> dict[str, Tensor]:
        each = zip("xy", "ab", self.halves, strict=True)
        logits = [(a, half.prior[i][state[x]].log()) for x, a, half in each]
        return {a: pyro.sample(a, Categorical(logits=own)) for a, own in logits}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        return self._slice(state, action, 0)

    def _slice(self, state: dict[str, Tensor], action: dict[str, Tensor], i: int) -> tuple[dict[str, Tensor], Tensor]:
        following, paid = {}, 0.0
        for x, a, k, half in zip("xy", "ab", "kl", self.halves, strict=True):
            key = (state[x], action[a])
            way = pyro.sample(k, Categorical(logits=half.outcome[i][key].log()))
            following[x] = pyro.sample(x, cai.Point(half.successor[i][(*key, way)], half.S))
            paid = paid + half.reward[i][(*key, way)]
        return following, paid

    def terminal(self, state: dict[str, Tensor]) -> Tensor:
        return self.halves[0].last[state["x"]] + self.halves[1].last[state["y"]]


class TimedPair(Pair):
    """The same of worlds that change over time."""

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        return self._choice(state, t)

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        return self._slice(state, action, t)


class FactoredWorld:
    """Two state variables, two action variables, two latents, one of them a dense next state."""

    horizon = 3

    def __init__(self, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)

        def logits(*shape: int) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64).log_softmax(-1)

        self.floor_0, self.door_0 = logits(3), logits(3, 2)
        self.lift, self.push = logits(3, 2), logits(2, 2, 2)
        self.wind, self.door = logits(2), logits(3, 2, 2, 2)
        self.pay = torch.randn((3, 2, 2, 2, 2, 3, 2), generator=g, dtype=torch.float64)

    def initial(self) -> dict[str, Tensor]:
        floor = pyro.sample("floor", Categorical(logits=self.floor_0))
        return {"floor": floor, "door": pyro.sample("door", Categorical(logits=self.door_0[floor]))}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        lift = pyro.sample("lift", Categorical(logits=self.lift[state["floor"]]))
        return {"lift": lift, "push": pyro.sample("push", Categorical(logits=self.push[state["door"], lift]))}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        wind = pyro.sample("wind", Categorical(logits=self.wind))
        up = (state["floor"] + action["lift"] + wind) % 3
        floor = pyro.sample("floor", cai.Point(up, 3))
        door = pyro.sample("door", Categorical(logits=self.door[floor, state["door"], action["push"]]))
        key = (state["floor"], state["door"], action["lift"], action["push"], wind, floor, door)
        return {"floor": floor, "door": door}, self.pay[key]


class Ring:
    """Machines in a ring, each two-valued: a broken neighbour breaks you; a crew of 0, 1 or 2 mends what is broken.

    With 40 machines there are 10^12 joint states: no table, only the program.
    """

    def __init__(self, n: int = 40, horizon: int = 3) -> None:
        self.n, self.horizon = n, horizon
        self.names = [f"m{i}" for i in range(n)]

    def initial(self) -> dict[str, Tensor]:
        return {name: pyro.sample(name, Categorical(torch.tensor([0.4, 0.6]))) for name in self.names}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("crew", Categorical(logits=torch.zeros(3).expand(*state["m0"].shape, 3)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        following, up = {}, 0.0
        for i, name in enumerate(self.names):
            chance = torch.where(state[name] == 1, 0.6 + 0.35 * state[self.names[i - 1]], 0.4 * action)
            following[name] = pyro.sample(name, Categorical(torch.stack([1 - chance, chance], -1)))
            up = up + following[name] / self.n
        return following, up - 1 - 0.05 * action


class PointMass:
    """A point pushed towards zero: continuous state and action, every site reparameterised.

    Linear dynamics, quadratic reward, Gaussian prior: its posterior is one joint Gaussian.
    """

    horizon = 4

    def __init__(self, bounded: bool = False) -> None:
        self.bounded = bounded

    def initial(self) -> Tensor:
        return pyro.sample("x", pyro.distributions.Normal(torch.tensor(1.0), 0.5))

    def act(self, state: Tensor, t: int) -> Tensor:
        prior = pyro.distributions.Uniform if self.bounded else pyro.distributions.Normal
        return pyro.sample("u", prior(-torch.ones_like(state) * self.bounded, torch.ones_like(state)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        following = pyro.sample("x", pyro.distributions.Normal(state + action, 0.1))
        return following, -((state + action) ** 2)


@st.composite
def random_worlds(draw: st.DrawFn, **fixed: object) -> RandomWorld:
    """Draw a world small enough to enumerate all of its trajectories."""
    chosen = {
        "seed": draw(st.integers(0, 2**31 - 1)),
        "S": draw(st.integers(1, 3)),
        "A": draw(st.integers(1, 2)),
        "K": draw(st.integers(1, 2)),
        "horizon": draw(st.integers(1, 3)),
        "holes": draw(st.booleans()),
        "discount": draw(st.sampled_from([1.0, 0.8])),
    }
    kind = draw(st.sampled_from([RandomWorld, TimedWorld]))
    return kind(**{**chosen, **fixed})


@st.composite
def pairs_of_worlds(draw: st.DrawFn, **fixed: object) -> Pair:
    """Draw two worlds side by side, both of all times alike or both of times that differ."""
    fixed = {"horizon": draw(st.integers(1, 3)), "discount": draw(st.sampled_from([1.0, 0.8])), **fixed}
    timed = fixed["horizon"] is not None and draw(st.booleans())
    kind, beside = (TimedWorld, TimedPair) if timed else (RandomWorld, Pair)
    holes, seed = draw(st.booleans()), draw(st.integers(0, 2**31 - 2))
    sizes = [
        {name: draw(st.integers(low, 3 - (name != "S"))) for name, low in (("S", 2), ("A", 1), ("K", 1))} for _ in "xy"
    ]
    halves = [kind(**{"seed": seed + i, "holes": holes, **size, **fixed}) for i, size in enumerate(sizes)]
    return beside((halves[0], halves[1]))


temperatures = st.sampled_from([0.05, 0.3, 1.0, 7.0])

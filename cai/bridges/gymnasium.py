"""Gymnasium in: every environment that lays its dynamics open in ``unwrapped.P`` becomes a world."""

from typing import Any

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

from cai.errors import fault
from cai.types import Layout
from cai.world import Point, World, horizon_of

ARROWS = {"left": (-1.0, 0.0), "down": (0.0, 1.0), "right": (1.0, 0.0), "up": (0.0, -1.0)}
ACTIONS = {
    "FrozenLakeEnv": ("left", "down", "right", "up"),
    "CliffWalkingEnv": ("up", "right", "down", "left"),
    "TaxiEnv": ("south", "north", "east", "west", "pick up", "drop off"),
}
ENDED = "ended"
"""What the state of an episode that has ended is called."""


class GymnasiumWorld:
    """A Gymnasium environment as a world: outcomes as a list, ``done`` as an absorbing state without further reward.

    States and actions keep Gymnasium's numbers; the state "ended", where there is one, is the last. The number in the
    list ``P[s][a]`` is the latent ``outcome``; the next state and the reward are functions of it.
    """

    stationary = True  # a table P knows no time

    def __init__(self, env: Any, horizon: int | None, discount: float) -> None:
        self.horizon, self.discount = horizon, discount
        self.name = env.spec.id if env.spec else type(env.unwrapped).__name__
        table, start = env.unwrapped.P, env.unwrapped.initial_state_distrib
        S, A = len(table), len(table[0])
        outcomes = [[table[s][a] for a in range(A)] for s in range(S)]
        K = max(len(listed) for row in outcomes for listed in row)
        self.ends = any(bool(one[3]) for row in outcomes for listed in row for one in listed)
        self.n_states, self.n_actions = S + self.ends, A
        shape = (self.n_states, A, K)
        probability = torch.zeros(shape, dtype=torch.float64)
        self.successor = torch.zeros(shape, dtype=torch.long)
        self.reward = torch.zeros(shape, dtype=torch.float64)
        for s, row in enumerate(outcomes):
            for a, listed in enumerate(row):
                for k, (p, successor, reward, done) in enumerate(listed):
                    probability[s, a, k] = p
                    self.successor[s, a, k] = S if done else int(successor)
                    self.reward[s, a, k] = float(reward)
        if self.ends:  # one certain outcome, back to itself, with no reward
            probability[S, :, 0] = 1.0
            self.successor[S] = S
        # Logarithms, because torch's Categorical takes a probability of 0 for one of 2e-16.
        self.log_prob = probability.log()
        self.log_start = torch.full((self.n_states,), -torch.inf, dtype=torch.float64)
        self.log_start[:S] = torch.as_tensor(start, dtype=torch.float64).log()
        self.layout = _layout(env.unwrapped, self.n_states)
        names = ACTIONS.get(type(env.unwrapped).__name__)
        self.labels = {"state": [None] * S + [ENDED] * self.ends} | ({"action": names} if names else {})

    def initial(self) -> Tensor:
        """Sample the state that ``reset`` gives."""
        return _sample("state", Categorical(logits=self.log_start.to(torch.get_default_dtype())))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Sample uniformly from the actions."""
        return _sample("action", Categorical(torch.ones(self.n_actions).expand(*state.shape, self.n_actions)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Sample an entry of ``P[s][a]``; ``done`` leads to the state "ended"."""
        log_prob = self.log_prob[state, action].to(torch.get_default_dtype())
        outcome = _sample("outcome", Categorical(logits=log_prob))
        state_next = _sample("state", Point(self.successor[state, action, outcome], self.n_states))
        return state_next, self.reward[state, action, outcome].to(torch.get_default_dtype())

    def terminated(self, state: Tensor) -> Tensor:
        """Tell the state "ended", where there is one."""
        return (state == self.n_states - 1) & self.ends


def from_gymnasium(env: Any, *, horizon: int | None = None, discount: float = 1.0, **env_kwargs: Any) -> World:
    """Import a Gymnasium environment with a table ``P`` as a world.

    ``P[s][a]`` is a list of outcomes (p, s', r, done), and stays one. Where ``done`` holds the trajectory goes to one
    state more, the last, called "ended": it is absorbing, pays nothing and belongs to no policy, since nobody acts
    there. Gymnasium's time limit is a truncation, no part of the world: the horizon is.

    Args:
        env: an id such as "FrozenLake-v1", or an environment.
        horizon: T, or None for the infinite horizon with a discount below 1.
        discount: the chance γ to survive a step.
        env_kwargs: passed on to ``gymnasium.make``.

    Raises:
        WorldError: the id or an option is unknown, or the environment has no table ``P`` that holds its dynamics.
    """
    import gymnasium

    made = isinstance(env, str)
    if made:
        try:
            env = gymnasium.make(env, **env_kwargs)
        except (gymnasium.error.Error, TypeError, ValueError, KeyError) as error:
            raise fault(
                f"from_gymnasium('{env}')",
                f"{type(error).__name__}: {error}",
                "an installed id and its options",
            ) from error
    elif not isinstance(env, gymnasium.Env) or env_kwargs:
        seen = f"options {sorted(env_kwargs)} beside an environment" if env_kwargs else f"a {type(env).__name__}"
        raise fault("from_gymnasium", seen, "an id with its options, or an environment alone")
    try:
        _require_table(env)
        world = GymnasiumWorld(env, horizon, discount)
        horizon_of(world)
        return world
    finally:
        if made:
            env.close()


def _require_table(env: Any) -> None:
    inner = env.unwrapped
    name = env.spec.id if env.spec else type(inner).__name__
    where = f"from_gymnasium('{name}')"
    for attribute in ("P", "initial_state_distrib"):
        if not hasattr(inner, attribute):
            expected = (
                "a table of outcomes P[s][a] and a start distribution; without them write the slice as a world "
                "(initial, act, step), or learn from samples"
            )
            raise fault(where, f"no unwrapped.{attribute}", expected)
    if getattr(inner, "fickle_passenger", False):
        seen = "fickle_passenger=True, which changes the destination outside the table P"
        raise fault(where, seen, "an environment whose P holds all of its dynamics")


def _layout(env: Any, n_states: int) -> Layout | None:
    names = ACTIONS.get(type(env).__name__, ())
    if not names or not set(names) <= set(ARROWS):
        return None
    rows, columns = (env.nrow, env.ncol) if hasattr(env, "nrow") else env.shape
    cell = torch.arange(n_states)
    cell[rows * columns :] = -1
    if hasattr(env, "desc"):
        letters = [letter.decode() for row in env.desc for letter in row]
        marks = {i: letter for i, letter in enumerate(letters) if letter != "F"}
    else:
        cliff = {(rows - 1) * columns + i: "C" for i in range(1, columns - 1)}
        marks = {int(env.start_state_index): "S", rows * columns - 1: "G", **cliff}
    return Layout(cell, (rows, columns), tuple(ARROWS[name] for name in names), marks)


def _sample(name: str, fn: Any) -> Tensor:
    value: Tensor = pyro.sample(name, fn)
    return value

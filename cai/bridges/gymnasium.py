"""Gymnasium in: every environment that lays its dynamics open in ``unwrapped.P`` becomes a world."""

from typing import Any

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

from cai.bridges.gymnasium_tables import labels, read_table
from cai.errors import fault
from cai.simulate.registered import made
from cai.support.catalogue import namesake
from cai.world.definition import Point, World
from cai.world.spaces import Layout
from cai.world.spec import read

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
        self.name = _name(env)
        listed = read_table(f"from_gymnasium('{self.name}')", env.unwrapped)
        S, A = len(listed.states), len(listed.actions)
        ends = any(done for row in listed.rows.values() for *_, done in row)
        self.n_states, self.n_actions = S + ends, A
        self.over = torch.tensor([*listed.over, *[True] * ends])
        shape = (self.n_states, A, max(map(len, listed.rows.values())))
        probability = torch.zeros(shape, dtype=torch.float64)
        probability[..., 0] = 1.0  # where the table has no row: one certain outcome, back to itself
        self.successor = torch.arange(self.n_states).reshape(-1, 1, 1).expand(shape).clone()
        self.allowed = self.over.unsqueeze(-1).expand(self.n_states, A).clone()
        entered = self.successor.clone()
        self.reward = torch.where(self.allowed.unsqueeze(-1), 0.0, -torch.inf).to(torch.float64).expand(shape).clone()
        for (s, a), row in listed.rows.items():
            probability[s, a, 0], self.allowed[s, a], self.reward[s, a] = 0.0, True, 0.0
            for k, (p, successor, reward, done) in enumerate(row):
                probability[s, a, k] = max(p, 0.0)
                self.successor[s, a, k], entered[s, a, k] = S if done else successor, successor
                self.reward[s, a, k] = reward
        self.free = bool(self.allowed.all()) and listed.prior is None
        # Logarithms, because torch's Categorical takes a probability of 0 for one of 2e-16.
        self.log_prob = probability.log()
        self.log_prior = self.allowed.to(torch.float64).log()
        if listed.prior is not None:
            self.log_prior[:S] = torch.where(self.over[:S].unsqueeze(-1), 0.0, listed.prior.log())
        self.log_start = torch.full((self.n_states,), -torch.inf, dtype=torch.float64)
        self.log_start[:S] = listed.start.log()
        self.layout = _layout(env.unwrapped, self.n_states, entered)
        moves = ACTIONS.get(type(env.unwrapped).__name__, labels(listed.actions))
        named = {"state": [*labels(listed.states), *[ENDED] * ends], "action": list(moves)}
        self.labels = {name: values for name, values in named.items() if any(values)}

    def initial(self) -> Tensor:
        """Sample the state that ``reset`` gives."""
        return _sample("state", Categorical(logits=self.log_start.to(torch.get_default_dtype())))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Sample from ``action_prior`` where the environment has one, else uniformly from the table's actions."""
        if self.free:
            return _sample("action", Categorical(torch.ones(self.n_actions).expand(*state.shape, self.n_actions)))
        return _sample("action", Categorical(logits=self.log_prior[state].to(torch.get_default_dtype())))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Sample an entry of ``P[s][a]``; ``done`` leads to the state "ended"."""
        log_prob = self.log_prob[state, action].to(torch.get_default_dtype())
        outcome = _sample("outcome", Categorical(logits=log_prob))
        state_next = _sample("state", Point(self.successor[state, action, outcome], self.n_states))
        return state_next, self.reward[state, action, outcome].to(torch.get_default_dtype())

    def terminated(self, state: Tensor) -> Tensor:
        """Tell the ended states: "ended", and those for which the table has no actions."""
        return self.over[state]


def from_gymnasium(env: Any, *, horizon: int | None = None, discount: float = 1.0, **env_kwargs: Any) -> World:
    """Import a Gymnasium environment with a table ``P`` as a world.

    ``P[s][a]`` is a list of outcomes (p, s', r, done), and the tables have the same outcomes. Where ``done`` is True
    the trajectory goes to one more state, the last, called "ended": it is absorbing, pays nothing, and a policy has no
    actions there. Gymnasium's time limit is a truncation and no part of the world; give a horizon instead.

    States and actions may have names, or numbers that do not begin at 0: they are numbered in order and keep their
    names as labels. An action that is missing in ``P[s]`` is forbidden in s. A state with an empty ``P[s]`` ends the
    episode. An outcome of three entries, (p, s', r), is not done.

    ``unwrapped.action_prior``, ``[S, A]``, is optional: p(a|s), 0 for what is forbidden. Without it the prior is
    uniform over the actions of ``P[s]``.

    Args:
        env: an id such as "FrozenLake-v1", or an environment.
        horizon: T, or None for the infinite horizon with a discount below 1.
        discount: the probability γ of surviving a step.
        env_kwargs: passed on to ``gymnasium.make``.

    Raises:
        WorldError: the id or an option is unknown; the environment has no table ``P`` that holds its dynamics; a row of
            ``P``, of the prior, or the start, does not sum to 1.
    """
    import gymnasium

    by_id = isinstance(env, str)
    if by_id:
        env = made(env, env_kwargs)
    elif not isinstance(env, gymnasium.Env) or env_kwargs:
        seen = f"options {sorted(env_kwargs)} beside an environment" if env_kwargs else f"a {type(env).__name__}"
        raise fault("from_gymnasium", seen, "an id with its options, or an environment alone")
    try:
        _require_table(env)
        world = GymnasiumWorld(env, horizon, discount)
        read(world)
        return world
    finally:
        if by_id:
            env.close()


def _name(env: Any) -> str:
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def _require_table(env: Any) -> None:
    inner = env.unwrapped
    where = f"from_gymnasium('{_name(env)}')"
    for attribute in ("P", "initial_state_distrib"):
        if not hasattr(inner, attribute):
            known = namesake(_name(env))
            other = f"the world '{known}'" if known else "a world"
            expected = (
                f"a table of outcomes P[s][a] and a start distribution; without them take {other} of the catalogue "
                "(cai list), write the slice as a world (initial, act, step), or learn from samples (cai learn)"
            )
            raise fault(where, f"no unwrapped.{attribute}", expected)
    if getattr(inner, "fickle_passenger", False) and getattr(inner, "fickle_probability", 1.0) > 0:
        seen = "fickle_passenger=True, which changes the destination outside the table P"
        raise fault(where, seen, "an environment whose P holds all of its dynamics")


def _layout(env: Any, n_states: int, entered: Tensor) -> Layout | None:
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
    return Layout(cell, (rows, columns), tuple(ARROWS[name] for name in names), marks, cell[entered])


def _sample(name: str, fn: Any) -> Tensor:
    value: Tensor = pyro.sample(name, fn)
    return value

"""A Pyro world as a simulator: its slices run on a batch of states, every site drawn once for each copy."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro.distributions import ImproperUniform
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.functional import one_hot

from cai.errors import fault, user_code
from cai.policies.action_programs import enumerated
from cai.simulate.outcomes import Outcomes, outcomes_of
from cai.simulate.simulator import NEVER, EnvState, where
from cai.support.process import alone
from cai.world.definition import World
from cai.world.distributions import exact
from cai.world.enumerate import base
from cai.world.spaces import Space, Values, Variables
from cai.world.spec import read

LONGEST = 100_000_000  # entries of a table of the action prior


class Many(Messenger):
    """Draws every site once for each copy, also where the program's distribution is one for all."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = torch.Size(shape)

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if isinstance(base(fn), ImproperUniform) and not msg["done"]:
            expected = "a policy that acts, such as cai.solve(world).policy"
            raise fault(f"variable '{msg['name']}'", "a flat prior, from which nothing can be drawn", expected)
        if fn.batch_shape != self.shape:
            msg["fn"] = fn.expand(torch.broadcast_shapes(fn.batch_shape, self.shape))


class WorldSimulator:
    """B copies of a Pyro world; see ``Simulator``.

    A world with tables of at most a million outcomes is stepped by table look-up; for others its program runs.

    A copy ends at the horizon, or where the world's optional ``terminated(state)`` says that it is absorbing and pays
    nothing more; where the world pays a terminal reward on s_T, an absorbing state goes on to T too. A discount below 1
    is not drawn: learners put γ into their targets.

    Args:
        world: the world.
        batch: B.

    Raises:
        WorldError: the world is not valid.
    """

    def __init__(self, world: World, batch: int) -> None:
        self.world, self.batch, self.dtype = world, batch, torch.get_default_dtype()
        self.spec = read(world)
        self.name, self.variables = self.spec.name, self.spec.variables
        self.horizon, self.discount, self.timed = self.spec.horizon, self.spec.discount, self.spec.timed
        self.terminal = self.spec.terminal
        self.endless = self.spec.early_end is None
        self.absorbing = self.spec.terminated if self.endless else None

    @cached_property
    def example(self) -> Any:
        """Some first state of each copy."""
        with alone(), torch.random.fork_rng(devices=[]):
            return self._initial()

    def begin(self) -> EnvState:
        """Start an episode in every copy."""
        state = self._initial()
        never = torch.zeros(self.batch, dtype=torch.bool)
        return EnvState(state, torch.zeros(self.batch, dtype=torch.long), self._terminated(state, never), never)

    def step(self, env_state: EnvState, action: Values) -> tuple[EnvState, Tensor]:
        """Draw the slice in every copy; the last step adds γ r_T(s_T), if the world has a terminal reward."""
        slice_ = self._run if self.outcomes is None else self._look_up
        state, reward, terminated = slice_(env_state, action)
        after = env_state.t + 1
        late = self._is_last(after)
        if self.terminal is not None:
            reward = self.with_terminal(reward, state, after)
        gone = env_state.ended
        if bool(gone.any()):
            state, after = where(gone, env_state.state, state), torch.where(gone, env_state.t, after)
            reward = torch.where(gone, torch.zeros_like(reward), reward)
            terminated, late = (
                torch.where(gone, env_state.terminated, terminated),
                torch.where(gone, env_state.truncated, late),
            )
        return EnvState(state, after, terminated, late & ~terminated, copies=env_state.copies), reward

    def with_terminal(self, reward: Tensor, state: Any, t: Tensor) -> Tensor:
        """Return the rewards of the way to states of times t, γ r_T(s_T) added at T."""
        assert self.terminal is not None
        return torch.where(self._is_last(t), reward + self.discount * self.terminal(state), reward)

    def restart(self, env_state: EnvState) -> EnvState:
        """Start a new episode in the copies that have ended (for a timed world once all have)."""
        ended = env_state.ended
        if not bool(ended.any()) or (self.timed and not bool(ended.all())):
            return env_state
        state = where(ended, self._initial(), env_state.state)
        never = torch.zeros_like(ended)
        terminated = torch.where(ended, self._terminated(state, never), env_state.terminated)
        return replace(
            env_state, state=state, t=torch.where(ended, 0, env_state.t), terminated=terminated, truncated=never
        )

    def features(self, state: Any) -> Tensor:
        """Return the world's own ``features(state)``, or its variables: one-hot where finite, else as they are."""
        own = self.spec.features
        return (features_of(self.variables, state) if own is None else own(state)).to(self.dtype)

    def act(self, state: Any, t: Any) -> Any:
        """Sample from the world's action prior."""
        return self.world.act(state, t)

    def log_prior(self, state: Any, t: Any = 0) -> Tensor:
        """Return log p(a|s) of the numbered actions, nats: from a table where the states are numbered."""
        if self._prior is None:
            time = int(torch.as_tensor(t).max()) if self.timed else 0  # all running copies are at the same time
            return prior_at(self.world, self.variables, state, time).to(self.dtype)
        numbers = _number(self.variables, state)
        return self._prior[t, numbers] if self._times else self._prior[numbers]

    def pack(self, env_state: EnvState) -> dict[str, Any]:
        """Return a state as tensors."""
        fields = {"t": env_state.t, "terminated": env_state.terminated, "truncated": env_state.truncated}
        return {"state": env_state.state, **fields}

    def unpack(self, packed: dict[str, Any]) -> EnvState:
        """Return the state that was packed."""
        return EnvState(packed["state"], packed["t"], packed["terminated"], packed["truncated"])

    @cached_property
    def _prior(self) -> Tensor | None:
        spaces = self.variables.spaces
        if spaces is None or spaces[0].size * spaces[1].size > LONGEST:
            return None
        dtype = self.dtype
        if not self._times:
            return enumerated(self.world.act, *spaces, 0, dtype)
        return torch.stack([enumerated(self.world.act, *spaces, t, dtype) for t in range(self._times)])

    @property
    def _times(self) -> int:
        """For how many times the action prior has a table of its own; 0 where one is for all."""
        return (self.horizon or 0) if self.timed else 0

    @cached_property
    def outcomes(self) -> Outcomes | None:
        """The slices as look-up tables; None where there are none of modest size."""
        return outcomes_of(self.spec)

    def _look_up(self, env_state: EnvState, action: Values) -> tuple[Any, Tensor, Tensor]:
        """Return the next states, the rewards, and where episodes have ended, of outcomes that are looked up."""
        assert self.outcomes is not None
        states, actions = self.outcomes.tables.states, self.outcomes.tables.actions
        s, a = states.join(states.unpack(env_state.state)), joined(actions, action)
        u = torch.rand(len(s), dtype=torch.float64)
        numbers, reward = self.outcomes.step(s.numpy(), a.numpy(), env_state.t.numpy(), u.numpy())
        state = states.pack(states.split(torch.from_numpy(numbers)))
        over = env_state.terminated if self.endless else torch.from_numpy(self.outcomes.over[numbers])
        return state, torch.from_numpy(reward).to(self.dtype), over

    def _run(self, env_state: EnvState, action: Values) -> tuple[Any, Tensor, Tensor]:
        """Return the same of the world's program."""
        t, n = int(env_state.t.max()) if self.timed else 0, len(env_state.t)  # an ended copy stays at an earlier time
        with user_code(f"step, t = {t}", "code that broadcasts over a batch of states"), Many(n):
            state, reward = self.world.step(env_state.state, action, t)
        reward = torch.as_tensor(reward).expand(n)
        reward = reward if reward.is_floating_point() else reward.to(self.dtype)
        return state, reward, self._terminated(state, env_state.terminated)

    def _is_last(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t, dtype=torch.bool) if self.horizon is None else t >= min(self.horizon, NEVER)

    def _initial(self) -> Any:
        with user_code("initial", "code that broadcasts over a batch"), Many(self.batch):
            return self.world.initial()

    def _terminated(self, state: Any, never: Tensor) -> Tensor:
        return never if self.spec.early_end is None else self.spec.early_end(state)


def joined(space: Space, values: Values) -> Tensor:
    """Return the numbers of the actions of a batch.

    Raises:
        WorldError: a value is none of its variable's: in a table it would be another state's action.
    """
    own = space.unpack(values)
    for name, size in space.named_sizes.items():
        low, high = torch.aminmax(own[name])
        if low < 0 or high >= size:
            wrong = low if low < 0 else high
            raise fault(f"step, variable '{name}'", f"the value {wrong.item()}", f"one of 0 … {size - 1}")
    return space.join(own)


def _number(variables: Variables, state: Any) -> Tensor:
    space = variables.state_space
    assert space is not None
    return space.join(space.unpack(state))


def features_of(variables: Variables, state: Any) -> Tensor:
    """Return variables as one vector, ``[*, F]``: one-hot where finite, else flattened."""
    values, parts = variables.state_values(state), []
    for variable in variables.states:
        value = values[variable.name]
        if variable.size is not None:
            parts.append(one_hot(value.long(), variable.size).to(torch.get_default_dtype()))
        else:
            parts.append(value.flatten(-len(variable.shape)) if variable.shape else value.unsqueeze(-1))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


class _SiteDistribution(Messenger):
    """Reads the distribution of the one action site."""

    def __init__(self) -> None:
        super().__init__()
        self.fn: Any = None

    def _pyro_sample(self, msg: Any) -> None:
        self.fn = exact(msg["fn"])
        if isinstance(base(self.fn), ImproperUniform):  # a flat prior cannot be drawn from
            msg["value"], msg["done"] = torch.zeros(self.fn.shape()), True


def prior_at(world: Any, variables: Variables, state: Any, t: int) -> Tensor:
    """Return log p(a|s) of the one finite action variable at states that are not numbered, ``[*, A]``, nats.

    Raises:
        WorldError: there are several action variables.
    """
    if len(variables.actions) != 1 or variables.actions[0].size is None:
        raise fault(
            "learner",
            f"action variables {[variable.name for variable in variables.actions]}",
            "one, with finitely many values",
        )
    fn = _read(world.act, state, t)
    log_p: Tensor = fn.log_prob(fn.enumerate_support(expand=False)).movedim(0, -1)
    return log_p.expand(*variables.batch_of(state), log_p.shape[-1])  # a prior may be the same in all states


def one_action(simulator: Any) -> Any:
    """Return the prior's distribution of the one action variable, at some state."""
    return action_at(simulator, simulator.example, 0)


def action_at(simulator: Any, state: Any, t: Any) -> Any:
    """Return the prior's distribution of the one action variable at states of one time; t may be one for each copy."""
    time = int(torch.as_tensor(t).max()) if simulator.timed else 0  # all running copies are at the same time
    with alone(), torch.random.fork_rng(devices=[]):
        return _read(simulator.act, state, time)


def _read(act: Any, state: Any, t: int) -> Any:
    reader = _SiteDistribution()
    with pyro.poutine.block(), reader:
        act(state, t)
    return reader.fn

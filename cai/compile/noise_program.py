"""A world as a function of standard normal noise: what approximate inference works on, whatever the distributions.

    s_0 = start(z),     a_t = act(t, s_t, w_t),     (s_{t+1}, r_t) = step(t, s_t, a_t, z_t),     z, w_t, z_t ~ N(0, I)

States and actions are vectors: all variables side by side, finite ones as numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from cai.errors import fault
from cai.support.process import precision
from cai.world.at_values import AtValues
from cai.world.coordinates import Coordinates
from cai.world.enumerate import pair_of, run_under
from cai.world.noise import FromNoise
from cai.world.spaces import Values, Variable
from cai.world.spec import Spec, read

RUNS = "code that runs on one state and action, and on a batch of them, in float64"


Step = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From t, s_t, w_t and z_t to a_t, s_{t+1} and r_t."""


@runtime_checkable
class Caller(Protocol):
    """How the pieces of a program are called: as they are written, or by a recording (see ``traced_program``)."""

    def __call__(self, piece: str, run: Callable[..., Any], *inputs: Tensor) -> Any:
        """Return ``run(*inputs)`` of the piece with a name."""

    def loop(self, piece: str, step: Step, s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states ``[N, T+1, n]``, actions ``[N, T, m]`` and rewards ``[N, T]`` of all steps."""


class AsWritten:
    """Runs each piece as it is written."""

    def __call__(self, piece: str, run: Callable[..., Any], *inputs: Tensor) -> Any:
        """Run a piece."""
        return run(*inputs)

    def loop(self, piece: str, step: Step, s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run a step at each time."""
        states, actions, rewards = [s], [], []
        for t in range(w.shape[1]):
            a, s, r = step(t, s, w[:, t], z[:, t])
            states.append(s)
            actions.append(a)
            rewards.append(r)
        return torch.stack(states, 1), torch.stack(actions, 1), torch.stack(rewards, 1)


AS_WRITTEN = AsWritten()


@dataclass(frozen=True, eq=False)
class NoiseProgram:
    """A world from time ``first`` on; see the module's words. ``*`` is any batch.

    Attributes:
        spec: the world, read once.
        states, actions: the variables, laid out as coordinates; a finite one is its number.
        start_noise, act_noise, step_noise: how many coordinates of noise each piece takes.
        horizon: T, the number of steps from ``first`` on.
        first: the time of the first step.
        begins: the state that it starts in, ``[n]``; None where the program draws one.
        caller: how ``act``, ``step`` and ``ended`` are run.
        value: what is still to come after the last step where the world goes on, from a state and its time, reward
            units, ``[*]``; None: nothing is counted.
    """

    spec: Spec
    states: Coordinates
    actions: Coordinates
    start_noise: int
    act_noise: int
    step_noise: int
    horizon: int
    first: int = 0
    begins: Tensor | None = None
    caller: Caller = AS_WRITTEN
    value: Callable[[Values, int], Tensor] | None = None

    @property
    def discount(self) -> float:
        """The probability γ of surviving a step."""
        return self.spec.discount

    def starting(self, state: Tensor, t: int, steps: int) -> "NoiseProgram":
        """Return the world from a state ``[n]`` at time t on, for at most so many steps."""
        left = steps if self.spec.horizon is None else min(steps, self.spec.horizon - t)
        return replace(self, begins=state, start_noise=0, first=t, horizon=left)

    def start(self, z: Tensor) -> Tensor:
        """Return s_0 from noise ``[*, start_noise]``, ``[*, n]``."""
        if self.begins is not None:
            return self.begins.expand(*z.shape[:-1], -1)
        return self._joined(self.states, self._run("initial", z, self.spec.world.initial))

    def act(self, t: int, s: Tensor, w: Tensor) -> Tensor:
        """Return an action of the prior in states ``[*, n]`` from noise ``[*, act_noise]``, ``[*, m]``."""
        where, time = f"act, t = {self.first + t}", self.first + t

        def act(s: Tensor, w: Tensor) -> Tensor:
            return self._joined(self.actions, self._run(where, w, self.spec.world.act, self.state(s), time))

        acted: Tensor = self.caller("act", act, s, w)
        return acted

    def step(self, t: int, s: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return s_{t+1} ``[*, n]`` and r_t ``[*]``, reward units, from noise ``[*, step_noise]``."""
        where, time = f"step, t = {self.first + t}", self.first + t

        def step(s: Tensor, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
            given = self._run(where, z, self.spec.world.step, self.state(s), self.action(a), time)
            following, reward = pair_of(given, where)
            return self._joined(self.states, following), _numbers(where, reward, s)

        stepped: tuple[Tensor, Tensor] = self.caller("step", step, s, a, z)
        return stepped

    def log_density(self, t: int, s: Tensor, a: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(s_{t+1}|s_t, a_t), nats, and r_t, reward units, ``[*]`` each.

        Raises:
            IntractableError: the next state is not what the step draws, or has no density.
        """
        where, time = f"step, t = {self.first + t}", self.first + t
        known = AtValues(where, self.states.unpack(self.state(following)))
        with precision(s.dtype), pyro.validation_enabled(False):
            given = run_under(known, where, RUNS, self.spec.world.step, self.state(s), self.action(a), time)
        returned, reward = pair_of(given, where)
        known.require_returned(self.states.unpack(returned))
        log_p = torch.as_tensor(known.log_density).to(s.dtype).expand(s.shape[:-1])
        return log_p, _numbers(where, reward, s)

    def advance(self, t: int, s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a_t, s_{t+1} and r_t of the prior's action from noise; an ended episode stays and pays nothing."""
        advanced: tuple[Tensor, Tensor, Tensor] = self.caller("advance", partial(self._advance, t), s, w, z)
        return advanced

    def roll(self, s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return all steps of ``advance`` from states ``[N, n]`` on.

        Args:
            s: s_0, ``[N, n]``.
            w: noise of the actions, ``[N, T, act_noise]``.
            z: noise of the steps, ``[N, T, step_noise]``.

        Returns:
            states ``[N, T+1, n]``, actions ``[N, T, m]``, rewards ``[N, T]``, reward units.
        """
        return self.caller.loop("advance", self._advance, s, w, z)

    def _advance(self, t: int, s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        written = replace(self, caller=AS_WRITTEN)  # a recording of the whole, not of its pieces
        a = written.act(t, s, w)
        following, r = written.step(t, s, a, z)
        ended = written.ended(s)
        if ended is not None:
            following, r = torch.where(ended.unsqueeze(-1), s, following), torch.where(ended, 0.0, r)
        return a, following, r

    def terminal(self, s: Tensor) -> Tensor:
        """Return r_T in states ``[*, n]``, reward units, ``[*]``; ``value`` where the world goes on after it."""
        end = self.first + self.horizon
        times: tuple[int, ...] = ()
        reward_of: Callable[..., Tensor] | None
        if end == self.spec.horizon:
            where, reward_of = "terminal", self.spec.terminal
        else:
            where, reward_of, times = f"value, t = {end}", self.value, (end,)
        if reward_of is None:
            return s.new_zeros(s.shape[:-1])
        with precision(s.dtype):
            reward = _numbers(where, run_under(Messenger(), where, RUNS, reward_of, self.state(s), *times), s)
        ended = self.ended(s) if times else None
        return reward if ended is None else torch.where(ended, 0.0, reward)

    def ended(self, s: Tensor) -> Tensor | None:
        """Return in which states ``[*, n]`` the episode has ended and pays no more; None where none may."""
        if self.spec.early_end is None:
            return None
        early_end = self.spec.early_end

        def ended(s: Tensor) -> Tensor:
            with precision(s.dtype):
                return torch.as_tensor(run_under(Messenger(), "terminated", RUNS, early_end, self.state(s)))

        told: Tensor = self.caller("ended", ended, s)
        return told

    def state(self, s: Tensor) -> Values:
        """Return states ``[*, n]`` as the program speaks of them."""
        return _packed(self.states, self.spec.variables.states, s)

    def action(self, a: Tensor) -> Values:
        """Return actions ``[*, m]`` as the program speaks of them."""
        return _packed(self.actions, self.spec.variables.actions, a)

    def _run(self, where: str, noise: Tensor, piece: Any, *args: Any) -> Any:
        with precision(noise.dtype), pyro.validation_enabled(False):
            return run_under(FromNoise(where, noise), where, RUNS, piece, *args)

    def _joined(self, space: Coordinates, values: Values) -> Tensor:
        return space.join({name: value.to(torch.float64) for name, value in space.unpack(values).items()})


def _numbers(where: str, reward: Any, s: Tensor) -> Tensor:
    """Return one reward for each state ``[*, n]``."""
    each, batch = torch.as_tensor(reward), s.shape[:-1]
    try:
        return each.to(s.dtype).expand(batch)
    except RuntimeError:
        seen = f"a reward of shape {tuple(each.shape)}"
        raise fault(where, seen, f"shape {tuple(batch)}, one number for each state") from None


def _packed(space: Coordinates, variables: tuple[Variable, ...], x: Tensor) -> Values:
    split = space.split(x)
    typed = {v.name: split[v.name] if v.dtype.is_floating_point else split[v.name].to(v.dtype) for v in variables}
    return space.pack(typed)


def noise_program(world: Any, horizon: int | None = None) -> NoiseProgram:
    """Return a world as a function of noise; what is one already is returned as it is.

    Args:
        world: a world, or its ``Spec``.
        horizon: how many steps to look ahead; never beyond the world's own horizon, which it is unless given.

    Raises:
        WorldError: the world is not valid, or has no horizon and none is given; or the one given is no number of steps.
        IntractableError: a distribution has no quantile function.
    """
    if isinstance(world, NoiseProgram):
        return world
    with precision(torch.float64):
        spec = read(world)
        if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
            raise fault("horizon", f"{horizon!r}", "a whole number of steps to look ahead, at least 1")
        T = min((steps for steps in (horizon, spec.horizon) if steps is not None), default=None)
        if T is None:
            raise fault("horizon", "None", "a finite horizon: approximate inference looks so many steps ahead")
        states, actions = (
            Coordinates.of(variables, named)
            for variables, named in zip((spec.variables.states, spec.variables.actions), spec.named, strict=True)
        )
        begin, act, step = FromNoise("initial"), FromNoise("act, t = 0"), FromNoise("step, t = 0")
        state = run_under(begin, "initial", RUNS, spec.world.initial)
        action = run_under(act, "act, t = 0", RUNS, spec.world.act, state, 0)
        run_under(step, "step, t = 0", RUNS, spec.world.step, state, action, 0)
    return NoiseProgram(spec, states, actions, begin.used, act.used, step.used, T)

"""mpc: control that plans again at every step, from the state that it then finds itself in."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from cai.approximation.approximation import Approximation
from cai.approximation.methods import Method, method_of
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.compile.traced_program import traced
from cai.errors import fault, user_code
from cai.exact.temperature import single_temperature
from cai.learn.loop import require_whole
from cai.policies.protocol import sampled
from cai.support.process import precision
from cai.world.enumerate import run_under
from cai.world.noise import FromNoise
from cai.world.spaces import Values

StateOf = Callable[[Any], Any]
"""From what an environment shows, ``[*, …]``, to the world's state."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What was found for one copy at one time.

    Attributes:
        t: the time.
        state: from which it plans, ``[n]``.
        found: the method's answer.
        generator: of the draws of this episode of this copy.
    """

    t: int
    state: Tensor
    found: Approximation
    generator: torch.Generator


@dataclass(frozen=True, eq=False)
class RecedingHorizon:
    """A policy that plans from the present state, takes the first action, and plans again. See ``cai.mpc``.

    The copies of a batch are planned for one after the other, each with a warm start and draws of its own: a copy acts
    the same whatever others there are. An episode (from t = 0 on) is a function of the seed, the copy and the states.

    Attributes:
        program: the world as a function of noise.
        method: how it plans.
        horizon: how many steps it looks ahead; fewer where the world ends before.
        temperature: α, reward units.
        seed: of all draws.
        draw: whether an action is drawn from the plan; else it is the plan's median.
        state_of: from what an environment shows to the world's state; None: the world's own, where no state is shown.
        plans: the last plan of each copy.
    """

    program: NoiseProgram = field(repr=False)
    method: Method
    horizon: int
    temperature: float
    seed: int = 0
    draw: bool = False
    state_of: StateOf | None = None
    plans: dict[int, Plan] = field(default_factory=dict, repr=False)

    sample = sampled

    def act(self, state: Any, t: int) -> Values:
        """Plan, and sample the world's action sites at the plan's first action.

        Raises:
            WorldError: what is shown has another shape than the world's state, or the world has ended at t.
            ImpossibleError: no trajectory that the method found is possible.
        """
        s = self._states(state, t)
        each = [self._action(copy, one, t) for copy, one in enumerate(s.reshape(-1, s.shape[-1]))]
        shape, joint = s.shape[:-1], {name: torch.stack([action[name] for action in each]) for name in each[0]}
        acted = {
            name: pyro.sample(name, dist.Delta(value.reshape(shape + value.shape[1:]), event_dim=value.dim() - 1))
            for name, value in joint.items()
        }
        return self.program.actions.pack(acted)

    def log_prob(self, state: Any, action: Values, t: int = 0) -> Tensor:
        """Return log π_t(a|s), nats, of the plan that ``act`` makes there; of a plan's median it is 0 or -inf."""
        s, given = self._states(state, t), self.program.actions.unpack(action)
        flat = {
            name: given[name].reshape(s.shape[:-1].numel(), *shape)
            for name, shape in zip(self.program.actions.names, self.program.actions.shapes, strict=True)
        }
        each = []
        for copy, one in enumerate(s.reshape(-1, s.shape[-1])):
            a = self.program.actions.pack({name: value[copy] for name, value in flat.items()})
            each.append(self._log_prob(copy, one, a, t))
        return torch.stack(each).reshape(s.shape[:-1])

    def plan(self, state: Any, t: int, copy: int = 0) -> Approximation:
        """Return the plan from one state at time t on; its warm start is the plan of time t-1, shifted by a step."""
        return self._plan(copy, self._states(state, t).reshape(-1), t).found

    def _plan(self, copy: int, s: Tensor, t: int) -> Plan:
        last = self.plans.get(copy)
        if last is not None and last.t == t and torch.equal(last.state, s):
            return last
        if last is not None and t > 0 and last.t == t - 1:
            generator, guess = last.generator, last.found.guess
        else:
            generator, guess = torch.Generator().manual_seed((self.seed << 20) + copy), None
        program = self.program.starting(s, t, self.horizon)
        with torch.no_grad():
            guess = None if guess is None else guess.shifted()
            found = self.method.run(program, self.temperature, generator, guess)
        self.plans[copy] = Plan(t, s, found, generator)
        return self.plans[copy]

    def _action(self, copy: int, s: Tensor, t: int) -> dict[str, Tensor]:
        """Return one copy's action, by variable."""
        program, ended = self.program, self.program.ended(s)
        if ended is not None and bool(ended):  # nobody acts there: any action will do
            return program.actions.unpack(program.action(program.act(0, s, s.new_zeros(program.act_noise))))
        plan = self._plan(copy, s, t)
        policy, noise = plan.found.policy, torch.zeros(program.act_noise, dtype=torch.float64)
        with precision(torch.float64), torch.no_grad():
            if self.draw:
                noise = torch.randn(program.act_noise, dtype=torch.float64, generator=plan.generator)
            elif hasattr(policy, "median"):  # at once, where a policy knows it: a program takes a third of the time
                return program.actions.unpack(policy.median(program.state(s), t))
            where, runs = f"mpc, t = {t}", "a policy that acts"
            action = run_under(FromNoise(where, noise), where, runs, policy.act, program.state(s), t)
        return program.actions.unpack(action)

    def _log_prob(self, copy: int, s: Tensor, action: Values, t: int) -> Tensor:
        with precision(torch.float64):
            if self.draw:
                return self._plan(copy, s, t).found.policy.log_prob(self.program.state(s), action, t)
        ours, given = self._action(copy, s, t), self.program.actions.unpack(action)
        same = all(torch.equal(ours[name], given[name].to(ours[name].dtype)) for name in ours)
        return torch.zeros((), dtype=torch.float64) if same else torch.tensor(-torch.inf, dtype=torch.float64)

    def _states(self, shown: Any, t: int) -> Tensor:
        """Return what is shown as states, ``[*, n]``."""
        end = self.program.spec.horizon
        if end is not None and t >= end:
            raise fault(f"mpc, t = {t}", "a time after the last action", f"t below the world's horizon, {end}")
        own = None if self._is_state(shown) else getattr(self.program.spec.world, "state_of", None)
        state_of = self.state_of or own
        if state_of is not None:
            with user_code(f"mpc, state_of, t = {t}", "a function from what is shown to the world's state"):
                shown = state_of(_double(shown))
        if not self._is_state(shown):
            expected = f"a state of the world, {_shapes(self.program)}, or state_of=, a function that makes one of it"
            raise fault(f"mpc, t = {t}", f"a state of {_shape(shown)}", expected)
        states = self.program.states
        s = states.join({name: value.to(torch.float64) for name, value in states.unpack(shown).items()}).detach()
        if not bool(s.isfinite().all()):
            raise fault(f"mpc, t = {t}", "a state that is not finite", "finite numbers")
        return s

    def _is_state(self, shown: Any) -> bool:
        states = self.program.states
        if isinstance(shown, dict) != states.named:
            return False
        given = states.unpack(shown)
        return set(given) == set(states.names) and all(
            isinstance(given[name], Tensor) and given[name].shape[given[name].dim() - len(shape) :] == shape
            for name, shape in zip(states.names, states.shapes, strict=True)
        )


def mpc(
    world: Any,
    method: str | Method = "path_integral",
    horizon: int = 20,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    draw: bool = False,
    state_of: StateOf | None = None,
    value: Callable[[Any, int], Tensor] | None = None,
    **options: Any,
) -> RecedingHorizon:
    """Return receding-horizon control (model predictive control) as a policy: inference at every step, warm-started.

    At each call it approximates ``p(τ|O)`` of the next ``horizon`` steps from the present state, starting from the plan
    of the step before, shifted by one, and takes the plan's first action: its median, which in noise coordinates is
    the mean of a Gaussian plan, or a draw. At t = 0, and after a jump in time, it starts afresh. It acts in the world
    itself, and in an environment that the world is a model of: ``cai.rollout("Pendulum-v1", policy)``.

    Args:
        world: a world: the model to plan with.
        method: a method by name, see ``cai.approximation.METHODS``, or one with its options.
        horizon: how many steps to look ahead, at least 1.
        temperature: α > 0, reward units.
        seed: of all draws; the same seed gives the same actions.
        draw: draw the action from the plan, in place of its median.
        state_of: from what an environment shows to the world's state; the world's own method ``state_of`` unless given,
            which is used where what is shown does not have the shape of a state.
        value: what is still to come after the last step that it looks at, ``value(state, t)``, reward units, ``[*]``:
            with a good one a short look ahead is enough. Nothing is counted unless given.
        options: of a method that is given by name.

    Raises:
        WorldError: the world, the method or an option is not valid.
        IntractableError: the method cannot take this world.
    """
    require_whole("mpc, horizon", horizon, 1)
    require_whole("mpc, seed", seed, 0)
    if state_of is not None and not callable(state_of):
        raise fault("mpc, state_of", f"a {type(state_of).__name__}", "a function from what is shown to a state")
    alpha, chosen = float(single_temperature(temperature)), method_of("mpc", method, options)
    if value is not None and not callable(value):
        raise fault("mpc, value", f"a {type(value).__name__}", "a function of a state and a time")
    program = traced(replace(noise_program(world, horizon), value=value))
    return RecedingHorizon(program, chosen, horizon, alpha, seed, draw, state_of)


def _double(shown: Any) -> Any:
    if isinstance(shown, dict):
        return {name: _double(value) for name, value in shown.items()}
    return shown.to(torch.float64) if isinstance(shown, Tensor) and shown.is_floating_point() else shown


def _shape(shown: Any) -> str:
    if isinstance(shown, dict):
        return f"variables {', '.join(f'{name} {_shape(value)}' for name, value in shown.items())}"
    return f"shape {list(shown.shape)}" if isinstance(shown, Tensor) else f"type {type(shown).__name__}"


def _shapes(program: NoiseProgram) -> str:
    each = zip(program.states.names, program.states.shapes, strict=True)
    return ", ".join(f"'{name}' [{', '.join(['*', *map(str, shape)])}]" for name, shape in each)

"""The program of a world of real variables: each piece as a function of vectors and of given noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from cai.errors import Finding, IntractableError, WorldError, fault
from cai.world.coordinates import Coordinates
from cai.world.enumerate import base, pair_of, require_no_latents, require_own, run_under
from cai.world.reparametrise import REAL, Reparametrise, narrow
from cai.world.spaces import Values, variable_names
from cai.world.spec import Spec

RUNS = "code that runs on one state and action, and on a batch of them, in float64"


def is_real(spec: Spec) -> bool:
    """Return whether all state and action variables are real, Gaussian or deterministic, as ``linearise`` needs."""
    fns = [messenger.distributions for messenger in spec.heads]
    values = [value for messenger in spec.heads for value in messenger.values.values()]
    every = [fn for named in fns for fn in named.values()]
    real = all(isinstance(base(fn), REAL) for fn in every) and all(value.is_floating_point() for value in values)
    return real and all(fns)


@dataclass(frozen=True)
class RealProgram:
    """The pieces of a program as functions of vectors."""

    spec: Spec
    states: Coordinates
    actions: Coordinates

    def initial(self, z: Tensor | None) -> Reparametrise:
        """Run ``initial``."""
        begin = Reparametrise("initial", z)
        require_variables(self.states, begin, run_real(begin, self.spec.world.initial))
        return begin

    def act(self, t: int, s: Tensor, w: Tensor | None) -> Reparametrise:
        """Run ``act``."""
        return run_act(self.spec.world.act, f"act, t = {t}", t, self.states, self.actions, s, w)

    def step(self, t: int, s: Tensor, a: Tensor, z: Tensor | None) -> tuple[Reparametrise, Tensor]:
        """Run ``step``; return its sites, and the reward."""
        step = Reparametrise(f"step, t = {t}", z)
        action = self.actions.pack(self.actions.split(a))
        next_state, reward = pair_of(run_real(step, self.spec.world.step, self._state(s), action, t), step.where)
        require_own(self.states.names, next_state, step.values, step.where)
        _require_shapes(self.states, step)
        return step, _reward(step.where, reward, s.shape[:-1])

    def sites(self) -> Coordinates:
        """Return the sites of ``step``: latents and next states."""
        return self.step(0, torch.zeros(self.states.dimension), torch.zeros(self.actions.dimension), None)[0].space

    def terminal(self, s: Tensor) -> Tensor:
        """Run ``terminal``."""
        if self.spec.terminal is None:
            return torch.zeros(())
        reward = run_under(Messenger(), "terminal", RUNS, self.spec.terminal, self._state(s))
        return _reward("terminal", torch.as_tensor(reward), s.shape[:-1])

    def _state(self, s: Tensor) -> Values:
        return self.states.pack(self.states.split(s))


def real_program(spec: Spec) -> RealProgram:
    """Return the program of a world, after its members are checked.

    Raises:
        WorldError, IntractableError: a member is not valid, or episodes end early.
    """
    if spec.terminated is not None:
        seen = "episodes that end where the state says so, which is no Gaussian event"
        raise IntractableError([Finding("terminated", seen, "a world without terminated")])
    if spec.timed and spec.horizon is None:
        raise fault("act and step", "they read t", "slices that do not depend on t where horizon = None")
    states, actions = (
        Coordinates.of(variables, named)
        for variables, named in zip((spec.variables.states, spec.variables.actions), spec.named, strict=True)
    )
    return RealProgram(spec, states, actions)


def run_real(messenger: Reparametrise, piece: Callable[..., Any], *args: Any) -> Any:
    """Run a piece of the program.

    Raises:
        WorldError: it fails; a covariance without a root is named as such.
    """
    try:
        return run_under(messenger, messenger.where, RUNS, piece, *args)
    except WorldError as error:
        if not isinstance(error.__cause__, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            raise
        expected = "a covariance that is positive definite: what has no noise is a Delta, or has a scale of 0"
        raise fault(messenger.where, error.findings[0].seen, expected) from error


def run_act(
    act: Callable[[Any, Any], Any],
    where: str,
    t: int,
    states: Coordinates,
    actions: Coordinates,
    s: Tensor,
    w: Tensor | None,
) -> Reparametrise:
    """Run a program of actions, of a world or of a policy, at states and at noise."""
    messenger = Reparametrise(where, w, flat=True)
    require_variables(actions, messenger, run_real(messenger, act, states.pack(states.split(s)), t))
    return messenger


def require_variables(space: Coordinates, messenger: Reparametrise, returned: Values) -> None:
    """Raise a ``WorldError`` where a piece of a program sampled other variables than those of a space."""
    names = variable_names(returned, messenger.values, messenger.where)
    require_no_latents(messenger, names)
    if names != space.names:
        raise fault(messenger.where, f"variables {list(names)}", f"{list(space.names)}, the same at all times")
    _require_shapes(space, messenger)


def _require_shapes(space: Coordinates, messenger: Reparametrise) -> None:
    for name, shape in zip(space.names, space.shapes, strict=True):
        if messenger.sites[name].shape != shape:
            seen = f"events of shape {tuple(messenger.sites[name].shape)}"
            raise fault(f"{messenger.where}, variable '{name}'", seen, f"{tuple(shape)}, as in initial and act")


def _reward(where: str, reward: Tensor, batch: torch.Size) -> Tensor:
    """Return a reward of one number for each state, as a number of the dtype."""
    if reward.is_complex() or (reward.is_floating_point() and reward.dtype != torch.get_default_dtype()):
        raise fault(f"{where}, the reward", *narrow(reward.dtype))
    if reward.shape not in (batch, torch.Size()):
        seen = f"a reward of shape {tuple(reward.shape)}"
        whole = f"{tuple(batch)}, a number for each state and action" if batch else "(), one number for one state"
        raise fault(where, seen, f"shape {whole}")
    return reward.to(torch.get_default_dtype())


def joined(messenger: Reparametrise, space: Coordinates) -> Tensor:
    """Return the values of the sites of a space, side by side."""
    return space.join({name: messenger.values[name] for name in space.names})


def noise_names(messenger: Reparametrise) -> list[str]:
    """Return the names of the coordinates of noise, in order; a flat one has the name of the variable."""
    return [
        label if flat else f"noise of {label}"
        for name, site in messenger.sites.items()
        if site.noise
        for label, flat in zip(Coordinates((name,), (site.shape,)).labels, site.flat.flatten(), strict=True)
    ]

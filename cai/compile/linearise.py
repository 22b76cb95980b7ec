"""linearise: a world's program, differentiated, as a linear-Gaussian system."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from cai.compile.inspect import inspect_clashes
from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic, stacked
from cai.compile.taylor import TOLERANCE, Expansion, Piece, random_points, read_off
from cai.compile.validate import require_valid
from cai.errors import Finding, IntractableError, WorldError, demand, fault
from cai.support.process import precision
from cai.world.coordinates import Coordinates
from cai.world.definition import World
from cai.world.enumerate import base, pair_of, require_no_latents, require_own, run_under
from cai.world.reparametrise import REAL, Reparametrise, narrow
from cai.world.spaces import Values, variable_names
from cai.world.spec import Spec, read

RUNS = "code that runs on one state and action, and on a batch of them, in float64"


def linearise(world: World | Spec | LinearGaussian) -> LinearGaussian:
    """Compile a world to a linear-Gaussian system: affine dynamics, Gaussian noise, a quadratic reward.

    ``s' = A s + B a + G z + d``, ``r = ½ y'My + b'y + c`` with ``y = (s, a, z)`` and z ~ N(0, I), the noise of the
    slice's sites: ``Normal(loc, scale)`` is ``loc + scale z``. The matrices are the program's Jacobian and Hessian
    at 0. Then the program is held to them at random points, 1e-3 to 1e6 from the origin: it may deviate by 1e-9 of the
    size of its terms. Sites are Normal, MultivariateNormal, LowRankMultivariateNormal, or a Delta, which has no noise;
    a scale of 0 is allowed, too. An action may be ``ImproperUniform`` on the reals: a flat prior, of density 1. If the
    world's code reads ``t``, slices have a time axis, unless all are equal. The tensors are differentiable in those of
    the world.

    Args:
        world: the world; a compiled one is returned as it is.

    Raises:
        WorldError: the world is not valid: its code fails, does not broadcast, or makes numbers in float32.
        IntractableError: a site is not Gaussian, its mean is not affine, its scale depends on the slice, or a reward is
            not quadratic; the error names the site or the reward, the time, the point and the difference there. Or an
            episode may end early.
    """
    if isinstance(world, LinearGaussian):
        require_valid(world)
        return world
    with precision(torch.float64):
        return _compile(read(world))


def is_real(spec: Spec) -> bool:
    """Return whether all variables of states and actions are real, Gaussian ones or points: ``linearise`` may serve."""
    fns = [messenger.distributions for messenger in spec.heads]
    values = [value for messenger in spec.heads for value in messenger.values.values()]
    every = [fn for named in fns for fn in named.values()]
    real = all(isinstance(base(fn), REAL) for fn in every) and all(value.is_floating_point() for value in values)
    return real and all(fns)


def _compile(spec: Spec) -> LinearGaussian:
    program = _program(spec)
    start = _start(program)
    slices = [_slice(program, t) for t in range(spec.times)]
    timed = len(slices) > 1 and not all(_equal(one[0], slices[0][0]) for one in slices)
    if timed and spec.stationary:
        raise fault("stationary", "True, but the slices differ over time", "slices that do not depend on t")
    return LinearGaussian(
        slices=stacked([one[0] for one in slices]) if timed else slices[0][0],
        start_mean=start.d,
        start_scale=start.F,
        terminal=_terminal(program),
        horizon=spec.horizon,
        discount=spec.discount,
        timed=timed,
        states=program.states,
        actions=program.actions,
        sites=slices[0][1],
    )


@dataclass(frozen=True)
class _Program:
    """The pieces of a program as functions of vectors."""

    spec: Spec
    states: Coordinates
    actions: Coordinates

    def initial(self, z: Tensor | None) -> Reparametrise:
        """Run ``initial``."""
        begin = Reparametrise("initial", z)
        self._own(self.states, begin, run_real(begin, self.spec.world.initial))
        return begin

    def act(self, t: int, s: Tensor, w: Tensor | None) -> Reparametrise:
        """Run ``act``."""
        act = Reparametrise(f"act, t = {t}", w, flat=True)
        self._own(self.actions, act, run_real(act, self.spec.world.act, self._state(s), t))
        return act

    def step(self, t: int, s: Tensor, a: Tensor, z: Tensor | None) -> tuple[Reparametrise, Tensor]:
        """Run ``step``; return its sites, and the reward."""
        step = Reparametrise(f"step, t = {t}", z)
        action = self.actions.pack(self.actions.split(a))
        next_state, reward = pair_of(run_real(step, self.spec.world.step, self._state(s), action, t), step.where)
        require_own(self.states.names, next_state, step.values, step.where)
        _require_shapes(self.states, step)
        return step, _reward(step.where, reward, s.shape[:-1])

    def terminal(self, s: Tensor) -> Tensor:
        """Run ``terminal``."""
        if self.spec.terminal is None:
            return torch.zeros(())
        reward = run_under(Messenger(), "terminal", RUNS, self.spec.terminal, self._state(s))
        return _reward("terminal", torch.as_tensor(reward), s.shape[:-1])

    def _state(self, s: Tensor) -> Values:
        return self.states.pack(self.states.split(s))

    @staticmethod
    def _own(space: Coordinates, messenger: Reparametrise, returned: Values) -> None:
        names = variable_names(returned, messenger.values, messenger.where)
        require_no_latents(messenger, names)
        if names != space.names:
            raise fault(messenger.where, f"variables {list(names)}", f"{list(space.names)}, the same at all times")
        _require_shapes(space, messenger)


def _program(spec: Spec) -> _Program:
    """Return the program of a world, once its members make sense.

    Raises:
        WorldError, IntractableError: they do not.
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
    return _Program(spec, states, actions)


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


def _flat(messenger: Reparametrise, space: Coordinates) -> Tensor:
    return space.join({name: messenger.values[name] for name in space.names})


def _start(program: _Program) -> Expansion:
    begin = program.initial(None)
    inputs, outputs = noise_names(begin), program.states.labels

    def run(z: Tensor) -> tuple[Tensor, Tensor]:
        return _flat(program.initial(z), program.states), torch.zeros(())

    return read_off(Piece("initial", run, inputs, outputs))


def _slice(program: _Program, t: int) -> tuple[LinearSlice, Coordinates]:
    prior, flat = _prior(program, t)
    n, m = program.states.dimension, program.actions.dimension
    first, reward = program.step(t, torch.zeros(n), torch.zeros(m), None)
    sites = Coordinates(tuple(first.sites), tuple(site.shape for site in first.sites.values()))
    demand(inspect_clashes(program.states.names, program.actions.names, _latents(program, sites)))

    def run(y: Tensor) -> tuple[Reparametrise, Tensor]:
        return program.step(t, y[..., :n], y[..., n : n + m], y[..., n + m :])

    inputs = [*program.states.labels, *program.actions.labels, *noise_names(first)]

    def both(y: Tensor) -> tuple[Tensor, Tensor]:
        step, paid = run(y)
        return _flat(step, sites), paid

    piece = Piece(first.where, both, inputs, sites.labels)
    if not bool(reward.isfinite()):
        raise fault(f"{first.where}, the reward", f"{float(reward):g} at 0", "a finite number")
    read_step = read_sites(piece, first, lambda y: run(y)[0])
    rows = sites.where(program.states.names)
    scales = [site.scales for site in first.sites.values() if site.scales is not None]
    slice_ = LinearSlice(
        transition=read_step.F[rows],
        drift=read_step.d[rows],
        reward=Quadratic(read_step.M, read_step.b, read_step.c),
        prior=prior,
        flat=flat,
        readout=read_step.F,
        readout_offset=read_step.d,
        log_volume=sum((_log_volume(scale) for scale in scales), torch.zeros(())),
    )
    return slice_, sites


def _latents(program: _Program, sites: Coordinates) -> tuple[str, ...]:
    return tuple(name for name in sites.names if name not in program.states.names)


def _log_volume(scale: Tensor) -> Tensor:
    """Return Σ log scale, where there is noise at all."""
    return torch.where(scale > 0, scale, 1.0).log().sum()


def _prior(program: _Program, t: int) -> tuple[ConditionalGaussian, Tensor]:
    """Return the action prior, and which coordinates of its noise are flat."""
    n = program.states.dimension
    first = program.act(t, torch.zeros(n), None)
    inputs = [*program.states.labels, *noise_names(first)]

    def run(x: Tensor) -> Reparametrise:
        return program.act(t, x[..., :n], x[..., n:])

    def actions(x: Tensor) -> tuple[Tensor, Tensor]:
        return _flat(run(x), program.actions), torch.zeros(())

    piece = Piece(first.where, actions, inputs, program.actions.labels)
    read_act = read_sites(piece, first, run)
    flat = [torch.full((site.noise,), site.flat) for site in first.sites.values()]
    return ConditionalGaussian(read_act.F[:, :n], read_act.d, read_act.F[:, n:]), torch.cat(flat)


def read_sites(piece: Piece, first: Reparametrise, run: Callable[[Tensor], Reparametrise]) -> Expansion:
    """Return the expansion of a piece of sites.

    Args:
        piece: the piece.
        first: its sites at 0.
        run: the piece as sites at a point.

    Raises:
        IntractableError, WorldError: see ``read_off``; a scale that depends on where the slice is is named as such.
    """
    try:
        return read_off(piece)
    except IntractableError as error:
        _require_same_noise(piece, first, run)
        raise error


@torch.no_grad()
def _require_same_noise(piece: Piece, first: Reparametrise, run: Callable[[Tensor], Reparametrise]) -> None:
    """Raise an ``IntractableError`` where the scale of a site depends on where the slice is."""
    for point in random_points(len(piece.inputs)):
        for name, site in run(point).sites.items():
            scale, own = site.scale, first.sites[name].scale
            if scale is None or own is None or bool(((scale - own).abs() <= TOLERANCE * own.abs()).all()):
                continue
            i = int((scale - own).abs().argmax())
            seen = f"noise whose scale depends on the slice: {float(own.flatten()[i]):.4g} at 0, and"
            there = f"{seen} {float(scale.flatten()[i]):.4g} elsewhere"
            raise IntractableError([Finding(f"{piece.where}, variable '{name}'", there, "the same noise everywhere")])


def _terminal(program: _Program) -> Quadratic:
    states = program.states
    piece = Piece("terminal", lambda s: (s[..., :0], program.terminal(s)), states.labels, ())
    read_end = read_off(piece)
    return Quadratic(read_end.M, read_end.b, read_end.c)


def noise_names(messenger: Reparametrise) -> list[str]:
    """Return what the coordinates of noise are called, in order; a flat one is the variable itself."""
    return [
        label if site.flat else f"noise of {label}"
        for name, site in messenger.sites.items()
        if site.noise
        for label in Coordinates((name,), (site.shape,)).labels
    ]


def _equal(one: LinearSlice, other: LinearSlice) -> bool:
    pairs = zip(one.tensors, other.tensors, strict=True)
    return not one.requires_grad and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)

"""linearise: a world's program, differentiated, as a linear-Gaussian system."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cai.compile.conditioned_real import ConditionedReal
from cai.compile.inspect import inspect_clashes
from cai.compile.linear_conditions import observed
from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic, log_volume_of, stacked
from cai.compile.real_program import RealProgram, joined, noise_names, real_program
from cai.compile.taylor import TOLERANCE, Expansion, Piece, random_points, read_off
from cai.compile.validate import require_valid
from cai.errors import Finding, IntractableError, demand, fault
from cai.support.process import precision
from cai.world.coordinates import Coordinates
from cai.world.definition import World
from cai.world.reparametrise import Reparametrise
from cai.world.spec import Spec, depends_on_time, read


def linearise(world: World | Spec | LinearGaussian) -> LinearGaussian:
    """Compile a world to a linear-Gaussian system: affine dynamics, Gaussian noise, a quadratic reward.

    ``s' = A s + B a + G z + d``, ``r = ½ y'My + b'y + c`` with ``y = (s, a, z)`` and z ~ N(0, I), the noise of the
    slice's sites: ``Normal(loc, scale)`` is ``loc + scale z``. The matrices are the program's Jacobian and Hessian at
    0. Then the program is compared with them at random points, 1e-3 to 1e6 from the origin: it may deviate by 1e-9 of
    the size of its terms. Sites are Normal, MultivariateNormal, LowRankMultivariateNormal, or a Delta, which has no
    noise; a scale of 0 is allowed, too. An action may be ``ImproperUniform`` on the reals: a flat prior, of density 1.
    If the world's code reads ``t``, slices have a time axis, unless all are equal. The tensors are differentiable in
    those of the world.

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
        spec = read(world)
        if isinstance(spec.world, ConditionedReal):
            return observed(_compile(read(spec.world.forced)), spec.world.conditions)
        return _compile(spec)


def _compile(spec: Spec) -> LinearGaussian:
    program = real_program(spec)
    start = _start(program)
    slices = [_slice(program, t) for t in range(spec.times)]
    for t, (slice_, sites) in enumerate(slices):
        if sites != slices[0][1] or not _alike(slice_, slices[0][0]):
            raise fault(
                f"act and step, t = {t}", "other sites than at t = 0", "the same at all times (a scale may be 0)"
            )
    timed = not all(_equal(slice_, slices[0][0]) for slice_, _ in slices)
    if _claims_too_much(spec) and not _equal(_slice(program, (spec.horizon or 2) - 1)[0], slices[0][0]):
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


def _start(program: RealProgram) -> Expansion:
    begin = program.initial(None)
    inputs, outputs = noise_names(begin), program.states.labels

    def run(z: Tensor) -> tuple[Tensor, Tensor]:
        return joined(program.initial(z), program.states), torch.zeros(())

    return read_off(Piece("initial", run, inputs, outputs))


def _slice(program: RealProgram, t: int) -> tuple[LinearSlice, Coordinates]:
    """Return the slice of time t, and the sites of ``step``."""
    prior, flat = read_act(partial(program.act, t), program.states, program.actions)
    n, m = program.states.dimension, program.actions.dimension
    first, reward = program.step(t, torch.zeros(n), torch.zeros(m), None)
    if not bool(reward.isfinite()):
        raise fault(f"{first.where}, the reward", f"{float(reward):g} at 0", "a finite number")
    sites = first.space
    latents = tuple(name for name in sites.names if name not in program.states.names)
    demand(inspect_clashes(program.states.names, program.actions.names, latents))

    def run(y: Tensor) -> tuple[Reparametrise, Tensor]:
        return program.step(t, y[..., :n], y[..., n : n + m], y[..., n + m :])

    def vectors(y: Tensor) -> tuple[Tensor, Tensor]:
        step, paid = run(y)
        return joined(step, sites), paid

    inputs = [*program.states.labels, *program.actions.labels, *noise_names(first)]
    read = read_sites(Piece(first.where, vectors, inputs, sites.labels), first, lambda y: run(y)[0])
    rows = sites.where(program.states.names)
    slice_ = LinearSlice(
        transition=read.F[rows],
        drift=read.d[rows],
        reward=Quadratic(read.M, read.b, read.c),
        prior=prior,
        flat=flat,
        readout=read.F,
        readout_offset=read.d,
        log_volume=sum(
            (log_volume_of(site.scales) for site in first.sites.values() if site.scales is not None), torch.zeros(())
        ),
    )
    return slice_, sites


def read_act(
    run_at: Callable[[Tensor, Tensor | None], Reparametrise], states: Coordinates, actions: Coordinates
) -> tuple[ConditionalGaussian, Tensor]:
    """Return a program of actions as a Gaussian given the state, and which coordinates of its noise are flat.

    Args:
        run_at: the program at one time, run at states ``[*batch, n]`` and at noise; see ``run_act``.
        states, actions: their variables.

    Raises:
        IntractableError: its mean is not affine, its noise depends on the state, or a site is not Gaussian.
        WorldError: it fails, or samples other variables than the actions.
    """
    n = states.dimension
    first = run_at(torch.zeros(n), None)
    inputs = [*states.labels, *noise_names(first)]

    def run(x: Tensor) -> Reparametrise:
        return run_at(x[..., :n], x[..., n:])

    def chosen(x: Tensor) -> tuple[Tensor, Tensor]:
        return joined(run(x), actions), torch.zeros(())

    own = read_sites(Piece(first.where, chosen, inputs, actions.labels), first, run)
    flat = torch.cat([site.flat.flatten()[: site.noise] for site in first.sites.values()])
    return ConditionalGaussian(own.F[:, :n], own.d, own.F[:, n:]), flat


def read_sites(piece: Piece, first: Reparametrise, run: Callable[[Tensor], Reparametrise]) -> Expansion:
    """Return the expansion of a piece of sites.

    Args:
        piece: the piece.
        first: its sites at 0.
        run: the piece as sites at a point.

    Raises:
        IntractableError, WorldError: see ``read_off``; where a scale depends on the slice, the error says so.
    """
    try:
        return read_off(piece)
    except IntractableError as error:
        _require_same_noise(piece, first, run)
        raise error


@torch.no_grad()
def _require_same_noise(piece: Piece, first: Reparametrise, run: Callable[[Tensor], Reparametrise]) -> None:
    """Raise an ``IntractableError`` where the scale of a site depends on the state, the action or a latent."""
    for point in random_points(len(piece.inputs)):
        for name, site in run(point).sites.items():
            scale, own = site.scale, first.sites[name].scale
            if scale is None or own is None or bool(((scale - own).abs() <= TOLERANCE * own.abs()).all()):
                continue
            i = int((scale - own).abs().argmax())
            seen = f"noise whose scale depends on the slice: {float(own.flatten()[i]):.4g} at 0, and"
            there = f"{seen} {float(scale.flatten()[i]):.4g} elsewhere"
            raise IntractableError([Finding(f"{piece.where}, variable '{name}'", there, "the same noise everywhere")])


def _terminal(program: RealProgram) -> Quadratic:
    states = program.states
    piece = Piece("terminal", lambda s: (s[..., :0], program.terminal(s)), states.labels, ())
    read_end = read_off(piece)
    return Quadratic(read_end.M, read_end.b, read_end.c)


def _claims_too_much(spec: Spec) -> bool:
    """Return whether a world claims that its slices do not depend on t, and its code reads t."""
    return spec.stationary and (depends_on_time(spec.world.act, 1) or depends_on_time(spec.world.step, 2))


def _alike(one: LinearSlice, other: LinearSlice) -> bool:
    return [tensor.shape for tensor in one.tensors] == [tensor.shape for tensor in other.tensors]


def _equal(one: LinearSlice, other: LinearSlice) -> bool:
    """Return whether two slices are the same; one with gradients may differ later."""
    if one is other:
        return True
    pairs = zip(one.tensors, other.tensors, strict=True)
    return not one.requires_grad and all(torch.equal(a, b) for a, b in pairs)

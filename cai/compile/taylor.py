"""Affine and quadratic functions read off a program by automatic differentiation, and compared at random points.

    f(y) = F y + d,     g(y) = ½ y'My + b'y + c

The derivatives at one point give them, and the program is then run at others: at the distances ``RADII`` from the
origin in random directions, and at points with each coordinate at a distance of its own, with a fixed seed. A deviation
above ``TOLERANCE`` times the size of the terms, such as ``|F| max(|y|, 1) + |d|``, is an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.errors import CaiError, Finding, IntractableError, fault
from cai.support.wording import listed

RADII = (1.0, 1e-3, 1e3, 1e6)
"""Distances from the origin at which a program is run."""
EACH = 3
"""The number of directions at each distance."""
APART = 7
"""The number of points at which each coordinate has a distance of its own."""
TOLERANCE = 1e-9
"""The deviation that counts as rounding in float64, relative to the size of the terms."""


@dataclass(frozen=True)
class Piece:
    """A piece of a program as a function of one vector.

    Attributes:
        where: which method, and when.
        run: from ``[*batch, N]`` to what should be affine, ``[*batch, D]``, and what should be quadratic, ``[*batch]``.
        inputs: what the N coordinates are called.
        outputs: what the D coordinates are called.
    """

    where: str
    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class Expansion:
    """F ``[D, N]`` and d ``[D]`` of the affine functions, M ``[N, N]``, b ``[N]`` and c of the quadratic one."""

    F: Tensor
    d: Tensor
    M: Tensor
    b: Tensor
    c: Tensor


def read_off(piece: Piece) -> Expansion:
    """Return the expansion of a piece, after it was compared with the piece.

    It is taken at the origin. Where autograd gives no second derivative there, as for the square of a norm, it is taken
    at a random point.

    Raises:
        IntractableError: a function is not affine, or not quadratic.
        WorldError: the program does not broadcast, or draws random numbers outside its sample sites.
    """
    points = random_points(len(piece.inputs))
    try:
        return _held(piece, _expanded(piece, torch.zeros(len(piece.inputs))), points)
    except IntractableError as error:
        try:
            return _held(piece, _expanded(piece, points[0]), points)
        except CaiError:
            raise error from None


def random_points(N: int) -> Tensor:
    """Return points near the origin and far from it, ``[P, N]``; P is a size that programs are unlikely to use."""
    g = torch.Generator().manual_seed(0)
    directions = torch.randn(len(RADII) * EACH, N, generator=g)
    radii = torch.tensor(RADII).repeat_interleave(EACH).unsqueeze(-1)
    apart = 10 ** torch.empty(APART, N).uniform_(-3, 6, generator=g)
    return torch.cat((directions * radii, torch.randn(APART, N, generator=g).sign() * apart))


def _expanded(piece: Piece, at: Tensor) -> Expansion:
    """Return the first and second derivatives at a point, by torch's autograd; differentiable where the program is.

    ``torch.func`` gives the same. It refuses some code that autograd runs, and loads torch's compiler, which takes
    seconds.
    """
    with torch.enable_grad():
        y = at.clone().requires_grad_()
        here, paid = piece.run(y)
        F, slope = _jacobian(here, y), _jacobian(paid.reshape(1), y)[0]
        M = _jacobian(slope, y)
        M = 0.5 * (M + M.mT)
        b = slope - M @ at
        parts = (F, here - F @ at, M, b, paid - (0.5 * M @ at + b) @ at)
    learned = torch.is_grad_enabled() and any(part.requires_grad for part in piece.run(at))
    return Expansion(*(part if learned else part.detach() for part in parts))


def _jacobian(x: Tensor, y: Tensor) -> Tensor:
    """Return the derivative of x ``[D]`` by y ``[N]``, ``[D, N]``."""
    if not x.requires_grad or not len(x):
        return y.new_zeros(len(x), len(y))
    rows = [torch.autograd.grad(x_i, y, create_graph=True, materialize_grads=True)[0] for x_i in x]
    return torch.stack(rows)


@torch.no_grad()
def _held(piece: Piece, expansion: Expansion, points: Tensor) -> Expansion:
    """Return an expansion if the piece equals it at every point, run as one batch, which tests broadcasting too.

    Raises:
        WorldError, IntractableError: it does not; see ``_deviation``.
    """
    F, d, M, b, c = expansion.F, expansion.d, expansion.M, expansion.b, expansion.c
    far = points.abs().clamp(min=1)
    reward = 0.5 * ((points @ M) * points).sum(-1) + points @ b + c
    reward_size = 0.5 * ((far @ M.abs()) * far).sum(-1) + far @ b.abs() + c.abs()
    seen = _run(piece, points, seed=1)
    read = torch.cat((points @ F.mT + d, reward[:, None]), -1)
    size = torch.cat((far @ F.abs().mT + d.abs(), reward_size[:, None]), -1)
    wrong = ~((seen - read).abs() <= TOLERANCE * size)
    if bool(wrong.any()):
        i, j = wrong.nonzero()[0].tolist()
        raise _deviation(piece, points[i], j, seen[i, j], read[i, j])
    return expansion


def _run(piece: Piece, points: Tensor, seed: int) -> Tensor:
    """Run a piece at points ``[*batch, N]``; return what is affine and the reward beside it, ``[*batch, D + 1]``.

    A program with randomness outside its sample sites gives other numbers at another seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        seen, paid = piece.run(points)
    batch = points.shape[:-1]
    return torch.cat((seen.expand(*batch, len(piece.outputs)), paid.expand(batch).unsqueeze(-1)), -1)


def _deviation(piece: Piece, point: Tensor, j: int, seen: Tensor, read: Tensor) -> CaiError:
    """Say which function deviates, where and by how much; or that the program is random, or does not broadcast."""
    quadratic = j == len(piece.outputs)
    kind = "quadratic" if quadratic else "affine"
    where = f"{piece.where}, the reward" if quadratic else f"{piece.where}, variable '{piece.outputs[j]}'"
    there = listed([f"{name} = {float(x):.4g}" for name, x in zip(piece.inputs, point, strict=True)])
    alone, again = (_run(piece, point, seed)[j] for seed in (2, 3))
    if not torch.equal(alone, again) and not bool(alone.isnan()):
        return fault(where, f"two runs on the same values differ ({there})", "randomness from pyro.sample alone")
    if bool((alone - seen).abs() > 1e-6 * (alone.abs() + seen.abs())):
        words = f"{float(alone):.6g} for one state alone, but {float(seen):.6g} among several ({there})"
        return fault(where, words, "code that broadcasts over a batch of states and actions")
    off = f"a difference of {float((seen - read).abs()):.3g}"
    words = f"not {kind}: it is {float(seen):.6g} at {there}; its derivatives at 0 say {float(read):.6g}, {off}"
    of = listed(piece.inputs) if len(piece.inputs) else "nothing"
    return IntractableError([Finding(where, words, f"a{'n' * (not quadratic)} {kind} function of {of}")])

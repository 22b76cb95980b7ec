"""Affine and quadratic functions read off a program by automatic differentiation, and held to it at random points.

    f(y) = F y + d,     g(y) = ½ y'My + b'y + c

are exact where the program is affine, or quadratic, and this is looked at: points at the distances ``RADII`` from the
origin in random directions, and some with each coordinate at a distance of its own, with a fixed seed. A deviation
above ``TOLERANCE`` times the size of the terms, ``|F| max(|y|, 1) + |d|``, is an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.errors import CaiError, Finding, IntractableError, WorldError, fault
from cai.support.wording import listed

RADII = (1e-3, 1.0, 1e3, 1e6)
"""How far from the origin a program is looked at."""
EACH = 3
"""How many directions at each distance."""
TOLERANCE = 1e-9
"""How much a program may deviate, relative to the size of its terms: rounding, in float64."""


@dataclass(frozen=True)
class Piece:
    """A piece of a program as functions of one vector, ``[*batch, N]``.

    Attributes:
        where: which method, and when.
        affine: the functions that should be affine, ``[*batch, D]``.
        quadratic: the function that should be quadratic, ``[*batch]``; None where there is none.
        inputs: what the N coordinates are called.
        outputs: which variable each of the D functions gives.
    """

    where: str
    affine: Callable[[Tensor], Tensor]
    quadratic: Callable[[Tensor], Tensor] | None
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
    """Return the expansion of a piece, once it is the piece.

    It is taken at the origin. Where it is not the function there, as for the square of a norm, which has no second
    derivative by the chain rule at 0, it is taken at a random point.

    Raises:
        IntractableError: a function is not affine, or not quadratic; or torch.func cannot run the program.
        WorldError: the program does not broadcast, or draws random numbers outside its sample sites.
    """
    points = test_points(len(piece.inputs))
    try:
        return _held(piece, _expanded(piece, torch.zeros(len(piece.inputs))), points)
    except IntractableError as error:
        try:
            return _held(piece, _expanded(piece, points[EACH].detach()), points)
        except CaiError:
            raise error from None


def test_points(N: int) -> Tensor:
    """Return random points near to and far from the origin, ``[P, N]``; P is no size that a program is likely to use."""
    g = torch.Generator().manual_seed(0)
    directions = torch.randn(len(RADII) * EACH, N, generator=g)
    radii = torch.tensor(RADII).repeat_interleave(EACH).unsqueeze(-1)
    apart = 10 ** torch.empty(7, N).uniform_(-3, 6, generator=g)
    return torch.cat((directions * radii, torch.randn(7, N, generator=g).sign() * apart))


def _expanded(piece: Piece, at: Tensor) -> Expansion:
    here, paid = piece.affine(at), torch.zeros(()) if piece.quadratic is None else piece.quadratic(at)
    M, slope, N = torch.zeros(len(at), len(at)), torch.zeros(len(at)), len(at)
    F = torch.zeros(len(here), N)
    try:
        if N:
            F = torch.func.jacfwd(piece.affine)(at)
        if N and piece.quadratic is not None:
            gradient = torch.func.jacrev(piece.quadratic)
            M, slope = torch.func.jacfwd(gradient)(at), gradient(at)
    except WorldError as error:  # it ran on plain numbers
        expected = "code that torch.func can differentiate: no branch on a tensor's value, no .item(), nothing in place"
        raise IntractableError([replace(finding, expected=expected) for finding in error.findings]) from error
    M = 0.5 * (M + M.mT)
    b = slope - M @ at
    return Expansion(F, here - F @ at, M, b, paid - (0.5 * M @ at + b) @ at)


@torch.no_grad()
def _held(piece: Piece, expansion: Expansion, points: Tensor) -> Expansion:
    """Return an expansion once the piece equals it at every point; all at once, so that the piece broadcasts too.

    Raises:
        IntractableError: it does not.
    """
    F, d, M, b, c = expansion.F, expansion.d, expansion.M, expansion.b, expansion.c
    P, far = len(points), points.abs().clamp(min=1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)  # a program that draws for itself must not draw the same again
        seen = piece.affine(points).expand(P, len(d))
        paid = torch.zeros(P) if piece.quadratic is None else piece.quadratic(points).expand(P)
    reward = 0.5 * ((points @ M) * points).sum(-1) + points @ b + c
    read = torch.cat((points @ F.mT + d, reward[:, None]), -1)
    paid_size = 0.5 * ((far @ M.abs()) * far).sum(-1) + far @ b.abs() + c.abs()
    size = torch.cat((far @ F.abs().mT + d.abs(), paid_size[:, None]), -1)
    whole = torch.cat((seen, paid[:, None]), -1)
    wrong = ~((whole - read).abs() <= TOLERANCE * size)
    if bool(wrong.any()):
        i, j = wrong.nonzero()[0].tolist()
        raise _deviation(piece, points[i], j, whole[i, j], read[i, j])
    return expansion


def _deviation(piece: Piece, point: Tensor, j: int, seen: Tensor, read: Tensor) -> CaiError:
    """Say which function deviates, where and by how much; or that the program is none, or does not broadcast."""
    quadratic = j == len(piece.outputs)
    what, kind = ("the reward", "quadratic") if quadratic else (f"variable '{piece.outputs[j]}'", "affine")
    where = f"{piece.where}, {what}"
    alone, again = (_alone(piece, point, j, seed) for seed in (2, 3))
    there = listed([f"{name} = {float(x):.4g}" for name, x in zip(piece.inputs, point, strict=True)])
    if not torch.equal(alone, again) and not bool(alone.isnan()):
        return fault(where, f"two runs on the same values differ ({there})", "randomness from pyro.sample alone")
    if bool((alone - seen).abs() > 1e-6 * (alone.abs() + seen.abs())):
        words = f"{float(alone):.6g} for one state alone, but {float(seen):.6g} among several ({there})"
        return fault(where, words, "code that broadcasts over a batch of states and actions")
    off = f"not {kind}: it is {float(seen):.6g} at {there}, and the {kind} function read off the program is"
    words = f"{off} {float(read):.6g}, a difference of {float((seen - read).abs()):.3g}"
    return IntractableError([Finding(where, words, f"a{'n' * (kind == 'affine')} {kind} function of {_of(piece)}")])


def _alone(piece: Piece, point: Tensor, j: int, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if piece.quadratic is not None and j == len(piece.outputs):
            return piece.quadratic(point)
        return piece.affine(point)[j]


def _of(piece: Piece) -> str:
    return listed(piece.inputs) if len(piece.inputs) else "nothing"

"""The Riccati recursion parallel in time: an associative scan over conditional values.

An element stands for a stretch of time. From x at its start and a quadratic ``½ x'Px`` of its end it has

    v(x) = ½ x'Jx + ½ (Ax)' P (I - CP)⁻¹ (Ax)

and two that follow each other make one:

    A = A₂ W A₁,     C = C₂ + A₂ W C₁ A₂',     J = J₁ + A₁' J₂ W A₁,     W = (I - C₁J₂)⁻¹

(Särkkä & García-Fernández 2023, equations 36 to 38; of one system again and again it is structure-preserving doubling,
Chu et al. 2004). Noise that is not averaged enters C like a control; averaged noise enters constants alone.
Homogeneous coordinates contain the linear terms.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.quadratic import Stacked, symmetric
from cai.exact.gaussian.homogeneous import Homogeneous, stepped

LONG = 300
"""Times from which on the scan is quicker than the recursion on a CPU: of one system of n = 4 by two times or three."""
NARROW = 250
"""Numbers in all matrices P of a batch up to which it is: beyond, the recursion's own batches keep a CPU busy."""
LONG_ON_A_DEVICE = 32
"""Times from which on it is taken on a GPU, where each step costs a kernel launch, whatever the batch; not measured."""


@dataclass(frozen=True)
class Element(Stacked):
    """Stretches of time, one after the other along the first axis; A, C and J of the equation above.

    Attributes:
        A: the closed-loop matrix of the stretch where P at its end is 0, ``[L, *B, X, X]``.
        C: ``B R⁻¹ B'`` of the stretch, the directions that controls reach, weighed by their cost, ``[L, *B, X, X]``.
        J: the value of the stretch where P at its end is 0, reward units, ``[L, *B, X, X]``.
    """

    A: Float[Tensor, "L *B X X"]
    C: Float[Tensor, "L *B X X"]
    J: Float[Tensor, "L *B X X"]


def elements(slices: Homogeneous) -> Element | None:
    """Return an element for each slice; None where ``-reward_ee`` of a slice is not positive definite."""
    F, reward, X = slices.transition, slices.reward, slices.states
    root, info = torch.linalg.cholesky_ex(-reward[..., X:, X:])
    if bool(info.any()):
        return None
    F_e, cross = F[..., X:], reward[..., X:, :X]
    best = torch.cholesky_solve(torch.cat((cross, F_e.mT), -1), root)
    A = F[..., :X] + F_e @ best[..., :X]
    C = symmetric(F_e @ best[..., X:])
    return Element(A, C, symmetric(reward[..., :X, :X] + cross.mT @ best[..., :X]))


def combined(first: Element, then: Element) -> Element:
    """Return the elements of the first stretches followed by the others."""
    one = torch.eye(first.A.shape[-1]).to(first.A)
    W = torch.linalg.inv_ex(one - first.C @ then.J)[0]
    through, back = then.A @ W, then.J @ (W @ first.A)
    C = symmetric(then.C + through @ first.C @ then.A.mT)
    return Element(through @ first.A, C, symmetric(first.J + first.A.mT @ back))


def before(element: Element, P: Tensor) -> Tensor:
    """Return the quadratic at the start of each stretch from P at its end, ``[L, *B, X, X]``."""
    one = torch.eye(P.shape[-1]).to(P)
    back = P @ (torch.linalg.inv_ex(one - element.C @ P)[0] @ element.A)
    return symmetric(element.J + element.A.mT @ back)


def is_quicker(slices: Homogeneous, T: int) -> bool:
    """Return whether the scan is quicker than the recursion: over long horizons, on a CPU of few systems."""
    if slices.transition.device.type != "cpu":
        return LONG_ON_A_DEVICE <= T
    return LONG <= T and slices.batch_shape.numel() * slices.states**2 <= NARROW


def scan(slices: Homogeneous, last: Tensor, T: int) -> tuple[Tensor, Tensor] | None:
    """Return P of the times 0 … T and S as ``riccati.recursion`` does; None where a slice has no element.

    One backup of all times at once comes last: it removes most of the rounding error of the scan, and gives S.

    Args:
        slices: the slices.
        last: P_T, ``[*B, X, X]``.
        T: the horizon.
    """
    each = elements(slices)
    if each is None:
        return None
    ends = _ends(each, last.unsqueeze(0), T)
    P, S = stepped(slices, ends[1:])
    return torch.cat((P, ends[-1:])), S


def _ends(each: Element, last: Tensor, T: int) -> Tensor:
    """Return P of the times 0 … T, from T elements, or from one that all of them are.

    Neighbours make pairs, whose ends are every other time; from these the times between are one step away.
    """
    if T == 0:
        return last
    same = len(each.A) == 1
    if T % 2:
        final = each if same else each.each(lambda x: x[-1:])
        P = before(final, last)
        return torch.cat((_ends(each if same else each.each(lambda x: x[:-1]), P, T - 1), last))
    first = each if same else each.each(lambda x: x[0::2])
    then = each if same else each.each(lambda x: x[1::2])
    even = _ends(combined(first, then), last, T // 2)
    odd = before(then, even[1:])
    both = torch.stack((even[:-1], odd), 1).flatten(0, 1)
    return torch.cat((both, last))

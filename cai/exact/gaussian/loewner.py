"""A proved bound on the value of an infinite horizon: an interval of quadratics that the backup maps into itself.

The backup F is monotone. Let h be a quadratic above 0 and e > 0 a number with

    F(v + e h) <= v + e h     and     F(v - e h) >= v - e h

in the Loewner order of the matrices of (s, 1). By the first, no policy under which ``γ^t E |s_t|²`` goes to 0 has more
than v + e h, for F^t(v + e h) stays below it and the terminal value is discounted to 0. By the second, the policy that
is best against v - e h has at least v - e h. So the optimal value v* lies between them: |v - v*| <= e h at every s.

h is what ``h = w + γ E h(s')`` gives under the policy that is best against v, where w > 0 has the size of v in each
coordinate: then each inequality holds with the margin e w, against rounding and terms in e². Both are checked, with a
margin for rounding.
"""

import torch
from torch import Tensor

from cai.compile.quadratic import symmetric
from cai.exact.gaussian.homogeneous import Homogeneous, closed_loop, normalisers, step_noise, stepped
from cai.exact.gaussian.stabilisability import spectral_radius
from cai.exact.rounding import ULPS

WIDEST = 1e-2
"""The e at which the search stops: the bound would be of the size of the values."""


def completed(slices: Homogeneous, P: Tensor, discount: float) -> Tensor | None:
    """Return v from P, ``[1, X, X]``, with the constants that all steps add; None where these are not finite."""
    more = normalisers(slices, stepped(slices, P)[1], P)
    return None if more is None else _raised(P, more / (1 - discount))


def proved(slices: Homogeneous, V: Tensor) -> Tensor | None:
    """Return e h, ``[1, X, X]``, such that |v - v*| <= e h; None where that cannot be shown."""
    once = _backed_up(slices, V)
    if once is None:
        return None
    weights = _weights(V)
    h, slack = _discounted_sum(slices, V, weights), _rounding(slices, V, weights)
    e = 2 * (float(_balanced(once - V, weights).abs().amax()) * V.shape[-1] + slack) + torch.finfo(V.dtype).eps
    while e < WIDEST:
        above, below = V + e * h, V - e * h
        most, least = _backed_up(slices, above), _backed_up(slices, below)
        if most is not None and least is not None:
            spare = min(_least(above - most, weights), _least(least - below, weights))
            if spare > slack and spectral_radius(closed_loop(slices, below)[0, :-1, :-1]) < 1:
                return e * h
        e *= 2
    return None


def _backed_up(slices: Homogeneous, V: Tensor) -> Tensor | None:
    """Return F(v) with all its constants."""
    P, S = stepped(slices, V)
    more = normalisers(slices, S, V)
    return None if more is None else _raised(P, more)


def _raised(P: Tensor, more: Tensor) -> Tensor:
    corner = torch.zeros_like(P)
    corner[..., -1, -1] = 2 * more
    return P + corner


def _weights(V: Tensor) -> Tensor:
    """Return the size of v in each coordinate, squared: the diagonal of w, ``[1, X]``."""
    diagonal = V.diagonal(dim1=-2, dim2=-1).abs()
    most = diagonal.amax(-1, keepdim=True)
    return torch.maximum(diagonal, torch.where(most > 0, torch.finfo(V.dtype).eps * most, 1.0))


def _discounted_sum(slices: Homogeneous, V: Tensor, weights: Tensor) -> Tensor:
    """Return h with ``h = w + γ E h(s')`` under the best policy: Σ_t A'ᵗ w Aᵗ, and the noise in the constant."""
    A, h = closed_loop(slices, V), torch.diag_embed(weights)
    while float(A.abs().max()) > 1e-300:
        further = symmetric(h + A.mT @ h @ A)
        if bool((further == h).all()):
            break
        A, h = A @ A, further
    ending = 1 - slices.transition[..., -1, slices.states - 1] ** 2
    return _raised(h, 0.5 * (step_noise(slices, V) * h).sum((-2, -1)) / ending)


def _rounding(slices: Homogeneous, V: Tensor, weights: Tensor) -> float:
    """Return a bound on the rounding of one backup, in units of w."""
    F, X = slices.transition.abs(), slices.states
    H = slices.reward.abs() + F.mT @ V.abs() @ F
    gain = closed_loop(slices, V).abs()
    sizes = V.abs() + H[..., :X, :X] + gain.mT @ V.abs() @ gain
    return ULPS * torch.finfo(V.dtype).eps * X * float(_balanced(sizes, weights).max())


def _balanced(M: Tensor, weights: Tensor) -> Tensor:
    root = weights.sqrt()
    return M / root.unsqueeze(-1) / root.unsqueeze(-2)


def _least(M: Tensor, weights: Tensor) -> float:
    """Return the least eigenvalue in units of w."""
    return float(torch.linalg.eigvalsh(symmetric(_balanced(M, weights))).min())

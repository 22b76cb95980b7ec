"""The derivative of the infinite horizon's v, by the implicit function theorem: second moments, summed over all times.

    X = Y + A X A' + X_11 N,     then the derivative of one backup

Y is the incoming derivative with respect to v, A the closed loop times √γ and N the noise covariance of a step: X are
second moments of (s, 1), so the gradient of a start value is a sum of marginal moments.
"""

from typing import Any

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Quadratic, symmetric
from cai.errors import NotConvergedError
from cai.exact.gaussian.homogeneous import closed_loop, homogeneous, matrix_of, step_noise
from cai.exact.gaussian.stabilisability import spectral_radius
from cai.exact.rules import Rule


def attached(model: LinearGaussian, rule: Rule, alpha: Tensor, v: Quadratic, backed_up: Quadratic) -> Quadratic:
    """Return v again, as a function of what one backup of it depends on.

    Args:
        model: stationary.
        rule: one that averages outcomes.
        alpha: temperatures, reward units, ``[*M]``.
        v: the fixed point, cut from autograd.
        backed_up: F(v), with the graph of its one backup.

    Raises:
        NotConvergedError: γ E |s|² grows in a direction that rewards do not depend on: the moments are infinite.
    """
    slices = homogeneous(model.detach(), rule, alpha.detach())
    assert slices is not None  # else there was no fixed point
    V = matrix_of(v.detach()).unsqueeze(0)
    A, N = closed_loop(slices, V)[0], step_noise(slices, V)[0]
    fastest = max(spectral_radius(one) for one in A.reshape(-1, *A.shape[-2:]))
    if not fastest < 1:
        seen = f"γ E |s|² grows by {fastest**2:.4g} a step"
        raise NotConvergedError(f"{rule} with γ = {model.discount:g}: {seen}: the derivative of v is infinite")
    return Quadratic(*_Implicit.apply(A, N, backed_up.M, backed_up.b, backed_up.c))  # type: ignore[no-untyped-call]


class _Implicit(torch.autograd.Function):
    """The identity on (M, b, c), whose backward pass sums the derivatives of all times."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, N: Tensor, *v: Tensor) -> Any:
        ctx.save_for_backward(A, N)
        return tuple(part.clone() for part in v)

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> Any:
        (A, N), (M, b, c) = ctx.saved_tensors, bars
        X = matrix_of(Quadratic(2 * symmetric(M), b, 0.5 * c))
        X = X + (c / (1 - A[..., -1, -1].square()))[..., None, None] * N
        while float(A.abs().max()) > 0:
            further = X + A @ X @ A.mT
            if bool((further == X).all()):
                break
            A, X = A @ A, further
        return None, None, 0.5 * X[..., :-1, :-1], X[..., :-1, -1], X[..., -1, -1]

"""The Riccati recursion of all times, lean: one equation a step, on arrays that are made once.

    H = reward + F'P'F,     S = -H_ee,     P = H_xx + H_xe S⁻¹ H_ex

P is made symmetric at each step: ``P = Q + A'P(A - BK)`` without that loses the gain by T ≈ 100. Whether each S is
positive definite is not asked on the way, but of all times at once: see ``homogeneous.normalisers``.
"""

import numpy as np
import torch
from torch import Tensor

from cai.exact.gaussian.homogeneous import Homogeneous

FEW = 4
"""Systems up to which NumPy's small arrays are quicker than torch's batches."""


def recursion(slices: Homogeneous, last: Tensor, T: int) -> tuple[Tensor, Tensor] | None:
    """Return P of the times 0 … T, ``[T+1, *B, X, X]``, and S, ``[T, *B, E, E]``; None where an S is singular.

    Args:
        slices: the slices, on a CPU or a device.
        last: P_T, ``[*B, X, X]``.
        T: the horizon.
    """
    if last.device.type == "cpu" and slices.batch_shape.numel() <= FEW:
        return _few(slices, last, T)
    return _many(slices, last, T)


def _few(slices: Homogeneous, last: Tensor, T: int) -> tuple[Tensor, Tensor] | None:
    X, batch = slices.states, tuple(slices.batch_shape)
    F_all, rewards = slices.transition.numpy(), slices.reward.numpy()
    back = np.ascontiguousarray(F_all.swapaxes(-1, -2))
    P, S = np.empty((T + 1, *batch, X, X)), np.empty((T, *batch, *[F_all.shape[-1] - X] * 2))
    P[T], H, timed = last.numpy(), np.empty(rewards.shape[1:]), len(F_all) > 1
    H_xx, H_xe, H_ex, H_ee = H[..., :X, :X], H[..., :X, X:], H[..., X:, :X], H[..., X:, X:]
    for t in range(T - 1, -1, -1):
        i = t if timed else 0
        np.matmul(back[i], P[t + 1] @ F_all[i], out=H)
        H += rewards[i]
        S[t] = H_ee
        try:
            half = H_xx - H_xe @ np.linalg.solve(H_ee, H_ex)
        except np.linalg.LinAlgError:
            return None
        following = np.add(half, half.swapaxes(-1, -2), out=P[t])
        following *= 0.5
    np.negative(S, out=S)
    return torch.from_numpy(P), torch.from_numpy(S)


def _many(slices: Homogeneous, last: Tensor, T: int) -> tuple[Tensor, Tensor]:
    X, batch = slices.states, slices.batch_shape
    F_all, rewards = (x.reshape(len(x), -1, *x.shape[-2:]) for x in (slices.transition, slices.reward))
    B, E = F_all.shape[1], F_all.shape[-1] - X
    P, S = last.new_empty(T + 1, B, X, X), last.new_empty(T, B, E, E)
    P[T] = last.reshape(B, X, X)
    PF, H = torch.empty_like(F_all[0]), torch.empty_like(rewards[0])
    for t in range(T - 1, -1, -1):
        i = t if len(F_all) > 1 else 0
        torch.bmm(P[t + 1], F_all[i], out=PF)
        torch.bmm(F_all[i].mT, PF, out=H)
        H += rewards[i]
        H_ex = H[:, X:, :X].contiguous()
        S[t] = H[:, X:, X:]
        inverse = torch.linalg.inv_ex(S[t])[0]  # for matrices this small quicker than a solve, by five times
        half = H[:, :X, :X] - torch.bmm(H_ex.mT, torch.bmm(inverse, H_ex))
        torch.add(half, half.mT, out=P[t]).mul_(0.5)
    return P.reshape(T + 1, *batch, X, X), S.neg_().reshape(T, *batch, E, E)

"""The Riccati recursion of all times: one equation a step, on arrays that are allocated once.

    H = reward + F'P'F,     S = -H_ee,     P = H_xx + H_xe S⁻¹ H_ex

P is made symmetric at each step: ``P = Q + A'P(A - BK)`` without that loses the gain by T ≈ 100. Whether each S is
positive definite is tested afterwards, for all times at once: see ``homogeneous.normalisers``.
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
    F, reward = (x.reshape(len(x), -1, *x.shape[-2:]) for x in (slices.transition, slices.reward))
    B, E = F.shape[1], F.shape[-1] - X
    P, S = _room(last, T + 1, B, X, X), _room(last, T, B, E, E)
    P[T] = last.reshape(B, X, X)
    back, reward = 0.5 * F.mT, 0.5 * reward  # H is halved, so that it is made symmetric by one sum
    PF, H = torch.empty_like(F[0]), torch.empty_like(reward[0])
    H_xx, H_xe, H_ex, H_ee = H[:, :X, :X], H[:, :X, X:], H[:, X:, :X], H[:, X:, X:]
    for t in range(T - 1, -1, -1):
        i = t if len(F) > 1 else 0
        torch.bmm(P[t + 1], F[i], out=PF)
        torch.bmm(back[i], PF, out=H)
        H += reward[i]
        S[t] = H_ee
        gain = torch.bmm(torch.linalg.inv_ex(S[t])[0], H_ex)  # where matrices are this small, quicker than a solve
        half = H_xx - torch.bmm(H_xe, gain)
        torch.add(half, half.mT, out=P[t])
    return P.reshape(T + 1, *batch, X, X), S.mul_(-2).reshape(T, *batch, E, E)


def _room(like: Tensor, *shape: int) -> Tensor:
    """Return a tensor without content; on a CPU from NumPy, which asks the system for large pages."""
    return like.new_empty(shape) if like.device.type != "cpu" else torch.from_numpy(np.empty(shape))

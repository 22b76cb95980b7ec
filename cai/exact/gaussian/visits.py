"""The infinite horizon of a linear-Gaussian chain: the sum over all times of p(s_t, alive), by its moments."""

import torch
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Gaussian, symmetric
from cai.errors import NotConvergedError


def summed(start: Gaussian, chain: ConditionalGaussian, survival: Tensor) -> Gaussian:
    """Return ``Σ_t γ^t N(m_t, S_t)`` by its mass, mean and covariance, which give the mean of any quadratic.

    ``X = X_0 + γ (A X A' + noise)`` for the sum X of the second moments, a discrete Lyapunov equation; of (s, 1), so
    that it contains means and offsets. Not batched.

    Raises:
        NotConvergedError: the sum is infinite, since the state grows faster than trajectories end.
    """
    n = start.mean.shape[-1]
    A = torch.cat((torch.cat((chain.gain, chain.offset[:, None]), 1), chain.offset.new_zeros(1, n + 1)))
    A[n, n] = 1
    growth = float(survival * torch.linalg.eigvals(chain.gain.detach()).abs().max() ** 2)
    if growth >= 1:
        raise NotConvergedError(f"the visits are infinite: γ E |s|² grows by {growth:.4g} a step")
    first = torch.cat((start.mean, start.mean.new_ones(1)))
    X0 = torch.nn.functional.pad(start.covariance, (0, 1, 0, 1)) + torch.outer(first, first)
    mass = 1 / (1 - survival)
    noise = survival * mass * torch.nn.functional.pad(chain.covariance, (0, 1, 0, 1))
    one = torch.eye((n + 1) ** 2, dtype=A.dtype, device=A.device)
    X = torch.linalg.solve(one - survival * torch.kron(A, A), (X0 + noise).reshape(-1)).reshape(n + 1, n + 1)
    mean = X[:n, n] / mass
    return Gaussian(mean, symmetric(X[:n, :n] / mass - torch.outer(mean, mean)), mass)

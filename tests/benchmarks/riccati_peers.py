"""The same linear-quadratic regulators by hand in NumPy, and by mpc.pytorch where it is installed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Quadratic
from tests.linear_systems import random_system


def regulators(
    batch: tuple[int, ...], n: int, m: int, T: int, noise: int = 0, *, timed: bool = False
) -> LinearGaussian:
    """Return ``s' = A s + B a + G z``, ``r = -½ |s|² - ½ |a|²`` under a flat prior; the radius of A is 1.02."""
    draft = random_system(0, n, m, noise, T=T, batch=batch, timed=timed, flat=True, radius=1.02)
    like = draft.start_mean
    cost = torch.diag(torch.cat((torch.ones(n + m), torch.zeros(noise))))
    reward = Quadratic.zero(n + m + noise, like, draft.slices.drift.shape[:-1])
    terminal = Quadratic.zero(n, like, batch)
    slices = replace(draft.slices, reward=replace(reward, M=reward.M - cost), drift=0 * draft.slices.drift)
    return replace(draft, slices=slices, terminal=replace(terminal, M=terminal.M - torch.eye(n)))


def by_numpy(system: LinearGaussian) -> Callable[[], np.ndarray]:
    """Return the textbook recursion on NumPy's batches: gains of all times, and P at time 0."""
    n, m, T = system.states.dimension, system.actions.dimension, system.horizon or 0
    A, B = (x.contiguous().numpy() for x in system.slices.transition.split([n, m], -1))
    Q, R = -system.terminal.M.numpy(), np.eye(m)

    def work() -> np.ndarray:
        P, gains, At, Bt = Q, [], A.swapaxes(-1, -2), B.swapaxes(-1, -2)
        for _ in range(T):
            PA, PB = P @ A, P @ B
            cross = Bt @ PA
            gains.append(np.linalg.solve(R + Bt @ PB, cross))
            P = Q + At @ PA - cross.swapaxes(-1, -2) @ gains[-1]
            P = 0.5 * (P + P.swapaxes(-1, -2))
        return P

    return work


def by_mpc(system: LinearGaussian) -> Callable[[], Any]:
    """Return mpc.pytorch's solve of the same systems: one pass of its regulator."""
    from mpc import mpc

    n, m, T = system.states.dimension, system.actions.dimension, system.horizon or 0
    B = system.start_mean.shape[0]
    C = torch.eye(n + m, dtype=torch.float64).expand(T, B, -1, -1).contiguous()
    cost = mpc.QuadCost(C, torch.zeros(T, B, n + m, dtype=torch.float64))
    dynamics = mpc.LinDx(system.slices.transition.expand(T - 1, B, n, n + m).contiguous())
    solver = mpc.MPC(n, m, T, lqr_iter=1, verbose=-1, backprop=False, exit_unconverged=False, eps=1e-7)
    return lambda: solver(system.start_mean, cost, dynamics)

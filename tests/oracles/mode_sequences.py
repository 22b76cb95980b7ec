"""Switching linear-Gaussian systems without recursion: every sequence of switches, each one dense Gaussian integral.

Given the switches, all of a trajectory is affine in ξ = (z_start, w_0, z_0, w_1, z_1 …), and its return a quadratic.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.compile.switching_model import SwitchingLinear


@dataclass(frozen=True)
class Dense:
    """One sequence: log p of its switches, its modes, x_t and a_t as matrices of (ξ, 1), and its return in ξ.

    ``alive`` says whether it goes on until T; ``log_volume`` is that of the sites over ξ.
    """

    log_p: float
    alive: bool
    modes: tuple[int, ...]
    x: list[Tensor]
    a: list[Tensor]
    H: Tensor
    h: Tensor
    c: Tensor
    flat: Tensor
    log_volume: Tensor

    def log_mean_exp(self, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return log E exp(return/α), and mean and covariance of ξ given O."""
        precision = torch.diag((~self.flat).to(self.H)) - self.H / alpha
        assert bool((torch.linalg.eigvalsh(precision) > 0).all())
        covariance = torch.linalg.inv(precision)
        mean = covariance @ (self.h / alpha)
        log_z = self.c / alpha + 0.5 * (self.h / alpha) @ mean - 0.5 * torch.logdet(precision)
        return log_z + 0.5 * int(self.flat.sum()) * math.log(2 * math.pi), mean, covariance

    def mean(self) -> Tensor:
        """Return E return."""
        return self.c + 0.5 * self.H.trace()

    def best(self, alpha: float) -> Tensor:
        """Return the maximum of the return plus α log density of the sites."""
        precision = torch.diag((~self.flat).to(self.H)) - self.H / alpha
        mean = torch.linalg.solve(precision, self.h / alpha)
        normal = 0.5 * math.log(2 * math.pi) * int((~self.flat).sum())
        return self.c + 0.5 * self.h @ mean - alpha * (normal + self.log_volume)


def every_sequence(
    model: SwitchingLinear, acts: list[ConditionalGaussian] | None = None, paid: float = 0.0
) -> Iterator[Dense]:
    """Yield every possible sequence of switches, the action drawn from its prior.

    With ``acts[t]``, one entry a mode, it is drawn from these, and ``paid · (log acts - log prior)`` is taken off the
    return.
    """
    T, on = model.horizon, model.discount
    leaves, enters = model.source.tolist(), model.target.tolist()
    assert T is not None
    lives = [(L, (L - 1) * math.log(on) + math.log1p(-on)) for L in range(1, T + 1) if on < 1]
    for steps, log_life in [*lives, (T, T * math.log(on))]:
        alive = log_life == T * math.log(on)
        for switches in itertools.product(range(len(leaves)), repeat=steps):
            modes = [leaves[switches[0]]] + [enters[e] for e in switches]
            log_p = float(model.log_modes[modes[0]] + sum(model.at(t)[0][e] for t, e in enumerate(switches)))
            if [leaves[e] for e in switches] == modes[:-1] and log_p > -torch.inf:
                yield _dense(model, switches, modes, log_p + log_life, alive, acts, paid)


def _dense(
    model: SwitchingLinear,
    switches: tuple[int, ...],
    modes: list[int],
    log_p: float,
    alive: bool,
    acts: list[ConditionalGaussian] | None,
    paid: float,
) -> Dense:
    T, k0 = len(switches), model.start_scale.shape[-1]
    slices = [model.at(t)[1].at(e) for t, e in enumerate(switches)]
    priors = [sl.prior if acts is None else acts[t].at(modes[t]) for t, sl in enumerate(slices)]
    n, j = model.start_mean.shape[-1], priors[0].scale.shape[-1]
    k = slices[0].transition.shape[-1] - n - priors[0].gain.shape[-2]
    size = k0 + T * (j + k)
    one = torch.eye(size + 1, dtype=torch.float64)
    flat = torch.zeros(size, dtype=torch.bool)
    x = [model.start_scale[modes[0]] @ one[:k0] + model.start_mean[modes[0]].unsqueeze(-1) * one[-1]]
    actions, H = [], torch.zeros(size + 1, size + 1, dtype=torch.float64)
    for t, (sl, prior) in enumerate(zip(slices, priors, strict=True)):
        first = k0 + t * (j + k)
        w, z = one[first : first + j], one[first + j : first + j + k]
        flat[first : first + j] = sl.flat if acts is None else False
        a = prior.gain @ x[t] + prior.offset.unsqueeze(-1) * one[-1] + prior.scale @ w
        y = torch.cat((x[t], a, z))
        H = H + _in(sl.reward, y, one[-1])
        if acts is not None:
            H = H - paid * (
                _density(prior, torch.cat((x[t], a)), one[-1]) - _density(sl.prior, torch.cat((x[t], a)), one[-1])
            )
        x.append(sl.transition @ y + sl.drift.unsqueeze(-1) * one[-1])
        actions.append(a)
    if alive:
        H = H + _in(model.terminal.at(modes[-1]), x[-1], one[-1])
    volume = torch.linalg.slogdet(model.start_scale[modes[0]]).logabsdet
    for sl, prior in zip(slices, priors, strict=True):
        volume = volume + sl.log_volume + torch.linalg.slogdet(prior.scale).logabsdet
    return Dense(log_p, alive, tuple(modes), x, actions, H[:-1, :-1], H[:-1, -1], 0.5 * H[-1, -1], flat, volume)


def _density(law: ConditionalGaussian, rows: Tensor, one: Tensor) -> Tensor:
    """Return the matrix of log p(a|x) in (ξ, 1)."""
    m, n = law.gain.shape
    covariance = law.scale @ law.scale.T
    away = rows[n:] - law.gain @ rows[:n] - law.offset.unsqueeze(-1) * one
    constant = -0.5 * m * math.log(2 * math.pi) - 0.5 * torch.logdet(covariance)
    return -away.T @ torch.linalg.inv(covariance) @ away + 2 * constant * torch.outer(one, one)


def _in(f: Quadratic, rows: Tensor, one: Tensor) -> Tensor:
    """Return the matrix of a quadratic of ``rows (ξ, 1)`` in (ξ, 1): ``½ (ξ, 1)' H (ξ, 1)``."""
    linear = torch.outer(f.b @ rows, one)
    return rows.T @ f.M @ rows + linear + linear.T + 2 * f.c * torch.outer(one, one)

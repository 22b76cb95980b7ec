"""Linear-Gaussian slices in homogeneous coordinates: a state is x = (s, 1), and a value one symmetric matrix P.

    v(s) = ½ x'Px,     P = [[M, b], [b', 2c]]
    H = reward + F'P'F,     S = -H_ee,     P = H_xx + H_xe S⁻¹ H_ex         (Riccati)

e are the coordinates that the rule marginalises: the noise z, unless it is averaged, then the action's noise w. Where a
mean has the density N(e; 0, I), its log is the penalty ``-½ η e'e`` in the reward, so every rule is this one equation.
Log determinants and traces are constants of v that P does not contain; ``normalisers`` adds them for all times at once.

Shape letters: ``X = n + 1``, ``E`` coordinates of e, ``L`` is T where the slices differ over time, else 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import Quadratic, Stacked, symmetric
from cai.exact.gaussian.normal_means import FLAT
from cai.exact.rule_means import Assumption, assumption
from cai.exact.rules import Rule


@dataclass(frozen=True)
class Homogeneous(Stacked):
    """The slices of a world under a rule, time first.

    Attributes:
        transition: F, from (x, e) to x', times √γ, ``[L, *B, X, X+E]``.
        reward: of (x, e), with the penalty ``-½ η e'e``, reward units, ``[L, *B, X+E, X+E]``.
        constant: what a step adds to v beside P, log determinants apart, reward units, ``[L, *B]``.
        eta: η of the noise and of the action, reward units, 0 for a maximum, ``[2, *B]``.
        spread: the covariance of averaged noise in x', times γ, ``[L, *B, X, X]``; None where there is none.
        noise: how many coordinates of e are the slice's noise.
    """

    transition: Float[Tensor, "L *B X XE"]
    reward: Float[Tensor, "L *B XE XE"]
    constant: Float[Tensor, "L *B"]
    eta: Float[Tensor, "2 *B"]
    spread: Float[Tensor, "L *B X X"] | None
    noise: int

    @property
    def states(self) -> int:
        """X, the coordinates of x."""
        return self.transition.shape[-2]

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch."""
        return self.transition.shape[1:-2]

    def less_value(self, v: Tensor) -> "Homogeneous":
        """Return the slices with the reward ``r + γ v(s') - v(s)``, so that their values are less by v, ``[X, X]``."""
        reward = self.reward + self.transition.mT @ v @ self.transition
        reward[..., : self.states, : self.states] -= v
        constant = self.constant if self.spread is None else self.constant + 0.5 * (self.spread * v).sum((-2, -1))
        return Homogeneous(self.transition, reward, constant, self.eta, self.spread, self.noise)

    @property
    def systems(self) -> "list[Homogeneous]":
        """The systems of the batch one by one, each without a batch axis."""
        batch = self.batch_shape

        def flat(x: Tensor, trailing: int) -> Tensor:
            shape = x.shape[x.dim() - trailing :]
            return x.expand(len(x), *batch, *shape).reshape(len(x), -1, *shape)

        spread = None if self.spread is None else flat(self.spread, 2)
        matrices = flat(self.transition, 2), flat(self.reward, 2)
        whole = Homogeneous(*matrices, flat(self.constant, 0), flat(self.eta, 0), spread, self.noise)
        return [whole.at(i, 1) for i in range(batch.numel())]


def homogeneous(model: LinearGaussian, rule: Rule, alpha: Tensor) -> Homogeneous | None:
    """Return a world under a rule; None where there is exact evidence, or a mean of another kind.

    Args:
        model: the world.
        rule: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING, RISK, or one of such means.
        alpha: temperatures, reward units, ``[*M]``.
    """
    outcomes, actions = assumption(rule.over_outcomes), assumption(rule.over_actions)
    if outcomes is None or actions is None or actions.kind == "averaged":
        return None
    if model.slices.reward.rows is not None or model.terminal.rows is not None:
        return None
    batch = _broadcast(model.batch_shape, alpha.shape)
    sl = model.slices.each(lambda x: _time_first(x, model, len(batch)))
    alpha, averaged, k = alpha.expand(batch), outcomes.kind == "averaged", model.noise
    w = _MeanTerms.of(actions, alpha, sl.flat, sl.log_prior_volume if actions.paid else sl.log_volume)
    if averaged:
        F, reward = _pulled_back(sl, 0, w.penalty, model.discount, batch)
        spread, trace = _averaged_noise(sl, k, model.discount)
        return Homogeneous(F, reward, w.constant + trace, torch.stack((0 * w.eta, w.eta)), spread, 0)
    z = _MeanTerms.of(outcomes, alpha, torch.zeros(k, dtype=torch.bool, device=alpha.device), sl.log_volume)
    penalty = torch.cat([one.penalty.expand(*sl.drift.shape[:1], *batch, -1) for one in (z, w)], -1)
    F, reward = _pulled_back(sl, k, penalty, model.discount, batch)
    return Homogeneous(F, reward, z.constant + w.constant, torch.stack((z.eta, w.eta)), None, k)


def matrix_of(v: Quadratic) -> Tensor:
    """Return P of a quadratic, ``[*B, X, X]``."""
    above = torch.cat((v.M, v.b.unsqueeze(-1)), -1)
    return torch.cat((above, torch.cat((v.b, 2 * v.c.unsqueeze(-1)), -1).unsqueeze(-2)), -2)


def quadratic_of(P: Tensor, more: Tensor | float = 0.0) -> Quadratic:
    """Return the quadratic of P, ``more`` added to c."""
    return Quadratic(P[..., :-1, :-1], P[..., :-1, -1], 0.5 * P[..., -1, -1] + more)


def stepped(slices: Homogeneous, following: Tensor) -> tuple[Tensor, Tensor]:
    """Return P and S from P' by the Riccati equation, of one or all times, ``[L, *B, X, X]`` and ``[L, *B, E, E]``."""
    F, X = slices.transition, slices.states
    H = slices.reward + F.mT @ (following @ F)
    S = symmetric(-H[..., X:, X:])
    gain = torch.linalg.inv_ex(S)[0] @ H[..., X:, :X]
    return symmetric(H[..., :X, :X] + H[..., :X, X:] @ gain), S


def closed_loop(slices: Homogeneous, following: Tensor) -> Tensor:
    """Return the closed-loop matrix of x under the best e for P', ``[L, *B, X, X]``, times √γ."""
    F, X = slices.transition, slices.states
    H_e = slices.reward[..., X:, :] + F[..., X:].mT @ (following @ F)
    best: Tensor = torch.linalg.solve(-H_e[..., X:], H_e[..., :X])
    return F[..., :X] + F[..., X:] @ best


def step_noise(slices: Homogeneous, following: Tensor) -> Tensor:
    """Return the covariance of x' given x, times γ: of averaged noise and of the rule's action."""
    F_e = slices.transition[..., slices.states :]
    S = stepped(slices, following)[1]
    own: Tensor = slices.eta[1][..., None, None] * (F_e @ torch.linalg.solve(S, F_e.mT))
    return own if slices.spread is None else own + slices.spread


def normalisers(slices: Homogeneous, S: Tensor, following: Tensor) -> Tensor | None:
    """Return what each step adds to v beside P, reward units, ``[T, *B]``.

    None where an integral or maximum is not finite, or where no action may matter: the means tell ties from rounding.

    ``-½ η log det S`` for a soft mean: first of the noise, then of the action after the noise is marginalised.

    Args:
        slices: the slices.
        S: of each time, ``[T, *B, E, E]``.
        following: P' of each time, ``[T, *B, X, X]``.
    """
    k, total = slices.noise, slices.constant
    outer = S[..., k:, k:]
    if k:
        inner, cross = S[..., :k, :k], S[..., :k, k:]
        sign = torch.where(slices.eta[0] < 0, -1.0, 1.0)[..., None, None]
        root, info = torch.linalg.cholesky_ex(sign * inner)
        if bool(info.any()):
            return None
        total = total - slices.eta[0] * _half_log_det(root)
        outer = outer - sign * (cross.mT @ torch.cholesky_solve(cross, root))
    root, info = torch.linalg.cholesky_ex(outer)
    if bool(info.any()) or not bool(root.isfinite().all()) or _left_by_rounding(root, outer, slices.eta[1]):
        return None
    total = total - slices.eta[1] * _half_log_det(root)
    if slices.spread is not None:
        total = total + 0.5 * (slices.spread * following).sum((-2, -1))
    return total


def discounted_sums(x: Tensor, discount: float) -> Tensor:
    """Return ``y_t = x_t + γ y_{t+1}`` of all times, ``[T, *B]``: sums over 1, 2, 4, … times from each time on."""
    if discount == 1:
        return x.flip(0).cumsum(0).flip(0)
    m = 1
    while m < len(x):
        ahead = torch.cat((x[m:], torch.zeros_like(x[:m])))
        x, m = x + discount**m * ahead, 2 * m
    return x


def _left_by_rounding(root: Tensor, outer: Tensor, eta: Tensor) -> bool:
    """Return whether a maximum has a curvature that is nothing beside that of other times: it may be a rounded 0."""
    if bool((eta != 0).all()) or not root.numel():
        return False
    least, most = root.diagonal(dim1=-2, dim2=-1).square().amin((0, -1)), outer.abs().amax((0, -2, -1))
    return bool(((eta == 0) & (least <= FLAT * torch.finfo(root.dtype).eps * most)).any())


def _half_log_det(root: Tensor) -> Tensor:
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _broadcast(model: torch.Size, alpha: torch.Size) -> torch.Size:
    return torch.Size(torch.broadcast_shapes(model, alpha)) if model and alpha else model or alpha


def _time_first(x: Tensor, model: LinearGaussian, axes: int) -> Tensor:
    """Bring ``[*L, …]`` to ``[L, *B, …]``, with as many batch axes as there are in all."""
    own = len(model.batch_shape)
    x = x.movedim(own, 0) if model.timed else x.unsqueeze(0)
    return x if own == axes else x.reshape(len(x), *[1] * (axes - own), *x.shape[1:])


@dataclass(frozen=True)
class _MeanTerms:
    """What a mean over standard normal, or flat, coordinates adds to the equation.

    Attributes:
        penalty: the η of ``½ η e_i²`` for each coordinate, 0 where flat, ``[L, *B, k]``.
        eta: η of the log determinant, ``[*B]``.
        constant: ``[L, *B]``.
    """

    penalty: Tensor
    eta: Tensor
    constant: Tensor

    @classmethod
    def of(cls, said: Assumption, alpha: Tensor, flat: Tensor, log_volume: Tensor) -> "_MeanTerms":
        """Return the terms of a mean with this assumption; see ``normal_means.over_normal``."""
        normal = (~flat).to(alpha)
        measured = 0.5 * math.log(2 * math.pi) * normal.sum(-1)
        if said.kind == "linear":
            eta, k = alpha if said.eta is None else torch.full_like(alpha, said.eta), flat.shape[-1]
            full = 0.5 * k * ((2 * math.pi) * eta.abs()).log()
            return cls(eta.unsqueeze(-1) * normal, eta, eta * (full - measured))
        if said.paid:
            return cls(alpha.unsqueeze(-1) * normal, 0 * alpha, -alpha * (measured + log_volume))
        return cls(0 * alpha.unsqueeze(-1) * normal, 0 * alpha, 0 * alpha * measured)


def _averaged_noise(sl: LinearSlice, k: int, discount: float) -> tuple[Tensor | None, Tensor | float]:
    """Return the covariance of x' due to the noise, times γ, and ½ tr of the reward's noise block."""
    if not k:
        return None, 0.0
    G = sl.transition[..., -k:]
    spread = torch.nn.functional.pad(discount * (G @ G.mT), (0, 1, 0, 1))
    return spread, 0.5 * sl.reward.M[..., -k:, -k:].diagonal(dim1=-2, dim2=-1).sum(-1)


def _pulled_back(sl: LinearSlice, k: int, penalty: Tensor, discount: float, batch: torch.Size) -> tuple[Tensor, Tensor]:
    """Return F and the reward of (s, 1, z, w) from those of (s, a, z), where ``a = gain s + offset + scale w``."""
    n, (m, j), N = sl.drift.shape[-1], sl.prior.scale.shape[-2:], sl.transition.shape[-1]
    X = n + 1
    y = sl.drift.new_zeros(len(sl.drift), *batch, N + 1, X + k + j)  # (s, a, z, 1) from (s, 1, z, w)
    y[..., :n, :n].diagonal(dim1=-2, dim2=-1).fill_(1)
    y[..., n : n + m, :n] = sl.prior.gain
    y[..., n : n + m, n] = sl.prior.offset
    y[..., n : n + m, X + k :] = sl.prior.scale
    y[..., n + m : n + m + k, X : X + k].diagonal(dim1=-2, dim2=-1).fill_(1)
    y[..., N, n] = 1
    F = sl.drift.new_zeros(*sl.drift.shape[:-1], X, N + 1)
    F[..., :n, :N], F[..., :n, N], F[..., n, N] = sl.transition, sl.drift, 1
    reward = y.mT @ (matrix_of(sl.reward) @ y)
    reward[..., X:, X:].diagonal(dim1=-2, dim2=-1).sub_(penalty)
    return math.sqrt(discount) * (F @ y), reward

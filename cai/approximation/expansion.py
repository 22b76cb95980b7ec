"""A world as a linear-Gaussian system about a Gaussian law of its trajectories: s' affine and r quadratic in (s, w, z).

Two moment rules say what an expansion of ``f(y) = (s', r)`` about y ~ N(m, S) is:

* "taylor": the first derivatives of s' and the second ones of r at m (differential dynamic programming without the
  second derivatives of the dynamics: Li & Todorov 2004);
* "sigma": the regression of s' and r on the points of a cubature rule (statistical linearisation: Särkkä 2013,
  chapter 5; for the Hessian the law of Price 1958). It looks as far as the law is wide.

Both are exact where s' is affine and r is quadratic. The Hessian of r is projected to be negative semi-definite, so
that every integral exists.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cai.approximation.noise_law import NoiseLaw, prior_law
from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.noise_program import NoiseProgram
from cai.compile.quadratic import Gaussian, Quadratic, stacked, symmetric
from cai.errors import ImpossibleError
from cai.world.coordinates import Coordinates

LEAST = 1e-2
"""The least standard deviation that sigma points are spread by in any direction, in the units of state and noise."""

Slice = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From y ``[*, N]`` to s' ``[*, n]`` and r ``[*]``, reward units."""


@dataclass(frozen=True)
class Expanded:
    """``s' ≈ transition y + drift`` and ``r ≈ reward(y)``, with the moments of s'."""

    transition: Tensor
    drift: Tensor
    reward: Quadratic
    following: Gaussian


Moments = Callable[[Slice, Gaussian], Expanded]
"""A moment rule: the expansion of a slice about a law of y."""


@torch.enable_grad()
def taylor(f: Slice, y: Gaussian) -> Expanded:
    """Expand at the mean: ``s' ≈ f(m) + J (y - m)``, ``r ≈ r(m) + g'(y - m) + ½ (y - m)'H (y - m)``."""
    m, N = y.mean.detach(), y.mean.shape[-1]
    n = f(m.unsqueeze(0))[0].shape[-1]
    x = m.expand(max(N, n, 1), N).clone().requires_grad_()  # a copy of the mean for each row of J and of H
    s, r = f(x)
    J = _gradient(s[:n].diagonal().sum(), x)[:n]
    slopes = _gradient(r.sum(), x, again=True)
    H = _gradient(slopes[:N].diagonal().sum(), x)[:N]
    at, g, r_0 = s[0].detach(), slopes[0].detach(), r[0].detach()
    following = Gaussian(at, symmetric(J @ y.covariance @ J.mT), y.mass)
    return Expanded(J, at - J @ m, _about(m, r_0, g, _concave(H)), following)


def _gradient(total: Tensor, x: Tensor, again: bool = False) -> Tensor:
    """Return d total/dx; 0 where it does not depend on x."""
    if not total.requires_grad or not x.numel():
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(total, x, create_graph=again, retain_graph=True, allow_unused=True)
    return torch.zeros_like(x) if found is None else found if again else found.detach()


@torch.no_grad()
def sigma(f: Slice, y: Gaussian) -> Expanded:
    """Expand by regression on y = m + L ξ, ξ ~ N(0, I), with S = LL'.

        s' ≈ E s' + E[s'ξ'] L⁻¹(y - m),     g = L⁻ᵀ E[r ξ],     H = L⁻ᵀ E[r (ξξ' - I)] L⁻¹,     r_0 = E r - ½ tr HS

    What the regression leaves of s' is in its covariance, and not in the model: POSTERIOR would infer it.
    """
    m, N = y.mean, y.mean.shape[-1]
    one = torch.eye(N).to(m)
    L = torch.linalg.cholesky(y.covariance + LEAST**2 * one)
    points, p = fifth_degree(N)
    s, r = f(m + points @ L.mT)
    back = torch.linalg.solve_triangular(L, one, upper=False)
    mean, weighted = p @ s, p.unsqueeze(-1) * points
    J = s.mT @ weighted @ back
    g = back.mT @ (r @ weighted)
    centred = r - p @ r  # E[r (ξξ' - I)] with fewer digits lost
    H = _concave(back.mT @ (points.mT @ (centred.unsqueeze(-1) * weighted)) @ back)
    r_0 = p @ r - 0.5 * (H * (L @ L.mT)).sum()
    off = s - mean
    following = Gaussian(mean, _positive(off.mT @ (p.unsqueeze(-1) * off)), y.mass)
    return Expanded(J, mean - J @ m, _about(m, r_0, g, H), following)


MOMENTS: dict[str, Moments] = {"taylor": taylor, "sigma": sigma}
"""The moment rules by name."""


@cache
def fifth_degree(N: int) -> tuple[Tensor, Tensor]:
    """Return points ``[2N²+1, N]`` and weights that integrate polynomials up to degree 5 under N(0, I).

    They are the centre, ``±√(N+2) e_i`` and ``±√(N+2) (e_i ± e_j)/√2`` (Jia, Xin & Cheng 2013).
    """
    one, pairs = torch.eye(N, dtype=torch.float64), list(itertools.combinations(range(N), 2))
    both = [(one[i] + sign * one[j]) / math.sqrt(2) for i, j in pairs for sign in (1, -1)]
    half = torch.cat((one, torch.stack(both) if both else one[:0]))
    points = math.sqrt(N + 2) * torch.cat((torch.zeros(1, N, dtype=torch.float64), half, -half))
    each = torch.tensor([(4 - N) / 2] * N + [1.0] * len(both), dtype=torch.float64) / (N + 2) ** 2
    return points, torch.cat((torch.tensor([2 / (N + 2)], dtype=torch.float64), each, each))


def _about(m: Tensor, r_0: Tensor, g: Tensor, H: Tensor) -> Quadratic:
    """Return ``r_0 + g'(y - m) + ½ (y - m)'H (y - m)``."""
    one = torch.eye(m.shape[-1]).to(m)
    return Quadratic(H, g, r_0).after(one, -m)


def _concave(H: Tensor) -> Tensor:
    """Return the nearest negative semi-definite matrix."""
    return -_positive(-H)


def _positive(S: Tensor) -> Tensor:
    """Return the nearest positive semi-definite matrix."""
    sizes, V = torch.linalg.eigh(torch.nan_to_num(symmetric(S)))
    return symmetric((V * sizes.clamp(min=0)) @ V.mT)


def expanded(program: NoiseProgram, law: NoiseLaw, moments: Moments) -> tuple[LinearGaussian, Expanded]:
    """Return the world as a linear-Gaussian system about a law, whose action is w, and the expansion of its start.

    Raises:
        ImpossibleError: a reward, or its derivative, is not finite there.
    """
    nothing, n = law.start.offset.new_zeros(0), program.states.dimension
    mass = nothing.new_ones(())
    mu = law.start.push(Gaussian(nothing, nothing.new_zeros(0, 0), mass))
    begin = moments(lambda z: (program.start(z), z.new_zeros(z.shape[:-1])), mu)
    _require_finite(begin, program.first)
    mu, slices = begin.following, list[Expanded]()
    for t in range(program.horizon):
        each = moments(slice_of(program, t), law.joint(t, mu))
        _require_finite(each, program.first + t)
        slices.append(each)
        mu = each.following
    last = moments(lambda s: (s[..., :0], program.terminal(s)), mu)
    _require_finite(last, program.first + program.horizon)
    actions = Coordinates(("noise",), (torch.Size([program.act_noise]),), False)
    model = LinearGaussian(
        slices=_slices(slices, program, n),
        start_mean=begin.drift,
        start_scale=begin.transition,
        terminal=last.reward,
        horizon=program.horizon,
        discount=program.discount,
        timed=True,
        states=program.states,
        actions=actions,
        sites=program.states,
    )
    return model, begin


def slice_of(program: NoiseProgram, t: int) -> Slice:
    """Return the slice of time t as a function of y = (s, w, z)."""
    sizes = [program.states.dimension, program.act_noise, program.step_noise]

    def run(y: Tensor) -> tuple[Tensor, Tensor]:
        _, following, r = program.advance(t, *y.split(sizes, -1))
        return following, r

    return run


def _slices(each: list[Expanded], program: NoiseProgram, n: int) -> LinearSlice:
    prior, F = prior_law(program).act, torch.stack([one.transition for one in each])
    drift = torch.stack([one.drift for one in each])
    return LinearSlice(
        transition=F,
        drift=drift,
        reward=stacked([one.reward for one in each]),
        prior=prior,
        flat=torch.zeros_like(prior.offset, dtype=torch.bool),
        readout=F,
        readout_offset=drift,
        log_volume=F.new_zeros(len(F)),
    )


def _require_finite(each: Expanded, t: int) -> None:
    parts = (each.transition, each.drift, *each.reward.tensors)
    if not all(bool(x.isfinite().all()) for x in parts):
        raise ImpossibleError(
            f"iterated_gaussian, t = {t}: a next state or a reward is not finite near the present law; expected finite "
            "rewards with derivatives, or path_integral or particles, which take rewards of -inf"
        )

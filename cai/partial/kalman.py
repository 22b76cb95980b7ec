"""The Kalman filter and smoother: beliefs of linear-Gaussian worlds, p(s_t | y_{<=t}, a_{<t}) = N(m_t, Σ_t).

    predict:  m⁻ = A m + B a + c,                  Σ⁻ = A Σ A' + G G'
    update:   m  = m⁻ + K e,                       Σ  = (I - KC) Σ⁻ (I - KC)' + K R K'
              e  = y - C m⁻ - d,                   K  = Σ⁻C'S⁻¹,   S = C Σ⁻C' + R

(Kalman 1960; Anderson & Moore 1979, chapter 5; Joseph's form of Σ stays positive semi-definite.) The covariances do not
depend on the readings. A NaN in a reading is a missing number. R and S may be singular: in a direction in which y is
certain it gives no information, and has no density.

Shape letters: ``n`` coordinates of the state, ``p`` of a reading, ``m`` of an action; ``T`` readings over time; ``B``
batch, of systems, records or both.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Stacked, stacked, symmetric
from cai.errors import ImpossibleError

ULPS = 64
"""A variance below so many units in the last place of the largest one so far counts as 0."""
OFF = 1e-7
"""The error of a reading that is certain up to which it counts as rounding, also relative to its terms."""


@dataclass(frozen=True)
class Correction(Stacked):
    """The correction of a covariance by a reading, whatever its value.

    Attributes:
        predicted: Σ⁻, ``[*B, n, n]``.
        rows: C, with rows of zeros for missing numbers, ``[*B, p, n]``.
        gain: K, ``[*B, n, p]``.
        whiten: W with ``S⁻¹ = W'W`` on the range of S, ``[*B, p, p]``.
        certain: the projection on the directions in which y is certain, ``[*B, p, p]``.
        log_volume: half the log of the determinant of S on its range, ``[*B]``.
        rank: the dimension of the range, ``[*B]``.
        covariance: Σ, ``[*B, n, n]``.
    """

    predicted: Float[Tensor, "*B n n"]
    rows: Float[Tensor, "*B p n"]
    gain: Float[Tensor, "*B n p"]
    whiten: Float[Tensor, "*B p p"]
    certain: Float[Tensor, "*B p p"]
    log_volume: Float[Tensor, "*B"]
    rank: Float[Tensor, "*B"]
    covariance: Float[Tensor, "*B n n"]

    @property
    def moved(self) -> Float[Tensor, "*B n p"]:
        """``Σ⁻C'W'``, a factor of K S K', the covariance of the correction of the mean."""
        return self.predicted @ self.rows.mT @ self.whiten.mT

    def log_density(self, e: Float[Tensor, "*B p"]) -> Float[Tensor, "*B"]:
        """Return log p(y_t | y_{<t}, a_{<t}), nats: ``-½ e'S⁻¹e - ½ log det 2πS``."""
        square = applied(self.whiten, e).square().sum(-1)
        return -0.5 * square - 0.5 * self.rank * math.log(2 * math.pi) - self.log_volume


@dataclass(frozen=True)
class Filtered:
    """The beliefs along a record, each with time after the batch.

    Attributes:
        predicted: p(s_t | y_{<t}, a_{<t}), ``[*B, T, n]``; one more row where there is one action more.
        beliefs: p(s_t | y_{<=t}, a_{<t}), ``[*B, T, n]``, and the same row.
        log_prob: log p(y_t | y_{<t}, a_{<t}), nats, ``[*B, T]``.
        errors: e_t, the innovations, readings less predictions; 0 where missing, ``[*B, T, p]``.
        corrections: the correction of each time, with K_t.
        transitions: A_t of each time.
    """

    predicted: Gaussian
    beliefs: Gaussian
    log_prob: Float[Tensor, "*B T"]
    errors: Float[Tensor, "*B T p"]
    corrections: tuple[Correction, ...]
    transitions: tuple[Tensor, ...]

    @property
    def log_likelihood(self) -> Float[Tensor, "*B"]:
        """log p(y_0 … y_{T-1} | do(a)), nats."""
        return self.log_prob.sum(-1)

    def smoothed(self) -> Gaussian:
        """Return p(s_t | all readings), ``[*B, T, n]``: Bryson & Frazier's smoother, backward from λ = 0, Λ = 0.

        ``m - Σ λ`` and ``Σ - Σ Λ Σ``, where λ and Λ of time t-1 are A'x and A'X A of

            x = (I - KC)'λ - C'S⁻¹e,      X = (I - KC)'Λ (I - KC) + C'S⁻¹C.

        The numbers are those of Rauch, Tung & Striebel's; no Σ⁻ is inverted, so that noise may be singular (Bierman
        1973).
        """
        held = self.beliefs
        T, n = held.mean.shape[-2:]
        slope, curve = torch.zeros_like(held.mean[..., 0, :]), torch.zeros_like(held.covariance[..., 0, :, :])
        each = []
        for t in reversed(range(T)):
            S = held.covariance[..., t, :, :]
            covariance = symmetric(S - S @ curve @ S)
            each.append(Gaussian(held.mean[..., t, :] - applied(S, slope), covariance, held.mass[..., t]))
            if t < len(self.corrections):
                c = self.corrections[t]
                CW = c.rows.mT @ c.whiten.mT
                keep = torch.eye(n).to(S) - c.gain @ c.rows
                slope = applied(keep.mT, slope) - applied(CW @ c.whiten, self.errors[..., t, :])
                curve = keep.mT @ curve @ keep + CW @ CW.mT
            if t:
                A = self.transitions[t - 1]
                slope, curve = applied(A.mT, slope), symmetric(A.mT @ curve @ A)
        return over_time(each[::-1])


def kalman(
    model: LinearGaussian,
    reading: ConditionalGaussian,
    readings: Float[Tensor, "*B T p"],
    actions: Float[Tensor, "*B k m"],
) -> Filtered:
    """Filter along records of readings and actions.

    Args:
        model: the system.
        reading: p(y|s).
        readings: y_0 … y_{T-1}; NaN where missing.
        actions: a_0 … a_{T-2}, or one more, for the prediction of s_T.

    Raises:
        ImpossibleError: what is certain has another value in the record; the message names the time.
    """
    T = readings.shape[-2]
    motion, corrections = transitions_of(model, T), tuple(corrections_of(model, reading, present_in(readings)))
    mean, predicted, beliefs, errors = model.start_mean, [], [], []
    for t, c in enumerate(corrections):
        if t:
            mean = predicted_mean(motion[t - 1], mean, actions[..., t - 1, :])
        predicted.append(_normal(mean, c.predicted))
        mean, e = update(c, mean, reading, readings[..., t, :], t)
        beliefs.append(_normal(mean, c.covariance))
        errors.append(e)
    log_prob = torch.stack(torch.broadcast_tensors(*map(Correction.log_density, corrections, errors)), -1)
    if actions.shape[-2] == T:
        last = _normal(
            predicted_mean(motion[-1], mean, actions[..., -1, :]), predicted_covariance(motion[-1], c.covariance)
        )
        predicted, beliefs = [*predicted, last], [*beliefs, last]
    n = model.states.dimension
    transitions = tuple(motion[t].gain[..., :n] for t in range(len(beliefs) - 1))
    off = torch.stack(torch.broadcast_tensors(*errors), -2)
    return Filtered(over_time(predicted), over_time(beliefs), log_prob, off, corrections, transitions)


def update(
    c: Correction, mean: Float[Tensor, "*B n"], reading: ConditionalGaussian, y: Float[Tensor, "*B p"], t: int
) -> tuple[Float[Tensor, "*B n"], Float[Tensor, "*B p"]]:
    """Return ``m = m⁻ + K e`` and e, 0 where y is NaN.

    Raises:
        ImpossibleError: a number that is certain has another value in the record; the message names the time.
    """
    e = torch.where(y.isnan(), 0.0, y - reading.mean(mean))
    wrong, size = applied(c.certain, e).abs(), applied(reading.gain.abs(), mean.abs()) + reading.offset.abs()
    if bool((wrong > OFF * (1 + size)).any()):
        seen = f"off by {float(wrong.max()):.3g} from the only reading that is possible"
        raise ImpossibleError(f"observe, t = {t}: {seen} after the earlier readings and actions")
    return mean + applied(c.gain, e), e


def present_in(readings: Float[Tensor, "*B T p"]) -> Bool[Tensor, "*B T p"]:
    """Return which numbers are not NaN; ``[T, p]`` where they are the same in all records, as covariances then are."""
    seen = ~readings.isnan()
    each = seen.reshape(-1, *seen.shape[-2:])
    return each[0] if bool((each == each[0]).all()) else seen


def corrections_of(
    model: LinearGaussian, reading: ConditionalGaussian, seen: Bool[Tensor, "*B T p"]
) -> Iterator[Correction]:
    """Yield the correction of the covariance by each reading: the Riccati recursion of the filter."""
    covariance, motion = model.start_scale @ model.start_scale.mT, transitions_of(model, seen.shape[-2])
    largest = variances(covariance)
    for t in range(seen.shape[-2]):
        if t:
            covariance = predicted_covariance(motion[t - 1], covariance)
            largest = torch.maximum(largest, variances(covariance))
        c = correction(covariance, largest, reading, seen[..., t, :])
        yield c
        covariance = c.covariance


def correction(
    predicted: Float[Tensor, "*B n n"],
    largest: Float[Tensor, "*B n"],
    reading: ConditionalGaussian,
    seen: Bool[Tensor, "*B p"],
) -> Correction:
    """Return the correction of a covariance by a reading.

    Args:
        predicted: Σ⁻.
        largest: the largest variance that each coordinate has had; Σ⁻ is known to the rounding of it.
        reading: p(y|s).
        seen: which numbers are not missing.
    """
    shown = seen.unsqueeze(-1).to(predicted)
    C, scale = reading.gain * shown, reading.scale * shown
    R, unseen = scale @ scale.mT, torch.diag_embed(1 - shown.squeeze(-1))
    size = applied(C.square(), largest) + (R + unseen).diagonal(dim1=-2, dim2=-1)
    whiten, log_volume, certain = _whitened(symmetric(C @ predicted @ C.mT) + R + unseen, size)
    gain = predicted @ C.mT @ whiten.mT @ whiten
    keep = torch.eye(predicted.shape[-1]).to(predicted) - gain @ C
    covariance = symmetric(keep @ predicted @ keep.mT + gain @ R @ gain.mT)
    rank = shown.sum((-2, -1)) - certain.diagonal(dim1=-2, dim2=-1).sum(-1).round()
    return Correction(predicted, C, gain, whiten, certain, log_volume, rank, covariance)


def transitions_of(model: LinearGaussian, T: int) -> list[ConditionalGaussian]:
    """Return p(s'|s, a) of the times below T: gain (A, B), offset c, scale G."""
    slices, seen = model.slices, model.states.dimension + model.actions.dimension
    parts = (slices.transition[..., :seen], slices.drift, slices.transition[..., seen:])
    if not model.timed:
        return [ConditionalGaussian(*parts)] * T
    each = zip(*(part.unbind(len(model.batch_shape)) for part in parts), strict=True)
    return [ConditionalGaussian(*own) for own in each][:T]


def predicted_mean(
    motion: ConditionalGaussian, mean: Float[Tensor, "*B n"], action: Float[Tensor, "*B m"]
) -> Float[Tensor, "*B n"]:
    """Return ``A m + B a + c``."""
    n = mean.shape[-1]
    return applied(motion.gain[..., :n], mean) + applied(motion.gain[..., n:], action) + motion.offset


def predicted_covariance(motion: ConditionalGaussian, covariance: Float[Tensor, "*B n n"]) -> Float[Tensor, "*B n n"]:
    """Return ``A Σ A' + G G'``."""
    A = motion.gain[..., : covariance.shape[-1]]
    return symmetric(A @ covariance @ A.mT + motion.covariance)


def root(covariance: Float[Tensor, "*B n n"]) -> Float[Tensor, "*B n n"]:
    """Return a factor of a covariance: ``S W'`` with ``S⁻¹ = W'W``; Cholesky's where it is positive definite."""
    whiten, _, _ = _whitened(covariance, variances(covariance))
    return covariance @ whiten.mT


def over_time(each: list[Gaussian]) -> Gaussian:
    """Stack Gaussians of all times, time after the batch."""
    batch = torch.broadcast_shapes(*(shape for g in each for shape in (g.mean.shape[:-1], g.covariance.shape[:-2])))
    n = each[0].mean.shape[-1]
    even = [Gaussian(g.mean.expand(*batch, n), g.covariance.expand(*batch, n, n), g.mass.expand(batch)) for g in each]
    return stacked(even, len(batch))


def applied(M: Tensor, x: Tensor) -> Tensor:
    """Return M x."""
    return (M @ x.unsqueeze(-1)).squeeze(-1)


def _normal(mean: Tensor, covariance: Tensor) -> Gaussian:
    return Gaussian(mean, covariance, mean.new_ones(()))


def variances(covariance: Float[Tensor, "*B n n"]) -> Float[Tensor, "*B n"]:
    """Return the diagonal, cut from autograd."""
    return covariance.detach().diagonal(dim1=-2, dim2=-1)


def _whitened(S: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return W with ``S⁻¹ = W'W`` on the range of S, half the log-determinant there, and the projection off the range.

    Args:
        S: positive semi-definite.
        size: variances that S is compared with: a number far below them is rounding.
    """
    size = size.detach()
    unit, one = torch.where(size > 0, size, 1.0).rsqrt(), torch.eye(S.shape[-1]).to(S)
    scaled, floor = S * unit.unsqueeze(-1) * unit.unsqueeze(-2), ULPS * S.shape[-1] * torch.finfo(S.dtype).eps
    L, failed = torch.linalg.cholesky_ex(scaled)
    pivots = L.diagonal(dim1=-2, dim2=-1)
    if not bool(failed.any()) and bool((pivots.square() > floor).all()):
        whiten = torch.linalg.solve_triangular(L, one.expand_as(S), upper=False) * unit.unsqueeze(-2)
        return whiten, (pivots.log() - unit.log()).sum(-1), torch.zeros_like(S)
    # Of lower rank: with V the range of S, S = S V (V'SV)⁻¹ V'S, also to first order where S changes and V is held.
    sizes, U = torch.linalg.eigh(scaled.detach())
    live = sizes > floor
    V = U * live.unsqueeze(-2)
    L = torch.linalg.cholesky(V.mT @ scaled @ V + torch.diag_embed((~live).to(S)))
    whiten = torch.linalg.solve_triangular(L, V.mT, upper=False) * unit.unsqueeze(-2)
    factor = S @ whiten.mT
    found, here = torch.linalg.svdvals(factor), torch.arange(S.shape[-1], device=S.device) < live.sum(-1, keepdim=True)
    return whiten, torch.where(here, found, 1.0).log().sum(-1), one - factor @ whiten

"""The filter that is also given past optimality, p(s_t | y_{0..t}, a_{<t}, O_{<t}): past rewards tilt the belief.

    b_{t+1}(s') ∝ p(y_{t+1}|s') ∫ b_t(s) exp(r(s, a_t, z)/α) p(s', z|s, a_t) ds dz

(Jacobson 1973; Whittle 1981.) Its covariances do not depend on readings or actions either, and its means are affine
in them. Without a temperature nothing is tilted, and it is the Kalman filter.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import NotConvergedError
from cai.exact.gaussian.normal_means import Marginalised, over_normal
from cai.exact.rules import POSTERIOR
from cai.partial.gaussian_worlds import require_seen_prior
from cai.partial.kalman import Correction, correction, present_in, root, transitions_of, update, variances

Passage = tuple[ConditionalGaussian, Quadratic]
"""From the belief of s_t to that of s_{t+1} before it is read: its mean as a function of (m, a) and its covariance; and
log E exp(r/α) as a function of (m, a), nats, 0 where nothing is tilted."""


def filtered(
    model: LinearGaussian,
    reading: ConditionalGaussian,
    readings: Float[Tensor, "*B k p"],
    actions: Float[Tensor, "*B t m"],
    alpha: Float[Tensor, ""] | None,
) -> tuple[Gaussian, Float[Tensor, "*B"]]:
    """Return the belief after the last reading, and the log density of the readings and of O_{<t}, nats.

    Args:
        model, reading: the system, and p(y|s).
        readings: y_0 … y_t; NaN where nothing was seen.
        actions: a_0 … a_{t-1}.
        alpha: the temperature, or None.

    Raises:
        WorldError: the action prior reads what is not seen.
        ImpossibleError: a number that is certain has another value in the record.
        NotConvergedError: the evidence is infinite.
    """
    mean, log_p = model.start_mean, torch.zeros_like(model.start_mean[..., 0])
    past = zip(readings.unbind(-2), steps(model, reading, present_in(readings), alpha), strict=True)
    for t, (y, (c, passage)) in enumerate(past):
        mean, e = update(c, mean, reading, y, t)
        log_p = log_p + c.log_density(e)
        if passage is not None:
            motion, factor = passage
            a = actions[..., t, :]
            batch = torch.broadcast_shapes(mean.shape[:-1], a.shape[:-1])
            known = torch.cat((mean.expand(*batch, -1), a.expand(*batch, -1)), -1)
            mean, log_p = motion.mean(known), log_p + factor(known)
    batch = torch.broadcast_shapes(mean.shape[:-1], c.covariance.shape[:-2])
    n = mean.shape[-1]
    return Gaussian(mean.expand(*batch, n), c.covariance.expand(*batch, n, n), mean.new_ones(batch)), log_p


def steps(
    model: LinearGaussian, reading: ConditionalGaussian, seen: Bool[Tensor, "*B k p"], alpha: Tensor | None
) -> Iterator[tuple[Correction, Passage | None]]:
    """Yield the correction by each reading, and the passage to the next belief; None after the last.

    Raises:
        WorldError, NotConvergedError: see ``filtered``.
    """
    covariance, T = model.start_scale @ model.start_scale.mT, seen.shape[-2]
    largest, motion = variances(covariance), transitions_of(model, T)
    for t in range(T):
        largest = torch.maximum(largest, variances(covariance))
        c = correction(covariance, largest, reading, seen[..., t, :])
        if t == T - 1:
            yield c, None
            return
        require_seen_prior(model, t, c)
        passage = passage_of(model.at(t), motion[t], c.covariance, alpha, t)
        yield c, passage
        covariance = passage[0].covariance


def passage_of(
    sl: LinearSlice, motion: ConditionalGaussian, covariance: Float[Tensor, "*B n n"], alpha: Tensor | None, t: int
) -> Passage:
    """Return the passage from the belief N(m, Σ) of time t to the next, under the action a.

    Raises:
        NotConvergedError: E exp(r/α) is infinite.
    """
    n, known = covariance.shape[-1], motion.gain.shape[-1]
    L = root(covariance)  # s = m + L ξ, and (ξ, z) are standard normal
    A, G = motion.gain[..., :n], motion.scale
    batch = torch.broadcast_shapes(L.shape[:-2], G.shape[:-2])
    sources = torch.cat(((A @ L).expand(*batch, n, n), G.expand(*batch, *G.shape[-2:])), -1)
    if alpha is None:
        nothing = Quadratic.zero(known, L, tuple(batch))
        return ConditionalGaussian(motion.gain, motion.offset, sources), nothing
    one = torch.eye(known + G.shape[-1]).to(L).expand(*batch, -1, -1)
    whole = torch.cat(
        (one[..., :known], torch.cat((L.expand(*batch, n, n), one[..., n:, :n] * 0), -2), one[..., known:]), -1
    )
    noise = soft_mean(sl.reward.after(whole, torch.zeros_like(sl.reward.b)), sources.shape[-1], alpha)
    if not bool(noise.finite.all()):
        why = "the reward of past actions grows faster than the state becomes unlikely at this temperature"
        raise NotConvergedError(f"POSTERIOR, t = {t}: the evidence is infinite: {why}")
    return composed(ConditionalGaussian(motion.gain, motion.offset, sources), noise.tilted), noise.value / alpha


def soft_mean(f: Quadratic, k: int, alpha: Tensor) -> Marginalised:
    """Return ``α log E exp(f/α)`` over the last k coordinates, which are standard normal, and how they are tilted."""
    flat = torch.zeros(k, dtype=torch.bool, device=alpha.device)
    return over_normal(POSTERIOR.over_outcomes, f, k, alpha, flat, alpha.new_zeros(()))


def composed(given: ConditionalGaussian, noise: ConditionalGaussian) -> ConditionalGaussian:
    """Return u given x where ``u = gain x + offset + scale ξ``, and ξ itself depends on x."""
    offset = given.offset + (given.scale @ noise.offset.unsqueeze(-1)).squeeze(-1)
    return ConditionalGaussian(given.gain + given.scale @ noise.gain, offset, given.scale @ noise.scale)

"""Policies that act on an estimate, in closed loop with the state that they do not see: linear-Gaussian again.

    s' = A s + B a + c + G z,        y' = C s' + d + D e
    m⁻ = F (m, a) + f,               m' = m⁻ + K (y' - C m⁻ - d)

F and f belong to the filter of the estimate m: (A, B) and c in Kalman's, tilted in the risk-sensitive one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, stacked
from cai.partial.gaussian_worlds import blocks, estimated
from cai.partial.kalman import applied
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.world.coordinates import Coordinates


@dataclass(frozen=True)
class OutputFeedback:
    """A policy that sees only readings, in its closed loop: ``cai.evaluate(loop, policy)`` is exact.

    The optimality gap of ``evaluate``, in nats, is the distance to the best policy that sees the state.

    Attributes:
        loop: the world of (s, m): the state, and beside it the estimate.
        policy: depends on the estimate alone.
    """

    loop: LinearGaussian
    policy: AffineGaussianPolicy


def output_feedback(loop: LinearGaussian, policy: AffineGaussianPolicy) -> OutputFeedback:
    """Return a policy of the estimate as one of (s, m)."""
    at = partial(_of_both, policy)
    return OutputFeedback(loop, AffineGaussianPolicy(at, loop.states, loop.actions, loop.horizon))


def _of_both(policy: AffineGaussianPolicy, t: int) -> ConditionalGaussian:
    act = policy.conditional(t)
    return replace(act, gain=torch.cat((torch.zeros_like(act.gain), act.gain), -1))


def closed_loop(
    model: LinearGaussian,
    reading: ConditionalGaussian,
    gains: Sequence[Tensor],
    filters: Sequence[ConditionalGaussian],
) -> LinearGaussian:
    """Return the world of (s, m); the module's docstring has its equations.

    Args:
        model: with a finite horizon.
        reading: p(y|s) = N(C s + d, D D').
        gains: K of the times 0 … T-1; s_T is not read.
        filters: F and f of these times; their scales are not used.
    """
    last = torch.zeros_like(gains[-1])
    following = zip([*gains[1:], last], filters, strict=True)
    slices = [_looped(model.at(t), reading, K, guess) for t, (K, guess) in enumerate(following)]
    K, L, q = gains[0], model.start_scale, reading.scale.shape[-1]
    KCL, KD = _beside(K @ reading.gain @ L, K @ reading.scale)
    start = torch.cat((torch.cat(_beside(L, L.new_zeros(*L.shape[:-1], q)), -1), torch.cat((KCL, KD), -1)), -2)
    own, guessed = model.states, estimated(model.states)
    both = Coordinates((*own.names, *guessed.names), (*own.shapes, *guessed.shapes))
    return replace(
        model,
        slices=stacked(slices, len(model.batch_shape)),
        start_mean=torch.cat((model.start_mean, model.start_mean), -1),
        start_scale=start,
        terminal=model.terminal.lifted(model.states.dimension),
        timed=True,
        states=both,
        sites=both,
    )


def _looped(sl: LinearSlice, reading: ConditionalGaussian, K: Tensor, guess: ConditionalGaussian) -> LinearSlice:
    """Return the slice of (s, m), a, (z, e)."""
    A, B, G = blocks(sl)
    n, m, k, q = A.shape[-1], B.shape[-1], G.shape[-1], reading.scale.shape[-1]
    KC, KD = _beside(K @ reading.gain, K @ reading.scale)
    keep = torch.eye(n).to(A) - KC
    Fm, Fa = guess.gain.split([n, m], -1)
    true = torch.cat((A, torch.zeros_like(A), B, G, A.new_zeros(*A.shape[:-1], q)), -1)
    believed = torch.cat((KC @ A, keep @ Fm, keep @ Fa + KC @ B, KC @ G, KD), -1)
    transition = torch.cat((true, believed), -2)
    drift = torch.cat((sl.drift, applied(keep, guess.offset) + applied(KC, sl.drift)), -1)
    one = torch.eye(n + m + k).to(A)
    old = torch.cat((one[:, :n], one.new_zeros(n + m + k, n), one[:, n:], one.new_zeros(n + m + k, q)), -1)
    return replace(
        sl,
        transition=transition,
        drift=drift,
        reward=sl.reward.after(old, torch.zeros_like(sl.reward.b)),
        prior=replace(sl.prior, gain=torch.cat((sl.prior.gain, torch.zeros_like(sl.prior.gain)), -1)),
        readout=transition,
        readout_offset=drift,
    )


def _beside(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two matrices with the axes of the batch of both."""
    batch = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    return first.expand(*batch, *first.shape[-2:]), second.expand(*batch, *second.shape[-2:])

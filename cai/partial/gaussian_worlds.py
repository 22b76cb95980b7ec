"""Worlds made of a linear-Gaussian world that is seen in part; each is linear-Gaussian again.

The belief is N(m_t, Σ_t), and Σ_t does not depend on the readings (``cai.partial.kalman``). So the mean alone is the
state of a fully observed world: its noise is K_t times the innovation, its reward the expected one.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic, stacked
from cai.errors import Finding, IntractableError, NotConvergedError, fault
from cai.exact.gaussian.stabilisability import in_words, unstabilisable_mode
from cai.partial.kalman import Correction, corrections_of, predicted_covariance, root, transitions_of, variances
from cai.world.coordinates import Coordinates

ESTIMATE = "estimated_"
"""Before a variable's name: the mean of the belief of it."""
SEEN = 1e-9
"""The share of the action's variance that may depend, by the prior, on the unseen part of the state."""
STILL = 1e-12
"""A covariance counts as constant if no entry changes by more than this, relative to its two deviations."""
MOST = 10_000
"""The most readings until it is constant."""
PATIENCE = 200
"""The number of readings after which detectability is tested."""


def covariances(
    model: LinearGaussian, reading: ConditionalGaussian
) -> tuple[list[Correction], Float[Tensor, "*B n n"]]:
    """Return the correction of the covariance by each reading, and the covariance of s_T, which is not read.

    Raises:
        WorldError: the action prior reads what is not seen.
    """
    T = model.horizon
    assert T is not None
    seen = torch.ones(T, reading.offset.shape[-1], dtype=torch.bool, device=model.device)
    corrections = list(corrections_of(model, reading, seen))
    for t, c in enumerate(corrections):
        require_seen_prior(model, t, c)
    return corrections, predicted_covariance(transitions_of(model, T)[-1], corrections[-1].covariance)


def until_steady(model: LinearGaussian, reading: ConditionalGaussian) -> list[Correction]:
    """Return the correction of the covariance by each reading, up to the first that equals the one before it.

    Args:
        model: with the same slice at all times.
        reading: p(y|s).

    Raises:
        NotConvergedError: the covariance does not converge; the message names the mode that is not detectable.
        WorldError: the action prior reads what is not seen.
    """
    seen = torch.ones(1, reading.offset.shape[-1], dtype=torch.bool, device=model.device).expand(MOST, -1)
    found: list[Correction] = []
    for t, c in enumerate(corrections_of(model, reading, seen)):
        require_seen_prior(model, t, c)
        found.append(c)
        size, change = variances(c.covariance).sqrt(), (c.covariance - found[t - 1].covariance).abs()
        if t and bool((change <= STILL * size.unsqueeze(-1) * size.unsqueeze(-2)).all()):
            return found
        if t == PATIENCE:
            _require_detectable(model, reading)
    raise NotConvergedError(f"the filter: its covariance still changes after {MOST:,} readings")


def _require_detectable(model: LinearGaussian, reading: ConditionalGaussian) -> None:
    """Raise where a mode that does not decay is never read (not detectable): ``A w = λ w``, ``C w = 0``, ``|λ| >= 1``.

    Raises:
        NotConvergedError: there is one.
    """
    n, told = model.states.dimension, reading.gain.mT @ reading.gain
    A = model.at(0).transition[..., :n]
    batch = torch.broadcast_shapes(A.shape[:-2], told.shape[:-2])
    each = (part.detach().expand(*batch, n, n).reshape(-1, n, n) for part in (A, told))
    for own, seen in zip(*each, strict=True):
        lost = unstabilisable_mode(own.mT, seen)
        if lost is not None:
            words = f"{in_words(lost[1], model.states.labels)} does not die out, and no reading tells of it"
            raise NotConvergedError(f"the filter: its covariance grows without end: {words}")


def belief_world(model: LinearGaussian, reading: ConditionalGaussian) -> LinearGaussian:
    """Return the world whose state is the mean of the belief, fully seen.

        m_{t+1} = A m + B a + c + K ν,   ν ~ N(0, S),        E[r | m, a] = r(m, a, 0) + ½ tr R_ss Σ_t + ½ tr R_zz

    Its best policies under VARIATIONAL and HARD are the best that depend on past readings and actions only: these rules
    average over outcomes, so a reward that depends on noise or on the next state counts by its expectation. s_T is not
    read: the last mean is a prediction.

    Args:
        model: with a finite horizon.
        reading: p(y|s).

    Raises:
        WorldError: the action prior reads what is not seen.
        IntractableError: there is exact evidence on the state.
    """
    require_no_evidence(model)
    corrections, last = covariances(model, reading)
    return _of_mean(model, corrections, None, _expected(model.terminal, last, last.shape[-1]))


def steady_world(model: LinearGaussian, now: Correction) -> LinearGaussian:
    """Return the world of the mean from the time on at which the covariance is constant; infinite horizon."""
    estimate = estimated(model.states)
    sl = _believed(model.at(0), now, now)
    return replace(model, slices=sl, start_scale=now.moved, states=estimate, sites=estimate)


def world_until(model: LinearGaussian, corrections: Sequence[Correction], v: Quadratic) -> LinearGaussian:
    """Return the world of the mean up to the last correction, with the terminal value v of ``steady_world``."""
    *before, last = corrections
    return _of_mean(replace(model, horizon=len(before)), before, last, v)


def _of_mean(
    model: LinearGaussian, corrections: Sequence[Correction], last: Correction | None, terminal: Quadratic
) -> LinearGaussian:
    """Return the world of the mean, given each correction; ``last`` is that of a reading at T, if there is one."""
    after = [*corrections[1:], last]
    slices = [_believed(model.at(t), c, after[t]) for t, c in enumerate(corrections)]
    estimate = estimated(model.states)
    return replace(
        model,
        slices=stacked(slices, len(model.batch_shape)),
        start_scale=corrections[0].moved,
        terminal=terminal,
        timed=True,
        states=estimate,
        sites=estimate,
    )


def _believed(sl: LinearSlice, now: Correction, after: Correction | None) -> LinearSlice:
    """Return the slice of m, a, ν/√S; nothing is read after it where ``after`` is None."""
    A, B, _ = blocks(sl)
    moved, volume = torch.zeros_like(now.moved), torch.zeros_like(now.log_volume)
    if after is not None:
        moved, volume = after.moved, after.log_volume
    reward = _expected(sl.reward, now.covariance, A.shape[-1] + B.shape[-1]).lifted(moved.shape[-1])
    transition = torch.cat((A, B, moved), -1)
    return replace(
        sl, transition=transition, reward=reward, readout=transition, readout_offset=sl.drift, log_volume=volume
    )


def following(model: LinearGaussian, t: int, belief: Gaussian) -> LinearGaussian:
    """Return the world of the times t … T that starts at a belief; its time 0 is t.

    Args:
        model: with a finite horizon.
        t: a time below T.
        belief: of s_t; where it is a batch, and the world is not, so is what is returned.
    """
    assert model.horizon is not None
    batch, axis = belief.mean.shape[:-1], len(model.batch_shape)
    slices, terminal = model.slices, model.terminal
    if model.timed:
        slices = slices.each(lambda x: x.narrow(axis, t, x.shape[axis] - t))
    if batch and not axis:
        slices = slices.each(lambda x: x.expand(*batch, *x.shape))
        terminal = terminal.each(lambda x: x.expand(*batch, *x.shape))
    rest = replace(model, slices=slices, terminal=terminal, horizon=model.horizon - t)
    return replace(rest, start_mean=belief.mean, start_scale=root(belief.covariance))


def blocks(sl: LinearSlice) -> tuple[Tensor, Tensor, Tensor]:
    """Return A, B and G."""
    n, N = sl.transition.shape[-2:]
    m = sl.prior.offset.shape[-1]
    A, B, G = sl.transition.split([n, m, N - n - m], -1)
    return A, B, G


def estimated(states: Coordinates) -> Coordinates:
    """Return the coordinates of the mean of the belief."""
    return replace(states, names=tuple(f"{ESTIMATE}{name}" for name in states.names))


def _expected(f: Quadratic, covariance: Tensor, keep: int) -> Quadratic:
    """Return E f(x) over x = (s, …, z), where s has a covariance about its mean, and z, after ``keep``, is N(0, I)."""
    n = covariance.shape[-1]
    spread_ = (f.M[..., :n, :n] * covariance).sum((-2, -1)) + f.M[..., keep:, keep:].diagonal(dim1=-2, dim2=-1).sum(-1)
    return Quadratic(f.M[..., :keep, :keep], f.b[..., :keep], f.c + 0.5 * spread_)


def require_seen_prior(model: LinearGaussian, t: int, gain: Correction) -> None:
    """Raise where the action prior depends on a part of the state that the belief leaves uncertain.

    Raises:
        WorldError: it does.
    """
    prior = model.at(t).prior
    hidden = (prior.gain @ gain.covariance @ prior.gain.mT).diagonal(dim1=-2, dim2=-1)
    shown = (prior.gain @ gain.predicted @ prior.gain.mT + prior.covariance).diagonal(dim1=-2, dim2=-1)
    if bool((hidden > SEEN * shown).any()):
        names = ", ".join(
            name for i, name in enumerate(model.actions.labels) if bool((hidden > SEEN * shown)[..., i].any())
        )
        seen = f"a prior of {names} that depends on the unseen part of the state"
        raise fault(f"act, t = {t}", seen, "a prior that depends on observations only, or an observe that shows more")


def require_no_evidence(model: LinearGaussian) -> None:
    """Raise where a condition fixes a variable of a world seen in part.

    Raises:
        IntractableError: it does.
    """
    if model.slices.reward.rows is not None or model.terminal.rows is not None:
        expected = "no conditions: a belief is a belief of the world as it is"
        raise IntractableError([Finding("conditions", "exact evidence on a world seen in part", expected)])

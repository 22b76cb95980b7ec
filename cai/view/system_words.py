"""A linear-Gaussian system as equations in the names of its coordinates: dynamics, noise, reward, prior and start."""

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.policies.gaussian_action import affine_in_words
from cai.support.numbers import MINUS, brief
from cai.support.wording import listed

TERMS = 12
"""The most terms of a quadratic that are written out, the largest first."""
TINY = 1e-12
"""Terms below this share of the largest are rounding."""


def size_words(model: LinearGaussian) -> str:
    """Say how large a system is in a line: coordinates of state, action and noise, the prior, and the clock."""
    clock = f"horizon T = {model.horizon:,}" if model.horizon is not None else "infinite horizon"
    survival = f", discount γ = {model.discount:g}" if model.discount < 1 else ""
    counts = (("state", model.states.dimension), ("action", model.actions.dimension), ("noise", model.noise))
    sizes = ", ".join(f"{what} of {_numbers(count)}" for what, count in counts)
    return f"{sizes}, {prior_kind(model)}, {clock}{survival}"


def _numbers(count: int) -> str:
    return f"{count:,} real number{'s' * (count != 1)}"


def prior_kind(model: LinearGaussian) -> str:
    """Say what kind of action prior there is."""
    flat = model.slices.flat
    if bool(flat.any()):
        return "flat action prior (Lebesgue)" if bool(flat.all()) else "action prior flat in some directions (Lebesgue)"
    return "Gaussian action prior"


def equations(model: LinearGaussian, t: int = 0) -> list[tuple[str, str]]:
    """Return the system at one time, a name and a formula a line: next state, noise, reward, prior and start."""
    sl, n, m = model.at(t), model.states.dimension, model.actions.dimension
    inputs = (*model.states.labels, *model.actions.labels)
    shaken = sl.transition[..., n + m :]
    noise = (shaken @ shaken.mT).diagonal().sqrt()
    lines = [
        (f"next {name}", _with_noise(affine_in_words(inputs, sl.transition[i, : n + m], sl.drift[i]), noise[i]))
        for i, name in enumerate(model.states.labels)
    ]
    lines += _together(model, shaken @ shaken.mT)
    lines.append(("E[reward]", quadratic_in_words(expected_reward(model, t), inputs)))
    if any(bool((part != 0).any()) for part in model.terminal.tensors[:3]):
        lines.append(("terminal reward", quadratic_in_words(model.terminal, model.states.labels)))
    return [*lines, *prior_lines(model, t), *start_lines(model)]


def expected_reward(model: LinearGaussian, t: int) -> Quadratic:
    """Return E[r|s, a] of time t, reward units: ``r(s, a, 0) + ½ tr M_zz``; -inf off the plane of exact evidence."""
    r = model.at(t).reward.detach()
    seen = model.states.dimension + model.actions.dimension
    spread = 0.5 * r.M[seen:, seen:].diagonal().sum()
    return Quadratic(r.M[:seen, :seen], r.b[:seen], r.c + spread, None if r.rows is None else r.rows[:, :seen], r.sides)


def prior_lines(model: LinearGaussian, t: int) -> list[tuple[str, str]]:
    """Return how the action prior draws each coordinate."""
    sl, names = model.at(t), model.states.labels
    endless = ((sl.prior.scale != 0) & sl.flat).any(-1)
    spread = sl.prior.covariance.diagonal().sqrt()
    flat = "flat: Lebesgue measure, density 1"
    return [
        (f"prior of {name}", flat if bool(endless[i]) else _drawn(sl.prior, i, names, spread))
        for i, name in enumerate(model.actions.labels)
    ]


def start_lines(model: LinearGaussian) -> list[tuple[str, str]]:
    """Return where each coordinate starts."""
    wide = (model.start_scale @ model.start_scale.mT).diagonal().sqrt()
    return [
        (f"start of {name}", _normal(brief(float(model.start_mean[i]), 4), float(wide[i])))
        for i, name in enumerate(model.states.labels)
    ]


def quadratic_in_words(f: Quadratic, names: tuple[str, ...]) -> str:
    """Write a quadratic, ``−position² − 0.1·force²``; of many terms the largest."""
    terms = [(0.5 * float(f.M[i, i]), f"{name}²") for i, name in enumerate(names)]
    terms += [(float(f.M[i, j]), f"{names[i]}·{names[j]}") for i in range(len(names)) for j in range(i)]
    terms += [(float(f.b[i]), name) for i, name in enumerate(names)] + [(float(f.c), "")]
    largest = max(abs(size) for size, _ in terms)
    kept = [term for term in terms if abs(term[0]) > TINY * largest]
    if not kept:
        return "0"
    smallest = sorted((abs(size) for size, _ in kept), reverse=True)[min(TERMS, len(kept)) - 1]
    shown = [term for term in kept if abs(term[0]) >= smallest][:TERMS]
    words = "".join(
        (f" {MINUS if size < 0 else '+'} " if n else MINUS * (size < 0)) + _term(abs(size), name)
        for n, (size, name) in enumerate(shown)
    )
    more = len(kept) - len(shown)
    return words + (f" and {more} smaller term{'s' * (more > 1)}" if more else "") + _on_plane(f)


def moments_table(measure: Gaussian, labels: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return mean, deviation and correlations of a Gaussian as text, under a line of heads."""
    wide = measure.deviation
    scale = torch.where(wide > 0, wide, 1.0)
    correlation = measure.covariance / scale.unsqueeze(-1) / scale
    heads = ("", "mean", "deviation", *(f"ρ with {label}" for label in labels[:-1]))
    rows = []
    for i, label in enumerate(labels):
        beside = [brief(float(correlation[i, j])) if j < i else "" for j in range(len(labels) - 1)]
        rows.append((label, brief(float(measure.mean[i]), 4), brief(float(wide[i]), 4), *beside))
    return [heads, *rows]


def _together(model: LinearGaussian, covariance: Tensor) -> list[tuple[str, str]]:
    """Say which coordinates the noise moves together."""
    wide = covariance.diagonal().sqrt()
    scale = torch.where(wide > 0, wide, 1.0)
    correlation, names = covariance / scale.unsqueeze(-1) / scale, model.states.labels
    pairs = [(float(correlation[i, j]), names[j], names[i]) for i in range(len(names)) for j in range(i)]
    tied = sorted((pair for pair in pairs if abs(pair[0]) > 1e-9), key=lambda pair: -abs(pair[0]))
    if not tied:
        return []
    told = [f"{first} and {second} {brief(rho)}" for rho, first, second in tied]
    return [("noise correlations", listed(told, 6))]


def _drawn(prior: ConditionalGaussian, i: int, names: tuple[str, ...], spread: Tensor) -> str:
    return _normal(affine_in_words(names, prior.gain[i], prior.offset[i]), float(spread[i]))


def _normal(mean: str, deviation: float) -> str:
    return f"N({mean}, {brief(deviation, 4)}²)" if deviation > 0 else f"{mean}, certainly"


def _with_noise(mean: str, deviation: Tensor) -> str:
    return f"{mean} + noise of deviation {brief(float(deviation))}" if float(deviation) > 0 else mean


def _term(size: float, name: str) -> str:
    if not name:
        return brief(size)
    return name if abs(size - 1) < TINY else f"{brief(size)}·{name}"


def _on_plane(f: Quadratic) -> str:
    fixed = 0 if f.rows is None else int((f.rows != 0).any(-1).sum())
    return f", on the plane of {fixed} exact observation{'s' * (fixed > 1)}" if fixed else ""

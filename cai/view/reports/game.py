"""The world in plain words, what α means in it, and the two exact numbers log Z and ELBO*."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.compile.model import Model, is_finite
from cai.compile.table_model import Tables
from cai.evaluation.comparison import Comparison
from cai.exact.forms import Compiled
from cai.support.numbers import MINUS, show
from cai.support.wording import listed
from cai.view.reports.sections import Part, Request, Section, Words
from cai.view.sizes import size_of

LARGE = 1_000_000
"""Entries of the prior's table up to which it is looked at."""


def game(request: Request) -> Iterator[Section]:
    """Explain the world, α, and what every policy is measured against."""
    comparisons: list[Comparison] = request.each
    model, alphas = comparisons[0].model, [comparison.temperature for comparison in comparisons]
    parts: list[Part] = [Words(request.about)] if request.about else []
    if model is not None:
        parts.append(Words(" ".join(rules_of(model))))
    if soft(comparisons[0]):
        parts.append(Words(temperature_in_words(alphas, model)))
    parts.append(Words(PROMISES if model is not None else SAMPLED))
    yield Section("game", "The game", tuple(parts))


def soft(comparison: Comparison) -> bool:
    """Return whether a temperature has a meaning: it has none where hard learners alone were sampled."""
    runs = [run for each in comparison.runs.values() for run in each]
    return comparison.model is not None or any(run.temperature is not None for run in runs)


PROMISES = (
    "Two exact numbers stand above every policy. log Z is what the posterior promises: it assumes that luck helps as "
    "much as it has to. ELBO* is what the best policy reaches while chance stays as it is. ELBO* is never above log Z, "
    "and no policy's ELBO is above ELBO*."
)
SAMPLED = (
    "This world has no exact answers: it is neither linear-Gaussian nor finite and small enough. All numbers below "
    "were sampled while the learners learned."
)


def rules_of(model: Compiled) -> Iterator[str]:
    """Say how large a world is, how long a game lasts and what ends it, and what can be earned in a step."""
    if not is_finite(model):
        yield f"The world is made of real numbers: {size_of(model)}."
        yield _clock(model, "")
        return
    states, actions = model.states, model.actions
    if isinstance(model, Factors):
        size = f"{len(states.names)} state variables with {states.size:,} joint states"
    else:
        size = f"{states.size:,} state{'s' * (states.size > 1)}"
    yield f"The world has {size} and {actions.size:,} action{'s' * (actions.size > 1)}{_names(model)}."
    yield _length(model)
    pay = _pay(model)
    if pay:
        yield pay


def _names(model: Compiled) -> str:
    actions = model.actions
    if actions.size > 6 or len(actions.names) > 1:
        return ""
    labels = [actions.label(a) for a in range(actions.size)]
    return "" if any("=" in label for label in labels) else f" ({', '.join(labels)})"


def _length(model: Compiled) -> str:
    return _clock(model, _end(model))


def _clock(model: Compiled, ends: str) -> str:
    T, gamma = model.horizon, model.discount
    if T is None:
        text = f"A game has no last step: after each step it goes on with probability γ = {gamma:g}"
        return f"{text}, {ends}." if ends else f"{text}."
    text = f"A game lasts at most T = {T:,} steps" if ends or gamma < 1 else f"A game lasts T = {T:,} steps"
    survival = f"; after each step it goes on with probability γ = {gamma:g}" if gamma < 1 else ""
    return f"{text}{survival}{f'; {ends}' if ends else ''}."


def _end(model: Compiled) -> str:
    if isinstance(model, Factors):
        return "it may be over before that" if model.ends is not None else ""
    if model.ended is None:
        return ""
    over = model.ended.nonzero().flatten().tolist()
    if len(over) == 1:
        return f"it is over before that when the state “{model.states.label(over[0])}” is reached, where nobody acts"
    return f"it is over before that in {len(over):,} states, where nobody acts"


def _pay(model: Compiled) -> str:
    if not isinstance(model, Tables):
        return ""
    possible = (model.log_prob > -torch.inf) & (model.log_prior > -torch.inf).unsqueeze(-1)
    if model.ended is not None:
        possible = possible & ~model.ended.reshape(-1, 1, 1)
    paid = model.reward[possible]
    finite = paid[paid.isfinite()]
    if not len(finite):
        return ""
    low, high = float(finite.min()), float(finite.max())
    step = f"Each step pays {show(low)}" if low == high else f"A step pays between {show(low)} and {show(high)}"
    return f"{step} reward unit{'' if low == high == 1 else 's'}{_forbidden(paid)}{_end_pay(model)}."


def _end_pay(model: Tables) -> str:
    paid = model.terminal[model.terminal.isfinite()]
    if not len(paid) or not model.terminal.any():
        return ""
    low, high = float(paid.min()), float(paid.max())
    end = show(low) if low == high else f"between {show(low)} and {show(high)}"
    return f", and the end {end}{_forbidden(model.terminal)}"


def _forbidden(paid: Tensor) -> str:
    return f", or {MINUS}∞ where it is forbidden" if bool((paid == -torch.inf).any()) else ""


def temperature_in_words(alphas: Sequence[float], model: Model | None) -> str:
    """Say what α is worth here, coldest first."""
    coldest = alphas[0]
    several = f" This report has α = {listed([show(alpha) for alpha in alphas])}, coldest first."
    return (
        "The temperature α has the unit of the reward: it says what a nat is worth."
        f"{several if len(alphas) > 1 else ''}"
        f" At α = {show(coldest)}, 1 nat = {show(coldest)} reward unit{'' if coldest == 1 else 's'}."
        f"{_price(coldest, model)}"
    )


def _price(alpha: float, model: Model | None) -> str:
    """Say what a certain choice costs, where the prior is uniform."""
    if model is None or not is_finite(model) or model.states.size * model.actions.size > LARGE:
        return ""
    A = model.actions.size
    log_prior = model.log_prior_at(0)
    if A < 2 or not bool((log_prior + math.log(A)).abs().max() < 1e-6):
        return ""
    nats = math.log(A)
    return (
        f" The prior takes each of the {A} actions with probability 1/{A}. A policy that is certain of its action "
        f"differs from the prior by log {A} = {nats:.4g} nats a step, and pays {show(alpha * nats)} reward units "
        "for them."
    )

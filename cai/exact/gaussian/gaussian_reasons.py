"""Why a rule acts as it does in one state of a linear-Gaussian world, in words.

α log π_t(a|s) = q(s, a) + α log p(a|s) - v(s): the second derivative of the right side says what it costs to deviate
from the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.errors import NO_ANSWER, IntractableError, fault
from cai.exact.gaussian.normal_means import assumption_of
from cai.exact.reasons import PROMISES, headline, reasons_in
from cai.exact.rules import POSTERIOR, VARIATIONAL
from cai.exact.sweep import sweep
from cai.policies.gaussian_action import affine_in_words, laid_out
from cai.support.display import in_notebook
from cai.support.numbers import ROUNDING, brief
from cai.support.wording import listed
from cai.world.coordinates import Coordinates

SHOWN = 8
"""The most coordinates of an action that are listed."""
OFF = 1e-7
"""How far from the plane of exact evidence, relative to its size, a state contradicts it."""


@dataclass(frozen=True)
class CoordinateReason:
    """One coordinate of the action in one state.

    Attributes:
        action: its name.
        mean, deviation: of the policy.
        prior_mean, prior_deviation: of the prior; the deviation is inf where the prior is flat.
        law: the mean as a function of the state, in words.
        cost: what it costs to deviate by 1 from the mean in this coordinate alone, reward units; it grows with the
            square of the deviation.
    """

    action: str
    mean: float
    deviation: float
    prior_mean: float
    prior_deviation: float
    law: str
    cost: float


@dataclass(frozen=True)
class Luck:
    """What POSTERIOR assumes of the next state, given the mean action.

    Attributes:
        nats: KL(p(outcome|s, a) ‖ p(outcome|s, a, O)).
        bends: the coordinate of the next state whose mean it shifts most, in words; empty where it shifts none.
        without_luck: the action of VARIATIONAL, in words.
    """

    nats: float
    bends: str
    without_luck: str


@dataclass(frozen=True, repr=False)
class GaussianReasons:
    """Why a rule acts as it does in one state at one time; as ``str`` in words.

    Attributes:
        rule: its name.
        temperature: α, reward units.
        t: the time; None for an infinite horizon.
        state: the state in words.
        v: the value of the state, reward units.
        actions: the coordinates of the action.
        certain: whether the rule is deterministic.
        flat: whether the action prior is flat, Lebesgue measure, in some direction.
        luck: what POSTERIOR assumes; None for the other rules.
    """

    rule: str
    temperature: float
    t: int | None
    state: str
    v: float
    actions: tuple[CoordinateReason, ...]
    certain: bool
    flat: bool
    luck: Luck | None

    _repr_html_ = in_notebook

    @property
    def head(self) -> str:
        """Where this is, and under which rule."""
        return headline(self.rule, self.temperature, self.t, self.state)

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The coordinates of the action: policy, prior, and the cost of a deviation of 1, under a line of heads."""
        heads = ("action", "mean", "deviation", "prior mean", "prior deviation", "cost of 1 off, reward units")
        rows = []
        for one in self.actions[:SHOWN]:
            flat = one.prior_deviation == torch.inf
            prior = ("–", "flat") if flat else (brief(one.prior_mean, 4), brief(one.prior_deviation, 4))
            rows.append((one.action, brief(one.mean, 4), brief(one.deviation, 4), *prior, brief(one.cost, 4)))
        return [heads, *rows]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The mean as a function of the state, what it costs to deviate, what v means, and the luck assumed."""
        if self.v == -torch.inf:
            return ("v is -inf here: this state contradicts the exact evidence.",)
        promise = PROMISES.get(self.rule, "the certainty equivalent of the return from here")
        prior = "a flat action prior (Lebesgue)" if self.flat else "the Gaussian action prior"
        counted = "" if self.rule == "HARD" else f", nats relative to {prior}"
        return (
            *(f"The mean of {one.action} is {one.law}." for one in self.actions[:SHOWN]),
            *self._deviating(),
            f"v = {brief(self.v, 5)} reward units is {promise}{counted}.",
            *self._luck(),
        )

    def _deviating(self) -> tuple[str, ...]:
        first = max(self.actions, key=lambda one: one.cost)
        nats = "" if self.rule == "HARD" else f" ({brief(first.cost / self.temperature)} nats)"
        price = f"{brief(first.cost)} reward units{nats}"
        costs = f"A deviation of 1 in {first.action} costs {price}, one of 2 four times as much"
        if self.certain:
            return (f"{costs}; {self.rule} takes the mean itself.",)
        return (f"{costs}; the policy's standard deviation is {brief(first.deviation)}.",)

    def _luck(self) -> tuple[str, ...]:
        if self.luck is None:
            return ()
        if self.luck.nats <= ROUNDING:
            return ("It assumes no luck in this step.", self.luck.without_luck)
        bends = f": {self.luck.bends}" if self.luck.bends else ""
        return (f"If it takes the mean, it assumes {brief(self.luck.nats)} nats of luck in this step{bends}.",
                self.luck.without_luck)  # fmt: skip

    def __str__(self) -> str:
        more = len(self.actions) - SHOWN
        below = [f"  and {more:,} more coordinates"] if more > 0 else []
        return laid_out(f"{self.head}:", self.table, [*below, *self.sentences])

    __repr__ = __str__


@reasons_in.register
def _(states: Coordinates, messages: Any, t: int, given: Mapping[str, Any]) -> GaussianReasons:
    """Return why a rule acts as it does in one state; every coordinate must be given."""
    placed = states.placed(given, "explain")
    missing = [label for i, label in enumerate(states.labels) if i not in placed]
    if missing:
        raise fault("explain", f"no value of {listed(missing)}", f"one of each of {listed(states.labels)}")
    model, op = messages.model, messages.operator
    with torch.no_grad():
        s = model.start_mean.new_tensor([placed[i] for i in range(states.dimension)])
        v_next = op.at(messages.v, t + 1)
        act, q = op.log_policy(t, v_next), op.q(t, v_next)
        luck = _luck(messages, t, s, act.mean(s)) if messages.rule == POSTERIOR else None
        return GaussianReasons(
            rule=str(messages.rule),
            temperature=float(messages.temperature),
            t=None if model.horizon is None else t,
            state=", ".join(f"{label}={brief(placed[i], 6)}" for i, label in enumerate(states.labels)),
            v=_value(op.at(messages.v, t), s),
            actions=_coordinates(messages, t, s, act, q),
            certain=not act.scale.numel() or float(act.scale.abs().max()) == 0,
            flat=bool(model.at(t).flat.any()),
            luck=luck,
        )


def _value(v: Quadratic, s: Tensor) -> float:
    """Return v(s): -inf off the plane of exact evidence."""
    if v.rows is not None and v.sides is not None:
        miss = (v.rows @ s - v.sides).abs()
        if bool((miss > OFF * (v.rows.abs() @ s.abs() + v.sides.abs() + 1e-9)).any()):
            return -torch.inf
    return float(v(s))


def _coordinates(
    messages: Any, t: int, s: Tensor, act: ConditionalGaussian, q: Quadratic
) -> tuple[CoordinateReason, ...]:
    model, n = messages.model, len(s)
    prior, flat = model.at(t).prior, model.at(t).flat
    said = assumption_of(messages.rule.over_actions)
    score = q + messages.operator.log_prior(t) * messages.temperature if said.kind != "maximum" or said.paid else q
    curvature, means, priors = -score.M[n:, n:].diagonal(), act.mean(s), prior.mean(s)
    spread, own = act.covariance.diagonal().clamp(min=0).sqrt(), prior.covariance.diagonal().clamp(min=0).sqrt()
    endless = ((prior.scale != 0) & flat).any(-1)
    return tuple(
        CoordinateReason(
            name, float(means[i]), float(spread[i]), float(priors[i]),
            float("inf") if bool(endless[i]) else float(own[i]),
            affine_in_words(model.states.labels, act.gain[i], act.offset[i]), 0.5 * float(curvature[i]),
        )
        for i, name in enumerate(model.actions.labels)
    )  # fmt: skip


def _luck(messages: Any, t: int, s: Tensor, a: Tensor) -> Luck:
    op, names = messages.operator, messages.model.states.labels
    v_next, here = op.at(messages.v, t + 1), torch.cat((s, a))
    tilted = op.conditionals(t, v_next).log_outcome
    true = op.under(VARIATIONAL).conditionals(t, v_next).log_outcome
    spread, moved = true.covariance.diagonal().clamp(min=0).sqrt(), tilted.mean(here) - true.mean(here)
    apart = torch.where(spread > 0, moved.abs() / spread.clamp(min=1e-300), 0.0)
    most, bends = int(apart.argmax()), ""
    if float(apart[most]) > ROUNDING:
        bends = f"it expects the next {names[most]} at {brief(float(tilted.mean(here)[most]))}, but its true mean is "
        bends += f"{brief(float(true.mean(here)[most]))} ({brief(float(apart[most]), 2)} deviations away)"
    return Luck(float(op.luck(t, v_next)(here)), bends, _without_luck(messages, t, s))


def _without_luck(messages: Any, t: int, s: Tensor) -> str:
    """Say what VARIATIONAL would do in the same state."""
    op = messages.operator.under(VARIATIONAL)
    try:
        act = op.log_policy(t, op.at(sweep(op), t + 1))
    except (*NO_ANSWER, IntractableError):
        return "VARIATIONAL, which assumes no luck, has no answer: no policy makes certain what was observed."
    actions = messages.model.actions.labels[:SHOWN]
    does = [f"{name} = {brief(float(act.mean(s)[i]), 4)}" for i, name in enumerate(actions)]
    return f"VARIATIONAL, which assumes no luck, takes {listed(does)}."

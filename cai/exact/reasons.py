"""Why a rule acts as it does in one state, in words: the value of each action, and the value of the state.

π_t(a|s) = p(a|s) exp((q - v)/α): an action is more probable if its prior or its q is higher.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.rules import POSTERIOR
from cai.support.display import in_notebook
from cai.support.numbers import ROUNDING, brief, chance
from cai.support.wording import listed
from cai.world.spaces import Space

PROMISES = {
    "POSTERIOR": "α·log p(O = 1 | s), the value under POSTERIOR: it assumes luck where outcomes are random",
    "VARIATIONAL": "the expected return from here less α times the KL to the prior, under the true dynamics",
    "HARD": "the highest expected return from here",
    "MAP": "the score of the most probable trajectory from here",
    "PLANNING": "the highest α·log E exp(return/α) of any policy from here, less the cost of the prior",
}
"""What v is under each rule."""
SHOWN = 8
"""The most actions that are listed, the likeliest first."""


@dataclass(frozen=True)
class ActionReason:
    """One action in one state.

    Attributes:
        action: its name.
        prior: p(a|s).
        q: its value under the rule, reward units; -inf where it is forbidden.
        policy: π_t(a|s).
        luck: KL(p(outcome|s, a) ‖ p(outcome|s, a, O)), nats: the luck that POSTERIOR assumes; 0 under the other rules.
        bends: under POSTERIOR, the next state whose probability it raises most, in words; empty where there is none.
    """

    action: str
    prior: float
    q: float
    policy: float
    luck: float = 0.0
    bends: str = ""


def headline(rule: str, temperature: float, t: int | None, state: str) -> str:
    """Say where this is, and under which rule."""
    at = "" if t is None else f"At t = {t}, "
    return f"{at}{state}, under {rule} at α = {temperature:g}"


@dataclass(frozen=True, repr=False)
class Reasons:
    """Why a rule acts as it does in one state at one time; as ``str`` in words.

    Attributes:
        rule: its name.
        temperature: α, reward units.
        t: the time; None for an infinite horizon.
        state: the state in words.
        v: the value of the state, reward units.
        actions: the likeliest first.
    """

    rule: str
    temperature: float
    t: int | None
    state: str
    v: float
    actions: tuple[ActionReason, ...]

    _repr_html_ = in_notebook

    @property
    def head(self) -> str:
        """Where this is, and under which rule."""
        return headline(self.rule, self.temperature, self.t, self.state)

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The actions with their prior, q and π, as text, under a line of heads."""
        lucky = any(one.luck > ROUNDING for one in self.actions)
        heads = ("action", "prior", "q, reward units", "policy", *(("luck, nats",) if lucky else ()))
        rows = [
            (one.action, chance(one.prior), brief(one.q, 5), chance(one.policy), *((brief(one.luck),) if lucky else ()))
            for one in self.actions[:SHOWN]
        ]
        return [heads, *rows]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The best action and how far it is ahead, the meaning of v, and the luck that the rule assumes."""
        if self.v == -torch.inf:
            return ("v is -inf here: every continuation is forbidden. The policy is the prior.",)
        promise = PROMISES.get(self.rule, "the certainty equivalent of the return from here")
        return (self._choice(), f"v = {brief(self.v, 5)} reward units is {promise}.", *self._luck())

    def _choice(self) -> str:
        first, *others = self.actions
        ties = [first.action, *(one.action for one in others if abs(one.policy - first.policy) <= ROUNDING)]
        if len(ties) == len(self.actions) > 1:
            return "All actions are equally probable."
        does = f"{listed(ties)} {'are' if len(ties) > 1 else 'is'} most probable ({chance(first.policy)}"
        does += " each)" if len(ties) > 1 else ")"
        rival = next((one for one in others if one.action not in ties and one.prior > 0), None)
        if rival is None:
            return f"{does}: no other action is allowed."
        if rival.q == -torch.inf:
            return f"{does}: {rival.action} leads to a forbidden reward."
        return f"{does}: {self._by_how_much(first, rival, several=len(ties) > 1)}"

    def _by_how_much(self, first: ActionReason, rival: ActionReason, *, several: bool) -> str:
        ahead, (its, it) = first.q - rival.q, ("their", "each") if several else ("its", "it")
        worth = (
            f"{its} q is {brief(abs(ahead))} reward units {'above' if ahead >= 0 else 'below'} that of {rival.action}"
        )
        if self.rule == "HARD":
            return f"{worth}, and HARD takes the highest q."
        odds = first.policy / rival.policy if rival.policy > 0 else float("inf")
        ratio = f"{brief(odds)} times as likely" if odds < 1e6 else "taken almost always"
        even = abs(first.prior - rival.prior) <= ROUNDING
        price = f"{brief(abs(ahead))}/α = {brief(abs(ahead) / self.temperature)} nats"
        return f"{worth}, {price}, so {it} is {ratio}" + ("." if even else "; the priors differ too.")

    def _luck(self) -> tuple[str, ...]:
        if self.rule != "POSTERIOR":
            return ()
        first = self.actions[0]
        if first.luck <= ROUNDING:
            return (f"If it takes {first.action}, it assumes no luck in this step.",)
        bends = f": {first.bends}" if first.bends else ""
        return (f"If it takes {first.action}, it assumes {brief(first.luck)} nats of luck in this step{bends}.",)

    def __str__(self) -> str:
        wide = [max(len(line[i]) for line in self.table) for i in range(len(self.table[0]))]
        body = [
            "  " + "  ".join(cell.ljust(w) for cell, w in zip(line, wide, strict=True)).rstrip() for line in self.table
        ]
        more = len(self.actions) - SHOWN
        body += [f"  and {more:,} more actions"] if more > 0 else []
        return "\n".join([f"{self.head}:", *body, *self.sentences])

    __repr__ = __str__


def reasons_for(messages: Any, t: int, state: Mapping[str, Any]) -> Any:
    """Return why a rule acts as it does in one state, of a world in independent parts in the state of one of them.

    Raises:
        WorldError: there is no such time, a variable is missing or unknown, or it has no such value; or the messages
            are a batch.
    """
    if messages.batch_shape:
        raise fault(
            "explain", f"messages with a batch of shape {tuple(messages.batch_shape)}", "one entry: messages[i]"
        )
    mine = [part for part in messages.parts if set(part.model.states.names) & set(state)]
    if len(messages.parts) > 1 and len(mine) != 1:
        known = "; ".join(", ".join(part.model.states.names) for part in messages.parts)
        raise fault("explain", f"variables {sorted(state)}", f"those of one independent part: {known}")
    part = mine[0] if mine else messages.parts[0]
    return reasons_in(part.model.states, part, t, state)


@singledispatch
def reasons_in(states: Any, messages: Any, t: int, state: Mapping[str, Any]) -> Any:
    """Return why a rule acts as it does in one state of one part; another kind of states registers here."""
    raise fault(
        "explain", f"modes and real states together, {', '.join(states.names)}", "finite ones alone, or real ones alone"
    )


@reasons_in.register
def _(states: Space, messages: Any, t: int, state: Mapping[str, int | str]) -> Reasons:
    model = messages.model
    s = model.states.number(state, "explain")
    q, pi = messages.q(t)[s].detach(), messages.policy.probs(t)[s].detach()
    prior = messages.operator.log_prior(t)[s].exp().detach()
    v = (messages.v if model.horizon is None else messages.v[t])[s]
    luck = torch.zeros_like(q)
    if messages.rule == POSTERIOR:
        op = messages.operator
        luck = op.luck(t, op.at(messages.v, t + 1))[s].detach()
    first = int((pi / ROUNDING).round().argmax())
    bends = {first: _bends(messages, t, s, first)} if float(luck[first]) > ROUNDING else {}
    time = t if model.horizon is not None else None
    about = str(messages.rule), float(messages.temperature), time, model.states.label(s), float(v)
    return Reasons(*about, ranked(model.actions, prior, q, pi, luck, bends))


def ranked(
    actions: Space,
    prior: Float[Tensor, " A"],
    q: Float[Tensor, " A"],
    pi: Float[Tensor, " A"],
    luck: Float[Tensor, " A"],
    bends: Mapping[int, str],
) -> tuple[ActionReason, ...]:
    """Lay out the actions of one state, the likeliest first."""
    order = (pi / ROUNDING).round().argsort(descending=True, stable=True).tolist()
    numbers = {a: (float(prior[a]), float(q[a]), float(pi[a]), float(luck[a])) for a in order}
    return tuple(ActionReason(actions.label(a), *numbers[a], bends.get(a, "")) for a in order)


def _bends(messages: Any, t: int, s: int, a: int) -> str:
    """Name the next state whose probability POSTERIOR raises most; empty where outcomes are not listed."""
    if not isinstance(messages.model, Tables):
        return ""
    slice_ = messages.model.at(t)
    ahead: Tensor = slice_.successor[s, a]
    true, tilted = slice_.log_prob[s, a].exp(), messages.dynamics(t)[s, a].exp().detach()
    S = messages.model.states.size
    before, after = (p.new_zeros(S).index_add(0, ahead, p) for p in (true, tilted))
    most = int((after - before).argmax())
    if float(after[most] - before[most]) <= ROUNDING:
        return ""
    expected, true_chance = chance(float(after[most])), chance(float(before[most]))
    return (
        f"it expects {messages.model.states.label(most)} with probability {expected}, but the true one is {true_chance}"
    )

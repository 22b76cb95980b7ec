"""What figures read from any result: its value, its visits and its policy at a time, by state."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai.compile.model import FiniteModel, is_finite
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.exact.messages import Messages
from cai.support.numbers import show
from cai.world.spaces import Layout

Result = Messages | Evaluation
"""What is drawn: the messages of a rule, or a policy that was evaluated."""

INSTEAD = {
    "": "cai.view.tubes, phase_portrait, gains_over_time or cost_over_time",
    "value_map": "cai.view.phase_portrait: its level lines are the value",
    "policy_arrows": "cai.view.phase_portrait for where the policy goes, gains_over_time for the policy",
    "occupancy_map": "cai.view.tubes for one coordinate, phase_portrait for two",
    "nats_map": "cai.view.cost_over_time",
    "messages_over_time": "cai.view.phase_portrait(result, t=…): its level lines are v_t",
    "occupancy_over_time": "cai.view.tubes for one coordinate, phase_portrait for two",
}
"""What shows real states, by the figure that shows numbered ones."""


def model_of(result: Result, where: str) -> FiniteModel:
    """Return the compiled world of a result that is about numbered states.

    Raises:
        WorldError: it is no result, a batch, of a world in independent parts, or of real states.
    """
    if not isinstance(result, Messages | Evaluation):
        raise fault(where, f"a {type(result).__name__}", "what cai.solve or cai.evaluate returns")
    require_one(result, where)
    if len(result.parts) > 1:
        seen = f"a world in {len(result.parts)} independent parts"
        raise fault(where, seen, "one of them, result.parts[i], or cai.view.tubes for a variable")
    model = result.model
    if not is_finite(model):
        raise fault(where, "a world of real states", f"numbered ones; use {INSTEAD.get(where, INSTEAD[''])}")
    return model


def require_one(result: Result, where: str) -> None:
    """Refuse messages at several temperatures at once.

    Raises:
        WorldError: the result is such a batch.
    """
    if isinstance(result, Messages) and result.batch_shape:
        raise fault(where, f"messages with a batch of shape {tuple(result.batch_shape)}", "one entry: messages[i]")


def comparison_of(result: Any, where: str) -> Comparison:
    """Return a comparison as it is.

    Raises:
        WorldError: it is something else.
    """
    if not isinstance(result, Comparison):
        raise fault(where, f"a {type(result).__name__}", "what cai.compare returns")
    return result


def by_name(results: Mapping[str, Any] | Comparison, where: str) -> Mapping[str, Any]:
    """Return results by name: of a comparison its evaluations.

    Raises:
        WorldError: there is none, or it is a single result.
    """
    every = results.evaluations if isinstance(results, Comparison) else results
    if not isinstance(every, Mapping) or not every:
        seen = "none" if isinstance(every, Mapping) else f"a {type(every).__name__}"
        raise fault(f"{where}, results", seen, "a comparison, or at least one result by name: {'mine': result}")
    return every


def layout_of(result: Result, where: str) -> Layout:
    """Return where the states lie in space.

    Raises:
        WorldError: the world does not say it, or the result is not about numbered states.
    """
    layout = model_of(result, where).layout
    if layout is None:
        raise fault(where, "a world without a layout", "a world that says how its states lie in space (cai.Layout)")
    return layout


def values_at(result: Result, t: int) -> Float[Tensor, " S"]:
    """Return v_t, reward units: of messages the rule's, of an evaluation what the policy is worth, its KL paid."""
    v: Tensor = (result.v if result.model.horizon is None else result.v[t]).detach()
    return v


def visits_of(result: Result, t: int | None = None) -> Float[Tensor, " S"]:
    """Return p(s_t, alive), or the expected visits, all times at which anybody acts together."""
    T = result.model.horizon
    times = range(T) if t is None and T is not None else [t or 0]
    each = [result.states(at) if isinstance(result, Messages) else result.parts[0].states[at] for at in times]
    return torch.stack(each).sum(0).detach()


def probs_at(result: Result, t: int) -> Float[Tensor, "S A"]:
    """Return π_t(a|s)."""
    if isinstance(result, Messages):
        probs: Tensor = result.policy.probs(t).detach()
        return probs
    log_pi: Tensor = result.parts[0].log_policy(t)
    return log_pi.exp().detach()


def never_entered(model: FiniteModel) -> Bool[Tensor, " S"]:
    """Return which states never have an action: the episode has ended, or the prior never reaches them.

    No number is drawn there. Gymnasium numbers holes and goals, but an episode ends as it enters them.
    """
    ended = torch.zeros(model.states.size, dtype=torch.bool) if model.ended is None else model.ended
    if not isinstance(model, Tables) or model.batch_shape:
        return ended
    reached, before = model.log_initial > -torch.inf, -1
    live = (model.log_prob + model.log_prior.unsqueeze(-1)) > -torch.inf
    while int(reached.sum()) != before:
        before = int(reached.sum())
        reached = reached.clone()
        reached[model.successor[live & reached.reshape(-1, 1, 1)]] = True
    return ended | ~reached


def name_of(result: Result) -> str:
    """Name what is drawn: the rule, or that it is a policy."""
    return str(result.rule) if isinstance(result, Messages) else "the policy"


def when(result: Result, t: int | None) -> str:
    """Say at which time, for headings and sentences."""
    return "" if t is None or result.model.horizon is None else f"t = {t}"


def alpha_of(result: Result) -> str:
    """Write the temperature for people."""
    return show(float(result.temperature))

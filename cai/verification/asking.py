"""A policy is asked what it does at each place: numbers of all actions, a distribution, or one action many times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cai.errors import fault, quoted

ASKED, ALIKE = 1000, 64
"""How often a function that returns actions is asked, and how many alike are taken for one that always says so."""
EXPECTED = "probabilities, logits, an action or a torch Distribution"

Kind = Literal["any", "probabilities", "logits", "actions", "q values"]
"""What a policy's numbers are; "any": they show it themselves."""


@dataclass(frozen=True)
class Place:
    """Where a learner acts.

    Attributes:
        t: the time; 0 where the task knows none.
        s: the number of the state.
        obs: what the environment shows there.
    """

    t: int
    s: int
    obs: Any

    def __str__(self) -> str:
        return f"policy, observation {np.asarray(self.obs).tolist()!r}"


def asked(policy: Any, kind: Kind, places: Sequence[Place], A: int) -> tuple[Tensor, bool]:
    """Return the numbers of each place, ``[N, A]``, and whether they were counted from draws.

    Raises:
        WorldError: it cannot be called, it raises an error, or what it says is not of ``EXPECTED``.
    """
    if not callable(policy):
        raise fault("train", f"it returned a {type(policy).__name__}", f"a function from an observation to {EXPECTED}")
    if isinstance(policy, torch.nn.Module):
        policy.eval()
    rows, sampled = [], False
    for place in places:
        answer = _answer(policy, place)
        action = _action(answer, A, kind, place)
        if action is None:
            rows.append(_numbers(answer, A, place))
        else:
            row, differs = _counted(policy, place, A, action)
            rows.append(row)
            sampled = sampled or differs
    return torch.stack(rows), sampled


def _answer(policy: Callable[[Any], Any], place: Place) -> Any:
    """Return what a policy says of an observation."""
    try:
        with torch.no_grad():
            seen = torch.as_tensor(place.obs) if isinstance(policy, torch.nn.Module) else place.obs
            answer = policy(seen)
    except Exception as error:
        raise fault(f"{place}", quoted(error), EXPECTED) from error
    if isinstance(answer, tuple) and len(answer) == 2 and answer[1] is None:
        answer = answer[0]  # Stable-Baselines3's predict returns (action, state)
    if answer is None:
        raise fault(f"{place}", "None", EXPECTED)
    return answer


def _action(answer: Any, A: int, kind: Kind, place: Place) -> int | None:
    """Return the number of an action, None for what is none."""
    if kind not in ("any", "actions") or isinstance(answer, torch.distributions.Distribution):
        return None
    plain = answer.detach().cpu().numpy() if isinstance(answer, Tensor) else answer
    try:
        number = np.asarray(plain)
    except ValueError:
        return None
    if number.size != 1 or number.dtype.kind not in "iu" or (A == 1 and number.ndim):
        if kind == "actions":
            raise fault(f"{place}", _shown(answer), f"an action, a whole number from 0 to {A - 1}")
        return None
    if not 0 <= int(number.reshape(())) < A:
        raise fault(f"{place}", f"action {int(number.reshape(()))}", f"an action from 0 to {A - 1}")
    return int(number.reshape(()))


def _counted(policy: Callable[[Any], Any], place: Place, A: int, first: int) -> tuple[Tensor, bool]:
    """Return the probabilities of the actions that are drawn, ``[A]``, and whether they differed."""
    counts = torch.zeros(A, dtype=torch.float64)
    counts[first] += 1
    for n in range(1, ASKED):
        if n == ALIKE and counts[first] == n:
            return counts / n, False
        action = _action(_answer(policy, place), A, "actions", place)
        assert action is not None
        counts[action] += 1
    return (counts + 0.5) / (ASKED + A / 2), True


def _numbers(answer: Any, A: int, place: Place) -> Tensor:
    """Return A numbers, float64."""
    if isinstance(answer, torch.distributions.Distribution):
        answer = _log_probs(answer, A, place)
    try:
        plain = answer if isinstance(answer, Tensor) else np.asarray(answer, dtype=float)
        row = torch.as_tensor(plain).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise fault(f"{place}", _shown(answer), EXPECTED) from error
    if row.numel() != A or row.dim() > 2 or row.shape[-1] != A:
        raise fault(f"{place}", f"numbers of shape {list(row.shape)}", f"one for each of the {A} actions, [A] = [{A}]")
    return row.reshape(A)


def _log_probs(law: Any, A: int, place: Place) -> Tensor:
    """Return log-probabilities of the actions of a distribution."""
    if hasattr(law, "logits") and law.logits.shape[-1] == A:
        normalised: Tensor = law.logits.log_softmax(-1)
        return normalised
    try:
        each: Tensor = law.log_prob(torch.arange(A).reshape(-1, *[1] * len(law.batch_shape)))
    except Exception as error:
        raise fault(f"{place}", f"{law}", f"a distribution over the {A} actions") from error
    return each.reshape(-1)


def _shown(answer: Any) -> str:
    text = " ".join(repr(answer).split())
    return f"{text[:60]}…" if len(text) > 60 else text

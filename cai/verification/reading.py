"""What a user's ``train`` returned, read as log π of every observation of a probe.

Read without a word: a function from an observation to probabilities, logits, an action or a torch ``Distribution``; a
torch module; a policy or a result of this library; an array ``[S, A]`` or ``[T, S, A]``. Numbers that sum to 1 for
every observation are probabilities, others are logits. Who wants no guessing says it: ``probabilities(f)``,
``logits(f)``, ``actions(f)``, ``q_values(f)``.

A whole number is an action. A function that returns actions is asked up to ``ASKED`` times for each observation. Where
the first ``ALIKE`` are the same it is taken to be deterministic; else its probabilities are (n_a + 1/2)/(N + A/2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault, quoted
from cai.exact.rules import is_maximum
from cai.verification.episode_visits import as_run, occupancy
from cai.verification.task import Task

ASKED, ALIKE = 1000, 64
SUM = 1e-4
"""How far from 1 probabilities may sum, for single precision."""
EXPECTED = "probabilities, logits, an action or a torch Distribution"

Kind = Literal["any", "probabilities", "logits", "actions", "q values"]


@dataclass(frozen=True)
class Said:
    """A policy, and what its numbers are.

    Attributes:
        kind: what they are.
        policy: a function of an observation, or an array ``[S, A]`` or ``[T, S, A]``.
        q: q in place of a policy's numbers, where the policy is read from elsewhere; None where there is none.
    """

    kind: Kind
    policy: Any
    q: Any = None


@dataclass(frozen=True)
class Reading:
    """A policy that was read.

    Attributes:
        log_pi: log π_t(a|s), nats, ``[T, S, A]``.
        q: Q_t(s,a), reward units, of the same shape; None where there is none.
        sampled: whether it was read from actions that were drawn.
    """

    log_pi: Float[Tensor, "T S A"]
    q: Float[Tensor, "T S A"] | None = None
    sampled: bool = False


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


def places_of(task: Task) -> list[Place]:
    """Return the places that an episode of a probe's environment can come to; nobody is asked about others."""
    A = task.log_prior.shape[-1]
    anything = torch.full((task.horizon or 1, *task.log_prior.shape), 1 / A, dtype=torch.float64).log()
    return [
        Place(t, s, np.int64(s) if task.horizon is None else np.array([s, t], np.int64))
        for t, s in (occupancy(as_run(task), anything) > 0).nonzero().tolist()
    ]


def probabilities(policy: Any) -> Said:
    """Say that a function of an observation, or an array, gives probabilities ``[A]``."""
    return Said("probabilities", policy)


def logits(policy: Any) -> Said:
    """Say that a function of an observation, or an array, gives logits ``[A]``."""
    return Said("logits", policy)


def actions(policy: Any) -> Said:
    """Say that a function of an observation gives an action, drawn anew at every call; see the module's words."""
    return Said("actions", policy)


def q_values(q: Any, policy: Any = None) -> Said:
    """Say that a function of an observation, or an array, gives action values ``[A]``, reward units.

    Args:
        q: the function or array.
        policy: the policy, where it is known apart from q. None: ``p(a|s) exp(q/α)`` for a soft learner with the
            probe's own prior and temperature, greedy over the allowed actions for a hard one, ties shared.
    """
    return Said("q values", q) if policy is None else Said("any", policy, q)


def read(policy: Any, task: Task, places: Sequence[Place]) -> Reading:
    """Return log π of the places where a learner acts; elsewhere it is the prior.

    Args:
        policy: what ``train`` returned; see the module's words.
        task: the probe as tensors.
        places: the places.

    Raises:
        WorldError: it is no policy, or not one of this probe's observations and actions.
    """
    said = policy if isinstance(policy, Said) else _own(policy)
    if said.q is not None:
        values = read(Said("q values", said.q), task, places).q
        return replace(read(said.policy, task, places), q=values)
    if said.policy is None:
        raise fault("train", "it returned None", f"a policy: from an observation to {EXPECTED}")
    rows, sampled = _listed(said.policy, task, places), False
    if rows is None:
        rows, sampled = _asked(said, task, places)
    log_prior = task.log_prior.expand(task.horizon or 1, -1, -1)
    if said.kind == "q values":
        q = _placed(rows, places, torch.zeros_like(log_prior))
        return Reading(_of_q(q, task), q)
    return Reading(_placed(_log_pi(said.kind, rows, places), places, log_prior), None, sampled)


def _placed(rows: Tensor, places: Sequence[Place], elsewhere: Tensor) -> Tensor:
    """Return rows ``[N, A]`` at their places, ``[T, S, A]``."""
    table = elsewhere.clone()
    table[[place.t for place in places], [place.s for place in places]] = rows
    return table


def _own(policy: Any) -> Said:
    """Return the ``.policy`` of what does not act itself, and whether it has tables as this library's policies do."""
    while hasattr(policy, "policy") and not callable(policy) and not hasattr(policy, "log_probs"):
        policy = policy.policy
    return Said("logits" if hasattr(policy, "log_probs") else "any", policy)


def _listed(policy: Any, task: Task, places: Sequence[Place]) -> Tensor | None:
    """Return the rows ``[N, A]`` of what is an array, None for what is to be asked."""
    T, (S, A) = task.horizon or 1, task.log_prior.shape
    if hasattr(policy, "log_probs"):
        return _at(_table_of(policy, task), places)
    if isinstance(policy, list | tuple | np.ndarray | Tensor):
        try:
            table = torch.as_tensor(policy if isinstance(policy, Tensor) else np.asarray(policy)).detach().cpu()
        except (TypeError, ValueError) as error:
            raise fault("policy", f"a {type(policy).__name__} that is no array", f"numbers [{S}, {A}]") from error
    else:
        return None
    if tuple(table.shape) not in {(S, A), (T, S, A)}:
        shapes = f"[S, A] = [{S}, {A}]" + (f" or [T, S, A] = [{T}, {S}, {A}]" if T > 1 else "")
        raise fault("policy", f"an array of shape {list(table.shape)}", shapes)
    return _at(table.double().expand(T, S, A), places)


def _at(table: Tensor, places: Sequence[Place]) -> Tensor:
    return table[[place.t for place in places], [place.s for place in places]]


def _table_of(policy: Any, task: Task) -> Tensor:
    """Return log π of a policy of this library, ``[T, S, A]``.

    Where it knows a time that the task does not, it is the chance of an action over all visits of a state.
    """
    T, (S, A) = task.horizon or getattr(policy, "horizon", None) or 1, task.log_prior.shape
    times = [torch.as_tensor(policy.log_probs(t)).detach().cpu().double()[..., :S, :] for t in range(T)]
    wrong = [list(one.shape) for one in times if tuple(one.shape) != (S, A)]
    if wrong:
        raise fault("policy", f"log-probabilities of shape {wrong[0]}", f"[S, A] = [{S}, {A}]")
    table = torch.stack(times)
    if (task.horizon or 1) == T:
        return table
    visits = occupancy(replace(as_run(task), horizon=T), table).unsqueeze(-1)
    mixed = (visits * table.exp()).sum(0, keepdim=True) / visits.sum(0, keepdim=True)
    return torch.where(visits.sum(0, keepdim=True) > 0, mixed.log(), table[:1])


def _asked(said: Said, task: Task, places: Sequence[Place]) -> tuple[Tensor, bool]:
    """Return the numbers of each place, ``[N, A]``, and whether they were counted from draws."""
    policy, A = said.policy, task.log_prior.shape[-1]
    if not callable(policy):
        raise fault("train", f"it returned a {type(policy).__name__}", f"a function from an observation to {EXPECTED}")
    if isinstance(policy, torch.nn.Module):
        policy.eval()
    rows, sampled = [], False
    for place in places:
        answer = _answer(policy, place)
        action = _action(answer, A, said.kind, place)
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


def _log_pi(kind: Kind, rows: Tensor, places: Sequence[Place]) -> Tensor:
    """Return log π of numbers ``[N, A]``, checked."""
    if kind == "any":
        kind = "probabilities" if bool(((rows.sum(-1) - 1).abs() <= SUM).all()) else "logits"
    if kind in ("probabilities", "actions"):
        wrong = ~((rows >= 0).all(-1) & ((rows.sum(-1) - 1).abs() <= SUM))
        _require(~wrong, rows, places, "probabilities, at least 0, that sum to 1")
        return (rows / rows.sum(-1, keepdim=True)).log()
    good = ~rows.isnan().any(-1) & (rows < torch.inf).all(-1) & (rows > -torch.inf).any(-1)
    _require(good, rows, places, "finite logits, or -inf for an action that is never taken")
    return rows.log_softmax(-1)


def _of_q(q: Tensor, task: Task) -> Tensor:
    """Return log π of action values: greedy for a hard learner, Boltzmann with the prior for a soft one."""
    if bool((q.isnan() | q.isposinf()).any()):
        raise fault("q values", "NaN or +inf", "finite numbers, or -inf")
    alpha = torch.tensor(task.temperature, dtype=torch.float64)
    means = task.rule.over_actions
    log_prior = task.log_prior.expand_as(q)
    if is_maximum(means):
        best = torch.where(log_prior > -torch.inf, q, -torch.inf)
        ties = best == best.amax(-1, keepdim=True)
        return (ties.double() / ties.sum(-1, keepdim=True)).log()
    return means.log_weights(q, log_prior, alpha, means.value(q, log_prior, alpha))


def _require(good: Tensor, rows: Tensor, places: Sequence[Place], expected: str) -> None:
    if not bool(good.all()):
        n = int((~good).nonzero()[0])
        raise fault(f"{places[n]}", f"{[float(f'{x:.4g}') for x in rows[n].tolist()]}", expected)

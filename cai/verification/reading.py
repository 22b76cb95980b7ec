"""What a user's ``train`` returned, read as log π of every observation of a probe.

Read without a word: a function from an observation to probabilities, logits, an action or a torch ``Distribution``; a
torch module; a policy or a result of this library; an array ``[S, A]`` or ``[T, S, A]``, or ``[S]`` of whole numbers,
an action a state. Numbers that sum to 1 for every observation are probabilities, others are logits. Who wants no
guessing says it: ``probabilities(f)``, ``logits(f)``, ``actions(f)``, ``q_values(f)``.

A whole number is an action. A function that returns actions is asked up to ``ASKED`` times for each observation. Where
the first ``ALIKE`` are the same it is taken to be deterministic; else its probabilities are (n_a + 1/2)/(N + A/2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from cai.errors import fault
from cai.exact.rule_means import is_maximum
from cai.verification.asking import EXPECTED, Kind, Place, asked
from cai.verification.episode_visits import as_run, occupancy
from cai.verification.task import Task

SUM = 1e-4
"""How far from 1 probabilities may sum, for single precision."""


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
        guessed: whether its numbers were taken for logits, and may be others: they are no log-probabilities.
    """

    log_pi: Float[Tensor, "T S A"]
    q: Float[Tensor, "T S A"] | None = None
    sampled: bool = False
    guessed: bool = False


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
    rows, sampled = _listed(said, task, places), False
    if rows is None:
        rows, sampled = asked(said.policy, said.kind, places, task.log_prior.shape[-1])
    log_prior = task.log_prior.expand(task.horizon or 1, -1, -1)
    if said.kind == "q values":
        q = _placed(rows, places, torch.zeros_like(log_prior))
        return Reading(_of_q(q, task), q)
    kind = _guessed(rows) if said.kind == "any" else said.kind
    log_pi = _placed(_log_pi(kind, rows, places), places, log_prior)
    guessed = said.kind == "any" and kind == "logits" and bool((rows.logsumexp(-1).abs() > SUM).any())
    return Reading(log_pi, None, sampled, guessed)


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


def _listed(said: Said, task: Task, places: Sequence[Place]) -> Tensor | None:
    """Return the rows ``[N, A]`` of what is an array, None for what is to be asked."""
    policy, T, (S, A) = said.policy, task.horizon or 1, task.log_prior.shape
    if hasattr(policy, "log_probs"):
        return _at(_table_of(policy, task), places)
    if isinstance(policy, list | tuple | np.ndarray | Tensor):
        try:
            table = torch.as_tensor(policy if isinstance(policy, Tensor) else np.asarray(policy)).detach().cpu()
        except (TypeError, ValueError) as error:
            raise fault("policy", f"a {type(policy).__name__} that is no array", f"numbers [{S}, {A}]") from error
    else:
        return None
    if tuple(table.shape) == (S,) and not table.is_floating_point() and said.kind in ("any", "actions"):
        return _chosen(table, A, places)
    if tuple(table.shape) not in {(S, A), (T, S, A)}:
        shapes = f"[S, A] = [{S}, {A}]" + (f", [T, S, A] = [{T}, {S}, {A}]" if T > 1 else "")
        seen = f"an array of shape {list(table.shape)}, {str(table.dtype).removeprefix('torch.')}"
        raise fault("policy", seen, f"{shapes}, or [S] = [{S}] of whole numbers, an action a state")
    return _at(table.double().expand(T, S, A), places)


def _chosen(table: Tensor, A: int, places: Sequence[Place]) -> Tensor:
    """Return the rows ``[N, A]`` of an action a state, ``[S]``."""
    for place in places:
        if not 0 <= int(table[place.s]) < A:
            raise fault(f"{place}", f"action {int(table[place.s])}", f"an action from 0 to {A - 1}")
    return one_hot(table[[place.s for place in places]].long(), A).double()


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


def _guessed(rows: Tensor) -> Kind:
    """Return what numbers ``[N, A]`` are."""
    return "probabilities" if bool(((rows.sum(-1) - 1).abs() <= SUM).all()) else "logits"


def _log_pi(kind: Kind, rows: Tensor, places: Sequence[Place]) -> Tensor:
    """Return log π of numbers ``[N, A]``, checked."""
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

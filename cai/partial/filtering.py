"""Beliefs: the distribution of a hidden state given observations and actions, p(s_t | o_{<=t}, a_{<t}).

    predict:  p(s_{t+1} | o_{<=t}, a_{<=t}) = Σ_s b(s) p(s_{t+1}|s, a_t)
    see:      b(s) ∝ p(o_t|s) p(s_t = s | o_{<t}, a_{<t})

Survival (the discount) does not depend on the state, so the belief given survival is the same with and without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.compile.model import FiniteModel
from cai.compile.observations import ObservationFactors, Observations, tabulate_observations
from cai.compile.quadratic import Gaussian
from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import ImpossibleError, IntractableError, fault
from cai.exact.forms import Compiled, compiled
from cai.partial.factored_beliefs import factored_beliefs
from cai.partial.gaussian_beliefs import is_continuous, kalman_filter
from cai.support.numerics import log, logsumexp
from cai.world.definition import World
from cai.world.spaces import Space

Record = Mapping[str, Any] | Sequence[Any] | Tensor
"""A record of observations or actions over time: numbers; named values, each a sequence; or a sequence of dicts."""


@runtime_checkable
class BeliefEngine(Protocol):
    """What a filter needs, whatever form a belief has: ``TableBeliefs`` here, ``FactoredBeliefs`` for large worlds."""

    @property
    def model(self) -> FiniteModel:
        """The compiled world."""

    @property
    def seen(self) -> Observations | ObservationFactors:
        """What can be seen, and how likely it is in each state."""

    def start(self) -> Tensor:
        """Return the belief before anything is seen, p(s_0), ``[S]``."""

    def predict(self, belief: Tensor, action: int, t: int) -> Tensor:
        """Return the belief of s_{t+1} after action a_t, before o_{t+1}, ``[S]``."""

    def log_likelihood(self, observation: int) -> Tensor:
        """Return log p(o|s), nats, ``[S]``."""


@dataclass(frozen=True)
class TableBeliefs:
    """Beliefs as rows of probabilities over a world's tables; any number of them at once.

    Attributes:
        model: the compiled world.
        seen: log p(o|s), and what the observations are.
    """

    model: Tables
    seen: Observations

    def start(self) -> Float[Tensor, " S"]:
        """Return p(s_0)."""
        return self.model.log_initial.exp()

    def predict(self, belief: Float[Tensor, "*N S"], action: int, t: int) -> Float[Tensor, "*N S"]:
        """Push beliefs through the outcomes of one action: ``Σ_s b(s) p(outcome|s,a)``, added up at the successors."""
        slice_ = self.model.at(t)
        amounts = belief.unsqueeze(-1) * slice_.log_prob[:, action].exp()
        total = torch.zeros_like(belief)
        return total.index_add(-1, slice_.successor[:, action].reshape(-1), amounts.flatten(-2))

    def log_likelihood(self, observation: int) -> Float[Tensor, " S"]:
        """Return log p(o|s), nats."""
        return self.seen.log_prob[:, observation]


def see(
    engine: BeliefEngine, belief: Float[Tensor, " S"], observation: int
) -> tuple[Float[Tensor, " S"], Float[Tensor, ""]]:
    """Return ``b(s) p(o|s) / p(o)`` and log p(o), nats; in log space, so that no likelihood underflows."""
    joint = log(belief) + engine.log_likelihood(observation)
    log_p = logsumexp(joint, -1)
    return (joint - torch.where(log_p == -torch.inf, 0.0, log_p)).exp(), log_p


def table_beliefs(world: World) -> TableBeliefs:
    """Compile a world and what is seen of it.

    Raises:
        WorldError, IntractableError: as ``tabulate`` and ``tabulate_observations`` do.
    """
    return TableBeliefs(tabulate(world).detach(), tabulate_observations(world))


def belief_engine(world: World | Tables | Factors) -> BeliefEngine:
    """Compile a world and what is seen of it to whichever form ``cai.solve`` takes it in: tables, or factors.

    Factors are taken too where the table of all states and observations would be too large.

    Raises:
        WorldError: the world or its ``observe`` is not valid, or it comes compiled, without its ``observe``.
        IntractableError: it can be neither tabulated nor factorised.
    """
    if isinstance(world, Tables | Factors):
        form = type(world).__name__
        raise fault("world", f"cai.{form}, which do not contain observe", "the world itself")
    model = compiled(world)
    if isinstance(model, Factors):
        return factored_beliefs(world, model)
    try:
        return TableBeliefs(model.detach(), tabulate_observations(world))
    except IntractableError:
        if len(model.states.names) == 1:
            raise
        return factored_beliefs(world)


def filter_beliefs(world: World | Compiled, observations: Record, actions: Record) -> Float[Tensor, "T S"] | Gaussian:
    """Return the exact beliefs p(s_t | o_{<=t}, a_{<t}) along one record of observations and actions, ``[n, S]``.

    ``b_t(s) ∝ p(o_t|s) Σ_s' b_{t-1}(s') p(s|s', a_{t-1})`` (Kaelbling, Littman & Cassandra 1998). With as many actions
    as observations there is one more row: the prediction of the next state before its observation. On a linear-Gaussian
    world beliefs are Gaussians, with time after the batch: see ``kalman_filter``, which says more of them.

    Args:
        world: a world with ``observe``; its tables or factors do not contain ``observe``.
        observations: o_0 … o_{n-1}: numbers, or the named values of each variable.
        actions: a_0 … a_{n-2}, or one more; numbers or named values.

    Returns:
        ``[n, S]``, or ``[n+1, S]`` with the prediction; a Gaussian of as many rows on a linear-Gaussian world.

    Raises:
        WorldError: the world or the record is not valid.
        IntractableError: the world can be neither tabulated nor factorised, or a belief would be too large.
        ImpossibleError: an observation has probability zero; the message names the time.
    """
    if is_continuous(world):
        return kalman_filter(world, observations, actions).beliefs
    with torch.no_grad():
        engine = belief_engine(world)
        seen = numbers(engine.seen.space, observations, "observations")
        done = numbers(engine.model.actions, actions, "actions")
        T = engine.model.horizon
        if T is not None and len(seen) > T:
            raise fault("observations", f"{len(seen)} of them", f"at most T = {T}: o_0 … o_{T - 1}")
        return torch.stack(filter_with(engine, seen, done))


def filter_with(engine: BeliefEngine, observations: Sequence[int], actions: Sequence[int]) -> list[Any]:
    """Filter along one record with any engine; see ``filter_beliefs``.

    Raises:
        WorldError: the record has no observation, or its lengths do not fit.
        ImpossibleError: an observation has probability zero.
    """
    n = len(observations)
    if n < 1 or len(actions) not in {n - 1, n}:
        seen = f"{n} observations and {len(actions)} actions"
        raise fault("filter_beliefs", seen, "at least one observation, and as many actions or one fewer")
    belief, beliefs = engine.start(), []
    for t, observation in enumerate(observations):
        belief = engine.predict(belief, actions[t - 1], t - 1) if t else belief
        belief, log_p = see(engine, belief, observation)
        if log_p == -torch.inf:
            raise unseen(engine.seen.space.label(observation), t)
        beliefs.append(belief)
    if len(actions) == n:
        beliefs.append(engine.predict(belief, actions[-1], n - 1))
    return beliefs


def unseen(label: str, t: int) -> ImpossibleError:
    """Return the error for an observation that cannot be seen at time t."""
    return ImpossibleError(f"observe, t = {t}: {label} has probability zero after the earlier observations and actions")


def numbers(space: Space, record: Record, where: str) -> list[int]:
    """Read a record as numbers of a space.

    Raises:
        WorldError: a variable is missing, or a value lies outside the space.
    """
    values = _columns(space, record, where)
    if values is None:
        whole = _whole(record, where)
        wrong = [int(n) for n in whole if not 0 <= n < space.size]
        if wrong:
            raise fault(where, f"number {wrong[0]}", f"numbers 0 … {space.size - 1}")
        return [int(n) for n in whole]
    columns = {name: _whole(values[name], f"{where}, variable '{name}'") for name in space.names}
    if len({len(column) for column in columns.values()}) != 1:
        seen = f"lengths { {name: len(column) for name, column in columns.items()} }"
        raise fault(where, seen, "as many values of each variable")
    for name, size in zip(space.names, space.sizes, strict=True):
        if bool(((columns[name] < 0) | (columns[name] >= size)).any()):
            raise fault(f"{where}, variable '{name}'", f"{columns[name].tolist()}", f"values 0 … {size - 1}")
    return [int(n) for n in space.join(columns)]


def _columns(space: Space, record: Record, where: str) -> Mapping[str, Any] | None:
    """Return the record's named values, each over time; None where it holds numbers."""
    if isinstance(record, Sequence) and len(record) > 0 and all(isinstance(moment, Mapping) for moment in record):
        missing = [name for name in space.names if not all(name in moment for moment in record)]
        record = {name: [moment.get(name) for moment in record] for name in space.names}
    elif isinstance(record, Mapping):
        missing = [name for name in space.names if name not in record]
    else:
        return None
    if missing:
        raise fault(where, f"no values of {missing}", f"values of each of {list(space.names)}")
    return record


def _whole(values: Any, where: str) -> Tensor:
    try:
        whole = torch.as_tensor(values).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise fault(where, f"{values!r}", "whole numbers, one for each time") from None
    if whole.is_complex() or (whole.is_floating_point() and bool((whole != whole.round()).any())):
        raise fault(where, f"{whole.tolist()}", "whole numbers, one for each time")
    return whole.long()

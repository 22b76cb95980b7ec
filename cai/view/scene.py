"""A comparison made ready to be drawn: what each policy is itself worth, and which states are shown."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation

PROMISE = "promised by the posterior"


@dataclass(frozen=True)
class Scene:
    """What the figures of one comparison read. For the infinite horizon read ``[T, R]`` as ``[R]``.

    Attributes:
        comparison: the numbers.
        tables: the compiled world.
        states: the R states that are shown, ascending.
        visits: expected visits of each state, by policy, ``[S]``.
        v: the value of each policy, and first what POSTERIOR promises (unless the evidence is zero), on the states
            shown, reward units, ``[T+1, R]``.
        v_0: the same at time 0 on all states, ``[S]``.
    """

    comparison: Comparison
    tables: Tables
    states: Int[Tensor, " R"]
    visits: Mapping[str, Float[Tensor, " S"]]
    v: Mapping[str, Float[Tensor, "..."]]
    v_0: Mapping[str, Float[Tensor, " S"]]

    @property
    def shown(self) -> str:
        """Say which states are shown, in words: empty where all are."""
        S, R = self.tables.states.size, len(self.states)
        if R == S:
            return ""
        everywhere = int((torch.stack(list(self.visits.values())).sum(0) > 0).sum())
        return f"the {R} states ever visited, of {S:,}" if everywhere == R else f"the {R} most visited of {S:,} states"


@torch.no_grad()
def scene(comparison: Comparison, limit: int = 40) -> Scene:
    """Compute what the figures of one comparison need; at most ``limit`` states are shown, those visited most.

    Raises:
        WorldError: ``limit`` is below 1, or the world has no tables.
    """
    tables = comparison.tables
    if tables is None:
        raise fault("scene, comparison", "a world whose variables are kept apart", "one that was tabulated")
    if limit < 1:
        raise fault("scene, limit", f"{limit}", "a number of states, at least 1")
    visits = {name: _visits(evaluation) for name, evaluation in comparison.evaluations.items()}
    states = _most_visited(visits, tables.states.size, limit)
    v, v_0 = {}, {}
    if comparison.log_evidence is not None:
        promised = next(iter(comparison.evaluations.values())).posterior.v
        v[PROMISE] = promised[..., states]
        v_0[PROMISE] = promised if tables.horizon is None else promised[0]
    for name, evaluation in comparison.evaluations.items():
        v[name] = evaluation.v[..., states]
        v_0[name] = evaluation.v if tables.horizon is None else evaluation.v[0]
    return Scene(comparison, tables, states, visits, v, v_0)


def _visits(evaluation: Evaluation) -> Tensor:
    by_action = evaluation.occupancy if evaluation.model.horizon is None else evaluation.occupancy.sum(0)
    return by_action.sum(-1)


def _most_visited(visits: Mapping[str, Tensor], S: int, limit: int) -> Tensor:
    if limit >= S:
        return torch.arange(S)
    weight = torch.stack(list(visits.values())).sum(0)
    first = weight.argsort(descending=True, stable=True)[:limit]
    return first[weight[first] > 0].sort().values

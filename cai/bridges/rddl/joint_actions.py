"""RDDL's action fluents as one variable: the joint actions that an instance allows, numbered."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from jaxtyping import Bool, Integer
from pyro.distributions import Categorical
from torch import Tensor

from cai.bridges.rddl.expressions import Evaluation, Fluent, truth
from cai.bridges.rddl.terms import Term
from cai.errors import Finding, IntractableError, fault

MOST = 100_000
"""Joint actions that are listed at all."""
LARGEST = 1 << 29
"""Numbers in the table of what each sets each fluent to."""


@runtime_checkable
class Actions(Protocol):
    """How the action fluents are chosen.

    Attributes:
        labels: what the values of an action variable are called, by its name.
        charged: the conditions that the prior does not keep: a step that breaks one has a reward of -inf.
    """

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]: ...  # noqa: D102

    @property
    def charged(self) -> tuple[Term, ...]: ...  # noqa: D102

    def sample(self, rules: Mapping[str, Any], fluents: Mapping[str, Fluent], state: Mapping[str, Tensor]) -> Any:
        """Sample the action variables in a state, given by grounded names."""
        ...

    def fluents(self, action: Any) -> dict[str, Tensor]:
        """Return what an action sets every fluent to, by its grounded name."""
        ...


@dataclass(frozen=True)
class JointActions:
    """One variable, "action", whose values are the joint actions, number 0 all default.

    Attributes:
        names: a label for each, ``"reboot(c1)"`` or ``"noop"``.
        columns: what each sets every action fluent to, by its grounded name.
        conditions: of the action and the state; what they forbid has prior 0.
        needed: the fluents that the rules and the reward read.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Integer[Tensor, " A"]]
    conditions: tuple[Term, ...] = ()
    needed: frozenset[str] = frozenset()
    charged: tuple[Term, ...] = ()

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The names of the joint actions."""
        return {"action": self.names}

    def sample(self, rules: Mapping[str, Any], fluents: Mapping[str, Fluent], state: Mapping[str, Tensor]) -> Tensor:
        """Sample uniformly from the joint actions whose preconditions hold; where none's do, take number 0."""
        logits = torch.zeros(len(self.names))
        if self.conditions:
            known = {name: value.unsqueeze(-1) for name, value in state.items()}
            fine = allowed(self, self.conditions, rules, fluents, known)
            first = torch.arange(len(self.names)) == 0
            fine = fine | (first & ~fine.any(-1, keepdim=True))
            logits = torch.where(fine, 0.0, -torch.inf)
        value: Tensor = pyro.sample("action", Categorical(logits=logits))
        return value

    def fluents(self, action: Tensor) -> dict[str, Tensor]:
        """Return what an action sets the fluents that are read to."""
        return {name: column[action] for name, column in self.columns.items() if name in self.needed}


def joint_actions(fluents: Mapping[str, Fluent], defaults: Mapping[str, int], most: int) -> JointActions:
    """List the joint actions with at most ``most`` fluents off their default, the fewest first.

    Raises:
        IntractableError: there are too many.
    """
    names = list(fluents)
    others = {
        name: [value for value in range(_size(fluent)) if value != defaults[name]] for name, fluent in fluents.items()
    }
    most = min(most, len(names))
    count = refuse_many([len(values) for values in others.values()], most)
    labels: list[str] = []
    changes: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for size in range(most + 1):
        for chosen in itertools.combinations(names, size):
            for values in itertools.product(*(others[name] for name in chosen)):
                for name, value in zip(chosen, values, strict=True):
                    changes[name].append((len(labels), value))
                labels.append(" + ".join(map(_label, (fluents[name] for name in chosen), values)) or "noop")
    columns = {}
    for name, fluent in fluents.items():
        narrow = torch.uint8 if _size(fluent) <= 256 else torch.long  # thousands of fluents make thousands of columns
        columns[name] = torch.full((count,), defaults[name], dtype=narrow)
        if changes[name]:
            rows, set_to = torch.tensor(changes[name]).unbind(1)
            columns[name][rows] = set_to.to(narrow)
    return JointActions(tuple(labels), columns)


def fits(choices: Sequence[float], most: int) -> bool:
    """Return whether the joint actions are few enough to be listed; see ``refuse_many``."""
    count = _count(choices, min(most, len(choices)))
    return count <= MOST and count * len(choices) <= LARGEST


def refuse_many(choices: Sequence[int], most: int) -> int:
    """Return how many joint actions there are.

    Args:
        choices: how many values off its default each fluent has.
        most: how many fluents may be off their default.

    Raises:
        IntractableError: there are too many.
    """
    most = min(most, len(choices))
    count = int(_count(choices, most))
    if not fits(choices, most):
        seen = f"{count:,} joint actions of {len(choices):,} fluents, at most {most:,} of them off their default"
        raise IntractableError([Finding("from_rddl, actions", seen, f"at most {MOST:,}, and {LARGEST:,} numbers")])
    return count


def keep_allowed(
    actions: JointActions, conditions: Sequence[Term], rules: Mapping[str, Any], fluents: Mapping[str, Fluent]
) -> JointActions:
    """Drop the joint actions that conditions on actions alone forbid.

    Raises:
        WorldError: none is left.
    """
    fine = allowed(actions, conditions, rules, fluents, {})
    if not bool(fine.any()):
        raise fault("from_rddl, actions", f"none of {len(fine)} is allowed", "preconditions that some action satisfies")
    names = tuple(name for name, is_allowed in zip(actions.names, fine.tolist(), strict=True) if is_allowed)
    return JointActions(names, {name: column[fine] for name, column in actions.columns.items()})


def allowed(
    actions: JointActions,
    conditions: Sequence[Term],
    rules: Mapping[str, Any],
    fluents: Mapping[str, Fluent],
    state: Mapping[str, Tensor],
) -> Bool[Tensor, "*S A"]:
    """Return which joint actions satisfy the conditions, at states ``[*S, 1]`` by their grounded names."""
    run = Evaluation(rules, fluents, {**state, **actions.columns})
    fine = torch.ones(len(actions.names), dtype=torch.bool)
    for condition in conditions:
        fine = fine & truth(run.value(condition))
    return fine


def _count(choices: Sequence[float], most: int) -> float:
    ways: list[float] = [1, *[0] * most]
    for n in choices:
        for size in range(most, 0, -1):
            ways[size] += ways[size - 1] * n
    return sum(ways)


def _size(fluent: Fluent) -> int:
    if fluent.size is None:
        seen = f"the action fluent '{fluent.label}' of unbounded or real numbers"
        raise IntractableError([Finding("from_rddl, actions", seen, "actions of finitely many values")])
    return fluent.size


def _label(fluent: Fluent, value: int) -> str:
    if fluent.boolean:
        return fluent.label if value else f"not {fluent.label}"
    return f"{fluent.label}={value + fluent.low}"

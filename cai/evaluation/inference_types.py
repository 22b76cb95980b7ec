"""inference_types: what each type of inference says of one world, what it would do, and what it would get."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import CaiError, fault
from cai.evaluation.comparison import Comparison, compare
from cai.exact.marginal_map import marginal_map, open_loop
from cai.exact.rules import MAP, PLANNING, POSTERIOR, VARIATIONAL, Rule
from cai.exact.solve import as_temperature, solve
from cai.policies.protocol import FinitePolicy
from cai.support.numerics import nats
from cai.world.definition import World

_SHOWN = 48  # the letters of an action sequence that a table's line shows


@dataclass(frozen=True)
class Rung:
    """One type of inference on the world.

    Attributes:
        name: what it is called.
        formula: what it computes.
        objective: the number that it computes, nats.
        actions: the labels of its action sequence a_0 …, for a type that never looks at the state; else None. The most
            probable trajectory may end before T where the discount is below 1, and its sequence with it.
        policy: what it would do.
    """

    name: str
    formula: str
    objective: float
    actions: tuple[str, ...] | None
    policy: FinitePolicy


@dataclass(frozen=True, repr=False)
class InferenceTypes:
    """The types of inference side by side on one world.

    Attributes:
        tables: the compiled world.
        temperature: α, reward units.
        rungs: name, objective (nats), action sequence if it is open-loop, and policy, from the lowest to log Z.
        comparison: the policies of the rungs by the same exact accounts: what each would get.
        left_out: why a type is not among the rungs, by name.
    """

    tables: Tables
    temperature: float
    rungs: tuple[Rung, ...]
    comparison: Comparison
    left_out: Mapping[str, str]

    def __repr__(self) -> str:
        return f"InferenceTypes at temperature {self.temperature:g} on {self.tables}\n{self.table()}"

    def rung(self, name: str) -> Rung:
        """Return one type by its name.

        Raises:
            WorldError: there is no such type, or it was left out; then the message says why.
        """
        for one in self.rungs:
            if one.name == name:
                return one
        seen = self.left_out.get(name, "no such type of inference")
        raise fault(f"rung '{name}'", seen, f"one of {[one.name for one in self.rungs]}")

    def table(self) -> str:
        """Return the types as aligned text: what each computes (nats), gets (return, reward units; ELBO, nats), does.

        Of an open-loop type it shows the action sequence, of the others the chances of the first action.
        """
        head = ["inference", "computes", "nats", "expected_return", "elbo", "does"]
        cells = [head, *(self._line(rung) for rung in self.rungs)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(head) - 1)] + [0]
        lines = [
            "  ".join(cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width) for i, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(line, widths, strict=True)) for line in cells)
        ]
        return "\n".join([*lines, *(f"left out: {name}, since {why}" for name, why in self.left_out.items())])

    def _line(self, rung: Rung) -> list[str]:
        row = next(row for row in self.comparison.rows if row.name == rung.name)
        numbers = [f"{number:.6g}" for number in (rung.objective, row.expected_return, row.elbo)]
        return [rung.name, rung.formula, *numbers, self._does(rung)]

    def _does(self, rung: Rung) -> str:
        """Say the sequence, or the chances of the first action, ``Σ p(s_0) π_0(a|s_0)``, the likeliest first."""
        if rung.actions is not None:
            return _sequence(rung.actions, self.tables.horizon)
        chances = self.tables.log_initial.exp() @ rung.policy.probs(0)
        likeliest = chances.argsort(descending=True, stable=True)[:3].tolist()
        shown = [a for n, a in enumerate(likeliest) if n == 0 or chances[a] >= 0.05]
        first = "; ".join(f"{self.tables.actions.label(a)} {float(chances[a]):.0%}" for a in shown)
        return first if self.tables.horizon == 1 else f"{first}; then by the state"


def inference_types(
    world: World | Tables, *, temperature: float | Tensor = 1.0, max_nodes: Any = 50_000
) -> InferenceTypes:
    """Compare the types of inference on one world: what each computes, what it would do, what that would get.

    ``log max p(τ, O) ≤ log max_a p(a_{0:T-1}, O) ≤ log max_π E_π[Π p(a_t|s_t) exp(Σ r/α)] ≤ log Z``, and
    ``max_π ELBO(π) ≤ log Z`` beside them. The first two never look at the state, and all but ELBO* are optimistic about
    luck: ``comparison`` says what that costs (Lázaro-Gredilla et al. 2024, What type of inference is planning?).

    Args:
        world: a world, or its tables.
        temperature: α > 0, reward units; one number.
        max_nodes: how many nodes the search for the marginal MAP may expand.

    Returns:
        The rungs "MAP trajectory", "marginal MAP", "planning", "variational" and "posterior". One that cannot be had is
        left out, and ``left_out`` says why: no marginal MAP within ``max_nodes`` or with a discount below 1, no
        sequence for the infinite horizon, no ELBO* where every policy risks a forbidden reward.

    Raises:
        WorldError: the world or an argument does not conform.
        IntractableError: the world cannot be tabulated.
        ImpossibleError: the evidence is zero.
        NotConvergedError: the infinite horizon has no fixed point in reach under any rule.
    """
    if isinstance(max_nodes, bool) or not isinstance(max_nodes, int) or max_nodes < 1:
        raise fault("inference_types, max_nodes", f"{max_nodes!r}", "a whole number, 1 at least")
    tables = tabulate(world).detach()
    alpha = as_temperature(temperature, tables).detach()
    if alpha.dim() or tables.batch_shape:
        seen = f"a batch of shape {[*tables.batch_shape, *alpha.shape]}"
        raise fault("inference_types", seen, "one world, one temperature")
    rungs: list[Rung] = []
    missing: dict[str, CaiError] = {}
    with torch.no_grad():
        for name, climb in _rungs(tables, alpha, max_nodes).items():
            try:
                rungs.append(climb(name))
            except CaiError as error:  # the arguments are checked: what is left is that this type has no answer here
                missing[name] = error
        if not rungs:
            raise missing["posterior"]
        comparison = compare(tables, {rung.name: rung.policy for rung in rungs}, temperature=alpha)
    left_out = {name: str(error) for name, error in missing.items()}
    return InferenceTypes(tables, float(alpha), tuple(rungs), comparison, left_out)


def _rungs(tables: Tables, alpha: Tensor, max_nodes: int) -> dict[str, Callable[[str], Rung]]:
    def rule(which: Rule, formula: str) -> Callable[[str], Rung]:
        def climb(name: str) -> Rung:
            messages = solve(tables, which, temperature=alpha)
            return Rung(name, formula, float(nats(messages.value, alpha)), None, messages.policy)

        return climb

    def trajectory(name: str) -> Rung:
        messages = solve(tables, MAP, temperature=alpha)
        best = messages.most_probable()
        actions = best.actions[0, best.alive[0, :-1]].tolist()
        labels = tuple(tables.actions.label(a) for a in actions)
        return Rung(name, "log max p(τ, O)", float(nats(messages.value, alpha)), labels, open_loop(tables, actions))

    def sequence(name: str) -> Rung:
        found = marginal_map(tables, temperature=alpha, max_nodes=max_nodes)
        return Rung(name, "log max p(a, O)", found.log_score, found.labels, found.policy)

    return {
        "MAP trajectory": trajectory,
        "marginal MAP": sequence,
        "planning": rule(PLANNING, "log max E[Π p(a|s) exp(R/α)]"),
        "variational": rule(VARIATIONAL, "max ELBO(π)"),
        "posterior": rule(POSTERIOR, "log p(O)"),
    }


def _sequence(labels: tuple[str, ...], T: int | None) -> str:
    """Abbreviate a sequence of actions: a name is not said twice, repeats are counted, what is too long is cut."""
    runs: list[str] = []
    said = ""
    for label, same in groupby(labels):
        name, _, value = label.partition("=")
        text = value if name == said and "," not in label else label
        said, times = name, sum(1 for _ in same)
        runs.append(text if times == 1 else f"{text} ×{times}")
    end = [] if len(labels) == T else ["then by the prior"]
    while len(runs) > 1 and len("; ".join(runs)) > _SHOWN:
        runs, end = runs[:-1], ["…"]
    return "; ".join(runs + end)

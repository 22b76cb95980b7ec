"""inference_types: what each type of inference computes on one world, its policy, and what that policy achieves."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import CaiError, fault
from cai.evaluation.answers import answers_of
from cai.evaluation.compare import compare
from cai.evaluation.comparison import Comparison
from cai.evaluation.subject import InferenceType
from cai.exact.marginal_map import marginal_map, open_loop
from cai.exact.rules import MAP, PLANNING, POSTERIOR, VARIATIONAL, Rule
from cai.exact.solve import solve
from cai.policies.protocol import FinitePolicy
from cai.support.numerics import nats
from cai.support.parallel import each
from cai.world.definition import World

SHOWN = 48
"""The letters of an action sequence that a cell shows."""


def inference_types(world: World | Tables, *, temperature: float | Tensor = 1.0, max_nodes: Any = 50_000) -> Comparison:
    """Compare the types of inference on one world: what each computes, its policy, and what that policy achieves.

    ``log max p(τ, O) ≤ log max_a p(a_{0:T-1}, O) ≤ log max_π E_π[Π p(a_t|s_t) exp(Σ r/α)] ≤ log Z``, and
    ``max_π ELBO(π) ≤ log Z`` beside them. The first two choose actions without seeing the state. All but ELBO* are
    optimistic about luck; the return and ELBO of their policies show the cost of it (Lázaro-Gredilla et al. 2024, What
    type of inference is planning?).

    Args:
        world: a world, or its tables.
        temperature: α > 0, reward units; one number.
        max_nodes: the most nodes that the search for the marginal MAP may expand.

    Returns:
        The rows "MAP trajectory", "marginal MAP", "planning", "variational" and "posterior", with the columns
        ``computes``, ``objective`` (nats) and ``does``. A type without an answer is left out, and ``left_out`` says
        why: there is no marginal MAP within ``max_nodes`` or with a discount below 1, no sequence for the infinite
        horizon, no ELBO* where every policy risks a forbidden reward.

    Raises:
        WorldError: the world or an argument is not valid.
        IntractableError: the world cannot be tabulated.
        ImpossibleError: the evidence is zero.
        NotConvergedError: the infinite horizon has no fixed point in reach under any rule.
    """
    if isinstance(max_nodes, bool) or not isinstance(max_nodes, int) or max_nodes < 1:
        raise fault("inference_types, max_nodes", f"{max_nodes!r}", "a whole number, 1 at least")
    tables = tabulate(world).detach()
    alpha = answers_of("inference_types", tables, temperature).temperature
    types: dict[str, InferenceType] = {}
    missing: dict[str, CaiError] = {}
    with torch.no_grad():
        for name, make in _types(tables, alpha, max_nodes).items():
            try:
                types[name] = make()
            except CaiError as error:  # the arguments are valid, so this type has no answer here
                missing[name] = error
    if not types:
        raise missing["posterior"]
    return replace(compare(tables, types, temperature=alpha), left_out={n: str(error) for n, error in missing.items()})


def inference_types_all(
    world: World | Tables, *, temperatures: Sequence[float] = (1.0,), ray: str | None = None
) -> list[Comparison]:
    """Compare the types of inference at every temperature, here or on a Ray cluster (see ``compare_all``)."""
    done = dict(each(_inference_types, tabulate(world).detach(), temperatures, ray=ray, title="temperatures"))
    return [done[n] for n in range(len(temperatures))]


def _inference_types(tables: Tables, alpha: float) -> Comparison:
    return inference_types(tables, temperature=alpha)


def _types(tables: Tables, alpha: Tensor, max_nodes: int) -> dict[str, Callable[[], InferenceType]]:
    def rule(which: Rule, formula: str) -> Callable[[], InferenceType]:
        def make() -> InferenceType:
            messages = solve(tables, which, temperature=alpha)
            objective, policy = float(nats(messages.value, alpha)), messages.policy
            return InferenceType(formula, objective, None, policy, _first(tables, policy))

        return make

    def sequence(formula: str, objective: float, labels: tuple[str, ...], policy: FinitePolicy) -> InferenceType:
        return InferenceType(formula, objective, labels, policy, _sequence(labels, tables.horizon))

    def trajectory() -> InferenceType:
        messages = solve(tables, MAP, temperature=alpha)
        best = messages.most_probable()
        actions = best.actions[0, best.alive[0, :-1]].tolist()
        labels = tuple(tables.actions.label(a) for a in actions)
        return sequence("log max p(τ, O)", float(nats(messages.value, alpha)), labels, open_loop(tables, actions))

    def marginal() -> InferenceType:
        best = marginal_map(tables, temperature=alpha, max_nodes=max_nodes)
        return sequence("log max p(a, O)", best.log_score, best.labels, best.policy)

    return {
        "MAP trajectory": trajectory,
        "marginal MAP": marginal,
        "planning": rule(PLANNING, "log max E[Π p(a|s) exp(R/α)]"),
        "variational": rule(VARIATIONAL, "max ELBO(π)"),
        "posterior": rule(POSTERIOR, "log p(O)"),
    }


def _first(tables: Tables, policy: FinitePolicy) -> str:
    """Return the probabilities of the first action in words, ``Σ p(s_0) π_0(a|s_0)``, the largest first."""
    probabilities = tables.log_initial.exp() @ policy.probs(0)
    likeliest = probabilities.argsort(descending=True, stable=True)[:3].tolist()
    shown = [a for n, a in enumerate(likeliest) if n == 0 or probabilities[a] >= 0.05]
    first = "; ".join(f"{tables.actions.label(a)} {float(probabilities[a]):.0%}" for a in shown)
    return first if tables.horizon == 1 else f"{first}; then by the state"


def _sequence(labels: tuple[str, ...], T: int | None) -> str:
    """Abbreviate a sequence of actions: a name is not said twice, repeats are counted, what is too long is cut."""
    runs: list[str] = []
    last = ""
    for label, same in groupby(labels):
        name, _, value = label.partition("=")
        text = value if name == last and "," not in label else label
        last, times = name, sum(1 for _ in same)
        runs.append(text if times == 1 else f"{text} ×{times}")
    end = [] if len(labels) == T else ["then by the prior"]
    while len(runs) > 1 and len("; ".join(runs)) > SHOWN:
        runs, end = runs[:-1], ["…"]
    return "; ".join(runs + end)

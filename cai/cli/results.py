"""What the commands share once a world is read: rules solved, policies compared, the report written."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cluster import each
from cai.errors import ImpossibleError, NotConvergedError

if TYPE_CHECKING:
    from cai.comparison.compare import Comparison
    from cai.types import Tables
    from cai.variational.result import Fit

Fits = Mapping[float, Mapping[str, "Fit"]]
"""What was fitted: by temperature, then by name."""


def solved(tables: "Tables", policies: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    """Solve the rules among the policies; one without a finite answer is left out, with a word, unless all are."""
    from cai.exact.rules import Rule
    from cai.exact.solve import solve as solve_exactly

    found: dict[str, Any] = {}
    reason: Exception | None = None
    for name, policy in policies.items():
        try:
            found[name] = solve_exactly(tables, policy, temperature=alpha) if isinstance(policy, Rule) else policy
        except (ImpossibleError, NotConvergedError) as error:
            reason = error
            print(f"cai: {name} left out at α = {alpha:g}: {error}", file=sys.stderr)
    if reason is not None and not any(policy is not None for policy in found.values()):
        raise reason
    return found


def compared(
    tables: "Tables", policies: Mapping[str, Any], temperature: Sequence[float] | None, fits: Fits | None = None
) -> list["Comparison"]:
    """Compare policies at every temperature, the rules among them solved anew at each, with what was fitted there."""
    return compared_each([tables], policies, temperature or [1.0], [fits or {}])[0]


def compared_each(
    worlds: Sequence["Tables"],
    policies: Mapping[str, Any],
    alphas: Sequence[float],
    fits: Sequence[Fits],
    ray: str | None = None,
) -> list[list["Comparison"]]:
    """Compare as ``compared`` does on several worlds, each with its own fits, here or on a Ray cluster."""
    asked = [(n, alpha, fits[n].get(alpha, {})) for n in range(len(worlds)) for alpha in alphas]
    done = dict(each(_compared, (worlds, policies), asked, ray=ray, title="comparisons"))
    T = len(alphas)
    return [[done[n * T + i] for i in range(T)] for n in range(len(worlds))]


Asked = tuple[int, float, Mapping[str, "Fit"]]


def _compared(common: tuple[Sequence["Tables"], Mapping[str, Any]], asked: Asked) -> "Comparison":
    from cai.comparison.compare import compare as compare_exactly

    (worlds, policies), (n, alpha, fits) = common, asked
    return compare_exactly(worlds[n], solved(worlds[n], {**policies, **fits}, alpha), temperature=alpha)


def write(
    title: str,
    world: Any,
    comparisons: Sequence["Comparison"],
    out: Path,
    notes: Sequence[str],
    *,
    quiet: bool,
    fits: Fits | None = None,
) -> None:
    """Write the report's folder and say where it is: on stderr if ``quiet``, where stdout carries JSON."""
    from cai.graphs import graph as read_graph
    from cai.view.report import write_report

    dag = read_graph(world, min(2, world.horizon or 2))
    page = write_report(comparisons, out, title=title, notes=notes, dag=dag, fits=fits)
    print(f"report: {page.resolve()}", file=sys.stderr if quiet else sys.stdout)

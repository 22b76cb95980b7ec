"""What the commands share once a world is read: rules solved, policies compared, the report written."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.errors import ImpossibleError, NotConvergedError
from cai.support.parallel import each

if TYPE_CHECKING:
    from cai.compile.factor_model import Factors
    from cai.compile.table_model import Tables
    from cai.evaluation.comparison import Comparison, FactoredComparison
    from cai.learn.svi.fit_result import Fit
    from cai.world.conditions import Conditions

Fits = Mapping[float, Mapping[str, "Fit"]]
"""What was fitted: by temperature, then by name."""


def compiled(world: Any, form: str, given: "Conditions", *, quiet: bool) -> tuple["Tables | Factors", str]:
    """Compile a world under conditions; say on stderr what a long run will cost, and return the size in words."""
    from cai.compile.conditioned import conditioned
    from cai.compile.factor_model import Factors
    from cai.exact.forms import compiled as compile_as
    from cai.view.factored import describe_factors, is_long
    from cai.view.terminal import describe
    from cai.world.spec import remark

    found = conditioned(world, compile_as(world, form), given)
    said = remark(world)
    if said and not quiet:
        print(f"cai: {said}", file=sys.stderr)
    if not isinstance(found, Factors):
        return found, describe(found)
    size = describe_factors(found)
    if not quiet and is_long(found):
        print(f"cai: {size}", file=sys.stderr)
    return found, size


def solved(
    tables: "Tables | Factors", policies: Mapping[str, Any], alpha: float, given: "Conditions"
) -> dict[str, Any]:
    """Solve the rules among the policies; one without a finite answer is left out, with a word, unless all are."""
    from cai.exact.diagnose import evidence_explained
    from cai.exact.rules import Rule
    from cai.exact.solve import solve as solve_exactly

    found: dict[str, Any] = {}
    left_out: dict[str, Exception] = {}
    for name, policy in policies.items():
        if not isinstance(policy, Rule):
            found[name] = policy
            continue
        try:
            with evidence_explained(policy, given):
                found[name] = solve_exactly(tables, policy, temperature=alpha)
        except (ImpossibleError, NotConvergedError) as error:
            left_out[name] = error
    if left_out and not any(policy is not None for policy in found.values()):
        raise left_out.popitem()[1]
    for name, reason in left_out.items():
        print(f"cai: {name} left out at α = {alpha:g}: {reason}", file=sys.stderr)
    return found


def compared(
    tables: "Tables | Factors",
    policies: Mapping[str, Any],
    alphas: Sequence[float],
    fits: Fits | None = None,
    given: "Conditions | None" = None,
) -> list[Any]:
    """Compare policies at every temperature, the rules among them solved anew at each, with what was fitted there."""
    return compared_each([tables], policies, alphas, [fits or {}], given=given)[0]


def compared_each(
    worlds: Sequence["Tables | Factors"],
    policies: Mapping[str, Any],
    alphas: Sequence[float],
    fits: Sequence[Fits],
    ray: str | None = None,
    given: "Conditions | None" = None,
) -> list[list[Any]]:
    """Compare as ``compared`` does on several worlds, each with its own fits, here or on a Ray cluster."""
    from cai.world.conditions import NOTHING

    asked = [(n, alpha, fits[n].get(alpha, {})) for n in range(len(worlds)) for alpha in alphas]
    done = dict(each(_compared, (worlds, policies, given or NOTHING), asked, ray=ray, title="comparisons"))
    T = len(alphas)
    return [[done[n * T + i] for i in range(T)] for n in range(len(worlds))]


Asked = tuple[int, float, Mapping[str, "Fit"]]


def _compared(
    common: tuple[Sequence["Tables | Factors"], Mapping[str, Any], "Conditions"], asked: Asked
) -> "Comparison | FactoredComparison":
    from cai.evaluation.comparison import compare as compare_exactly

    (worlds, policies, given), (n, alpha, fits) = common, asked
    return compare_exactly(worlds[n], solved(worlds[n], {**policies, **fits}, alpha, given), temperature=alpha)


def write(
    title: str,
    world: Any,
    comparisons: Sequence[Any],
    out: Path,
    notes: Sequence[str],
    fits: Fits | None = None,
) -> None:
    """Write the report's folder and say where it is."""
    from cai.view.report import write_report
    from cai.world.dependencies import graph as read_graph

    dag = read_graph(world, min(2, world.horizon or 2))
    if hasattr(comparisons[0], "factors"):
        from cai.view.factored import write_factored_report

        page = write_factored_report(comparisons, out, title=title, notes=notes, dag=dag)
    else:
        page = write_report(comparisons, out, title=title, notes=notes, dag=dag, fits=fits)
    print(f"report: {page.resolve()}")

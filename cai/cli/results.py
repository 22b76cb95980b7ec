"""What the commands share once a world is read: rules solved, policies compared, the report written."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cai.compile.factor_model import Factors
    from cai.compile.table_model import Tables
    from cai.evaluation.comparison import Comparison
    from cai.learn.result import Learned
    from cai.world.conditions import Conditions

Fits = Mapping[float, Mapping[str, "Learned"]]
"""What was fitted: by temperature, then by name."""


def compiled(world: Any, form: str, given: "Conditions", *, quiet: bool) -> tuple["Tables | Factors", str]:
    """Compile a world under conditions; say on stderr what a long run will cost, and return the size in words."""
    from cai.compile.conditioned import conditioned
    from cai.compile.factor_model import Factors
    from cai.exact.forms import compiled as compile_as
    from cai.view.sizes import is_long, size_of
    from cai.world.spec import remark

    found = conditioned(world, compile_as(world, form), given)
    said = remark(world)
    if said and not quiet:
        print(f"cai: {said}", file=sys.stderr)
    size = size_of(found)
    if not quiet and isinstance(found, Factors) and is_long(found):
        print(f"cai: {size}", file=sys.stderr)
    return found, size


def compared(
    world: "Tables | Factors",
    policies: Mapping[str, Any],
    alphas: Sequence[float],
    fits: Fits | None = None,
    given: "Conditions | None" = None,
) -> "list[Comparison]":
    """Compare policies at every temperature, the rules among them solved anew at each, with what was fitted there."""
    return compared_each({"": world}, policies, alphas, {"": fits or {}}, given=given)[""]


def compared_each(
    worlds: "Mapping[str, Tables | Factors]",
    policies: Mapping[str, Any],
    alphas: Sequence[float],
    fits: Mapping[str, Fits],
    ray: str | None = None,
    given: "Conditions | None" = None,
) -> "dict[str, list[Comparison]]":
    """Compare as ``compared`` does on several worlds, each with its own fits; say which rules have no answer."""
    from cai.evaluation.compare_all import compare_all

    def asked(name: str, alpha: float) -> dict[str, Any]:
        rules = solved(worlds[name], policies, alpha, given) if given and given.seen else policies
        return {**rules, **fits[name].get(alpha, {})}

    done = compare_all(worlds, asked, temperatures=alphas, ray=ray, leave_out=True)
    for comparisons in done.values():
        for one in comparisons:
            for name, reason in one.left_out.items():
                print(f"cai: {name} left out at α = {one.temperature:g}: {reason}", file=sys.stderr)
    return done


def solved(world: "Tables | Factors", policies: Mapping[str, Any], alpha: float, given: "Conditions") -> dict[str, Any]:
    """Solve the rules among the policies; one without a finite answer is left out, with a word, unless all are."""
    from cai.errors import ImpossibleError, NotConvergedError
    from cai.exact.diagnose import evidence_explained
    from cai.exact.rules import Rule
    from cai.exact.solve import solve

    answers: dict[str, Any] = {}
    left_out: dict[str, Exception] = {}
    for name, policy in policies.items():
        if not isinstance(policy, Rule):
            answers[name] = policy
            continue
        try:
            with evidence_explained(policy, given):
                answers[name] = solve(world, policy, temperature=alpha)
        except (ImpossibleError, NotConvergedError) as error:
            left_out[name] = error
    if left_out and not any(policy is not None for policy in answers.values()):
        raise left_out.popitem()[1]
    for name, reason in left_out.items():
        print(f"cai: {name} left out at α = {alpha:g}: {reason}", file=sys.stderr)
    return answers


def write(
    title: str,
    world: Any,
    comparisons: "Sequence[Comparison]",
    out: Path,
    notes: Sequence[str] = (),
) -> None:
    """Write the report's folder and say where it is."""
    from cai.view.report import report
    from cai.world.dependencies import graph as read_graph

    dag = read_graph(world, min(2, world.horizon or 2))
    page = report(comparisons, out, title=title, notes=notes, dag=dag)
    print(f"report: {page.resolve()}")

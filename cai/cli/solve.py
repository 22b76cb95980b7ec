"""cai solve: a world solved exactly, under one rule or several."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.app import app, told
from cai.cli.options import (
    Discount,
    Do,
    Form,
    Horizon,
    Json,
    Observe,
    Out,
    Partial,
    Rules,
    Settings,
    Shards,
    Temperature,
    World,
    read_conditions,
    read_rules,
    read_world,
    require_folder,
    title_of,
)
from cai.cli.results import compared, compiled, solved, write
from cai.errors import fault

if TYPE_CHECKING:
    from cai.exact.factored_messages import FactoredMessages
    from cai.exact.kept import ShardedMessages
    from cai.exact.messages import Messages
    from cai.exact.separate import SeparateMessages


@app.command()
@told
def solve(
    world: World,
    rule: Rules = None,
    temperature: Temperature = None,
    horizon: Horizon = None,
    discount: Discount = None,
    settings: Settings = None,
    form: Form = "auto",
    observe: Observe = None,
    do: Do = None,
    partial: Partial = False,
    as_json: Json = False,
    out: Out = None,
    shards: Shards = None,
) -> None:
    """Solve a world exactly: evidence, ELBO* or start value under one rule or several."""
    require_folder(out)
    made, rules = read_world(world, settings, horizon, discount), read_rules(rule or ["POSTERIOR"], prior=False)
    given = read_conditions(observe, do)
    if partial:
        if given or form != "auto" or shards is not None or out is not None:
            raise fault("--partial", "--form, --observe, --do, --shards or --out", "rules and temperatures alone")
        _solve_partial(world, made, rules if rule else read_rules(["VARIATIONAL"], prior=False), temperature, as_json)
        return
    if shards is not None:
        if given or form not in ("auto", "tables"):
            raise fault("--shards", "--form, --observe or --do", "none of them: shards are tables of the world itself")
        _solve_sharded(world, made, rules, temperature or [1.0], shards, as_json=as_json, out=out)
        return
    found, size = compiled(made, form, given, quiet=as_json)
    rows = []
    for alpha in temperature or [1.0]:
        rows += [_solution(name, one) for name, one in solved(found, rules, alpha).items()]
    _print(f"{world}: {size}", rows, as_json=as_json)
    if out is not None:
        write(title_of(world, settings), made, compared(found, rules, temperature), out, [], quiet=as_json)


def _solve_partial(
    title: str, world: Any, rules: Mapping[str, Any], alphas: Sequence[float] | None, as_json: bool
) -> None:
    """Solve over beliefs, and tell the value beside QMDP's and that of full sight."""
    from cai.exact.belief_messages import solve_partial

    rows = []
    for alpha in alphas or [1.0]:
        for name, rule in rules.items():
            found = solve_partial(world, rule, temperature=alpha)
            elbo = float(found.elbo) if name == "VARIATIONAL" else None
            row = {"rule": name, "temperature": alpha, "qmdp": float(found.qmdp), "value": float(found.value)}
            rows.append({**row, "fully_observed": float(found.fully_observed), "elbo": elbo})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from cai.view.terminal import print_table

    heads = ("rule", "α", "QMDP (reward)", "start value (reward)", "seen state (reward)", "ELBO* (nats)")
    print_table(f"{title}, seen in part: exact over beliefs", heads, [list(row.values()) for row in rows])


def _solve_sharded(
    title: str, world: Any, rules: Mapping[str, Any], alphas: Sequence[float], folder: Path, *, as_json: bool, out: Any
) -> None:
    """Solve in all processes, and tell it in the first."""
    if len(rules) > 1 or len(alphas) > 1 or out is not None:
        seen = f"{', '.join(rules)} at α = {', '.join(f'{alpha:g}' for alpha in alphas)}{', and --out' if out else ''}"
        raise fault("--shards", seen, "one rule and one temperature for a folder, and no report")
    from cai.exact.sharded import solve_sharded

    ((name, rule),) = rules.items()
    found = solve_sharded(world, rule, temperature=alphas[0], folder=folder)
    if found.states.start == 0:
        form = f"{len(found.shards)} shards"
        _print(f"{title}: {found}", [_answer(name, found, form, found.horizon, 0.0)], as_json=as_json)


def _print(title: str, rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from cai.view.terminal import print_table

    heads = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
    print_table(title, heads, [list(row.values()) for row in rows])


def _solution(name: str, found: "Messages | FactoredMessages | SeparateMessages") -> dict[str, Any]:
    return _answer(name, found, found.form, found.iterations, found.error_bound)


def _answer(
    name: str,
    found: "Messages | FactoredMessages | SeparateMessages | ShardedMessages",
    form: str,
    iterations: int,
    error_bound: float,
) -> dict[str, Any]:
    return {
        "rule": name,
        "temperature": float(found.temperature),
        "value": float(found.value),
        "log_evidence": float(found.log_evidence) if name == "POSTERIOR" else None,
        "elbo": float(found.elbo) if name == "VARIATIONAL" else None,
        "form": form,
        "iterations": iterations,
        "error_bound": error_bound,
    }

"""cai solve: a world solved exactly, under one rule or several."""

import json
from typing import TYPE_CHECKING, Any

from cai.cli.app import app, told
from cai.cli.options import (
    Discount,
    Horizon,
    Json,
    Out,
    Rules,
    Settings,
    Temperature,
    World,
    read_rules,
    read_world,
    require_folder,
    title_of,
)
from cai.cli.results import compared, solved, write

if TYPE_CHECKING:
    from cai.exact.messages import Messages


@app.command()
@told
def solve(
    world: World,
    rule: Rules = None,
    temperature: Temperature = None,
    horizon: Horizon = None,
    discount: Discount = None,
    settings: Settings = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Solve a world exactly: evidence, ELBO* or start value under one rule or several."""
    require_folder(out)
    made, rules = read_world(world, settings, horizon, discount), read_rules(rule or ["POSTERIOR"], prior=False)
    from cai.compile.tabulate import tabulate

    tables = tabulate(made)
    rows = []
    for alpha in temperature or [1.0]:
        rows += [_solution(name, found) for name, found in solved(tables, rules, alpha).items()]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        from cai.view.terminal import describe, print_table

        heads = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
        print_table(f"{world}: {describe(tables)}", heads, [list(row.values()) for row in rows])
    if out is not None:
        write(title_of(world, settings), made, compared(tables, rules, temperature), out, [], quiet=as_json)


def _solution(name: str, found: "Messages") -> dict[str, Any]:
    return {
        "rule": name,
        "temperature": float(found.temperature),
        "value": float(found.value),
        "log_evidence": float(found.log_evidence) if name == "POSTERIOR" else None,
        "elbo": float(found.elbo) if name == "VARIATIONAL" else None,
        "form": found.form,
        "iterations": found.iterations,
        "error_bound": found.error_bound,
    }

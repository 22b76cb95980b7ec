"""cai solve: a world solved exactly, under one rule or several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.app import app, print_json, told
from cai.cli.fits import read_temperatures
from cai.cli.options import (
    Discount,
    Do,
    Form,
    Horizon,
    Json,
    Observe,
    Out,
    Partial,
    Policy,
    Rules,
    Settings,
    Shards,
    Temperature,
    World,
    read_conditions,
    read_form,
    read_rules,
    read_world,
    require_folder,
    require_rules,
    title_of,
)
from cai.cli.results import compared, compiled, solved, write
from cai.errors import fault

if TYPE_CHECKING:
    from cai.distributed.store import ShardedMessages
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
    form: Form = "auto",
    observe: Observe = None,
    do: Do = None,
    partial: Partial = False,
    policy: Policy = False,
    as_json: Json = False,
    out: Out = None,
    shards: Shards = None,
) -> None:
    """Solve a world exactly: evidence, ELBO* or start value under one rule or several."""
    require_folder(out)
    shape = None if read_form(form) == "auto" else form
    beside: dict[str, Any] = {"--form": shape, "--observe": observe, "--do": do, "--shards": shards, "--out": out}
    beside |= {"--policy": policy or None}
    if partial:
        _refuse(beside, "--partial", "rules and temperatures alone")
    elif shards is not None:
        others = {**beside, "--shards": None, "--form": None if form == "tables" else shape}
        _refuse(others, "--shards", "one rule and one temperature: shards are tables of the world itself")
    alphas = read_temperatures(temperature)
    texts = rule or ["VARIATIONAL" if partial else "POSTERIOR"]
    require_rules(texts, prior=False)
    made = read_world(world, settings, horizon, discount)
    rules = read_rules(texts, prior=False)
    if partial:
        _solve_partial(world, made, rules, alphas, as_json)
        return
    if shards is not None:
        _solve_sharded(world, made, rules, alphas, shards, as_json=as_json)
        return
    given = read_conditions(observe, do)
    found, size = compiled(made, form, given, quiet=as_json)
    answers = [one for alpha in alphas for one in solved(found, rules, alpha, given).items()]
    rows = [_solution(name, one) | (_policy(one) if policy and as_json else {}) for name, one in answers]
    _print(f"{world}: {size}", rows, as_json=as_json)
    if policy and not as_json:
        _print_policies(answers)
    if out is not None:
        write(title_of(world, settings), made, compared(found, rules, alphas, given=given), out)


def _refuse(options: Mapping[str, Any], beside: str, expected: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise fault(beside, f"{', '.join(given)} beside it", expected)


def _solve_partial(title: str, world: Any, rules: Mapping[str, Any], alphas: Sequence[float], as_json: bool) -> None:
    """Solve over beliefs, and tell the value beside QMDP's and that of full sight."""
    from cai import partial

    rows = []
    for alpha in alphas:
        for name, rule in rules.items():
            found = partial.solve(world, rule, temperature=alpha)
            elbo = float(found.elbo) if name == "VARIATIONAL" else None
            row = {"rule": name, "temperature": alpha, "qmdp": float(found.qmdp), "value": float(found.value)}
            rows.append({**row, "fully_observed": float(found.fully_observed), "elbo": elbo})
    if as_json:
        print_json(rows)
        return
    from cai.view.terminal import print_table

    heads = ("rule", "α", "QMDP (reward)", "start value (reward)", "seen state (reward)", "ELBO* (nats)")
    print_table(f"{title}, seen in part: exact over beliefs", heads, [list(row.values()) for row in rows])


def _solve_sharded(
    title: str, world: Any, rules: Mapping[str, Any], alphas: Sequence[float], folder: Path, *, as_json: bool
) -> None:
    """Solve in all processes, and tell it in the first."""
    if len(rules) > 1 or len(alphas) > 1:
        seen = f"{', '.join(rules)} at α = {', '.join(f'{alpha:g}' for alpha in alphas)}"
        raise fault("--shards", seen, "one rule and one temperature for a folder")
    from cai import distributed

    ((name, rule),) = rules.items()
    found = distributed.solve(world, rule, temperature=alphas[0], folder=folder)
    if found.states.start == 0:
        form = f"{len(found.shards)} shards"
        _print(f"{title}: {found}", [_answer(name, found, form, found.horizon, 0.0)], as_json=as_json)


def _print(title: str, rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from cai.view.terminal import print_table

    heads = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
    print_table(title, heads, [list(row.values()) for row in rows])


def _print_policies(answers: Sequence[tuple[str, Any]]) -> None:
    from cai.view.policies import print_policy

    for name, one in answers:
        print_policy(f"{name} at α = {float(one.temperature):g}", one)


def _policy(one: Any) -> dict[str, Any]:
    """Return the policy at t = 0 as plain data, a list of the parts of the world."""
    from cai.view.policies import policy_rows

    return {"policy": [part.plain() for part in policy_rows(one)]}


def _solution(name: str, found: "Messages") -> dict[str, Any]:
    return _answer(name, found, found.form, found.iterations, found.error_bound)


def _answer(
    name: str,
    found: "Messages | ShardedMessages",
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

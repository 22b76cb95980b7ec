"""cai solve: a world solved exactly, under one rule or several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cai
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.options import (
    conditions_of,
    read_conditions,
    read_form,
    read_model,
    read_rules,
    read_temperatures,
    read_world,
    refuse,
    require_folder,
    rules_of,
    title_of,
    without_none,
)
from cai.cli.output import say_left_out, show_rows, write_report
from cai.errors import CaiError, fault

APART = {
    "--approximate": ("--rule", "--form", "--observe", "--do", "--partial", "--shards", "--policy"),
    "--partial": ("--form", "--observe", "--do", "--shards"),
    "--shards": ("--form", "--observe", "--do", "--policy", "--out"),
}
"""What these options have no use for."""
NEEDS = {"--approximate": ("--method", "--minutes", "--seed")}
"""What these options are for."""
HEADS = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
PARTIAL = ("rule", "α", "QMDP (reward)", "start value (reward)", "seen state (reward)", "ELBO* (nats)")
PARTIAL_WORDS = (
    "start value: the value of the best policy that sees only observations; ELBO* is start value / α under VARIATIONAL",
    "QMDP: the value of the policy that assumes full sight from the next step on; never better",
    "seen state: the value of the best policy that sees the state; never worse",
)
"""What the columns over beliefs say."""


@app.command()
@with_exit_code
def solve(
    world: opt.World,
    rule: opt.Rules = None,
    temperature: opt.Temperature = None,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    form: opt.Form = "auto",
    observe: opt.Observe = None,
    do: opt.Do = None,
    partial: opt.Partial = False,
    policy: opt.Policy = False,
    as_json: opt.Json = False,
    out: opt.Out = None,
    shards: opt.Shards = None,
    approximate: opt.Approximate = False,
    method: opt.Method = None,
    minutes: opt.Minutes = None,
    seed: opt.Seed = None,
) -> None:
    """Solve a world exactly under one or more rules: evidence, ELBO* or start value; or approximate it."""
    require_folder(out)
    kind = read_form(form) if shards is None or form != "tables" else None  # shards are tables
    beside = {"--form": kind, "--observe": observe, "--do": do, "--policy": policy, "--out": out}
    expected = "--partial or --shards with a world, rules and temperatures alone"
    approximating = {"--approximate": approximate, "--method": method, "--minutes": minutes, "--seed": seed}
    of_approximate = "--approximate with a world, temperatures, --method, --minutes, --seed and --out alone"
    every = {"--rule": rule, "--partial": partial, "--shards": shards, **beside, **approximating}
    refuse("solve", every, {"--approximate": APART["--approximate"]}, NEEDS, of_approximate)
    refuse("solve", {"--partial": partial, "--shards": shards, **beside}, APART, {}, expected)
    alphas = read_temperatures(temperature)
    given = read_conditions(observe, do)
    names = read_rules(rule or ["VARIATIONAL" if partial else "POSTERIOR"], prior=False)
    instance = read_world(world, settings, horizon, discount)
    if approximate:
        options = without_none(minutes=minutes, seed=seed)
        found = _approximated(title_of(world, settings), instance, method, alphas, options, as_json=as_json)
        if out is not None:
            write_report(world, title_of(world, settings), None, found, out)
        return
    rules = rules_of(names, policies=False)
    if partial:
        answers = _over_beliefs(instance, rules, alphas)
        title = f"{world}, seen in part: exact over beliefs"
        _show(title, PARTIAL, [_belief_row(*each) for each in answers], answers, policy=policy, as_json=as_json)
        if not as_json:
            print(*PARTIAL_WORDS, sep="\n")
        if out is not None:
            write_report(world, title_of(world, settings), None, [answer for _, answer in answers], out)
    elif shards is not None:
        _sharded(world, instance, rules, alphas, shards, as_json=as_json)
    else:
        conditions = conditions_of(given)
        model = read_model(instance, form, conditions, quiet=as_json)
        _solved(world, model, rules, alphas, conditions, policy=policy, as_json=as_json)
        if out is not None:
            asked = {"temperatures": alphas, "leave_out": True, "conditions": conditions}
            comparisons = cai.compare_all({world: model}, rules, **asked)[world]
            write_report(world, title_of(world, settings), cai.graph(instance), comparisons, out)


def _solved(
    title: str,
    model: Any,
    rules: Mapping[str, Any],
    alphas: Sequence[float],
    conditions: Any,
    *,
    policy: bool,
    as_json: bool,
) -> None:
    """Solve under every rule at every temperature, and print the answers, with ``--policy`` their policies too."""
    from cai.exact.solve_all import solve_all
    from cai.view.sizes import size_of

    answers = []
    for name, alpha, answer in solve_all(model, rules, temperatures=alphas, conditions=conditions):
        if isinstance(answer, CaiError):
            say_left_out(name, alpha, answer)
        else:
            answers.append((name, answer))
    rows = [
        _row(name, messages, messages.form, messages.iterations, messages.error_bound) for name, messages in answers
    ]
    _show(f"{title}: {size_of(model)}", HEADS, rows, answers, policy=policy, as_json=as_json)


def _approximated(
    title: str, world: Any, method: str | None, alphas: Sequence[float], options: dict[str, Any], *, as_json: bool
) -> list[Any]:
    """Approximate at every temperature, and print what is known."""
    found = [cai.approximate(world, method, temperature=alpha, **options) for alpha in alphas]
    if as_json:
        print_json([each.plain() for each in found])
        return found
    for each in found:
        words = ", α ELBO*: ".join(f"{one.scaled(each.temperature)}" for one in (each.log_evidence, each.elbo))
        print(f"{title}: {each}", f"in reward units: α log Z: {words}", sep="\n")
    return found


def _show(
    title: str,
    heads: Sequence[str],
    rows: list[dict[str, Any]],
    answers: Sequence[tuple[str, Any]],
    *,
    policy: bool,
    as_json: bool,
) -> None:
    """Show the rows, and with ``--policy`` the policy at t = 0 under each rule."""
    from cai.view.policies import policy_rows, print_policy

    if policy and as_json:
        for row, (_, messages) in zip(rows, answers, strict=True):
            row["policy"] = [part.plain() for part in policy_rows(messages)]
    show_rows(title, heads, rows, as_json=as_json)
    for name, messages in answers if policy and not as_json else ():
        print_policy(f"{name} at α = {float(messages.temperature):g}", messages)


def _over_beliefs(world: Any, rules: Mapping[str, Any], alphas: Sequence[float]) -> list[tuple[str, Any]]:
    """Solve over beliefs under every rule at every temperature."""
    pairs = [(alpha, name, rule) for alpha in alphas for name, rule in rules.items()]
    return [(name, cai.partial.solve(world, rule, temperature=alpha)) for alpha, name, rule in pairs]


def _belief_row(name: str, answer: Any) -> dict[str, Any]:
    """Lay out an answer over beliefs: its value stands beside QMDP's and that of full sight."""
    numbers = {field: float(getattr(answer, field)) for field in ("qmdp", "value", "fully_observed")}
    elbo = float(answer.elbo) if name == "VARIATIONAL" else None
    return {"rule": name, "temperature": float(answer.temperature), **numbers, "elbo": elbo}


def _sharded(
    title: str, world: Any, rules: Mapping[str, Any], alphas: Sequence[float], folder: Path, *, as_json: bool
) -> None:
    """Solve in all processes, and tell it in the first."""
    if len(rules) > 1 or len(alphas) > 1:
        seen = f"{', '.join(rules)} at α = {', '.join(f'{alpha:g}' for alpha in alphas)}"
        raise fault("--shards", seen, "one rule and one temperature for a folder")
    ((name, rule),) = rules.items()
    answer = cai.distributed.solve(world, rule, temperature=alphas[0], folder=folder)
    if answer.states.start == 0:
        row = _row(name, answer, f"{len(answer.shards)} shards", answer.horizon, 0.0)
        show_rows(f"{title}: {answer}", HEADS, [row], as_json=as_json)


def _row(name: str, answer: Any, form: str, iterations: int, error_bound: float) -> dict[str, Any]:
    return {
        "rule": name,
        "temperature": float(answer.temperature),
        "value": float(answer.value),
        "log_evidence": float(answer.log_evidence) if name == "POSTERIOR" else None,
        "elbo": float(answer.elbo) if name == "VARIATIONAL" else None,
        "form": form,
        "iterations": iterations,
        "error_bound": error_bound,
    }

"""cai solve: a world solved exactly, under one rule or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cai
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.given_options import (
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
ALONE = "--partial or --shards with a world, rules and temperatures alone"
EXPECTED = {
    "--approximate": "--approximate with a world, temperatures, --method, --minutes, --seed and --out alone",
    "--partial": ALONE,
    "--shards": ALONE,
}
"""What goes together with each of the ways to solve."""
HEADS = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
PARTIAL = ("rule", "α", "QMDP (reward)", "start value (reward)", "seen state (reward)", "ELBO* (nats)")
PARTIAL_WORDS = (
    "start value: the value of the best policy that sees only observations; ELBO* is start value / α under VARIATIONAL",
    "QMDP: the value of the policy that assumes full sight from the next step on; never better",
    "seen state: the value of the best policy that sees the state; never worse",
)
"""What the columns over beliefs say."""


@dataclass(frozen=True)
class Asked:
    """What all ways to solve share: a world at temperatures, and how to answer."""

    spec: str
    title: str
    alphas: Sequence[float]
    world: Any
    policy: bool
    as_json: bool
    out: Path | None

    def show(
        self, title: str, heads: Sequence[str], rows: list[dict[str, Any]], answers: Sequence[tuple[str, Any]]
    ) -> None:
        """Show the rows, and with ``--policy`` the policy at t = 0 under each rule."""
        from cai.view.policies import policy_rows, print_policy

        if self.policy and self.as_json:
            for row, (_, messages) in zip(rows, answers, strict=True):
                row["policy"] = [part.plain() for part in policy_rows(messages)]
        show_rows(title, heads, rows, as_json=self.as_json)
        for name, messages in answers if self.policy and not self.as_json else ():
            print_policy(f"{name} at α = {float(messages.temperature):g}", messages)

    def report(self, found: Any, dag: Any = None) -> None:
        """Write the report of what was found, where one is asked for."""
        if self.out is not None:
            write_report(self.spec, self.title, dag, found, self.out)


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
    ways = {"--approximate": approximate, "--partial": partial, "--shards": shards}
    own = {"--method": method, "--minutes": minutes, "--seed": seed}
    where = {"--rule": rule, "--form": kind, "--observe": observe, "--do": do, "--policy": policy, "--out": out}
    _refuse({**ways, **own, **where})
    alphas, given = read_temperatures(temperature), read_conditions(observe, do)
    names = read_rules(rule or ["VARIATIONAL" if partial else "POSTERIOR"], prior=False)
    instance = read_world(world, settings, horizon, discount)
    asked = Asked(world, title_of(world, settings), alphas, instance, policy, as_json, out)
    if approximate:
        _approximated(asked, method, without_none(minutes=minutes, seed=seed))
    elif partial:
        _over_beliefs(asked, rules_of(names, policies=False))
    elif shards is not None:
        _sharded(asked, rules_of(names, policies=False), shards)
    else:
        _solved(asked, rules_of(names, policies=False), form, conditions_of(given))


def _refuse(options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together, before any work is done."""
    way, *others = EXPECTED
    refuse("solve", options, {way: APART[way]}, NEEDS, EXPECTED[way])
    for way in others:
        refuse("solve", options, {way: APART[way]}, {}, EXPECTED[way])


def _solved(asked: Asked, rules: Mapping[str, Any], form: str, conditions: Any) -> None:
    """Solve under every rule at every temperature; print the answers, and write their report."""
    from cai.exact.solve_all import solve_all
    from cai.view.sizes import size_of

    model = read_model(asked.world, form, conditions, quiet=asked.as_json)
    answers = []
    for name, alpha, answer in solve_all(model, rules, temperatures=asked.alphas, conditions=conditions):
        if isinstance(answer, CaiError):
            say_left_out(name, alpha, answer)
        else:
            answers.append((name, answer))
    rows = [
        _row(name, messages, messages.form, messages.iterations, messages.error_bound) for name, messages in answers
    ]
    asked.show(f"{asked.spec}: {size_of(model)}", HEADS, rows, answers)
    if asked.out is not None:
        told: dict[str, Any] = {"temperatures": asked.alphas, "leave_out": True, "conditions": conditions}
        asked.report(cai.compare_all({asked.spec: model}, rules, **told)[asked.spec], cai.graph(asked.world))


def _approximated(asked: Asked, method: str | None, options: dict[str, Any]) -> None:
    """Approximate at every temperature; print what is known, and write its report."""
    from cai.view.terminal import print_approximation

    found = [cai.approximate(asked.world, method, temperature=alpha, **options) for alpha in asked.alphas]
    if asked.as_json:
        print_json([each.plain() for each in found])
    for each in () if asked.as_json else found:
        print_approximation(asked.title, each)
    asked.report(found)


def _over_beliefs(asked: Asked, rules: Mapping[str, Any]) -> None:
    """Solve over beliefs under every rule at every temperature; print the answers, and write their report."""
    pairs = [(alpha, name, rule) for alpha in asked.alphas for name, rule in rules.items()]
    answers = [(name, cai.partial.solve(asked.world, rule, temperature=alpha)) for alpha, name, rule in pairs]
    rows = [_belief_row(name, answer) for name, answer in answers]
    asked.show(f"{asked.spec}, seen in part: exact over beliefs", PARTIAL, rows, answers)
    if not asked.as_json:
        print(*PARTIAL_WORDS, sep="\n")
    asked.report([answer for _, answer in answers])


def _belief_row(name: str, answer: Any) -> dict[str, Any]:
    """Lay out an answer over beliefs: its value stands beside QMDP's and that of full sight."""
    numbers = {field: float(getattr(answer, field)) for field in ("qmdp", "value", "fully_observed")}
    elbo = float(answer.elbo) if name == "VARIATIONAL" else None
    return {"rule": name, "temperature": float(answer.temperature), **numbers, "elbo": elbo}


def _sharded(asked: Asked, rules: Mapping[str, Any], folder: Path) -> None:
    """Solve in all processes, and tell it in the first."""
    if len(rules) > 1 or len(asked.alphas) > 1:
        seen = f"{', '.join(rules)} at α = {', '.join(f'{alpha:g}' for alpha in asked.alphas)}"
        raise fault("--shards", seen, "one rule and one temperature for a folder")
    ((name, rule),) = rules.items()
    answer = cai.distributed.solve(asked.world, rule, temperature=asked.alphas[0], folder=folder)
    if answer.states.start == 0:
        row = _row(name, answer, f"{len(answer.shards)} shards", answer.horizon, 0.0)
        show_rows(f"{asked.spec}: {answer}", HEADS, [row], as_json=asked.as_json)


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

"""The command line: cai solve | compare | graph | check. Nothing heavy is imported before a command runs."""

import functools
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from cai.comparison.compare import Comparison
    from cai.types import Tables

app = typer.Typer(
    help="Control as inference: exact posterior, variational and hard optimum of any finite world.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

World = Annotated[str, typer.Argument(help="A catalogue name (frozen_lake), a file (my_world.py) or file.py:Class.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="An argument of the world, name=value; repeatable.")]
Horizon = Annotated[str | None, typer.Option(help="T, or 'inf' for the infinite horizon (needs a discount below 1).")]
Discount = Annotated[float | None, typer.Option(help="The chance γ to survive a step, in (0, 1].")]
Temperature = Annotated[list[float] | None, typer.Option("--temperature", "-t", help="α in reward units; repeatable.")]
Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", "-r", help="POSTERIOR, VARIATIONAL, HARD, MAP or 'RISK(eta)'; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write tables, figures and report.html into this folder.")]

EVERY = ("POSTERIOR", "VARIATIONAL", "HARD", "MAP", "prior")


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors that cai raises on purpose, and Ctrl-C, into one clear message and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from cai.errors import CaiError

        try:
            command(*args, **kwargs)
        except CaiError as error:
            _stop(str(error), 2)
        except OSError as error:
            _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 2)
        except KeyboardInterrupt:
            _stop("interrupted", 130)

    return wrapped


def _stop(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"cai: {line}", file=sys.stderr)
    raise typer.Exit(code)


@app.command()
@_told
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
    tables, rules = _tables(world, settings, horizon, discount), _rules(rule or ["POSTERIOR"], prior=False)
    from cai.exact.solve import solve as solve_exactly

    rows = []
    for alpha in temperature or [1.0]:
        for name, one in rules.items():
            found = solve_exactly(tables, one, temperature=alpha)
            nats = {"POSTERIOR": "log_evidence", "VARIATIONAL": "elbo"}.get(name)
            rows.append(
                {
                    "rule": name,
                    "temperature": alpha,
                    "value": float(found.value),
                    "log_evidence": float(found.log_evidence) if nats == "log_evidence" else None,
                    "elbo": float(found.elbo) if nats == "elbo" else None,
                    "form": found.form,
                    "iterations": found.iterations,
                    "error_bound": found.error_bound,
                }
            )
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        heads = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
        _print_table(f"{world}: {_describe(tables)}", heads, [list(row.values()) for row in rows])
    if out is not None:
        _report(world, tables, rules, temperature, out, quiet=as_json)


@app.command()
@_told
def compare(
    world: World,
    rule: Rules = None,
    temperature: Temperature = None,
    horizon: Horizon = None,
    discount: Discount = None,
    settings: Settings = None,
    twin: Annotated[
        list[str] | None,
        typer.Option(
            help="Settings of a twin world, name=value: what changes, and what does not, goes into the report."
        ),
    ] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Compare policies by the same exact accounts: return, entropy, ELBO, and where every nat is lost."""
    tables, policies = _tables(world, settings, horizon, discount), _rules(rule or list(EVERY), prior=True)
    comparisons = _compare(tables, policies, temperature)
    lesson = None
    if twin:
        from cai.view.lessons import twin_lesson

        other = _compare(_tables(world, [*(settings or []), *twin], horizon, discount), policies, temperature)
        lesson = twin_lesson(" ".join([world, *(settings or [])]), comparisons, " ".join([world, *twin]), other)
    if as_json:
        print(json.dumps([json.loads(one.json()) for one in comparisons], indent=2))
    else:
        for one in comparisons:
            _print_comparison(world, one)
        if lesson:
            print(lesson)
    if out is not None:
        _write(world, comparisons, out, [lesson] if lesson else [], quiet=as_json)


@app.command()
@_told
def graph(
    world: World,
    slices: Annotated[int, typer.Option(help="How many slices to write out.")] = 2,
    settings: Settings = None,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option("--out", help="A .png or .svg file.")] = None,
) -> None:
    """Show the graphical model that the world's program is: its nodes, its edges, and what entangles."""
    made = _world(world, settings, None, None)
    from cai.graphs import entangled
    from cai.graphs import graph as read_graph

    dag = read_graph(made, slices)
    if as_json:
        import networkx as nx

        print(json.dumps(nx.node_link_data(dag, edges="edges"), indent=2))
    else:
        rows = [
            (node, data["kind"], data["time"], "yes" if data["observed"] else "no", ", ".join(dag.predecessors(node)))
            for node, data in dag.nodes(data=True)
        ]
        _print_table(f"{world}, {slices} slices", ("node", "kind", "t", "observed", "parents"), rows)
        groups = entangled(dag, 1)
        print("entangled state variables: " + "; ".join(", ".join(sorted(group)) for group in groups))
    if out is not None:
        from cai.view.graph import draw_graph

        print(f"picture: {draw_graph(dag, out)}", file=sys.stderr if as_json else sys.stdout)


@app.command()
@_told
def check(world: World, settings: Settings = None, as_json: Json = False) -> None:
    """Say in words what is wrong with a world; exit code 1 if anything is."""
    made = _world(world, settings, None, None)
    from cai.checks import check as findings_of

    findings = findings_of(made)
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    elif findings:
        for finding in findings:
            print(f"- {finding}")
        print(f"{len(findings)} finding{'s' if len(findings) > 1 else ''} in {world}")
    else:
        print(f"{world} conforms")
    if findings:
        raise typer.Exit(1)


@app.command("list")
@_told
def list_worlds() -> None:
    """List the worlds of the catalogue."""
    from cai.catalogue import folder, names

    for name in names():
        first = re.match(r'"""(.*?)(?:\n|""")', (folder() / f"{name}.py").read_text(encoding="utf-8"))
        print(f"{name:15} {first.group(1) if first else ''}")


def main() -> None:
    """Run the command line."""
    app()


def _world(spec: str, settings: Sequence[str] | None, horizon: str | None, discount: float | None) -> Any:
    from cai.catalogue import load_world
    from cai.errors import fault

    pairs = {}
    for text in settings or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise fault("--set", f"'{text}'", "name=value")
        pairs[name] = value
    overrides: dict[str, Any] = {}
    if horizon is not None:
        if horizon not in {"inf", "none", "None"} and not horizon.isdigit():
            raise fault("--horizon", f"'{horizon}'", "a positive integer, or 'inf'")
        overrides["horizon"] = int(horizon) if horizon.isdigit() else None
    if discount is not None:
        overrides["discount"] = discount
    return load_world(spec, pairs, overrides)


def _tables(spec: str, settings: Sequence[str] | None, horizon: str | None, discount: float | None) -> "Tables":
    made = _world(spec, settings, horizon, discount)
    from cai.compile.tabulate import tabulate

    return tabulate(made)


def _rules(texts: Sequence[str], *, prior: bool) -> dict[str, Any]:
    from cai.errors import fault
    from cai.exact.rules import HARD, MAP, POSTERIOR, RISK, VARIATIONAL

    known = {rule.name: rule for rule in (POSTERIOR, VARIATIONAL, HARD, MAP)}
    found: dict[str, Any] = {}
    for text in texts:
        risk = re.fullmatch(r"RISK\((.+)\)", text, re.IGNORECASE)
        if text == "prior" and prior:
            found["prior"] = None
        elif text.upper() in known:
            rule = known[text.upper()]
            found["MAP-plan" if rule is MAP and prior else rule.name] = rule
        elif risk and _is_number(risk.group(1)):
            rule = RISK(float(risk.group(1)))
            found[rule.name] = rule
        else:
            expected = f"{', '.join(known)}, RISK(eta){' or prior' if prior else ''}"
            raise fault("--rule", f"'{text}'", expected)
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _compare(tables: "Tables", policies: Mapping[str, Any], temperature: Sequence[float] | None) -> list["Comparison"]:
    from rich.console import Console
    from rich.progress import track

    from cai.comparison.compare import compare as compare_exactly

    work = track(temperature or [1.0], "temperatures", console=Console(stderr=True), transient=True)
    return [compare_exactly(tables, _solved(tables, policies, alpha), temperature=alpha) for alpha in work]


def _solved(tables: "Tables", policies: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    """Solve the rules among the policies; one without a finite answer is left out, with a word, unless all are."""
    from cai.errors import ImpossibleError, NotConvergedError
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


def _report(
    world: str,
    tables: "Tables",
    rules: Mapping[str, Any],
    temperature: Sequence[float] | None,
    out: Path,
    *,
    quiet: bool,
) -> None:
    _write(world, _compare(tables, rules, temperature), out, [], quiet=quiet)


def _write(world: str, comparisons: Sequence["Comparison"], out: Path, notes: Sequence[str], *, quiet: bool) -> None:
    from cai.view.report import write_report

    page = write_report(comparisons, out, title=f"cai compare {world}", notes=notes)
    print(f"report: {page.resolve()}", file=sys.stderr if quiet else sys.stdout)


def _describe(tables: "Tables") -> str:
    T, S, A = tables.horizon, tables.states.size, tables.actions.size
    clock = f"T = {T}" if T is not None else "infinite horizon"
    return f"{S:,} states, {A:,} actions, {tables.log_prob.shape[-1]:,} outcomes, {clock}, γ = {tables.discount:g}"


def _print_comparison(world: str, one: "Comparison") -> None:
    heads = (
        "policy",
        "return",
        "entropy",
        "KL prior",
        "ELBO",
        "ELBO*-ELBO",
        "log Z-ELBO",
        "start",
        "action",
        "luck",
    )
    columns = ["name", "expected_return", "entropy", "kl_to_prior", "elbo", "optimality_gap", "evidence_gap"]
    columns += ["start_nats", "action_nats", "luck_nats"]
    rows = [[getattr(row, name) for name in columns] for row in one.rows]
    title = f"{world} at α = {one.temperature:g}: {_describe(one.tables)}"
    _print_table(title, heads, rows)
    star, evidence = (_cell(value) for value in (one.elbo_star, one.log_evidence))
    print(
        f"ELBO* = {star} nats (VARIATIONAL), log Z = {evidence} nats (POSTERIOR); returns in reward units, else nats\n"
    )


def _print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    wide = Console() if sys.stdout.isatty() else Console(width=max(160, len(title)))
    wide.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{0.0 if abs(value) < 5e-10 else value:.6g}"
    return str(value)


if __name__ == "__main__":
    main()

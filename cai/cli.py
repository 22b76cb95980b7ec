"""The command line: cai solve | compare | graph | check. Nothing heavy is imported before a command runs."""

import contextlib
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
    from cai.exact.messages import Messages
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
Horizon = Annotated[str | None, typer.Option(help="T, or 'inf' (needs a discount below 1).")]
Discount = Annotated[float | None, typer.Option(help="The chance γ to survive a step, in (0, 1].")]
Temperature = Annotated[
    list[float] | None, typer.Option("--temperature", "-t", help="α, reward units; 1 unless given.")
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        "-r",
        help="POSTERIOR, VARIATIONAL, HARD, MAP or 'RISK(eta)'; repeatable. Unless given, solve takes POSTERIOR, "
        "compare all four and the prior (MAP-plan: replan the most probable trajectory at every state).",
    ),
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
        except BrokenPipeError:  # somebody took the first lines and left
            sys.stdout = None
            raise typer.Exit(0) from None
        except OSError as error:
            _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 2)
        except KeyboardInterrupt:
            _stop("interrupted", 130)

    return wrapped


def _stop(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"cai: {line}", file=sys.stderr)
    raise typer.Exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("cai"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Control as inference: exact posterior, variational and hard optimum of any finite world."""


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
    _require_folder(out)
    made, rules = _world(world, settings, horizon, discount), _rules(rule or ["POSTERIOR"], prior=False)
    from cai.compile.tabulate import tabulate

    tables = tabulate(made)
    rows = []
    for alpha in temperature or [1.0]:
        rows += [_solution(name, found) for name, found in _solved(tables, rules, alpha).items()]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        from cai.view.terminal import describe, print_table

        heads = ("rule", "α", "start value (reward)", "log Z (nats)", "ELBO* (nats)", "form", "backups", "error bound")
        print_table(f"{world}: {describe(tables)}", heads, [list(row.values()) for row in rows])
    if out is not None:
        _write(_title(world, settings), made, _compare(tables, rules, temperature), out, [], quiet=as_json)


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
    _require_folder(out)
    made, policies = _world(world, settings, horizon, discount), _rules(rule or list(EVERY), prior=True)
    from cai.compile.tabulate import tabulate

    comparisons = _compare(tabulate(made), policies, temperature)
    lesson = None
    if twin:
        from cai.view.lessons import twin_lesson

        changed = [*(settings or []), *twin]
        other = _compare(tabulate(_world(world, changed, horizon, discount)), policies, temperature)
        lesson = twin_lesson(_title(world, settings), comparisons, _title(world, changed), other)
    if as_json:
        print(json.dumps([json.loads(one.json()) for one in comparisons], indent=2))
    else:
        from cai.view.terminal import print_comparison

        for one in comparisons:
            print_comparison(world, one)
        if lesson:
            print(lesson)
    if out is not None:
        _write(_title(world, settings), made, comparisons, out, [lesson] if lesson else [], quiet=as_json)


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
    if out is not None and out.suffix not in {".png", ".svg"}:
        from cai.errors import fault

        raise fault("--out", f"'{out}'", "a file that ends in .png or .svg")
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
        from cai.view.terminal import print_table

        print_table(f"{world}, {slices} slices", ("node", "kind", "t", "observed", "parents"), rows)
        groups = entangled(dag, 1)
        if sum(len(group) for group in groups) > 1:
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
        if horizon not in {"inf", "none", "None"} and not horizon.isdecimal():
            raise fault("--horizon", f"'{horizon}'", "a positive integer, or 'inf'")
        overrides["horizon"] = int(horizon) if horizon.isdecimal() else None
    if discount is not None:
        overrides["discount"] = discount
    with contextlib.redirect_stdout(sys.stderr):  # what a file prints on its own is no part of the answer
        return load_world(spec, pairs, overrides)


def _require_folder(out: Path | None) -> None:
    from cai.errors import fault

    if out is not None and out.exists() and not out.is_dir():
        raise fault("--out", f"'{out}' is a file", "a folder, made where it is missing")


def _title(world: str, settings: Sequence[str] | None) -> str:
    """Name a world with its settings; a later setting of one name counts."""
    pairs = dict(text.split("=", 1) for text in settings or ())
    return " ".join([world, *(f"{name}={value}" for name, value in pairs.items())])


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


def _write(
    title: str, world: Any, comparisons: Sequence["Comparison"], out: Path, notes: Sequence[str], *, quiet: bool
) -> None:
    from cai.graphs import graph as read_graph
    from cai.view.report import write_report

    dag = read_graph(world, min(2, world.horizon or 2))
    page = write_report(comparisons, out, title=title, notes=notes, dag=dag)
    print(f"report: {page.resolve()}", file=sys.stderr if quiet else sys.stdout)


if __name__ == "__main__":
    main()

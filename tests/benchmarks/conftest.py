"""The tables at the end of a run: printed, and written to ``reports/benchmarks.md``."""

from typing import Any

from tests.benchmarks import report
from tests.benchmarks.cases import rule_of
from tests.benchmarks.curves import THRESHOLDS, spread
from tests.benchmarks.run import machine
from tests.benchmarks.worker import ROOT

ROWS: list[dict[str, Any]] = []
FITS: list[dict[str, Any]] = []
GRADIENTS: list[dict[str, Any]] = []
VARIANCES: list[dict[str, Any]] = []
CURVES: list[dict[str, Any]] = []
SPEEDS: list[dict[str, float]] = []
SHARDS: list[dict[str, Any]] = []
FACTORED: list[dict[str, Any]] = []
WHOLE: list[dict[str, Any]] = []
SYMBOLIC: list[dict[str, Any]] = []
COMPETITION: list[dict[str, Any]] = []
REGULATORS: list[dict[str, Any]] = []
TEXTS: list[dict[str, Any]] = []


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as a Markdown table; a ratio above 1 is slower than cai on the same rule."""
    ours = {(row["case"], rule_of(row["method"])): row["seconds"] for row in rows if row["method"].startswith("cai")}
    lines = ["| world | method | seconds | ratio to cai | peak while solving |", "|---|---|--:|--:|--:|"]
    for row in rows:
        base = ours.get((row["case"], rule_of(row["method"])))
        ratio = f"{row['seconds'] / base:.3g}" if base else ""
        cells = [row["case"], row["method"], f"{row['seconds']:.4f}", ratio, f"{row['solve_peak'] / 1e9:.2f} GB"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def fits() -> list[str]:
    """Return the fits as a Markdown table."""
    lines = ["| world | policy | steps | seconds | stopped | gap, nats |", "|---|---|--:|--:|---|--:|"]
    for row in FITS:
        found = row["fit"]
        cells = [row["world"], row["policy"], found.steps, f"{row['seconds']:.1f}", found.stopped, f"{found.gap:.2g}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def gradients() -> list[str]:
    """Return the cost of one exact gradient, three ways, as a Markdown table."""
    ours = {row["case"]: row["seconds"] for row in GRADIENTS if row["method"].startswith("cai")}
    lines = ["| world | method | milliseconds | ratio to cai |", "|---|---|--:|--:|"]
    for row in GRADIENTS:
        ratio = f"{row['seconds'] / ours[row['case']]:.3g}" if row["case"] in ours else ""
        lines.append(f"| {row['case']} | {row['method']} | {1e3 * row['seconds']:.1f} | {ratio} |")
    return lines


def variances() -> list[str]:
    """Return the variances of the sampled gradients as a Markdown table; the ratio is to the plain score function."""
    plain = {row["case"]: row["variance"] for row in VARIANCES if row["kind"] == "score function"}
    head = "| world | estimator | variance | ratio | seconds for 10,000 |"
    lines = [head, "|---|---|--:|--:|--:|"]
    for row in VARIANCES:
        ratio = f"{row['variance'] / plain[row['case']]:.2f}" if row["case"] in plain else ""
        cells = [row["case"], row["kind"], f"{row['variance']:.3g}", ratio, f"{row['seconds']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def learners() -> list[str]:
    """Return what the learners reached, and held, as a Markdown table."""
    head = "| task | learner | reached, held | CPU s to reach | to stay | final | worst after best | in Gymnasium |"
    lines = [head, "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in CURVES:
        curves, threshold = row["curves"], THRESHOLDS[row["task"]]
        reached = [curve.reached(threshold) for curve in curves]
        held = sum(curve.held(threshold) for curve in curves)
        there = f"{sum(x is not None for x in reached)}, {held} of {len(curves)}"
        times = [spread(reached), spread([curve.settled(threshold) for curve in curves])]
        final, worst = sorted(c.scores[-1] for c in curves), min(c.worst_after_best for c in curves)
        least = min(c.there for c in curves)
        scores = [f"{final[0]:.1f} … {final[-1]:.1f}", f"{worst:.1f}", f"{least:.1f}"]
        cells = [row["task"], row["name"], there, *times, *scores]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def speeds() -> list[str]:
    """Return environment steps a second and core as a Markdown table."""
    lines = ["| rollout, steps a second | plain loop | ratio |", "|--:|--:|--:|"]
    return lines + [f"| {x['cai']:,.0f} | {x['loop']:,.0f} | {x['cai'] / x['loop']:.1f} |" for x in SPEEDS]


def shards() -> list[str]:
    """Return what sharing the states out to processes gains, the slowest of them counted, as a Markdown table."""
    head = "| processes | tabulate, s | backups, s | exchange, s | disk, s | in all, s | sweep, ratio | in all, ratio |"
    lines = [head + " peak of each | halo |", "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    sweeps = [row["backup"] + row["exchange"] for row in SHARDS]
    for row, sweep in zip(SHARDS, sweeps, strict=True):
        times = [f"{row[name]:.2f}" for name in ("tabulate", "backup", "exchange", "write", "whole")]
        ratios = [f"{sweeps[0] / sweep:.2f}", f"{SHARDS[0]['whole'] / row['whole']:.2f}"]
        cells = [row["processes"], *times, *ratios, f"{row['peak'] / 1e9:.2f} GB", f"{row['halo']:,}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def factored() -> list[str]:
    """Return what one backup costs on factors and on tables as a Markdown table."""
    head = "| machines | rule | factors, ms | peak | compile and plan, s | tables, ms | peak | tabulate, s | ratio |"
    lines = [head, "|--:|---|--:|--:|--:|--:|--:|--:|--:|"]
    for row in FACTORED:
        ours, flat = row["factors"], row.get("tables")
        cells = [row["n"], row["rule"], f"{1e3 * ours['seconds']:.3g}", f"{ours['peak'] / 1e9:.2f} GB"]
        cells += [f"{ours['ready']:.2f}"]
        if flat is None:
            cells += ["", "", "", ""]
        else:
            cells += [f"{1e3 * flat['seconds']:.3g}", f"{flat['peak'] / 1e9:.2f} GB", f"{flat['ready']:.2f}"]
            cells += [f"{flat['seconds'] / ours['seconds']:.2g}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def whole() -> list[str]:
    """Return whole solves on factors as a Markdown table."""
    lines = ["| machines | T | seconds | peak |", "|--:|--:|--:|--:|"]
    return lines + [f"| {x['n']} | {x['T']} | {x['seconds']:.2f} | {x['peak'] / 1e9:.2f} GB |" for x in WHOLE]


def symbolic() -> list[str]:
    """Return symbolic value iteration beside ours, five steps, as a Markdown table."""
    head = "| machines | pyRDDLGym-symbolic, s | cai, s | ratio | its start value | cai's |"
    lines = [head, "|--:|--:|--:|--:|--:|--:|"]
    rows = [
        f"{x['peer']:.2f} | {x['seconds']:.2f} | {x['peer'] / x['seconds']:.2g} | {x['theirs']:.6f} | {x['value']:.6f}"
        for x in SYMBOLIC
    ]
    return lines + [f"| {x['n']} | {row} |" for x, row in zip(SYMBOLIC, rows, strict=True)]


def competition() -> list[str]:
    """Return IPPC 2011's instances, solved and run, as a Markdown table."""
    head = "| problem | states | actions | value promised | mean of 300 runs | seconds | peak |"
    lines = [head, "|---|--:|--:|--:|--:|--:|--:|"]
    for x in COMPETITION:
        name, mean = f"{x['problem']} {x['instance']}", f"{x['mean']:.2f} ± {x['error']:.2f}"
        cells = [name, f"{x['states']:,}", x["actions"], f"{x['value']:.3f}", mean, f"{x['seconds']:.1f}"]
        lines.append("| " + " | ".join(map(str, [*cells, f"{x['peak'] / 1e9:.2f} GB"])) + " |")
    return lines


def regulators() -> list[str]:
    """Return linear-Gaussian worlds and their peers as a Markdown table."""
    lines = ["| systems | method | milliseconds |", "|---|---|--:|"]
    return lines + [f"| {x['case']} | {x['method']} | {1e3 * x['seconds']:.3g} |" for x in REGULATORS]


def texts() -> list[str]:
    """Return models of language × automata as a Markdown table."""
    head = "| order | automaton | T | states | fit, s | build, s | tabulate, s | solve, ms | a backup, ms | peak |"
    lines = [head, "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for x in TEXTS:
        steps = [f"{x[step]:.2f}" for step in ("fit", "build", "tabulate")]
        solve = [f"{1e3 * x['solve']:.3g}", f"{1e3 * x['solve'] / x['horizon']:.3g}", f"{x['peak'] / 1e9:.2f} GB"]
        cells = [x["order"], x["places"], x["horizon"], f"{x['states']:,}", *steps, *solve]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the tables of what was measured, and write them."""
    sections = {
        **report.sections(),
        "small worlds, whole solves": table(ROWS),
        "fits to a thousandth of a nat": fits(),
        "one exact gradient": gradients(),
        "the variance of one trajectory's gradient": variances(),
        "learners": learners(),
        "roll-outs of FrozenLake 8x8": speeds(),
        "ten million cells, T = 20, sharded": shards(),
        "a ring of machines, one backup": factored(),
        "a ring of machines, whole solves under VARIATIONAL": whole(),
        "a ring of machines, four steps of value iteration": symbolic(),
        "IPPC 2011, horizon 40, under HARD": competition(),
        "linear-Gaussian worlds": regulators(),
        "a model of language × an automaton, 27 letters, POSTERIOR, one thread": texts(),
    }
    measured = {title: lines for title, lines in sections.items() if len(lines) > 2}
    if not measured:
        return
    pages = ["# Benchmarks: one run", "", *machine()]
    for title, lines in measured.items():
        pages += ["", f"## {title}", "", *lines]
    terminalreporter.section("benchmarks")
    for line in pages:
        terminalreporter.write_line(line)
    file = ROOT / "reports" / "benchmarks.md"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join([*pages, ""]))
    terminalreporter.write_line(f"\nwritten to {file.relative_to(ROOT)}")

"""The tables at the end of a run: printed, and written to ``reports/benchmarks.md``."""

from typing import Any

from tests.benchmarks import report
from tests.benchmarks.cases import rule_of
from tests.benchmarks.learners import THRESHOLDS, spread
from tests.benchmarks.run import machine
from tests.benchmarks.worker import ROOT

ROWS: list[dict[str, Any]] = []
FITS: list[dict[str, Any]] = []
GRADIENTS: list[dict[str, Any]] = []
VARIANCES: list[dict[str, Any]] = []
CURVES: list[dict[str, Any]] = []
SPEEDS: list[dict[str, float]] = []
SHARDS: list[dict[str, Any]] = []


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

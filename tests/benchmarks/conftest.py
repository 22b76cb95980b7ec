"""One table at the end of a run: every method beside ``cai`` on the same rule."""

from typing import Any

from tests.benchmarks.cases import rule_of

ROWS: list[dict[str, Any]] = []


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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and what compiling cost."""
    if not ROWS:
        return
    terminalreporter.section("side by side (median of the rounds, float64)")
    for line in table(ROWS):
        terminalreporter.write_line(line)
    for row in ROWS:
        if row["method"] == "cai, POSTERIOR":
            seconds, peak = row["compile_seconds"], row["compile_peak"] / 1e9
            terminalreporter.write_line(f"tabulate, {row['case']}: {seconds:.3f} s, peak {peak:.2f} GB with imports")

"""The engine's tables, as Markdown; what they mean stands in tests/benchmarks/RESULTS.md."""

from collections.abc import Iterator

from tests.benchmarks.posterior_peers import PEERS as POSTERIOR_PEERS
from tests.benchmarks.run import RUN, Found
from tests.benchmarks.targets import targets
from tests.benchmarks.variational_peers import PEERS as VARIATIONAL_PEERS

LIMITS = {
    "POSTERIOR": {"merged": "limit of merged successors, 60 bytes read"},
    "VARIATIONAL": {
        "generic": "limit of the generic format, 220 bytes read",
        "compact": "limit of the compact format, 100 bytes read",
    },
}
PEERS = {"POSTERIOR": POSTERIOR_PEERS, "VARIATIONAL": VARIATIONAL_PEERS}
T = 50


def sections() -> dict[str, list[str]]:
    """Return the tables by title; one that nothing was measured for has two lines."""
    return {
        "one backup of 10^6 cells under POSTERIOR": backups("POSTERIOR"),
        "one backup of 10^6 cells under VARIATIONAL": backups("VARIATIONAL"),
        "all rules on 10^6 cells": rules(),
        "a script that tabulates and solves under POSTERIOR": whole(),
        "log Z of FrozenLake 8x8, T = 200, one thread": lake(),
        "log Z and its gradient with respect to every reward": gradients(),
        "targets": [*_head("target", "at most or least", "seen", "verdict"), *targets()],
    }


def backups(rule: str) -> list[str]:
    """Return one backup by everybody: a ratio to the limit at the same number of threads."""
    lines = _head("method", "at low α", "threads", "ms", "ratio to the limit", "peak")
    first = next(iter(LIMITS[rule]))
    for name, title in LIMITS[rule].items():
        for threads in (1, 2):
            seconds = RUN.limits.get(f"{name}, {threads}")
            if seconds:
                rate = f"{RUN.rates[f'{name}, {threads}'] / 1e9:.0f} GB/s"
                numbers = f"{1e3 * seconds:.2f}", _ratio(seconds, first, threads), ""
                lines.append(_row(f"{title}, {rate}", "", threads, *numbers))
    for (one, name, threads), found in RUN.peers.items():
        if one == rule:
            safe = "unsafe" if PEERS[rule][name].unsafe else "safe"
            lines.append(_row(name, safe, threads, *_numbers(found, first, threads)))
    lines += [_row(name, why, "", "", "", "") for (one, name), why in RUN.absent.items() if one == rule]
    for kind, found, threads in _ours(rule):
        lines.append(_row(f"**cai, {kind}**", "safe", threads, *_numbers(found, first, threads)))
    return lines if len(RUN.peers) else lines[:2]


def rules() -> list[str]:
    """Return our backups and solves under every rule."""
    lines = _head(
        "rule", "threads", "made ready, s", "a backup, ms", "peak", "a solve of T = 50, ms a backup", "peak of that"
    )
    for (rule, threads), found in RUN.ours.items():
        solved = RUN.solves.get((rule, threads))
        rest = [f"{1e3 * solved['seconds'] / T:.2f}", _size(solved)] if solved else ["", ""]
        numbers = f"{found['ready']:.2f}", f"{1e3 * found['seconds']:.2f}"
        lines.append(_row(rule, threads, *numbers, _size(found), *rest))
    return lines


def whole() -> list[str]:
    """Return what a fresh process needs."""
    lines = _head("cells", "T", "tabulate, s", "solve, s", "solve, ms a backup", "peak, all in all")
    for (side, horizon), found in RUN.whole.items():
        each = f"{1e3 * found['solve'] / horizon:.2f}"
        times = f"{found['tabulate']:.2f}", f"{found['solve']:.2f}"
        lines.append(_row(f"{side**2:,}", horizon, *times, each, _size(found)))
    return lines


def lake() -> list[str]:
    """Return the ways to one evidence."""
    lines = _head("method", "ms", "ratio to cai")
    for name, found in RUN.lake.items():
        ratio = found["seconds"] / RUN.lake["cai"]["seconds"]
        lines.append(_row(name, f"{1e3 * found['seconds']:.2f}", f"{ratio:.3g}"))
    return lines


def gradients() -> list[str]:
    """Return the ways to one gradient."""
    lines = _head("world", "method", "ms", "ratio to the sweep", "peak")
    titles = {"sweep": "cai, log Z alone", "cai": "cai, log Z and gradient", "autograd": "autograd, log Z and gradient"}
    for case, ways in RUN.gradients.items():
        for way, found in ways.items():
            ratio = found["seconds"] / ways["sweep"]["seconds"]
            lines.append(_row(case, titles[way], f"{1e3 * found['seconds']:.2f}", f"{ratio:.3g}", _size(found)))
    return lines


def _ours(rule: str) -> Iterator[tuple[str, Found, int]]:
    for threads in (1, 2):
        if (rule, threads) in RUN.ours:
            yield "a backup", RUN.ours[rule, threads], threads
    for threads in (1, 2):
        if (rule, threads) in RUN.solves:
            found = RUN.solves[rule, threads]
            yield f"a solve of T = {T}, a backup", {**found, "seconds": found["seconds"] / T}, threads


def _numbers(found: Found, limit: str, threads: int) -> tuple[str, str, str]:
    return f"{1e3 * found['seconds']:.2f}", _ratio(found["seconds"], limit, threads), _size(found)


def _ratio(seconds: float, limit: str, threads: int) -> str:
    least = RUN.limits.get(f"{limit}, {threads}")
    return f"{seconds / least:.2f}" if least else ""


def _size(found: Found) -> str:
    return f"{found['peak'] / 1e9:.2f} GB"


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _head(*names: str) -> list[str]:
    return [_row(*names), "|" + "---|" * len(names)]

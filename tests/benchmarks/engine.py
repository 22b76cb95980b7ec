"""What a fresh process measures on the catalogue's grid: a peer's backups, ours, and whole solves."""

import time
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch

import cai
from cai.exact.tables.backup import Equation
from cai.exact.tables.backup_forms import ready
from tests.benchmarks import posterior_peers, variational_peers
from tests.benchmarks.cases import grid
from tests.benchmarks.peer import Peer, of_values
from tests.benchmarks.worker import clocked, peak, reset_peak, summary

ALPHA = 0.1
RULES = {
    "POSTERIOR": cai.POSTERIOR,
    "VARIATIONAL": cai.VARIATIONAL,
    "HARD": cai.HARD,
    "MAP": cai.MAP,
    "PLANNING": cai.PLANNING,
    "RISK(-1)": cai.RISK(-1.0),
}
PEERS = {"POSTERIOR": posterior_peers.PEERS, "VARIATIONAL": variational_peers.PEERS}
SAMPLED = 9973
"""Of so many states one is compared."""


def peer(rule: str, name: str, side: int) -> dict[str, Any]:
    """Measure one peer's backup, with each number of threads."""
    torch.set_grad_enabled(False)
    method, tables = PEERS[rule][name], cai.tabulate(grid(side))
    builds = {threads: partial(method.build, tables, ALPHA, threads) for threads in method.threads}
    del tables  # each keeps what it needs
    return {threads: _backups(builds.pop(threads), side, threads) for threads in method.threads}


def ours(rule: str, side: int) -> dict[str, Any]:
    """Measure our backup, made ready, with one thread and with two."""
    torch.set_grad_enabled(False)
    tables = cai.tabulate(grid(side))
    return {threads: _backups(partial(_step, rule, tables), side, threads) for threads in (1, 2)}


def solves(rule: str, side: int, T: int) -> dict[str, Any]:
    """Measure whole solves, preparation and all, with one thread and with two; v of all times is kept."""
    torch.set_grad_enabled(False)
    tables, found = cai.tabulate(grid(side, T)), {}
    cai.solve(cai.tabulate(grid(300, T)), RULES[rule], temperature=ALPHA)  # so that kernels are compiled
    for threads in (1, 2):
        torch.set_num_threads(threads)
        reset_peak()
        seconds = clocked(partial(cai.solve, tables, RULES[rule], temperature=ALPHA), least=2, rounds=4, seconds=3.0)
        found[threads] = {**summary(seconds), "peak": peak()}
    return found


def from_nothing(side: int, T: int, threads: int) -> dict[str, float]:
    """Tabulate and solve under POSTERIOR, as a user's script would; the peak is that of the whole process.

    The time is that of the better of two solves, of which the first reads its kernels from disk.
    """
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    begin = time.perf_counter()
    tables = cai.tabulate(grid(side, T))
    facts = {"tabulate": time.perf_counter() - begin, "solve": _solved(tables), "peak": peak()}
    return {**facts, "solve": min(facts["solve"], _solved(tables))}


def _solved(tables: cai.Tables) -> float:
    begin = time.perf_counter()
    cai.solve(tables, temperature=ALPHA)
    return time.perf_counter() - begin


def _step(rule: str, tables: cai.Tables) -> Peer:
    alpha, S = tables.terminal.new_tensor(ALPHA), tables.states.size
    step = ready(Equation(RULES[rule], tables.at(0), alpha, tables.log_survival), uses=50)
    rooms = cycle([torch.from_numpy(np.empty(S)), torch.from_numpy(np.empty(S))])
    return of_values(lambda v: step(v, out=next(rooms)), torch.from_numpy)


def _backups(build: Any, side: int, threads: int) -> dict[str, Any]:
    """Take backups one after the other; the peak is that of the backups, with all that they need."""
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    method: Peer = build()
    built = time.perf_counter() - begin
    reset_peak()
    kept = [method.enter(-np.random.default_rng(0).random(side**2))]
    sample = method.leave(method.step(kept[0]))[::SAMPLED].tolist()

    def advance() -> None:
        kept[0] = method.step(kept[0])

    seconds = clocked(advance)
    return {**summary(seconds), "ready": built, "peak": peak(), "sample": sample}

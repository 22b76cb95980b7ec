"""n-grams of letters × an automaton: built, tabulated and solved under POSTERIOR, in a process of its own."""

import time
from collections.abc import Callable
from typing import Any

import torch

import cai
from cai import language
from tests.benchmarks.worker import clocked, peak

ALPHA = 0.1


def solved(order: int, horizon: int, contained: str) -> dict[str, Any]:
    """Return the seconds of each step, the first of its kind in a process but for the solve, whose least counts."""
    torch.set_num_threads(1)
    vocabulary, found = language.characters(), dict[str, Any]()

    def timed(step: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        done = work()
        found[step] = time.perf_counter() - begin
        return done

    text, automaton = language.plain(language.alice()), language.containing(contained, vocabulary)
    model = timed("fit", lambda: language.fit_ngram(text, order, vocabulary=vocabulary))
    world = timed("build", lambda: language.language_world(model, automaton, horizon=horizon))
    tables = timed("tabulate", lambda: cai.tabulate(world))
    solves = clocked(lambda: cai.solve(tables, temperature=ALPHA))
    log_z = float(cai.solve(tables, temperature=ALPHA).log_evidence)
    return found | {
        "states": world.size,
        "places": len(automaton),
        "solve": solves[0],
        "log_evidence": log_z,
        "peak": peak(),
    }

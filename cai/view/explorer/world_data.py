"""A finite world as plain data for a page: see ``cai.view.explorer`` for what the fields mean."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cai.compile.table_model import Slice, Tables
from cai.errors import Finding, ImpossibleError, IntractableError
from cai.exact.rules import HARD
from cai.exact.solve import solve
from cai.exact.temperature import as_temperature
from cai.view.explorer.arrays import Arrays
from cai.view.explorer.options import Option, Variants
from cai.view.explorer.state_map import cells_entered, map_of, moves_of
from cai.view.graph_figure import KINDS, places_of
from cai.view.sizes import size_of
from cai.world.definition import World
from cai.world.dependencies import graph

MOST_STATES, MOST_OUTCOMES, MOST_BYTES = 5000, 400_000, 4_500_000
"""A browser sweeps so many outcomes in a second, and the page stays below 5 MB."""
LONGEST = 1000
"""The largest T of the slider, unless the world's own is larger."""
MOST_VALUES = 6_000_000
"""Numbers of states, actions and times together: three arrays of them, for each rule, are some hundred megabytes."""
ALIVE = 1e-3
"""An infinite horizon begins as the T at which so few trajectories live on."""


def world_data(variants: Variants, *, title: str | None = None, temperature: float | None = None) -> dict[str, Any]:
    """Write a finite world, in all its variants, as plain data.

    Args:
        variants: the world as tables, for each joint value of its options.
        title: of the page; the name of the world unless given.
        temperature: the initial α, reward units; unless given, the one with the best return.

    Raises:
        WorldError: the temperature is no positive, finite number.
        IntractableError: it is too large for a page.
    """
    tables = variants.chosen
    require_small(variants)
    arrays, clock = Arrays(), _clock(tables)
    encoded = [_tables(each, arrays) for each in variants.tables]
    require_bytes(arrays.size, len(variants.tables))
    return {
        "title": title or variants.name,
        "size": size_of(tables),
        "notes": list(_notes(tables, clock["start"])),
        "states": {"count": tables.states.size, "labels": [tables.states.label(s) for s in range(tables.states.size)]},
        "actions": {
            "count": tables.actions.size,
            "labels": [tables.actions.label(a) for a in range(tables.actions.size)],
            "moves": moves_of(tables),
        },
        "clock": clock,
        "map": map_of(tables),
        "options": [_option(option) for option in variants.options],
        "variants": encoded,
        "arrays": arrays.encoded,
        "graph": None if variants.world is None else graph_data(variants.world),
        "defaults": _defaults(tables, temperature, clock["start"]),
    }


def require_small(variants: Variants) -> None:
    """Raise where a page could not hold the world, or a browser not sweep it.

    Raises:
        IntractableError: it is so.
    """
    tables = variants.chosen
    outcomes = int((tables.log_prob > -torch.inf).sum())
    for what, size, most in (("states", tables.states.size, MOST_STATES), ("outcomes", outcomes, MOST_OUTCOMES)):
        if size > most:
            expected = f"at most {most:,}: a smaller world (cai.solve and cai.report take this one)"
            raise IntractableError([Finding("explore", f"{size:,} {what}", expected)])


def require_bytes(size: int, variants: int) -> None:
    """Raise where the page would be too large to be sent around.

    Raises:
        IntractableError: it is so.
    """
    if size > MOST_BYTES:
        many = f" in {variants} variants" if variants > 1 else ""
        expected = f"at most {MOST_BYTES:,}: {'fewer values of its options' if variants > 1 else 'a smaller world'}"
        raise IntractableError([Finding("explore", f"{size:,} characters of numbers{many}", expected)])


def _clock(tables: Tables) -> dict[str, Any]:
    """Return the clock of the page: its T is cut where a browser could not hold the values of all times."""
    T, most = tables.horizon, max(1, MOST_VALUES // (tables.states.size * tables.actions.size))
    life = T or max(1, min(200, math.ceil(math.log(ALIVE) / math.log(tables.discount))))
    start = min(life, most)
    known = LONGEST if tables.longest is None else tables.longest
    longest = start if tables.timed else max(start, min(4 * start, LONGEST, most, known))
    return {"horizon": T, "discount": tables.discount, "timed": tables.timed, "start": start, "longest": longest}


def _notes(tables: Tables, start: int) -> Iterator[str]:
    """Say what the page leaves out."""
    if tables.horizon is None:
        yield (
            "The world has an infinite horizon; the page cuts it at a horizon T. With a discount below 1, almost no "
            "trajectory is alive after a large T, so a larger T does not change the values."
        )
    elif start < tables.horizon:
        yield f"The world has T = {tables.horizon:,} steps; the page cuts it at {start:,} to fit in memory."


def _option(option: Option) -> dict[str, Any]:
    return {"name": option.name, "values": list(option.values), "labels": option.labels, "chosen": option.chosen}


def _tables(tables: Tables, arrays: Arrays) -> dict[str, Any]:
    slices = [_slice(tables, slice_, arrays) for slice_ in tables.slices()]
    distinct = [slice_ for i, slice_ in enumerate(slices) if slice_ not in slices[:i]]
    ended = torch.zeros(tables.states.size) if tables.ended is None else tables.ended
    return {
        "initial": arrays.add(tables.log_initial.numpy()),
        "terminal": arrays.add(tables.terminal.numpy()),
        "ended": arrays.add(ended.numpy(), "i4"),
        "usual_reward": _usual_reward(tables),
        "slice_at": arrays.add([distinct.index(slice_) for slice_ in slices], "i4") if tables.timed else None,
        "slices": distinct,
    }


def _slice(tables: Tables, slice_: Slice, arrays: Arrays) -> dict[str, str]:
    """Leave out the outcomes of probability zero, and say where those of each (s, a) begin."""
    possible = (slice_.log_prob > -torch.inf).numpy()
    offset = np.concatenate([[0], np.cumsum(possible.sum(-1).reshape(-1))])
    return {
        "log_prior": arrays.add(slice_.log_prior.numpy()),
        "offset": arrays.add(offset, "i4"),
        "log_prob": arrays.add(slice_.log_prob.numpy()[possible]),
        "successor": arrays.add(slice_.successor.numpy()[possible], "i4"),
        "reward": arrays.add(slice_.reward.numpy()[possible]),
        "cell": arrays.add(cells_entered(tables, slice_)[possible], "i4"),
    }


def _usual_reward(tables: Tables) -> float:
    """Return the finite reward that most outcomes pay, over the states that have not ended."""
    possible = (tables.log_prob > -torch.inf) & (tables.reward > -torch.inf)
    if tables.ended is not None:
        possible = possible & ~tables.ended[:, None, None]
    values, counts = np.unique(tables.reward.numpy()[possible.numpy()], return_counts=True)
    return float(values[counts.argmax()]) if values.size else 0.0


def graph_data(world: World) -> dict[str, Any]:
    """Return the nodes and edges of the graphical model: x counts time slices, y the rows of variables from the top."""
    dag = graph(world)
    places = places_of(dag, column=1.0)
    lowest = max(y for _, y in places.values())
    nodes = [
        {
            "id": node,
            "variable": data["variable"],
            "time": data["time"],
            "kind": data["kind"] if data["kind"] in KINDS else "latent",
            "observed": data["observed"],
            "x": places[node][0],
            "y": (lowest - places[node][1]) / 1.12,
        }
        for node, data in dag.nodes(data=True)
    ]
    return {"slices": dag.graph["slices"], "nodes": nodes, "edges": [list(edge) for edge in dag.edges]}


def _defaults(tables: Tables, temperature: float | None, steps: int) -> dict[str, float]:
    """Choose the temperature at which deciding everything costs half of what there is to be won.

    A policy that leaves nothing open pays log A nats a step. So ``α = |J*| / (2 n log A)``, with J* the best return and
    n the steps of a life. Where J* is 0 or -inf it is a fiftieth of the largest reward.
    """
    finite = torch.cat([tables.reward.reshape(-1), tables.terminal.reshape(-1)])
    largest = float(finite[finite.isfinite()].abs().max()) or 1.0
    life = steps if tables.discount == 1 else (1 - tables.discount**steps) / (1 - tables.discount)
    decided = _best_return(tables, steps) / (2 * life * max(math.log(tables.actions.size), 0.5))
    chosen = float(f"{decided or largest / 50:.1g}") if temperature is None else temperature
    alpha = float(as_temperature(chosen))
    return {
        "temperature": alpha,
        "coldest": min(alpha, 10 ** math.floor(math.log10(alpha) - 2)),
        "warmest": max(alpha, 10 ** math.ceil(math.log10(largest) + 1)),
        "eta": float(f"{-5 * alpha:.3g}"),
    }


def _best_return(tables: Tables, steps: int) -> float:
    """Return the size of the best expected return, 0 where there is none."""
    try:
        return abs(float(solve(replace(tables, horizon=steps), HARD).value))
    except ImpossibleError:
        return 0.0

"""The slices of a world as look-up tables: a uniform number picks the outcome of each copy.

Shapes: ``*B`` is no dimension, or that of a batch; arrays are NumPy's, numbers are those of the tables' states and
actions. No randomness is drawn here: every draw is a function of uniform numbers in [0, 1).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import IntractableError, WorldError, fault, user_code
from cai.support.process import precision
from cai.world.spec import Spec

MOST = 1_000_000
"""Outcomes of all times that are worth a table for steps."""

Array = Any
"""A NumPy array, or a number where there is one copy."""


@dataclass(frozen=True)
class Shares:
    """Rows of cumulative probabilities, one row after the other, each padded with 1 to a power of two.

    Attributes:
        bounds: the end of each column's share of [0, 1), ``[R width]``.
        width: columns of a row.
    """

    bounds: Array
    width: int

    def place(self, row: Array, u: Array) -> Array:
        """Return ``row·width + k``, with k the first column whose end lies above u, by bisection; ``*B`` all."""
        place, step = row * self.width, self.width // 2
        while step:
            place = place + step * (self.bounds[place + (step - 1)] <= u)
            step //= 2
        return place


def shares(log_prob: Tensor) -> Shares:
    """Return the shares of rows of log-probabilities, ``[R, K]``, nats; a row without any is all its first column's."""
    width = 1 << (log_prob.shape[-1] - 1).bit_length()
    p = log_prob.exp().numpy().cumsum(-1)
    total = p[:, -1:]
    if np.isnan(total).any():
        raise fault("roll-out", "a probability that is NaN", "probabilities")
    bounds = np.ones((len(p), width))
    # 1 from the last possible column on, so that no rounding leads beyond it.
    bounds[:, : p.shape[1]] = np.where(p >= total, 1.0, p / np.where(total > 0, total, 1.0))
    return Shares(bounds.reshape(-1), width)


class Outcomes:
    """The slices of tables, ready to be looked up."""

    def __init__(self, spec: Spec, tables: Tables) -> None:
        self.tables = tables
        self.times = tables.horizon if tables.timed else None
        self.S, self.A, K = tables.states.size, tables.actions.size, tables.log_prob.shape[-1]
        self.shares = shares(tables.log_prob.reshape(-1, K))
        self.first = shares(tables.log_initial.unsqueeze(0)).bounds[: self.S]
        self.successor = _padded(tables.successor.reshape(-1, K), self.shares.width)
        self.reward = _padded(tables.reward.reshape(-1, K), self.shares.width)
        self.last = tables.terminal.numpy()
        with precision(torch.float64):
            every = tables.states.pack(tables.states.split(torch.arange(self.S)))
            self.over = flags(spec, every, (self.S,))

    def start(self, u: Array) -> Array:
        """Return s_0."""
        return self.first.searchsorted(u, side="right")

    def step(self, state: Array, action: Array, t: Array, u: Array) -> tuple[Array, Array]:
        """Return the next states and the rewards: outcomes of the rows of the slice of time t."""
        place = self.shares.place(self.row(state, t) * self.A + action, u)
        return self.successor[place], self.reward[place]

    def row(self, state: Array, t: Array) -> Array:
        """Return the rows of states in tables of a slice: those of time t where the slices differ."""
        return state if self.times is None else np.minimum(t, self.times - 1) * self.S + state


def outcomes_of(spec: Spec) -> Outcomes | None:
    """Return the look-up tables of a world; None where there are none of modest size."""
    try:
        tables = tabulate(spec, max_bytes=24.0 * MOST).detach()
    except (IntractableError, WorldError):  # a single slice may be run where all of them cannot be laid out
        return None
    return Outcomes(spec, tables)


def flags(spec: Spec, state: Any, shape: tuple[int, ...]) -> Array:
    """Return where an episode may stop before T."""
    if spec.early_end is None:
        return np.zeros(shape, bool)
    with user_code("terminated", "code that runs"):
        return torch.as_tensor(spec.early_end(state)).expand(shape).numpy()


def _padded(rows: Tensor, width: int) -> Array:
    padded = np.zeros((len(rows), width), rows.numpy().dtype)
    padded[:, : rows.shape[1]] = rows.numpy()
    return padded.reshape(-1)

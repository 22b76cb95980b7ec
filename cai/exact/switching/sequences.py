"""Sequences of future modes: each switch, with each sequence that starts in the mode that it enters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.by_mode import QuadraticsByMode, picked
from cai.compile.quadratic import Quadratic
from cai.compile.switching_model import SwitchingLinear
from cai.errors import Finding, NoClosedFormError

MOST = 100_000
"""The most sequences of modes of one world."""


@dataclass(frozen=True)
class Sequences:
    """The sequences from a time on, ``[C]``.

    Attributes:
        switch: the first switch of each.
        tail: the sequence of one time later that it continues with; the number of these where the trajectory ends.
        log_p: log p(switch, alive or not|mode), nats.
        value: the value of the tail, reward units; 0 where the trajectory ends.
    """

    switch: Tensor
    tail: Tensor
    log_p: Tensor
    value: Quadratic


def sequences(model: SwitchingLinear, t: int, v_next: QuadraticsByMode) -> Sequences:
    """Return every possible sequence from time t on, one step longer than those of ``v_next``."""
    log_p, ended = model.at(t)[0], len(v_next)
    possible = log_p > -torch.inf
    on = (model.target.unsqueeze(-1) == v_next.modes) & possible.unsqueeze(-1)
    switch, tail = on.nonzero().unbind(-1)
    log_weight = log_p[switch] + log_p.new_tensor(model.discount).log()
    value = picked(v_next.each, tail)
    if model.discount < 1:
        ends = possible.nonzero().squeeze(-1)
        switch, tail = torch.cat((switch, ends)), torch.cat((tail, torch.full_like(ends, ended)))
        log_weight = torch.cat((log_weight, log_p[ends] + torch.log1p(-log_p.new_tensor(model.discount))))
        nothing = Quadratic.zero(value.dimension, value.b, (len(ends),))
        value = Quadratic(*(torch.cat(pair) for pair in zip(value.tensors, nothing.tensors, strict=True)))
    return Sequences(switch, tail, log_weight, value)


def numbers_of_sequences(model: SwitchingLinear) -> list[int]:
    """Return how many sequences there are from each time on, T first."""
    T = model.horizon or 0
    each = [1] * model.states.modes.size
    totals = [sum(each)]
    moves = list(zip(model.source.tolist(), model.target.tolist(), strict=True))
    for t in reversed(range(T)):
        possible = (model.at(t)[0] > -torch.inf).tolist()
        longer = [0] * len(each)
        for (i, j), may in zip(moves, possible, strict=True):
            longer[i] += may * (each[j] + (model.discount < 1))
        each = longer
        totals.append(sum(each))
    return totals


def require_few(model: SwitchingLinear, what: str) -> None:
    """Raise a ``NoClosedFormError`` with their number where the sequences of modes are too many."""
    most = max(numbers_of_sequences(model))
    if most > MOST:
        seen = f"{most:.2g} sequences of modes over T = {model.horizon} steps, each a quadratic of its own"
        expected = f"at most {MOST:,}: a shorter horizon, or VARIATIONAL or HARD, which need one quadratic a mode"
        raise NoClosedFormError([Finding(what, seen, expected)])

"""A world too large for the tables of one process: the rows of some of its states, block by block."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.compile.inspect import admit, inspect_pointwise, inspect_scope
from cai.compile.slices import single
from cai.compile.table_model import Slice, Tables
from cai.compile.tabulate import SLICE, require_equal_slices, start_log_prob, tabulate_slice, terminal_reward
from cai.errors import demand
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spec import Spec, read

BLOCK = 2**21
"""Outcomes that are enumerated at once."""


@dataclass(frozen=True)
class Rows:
    """The states ``lo … hi-1`` of a world, float64; ``slice(t)`` tabulates their rows.

    Attributes:
        spec: the world.
        states: the numbers of the states whose rows these are.
        log_initial: log p(s_0) of these states, nats, ``[lo … hi-1]``.
        terminal: r_T of these states, reward units.
    """

    spec: Spec
    states: range
    log_initial: Tensor
    terminal: Tensor

    def slice(self, t: int) -> Slice:
        """Tabulate the rows of time t; successors are numbers of the whole world, int32 where they fit.

        Raises:
            WorldError: the slice is not valid at one of these states.
        """
        spec, total = self.spec, len(self.states)
        small = torch.int32 if spec.states.size < 2**31 else torch.int64
        size = max(1, BLOCK // (spec.actions.size * spec.outcomes))
        fields: dict[str, Tensor] = {}
        for at in range(0, total, size):
            with precision(torch.float64):
                block = tabulate_slice(spec, t, _numbers(self.states[at : at + size]))
            block = replace(block, successor=block.successor.to(small))
            fields = {name: _placed(fields.get(name), getattr(block, name).detach(), at, total) for name in SLICE}
        return Slice(**fields)


def rows(world: World, part: Callable[[int], range]) -> Rows:
    """Make the rows of a part of a world's states ready, and check the world on a sample of all.

    Args:
        world: the world.
        part: gives the states that are wanted, for the number S of all.

    Raises:
        WorldError, IntractableError: the world is not valid, or a variable is not finite.
    """
    with precision(torch.float64), torch.no_grad():
        spec = read(world)
        admit(spec)
        start = start_log_prob(spec)
        few = _sample(spec)
        if spec.stationary and spec.horizon != 1:
            require_equal_slices(spec, few)
        for t in sorted({0, (spec.horizon or 1) - 1}):
            _inspect(spec, few, start, t)
        demand(inspect_scope(spec))
        states = part(spec.states.size)
        own = start[states.start : states.stop].clone()  # the whole is let go
        return Rows(spec, states, own, terminal_reward(spec, _numbers(states)))


def _sample(spec: Spec) -> Tensor:
    """Choose a small batch: the first states, and those that the check on single values will draw."""
    drawn = {single(spec, 0, choices, noise=0).s for choices in range(6)}
    return torch.tensor(sorted(drawn | set(range(min(64, spec.states.size)))))


def _inspect(spec: Spec, few: Tensor, start: Tensor, t: int) -> None:
    """Hold single values to what the small batch gives."""
    slice_ = tabulate_slice(spec, t, few)
    tables = Tables(
        log_initial=start[few],
        **{name: getattr(slice_, name) for name in SLICE},
        terminal=terminal_reward(spec, few),
        horizon=spec.horizon,
        discount=spec.discount,
        timed=False,
        states=replace(spec.states, kept=few),
        actions=spec.actions,
    )
    demand(inspect_pointwise(spec, tables, t))


def _numbers(states: range) -> Tensor:
    return torch.arange(states.start, states.stop)


def _placed(whole: Tensor | None, block: Tensor, at: int, total: int) -> Tensor:
    """Put a block where it belongs; as long as all rows are one row repeated, they take the room of one."""
    if whole is None:
        shape = (total, *block.shape[1:])
        whole = block[:1].clone().expand(shape) if block.stride(0) == 0 else block.new_empty(shape)
    if whole.stride(0) == 0:
        if block.stride(0) == 0 and torch.equal(block[0], whole[0]):
            return whole
        whole = whole.contiguous()
    whole[at : at + len(block)] = block
    return whole

"""A world too large to be tabulated in one place: the rows of some of its states, a block at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.compile.inspect import audit_pointwise, audit_scope
from cai.compile.slices import Shape, single
from cai.compile.survey import demand, survey
from cai.compile.table_model import Slice, Tables
from cai.compile.tabulate import require_equal_slices, start_log_prob, tabulate_slice, terminal_reward
from cai.support.process import precision
from cai.world.definition import World, discount_of, horizon_of

BLOCK = 2**21
"""Outcomes that are enumerated at once."""
FIELDS = ("log_prior", "log_prob", "successor", "reward")


@dataclass(frozen=True)
class Rows:
    """The states ``lo … hi-1`` of a world, float64; ``slice(t)`` tabulates their rows.

    Attributes:
        world: the world.
        shape: its sizes, of the whole world.
        states: the numbers of the states whose rows these are.
        horizon, discount, timed: as in ``Tables``.
        log_initial: log p(s_0) of these states, nats, ``[lo … hi-1]``.
        terminal: r_T of these states, reward units.
    """

    world: World
    shape: Shape
    states: range
    horizon: int | None
    discount: float
    timed: bool
    log_initial: Tensor
    terminal: Tensor

    def slice(self, t: int) -> Slice:
        """Tabulate the rows of time t; successors are numbers of the whole world, int32 where they fit.

        Raises:
            WorldError: the slice does not conform at one of these states.
        """
        shape, total = self.shape, len(self.states)
        small = torch.int32 if shape.states.size < 2**31 else torch.int64
        size = max(1, BLOCK // (shape.actions.size * shape.outcomes))
        fields: dict[str, Tensor] = {}
        for at in range(0, total, size):
            with precision(torch.float64):
                block = tabulate_slice(self.world, _kept(shape, self.states[at : at + size]), t, torch.float64)
            block = replace(block, successor=block.successor.to(small))
            fields = {name: _placed(fields.get(name), getattr(block, name).detach(), at, total) for name in FIELDS}
        return Slice(**fields)


def rows(world: World, part: Callable[[int], range]) -> Rows:
    """Make the rows of a part of a world's states ready, and check the world on a sample of all.

    Args:
        world: the world.
        part: gives the states that are wanted, for the number S of all.

    Raises:
        WorldError, IntractableError: the world does not conform, or a variable is not finite.
    """
    with precision(torch.float64), torch.no_grad():
        found = survey(world)
        shape, horizon = found.shape, found.horizon
        start = start_log_prob(world, torch.float64)
        few = _sample(world, shape)
        if found.claims:
            require_equal_slices(world, few, torch.float64)
        for t in sorted({0, (horizon or 1) - 1}):
            _audit(world, few, start, t)
        demand(audit_scope(world))
        states = part(shape.states.size)
        kept = _kept(shape, states).states
        return Rows(
            world=world,
            shape=shape,
            states=states,
            horizon=horizon,
            discount=found.discount,
            timed=found.timed,
            log_initial=start[states.start : states.stop].clone(),  # the whole is let go
            terminal=terminal_reward(world, kept, torch.float64),
        )


def _sample(world: World, shape: Shape) -> Shape:
    """Keep a small batch: the first states, and those that the check on single values will draw."""
    drawn = {single(world, shape, 0, choices, noise=0).s for choices in range(6)}
    numbers = torch.tensor(sorted(drawn | set(range(min(64, shape.states.size)))))
    return replace(shape, states=replace(shape.states, kept=numbers))


def _audit(world: World, few: Shape, start: Tensor, t: int) -> None:
    """Hold single values to what the small batch gives."""
    one = tabulate_slice(world, few, t, torch.float64)
    tables = Tables(
        log_initial=start[few.states.kept],
        **{name: getattr(one, name) for name in FIELDS},
        terminal=terminal_reward(world, few.states, torch.float64),
        horizon=horizon_of(world),
        discount=discount_of(world),
        timed=False,
        states=few.states,
        actions=few.actions,
    )
    demand(audit_pointwise(world, few, tables, t))


def _kept(shape: Shape, states: range) -> Shape:
    return replace(shape, states=replace(shape.states, kept=torch.arange(states.start, states.stop)))


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

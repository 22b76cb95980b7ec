"""stack: compiled worlds side by side, as a batch that is solved at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import aligned, stacked
from cai.compile.table_model import Tables, stack_tables
from cai.errors import fault

Compiled = TypeVar("Compiled", Tables, LinearGaussian)


def stack(worlds: Sequence[Compiled]) -> Compiled:
    """Stack compiled worlds of the same spaces, horizon and discount along a new leading batch axis.

    Args:
        worlds: at least one; all tables, or all linear-Gaussian systems.

    Raises:
        WorldError: the worlds differ in their form, a space, the horizon, the discount or the dependence on time.
    """
    for kind, side_by_side in WAYS.items():
        if worlds and all(isinstance(world, kind) for world in worlds):
            batch: Compiled = side_by_side(worlds)
            return batch
    seen = f"{[type(world).__name__ for world in worlds]}"
    raise fault("stack", seen, "at least one cai.Tables, or cai.LinearGaussian, and no other")


def _stack_systems(systems: Sequence[LinearGaussian]) -> LinearGaussian:
    first = systems[0]
    for n, system in enumerate(systems):
        if _shared(system) != _shared(first):
            expected = f"the spaces, noise and horizon of world 0: {_shared(first)}"
            raise fault(f"stack, world {n}", f"{_shared(system)}", expected)
    rewards = aligned([system.slices.reward for system in systems])
    slices = [replace(system.slices, reward=reward) for system, reward in zip(systems, rewards, strict=True)]
    return replace(
        first,
        slices=stacked(slices),
        start_mean=torch.stack([system.start_mean for system in systems]),
        start_scale=torch.stack([system.start_scale for system in systems]),
        terminal=stacked(aligned([system.terminal for system in systems])),
    )


def _shared(system: LinearGaussian) -> tuple[Any, ...]:
    clock = (system.horizon, system.discount, system.timed, tuple(system.batch_shape), system.dtype)
    prior = tuple(system.slices.prior.scale.shape[-2:])
    return (system.states.labels, system.actions.labels, system.noise, system.start_scale.shape[-1], prior, *clock)


WAYS: dict[type, Callable[[Any], Any]] = {Tables: stack_tables, LinearGaussian: _stack_systems}
"""How models of each form are stacked."""

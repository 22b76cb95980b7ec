"""A world as factors: one small table for each variable of a slice, over the variables that it depends on.

Variables are named as the program samples them; the next state's carry a prime, ``cell'``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cai.errors import fault
from cai.support.display import in_notebook
from cai.support.memory import require_room
from cai.world.spaces import Layout, Space


def primed(name: str) -> str:
    """Return the name of a state variable in the next state."""
    return f"{name}'"


@dataclass(frozen=True, repr=False, eq=False)
class Factor:
    """A table over named variables, one axis each: log-probabilities in nats, or rewards in reward units.

    Attributes:
        scope: the variables, in the order of the axes.
        table: the numbers; for a conditional distribution the last axis is the variable it is of.
    """

    scope: tuple[str, ...]
    table: Tensor

    def __repr__(self) -> str:
        return f"Factor({', '.join(self.scope)}: {'×'.join(str(n) for n in self.table.shape) or '1'})"


def aligned(factor: Factor, scope: tuple[str, ...]) -> Tensor:
    """Return the table with one axis for each variable of ``scope``, of size 1 where it has none."""
    own = [name for name in scope if name in factor.scope]
    table = factor.table.permute([factor.scope.index(name) for name in own])
    index = tuple(slice(None) if name in factor.scope else None for name in scope)
    return table[index]


def added_up(pieces: Sequence[Factor], scope: tuple[str, ...], dtype: torch.dtype) -> Tensor:
    """Add pieces up over the variables of ``scope``, the small ones first; an axis of size 1 where none has it."""
    sum_ = torch.zeros((1,) * len(scope), dtype=dtype)
    for piece in sorted(pieces, key=lambda piece: piece.table.numel()):
        sum_ = sum_ + aligned(piece, scope)
    return sum_


def total(pieces: Sequence[Factor], scope: tuple[str, ...], sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Add pieces up over all joint values of ``scope``, flat."""
    return added_up(pieces, scope, dtype).expand(tuple(sizes)).reshape(-1)


@dataclass(frozen=True)
class FactoredSlice:
    """One slice: what is random in it, and what it pays.

    Attributes:
        prior: log p(a_i|s, a_<i), nats, by action variable.
        chance: log p(x|parents), nats, by latent and by next-state variable, in the order of the program.
        reward: the terms whose sum is the slice's reward, reward units; evidence is a term of 0 and -inf.
    """

    prior: dict[str, Factor]
    chance: dict[str, Factor]
    reward: tuple[Factor, ...]


@dataclass(frozen=True)
class SliceVariables:
    """What factors are over: the variables of a slice and their sizes.

    Attributes:
        states, actions: numbered jointly.
        latents: the sizes of the other variables of a slice.
        dtype: the floating dtype of all tables.
    """

    states: Space
    actions: Space
    latents: dict[str, int]
    dtype: torch.dtype

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values of every variable of a slice, next-state variables too."""
        states = self.states.named_sizes
        ahead = {primed(name): size for name, size in states.items()}
        return {**states, **self.actions.named_sizes, **self.latents, **ahead}

    def log_prior(self, slice_: FactoredSlice) -> Tensor:
        """Return log p(a|s) of a slice, nats, ``[S, A]``."""
        scope = (*self.actions.names, *self.states.names)
        joint = added_up(tuple(slice_.prior.values()), scope, self.dtype)
        seen = joint.shape[len(self.actions.sizes) :]
        rows = joint.expand(*self.actions.sizes, *seen).reshape(self.actions.size, *seen)
        if max(seen, default=1) == 1:  # the policy reads no state: one row stands for all
            return rows.reshape(1, -1).expand(self.states.size, -1)
        return rows.expand(-1, *self.states.sizes).reshape(self.actions.size, -1).T


@dataclass(frozen=True, repr=False, eq=False)
class Factors:
    """A world compiled to factors, one table for each variable: what ``factorise`` returns.

    Attributes:
        initial: log p(s_0), nats, by state variable.
        slices: one slice for all times, or one for each.
        terminal: the pieces of r_T(s_T), reward units.
        horizon: T, or None for the infinite horizon.
        discount: the probability γ of surviving a step.
        states, actions: the variables and their sizes. Joint values are numbered as in ``Tables``.
        latents: the sizes of the other variables of a slice.
        layout: the place of each state on a map, if the world has one.
        ends: the states in which an episode has ended, as True and False over the variables that decide it. In an ended
            state there are no more actions, rewards or nats. None where no episode ends.
    """

    initial: dict[str, Factor]
    slices: tuple[FactoredSlice, ...]
    terminal: tuple[Factor, ...]
    horizon: int | None
    discount: float
    states: Space
    actions: Space
    latents: dict[str, int]
    layout: Layout | None = None
    ends: Factor | None = None

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        clock = f"T = {self.horizon}" if self.horizon is not None else "infinite horizon"
        S, A, n = self.states.size, self.actions.size, len(self.states.names)
        numbers = sum(factor.table.numel() for factor in (*self.slices[0].chance.values(), *self.slices[0].reward))
        shape = f"{n} state variables ({S:,} joint states), {A:,} actions, {numbers:,} numbers a slice"
        return f"Factors({shape}, {clock}, γ = {self.discount:g})"

    @property
    def timed(self) -> bool:
        """Whether the slices differ over time."""
        return len(self.slices) > 1

    @property
    def log_survival(self) -> Tensor:
        """log of (γ, 1 - γ): the probabilities of going on and of ending after a step, nats."""
        return torch.tensor([self.discount, 1 - self.discount], dtype=self.dtype).log()

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of all tables."""
        return next(iter(self.initial.values())).table.dtype

    @property
    def device(self) -> torch.device:
        """Where its tables lie."""
        return next(iter(self.initial.values())).table.device

    @property
    def proper_prior(self) -> bool:
        """True: numbered actions have probabilities."""
        return True

    @property
    def requires_grad(self) -> bool:
        """Whether any table requires a gradient."""
        return any(table.requires_grad for table in self._tables)

    @property
    def version(self) -> tuple[object, ...]:
        """A version: it changes whenever a number is changed in place, and at every call where torch cannot tell."""
        return tuple(object() if table.is_inference() else table._version for table in self._tables)

    @property
    def _tables(self) -> list[Tensor]:
        slices = [
            factor for part in self.slices for factor in (*part.prior.values(), *part.chance.values(), *part.reward)
        ]
        return [factor.table for factor in (*self.initial.values(), *slices, *self.terminal)]

    @property
    def ended(self) -> Tensor | None:
        """The joint states in which an episode has ended, ``[S]``; None where no episode ends."""
        if self.ends is None:
            return None
        scope = self.ends.scope  # in the order of the states
        shape = [size if name in scope else 1 for name, size in zip(self.states.names, self.states.sizes, strict=True)]
        return self.ends.table.reshape(shape).expand(self.states.sizes).reshape(-1)

    @property
    def variables(self) -> SliceVariables:
        """The variables that the factors read."""
        return SliceVariables(self.states, self.actions, self.latents, self.dtype)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of values of every variable of a slice, next-state variables too."""
        return self.variables.sizes

    def at(self, t: int) -> FactoredSlice:
        """Return the slice of time ``t``."""
        return self.slices[t if self.timed else 0]

    def log_prior_at(self, t: int) -> Tensor:
        """Return log p(a|s) of time t, nats, ``[S, A]``."""
        return self.variables.log_prior(self.at(t))

    @property
    def log_initial(self) -> Tensor:
        """log p(s_0), nats, ``[S]``."""
        return total(tuple(self.initial.values()), self.states.names, self.states.sizes, self.dtype)

    def times(self) -> Iterator[FactoredSlice]:
        """Yield the slices in order of time; a stationary world has a single one."""
        yield from self.slices

    def unrolled(self) -> "Factors":
        """Return the same factors with one slice for every time (the same objects)."""
        if self.horizon is None:
            raise fault(
                "factors", "an infinite horizon", "a finite one, so that evidence and interventions have a time"
            )
        if self.timed:
            return self
        require_room("factors", f"one slice for each of T = {self.horizon:,} times", 8 * self.horizon)
        return replace(self, slices=self.slices * self.horizon)

    def detach(self) -> "Factors":
        """Return the same factors without gradients; the same object where there are none."""
        if not self.requires_grad:
            return self

        def cut(part: Any) -> Any:
            if isinstance(part, Factor):
                return Factor(part.scope, part.table.detach())
            if isinstance(part, dict):
                return {name: cut(item) for name, item in part.items()}
            return tuple(cut(item) for item in part)

        def cut_slice(slice_: FactoredSlice) -> FactoredSlice:
            return FactoredSlice(cut(slice_.prior), cut(slice_.chance), cut(slice_.reward))

        slices = tuple(cut_slice(slice_) for slice_ in self.slices)
        return replace(self, initial=cut(self.initial), slices=slices, terminal=cut(self.terminal))

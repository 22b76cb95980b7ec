"""The glossary: shape letters, spaces, tables, trajectories.

Shape letters: ``T`` time, ``S`` states, ``A`` actions, ``K`` successors, ``B`` batch. Everything in log space is
called ``log_*``; rewards and values are in reward units, evidence, ELBO, KL and entropy in nats.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.errors import fault

Values = Tensor | dict[str, Tensor]
"""A state or an action as a program sees it: one tensor, or a dict of named variables."""
ROLES = ("state", "action", "move")
"""Names of variables that say no more than what the thing is: beside the name of a value they are left out."""


@dataclass(frozen=True)
class Space:
    """A finite space: variables with values ``0 … size-1``, numbered row-major in the order they are sampled.

    Attributes:
        names: the variables, in the order in which the program samples them.
        sizes: how many values each takes.
        dtypes: the dtype in which the program sees each.
        named: whether the program speaks of a dict of variables, or of one bare tensor.
        kept: the row-major numbers that are kept, where unreachable ones were dropped on request; else None.
        labels: what the values are called, for each variable a name or None for every value, or None for the variable;
            empty where no variable has names.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    named: bool
    kept: Int[Tensor, " S"] | None = None
    labels: tuple[tuple[str | None, ...] | None, ...] = ()

    @property
    def size(self) -> int:
        """How many values the space holds, all variables together."""
        return math.prod(self.sizes) if self.kept is None else len(self.kept)

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """Number the joint values (any broadcastable shapes); -1 for a value that was dropped."""
        number: Tensor = torch.zeros((), dtype=torch.long)
        for name, size in zip(self.names, self.sizes, strict=True):
            number = number * size + values[name].long()
        if self.kept is None:
            return number
        row = torch.searchsorted(self.kept, number.contiguous()).clamp(max=len(self.kept) - 1)
        return torch.where(self.kept[row] == number, row, -1)

    def split(self, number: Tensor) -> dict[str, Tensor]:
        """Give each variable's value for every number (any shape); the inverse of ``join``."""
        number = number if self.kept is None else self.kept[number]
        values: dict[str, Tensor] = {}
        for name, size, dtype in zip(self.names[::-1], self.sizes[::-1], self.dtypes[::-1], strict=True):
            values[name] = (number % size).to(dtype)
            number = number // size
        return {name: values[name] for name in self.names}

    def pack(self, values: Mapping[str, Tensor]) -> Values:
        """Hand named values to the program in the form it speaks of: a dict, or one bare tensor."""
        return dict(values) if self.named else values[self.names[0]]

    def unpack(self, values: Values) -> dict[str, Tensor]:
        """Read the program's form back as named values."""
        return dict(values) if isinstance(values, dict) else {self.names[0]: values}

    def called(self, names: Mapping[str, Sequence[str | None]]) -> "Space":
        """Return the same space, the values of its variables called by these names, ``{variable: a name a value}``."""
        labels = tuple(tuple(names[one]) if one in names else None for one in self.names)
        return replace(self, labels=labels if any(labels) else ())

    def value_label(self, variable: str, value: int) -> str | None:
        """Return what a value of a variable is called, or None where it has no name."""
        labels = self.labels[self.names.index(variable)] if self.labels else None
        return labels[value] if labels is not None else None

    def number(self, values: Mapping[str, int | str], where: str) -> int:
        """Return the number of joint values, each given by number or by name; ``where`` is said in errors.

        Raises:
            WorldError: a variable is missing or unknown, has no such value, or the joint value was dropped.
        """
        if set(values) != set(self.names):
            known = ", ".join(f"{name} ({self._known(name)})" for name in self.names)
            raise fault(where, f"variables {sorted(values)}", f"each of {known}")
        numbers = {name: torch.tensor(self._value(name, values[name], where)) for name in self.names}
        number = int(self.join(numbers))
        if number < 0:
            raise fault(where, f"{dict(values)}, which was dropped as unreachable", "a state that was kept")
        return number

    def _value(self, variable: str, given: int | str, where: str) -> int:
        """Return the number of one variable's value."""
        i = self.names.index(variable)
        labels = (self.labels[i] if self.labels else None) or ()
        if isinstance(given, str) and given in labels:
            return labels.index(given)
        try:
            value = int(given)
        except (TypeError, ValueError):
            value = -1
        if isinstance(given, str) or value != given or not 0 <= value < self.sizes[i]:
            raise fault(f"{where}, variable '{variable}'", f"value {given!r}", self._known(variable))
        return value

    def _known(self, variable: str) -> str:
        """Say which values a variable has."""
        size = self.sizes[self.names.index(variable)]
        named = (
            [name for n in range(size) if (name := self.value_label(variable, n)) is not None] if self.labels else []
        )
        numbers = "0" if size == 1 else f"0 … {size - 1}"
        shown = ", ".join(named[:12]) + (", …" if len(named) > 12 else "")
        return f"{shown}, or {numbers}" if named else numbers

    def label(self, number: int) -> str:
        """Name one value for people, e.g. ``cell=3, door=open``; ``left`` alone where the one variable is "action"."""
        values = {name: int(value) for name, value in self.split(torch.tensor(number)).items()}
        names = {name: self.value_label(name, value) for name, value in values.items()}
        if len(names) == 1 and self.names[0] in ROLES and names[self.names[0]] is not None:
            return str(names[self.names[0]])
        return ", ".join(f"{name}={names[name] or value}" for name, value in values.items())


@dataclass(frozen=True)
class Layout:
    """Where states lie in space, so that they can be drawn as a map.

    Attributes:
        cell: the map cell of each state, row-major; -1 for a state that is not on the map. Shape ``[S]``.
        shape: rows and columns of the map.
        moves: for each action the step it means as (right, down), or None where it means no move.
        marks: a short text for map cells, e.g. ``{0: "S", 15: "G"}``.
    """

    cell: Int[Tensor, " S"]
    shape: tuple[int, int]
    moves: tuple[tuple[float, float] | None, ...]
    marks: Mapping[int, str]


@runtime_checkable
class Numbered(Protocol):
    """A compiled world, whatever its form: states and actions that are numbered; ``at(t).log_prior`` is ``[S, A]``."""

    @property
    def states(self) -> Space:
        """The states."""

    @property
    def actions(self) -> Space:
        """The actions."""

    @property
    def horizon(self) -> int | None:
        """T, or None for the infinite horizon."""

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of its numbers."""

    def at(self, t: int) -> Any:
        """Return the slice of time ``t``."""


@dataclass(frozen=True)
class Slice:
    """One time slice as tables: the action prior, and for each (s, a) its K outcomes.

    Attributes:
        log_prior: log p(a|s), nats, ``[*B, S, A]``.
        log_prob: log p(outcome|s, a), nats, ``[*B, S, A, K]``.
        successor: the next state of each outcome, ``[*B, S, A, K]``.
        reward: the reward of each outcome, reward units, ``[*B, S, A, K]``.
    """

    log_prior: Float[Tensor, "*B S A"]
    log_prob: Float[Tensor, "*B S A K"]
    successor: Int[Tensor, "*B S A K"]
    reward: Float[Tensor, "*B S A K"]


@dataclass(frozen=True, repr=False)
class Tables:
    """A world with its discrete variables flattened: the compiled form that ``tabulate`` returns.

    ``*L`` is the batch of stacked worlds, if any, then ``T`` where ``timed``. Outcomes, not successors, are the
    entries: several may share one successor and carry different rewards. An outcome of probability zero is padding.

    Attributes:
        log_initial: log p(s_0), nats.
        log_prior: log p(a|s), nats; -inf is a forbidden action.
        log_prob: log p(outcome|s, a), nats.
        successor: the next state of each outcome.
        reward: the reward of each outcome, reward units; -inf is forbidden.
        terminal: r_T(s_T), reward units.
        horizon: T, or None for the infinite horizon.
        discount: the probability γ of surviving a step.
        timed: whether the slices differ over time, so that a T axis stands before S.
        states, actions: what the numbers mean.
        layout: where states lie in space, if the world says so.
        latents: what the numbers of outcomes mean: the variables of a slice that took room; None where it is not known.
        ended: in which states an episode has ended: nobody acts there, and no account goes on; None where nothing ends.
    """

    log_initial: Float[Tensor, "*B S"]
    log_prior: Float[Tensor, "*L S A"]
    log_prob: Float[Tensor, "*L S A K"]
    successor: Int[Tensor, "*L S A K"]
    reward: Float[Tensor, "*L S A K"]
    terminal: Float[Tensor, "*B S"]
    horizon: int | None
    discount: float
    timed: bool
    states: Space
    actions: Space
    layout: Layout | None = None
    latents: Space | None = None
    ended: Bool[Tensor, "*B S"] | None = None

    def __repr__(self) -> str:
        clock = f"T = {self.horizon}" if self.horizon is not None else "infinite horizon"
        batch = f", batch {tuple(self.batch_shape)}" if self.batch_shape else ""
        S, A, K = self.states.size, self.actions.size, self.log_prob.shape[-1]
        return f"Tables({S:,} states, {A:,} actions, {K:,} outcomes, {clock}, γ = {self.discount:g}{batch})"

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch of stacked worlds; empty for a single one."""
        return self.log_initial.shape[:-1]

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of probabilities and rewards."""
        return self.log_initial.dtype

    @property
    def log_survival(self) -> Float[Tensor, "2"]:
        """log of (γ, 1 - γ): the chances to go on and to end after a step, nats."""
        return self.log_initial.new_tensor([self.discount, 1 - self.discount]).log()

    def slices(self) -> Iterator[Slice]:
        """Yield the slice of every time, 0 first: T of them, or one alone that stands for all times."""
        fields = (self.log_prior, self.log_prob, self.successor, self.reward)
        if not self.timed:
            yield Slice(*fields)
            return
        axis = len(self.batch_shape)
        for parts in zip(*(field.unbind(axis) for field in fields), strict=True):
            yield Slice(*parts)

    def at(self, t: int) -> Slice:
        """Return the slice of time ``t``."""
        fields = (self.log_prior, self.log_prob, self.successor, self.reward)
        if not self.timed:
            return Slice(*fields)
        return Slice(*(field.select(len(self.batch_shape), t) for field in fields))

    def detach(self) -> "Tables":
        """Return the same tables, cut from autograd."""
        names = ("log_initial", "log_prior", "log_prob", "successor", "reward", "terminal")
        fields: dict[str, Any] = {name: getattr(self, name).detach() for name in names}
        return replace(self, **fields)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Tables":
        """Return the tables on another device, in another floating dtype, or both: ``solve`` follows them."""
        names = ("log_initial", "log_prior", "log_prob", "reward", "terminal")
        fields: dict[str, Any] = {name: getattr(self, name).to(device=device, dtype=dtype) for name in names}
        ended = None if self.ended is None else self.ended.to(device)
        return replace(self, successor=self.successor.to(device), ended=ended, **fields)

    def state(self, number: int) -> dict[str, int]:
        """Return the values of the variables of state ``number``.

        Raises:
            WorldError: there is no such state.
        """
        if not 0 <= number < self.states.size:
            raise fault("state", f"number {number}", f"0 … {self.states.size - 1}")
        return {name: int(value) for name, value in self.states.split(torch.tensor(number)).items()}

    def index(self, **values: int | str) -> int:
        """Return the number of the state with these values, each given by number or by name.

        Raises:
            WorldError: a variable is missing, unknown or out of range, or the state was dropped.
        """
        return self.states.number(values, "index")


@dataclass(frozen=True)
class Trajectories:
    """A batch of trajectories; after death (discount as survival) states stay put, rewards are 0.

    Attributes:
        states: state numbers.
        actions: action numbers.
        rewards: reward units.
        alive: whether the trajectory still lives when s_t is entered.
    """

    states: Int[Tensor, "N T1"]
    actions: Int[Tensor, "N T"]
    rewards: Float[Tensor, "N T"]
    alive: torch.Tensor

    @property
    def returns(self) -> Float[Tensor, " N"]:
        """The sum of rewards of each trajectory, reward units; the terminal reward is not in it."""
        return self.rewards.sum(-1)


def stack(tables: Sequence[Tables]) -> Tables:
    """Stack worlds of the same spaces, horizon and discount along a new leading batch axis, padding K.

    Raises:
        WorldError: the worlds differ in a space, the horizon, the discount or the dependence on time.
    """
    if not tables or not all(isinstance(one, Tables) for one in tables):
        raise fault(
            "stack", f"{[type(one).__name__ for one in tables]}", "at least one cai.Tables (cai.tabulate makes them)"
        )
    first = tables[0]

    def shared(one: Tables) -> tuple[Any, ...]:
        kept = one.states.kept.tolist() if one.states.kept is not None else None
        space = (one.states.names, one.states.sizes, one.actions.names, one.actions.sizes, kept, one.reward.dtype)
        return (*space, one.horizon, one.discount, one.timed, one.batch_shape)

    for n, one in enumerate(tables):
        if shared(one) != shared(first):
            raise fault(f"stack, world {n}", f"{shared(one)}", f"the spaces and horizon of world 0: {shared(first)}")
    widest = max(one.log_prob.shape[-1] for one in tables)
    padded = [_pad(one, widest) for one in tables]
    names = ("log_initial", "log_prior", "log_prob", "successor", "reward", "terminal")
    stacked: dict[str, Any] = {name: torch.stack([getattr(one, name) for one in padded]) for name in names}
    ends = [torch.zeros_like(one.terminal, dtype=torch.bool) if one.ended is None else one.ended for one in tables]
    ended = None if all(one.ended is None for one in tables) else torch.stack(ends)
    return replace(first, ended=ended, **stacked)


def _pad(tables: Tables, width: int) -> Tables:
    extra = (0, width - tables.log_prob.shape[-1])
    pad = torch.nn.functional.pad
    return replace(
        tables,
        log_prob=pad(tables.log_prob, extra, value=-torch.inf),
        successor=pad(tables.successor, extra),
        reward=pad(tables.reward, extra),
    )

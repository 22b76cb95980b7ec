"""A world as tables: one slice, all of them, and trajectories through them.

Shape letters: ``T`` time, ``S`` states, ``A`` actions, ``K`` successors, ``B`` batch. Everything in log space is
called ``log_*``; rewards and values are in reward units, evidence, ELBO, KL and entropy in nats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.errors import fault
from cai.support.display import in_notebook
from cai.world.spaces import Layout, Space


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


@dataclass(frozen=True, repr=False, eq=False)
class Tables:
    """A world compiled to tables, with numbered states, actions and outcomes: what ``tabulate`` returns.

    ``*L`` is the batch of stacked worlds, if any, then ``T`` where ``timed``. The entries are outcomes: two outcomes
    may have the same next state and different rewards. An outcome of probability zero is padding.

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
        states, actions: the variables and values that the numbers stand for.
        layout: the place of each state on a map, if the world has one.
        latents: the latent variables and values that the numbers of the outcomes stand for; None where they are not
            known.
        ended: the states in which an episode has ended: there are no more actions, rewards or nats. None where no
            episode ends.
        longest: the longest horizon for which there are all states; None where these are all for every horizon.
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
    longest: int | None = None

    _repr_html_ = in_notebook

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
    def device(self) -> torch.device:
        """Where its numbers lie."""
        return self.log_initial.device

    @property
    def log_survival(self) -> Float[Tensor, "2"]:
        """log of (γ, 1 - γ): the probabilities of going on and of ending after a step, nats."""
        return self.log_initial.new_tensor([self.discount, 1 - self.discount]).log()

    def slices(self) -> Iterator[Slice]:
        """Yield the T slices in order of time; a stationary world has a single one."""
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

    @property
    def proper_prior(self) -> bool:
        """True: numbered actions have probabilities."""
        return True

    @property
    def requires_grad(self) -> bool:
        """Whether any number requires a gradient."""
        numbers = (self.log_initial, self.log_prior, self.log_prob, self.reward, self.terminal)
        return any(field.requires_grad for field in numbers)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors: the start, the slice's and the terminal reward."""
        return (self.log_initial, self.log_prior, self.log_prob, self.successor, self.reward, self.terminal)

    @property
    def version(self) -> tuple[object, ...]:
        """A version: it changes whenever a number is changed in place, and at every call where torch cannot tell."""
        return tuple(object() if field.is_inference() else field._version for field in self.tensors)

    def log_prior_at(self, t: int) -> Float[Tensor, "*B S A"]:
        """Return log p(a|s) of time t, nats."""
        return self.at(t).log_prior

    def detach(self) -> "Tables":
        """Return the same tables without gradients; the same object where there are none."""
        if not self.requires_grad:
            return self
        names = ("log_initial", "log_prior", "log_prob", "reward", "terminal")
        fields: dict[str, Any] = {name: getattr(self, name).detach() for name in names}
        return replace(self, **fields)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Tables":
        """Return the tables on another device, in another floating dtype, or both; ``solve`` then computes there."""
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
            WorldError: a variable is missing, unknown or out of range, or the state was dropped as unreachable.
        """
        return self.states.number(values, "index")


@dataclass(frozen=True)
class Trajectories:
    """A batch of trajectories; after death (discount as survival) states stay put, rewards are 0.

    Attributes:
        states: state numbers.
        actions: action numbers.
        rewards: reward units.
        alive: whether the trajectory is still alive when s_t is entered.
    """

    states: Int[Tensor, "N T1"]
    actions: Int[Tensor, "N T"]
    rewards: Float[Tensor, "N T"]
    alive: torch.Tensor

    @property
    def returns(self) -> Float[Tensor, " N"]:
        """The sum of rewards of each trajectory, reward units; the terminal reward is not in it."""
        return self.rewards.sum(-1)


def stack_tables(tables: Sequence[Tables]) -> Tables:
    """Stack tables of the same spaces, horizon and discount along a new leading batch axis, padding K.

    Raises:
        WorldError: the worlds differ in a space, the horizon, the discount or the dependence on time.
    """
    first = tables[0]

    def shared(world: Tables) -> tuple[Any, ...]:
        numbers = world.states.kept.tolist() if world.states.kept is not None else None
        space = (
            world.states.names,
            world.states.sizes,
            world.actions.names,
            world.actions.sizes,
            numbers,
            world.reward.dtype,
        )
        return (*space, world.horizon, world.discount, world.timed, world.batch_shape)

    for n, world in enumerate(tables):
        if shared(world) != shared(first):
            raise fault(f"stack, world {n}", f"{shared(world)}", f"the spaces and horizon of world 0: {shared(first)}")
    widest = max(world.log_prob.shape[-1] for world in tables)
    padded = [_pad(world, widest) for world in tables]
    names = ("log_initial", "log_prior", "log_prob", "successor", "reward", "terminal")
    stacked: dict[str, Any] = {name: torch.stack([getattr(world, name) for world in padded]) for name in names}
    ends = [
        torch.zeros_like(world.terminal, dtype=torch.bool) if world.ended is None else world.ended for world in tables
    ]
    ended = None if all(world.ended is None for world in tables) else torch.stack(ends)
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

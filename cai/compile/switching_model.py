"""A world whose modes follow a Markov chain, linear-Gaussian in each: what ``switching`` returns.

Shape letters: ``I`` modes, ``E`` switches, ``n`` real state coordinates; ``*T`` the times where the slices differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.support.display import in_notebook
from cai.world.coordinates import Coordinates
from cai.world.mixed import MixedSpace
from cai.world.spaces import Layout


@dataclass(frozen=True, repr=False, eq=False)
class SwitchingLinear:
    """A switching linear-Gaussian system, or Markov jump linear system (Costa, Fragoso and Marques 2005).

    A switch e leaves the mode ``source[e]``, enters ``target[e]``, and has a probability given the mode it leaves; the
    real part then follows its linear-Gaussian slice. Two switches may join the same modes, with other latents.

    Attributes:
        source: the mode that each switch leaves, ``[E]``.
        target: the mode that it enters, ``[E]``.
        log_switch: log p(e|mode), nats; -inf for a switch of another mode's or of another time, ``[*T, E]``.
        slices: what the real part does at each switch, ``[*T, E]``; the action prior is that of the mode it leaves.
        log_modes: log p(mode of s_0), nats, ``[I]``.
        start_mean: of the real part of s_0 in each mode, ``[I, n]``.
        start_scale: a factor of its covariance, ``[I, n, k0]``.
        terminal: r_T(mode, ·), reward units, ``[I]``.
        horizon: T, or None for the infinite horizon.
        discount: the probability γ of surviving a step.
        timed: whether the slices differ over time.
        states, actions: modes and real coordinates; real coordinates.
        sites: the real variables of ``step``.
    """

    source: Int[Tensor, " E"]
    target: Int[Tensor, " E"]
    log_switch: Float[Tensor, "*T E"]
    slices: LinearSlice
    log_modes: Float[Tensor, " I"]
    start_mean: Float[Tensor, "I n"]
    start_scale: Float[Tensor, "I n k0"]
    terminal: Quadratic
    horizon: int | None
    discount: float
    timed: bool
    states: MixedSpace
    actions: Coordinates
    sites: Coordinates

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        clock = f"T = {self.horizon}" if self.horizon is not None else "infinite horizon"
        modes = f"{self.states.modes.size} modes, {len(self.source)} switches"
        sizes = f"{self.states.reals.dimension} real state and {self.actions.dimension} action coordinates"
        return f"SwitchingLinear({modes}, {sizes}, {clock}, γ = {self.discount:g})"

    @cached_property
    def first(self) -> Int[Tensor, " I"]:
        """One switch out of each mode: the action prior is the same for all switches that leave the mode."""
        return torch.stack([(self.source == i).nonzero()[0, 0] for i in range(self.states.modes.size)])

    @property
    def proper_prior(self) -> bool:
        """Whether the action prior is a distribution: none of its coordinates is flat."""
        return not bool(self.slices.flat.any())

    @property
    def batch_shape(self) -> torch.Size:
        """Empty: a single system."""
        return torch.Size()

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype."""
        return self.start_mean.dtype

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return self.start_mean.device

    def at(self, t: int) -> tuple[Tensor, LinearSlice]:
        """Return log p(e|mode) and the slices of time ``t``, each with an axis E."""
        return (self.log_switch[t], self.slices.at(t)) if self.timed else (self.log_switch, self.slices)

    def prior_at(self, t: int) -> ConditionalGaussian:
        """Return the action prior at each switch, ``[E]``."""
        return self.at(t)[1].prior

    def along(self, t: int, switches: Int[Tensor, " C"]) -> LinearGaussian:
        """Return the linear-Gaussian worlds of time ``t`` at some switches, a batch ``[C]`` of one slice each."""
        modes = self.source[switches]
        return LinearGaussian(
            slices=self.at(t)[1].each(lambda x: x[switches]),
            start_mean=self.start_mean[modes],
            start_scale=self.start_scale[modes],
            terminal=self.terminal.each(lambda x: x[modes]),
            horizon=1,
            discount=1.0,
            timed=False,
            states=self.states.reals,
            actions=self.actions,
            sites=self.sites,
        )

    @property
    def layout(self) -> Layout | None:
        """No map: states have a real part."""
        return None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The floating tensors."""
        start = (self.log_switch, self.log_modes, self.start_mean, self.start_scale)
        return (*self.slices.tensors, *start, *self.terminal.tensors)

    @property
    def requires_grad(self) -> bool:
        """Whether any number requires a gradient."""
        return any(tensor.requires_grad for tensor in self.tensors)

    def each(self, change: Callable[[Tensor], Tensor]) -> "SwitchingLinear":
        """Return the same with every floating tensor changed."""
        return replace(
            self,
            log_switch=change(self.log_switch),
            slices=self.slices.each(change),
            log_modes=change(self.log_modes),
            start_mean=change(self.start_mean),
            start_scale=change(self.start_scale),
            terminal=self.terminal.each(change),
        )

    def detach(self) -> "SwitchingLinear":
        """Return the same, cut from autograd."""
        return self.each(Tensor.detach)

    @property
    def version(self) -> tuple[int, ...]:
        """Counts the changes of its tensors in place."""
        return tuple(tensor._version for tensor in self.tensors)

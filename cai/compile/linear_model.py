"""A world with affine dynamics, Gaussian noise and a quadratic reward: what ``linearise`` returns.

Shape letters: ``n`` coordinates of the state, ``m`` of the action, ``k`` of the slice's noise, ``N = n + m + k``;
``*B`` a batch of systems, ``*L`` the batch, then ``T`` where the slices differ over time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Quadratic, Stacked, log_volume
from cai.support.display import in_notebook
from cai.world.coordinates import Coordinates
from cai.world.spaces import Layout


@dataclass(frozen=True)
class LinearSlice(Stacked):
    """One slice: ``s' = transition y + drift`` and ``r = reward(y)``, where ``y = (s, a, z)`` and z ~ N(0, I).

    z is the noise of all sites of ``step`` in order: a site ``Normal(loc, scale)`` is ``loc + scale z_i``. So a latent
    of the slice is a function of y, and a site without noise takes no coordinate.

    Attributes:
        transition: (A, B, G) side by side, ``[*L, n, N]``.
        drift: ``[*L, n]``.
        reward: reward units, of N coordinates.
            On a plane where there is exact evidence (``cai.condition``).
        prior: the action prior p(a|s), without a noise coordinate for sites that are deterministic.
        flat: which coordinates w of the prior's noise have Lebesgue measure, density 1, ``[*L, j]``; the others are
            w ~ N(0, 1), where ``a = gain s + offset + scale w``.
        readout: every site of ``step`` from y, ``[*L, d, N]``, in the order of ``LinearGaussian.sites``.
        readout_offset: ``[*L, d]``.
        log_volume: Σ log scale over the noise, since a site's density is that of its noise divided by its scale,
            ``[*L]``. A coordinate that nothing depends on adds -½ log 2π, so that its density at 0 is 1.
    """

    transition: Float[Tensor, "*L n N"]
    drift: Float[Tensor, "*L n"]
    reward: Quadratic
    prior: ConditionalGaussian
    flat: Bool[Tensor, "*L j"]
    readout: Float[Tensor, "*L d N"]
    readout_offset: Float[Tensor, "*L d"]
    log_volume: Float[Tensor, "*L"]

    @property
    def acting(self) -> tuple[Float[Tensor, "*L nm nj"], Float[Tensor, "*L nm"]]:
        """The matrix and the offset that give (s, a) from (s, w), where ``a = gain s + offset + scale w``."""
        prior, (n, j) = self.prior, (self.prior.gain.shape[-1], self.prior.scale.shape[-1])
        one = torch.eye(n, n + j, dtype=prior.gain.dtype, device=prior.gain.device)
        kept = one.expand(*prior.gain.shape[:-2], n, n + j)
        offset = torch.nn.functional.pad(prior.offset, (n, 0))
        return torch.cat((kept, torch.cat((prior.gain, prior.scale), -1)), -2), offset

    @property
    def log_prior_volume(self) -> Float[Tensor, "*L"]:
        """log |scale|, the log volume of an action relative to its noise w, ``a = gain s + offset + scale w``."""
        return log_volume(self.prior.scale)

    def log_prior(self) -> Quadratic:
        """Return log p(a|s) of (s, a), nats: ``-½ w'w - ½ j log 2π - log |scale|``, over the w that are not flat."""
        prior, measured = self.prior, torch.where(self.flat, 0.0, 1.0).to(self.prior.scale)
        back = torch.linalg.pinv(prior.scale)
        w = torch.cat((-back @ prior.gain, back), -1)
        offset = -(back @ prior.offset.unsqueeze(-1)).squeeze(-1)
        c = -0.5 * math.log(2 * math.pi) * measured.sum(-1) - self.log_prior_volume
        return Quadratic(-torch.diag_embed(measured), 0 * measured, c).after(w, offset)


@dataclass(frozen=True, repr=False, eq=False)
class LinearGaussian:
    """A world compiled to a linear-Gaussian system; the start is ``s_0 = mean + scale z``, z ~ N(0, I).

    Attributes:
        slices: the slice, with a T axis after the batch where ``timed``.
        start_mean: ``[*B, n]``.
        start_scale: a factor of the start's covariance, ``[*B, n, k0]``; no column for a certain start.
        terminal: r_T(s_T), reward units.
        horizon: T, or None for the infinite horizon.
        discount: the probability γ of surviving a step.
        timed: whether the slices differ over time.
        states, actions: the variables, laid out as coordinates.
        sites: the variables of ``step``, latents and next states, that ``readout`` gives.
    """

    slices: LinearSlice
    start_mean: Float[Tensor, "*B n"]
    start_scale: Float[Tensor, "*B n k0"]
    terminal: Quadratic
    horizon: int | None
    discount: float
    timed: bool
    states: Coordinates
    actions: Coordinates
    sites: Coordinates

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        clock = f"T = {self.horizon}" if self.horizon is not None else "infinite horizon"
        batch = f", batch {tuple(self.batch_shape)}" if self.batch_shape else ""
        sizes = f"{self.states.dimension} state and {self.actions.dimension} action coordinates"
        prior = "flat" if bool(self.slices.flat.all()) else "Gaussian"
        kind = f"{sizes}, {self.noise} of noise, {prior} action prior"
        return f"LinearGaussian({kind}, {clock}, γ = {self.discount:g}{batch})"

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch of systems; empty for a single one."""
        return self.start_mean.shape[:-1]

    @property
    def noise(self) -> int:
        """k, the coordinates of the slice's noise."""
        return self.slices.transition.shape[-1] - self.states.dimension - self.actions.dimension

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype."""
        return self.start_mean.dtype

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return self.start_mean.device

    def at(self, t: int) -> LinearSlice:
        """Return the slice of time ``t``."""
        return self.slices.at(t, len(self.batch_shape)) if self.timed else self.slices

    def prior_at(self, t: int) -> ConditionalGaussian:
        """Return the action prior of time ``t``."""
        return self.at(t).prior

    @property
    def log_start_volume(self) -> Float[Tensor, "*B"]:
        """The log volume of a start state relative to its noise."""
        return log_volume(self.start_scale)

    @property
    def exact_evidence(self) -> bool:
        """Whether something was observed: the evidence restricts variables to a plane, on which it is a density.

        An observation with an error is exact evidence on the sum of a variable and a coordinate of noise.
        """
        return self.slices.reward.rows is not None or self.terminal.rows is not None

    @property
    def proper_prior(self) -> bool:
        """Whether the action prior is a distribution: none of its coordinates is flat."""
        return not bool(self.slices.flat.any())

    @property
    def layout(self) -> Layout | None:
        """No map: states are real."""
        return None

    @property
    def requires_grad(self) -> bool:
        """Whether any number requires a gradient."""
        return any(tensor.requires_grad for tensor in self.tensors)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors: the slice's, the start's and the terminal reward's."""
        return (*self.slices.tensors, self.start_mean, self.start_scale, *self.terminal.tensors)

    def each(self, change: Callable[[Tensor], Tensor]) -> "LinearGaussian":
        """Return the same with every tensor changed."""
        return replace(
            self,
            slices=self.slices.each(change),
            start_mean=change(self.start_mean),
            start_scale=change(self.start_scale),
            terminal=self.terminal.each(change),
        )

    def detach(self) -> "LinearGaussian":
        """Return the same, cut from autograd."""
        return self.each(Tensor.detach)

    def __getitem__(self, index: int) -> "LinearGaussian":
        """Return one system of a batch."""
        return self.each(lambda x: x[index])

    @property
    def version(self) -> tuple[int, ...]:
        """Counts the changes of its tensors in place."""
        return tuple(tensor._version for tensor in self.tensors)

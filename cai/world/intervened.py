"""The distribution of a site of real numbers under an intervention on some of them."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from cai.errors import fault


class Intervened(TorchDistribution):
    """The distribution of a site after ``do``: some numbers of its event have a value, the others their own marginal.

    Args:
        base_dist: the site's own distribution.
        forced: which numbers of an event are set, ``[*event]``.
        value: what they are set to, ``[*event]``; not read elsewhere.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 — torch's own convention

    def __init__(self, base_dist: Any, forced: Tensor, value: Tensor, validate_args: bool | None = None) -> None:
        self.base_dist, self.forced, self.value = base_dist, forced, value
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The support of the site's own distribution."""
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Intervened":
        """Expand to a larger batch shape."""
        return Intervened(self.base_dist.expand(batch_shape), self.forced, self.value, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw values."""
        if bool(self.forced.all()):
            return self.value.expand(torch.Size(sample_shape) + self.batch_shape + torch.Size(self.event_shape)).clone()
        return torch.where(self.forced, self.value, self.base_dist.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return 0 where the whole event has its value, and else -inf.

        Raises:
            WorldError: only a part of the event is set, so that it is a point mass and a density at once.
        """
        if not bool(self.forced.all()):
            raise fault("do", "a part of a vector, which has no density", "the whole variable, or cai.solve(…, do=…)")
        off = (value != self.value).reshape(*value.shape[: value.dim() - self.value.dim()], -1).any(-1)
        return torch.where(off, -torch.inf, 0.0).to(value.dtype)

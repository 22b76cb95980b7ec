"""Mixtures: in every state each component acts with its weight."""

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from cai.errors import fault
from cai.policies.protocol import Policy, probabilities, sampled, scored
from cai.policies.readable import NumberedPolicy, in_state
from cai.support.numerics import logsumexp
from cai.world.program import NextSite
from cai.world.spaces import Space


class MixturePolicy(nn.Module):
    """π_t(a|s) = Σ_i w_i π_i,t(a|s) with learnable weights: a mixture of policies, ε-greedy, several Gaussians.

    Args:
        policies: the components, on one world.
        weights: w_i > 0, ``[N]``, normalised here; equal ones unless given.

    Raises:
        WorldError: there is no component, a weight is not positive, or a component is not a policy.
    """

    probs = probabilities
    sample = sampled
    log_prob = scored
    at = in_state

    def __init__(self, policies: Any, weights: Any = None) -> None:
        super().__init__()
        if not isinstance(policies, list | tuple):
            raise fault("mixture, policies", f"a {type(policies).__name__}", "a list of policies")
        self.policies = tuple(policies)
        strangers = [type(policy).__name__ for policy in self.policies if not isinstance(policy, Policy)]
        if not self.policies or strangers:
            raise fault(
                "mixture, policies",
                f"{strangers or 'none'}",
                "policies with act and log_prob: cai.policies.FunctionPolicy, cai.solve(…).policy, …",
            )
        w = torch.ones(len(self.policies), dtype=torch.float64) if weights is None else torch.as_tensor(weights)
        if w.shape != (len(self.policies),) or not bool(((w > 0) & w.isfinite()).all()):
            raise fault("mixture, weights", f"{w.tolist()}", f"{len(self.policies)} positive numbers")
        self.modules_inside = nn.ModuleList([policy for policy in self.policies if isinstance(policy, nn.Module)])
        self.logits = nn.Parameter((w / w.sum()).log())
        horizons = {policy.horizon for policy in self.policies if getattr(policy, "horizon", None) is not None}
        if len(horizons) > 1:
            raise fault("mixture, policies", f"horizons {sorted(horizons)}", "policies of one horizon")
        self.horizon: int | None = next(iter(horizons), None)

    def act(self, state: Any, t: int) -> Any:
        """Sample the action variables in turn; the weights of the components are updated after each."""
        log_w, values = self.logits.log_softmax(-1), dict[str, Tensor]()
        while True:
            sites = [NextSite(values, policy.act, state, t) for policy in self.policies]
            name = sites[0].name
            if name is None:
                return sites[0].returned
            fn = _Mixed(log_w, [site.fn for site in sites])
            values[name] = pyro.sample(name, fn)
            log_w = fn.joint(values[name])

    @property
    def spaces(self) -> tuple[Space, Space] | None:
        """The variables and values that the numbers stand for, from the first component that has them.

        Raises:
            WorldError: no component has them.
        """
        numbered = next((policy for policy in self.policies if isinstance(policy, NumberedPolicy)), None)
        if numbered is None:
            expected = "a component of cai's own: cai.policies.FunctionPolicy, cai.solve(…).policy, …"
            raise fault("mixture, at", "components that do not say what their numbers mean", expected)
        return numbered.spaces

    def log_probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return log π_t(a|s), nats; every component must have tables."""
        log_w = self.logits.log_softmax(-1)
        parts = [w + policy.log_probs(t).to(w.dtype) for w, policy in zip(log_w, self.policies, strict=True)]
        return logsumexp(torch.stack(parts), 0)


class _Mixed(TorchDistribution):
    """The mixture of distributions on one support; ``log_w`` is ``[*, N]``."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 — torch's own convention

    def __init__(self, log_w: Tensor, parts: Sequence[Any]) -> None:
        self.log_w, self.parts = log_w, tuple(parts)
        self.has_enumerate_support = all(part.has_enumerate_support for part in self.parts)
        batch = torch.broadcast_shapes(log_w.shape[:-1], *(part.batch_shape for part in self.parts))
        super().__init__(batch, self.parts[0].event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the components."""
        return self.parts[0].support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_Mixed":
        """Expand to a larger batch shape."""
        shape = torch.Size(batch_shape)
        return _Mixed(self.log_w.expand(*shape, -1), [part.expand(shape) for part in self.parts])

    def joint(self, value: Tensor) -> Tensor:
        """Return log w_i + log p_i(value), ``[*, N]``: normalised, the weights given the value."""
        joint = self.log_w + torch.stack(torch.broadcast_tensors(*(part.log_prob(value) for part in self.parts)), -1)
        total = logsumexp(joint, -1, keepdim=True)
        return torch.where(total == -torch.inf, self.log_w, joint - torch.where(total == -torch.inf, 0.0, total))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log Σ w_i p_i(value)."""
        parts = torch.stack(torch.broadcast_tensors(*(part.log_prob(value) for part in self.parts)), -1)
        return logsumexp(self.log_w + parts, -1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw a component, and from it."""
        shape = torch.Size(sample_shape) + self.batch_shape
        which = dist.Categorical(logits=self.log_w.expand(*shape, -1)).sample()
        draws = torch.stack([part.expand(self.batch_shape).sample(sample_shape) for part in self.parts])
        index = which.reshape(1, *shape, *(1,) * len(self.event_shape)).expand(1, *draws.shape[1:])
        return draws.gather(0, index).squeeze(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return the support on a new leading dimension."""
        values: Tensor = self.parts[0].enumerate_support(expand=False)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape))
        return values.expand((-1, *self.batch_shape)) if expand else values

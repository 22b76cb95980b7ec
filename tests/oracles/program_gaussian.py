"""A linear-Gaussian trajectory program by Pyro and autograd alone: the mode, the curvature and the mass of its density.

The log density of all sites that have one is a quadratic, read off the trace by two derivatives; sites with a ``Delta``
follow. Knows nothing of how cai compiles a world.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor

import cai


@dataclass(frozen=True)
class ProgramPosterior:
    """p(sites | O = 1) = N(mean, covariance), the sites side by side; log Z and the log density at the mode, nats."""

    slices: dict[str, slice]
    log_evidence: float
    log_mode: float
    mean: Tensor
    covariance: Tensor

    def moments(self, *names: str) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of some sites, ``s_0``, ``a_0`` …"""
        at = torch.cat([torch.arange(len(self.mean))[self.slices[name]] for name in names])
        return self.mean[at], self.covariance[at][:, at]


def posterior(world: Any, alpha: float) -> ProgramPosterior:
    """Return the posterior over the sites of ``cai.trajectory(world)``."""
    return of_program(cai.trajectory(world, temperature=alpha))


def of_program(program: Callable[[], None]) -> ProgramPosterior:
    """Return the posterior over the sites of a program; ``pyro.condition`` and ``pyro.do`` may have changed it."""
    nodes = pyro.poutine.trace(program).get_trace().nodes
    free = {name: node["value"] for name, node in nodes.items() if _is_free(node)}
    sizes = [value.numel() for value in free.values()]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    slices = {name: slice(end - size, end) for name, size, end in zip(free, sizes, ends, strict=True)}

    def log_joint(x: Tensor) -> Tensor:
        values = {name: x[slices[name]].reshape(value.shape) for name, value in free.items()}
        return pyro.poutine.trace(pyro.poutine.condition(program, values)).get_trace().log_prob_sum()

    zero = torch.zeros(sum(sizes), dtype=torch.float64)
    precision = -torch.autograd.functional.hessian(log_joint, zero)
    start = zero.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_joint(start), start)
    mean = torch.linalg.solve(precision, slope)
    mode = float(log_joint(mean))
    log_z = mode + 0.5 * len(zero) * math.log(2 * math.pi) - 0.5 * float(torch.logdet(precision))
    return ProgramPosterior(slices, log_z, mode, mean, torch.linalg.inv(precision))


def _is_free(node: Any) -> bool:
    if node["type"] != "sample" or node["is_observed"]:
        return False
    fn = node["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return not isinstance(fn, Delta)

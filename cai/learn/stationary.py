"""The stationary problem of dynamic programming: one slice for ever, γ < 1, and the backups of its equations."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import fault
from cai.exact.rounding import Rounding, largest
from cai.exact.rule_means import Best, Mean, Soft
from cai.exact.tables.averaged import Averaged, average
from cai.exact.temperature import as_temperature
from cai.world.definition import World

SHARE = 1e-10
"""The bound at which iterations stop unless they are told one, as a share of the largest reward or value."""


@dataclass(frozen=True)
class Stationary:
    """One slice for ever, its dynamics held fixed.

    Attributes:
        tables: with ``horizon = None`` and ``discount = γ``.
        dynamics: E[r|s,a], and γ p(outcome|s,a) with its next state.
        largest: the largest finite |r|, reward units.
        over_actions: ``Best`` or ``Soft``.
        alpha: α, reward units; 0 where it is hard.
    """

    tables: Tables
    dynamics: Averaged
    largest: float
    over_actions: Mean
    alpha: Float[Tensor, ""]

    @property
    def nothing(self) -> Float[Tensor, " S"]:
        """v = 0 in every state, where the iterations over values begin."""
        return torch.zeros_like(self.tables.log_initial)

    def q(self, v: Float[Tensor, " S"]) -> Float[Tensor, "S A"]:
        """Return q(s,a) = E[r|s,a] + Σ γ p(outcome|s,a) v(s')."""
        return self.dynamics.q(v)

    def best(self, q: Float[Tensor, "S A"]) -> Float[Tensor, " S"]:
        """Return max_a q(s,a), or α log Σ_a p(a|s) exp(q(s,a)/α)."""
        return self.over_actions.value(q, self.tables.log_prior, self.alpha)

    def greedy(self, q: Float[Tensor, "S A"]) -> Float[Tensor, "S A"]:
        """Return log π: the prior on the maximisers, or p(a|s) exp((q - v)/α)."""
        log_pi = self.over_actions.log_weights(q, self.tables.log_prior, self.alpha, self.best(q))
        return log_pi.log_softmax(-1)  # (q - v)/α is rounded at the scale of q/α, which is large where it is cold

    def kl_cost(self, log_pi: Float[Tensor, "S A"], q: Float[Tensor, "S A"]) -> Float[Tensor, " S"]:
        """Return α KL(π(·|s) ‖ p(·|s)) of the greedy policy of q: ``Σ π q - v``, exact also where α is far above q."""
        cost = times(log_pi.exp(), q).sum(-1) - self.best(q)
        return torch.where(cost.isfinite() & (self.alpha > 0), cost, 0.0)

    def under(self, log_pi: Float[Tensor, "S A"], q: Float[Tensor, "S A"]) -> Float[Tensor, " S"]:
        """Return Σ_a π(a|s) (q(s,a) - α log π(a|s)/p(a|s))."""
        return times(log_pi.exp(), q - times(self.alpha, log_pi - self.tables.log_prior)).sum(-1)

    @property
    def rounding(self) -> Rounding:
        """A bound on the rounding of one backup, called with the numbers that take part in it beside the rewards."""
        return Rounding(self.largest, float(self.alpha))


@dataclass(frozen=True)
class Limits:
    """When to stop: the bound asked for, reward units (None: ``SHARE`` of the values), and the most iterations."""

    tolerance: float | None
    max_iterations: int

    def reached(self, bound: float, size: float, residual: float, rounding: float, iterations: int) -> str:
        """Say why to stop; nothing, to go on."""
        if bound <= (SHARE * size if self.tolerance is None else self.tolerance):
            return "tolerance"
        if residual <= rounding:
            return "rounding"
        return "iterations" if iterations >= self.max_iterations else ""


def stationary_problem(world: World | Tables, gamma: float | None, temperature: Any) -> Stationary:
    """Return the stationary problem of a world: its slice and γ; horizon and terminal reward are left out.

    Raises:
        WorldError: a batch, slices that differ over time, γ outside [0, 1), or a temperature that is not one number.
        IntractableError: the world cannot be tabulated.
    """
    tables = tabulate(world).detach()
    if tables.batch_shape:
        raise fault("dynamic programming", f"a batch of shape {[*tables.batch_shape]}", "one world")
    if tables.timed:
        raise fault("dynamic programming", "slices that differ over time", "stationary ones (cai.solve takes both)")
    tables = replace(tables, horizon=None, discount=_discount(tables, gamma))
    slice_ = tables.at(0)
    return Stationary(
        tables=tables,
        dynamics=average(slice_, tables.discount),
        largest=largest(torch.where(slice_.log_prob > -torch.inf, slice_.reward, 0.0)),
        over_actions=Best() if temperature is None else Soft(),
        alpha=tables.log_initial.new_zeros(()) if temperature is None else as_temperature(_number(temperature), tables),
    )


def _discount(tables: Tables, gamma: float | None) -> float:
    if gamma is None and not tables.discount < 1:
        raise fault("gamma", f"None, and the world's discount is {tables.discount:g}", "a number in [0, 1)")
    discount = tables.discount if gamma is None else gamma
    if isinstance(discount, bool) or not isinstance(discount, int | float) or not 0 <= discount < 1:
        raise fault("gamma", f"{discount!r}", "a number in [0, 1), so that an infinite sum of rewards is finite")
    return float(discount)


def _number(temperature: Any) -> float:
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise fault("temperature", f"{temperature!r}", "one positive number")
    return float(temperature)


def limits_of(tolerance: Any, max_iterations: Any) -> Limits:
    """Return the limits, checked.

    Raises:
        WorldError: the tolerance is no finite number >= 0, or the iterations are no whole number >= 1.
    """
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 <= tolerance < float("inf")):
        raise fault("tolerance", f"{tolerance!r}", "a finite number, 0 or more, in reward units, or None")
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise fault("max_iterations", f"{max_iterations!r}", "a whole number, 1 or more")
    return Limits(None if tolerance is None else float(tolerance), max_iterations)


def times(w: Tensor, x: Tensor) -> Tensor:
    """Return w x, 0 where w is 0, whatever its x."""
    return torch.where(w == 0, 0.0, w * x)

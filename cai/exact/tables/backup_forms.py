"""The forms of a backup on tables: what does not change from step to step is computed once.

Each form returns a step for a slice, or None where it does not apply or is not faster. The first step is used: kernels
for large worlds on a CPU, merged successors, averaged dynamics; else the plain equation. The plain equation is also
used where the temperature is so high that a logarithm near 0 would lose digits, where it is so low that r/α overflows,
and for means that a form does not know.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cai.exact.rounding import WARM, largest
from cai.exact.rule_means import Mean, assumption
from cai.exact.rules import MAP, POSTERIOR
from cai.exact.tables.averaged import average
from cai.exact.tables.backup import Equation, Step, reader
from cai.exact.tables.merged import merge
from cai.support.numerics import COLD

KERNEL_WORK = 10_000_000
"""Outcomes to be backed up from which kernels pay: about a quarter of a second of tensor operations."""
WORTH_MERGING = 8
"""Uses from which it pays to merge successors, and to average rewards, beforehand."""


def ready(equation: Equation, *, uses: int = 1, scale: float = 0.0) -> Step:
    """Return the slice's backup, ready to be taken ``uses`` times.

    Args:
        equation: the slice under its rule.
        uses: how often the step will be taken: what is worth preparing depends on it.
        scale: the size of the values that it will meet, reward units, where rewards alone do not tell.
    """
    for form in FAST:
        step = form(equation, uses, scale)
        if step is not None:
            return step
    return equation


def kernels(equation: Equation, uses: int, scale: float) -> Step | None:
    """Return the backup by kernels."""
    if not kernels_pay(equation, uses) or too_cold(equation, scale):
        return None
    from cai.exact.tables.fused import fused  # numba is slow to import

    return fused(equation)


def merged(equation: Equation, uses: int, scale: float) -> Step | None:
    """Return ``v = α log Σ M(s, s') exp(v'/α)``, for MAP ``v = max (α log M(s, s') + v')``, in log space."""
    if equation.rule not in (POSTERIOR, MAP) or not _worth_it(equation, uses, scale):
        return None
    product, a, survival = merge(equation), equation.alpha[..., None], equation.survival
    read, gain = reader(product.successor), product.gain[..., 0, 0]
    is_max = equation.rule == MAP

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        c = survival.value(v_next)
        top = c.amax(-1, keepdim=True).clamp(min=torch.finfo(c.dtype).min)
        x = (product.log_m + read((c - top) / a)).squeeze(-2)
        return torch.add(gain + top, a * (x.amax(-1) if is_max else x.logsumexp(-1)), out=out)

    return _compiled(step, equation, uses)


def averaged(equation: Equation, uses: int, scale: float) -> Step | None:
    """Return ``q = E[r] + γ Σ p v'``, then the mean over actions."""
    if not equation.rule.averages or not _worth_it(equation, uses, scale):
        return None
    dynamics = average(equation.slice, float(equation.log_survival[0].exp()))
    mean = _over_actions(equation.rule.over_actions, equation.slice.log_prior, equation.alpha)
    read = reader(dynamics.successor)
    never = dynamics.onward == 0
    holes = bool(never.any())  # an outcome of probability 0 counts 0, even if it leads to -inf

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        following = dynamics.onward * read(v_next)
        following = following.masked_fill_(never, 0.0) if holes else following
        v = mean(dynamics.reward + following.sum(-1))
        return v if out is None else out.copy_(v)

    return _compiled(step, equation, uses)


def device_kernel(equation: Equation, uses: int, scale: float) -> Step | None:
    """Return the equation itself, on a GPU as one kernel of the device."""
    return _compiled(equation, equation, uses) if _worth_it(equation, uses, scale) else None


FAST: tuple[Callable[[Equation, int, float], Step | None], ...] = (kernels, merged, averaged, device_kernel)
"""The fast forms, in the order in which they are asked."""


def _over_actions(mean: Mean, log_prior: Tensor, alpha: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the mean of ``q [*B, S, A]``; at no temperature that is too warm or too cold for a plain logarithm."""
    known, a = assumption(mean), alpha[..., None]
    if known is not None and known.kind == "linear" and known.eta is None:
        return lambda q: a * torch.logsumexp(log_prior + q / a.unsqueeze(-1), -1)
    if known is not None and known.kind == "maximum":
        price = a.unsqueeze(-1) * log_prior if known.paid else torch.zeros_like(log_prior)
        bias = torch.where(log_prior == -torch.inf, log_prior, price)
        return lambda q: (bias + q).amax(-1)
    return lambda q: mean.value(q, log_prior, a)


def _compiled(step: Step, equation: Equation, uses: int) -> Step:
    """Return the same tensor operations, on a GPU as one kernel of the device where the work is worth compiling."""
    if equation.slice.log_prob.device.type != "cuda" or _work(equation, uses) < KERNEL_WORK:
        return step
    compiled: Step = torch.compile(step, dynamic=True)
    return compiled


def _work(equation: Equation, uses: int) -> int:
    return equation.slice.log_prob.numel() * equation.alpha.numel() * uses


def kernels_pay(equation: Equation, uses: int) -> bool:
    """Return whether kernels can take this slice at this temperature, and are worth it."""
    if _work(equation, uses) < KERNEL_WORK:
        return False
    from cai.exact.tables.laid import kernels_can

    return kernels_can(equation.slice)


def _worth_it(equation: Equation, uses: int, scale: float) -> bool:
    return uses >= WORTH_MERGING and not out_of_range(equation, scale)


def out_of_range(equation: Equation, scale: float) -> bool:
    """Return whether a temperature is so high that ``α log Σ`` would lose the digits of the values, or too low."""
    warm = bool((equation.alpha > WARM * max(scale, largest(equation.slice.reward))).any())
    return warm or too_cold(equation, scale)


def too_cold(equation: Equation, scale: float) -> bool:
    """Return whether a temperature is so low that a sum of rewards over it may overflow."""
    alpha = equation.alpha
    least = COLD * torch.finfo(alpha.dtype).tiny
    return bool((alpha < least * max(1.0, scale, largest(equation.slice.reward))).any())


def room(like: Tensor, *shape: int) -> Tensor:
    """Return a tensor without content, in the dtype and on the device of ``like``."""
    if like.device.type != "cpu":
        return like.new_empty(shape)
    # NumPy asks the system for large pages, which torch does not.
    return torch.from_numpy(np.empty(shape, dtype=torch.empty((), dtype=like.dtype).numpy().dtype))

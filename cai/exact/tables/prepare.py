"""A backup made ready: what does not change from step to step is computed once, and then ``v = step(v_next)``.

Which form is best is chosen here, by size: for what is worth compiling, kernels on a CPU and compiled tensor operations
on a GPU; a few tensor operations for the rest, and the equation as it stands where the temperature is so high that
digits would be lost to a logarithm near 0, so low that r/α overflows, or where a form does not know the rule's means.
"""

import numpy as np
import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.rounding import WARM, largest
from cai.exact.rules import Rule
from cai.exact.tables.backup import Step
from cai.exact.tables.eager import eager, plain
from cai.support.numerics import COLD

KERNEL_WORK = 10_000_000
"""Outcomes to be backed up from which kernels pay: about a quarter of a second of tensor operations."""
WORTH_MERGING = 8
"""Uses from which it pays to merge successors, and to average rewards, beforehand."""


def prepare(rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor, *, uses: int = 1, scale: float = 0.0) -> Step:
    """Return the slice's backup, ready to be taken ``uses`` times.

    The slice's successors number the entries of ``v_next``, which may be longer than the slice has states.

    Args:
        rule: how outcomes and actions are marginalised.
        one: the slice.
        alpha: temperatures, reward units, of the batch shape.
        log_survival: log of (γ, 1 - γ), nats.
        uses: how often the step will be taken: what is worth preparing depends on it.
        scale: the size of the values that it will meet, reward units, where rewards alone do not tell.
    """
    step: Step | None
    if kernels_pay(one, alpha, uses) and not too_cold(one, alpha, scale):
        from cai.exact.tables.fused import fused  # numba is slow to import

        step = fused(rule, one, alpha, log_survival)
        if step is not None:
            return step
    if uses < WORTH_MERGING or out_of_range(one, alpha, scale):
        return plain(rule, one, alpha, log_survival)
    step = eager(rule, one, alpha, log_survival)
    large = one.log_prob.numel() * alpha.numel() * uses >= KERNEL_WORK
    return compiled(step) if large and one.log_prob.device.type == "cuda" else step


def compiled(step: Step) -> Step:
    """Return the same tensor operations as one kernel of the device, made by ``torch.compile``."""
    made: Step = torch.compile(step, dynamic=True)
    return made


def kernels_pay(one: Slice, alpha: Tensor, uses: int) -> bool:
    """Tell whether kernels can take this slice at this temperature, and are worth it."""
    if one.log_prob.numel() * alpha.numel() * uses < KERNEL_WORK:
        return False
    from cai.exact.tables.laid import kernels_can

    return kernels_can(one)


def out_of_range(one: Slice, alpha: Tensor, scale: float) -> bool:
    """Tell whether a temperature lies so far above all values that ``α log Σ`` would lose their digits, or too low."""
    return bool((alpha > WARM * max(scale, largest(one.reward))).any()) or too_cold(one, alpha, scale)


def too_cold(one: Slice, alpha: Tensor, scale: float) -> bool:
    """Tell whether a temperature is so low that a sum of rewards over it may overflow."""
    least = COLD * torch.finfo(alpha.dtype).tiny
    return bool((alpha < least * max(1.0, scale, largest(one.reward))).any())


def room(like: Tensor, *shape: int) -> Tensor:
    """Return a tensor without content, in the dtype and on the device of ``like``."""
    if like.device.type != "cpu":
        return like.new_empty(shape)
    # NumPy asks the system for large pages, which torch does not.
    return torch.from_numpy(np.empty(shape, dtype=torch.empty((), dtype=like.dtype).numpy().dtype))

"""POSTERIOR's adjoint for large worlds on a CPU: the flow along merged successors, by kernels."""

import numpy as np
import torch
from torch import Tensor

from cai.exact.survival import Survival
from cai.exact.tables.backup import Equation, Step
from cai.exact.tables.fused import Fused, Linear, fused
from cai.exact.tables.gathered import Gathered, Shared
from cai.exact.tables.kernels import flowing
from cai.exact.tables.laid import Span, once, whole


def fused_gathering(equation: Equation, step: Step | None = None) -> "FusedLinear | None":
    """Return the adjoint by kernels, with the product of a step if one is at hand; None where numbers forbid it."""
    ready = step if isinstance(step, Fused) else fused(equation)
    assert isinstance(ready, Fused)
    (form,) = ready.forms
    return FusedLinear(form, equation.survival) if isinstance(form, Linear) else None


class FusedLinear:
    """The same sums as ``adjoints.Linear``."""

    def __init__(self, form: Linear, survival: Survival) -> None:
        self.staged, self.product, self.survival = form.staged, form.product, survival
        self.alpha = survival.alpha.squeeze(-1)
        self.flow = np.zeros_like(form.product.M)
        self.alpha_bar = torch.zeros_like(self.alpha)

    def push(self, v_next: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        M, threads = self.product, self.staged.threads
        c = self.staged.survive(Span.of(v_next), False)
        c_bar = np.zeros((threads.n, len(c)), c.dtype)
        paid = np.zeros(threads.n)
        arguments = (v_bar.contiguous().numpy(), c, M.M, M.successor, self.staged.alpha)
        threads.run(flowing.flow(M.E), len(v_bar), *arguments, self.flow, c_bar, paid)
        self.alpha_bar = self.alpha_bar - float(paid.sum()) / self.alpha
        sent = torch.from_numpy(c_bar.sum(0) if threads.n > 1 else c_bar[0])
        v_next_bar, by_alpha = self.survival.adjoint(v_next, torch.from_numpy(c), sent)
        self.alpha_bar = self.alpha_bar + by_alpha
        return v_next_bar

    def total(self) -> Gathered:
        """Return the sum, shared out among the outcomes."""
        slice_, M, S = self.staged.numbers.slice, self.product, self.staged.numbers.shape[0]
        chances = (
            slice_.successor.numpy(),
            whole(once(slice_.log_prob).exp(), S),
            whole(once(slice_.log_prior).exp(), S),
        )
        out, paid = np.empty(slice_.log_prob.shape, M.M.dtype), np.zeros(self.staged.threads.n)
        arguments = (
            *chances,
            slice_.reward.detach().numpy(),
            M.gain,
            self.staged.alpha,
            M.E,
            M.successor,
            M.M,
            self.flow,
        )
        self.staged.threads.run(flowing.share, S, *arguments, out, paid)
        alpha_bar = self.alpha_bar - float(paid.sum()) / self.alpha
        return Shared(self.alpha, torch.from_numpy(out).to(slice_.reward.dtype), alpha_bar)

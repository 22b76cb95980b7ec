"""POSTERIOR's adjoint for large worlds on a CPU: the flow along merged successors, by kernels."""

import numpy as np
import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.rules import POSTERIOR
from cai.exact.tables.backup import Step
from cai.exact.tables.fused import Fused, Linear, Operator, Staged, fused
from cai.exact.tables.gathered import Gathered, Shared, through_survival
from cai.exact.tables.kernels import flowing
from cai.exact.tables.laid import Span, once, whole


def fused_gathering(one: Slice, alpha: Tensor, log_survival: Tensor, step: Step | None = None) -> "FusedLinear | None":
    """Return the adjoint by kernels, with the operator of a step if one is at hand; None where numbers forbid it."""
    made = step if isinstance(step, Fused) else fused(POSTERIOR, one, alpha, log_survival)
    assert isinstance(made, Fused)
    (form,) = made.forms
    return FusedLinear(form.staged, form.operator, alpha, log_survival) if isinstance(form, Linear) else None


class FusedLinear:
    """The same sums as ``adjoints.Linear``."""

    def __init__(self, staged: Staged, operator: Operator, alpha: Tensor, log_survival: Tensor) -> None:
        self.staged, self.operator = staged, operator
        self.alpha, self.log_survival = alpha, log_survival
        self.flow = np.zeros_like(operator.M)
        self.alpha_bar = torch.zeros_like(alpha)

    def push(self, v_next: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        M, threads = self.operator, self.staged.threads
        c = self.staged.survive(Span.of(v_next), False)
        c_bar = np.zeros((threads.n, len(c)), c.dtype)
        paid = np.zeros(threads.n)
        given = (v_bar.contiguous().numpy(), c, M.M, M.successor, self.staged.alpha)
        threads.run(flowing.flow(M.E), len(v_bar), *given, self.flow, c_bar, paid)
        self.alpha_bar = self.alpha_bar - float(paid.sum()) / self.alpha
        sent = torch.from_numpy(c_bar.sum(0) if threads.n > 1 else c_bar[0])
        v_next_bar, by_alpha = through_survival(
            v_next, torch.from_numpy(c), sent, self.alpha, self.log_survival, self.staged.discount < 1
        )
        self.alpha_bar = self.alpha_bar + by_alpha
        return v_next_bar

    def total(self) -> Gathered:
        """Return the sum, shared out among the outcomes."""
        one, M, S = self.staged.numbers.one, self.operator, self.staged.numbers.shape[0]
        chances = (one.successor.numpy(), whole(once(one.log_prob).exp(), S), whole(once(one.log_prior).exp(), S))
        out, paid = np.empty(one.log_prob.shape, M.M.dtype), np.zeros(self.staged.threads.n)
        given = (*chances, one.reward.detach().numpy(), M.gain, self.staged.alpha, M.E, M.successor, M.M, self.flow)
        self.staged.threads.run(flowing.share, S, *given, out, paid)
        alpha_bar = self.alpha_bar - float(paid.sum()) / self.alpha
        return Shared(self.alpha, torch.from_numpy(out).to(one.reward.dtype), alpha_bar)

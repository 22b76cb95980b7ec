"""The adjoint of one slice, used once or at every time; the derivatives of its parameters add up."""

import torch
from torch import Tensor

from cai.exact.rules import POSTERIOR
from cai.exact.tables.backup import Equation, Step, put_back, reader
from cai.exact.tables.backup_forms import WORTH_MERGING, kernels_pay, out_of_range
from cai.exact.tables.gathered import Gathered, Gathering, Shared, Sums
from cai.exact.tables.merged import Merged, log_weights, merge
from cai.support.numerics import logsumexp


def gathering(equation: Equation, *, uses: int = 1, scale: float = 0.0, step: Step | None = None) -> Gathering:
    """Return the slice's adjoint in its best form.

    The arguments are those of ``ready``, and the step that it made of them, if that is still at hand.
    """
    if equation.rule != POSTERIOR or uses < WORTH_MERGING or out_of_range(equation, scale):
        return Plain(equation)
    if equation.alpha.dim() == 0 and kernels_pay(equation, uses):
        from cai.exact.tables.fused_adjoint import fused_gathering

        by_kernels = fused_gathering(equation, step)
        if by_kernels is not None:
            return by_kernels
    return Linear(equation)


class Plain:
    """Every rule's adjoint, as the equations stand."""

    def __init__(self, equation: Equation) -> None:
        self.equation = equation
        self.sum: Sums | None = None

    def push(self, v_next: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        bars = self.equation.adjoint(v_next, v_bar, v_bar.new_zeros(1))
        new = Sums(bars.log_prior, bars.log_prob, bars.reward, bars.alpha)
        self.sum = new if self.sum is None else self.sum + new
        return bars.v_next

    def total(self) -> Gathered:
        """Return the sum."""
        assert self.sum is not None
        return self.sum


class Linear:
    """POSTERIOR's adjoint over merged successors: the flow along ``M(s, s') exp((c(s') - v(s))/α)``, which sums to 1.

    What an outcome gathers is its share of the flow between two states, ``p(a|s) p(outcome|s,a) exp(r/α)/M(s, s')``.
    The derivative by α is minus the KL divergence of what flows from ``p(a|s) p(outcome|s,a)``: a term for the way to
    s', and one for the shares.
    """

    def __init__(self, equation: Equation) -> None:
        self.slice, self.alpha, self.survival = equation.slice, equation.alpha, equation.survival
        self.merged: Merged = merge(equation)
        self.read = reader(self.merged.successor)
        self.flow = torch.zeros_like(self.merged.log_m)
        self.alpha_bar = torch.zeros_like(equation.alpha)

    def push(self, v_next: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        c = self.survival.value(v_next)
        top = c.amax(-1, keepdim=True).clamp(min=torch.finfo(c.dtype).min)
        log_w = self.merged.log_m + self.read((c - top) / self.alpha[..., None])
        log_w = log_w - logsumexp(log_w, -1, keepdim=True).clamp(min=torch.finfo(c.dtype).min)
        flow = v_bar[..., None, None] * log_w.exp()
        self.flow = self.flow + flow if self.flow.shape != flow.shape else self.flow.add_(flow)
        c_bar = put_back(flow, self.merged.successor, v_next.shape[-1])
        v_next_bar, by_alpha = self.survival.adjoint(v_next, c, c_bar)
        self.alpha_bar = self.alpha_bar + by_alpha - torch.where(flow == 0, 0.0, flow * log_w).sum((-1, -2, -3))
        return v_next_bar

    def total(self) -> Gathered:
        """Return the sum, shared out among the outcomes."""
        entry = self.merged.entry.flatten(-2)
        log_m, flow = self.merged.log_m.squeeze(-2), self.flow.squeeze(-2)
        log_w = log_weights(self.slice, self.alpha, self.merged.gain)
        entry = entry.expand(*flow.shape[:-1], -1)
        base = log_m.gather(-1, entry).reshape(log_w.shape)
        share = torch.where(log_w == -torch.inf, -torch.inf, log_w - base).exp()
        reward = share * flow.gather(-1, entry).reshape(log_w.shape)
        paid = (self.slice.reward - self.merged.gain) / self.alpha[
            ..., None, None, None
        ] - base  # log share, less log p
        alpha_bar = self.alpha_bar - torch.where(reward == 0, 0.0, reward * paid).sum((-1, -2, -3))
        return Shared(self.alpha, reward, alpha_bar)

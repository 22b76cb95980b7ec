"""The adjoint of one slice, taken once or at every time: what its parameters gather on the way is summed."""

import torch
from torch import Tensor

from cai.exact.backup import adjoint, look_ahead, put_back, survive
from cai.exact.gathered import Gathered, Gathering, through_survival
from cai.exact.merge import Merged, log_weights, merge
from cai.exact.prepare import WORTH_MERGING, kernels_pay, too_warm
from cai.exact.rules import POSTERIOR, Rule
from cai.types import Slice


def gathering(
    rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor, *, uses: int = 1, scale: float = 0.0
) -> Gathering:
    """Return the slice's adjoint in its best form; the arguments are those of ``prepare``."""
    if rule != POSTERIOR or uses < WORTH_MERGING or too_warm(one, alpha, scale):
        return Plain(rule, one, alpha, log_survival)
    if alpha.dim() == 0 and kernels_pay(one, alpha, uses):
        from cai.exact.fused_adjoint import fused_gathering

        found = fused_gathering(one, alpha, log_survival)
        if found is not None:
            return found
    return Linear(one, alpha, log_survival)


class Plain:
    """Every rule's adjoint, as the equations stand."""

    def __init__(self, rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> None:
        self.rule, self.one, self.alpha, self.log_survival = rule, one, alpha, log_survival
        self.sum: Gathered | None = None

    def push(self, v_next: Tensor, v: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        q_bar = v_bar.new_zeros(1)
        bars = adjoint(self.rule, self.one, v_next, self.alpha, self.log_survival, v_bar, q_bar)
        new = Gathered(bars.log_prior, bars.log_prob, bars.reward, bars.alpha)
        self.sum = new if self.sum is None else self.sum + new
        return bars.v_next

    def total(self) -> Gathered:
        """Return the sum."""
        assert self.sum is not None
        return self.sum


class Linear:
    """POSTERIOR's adjoint over merged successors: the flow along ``M(s, s') exp((c(s') - v(s))/α)``, which sums to 1.

    What an outcome gathers is its share of the flow between two states, ``p(a|s) p(outcome|s,a) exp(r/α)/M(s, s')``.
    """

    def __init__(self, one: Slice, alpha: Tensor, log_survival: Tensor) -> None:
        self.one, self.alpha, self.log_survival = one, alpha, log_survival
        self.merged: Merged = merge(POSTERIOR, one, alpha)
        self.flow = torch.zeros_like(self.merged.log_m)
        self.alpha_bar = torch.zeros_like(alpha)

    def push(self, v_next: Tensor, v: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        c = survive(POSTERIOR, v_next, self.alpha, self.log_survival)
        finite, successor = torch.where(v == -torch.inf, 0.0, v), self.merged.successor
        gain = look_ahead(c, successor) - finite[..., None, None]
        weights = (self.merged.log_m + gain / self.alpha[..., None, None, None]).exp()
        v_bar = torch.where(v == -torch.inf, 0.0, v_bar)
        flow = v_bar[..., None, None] * weights
        self.flow = self.flow + flow
        paid = (flow * torch.where(flow == 0, 0.0, gain)).sum((-1, -2))
        c_bar = put_back(flow, successor, v_next.shape[-1])
        v_next_bar, by_alpha = through_survival(v_next, c, c_bar, self.alpha, self.log_survival)
        self.alpha_bar = self.alpha_bar - paid.sum(-1) / self.alpha + by_alpha
        return v_next_bar

    def total(self) -> Gathered:
        """Return the sum, shared out among the outcomes."""
        entry = self.merged.entry.flatten(-2)
        log_m, flow = self.merged.log_m.squeeze(-2), self.flow.squeeze(-2)
        log_w = log_weights(self.one, self.alpha)
        entry = entry.expand(*flow.shape[:-1], -1)
        base = log_m.gather(-1, entry).reshape(log_w.shape)
        share = torch.where(log_w == -torch.inf, -torch.inf, log_w - base).exp()
        reward = share * flow.gather(-1, entry).reshape(log_w.shape)
        log_prob = self.alpha[..., None, None, None] * reward
        paid = torch.where(reward == 0, 0.0, reward * self.one.reward).sum((-1, -2, -3))
        return Gathered(log_prob.sum(-1), log_prob, reward, self.alpha_bar - paid / self.alpha)

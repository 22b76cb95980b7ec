"""The adjoint of one slice, taken once or at every time: what its parameters gather on the way is summed."""

import torch
from torch import Tensor

from cai.exact.backup import Step, adjoint, put_back, reader, survive
from cai.exact.gathered import Gathered, Gathering, Shared, Sums, through_survival
from cai.exact.merge import Merged, log_weights, merge
from cai.exact.prepare import WORTH_MERGING, kernels_pay, too_warm
from cai.exact.rules import POSTERIOR, Rule
from cai.types import Slice


def gathering(
    rule: Rule,
    one: Slice,
    alpha: Tensor,
    log_survival: Tensor,
    *,
    uses: int = 1,
    scale: float = 0.0,
    step: Step | None = None,
) -> Gathering:
    """Return the slice's adjoint in its best form.

    The arguments are those of ``prepare``, and the step that it made of them, if that is still at hand.
    """
    if rule != POSTERIOR or uses < WORTH_MERGING or too_warm(one, alpha, scale):
        return Plain(rule, one, alpha, log_survival)
    if alpha.dim() == 0 and kernels_pay(one, alpha, uses):
        from cai.exact.fused_adjoint import fused_gathering

        found = fused_gathering(one, alpha, log_survival, step)
        if found is not None:
            return found
    return Linear(one, alpha, log_survival)


class Plain:
    """Every rule's adjoint, as the equations stand."""

    def __init__(self, rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> None:
        self.rule, self.one, self.alpha, self.log_survival = rule, one, alpha, log_survival
        self.sum: Sums | None = None

    def push(self, v_next: Tensor, v: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        q_bar = v_bar.new_zeros(1)
        bars = adjoint(self.rule, self.one, v_next, self.alpha, self.log_survival, v_bar, q_bar)
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
    """

    def __init__(self, one: Slice, alpha: Tensor, log_survival: Tensor) -> None:
        self.one, self.alpha, self.log_survival = one, alpha, log_survival
        self.mortal = bool(log_survival[1] > -torch.inf)
        self.merged: Merged = merge(POSTERIOR, one, alpha)
        self.read = reader(self.merged.successor)
        self.flow = torch.zeros_like(self.merged.log_m)
        self.passed: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self.alpha_bar = torch.zeros_like(alpha)

    def push(self, v_next: Tensor, v: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        c = survive(POSTERIOR, v_next, self.alpha, self.log_survival) if self.mortal else v_next
        gain = self.read(c) - v[..., None, None]
        flow = v_bar[..., None, None] * (self.merged.log_m + gain / self.alpha[..., None, None, None]).exp_()
        self.flow = self.flow + flow if self.flow.shape != flow.shape else self.flow.add_(flow)
        c_bar = put_back(flow, self.merged.successor, v_next.shape[-1])
        self.passed.append((c, c_bar, v, v_bar))
        v_next_bar, by_alpha = through_survival(v_next, c, c_bar, self.alpha, self.log_survival, self.mortal)
        self.alpha_bar = self.alpha_bar + by_alpha if self.mortal else self.alpha_bar
        return v_next_bar

    def _by_alpha(self) -> Tensor:
        """Sum ``v̄(s) (v(s) - Σ weight c(s'))/α`` over all that passed: its part that is not the rewards'."""
        c, c_bar, v, v_bar = (torch.stack(parts) for parts in zip(*self.passed, strict=True))
        paid = torch.where(c_bar == 0, 0.0, c_bar * c).sum(-1) - (v_bar * v).sum(-1)
        return self.alpha_bar - paid.sum(0) / self.alpha

    def total(self) -> Gathered:
        """Return the sum, shared out among the outcomes."""
        entry = self.merged.entry.flatten(-2)
        log_m, flow = self.merged.log_m.squeeze(-2), self.flow.squeeze(-2)
        log_w = log_weights(self.one, self.alpha)
        entry = entry.expand(*flow.shape[:-1], -1)
        base = log_m.gather(-1, entry).reshape(log_w.shape)
        share = torch.where(log_w == -torch.inf, -torch.inf, log_w - base).exp()
        reward = share * flow.gather(-1, entry).reshape(log_w.shape)
        return Shared(self.one, self.alpha, reward, self._by_alpha())

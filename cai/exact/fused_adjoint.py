"""POSTERIOR's adjoint for large worlds on a CPU: the flow along merged successors, by kernels."""

import numpy as np
import torch
from torch import Tensor

from cai.exact.fused import Operator, Staged, operator_of
from cai.exact.gathered import Gathered, through_survival
from cai.exact.kernels import flowing
from cai.exact.layout import Numbers, Span, Threads
from cai.exact.rules import POSTERIOR
from cai.types import Slice


def fused_gathering(one: Slice, alpha: Tensor, log_survival: Tensor) -> "FusedLinear | None":
    """Return the adjoint by kernels; None where the operator's numbers do not allow it."""
    numbers, threads = Numbers(one), Threads(one.log_prob.shape[0])
    staged = Staged(POSTERIOR, numbers, float(alpha), float(log_survival[0].exp()), threads)
    operator = operator_of(staged)
    return None if operator is None else FusedLinear(staged, operator, alpha, log_survival)


class FusedLinear:
    """The same sums as ``adjoints.Linear``."""

    def __init__(self, staged: Staged, operator: Operator, alpha: Tensor, log_survival: Tensor) -> None:
        self.staged, self.operator = staged, operator
        self.alpha, self.log_survival = alpha, log_survival
        self.flow = np.zeros_like(operator.M)
        self.alpha_bar = torch.zeros_like(alpha)

    def push(self, v_next: Tensor, v: Tensor, v_bar: Tensor) -> Tensor:
        """Gather, and return v̄_next."""
        M, threads = self.operator, self.staged.threads
        c = self.staged.survive(Span.of(v_next), False)
        c_bar = np.zeros((threads.n, len(c)), c.dtype)
        paid = np.zeros(threads.n)
        given = (v_bar.contiguous().numpy(), v.contiguous().numpy(), c, M.M, M.successor, M.gain, self.staged.alpha)
        threads.run(flowing.flow(M.E), len(v), *given, self.flow, c_bar, paid)
        self.alpha_bar = self.alpha_bar - float(paid.sum()) / self.alpha
        sent = torch.from_numpy(c_bar.sum(0) if threads.n > 1 else c_bar[0])
        v_next_bar, by_alpha = through_survival(
            v_next, torch.from_numpy(c), sent, self.alpha, self.log_survival, self.staged.discount < 1
        )
        self.alpha_bar = self.alpha_bar + by_alpha
        return v_next_bar

    def total(self) -> Gathered:
        """Return the sum, shared out among the outcomes."""
        numbers, M, one = self.staged.numbers, self.operator, self.staged.numbers.one
        S, A, K = numbers.shape
        p, prior, reward = numbers.p, numbers.prior, numbers.reward
        out = np.empty(S * A * K, M.M.dtype)
        successor = one.successor.reshape(-1).numpy()
        shared = (successor, p.flat, p.step, reward.flat, reward.step, M.gain, prior.flat, prior.step)
        self.staged.threads.run(
            flowing.share, S, *shared, A, K, self.staged.alpha, M.E, M.successor, M.M, self.flow, out
        )
        by_reward = torch.from_numpy(out).reshape(S, A, K)
        log_prob = self.alpha * by_reward
        paid = torch.where(by_reward == 0, 0.0, by_reward * one.reward).sum()
        return Gathered(log_prob.sum(-1), log_prob, by_reward, self.alpha_bar - paid / self.alpha)

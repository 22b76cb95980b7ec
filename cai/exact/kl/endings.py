"""Rewards that are paid at the end of a text only: the returns that there are, and other payments in their place."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.tables.table_operator import TableOperator
from cai.support.memory import require_room


@dataclass(frozen=True)
class Endings:
    """The last outcomes of texts, ``[T, S, A, K]``, and the N different returns that they pay.

    Attributes:
        op: the world.
        returns: the finite returns, reward units, in rising order.
        last: whether an outcome ends the text, at length t + 1.
        forbidden: whether it pays -inf, at the end or before.
        number: which return it pays, where it ends the text.
    """

    op: TableOperator
    returns: Float[Tensor, " N"]
    last: Bool[Tensor, "T S A K"]
    forbidden: Bool[Tensor, "T S A K"]
    number: Int[Tensor, "T S A K"]

    @staticmethod
    def of(op: TableOperator, asks: str) -> "Endings":
        """Read the endings of a world.

        Raises:
            WorldError: a reward is paid before the end, the start is not one state, or steps may end a text by chance.
        """
        tables = op.model
        _require_one_start(tables, asks)
        T, shape = tables.horizon or 0, tables.at(0).reward.shape
        require_room("kl_fixed_point", f"payments of T = {T:,} times, {shape}", 40 * T * shape.numel())
        ended = torch.zeros_like(tables.terminal, dtype=torch.bool) if tables.ended is None else tables.ended
        rows = []
        for t in range(T):
            slice_ = tables.at(t)
            last = (ended[slice_.successor] | (t == T - 1)) & ~ended[:, None, None]
            paid = slice_.reward + torch.where(last, tables.terminal[slice_.successor], 0.0)
            possible = (slice_.log_prob > -torch.inf) & (slice_.log_prior > -torch.inf).unsqueeze(-1)
            _require_nothing(tables, t, possible & ~last & (paid != 0) & (paid != -torch.inf), paid, asks)
            rows.append((last, paid, possible))
        last, paid, possible = (torch.stack(each) for each in zip(*rows, strict=True))
        forbidden = paid == -torch.inf
        returns = paid[last & possible & ~forbidden].unique()
        number = torch.searchsorted(returns, paid).clamp(max=max(len(returns) - 1, 0))
        return Endings(op, returns, last, forbidden, number)

    @property
    def lengths(self) -> Float[Tensor, "T 1"]:
        """The length of a text that ends at time t, in tokens."""
        return torch.arange(1, len(self.last) + 1, dtype=self.returns.dtype).unsqueeze(-1)

    def paying(self, payments: Float[Tensor, "T N"]) -> TableOperator:
        """Return the world in which a text of length t + 1 and return n is paid ``payments[t, n]`` at its end."""
        rows = [pay[number] for pay, number in zip(payments, self.number, strict=True)]
        return self._rewarded(torch.where(self.forbidden, -torch.inf, torch.where(self.last, torch.stack(rows), 0.0)))

    def inverse_lengths(self) -> TableOperator:
        """Return the world in which every text is paid 1/length at its end, a forbidden one too."""
        return self._rewarded(torch.where(self.last, 1 / self.lengths[..., None, None], 0.0))

    def chances(self, log_pi: Float[Tensor, "T S A"]) -> Float[Tensor, "T N"]:
        """Return the probability of each length and return under a policy."""
        op, mu, found = self.op, self.op.initial(), []
        for t in range(len(self.last)):
            joint = op.joint(mu, log_pi[t])
            p = op.in_play(joint).unsqueeze(-1) * op.model.at(t).log_prob.exp()
            p = torch.where(self.last[t] & ~self.forbidden[t], p, 0.0)
            found.append(torch.zeros_like(self.returns).index_add(0, self.number[t].flatten(), p.flatten()))
            mu = op.push(t, joint)
        return torch.stack(found)

    def _rewarded(self, reward: Float[Tensor, "T S A K"]) -> TableOperator:
        tables, T = self.op.model, len(self.last)
        names = () if tables.timed else ("log_prior", "log_prob", "successor")
        timed = {name: getattr(tables, name).expand(T, *getattr(tables, name).shape) for name in names}
        paid = replace(tables, reward=reward, terminal=torch.zeros_like(tables.terminal), timed=True, **timed)
        return TableOperator(paid, self.op.rule, self.op.alpha)


def _require_one_start(tables: Tables, asks: str) -> None:
    starts = (tables.log_initial > -torch.inf).nonzero().flatten()
    if len(starts) > 1 or tables.discount < 1:
        seen = f"{len(starts)} start states" if len(starts) > 1 else f"the discount {tables.discount:g}"
        raise fault(f"KL objective, {asks}", seen, "one start state, the prompt of a group, and no discount")
    if tables.ended is not None and bool(tables.ended[starts].any()):
        raise fault(
            f"KL objective, {asks}", "a start state in which the episode has ended", "a text of one token or more"
        )


def _require_nothing(tables: Tables, t: int, early: Tensor, paid: Tensor, asks: str) -> None:
    if bool(early.any()):
        s, a, k = early.nonzero()[0].tolist()
        seen = f"{float(paid[s, a, k]):g} paid at t = {t}, {tables.states.label(s)}; {tables.actions.label(a)}"
        raise fault(f"KL objective, {asks}", seen, "rewards that are paid at the end of a text only")

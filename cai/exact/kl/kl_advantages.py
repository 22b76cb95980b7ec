"""What the gradient of a token is made of: its expected advantage, and the weight of its KL.

    E[(κ G - α W f) ∇log π],    ∇k = f ∇log π

G adds up what is paid to go, W is 1, or E[1/length] where texts are divided by their length. What is paid, and κ,
depend on statistics of the policy itself: its spread of returns, its mean return. ``Plain`` has none.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault
from cai.exact.kl.endings import Endings
from cai.exact.kl.groups import baseline_of, expected_advantages
from cai.exact.kl.kl_estimators import estimate
from cai.exact.kl.kl_objective import KLObjective
from cai.exact.rounding import ULPS, largest
from cai.exact.tables.backup import look_ahead
from cai.exact.tables.table_operator import TableOperator


@dataclass(frozen=True)
class Terms:
    """The world whose values are G, κ, and the world whose values are W; None where W is 1."""

    op: TableOperator
    gain: Tensor
    weights: TableOperator | None = None


@runtime_checkable
class Advantages(Protocol):
    """How an objective makes advantages of returns."""

    @property
    def start(self) -> Float[Tensor, " N"]:
        """The statistics at which nothing is paid, and the reference is stationary."""

    def seen(self, log_pi: Float[Tensor, "T S A"]) -> Float[Tensor, " N"]:
        """Return the statistics of a policy."""

    def terms(self, seen: Float[Tensor, " N"]) -> Terms:
        """Return what the gradient is made of, given the statistics."""


def advantages(op: TableOperator, objective: KLObjective) -> Advantages:
    """Return the simplest form of an objective's advantages.

    Raises:
        WorldError: they have no exact form in this world.
    """
    grouped = objective.scale == "group_std" or objective.baseline in ("group_mean", "leave_one_out")
    finite = objective.group is not None and objective.scale != "none" and grouped
    if objective.length != "sequence" and not finite:
        return Plain(op, objective) if objective.scale == "none" else Scaled(op, objective)
    asks = "length 'sequence'" if objective.length == "sequence" else f"scale '{objective.scale}' in groups"
    if objective.where == "reward":
        raise fault(f"KL objective, {asks}", "the KL in the reward", "the KL in the loss, or group=None and no length")
    if objective.baseline == "value":
        raise fault(f"KL objective, {asks}", "the baseline 'value'", "one baseline for a text")
    return PaidAtEnd(op, objective, Endings.of(op, asks))


def in_world(op: TableOperator, objective: KLObjective) -> KLObjective:
    """Return an objective with the length of a batch in place of each text's, where all texts have one length."""
    one = op.model.ended is None and op.model.discount == 1
    return replace(objective, length="batch") if one and objective.length == "sequence" else objective


@dataclass(frozen=True)
class Plain:
    """Advantages that are returns less a baseline."""

    op: TableOperator
    objective: KLObjective

    @property
    def start(self) -> Tensor:
        """Return no statistics."""
        return self.op.alpha.new_zeros(0)

    def seen(self, log_pi: Tensor) -> Tensor:
        """Return none."""
        return self.start

    def terms(self, seen: Tensor) -> Terms:
        """Return the world itself; the group's own baseline shrinks the gradient by (G - 1)/G."""
        return Terms(self.op, self.op.alpha.new_tensor(baseline_of(self.objective)[0]))


@dataclass(frozen=True)
class Scaled:
    """Advantages divided by one standard deviation, of an infinite group or batch; κ = 1/σ is what is seen."""

    op: TableOperator
    objective: KLObjective

    @property
    def start(self) -> Tensor:
        """Return κ = 0."""
        return self.op.alpha.new_zeros(1)

    def terms(self, seen: Tensor) -> Terms:
        """Return the world itself and κ."""
        return Terms(self.op, seen[0])

    def seen(self, log_pi: Tensor) -> Tensor:
        """Return κ = 1/σ: of returns, or over the tokens of a batch of what is paid to go, less the baseline.

        It is inf where all are equal, rounding apart.
        """
        op, objective = self.op, self.objective
        v, variance = moments(op, objective, log_pi)
        start = op.initial()
        mean = op.expect(start, v[0])
        if objective.scale == "group_std":
            if int((start > 0).sum()) > 1:
                raise fault(
                    "KL objective, scale", f"{int((start > 0).sum())} start states", "one, the prompt of a group"
                )
            return _over_spread(op.expect(start, variance[0]), v)
        w = tokens(op, log_pi)
        w = w / w.sum()
        centred = torch.zeros_like(w) if objective.baseline == "value" else v[:-1] - mean
        middle = op.expect(w, centred).sum()
        return _over_spread(op.expect(w, variance[:-1] + (centred - middle) ** 2).sum(), v)


def _over_spread(variance: Tensor, v: Tensor) -> Float[Tensor, " 1"]:
    sigma = variance.sqrt()
    least = ULPS * torch.finfo(v.dtype).eps * largest(v)
    return torch.where(sigma > least, 1 / sigma, torch.inf).reshape(1)


@dataclass(frozen=True)
class PaidAtEnd:
    """Advantages of texts that are paid at their end: A(return)/length is paid there, and A of each return is seen."""

    op: TableOperator
    objective: KLObjective
    endings: Endings

    @property
    def start(self) -> Tensor:
        """Return no advantage for any return."""
        return torch.zeros_like(self.endings.returns)

    def seen(self, log_pi: Tensor) -> Tensor:
        """Return the expected advantage of each return, ``[N]``."""
        return expected_advantages(self.objective, self.endings.returns, self.endings.chances(log_pi))

    def terms(self, seen: Tensor) -> Terms:
        """Return the world that pays A/length, and the one that pays 1/length."""
        T, one = len(self.endings.last), self.op.alpha.new_ones(())
        if self.objective.length != "sequence":
            return Terms(self.endings.paying(seen.expand(T, -1)), one)
        return Terms(self.endings.paying(seen / self.endings.lengths), one, self.endings.inverse_lengths())


def tokens(op: TableOperator, log_pi: Float[Tensor, "T S A"]) -> Float[Tensor, "T S"]:
    """Return the expected number of tokens written at each time and state."""
    mu, found = op.initial(), []
    for t, own in enumerate(log_pi):
        joint = op.joint(mu, own)
        found.append(op.in_play(joint).sum(-1))
        mu = op.push(t, joint)
    return torch.stack(found)


def moments(op: TableOperator, objective: KLObjective, log_pi: Float[Tensor, "T S A"]) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of what is paid to go, ``[T+1, S]``, less α times a KL in the reward.

    ``Var(s) = Σ π (Var(s,a) + (q(s,a) - v(s))²)``, and so on over outcomes and survival: the law of total variance.
    """
    gamma, v = op.model.discount, [op.terminal()]
    variance = [torch.zeros_like(v[0])]
    for t in reversed(range(len(log_pi))):
        slice_, pi, q = op.model.at(t), log_pi[t].exp(), op.averaged(t).q(v[0])
        ahead, spread = look_ahead(v[0], slice_.successor), look_ahead(variance[0], slice_.successor)
        around = slice_.reward - q.unsqueeze(-1)
        each = gamma * (spread + (around + ahead) ** 2) + (1 - gamma) * around**2
        p = slice_.log_prob.exp()
        own = torch.where(p > 0, p * each, 0.0).sum(-1)
        if objective.where == "reward":
            q = q - op.alpha * estimate(objective.kl, log_pi[t], op.log_prior(t))
        v.insert(0, op.expect(pi, q))
        variance.insert(0, op.expect(pi, own + (q - v[0].unsqueeze(-1)) ** 2))
    return torch.stack(v), torch.stack(variance)

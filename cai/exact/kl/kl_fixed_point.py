"""kl_fixed_point: where on-policy learning with a KL to the reference ends, by one backward recursion."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault, require_time
from cai.exact.diagnose import require_possible
from cai.exact.forms import Compiled, compiled
from cai.exact.kl.kl_objective import KLObjective, kl_objective
from cai.exact.kl.tilts import Tilt, exponential, greedy, polynomial
from cai.exact.rules import VARIATIONAL
from cai.exact.tables.table_operator import TableOperator
from cai.exact.temperature import single_temperature
from cai.policies.fixed import FixedPolicy
from cai.world.definition import World

LOSS: dict[str, Tilt] = {"k2": exponential, "ratio_k3": exponential, "full": exponential, "k3": polynomial}
"""The stationary policy of one state, by the estimator in the loss."""


def kl_fixed_point(
    world: World | Tables, objective: str | KLObjective = "k3", *, temperature: float = 1.0, group: int | None = None
) -> FixedPolicy:
    """Return the policy at which the expected gradient of an on-policy learner vanishes, for a table of logits.

    One backward recursion, with ``Q(s,a) = E[r + v(s')]``; ref is the action prior, α the coefficient of the KL:

        k1 in the reward              π = ref exp((Q - v)/α)    v = α log Σ ref exp(Q/α)    the optimum, VARIATIONAL
        k2, ratio × k3, full KL       π ∝ ref exp(Q/α)          v = Σ π Q                   the reward to go alone
        k3                            π = ref α/(λ - Q)         v = Σ π Q                   λ makes π sum to 1
        k1 in the loss                π on the maximisers of Q  v = max Q                   no regulariser

    With the KL in the loss no token is charged for what later ones cost, so v is the reward to go of π itself, without
    KL. k1 in the loss has an expected gradient of zero: every maximiser of the reward is a fixed point, and the
    reference restricted to the maximisers, the limit of k2 as α → 0, is returned. A state from which no reward above
    -inf can be reached keeps the reference.

    Args:
        world: a world with a finite horizon, or its tables.
        objective: a name of ``cai.KL_OBJECTIVES``, or a ``KLObjective``.
        temperature: α > 0, reward units.
        group: G, the texts of a group, in place of the objective's.

    Raises:
        WorldError: an argument is not valid, or the objective has no fixed point, or more than one.
        IntractableError: the world cannot be compiled to tables.
        ImpossibleError: every policy earns -inf.

    Source: derived from the gradients of ``kl_gradient``; k1 in the reward is Levine (2018), section 3.
    """
    objective = kl_objective(objective, group)
    _require_fixed_point(objective)
    op = table_operator("kl_fixed_point", world, temperature)
    fixed = _swept(op, objective)
    require_possible(op, op.start(fixed.v[0]))
    return FixedPolicy(fixed.table, op.model.states, op.model.actions, op.model.horizon)


def table_operator(where: str, world: World | Compiled, temperature: float) -> TableOperator:
    """Return a world's tables under VARIATIONAL, whose q is the expected reward to go.

    Raises:
        WorldError: it is a batch, or its horizon is infinite.
    """
    tables = compiled(world, "tables")
    assert isinstance(tables, Tables)
    if tables.horizon is None or tables.batch_shape:
        seen = "an infinite horizon" if tables.horizon is None else f"a batch of {tables.batch_shape.numel()} worlds"
        raise fault(f"{where}, world", seen, "one world with a finite horizon")
    return TableOperator(tables.detach(), VARIATIONAL, single_temperature(temperature).to(tables.dtype))


@dataclass(frozen=True)
class Fixed:
    """A fixed point: v of all times, ``[T+1, S]``, reward units, from which its policy follows."""

    op: TableOperator
    objective: KLObjective
    v: Float[Tensor, "T1 S"]

    def table(self, t: int) -> Tensor:
        """Return log π_t(a|s), nats."""
        t = require_time("t", t, self.op.model.horizon)
        return stationary(self.op, self.objective, t, self.op.q(t, self.v[t + 1]))


def stationary(op: TableOperator, objective: KLObjective, t: int, q: Tensor) -> Tensor:
    """Return log π_t(a|s), nats, that is stationary for values q."""
    log_ref, T = op.log_prior(t), op.model.horizon
    if objective.kl == "k1" and objective.where == "loss":
        return greedy(q, (T or 0) - t, log_ref)
    if objective.where == "reward":
        return exponential(q, op.alpha, log_ref)
    return LOSS[objective.kl](q, op.alpha / gain(objective), log_ref)


def gain(objective: KLObjective) -> float:
    """Return E[(R - mean)|R]/(R - E[R]), by which the group's own baseline multiplies the gradient: (G - 1)/G."""
    if objective.baseline != "group_mean" or objective.group is None:
        return 1.0
    return (objective.group - 1) / objective.group


def _swept(op: TableOperator, objective: KLObjective) -> Fixed:
    T = op.model.horizon or 0
    v = [op.terminal()]
    for t in reversed(range(T)):
        q = op.q(t, v[0])
        log_pi = stationary(op, objective, t, q)
        paid = q - op.alpha * nats(log_pi, op.log_prior(t)) if objective.where == "reward" else q
        v.insert(0, op.expect(log_pi.exp(), paid))
    return Fixed(op, objective, torch.stack(v))


def nats(log_pi: Tensor, log_ref: Tensor) -> Tensor:
    """Return log π/ref, nats; 0 where neither takes the action."""
    return torch.where(log_pi == log_ref, 0.0, log_pi - log_ref)


MORE = {
    "k2": "(log π/ref)²/2 takes each value twice, on either side of the reference",
    "k3": "ref/π - 1 + log π/ref takes each value twice, on either side of the reference",
    "full": "a token's own KL is no part of its advantage, so that the last tokens are not regularised",
}
"""Why an estimator in the reward determines no policy."""


def _require_fixed_point(objective: KLObjective) -> None:
    if objective.where == "reward" and objective.kl != "k1":
        why = MORE[objective.kl.removeprefix("ratio_")]
        raise fault(
            f"kl_fixed_point, {objective}", f"more than one fixed point: {why}", "k1 in the reward, or the loss"
        )

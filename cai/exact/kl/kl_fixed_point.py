"""kl_fixed_point: where on-policy learning with a KL to the reference ends, by one backward recursion."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault, require_time
from cai.exact.diagnose import require_possible
from cai.exact.forms import Compiled, compiled
from cai.exact.kl.kl_advantages import PaidAtEnd, Scaled, Terms, advantages, in_world
from cai.exact.kl.kl_estimators import nats
from cai.exact.kl.kl_objective import KLObjective, kl_objective
from cai.exact.kl.self_consistent import self_consistent
from cai.exact.kl.tilts import exponential, greedy, polynomial, shared
from cai.exact.rules import HARD, VARIATIONAL
from cai.exact.solve import solved
from cai.exact.tables.table_operator import TableOperator
from cai.exact.temperature import single_temperature
from cai.policies.fixed import FixedPolicy
from cai.world.definition import World


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

    What an objective does to advantages changes α, in the loss alone. The own mean of a group makes it α G/(G - 1).
    A standard deviation σ makes it α σ, and σ is that of the fixed point itself; there may be two, or none. The one
    that small steps reach from σ = ∞, where π is the reference, is returned; it is stable. Where all returns are
    equal, no text has an advantage, and it is the reference. With k2 there is none where α is small: as returns
    become alike the price α σ of a nat goes to 0, and learning ends on the maximisers. Texts that are divided by
    their length, and finite groups with their own deviation, need rewards that are paid at the end: with ``G =
    E[A/length | s,a]`` and ``W = E[1/length | s,a]``, π = ref exp((G - c)/(αW)) for k2, and ref αW/(αW + c - G) for
    k3. The expected advantage A of a return is averaged over all groups exactly.

    Args:
        world: a world with a finite horizon, or its tables.
        objective: a name of ``cai.KL_OBJECTIVES``, or a ``KLObjective``.
        temperature: α > 0, reward units.
        group: G, the texts of a group, in place of the objective's.

    Raises:
        WorldError: an argument is not valid, or the objective has no fixed point, or more than one.
        IntractableError: the world cannot be compiled to tables.
        ImpossibleError: every policy earns -inf.
        NotConvergedError: the scale has no fixed point.

    Source: derived from the gradients of ``kl_gradient``. k1 in the reward is Levine (2018), section 3. Liu et al.
    (2025), arXiv 2510.01555, find k2 in the loss equivalent to k1 in the reward: it is so for texts of one token, and
    for k2 of a whole text, (log π(text)/ref(text))²/2; not for a sum over tokens.
    """
    objective = kl_objective(objective, group)
    _require_fixed_point(objective)
    op = table_operator("kl_fixed_point", world, temperature)
    return settled(op, in_world(op, objective)).policy


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
class FixedPoint:
    """The policy that is stationary for given terms.

    Attributes:
        terms: what the gradient is made of.
        objective: the estimator, and where it goes.
        v: of what is paid to go under the policy, reward units, ``[T+1, S]``.
        w: of the weights of the KL, ``[T+1, S]``; None where they are 1.
    """

    terms: Terms
    objective: KLObjective
    v: Float[Tensor, "T1 S"]
    w: Float[Tensor, "T1 S"] | None = None

    @property
    def policy(self) -> FixedPolicy:
        """The policy; its table of a time is computed on demand."""
        model = self.terms.op.model
        return FixedPolicy(self.table, model.states, model.actions, model.horizon)

    @property
    def log_pi(self) -> Float[Tensor, "T S A"]:
        """Log π of all times, nats."""
        return torch.stack([self.table(t) for t in range(len(self.v) - 1)])

    def table(self, t: int) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats."""
        t = require_time("t", t, len(self.v) - 1)
        w = None if self.w is None else self.w[t + 1]
        return stationary(self.terms, self.objective, t, *ahead(self.terms, t, self.v[t + 1], w))


def settled(op: TableOperator, objective: KLObjective) -> FixedPoint:
    """Return the fixed point of an objective; where advantages depend on the policy, the first on the way from 0.

    A scale of the whole gradient moves no fixed point: neither does one in front of a KL in the reward, nor one in
    front of the reward alone.
    """
    one, greedy_on_any_scale = op.alpha.new_ones(()), objective.kl == "k1" and objective.length != "sequence"
    if objective.scale == "batch_std" and (objective.where == "reward" or greedy_on_any_scale):
        objective = replace(objective, scale="none")
    ways = advantages(op, objective)
    if objective.where == "reward" or (greedy_on_any_scale and not isinstance(ways, PaidAtEnd)):
        return swept(Terms(op, one), objective)
    step = float(op.alpha) / 4  # of what is paid, by which a policy changes little
    reference = swept(ways.terms(ways.start), objective)
    if not bool(ways.seen(reference.log_pi).isfinite().all()):
        return reference  # all returns are equal: no text has an advantage
    if isinstance(ways, Scaled):
        gain = float(solved(op.under(HARD)).value - op.start(reference.v[0]))
        step = step / max(gain, float(torch.finfo(one.dtype).eps))
    seen = self_consistent(lambda x: ways.seen(swept(ways.terms(x), objective).log_pi), ways.start, step)
    return swept(ways.terms(seen), objective)


def ahead(terms: Terms, t: int, v_next: Tensor, w_next: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return G ``[S, A]`` and the price of a nat, αW, reward units, ``[]`` or ``[S, A]``."""
    op, weights = terms.op, terms.weights
    if weights is None or w_next is None:
        return op.averaged(t).q(v_next), op.alpha
    W = weights.averaged(t).q(w_next)
    return op.averaged(t).q(v_next), op.alpha * torch.where(W > 0, W, 1.0)  # 0 where the text has ended


def stationary(terms: Terms, objective: KLObjective, t: int, g: Tensor, price: Tensor) -> Tensor:
    """Return the log π_t(a|s), nats, that is stationary for values κG and prices αW."""
    op, log_ref = terms.op, terms.op.log_prior(t)
    if objective.kl == "k1" and objective.where == "loss":
        return greedy(terms.gain * g, price, (op.model.horizon or 0) - t, log_ref)
    price = price / terms.gain
    if bool(torch.isinf(price).any()):  # κ = 0: nothing is paid, and what is forbidden is avoided
        return exponential(torch.where(g == -torch.inf, g, 0.0), torch.ones_like(op.alpha), log_ref)
    if objective.kl == "full" and price.dim():
        return shared(g, price, log_ref)
    return (polynomial if objective.kl == "k3" else exponential)(g, price, log_ref)


def swept(terms: Terms, objective: KLObjective) -> FixedPoint:
    """Sweep backward: at each time the policy that is stationary for what follows under itself.

    Raises:
        ImpossibleError: the start value is -inf.
    """
    op = terms.op
    v, w = [op.terminal()], None if terms.weights is None else [terms.weights.terminal()]
    for t in reversed(range(op.model.horizon or 0)):
        g, price = ahead(terms, t, v[0], None if w is None else w[0])
        log_pi = stationary(terms, objective, t, g, price)
        pi = log_pi.exp()
        paid = g - price * nats(log_pi, op.log_prior(t)) if objective.where == "reward" else g
        v.insert(0, op.expect(pi, paid))
        if w is not None and terms.weights is not None:
            w.insert(0, op.expect(pi, terms.weights.averaged(t).q(w[0])))
    require_possible(op, op.start(v[0]))
    return FixedPoint(terms, objective, torch.stack(v), None if w is None else torch.stack(w))


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

"""kl_gradient: the exact expected gradient of an on-policy learner with a KL to the reference, on a table of logits."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.kl.kl_fixed_point import gain, nats, table_operator
from cai.exact.kl.kl_objective import KLObjective, kl_objective
from cai.exact.tables.table_operator import TableOperator
from cai.policies.as_policy import as_policy, checked_table
from cai.world.definition import World


def kl_gradient(
    world: World | Tables,
    policy: Any,
    objective: str | KLObjective = "k3",
    *,
    temperature: float = 1.0,
    group: int | None = None,
) -> Float[Tensor, "T S A"]:
    """Return the expected gradient that an on-policy learner climbs, with respect to the logits of π_t(a|s).

    ``g_t(s,a) = p(s_t) π(a|s) (F(a) - Σ π F)``, for ``E[F ∇log π]`` is that in logits. With the reward to go Q of π and
    ℓ = log π/ref, and α the coefficient of the KL:

        k1 in the reward              F = Q - α ℓ, Q less α ℓ of all later tokens (the policy gradient of the ELBO)
        k2, k3, … in the reward       F = Q - α k, Q less α k of all later tokens
        k2, ratio × k3, full KL       F = Q - α ℓ, for ∇k2 = ℓ ∇log π, ∇(π/π_old k3) = (k3 + 1 - ref/π) ∇log π, the same
        k3 in the loss                F = Q - α (1 - ref/π), for ∇k3 = (1 - ref/π) ∇log π
        k1 in the loss                F = Q, for E[∇log π] = 0

    A group that has its own baseline shrinks Q, and the KL in the reward with it, by (G - 1)/G. Actions that π never
    takes have no gradient, because they are never drawn.

    Args:
        world: a world with a finite horizon, or its tables.
        policy: whatever ``cai.evaluate`` takes on a finite world.
        objective: a name of ``cai.KL_OBJECTIVES``, or a ``KLObjective``.
        temperature: α > 0, reward units.
        group: G, the texts of a group, in place of the objective's.

    Returns:
        reward units, ``[T, S, A]``; 0 in ended states.

    Raises:
        WorldError: an argument is not valid, or the policy earns -inf.

    Source: Schulman (2020), Approximating KL divergence, for the estimators; Tang & Munos (2025), arXiv 2506.09477, for
    one step.
    """
    objective = kl_objective(objective, group)
    op = table_operator("kl_gradient", world, temperature)
    log_pi = checked_table(op.model, as_policy(op.model, policy))
    F = _forces(op, objective, log_pi)
    mu, found = op.initial(), []
    for t, f in enumerate(F):
        joint = op.joint(mu, log_pi[t])
        drawn = op.in_play(joint)
        _require_finite(op, t, drawn, f)
        mean = op.expect(log_pi[t].exp(), f).unsqueeze(-1)
        found.append(torch.where(drawn > 0, drawn * (f - mean), 0.0))
        mu = op.push(t, joint)
    return torch.stack(found)


def _forces(op: TableOperator, objective: KLObjective, log_pi: Tensor) -> list[Tensor]:
    """Return F of every time, reward units, ``[S, A]``."""
    v, found = op.terminal(), list[Tensor]()
    for t in reversed(range(len(log_pi))):
        pi, q = log_pi[t].exp(), op.q(t, v)
        if objective.where == "reward":
            paid = q - op.alpha * estimate(objective.kl, log_pi[t], op.log_prior(t))
            found.insert(0, gain(objective) * paid)
            v = op.expect(pi, paid)
        else:
            found.insert(0, gain(objective) * q - op.alpha * slope(objective.kl, log_pi[t], op.log_prior(t)))
            v = op.expect(pi, q)
    return found


def estimate(kl: str, log_pi: Tensor, log_ref: Tensor) -> Tensor:
    """Return an estimator's value at the on-policy point, nats, ``[S, A]``; the ratio π/π_old is 1 there."""
    log_r = nats(log_pi, log_ref)
    if kl == "k1":
        return log_r
    if kl == "k2":
        return log_r**2 / 2
    if kl == "full":
        pi = log_pi.exp()
        return torch.where(pi > 0, pi * log_r, 0.0).sum(-1, keepdim=True).expand_as(log_r)
    return (-log_r).exp() - 1 + log_r


def slope(kl: str, log_pi: Tensor, log_ref: Tensor) -> Tensor:
    """Return f of ``E[∇k] = E[f ∇log π]``, nats, ``[S, A]``."""
    log_r = nats(log_pi, log_ref)
    if kl == "k1":
        return torch.zeros_like(log_r)
    return 1 - (-log_r).exp() if kl == "k3" else log_r


def _require_finite(op: TableOperator, t: int, drawn: Tensor, f: Tensor) -> None:
    wrong = ((drawn > 0) & ~f.isfinite()).nonzero()
    if len(wrong):
        s, a = wrong[0].tolist()
        where = f"kl_gradient, t = {t}, {op.model.states.label(s)}; {op.model.actions.label(a)}"
        raise fault(where, f"{float(f[s, a]):g} under the policy", "a policy whose rewards and KL are finite")

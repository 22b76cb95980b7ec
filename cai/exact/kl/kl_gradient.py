"""kl_gradient: the exact expected gradient of an on-policy learner with a KL to the reference, on a table of logits."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.kl.kl_advantages import Terms, advantages, in_world, tokens
from cai.exact.kl.kl_estimators import estimate, slope
from cai.exact.kl.kl_fixed_point import ahead, table_operator
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

    A group that has its own baseline shrinks Q, and the KL in the reward with it, by (G - 1)/G. A scale divides them by
    the standard deviation that π itself has. A length divides: Q is then ``E[A/length | s,a]``, and α ``α E[1/length |
    s,a]``, of the full KL ``α E[1/length | s]``; k1 in the loss then has f = 1, and pushes towards long texts. Where
    all returns are equal no text has an advantage. Actions that π never takes have no gradient: they are never drawn.

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

    Source: Schulman (2020), Approximating KL divergence, for the estimators; Tang & Munos (2025), arXiv 2506.09477: the
    gradient of an estimate is no estimate of the gradient.
    """
    objective = kl_objective(objective, group)
    op = table_operator("kl_gradient", world, temperature)
    log_pi = checked_table(op.model, as_policy(op.model, policy))
    objective = in_world(op, objective)
    ways = advantages(op, objective)
    seen = ways.seen(log_pi)
    terms = ways.terms(torch.where(seen.isfinite(), seen, 0.0))  # where all returns are equal no text has an advantage
    written, found = tokens(op, log_pi), []
    for t, F in enumerate(_forces(terms, objective, log_pi)):
        pi = log_pi[t].exp()
        drawn = written[t].unsqueeze(-1) * pi
        _require_finite(op, t, drawn, F)
        found.append(torch.where(drawn > 0, drawn * (F - op.expect(pi, F).unsqueeze(-1)), 0.0))
    return torch.stack(found) / (written.sum() if objective.length == "batch" else 1.0)


def _forces(terms: Terms, objective: KLObjective, log_pi: Tensor) -> list[Tensor]:
    """Return F of every time, reward units, ``[S, A]``."""
    op, kl, found = terms.op, objective.kl, list[Tensor]()
    v, w = op.terminal(), None if terms.weights is None else terms.weights.terminal()
    for t in reversed(range(len(log_pi))):
        pi, log_ref = log_pi[t].exp(), op.log_prior(t)
        g, price = ahead(terms, t, v, w)
        if terms.weights is not None and w is not None:
            w = op.expect(pi, terms.weights.averaged(t).q(w))
            price = op.alpha * w.unsqueeze(-1) if kl == "full" else price
        if objective.where == "reward":
            g = g - op.alpha * estimate(kl, log_pi[t], log_ref)
            found.insert(0, terms.gain * g)
        else:
            found.insert(0, terms.gain * g - price * slope(kl, log_pi[t], log_ref))
        v = op.expect(pi, g)
    return found


def _require_finite(op: TableOperator, t: int, drawn: Tensor, F: Tensor) -> None:
    wrong = ((drawn > 0) & ~F.isfinite()).nonzero()
    if len(wrong):
        s, a = wrong[0].tolist()
        where = f"kl_gradient, t = {t}, {op.model.states.label(s)}; {op.model.actions.label(a)}"
        raise fault(where, f"{float(F[s, a]):g} under the policy", "a policy whose rewards and KL are finite")

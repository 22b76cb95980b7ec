"""RLOO and GRPO: policy gradients whose baseline is what other trajectories from the same start were paid."""

from dataclasses import replace
from typing import Any, Literal, Unpack

from cai.exact.kl.kl_objective import KLObjective, kl_objective
from cai.learn.algorithms.policy_gradient import PolicyGradient
from cai.learn.policy_search import PolicyOptions, search_policy
from cai.learn.result import Learned
from cai.learn.settings import require_soft


def rloo(
    world: Any,
    *,
    temperature: float | None = None,
    group: int = 4,
    batch: int = 100,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by REINFORCE with a leave-one-out baseline (Kool et al. 2019; Ahmadian et al. 2024):

        ∇J ≈ 1/G Σ_i (R_i - 1/(G-1) Σ_{j≠i} R_j) ∇log π(τ_i),    R = Σ_t (r_t - α log π(a_t|s_t)/p(a_t|s_t))

    The KL to the prior is in the reward of the whole trajectory, so the optimum is that of the ELBO.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units; None for the hard learner.
        group: G, trajectories from the same start.
        batch: trajectories in each update, whole groups.
        options: of the policy and the training; see ``PolicyOptions``.

    Raises:
        WorldError: the world or an argument is not valid, or an environment's start states differ.
    """
    method = PolicyGradient(kl_objective("rloo", group), "rloo", batch, reward_to_go=False)
    return search_policy(method, world, options, temperature=temperature)


def grpo(
    world: Any,
    *,
    temperature: float | None = None,
    objective: str | KLObjective = "grpo",
    kl: Literal["k1", "k2", "k3", "ratio_k3", "full"] | None = None,
    where: Literal["reward", "loss"] | None = None,
    group: int = 10,
    epochs: int = 1,
    minibatches: int = 1,
    batch: int = 100,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by group relative policy optimisation (Shao et al. 2024):

        maximise  1/G Σ_i 1/|τ_i| Σ_t [ min(ρ Â_i, clip(ρ, 1 ± ε) Â_i) - α k3(a_t|s_t) ],
                  Â_i = (R_i - mean R)/std R  over the G trajectories of a group, ρ = π/π_old

    What the KL to the prior does depends on where it is and how it is estimated: in the loss, k2, ratio × k3 and the
    full KL lead to one policy, k3 to another, k1 to none, and no one of them to the optimum of the ELBO
    (``cai.kl_fixed_point``). Where returns are divided by their deviation, α is a share of it.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units; None for the hard learner, without a KL.
        objective: the baseline and the normalisations, by the name of their paper: "grpo", "dr_grpo" (Liu et al. 2025:
            no deviation, no length), "rloo", "reinforce++", "reinforce++_baseline" (Hu et al. 2025: the deviation of
            the batch); or a ``KLObjective``.
        kl: the estimate of each step's KL; the objective's own unless given. Only at a temperature.
        where: "reward" or "loss", where it goes; likewise.
        group: G, trajectories from the same start.
        epochs: passes over each batch; more than one only with a clip.
        minibatches: updates in each pass; likewise.
        batch: trajectories in each update, whole groups.
        options: of the policy and the training; see ``PolicyOptions``.

    Raises:
        WorldError: the world or an argument is not valid, or an environment's start states differ.
    """
    chosen = kl_objective(objective, group)
    chosen = replace(chosen, kl=kl or chosen.kl, where=where or chosen.where)
    require_soft("grpo", temperature, kl=kl, where=where)
    method = PolicyGradient(chosen, "grpo", batch, reward_to_go=False, epochs=epochs, minibatches=minibatches)
    return search_policy(method, world, options, temperature=temperature)

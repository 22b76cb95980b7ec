"""RLOO and GRPO: policy gradients whose baseline is what other trajectories from the same start were paid."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

import torch

from cai.exact.kl.kl_objective import KLObjective, kl_objective
from cai.learn.algorithms.policy_gradient import PolicyGradient, trained
from cai.learn.result import Learned
from cai.learn.training import Options


def rloo(
    world: Any,
    *,
    temperature: float | None = None,
    group: int = 4,
    batch: int = 100,
    lr: float | None = None,
    settle: bool = True,
    average: float = 1.0,
    network: Sequence[int] | Any = None,
    stationary: bool | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[Options],
) -> Learned:
    """Learn by REINFORCE with a leave-one-out baseline (Kool et al. 2019; Ahmadian et al. 2024, section 2):

        ∇J ≈ 1/G Σ_i (R_i - 1/(G-1) Σ_{j≠i} R_j) ∇log π(τ_i),    R = Σ_t (r_t - α log π(a_t|s_t)/p(a_t|s_t))

    The KL to the prior is in the reward of the whole trajectory, so the optimum is that of the ELBO.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units; None for the hard learner.
        group: G, trajectories from the same start.
        batch: trajectories in each update, whole groups.
        lr: the step size of Adam; 0.05 for tables and 0.001 for networks unless given.
        settle: let the step size decay to 0 over the steps.
        average: the returned policy is a moving average of the learned parameters with this rate; 1 returns the last
            ones.
        network: hidden widths, or a torch module on the features. Unless given: a table where states are finite.
        stationary: leave the time out of a table.
        dtype: of the parameters; float64 for tables, else float32.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument is not valid, or an environment's start states differ.
    """
    shape: dict[str, Any] = {"network": network, "stationary": stationary, "reward_to_go": False, "name": "rloo"}
    steps: dict[str, Any] = {"batch": batch, "lr": lr, "settle": settle, "average": average}
    algorithm = PolicyGradient(kl_objective("rloo", group), **shape, **steps)
    return trained(algorithm, world, temperature, None, dtype, options)


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
    lr: float | None = None,
    settle: bool = True,
    average: float = 1.0,
    network: Sequence[int] | Any = None,
    stationary: bool | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[Options],
) -> Learned:
    """Learn by group relative policy optimisation (Shao et al. 2024, equation 3):

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
        kl: the estimate of each step's KL; the objective's own unless given.
        where: "reward" or "loss", where it goes; likewise.
        group: G, trajectories from the same start.
        epochs: passes over each batch; more than one only with a clip.
        minibatches: updates in each pass; likewise.
        batch: trajectories in each update, whole groups.
        lr: the step size of Adam; 0.05 for tables and 0.001 for networks unless given.
        settle: let the step size decay to 0 over the steps.
        average: the returned policy is a moving average of the learned parameters with this rate; 1 returns the last
            ones.
        network: hidden widths, or a torch module on the features. Unless given: a table where states are finite.
        stationary: leave the time out of a table.
        dtype: of the parameters; float64 for tables, else float32.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument is not valid, or an environment's start states differ.
    """
    chosen = kl_objective(objective, group)
    chosen = replace(chosen, kl=kl or chosen.kl, where=where or chosen.where)
    shape: dict[str, Any] = {"network": network, "stationary": stationary, "reward_to_go": False, "name": "grpo"}
    passes: dict[str, Any] = {"epochs": epochs, "minibatches": minibatches}
    steps: dict[str, Any] = {"batch": batch, "lr": lr, "settle": settle, "average": average}
    return trained(PolicyGradient(chosen, **shape, **passes, **steps), world, temperature, None, dtype, options)

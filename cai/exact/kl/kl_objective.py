"""KLObjective: where a learner puts the KL to the reference, and how it normalises its advantages.

With r_t = π(a_t|s_t)/ref(a_t|s_t), the estimators of one token's KL are (Schulman 2020, "Approximating KL divergence")

    k1 = log r,     k2 = (log r)²/2,     k3 = 1/r - 1 + log r,     ratio × k3 = (π/π_old) k3,     full = KL(π ‖ ref)

and an on-policy learner follows, with advantages A_t, in expectation

    g = E_π Σ_t A_t ∇log π(a_t|s_t) - α E_π Σ_t ∇k(a_t|s_t)       the KL in the loss
    g = E_π Σ_t A_t ∇log π(a_t|s_t), each r_t less α k            the KL in the reward

where ∇ does not reach the distribution that tokens are drawn from. That is why the estimators differ: they have the
same mean, not the same gradient.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal

from cai.errors import fault
from cai.support.wording import meant


@dataclass(frozen=True)
class KLObjective:
    """Where the KL to the reference goes in a policy gradient, and how advantages are normalised.

    Attributes:
        kl: the estimator of each token's KL: "k1", "k2", "k3", "ratio_k3" or "full" (over the whole vocabulary).
        where: "loss": its own gradient is followed; "reward": it is paid for like a reward. In the reward, k1 of the
            tokens to go and k1 of the whole sequence have the same expected gradient.
        baseline: what is taken from the return: "none", "group_mean" (over G texts, the own one among them, which
            shrinks the expected gradient of the reward by (G - 1)/G), "leave_one_out" (over the other G - 1) or "value"
            (v(s) of the policy itself). All but the first leave the expected gradient as it is, unless it is divided by
            a length.
        scale: what advantages are divided by: "none", "group_std" (the standard deviation of a group's returns, a mean
            over G; where all are equal the advantages are 0) or "batch_std" (whitening: less the mean of the advantages
            of all tokens in the batch, taken as infinite, over their standard deviation). TRL's deviations are by
            G - 1, which is the same as α times √(G/(G - 1)).
        length: what a text's sum over tokens is divided by: "none"; "sequence", its own length; or "batch", the mean
            length in the batch, taken as infinite, which changes no fixed point.
        group: G, the texts of a group; None for infinitely many.
        clip: ε of the clipped ratio π/π_old. It does nothing at the on-policy point, where the ratio is 1, so exact
            gradients and fixed points ignore it.
        source: the paper.

    Raises:
        WorldError: an option is not known, or a group is too small for its baseline.
    """

    kl: Literal["k1", "k2", "k3", "ratio_k3", "full"] = "k1"
    where: Literal["reward", "loss"] = "loss"
    baseline: Literal["none", "group_mean", "leave_one_out", "value"] = "none"
    scale: Literal["none", "group_std", "batch_std"] = "none"
    length: Literal["none", "sequence", "batch"] = "none"
    group: int | None = None
    clip: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name, known in OPTIONS.items():
            if (seen := getattr(self, name)) not in known:
                expected = f"one of {', '.join(known)}{meant(str(seen), known)}"
                raise fault(f"KL objective, {name}", f"{seen!r}", expected)
        grouped = self.baseline in ("group_mean", "leave_one_out") or self.scale == "group_std"
        least, G, clip = 2 if grouped else 1, self.group, self.clip
        if G is not None and (isinstance(G, bool) or not isinstance(G, int) or least > G):
            raise fault(
                "KL objective, group", f"{G!r}", f"a number of texts, at least {least}, or None: infinitely many"
            )
        if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float) or not clip > 0):
            raise fault("KL objective, clip", f"{clip!r}", "a number above 0, or None: not clipped")

    def __str__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self)[2:-1]}
        extra = [f"{name} {value}" for name, value in given.items() if value not in ("none", None)]
        return ", ".join((f"{self.kl} in the {self.where}", *extra))


OPTIONS: dict[str, tuple[str, ...]] = {
    "kl": ("k1", "k2", "k3", "ratio_k3", "full"),
    "where": ("reward", "loss"),
    "baseline": ("none", "group_mean", "leave_one_out", "value"),
    "scale": ("none", "group_std", "batch_std"),
    "length": ("none", "sequence", "batch"),
}
"""What each option of a ``KLObjective`` may be."""

KL_OBJECTIVES: dict[str, KLObjective] = {
    "k1_in_reward": KLObjective("k1", "reward", source="Ziegler et al. 2019"),
    "k1": KLObjective("k1", source="Schulman 2020"),
    "k2": KLObjective("k2", source="Schulman 2020"),
    "k3": KLObjective("k3", source="Schulman 2020"),
    "ratio_k3": KLObjective("ratio_k3", source="DeepSeek-AI 2025, DeepSeek-V3.2, arXiv 2512.02556, section 3.1"),
    "full": KLObjective("full", source="the kl_penalty 'full' of TRL's PPOTrainer"),
    "grpo": KLObjective("k3", "loss", "group_mean", "group_std", "sequence", clip=0.2, source="Shao et al. 2024"),
    "dr_grpo": KLObjective("k3", "loss", "group_mean", clip=0.2, source="Liu et al. 2025, arXiv 2503.20783"),
    "rloo": KLObjective("k1", "reward", "leave_one_out", source="Ahmadian et al. 2024"),
    "reinforce++": KLObjective(
        "k1", "reward", "none", "batch_std", clip=0.2, source="Hu et al. 2025, arXiv 2501.03262"
    ),
    "reinforce++_baseline": KLObjective(
        "k2", "loss", "group_mean", "batch_std", clip=0.2, source="Hu et al. 2025, arXiv 2501.03262"
    ),
    "ppo": KLObjective("k1", "reward", "value", "batch_std", clip=0.2, source="Ouyang et al. 2022"),
}
"""The objectives by name: the plain ones, and those of papers, in an infinite group."""


def kl_objective(objective: str | KLObjective, group: int | None = None) -> KLObjective:
    """Return an objective, or the one of this name; with ``group``, in groups of G texts.

    Raises:
        WorldError: no objective has this name, or the group is too small.
    """
    if isinstance(objective, str):
        if objective not in KL_OBJECTIVES:
            expected = f"one of {', '.join(KL_OBJECTIVES)}{meant(objective, KL_OBJECTIVES)}"
            raise fault("KL objective", f"{objective!r}", expected)
        objective = KL_OBJECTIVES[objective]
    if not isinstance(objective, KLObjective):
        raise fault("KL objective", f"a {type(objective).__name__}", "a name, or a cai.KLObjective")
    return objective if group is None else replace(objective, group=group)

"""Where GRPO ends with each estimate of the KL: on the fixed point that is predicted for it, or on another's?

A bigram over three letters, four tokens, a reward for "bb". GRPO samples with the normalisations of Dr. GRPO (Liu et
al. 2025), and its KL to the reference goes to five places. ``cai.kl_fixed_point`` predicts three different policies:

    k1 in the reward; k2, ratio × k3 and the full KL in the loss; k3 in the loss.

Each learned policy is measured against each prediction: ``KL(learned ‖ predicted)`` over texts, exact, nats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import cai
from cai import language
from cai.experiments.verdict import Check, Verdict, judged, mean_of
from cai.support.progress import bar

PLACES: Mapping[str, tuple[str, str]] = {
    "k1 in the reward": ("k1", "reward"),
    "k2 in the loss": ("k2", "loss"),
    "ratio × k3 in the loss": ("ratio_k3", "loss"),
    "full KL in the loss": ("full", "loss"),
    "k3 in the loss": ("k3", "loss"),
}
"""Where the KL goes: the estimate, and reward or loss."""
PREDICTED: Mapping[str, tuple[str, ...]] = {
    "k1 in the reward": ("k1 in the reward",),
    "k2, ratio × k3, full": ("k2 in the loss", "ratio × k3 in the loss", "full KL in the loss"),
    "k3 in the loss": ("k3 in the loss",),
}
"""The fixed points, and whose they are."""
GROUP = 10
"""Texts of a group."""
TEXT = "cabbacabcaacbcbaabccabacbbacacbabcacbaacbabcbaccab"
"""What the bigram is fitted to."""


@dataclass(frozen=True)
class SampledFixedPoints:
    """Learned policies against predicted ones.

    Attributes:
        nats: ``KL(learned ‖ predicted)`` over texts, by seed, place and prediction.
        apart: ``KL(predicted ‖ predicted)``, how far the predictions are from each other.
    """

    nats: Float[Tensor, "N 5 3"]
    apart: Float[Tensor, "3 3"]

    claim = "Sampled GRPO lands on the fixed point that is predicted for its estimate of the KL, not on another's."

    @property
    def nearest(self) -> tuple[int, ...]:
        """In how many seeds the own prediction is the nearest, by place."""
        own = torch.tensor(_own())
        return tuple((self.nats.argmin(-1) == own).sum(0).tolist())

    @property
    def verdict(self) -> Verdict:
        """Whether each learned policy is nearest to its own prediction, in every seed."""
        seeds = len(self.nats)
        found = zip(PLACES, self.nearest, strict=True)
        return judged([Check(f"{name}: its own in {n} of {seeds} seeds", n == seeds) for name, n in found])

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal: nats, mean ± standard error over the seeds."""
        rows = [[name, *map(mean_of, self.nats[:, i].unbind(-1))] for i, name in enumerate(PLACES)]
        return ("GRPO with", *(f"to {name}" for name in PREDICTED)), rows


def landed(
    *, seeds: Sequence[int] = range(1, 11), temperature: float = 0.2, steps: int = 100_000, progress: bool = True
) -> SampledFixedPoints:
    """Learn with the KL in every place, and measure where each policy is.

    Args:
        seeds: one run each.
        temperature: α, reward units.
        steps: tokens of each run.
        progress: show a bar on a terminal.
    """
    world = language.language_world(
        language.fit_ngram(TEXT, 2), language.containing("bb", language.characters(TEXT)), horizon=4
    )
    tables = cai.tabulate(world)
    objectives = {name: _objective(*place) for name, place in PLACES.items()}
    fixed = [
        cai.kl_fixed_point(tables, objectives[names[0]], temperature=temperature, group=GROUP)
        for names in PREDICTED.values()
    ]
    apart = torch.tensor([[_distance(tables, one, other, temperature) for other in fixed] for one in fixed])
    found = list[list[list[float]]]()
    with bar("fixed points", len(seeds), shown=progress) as tell:
        for seed in seeds:
            tell(len(found), f"seed {seed}")
            asked: dict[str, Any] = {"temperature": temperature, "group": GROUP, "batch": 100, "steps": steps}
            asked |= {"seed": seed, "evaluations": 1, "progress": False}
            runs = [cai.learn.grpo(world, objective=objective, **asked) for objective in objectives.values()]
            found.append([[_distance(tables, run.policy, one, temperature) for one in fixed] for run in runs])
    return SampledFixedPoints(torch.tensor(found), apart)


def _objective(kl: Any, where: Any) -> cai.KLObjective:
    return replace(cai.KL_OBJECTIVES["dr_grpo"], kl=kl, where=where)


def _own() -> list[int]:
    return [next(n for n, names in enumerate(PREDICTED.values()) if name in names) for name in PLACES]


def _distance(tables: Any, one: Any, other: Any, temperature: float) -> float:
    """Return KL(one ‖ other) over texts, ``Σ_t E KL(π_t ‖ π'_t)``: the actions' joint law times log π/π', nats."""
    joint = cai.evaluate(tables, one, temperature=temperature).occupancy
    times = range(tables.horizon)
    apart = torch.stack([one.log_probs(t) - other.log_probs(t) for t in times])
    return float(torch.where(joint > 0, joint * apart, 0.0).sum())

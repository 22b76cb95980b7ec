"""The claims by name: the experiment of each, and its small version."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cai.experiments.deep_sea import dives_needed
from cai.experiments.exploration import explored
from cai.experiments.fine_tuning import specialised
from cai.experiments.reward_scale import soft_against_hard
from cai.experiments.robustness import withstood
from cai.experiments.ties import ties_broken


@dataclass(frozen=True)
class Claim:
    """One experiment.

    Attributes:
        run: from settings to a frozen result with ``claim``, ``verdict`` and ``table``.
        quick: the settings of its small version, a few seconds long.
        seeded: whether it has ``seeds``.
    """

    run: Callable[..., Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    seeded: bool = True

    def settings(self, *, seeds: int | None, quick: bool) -> dict[str, Any]:
        """Return what to run it with."""
        return {**(self.quick if quick else {}), **({"seeds": seeds} if seeds is not None and self.seeded else {})}


CLAIMS: Mapping[str, Claim] = {
    "exploration": Claim(explored, {"seeds": 2, "updates": 60, "evaluations": 6, "temperatures": (0.1,)}),
    "fine-tuning": Claim(specialised, {"seeds": 2, "updates": 60, "patience": 150}),
    "ties": Claim(ties_broken, {"seeds": 2, "side": 4}),
    "robustness": Claim(withstood, {"slips": (0.2, 0.4), "draws": 2}, seeded=False),
    "reward-scale": Claim(soft_against_hard, {"points": 8}, seeded=False),
    "deep-sea": Claim(dives_needed, {"seeds": 2, "sizes": (4, 6, 8)}),
}

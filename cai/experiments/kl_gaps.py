"""What it costs to put the KL elsewhere: nats short of the optimum, of where on-policy learning ends, over α.

ELBO* - ELBO(π),   π the fixed point of each objective,   ELBO* = log Z in a world of language
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cai

TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0)
OBJECTIVES = ("k1_in_reward", "k2", "k3", "k1", "grpo")


@dataclass(frozen=True)
class KLGaps:
    """The fixed points of each objective at each temperature, exactly.

    Attributes:
        temperatures: α, reward units.
        log_evidence: log Z, nats, at each α.
        gap: ELBO* - ELBO(π), nats, by objective.
        earned: E_π[Σ r], reward units, by objective.
        kl: E_π[Σ KL(π ‖ reference)], nats, by objective.
    """

    temperatures: tuple[float, ...]
    log_evidence: tuple[float, ...]
    gap: Mapping[str, tuple[float, ...]]
    earned: Mapping[str, tuple[float, ...]]
    kl: Mapping[str, tuple[float, ...]]

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal: log Z and the gaps, nats."""
        columns = zip(self.temperatures, self.log_evidence, *self.gap.values(), strict=True)
        return ("α", "log Z", *self.gap), [list(row) for row in columns]


def the_bigram(horizon: int = 12) -> cai.language.LanguageWorld:
    """Return the world of 27 characters: a bigram of *Alice*, 1 for a text that contains " the "."""
    vocabulary = cai.language.characters()
    reference = cai.language.fit_ngram(cai.language.plain(cai.language.alice()), 2, vocabulary=vocabulary)
    return cai.language_world(reference, cai.language.containing(" the ", vocabulary), horizon=horizon)


def kl_gaps(
    world: Any = None,
    temperatures: Sequence[float] = TEMPERATURES,
    objectives: Sequence[str] = OBJECTIVES,
) -> KLGaps:
    """Measure the fixed point of each objective at each temperature; of ``the_bigram`` unless a world is given.

    Raises:
        NotConvergedError: an objective has no fixed point at a temperature.
    """
    tables = cai.tabulate(the_bigram() if world is None else world)
    found: dict[str, list[cai.Evaluation]] = {name: [] for name in objectives}
    for alpha in temperatures:
        for name in objectives:
            policy = cai.kl_fixed_point(tables, name, temperature=alpha)
            found[name].append(cai.evaluate(tables, policy, temperature=alpha))
    log_z = tuple(float(cai.solve(tables, temperature=alpha).log_evidence) for alpha in temperatures)
    return KLGaps(
        tuple(temperatures),
        log_z,
        {name: tuple(each.optimality_gap for each in rows) for name, rows in found.items()},
        {name: tuple(each.expected_return for each in rows) for name, rows in found.items()},
        {name: tuple(each.kl_to_prior for each in rows) for name, rows in found.items()},
    )

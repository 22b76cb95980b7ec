"""The check that seeds share no state: one seed twice, with another in between, in one process.

The same seed has to give the same policy, bit for bit: else a generator, a cache or a network outlives its run. Another
seed has to give another policy, unless nothing is random; then all are exact copies, and nothing can be said.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cai.verification.asking import ASKED
from cai.verification.diagnosis import Word
from cai.verification.reading import Reading

SEEDS = "seeds"
"""The name of the check, beside those of the probes."""
SIGMAS = 6
"""Standard deviations by which two probabilities may differ that were counted from draws; of a half it is √(1/4N)."""


@dataclass(frozen=True)
class Repeated:
    """The policies of a seed, of the next one, and of the first again."""

    first: Reading
    other: Reading
    again: Reading


def repeated(learn: Callable[[int], Reading], seed: int) -> Repeated:
    """Learn three times."""
    return Repeated(learn(seed), learn(seed + 1), learn(seed))


def compared(runs: Repeated) -> tuple[Word, str]:
    """Return the verdict and its words."""
    drawn = runs.first.sampled or runs.again.sampled
    allowed = SIGMAS * (0.5 / ASKED) ** 0.5 if drawn else 0.0
    if not _same(runs.first, runs.again, allowed):
        off = float((runs.first.log_pi.exp() - runs.again.log_pi.exp()).abs().max())
        return "fail", (
            f"The same seed gave two policies: after another seed was run in between, a probability differs by "
            f"{off:.3g}. Something outlives a run: a global generator, a cache, a network."
        )
    if not drawn and _same(runs.first, runs.other, 0.0):
        return "pass", (
            "All seeds gave the same policy, bit for bit: either nothing in the learner is random, or it does not use "
            "its seed."
        )
    how = "as far as its draws can tell" if drawn else "bit for bit"
    return "pass", f"The same seed gave the same policy, {how}, after another seed was run in between."


def _same(one: Reading, other: Reading, allowed: float) -> bool:
    if not allowed:
        return torch.equal(one.log_pi, other.log_pi)
    return bool(((one.log_pi.exp() - other.log_pi.exp()).abs() <= allowed).all())

"""The check that seeds share no state: one seed twice, with another in between, in one process.

The same seed has to give the same policy, bit for bit: else a generator, a cache or a network outlives its run. Another
seed has to give another policy, unless nothing is random; then all are exact copies, and nothing can be said.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cai.verification.diagnosis import Word
from cai.verification.reading import ASKED, Reading

SEEDS = "seeds"
"""The name of the check, beside those of the probes."""


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
    off = _difference(runs.first, runs.again)
    drawn = runs.first.sampled or runs.again.sampled
    limit = 6 * (2 * 0.25 / ASKED) ** 0.5 if drawn else 0.0  # six standard deviations of a counted probability
    if off > limit:
        return "fail", (
            f"The same seed gave two policies: a probability differs by {off:.3g} after another seed was run in "
            "between. Something outlives a run: a global generator, a cache, a network."
        )
    if not drawn and _difference(runs.first, runs.other) == 0:
        return "pass", (
            "All seeds gave the same policy, bit for bit: either nothing in the learner is random, or it does not use "
            "its seed."
        )
    same = "within what counting allows" if drawn else "bit for bit"
    return "pass", f"The same seed gave the same policy, {same}, after another was run in between."


def _difference(one: Reading, other: Reading) -> float:
    return float((one.log_pi.exp() - other.log_pi.exp()).abs().max()) + float(
        0.0 if torch.equal(one.log_pi, other.log_pi) or one.sampled else 5e-324
    )

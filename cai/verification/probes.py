"""The probes: each is made for one mistake.

Unless a probe is about the length of episodes, the actions of a state lead to equally many further steps, so that it
does not matter whether a learner's entropy is relative to the prior. No two best actions are tied in a state that is
acted in, so that a learner of returns has one answer.
"""

from cai.verification import entropy_probes as entropy
from cai.verification import future_probes as future
from cai.verification import luck_probes as luck
from cai.verification.probe import Probe

PROBES: dict[str, Probe] = {
    one.name: one
    for one in (
        future.TRUNCATION, future.TERMINATION, future.DISCOUNT, future.DISCOUNT_ONCE, future.FIRST_REWARD,
        future.TRANSITION, future.MASKS, future.TARGET, future.LAST_REWARD, future.PRIOR_VALUES, future.TIME,
        future.DEADLINE, luck.CLIPPING, luck.LUCK, luck.RARE_LUCK, luck.RISK, luck.SPREAD, luck.NOISY,
        entropy.ENTROPY_TO_GO, entropy.ENTROPY_SIGN, entropy.BEST_ACTION, entropy.ENTROPY, entropy.TEMPERATURE,
        entropy.SURPRISE, entropy.PRIOR, entropy.LENGTH, entropy.SMALL_STAKES,
    )
}  # fmt: skip

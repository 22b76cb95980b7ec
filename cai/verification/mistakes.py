"""The mistakes, each solved exactly as the fixed point of its own backup.

Every mistake answers on every probe: where it makes no difference its answer is the right one, and where it does not
determine what is learned, None. The distance of a policy to all answers is the whole diagnosis. Seeds that share state
have no fixed point: whoever runs the learner compares two runs of one seed, and runs of different ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cai.errors import NotConvergedError
from cai.verification import mistaken_samples, mistaken_targets, mistaken_tasks, mistaken_values
from cai.verification.answer import Answer
from cai.verification.task import Task


@dataclass(frozen=True)
class Mistake:
    """A mistake, and what a learner that makes it learns.

    Attributes:
        name: its name.
        words: "an agent that …", to be read after "your policy is that of".
        solve: its exact answer on a task; None where the mistake does not determine one.
    """

    name: str
    words: str
    solve: Callable[[Task], Answer | None]

    def answer(self, task: Task) -> Answer | None:
        """Return its exact answer; None where there is none, or no fixed point."""
        try:
            return self.solve(task)
        except NotConvergedError:
            return None


def _all() -> tuple[Mistake, ...]:
    targets, values, tasks, samples = mistaken_targets, mistaken_values, mistaken_tasks, mistaken_samples
    return (
        # the end of the future
        Mistake("truncation ends", "an agent that takes a time limit for the end of the future", tasks.truncation_ends),
        Mistake("termination goes on", "an agent that counts on rewards after the end", tasks.termination_goes_on),
        Mistake("stale target", "an agent whose target values stay at their start, 0", tasks.stale_target),
        Mistake("last reward lost", "an agent that loses the reward of the last step", tasks.last_reward_lost),
        # the discount
        Mistake("no discount", "an agent that does not discount", tasks.discount_to_the_power(0)),
        Mistake("discount twice", "an agent that discounts twice a step", tasks.discount_to_the_power(2)),
        Mistake("reward discounted", "an agent that discounts the reward of the step, too", tasks.reward_discounted),
        # rewards, transitions and actions
        Mistake("reward clipped", "an agent that clips rewards to [-1, 1]", tasks.reward_clipped),
        Mistake("reward averaged", "an agent that knows only the mean reward of (s, a)", tasks.reward_averaged),
        Mistake("next state for state", "an agent that learns Q(s', a) from what a did in s", samples.next_state),
        Mistake("masks ignored", "an agent that takes forbidden actions for allowed", tasks.masks_ignored),
        Mistake("prior ignored", "an agent with a uniform action prior", tasks.prior_ignored),
        Mistake("prior not normalised", "an agent that counts α log n a step for n actions", tasks.plain_entropy),
        # luck
        Mistake("optimistic", "an agent that takes luck for choice (POSTERIOR)", tasks.optimistic),
        Mistake("cautious", "an agent that shuns luck (RISK(-α))", tasks.cautious),
        Mistake("luck averaged", "an agent that averages over luck (VARIATIONAL)", tasks.luck_averaged),
        Mistake("best outcome", "an agent that counts on the best outcome", targets.best_outcome),
        # entropy and temperature
        Mistake("temperature x 2", "an agent at twice the temperature", tasks.temperature_times(2.0)),
        Mistake("temperature / 2", "an agent at half the temperature", tasks.temperature_times(0.5)),
        Mistake("temperature x 10", "an agent at ten times the temperature", tasks.temperature_times(10.0)),
        Mistake("temperature / 10", "an agent at a tenth of the temperature", tasks.temperature_times(0.1)),
        Mistake("no entropy", "an agent of returns alone (HARD)", tasks.no_entropy),
        Mistake("entropy added", "an agent of returns and entropy (VARIATIONAL)", tasks.entropy_added),
        Mistake("later entropy missing", "an agent that does not count later entropy", values.later_entropy_missing),
        Mistake(
            "later entropy negative", "an agent that counts later entropy as a loss", values.later_entropy_negative
        ),
        Mistake("later entropy twice", "an agent that counts later entropy twice", values.later_entropy_twice),
        Mistake("entropy negative", "an agent that minimises entropy", values.entropy_negative),
        Mistake("best action", "a soft agent with the best action's q for its value", values.best_action),
        Mistake("values of the prior", "an agent with the values of the prior, not of its policy", values.of_the_prior),
        Mistake("advantages normalised", "an agent that normalises advantages", samples.advantages_normalised),
        # time
        Mistake("values without time", "an agent whose values do not know the time", samples.values_without_time),
        Mistake("policy without time", "an agent whose policy does not know the time", samples.policy_without_time),
        # the other rules
        Mistake("most probable", "an agent of the most probable trajectory (MAP)", tasks.most_probable),
        Mistake("planning", "an agent of planning as inference (PLANNING)", tasks.planning),
    )


MISTAKES: dict[str, Mistake] = {one.name: one for one in _all()}

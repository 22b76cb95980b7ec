"""The learners of this library as functions (env, seed) -> policy."""

from collections.abc import Callable
from typing import Any

from cai.learn.names import is_soft, learner_of
from cai.verification.probe import Probe
from cai.verification.probe_world import world_of

STEPS = 20_000
"""Environment steps on a probe."""
LONG = 20
"""After how many steps an episode is cut off that nothing else ends."""


def own(name: str, **settings: Any) -> Callable[[Any, int], Any]:
    """Return a learner of ``cai.learn`` as ``cai.verify`` takes it; it learns on the probe's world.

    Args:
        name: as ``cai learn --algorithm`` takes it: "q_learning", or "soft_q_learning" for one at a temperature.
        settings: of the learner, in place of those that suit the probes.

    Raises:
        WorldError: there is no such learner.
    """
    learner, soft = learner_of(name), is_soft(name)

    def train(env: Any, seed: int) -> Any:
        probe = env.unwrapped.probe
        given = _suited(name, probe) | ({"temperature": probe.temperature} if soft else {}) | settings
        return learner(world_of(probe), seed=seed, progress=False, evaluations=1, **given)

    return train


def _suited(name: str, probe: Probe) -> dict[str, Any]:
    """Return what suits a probe: a table for each time where it is observed, else one table."""
    shared: dict[str, Any] = {"steps": STEPS}
    if not name.endswith("q_learning"):
        return shared
    ends = {} if probe.horizon is not None or probe.discount == 1 else {"max_steps": probe.cut or LONG}
    return shared | {"batch": 100, "explore": 0.3, "stationary": probe.horizon is None} | ends

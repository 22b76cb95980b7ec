"""The learners of this library as functions (env, seed) -> policy."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cai.bridges.gymnasium import from_gymnasium
from cai.errors import fault
from cai.learn.algorithms.tabular_q import recent
from cai.learn.names import FORMS, is_soft, learner_of
from cai.support.wording import read_name
from cai.verification.probe import Claim, Probe
from cai.verification.probe_environment import ProbeEnvironment, environment_of
from cai.verification.reading import Said, logits
from cai.verification.trainers.trainer import Trainer
from cai.world.definition import World

LONG = 20
"""After how many steps an episode is cut off that nothing else ends."""
SHORT = 4
"""The steps of each copy in an update of ppo on an environment, where no horizon says how many are usual."""
BOOTSTRAP: frozenset[Claim] = frozenset({"bootstrap"})
LACKS: Mapping[str, frozenset[Claim]] = {
    "q_learning": frozenset(),
    "fitted_q": frozenset(),
    "ppo": BOOTSTRAP,  # on a world it takes no time limit that is not the world's; on an environment it does
    "sac": frozenset({"time"}),
    "reinforce": BOOTSTRAP,  # whole episodes only, as the next three
    "rloo": BOOTSTRAP,
    "grpo": BOOTSTRAP,
    "certainty_equivalence": BOOTSTRAP,
}
"""What each learner does not claim to know of on a world; learners that are not here are not for probes."""
BLIND: frozenset[Claim] = frozenset({"prior", "masks"})
"""What none of them can know of on an environment, which has no action prior."""
ON_ENVIRONMENTS = ("q_learning", "ppo", "sac", "reinforce")
"""The learners that take an environment, too; the others need its horizon, its starts or its discount."""
MEAN = {"average": 0.05}
SUITED: Mapping[str, Mapping[str, Any]] = {
    "q_learning": {"steps": 2_500, "batch": 100, "explore": 0.3, "lr": recent},
    "fitted_q": {"steps": 4_000},
    "ppo": {"steps": 24_000, "batch": 64, "lr": 0.1, "minibatches": 1, "epochs": 5, "clip": 0.5, "lam": 1.0, **MEAN},
    "sac": {"steps": 8_000, "batch": 16, "updates": 1, "warmup": 500, "network": (32,)},
    "reinforce": {"steps": 20_000, "batch": 200},
    "rloo": {"steps": 100_000, "batch": 240, "lr": 0.1, **MEAN},
    "grpo": {"steps": 100_000, "batch": 240, "lr": 0.1, **MEAN},
    "certainty_equivalence": {"steps": 4_000, "batch": 50, "spread": 10.0},
}
"""The settings with which each learner comes near its answer on every probe."""
PLAIN = {"steps": 100_000, "batch": 200, "lr": 0.1, **MEAN}
"""Those of reinforce where it does not follow the natural gradient."""


def own(name: str, *, on: Literal["world", "environment"] = "world", **settings: Any) -> Trainer:
    """Return a learner of ``cai.learn`` as ``cai.verify`` takes it.

    What each does not claim to know of is in ``cai.verification.trainers.own.LACKS``: learners of whole episodes have
    no bootstrap, and sac has no time. On an environment nobody knows of the prior or of masks. reinforce follows the
    natural gradient, as it does wherever there is a table; with ``natural=False`` that of the textbook.

    Args:
        name: as ``cai learn --algorithm`` takes it: "q_learning", or "soft_q_learning" for one at a temperature.
        on: whether it learns on the probe's Pyro world, or on its Gymnasium environment.
        settings: of the learner, in place of those that suit the probes.

    Raises:
        WorldError: there is no such learner, it is not for probes, not for environments, or is sac without a
            temperature, which learns one and so has no answer.
    """
    plain, by_world = _plain(name, on), on == "world"
    learner, soft = learner_of(name), is_soft(name)

    def train(env: Any, seed: int) -> Said:
        probe, hard = env.unwrapped.probe, env.unwrapped.temperature is None
        world: Any = _world(probe, plain) if by_world else lambda: environment_of(probe, hard=hard)
        alpha = {"temperature": probe.temperature} if soft else {}
        given = _suited(plain, settings, probe, by_world) | alpha | settings
        learned = learner(world, seed=seed, progress=False, evaluations=1, **given)
        return logits(_log_pi(learned.policy, probe, by_world))

    lacks = LACKS[plain] if by_world else LACKS[plain] | BLIND
    return Trainer(name, train, lacks - BOOTSTRAP if plain == "ppo" and not by_world else lacks)


def _plain(name: str, on: str) -> str:
    """Return a learner's name without its form, checked."""
    read_name("learner", name.partition("-")[0], FORMS)
    plain = name.removeprefix("soft_").partition("-")[0]
    if plain not in LACKS:
        raise fault(f"trainers.own('{name}')", "a learner of other worlds than probes", f"one of {', '.join(LACKS)}")
    if name == "sac":
        raise fault("trainers.own('sac')", "a temperature that it learns, so that no answer is its own", "'soft_sac'")
    if on not in ("world", "environment"):
        raise fault(f"trainers.own('{name}'), on", f"{on!r}", "'world' or 'environment'")
    if on == "environment" and plain not in ON_ENVIRONMENTS:
        seen = "'environment', which does not say its horizon, starts or discount"
        raise fault(f"trainers.own('{name}'), on", seen, f"'world'; an environment for {', '.join(ON_ENVIRONMENTS)}")
    return plain


def _world(probe: Probe, plain: str) -> World:
    """Return a probe's world, with a last step where nothing else ends a learner's episodes; no state comes twice."""
    bootstraps = plain in ("q_learning", "fitted_q", "sac")
    ends = probe.horizon is None and (probe.discount == 1 or not bootstraps)
    horizon = len(probe.states) if ends else probe.horizon
    return from_gymnasium(ProbeEnvironment(probe), horizon=horizon, discount=probe.discount)


def _suited(plain: str, settings: Mapping[str, Any], probe: Probe, by_world: bool) -> dict[str, Any]:
    """Return what suits a probe: a table for each time where it is observed, else one table."""
    suited: dict[str, Any] = dict(PLAIN if settings.get("natural") is False else SUITED[plain])
    if not by_world:
        suited |= {"gamma": probe.discount, "batch": min(suited["batch"], 50)}
        suited |= {"length": SHORT} if plain == "ppo" else {}
    if plain in ("q_learning", "ppo", "reinforce", "rloo", "grpo"):
        suited["stationary"] = probe.horizon is None or not by_world
    if plain in ("q_learning", "sac") and not (by_world and (probe.horizon or probe.discount == 1)):
        suited["max_steps"] = probe.cut or LONG
    return suited


def _log_pi(policy: Any, probe: Probe, by_world: bool) -> Float[Tensor, "T S A"]:
    """Return log π_t(a|s), nats; an environment's own state is (s, t) where the time is observed."""
    S, T = len(probe.states), probe.horizon or 1
    if by_world:
        return torch.stack([policy.log_probs(t)[:S] for t in range(T)])
    table: Tensor = policy.log_probs(0)
    return table.reshape(S, -1, table.shape[-1])[:, :T].transpose(0, 1)

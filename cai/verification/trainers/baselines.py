"""Learners of Stable-Baselines3 and sb3-contrib as functions (env, seed) -> policy."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor

from cai.errors import fault
from cai.support.randomness import generators_kept
from cai.verification.probe import Claim
from cai.verification.probe_environment import environment_of
from cai.verification.reading import Said, logits, q_values
from cai.verification.trainers.trainer import Trainer

PRIOR: frozenset[Claim] = frozenset({"prior"})
UNMASKED: frozenset[Claim] = frozenset({"prior", "masks"})
HARD_ONLY: frozenset[Claim] = frozenset({"prior", "masks", "temperature"})
LACKS: Mapping[str, frozenset[Claim]] = {
    "PPO": UNMASKED,
    "A2C": UNMASKED,
    "MaskablePPO": PRIOR,
    "DQN": HARD_ONLY,
    "QRDQN": HARD_ONLY,
}
"""What each kind does not claim to know of."""
GREEDY = ("DQN", "QRDQN")
"""The kinds of returns alone: they have no temperature."""
NET = {"policy_kwargs": {"net_arch": [32]}}
CLIPPED = {"steps": 20_000, "n_steps": 32, "batch_size": 256, "n_epochs": 5, "learning_rate": 5e-3, **NET}
REPLAYED = {"steps": 8_000, "learning_starts": 500, "train_freq": 1, "batch_size": 128, "learning_rate": 3e-3}
FOLLOWED = {**REPLAYED, "target_update_interval": 200, "exploration_fraction": 0.5, "exploration_final_eps": 0.2, **NET}
SUITED: Mapping[str, Mapping[str, Any]] = {
    "PPO": {"copies": 32, **CLIPPED},
    "A2C": {"copies": 32, "steps": 40_000, "n_steps": 8, "learning_rate": 5e-3, **NET},
    "MaskablePPO": {"copies": 32, **CLIPPED},
    "DQN": {"copies": 8, **FOLLOWED},
    "QRDQN": {"copies": 8, **FOLLOWED, "policy_kwargs": {"net_arch": [32], "n_quantiles": 20}},
}
"""The settings with which each kind comes to rest on the probes; all others are the library's own defaults."""


def stable_baselines(kind: str, **settings: Any) -> Trainer:
    """Return a learner of Stable-Baselines3 or sb3-contrib as ``cai.verify`` takes it.

    γ is the probe's. Where a soft learner is verified ``ent_coef`` is α, reward units, unless it is given: the nearest
    that PPO and A2C have to a temperature, though their bonus is not part of the return. DQN and QRDQN have none:
    verify them with ``rule=cai.HARD``. Those of continuous actions, as SAC, cannot learn a probe. PPO, A2C and
    MaskablePPO are read by the distribution that they sample from, DQN and QRDQN by their Q, the mean of quantiles.

    Args:
        kind: "PPO", "A2C", "DQN", "MaskablePPO" or "QRDQN"; the last two are of sb3-contrib.
        settings: of the model, in place of those that suit the probes; ``steps`` in all, ``copies`` of the environment.

    Raises:
        WorldError: there is no such kind here, it is not installed, or it has no temperature and a soft one is wanted.

    Source: Raffin et al. 2021, Stable-Baselines3: reliable reinforcement learning implementations.
    """
    if kind not in LACKS:
        why = ", which takes continuous actions only" if kind in ("SAC", "TD3", "DDPG", "TQC", "CrossQ") else ""
        raise fault("trainers.stable_baselines", f"{kind!r}{why}", f"one of {', '.join(LACKS)}")
    make = _class_of(kind)

    def train(env: Any, seed: int) -> Said:
        from stable_baselines3.common.vec_env import DummyVecEnv

        probe, alpha = env.unwrapped.probe, env.unwrapped.temperature
        if kind in GREEDY and alpha is not None:
            raise fault(f"{kind}, temperature", f"{alpha:g}, and {kind} has none", "cai.verify(…, rule=cai.HARD)")
        bonus = {} if kind in GREEDY or alpha is None else {"ent_coef": alpha}
        given = {**SUITED[kind], **bonus, **settings}
        steps, copies = given.pop("steps"), given.pop("copies")
        many = DummyVecEnv([lambda: environment_of(probe, hard=alpha is None)] * copies)
        with generators_kept():  # it seeds all of them
            model = make("MlpPolicy", many, gamma=probe.discount, seed=seed, device="cpu", **given).learn(steps)
        return _read(kind, model, env.unwrapped.action_prior > 0)

    return Trainer(kind, train, LACKS[kind])


def _class_of(kind: str) -> Any:
    module = "sb3_contrib" if kind in ("MaskablePPO", "QRDQN") else "stable_baselines3"
    try:
        return getattr(import_module(module), kind)
    except ImportError as error:
        extra = "pip install sb3-contrib" if module == "sb3_contrib" else "pip install 'cai[sb3]'"
        raise fault(f"trainers.stable_baselines('{kind}')", f"{module} cannot be imported ({error})", extra) from error


def _read(kind: str, model: Any, allowed: Any) -> Said:
    """Say what a model's policy is: its own logits, masked as in training, or its Q."""

    def seen(obs: Any) -> Tensor:
        tensor: Tensor = model.policy.obs_to_tensor(obs)[0]
        return tensor

    def log_pi(obs: Any) -> Tensor:
        masked = {"action_masks": allowed[int(obs if obs.ndim == 0 else obs[0])]} if kind == "MaskablePPO" else {}
        law = model.policy.get_distribution(seen(obs), **masked)
        own: Tensor = law.distribution.logits
        return own

    def q(obs: Any) -> Tensor:
        values: Tensor = model.q_net(seen(obs)) if kind == "DQN" else model.quantile_net(seen(obs)).mean(-2)
        return values

    return q_values(q) if kind in GREEDY else logits(log_pi)

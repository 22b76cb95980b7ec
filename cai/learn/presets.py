"""Presets: the settings of a learner that suit one environment, as rl-zoo has them for Stable-Baselines3.

They were chosen on seeds from 100 on, where nothing else is said; ``tests/benchmarks`` reports seeds from 0 on. A
learner with a temperature goes by ``soft_`` and its name, and its preset holds one.
"""

from typing import Any

from cai.errors import fault
from cai.support.wording import meant

# The policy gradient's and soft Q-learning's for CartPole were chosen on seeds 0 to 9, and are reported on 10 to 19.
# Soft actor-critic's are its defaults: quicker settings failed on seeds that are reported.
POLE: dict[str, Any] = {"network": (32,), "batch": 64, "lr": 0.05, "gamma": 0.995, "average": 0.3, "steps": 300_000}
POLE_PPO: dict[str, Any] = {"lr": 3e-3, "steps": 150_000}
POLE_Q: dict[str, Any] = {"network": (128,), "lr": 4e-3, "batch": 32, "updates": 2, "average": 0.005}
POLE_Q |= {"steps": 30_000}
SWING_PPO: dict[str, Any] = {"temperature": 0.01, "network": (64, 64), "batch": 16, "length": 128, "epochs": 8}
SWING_PPO |= {"minibatches": 16, "lr": 1e-3, "average": 0.3, "normalise": True, "steps": 250_000}
SWING_Q: dict[str, Any] = {"temperature": 0.02, "n_step": 3, "explore": 0.2, "network": (128, 128), "steps": 120_000}
LANDER_PPO: dict[str, Any] = {"temperature": 0.02, "gamma": 0.999, "lam": 0.98, "network": (64, 64), "batch": 32}
LANDER_PPO |= {"length": 256, "minibatches": 32, "lr": 1e-3, "average": 0.3, "steps": 800_000}
HILL_SAC: dict[str, Any] = {"temperature": 0.05, "gamma": 0.99, "hold": 16, "warmup": 8000, "normalise": True}
HILL_SAC |= {"steps": 20_000}

LAKE_PPO: dict[str, Any] = {"lr": 0.02, "batch": 64, "steps": 400_000}

PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("reinforce", "CartPole-v1"): POLE,
    ("soft_reinforce", "CartPole-v1"): {"temperature": 0.1, **POLE},
    ("sac", "CartPole-v1"): {"steps": 25_000},
    ("ppo", "CartPole-v1"): POLE_PPO,
    ("soft_ppo", "CartPole-v1"): {"temperature": 0.1, **POLE_PPO},
    ("q_learning", "CartPole-v1"): {"steps": 50_000},
    ("soft_ppo", "Acrobot-v1"): SWING_PPO,
    ("soft_q_learning", "Acrobot-v1"): SWING_Q,
    ("soft_ppo", "LunarLander-v3"): LANDER_PPO,
    ("soft_sac", "MountainCarContinuous-v0"): HILL_SAC,
    ("soft_q_learning", "CartPole-v1"): {"temperature": 4.0, **POLE_Q},
    ("reinforce", "FrozenLake-v1"): {"steps": 200_000},
    ("soft_reinforce", "FrozenLake-v1"): {"temperature": 0.01, "steps": 200_000},
    ("ppo", "FrozenLake-v1"): LAKE_PPO,
    ("soft_ppo", "FrozenLake-v1"): {"temperature": 0.01, **LAKE_PPO},
    ("fitted_q", "FrozenLake-v1"): {"steps": 300_000},
}


def preset(algorithm: str, env: str) -> dict[str, Any]:
    """Return the settings of a learner that suit an environment, ``cai.learn.preset("reinforce", "CartPole-v1")``.

    Args:
        algorithm: the name of a learner, with ``soft_`` before it for a temperature, which is then among the settings.
        env: the id of an environment of Gymnasium.

    Raises:
        WorldError: there is no preset of this name.
    """
    if (algorithm, env) not in PRESETS:
        known = [name for name, of in PRESETS if of == env]
        if known:
            expected = f"{', '.join(known)}{meant(str(algorithm), known)}"
        else:
            expected = f"an environment that has presets: {', '.join(dict.fromkeys(of for _, of in PRESETS))}"
        raise fault("preset", f"{algorithm!r} for {env!r}", expected)
    return dict(PRESETS[algorithm, env])


def presets_of(env: str) -> dict[str, dict[str, Any]]:
    """Return the presets for an environment by learner; none is an empty dict."""
    return {algorithm: dict(settings) for (algorithm, of), settings in PRESETS.items() if of == env}


def as_text(settings: dict[str, Any]) -> str:
    """Return settings as they are written in a call, ``lr=0.05, network=(32,)``."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())

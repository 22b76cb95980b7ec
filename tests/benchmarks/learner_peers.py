"""Stable-Baselines3 with the hyper-parameters of rl-zoo, where it has any for a task, and a script like CleanRL's."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import torch

from tests.benchmarks.cleanrl_like import Settings, ppo_of
from tests.benchmarks.curves import Curve, Learner, Watch


@dataclass(frozen=True)
class Greedy:
    """A Stable-Baselines3 model's most probable actions."""

    model: Any

    def __call__(self, env_state: Any, t: int) -> torch.Tensor:
        """Return them for a batch of observations, which are normalised where the model has learned them so."""
        seen, envs = env_state.state.numpy(), self.model.get_vec_normalize_env()
        seen = seen if envs is None else envs.normalize_obs(seen)
        return torch.as_tensor(self.model.predict(seen, deterministic=True)[0])


def stable_baselines(
    kind: str, task: str, steps: int, envs: int, seed: int, *, normalise: bool = False, **settings: Any
) -> Curve:
    """Return the curve of a learner of Stable-Baselines3."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    copies = make_vec_env(task, envs, seed=seed)
    if normalise:
        copies = VecNormalize(copies, gamma=settings["gamma"])
    model = getattr(sb3, kind)("MlpPolicy", copies, device="cpu", seed=seed, **settings)
    watch = Watch(task, steps)

    class Callback(BaseCallback):
        def _on_step(self) -> bool:
            watch(Greedy(self.model), self.num_timesteps)
            return True

    model.learn(steps, callback=Callback())
    watch(Greedy(model), steps)
    return Curve(tuple(watch.seconds), tuple(watch.scores), watch.scores[-1])


def cleanrl_like(task: str, steps: int, seed: int) -> Curve:
    """Return the curve of PPO as CleanRL's script has it, with that script's own settings."""
    watch = Watch(task, steps)

    def seen(agent: Any, taken: int) -> None:
        with torch.no_grad():
            watch(lambda env_state, t: agent.actor(env_state.state).argmax(-1), taken)

    ppo_of(partial(gymnasium.make, task), Settings(), seed, steps, seen)
    return Curve(tuple(watch.seconds), tuple(watch.scores), watch.scores[-1])


def falling(first: float, left: float) -> float:
    """Return rl-zoo's ``lin_…``: what falls to 0 with the share of the steps that is left."""
    return first * left


def peer(kind: str, task: str, steps: int, envs: int, **settings: Any) -> Learner:
    """Return a learner of Stable-Baselines3 on a task."""
    return Learner(task, "Gymnasium", partial(stable_baselines, kind, task, steps, envs, **settings), holds=False)


POLE_PPO: dict[str, Any] = {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20}
POLE_PPO |= {"learning_rate": partial(falling, 1e-3), "clip_range": partial(falling, 0.2)}
POLE_DQN: dict[str, Any] = {"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000}
POLE_DQN |= {"target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16}
POLE_DQN |= {"exploration_final_eps": 0.04, "policy_kwargs": {"net_arch": [256, 256]}}
LANDER_PPO: dict[str, Any] = {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4}
LANDER_PPO |= {"ent_coef": 0.01}
LANDER_A2C: dict[str, Any] = {"learning_rate": partial(falling, 8.3e-4), "gamma": 0.995, "n_steps": 5, "ent_coef": 1e-5}
LANDER_DQN: dict[str, Any] = {"learning_rate": 8.8e-4, "batch_size": 32, "learning_starts": 0, "gamma": 0.99}
LANDER_DQN |= {"target_update_interval": 10_000, "train_freq": 16, "gradient_steps": -1, "exploration_fraction": 0.2}
LANDER_DQN |= {"exploration_final_eps": 0.1, "policy_kwargs": {"net_arch": [256, 256]}}
HILL_SAC: dict[str, Any] = {"learning_rate": 3e-4, "buffer_size": 50_000, "batch_size": 512, "ent_coef": 0.1}
HILL_SAC |= {"train_freq": 32, "gradient_steps": 32, "gamma": 0.9999, "tau": 0.01, "learning_starts": 0}
HILL_SAC |= {"use_sde": True, "policy_kwargs": {"log_std_init": -3.67, "net_arch": [64, 64]}}
# rl-zoo writes batch_size=256, of which 8 steps of one copy fill 8.
HILL_PPO: dict[str, Any] = {"normalise": True, "n_steps": 8, "batch_size": 8, "gamma": 0.9999, "gae_lambda": 0.9}
HILL_PPO |= {"learning_rate": 7.77e-5, "ent_coef": 0.00429, "clip_range": 0.1, "n_epochs": 10, "max_grad_norm": 5}
HILL_PPO |= {"vf_coef": 0.19, "use_sde": True, "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False}}

PEERS = {
    "PPO (SB3)": peer("PPO", "CartPole-v1", 100_000, 8, **POLE_PPO),
    "A2C (SB3)": peer("A2C", "CartPole-v1", 500_000, 8),
    "DQN (SB3)": peer("DQN", "CartPole-v1", 50_000, 1, **POLE_DQN),
    "PPO (SB3), LunarLander-v3": peer("PPO", "LunarLander-v3", 1_000_000, 16, **LANDER_PPO),
    "A2C (SB3), LunarLander-v3": peer("A2C", "LunarLander-v3", 200_000, 8, **LANDER_A2C),
    "DQN (SB3), LunarLander-v3": peer("DQN", "LunarLander-v3", 150_000, 1, **LANDER_DQN),
    "PPO (CleanRL-style), LunarLander-v3": Learner(
        "LunarLander-v3", "Gymnasium", partial(cleanrl_like, "LunarLander-v3", 500_000), holds=False
    ),
    "SAC (SB3), MountainCarContinuous-v0": peer("SAC", "MountainCarContinuous-v0", 50_000, 1, **HILL_SAC),
    "PPO (SB3), MountainCarContinuous-v0": peer("PPO", "MountainCarContinuous-v0", 20_000, 1, **HILL_PPO),
}

"""Who learns what where, for how long, and how it is scored: by the same 100 episodes for all, on one thread."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch

import cai.learn
from cai.bridges.named import load_world
from cai.learn.presets import PRESETS
from cai.learn.scores import ByEpisodes
from cai.simulate.vector_environments import forward_simulator

EVALUATIONS = {"Pyro": 20, "Gymnasium": 10}  # an evaluation in Gymnasium takes longer than the learning between two
EPISODES = 100
THRESHOLDS = {"CartPole-v1": 475.0, "Acrobot-v1": -85.0}


@dataclass(frozen=True)
class Curve:
    """One run: CPU seconds of learning, evaluations not counted, and the mean return of the most probable actions.

    ``there`` is the last policy's in Gymnasium itself, also where it was learned and scored elsewhere.
    """

    seconds: tuple[float, ...]
    scores: tuple[float, ...]
    there: float

    def reached(self, threshold: float) -> float | None:
        """Return the seconds to the first evaluation at the threshold."""
        return next((s for s, x in zip(self.seconds, self.scores, strict=True) if x >= threshold), None)

    def settled(self, threshold: float) -> float | None:
        """Return the seconds to the evaluation from which on all are at the threshold."""
        below = [n for n, x in enumerate(self.scores) if x < threshold]
        return next(iter(self.seconds[below[-1] + 1 if below else 0 :]), None)

    def held(self, threshold: float) -> bool:
        """Tell whether the threshold was reached and no evaluation since was below it."""
        return self.reached(threshold) is not None and self.reached(threshold) == self.settled(threshold)

    @property
    def worst_after_best(self) -> float:
        """The lowest score at or after the highest."""
        return min(self.scores[self.scores.index(max(self.scores)) :])


@dataclass(frozen=True)
class Learner:
    """A learner on a task.

    Attributes:
        task: Gymnasium's id, in whose episodes a learner is scored.
        where: what it learns and is scored in: "Gymnasium", or "Pyro", the same equations on a batch.
        run: makes the curve of a seed.
        holds: whether nine of ten seeds must come to stay at the threshold.
    """

    task: str
    where: str
    run: Callable[[int], Curve]
    holds: bool = True


def ours(learner: str, task: str, where: str, seed: int, **settings: Any) -> Curve:
    """Return the curve of a learner in ``cai.learn``."""
    world = task if where == "Gymnasium" else load_world(task.split("-")[0].lower())
    learn = getattr(cai.learn, learner)
    run = learn(world, seed=seed, evaluations=EVALUATIONS[where], episodes=EPISODES, progress=False, **settings)
    scores = tuple(x.deterministic_return for x in run.history)
    there = scores[-1] if where == "Gymnasium" else episodes(task)._mean(partial(_seeing, run.policy, task))
    return Curve(tuple(x.seconds for x in run.history), scores, there)


def episodes(task: str) -> ByEpisodes:
    """Return the score of all learners."""
    return ByEpisodes(partial(forward_simulator, task), EPISODES, torch.float32)


def _seeing(policy: Any, task: str, env_state: Any, t: int) -> torch.Tensor:
    """Return the most probable actions of a world's policy, given what Gymnasium shows: for Acrobot not the angles."""
    x = env_state.state
    if task == "Acrobot-v1":
        x = torch.stack((torch.atan2(x[:, 1], x[:, 0]), torch.atan2(x[:, 3], x[:, 2]), x[:, 4], x[:, 5]), -1)
    chosen: torch.Tensor = policy.mode(x, t)
    return chosen


@dataclass(frozen=True)
class Greedy:
    """A Stable-Baselines3 model's most probable actions."""

    model: Any

    def mode(self, state: torch.Tensor, t: int) -> torch.Tensor:
        """Return them for a batch of observations."""
        return torch.as_tensor(self.model.predict(state.numpy(), deterministic=True)[0])


@dataclass
class Watch:
    """Scores a model on the way, and keeps the time that this takes out of its seconds."""

    task: str
    steps: int
    spent: float = 0.0
    seconds: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.score = episodes(self.task)
        self.began = time.process_time()

    def __call__(self, model: Any, taken: int) -> None:
        """Evaluate where an evaluation is due."""
        if len(self.scores) > taken * EVALUATIONS["Gymnasium"] // self.steps:
            return
        now = time.process_time()
        self.seconds.append(now - self.began - self.spent)
        policy = Greedy(model)
        self.scores.append(self.score._mean(lambda env_state, t: policy.mode(env_state.state, t)))
        self.spent += time.process_time() - now


def stable_baselines(kind: str, task: str, steps: int, envs: int, seed: int, **settings: Any) -> Curve:
    """Return the curve of PPO, A2C or DQN with the hyper-parameters of rl-zoo."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    model = getattr(sb3, kind)("MlpPolicy", make_vec_env(task, envs, seed=seed), device="cpu", seed=seed, **settings)
    watch = Watch(task, steps)

    class Callback(BaseCallback):
        def _on_step(self) -> bool:
            watch(self.model, self.num_timesteps)
            return True

    model.learn(steps, callback=Callback())
    watch(model, steps)
    return Curve(tuple(watch.seconds), tuple(watch.scores), watch.scores[-1])


def falling(first: float, left: float) -> float:
    """Return rl-zoo's ``lin_…``: what falls to 0 with the share of the steps that is left."""
    return first * left


ACROBOT: dict[str, Any] = {"network": (64,), "batch": 128, "lr": 0.03, "average": 0.1, "steps": 1_500_000}
ACROBOT |= {"temperature": 0.1, "normalise": True}
PPO: dict[str, Any] = {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20}
PPO |= {"learning_rate": partial(falling, 1e-3), "clip_range": partial(falling, 0.2)}
DQN: dict[str, Any] = {"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000}
DQN |= {"target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16}
DQN |= {"exploration_final_eps": 0.04, "policy_kwargs": {"net_arch": [256, 256]}}


def both(name: str, algorithm: str) -> dict[str, Learner]:
    """Return a learner of ours on CartPole with its preset, in both places."""
    task, settings = "CartPole-v1", cai.learn.preset(algorithm, "CartPole-v1")
    run = partial(ours, algorithm.removeprefix("soft_"), task)
    return {
        f"{name}, {where}": Learner(task, where, partial(run, where, **settings)) for where in ("Pyro", "Gymnasium")
    }


def real(algorithm: str, env: str) -> Learner:
    """Return a learner of ours with its preset, in Gymnasium's environment."""
    settings = cai.learn.preset(algorithm, env)
    return Learner(
        env,
        "Gymnasium",
        partial(ours, algorithm.removeprefix("soft_"), env, "Gymnasium", **settings),
        holds=env == "CartPole-v1",
    )


def peer(kind: str, steps: int, envs: int, **settings: Any) -> Learner:
    """Return a Stable-Baselines3 learner on CartPole."""
    run = partial(stable_baselines, kind, "CartPole-v1", steps, envs, **settings)
    return Learner("CartPole-v1", "Gymnasium", run, holds=False)


NAMED = {(name, "CartPole-v1") for name in ("reinforce", "soft_reinforce", "soft_q_learning", "sac")}
LEARNERS = {
    **both("REINFORCE", "reinforce"),
    **both("soft policy gradient", "soft_reinforce"),
    **both("soft Q-learning", "soft_q_learning"),
    "soft actor-critic, Gymnasium": real("sac", "CartPole-v1"),
    **{f"{name}, {env}": real(name, env) for name, env in PRESETS if (name, env) not in NAMED and env in THRESHOLDS},
    "soft policy gradient, Acrobot": Learner(
        "Acrobot-v1", "Pyro", partial(ours, "reinforce", "Acrobot-v1", "Pyro", **ACROBOT), holds=False
    ),
    "PPO (SB3)": peer("PPO", 100_000, 8, **PPO),
    "A2C (SB3)": peer("A2C", 500_000, 8),
    "DQN (SB3)": peer("DQN", 50_000, 1, **DQN),
}


def spread(values: list[float | None]) -> str:
    """Return the median and the range of those that there are."""
    there = [x for x in values if x is not None]
    return f"{median(there):.2f} ({min(there):.2f} … {max(there):.2f})" if there else "never"

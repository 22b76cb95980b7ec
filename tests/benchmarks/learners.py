"""Who learns what where, for how long; how it is scored stands in ``curves``."""

from functools import partial
from typing import Any

import torch

import cai.learn
from cai.bridges.named import load_world
from cai.learn.presets import PRESETS
from tests.benchmarks.curves import EPISODES, EVALUATIONS, THRESHOLDS, Curve, Learner, episodes
from tests.benchmarks.learner_peers import PEERS


def ours(learner: str, task: str, where: str, seed: int, **settings: Any) -> Curve:
    """Return the curve of a learner in ``cai.learn``."""
    world = task if where == "Gymnasium" else load_world(task.split("-")[0].lower())
    learn = getattr(cai.learn, learner)
    run = learn(world, seed=seed, evaluations=EVALUATIONS[where], episodes=EPISODES, progress=False, **settings)
    scores = tuple(x.deterministic_return for x in run.history)
    there = scores[-1] if where == "Gymnasium" else episodes(task)._mean(partial(_seeing, run.policy, task))
    return Curve(tuple(x.seconds for x in run.history), scores, there)


def _seeing(policy: Any, task: str, env_state: Any, t: int) -> torch.Tensor:
    """Return the most probable actions of a world's policy, given what Gymnasium shows: for Acrobot not the angles."""
    x = env_state.state
    if task == "Acrobot-v1":
        x = torch.stack((torch.atan2(x[:, 1], x[:, 0]), torch.atan2(x[:, 3], x[:, 2]), x[:, 4], x[:, 5]), -1)
    chosen: torch.Tensor = policy.mode(x, t)
    return chosen


ACROBOT: dict[str, Any] = {"network": (64,), "batch": 128, "lr": 0.03, "average": 0.1, "steps": 1_500_000}
ACROBOT |= {"temperature": 0.1, "normalise": True}


def both(name: str, algorithm: str) -> dict[str, Learner]:
    """Return a learner of ours on CartPole with its preset, in both places."""
    task, settings = "CartPole-v1", cai.learn.preset(algorithm, "CartPole-v1")
    run = partial(ours, algorithm.removeprefix("soft_"), task)
    return {
        f"{name}, {where}": Learner(task, where, partial(run, where, **settings), first=10)
        for where in ("Pyro", "Gymnasium")
    }


def real(algorithm: str, env: str) -> Learner:
    """Return a learner of ours with its preset, in Gymnasium's environment."""
    settings = cai.learn.preset(algorithm, env)
    return Learner(
        env,
        "Gymnasium",
        partial(ours, algorithm.removeprefix("soft_"), env, "Gymnasium", **settings),
        holds=env == "CartPole-v1" or (algorithm, env) == ("soft_ppo", "Acrobot-v1"),
    )


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
    **PEERS,
}

"""How learners are scored: by the same 100 episodes for all, and by the CPU seconds of their learning alone."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch

from cai.learn.scores import ByEpisodes
from cai.simulate.vector_environments import forward_simulator

EVALUATIONS = {"Pyro": 20, "Gymnasium": 10}  # an evaluation in Gymnasium takes longer than the learning between two
EPISODES = 100
THRESHOLDS = {"CartPole-v1": 475.0, "Acrobot-v1": -85.0, "LunarLander-v3": 200.0, "MountainCarContinuous-v0": 90.0}


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
        first: the first seed, later than all that its settings were chosen on below 100.
    """

    task: str
    where: str
    run: Callable[[int], Curve]
    holds: bool = True
    first: int = 0


def episodes(task: str) -> ByEpisodes:
    """Return the score of all learners."""
    return ByEpisodes(partial(forward_simulator, task), EPISODES, torch.float32)


def spread(values: list[float | None]) -> str:
    """Return the median and the range of those that there are."""
    there = [x for x in values if x is not None]
    return f"{median(there):.2f} ({min(there):.2f} … {max(there):.2f})" if there else "never"


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

    def __call__(self, choose: Callable[[Any, int], torch.Tensor], taken: int) -> None:
        """Evaluate the actions that are chosen where an evaluation is due."""
        if len(self.scores) > taken * EVALUATIONS["Gymnasium"] // self.steps:
            return
        now = time.process_time()
        self.seconds.append(now - self.began - self.spent)
        self.scores.append(self.score._mean(choose))
        self.spent += time.process_time() - now

"""Mistakes in the target: how outcomes are weighed."""

from dataclasses import replace

import torch
from torch import Tensor

from cai.verification.answer import Answer, answer, right
from cai.verification.task import Task


def best_outcome(task: Task) -> Answer:
    """Solve ``q = max_k (r_k + γ v')`` over the outcomes that can be.

    Source: Lauer and Riedmiller 2000, An algorithm for distributed reinforcement learning, where it is meant.
    """

    def target(v: Tensor) -> Tensor:
        future = torch.where(task.over, 0.0, task.discount * v[task.following])
        return torch.where(task.p > 0, task.r + future, -torch.inf).amax(-1)

    return answer(task, replace(right(task), target=target))

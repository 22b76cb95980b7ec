"""What the experiments measure of a policy and of a learner, with public functions only."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import cai


def table_of(world: cai.Tables, policy: Any) -> Float[Tensor, "T S A"]:
    """Return log π_t(a|s) of every time of a finite horizon, nats."""
    return torch.stack([policy.log_probs(t) for t in range(world.horizon or 0)])


def solved(world: cai.Tables, rule: cai.Rule, temperature: float = 1.0) -> Float[Tensor, "T S A"]:
    """Return log π of a rule, nats."""
    return table_of(world, cai.solve(world, rule, temperature=temperature).policy)


def final_states(world: cai.Tables, log_pi: Float[Tensor, "T S A"]) -> Float[Tensor, " S"]:
    """Return p(s_T) under a policy: the last joint pushed through the outcomes of the last slice."""
    joint, slice_ = cai.evaluate(world, log_pi.exp()).occupancy[-1], world.at(len(log_pi) - 1)
    amounts = joint.unsqueeze(-1) * slice_.log_prob.exp()
    return torch.zeros_like(joint[:, 0]).index_add(0, slice_.successor.flatten(), amounts.flatten())


def moves(world: cai.Tables, log_pi: Float[Tensor, "T S A"]) -> Float[Tensor, "T S A"]:
    """Return p(s_t, a_t) under a policy."""
    joint: Tensor = cai.evaluate(world, log_pi.exp()).occupancy
    return joint


def watched(learn: Callable[..., cai.learn.Learned], world: Any, watch: Callable[..., bool], **settings: Any) -> None:
    """Let a learner go on until ``watch`` has seen enough of its updates; see ``cai.learn.Options``."""
    finished(learn(world, watch=watch, steps=2**62, evaluations=1, progress=False, **settings))


def finished(learned: cai.learn.Learned) -> cai.learn.Learned:
    """Return what was learned.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the learning, and ends the experiment.
    """
    if learned.stopped == "interrupted":
        raise KeyboardInterrupt
    return learned

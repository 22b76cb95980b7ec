"""A learnable table: one logit for every time, state and action, on top of the action prior."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.policies.protocol import probabilities, sample_joint, sampled, scored
from cai.policies.readable import described, in_state
from cai.support.memory import require_room
from cai.world.definition import World
from cai.world.spaces import Values

STATIONARY = "stationary=True, or a shorter horizon"


class TabularPolicy(nn.Module):
    """π_t(a|s) ∝ p(a|s) exp(logits_t(s,a)): the prior where all logits are 0; any policy within the prior's support.

    The logits stand for q/α in the exact policy ``π = p exp((q - v)/α)`` (Levine 2018, section 2.3).

    Args:
        world: a world, or its tables.
        stationary: one table for all times, ``[S, A]``, in place of ``[T, S, A]``.

    Raises:
        WorldError, IntractableError: the world cannot be tabulated, or the table needs more memory than there is.
    """

    log_base: Tensor

    probs = probabilities
    sample = sampled
    log_prob = scored
    at = in_state
    __repr__ = described

    def __init__(self, world: World | Tables, *, stationary: bool = False) -> None:
        super().__init__()
        tables = tabulate(world).detach()
        self.states, self.actions = self.spaces = tables.states, tables.actions
        self.horizon = None if stationary else tables.horizon
        self.prior_is_timed = tables.timed
        self.register_buffer("log_base", tables.log_prior.contiguous())
        S, A, T = tables.states.size, tables.actions.size, self.horizon
        shape = (S, A) if T is None else (T, S, A)
        size = f"one logit for each of A = {A:,} actions in S = {S:,} states at T = {T or 1:,} times"
        require_room("tabular policy", size, math.prod(shape) * self.log_base.itemsize, STATIONARY)
        self.logits = nn.Parameter(torch.zeros(shape, dtype=self.log_base.dtype, device=self.log_base.device))

    def log_table(self) -> Float[Tensor, "*T S A"]:
        """Return log π of all times at once, nats; without a T axis where neither prior nor logits change over time."""
        return (self.log_base + self.logits).log_softmax(-1)

    def log_probs(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats."""
        base = self.log_base[t] if self.prior_is_timed else self.log_base
        logits = self.logits if self.horizon is None else self.logits[t]
        return (base + logits).log_softmax(-1)

    def act(self, state: Values, t: int) -> Values:
        """Sample the action variables one after the other, each given those before."""
        return sample_joint(self.actions, self.log_probs(t)[self.states.join(self.states.unpack(state))])

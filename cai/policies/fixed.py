"""A policy without parameters to learn: that of a rule, a prior, or a given table."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cai.compile.model import FiniteModel
from cai.errors import fault
from cai.policies.protocol import probabilities, sample_joint, sampled, scored
from cai.policies.readable import described, in_state
from cai.world.spaces import Space, Values


def prior_at(tables: FiniteModel, t: int) -> Tensor:
    """Return the action prior of time t, nats, ``[S, A]``: a table for a ``FixedPolicy``."""
    return tables.log_prior_at(t)


def always(log_pi: Tensor, t: int) -> Tensor:
    """Return the same table at all times."""
    return log_pi


@dataclass(frozen=True, repr=False)
class FixedPolicy:
    """A policy over numbered states and actions, given by a function that computes the table of time t.

    Attributes:
        table: maps t to log π_t(a|s), nats, shape ``[*B, S, A]``; not a local function, so that the policy can be
            pickled.
        states, actions: the variables and values that the numbers stand for.
        horizon: the T of its times, or None for a policy that is the same at all times.
    """

    table: Callable[[int], Tensor]
    states: Space
    actions: Space
    horizon: int | None = None

    probs = probabilities
    sample = sampled
    log_prob = scored
    at = in_state
    __repr__ = described

    @property
    def spaces(self) -> tuple[Space, Space]:
        """The state and action variables and values that the numbers stand for."""
        return self.states, self.actions

    def log_probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return log π_t(a|s), nats; -inf for an action with probability 0."""
        return self.table(t)

    def act(self, state: Values, t: int) -> Values:
        """Sample the action variables one after the other, each given those before."""
        table = self.table(t)
        if table.dim() != 2:
            raise fault(
                "policy", f"a batch of shape {list(table.shape[:-2])}", "the policy of one entry: messages[i].policy"
            )
        return sample_joint(self.actions, table[self.states.join(self.states.unpack(state))])

"""A factored slice as tables: every outcome listed, latents and next states numbered jointly."""

import math

import torch

from cai.compile.factor_model import primed, total
from cai.compile.table_model import Slice
from cai.exact.factors.prepared_slice import PreparedSlice
from cai.support.memory import require_room


def flattened(plan: PreparedSlice) -> Slice:
    """Return the outcomes of a slice, ``[S, A, K]``: K is the number of joint values of latents and next states.

    Raises:
        IntractableError: they need more memory than there is.
    """
    variables, slice_ = plan.variables, plan.slice
    states, actions, latents = variables.states, variables.actions, variables.latents
    scope = (*states.names, *actions.names, *latents, *(primed(name) for name in states.names))
    sizes = [variables.sizes[name] for name in scope]
    S, A, K = states.size, actions.size, math.prod(latents.values()) * states.size
    require_room("factors", f"outcomes of S = {S:,} states, A = {A:,} actions, K = {K:,} outcomes", 24 * S * A * K)
    log_prob = total(tuple(slice_.chance.values()), scope, sizes, variables.dtype)
    reward = total(slice_.reward, scope, sizes, variables.dtype)
    successor = torch.arange(S).expand(S, A, K // S, S)
    shape = (S, A, K)
    return Slice(plan.log_prior, log_prob.reshape(shape), successor.reshape(shape), reward.reshape(shape))

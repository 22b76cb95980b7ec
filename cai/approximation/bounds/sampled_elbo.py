"""The ELBO of a policy of local values, by trajectories: unbiased, and with little noise where the values are good.

Any function v gives, since what is added and taken away telescopes,

    α ELBO(π) = E[v_0(s_0)] + E_π Σ_t γ^t ((B v_{t+1})(s_t) - v_t(s_t)),
    B v = α log Σ_a p(a|s) exp(E[r + γ v|s, a]/α)

for the softmax policy π of v with v_T = r_T. Where v is exact every term is 0 (a control variate: Henderson & Glynn
2002), so that what is sampled is only the error of v.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.bounds.local_policy import LocalPolicy
from cai.approximation.bounds.look_ahead import States, picked, value_of
from cai.approximation.bounds.time_left import require_time_left
from cai.approximation.estimate import Estimate

ERRORS = 3.0
"""Standard errors between the mean and the lower bound: it fails in about one run of 700, by the normal law."""
BATCH = 1024
"""Trajectories at once."""


@dataclass(frozen=True)
class Visits:
    """N trajectories of a policy.

    Attributes:
        states: s_0 … s_{T-1}, by time and variable, ``[N]`` each.
        elbos: one unbiased estimate of the ELBO each, nats, ``[N]``.
    """

    states: Sequence[States]
    elbos: Float[Tensor, " N"]


def visits(policy: LocalPolicy, n: int, generator: torch.Generator, deadline: float = math.inf) -> Visits:
    """Draw n trajectories of a policy.

    Raises:
        TimeoutError: the deadline, ``time.monotonic``, is over.
    """
    ahead, gamma = policy.ahead, policy.ahead.factors.discount
    horizon = ahead.factors.horizon
    assert horizon is not None
    now, seen = ahead.start(n, generator), list[States]()
    total = torch.zeros(n, dtype=torch.float64)
    for t in range(horizon):
        require_time_left(deadline)
        log_pi, backup = policy.choice(t, now)
        value = value_of(policy.values[t], now)
        total = total + (value if t == 0 else 0.0) + gamma**t * (backup - value)
        seen.append(now)
        if t + 1 < horizon:
            now = ahead.draw(t, now, picked(log_pi.exp(), generator), generator)
    return Visits(seen, total / policy.temperature)


def lower_bound(elbos: Float[Tensor, " N"], errors: float = ERRORS) -> Estimate:
    """Return the mean of sampled ELBOs, and as a lower bound the mean less some standard errors, nats.

    What is rare and costly, and was not drawn, the standard error cannot know of.
    """
    if bool((elbos == -torch.inf).any()):
        return Estimate(-torch.inf)
    mean, error = float(elbos.mean()), float(elbos.std()) / len(elbos) ** 0.5
    return Estimate(mean, error, lower=mean - errors * error, sampled=True)


def sampled_elbo(
    policy: LocalPolicy, n: int, generator: torch.Generator, deadline: float = math.inf
) -> Float[Tensor, " n"]:
    """Return n independent unbiased estimates of a policy's ELBO, nats.

    Raises:
        TimeoutError: the deadline, ``time.monotonic``, is over.
    """
    sizes = [BATCH] * (n // BATCH) + ([n % BATCH] if n % BATCH else [])
    return torch.cat([visits(policy, size, generator, deadline).elbos for size in sizes])

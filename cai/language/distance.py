"""distance: how far a policy of texts is from the exact conditional, nats."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.estimate import Estimate
from cai.evaluation.evaluate import evaluate
from cai.exact.messages import Messages
from cai.language.conditional import Conditional
from cai.language.language_world import LanguageWorld
from cai.language.texts import log_prob, paid, sample
from cai.learn.loop import require_whole
from cai.policies.as_policy import as_policy, policy_table, unwrapped


@dataclass(frozen=True)
class Distance:
    """A policy π beside the exact conditional p* = p(text | O).

    Attributes:
        log_evidence: log Z, nats, exact.
        elbo: ELBO(π) = E_π[reward/α] - KL(π ‖ reference), nats.
        reverse: KL(π ‖ p*) = log Z - ELBO(π), nats.
        forward: KL(p* ‖ π) = E_p*[log p* - log π], nats.
    """

    log_evidence: float
    elbo: Estimate
    reverse: Estimate
    forward: Estimate


@torch.no_grad()
def distance(exact: Conditional, policy: Any, *, samples: int = 10_000, seed: int = 0) -> Distance:
    """Return the distance of a policy to the exact conditional of its world, both ways.

    Exact where the world lists its states and the policy has a table: the reverse KL by ``cai.evaluate``, the forward
    one by the marginals p(s_t | O) of ``cai.solve``. Else from texts drawn from each, with standard errors.

    Args:
        exact: what ``cai.language.conditional`` returns.
        policy: any policy of its world, None for the reference, or what has such a ``.policy``.
        samples: how many texts are drawn of each, where the distance is not exact.
        seed: of these draws.

    Raises:
        WorldError: the policy or a number is not valid.
    """
    require_whole("distance, samples", samples, 2)
    require_whole("distance, seed", seed, 0)
    world = exact.world
    if isinstance(world, LanguageWorld):
        return _exact(exact, policy)
    actor = policy if policy is None else unwrapped("distance, policy", policy)
    generator = torch.Generator().manual_seed(seed)
    own = sample(world, actor, samples, generator)
    log_ref, log_pi = log_prob(world, None, own), log_prob(world, actor, own)
    elbo = _mean(paid(world, own) / exact.temperature + log_ref - log_pi)
    best = sample(world, exact, samples, generator)
    forward = _mean(log_prob(world, exact, best) - log_prob(world, actor, best))
    log_z = exact.log_evidence
    assert elbo.value is not None
    return Distance(log_z, elbo, Estimate(log_z - elbo.value, elbo.standard_error), forward)


def forward_kl(messages: Messages, policy: Any) -> float:
    """Return KL(p(τ|O) ‖ π) = Σ_t E_{s_t|O} KL(p(·|s_t, O) ‖ π_t(·|s_t)), nats, where the dynamics are certain.

    Args:
        messages: of POSTERIOR on a world of tables.
        policy: any policy of it.
    """
    tables, total = messages.model, 0.0
    own = as_policy(tables, policy)
    for t in range(tables.horizon):
        joint = messages.marginals(t)
        short = messages.log_policy(t) - policy_table(tables, own, t)
        total += float(torch.where(joint > 0, joint * short, 0.0).sum())
    return total


def _exact(exact: Conditional, policy: Any) -> Distance:
    messages = exact.messages.solved  # type: ignore[attr-defined]
    elbo = float(evaluate(messages.model, policy, temperature=exact.temperature).elbo)
    log_z = exact.log_evidence
    return Distance(log_z, Estimate(elbo), Estimate(log_z - elbo), Estimate(forward_kl(messages, policy)))


def _mean(x: Float[Tensor, " N"]) -> Estimate:
    """Return the mean with its standard error; unknown where it is infinite."""
    mean = float(x.mean())
    return Estimate(mean, float(x.std()) / math.sqrt(len(x)) if math.isfinite(mean) else math.inf)

"""distance: how far a policy of texts is from the exact conditional, nats."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from cai.approximation.estimate import Estimate
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.evaluation.evaluate import evaluate
from cai.exact.messages import Messages
from cai.language.conditional import Conditional
from cai.language.language_world import LanguageWorld
from cai.language.own_policy import own_policy
from cai.language.text_world import TextWorld
from cai.language.texts import log_next
from cai.learn.loop import require_whole
from cai.policies.as_policy import as_policy, policy_table


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
    one by the marginals p(s_t | O) of ``cai.solve``. Else the mean, over texts drawn from each, of the exact KL at each
    of their prefixes, with a standard error.

    Args:
        exact: what ``cai.language.conditional`` returns.
        policy: any policy of its world, None for the reference, or what has such a ``.policy``.
        samples: how many texts are drawn of each, where the distance is not exact.
        seed: of these draws.

    Raises:
        WorldError: the policy or a number is not valid.
    """
    if not isinstance(exact, Conditional):
        raise fault("distance, exact", f"a {type(exact).__name__}", "what cai.language.conditional returns")
    require_whole("distance, samples", samples, 2)
    require_whole("distance, seed", seed, 0)
    world = exact.world
    policy = own_policy("distance", world, policy)
    if isinstance(world, LanguageWorld):
        return _exact(exact, policy)
    generator = torch.Generator().manual_seed(seed)
    reverse = _sampled_kl(world, policy, exact, samples, generator)
    forward = _sampled_kl(world, exact, policy, samples, generator)
    assert reverse.value is not None
    log_z = exact.log_evidence
    return Distance(log_z, Estimate(log_z - reverse.value, reverse.standard_error), reverse, forward)


def forward_kl(messages: Messages, policy: Any) -> float:
    """Return KL(p(τ|O) ‖ π) = Σ_t E_{s_t|O} KL(p(·|s_t, O) ‖ π_t(·|s_t)), nats, where the dynamics are certain.

    Args:
        messages: of POSTERIOR on a world of tables.
        policy: any policy of it.

    Raises:
        WorldError: the messages are others, or the policy is not valid.
    """
    tables, total = getattr(messages, "model", None), 0.0
    if not isinstance(tables, Tables) or tables.horizon is None:
        seen = "an infinite horizon" if isinstance(tables, Tables) else f"a {type(messages).__name__}"
        raise fault("forward_kl, messages", seen, "what cai.solve returns on tables with a finite horizon")
    own = as_policy(tables, policy)
    for t in range(tables.horizon):
        joint = messages.marginals(t)
        best = joint.log() - joint.sum(-1, keepdim=True).log()  # p(a|s, O), wherever s has a probability
        short = best - policy_table(tables, own, t)
        total += float(torch.where(joint > 0, joint * short, 0.0).sum())
    return total


def _exact(exact: Conditional, policy: Any) -> Distance:
    messages = exact.messages.solved  # type: ignore[attr-defined]
    elbo = float(evaluate(messages.model, policy, temperature=exact.temperature).elbo)
    log_z = exact.log_evidence
    return Distance(log_z, Estimate(elbo), Estimate(log_z - elbo), Estimate(forward_kl(messages, policy)))


def _sampled_kl(world: TextWorld, one: Any, other: Any, n: int, generator: torch.Generator) -> Estimate:
    """Return KL(one ‖ other) = E_one Σ_t KL(one(·|prefix) ‖ other(·|prefix)), nats, over n texts drawn from ``one``."""
    s, total = world.begin(n), torch.zeros(n, dtype=torch.float64)
    for t in range(world.horizon):
        log_p, log_q = (log_next(world, policy, t, s) for policy in (one, other))
        each = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1)
        total += torch.where(world.terminated(s), 0.0, each)
        s = world.append(s, torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(-1))
    mean = float(total.mean())
    return Estimate(mean, float(total.std()) / math.sqrt(n) if math.isfinite(mean) else math.inf)

"""evaluate: any policy on a world, exactly."""

from typing import Any

import torch
from torch import Tensor

from cai.compile.ends import inspect_ends
from cai.compile.table_model import Tables
from cai.errors import demand, fault
from cai.evaluation.answers import SAMPLES, Answers, answers_of
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.part_accounts import Part
from cai.exact.forms import Compiled, compiled, otherwise_sampled
from cai.exact.messages import Messages
from cai.exact.rules import Rule
from cai.policies.as_policy import as_policy, require_table
from cai.policies.product_policy import ProductPolicy
from cai.world.definition import World


def evaluate(
    world: World | Compiled,
    policy: Any,
    *,
    temperature: float | Tensor = 1.0,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Evaluate any policy exactly, from its state distribution at every time under the true dynamics.

    ``ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)]``, and two decompositions, both exact for every policy:
    ``ELBO* - ELBO(π) = Σ policy nats`` and ``log Z - ELBO(π) = start + Σ action + Σ luck nats``.

    On a linear-Gaussian world this is exact for every affine-Gaussian policy: Gaussian given the state, with an affine
    mean and the same covariance everywhere. A program is tested for being one. Other policies are sampled there, with a
    ``standard_error``. A policy that is certain where the prior is not, such as HARD's, has an infinite KL.

    Args:
        world: a world, or what it was compiled to.
        policy: None (the action prior), a Policy, messages, a tensor ``[S, A]`` or ``[T, S, A]`` of probabilities, an
            object with ``act``, a function ``(state, t) -> probabilities [S, A]``, or a ``Rule`` to be solved. A large
            world of independent parts takes only None, a Rule or messages. On real states a tensor is a gain ``[m, n]``
            or ``[T, m, n]``, a triple is (gain, offset, covariance), and a function returns a distribution.
        temperature: α > 0, reward units; one number.
        samples: how many trajectories are drawn where a policy is sampled.
        seed: of these draws.

    Raises:
        WorldError: the world, the policy or the temperature is not valid.
        IntractableError: the world cannot be compiled.
    """
    with otherwise_sampled(world):
        model = compiled(world, under=[policy])
    return measure(answers_of("evaluate", model, temperature, samples, seed), policy)


@torch.no_grad()
def measure(answers: Answers, policy: Any) -> Evaluation:
    """Evaluate a policy of any form against given answers."""
    if isinstance(policy, Rule):
        policy = answers.under(policy)
    if isinstance(answers.model, Tables):
        demand(inspect_ends(answers.model))
        require_table("policy", answers.model)
    whole, each = _by_parts(answers, policy)
    ops = (
        op.measured(own, answers.samples, answers.seed) for op, own in zip(answers.operator.parts, each, strict=True)
    )
    parts = tuple(Part(answers, i, own, op) for i, (own, op) in enumerate(zip(each, ops, strict=True)))
    for part in parts:
        _ = part.states  # the policy's probabilities are checked during the evaluation
    return Evaluation(whole, answers, parts)


def _by_parts(answers: Answers, policy: Any) -> tuple[Any, list[Any]]:
    """Return the policy, and what it is on each independent part.

    Raises:
        WorldError: it ties parts that are measured apart.
    """
    models = [part.model for part in answers.operator.parts]
    if len(models) == 1:
        whole = as_policy(models[0], policy)
        return whole, [whole]
    whole = policy.policy if isinstance(policy, Messages) else policy
    if whole is None:
        return whole, [as_policy(model, None) for model in models]
    if not isinstance(whole, ProductPolicy):
        expected = "None, a Rule of cai's means, or what cai.solve returns for this world, which has independent parts"
        raise fault("policy", f"a {type(policy).__name__}", expected)
    if [(p.states.names, p.actions.names) for p in whole.parts] != [(m.states.names, m.actions.names) for m in models]:
        raise fault(
            "policy", "a policy with other independent parts than this world", "one that was solved for this world"
        )
    return whole, [as_policy(model, own) for model, own in zip(models, whole.parts, strict=True)]

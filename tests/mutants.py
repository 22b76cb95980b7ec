"""Our own learners, each with one line wrong, and the mistake that the line plants.

The line replaces one function of the library by another, made of the right one, for as long as the learner learns.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch

from cai.learn import training
from cai.learn.algorithms import policy_gradient, tabular_q
from cai.learn.algorithms.policy_gradient import PolicyGradient
from cai.learn.algorithms.tabular_q import Tally
from cai.learn.soft_values import log_policy, policy_value, state_value
from cai.simulate.worlds import WorldSimulator
from cai.verification.trainers.own import own
from cai.verification.trainers.trainer import Trainer


@dataclass(frozen=True)
class Mutant:
    """A learner with one line wrong.

    Attributes:
        plants: the mistake, one of ``MISTAKES``, or "seeds".
        train: the wrong learner.
    """

    plants: str
    train: Trainer

    @property
    def name(self) -> str:
        """The learner and the mistake."""
        return f"{self.train.name}: {self.plants}"


def planted(plants: str, learner: Trainer, owner: Any, attribute: str, wrong: Callable[[Any], Any]) -> Mutant:
    """Return a sound learner with one function replaced by what ``wrong`` makes of it."""

    def learn(env: Any, seed: int) -> Any:
        with mock.patch.object(owner, attribute, wrong(getattr(owner, attribute))):
            return learner(env, seed)

    return Mutant(plants, replace(learner, learn=learn))


def in_value(plants: str, wrong: Callable[..., torch.Tensor]) -> Mutant:
    """Plant in V(s) of q, log p and α."""
    return planted(plants, own("soft_q_learning"), tabular_q, "state_value", lambda right: wrong)


def in_target(plants: str, wrong: Callable[..., Any], **options: Any) -> Mutant:
    """Plant in the mean of r + γ V(s'), of a tally, V, γ and the shape."""
    return planted(
        plants,
        own("soft_q_learning", **options),
        Tally,
        "mean",
        lambda right: lambda tally, v, gamma, shape: right(*wrong(tally, v, gamma), shape),
    )


def in_episodes(plants: str, wrong: Callable[..., Any], **options: Any) -> Mutant:
    """Plant in the episodes that are drawn."""
    learner = own("soft_q_learning", **options)
    return planted(plants, learner, tabular_q, "roll", lambda right: lambda *given: wrong(right(*given)))


def in_tally(plants: str, wrong: Callable[..., Any]) -> Mutant:
    """Plant in what is kept of the episodes; there are S states with A actions."""

    def planting(right: Any) -> Any:
        def kept(world: Any, *given: Any) -> Any:
            return wrong(right(world, *given), *(space.size for space in world.variables.spaces))

        return kept

    return planted(plants, own("soft_q_learning"), tabular_q, "tally_of", planting)


def in_prior(plants: str, wrong: Callable[[torch.Tensor], torch.Tensor], learner: str = "soft_q_learning") -> Mutant:
    """Plant in log p(a|s)."""

    def planting(right: Any) -> Any:
        return lambda world, s, t=0: wrong(right(world, s, t))

    return planted(plants, own(learner), WorldSimulator, "log_prior", planting)


def in_problem(plants: str, learner: Trainer, wrong: Callable[..., Any]) -> Mutant:
    """Plant in the problem that is learned on: temperature and discount."""
    return planted(plants, learner, training, "problem_of", lambda right: lambda *given: wrong(right(*given)))


def in_steps(plants: str, wrong: Callable[..., Any], **options: Any) -> Mutant:
    """Plant in the steps that PPO takes before an update."""

    def planting(right: Any) -> Any:
        def steps(*given: Any) -> Any:
            env_state, seen = right(*given)
            return env_state, replace(seen, **wrong(seen))

        return steps

    return planted(plants, own("soft_ppo", **options), policy_gradient, "next_steps", planting)


def in_advantages(plants: str, wrong: Callable[..., Any]) -> Mutant:
    """Plant in the advantages of PPO, of what was paid, V(s), V(s'), whether it goes on, γ and λ."""
    return planted(
        plants,
        own("soft_ppo"),
        policy_gradient,
        "generalised_advantages",
        lambda right: lambda *given: right(*wrong(*given)),
    )


def forbidding(log_p: torch.Tensor) -> torch.Tensor:
    """Tell the states that forbid an action."""
    return (log_p == -torch.inf).any(-1, keepdim=True)


def negative_kl(right: Any) -> Any:
    """Return what estimates the KL, with the wrong sign."""

    def divergence(*given: Any) -> Any:
        old, kl = right(*given)
        return old, -kl

    return divergence


NOWHERE = itertools.count()
"""What outlives a run: the next seed."""
Q, PPO, ON = "soft_q_learning", "soft_ppo", {"on": "environment"}
OF_Q = (
    in_value("later entropy missing", lambda q, p, a: policy_value(q, log_policy(q, p, a), p, None)),
    in_value("later entropy twice", lambda q, p, a: policy_value(q, log_policy(q, p, a), p, 2 * a)),
    in_value("later entropy negative", lambda q, p, a: policy_value(q, log_policy(q, p, a), p, -a)),
    in_value("best action", lambda q, p, a: state_value(q, p, None)),
    in_value("values of the prior", lambda q, p, a: policy_value(q, p.log_softmax(-1), p, None)),
    in_target("no discount", lambda tally, v, gamma: (tally, v, 1.0)),
    in_target("discount twice", lambda tally, v, gamma: (tally, v, gamma**2)),
    in_target("reward discounted", lambda tally, v, gamma: (replace(tally, paid=gamma * tally.paid), v, gamma)),
    in_target("stale target", lambda tally, v, gamma: (tally, 0 * v, gamma)),
    in_target(
        "termination goes on",
        lambda tally, v, gamma: (replace(tally, over=torch.zeros_like(tally.over)), v, gamma),
        **ON,
    ),
    in_episodes("truncation ends", lambda seen: replace(seen, terminated=seen.terminated | seen.truncated), **ON),
    in_episodes(
        "last reward lost",
        lambda seen: replace(seen, rewards=seen.rewards * torch.cat([seen.alive[1:], 0 * seen.alive[:1]])),
        **ON,
    ),
    in_episodes("reward clipped", lambda seen: replace(seen, rewards=seen.rewards.clamp(-1, 1))),
    in_tally(
        "next state for state",
        lambda tally, S, A: replace(tally, cell=tally.cell + (tally.following - tally.cell // A % S) * A),
    ),
    in_prior("masks ignored", lambda p: torch.where(forbidding(p), 0.0, p).log_softmax(-1)),
    in_prior("prior ignored", lambda p: torch.where(p > -torch.inf, 0.0, p).log_softmax(-1)),
    in_prior("prior not normalised", lambda p: torch.where(p > -torch.inf, 0.0, p)),
    in_problem("temperature x 2", own(Q), lambda right: replace(right, temperature=2 * right.temperature)),
    in_problem("no entropy", own(Q), lambda right: replace(right, temperature=None)),
    in_problem("temperature / 10", own(Q), lambda right: replace(right, temperature=right.temperature / 10)),
    planted("seeds", own(Q), training, "seeded", lambda right: lambda seed: right(next(NOWHERE))),
)
OF_PPO = (
    in_steps("truncation ends", lambda seen: {"worthless": seen.worthless | ~seen.going}, **ON),
    in_steps("termination goes on", lambda seen: {"worthless": torch.zeros_like(seen.worthless)}, **ON),
    in_steps("last reward lost", lambda seen: {"rewards": seen.rewards * seen.going}, **ON),
    in_advantages("no discount", lambda paid, v, after, going, gamma, lam: (paid, v, after, going, 1.0, lam)),
    in_advantages("discount twice", lambda paid, v, after, going, gamma, lam: (paid, v, after, going, gamma**2, lam)),
    Mutant("later entropy missing", own(PPO, where="loss", kl="full", whiten=False)),
    Mutant("advantages normalised", own(PPO, where="loss", kl="full")),
    in_problem("temperature x 2", own(PPO), lambda right: replace(right, temperature=2 * right.temperature)),
    in_prior("prior ignored", lambda p: torch.where(p > -torch.inf, 0.0, p).log_softmax(-1), PPO),
)
CORNER = planted("entropy negative", own(PPO), PolicyGradient, "_divergence", negative_kl)
"""Its ascent ends in whichever corner is near, and not in the best one, which is the mistake's answer."""
MUTANTS = (
    *OF_Q,
    *OF_PPO,
    Mutant("policy without time", own("soft_reinforce", natural=False, stationary=True)),
)

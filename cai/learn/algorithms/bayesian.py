"""Learners that know what they do not know: K-learning and posterior sampling, and one that does not use it.

Before every episode a finite-horizon problem is solved on the beliefs (``beliefs``), E the posterior's mean:

    certainty equivalence   Q_t = E μ + Σ E P V_{t+1}                  V = 1/β log Σ p(a|s) exp(βQ)   π ∝ p exp(βQ)
    K-learning              K_t = E μ + β_l/2 Var μ + Σ E P V_{t+1}    V = 1/β_l log Σ p exp(β_l K)   π ∝ p exp(β_l K)
    posterior sampling      Q_t = μ' + Σ P' V_{t+1}, sampled           V = max_a Q                    π: argmax Q

with β_l = β √l in episode l. Sources: O'Donoghue, Osband & Ionescu (2020), Making sense of reinforcement learning and
probabilistic inference, tables 1 to 3, in the wording of others, as the paper itself was out of reach: there the
bonus is 1/β times the cumulant generating function of μ, for a Gaussian β/2 Var μ. O'Donoghue (2021), Variational
Bayesian reinforcement learning with regret bounds; Osband, Russo & Van Roy (2013), (More) efficient reinforcement
learning via posterior sampling. Here the prior p(a|s) stays inside the logarithm, as everywhere in cai: where the
number of actions is the same in all states that changes no policy. What is believed is one slice for all times; a
terminal reward counts as part of the last action's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Unpack, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault
from cai.learn.beliefs import BeliefOptions, Beliefs, any_state, beliefs_of, nothing_seen, observed
from cai.learn.learned_policies import DiscretePolicy, draw
from cai.learn.problem import Metrics, Problem, State
from cai.learn.result import Learned
from cai.learn.settings import POSITIVE, check, whole
from cai.learn.soft_values import log_policy, state_value
from cai.learn.training import parted, train
from cai.simulate.rollout import roll
from cai.simulate.simulator import EnvState, Simulator
from cai.support.memory import TENSOR, require_room
from cai.world.spaces import Space


@dataclass(frozen=True)
class PlanningModel:
    """One finite world to plan in, made out of beliefs.

    Attributes:
        reward: ``[S, A]``, reward units.
        transitions: p(s'|s, a) of the states that may follow, ``[S, A, J]``.
        alpha: the temperature of its values and its policy, reward units; None for a maximum.
    """

    reward: Float[Tensor, "S A"]
    transitions: Float[Tensor, "S A J"]
    alpha: float | None


@runtime_checkable
class Imagination(Protocol):
    """How beliefs, and the mean and deviation of μ, ``[S, A]``, become one world to plan an episode in."""

    def model(
        self, beliefs: Beliefs, mean: Tensor, deviation: Tensor, episode: int, alpha: float | None
    ) -> PlanningModel:
        """Return that world; the first episode is 1."""


@dataclass(frozen=True)
class Certainty:
    """Plan as if the posterior's mean were the truth: what inference as usually written does with the unknown."""

    def model(
        self, beliefs: Beliefs, mean: Tensor, deviation: Tensor, episode: int, alpha: float | None
    ) -> PlanningModel:
        """Return the mean world, at the problem's own temperature."""
        return PlanningModel(mean, beliefs.transitions(), alpha)


@dataclass(frozen=True)
class Optimism:
    """Plan with the bonus of K-learning, which is what is unknown about the reward; β_l = β √l."""

    beta: float = 1.0
    name: str = "k_learning"

    def __post_init__(self) -> None:
        check(self, beta=POSITIVE)

    def model(
        self, beliefs: Beliefs, mean: Tensor, deviation: Tensor, episode: int, alpha: float | None
    ) -> PlanningModel:
        """Return the mean world with bonuses, at the temperature 1/β_l."""
        beta = self.beta * episode**0.5
        return PlanningModel(mean + beta / 2 * deviation**2, beliefs.transitions(), 1 / beta)


@dataclass(frozen=True)
class Sampling:
    """Plan in one world that may be true: Thompson's idea."""

    def model(
        self, beliefs: Beliefs, mean: Tensor, deviation: Tensor, episode: int, alpha: float | None
    ) -> PlanningModel:
        """Return a world drawn from the posterior, to be solved without softness."""
        return PlanningModel(mean + deviation * torch.randn_like(mean), beliefs.sampled_transitions(), None)


@dataclass(frozen=True)
class Bayesian:
    """A learner by beliefs; see ``k_learning``, ``posterior_sampling`` and ``certainty_equivalence``."""

    name: str
    imagines: Imagination
    batch: int = 1
    spread: float = 1.0
    noise: float = 1.0
    following: Tensor | None = None
    budget: int = 10_000
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        check(self, batch=whole(), spread=POSITIVE, noise=POSITIVE)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return the prior, and the plan of the first episode."""
        states, actions, _ = _finite(self.name, problem.simulator)
        following = any_state(states.size) if self.following is None else self.following
        values = nothing_seen(following, actions.size)
        return None, {**values, "log_pi": self._plan(problem, values, 1)}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Live an episode by the plan, learn from it, and plan the next."""
        states, actions, _ = _finite(self.name, problem.simulator)
        log_pi = self._log_pi(problem, state)
        rollout = roll(
            problem.simulator, lambda env_state, t: actions.pack(actions.split(draw(log_pi(env_state.state, t))))
        )
        values = observed(state.values, rollout, states, actions)
        values = {**values, "log_pi": self._plan(problem, values, state.updates + 2)}
        known = float((values["visits"] > 0).to(self.dtype).mean())
        metrics = {"return": float(rollout.returns.mean()), "pairs_seen": known}
        return replace(state, steps=state.steps + rollout.steps, updates=state.updates + 1, values=values), metrics

    def policy(self, problem: Problem, state: State) -> DiscretePolicy:
        """Return the plan of the next episode."""
        return DiscretePolicy(problem.simulator, self._log_pi(problem, state), problem.simulator.horizon)

    def _plan(self, problem: Problem, values: dict[str, Tensor], episode: int) -> Float[Tensor, "T S A"]:
        states, actions, horizon = _finite(self.name, problem.simulator)
        size = f"a plan for A = {actions.size:,} actions in S = {states.size:,} states at T = {horizon:,} times"
        require_room(self.name, size, horizon * (8 * states.size * actions.size + TENSOR))
        beliefs = beliefs_of(values)
        model = self.imagines.model(beliefs, *beliefs.reward(self.spread, self.noise), episode, problem.temperature)
        everywhere = states.pack(states.split(torch.arange(states.size)))
        v, log_policies = torch.zeros_like(beliefs.over, dtype=self.dtype), []
        for t in range(horizon - 1, -1, -1):
            ahead = torch.where(beliefs.following >= 0, v[beliefs.following], 0.0)
            q = model.reward + problem.gamma * (model.transitions * ahead.unsqueeze(1)).sum(-1)
            log_prior = problem.simulator.log_prior(everywhere, t)
            log_policies.append(log_policy(q, log_prior, model.alpha))
            v = torch.where(beliefs.over, 0.0, state_value(q, log_prior, model.alpha))
        return torch.stack(log_policies[::-1])

    def _log_pi(self, problem: Problem, state: State) -> Callable[[Any, Any], Tensor]:
        states, _, _ = _finite(self.name, problem.simulator)
        table = state.values["log_pi"]
        return partial(_rows_of, states, table)


def _rows_of(states: Space, table: Tensor, s: Any, t: Any) -> Tensor:
    return table[t, states.join(states.unpack(s))]


def _finite(name: str, simulator: Simulator) -> tuple[Space, Space, int]:
    spaces, horizon = simulator.variables.spaces, simulator.horizon
    if spaces is None or horizon is None or simulator.timed:
        wrong = {"states or actions that are not finite": spaces is None, "no horizon": horizon is None}
        seen = next((words for words, is_so in wrong.items() if is_so), "slices that differ over time")
        raise fault(f"{name}, world", seen, "finite states and actions, a horizon, and slices that are all the same")
    return *spaces, horizon


def k_learning(
    world: Any,
    *,
    beta: float = 1.0,
    **options: Unpack[BeliefOptions],
) -> Learned:
    """Learn by K-learning: ``K_t = E μ + β_l/2 Var μ + E P V_{t+1}``, ``π ∝ p(a|s) exp(β_l K)``, ``β_l = β √l``.

    The bonus β_l/2 Var μ grows with the uncertainty of the mean reward μ. K is optimistic: it exceeds the optimal Q in
    expectation, and the softmax policy explores over the whole horizon (O'Donoghue et al. 2020, table 3).

    Args:
        world: a world with finite states and actions and a horizon.
        beta: β of the first episode, 1/reward units.
        options: of the beliefs and the training; see ``BeliefOptions``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    return _believing("k_learning", Optimism(beta), world, options)


def posterior_sampling(
    world: Any,
    **options: Unpack[BeliefOptions],
) -> Learned:
    """Learn by posterior sampling (PSRL): draw a world from the posterior, and act optimally in it for an episode.

    ``(μ', P') ~ p(μ, P | data)``, ``π_t = argmax_a μ' + P' V_{t+1}`` (Osband, Russo & Van Roy 2013).

    Args:
        world: a world with finite states and actions and a horizon.
        options: of the beliefs and the training; see ``BeliefOptions``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    return _believing("posterior_sampling", Sampling(), world, options)


def certainty_equivalence(
    world: Any,
    *,
    temperature: float | None = None,
    batch: int = 1,
    **options: Unpack[BeliefOptions],
) -> Learned:
    """Learn by planning with the posterior mean of rewards and dynamics, and no bonus for uncertainty.

    ``Q_t = E μ + E P V_{t+1}``, ``π = argmax_a Q``; at a temperature ``π ∝ p(a|s) exp(Q/α)``, which is soft Q-learning
    on beliefs (O'Donoghue et al. 2020, table 2). The beliefs are those of ``k_learning``.

    Args:
        world: a world with finite states and actions and a horizon.
        temperature: α > 0, reward units; None for the hard learner.
        batch: the number of episodes between two plans.
        options: of the beliefs and the training; see ``BeliefOptions``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    return _believing("certainty_equivalence", Certainty(), world, options, temperature, batch)


def _believing(
    name: str,
    imagines: Imagination,
    world: Any,
    options: BeliefOptions,
    temperature: float | None = None,
    batch: int = 1,
) -> Learned:
    """Learn by planning on beliefs."""
    believed, training = parted(options, ("spread", "noise", "following"))
    algorithm = Bayesian(name, imagines, batch, budget=options.get("steps", 10_000), **believed)
    return train(algorithm, world, temperature=temperature, **training)

"""The natural policy gradient on a table, with a critic that every transition teaches.

On a softmax table the Fisher matrix takes the visits out of the policy gradient (Kakade 2001, A natural policy
gradient; Cen et al. 2022, Fast global convergence of natural policy gradient methods with entropy regularization,
equation 18), and what is left of a step is

    Q̂(s,a) ← mean of r + γ V̂(s') over all transitions seen,    V̂(s) = Σ_a π(a|s) (Q̂(s,a) - α log π(a|s)/p(a|s))
    log π ← (1 - η) log π + η (log p + Q̂/α)

At η = 1 it is soft policy iteration. The targets are expectations under π itself, so that transitions of any earlier
policy teach the critic as well as new ones: on a table it is the least-squares critic (Lagoudakis & Parr 2003). Where
the slices do not depend on the time, a transition teaches every Q̂_t. Without a temperature a step is
``log π ← log π + k Q̂/max|Q̂|``, k the number of the step: growing steps come to the optimum (Xiao 2022, On the
convergence rates of policy gradient methods).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cai.errors import fault
from cai.learn.actor import Actor, actor_for
from cai.learn.functions import named, part
from cai.learn.learned_policies import draw
from cai.learn.problem import Metrics, Problem, State, require_finite
from cai.learn.settings import FLOATING, SWITCH, check, number, whole
from cai.learn.soft_values import policy_value
from cai.learn.tallies import Tally, nothing_seen, tally_of
from cai.simulate.rollout import Rollout, roll
from cai.simulate.simulator import EnvState


@dataclass(frozen=True)
class NaturalGradient:
    """The natural policy gradient on a table; see ``reinforce``.

    Attributes:
        batch: episodes before each step.
        lr: η.
        explore: the share of actions drawn from the prior, so that every action is seen.
        stationary: one table for all times.
    """

    batch: int = 100
    lr: float = 1.0
    explore: float = 0.1
    stationary: bool = False
    budget: int = 1_000_000
    dtype: torch.dtype = torch.float64
    name: str = "reinforce"

    def __post_init__(self) -> None:
        shares = {"lr": number(0, 1), "explore": number(0, 1)}
        check(self, batch=whole(), stationary=SWITCH, dtype=FLOATING, **shares)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return θ = 0, so that π = p, and that nothing was seen."""
        if self.stationary and problem.simulator.timed:
            expected = "False: a table each time"
            raise fault(f"{self.name}, stationary", "True, and slices that differ over time", expected)
        return None, {"theta": self._actor(problem).function.init(), **named("tally", vars(nothing_seen()))}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw a batch of episodes, value the policy, and move it."""
        theta, seen = state.values["theta"], Tally(**part(state.values, "tally"))
        rollout = self._episodes(problem, theta)
        seen = seen.and_also(self._tally(problem, rollout))
        prior = _all_priors(problem)
        logits = theta.view(-1, *prior.shape[-2:])
        q, v = self._critic(problem, (prior + logits).log_softmax(-1), prior, seen, len(rollout.rewards))
        if problem.temperature is not None:
            moved = torch.lerp(logits, q / problem.temperature, self.lr)
        else:
            moved = logits + (state.updates + 1) * q / q.abs().max().clamp(min=torch.finfo(q.dtype).tiny)
        values = {"theta": moved.flatten(), **named("tally", vars(seen))}
        metrics = {"return": float(rollout.returns.mean()), "value": v}
        return replace(state, steps=state.steps + rollout.steps, updates=state.updates + 1, values=values), metrics

    def policy(self, problem: Problem, state: State) -> Any:
        """Return π."""
        return self._actor(problem).policy(state.values["theta"])

    def _episodes(self, problem: Problem, theta: Tensor) -> Rollout:
        actor, simulator, space = self._actor(problem), problem.simulator, problem.actions

        def choose(env_state: EnvState, t: int) -> Any:
            x, prior = actor.reads(env_state)
            pi = (prior + actor.function(theta, x)).softmax(-1)
            return space.pack(space.split(draw(((1 - self.explore) * pi + self.explore * prior.exp()).log())))

        rollout = roll(simulator, choose)
        require_finite(rollout.rewards)
        return rollout

    def _tally(self, problem: Problem, rollout: Rollout) -> Tally:
        """Count the transitions, over (t, s, a) where the slices differ; r_T belongs to no slice of a stationary one."""
        simulator, space, T = problem.simulator, problem.actions, len(rollout.rewards)
        kept = torch.ones(T, dtype=torch.bool)
        if self.stationary and simulator.terminal is not None:
            kept = torch.arange(T) != (simulator.horizon or 0) - 1
        return tally_of(simulator, rollout, space.join(space.unpack(rollout.actions)), kept, self._sliced(problem))

    def _critic(
        self, problem: Problem, log_pi: Tensor, prior: Tensor, seen: Tally, longest: int
    ) -> tuple[Tensor, float]:
        """Return Q̂ of π, ``[T, S, A]``, backward in time; and the largest V̂ at the start, reward units.

        One table for all times has the values of as many steps as the longest episode.
        """
        T, shape = len(log_pi), log_pi.shape[-2:]
        slices = seen.by_time(T, shape.numel()) if self._sliced(problem) else [seen]
        q, v = torch.zeros_like(log_pi), torch.zeros_like(log_pi[0, :, 0])
        for t in reversed(range(T if T > 1 else longest)):
            row = min(t, T - 1)
            q[row] = slices[min(t, len(slices) - 1)].mean(v, problem.gamma, shape)
            v = policy_value(q[row], log_pi[row], prior[min(row, len(prior) - 1)], problem.temperature)
        return q, float(v.max())

    def _sliced(self, problem: Problem) -> bool:
        simulator = problem.simulator
        return not self.stationary and (simulator.timed or simulator.terminal is not None)

    def _actor(self, problem: Problem) -> Actor:
        return actor_for(problem, None, self.stationary)


def _all_priors(problem: Problem) -> Tensor:
    """Return log p(a|s) of every state, ``[T, S, A]`` where it depends on the time, else ``[1, S, A]``."""
    simulator = problem.simulator
    states = simulator.variables.state_space
    assert states is not None
    every = states.pack(states.split(torch.arange(states.size)))
    times = range(simulator.horizon or 1) if simulator.timed else range(1)
    return torch.stack([simulator.log_prior(every, t) for t in times])

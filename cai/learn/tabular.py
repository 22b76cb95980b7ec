"""Q-learning and soft Q-learning on a table, from whole episodes, the last step first.

    Q(s,a) ← Q(s,a) + lr (r + γ V(s') - Q(s,a))

With a finite horizon the table has a time, Q_t(s,a). Going backward through each batch of episodes lets a reward reach
the start at once. Where c of the samples share an entry, their mean counts c times, at most wholly.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cai.learn.acting import DiscretePolicy, draw
from cai.learn.functions import Table
from cai.learn.problem import Metrics, Problem, State
from cai.learn.soft_values import log_policy, state_value
from cai.simulate.rollout import Rollout, roll
from cai.simulate.simulator import Scene

Schedule = Callable[[Tensor], Tensor]
"""The step size of an entry, of how often it was visited."""


def polynomial(n: Tensor) -> Tensor:
    """Return n^-0.7: its sum diverges, its sum of squares does not."""
    return n.clamp(min=1) ** -0.7


@dataclass(frozen=True)
class Tabular:
    """Q-learning on a table; with ``soft`` soft Q-learning; see ``q_learning`` and ``soft_q_learning``."""

    name: str
    soft: bool
    batch: int
    lr: float | Schedule
    explore: float
    behaviour: Any
    value_gradient: float
    stationary: bool
    max_steps: int | None
    budget: int
    dtype: torch.dtype = torch.float64

    def init(self, problem: Problem) -> tuple[Scene | None, dict[str, Tensor]]:
        """Return Q = 0, and that nothing was visited."""
        q = self._table(problem).init()
        return None, {"q": q, "visits": torch.zeros_like(q)}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw a batch of episodes, and go backward through it."""
        simulator, table = problem.simulator, self._table(problem)
        space, behave = simulator.signature.action_space, self._behaviour(problem, state)
        assert space is not None
        found = roll(simulator, behave, self.max_steps)
        q, visits = state.values["q"].clone(), state.values["visits"].clone()
        actions = space.join(space.unpack(found.actions))
        wrong = self._backward(problem, table, found, actions, q.view(-1, table.out), visits.view(-1, table.out))
        values = {"q": q, "visits": visits}
        metrics = {"td_error": wrong, "return": float(found.returns.mean())}
        return replace(state, steps=state.steps + found.steps, updates=state.updates + 1, values=values), metrics

    def policy(self, problem: Problem, state: State) -> DiscretePolicy:
        """Return the (soft-)greedy policy of Q."""
        table = self._table(problem)
        return DiscretePolicy(problem.simulator, self._log_pi(problem, state), table.horizon)

    def _backward(
        self, problem: Problem, table: Table, found: Rollout, actions: Tensor, q: Tensor, visits: Tensor
    ) -> float:
        """Update Q, ``[rows, A]``, in place; return the mean |δ|, reward units."""
        alpha, simulator = problem.alpha if self.soft else None, problem.simulator
        T, total = len(found.rewards), 0.0
        for t in range(T - 1, -1, -1):
            here = found.alive[t]
            last = here & (~found.alive[t + 1] if t + 1 < T else torch.ones_like(here))
            state, following = at(found.states, t, here), at(found.states, t + 1, here)
            row, row_next = table.inputs(state, t), table.inputs(following, t + 1)
            over = (last & (found.terminated if table.horizon is None else torch.ones_like(last)))[here]
            v = state_value(q[torch.where(over, 0, row_next)], simulator.log_prior(following, min(t + 1, T - 1)), alpha)
            delta = found.rewards[t][here] + problem.gamma * torch.where(over, 0.0, v) - q[row, actions[t][here]]
            self._update(q, visits, row, actions[t][here], delta, simulator.log_prior(state, t), alpha)
            total += float(delta.abs().sum())
        return total / max(found.steps, 1)

    def _update(
        self, q: Tensor, visits: Tensor, row: Tensor, a: Tensor, delta: Tensor, log_prior: Tensor, alpha: float | None
    ) -> None:
        A = q.shape[1]
        cell = row * A + a
        count = torch.zeros_like(q).view(-1).index_add_(0, cell, torch.ones_like(delta))
        visits += count.view_as(q)
        mean = torch.zeros_like(q).view(-1).index_add_(0, cell, delta) / count.clamp(min=1)
        lr = self.lr(visits.view(-1)) if callable(self.lr) else torch.full_like(mean, self.lr)
        moved = (count * lr).clamp(max=1.0) * mean
        if self.value_gradient:  # ∇V(s) = π(·|s)
            pi = log_policy(q[row], log_prior, alpha).exp()
            spread = torch.zeros_like(q).index_add_(0, row, pi * delta.unsqueeze(-1))
            moved = moved - self.value_gradient * (
                lr.view_as(q) * spread / count.view_as(q).sum(-1, keepdim=True).clamp(min=1)
            ).view(-1)
        q += moved.view_as(q)

    def _behaviour(self, problem: Problem, state: State) -> Callable[[Scene, int], Any]:
        if self.behaviour is not None:
            return lambda scene, t: self.behaviour.sample(scene.state, t)
        simulator, log_pi = problem.simulator, self._log_pi(problem, state)
        space = simulator.signature.action_space
        assert space is not None

        def choose(scene: Scene, t: int) -> Any:
            prior = simulator.log_prior(scene.state, t)
            pi = (1 - self.explore) * log_pi(scene.state, t).exp() + self.explore * prior.exp()
            return space.pack(space.split(draw(pi.log())))

        return choose

    def _log_pi(self, problem: Problem, state: State) -> Callable[[Any, Any], Tensor]:
        table, alpha = self._table(problem), problem.alpha if self.soft else None
        q = state.values["q"]

        def log_pi(s: Any, t: Any) -> Tensor:
            return log_policy(table(q, table.inputs(s, t)), problem.simulator.log_prior(s, t), alpha)

        return log_pi

    def _table(self, problem: Problem) -> Table:
        simulator = problem.simulator
        space = simulator.signature.action_space
        assert space is not None
        return Table(simulator, space.size, None if self.stationary else simulator.horizon)


def at(states: Any, t: int, mask: Tensor) -> Any:
    """Return the states of time t in the copies of a mask."""
    if isinstance(states, dict):
        return {name: one[t][mask] for name, one in states.items()}
    return states[t][mask]

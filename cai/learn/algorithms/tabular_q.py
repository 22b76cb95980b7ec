"""Q-learning and soft Q-learning on a table, from batches of whole episodes, the last time first.

    Q_t(s,a) ← Q_t(s,a) + lr (r + γ V_{t+1}(s') - Q_t(s,a))

With a finite horizon the table has a time. Where the slices do not depend on it, a transition seen once teaches every
Q_t; going backward in time lets a reward reach the start at once. One table for all times goes backward, too. Where c
transitions share an entry and are learned from together, their mean counts c times, at most wholly.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cai.errors import fault
from cai.learn.functions import Table
from cai.learn.learned_policies import DiscretePolicy, draw
from cai.learn.problem import Metrics, Problem, State, require_finite
from cai.learn.settings import SWITCH, Kind, check, number, whole
from cai.learn.soft_values import log_policy, state_value
from cai.learn.tallies import Tally, tally_of
from cai.simulate.rollout import Rollout, roll
from cai.simulate.simulator import EnvState, Simulator

ANY = -1
"""Stands for every time in place of one."""
Schedule = Callable[[Tensor], Tensor]
"""The step size of an entry, of how often it was visited."""


def recent(n: Tensor) -> Tensor:
    """Return 5/(4 + n): a mean in which the n-th visit weighs about n^4, so that early targets are soon forgotten.

    (H + 1)/(H + n) at H = 4 (Jin et al. 2018, Is Q-learning provably efficient?, equation 4.1).
    """
    return 5 / (4 + n)


def polynomial(n: Tensor) -> Tensor:
    """Return n^-0.6, for one table of all times: 1/n needs a number of visits that is exponential in 1/(1 - γ).

    (Even-Dar & Mansour 2003, Learning rates for Q-learning.)
    """
    return n**-0.6


@dataclass(frozen=True)
class Tabular:
    """Q-learning on a table; see ``q_learning``."""

    batch: int = 500
    lr: float | Schedule = recent
    explore: float = 0.1
    behaviour: Any = None
    value_gradient: float = 0.0
    stationary: bool = False
    max_steps: int | None = None
    budget: int = 2_000_000
    dtype: torch.dtype = torch.float64
    name: str = "q_learning"

    def __post_init__(self) -> None:
        bounds: dict[str, Kind] = {"explore": number(0, 1), "value_gradient": number(-math.inf), "stationary": SWITCH}
        bounds |= {} if callable(self.lr) else {"lr": number()}
        check(self, ("max_steps",), batch=whole(), max_steps=whole(), **bounds)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return Q = 0, and that nothing was visited."""
        if self.stationary and problem.simulator.timed:
            raise fault(
                f"{self.name}, stationary", "True, and slices that differ over time", "False: a table each time"
            )
        q = self._table(problem).init()
        return None, {"q": q, "visits": torch.zeros_like(q)}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw a batch of episodes, and go backward through it."""
        simulator, table = problem.simulator, self._table(problem)
        space = problem.actions
        rollout = roll(simulator, self._behaviour(problem, state), self.max_steps)
        actions = space.join(space.unpack(rollout.actions))
        q, visits = state.values["q"].clone(), state.values["visits"].clone()
        require_finite(rollout.rewards)
        wrong = self._backward(problem, table, self._tallies(simulator, rollout, actions), q, visits)
        values = {"q": q, "visits": visits}
        metrics = {"td_error": wrong, "return": float(rollout.returns.mean())}
        return replace(state, steps=state.steps + rollout.steps, updates=state.updates + 1, values=values), metrics

    def policy(self, problem: Problem, state: State) -> DiscretePolicy:
        """Return the (soft-)greedy policy of Q."""
        table = self._table(problem)
        return DiscretePolicy(problem.simulator, self._log_pi(problem, state), table.horizon)

    def _backward(
        self, problem: Problem, table: Table, tallies: dict[int, Tally], flat: Tensor, counts: Tensor
    ) -> float:
        """Update Q, ``[T, S, A]``, in place; return the mean |δ| over its updated entries, reward units."""
        alpha, T, A = problem.temperature, table.horizon, table.out
        q, visits = flat.view(T or 1, -1, A), counts.view(T or 1, -1, A)
        prior = problem.simulator.log_prior
        wrong = []
        for t in range((T or max(tallies, default=-1) + 1) - 1, -1, -1):
            tally, row = tallies.get(ANY, tallies.get(t)), 0 if T is None else t
            if tally is None:  # no episode has reached this time
                continue
            v = torch.zeros(q.shape[1], dtype=q.dtype)  # after the last time
            if T is None or t + 1 < T:
                v = state_value(q[0 if T is None else t + 1], prior(self._all(problem), t + 1), alpha)
            delta = tally.mean(v, problem.gamma, q.shape[1:]) - q[row]
            count = tally.count(q.shape[1:])
            visits[row] += count
            lr = self.lr(visits[row].clamp(min=1)) if callable(self.lr) else torch.full_like(count, self.lr)
            moved = (count * lr).clamp(max=1.0) * torch.where(count > 0, delta, 0.0)
            if self.value_gradient:  # ∇V(s) = π(·|s)
                pi = log_policy(q[row], prior(self._all(problem), t), alpha).exp()
                moved = moved - self.value_gradient * pi * moved.sum(-1, keepdim=True)
            q[row] += moved
            wrong.append(delta[count > 0].abs().mean())
        return float(torch.stack(wrong).nanmean()) if wrong else 0.0

    def _tallies(self, simulator: Simulator, rollout: Rollout, actions: Tensor) -> dict[int, Tally]:
        """Return the tallies that teach Q by time: one table for all times learns from each in turn.

        A table for each time learns from one tally of ``ANY`` time, or where slices differ (r_T makes the last one
        differ), from its own.
        """
        terminal, times = simulator.terminal, torch.arange(len(rollout.rewards))
        every, one = torch.ones_like(times, dtype=torch.bool), self.stationary or simulator.horizon is None
        if not one and not simulator.timed and terminal is None:
            return {ANY: tally_of(simulator, rollout, actions, every)}
        # r_T belongs to no slice of a stationary problem.
        kept = times != (simulator.horizon or 0) - 1 if one and terminal is not None else every
        assert simulator.variables.spaces is not None
        states, space = simulator.variables.spaces
        tally = tally_of(simulator, rollout, actions, kept, times)
        return dict(enumerate(tally.by_slice(len(times), states.size * space.size)))

    def _behaviour(self, problem: Problem, state: State) -> Callable[[EnvState, int], Any]:
        if self.behaviour is not None:
            return lambda env_state, t: self.behaviour.sample(env_state.state, t)
        simulator, log_pi = problem.simulator, self._log_pi(problem, state)
        space = problem.actions

        def choose(env_state: EnvState, t: int) -> Any:
            prior = simulator.log_prior(env_state.state, t)
            pi = (1 - self.explore) * log_pi(env_state.state, t).exp() + self.explore * prior.exp()
            return space.pack(space.split(draw(pi.log())))

        return choose

    def _log_pi(self, problem: Problem, state: State) -> Callable[[Any, Any], Tensor]:
        return partial(_log_pi, problem.simulator, self._table(problem), state.values["q"], problem.temperature)

    def _table(self, problem: Problem) -> Table:
        simulator = problem.simulator
        space = problem.actions
        return Table(simulator, space.size, None if self.stationary else simulator.horizon)

    def _all(self, problem: Problem) -> Any:
        """Return every state, in order."""
        states = problem.simulator.variables.state_space
        assert states is not None
        return states.pack(states.split(torch.arange(states.size)))


def _log_pi(simulator: Simulator, table: Table, q: Tensor, alpha: float | None, s: Any, t: Any) -> Tensor:
    return log_policy(table(q, table.inputs(s, t)), simulator.log_prior(s, t), alpha)

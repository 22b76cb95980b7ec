"""Fitted Q-iteration, hard and soft: from a fixed batch of transitions, with any regressor.

    y_i = r_i + γ V_φ(s'_i)        φ ← argmin Σ_i ‖Q_φ(s_i, a_i) - y_i‖²        V hard or soft (see ``soft_values``)

With a horizon it is backward induction: the k-th iteration fits Q_{T-k} to targets with V_{T-k+1}, V_T = 0, on all the
data, since a slice is the same at all times; where slices differ over time, on the data of its own time. Without one,
or with ``stationary``, it iterates one Q towards the fixed point, γ < 1. Nothing is sampled once the data are there, so
the data may come from any policy.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor

from cai.errors import fault
from cai.learn.batch import Transitions, checked, drawn, of_values, to_values
from cai.learn.learned_policies import DiscretePolicy
from cai.learn.problem import Metrics, Problem, State
from cai.learn.regressors import Regressor, regressor_of
from cai.learn.result import Learned
from cai.learn.settings import SWITCH, check, whole
from cai.learn.soft_values import log_policy, state_value
from cai.learn.stationary import times
from cai.learn.training import Options, chosen, train
from cai.simulate.rollout import variables_simulated
from cai.simulate.simulator import EnvState
from cai.world.definition import World
from cai.world.spec import read


def backup_targets(rewards: Tensor, terminated: Tensor, v_next: Tensor, gamma: float) -> Tensor:
    """Return y = r + γ V(s'), where the world has ended r alone; ``[N]`` each, reward units."""
    return rewards + times(torch.where(terminated, 0.0, gamma).to(v_next.dtype), v_next)


@dataclass(frozen=True)
class Fitted:
    """Fitted Q-iteration; see ``fitted_q``. The training loop's steps are iterations.

    Attributes:
        data: what is learned from; None draws ``transitions`` of them from the prior.
        stationary: whether one Q stands for all times.
        budget: iterations.
    """

    regressor: Regressor
    data: Transitions | None
    transitions: int
    batch: int
    stationary: bool
    budget: int
    name: str = "fitted_q"

    def __post_init__(self) -> None:
        check(self, batch=whole(), stationary=SWITCH)

    @property
    def dtype(self) -> torch.dtype:
        """The regressor's."""
        return self.regressor.dtype

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return the data, and no fit yet: the policy is the prior."""
        _require(self.name, problem, self.stationary)
        simulator = problem.simulator
        data = drawn(simulator, self.transitions) if self.data is None else self.data
        return None, to_values(checked(simulator, data))

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Make the targets of one time, and fit them."""
        t = 0 if self.stationary else (problem.simulator.horizon or 0) - 1 - state.updates
        following = t if self.stationary else t + 1
        data, before = self._data(problem, state, t), state.values.get(f"q.{following}")
        if not len(data):
            raise fault(
                f"{self.name}, data",
                f"no transition for t = {t}",
                "at least one, because this slice differs from the others",
            )
        y = data.rewards
        if before is not None:  # else nothing is to come
            value = self._value(problem, state, data.next_states, following)
            y = backup_targets(y, data.terminated, value, problem.gamma)
        fitted = self.regressor.fit(problem.simulator, data, y.to(self.dtype), before)
        values = {**state.values, f"q.{t}": fitted}
        metrics = {"target": float(y.mean()), "transitions": float(len(data))}
        return replace(state, steps=state.steps + 1, updates=state.updates + 1, values=values), metrics

    def policy(self, problem: Problem, state: State) -> DiscretePolicy:
        """Return the (soft-)greedy policy of the fits; at times that have none yet, the prior."""
        horizon = None if self.stationary else problem.simulator.horizon
        return DiscretePolicy(problem.simulator, partial(self._log_pi, problem, state), horizon)

    def _log_pi(self, problem: Problem, state: State, s: Any, t: Any) -> Tensor:
        time = 0 if self.stationary else int(t)
        log_prior, q = problem.simulator.log_prior(s, time), self._q(problem, state, s, time)
        if q is None:
            return log_prior
        return log_policy(q.to(log_prior.dtype), log_prior, problem.temperature)

    def _value(self, problem: Problem, state: State, states: Any, t: int) -> Tensor:
        q = self._q(problem, state, states, t)
        assert q is not None
        return state_value(q, problem.simulator.log_prior(states, t), problem.temperature)

    def _q(self, problem: Problem, state: State, states: Any, t: int) -> Tensor | None:
        fitted = state.values.get(f"q.{t}")
        if fitted is None:
            return None
        return self.regressor.q(problem.simulator, fitted, self._data(problem, state, t), states)

    def _data(self, problem: Problem, state: State, t: int) -> Transitions:
        """Return the transitions that are data for the slice at time t."""
        data, horizon = of_values(state.values), problem.simulator.horizon
        if problem.simulator.timed:
            return data.where(data.times == t)
        if problem.simulator.terminal is None or horizon is None:
            return data
        last = data.times == horizon - 1  # only these get the terminal reward
        return data.where(last if t == horizon - 1 and not self.stationary else ~last)


def _require(name: str, problem: Problem, stationary: bool) -> None:
    if problem.simulator.variables.action_space is None:
        raise fault(f"{name}, world", "actions that are not finite", "finitely many: Q has a number for each")
    if stationary and not problem.gamma < 1:
        raise fault(f"{name}, gamma", f"{problem.gamma:g}, one Q for all times", "a discount below 1")
    if stationary and problem.simulator.timed:
        raise fault(f"{name}, stationary", "True, and slices that differ over time", "False: one Q for each time")


def fitted_q(
    world: Any,
    *,
    data: Transitions | Any = None,
    regressor: Any = None,
    temperature: float | None = None,
    gamma: float | None = None,
    iterations: int | None = None,
    stationary: bool | None = None,
    epochs: int = 100,
    lr: float = 0.01,
    batch: int = 100,
    **options: Unpack[Options],
) -> Learned:
    """Learn by (soft) fitted Q-iteration: ``φ ← argmin Σ_i ‖Q_φ(s_i, a_i) - r_i - γ V_φ(s'_i)‖²``.

    (Ernst et al. 2005; Riedmiller 2005.) V is ``max_a Q(s,a)``; at a temperature ``α log Σ_a p(a|s) exp(Q(s,a)/α)``,
    and the policy is ``p(a|s) exp((Q(s,a) - V(s))/α)``. Least squares average the target over next states, so with
    enough data the result is the rule VARIATIONAL. The data are a fixed set from any policy; ``transitions(rollout)``
    makes them.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        data: the transitions; unless given, ``steps`` of them are drawn from the prior.
        regressor: hidden widths or a torch module (features -> ``[*, A]``), or an unfitted object with fit(x, y) and
            predict(x), x = features and one-hot action. Unless given: a table of means where states are finite, else
            widths (64, 64). The table forbids actions that were never tried in a state, and avoids states without data.
        temperature: α > 0, reward units; None for the hard learner.
        gamma: the discount; the world's own unless given, and 0.99 where that is 1 and Q is stationary.
        iterations: the horizon unless given; for a stationary Q the smallest k with γ^k ≤ 0.01.
        stationary: one Q for all times; only without a horizon, unless given.
        epochs: steps of Adam in each iteration, for a network.
        lr: its first step size; it falls to 0 over the epochs.
        batch: copies of the world that draw the data; fewer where whole episodes would not fit into the steps.
        options: of the training; see ``Options``. ``steps`` is the number of transitions to draw, 100 000 unless given;
            the steps of a log are iterations, those of the result are transitions.

    Raises:
        WorldError: the world, the data or an argument is not valid.
    """
    world, options = chosen(world, options)
    for setting, value in (("steps", options.get("steps", 1)), ("epochs", epochs), ("batch", batch)):
        _require_whole(setting, value, 1)
    n, horizon = _transitions(data, options), read(world).horizon if isinstance(world, World) else None
    stationary = horizon is None if stationary is None else stationary
    if not stationary and horizon is None:
        raise fault("fitted_q, stationary", "False, without a horizon", "True: without a horizon there is no last time")
    if gamma is None and stationary and (not isinstance(world, World) or read(world).discount == 1):
        gamma = 0.99
    most = _enough(read(world).discount if gamma is None else gamma) if stationary else horizon
    settings: Any = {**options, "steps": most if iterations is None else iterations}
    _require_whole("iterations", settings["steps"], 1, None if stationary else horizon)
    finite = variables_simulated(world).state_space is not None
    fitting = regressor_of("fitted_q", regressor, finite, epochs, lr, options.get("seed", 0))
    copies = max(1, min(batch, n // (horizon or 1)))  # so that each sees whole episodes
    algorithm = Fitted(fitting, data, n, copies, stationary, settings["steps"])
    learned = train(algorithm, world, temperature=temperature, gamma=gamma, **settings)
    return _counted(learned, n)


def _transitions(data: Any, options: Options) -> int:
    """Return how many transitions there are, or are to be drawn."""
    if data is None:
        return options.get("steps", 100_000)
    if not isinstance(data, Transitions):
        raise fault("fitted_q, data", f"a {type(data).__name__}", "Transitions, as transitions(rollout) takes them")
    if "steps" in options:
        raise fault("fitted_q, steps", f"{options['steps']}, beside data", "only one of the two")
    return len(data)


def _enough(gamma: Any) -> int:
    number = isinstance(gamma, int | float) and 0 < gamma < 1
    return math.ceil(math.log(0.01) / math.log(gamma)) if number else 1


def _counted(learned: Learned, n: int) -> Learned:
    """Count environment steps in place of iterations: the prior needs none, and the first fit needs all of them."""
    history = tuple(replace(row, steps=n if row.updates else 0) for row in learned.history)
    return replace(learned, steps=n, history=history)


def _require_whole(setting: str, value: Any, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        expected = f"a whole number, at least {least}" + ("" if most is None else f" and at most {most}")
        raise fault(f"fitted_q, {setting}", f"{value!r}", expected)

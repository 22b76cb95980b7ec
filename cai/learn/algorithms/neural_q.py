"""Q-learning and soft Q-learning with a network: replay, a target network, n-step and double targets.

    θ ← θ + lr ∇Q_θ(s,a) (r + γ V_θ'(s') - Q_θ(s,a)),     V soft or hard (``soft_values``)

Mnih et al. 2015; soft: Haarnoja et al. 2017, section 3. This drops ∇V_θ; ``value_gradient`` restores it. The network
sees features less their running mean, over their running deviation (raw ones lie in the ring): what differs between
actions is small beside V, and is found late, or never, where the features differ in scale.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cai.errors import fault
from cai.learn import replay
from cai.learn.functions import Adam, Function, function_of, named, part
from cai.learn.learned_policies import DiscretePolicy, draw
from cai.learn.problem import Metrics, Problem, State, require_finite
from cai.learn.settings import SWITCH, check, number, whole
from cai.learn.soft_values import log_policy, policy_value, q_loss, state_value
from cai.simulate.normalise import Moments, moments
from cai.simulate.simulator import EnvState, Simulator, clock, cut


@dataclass(frozen=True)
class Batch:
    """n sampled transitions over up to n-step; see ``NeuralQ.sample``. Rewards hold what is between, discounted."""

    x: Tensor
    prior: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    x_next: Tensor
    prior_next: Tensor


def accumulated(seen: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Return the count, the mean and the sum of squared deviations of features with ``x [B, F]`` added."""
    every = Moments(seen["count"], seen["mean"], seen["square"]).merged(moments(x))
    return {"count": torch.as_tensor(every.count), "mean": every.mean, "square": every.square}


def scaled(seen: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return ``(x - mean) / deviation``; a feature that never moved is 0."""
    deviation = (seen["square"] / seen["count"]).sqrt()
    return torch.where(deviation > 0, (x - seen["mean"]) / deviation.clamp(min=1e-8), 0.0)


@dataclass(frozen=True)
class NeuralQ:
    """Q-learning with a network; see ``q_learning``."""

    network: Any = (64, 64)
    batch: int = 8
    lr: float = 1e-3
    settle: bool = True
    explore: float = 0.05
    behaviour: Any = None
    value_gradient: float = 0.0
    double: bool = True
    n_step: int = 10
    minibatch: int = 128
    updates: int = 4
    warmup: int = 1000
    capacity: int = 100_000
    polyak: float = 0.005
    average: float = 0.001
    max_steps: int | None = None
    budget: int = 100_000
    dtype: torch.dtype = torch.float32
    name: str = "q_learning"

    def __post_init__(self) -> None:
        if callable(self.lr):
            raise fault(f"{self.name}, lr", "a function", "a number, for a network")
        counts = dict.fromkeys(("batch", "n_step", "minibatch", "updates", "capacity", "max_steps"), whole())
        shares = dict.fromkeys(("explore", "polyak", "average"), number(0, 1))
        check(self, ("max_steps",), lr=number(), value_gradient=number(-math.inf), **counts, **shares)
        check(self, warmup=whole(0), settle=SWITCH, double=SWITCH)

    def init(self, problem: Problem) -> tuple[EnvState, dict[str, Tensor]]:
        """Return the copies at their starts, θ and θ', the features' moments, and an empty ring."""
        env_state, function = problem.simulator.begin(), self._function(problem)
        theta = function.init()
        x, prior = self._seen(problem, env_state)
        zeros = torch.zeros(len(x))
        if self.capacity // len(x) < self.n_step:
            expected = f"n_step = {self.n_step} steps of all {len(x)} copies, at least"
            raise fault(f"{self.name}, capacity", f"{self.capacity}", expected)
        row = {"x": x, "prior": prior, "action": zeros.long(), "reward": zeros, "ratio": zeros, "terminated": zeros}
        ring = replay.empty(self.capacity // len(x), {**row, "ended": zeros, "x_next": x, "prior_next": prior})
        nothing = {"count": torch.zeros(()), "mean": torch.zeros_like(x[0]), "square": torch.zeros_like(x[0])}
        learned = {**named("adam", self._adam.init(theta)), **named("seen", accumulated(nothing, x))}
        return env_state, {"theta": theta, "target": theta, "mean": theta, **learned, **ring}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Take one step in every copy, and then a few of θ."""
        assert state.env_state is not None
        env_state, row = self._act(problem, state)
        taken = len(row["reward"])
        seen = accumulated(part(state.values, "seen"), row["x_next"])
        values = {**state.values, **replay.add(state.values, row), **named("seen", seen)}
        steps, loss = state.steps + taken, 0.0
        ready = steps >= self.warmup and steps >= self.n_step * taken
        updates = self.updates if ready else 0
        share = max(1 - steps / self.budget, 0.0) if self.settle else 1.0
        for _ in range(updates):
            values, loss = self._learn(problem, values, share)
        after = replace(state, steps=steps, updates=state.updates + updates, env_state=env_state, values=values)
        return after, {"loss": loss}

    def policy(self, problem: Problem, state: State) -> DiscretePolicy:
        """Return the (soft-)greedy policy of the running mean of θ, which wavers less than Q_θ."""
        function, theta, alpha = self._function(problem), state.values["mean"], problem.temperature
        seen = part(state.values, "seen")
        return DiscretePolicy(problem.simulator, partial(_log_pi, problem.simulator, function, theta, seen, alpha))

    def sample(self, values: dict[str, Tensor], problem: Problem) -> Batch:
        """Draw transitions, and add up the rewards of their next n steps, the KL on the way paid."""
        row, copy = replay.places(values, self.minibatch, self.n_step)
        ahead = torch.arange(self.n_step).unsqueeze(-1)
        reward, ratio, ended = (replay.read(values, name, row + ahead, copy) for name in ("reward", "ratio", "ended"))
        going = torch.cat((torch.ones_like(ended[:1]), (1 - ended[:-1]).cumprod(0)))  # whether step i is of the episode
        paid = reward - (problem.temperature or 0.0) * torch.where(ahead > 0, ratio, 0.0)
        n = going.sum(0).long()
        last = row + n - 1

        def at(name: str, place: Tensor) -> Tensor:
            return replay.read(values, name, place, copy)

        discount = problem.gamma**n * (1 - at("terminated", last))
        here = (at("x", row), at("prior", row), at("action", row))
        total = (going * problem.gamma**ahead * paid).sum(0)
        return Batch(*here, total, discount, at("x_next", last), at("prior_next", last))

    def _act(self, problem: Problem, state: State) -> tuple[EnvState, dict[str, Tensor]]:
        simulator, function, env_state = problem.simulator, self._function(problem), state.env_state
        assert env_state is not None
        space = problem.actions
        with torch.no_grad():
            x, prior = self._seen(problem, env_state)
            seen = scaled(part(state.values, "seen"), x)
            log_pi = log_policy(function(state.values["theta"], seen), prior, problem.temperature)
            if self.behaviour is not None:
                number = space.join(space.unpack(self.behaviour.sample(env_state.state, 0)))
            else:
                share = self._exploring(state)
                number = draw(((1 - share) * log_pi.exp() + share * prior.exp()).log())
            after, reward = simulator.step(env_state, space.pack(space.split(number)))
            require_finite(reward)
            after = cut(after, self.max_steps)
            ratio = (log_pi - prior).gather(-1, number.unsqueeze(-1)).squeeze(-1).clamp(min=-20.0)
            row = {"x": x, "prior": prior, "action": number, "reward": reward.to(x.dtype), "ratio": ratio}
            row |= {"terminated": after.terminated.to(x.dtype), "ended": after.ended.to(x.dtype)}
            row["x_next"], row["prior_next"] = self._seen(problem, after)
            return simulator.restart(after), row

    def _seen(self, problem: Problem, env_state: EnvState) -> tuple[Tensor, Tensor]:
        """Return the features and log p(a|s), nats, ``[B, …]`` both."""
        t = clock(problem.simulator, env_state)
        return self._function(problem).inputs(env_state.state, t), problem.simulator.log_prior(env_state.state, t)

    def _exploring(self, state: State) -> float:
        """Return the share of actions from the prior: all at first, ``explore`` after a tenth of the budget."""
        return max(self.explore, 1 - (1 - self.explore) * state.steps / (0.1 * self.budget))

    def _learn(self, problem: Problem, values: dict[str, Tensor], share: float) -> tuple[dict[str, Tensor], float]:
        function, alpha, batch = self._function(problem), problem.temperature, self.sample(values, problem)
        x, theta = (
            scaled(part(values, "seen"), torch.cat((batch.x, batch.x_next))),
            values["theta"].detach().requires_grad_(),
        )
        q, q_next = function(theta, x).split(len(batch.x))
        with torch.no_grad():
            slow = function(values["target"], x[len(batch.x) :])
            chosen = log_policy(q_next if self.double else slow, batch.prior_next, alpha)
            target = batch.reward + batch.discount * policy_value(slow, chosen, batch.prior_next, alpha)
        q_a = q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        loss = q_loss(q_a, target, state_value(q, batch.prior, alpha), self.value_gradient)
        (gradient,) = torch.autograd.grad(loss, theta)
        theta, moments = self._adam(theta, gradient, part(values, "adam"), share)
        moved = {"theta": theta, "target": torch.lerp(values["target"], theta, self.polyak)}
        moved["mean"] = torch.lerp(values["mean"], theta, self.average)
        return {**values, **moved, **named("adam", moments)}, float(((target - q_a.detach()) ** 2).mean())

    @property
    def _adam(self) -> Adam:
        return Adam(self.lr, clip=10.0)

    def _function(self, problem: Problem) -> Function:
        space = problem.actions
        return function_of(problem.simulator, space.size, self.network, activation=torch.tanh)


def _log_pi(
    simulator: Simulator,
    function: Function,
    theta: Tensor,
    seen: dict[str, Tensor],
    alpha: float | None,
    s: Any,
    t: Any,
) -> Tensor:
    q = function(theta, scaled(seen, function.inputs(s, t)))
    return log_policy(q, simulator.log_prior(s, t), alpha)

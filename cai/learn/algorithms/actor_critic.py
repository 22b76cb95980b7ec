"""Soft actor-critic: a critic for the soft values of the actor, an actor that climbs them, and a price α of its KL.

    critic        θ_k ← θ_k - lr ∇ ½ (Q_k(s,a) - r - γ V(s'))²,     k = 1, 2
    actor         φ ← φ + lr ∇ E_s V(s),     V(s) = E_{a ~ π_φ(·|s)} [min_k Q_k(s,a) - α log π_φ(a|s)/p(a|s)]
    temperature   log α ← log α + lr (KL(π_φ ‖ p) - κ), if it is learned

Haarnoja et al. 2018 a (arXiv:1801.01290), b (arXiv:1812.05905); over finitely many actions E_a is a sum (Christodoulou
2019, arXiv:1910.07207), else one differentiable draw. V(s') is read off slowly following copies of the critics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Unpack

import torch
from torch import Tensor

from cai.errors import fault
from cai.learn import replay
from cai.learn.action_expectations import Drawn, Expectation, Summed
from cai.learn.action_heads import ActionHead, Continuous, Discrete, actor_of
from cai.learn.functions import Adam, Network, begun, descend_all, width_of
from cai.learn.problem import Metrics, Problem, State, require_finite
from cai.learn.result import Learned
from cai.learn.settings import FLOATING, POSITIVE, SWITCH, check, number, whole
from cai.learn.training import Options, train
from cai.simulate.simulator import EnvState, Simulator, clock, cut, drawing, seeded
from cai.world.definition import World
from cai.world.spec import read

GAMMA = 0.99  # where neither the caller nor the world discounts
ROW = ("x", "prior", "action", "reward", "terminated", "x_next", "prior_next")  # of the replay ring


def critic_loss(q_tm1: Tensor, target: Tensor) -> Tensor:
    """Return Σ_k ½ mean (Q_k(s,a) - target)², ``q_tm1 [2, N]``, ``target [N]``, reward units squared."""
    return 0.5 * ((q_tm1 - target) ** 2).mean(-1).sum()


@dataclass(frozen=True)
class Parts:
    """What is learned on one simulator: π_φ's head and function, and the critics as they are read and averaged."""

    actor: ActionHead
    function: Network
    critic: Network
    over: Expectation


@lru_cache(maxsize=1)  # cached: it is needed at every step, and reading the prior runs the world
def parts_of(simulator: Simulator, hidden: tuple[int, ...]) -> Parts:
    """Return actor and critics for a simulator's actions; the last layer of the actor is 0 at first: π = p, or nearly.

    Raises:
        WorldError: the actions are neither finite nor one variable that is Gaussian, flat, or uniform on an interval.
    """
    actor, width = actor_of(simulator), width_of(simulator)
    function = Network(simulator, (width, *hidden, actor.width), last=0.0)
    if isinstance(actor, Discrete):
        critic = Network(simulator, (width, *hidden, actor.width))
        return Parts(actor, function, critic, Summed(critic))
    assert isinstance(actor, Continuous)
    critic = Network(simulator, (width + actor.dimensions, *hidden, 1))
    return Parts(actor, function, critic, Drawn(actor, critic))


@dataclass(frozen=True)
class ActorCritic:
    """Soft actor-critic; see ``sac``. At no temperature it is learned, towards ``target_kl``."""

    target_kl: float | None = None
    batch: int = 8
    lr: float = 2e-3
    settle: bool = True
    network: Sequence[int] = (64, 64)
    minibatch: int = 128
    updates: int = 4
    warmup: int = 1000
    capacity: int = 100_000
    polyak: float = 0.02
    average: float = 0.02
    hold: int = 1
    max_steps: int | None = None
    budget: int = 100_000
    dtype: torch.dtype = torch.float32
    name: str = "sac"

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("batch", "minibatch", "updates", "capacity", "hold", "max_steps"), whole())
        kinds = {"lr": number(), "polyak": number(0, 1), "average": number(0, 1), "target_kl": POSITIVE}
        if not isinstance(self.network, Sequence) or not all(isinstance(n, int) and n > 0 for n in self.network):
            raise fault(f"{self.name}, network", f"{self.network!r}", "the widths of hidden layers")
        check(self, ("max_steps", "target_kl"), settle=SWITCH, warmup=whole(0), dtype=FLOATING, **counts, **kinds)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return the copies at their starts, φ, θ and its slow copy, log α = 0, and an empty ring."""
        parts, env_state = self._parts(problem), problem.simulator.begin()
        phi, theta, log_alpha = parts.function.init(), parts.critic.init(2), torch.zeros(())
        x, prior = self._seen(parts, env_state)
        code = parts.actor.draw(parts.function(phi, x), prior)
        zeros = torch.zeros(len(x))
        row = {"x": x, "prior": prior, "action": parts.over.carried(code), "reward": zeros, "terminated": zeros}
        ring = replay.empty(-(-self.capacity // len(x)), {**row, "x_next": x, "prior_next": prior})
        learned = begun(Adam(self.lr), actor=phi, critic=theta, log_alpha=log_alpha)
        return env_state, {**learned, "mean": phi, "target": theta, "noise": torch.zeros((), dtype=torch.long), **ring}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Take one step in every copy, and then a few of φ, θ and α."""
        parts = self._parts(problem)
        env_state, row, noise = self._act(problem, parts, state)
        values = {**state.values, **replay.add(state.values, row), "noise": noise}
        steps, metrics = state.steps + len(row["reward"]), Metrics()
        updates = self.updates if steps >= self.warmup else 0
        share = min(1.0, 2 * max(1 - steps / self.budget, 0.0)) if self.settle else 1.0
        for _ in range(updates):
            values, metrics = self._learn(problem, parts, values, share)
        return replace(state, steps=steps, updates=state.updates + updates, env_state=env_state, values=values), metrics

    def policy(self, problem: Problem, state: State) -> Any:
        """Return the policy of the slowly following φ."""
        parts = self._parts(problem)
        return parts.actor.policy(parts.function, state.values["mean"], None)

    def _act(self, problem: Problem, parts: Parts, state: State) -> tuple[EnvState, dict[str, Tensor], Tensor]:
        simulator, env_state = problem.simulator, state.env_state
        assert env_state is not None
        with torch.no_grad():
            x, prior = self._seen(parts, env_state)
            code, noise = self._draw(parts, parts.function(state.values["actor"], x), prior, state)
            after, reward = simulator.step(env_state, parts.actor.values(code))
            require_finite(reward)
            x_next, prior_next = self._seen(parts, after)
        row = {"x": x, "prior": prior, "action": parts.over.carried(code), "reward": reward.to(x.dtype)}
        row |= {"terminated": after.terminated.to(x.dtype), "x_next": x_next, "prior_next": prior_next}
        return simulator.restart(cut(after, self.max_steps)), row, noise

    def _draw(self, parts: Parts, out: Tensor, prior: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Draw the next actions, and return the seed of their noise: another one after each ``hold`` steps."""
        noise = state.values["noise"]
        if self.hold == 1:
            return parts.actor.draw(out, prior), noise
        if state.steps // len(out) % self.hold == 0:
            noise = torch.randint(2**31 - 1, ())
        with drawing(seeded(int(noise))):
            return parts.actor.draw(out, prior), noise

    def _learn(
        self, problem: Problem, parts: Parts, values: dict[str, Tensor], share: float
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Update critics, actor and temperature once, each by the others as they were."""
        alpha = float(values["log_alpha"].exp()) if problem.temperature is None else problem.temperature
        place = replay.places(values, self.minibatch)
        x, prior, action, reward, terminated, x_next, prior_next = (replay.read(values, name, *place) for name in ROW)
        phi, theta = values["actor"].detach().requires_grad_(), values["critic"].detach().requires_grad_()
        out, out_next = parts.function(phi, torch.cat((x, x_next))).split(len(x))
        with torch.no_grad():
            v_t, _ = parts.over.value(values["target"], x_next, out_next, prior_next, alpha)
            target = reward + problem.gamma * (1 - terminated) * v_t
        q_tm1, v_tm1, kl = parts.over.taken_and_value(theta, x, action, out, prior, alpha)
        wrong, value = critic_loss(q_tm1, target), v_tm1.mean()
        down, up = torch.autograd.grad(wrong - value, (theta, phi))  # neither loss depends on the other's parameters
        price, gradients = kl.detach().mean(), {"critic": down, "actor": up}
        if problem.temperature is None:
            gradients["log_alpha"] = self._target_kl(problem) - price
        moved = descend_all(values, Adam(self.lr), share, **gradients)
        moved["target"] = torch.lerp(values["target"], moved["critic"], self.polyak)
        moved["mean"] = torch.lerp(values["mean"], moved["actor"], self.average)
        metrics = {"critic_loss": wrong.item(), "value": value.item(), "kl_to_prior": price.item()}
        return {**values, **moved}, {**metrics, "temperature": alpha}

    def _target_kl(self, problem: Problem) -> float:
        if self.target_kl is not None:
            return self.target_kl
        space = problem.simulator.variables.action_space
        if space is not None:
            return 0.15 * math.log(space.size)
        return problem.simulator.variables.actions[0].shape.numel() * (1 + math.log(2))

    def _seen(self, parts: Parts, env_state: EnvState) -> tuple[Tensor, Tensor]:
        """Return the features and what the actor must know of the prior, ``[B, …]`` both."""
        t = clock(parts.function.simulator, env_state)
        x, prior = parts.function.inputs(env_state.state, t), parts.actor.prior(env_state.state, t)
        return x, prior.expand(len(x), *prior.shape[1:])

    def _parts(self, problem: Problem) -> Parts:
        simulator: Any = problem.simulator
        return parts_of(simulator, tuple(self.network))


def sac(
    world: Any,
    *,
    temperature: float | None = None,
    target_kl: float | None = None,
    gamma: float | None = None,
    batch: int = 8,
    updates: int = 4,
    minibatch: int = 128,
    warmup: int = 1000,
    capacity: int = 100_000,
    lr: float = 2e-3,
    settle: bool = True,
    polyak: float = 0.02,
    average: float = 0.02,
    hold: int = 1,
    network: Sequence[int] = (64, 64),
    max_steps: int | None = None,
    dtype: torch.dtype = torch.float32,
    **options: Unpack[Options],
) -> Learned:
    """Learn by soft actor-critic: maximise ``E Σ_t γ^t (r_t - α log π(a_t|s_t)/p(a_t|s_t))`` (Haarnoja et al. 2018).

    The policy does not depend on the time. On a finite horizon it is the best stationary policy for an infinite
    horizon.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α > 0, reward units; None: learned, such that the mean KL to the prior is ``target_kl``. Then α is
            in the metrics, and the result is measured in nats only at ``measured_at``, like that of a hard learner.
        target_kl: κ of a learned temperature, nats a step; D (1 + log 2) unless given, for actions uniform in D
            dimensions: the same as an entropy of -D on [-1, 1]^D (Haarnoja et al. 2018 b); for A actions 0.15 log A.
        gamma: the discount; the world's own unless given, and 0.99 where that is 1.
        batch: copies of the world, one step of each at a time.
        updates: updates of all parameters after each step of the copies.
        minibatch: transitions in each update.
        warmup: environment steps before the first update; until then actions are drawn almost from the prior.
        capacity: transitions in the replay buffer.
        lr: the step size of Adam, for actor, critics and log α.
        settle: let the step size decay to 0 over the second half of the steps, so that the policy settles.
        polyak: how far the target critics move to the critics at each update.
        average: the returned policy is a moving average of the learned parameters with this rate; 1 returns the last
            ones.
        hold: steps for which the noise of the actions stays the same (as with gSDE, Raffin et al. 2021): exploration
            gets somewhere where actions add up. What is learned stays the optimum for noise of its own at each step.
        network: hidden widths, of actor and critics.
        max_steps: cut an episode off after so many steps, and bootstrap there; never unless given.
        dtype: of the parameters.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    if target_kl is not None and temperature is not None:
        raise fault("sac, target_kl", f"{target_kl!r} beside a fixed temperature", "with temperature=None only")
    replayed: dict[str, Any] = {"batch": batch, "updates": updates, "minibatch": minibatch, "warmup": warmup}
    followed: dict[str, Any] = {"capacity": capacity, "lr": lr, "settle": settle, "polyak": polyak, "average": average}
    followed |= {
        "hold": hold,
        "network": network,
        "max_steps": max_steps,
        "budget": options.get("steps", 100_000),
        "dtype": dtype,
    }
    algorithm = ActorCritic(target_kl, **replayed, **followed)
    own = read(world).discount if isinstance(world, World) else 1.0
    gamma = gamma if gamma is not None else own if own < 1 else GAMMA
    return train(algorithm, world, temperature=temperature, gamma=gamma, **options)

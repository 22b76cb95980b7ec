"""REINFORCE and the soft policy gradient: one estimator, and what is put in the place of the return.

    1. sample τ_i ~ π_θ    2. Ĵ(θ) = 1/N Σ_i Σ_t log π_θ(a_it|s_it) Ψ_it    3. θ ← θ + lr ∇Ĵ

Ψ is the return Σ_t r_t (Williams 1992); with the reward to go, Σ_{t'≥t} γ^(t'-t) r_t'; less a baseline, which changes
no expectation. The soft gradient pays the KL to the prior out of the reward, r_t - α log π(a_t|s_t)/p(a_t|s_t), and so
climbs α ELBO(π) (Levine 2018, section 4.1; the -1 of the lectures has mean zero and is left out). As everywhere in
practice, γ discounts Ψ_t but not the time t itself: below 1 the steps late in a life weigh more than in the gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.errors import fault
from cai.learn.action_heads import actor_of
from cai.learn.functions import Adam, Affine, Function, Table, function_of, named, part
from cai.learn.problem import Metrics, Problem, State, require_finite
from cai.learn.result import Learned
from cai.learn.settings import FLOATING, SWITCH, check, number, whole
from cai.learn.training import Options, train
from cai.simulate.rollout import Rollout, roll
from cai.simulate.simulator import EnvState, but_last


def score_function_loss(log_pi: Tensor, weights: Tensor) -> Tensor:
    """Return ``-Ĵ = -1/N Σ_i Σ_t log π(a_it|s_it) Ψ_it``, whose gradient is REINFORCE's; ``[T, N]`` both."""
    return -(log_pi * weights).sum() / log_pi.shape[1]


def clipped_loss(log_pi: Tensor, old: Tensor, weights: Tensor, clip: float) -> Tensor:
    """Return the clipped surrogate ``-1/N Σ min(ρ Ψ, clip(ρ, 1 ± ε) Ψ)``, ρ = π/π_old (Schulman et al. 2017, eq. 7)."""
    ratio = (log_pi - old).exp()
    return -torch.minimum(ratio * weights, ratio.clamp(1 - clip, 1 + clip) * weights).sum() / log_pi.shape[1]


def rewards_to_go(rewards: Tensor, gamma: float) -> Tensor:
    """Return Σ_{t'≥t} γ^(t'-t) r_t', ``[T, N]``, reward units."""
    total, returns = torch.zeros_like(rewards[0]), []
    for r_t in rewards.flip(0):
        total = r_t + gamma * total
        returns.append(total)
    return torch.stack(returns[::-1])


def mean_baseline(to_go: Tensor, alive: Tensor) -> Tensor:
    """Return for each time the mean over the *other* trajectories alive then: independent of its own action."""
    n = alive.sum(1, keepdim=True)
    others = ((to_go * alive).sum(1, keepdim=True) - to_go) / (n - 1).clamp(min=1)
    return torch.where(alive & (n > 1), others, 0.0)


@dataclass(frozen=True)
class PolicyGradient:
    """REINFORCE, at a temperature the soft policy gradient; see ``reinforce``."""

    reward_to_go: bool = True
    baseline: str | None = "mean"
    batch: int = 100
    lr: float = 0.05
    settle: bool = True
    average: float = 1.0
    network: Any = None
    epochs: int = 1
    clip: float | None = None
    stationary: bool | None = None
    budget: int = 1_000_000
    dtype: torch.dtype = torch.float64
    name: str = "reinforce"

    def __post_init__(self) -> None:
        switches = dict.fromkeys(("reward_to_go", "settle", "stationary"), SWITCH)
        numbers = {"lr": number(), "average": number(0, 1), "clip": number()}
        check(self, ("clip", "stationary"), batch=whole(), epochs=whole(), dtype=FLOATING, **numbers, **switches)
        if self.baseline not in (None, "mean", "value"):
            raise fault(f"{self.name}, baseline", f"{self.baseline!r}", "None, 'mean' or 'value'")
        if self.epochs != 1 and self.clip is None:
            expected = "1; or clip=0.2, since later epochs are off-policy"
            raise fault(f"{self.name}, epochs", f"{self.epochs!r} without clip", expected)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return θ of policy, of its running mean and of the baseline, and the moments of their steps."""
        theta, critic = self._actor(problem).init(), self._critic(problem).init()
        moments = {**named("adam", self._adam.init(theta)), **named("critic_adam", self._adam.init(critic))}
        return None, {"theta": theta, "average": theta, "critic": critic, **moments}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Take the three steps once."""
        function, actor = self._actor(problem), actor_of(problem.simulator)
        theta = state.values["theta"]
        codes: list[Tensor] = []
        inputs: list[Tensor] = []
        priors: list[Tensor] = []

        def choose(env_state: EnvState, t: int) -> Any:
            x, prior = function.inputs(env_state.state, t), actor.prior(env_state.state, t)
            code = actor.draw(function(theta, x), prior)
            codes.append(code)
            inputs.append(x)
            priors.append(prior)
            return actor.values(code)

        with torch.no_grad():
            rollout = roll(problem.simulator, choose)
        x, prior, code = torch.stack(inputs), torch.stack(priors), torch.stack(codes)

        def log_ratio(theta: Tensor) -> Tensor:
            return torch.where(rollout.alive, actor.ratio(function(theta, x), prior, code), 0.0)

        with torch.no_grad():
            old = log_ratio(theta)
        require_finite(rollout.rewards)
        rewards = rollout.rewards.to(theta.dtype)
        paid = rewards if problem.temperature is None else rewards - problem.temperature * old
        weights, values = self._weights(problem, state, rollout, paid)
        values = {**state.values, **values}
        share = 1 - state.steps / self.budget if self.settle else 1.0
        for _ in range(self.epochs):
            values = self._ascend(values, log_ratio, old, weights, max(share, 0.0))
        values["average"] = torch.lerp(values["average"], values["theta"], self.average)
        metrics = {"kl_to_prior": float(old.sum() / rollout.rewards.shape[1]), "return": float(rollout.returns.mean())}
        return replace(state, steps=state.steps + rollout.steps, updates=state.updates + 1, values=values), metrics

    def policy(self, problem: Problem, state: State) -> Any:
        """Return π of the running mean of θ."""
        function = self._actor(problem)
        horizon = function.horizon if isinstance(function, Table | Affine) else None
        return actor_of(problem.simulator).policy(function, state.values["average"], horizon)

    def _ascend(self, values: dict[str, Tensor], log_ratio: Any, old: Tensor, weights: Tensor, share: float) -> Any:
        theta = values["theta"].detach().requires_grad_()
        log_pi = log_ratio(theta)
        loss = (
            score_function_loss(log_pi, weights) if self.clip is None else clipped_loss(log_pi, old, weights, self.clip)
        )
        (gradient,) = torch.autograd.grad(loss, theta)
        theta, moments = self._adam(theta, gradient, part(values, "adam"), share)
        return {**values, "theta": theta, **named("adam", moments)}

    def _weights(
        self, problem: Problem, state: State, rollout: Rollout, paid: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return Ψ, ``[T, N]``, and the baseline's next parameters."""
        to_go = rewards_to_go(paid, problem.gamma)
        returned = to_go if self.reward_to_go else to_go[0].expand_as(to_go)
        values: dict[str, Tensor] = {}
        if self.baseline == "mean":
            returned = returned - mean_baseline(returned * rollout.alive, rollout.alive)
        elif self.baseline == "value":
            values, baseline = self._regress(problem, state, rollout, to_go)
            returned = returned - baseline
        return torch.where(rollout.alive, returned, 0.0), values

    def _regress(
        self, problem: Problem, state: State, rollout: Rollout, to_go: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return V(s) as it was, ``[T, N]``, and its parameters a few steps closer to the rewards to go."""
        critic = self._critic(problem)
        times = torch.arange(len(to_go)).unsqueeze(-1)
        x = critic.inputs(but_last(rollout.states), times)
        theta, moments = state.values["critic"], part(state.values, "critic_adam")
        with torch.no_grad():
            before = critic(theta, x).squeeze(-1)
        for _ in range(10):
            theta = theta.detach().requires_grad_()
            wrong = torch.where(rollout.alive, critic(theta, x).squeeze(-1) - to_go, 0.0)
            (gradient,) = torch.autograd.grad((wrong**2).sum() / rollout.alive.sum(), theta)
            theta, moments = self._adam(theta, gradient, moments)
        return {"critic": theta, **named("critic_adam", moments)}, before

    @property
    def _adam(self) -> Adam:
        return Adam(self.lr)

    def _actor(self, problem: Problem) -> Function:
        width, model = actor_of(problem.simulator).width, problem.model
        if self.network is None and isinstance(model, LinearGaussian):
            centre = model.start_mean.to(torch.get_default_dtype())
            return Affine(model.states, centre, width, None if self.stationary else model.horizon)
        return self._function(problem, width, last=0.0)

    def _critic(self, problem: Problem) -> Function:
        return self._function(problem, 1)

    def _function(self, problem: Problem, out: int, last: float = 1.0) -> Function:
        simulator = problem.simulator
        if self.network is None and simulator.variables.state_space is not None:
            return Table(simulator, out, None if self.stationary else simulator.horizon)
        hidden = (64,) if self.network is None else self.network
        return function_of(simulator, out, hidden, last=last, activation=torch.tanh)


def reinforce(
    world: Any,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    reward_to_go: bool = True,
    baseline: str | None = "mean",
    batch: int = 100,
    lr: float = 0.05,
    settle: bool = True,
    average: float = 1.0,
    network: Sequence[int] | Any = None,
    epochs: int = 1,
    clip: float | None = None,
    stationary: bool | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[Options],
) -> Learned:
    """Learn by REINFORCE: ``θ ← θ + lr ∇ 1/N Σ_i (Σ_t log π_θ(a_it|s_it)) (Σ_t r_it)`` (Williams 1992).

    With ``reward_to_go=False, baseline=None`` it is exactly this; the defaults reduce the variance and keep the
    gradient. At a temperature it is the soft policy gradient, REINFORCE on ``r_t - α log π(a_t|s_t)/p(a_t|s_t)``; it
    maximises α ELBO(π): ``∇J = E Σ_t ∇log π(a_t|s_t) Σ_{t'≥t} (r_t' - α log π(a_t'|s_t')/p(a_t'|s_t'))`` (Levine 2018,
    section 4.1).

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α > 0, reward units; None for the hard learner.
        gamma: the discount of the reward to go; the world's own unless given.
        reward_to_go: weigh an action by the rewards after it only; it cannot change earlier ones.
        baseline: None, "mean" (of the other trajectories at the same time) or "value" (a learned V(s)).
        batch: N, the number of trajectories in each update.
        lr: the step size of Adam.
        settle: let the step size decay to 0 over the steps.
        average: the returned policy is a moving average of the learned parameters with this rate; 1 returns the last
            ones.
        network: hidden widths, or a torch module on the features. Unless given: a table where states are finite, an
            affine-Gaussian policy on a linear-Gaussian world.
        epochs: updates on each batch; more than 1 only with ``clip``.
        clip: ε of the clipped surrogate (PPO), None for the plain gradient.
        stationary: leave the time out of a table, or of an affine policy.
        dtype: of the parameters; float64 for tables, else float32.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    dtype = dtype or (torch.float64 if network is None else torch.float32)
    estimate: dict[str, Any] = {
        "reward_to_go": reward_to_go,
        "baseline": baseline,
        "batch": batch,
        "epochs": epochs,
        "clip": clip,
    }
    steps: dict[str, Any] = {"lr": lr, "settle": settle, "average": average, "budget": options.get("steps", 1_000_000)}
    algorithm = PolicyGradient(network=network, stationary=stationary, dtype=dtype, **estimate, **steps)
    return train(algorithm, world, temperature=temperature, gamma=gamma, **options)

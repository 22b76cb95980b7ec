"""The policy gradient: one estimator, and what is put in the place of the return.

    1. sample τ_i ~ π_θ    2. Ĵ(θ) = 1/N Σ_i Σ_t log π_θ(a_it|s_it) Ψ_it    3. θ ← θ + lr ∇Ĵ

Ψ is the return Σ_t r_t (Williams 1992); with the reward to go, Σ_{t'≥t} γ^(t'-t) r_t'; less a baseline, which changes
no expectation; or an advantage Â_t (Schulman et al. 2016). The soft gradient pays the KL to the prior out of the
reward, r_t - α log π(a_t|s_t)/p(a_t|s_t), and so climbs α ELBO(π) (Levine 2018, section 4.1; the -1 of the lectures has
mean zero and is left out). A ``KLObjective`` says where else the KL may go; REINFORCE, RLOO, GRPO and PPO differ in
nothing but these settings. As everywhere in practice, γ discounts Ψ_t but not the time t itself: below 1 the steps late
in a life weigh more than in the gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor

from cai.errors import fault
from cai.exact.kl.kl_objective import KLObjective
from cai.learn.actor import Actor
from cai.learn.advantages import (
    generalised_advantages,
    less_group_mean,
    less_others,
    over_group_deviation,
    rewards_to_go,
    whitened,
)
from cai.learn.algorithms.natural_gradient import is_natural, natural_gradient
from cai.learn.experience import Experience, next_steps, whole_episodes
from cai.learn.functions import begun, descend
from cai.learn.policy_search import PolicyOptions, PolicySearch, search_policy
from cai.learn.problem import Metrics, Problem, State
from cai.learn.result import Learned
from cai.learn.settings import SWITCH, check, number, whole
from cai.learn.surrogates import action_kl, clipped, score_function
from cai.simulate.simulator import EnvState

Rows = Sequence[Tensor]
"""x, prior, code, old log π/p, Ψ and weight, a row for each step, ``[M, …]``."""


@dataclass(frozen=True)
class PolicyGradient:
    """REINFORCE, RLOO, GRPO or PPO, by their settings; see ``reinforce``, ``rloo``, ``grpo`` and ``ppo``.

    Attributes:
        objective: where the KL goes, the baseline, and how advantages are normalised.
        reward_to_go: weigh an action by the rewards after it only.
        lam: λ of the advantages, where the baseline is a value.
        length: how many steps of each copy an update takes; None: whole episodes, in groups from the same start.
        epochs, minibatches: passes over the steps, and updates in each pass; ``critic_epochs`` passes for V.
    """

    objective: KLObjective
    name: str = "reinforce"
    batch: int = 100
    reward_to_go: bool = True
    lam: float = 1.0
    length: int | None = None
    epochs: int = 1
    minibatches: int = 1
    critic_epochs: int = 10

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("batch", "length", "epochs", "minibatches", "critic_epochs"), whole())
        check(self, ("length",), reward_to_go=SWITCH, lam=number(0, 1), **counts)
        if self.epochs * self.minibatches != 1 and self.objective.clip is None:
            seen = f"{self.epochs} and minibatches = {self.minibatches} without clip"
            raise fault(f"{self.name}, epochs", seen, "1; or clip=0.2, since later updates are off-policy")
        if self.batch % self._group:
            raise fault(f"{self.name}, batch", f"{self.batch}", f"whole groups of {self._group}")
        if self.length is not None and self.objective.baseline != "value":
            raise fault(f"{self.name}, length", f"{self.length}", "None: without a value, episodes are taken whole")

    def init(self, search: PolicySearch, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return θ of the baseline, if it is a value, and the moments of its steps."""
        values = dict[str, Tensor]()
        if self.objective.baseline == "value":
            critic = search.critic(problem)
            values = begun(search.adam(critic), critic=critic.init())
        return None if self.length is None else problem.simulator.begin(), values

    def step(self, search: PolicySearch, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Take the three steps once."""
        actor = search.actor(problem)
        env_state, seen = self._experience(actor, state)
        old, kl = self._divergence(actor, state.values["theta"], seen)
        values, rows = self._rows(search, problem, state, seen, old, kl)
        adam, share = search.adam(actor.function), search.share(state)
        for part in self._minibatches(rows, self.epochs):
            theta = values["theta"].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(problem, actor, theta, part), theta)
            values |= descend(values, "theta", gradient, adam, share)
        totals = {"kl_to_prior": old, "return": seen.rewards}
        metrics = {name: float(x.sum() / seen.episodes) for name, x in totals.items()}
        return replace(state, steps=state.steps + seen.steps, env_state=env_state, values=values), metrics

    def loss(self, problem: Problem, actor: Actor, theta: Tensor, rows: Rows) -> Tensor:
        """Return ``-Ĵ(θ) + α Σ KL``, the KL of each step where it is in the loss, reward units."""
        x, prior, code, old, psi, weight = rows
        out, clip = actor.function(theta, x), self.objective.clip
        log_ratio = actor.head.ratio(out, prior, code)
        gain = score_function(log_ratio, psi) if clip is None else clipped(log_ratio, old, psi, clip)
        if problem.temperature is not None and self.objective.where == "loss":
            kl = action_kl(self.objective.kl, actor.head, out, prior, log_ratio, old)
            gain = gain - problem.temperature * kl
        return -(weight * gain).sum()

    def _experience(self, actor: Actor, state: State) -> tuple[EnvState | None, Experience]:
        theta = state.values["theta"]
        if self.length is None:
            return None, whole_episodes(actor, theta, self._group)
        assert state.env_state is not None
        return next_steps(actor, theta, state.env_state, self.length)

    def _divergence(self, actor: Actor, theta: Tensor, seen: Experience) -> tuple[Tensor, Tensor]:
        """Return log π/p at each action and the estimate of the KL there, nats, ``[T, N]`` both."""
        with torch.no_grad():
            out = actor.function(theta, seen.x)
            old = actor.head.ratio(out, seen.prior, seen.code)
            kl = action_kl(self.objective.kl, actor.head, out, seen.prior, old, old)
        return torch.where(seen.acting, old, 0.0), torch.where(seen.acting, kl, 0.0)

    def _rows(
        self, search: PolicySearch, problem: Problem, state: State, seen: Experience, old: Tensor, kl: Tensor
    ) -> tuple[dict[str, Tensor], Rows]:
        """Return the values with the baseline's next ones, and the rows of the loss."""
        price = problem.temperature if self.objective.where == "reward" else None
        paid = seen.rewards if price is None else seen.rewards - price * kl
        values = dict(state.values)
        if self.objective.baseline == "value":
            values, psi = self._beside_values(search, problem, values, seen, paid)
        else:
            psi = self._beside_others(seen, paid, problem.gamma)
        if self.objective.scale == "batch_std":
            psi = whitened(psi, seen.acting)
        length = seen.acting.sum(0)
        lengths = {"none": torch.ones(()), "sequence": length, "batch": length.sum() / old.shape[1]}
        weight = 1 / (old.shape[1] * lengths[self.objective.length].to(psi.dtype)).expand_as(psi)
        return values, seen.rows(old, psi, weight)

    def _beside_others(self, seen: Experience, paid: Tensor, gamma: float) -> Tensor:
        """Return Ψ, what was paid less what the others were paid."""
        to_go = rewards_to_go(paid, gamma)
        returned = to_go if self.reward_to_go else to_go[0].expand_as(to_go)
        group, among = self._group if self._grouped else self.batch, seen.acting
        if self.objective.baseline == "leave_one_out":
            psi = less_others(returned, among if self.reward_to_go else torch.ones_like(among), group)
        else:
            psi = less_group_mean(returned, group) if self.objective.baseline == "group_mean" else returned
        return over_group_deviation(psi, returned, group) if self.objective.scale == "group_std" else psi

    def _beside_values(
        self, search: PolicySearch, problem: Problem, values: dict[str, Tensor], seen: Experience, paid: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return Ψ, beside V as it was, and V's parameters some steps closer to what was paid."""
        critic, horizon = search.critic(problem), problem.simulator.horizon
        later = seen.times + 1 if horizon is None else (seen.times + 1).clamp(max=horizon - 1)
        x = critic.inputs(seen.states, seen.times)
        with torch.no_grad():
            v = critic(values["critic"], x).squeeze(-1)
            v_next = critic(values["critic"], critic.inputs(seen.next_states, later)).squeeze(-1)
            v_next = torch.where(seen.worthless, 0.0, v_next)
            advantages = generalised_advantages(paid, v, v_next, seen.going, problem.gamma, self.lam)
        adam = search.adam(critic)
        rows = [part[seen.alive] for part in (x, advantages + v)]
        for at, target in self._minibatches(rows, self.critic_epochs):
            theta = values["critic"].detach().requires_grad_()
            loss = ((critic(theta, at).squeeze(-1) - target) ** 2).mean()
            values |= descend(values, "critic", torch.autograd.grad(loss, theta)[0], adam)
        return values, advantages if self.reward_to_go else rewards_to_go(paid, problem.gamma)[0] - v

    def _minibatches(self, rows: Rows, epochs: int) -> Iterator[Rows]:
        """Yield rows: all of them in each epoch, or a part after the other."""
        for _ in range(epochs):
            if self.minibatches == 1:
                yield rows
            else:
                for chosen in torch.randperm(len(rows[0])).chunk(self.minibatches):
                    yield [part[chosen] for part in rows]

    @property
    def _group(self) -> int:
        return self.objective.group or 1

    @property
    def _grouped(self) -> bool:
        return self.objective.group is not None


BASELINES: dict[str | None, Any] = {None: "none", "mean": "leave_one_out", "value": "value"}


def reinforce(
    world: Any,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    reward_to_go: bool = True,
    baseline: str | None = "mean",
    batch: int = 100,
    epochs: int | None = None,
    clip: float | None = None,
    natural: bool | None = None,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by REINFORCE: ``θ ← θ + lr ∇ 1/N Σ_i (Σ_t log π_θ(a_it|s_it)) (Σ_t r_it)`` (Williams 1992).

    With ``reward_to_go=False, baseline=None`` it is exactly this; the defaults reduce the variance and keep the
    gradient. At a temperature it is the soft policy gradient, REINFORCE on ``r_t - α log π(a_t|s_t)/p(a_t|s_t)``; it
    maximises α ELBO(π): ``∇J = E Σ_t ∇log π(a_t|s_t) Σ_{t'≥t} (r_t' - α log π(a_t'|s_t')/p(a_t'|s_t'))`` (Levine 2018,
    section 4.1).

    On a table the default is the *natural* gradient instead, with a critic that every transition teaches:
    ``log π ← (1 - lr) log π + lr (log p + Q̂/α)`` (Kakade 2001; see ``NaturalGradient``). It has the same optimum. The
    plain gradient learns each state and time from its own visits alone, weighed by how often it visits them: it needs
    a hundred times the steps on FrozenLake.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α > 0, reward units; None for the hard learner.
        gamma: the discount of the reward to go; the world's own unless given.
        reward_to_go: weigh an action by the rewards after it only; it cannot change earlier ones.
        baseline: None, "mean" (of the other trajectories at the same time) or "value" (a learned V(s)).
        batch: N, the number of trajectories in each update.
        epochs: updates on each batch; 1 unless given, and more only with ``clip``; 4 for the natural gradient.
        clip: ε of the clipped surrogate (PPO), None for the plain gradient.
        natural: follow the natural gradient, of which ``batch``, ``epochs`` and ``lr`` (1 unless given) are the
            settings; a table only. Unless given, a table does so if none of ``reward_to_go``, ``baseline``, ``clip``,
            ``network``, ``settle``, ``average`` and ``lr`` is given: with ``lr`` alone the gradient is the plain one.
        options: of the policy and the training; see ``PolicyOptions``. ``lr`` is 0.05 for the plain gradient unless
            given.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    plain = {"reward_to_go": not reward_to_go, "baseline": baseline != "mean", "clip": clip is not None}
    given = [name for name, differs in plain.items() if differs]
    if is_natural(natural, world, given, options):
        return natural_gradient(world, batch, epochs, options, temperature=temperature, gamma=gamma)
    if baseline not in BASELINES:
        raise fault("reinforce, baseline", f"{baseline!r}", "None, 'mean' or 'value'")
    objective = KLObjective(where="reward", baseline=BASELINES[baseline], clip=clip)
    method = PolicyGradient(objective, "reinforce", batch, reward_to_go, epochs=1 if epochs is None else epochs)
    known: PolicyOptions = {"lr": 0.05, **options}
    return search_policy(method, world, known, temperature=temperature, gamma=gamma)

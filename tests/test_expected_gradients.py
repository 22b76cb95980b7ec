"""The mean of every learner's sampled gradient is the exact one: all texts of a tiny world, differentiated by autograd.

A learner's first update from θ stores a tenth of its gradient in Adam's first moment. The exact gradients are written
out here from the papers, over all texts, and share no code with the learners.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import cai
from cai.learn.algorithms.flow_balance import TrajectoryBalance
from cai.learn.algorithms.policy_gradient import PolicyGradient
from cai.learn.algorithms.preferences import Preferences
from cai.learn.policy_search import PolicySearch
from cai.learn.problem import Algorithm
from cai.learn.training import first, problem_of, step
from tests.worlds import RandomWorld

pytestmark = pytest.mark.usefixtures("float64")
ALPHA, T, G = 0.4, 3, 3
BATCHES = 40


class Words(RandomWorld):
    """A deterministic world with one start and rewards at every step, whose text may end early: state 2 is the end."""

    def __init__(self) -> None:
        super().__init__(seed=5, S=3, A=2, K=1, horizon=T, holes=False)
        self.start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        self.successor = torch.tensor([[[[0], [1]], [[2], [0]], [[2], [2]]]])
        self.reward[0, 2] = 0.0
        self.last = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)

    def terminated(self, state: Tensor) -> Tensor:
        return state == 2


@dataclass(frozen=True)
class Texts:
    """All texts that differ before their end: visits ``[M, T]``, whether somebody acts, and rewards, ``[M, T]``."""

    times: Tensor
    states: Tensor
    actions: Tensor
    acting: Tensor
    rewards: Tensor
    log_ref: Tensor

    def log_pi(self, logits: Tensor, world: Words) -> Tensor:
        """log π of every token, ``[M, T]``, 0 where nobody acts."""
        table = (world.prior[0].log() + logits).log_softmax(-1)
        return torch.where(self.acting, table[self.times, self.states, self.actions], 0.0)


def texts(world: Words) -> Texts:
    found = dict[Any, Any]()
    for tokens in itertools.product(range(2), repeat=T):
        s, states, rewards = 0, [], []
        for a in tokens:
            states.append(s)
            rewards.append(float(world.reward[0, s, a, 0]))
            s = int(world.successor[0, s, a, 0])
        rewards[-1] += float(world.last[s])
        found.setdefault(tuple(a for a, at in zip(tokens, states, strict=True) if at != 2), (states, tokens, rewards))
    states, actions, rewards = zip(*found.values(), strict=True)
    states, actions, rewards = torch.tensor(states), torch.tensor(actions), torch.tensor(rewards, dtype=torch.float64)
    acting = states != 2
    prior = torch.where(acting, world.prior[0].log()[states, actions], 0.0)
    return Texts(torch.arange(T).expand_as(states), states, actions, acting, rewards, prior)


WORLD = Words()
ALL = texts(WORLD)
Exact = Callable[[Tensor], Tensor]
"""The exact loss whose gradient in the logits is meant, reward units."""


def sampled(
    algorithm: Algorithm, theta: Tensor, alpha: float | None, gamma: float | None, world: Words, **values: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean of the gradient over batches and its standard error."""
    problem = problem_of(algorithm, world, alpha, gamma)
    state = first(algorithm, problem, 0)
    state = replace(state, values={**state.values, **values, "theta": theta.flatten()})
    found = []
    for _ in range(BATCHES):
        after, _ = step(algorithm, problem, state)
        found.append(after.values["theta_adam.mean"] / 0.1)
        state = replace(state, random=after.random)
    gradients = torch.stack(found)
    return gradients.mean(0), gradients.std(0) / BATCHES**0.5


def agrees(
    algorithm: Algorithm, exact: Exact, alpha: float | None = ALPHA, gamma: float | None = None, **values: Tensor
) -> None:
    theta = torch.randn(T, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = theta.clone().requires_grad_()
    (expected,) = torch.autograd.grad(exact(logits), logits)
    mean, error = sampled(algorithm, theta, alpha, gamma, WORLD, **values)
    assert float(error.norm()) < 0.05 * float(expected.norm())  # or the test would see nothing
    wrong = (mean - expected.flatten()).abs()
    assert bool((wrong <= 4 * error + 1e-12).all()), (wrong / error).max()


def log_ratio(logits: Tensor) -> Tensor:
    return ALL.log_pi(logits, WORLD) - ALL.log_ref


def chance(logits: Tensor) -> Tensor:
    """p(text) under the policy, held fixed, ``[M]``."""
    return ALL.log_pi(logits, WORLD).sum(-1).exp().detach()


def score(logits: Tensor, advantages: Tensor) -> Tensor:
    """``-E Σ_t A_t log π``, whose gradient is minus the policy gradient; advantages ``[M, T]`` or ``[M, 1]``."""
    return -(chance(logits) * (advantages.detach() * ALL.log_pi(logits, WORLD)).sum(-1)).sum()


def paid(logits: Tensor) -> Tensor:
    """R - α Σ log π/ref of each text, ``[M, 1]``."""
    return (ALL.rewards - ALPHA * log_ratio(logits)).sum(-1, keepdim=True)


def test_the_texts_are_all() -> None:
    g = torch.Generator().manual_seed(2)
    assert float(chance(torch.randn(T, 3, 2, generator=g)).sum()) == pytest.approx(1.0, abs=1e-12)
    elbo = cai.solve(WORLD, cai.VARIATIONAL, temperature=ALPHA).elbo
    log_z = (ALL.log_ref.sum(-1) + ALL.rewards.sum(-1) / ALPHA).logsumexp(-1)
    assert float(elbo) == pytest.approx(float(log_z), abs=1e-10)


def gradient(objective: cai.KLObjective, batch: int = 600, **settings: Any) -> PolicySearch:
    return PolicySearch(PolicyGradient(objective, batch=batch, **settings), settle=False)


@pytest.mark.parametrize("reward_to_go", [False, True])
@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
def test_reinforce_climbs_the_elbo(baseline: Any, reward_to_go: bool) -> None:
    objective = cai.KLObjective(where="reward", baseline=baseline)
    agrees(gradient(objective, reward_to_go=reward_to_go), lambda logits: score(logits, paid(logits)))


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_ppo_follows_its_generalised_advantages(lam: float) -> None:
    # Schulman et al. 2016: Â_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1}(s_{t+1}) - V_t(s_t), V any function.
    gamma, v = 0.9, torch.randn(T, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def exact(logits: Tensor) -> Tensor:
        rewards = (ALL.rewards - ALPHA * log_ratio(logits)).detach()
        here = v[ALL.times, ALL.states]
        later = torch.cat((here[:, 1:], torch.zeros(len(here), 1)), -1)
        delta = rewards + gamma * later - here
        weights = torch.tensor([[(gamma * lam) ** (u - t) if u >= t else 0.0 for t in range(T)] for u in range(T)])
        return score(logits, delta @ weights) / steps(logits)

    def steps(logits: Tensor) -> Tensor:
        return (chance(logits) * ALL.acting.sum(-1)).sum()  # a batch is divided by its steps; their mean hardly varies

    objective = cai.KLObjective(where="reward", baseline="value", length="batch", clip=0.2)
    one = gradient(objective, lam=lam, length=T, critic_epochs=1)
    agrees(one, exact, gamma=gamma, critic=v.flatten())


OTHERS = ("dr_grpo", "rloo", "reinforce++", "reinforce++_baseline", "k3")
KINDS = ("k1", "k2", "k3", "ratio_k3", "full")
IN_GROUPS = {
    **{
        f"{kl} in the loss": cai.KLObjective(kl, baseline="leave_one_out", group=G)
        for kl in ("k1", "k2", "k3", "ratio_k3", "full")
    },
    "k3 in the reward": cai.KLObjective("k3", "reward", baseline="leave_one_out", group=G),
    "full in the loss, by length": cai.KLObjective("full", baseline="group_mean", length="sequence", group=G),
}


@pytest.mark.parametrize("name", IN_GROUPS)
def test_the_kl_goes_where_it_is_said(name: str) -> None:
    objective = IN_GROUPS[name]

    def exact(logits: Tensor) -> Tensor:
        ratio, p = log_ratio(logits), chance(logits)
        table = (WORLD.prior[0].log() + logits).log_softmax(-1)
        every = (table.exp() * (table - WORLD.prior[0].log())).sum(-1)[ALL.times, ALL.states]
        k3 = (-ratio).exp() - 1 + ratio
        kl = {"k1": ratio, "k2": ratio**2 / 2, "k3": k3, "full": torch.where(ALL.acting, every, 0.0)}
        kl["ratio_k3"] = (ratio - ratio.detach()).exp() * k3
        returns, shrunk = ALL.rewards.sum(-1), 1.0
        if objective.where == "reward":
            returns = returns - ALPHA * kl[objective.kl].detach().sum(-1)
        if objective.baseline == "group_mean":
            shrunk = 1 - 1 / G
        length = ALL.acting.sum(-1, keepdim=True) if objective.length == "sequence" else torch.ones(1, 1)
        centred = returns - (p * returns).sum()
        gain = score(logits, shrunk * centred.unsqueeze(-1) / length)
        return gain + (ALPHA * (p * (kl[objective.kl] / length).sum(-1)).sum() if objective.where == "loss" else 0.0)

    agrees(gradient(objective, reward_to_go=False), exact)


@pytest.mark.parametrize("name", ["grpo", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_mean_is_the_exact_gradient_of_the_registry(name: str) -> None:
    objective = cai.KL_OBJECTIVES[name]
    objective = objective if objective.baseline == "none" else replace(objective, group=G)
    world = Words()
    world.reward[:] = 0.0  # paid at the end only, as these objectives want it
    theta = torch.randn(T, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    policy = (WORLD.prior[0].log() + theta).softmax(-1)
    expected = -cai.kl_gradient(world, policy, objective, temperature=ALPHA)
    mean, error = sampled(gradient(objective, reward_to_go=False, batch=3000), theta, ALPHA, None, world)
    assert float(error.norm()) < 0.05 * float(expected.norm())
    bias = 2e-3 * float(expected.norm()) if objective.scale == "batch_std" else 1e-12  # the batch is not infinite
    assert bool(((mean - expected.flatten()).abs() <= 4 * error + bias).all())


@pytest.mark.parametrize("name", ["dpo", "ipo"])
def test_preferences_are_those_of_pairs_from_the_reference(name: str) -> None:
    judge = 1.5

    def exact(logits: Tensor) -> Tensor:
        h, returns, ref = log_ratio(logits).sum(-1), ALL.rewards.sum(-1), ALL.log_ref.sum(-1).exp()
        sure = ((returns.unsqueeze(-1) - returns) / judge).sigmoid()  # [i, j]: that i is preferred to j
        margin, beta = h.unsqueeze(-1) - h, ALPHA / judge
        loss = -(beta * margin).sigmoid().log() if name == "dpo" else (margin - 1 / (2 * beta)) ** 2
        return (ref.unsqueeze(-1) * ref * (sure * loss + sure.mT * loss.mT)).sum()

    agrees(PolicySearch(Preferences(name, judge, batch=1200), settle=False), exact)


def test_trajectory_balance_has_the_gradient_of_its_square() -> None:
    log_z = torch.tensor([0.7, 0.0, 0.0], dtype=torch.float64)

    def exact(logits: Tensor) -> Tensor:
        off = log_z[0] + log_ratio(logits).sum(-1) - ALL.rewards.sum(-1) / ALPHA
        return (chance(logits) * off**2).sum()

    agrees(PolicySearch(TrajectoryBalance(batch=600), settle=False), exact, log_z=log_z)

"""PPO and discrete soft actor-critic as a single-file script has them, in the structure of CleanRL.

Written for this library from the papers and from the structure that CleanRL's scripts have; no line is copied. PPO:
Schulman et al. 2017, with an entropy bonus in the loss and advantages normalised in each minibatch. Discrete SAC:
Christodoulou 2019 (arXiv:1910.07207), the temperature fixed. Both treat a truncation as CleanRL does: PPO's scripts of
a vector environment count it as the end, SAC bootstraps from the last observation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import mse_loss

EPOCHS, MINIBATCHES, CLIP = 4, 4, 0.2
Env = Any


@dataclass(frozen=True)
class Settings:
    """The settings of PPO that differ between tasks; these are of CleanRL's ``ppo.py``."""

    copies: int = 4
    length: int = 128
    lr: float = 2.5e-4
    hidden: tuple[int, ...] = (64, 64)
    bonus: float = 0.01
    gamma: float = 0.99
    gae: float = 0.95
    normalise: bool = True


def layers(n_in: int, n_out: int, hidden: tuple[int, ...] = (32,)) -> nn.Sequential:
    """Return a small perceptron."""
    inner = [part for n, m in pairwise((n_in, *hidden)) for part in (nn.Linear(n, m), nn.Tanh())]
    return nn.Sequential(*inner, nn.Linear(hidden[-1], n_out))


class Agent(nn.Module):
    """Actor and critic."""

    def __init__(self, n_in: int, n_actions: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.actor, self.critic = layers(n_in, n_actions, hidden), layers(n_in, 1, hidden)

    def get_value(self, x: Tensor) -> Tensor:
        """Return V(s), ``[N]``."""
        v: Tensor = self.critic(x).squeeze(-1)
        return v

    def get_action_and_value(self, x: Tensor, action: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return an action, log π of it, the entropy and V(s), ``[N]`` each."""
        law = Categorical(logits=self.actor(x))
        action = law.sample() if action is None else action
        return action, law.log_prob(action), law.entropy(), self.get_value(x)


class Copies:
    """Copies of the environment, each reset when it has ended."""

    def __init__(self, make: Callable[[], Env], copies: int, seed: int) -> None:
        self.envs = [gymnasium.wrappers.FlattenObservation(make()) for _ in range(copies)]
        self.x = self._tensor([one.reset(seed=seed + 1000 * i)[0] for i, one in enumerate(self.envs)])

    def step(self, actions: Tensor) -> tuple[Tensor, ...]:
        """Return reward, terminated, truncated, ``[N]``, and the observation before any reset."""
        took = [one.step(a) for one, a in zip(self.envs, actions.tolist(), strict=True)]
        following = self._tensor([seen for seen, *_ in took])
        reward, over, cut = (torch.tensor([step[i] for step in took]).float() for i in (1, 2, 3))
        ended = (over + cut) > 0
        starts = [one.reset()[0] if done else step[0] for one, done, step in zip(self.envs, ended, took, strict=True)]
        self.x = self._tensor(starts)
        return reward, over, cut, following

    @staticmethod
    def _tensor(rows: list[Any]) -> Tensor:
        return torch.as_tensor(np.array(rows), dtype=torch.float32)


def another(env: Env) -> Callable[[], Env]:
    """Return a function that makes the environment of a probe again."""
    from cai.verification import environment_of

    return partial(environment_of, env.unwrapped.probe, hard=env.unwrapped.temperature is None)


def ppo(env: Env, seed: int, steps: int = 24_000, normalise: bool = True, gae: float = 0.95) -> nn.Module:
    """Learn a probe by PPO; the bonus is α where a soft learner is verified, else 0.01, CleanRL's default."""
    inner = env.unwrapped
    bonus = 0.01 if inner.temperature is None else inner.temperature
    own = Settings(16, 32, 5e-3, (32,), bonus, inner.discount, gae, normalise)
    return ppo_of(another(env), own, seed, steps)


def ppo_of(
    make: Callable[[], Env], own: Settings, seed: int, steps: int, watch: Callable[[nn.Module, int], None] | None = None
) -> nn.Module:
    """Learn by PPO, and show the agent before each update and at the end, with the steps taken."""
    torch.manual_seed(seed)
    copies, n = Copies(make, own.copies, seed), own.copies * own.length
    agent = Agent(copies.x.shape[1], copies.envs[0].action_space.n, own.hidden)
    adam, updates = torch.optim.Adam(agent.parameters(), lr=own.lr, eps=1e-5), steps // n
    for update in range(updates):
        if watch is not None:
            watch(agent, update * n)
        adam.param_groups[0]["lr"] = own.lr * (1 - update / updates)
        flat = collected(agent, copies, own)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(n).chunk(MINIBATCHES):
                loss = ppo_loss(agent, [part[chosen] for part in flat], own)
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                adam.step()
    if watch is not None:
        watch(agent, steps)
    return agent


def collected(agent: Agent, copies: Copies, own: Settings) -> list[Tensor]:
    """Take the next steps; return states, actions, log π, advantages and the critic's targets, a row for each."""
    rows = []
    for _ in range(own.length):
        x = copies.x
        with torch.no_grad():
            action, log_pi, _, v = agent.get_action_and_value(x)
        reward, over, cut, _ = copies.step(action)
        rows.append((x, action, log_pi, v, reward, torch.maximum(over, cut)))
    x, action, log_pi, v, reward, done = (torch.stack(column) for column in zip(*rows, strict=True))
    with torch.no_grad():
        ahead = torch.cat([v[1:], agent.get_value(copies.x).unsqueeze(0)])
    advantage, last = torch.zeros_like(reward), torch.zeros(own.copies)
    for t in reversed(range(own.length)):
        delta = reward[t] + own.gamma * ahead[t] * (1 - done[t]) - v[t]
        advantage[t] = last = delta + own.gamma * own.gae * (1 - done[t]) * last
    return [part.flatten(0, 1) for part in (x, action, log_pi, advantage, advantage + v)]


def ppo_loss(agent: Agent, rows: list[Tensor], own: Settings) -> Tensor:
    """Return the clipped loss with the bonus and the critic's error."""
    at, a, old, psi, target = rows
    _, new, entropy, value = agent.get_action_and_value(at, a)
    psi = (psi - psi.mean()) / (psi.std() + 1e-8) if own.normalise else psi
    ratio = (new - old).exp()
    gain = torch.min(ratio * psi, ratio.clamp(1 - CLIP, 1 + CLIP) * psi).mean()
    return -gain - own.bonus * entropy.mean() + 0.5 * mse_loss(value, target)


def sac_discrete(env: Env, seed: int, steps: int = 8_000) -> nn.Module:
    """Learn by discrete soft actor-critic with two critics; returns the actor."""
    torch.manual_seed(seed)
    inner, n = env.unwrapped, env.action_space.n
    alpha, gamma, width = inner.temperature, inner.discount, env.observation_space.shape[0]
    actor, critics, slow = layers(width, n), [layers(width, n) for _ in "12"], [layers(width, n) for _ in "12"]
    for one, other in zip(slow, critics, strict=True):
        one.load_state_dict(other.state_dict())
    climb = torch.optim.Adam(actor.parameters(), lr=3e-3)
    fit = torch.optim.Adam([p for one in critics for p in one.parameters()], lr=3e-3)
    copies, kept = Copies(another(env), 8, seed), list[tuple[Tensor, ...]]()
    for step in range(steps // 8):
        x = copies.x
        with torch.no_grad():
            law = actor(x) if step * 8 >= 400 else torch.zeros(8, n)
            action = Categorical(logits=law).sample()
        reward, over, _, following = copies.step(action)
        kept.append((x, action, reward, over, following))
        if step * 8 < 400:
            continue
        rows = [torch.cat(column) for column in zip(*(kept[i] for i in torch.randint(len(kept), (16,))), strict=True)]
        x, action, reward, over, following = rows
        with torch.no_grad():
            log_pi = actor(following).log_softmax(-1)
            q = torch.min(*(one(following) for one in slow))
            target = reward + gamma * (1 - over) * (log_pi.exp() * (q - alpha * log_pi)).sum(-1)
        wrong = torch.stack([mse_loss(one(x).gather(-1, action[:, None]).squeeze(-1), target) for one in critics]).sum()
        fit.zero_grad()
        wrong.backward()  # type: ignore[no-untyped-call]
        fit.step()
        log_pi = actor(x).log_softmax(-1)
        with torch.no_grad():
            q = torch.min(*(one(x) for one in critics))
        loss = (log_pi.exp() * (alpha * log_pi - q)).sum(-1).mean()
        climb.zero_grad()
        loss.backward()
        climb.step()
        with torch.no_grad():
            for one, other in zip(slow, critics, strict=True):
                for to, by in zip(one.parameters(), other.parameters(), strict=True):
                    to.lerp_(by, 0.02)
    return actor

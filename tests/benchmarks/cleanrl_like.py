"""PPO and discrete soft actor-critic as a single-file script has them, in the structure of CleanRL.

Written for this library from the papers and from the structure that CleanRL's scripts have; no line is copied. PPO:
Schulman et al. 2017, with an entropy bonus in the loss and advantages normalised in each minibatch. Discrete SAC:
Christodoulou 2019 (arXiv:1910.07207), the temperature fixed. Both treat a truncation as CleanRL does: PPO's scripts of
a vector environment count it as the end, SAC bootstraps from the last observation.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import mse_loss

COPIES, LENGTH, EPOCHS, MINIBATCHES, CLIP = 16, 32, 4, 4, 0.2
Env = Any


def layers(n_in: int, n_out: int) -> nn.Sequential:
    """Return a small perceptron."""
    return nn.Sequential(nn.Linear(n_in, 32), nn.Tanh(), nn.Linear(32, n_out))


class Agent(nn.Module):
    """Actor and critic."""

    def __init__(self, n_in: int, n_actions: int) -> None:
        super().__init__()
        self.actor, self.critic = layers(n_in, n_actions), layers(n_in, 1)

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

    def __init__(self, env: Env, copies: int, seed: int) -> None:
        from cai.verification import environment_of

        inner = env.unwrapped
        made = [environment_of(inner.probe, hard=inner.temperature is None) for _ in range(copies)]
        self.envs = [gymnasium.wrappers.FlattenObservation(one) for one in made]
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


def ppo(env: Env, seed: int, steps: int = 24_000, normalise: bool = True, gae: float = 0.95) -> nn.Module:
    """Learn by PPO; the bonus is α where a soft learner is verified, else 0.01, CleanRL's default."""
    torch.manual_seed(seed)
    inner = env.unwrapped
    bonus, gamma = 0.01 if inner.temperature is None else inner.temperature, inner.discount
    agent, copies = Agent(env.observation_space.shape[0], env.action_space.n), Copies(env, COPIES, seed)
    adam, updates = torch.optim.Adam(agent.parameters(), lr=5e-3, eps=1e-5), steps // (COPIES * LENGTH)
    for update in range(updates):
        adam.param_groups[0]["lr"] = 5e-3 * (1 - update / updates)
        rows = []
        for _ in range(LENGTH):
            x = copies.x
            with torch.no_grad():
                action, log_pi, _, v = agent.get_action_and_value(x)
            reward, over, cut, _ = copies.step(action)
            rows.append((x, action, log_pi, v, reward, torch.maximum(over, cut)))
        x, action, log_pi, v, reward, done = (torch.stack(column) for column in zip(*rows, strict=True))
        with torch.no_grad():
            ahead = torch.cat([v[1:], agent.get_value(copies.x).unsqueeze(0)])
        advantage, last = torch.zeros_like(reward), torch.zeros(COPIES)
        for t in reversed(range(LENGTH)):
            delta = reward[t] + gamma * ahead[t] * (1 - done[t]) - v[t]
            advantage[t] = last = delta + gamma * gae * (1 - done[t]) * last
        flat = [part.flatten(0, 1) for part in (x, action, log_pi, advantage, advantage + v)]
        for _ in range(EPOCHS):
            for chosen in torch.randperm(COPIES * LENGTH).chunk(MINIBATCHES):
                at, a, old, psi, target = (part[chosen] for part in flat)
                _, new, entropy, value = agent.get_action_and_value(at, a)
                psi = (psi - psi.mean()) / (psi.std() + 1e-8) if normalise else psi
                ratio = (new - old).exp()
                gain = torch.min(ratio * psi, ratio.clamp(1 - CLIP, 1 + CLIP) * psi).mean()
                loss = -gain - bonus * entropy.mean() + 0.5 * mse_loss(value, target)
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                adam.step()
    return agent


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
    copies, kept = Copies(env, 8, seed), list[tuple[Tensor, ...]]()
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

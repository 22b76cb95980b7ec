"""The exact surrogate of a learner with a KL penalty: every trajectory, every group, the loss as papers write it.

Autograd differentiates it; nothing is known here of states' values, occupancies or fixed points.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from cai import KLObjective
from cai.language import LanguageWorld
from tests.oracles import enumeration
from tests.worlds import RandomWorld


@dataclass(frozen=True)
class Episodes:
    """Every trajectory: its states, actions, whether somebody acts ``[N, T]``, log p of its outcomes, its return."""

    states: Tensor
    actions: Tensor
    acts: Tensor
    log_dynamics: Tensor
    returns: Tensor
    log_ref: Tensor  # [T, S, A]

    @property
    def lengths(self) -> Tensor:
        return self.acts.sum(-1).double()

    def of_tokens(self, table: Tensor) -> Tensor:
        """Return a table ``[T, S, A]`` at each token, 0 where nobody acts, ``[N, T]``."""
        t = torch.arange(self.states.shape[1])
        return torch.where(self.acts, table[t, self.states, self.actions], 0.0)


def texts(world: LanguageWorld) -> Episodes:
    """Read every text of a language world token by token."""
    end = None if world.end is None else world.vocabulary.number[world.end]
    reference, automaton, T = world.reference, world.automaton, world.horizon
    rows, acts, returns = [], [], []
    for tokens in itertools.product(range(len(world.vocabulary)), repeat=T):
        n = tokens.index(end) + 1 if end in tokens else T
        if any(tokens[n:]):  # what follows the end is no other text
            continue
        q, total = automaton.start, 0.0
        for x in tokens[:n]:
            if x == end:
                total += float(automaton.final[q])
            total += float(automaton.reward[q, x])
            q = int(automaton.successor[q, x])
        total += 0.0 if tokens[n - 1] == end else float(automaton.final[q])
        rows.append(tokens)
        acts.append([t < n for t in range(T)])
        returns.append(total)
    actions = torch.tensor(rows)
    log_ref = world.log_next.expand(T, -1, -1)
    zero = torch.zeros(len(rows), dtype=torch.float64)
    paid = torch.tensor(returns, dtype=torch.float64)
    assert reference.vocabulary == world.vocabulary
    return Episodes(world.along(actions)[:, :-1], actions, torch.tensor(acts), zero, paid, log_ref)


def trajectories(world: RandomWorld) -> Episodes:
    """List every trajectory of a random world."""
    paths, T = enumeration.paths(world), world.horizon or 0
    pad = [(*path.visits, *[(0, 0, 0)] * (T - len(path.visits))) for path in paths]
    visits = torch.tensor(pad)
    acts = torch.tensor([[t < len(path.visits) for t in range(T)] for path in paths])
    log_dynamics = torch.tensor([path.log_dynamics for path in paths], dtype=torch.float64)
    returns = torch.tensor([path.rewards for path in paths], dtype=torch.float64)
    log_ref = torch.stack([world.prior[world.time(t)].log() for t in range(T)])
    return Episodes(visits[..., 0], visits[..., 1], acts, log_dynamics, returns, log_ref)


def surrogate(episodes: Episodes, logits: Tensor, objective: KLObjective, alpha: float) -> Tensor:
    """Return what an on-policy learner climbs, π_old = π, the mean over all texts of all groups."""
    log_table = logits.log_softmax(-1)
    log_pi, log_ref = episodes.of_tokens(log_table), episodes.of_tokens(episodes.log_ref)
    p = (episodes.log_dynamics + log_pi.sum(-1)).exp().detach()
    drawn = p > 0
    ratio = (log_pi - log_pi.detach()).exp()
    k = _token_kl(episodes, log_table, log_pi, log_ref, ratio, objective.kl)
    returns = episodes.returns
    if objective.where == "reward":
        returns = returns - alpha * k.detach().sum(-1)
    returns = torch.where(drawn, returns, 0.0)
    if objective.baseline == "value":
        advantage = _less_value(episodes, objective, p, returns)
    else:
        advantage = _advantages(objective, p, returns, episodes.lengths)[:, None]
    each = torch.where(episodes.acts, ratio * advantage, 0.0)
    if objective.where == "loss":
        each = each - alpha * k
    length = episodes.lengths if objective.length == "sequence" else torch.ones_like(p)
    length = (p * episodes.lengths).sum() if objective.length == "batch" else length
    return torch.where(drawn, p * each.sum(-1) / length, 0.0).sum()


def _token_kl(e: Episodes, log_table: Tensor, log_pi: Tensor, log_ref: Tensor, ratio: Tensor, kl: str) -> Tensor:
    log_r = log_pi - log_ref
    if kl == "full":
        terms = torch.where(e.log_ref > -torch.inf, log_table.exp() * (log_table - e.log_ref), 0.0).sum(-1)
        return e.of_tokens(terms.unsqueeze(-1).expand_as(log_table))
    k3 = (-log_r).exp() - 1 + log_r
    return {"k1": log_r, "k2": log_r**2 / 2, "k3": k3, "ratio_k3": ratio * k3}[kl]


def _less_value(e: Episodes, objective: KLObjective, p: Tensor, returns: Tensor) -> Tensor:
    """Return R - V(s_t) of each token, whitened or not, where all is paid at the end, ``[N, T]``."""
    N, T = e.states.shape
    place = e.states + torch.arange(T) * (int(e.states.max()) + 1)
    weight = torch.where(e.acts, p[:, None], 0.0).flatten()
    mass, total = torch.zeros(2, int(place.max()) + 1, dtype=torch.float64)
    mass = mass.index_add(0, place.flatten(), weight)
    total = total.index_add(0, place.flatten(), weight * returns.repeat_interleave(T))
    advantage = returns[:, None] - (total / mass.clamp(min=1e-300))[place]
    if objective.scale == "none":
        return advantage
    w = (weight / weight.sum()).reshape(N, T)
    middle = (w * advantage).sum()
    return (advantage - middle) / ((w * advantage**2).sum() - middle**2).sqrt()


def _advantages(objective: KLObjective, p: Tensor, returns: Tensor, lengths: Tensor) -> Tensor:
    """Return the advantage of each text, the mean over all groups of which it is the first."""
    G = objective.group
    if G is None:
        mean = (p * returns).sum() if objective.baseline in ("group_mean", "leave_one_out") else 0.0
        spread = _spread(objective, p, returns, returns - mean, lengths)
        w = p * lengths / (p * lengths).sum()
        middle = (w * (returns - mean)).sum() if objective.scale == "batch_std" else 0.0
        return (returns - mean - middle) / spread
    N = len(p)
    total, square = torch.zeros(2, N, dtype=torch.float64)
    for others in itertools.product(range(N), repeat=G - 1):
        chance = p[list(others)].prod()
        if chance == 0:
            continue
        rest = returns[list(others)].expand(N, -1)
        group = torch.cat([returns[:, None], rest], -1)
        centre = rest.mean(-1) if objective.baseline == "leave_one_out" else torch.zeros(N, dtype=torch.float64)
        centre = group.mean(-1) if objective.baseline == "group_mean" else centre
        spread = group.std(-1, correction=0) if objective.scale == "group_std" else torch.ones(N, dtype=torch.float64)
        alike = group.amax(-1) == group.amin(-1)
        spread = torch.where(alike & (objective.scale == "group_std"), torch.inf, spread)
        total = total + chance * (returns - centre) / spread
        square = square + chance * ((returns - centre) / spread) ** 2
    if objective.scale == "batch_std":
        w = p * lengths / (p * lengths).sum()
        middle = (w * total).sum()
        return (total - middle) / ((w * square).sum() - middle**2).sqrt()
    return total


def _spread(objective: KLObjective, p: Tensor, returns: Tensor, advantages: Tensor, lengths: Tensor) -> Tensor:
    if objective.scale == "none":
        return torch.ones((), dtype=torch.float64)
    if objective.scale == "batch_std":  # over the tokens of the batch
        w = p * lengths / (p * lengths).sum()
        return ((w * advantages**2).sum() - (w * advantages).sum() ** 2).sqrt()
    return ((p * returns**2).sum() - (p * returns).sum() ** 2).sqrt()


def gradient(episodes: Episodes, log_pi: Tensor, objective: KLObjective, alpha: float) -> Tensor:
    """Return the gradient of the surrogate with respect to the logits, ``[T, S, A]``."""
    logits = log_pi.clamp(min=-1e4).detach().requires_grad_()
    (found,) = torch.autograd.grad(surrogate(episodes, logits, objective, alpha), logits)
    return found


def climbed(episodes: Episodes, start: Tensor, objective: KLObjective, alpha: float, steps: int) -> Tensor:
    """Climb by Adam from some logits, with a rate that falls, and return log π."""
    logits = start.clone().requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.1)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        adam.zero_grad()
        (-surrogate(episodes, logits, objective, alpha)).backward()
        adam.step()
        rate.step()
    return logits.detach().log_softmax(-1)

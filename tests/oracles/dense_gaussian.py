"""Linear-Gaussian systems without a recursion over states: the whole trajectory is one vector, each reward one matrix.

The vector is ``x = (1, start, w_0, z_0, w_1, z_1, …)``: a constant, the noise of the start, of every action and of
every slice. Each state and action is a matrix times x, each reward ``½ x'Hx``. POSTERIOR is then one Gaussian. The
other rules take their means over the last block of x, then over the last that is left: over the tree of histories, as
``enumeration.value`` does. Plain torch, so that autograd goes through; shares no code with cai.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.linear_worlds import System

LOG_2PI = math.log(2 * math.pi)


class InfiniteMeanError(ArithmeticError):
    """A mean is infinite; ``where`` is "outcomes", "actions" or "start", ``t`` its time."""

    def __init__(self, where: str, t: int, least: float) -> None:
        self.where, self.t, self.least = where, t, least
        super().__init__(f"{where} of time {t}: {least}")


@dataclass(frozen=True)
class Law:
    """``u = gain x + offset + scale ξ``; an action of a state, or noise of a state and an action."""

    gain: Tensor
    offset: Tensor
    scale: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.scale @ self.scale.mT


def prior(system: System, t: int) -> Law:
    i = system.index(t)
    return Law(system.K[i], system.e[i], system.L[i])


# ---------------------------------------------------------------- the trajectory as one vector


@dataclass(frozen=True)
class Unrolled:
    """All as functions of x: the states, the actions, (s, a, z) as rows; the rewards, the last the terminal one."""

    sizes: list[int]  # of x's blocks, the constant's first
    states: list[Tensor]
    actions: list[Tensor]
    noises: list[Tensor]
    rewards: list[Tensor]


def unroll(
    system: System,
    t: int = 0,
    *,
    state: bool = False,
    action: bool = False,
    policy: Callable[[int], Law] | None = None,
) -> Unrolled:
    """Write out the times from t on; with ``state`` (``action``) x has s_t (a_t) itself in place of their noise."""
    law = policy or (lambda time: prior(system, time))
    sizes = [1, system.n if state else system.S.shape[-1]]
    for time in range(t, system.T):
        given = action and time == t
        sizes += [system.m if given else law(time).scale.shape[-1], system.k]
    one, start, *blocks = torch.eye(sum(sizes), dtype=torch.float64).split(sizes)
    s = start if state else system.mean.unsqueeze(-1) * one + system.S @ start
    states, actions, noises, rewards = [s], [], [], []
    for time in range(t, system.T):
        i, w, z = system.index(time), *blocks[2 * (time - t) : 2 * (time - t) + 2]
        chosen = law(time)
        given = action and time == t
        a = w if given else chosen.gain @ s + chosen.offset.unsqueeze(-1) * one + chosen.scale @ w
        y = torch.cat([one, s, a, z])
        rewards.append(y.mT @ homogeneous(system.M[i], system.b[i], system.c[i]) @ y)
        s = system.A[i] @ s + system.B[i] @ a + system.G[i] @ z + system.d[i].unsqueeze(-1) * one
        states.append(s)
        actions.append(a)
        noises.append(z)
    end = torch.cat([one, s])
    rewards.append(end.mT @ homogeneous(system.Ms, system.bs, system.cs) @ end)
    return Unrolled(sizes, states, actions, noises, rewards)


def homogeneous(M: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return H with ``½ (1, x)' H (1, x) = ½ x'Mx + b'x + c``."""
    top = torch.cat([2 * c.reshape(1), b]).unsqueeze(0)
    return torch.cat([top, torch.cat([b.unsqueeze(-1), M], -1)])


def plain(H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return M, b, c of ``homogeneous``."""
    return H[1:, 1:], H[0, 1:], H[0, 0] / 2


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of ``rows (1, ξ)``, ξ ~ N(0, I)."""
    return rows[:, 0], rows[:, 1:] @ rows[:, 1:].mT


# ---------------------------------------------------------------- POSTERIOR as one Gaussian


@dataclass(frozen=True)
class Posterior:
    """p(x | O = 1) = N(mean, covariance) over all noise, and log Z, nats."""

    x: Unrolled
    log_evidence: Tensor
    mean: Tensor
    covariance: Tensor

    def moments(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        F = rows[:, 1:]
        return rows[:, 0] + F @ self.mean, F @ self.covariance @ F.mT

    def joint(self, t: int) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of (s_t, a_t)."""
        return self.moments(torch.cat([self.x.states[t], self.x.actions[t]]))

    def slice(self, t: int) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of (s_t, a_t, z_t)."""
        return self.moments(torch.cat([self.x.states[t], self.x.actions[t], self.x.noises[t]]))

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log density of noise ``[*, D]``."""
        return torch.distributions.MultivariateNormal(self.mean, self.covariance).log_prob(x)


def posterior(system: System, alpha: float | Tensor) -> Posterior:
    """Return the posterior and the evidence by one determinant and one linear system."""
    x = unroll(system)
    H = torch.stack(x.rewards).sum(0) / alpha
    normal = torch.ones(sum(x.sizes) - 1, dtype=torch.float64)
    if system.flat:
        for block, w in zip(normal.split(x.sizes[1:])[1::2], x.actions, strict=True):
            block.fill_(0.0 if len(w) else 1.0)
    precision = normal.diag() - H[1:, 1:]
    if least(precision) <= 0:
        raise InfiniteMeanError("trajectory", 0, least(precision))
    covariance = torch.linalg.inv(precision)
    mean = covariance @ H[0, 1:]
    flat = len(normal) - normal.sum()
    log_z = 0.5 * (flat * LOG_2PI - torch.logdet(precision) + H[0, 1:] @ mean + H[0, 0])
    return Posterior(x, log_z, mean, covariance)


def least(M: Tensor) -> float:
    return float(torch.linalg.eigvalsh(M.detach()).min()) if len(M) else math.inf


# ---------------------------------------------------------------- every rule, over the tree of histories


@dataclass(frozen=True)
class Mean:
    """A mean over one block; ``kind`` is soft, expect, best or viterbi, η reward units."""

    kind: str
    eta: Any = math.nan


def means(rule: str, alpha: Any, eta: float = math.nan) -> tuple[Mean, Mean]:
    """Return a rule's means over outcomes and over actions."""
    soft, viterbi = Mean("soft", alpha), Mean("viterbi", alpha)
    return {
        "POSTERIOR": (soft, soft),
        "VARIATIONAL": (Mean("expect"), soft),
        "HARD": (Mean("expect"), Mean("best")),
        "MAP": (viterbi, viterbi),
        "PLANNING": (soft, viterbi),
        "RISK": (Mean("soft", eta), soft),
    }[rule]


@dataclass(frozen=True)
class Taken:
    """A mean over the last block u: what is left, and u given the rest: ``u = rows (1, rest) + scale ξ``."""

    H: Tensor
    rows: Tensor
    scale: Tensor


def take(mean: Mean, H: Tensor, d: int, where: str, t: int, *, flat: bool = False, log_volume: Any = 0.0) -> Taken:
    """Take a mean of ``½ x'Hx`` over the last d entries of x, N(0, I), or Lebesgue measure where ``flat``.

    ``log_volume`` is that of what the block's noise is scaled by, in which viterbi's density is.
    """
    K, J, U = H[: -d or None, : -d or None], H[: -d or None, len(H) - d :], H[len(H) - d :, len(H) - d :]
    one = torch.eye(d, dtype=torch.float64)
    corner = torch.zeros_like(K)
    corner[0, 0] = 2.0
    if mean.kind == "expect":
        assert not flat
        return Taken(K + corner * 0.5 * U.trace(), torch.zeros_like(J.mT), one)
    eta = 1.0 if mean.kind == "best" else mean.eta
    base = 0.0 if mean.kind == "best" or flat else 1.0
    precision = base * one - U / eta
    if least(precision) <= 0:
        raise InfiniteMeanError(where, t, least(precision))
    covariance = torch.linalg.inv(precision)
    rows = covariance @ J.mT / eta
    c = torch.zeros((), dtype=torch.float64)
    if mean.kind == "soft":
        c = -0.5 * eta * torch.logdet(precision) + (0.5 * eta * d * LOG_2PI if flat else 0.0)
    if mean.kind == "viterbi" and not flat:
        c = -eta * (0.5 * d * LOG_2PI + log_volume)
    scale = torch.linalg.cholesky(covariance) if mean.kind == "soft" else 0.0 * one
    return Taken(K + J @ rows + corner * c, rows, scale)


def volume(scale: Tensor) -> Tensor:
    """Return the log volume of a factor on its range, with what a density there has fewer directions than noise."""
    sizes = torch.linalg.svdvals(scale)
    live = sizes[sizes > 1e-12]
    return live.log().sum() - 0.5 * LOG_2PI * (scale.shape[-1] - len(live))


@dataclass(frozen=True)
class Solved:
    """A rule's start value (reward units), and its own chain: x as rows of fresh noise."""

    x: Unrolled
    value: Tensor
    chain: Tensor

    def moments(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return moments(rows @ self.chain)

    def joint(self, t: int) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of (s_t, a_t) under the rule."""
        return self.moments(torch.cat([self.x.states[t], self.x.actions[t]]))


def backwards(system: System, x: Unrolled, over: Mean, act: Mean, t: int, stop: bool) -> tuple[Tensor, list[Taken]]:
    """Take all means from the last time down to t; with ``stop``, that over a_t is left out."""
    V, taken = x.rewards[-1], []
    for time in reversed(range(t, system.T)):
        H = x.rewards[time - t][: len(V), : len(V)] + system.discount * V
        i = system.index(time)
        taken.append(take(over, H, system.k, "outcomes", time, log_volume=system.log_volume[i]))
        V = taken[-1].H
        if stop and time == t:
            break
        L = system.L[i]
        wide = L.shape[-1]
        taken.append(take(act, V, wide, "actions", time, flat=system.flat, log_volume=volume(L)))
        V = taken[-1].H
    return V, taken[::-1]


def solve(system: System, over: Mean, act: Mean) -> Solved:
    """Return the start value and the rule's chain."""
    x = unroll(system)
    V, taken = backwards(system, x, over, act, 0, False)
    first = take(over, V, system.S.shape[-1], "start", 0, log_volume=volume(system.S))
    width = sum(x.sizes)
    fresh = torch.eye(width, dtype=torch.float64)
    chain, at = fresh[:1], 1
    for one in (first, *taken):
        d = len(one.scale)
        chain = torch.cat([chain, one.rows @ chain + one.scale @ fresh[at : at + d]])
        at += d
    return Solved(x, first.H[0, 0] / 2, chain)


def v(system: System, over: Mean, act: Mean, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return M, b, c of v_t as a function of s_t, reward units."""
    return plain(backwards(system, unroll(system, t, state=True), over, act, t, False)[0])


def q(system: System, over: Mean, act: Mean, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return M, b, c of q_t as a function of (s_t, a_t), reward units."""
    return plain(backwards(system, unroll(system, t, state=True, action=True), over, act, t, True)[0])


def policy(system: System, over: Mean, act: Mean, t: int) -> Law:
    """Return the rule's own action of a state at time t."""
    w = backwards(system, unroll(system, t, state=True), over, act, t, False)[1][0]
    own = prior(system, t)
    return Law(own.gain + own.scale @ w.rows[:, 1:], own.offset + own.scale @ w.rows[:, 0], own.scale @ w.scale)


def outcomes(system: System, over: Mean, act: Mean, t: int) -> Law:
    """Return the slice's noise z_t given (s_t, a_t) under the rule."""
    z = backwards(system, unroll(system, t, state=True, action=True), over, act, t, True)[1][0]
    return Law(z.rows[:, 1:], z.rows[:, 0], z.scale)


# ---------------------------------------------------------------- the accounts of a policy


@dataclass(frozen=True)
class Account:
    """Of an affine-Gaussian policy: nats and expected rewards ``[T]`` each, the terminal reward last in ``rewards``."""

    rewards: Tensor
    kl: Tensor
    policy_nats: Tensor
    action_nats: Tensor
    luck_nats: Tensor
    start_nats: Tensor
    regret: Tensor
    alpha: float

    @property
    def expected_return(self) -> Tensor:
        return self.rewards.sum()

    @property
    def elbo(self) -> Tensor:
        return self.rewards.sum() / self.alpha - self.kl.sum()


def returns(system: System, laws: list[Law]) -> tuple[Unrolled, Tensor]:
    """Return the trajectory under a policy, and its expected rewards, γ^t of them at time t."""
    x = unroll(system, policy=lambda t: laws[t])
    gamma = system.discount ** torch.arange(system.T + 1, dtype=torch.float64)
    return x, gamma * torch.stack([0.5 * H.trace() for H in x.rewards])


def elbo(system: System, laws: list[Law], alpha: float) -> Tensor:
    """Return ELBO(π) = E[Σ r]/α - E[Σ KL(π ‖ prior)], nats."""
    x, rewards = returns(system, laws)
    return rewards.sum() / alpha - torch.stack([_paid(system, x, laws, t) for t in range(system.T)]).sum()


def _paid(system: System, x: Unrolled, laws: list[Law], t: int) -> Tensor:
    if system.flat:  # minus the entropy
        paid = -0.5 * torch.logdet(laws[t].covariance) - 0.5 * system.m * (LOG_2PI + 1)
    else:
        paid = divergence(laws[t], prior(system, t), x.states[t])
    return system.discount**t * paid


def divergence(p: Law, q: Law, rows: Tensor) -> Tensor:
    """Return E KL(p(·|y) ‖ q(·|y)), y = rows (1, ξ), nats."""
    one = torch.eye(rows.shape[-1], dtype=torch.float64)[:1]
    apart = (p.gain - q.gain) @ rows + (p.offset - q.offset).unsqueeze(-1) * one
    inverse = torch.linalg.inv(q.covariance)
    ratio = inverse @ p.covariance
    spread = ratio.trace() - len(ratio) - torch.logdet(ratio) if len(ratio) else torch.zeros((), dtype=torch.float64)
    return 0.5 * (spread + (inverse @ apart * apart).sum())


def account(system: System, laws: list[Law], alpha: float) -> Account:
    """Return the accounts of a policy, without a discount."""
    x, rewards = returns(system, laws)
    post, var, hard = means("POSTERIOR", alpha), means("VARIATIONAL", alpha), means("HARD", alpha)
    still = [
        Law(*(torch.zeros_like(y) for y in (z.gain, z.offset)), torch.eye(system.k, dtype=torch.float64))
        for z in (outcomes(system, *var, t) for t in range(system.T))
    ]
    action, lucky, own, worse = [], [], [], []
    for t in range(system.T):
        both = torch.cat([x.states[t], x.actions[t]])
        own.append(divergence(laws[t], policy(system, *var, t), x.states[t]))
        action.append(divergence(laws[t], policy(system, *post, t), x.states[t]))
        lucky.append(divergence(still[t], outcomes(system, *post, t), both))
        worse.append(_mean(v(system, *hard, t), x.states[t]) - _mean(q(system, *hard, t), both))
    first = backwards(system, unroll(system), *post, 0, False)[0]
    start = take(post[0], first, system.S.shape[-1], "start", 0)
    there = Law(start.rows[:, 1:], start.rows[:, 0], start.scale)
    here = Law(torch.zeros_like(there.gain), torch.zeros_like(there.offset), torch.eye(len(start.scale)).double())
    begun = divergence(here, there, torch.zeros(0, 1, dtype=torch.float64))
    kl = torch.stack([_paid(system, x, laws, t) for t in range(system.T)])
    each = (torch.stack(part) for part in (own, action, lucky))
    return Account(rewards, kl, *each, begun, torch.stack(worse), alpha)


def _mean(f: tuple[Tensor, Tensor, Tensor], rows: Tensor) -> Tensor:
    mean, covariance = moments(rows)
    M, b, c = f
    return 0.5 * (M * covariance).sum() + 0.5 * mean @ M @ mean + b @ mean + c

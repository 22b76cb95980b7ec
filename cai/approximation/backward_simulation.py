"""Backward simulation: trajectories of a run of particles, drawn from the last time back (Godsill, Doucet & West 2004).

    p(s_t, a_t | s_{t+1}, O) ∝ Σ_i  weight_t^i p(s_{t+1}|s_t^i, a_t^i) exp(r_t/α)  at the particles (s_t^i, a_t^i)

Every step may choose any particle, not the parent alone, so that early states come from many. It needs the density of
the next state, ``NoiseProgram.log_density``.
"""

import math

import torch
from torch import Tensor

from cai.approximation.particle_cloud import Cloud
from cai.approximation.trajectories import Trajectories
from cai.approximation.twist import Twist
from cai.compile.noise_program import NoiseProgram
from cai.compile.quadratic import ConditionalGaussian
from cai.errors import Finding, IntractableError
from cai.world.noise import log_normal


def simulated(
    program: NoiseProgram, twist: Twist, alpha: float, cloud: Cloud, generator: torch.Generator
) -> tuple[Trajectories, Tensor]:
    """Return as many trajectories as there are particles, of the same weight, and their action noise, ``[N, T, k]``.

    Raises:
        IntractableError: a next state has no density.
    """
    N, k = len(cloud.state), program.act_noise
    s = cloud.state[torch.multinomial(cloud.log_weights.exp(), N, replacement=True, generator=generator)]
    states, actions, noise, rewards = [s], list[Tensor](), list[Tensor](), list[Tensor]()
    end = program.terminal(s)
    for t in reversed(range(program.horizon)):
        here, a, w = cloud.states[t][cloud.parents[t]], cloud.actions[t], cloud.noise[t][:, :k]
        past = cloud.before[t] - twist.log_values[t](here) + _log_ratio(twist.noise[t], here, w)
        each = s.unsqueeze(1).expand(N, *s.shape)
        density, r = program.log_density(t, here.expand(N, *here.shape), a.expand(N, *a.shape), each)
        chosen = torch.softmax(past + density + r / alpha, -1)
        i = torch.multinomial(chosen, 1, generator=generator)
        paid, i, end = r.gather(1, i).squeeze(1) + end, i.squeeze(1), 0.0 * end
        s = here[i]
        states, actions, noise, rewards = [s, *states], [a[i], *actions], [w[i], *noise], [paid, *rewards]
    even = torch.full_like(cloud.log_weights, -math.log(N))
    paths = Trajectories(torch.stack(states, 1), torch.stack(actions, 1), torch.stack(rewards, 1), even)
    return paths, torch.stack(noise, 1)


def require_densities(program: NoiseProgram) -> None:
    """Raise unless the trajectories of a world can be drawn backward.

    Raises:
        IntractableError: an episode may end, by discount or by its state.
    """
    if program.discount < 1 or program.spec.early_end is not None:
        seen = "an episode that may end: a state that stays has no density"
        raise IntractableError([Finding("particles, backward", seen, "False, or a world of T steps")])


def _log_ratio(law: ConditionalGaussian, s: Tensor, w: Tensor) -> Tensor:
    """Return log N(w; 0, I) - log q(w|s), nats; the rest of the noise comes after w, so that L is lower triangular."""
    k = w.shape[-1]
    L = law.scale[:k, :k]
    xi = torch.linalg.solve(L, (w - law.mean(s)[:, :k]).mT).mT
    log_volume: Tensor = torch.linalg.slogdet(L).logabsdet
    return log_normal(w) - log_normal(xi) + log_volume

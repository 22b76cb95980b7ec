"""Twists: a proposal that looks ahead, and the value that it looks ahead to, for sequential Monte Carlo.

    log ψ_t(s) ≈ v_t(s)/α,        q_t(ω|s) ∝ N(ω; 0, I) exp(r_t/α) ψ_{t+1}(s'),        ω = (w, z)

Any ψ leaves the estimate of Z without bias; the true one leaves it without variance (Guarniero, Johansen & Lee 2017;
Heng, Bishop, Deligiannidis & Doucet 2020). ``gaussian_twist`` expands the world about a Gaussian law of its
trajectories, and so is exact where the world is linear, Gaussian and quadratic.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.approximation.iterated_gaussian import IteratedGaussian
from cai.compile.noise_program import NoiseProgram
from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.world.noise import log_normal


@dataclass(frozen=True)
class Twist:
    """A proposal for the noise of each time and the value of the state.

    Attributes:
        start: the law of the start's noise, given an empty vector.
        noise: the law of ω_t = (w_t, z_t) given s_t, for each t.
        log_values: log ψ_t(s_t), nats, for each t.
    """

    start: ConditionalGaussian
    noise: tuple[ConditionalGaussian, ...]
    log_values: tuple[Quadratic, ...]


def untwisted(program: NoiseProgram, alpha: float, generator: torch.Generator) -> Twist:
    """Return the bootstrap: noise as it comes, and no value ahead."""
    n, k = program.states.dimension, program.act_noise + program.step_noise

    def normal(size: int, given: int) -> ConditionalGaussian:
        zeros = torch.zeros(size, given, dtype=torch.float64)
        return ConditionalGaussian(zeros, zeros.new_zeros(size), torch.eye(size, dtype=torch.float64))

    nothing = Quadratic.zero(n, torch.zeros((), dtype=torch.float64))
    return Twist(normal(program.start_noise, 0), (normal(k, n),) * program.horizon, (nothing,) * program.horizon)


def gaussian_twist(program: NoiseProgram, alpha: float, generator: torch.Generator) -> Twist:
    """Return the law of an iterated Gaussian under POSTERIOR, and the messages of the world expanded about it."""
    method = IteratedGaussian(rule="POSTERIOR", checks=2)
    law = method.run(program, alpha, generator).guess
    values = method.messages(program, law, alpha)
    times = range(program.horizon)
    return Twist(law.start, tuple(_chained(law.act[t], law.step[t]) for t in times), tuple(values[t] for t in times))


def _chained(first: ConditionalGaussian, then: ConditionalGaussian) -> ConditionalGaussian:
    """Return the law of (w, z) given s from those of w given s and of z given (s, w)."""
    on_s, on_w = then.gain.split([first.gain.shape[-1], len(first.offset)], -1)
    gain = torch.cat((first.gain, on_s + on_w @ first.gain))
    offset = torch.cat((first.offset, then.offset + on_w @ first.offset))
    above = torch.nn.functional.pad(first.scale, (0, len(then.offset)))
    return ConditionalGaussian(gain, offset, torch.cat((above, torch.cat((on_w @ first.scale, then.scale), -1))))


def log_density(law: ConditionalGaussian, xi: Tensor) -> Tensor:
    """Return the log-density of a law with a square scale at the value that standard noise ξ gives, nats, ``[*]``."""
    log_volume: Tensor = torch.linalg.slogdet(law.scale).logabsdet
    return log_normal(xi) - log_volume

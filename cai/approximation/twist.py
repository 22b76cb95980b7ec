"""Twists: a proposal that looks ahead, and the value that it looks ahead to, for sequential Monte Carlo.

    log ψ_t(s) ≈ v_t(s)/α,        q_t(ω|s) ∝ N(ω; 0, I) exp(r_t/α) ψ_{t+1}(s'),        ω = (w, z)

Any ψ leaves the estimate of Z without bias; the true one leaves it without variance (Guarniero, Johansen & Lee 2017;
Heng, Bishop, Deligiannidis & Doucet 2020). ``quadratic_twist`` expands the world to second order in states and noise
about its most probable trajectory, and so is exact where the world is linear, Gaussian and quadratic.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from cai.compile.noise_program import NoiseProgram
from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.world.noise import log_normal

LEAST_PRECISION = 0.2
"""The least precision of the noise, that of the prior being 1: it keeps the proposal a distribution."""
HALVINGS = 6
"""How often a step of the most probable trajectory is halved before it is given up."""


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


def untwisted(program: NoiseProgram) -> Twist:
    """Return the bootstrap: noise as it comes, and no value ahead."""
    n, k = program.states.dimension, program.act_noise + program.step_noise

    def normal(size: int, given: int) -> ConditionalGaussian:
        zeros = torch.zeros(size, given, dtype=torch.float64)
        return ConditionalGaussian(zeros, zeros.new_zeros(size), torch.eye(size, dtype=torch.float64))

    nothing = Quadratic.zero(n, torch.zeros((), dtype=torch.float64))
    return Twist(normal(program.start_noise, 0), (normal(k, n),) * program.horizon, (nothing,) * program.horizon)


def quadratic_twist(program: NoiseProgram, alpha: float, iterations: int = 20) -> Twist:
    """Return the twist of the expansion about the most probable trajectory, found by Gauss-Newton steps that raise
    ``Σ r/α - ½ |noise|²``; it stops where none does."""
    sizes = [program.start_noise] + [program.act_noise + program.step_noise] * program.horizon
    noise = [torch.zeros(size, dtype=torch.float64) for size in sizes]
    states, best = _run(program, alpha, noise)
    twist = _expanded(program, alpha, noise, states)
    for _ in range(iterations):
        for halving in range(HALVINGS):
            tried = _towards(program, twist, noise, states, 0.5**halving)
            path, reached = _run(program, alpha, tried)
            if reached > best:
                break
        if not reached > best + 1e-9 * abs(best):
            break
        noise, states, best = tried, path, reached
        twist = _expanded(program, alpha, noise, states)
    return twist


def _one_step(program: NoiseProgram, t: int, s: Tensor, omega: Tensor) -> tuple[Tensor, Tensor]:
    w, z = omega.split([program.act_noise, program.step_noise], -1)
    following, reward = program.step(t, s, program.act(t, s, w), z)
    last = t == program.horizon - 1
    return following, reward + program.terminal(following) if last else reward


def _run(program: NoiseProgram, alpha: float, noise: list[Tensor]) -> tuple[list[Tensor], float]:
    """Return the states under noise, and log p(noise, O = 1) up to a constant, nats."""
    states, total = [program.start(noise[0])], -0.5 * float(noise[0].square().sum())
    for t, omega in enumerate(noise[1:]):
        following, reward = _one_step(program, t, states[-1], omega)
        states.append(following)
        total += float(reward) / alpha - 0.5 * float(omega.square().sum())
    return states, total


def _towards(
    program: NoiseProgram, twist: Twist, noise: list[Tensor], states: list[Tensor], share: float
) -> list[Tensor]:
    """Return the noise after a step of some length towards the mean of the proposal, feedback included."""
    moved = [noise[0] + share * (twist.start.offset - noise[0])]
    s = program.start(moved[0])
    for t, (law, omega, reference) in enumerate(zip(twist.noise, noise[1:], states[:-1], strict=True)):
        moved.append(omega + share * (law.mean(reference) - omega) + law.mean(s) - law.mean(reference))
        s, _ = _one_step(program, t, s, moved[-1])
    return moved


def _expanded(program: NoiseProgram, alpha: float, noise: list[Tensor], states: list[Tensor]) -> Twist:
    """Return the backward pass of the expansion about a trajectory."""
    n, laws, values = program.states.dimension, list[ConditionalGaussian](), list[Quadratic]()
    ahead = Quadratic.zero(n, states[0])
    for t in reversed(range(program.horizon)):
        y = torch.cat((states[t], noise[t + 1]))

        def following(y: Tensor, t: int = t) -> Tensor:
            return _one_step(program, t, y[:n], y[n:])[0]

        def reward(y: Tensor, t: int = t) -> Tensor:
            return _one_step(program, t, y[:n], y[n:])[1] / alpha

        joint = _second_order(reward, y) + _through(following, y, ahead)
        law, ahead = _integrated(joint, n)
        laws.insert(0, law)
        values.insert(0, ahead)
    start, _ = _integrated(_through(program.start, noise[0], ahead), 0)
    return Twist(start, tuple(laws), tuple(values))


def _second_order(f: Callable[[Tensor], Tensor], y: Tensor) -> Quadratic:
    """Return the second-order expansion of a number about y, as a quadratic of y itself."""
    M, g = torch.nan_to_num(hessian(f, y)), torch.nan_to_num(jacobian(f, y))
    value = torch.nan_to_num(f(y), neginf=0.0)
    return Quadratic(M, g - M @ y, value - g @ y + 0.5 * y @ M @ y)


def _through(f: Callable[[Tensor], Tensor], y: Tensor, v: Quadratic) -> Quadratic:
    """Return v(f(y)) with f to first order about y."""
    J = torch.nan_to_num(jacobian(f, y))
    c = f(y) - J @ y
    M, b, constant = v.M, v.b, v.c
    return Quadratic(J.mT @ M @ J, J.mT @ (b + M @ c), constant + b @ c + 0.5 * c @ M @ c)


def _integrated(joint: Quadratic, n: int) -> tuple[ConditionalGaussian, Quadratic]:
    """Return the law of ω given s in ``N(ω; 0, I) exp joint(s, ω)``, and log of its integral over ω."""
    M, b, c = joint.M, joint.b, joint.c
    precision = torch.eye(len(b) - n, dtype=b.dtype) - M[n:, n:]
    eigenvalues, V = torch.linalg.eigh(precision)
    eigenvalues = eigenvalues.clamp(min=LEAST_PRECISION)
    covariance = (V / eigenvalues) @ V.mT
    gain, offset = covariance @ M[n:, :n], covariance @ b[n:]
    constant = c + 0.5 * b[n:] @ offset - 0.5 * eigenvalues.log().sum()
    left = Quadratic(M[:n, :n] + M[:n, n:] @ gain, b[:n] + M[:n, n:] @ offset, constant)
    return ConditionalGaussian(gain, offset, V / eigenvalues.sqrt()), left


def log_density(law: ConditionalGaussian, xi: Tensor) -> Tensor:
    """Return the log-density of a law with a square scale at the value that standard noise ξ gives, nats, ``[*]``."""
    log_volume: Tensor = torch.linalg.slogdet(law.scale).logabsdet
    return log_normal(xi) - log_volume

"""Linear-Gaussian systems of one dimension by brute force: every noise and action on a grid, nested over the times.

The trapezoid rule is exact to rounding for smooth integrands that vanish at both ends. A maximum is that of the
parabola through the best three points. Plain NumPy; shares no code with cai.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.linear_worlds import System

Array = NDArray[np.float64]
Mean = Callable[[Array, Array, Array], Array]
"""From log-masses and log-densities of the points of a grid, and values over the last axis, to their mean."""
REACH = 10.0


def soft(eta: float) -> Mean:
    """Return ``η log ∫ p exp(x/η)``."""

    def mean(log_mass: Array, log_density: Array, x: Array) -> Array:
        each = log_mass + x / eta
        top = each.max(-1, keepdims=True)
        return eta * (top[..., 0] + np.log(np.exp(each - top).sum(-1)))

    return mean


def expect(log_mass: Array, log_density: Array, x: Array) -> Array:
    """Return ``∫ p x``."""
    return (np.exp(log_mass) * x).sum(-1)


def best(log_mass: Array, log_density: Array, x: Array) -> Array:
    """Return ``max x``."""
    return top_of(x)


def viterbi(alpha: float) -> Mean:
    """Return ``max (α log p + x)``."""
    return lambda log_mass, log_density, x: top_of(alpha * log_density + x)


def top_of(x: Array) -> Array:
    """Return the maximum over the last axis, of the parabola through the best point and its neighbours."""
    at = x.argmax(-1).clip(1, x.shape[-1] - 2)[..., None]
    left, middle, right = (np.take_along_axis(x, at + i, -1)[..., 0] for i in (-1, 0, 1))
    return middle - (right - left) ** 2 / (8 * (right - 2 * middle + left))


def value(system: System, over: Mean, act: Mean, s: float, *, step: float) -> float:
    """Return v_0(s), reward units; the system has one state, one action and one noise coordinate."""
    grid = np.arange(-REACH, REACH + step / 2, step)
    log_density = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    log_mass = log_density + np.log(step)
    points, mass, density = grid, log_mass, log_density
    if system.flat:  # nothing holds an action near 0 but the reward
        points, mass, density = 1.5 * grid, np.full_like(grid, np.log(1.5 * step)), np.zeros_like(grid)

    def on(s: Array, t: int) -> Array:
        if t == system.T:
            return 0.5 * system.Ms.item() * s**2 + system.bs.item() * s + system.cs.item()
        i = system.index(t)
        get = {name: getattr(system, name)[i].numpy().squeeze() for name in ("A", "B", "G", "d", "K", "e", "L")}
        M, b, c, volume = (getattr(system, name)[i].numpy() for name in ("M", "b", "c", "log_volume"))
        s = s[..., None, None]
        a = get["K"] * s + get["e"] + get["L"] * points[:, None]
        y = (s, a, grid)
        r = (
            c
            + sum(b[i] * y[i] for i in range(3))
            + 0.5 * sum(M[i, j] * y[i] * y[j] for i in range(3) for j in range(3))
        )
        x = r + system.discount * on(get["A"] * s + get["B"] * a + get["G"] * grid + get["d"], t + 1)
        q = over(log_mass, log_density - volume, x)
        return act(mass, density - (0.0 if system.flat else np.log(abs(get["L"]))), q)

    return float(on(np.array(s), 0))

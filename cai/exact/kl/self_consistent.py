"""x = F(x): statistics of a policy that is stationary for these statistics."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from cai.errors import NotConvergedError

STEPS = 3000
"""Steps towards F(x) at most."""
NEAR = 0.05
"""So near to F(x), in steps, the rest is Newton's."""
EXACT = 1e-11
"""The largest difference of x and F(x) at the end, relative to x."""


def self_consistent(F: Callable[[Tensor], Tensor], x: Float[Tensor, " N"], step: float) -> Float[Tensor, " N"]:
    """Return the fixed point of F to which small steps lead from x: ``x ← x + min(1/2, step/|F - x|) (F - x)``.

    A step is small, so that of several fixed points it is the first on the way, which is a stable one.

    Raises:
        NotConvergedError: the steps lead out of all bounds.
    """
    if not len(x):
        return x
    F = _remembered(F)
    for _ in range(STEPS):
        gap = F(x) - x
        size = float(gap.abs().max())
        if not size < float("inf"):
            break
        small = max(step, float(x.abs().max()) / 8)
        if size < NEAR * small and (y := _polished(F, x, small)) is not None:
            return y
        x = x + gap * min(0.5, small / size)
    raise NotConvergedError(
        "kl_fixed_point: the scale of the advantages has no fixed point: as returns become alike it grows without "
        "bound, and the policy ends on the maximisers; use a larger temperature, or the scale 'none'"
    )


def _remembered(F: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function that sweeps the world once for each x: Newton's method asks for some of them again."""
    known = dict[tuple[float, ...], Tensor]()

    def remembered(x: Tensor) -> Tensor:
        key = tuple(x.tolist())
        if key not in known:
            known[key] = F(x)
        return known[key]

    return remembered


def _polished(F: Callable[[Tensor], Tensor], x: Tensor, small: float) -> Tensor | None:
    """Return the fixed point within a step of x; None where it is another, or not exact yet."""
    from scipy.optimize import root

    def gap(y: Any) -> Any:
        return (F(x.new_tensor(y)) - x.new_tensor(y)).numpy()

    y = x.new_tensor(root(gap, x.numpy(), tol=1e-15).x)
    exact = float((F(y) - y).abs().max()) <= EXACT * max(1.0, float(y.abs().max()))
    return y if exact and float((y - x).abs().max()) <= small else None

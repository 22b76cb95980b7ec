"""The stationary policy of one state, where the action values G and the price of a nat, αW, are given.

A policy is stationary where ``F(a)`` is the same for every action that it takes: with c that same number,

    F = G - αW log π/ref         gives    π = ref exp((G - c)/(αW))           ``exponential``
    F = G - αW (1 - ref/π)       gives    π = ref αW/(αW + c - G)             ``polynomial``
    F = G - αW                   gives    any policy on the maximisers        ``greedy``

and c makes π sum to 1: it is the root of a function that falls in c. W is 1 unless texts are divided by their length.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.exact.rounding import largest, tied_from
from cai.exact.rules import HARD, VARIATIONAL

Tilt = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From G ``[S, A]``, αW ``[]``, ``[S, 1]`` or ``[S, A]``, reward units, and log ref ``[S, A]``, nats, to log π."""
STEPS = 60
"""Newton steps at most; a handful is usual."""
CLOSE = 1e-14
"""A Newton step so small, relative to the root, is the last."""


def exponential(g: Float[Tensor, "S A"], price: Tensor, log_ref: Float[Tensor, "S A"]) -> Float[Tensor, "S A"]:
    """Return log π of ``π = ref exp((G - c)/(αW))``, nats; ref where G is -inf for every action."""
    if price.shape[-1:] != g.shape[-1:]:
        soft, alpha = VARIATIONAL.over_actions, price.squeeze(-1) if price.dim() else price.expand(len(g))
        return soft.log_weights(g, log_ref, alpha, soft.value(g, log_ref, alpha))
    g = torch.where(log_ref == -torch.inf, -torch.inf, g)
    dead = (g == -torch.inf).all(-1, keepdim=True)
    # Where one term alone is 1 the sum is at least 1: Newton climbs from there, for log Σ is convex and falls in c.
    c = torch.where(dead, 0.0, (g + price * log_ref).nan_to_num(nan=-torch.inf).amax(-1, keepdim=True))
    for _ in range(STEPS):
        score = log_ref + (g - c) / price
        total = score.logsumexp(-1, keepdim=True)
        slope = ((score - total).exp() / price).sum(-1, keepdim=True)
        step = torch.where(dead, 0.0, total / slope)
        c = c + step
        if not bool((step > CLOSE * c.abs()).any()):
            break
    log_pi = log_ref + (g - c) / price
    return torch.where(dead, log_ref, log_pi - log_pi.logsumexp(-1, keepdim=True))


def polynomial(g: Float[Tensor, "S A"], price: Tensor, log_ref: Float[Tensor, "S A"]) -> Float[Tensor, "S A"]:
    """Return log π of ``π = ref αW/(αW + c - G)``, nats; ref where G is -inf for every action.

    With the poles ``G - αW`` and z the distance of c from the highest, ``π = ref/((z + d)/(αW))``, d >= 0: no digit is
    lost at any α.
    """
    pole = torch.where(log_ref == -torch.inf, -torch.inf, g - price)
    top = pole.amax(-1, keepdim=True)
    dead = top == -torch.inf
    d = torch.where(dead, 0.0, top - pole)
    weight = log_ref.exp() * price  # π = weight/(z + d)
    least = torch.finfo(g.dtype).tiny
    z = (weight - d).amax(-1, keepdim=True).clamp(min=least)  # one term alone is 1: the root is not below
    for _ in range(STEPS):
        pi = weight / (z + d)
        total, slope = pi.sum(-1, keepdim=True), (pi / (z + d)).sum(-1, keepdim=True)
        step = (
            total * (total - 1) / slope
        )  # Newton on 1/Σ - 1, which is concave and rises in z: from the left it climbs
        z = z + step
        if not bool((step > CLOSE * z).any()):
            break
    log_pi = log_ref + (price / (z + d)).log()
    return torch.where(dead, log_ref, log_pi - log_pi.logsumexp(-1, keepdim=True))


def shared(g: Float[Tensor, "S A"], price: Float[Tensor, "S A"], log_ref: Float[Tensor, "S A"]) -> Float[Tensor, "S A"]:
    """Return log π of ``π ∝ ref exp(G/(α w)), w = Σ π W``: one price for all actions of a state, their mean; nats."""
    possible = (log_ref > -torch.inf) & (g > -torch.inf)
    low = torch.where(possible, price, torch.inf).amin(-1).clamp(max=price.amax(-1))
    high = torch.where(possible, price, -torch.inf).amax(-1).clamp(min=low)
    finite = torch.where(possible, g, 0.0)
    mean = (low + high) / 2
    for _ in range(STEPS):  # Newton, and where it leaves the bracket, bisection
        pi = exponential(g, mean.unsqueeze(-1), log_ref).exp()
        over = (pi * price).sum(-1) - mean
        low, high = torch.where(over > 0, mean, low), torch.where(over > 0, high, mean)
        centred = finite - (pi * finite).sum(-1, keepdim=True)
        step = over / (1 + (pi * centred * price).sum(-1) / mean**2)
        inside = (mean + step > low) & (mean + step < high)
        step = torch.where(inside, step, (low + high) / 2 - mean)
        mean = mean + step
        if not bool((step.abs() > CLOSE * mean).any()):
            break
    return exponential(g, mean.unsqueeze(-1), log_ref)


def greedy(g: Float[Tensor, "S A"], price: Tensor, steps: int, log_ref: Float[Tensor, "S A"]) -> Float[Tensor, "S A"]:
    """Return log of the reference on the maximisers of G - αW, and on what the rounding of so many steps sets apart."""
    best, alpha, size = HARD.over_actions, g.new_ones(()), largest(g) + largest(price)
    value = best.value(g - price, log_ref, alpha)
    return best.log_weights(g - price, log_ref, alpha, tied_from(value, g.new_tensor(size), steps, 0.0))

"""The infinite horizon of a linear-Gaussian world: the stationary point of the Riccati recursion, by doubling.

    P = H_xx + H_xe S⁻¹ H_ex,     c = P_11/2 + constants/(1 - γ)

The element of 2^k steps is that of 2^(k-1) steps followed by itself, and its J converges to P
quadratically: structure-preserving doubling (Anderson 1978; Chu, Fan, Lin & Wang 2004). A few backups then reduce
rounding.
"""

from dataclasses import replace

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import stacked, symmetric
from cai.errors import Finding, IntractableError, NotConvergedError
from cai.exact.fixed_point import FixedPoint
from cai.exact.gaussian.homogeneous import Homogeneous, closed_loop, homogeneous, quadratic_of, stepped
from cai.exact.gaussian.loewner import completed, proved
from cai.exact.gaussian.scan import Element, combined, elements
from cai.exact.gaussian.stabilisability import in_words, observable_subspace, spectral_radius, unstabilisable_mode
from cai.exact.rules import Rule

MOST = 64
"""Doublings after which a search is given up: 10^19 steps."""
POLISH = 20
"""The most backups that reduce the rounding error of the doubling."""


@torch.no_grad()
def stationary_value(model: LinearGaussian, rule: Rule, alpha: Tensor) -> FixedPoint:
    """Return v of the infinite horizon, with a proved bound on the error of the start value; see ``loewner``.

    v is the best over policies under which ``γ^t E |x_t|²`` goes to 0, where x is the part of s that rewards depend on.

    Args:
        model: stationary, with a discount below 1.
        rule: one that averages outcomes, VARIATIONAL or HARD.
        alpha: temperatures, reward units, ``[*M]``.

    Raises:
        IntractableError: there is exact evidence in every slice, or the best action of one step does not exist.
        NotConvergedError: the system is not stabilisable: a mode that rewards depend on grows by 1/√γ a step or more,
            and no action reaches it. Or v is infinite, or no bound could be proved.
    """
    slices = homogeneous(model, rule, alpha)
    if slices is None:
        seen = f"None under {rule}, with exact evidence or a mean that is not known"
        raise IntractableError([Finding("horizon", seen, "a finite horizon")])
    batch, n = slices.batch_shape, model.states.dimension
    what, labels = f"{rule} with γ = {model.discount:g}", model.states.labels
    entries = [f", batch entry {i}" if batch else "" for i in range(batch.numel())]
    systems = zip(slices.systems, entries, strict=True)
    found = [_found(one, what + entry, labels, model.discount) for one, entry in systems]
    mean = model.start_mean.expand(*batch, n).reshape(-1, n)
    covariance = (model.start_scale @ model.start_scale.mT).expand(*batch, n, n).reshape(-1, n, n)
    h = quadratic_of(torch.stack([off for _, off, _ in found]))
    bounds = h(mean) + 0.5 * (h.M * covariance).sum((-2, -1))
    v = stacked([quadratic_of(V) for V, _, _ in found]).each(lambda x: x.reshape((*batch, *x.shape[1:])))
    return FixedPoint(v, max(steps for *_, steps in found), float(bounds.max()))


def _found(slices: Homogeneous, where: str, labels: tuple[str, ...], discount: float) -> tuple[Tensor, Tensor, int]:
    """Return v and a bound on its error, ``[X, X]`` each, and the number of doublings and backups."""
    end, each = torch.zeros_like(slices.transition[0, :, : slices.states]), elements(slices)
    if each is None:  # the action has no cost of its own: potential-based shaping by -c |s|² adds one
        end.diagonal()[:-1] = -float(slices.reward.abs().amax())
        slices = slices.less_value(end)
        each = elements(slices)
    if each is None:
        seen = f"None, {where}, where the reward of one step alone has no best action"
        raise IntractableError([Finding("horizon", seen, "a cost on the action or on where it leads, or a prior")])
    basis = _basis(each)
    each, slices = _seen(each, slices, basis)
    _require_stabilisable(each, where, basis, labels, discount)
    doubled, steps = _doubled(each)
    P, backups = _polished(slices, doubled)
    V = completed(slices, P, discount)
    if V is None:
        raise NotConvergedError(f"{where}: v is infinite: rewards outgrow the chance 1-γ of ending")
    fastest = spectral_radius(closed_loop(slices, P)[0, :-1, :-1])
    if not fastest < 1:
        seen = (
            f"γ E |s|², in the part of s that rewards depend on, grows by {fastest**2:.4g} a step under the best policy"
        )
        raise NotConvergedError(f"{where}: {seen}: no bound on v can be proved")
    off = proved(slices, V)
    if off is None:
        raise NotConvergedError(f"{where}: no bound below the size of the values could be proved")
    return end + symmetric(basis @ V[0] @ basis.mT), symmetric(basis @ off[0] @ basis.mT), steps + backups


def _basis(each: Element) -> Tensor:
    """Return an orthonormal basis of the part of x that rewards depend on, ``[X, Q]``, with 1 as last coordinate."""
    of_s = observable_subspace(each.A[0, :-1, :-1], each.J[0, :, :-1])
    basis: Tensor = torch.block_diag(of_s, each.A.new_ones(1, 1))
    return basis


def _seen(each: Element, slices: Homogeneous, basis: Tensor) -> tuple[Element, Homogeneous]:
    """Return the element and the slice in the coordinates of a basis, with e relative to the best e of one step."""
    X, back = slices.states, basis.mT
    seen = Element(back @ each.A @ basis, symmetric(back @ each.C @ basis), symmetric(back @ each.J @ basis))
    transition = torch.cat((seen.A, back @ slices.transition[..., X:]), -1)
    reward = torch.block_diag(seen.J[0], slices.reward[0, X:, X:]).unsqueeze(0)
    spread = None if slices.spread is None else back @ slices.spread @ basis
    return seen, replace(slices, transition=transition, reward=reward, spread=spread)


def _require_stabilisable(each: Element, where: str, basis: Tensor, labels: tuple[str, ...], discount: float) -> None:
    lost = unstabilisable_mode(each.A[0, :-1, :-1], each.C[0, :-1, :-1])
    if lost is None:
        return
    value, direction = lost[0] / discount**0.5, lost[1]
    words, size = in_words(basis[:-1, :-1].to(direction) @ direction, labels), f"{abs(value):.4g}"
    number = f"{value.real:.4g}" if abs(value.imag) < 1e-9 else f"{value.real:.4g} ± {abs(value.imag):.4g}i"
    raise NotConvergedError(
        f"{where}: not stabilisable: {words} affects the reward and grows by {size} a step (eigenvalue {number}), "
        f"at least 1/√γ = {discount**-0.5:.4g}, and no action reaches it"
    )


def _doubled(each: Element) -> tuple[Tensor, int]:
    """Return J of 2^k steps, ``[1, Q, Q]``, and k, once twice as many steps do not change it."""
    eps = torch.finfo(each.J.dtype).eps
    for k in range(1, MOST + 1):
        twice = combined(each, each)
        change, size = (twice.J - each.J).abs().max(), twice.J.abs().max()
        if not bool(twice.J.isfinite().all()):
            return each.J, k
        each = twice
        if change <= eps * size:
            break
    return each.J, k


def _polished(slices: Homogeneous, P: Tensor) -> tuple[Tensor, int]:
    """Return P after further backups, as long as each changes it by less than the one before; and their number."""
    last, count = float("inf"), 0
    while count < POLISH:
        following = stepped(slices, P)[0]
        change = float((following - P).abs().max())
        if not change < last:
            break
        P, last, count = following, change, count + 1
    return P, count

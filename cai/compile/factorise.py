"""factorise: a world's program, enumerated once, as factors no larger than what they read."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cai.compile.additive import Additive, terms_of, whole
from cai.compile.audit import audit_factors, audit_layout, audit_members, audit_names, audit_rewards, audit_scope
from cai.compile.enumerate import precision
from cai.compile.slices import Enumerated, Shape, enumerate_slice, is_timed, measure, start
from cai.compile.tabulate import demand
from cai.errors import fault, quoted
from cai.factors import Factor, FactoredSlice, Factors, primed
from cai.types import Space
from cai.world import World, discount_of, horizon_of


def factorise(world: World | Factors, *, dtype: torch.dtype = torch.float64) -> Factors:
    """Compile a world to factors: for every variable of the slice log p(variable | what it reads), and reward pieces.

    ``p(slice) = Π_i p(a_i|s, a_<i) Π_x p(x|parents of x)``, ``r = Σ_m r_m``. The slice runs once under an enumerating
    messenger, each variable on its own tensor dimension, so that a log-probability comes out as large as what it
    depends on. A reward that is a sum in the program stays one: no piece reads more than its term does.

    Args:
        world: the world, or factors, which are returned as they are.
        dtype: of probabilities and rewards.

    Raises:
        WorldError: the world does not conform (``cai.check`` lists every finding).
        IntractableError: a variable is not finite, or the program ties too many variables in one tensor.
    """
    if isinstance(world, Factors):
        return world
    with precision(dtype):
        return _compile(world, dtype)


def _compile(world: World, dtype: torch.dtype) -> Factors:
    demand(audit_members(world))
    horizon, discount = horizon_of(world), discount_of(world)
    shape, timed = measure(world), is_timed(world)
    demand([*audit_names(shape), *audit_layout(world, shape)])
    if timed and horizon is None:
        raise fault("act and step", "they read t", "slices that do not depend on t where horizon = None")
    slices = (
        [_slice(world, shape, t, dtype) for t in range(horizon or 1)] if timed else [_slice(world, shape, 0, dtype)]
    )
    demand(audit_scope(world))
    return Factors(
        initial=_initial(world, dtype),
        slices=tuple(slices[:1] if all(_equal(one, slices[0]) for one in slices) else slices),
        terminal=_terminal(world, shape.states, dtype),
        horizon=horizon,
        discount=discount,
        states=shape.states,
        actions=shape.actions,
        latents=_latents(slices[0], shape.states),
        layout=getattr(world, "layout", None),
    )


def _slice(world: World, shape: Shape, t: int, dtype: torch.dtype) -> FactoredSlice:
    """Enumerate and check the slice of time t, and name the dimensions of each of its factors."""
    with Additive():
        run = enumerate_slice(world, shape, t, points=False)
        pieces = terms_of(run.reward)
    states = shape.states.names
    prior = {name: whole(one) for name, one in run.log_prior.items()}
    chance = {name: whole(one) for name, one in run.log_prob.items()}
    full = _sizes(run, shape)
    demand(
        [
            *audit_factors(f"act, t = {t}", _detached(prior), run.dims, full),
            *audit_factors(f"step, t = {t}", _detached(chance), run.dims, full),
            *(finding for one in pieces for finding in audit_rewards(f"step, t = {t}", one.detach(), full)),
        ]
    )
    axes = {-1 - i: name for i, name in enumerate(states)}
    axes |= {dim: primed(name) if name in chance and name in states else name for name, dim in run.dims.items()}
    return FactoredSlice(
        prior={name: _conditional(name, one, axes, dtype) for name, one in prior.items()},
        chance={
            (own := primed(name) if name in states else name): _conditional(own, one, axes, dtype)
            for name, one in chance.items()
        },
        reward=tuple(_named(piece, axes, dtype) for piece in pieces),
    )


def _initial(world: World, dtype: torch.dtype) -> dict[str, Factor]:
    _, begin = start(world)
    demand(audit_factors("initial", _detached(begin.log_probs), begin.dims, tuple(begin.sizes.values())[::-1]))
    axes = {dim: name for name, dim in begin.dims.items()}
    return {name: _conditional(name, one, axes, dtype) for name, one in begin.log_probs.items()}


def _terminal(world: World, states: Space, dtype: torch.dtype) -> tuple[Factor, ...]:
    """Return the pieces of the terminal reward; none where the world has no such reward."""
    terminal = getattr(world, "terminal", None)
    if terminal is None:
        return ()
    values = {
        name: torch.arange(size).to(kind).reshape((-1,) + (1,) * i)
        for i, (name, size, kind) in enumerate(zip(states.names, states.sizes, states.dtypes, strict=True))
    }
    try:
        with Additive():
            reward = terminal(states.pack(values))
            pieces = terms_of(reward if isinstance(reward, Tensor) else torch.as_tensor(reward))
    except Exception as error:
        raise fault("terminal", quoted(error), "code that broadcasts over a batch of states") from error
    full = states.sizes[::-1]
    demand(finding for one in pieces for finding in audit_rewards("terminal", one.detach(), full))
    axes = {-1 - i: name for i, name in enumerate(states.names)}
    return tuple(_named(one, axes, dtype) for one in pieces)


def _named(value: Tensor, axes: dict[int, str], dtype: torch.dtype, own: str = "") -> Factor:
    """Name the axes of an enumerated tensor, leaving out those along which nothing changes, but for its own."""
    kept = [
        dim
        for dim in range(-value.dim(), 0)
        if axes[dim] == own or (value.shape[dim] > 1 and not _constant(value, dim))
    ]
    index = tuple(slice(None) if dim in kept else 0 for dim in range(-value.dim(), 0))
    return Factor(tuple(axes[dim] for dim in kept), value[index].to(dtype))


def _conditional(own: str, value: Tensor, axes: dict[int, str], dtype: torch.dtype) -> Factor:
    """Return a conditional distribution with its own variable on the last axis, normalised in its dtype."""
    factor = _named(value, axes, dtype, own)
    at = factor.scope.index(own)
    table = factor.table.movedim(at, -1)
    total = table.logsumexp(-1, keepdim=True)
    rounding = 64 * torch.finfo(table.dtype).eps
    table = torch.where(total.abs() < rounding, table, table - total)
    return Factor((*(name for name in factor.scope if name != own), own), table)


def _constant(value: Tensor, dim: int) -> bool:
    """Tell whether nothing changes along a dimension; a tensor that is differentiated keeps those it was given."""
    if value.stride(dim) == 0:
        return True
    return not value.requires_grad and bool((value == value.narrow(dim, 0, 1)).all())


def _latents(one: FactoredSlice, states: Space) -> dict[str, int]:
    following = {primed(name) for name in states.names}
    return {name: factor.table.shape[-1] for name, factor in one.chance.items() if name not in following}


def _sizes(run: Enumerated, shape: Shape) -> tuple[int, ...]:
    """Return the sizes of all dimensions of an enumerated slice, leftmost first."""
    sizes = {-1 - i: size for i, size in enumerate(shape.states.sizes)}
    for factors in (run.log_prior, run.log_prob):
        for name in factors:
            sizes[run.dims[name]] = run.sizes[name]
    return tuple(sizes[dim] for dim in range(-len(sizes), 0))


def _detached(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: factor.detach() for name, factor in factors.items()}


def _equal(one: FactoredSlice, other: FactoredSlice) -> bool:
    def same(a: Factor, b: Factor) -> bool:
        return a.scope == b.scope and not a.table.requires_grad and torch.equal(a.table, b.table)

    def all_same(a: Iterable[Any], b: Iterable[Any]) -> bool:
        a, b = list(a), list(b)
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))

    pairs = ((one.prior.values(), other.prior.values()), (one.chance.values(), other.chance.values()))
    return one is other or (all(all_same(a, b) for a, b in pairs) and all_same(one.reward, other.reward))

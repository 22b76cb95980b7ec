"""factorise: a world's program, enumerated once, as factors no larger than what they read."""

from collections.abc import Iterator
from typing import Any

import torch
from pyro.ops.provenance import get_provenance
from torch import Tensor

from cai.compile.additive import LARGEST, Additive, terms_of, whole
from cai.compile.ends import audit_drawn_ends, ended_factor
from cai.compile.factor_model import Factor, FactoredSlice, Factors, primed
from cai.compile.inspect import audit_factors, audit_rewards, audit_scope, close
from cai.compile.slices import REWARD, Shape, enumerate_slice, single, slice_windows, start, start_windows
from cai.compile.survey import Survey, demand, survey
from cai.compile.validate import require_valid
from cai.compile.windows import ROOM, Names, Window, spread, spread_names, traced, windows
from cai.errors import Finding, IntractableError, blamed, fault
from cai.support.memory import TENSOR, require_room
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spaces import Space


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
        require_valid(world)
        return world
    with precision(dtype):
        return _compile(world, dtype)


def _compile(world: World, dtype: torch.dtype) -> Factors:
    found = survey(world)
    shape, horizon = found.shape, found.horizon
    _refuse_wide(shape)
    first = _slice(world, shape, 0, dtype)
    slices = [first, *(_slice(world, shape, t, dtype) for t in range(1, _times(first, found)))]
    if found.claims and not _equal(slices[0], _slice(world, shape, (horizon or 2) - 1, dtype)):
        raise fault("stationary", "True, but slices differ over time", "slices that do not depend on t")
    latents, terminal = _latents(slices[0], shape.states), _terminal(world, shape.states, dtype)
    for t, one in enumerate(slices):
        own = _latents(one, shape.states)
        if own != latents:
            raise fault(f"step, t = {t}", f"latents {own}", f"the same at all times, as at t = 0: {latents}")
    demand(audit_scope(world))
    with torch.no_grad():
        for t in {0, len(slices) - 1}:
            demand(_audit_alone(world, shape, slices[t], t))
        demand(_audit_end(world, shape, terminal))
    ends = ended_factor(world, shape.states)
    for t in {0, len(slices) - 1}:
        demand(audit_drawn_ends(world, shape.states, ends, t))
    return Factors(
        initial=_initial(world, shape.states, dtype),
        slices=_merged(slices),
        terminal=terminal,
        horizon=horizon,
        discount=found.discount,
        states=shape.states,
        actions=shape.actions,
        latents=latents,
        layout=getattr(world, "layout", None),
        ends=ends,
    )


def _refuse_wide(shape: Shape) -> None:
    """Raise an ``IntractableError`` where a variable has more values than a factor may have numbers."""
    sizes = dict(
        zip((*shape.states.names, *shape.actions.names), (*shape.states.sizes, *shape.actions.sizes), strict=True)
    )
    for name, size in (sizes | shape.sites).items():
        if size > LARGEST:
            seen = f"{size:,} values"
            raise IntractableError([Finding(f"variable '{name}'", seen, f"at most {LARGEST:,} in a world of factors")])


def _times(first: FactoredSlice, found: Survey) -> int:
    """Return how many slices there are to be made; refused where they would not fit."""
    T = found.horizon or 1 if found.timed else 1
    held = sum(
        factor.table.nbytes + TENSOR for factor in (*first.prior.values(), *first.chance.values(), *first.reward)
    )
    require_room("factors", f"slices that differ over T = {T:,} times", T * held)
    return T


def _slice(world: World, shape: Shape, t: int, dtype: torch.dtype) -> FactoredSlice:
    """Enumerate and check the slice of time t, and name the dimensions of each of its factors."""
    parts = [_part(world, shape, t, dtype, window) for window in slice_windows(world, shape, t)]
    prior = {name: factor for part in parts for name, factor in part.prior.items()}
    chance = {name: factor for part in parts for name, factor in part.chance.items()}
    return FactoredSlice(prior, chance, tuple(piece for part in parts for piece in part.reward))


def _part(world: World, shape: Shape, t: int, dtype: torch.dtype, window: Window | None) -> FactoredSlice:
    """Return the factors of a slice that one run of it gives."""
    names = None if window is None else window.names
    with Additive():
        run = enumerate_slice(world, shape, t, points=False, window=names)
        pieces = terms_of(run.reward) if window is None or REWARD in window.factors else ()
    if run.reward.is_complex():
        raise fault(f"step, t = {t}", f"rewards of dtype {run.reward.dtype}", "real numbers")
    states = shape.states.names
    own = {name: primed(name) if name in run.log_prob and name in states else name for name in run.sizes}
    axes = {-1 - i: name for i, name in enumerate(spread_names(shape.states, names))}
    axes |= {dim: own[name] for name, dim in run.dims.items()}
    sizes = dict(zip(states, shape.states.sizes, strict=True)) | {own[name]: run.sizes[name] for name in run.dims}

    def factors(where: str, log_probs: dict[str, Tensor]) -> dict[str, Factor]:
        wanted = {own[name]: one for name, one in log_probs.items() if window is None or own[name] in window.factors}
        return {name: named_factor(where, whole(one), axes, sizes, dtype, name) for name, one in wanted.items()}

    prior, chance = factors(f"act, t = {t}", run.log_prior), factors(f"step, t = {t}", run.log_prob)
    reward = tuple(named_factor(f"step, t = {t}", piece, axes, sizes, dtype) for piece in map(whole, pieces))
    demand(
        finding for one in reward for finding in audit_rewards(f"step, t = {t}", one.table.detach(), one.table.shape)
    )
    return FactoredSlice(prior, chance, reward)


def _audit_alone(world: World, shape: Shape, one: FactoredSlice, t: int, samples: int = 6) -> Iterator[Finding]:
    """Run the slice on single values, and hold it to the factors: code that does not broadcast shows here."""
    for i in range(samples):
        found = single(world, shape, t, i, i)

        def read(factor: Factor, values: dict[str, int] = found.values) -> Tensor:
            return factor.table[tuple(values[name] for name in factor.scope)]

        pairs = [(name, found.log_probs[name], read(factor)) for name, factor in {**one.prior, **one.chance}.items()]
        total = sum((read(piece) for piece in one.reward), torch.zeros(()))
        for name, lone, batch in [*pairs, ("the reward", found.given["step: the reward"], total)]:
            if lone.numel() != 1 or not close(lone, batch):
                seen = f"{name} is {lone.flatten()[:3].tolist()} on single values, {float(batch):g} among all at once"
                expected = "code that broadcasts, and is a function of the slice alone"
                yield Finding(f"act or step, t = {t}", f"{seen}, at {found.values}", expected)
                return


def _audit_end(world: World, shape: Shape, terminal: tuple[Factor, ...], samples: int = 6) -> Iterator[Finding]:
    for i in range(samples if terminal else 0):
        found = single(world, shape, 0, i, i)
        lone = found.given["terminal: the reward"]
        parts = [one.table[tuple(found.values[name] for name in one.scope)] for one in terminal]
        batch = sum(parts, torch.zeros(()))
        if lone.numel() != 1 or not close(lone, batch):
            seen = f"{lone.flatten()[:3].tolist()} on single values, {float(batch):g} among all at once"
            yield Finding("terminal", f"{seen}, at {found.values}", "code that broadcasts over a batch of states")
            return


def _initial(world: World, states: Space, dtype: torch.dtype) -> dict[str, Factor]:
    found: dict[str, Factor] = {}
    for window in start_windows(world, states):
        _, begin = start(world, window=None if window is None else window.names)
        axes = {dim: name for name, dim in begin.dims.items()}
        for name, one in begin.log_probs.items():
            if window is None or name in window.factors:
                found[name] = named_factor("initial", whole(one), axes, begin.sizes, dtype, name)
    return found


def _terminal(world: World, states: Space, dtype: torch.dtype) -> tuple[Factor, ...]:
    """Return the pieces of the terminal reward; none where the world has no such reward."""
    if getattr(world, "terminal", None) is None:
        return ()
    names: Names | None = None
    if len(states.names) > ROOM:
        alone = {name: traced(one, name) for name, one in spread(states, frozenset()).items()}
        ((names, _),) = windows("terminal", {REWARD: get_provenance(_rewarded(world, states, alone))})
    with Additive():
        pieces = terms_of(_rewarded(world, states, spread(states, names)))
    axes = {-1 - i: name for i, name in enumerate(spread_names(states, names))}
    sizes = dict(zip(states.names, states.sizes, strict=True))
    found = tuple(named_factor("terminal", one, axes, sizes, dtype) for one in pieces)
    demand(finding for one in found for finding in audit_rewards("terminal", one.table.detach(), one.table.shape))
    return found


def _rewarded(world: Any, states: Space, values: dict[str, Tensor]) -> Tensor:
    with blamed("terminal", "code that broadcasts over a batch of states"):
        reward = world.terminal(states.pack(values))
        return reward if isinstance(reward, Tensor) else torch.as_tensor(reward)


def named_factor(
    where: str, value: Tensor, axes: dict[int, str], sizes: dict[str, int], dtype: torch.dtype, own: str = ""
) -> Factor:
    """Name the axes of an enumerated tensor, leaving out those along which nothing changes.

    With ``own`` it is a conditional distribution: its own variable comes last, and it sums to 1 over that.
    """
    dims = range(-value.dim(), 0)
    wide = [dim for dim in dims if value.shape[dim] > 1 or axes.get(dim) == own]
    strange = [dim for dim in wide if dim not in axes or value.shape[dim] != sizes[axes[dim]]]
    if strange:
        expected = "a batch shape of its own: one scalar for each combination of the values that it reads"
        plain = own.removesuffix("'")
        what = f"{where}, variable '{plain}'" if own else where
        raise fault(what, f"a tensor of shape {tuple(value.shape)[-12:]} (its last dimensions)", expected)
    # Few dimensions first: torch's reductions take 64 at most, and a slice may have more variables.
    table = value[tuple(slice(None) if dim in wide else 0 for dim in dims)]
    scope = [axes[dim] for dim in wide]
    for name in [name for name in scope if name != own]:
        axis = scope.index(name)
        if _constant(table, axis):
            table = table.select(axis, 0)
            scope.remove(name)
    factor = Factor(tuple(scope), table)
    return _conditional(where, own, factor, dtype) if own else Factor(factor.scope, table.to(dtype))


def _conditional(where: str, own: str, factor: Factor, dtype: torch.dtype) -> Factor:
    """Return a checked conditional distribution with its own variable on the last axis, normalised in its dtype."""
    table = factor.table.movedim(factor.scope.index(own), -1)
    name = own.removesuffix("'")
    demand(audit_factors(where, {name: table.detach()}, {name: -1}, tuple(table.shape)))
    if table.dtype != dtype:
        table = table.to(dtype)
        table = table - table.logsumexp(-1, keepdim=True)
    return Factor((*(name for name in factor.scope if name != own), own), table)


def _constant(value: Tensor, dim: int) -> bool:
    """Tell whether nothing changes along a dimension; a tensor that is differentiated keeps those it was given."""
    if value.stride(dim) == 0:
        return True
    return not value.requires_grad and bool((value == value.narrow(dim, 0, 1)).all())


def _latents(one: FactoredSlice, states: Space) -> dict[str, int]:
    following = {primed(name) for name in states.names}
    return {name: factor.table.shape[-1] for name, factor in one.chance.items() if name not in following}


def _tables(one: FactoredSlice) -> list[Factor]:
    return [*one.prior.values(), *one.chance.values(), *one.reward]


def _equal(one: FactoredSlice, other: FactoredSlice) -> bool:
    """Tell whether two slices hold the same numbers."""
    a, b = _tables(one), _tables(other)
    return len(a) == len(b) and all(
        x.scope == y.scope and torch.equal(x.table, y.table) for x, y in zip(a, b, strict=True)
    )


def _merged(slices: list[FactoredSlice]) -> tuple[FactoredSlice, ...]:
    """Return one slice where all are equal; one that is differentiated is kept apart, even where it agrees today."""
    learned = any(factor.table.requires_grad for one in slices for factor in _tables(one))
    same = not learned and all(_equal(one, slices[0]) for one in slices)
    return tuple(slices[:1] if same else slices)

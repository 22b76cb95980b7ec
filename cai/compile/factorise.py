"""factorise: a world's program, enumerated once, as factors over the variables that they read."""

from collections.abc import Iterable, Iterator

import torch
from pyro.ops.provenance import get_provenance
from torch import Tensor

from cai.compile.additive import LARGEST, Additive, terms_of, whole
from cai.compile.ends import ended_factor, inspect_drawn_ends
from cai.compile.factor_model import Factor, FactoredSlice, Factors, primed
from cai.compile.inspect import admit, close, inspect_factors, inspect_rewards, inspect_scope
from cai.compile.slices import REWARD, enumerate_slice, single, slice_windows, start, start_windows
from cai.compile.validate import require_valid
from cai.compile.windows import ROOM, Window, spread, spread_names, traced, windows
from cai.errors import Finding, IntractableError, demand, fault, user_code
from cai.support.memory import TENSOR, require_room
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spaces import Space
from cai.world.spec import Spec, read


def factorise(world: World | Spec | Factors, *, dtype: torch.dtype = torch.float64) -> Factors:
    """Compile a world to factors: log p(variable | its parents) for each variable of the slice, and reward terms.

    ``p(slice) = Π_i p(a_i|s, a_<i) Π_x p(x|parents of x)``, ``r = Σ_m r_m``. The slice runs once with all values of
    every variable enumerated, each variable on its own tensor dimension. So a log-probability has an axis only for the
    variables that it depends on. A reward that is a sum in the program stays a sum: each term reads its own variables
    only.

    Args:
        world: the world; factors are returned as they are.
        dtype: of probabilities and rewards.

    Raises:
        WorldError: the world is not valid (``cai.check`` lists every finding).
        IntractableError: a variable is not finite, or one tensor of the program depends on too many variables.
    """
    if isinstance(world, Factors):
        require_valid(world)
        return world
    with precision(dtype):
        return _compile(read(world))


def _compile(spec: Spec) -> Factors:
    admit(spec)
    _refuse_wide(spec)
    first = _slice(spec, 0)
    _require_room(spec, first)
    slices = [first, *(_slice(spec, t) for t in range(1, spec.times))]
    late = spec.stationary and spec.horizon != 1
    if late and not _equal(first, _slice(spec, (spec.horizon or 2) - 1)):
        raise fault("stationary", "True, but slices differ over time", "slices that do not depend on t")
    latents, terminal = _latents(first, spec.states), _terminal(spec)
    for t, slice_ in enumerate(slices):
        own = _latents(slice_, spec.states)
        if own != latents:
            raise fault(f"step, t = {t}", f"latents {own}", f"the same at all times, as at t = 0: {latents}")
    demand(inspect_scope(spec))
    with torch.no_grad():
        for t in {0, len(slices) - 1}:
            demand(_inspect_alone(spec, slices[t], t))
        demand(_inspect_end(spec, terminal))
    ends = ended_factor(spec)
    for t in {0, len(slices) - 1}:
        demand(inspect_drawn_ends(spec, ends, t))
    return Factors(
        initial=_initial(spec),
        slices=_merged(slices),
        terminal=terminal,
        horizon=spec.horizon,
        discount=spec.discount,
        states=spec.states,
        actions=spec.actions,
        latents=latents,
        layout=spec.layout,
        ends=ends,
    )


def _sizes(spec: Spec) -> dict[str, int]:
    """Return the sizes of all variables by their names in the program."""
    names, sizes = (*spec.states.names, *spec.actions.names), (*spec.states.sizes, *spec.actions.sizes)
    return dict(zip(names, sizes, strict=True)) | spec.sites


def _refuse_wide(spec: Spec) -> None:
    """Raise an ``IntractableError`` where a variable has more values than a factor may have numbers."""
    for name, size in _sizes(spec).items():
        if size > LARGEST:
            seen = f"{size:,} values"
            raise IntractableError([Finding(f"variable '{name}'", seen, f"at most {LARGEST:,} in a world of factors")])


def _require_room(spec: Spec, first: FactoredSlice) -> None:
    """Raise an ``IntractableError`` where slices as large as the first would not fit at all times."""
    need = sum(factor.table.nbytes + TENSOR for factor in _factors(first))
    require_room("factors", f"slices that differ over T = {spec.times:,} times", spec.times * need)


def _slice(spec: Spec, t: int) -> FactoredSlice:
    """Enumerate and check the slice of time t, and name the dimensions of each of its factors."""
    parts = [_part(spec, t, window) for window in slice_windows(spec, t)]
    prior = {name: factor for part in parts for name, factor in part.prior.items()}
    chance = {name: factor for part in parts for name, factor in part.chance.items()}
    return FactoredSlice(prior, chance, tuple(piece for part in parts for piece in part.reward))


def _part(spec: Spec, t: int, window: Window | None) -> FactoredSlice:
    """Return the factors of a slice that one run of it gives."""
    names = None if window is None else window.names
    with Additive():
        run = enumerate_slice(spec, t, points=False, window=names)
        pieces = terms_of(run.reward) if window is None or REWARD in window.factors else ()
    if run.reward.is_complex():
        raise fault(f"step, t = {t}", f"rewards of dtype {run.reward.dtype}", "real numbers")
    states = spec.states.names
    own = {name: primed(name) if name in run.log_prob and name in states else name for name in run.sizes}
    axes = {-1 - i: name for i, name in enumerate(spread_names(spec.states, names))}
    axes |= {dim: own[name] for name, dim in run.dims.items()}
    sizes = dict(zip(states, spec.states.sizes, strict=True)) | {own[name]: run.sizes[name] for name in run.dims}

    def factors(where: str, log_probs: dict[str, Tensor]) -> dict[str, Factor]:
        wanted = {
            own[name]: log_prob for name, log_prob in log_probs.items() if window is None or own[name] in window.factors
        }
        return {
            name: named_factor(where, whole(log_prob), axes, sizes, spec.dtype, name)
            for name, log_prob in wanted.items()
        }

    prior, chance = factors(f"act, t = {t}", run.log_prior), factors(f"step, t = {t}", run.log_prob)
    return FactoredSlice(prior, chance, _rewards(f"step, t = {t}", pieces, axes, sizes, spec.dtype))


def _rewards(
    where: str, pieces: Iterable[Tensor], axes: dict[int, str], sizes: dict[str, int], dtype: torch.dtype
) -> tuple[Factor, ...]:
    """Return the checked pieces of a reward."""
    factors = tuple(named_factor(where, whole(piece), axes, sizes, dtype) for piece in pieces)
    demand(
        finding
        for factor in factors
        for finding in inspect_rewards(where, factor.table.detach(), tuple(factor.table.shape))
    )
    return factors


def _at(factor: Factor, values: dict[str, int]) -> Tensor:
    return factor.table[tuple(values[name] for name in factor.scope)]


def _inspect_alone(spec: Spec, slice_: FactoredSlice, t: int, samples: int = 6) -> Iterator[Finding]:
    """Run the slice on single values, and hold it to the factors: code that does not broadcast shows here."""
    for i in range(samples):
        alone = single(spec, t, i, i)
        factors = {**slice_.prior, **slice_.chance}
        pairs = [(name, alone.log_probs[name], _at(factor, alone.values)) for name, factor in factors.items()]
        total = sum((_at(piece, alone.values) for piece in slice_.reward), torch.zeros(()))
        for name, lone, batch in [*pairs, ("the reward", alone.numbers["step: the reward"], total)]:
            if lone.numel() != 1 or not close(lone, batch):
                seen = f"{name} is {lone.flatten()[:3].tolist()} on single values, {float(batch):g} among all at once"
                expected = "code that broadcasts, and is a function of the slice alone"
                yield Finding(f"act or step, t = {t}", f"{seen}, at {alone.values}", expected)
                return


def _inspect_end(spec: Spec, terminal: tuple[Factor, ...], samples: int = 6) -> Iterator[Finding]:
    for i in range(samples if terminal else 0):
        alone = single(spec, 0, i, i)
        lone = alone.numbers["terminal: the reward"]
        batch = sum((_at(piece, alone.values) for piece in terminal), torch.zeros(()))
        if lone.numel() != 1 or not close(lone, batch):
            seen = f"{lone.flatten()[:3].tolist()} on single values, {float(batch):g} among all at once"
            yield Finding("terminal", f"{seen}, at {alone.values}", "code that broadcasts over a batch of states")
            return


def _initial(spec: Spec) -> dict[str, Factor]:
    factors: dict[str, Factor] = {}
    for window in start_windows(spec):
        begin = start(spec, window=None if window is None else window.names)
        axes = {dim: name for name, dim in begin.dims.items()}
        for name, log_prob in begin.log_probs.items():
            if window is None or name in window.factors:
                factors[name] = named_factor("initial", whole(log_prob), axes, begin.sizes, spec.dtype, name)
    return factors


def _terminal(spec: Spec) -> tuple[Factor, ...]:
    """Return the pieces of the terminal reward; none where the world has no such reward."""
    if spec.terminal is None:
        return ()
    states, names = spec.states, None
    if len(states.names) > ROOM:
        alone = {name: traced(value, name) for name, value in spread(states, frozenset()).items()}
        ((names, _),) = windows("terminal", {REWARD: get_provenance(_paid_last(spec, alone))})
    with Additive():
        pieces = terms_of(_paid_last(spec, spread(states, names)))
    axes = {-1 - i: name for i, name in enumerate(spread_names(states, names))}
    return _rewards("terminal", pieces, axes, states.named_sizes, spec.dtype)


def _paid_last(spec: Spec, values: dict[str, Tensor]) -> Tensor:
    assert spec.terminal is not None
    with user_code("terminal", "code that broadcasts over a batch of states"):
        reward = spec.terminal(spec.states.pack(values))
        return reward if isinstance(reward, Tensor) else torch.as_tensor(reward)


def named_factor(
    where: str, value: Tensor, axes: dict[int, str], sizes: dict[str, int], dtype: torch.dtype, own: str = ""
) -> Factor:
    """Name the axes of an enumerated tensor; axes along which it is constant are dropped.

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
    demand(inspect_factors(where, {name: table.detach()}, {name: -1}, tuple(table.shape)))
    if table.dtype != dtype:
        table = table.to(dtype)
        table = table - table.logsumexp(-1, keepdim=True)
    return Factor((*(name for name in factor.scope if name != own), own), table)


def _constant(value: Tensor, dim: int) -> bool:
    """Return whether nothing changes along a dimension; a tensor that is differentiated keeps those it was given."""
    if value.stride(dim) == 0:
        return True
    return not value.requires_grad and bool((value == value.narrow(dim, 0, 1)).all())


def _latents(slice_: FactoredSlice, states: Space) -> dict[str, int]:
    following = {primed(name) for name in states.names}
    return {name: factor.table.shape[-1] for name, factor in slice_.chance.items() if name not in following}


def _factors(slice_: FactoredSlice) -> list[Factor]:
    return [*slice_.prior.values(), *slice_.chance.values(), *slice_.reward]


def _equal(slice_: FactoredSlice, other: FactoredSlice) -> bool:
    """Return whether two slices hold the same numbers."""
    a, b = _factors(slice_), _factors(other)
    return len(a) == len(b) and all(
        x.scope == y.scope and torch.equal(x.table, y.table) for x, y in zip(a, b, strict=True)
    )


def _merged(slices: list[FactoredSlice]) -> tuple[FactoredSlice, ...]:
    """Return one slice where all are equal; one that is differentiated is kept apart, even where it agrees today."""
    learned = any(factor.table.requires_grad for slice_ in slices for factor in _factors(slice_))
    same = not learned and all(_equal(slice_, slices[0]) for slice_ in slices)
    return tuple(slices[:1] if same else slices)

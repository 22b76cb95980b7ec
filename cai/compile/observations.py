"""Observations: ``observe``, enumerated once, as a factor for each site that it samples, or as one table.

A world's optional member ``observe(state)`` returns one tensor, or a dict of named variables. Each is a variable of the
state, returned unchanged (seen exactly), or is sampled at a site of its own name (a noisy observation, finite;
``cai.Point`` for a function of the state). Latents that are sampled there and not returned are summed out.

Time: o_t is seen at the beginning of slice t, given s_t, for every t = 0 … T-1; so is o_0.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.factor_model import Factor
from cai.compile.factorise import named_factor
from cai.compile.inspect import RESERVED, close
from cai.compile.tabulate import MAX_BYTES
from cai.compile.windows import spread
from cai.errors import Finding, IntractableError, demand, fault
from cai.support.numerics import logsumexp
from cai.support.process import precision
from cai.world.definition import World
from cai.world.enumerate import Choice, Enumerate, first_value, run
from cai.world.labels import labels_of
from cai.world.reparametrise import Reparametrise
from cai.world.spaces import Space, Values, variable_names
from cai.world.spec import Spec, read

Sites = TypeVar("Sites", Enumerate, Reparametrise)
"""A messenger that keeps the sites."""


@dataclass(frozen=True)
class Observations:
    """What can be seen, and how likely it is in each state.

    Attributes:
        space: the observations; variables of the state come first, then the readings in the order they are sampled.
        log_prob: log p(o|s), nats, ``[S, O]``.
    """

    space: Space
    log_prob: Float[Tensor, "S O"]


@dataclass(frozen=True)
class ObservationFactors:
    """What can be seen, and how likely each site of ``observe`` is given what it looks at.

    Attributes:
        space: the observations, numbered as ``tabulate_observations`` numbers them.
        sites: log p(x|parents), nats, by reading and by latent, in the order of the program; parents are variables of
            the state and earlier sites.
    """

    space: Space
    sites: dict[str, Factor]

    @property
    def latents(self) -> tuple[str, ...]:
        """The sites that are sampled and not seen."""
        return tuple(name for name in self.sites if name not in self.space.names)


def tabulate_observations(
    world: World | Spec, *, dtype: torch.dtype = torch.float64, max_bytes: float = MAX_BYTES
) -> Observations:
    """Enumerate ``observe`` over all states and readings at once.

    ``p(o|s) = Σ_latents Π p(reading|s, …)``; 0 where a variable of the state is seen with a value that it has not.

    Args:
        world: a world with the member ``observe``.
        dtype: of the probabilities.
        max_bytes: refuse a larger table before allocating it.

    Returns:
        Observations, log p(o|s) in nats, ``[S, O]``, states numbered as ``tabulate`` numbers them.

    Raises:
        WorldError: there is no ``observe``, or it is not valid; the finding names the variable.
        IntractableError: a reading is not finite, or the table would exceed ``max_bytes``.
    """
    with precision(dtype), torch.no_grad():
        spec = read(world)
        _refuse_large(spec, max_bytes)
        factors = _factors(spec)
        return Observations(factors.space, _table(factors, spec.states))


def factorise_observations(world: World | Spec, *, dtype: torch.dtype = torch.float64) -> ObservationFactors:
    """Enumerate ``observe``, each variable of the state and each site on a dimension of its own.

    ``p(o|s) = Σ_latents Π_x p(x|parents of x)``; 0 where a variable of the state is seen with a value that it has not.
    A reading costs as much as what it looks at, and no table over all states and all observations is made.

    Args:
        world: a world with the member ``observe``.
        dtype: of the probabilities.

    Raises:
        WorldError: there is no ``observe``, or it is not valid; the finding names the variable.
        IntractableError: a reading is not finite.
    """
    with precision(dtype), torch.no_grad():
        return _factors(read(world))


@dataclass(frozen=True)
class ObserveRun(Generic[Sites]):
    """One run of ``observe``: the values it was given, what it sampled, and what it returned of both."""

    state: dict[str, Tensor]
    sites: Sites
    names: tuple[str, ...]
    named: bool

    @property
    def read(self) -> dict[str, Tensor]:
        """What it returned."""
        return {name: value for name, value in {**self.state, **self.sites.values}.items() if name in self.names}


def run_observe(
    spec: Spec, sites: Sites, under: Callable[..., Any], packed: Values, state: dict[str, Tensor]
) -> ObserveRun[Sites]:
    """Run ``observe`` under a messenger.

    Args:
        spec: the world.
        sites: the messenger.
        under: runs a piece of the world under it.
        packed: the state, as the program speaks of it.
        state: the same by name.

    Raises:
        WorldError: there is no ``observe``, or it returns what is no variable.
    """
    if not callable(spec.observe):
        wanted = "a method observe(state): what is seen of the state (return state if all of it is seen)"
        raise fault("observe", "no such method", wanted)
    returned = under(sites, spec.observe, packed)
    twice = sorted(set(state) & set(sites.values))
    if twice:
        wanted = "a new name for each observation; a seen variable of the state is returned without sampling"
        raise fault("observe", f"{twice} sampled, which are variables of the state", wanted)
    parts = list(returned.values()) if isinstance(returned, dict) else [returned]
    wrong = [type(part).__name__ for part in parts if not isinstance(part, Tensor)]
    if wrong:
        raise fault("observe", f"a {wrong[0]} returned", "a tensor, or a dict of named tensors")
    names = variable_names(returned, {**state, **sites.values}, "observe")
    return ObserveRun(state, sites, names, isinstance(returned, dict))


def _run_observe(spec: Spec, state: dict[str, Tensor], choose: Choice | None = None) -> ObserveRun[Enumerate]:
    """Run ``observe``, its sites on dimensions of their own to the left of the state's."""
    sites = Enumerate("observe", first=-1 - len(state), choose=choose)
    return run_observe(spec, sites, run, spec.states.pack(state), state)


def _first(spec: Spec) -> ObserveRun[Enumerate]:
    return _run_observe(spec, spec.states.split(torch.tensor(0)), first_value)


def _factors(spec: Spec) -> ObservationFactors:
    require_new_names(spec, _first(spec).sites.values)
    states = spec.states
    every = _run_observe(spec, spread(states, None))
    axes = {-1 - i: name for i, name in enumerate(states.names)}
    axes |= {dim: name for name, dim in every.sites.dims.items()}
    sizes = {**states.named_sizes, **every.sites.sizes}
    sites = {
        name: named_factor("observe", log_prob, axes, sizes, spec.dtype, name)
        for name, log_prob in every.sites.log_probs.items()
    }
    factors = ObservationFactors(_space(spec, every), sites)
    demand(_inspect_alone(spec, factors))
    return factors


def require_new_names(spec: Spec, readings: Iterable[str], latents: Iterable[str] | None = None) -> None:
    """Raise a ``WorldError`` where a reading takes a name that the trajectory has already.

    Args:
        spec: the world.
        readings: the sites of ``observe``.
        latents: those of ``step``, where the world is not a finite one.
    """
    actions = [variable.name for variable in spec.variables.actions]
    taken = {*actions, *(spec.latents if latents is None else latents), *RESERVED}
    for name in readings:
        if name in taken:
            seen = "a name that an action, a latent of step or the trajectory program has"
            raise fault(f"observe, variable '{name}'", seen, "another name")


def _refuse_large(spec: Spec, max_bytes: float) -> None:
    states, look = spec.states, _first(spec)
    passed = [size for name, size in zip(states.names, states.sizes, strict=True) if name in look.names]
    O = math.prod([*passed, *look.sites.sizes.values()])  # noqa: E741 — the number of observations
    need = states.size * O * spec.dtype.itemsize
    if need > max_bytes:
        seen = f"S = {states.size:,} states x O = {O:,} observations, which need {need:,.0f} bytes"
        raise IntractableError([Finding("observe", seen, f"at most max_bytes = {max_bytes:,.0f}: see less")])


def _space(spec: Spec, every: ObserveRun[Enumerate]) -> Space:
    """Return what is seen as a numbered space: variables of the state first, then readings as they are sampled."""
    sizes, dtypes = spec.states.named_sizes, []
    for name in every.names:
        if name in every.state:
            dtypes.append(every.state[name].dtype)
            continue
        values = every.sites.values[name].reshape(-1)
        sizes[name] = len(values)
        dtypes.append(values.dtype)
        if not torch.equal(values, torch.arange(len(values)).to(values.dtype)):
            span = f"values {values[:3].tolist()} … {float(values[-1]):g}"
            raise fault(f"observe, variable '{name}'", span, "values 0 … n-1")
    seen = {name: sizes[name] for name in every.names}
    labels = labels_of(spec.labels, spec.layout, seen)
    return Space(every.names, tuple(seen.values()), tuple(dtypes), every.named).called(labels)


def _table(factors: ObservationFactors, states: Space) -> Tensor:
    """Multiply the sites, sum the latents out, and set what is passed on beside the readings: ``[S, O]``, nats."""
    sizes = states.named_sizes
    sizes |= {name: factor.table.shape[-1] for name, factor in factors.sites.items()}
    order, total = list(sizes), torch.zeros(())
    for factor in factors.sites.values():
        scope = sorted(factor.scope, key=order.index)
        table = factor.table.permute([factor.scope.index(name) for name in scope])
        total = total + table.reshape([sizes[name] if name in scope else 1 for name in order])
    latents = [order.index(name) for name in factors.latents]
    readings = total.expand(list(sizes.values()))
    readings = (logsumexp(readings, tuple(latents)) if latents else readings).reshape(states.size, -1)
    passed, number, values = 1, torch.zeros(states.size, dtype=torch.long), states.split(torch.arange(states.size))
    for name in states.names:
        if name in factors.space.names:
            passed, number = passed * sizes[name], number * sizes[name] + values[name].long()
    seen = readings.new_full((states.size, passed, readings.shape[-1]), -torch.inf)
    seen[torch.arange(states.size), number] = readings
    return seen.flatten(1)


def _inspect_alone(spec: Spec, factors: ObservationFactors, samples: int = 6) -> Iterator[Finding]:
    """Run ``observe`` on single states, twice, and hold it to the factors: code that does not broadcast shows here."""
    g = torch.Generator().manual_seed(0)

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=g))

    for i in range(samples):
        values = {name: pick(size) for name, size in zip(spec.states.names, spec.states.sizes, strict=True)}
        picks = {name: pick(factor.table.shape[-1]) for name, factor in factors.sites.items()}
        first, second = (
            _log_probs_of_one_state(spec, values, list(picks.values()), noise) for noise in (2 * i + 1, 2 * i + 2)
        )
        for name, factor in factors.sites.items():
            among = factor.table[tuple({**values, **picks}[parent] for parent in factor.scope)]
            where, lone = f"observe, variable '{name}'", first[name]
            if lone.numel() != 1:
                seen = f"log-probabilities of shape {tuple(lone.shape)} for one state ({values})"
                yield Finding(where, seen, "a single number there")
                return
            for other, what in ((second[name], "in a second run"), (among, "among all at once")):
                if not close(lone, other):
                    seen = f"log p is {float(lone):g} for {values} alone, but {float(other):g} {what}"
                    yield Finding(
                        where,
                        seen,
                        "a function of the state that broadcasts: index with the state, draw no random numbers",
                    )
                    return


def _log_probs_of_one_state(spec: Spec, values: dict[str, int], picks: list[int], noise: int) -> dict[str, Tensor]:
    """Return log p of the picked value of each site in one state, with torch seeded while the world's code runs."""
    ahead = iter(picks)

    def choose(n: int) -> int:
        return min(next(ahead, 0), n - 1)

    state = {
        name: torch.tensor(values[name], dtype=kind) for name, kind in zip(values, spec.states.dtypes, strict=True)
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(noise)
        return _run_observe(spec, state, choose).sites.log_probs

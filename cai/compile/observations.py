"""What is seen of the state: ``observe``, enumerated over all states as a table log p(o|s).

A world's optional member ``observe(state)`` returns one tensor, or a dict of named variables. Each is a variable of the
state itself, passed on as it came (seen exactly), or is sampled at a site of its own name (a noisy reading, finite;
``cai.Point`` for a function of the state). Latents that are sampled there and not returned are summed out.

Time: o_t is seen at the beginning of slice t, given s_t, for every t = 0 … T-1; so is o_0.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.enumerate import Choice, Enumerate, first_value, run
from cai.compile.inspect import RESERVED, audit_factors
from cai.compile.labels import labels_of
from cai.compile.slices import Shape, measure
from cai.compile.survey import demand
from cai.compile.tabulate import MAX_BYTES
from cai.errors import Finding, IntractableError, fault
from cai.support.numerics import logsumexp
from cai.support.process import precision
from cai.world.definition import World
from cai.world.program import variables
from cai.world.spaces import Space


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
class Look:
    """One run of ``observe``: the values it was given, what it sampled, and what it returned of both."""

    given: dict[str, Tensor]
    sites: Enumerate
    names: tuple[str, ...]
    named: bool


def tabulate_observations(
    world: World, *, dtype: torch.dtype = torch.float64, max_bytes: float = MAX_BYTES
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
        WorldError: there is no ``observe``, or it does not conform.
        IntractableError: a reading is not finite, or the table would exceed ``max_bytes``.
    """
    if not callable(getattr(world, "observe", None)):
        seen = "no such method"
        raise fault("observe", seen, "a method observe(state): what is seen of it (return state where all is)")
    with precision(dtype), torch.no_grad():
        shape = measure(world)
        single = look(world, shape.states, torch.tensor(0), first_value)
        audit_readings(single, shape)
        _refuse_large(single, shape.states, max_bytes, dtype)
        every = look(world, shape.states, torch.arange(shape.states.size))
        joint = _joint(every, shape.states.size, dtype)
        _audit_pointwise(world, shape.states, every, joint)
        return Observations(readings_space(world, every, shape.states), _table(every, shape.states, joint))


def look(world: Any, states: Space, numbers: Tensor, choose: Choice | None = None) -> Look:
    """Run ``observe`` on these states along dimension -1, the readings leftwards from -2."""
    given = states.split(numbers)
    sites = Enumerate("observe", first=-2, choose=choose)
    returned = run(sites, world.observe, states.pack(given))
    twice = sorted(set(given) & set(sites.values))
    if twice:
        expected = "a name of its own for each reading; a variable of the state is returned as it came"
        raise fault("observe", f"{twice} sampled, which are variables of the state", expected)
    parts = list(returned.values()) if isinstance(returned, dict) else [returned]
    wrong = [type(part).__name__ for part in parts if not isinstance(part, Tensor)]
    if wrong:
        raise fault("observe", f"a {wrong[0]} returned", "a tensor, or a dict of named tensors")
    names = variables(returned, {**given, **sites.values}, "observe")
    return Look(given, sites, names, isinstance(returned, dict))


def audit_readings(single: Look, shape: Shape) -> None:
    """Raise a ``WorldError`` where a reading takes a name that the trajectory has already."""
    taken = {*shape.actions.names, *shape.latents, *RESERVED}
    for name in single.sites.values:
        if name in taken:
            seen = "a name that an action, a latent of step or the trajectory program has"
            raise fault(f"observe, variable '{name}'", seen, "another name")


def _refuse_large(single: Look, states: Space, max_bytes: float, dtype: torch.dtype) -> None:
    passed = [size for name, size in zip(states.names, states.sizes, strict=True) if name in single.names]
    O = math.prod([*passed, *single.sites.sizes.values()])  # noqa: E741 — the number of observations
    need = states.size * O * dtype.itemsize
    if need > max_bytes:
        seen = f"S = {states.size:,} states x O = {O:,} observations, which need {need:,.0f} bytes"
        raise IntractableError([Finding("observe", seen, f"at most max_bytes = {max_bytes:,.0f}: see less")])


def _joint(every: Look, S: int, dtype: torch.dtype) -> Tensor:
    """Return log p(readings, latents|s), nats: the last site first, then leftwards the others, S last."""
    sites = every.sites
    full = (*list(sites.sizes.values())[::-1], S)
    demand(audit_factors("observe", sites.log_probs, sites.dims, full))
    total = torch.zeros((), dtype=dtype)
    for name, factor in sites.log_probs.items():
        log_prob = factor.to(dtype)
        if factor.dtype != dtype and factor.dim() >= -sites.dims[name]:  # one of lower precision must sum to one here
            log_prob = log_prob - logsumexp(log_prob, sites.dims[name], keepdim=True)
        total = total + log_prob
    return total.expand(full)


def readings_space(world: World, every: Look, states: Space) -> Space:
    """Return what is seen as a numbered space: variables of the state first, then readings as they are sampled."""
    sizes, dtypes = dict(zip(states.names, states.sizes, strict=True)), []
    for name in every.names:
        if name in every.given:
            dtypes.append(every.given[name].dtype)
            continue
        values = every.sites.values[name].reshape(-1)
        sizes[name] = len(values)
        dtypes.append(values.dtype)
        if not torch.equal(values, torch.arange(len(values)).to(values.dtype)):
            span = f"values {values[:3].tolist()} … {float(values[-1]):g}"
            raise fault(f"observe, variable '{name}'", span, "values 0 … n-1")
    seen = {name: sizes[name] for name in every.names}
    return Space(every.names, tuple(seen.values()), tuple(dtypes), every.named).called(labels_of(world, seen))


def _table(every: Look, states: Space, joint: Tensor) -> Tensor:
    """Sum the latents out, and set what is passed on beside the readings: log p(o|s), nats, ``[S, O]``."""
    latents = tuple(dim for name, dim in every.sites.dims.items() if name not in every.names)
    readings = logsumexp(joint, latents) if latents else joint
    readings = readings.permute(*range(readings.dim() - 1, -1, -1)).reshape(states.size, -1)
    passed, number = 1, torch.zeros(states.size, dtype=torch.long)
    for name, size in zip(states.names, states.sizes, strict=True):
        if name in every.names:
            passed, number = passed * size, number * size + every.given[name].long()
    table = readings.new_full((states.size, passed, readings.shape[-1]), -torch.inf)
    table[torch.arange(states.size), number] = readings
    return table.flatten(1)


def _audit_pointwise(world: World, states: Space, every: Look, joint: Tensor, samples: int = 6) -> None:
    """Hold the batch to ``observe`` on single states: code that does not broadcast gives other numbers there."""
    g = torch.Generator().manual_seed(0)
    for i in range(samples):
        s = int(torch.randint(states.size, (), generator=g))
        picks = [int(torch.randint(size, (), generator=g)) for size in every.sites.sizes.values()]
        first, second = (_alone(world, states, s, picks, noise) for noise in (2 * i + 1, 2 * i + 2))
        if first.numel() != 1:
            seen = f"log-probabilities of shape {tuple(first.shape)} for one state ({states.label(s)})"
            raise fault("observe", seen, "a single number there")
        for other, among in ((second, "in a second run"), (joint[(*picks[::-1], s)], "among all at once")):
            if not _close(first, other):
                seen = f"log p is {float(first):g} for {states.label(s)} alone, but {float(other):g} {among}"
                raise fault("observe", seen, "a function of the state that broadcasts: index with it, draw nothing")


def _alone(world: World, states: Space, s: int, picks: list[int], noise: int) -> Tensor:
    """Return log p of the picked values in one state, with torch seeded while the world's code runs."""
    ahead = iter(picks)

    def choose(n: int) -> int:
        return min(next(ahead, 0), n - 1)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(noise)
        single = look(world, states, torch.tensor(s), choose)
    return sum(single.sites.log_probs.values(), torch.zeros(()))


def _close(alone: Tensor, other: Tensor) -> bool:
    a, b = float(alone), float(other)
    return a == b or abs(a - b) <= 1e-5 * max(1.0, min(abs(a), abs(b)))  # the lesser: nothing is close to -inf

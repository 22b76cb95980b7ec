"""What a policy must know of a world that need not be finite: its variables, read off one run of its program."""

from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.enumerate import Enumerate, base, run
from cai.compile.labels import labels_of
from cai.compile.table_model import Model
from cai.errors import Finding, IntractableError, blamed, fault
from cai.support.process import alone, precision
from cai.world.definition import Point, World
from cai.world.program import variables
from cai.world.spaces import Space, Values


@dataclass(frozen=True)
class Variable:
    """A variable of a state or an action: how many values it takes, or None and the shape of its events."""

    name: str
    size: int | None
    shape: torch.Size
    dtype: torch.dtype


@dataclass(frozen=True)
class Signature:
    """The variables of a world's states and actions, in the order in which its program samples them.

    Attributes:
        states, actions: the variables.
        state_space, action_space: the same numbered, or None where one of the variables is not finite.
    """

    states: tuple[Variable, ...]
    actions: tuple[Variable, ...]
    state_space: Space | None
    action_space: Space | None

    @property
    def spaces(self) -> tuple[Space, Space] | None:
        """The numbered states and actions, or None where either cannot be numbered."""
        return (self.state_space, self.action_space) if self.state_space and self.action_space else None


def signature(world: Any) -> Signature:
    """Read the variables of a world off one run of ``initial`` and ``act``, or off what it was compiled to.

    Raises:
        WorldError: a returned variable is not a site of its name.
    """
    if isinstance(world, Model):
        states, actions = (
            tuple(map(_finite, one.names, one.sizes, one.dtypes)) for one in (world.states, world.actions)
        )
        return Signature(states, actions, world.states, world.actions)
    if not isinstance(world, World):
        raise fault("policy, world", f"a {type(world).__name__}", "a world, or its tables")
    begin, state = _traced("initial", world.initial)
    chosen, action = _traced("act, t = 0", world.act, state, 0)
    states, actions = _variables(state, begin, "initial"), _variables(action, chosen, "act, t = 0")
    sizes = {one.name: one.size for one in (*states, *actions) if one.size is not None}
    named = labels_of(world, sizes, [one.name for one in actions])
    spaces = _space(states, state), _space(actions, action)
    return Signature(states, actions, *(space and space.called(named) for space in spaces))


def require_actor(world: World, act: Any) -> None:
    """Raise unless a program of actions samples the world's own action sites, on supports of the same kind.

    An extra site would be scored as if the model had it, and a probability set against a density.

    Raises:
        WorldError: a name, an order, a size or a kind differs, or what is returned is not what was sampled.
    """
    expected = signature(world).actions
    sites, returned = _traced("policy, t = 0", act, example(world), 0)
    seen = {name: cardinality(sites.nodes[name]["fn"]) for name in sites.stochastic_nodes}
    wanted = {one.name: one.size for one in expected}
    if list(seen.items()) != list(wanted.items()):
        words = [{name: size or "continuous" for name, size in sizes.items()} for sizes in (seen, wanted)]
        raise fault("policy, t = 0", f"sites {words[0]}", f"the world's own action sites {words[1]} (pyro.sample each)")
    for one in expected:
        if one.size is None and isinstance(base(sites.nodes[one.name]["fn"]), dist.Delta):
            seen_there = "a point mass where the prior has a density: its KL is infinite"
            raise fault(f"policy, variable '{one.name}', t = 0", seen_there, "a distribution with a density")
    _variables(returned, sites, "policy, t = 0")


def example(world: World | Model) -> Values:
    """Return one state, as a program of actions would see it."""
    if isinstance(world, Model):
        return world.states.pack(world.states.split(torch.tensor(0)))
    state: Values = _traced("initial", world.initial)[1]
    return state


def _traced(where: str, piece: Any, *args: Any) -> tuple[Any, Any]:
    """Run a piece of a world once; return its trace, and what it returned."""
    with blamed(where, "code that runs"), alone(), torch.random.fork_rng(devices=[]), pyro.poutine.block():
        run_once = pyro.poutine.trace(piece).get_trace(*args)
    return run_once, run_once.nodes["_RETURN"]["value"]


def finite_spaces(spaces: tuple[Space, Space] | None, limit: int = 100_000_000) -> tuple[Space, Space]:
    """Return the numbered states and actions.

    Raises:
        IntractableError: there are none, or a table of them has more than ``limit`` entries.
    """
    if spaces is None:
        raise IntractableError([Finding("policy", "states or actions that are not finite", "finite ones, for tables")])
    entries = spaces[0].size * spaces[1].size
    if entries > limit:
        raise IntractableError([Finding("policy", f"a table of {entries:,} entries", f"at most {limit:,}")])
    return spaces


def _finite(name: str, size: int, dtype: torch.dtype) -> Variable:
    return Variable(name, size, torch.Size(), dtype)


def _space(found: tuple[Variable, ...], values: Values) -> Space | None:
    sizes = tuple(one.size for one in found if one.size is not None)
    if len(sizes) < len(found):
        return None
    return Space(tuple(one.name for one in found), sizes, tuple(one.dtype for one in found), isinstance(values, dict))


def _variables(values: Values, trace: Any, where: str) -> tuple[Variable, ...]:
    sites = {name: trace.nodes[name]["value"] for name in trace.stochastic_nodes}
    found = []
    for name in variables(values, sites, where):
        fn = trace.nodes[name]["fn"]
        value = sites[name]
        found.append(Variable(name, cardinality(fn), fn.event_shape, value.dtype))
    return tuple(found)


def cardinality(fn: Any) -> int | None:
    """Return how many values a distribution's support has, None where it is not finite."""
    if isinstance(base(fn), Point):
        return int(base(fn).cardinality)
    if not fn.has_enumerate_support or len(fn.event_shape):
        return None
    return len(fn.enumerate_support(expand=False))


def enumerated(
    act: Any, states: Space, actions: Space, t: Any, dtype: torch.dtype, numbers: Tensor | None = None
) -> Float[Tensor, "*T S A"]:
    """Return log π(a|s), nats, of a program of actions, run once on all states with all actions enumerated.

    Args:
        act: the program ``(state, t) -> action``.
        states, actions: what the numbers mean.
        t: a time, or times ``[T, 1]`` for a program that takes them all at once; the result then is ``[T, S, A]``.
        dtype: of the result.
        numbers: the states to be asked in their place, ``[S]``.

    Raises:
        WorldError: the program does not broadcast, or its sites are not the world's action sites.
    """
    asked = torch.arange(states.size) if numbers is None else numbers
    return enumerated_at(act, states.pack(states.split(asked)), states.size, actions, t, dtype)


def enumerated_at(act: Any, state: Values, n: int, actions: Space, t: Any, dtype: torch.dtype) -> Tensor:
    """Return log π(a|s) as ``enumerated`` does, at n states, finite or not, ``[*T, n, A]``."""
    at = "all times" if isinstance(t, Tensor) else f"t = {t}"
    lead = (len(t),) if isinstance(t, Tensor) else ()
    messenger = Enumerate(f"policy, {at}", first=-2 - len(lead))
    with precision(dtype):
        run(messenger, act, state, t)
    require_sites(messenger, actions)
    total = torch.zeros((), dtype=dtype)
    for log_prob in messenger.log_probs.values():
        total = total + log_prob.to(dtype)
    total = total.expand(*actions.sizes[::-1], *lead, n)
    last = total.dim() - 1
    order = (last,) if not lead else (last - 1, last)
    axes = range(len(actions.sizes) - 1, -1, -1)  # the first action variable lies rightmost among the actions
    return total.permute(*order, *axes).reshape(*lead, n, actions.size)


def require_sites(messenger: Enumerate, actions: Space) -> None:
    """Raise unless a program of actions sampled the world's own action sites, each with its size.

    Raises:
        WorldError: names or sizes differ.
    """
    if tuple(messenger.sizes) != actions.names or tuple(messenger.sizes.values()) != actions.sizes:
        expected = dict(zip(actions.names, actions.sizes, strict=True))
        raise fault(messenger.where, f"sites {messenger.sizes}", f"the world's own action sites {expected}")

"""Programs that sample actions: checked against the world's action sites, and enumerated over all states as a table."""

from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import FiniteModel, Model, is_finite
from cai.errors import Finding, IntractableError, fault
from cai.support.process import precision
from cai.world.definition import World
from cai.world.enumerate import Enumerate, base, cardinality, described, first_value, run
from cai.world.spaces import Space, Values, Variable, Variables
from cai.world.spec import Spec, read


def variables_of(world: World | Spec | Model) -> Variables:
    """Return the variables of a world, or of what it was compiled to.

    Raises:
        WorldError: a returned variable is not a site of its name.
    """
    if isinstance(world, World | Spec):
        return read(world).variables
    if not isinstance(world, Model):
        raise fault("policy, world", f"a {type(world).__name__}", "a world, or its tables")
    if not is_finite(world):
        return Variables(world.states.variables, world.actions.variables, None, None)
    return Variables(_described(world.states), _described(world.actions), world.states, world.actions)


def _described(space: Space) -> tuple[Variable, ...]:
    shape = torch.Size()
    own = zip(space.names, space.sizes, space.dtypes, strict=True)
    return tuple(Variable(name, size, shape, dtype) for name, size, dtype in own)


def example(world: World | Spec | FiniteModel) -> Values:
    """Return one state, as a program of actions would see it."""
    if isinstance(world, World | Spec):
        return read(world).example
    return world.states.pack(world.states.split(torch.tensor(0)))


def require_actor(world: World, act: Any) -> None:
    """Raise unless a program of actions samples the world's own action sites, on supports of the same kind.

    An extra site would be scored as if the model had it, and a probability set against a density.

    Raises:
        WorldError: a name, an order, a size or a kind differs, or what is returned is not what was sampled.
    """
    spec = read(world)
    expected = spec.variables.actions
    sites = Enumerate("policy, t = 0", choose=first_value, lenient=True)
    returned = run(sites, act, spec.example, 0)
    seen = {name: cardinality(fn) for name, fn in sites.distributions.items()}
    wanted = {variable.name: variable.size for variable in expected}
    if list(seen.items()) != list(wanted.items()):
        words = [{name: size or "continuous" for name, size in sizes.items()} for sizes in (seen, wanted)]
        raise fault("policy, t = 0", f"sites {words[0]}", f"the world's own action sites {words[1]} (pyro.sample each)")
    for variable in expected:
        if variable.size is None and isinstance(base(sites.distributions[variable.name]), dist.Delta):
            seen_there = "a point mass where the prior has a density: its KL is infinite"
            raise fault(f"policy, variable '{variable.name}', t = 0", seen_there, "a distribution with a density")
    described(returned, sites)


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


def enumerated(
    act: Any, states: Space, actions: Space, t: Any, dtype: torch.dtype, numbers: Tensor | None = None
) -> Float[Tensor, "*T S A"]:
    """Return log π(a|s), nats, of a program of actions, run once on all states with all actions enumerated.

    Args:
        act: the program ``(state, t) -> action``.
        states, actions: what the numbers mean.
        t: a time, or times ``[T, 1]`` for a program that takes them all at once; the result then is ``[T, S, A]``.
        dtype: of the result.
        numbers: the states to use in their place, ``[S]``.

    Raises:
        WorldError: the program does not broadcast, or its sites are not the world's action sites.
    """
    selected = torch.arange(states.size) if numbers is None else numbers
    return enumerated_at(act, states.pack(states.split(selected)), states.size, actions, t, dtype)


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
        expected = actions.named_sizes
        raise fault(messenger.where, f"sites {messenger.sizes}", f"the world's own action sites {expected}")

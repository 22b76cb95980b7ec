"""What is seen of the state, kept apart: ``observe``, enumerated once, as a factor for each site that it samples.

The same member as in ``cai.compile.observations``, with each variable of the state on a dimension of its own: a
reading costs as much as what it looks at, and no table over all states and all observations is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.enumerate import Enumerate, first_value, run
from cai.compile.factor_model import Factor
from cai.compile.factorise import named_factor
from cai.compile.inspect import close
from cai.compile.observations import Look, audit_readings, look, readings_space
from cai.compile.slices import measure
from cai.compile.survey import demand
from cai.errors import Finding, fault
from cai.support.process import precision
from cai.world.definition import World
from cai.world.program import variables
from cai.world.spaces import Space


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


def factorise_observations(world: World, *, dtype: torch.dtype = torch.float64) -> ObservationFactors:
    """Enumerate ``observe``, each variable of the state and each site on a dimension of its own.

    ``p(o|s) = Σ_latents Π_x p(x|parents of x)``; 0 where a variable of the state is seen with a value that it has not.

    Args:
        world: a world with the member ``observe``.
        dtype: of the probabilities.

    Raises:
        WorldError: there is no ``observe``, or it does not conform; the finding names the variable.
        IntractableError: a reading is not finite.
    """
    if not callable(getattr(world, "observe", None)):
        expected = "a method observe(state): what is seen of it (return state where all is)"
        raise fault("observe", "no such method", expected)
    with precision(dtype), torch.no_grad():
        shape = measure(world)
        audit_readings(look(world, shape.states, torch.tensor(0), first_value), shape)
        every = _spread(world, shape.states)
        axes = {-1 - i: name for i, name in enumerate(shape.states.names)}
        axes |= {dim: name for name, dim in every.sites.dims.items()}
        sizes = {**dict(zip(shape.states.names, shape.states.sizes, strict=True)), **every.sites.sizes}
        sites = {
            name: named_factor("observe", one, axes, sizes, dtype, name) for name, one in every.sites.log_probs.items()
        }
        found = ObservationFactors(readings_space(world, every, shape.states), sites)
        demand(_audit_alone(world, shape.states, found))
        return found


def _spread(world: World, states: Space) -> Look:
    """Run ``observe`` on all states at once, their variables from dimension -1 leftwards, then the sites."""
    given = {
        name: torch.arange(size).to(kind).reshape((-1,) + (1,) * i)
        for i, (name, size, kind) in enumerate(zip(states.names, states.sizes, states.dtypes, strict=True))
    }
    sites = Enumerate("observe", first=-1 - len(given))
    returned = run(sites, world.observe, states.pack(given))  # type: ignore[attr-defined]
    names = variables(returned, {**given, **sites.values}, "observe")
    return Look(given, sites, names, isinstance(returned, dict))


def _audit_alone(world: World, states: Space, found: ObservationFactors, samples: int = 6) -> Iterator[Finding]:
    """Run ``observe`` on single states, twice, and hold it to the factors: code that does not broadcast shows here."""
    g = torch.Generator().manual_seed(0)

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=g))

    for i in range(samples):
        values = {name: pick(size) for name, size in zip(states.names, states.sizes, strict=True)}
        given = {name: torch.tensor(values[name], dtype=kind) for name, kind in zip(values, states.dtypes, strict=True)}
        picks = {name: pick(factor.table.shape[-1]) for name, factor in found.sites.items()}
        first, second = (_alone(world, states, given, list(picks.values()), noise) for noise in (2 * i + 1, 2 * i + 2))
        for name, factor in found.sites.items():
            among = factor.table[tuple({**values, **picks}[parent] for parent in factor.scope)]
            where, lone = f"observe, variable '{name}'", first[name]
            if lone.numel() != 1:
                seen = f"log-probabilities of shape {tuple(lone.shape)} for one state ({values})"
                yield Finding(where, seen, "a single number there")
                return
            for other, what in ((second[name], "in a second run"), (among, "among all at once")):
                if not close(lone, other):
                    seen = f"log p is {float(lone):g} for {values} alone, but {float(other):g} {what}"
                    yield Finding(where, seen, "a function of the state that broadcasts: index with it, draw nothing")
                    return


def _alone(world: World, states: Space, given: dict[str, Tensor], picks: list[int], noise: int) -> dict[str, Tensor]:
    """Return log p of the picked value of each site in one state, with torch seeded while the world's code runs."""
    ahead = iter(picks)

    def choose(n: int) -> int:
        return min(next(ahead, 0), n - 1)

    sites = Enumerate("observe", choose=choose)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(noise)
        run(sites, world.observe, states.pack(given))  # type: ignore[attr-defined]
    return sites.log_probs

"""``observe`` of a linear-Gaussian world as y = C s + d + D e, e ~ N(0, I), read off as ``linearise`` reads a slice."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.linearise import read_sites
from cai.compile.observations import ObserveRun, require_new_names, run_observe
from cai.compile.quadratic import ConditionalGaussian
from cai.compile.real_program import noise_names, run_real
from cai.compile.taylor import Piece
from cai.support.process import precision
from cai.world.coordinates import Coordinates
from cai.world.definition import World
from cai.world.reparametrise import Reparametrise
from cai.world.spec import Spec, read


@dataclass(frozen=True)
class LinearObservations:
    """The readings of a world, and their distribution given the state.

    Attributes:
        space: the readings, variables of the state first.
        reading: p(y|s): its gain is C, its offset d, its scale D; the covariance D D' may be singular.
    """

    space: Coordinates
    reading: ConditionalGaussian


def linearise_observations(world: World | Spec, taken: Iterable[str] = ()) -> LinearObservations:
    """Read C, d and D off ``observe``, and check it at random points, as ``linearise`` does with the slice.

    What ``observe`` returns is a variable of the state, unchanged (seen exactly), or a site of Normal,
    MultivariateNormal, LowRankMultivariateNormal or Delta. A latent that is not returned makes readings correlated.

    Args:
        world: of real variables, with ``observe``.
        taken: names of sites of ``step``, which no reading may have.

    Raises:
        WorldError: there is no ``observe``, or it is not valid.
        IntractableError: a site is not Gaussian, its mean is not affine in the state, or its scale depends on it.
    """
    with precision(torch.float64):
        spec = read(world)
        states = Coordinates.of(spec.variables.states, spec.named[0])
        first, n = _look(spec, states, torch.zeros(states.dimension), None), states.dimension
        require_new_names(spec, first.sites.values, taken)
        shapes = dict(zip(states.names, states.shapes, strict=True))
        shapes |= {name: site.shape for name, site in first.sites.sites.items()}
        space = Coordinates(first.names, tuple(shapes[name] for name in first.names), first.named)

        def run(x: Tensor) -> ObserveRun[Reparametrise]:
            return _look(spec, states, x[..., :n], x[..., n:])

        def readings(x: Tensor) -> tuple[Tensor, Tensor]:
            return space.join(run(x).read), torch.zeros(())

        piece = Piece("observe", readings, [*states.labels, *noise_names(first.sites)], space.labels)
        affine = read_sites(piece, first.sites, lambda x: run(x).sites)
        return LinearObservations(space, ConditionalGaussian(affine.F[:, :n], affine.d, affine.F[:, n:]))


def _look(spec: Spec, states: Coordinates, s: Tensor, e: Tensor | None) -> ObserveRun[Reparametrise]:
    """Run ``observe`` in states ``[*batch, n]`` at noise e, zeros unless given."""
    values = states.split(s)
    return run_observe(spec, Reparametrise("observe", e), run_real, states.pack(values), values)

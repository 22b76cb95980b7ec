"""What every compiler looks at first: the members of a world, its sizes and its clock."""

from collections.abc import Iterable
from dataclasses import dataclass

from cai.compile.inspect import audit_layout, audit_members, audit_names
from cai.compile.slices import Shape, is_timed, measure
from cai.errors import Finding, WorldError, fault
from cai.world.definition import World, discount_of, horizon_of


@dataclass(frozen=True)
class Survey:
    """A world looked over.

    Attributes:
        shape: the sizes.
        horizon, discount: T and γ.
        timed: whether its slices may differ over time.
        claims: whether it claims that they do not, where its code cannot show it: to be held against two of them.
    """

    shape: Shape
    horizon: int | None
    discount: float
    timed: bool
    claims: bool


def survey(world: World) -> Survey:
    """Look a world over before it is compiled.

    Raises:
        WorldError, IntractableError: a member, a name, the horizon or a variable does not conform.
    """
    demand(audit_members(world))
    horizon, shape, timed = horizon_of(world), measure(world), is_timed(world)
    demand([*audit_names(shape), *audit_layout(world, shape)])
    if timed and horizon is None:
        raise fault("act and step", "they read t", "slices that do not depend on t where horizon = None")
    claims = bool(getattr(world, "stationary", False)) and horizon != 1
    return Survey(shape, horizon, discount_of(world), timed, claims)


def demand(findings: Iterable[Finding]) -> None:
    """Raise a ``WorldError`` if there is any finding."""
    found = list(findings)
    if found:
        raise WorldError(found)

"""The independent parts of a world: groups of variables without a common factor."""

from dataclasses import replace

import networkx as nx

from cai.compile.factor_model import Factor, FactoredSlice, Factors
from cai.world.spaces import Space


def parts_of(factors: Factors) -> list[Factors]:
    """Split factors into parts that share no variable; one alone where everything is tied.

    An action variable that no state meets joins the first part.
    """
    ties = nx.Graph()
    ties.add_nodes_from((*factors.states.names, *factors.actions.names, *factors.latents))
    for scope in _scopes(factors):
        plain = [name.removesuffix("'") for name in scope]
        ties.add_edges_from((plain[0], name) for name in plain[1:])
    groups = [set(group) for group in nx.connected_components(ties)]
    states = set(factors.states.names)
    kept = [group for group in groups if group & states]
    kept[0].update(*(group for group in groups if not group & states))
    return [_restricted(factors, group) for group in kept]


def _scopes(factors: Factors) -> list[tuple[str, ...]]:
    scopes = [factor.scope for factor in (*factors.initial.values(), *factors.terminal)]
    for part in factors.slices:
        scopes += [factor.scope for factor in (*part.prior.values(), *part.chance.values(), *part.reward)]
    return [scope for scope in scopes if scope]


def _restricted(factors: Factors, names: set[str]) -> Factors:
    """Keep the factors over some variables; a constant reward goes with the first state variable of the world."""
    first = factors.states.names[0] in names

    def mine(factor: Factor) -> bool:
        return factor.scope[0].removesuffix("'") in names if factor.scope else first

    def slice_of(slice_: FactoredSlice) -> FactoredSlice:
        prior = {name: factor for name, factor in slice_.prior.items() if name in names}
        chance = {name: factor for name, factor in slice_.chance.items() if name.removesuffix("'") in names}
        return FactoredSlice(prior, chance, tuple(piece for piece in slice_.reward if mine(piece)))

    return replace(
        factors,
        initial={name: factor for name, factor in factors.initial.items() if name in names},
        slices=tuple(slice_of(slice_) for slice_ in factors.slices),
        terminal=tuple(piece for piece in factors.terminal if mine(piece)),
        states=_subspace(factors.states, names),
        actions=_subspace(factors.actions, names),
        latents={name: size for name, size in factors.latents.items() if name in names},
        layout=None,
        ends=factors.ends if factors.ends is not None and names.issuperset(factors.ends.scope) else None,
    )


def _subspace(space: Space, names: set[str]) -> Space:
    kept = [i for i, name in enumerate(space.names) if name in names]
    sizes, dtypes = tuple(space.sizes[i] for i in kept), tuple(space.dtypes[i] for i in kept)
    labels = tuple(space.labels[i] for i in kept) if space.labels else ()
    return Space(tuple(space.names[i] for i in kept), sizes, dtypes, named=True, labels=labels)

"""Networks without time as worlds of horizon 1: what is random is a latent, unless a decision reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import torch

from cai.bridges.networks.networkx import from_networkx
from cai.compile.inspect import RESERVED
from cai.errors import fault
from cai.world.definition import World


@dataclass(frozen=True)
class Conditional:
    """A variable of a static network.

    Attributes:
        domain: how many values it has, or what they are called, as attributes of a node.
        parents: what it reads, in the order of the axes of its table.
        table: probabilities, the own value last; None where none are given.
    """

    domain: Mapping[str, Any]
    parents: Sequence[str]
    table: Any

    @property
    def size(self) -> int:
        """The number of its values."""
        return int(self.domain["cardinality"]) if "cardinality" in self.domain else len(self.domain["states"])


def static_world(
    where: str,
    name: str,
    variables: Mapping[str, Conditional],
    actions: Iterable[str],
    rewards: Mapping[tuple[str, ...], Any],
    horizon: int | None,
    discount: float,
) -> World:
    """Make a world of horizon 1 of a static network.

    Actions are decisions; what they read is known before they are taken: the state. All else is a latent of the slice.
    A variable with a name that the trajectory program uses itself has an underscore behind it.

    Raises:
        WorldError: the horizon is not 1, or the network is not valid.
    """
    if horizon != 1:
        expected = "1: a network without a second slice (cell_0 and cell_1) is a world of one step"
        raise fault(f"{where}, horizon", f"{horizon}", expected)
    controlled = list(actions)
    known = _known(where, variables, controlled)
    dag = nx.DiGraph(name=name)
    for key, conditional in variables.items():
        kind = "action" if key in controlled else "state" if key in known else "latent"
        plain = f"{key}_" if key in RESERVED else key
        attributes = {"kind": kind, "variable": plain, **conditional.domain}
        dag.add_node(key, time=0, table=conditional.table, parents=list(conditional.parents), **attributes)
        if kind == "state":  # once the decision is taken it stays what it was
            dag.add_node((key, 1), time=1, table=torch.eye(conditional.size), parents=[key], **attributes)
    for i, (parents, table) in enumerate(rewards.items()):
        dag.add_node(("reward", i), kind="reward", time=0, variable=f"O.{i + 1}", table=table, parents=list(parents))
    return from_networkx(dag, horizon=1, discount=discount)


def _known(where: str, variables: Mapping[str, Conditional], controlled: Sequence[str]) -> set[str]:
    """Return what the actions read. What that reads in turn must be read too: who acts sees the state, all of it."""
    known = {parent for key in controlled for parent in variables[key].parents} - set(controlled)
    for key in sorted(known & variables.keys()):
        hidden = [parent for parent in variables[key].parents if parent not in known and parent not in controlled]
        if hidden:
            seen = f"an action that reads '{key}', but not {hidden}, which '{key}' reads"
            expected = "actions that read all ancestors of what they read (worlds seen in part need cai.partial.solve)"
            raise fault(f"{where}, actions", seen, expected)
    return known

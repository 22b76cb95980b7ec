"""compare_all: the same policies on several worlds at several temperatures, here or on a cluster."""

from collections.abc import Mapping, Sequence
from typing import Any

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import fault
from cai.evaluation.comparison import Comparison, compare
from cai.exact.solve import as_temperature
from cai.support.parallel import each
from cai.world.definition import World


def compare_all(
    worlds: Mapping[str, World | Tables],
    policies: Mapping[str, Any],
    *,
    temperatures: Sequence[float] = (1.0,),
    ray: str | None = None,
    progress: bool = True,
) -> dict[str, list[Comparison]]:
    """Compare policies on every world at every temperature; each world's comparisons in the order of temperatures.

    Args:
        worlds: by name, worlds or their tables. They are compiled here; on a cluster the tables are sent to every
            machine once.
        policies: by name, anything that ``evaluate`` takes; a ``Rule`` is solved anew for each.
        temperatures: α > 0, reward units.
        ray: a Ray cluster: "local" on this machine, "auto" the one that runs here, or host:port; with the extra
            ``cai[ray]``. The numbers are the same as without it.
        progress: show a bar on a terminal.

    Raises:
        WorldError: there is no world or temperature, one does not conform, or the cluster cannot be reached.
        IntractableError: a world cannot be tabulated.
        ImpossibleError, NotConvergedError: a rule among the policies has no finite answer.
    """
    if not isinstance(worlds, Mapping) or not worlds:
        raise fault("compare_all, worlds", f"{worlds!r}", "a dict of at least one name and world")
    if not temperatures:
        raise fault("compare_all, temperatures", f"{temperatures!r}", "at least one number")
    for alpha in temperatures:
        as_temperature(alpha)  # before any work is done
    tables = {name: tabulate(world).detach() for name, world in worlds.items()}
    asked = [(name, alpha) for name in tables for alpha in temperatures]
    found = dict(each(_compare, (tables, policies), asked, ray=ray, title="comparisons", shown=progress))
    T = len(temperatures)
    return {name: [found[i * T + n] for n in range(T)] for i, name in enumerate(tables)}


def _compare(common: tuple[Mapping[str, Tables], Mapping[str, Any]], asked: tuple[str, float]) -> Comparison:
    (worlds, policies), (name, alpha) = common, asked
    return compare(worlds[name], policies, temperature=alpha)

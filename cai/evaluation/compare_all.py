"""compare_all: policies on several worlds at several temperatures, here or on a cluster."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cai.compile.factor_model import Factors
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.evaluation.compare import compare
from cai.evaluation.comparison import Comparison
from cai.exact.forms import Compiled, compiled
from cai.exact.temperature import as_temperature
from cai.support.parallel import each
from cai.world.definition import World

Policies = Mapping[str, Any]


def compare_all(
    worlds: Mapping[str, World | Compiled],
    policies: Policies | Callable[[str, float], Policies],
    *,
    temperatures: Sequence[float] = (1.0,),
    ray: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> dict[str, list[Comparison]]:
    """Compare policies on every world at every temperature; the result has a list of comparisons for each world.

    Args:
        worlds: a dict by name of worlds, or of what they were compiled to. One world at two horizons counts as two.
            They are compiled in this process; a cluster receives each once.
        policies: a dict by name of anything that ``compare`` takes; a ``Rule`` is solved for every world and
            temperature. Or a function from a world's name and a temperature to such a dict.
        temperatures: α > 0, reward units.
        ray: a Ray cluster: "local" on this machine, "auto" the one that runs here, or host:port; with the extra
            ``cai[ray]``. The numbers are the same as without a cluster.
        progress: show a bar on a terminal.
        settings: other arguments of ``compare``.

    Raises:
        WorldError: there is no world or temperature, one is not valid, or the cluster cannot be reached.
        IntractableError: a world can be neither tabulated nor factorised.
        ImpossibleError, NotConvergedError: a rule among the policies has no finite answer.
    """
    if not isinstance(worlds, Mapping) or not worlds:
        raise fault("compare_all, worlds", f"{worlds!r}", "a dict of at least one name and world")
    if not temperatures:
        raise fault("compare_all, temperatures", f"{temperatures!r}", "at least one number")
    for alpha in temperatures:
        as_temperature(alpha)  # before any work is done
    models = {name: _detached(compiled(world)) for name, world in worlds.items()}
    policies_of = policies if callable(policies) else lambda name, alpha: policies
    jobs = [(name, alpha, policies_of(name, alpha)) for name in models for alpha in temperatures]
    done = dict(each(_compare, (models, settings), jobs, ray=ray, title="comparisons", shown=progress))
    T = len(temperatures)
    return {name: [done[i * T + n] for n in range(T)] for i, name in enumerate(models)}


def _detached(model: Compiled) -> Compiled:
    """Return a compiled world cut from autograd, so that it can be sent."""
    return model.detach() if isinstance(model, Tables | Factors) else model


def _compare(common: tuple[Mapping[str, Compiled], Mapping[str, Any]], job: tuple[str, float, Policies]) -> Comparison:
    (models, settings), (name, alpha, policies) = common, job
    return compare(models[name], policies, temperature=alpha, **settings)

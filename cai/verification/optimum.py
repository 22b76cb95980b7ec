"""The exact optima of a world: its best return, and over a ladder of temperatures its best soft policies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cai.bridges.named import load_world
from cai.errors import ImpossibleError, NotConvergedError, fault
from cai.evaluation.evaluate import evaluate
from cai.exact.forms import Compiled, compiled, is_compiled
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL
from cai.exact.solve import solve
from cai.exact.temperature import as_temperature
from cai.support.numbers import finite
from cai.support.progress import bar
from cai.world.spec import remark

LADDER = (1.0, 0.3, 0.1, 0.03, 0.01)
"""The temperatures of an optimum unless others are given, reward units."""


@dataclass(frozen=True)
class SoftOptimum:
    """The best soft policy at a temperature, π* of VARIATIONAL, and the evidence.

    Attributes:
        temperature: α, reward units.
        elbo: ELBO* = E_π*[Σ r]/α - E_π*[Σ KL(π*(·|s_t) ‖ p(·|s_t))], nats.
        log_evidence: log Z of POSTERIOR, nats; None where it is not finite.
        expected_return: E_π*[Σ r], reward units.
        entropy: E_π*[Σ H(π*(·|s_t))], nats, all steps together.
        steps: the expected number of steps that π* takes.
    """

    temperature: float
    elbo: float
    log_evidence: float | None
    expected_return: float
    entropy: float
    steps: float

    @property
    def entropy_per_step(self) -> float:
        """``entropy / steps``, nats: the target entropy at which a learner of α ends at this temperature."""
        return self.entropy / self.steps

    def plain(self) -> dict[str, Any]:
        """Return the numbers by name, in the order of a table; None for what is not finite."""
        names = ("temperature", "elbo", "log_evidence", "expected_return", "entropy", "entropy_per_step", "steps")
        numbers: dict[str, Any] = finite({name: getattr(self, name) for name in names})
        return numbers


@dataclass(frozen=True)
class Optimum:
    """The exact optima of a world; see ``optimum``.

    Attributes:
        name: of the world.
        horizon: T, the time limit; None for none.
        discount: γ.
        expected_return: J*, the best expected return, reward units.
        soft: the soft optima, one for each temperature.
        note: what these optima assume of a world that is seen in part; None of one that is fully seen.
    """

    name: str
    horizon: int | None
    discount: float
    expected_return: float
    soft: tuple[SoftOptimum, ...]
    note: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return everything as dicts, lists and numbers; None for what is not finite."""
        head = {name: getattr(self, name) for name in ("name", "horizon", "discount", "expected_return")}
        return {**finite(head), "soft": [one.plain() for one in self.soft], "note": self.note}


def optimum(
    world: Any,
    settings: Mapping[str, Any] | None = None,
    *,
    temperatures: Sequence[float] = LADDER,
    progress: bool = True,
) -> Optimum:
    """Return the exact optima of a world: J* of HARD, and ELBO*, log Z and the entropy of π* at each temperature.

    A learner's return is to be read against J* under the environment's own time limit, a soft learner's ELBO against
    ELBO* at its α. Where a learner adjusts α to a target entropy, ``entropy_per_step`` says which target belongs to
    which α.

    Args:
        world: a name (see ``load_world``: a Gymnasium id, a world of the catalogue, a file), a world, or what it was
            compiled to.
        settings: options of a name, ``{"map_name": "8x8"}``.
        temperatures: α > 0, reward units.
        progress: show a bar on a terminal.

    Raises:
        WorldError: there is no such world or option, or a temperature is not positive.
        IntractableError: the world has no exact solution.
        ImpossibleError: no policy has a finite return.

    Source: Levine 2018, Reinforcement learning and control as probabilistic inference, section 3.
    """
    if settings and not isinstance(world, str):
        raise fault("optimum, settings", f"{dict(settings)!r} beside a {type(world).__name__}", "those of a name")
    if not temperatures:
        raise fault("optimum, temperatures", f"{temperatures!r}", "at least one number")
    alphas = [float(as_temperature(alpha)) for alpha in temperatures]  # before any work is done
    name = world if isinstance(world, str) else getattr(world, "name", type(world).__name__)
    instance = load_world(world, settings) if isinstance(world, str) else world
    note = None if is_compiled(instance) else remark(instance)
    model = compiled(instance)
    given = ", ".join(f"{option}={value}" for option, value in (settings or {}).items())
    with bar("optimum", len(alphas) + 1, shown=progress) as tell:
        best = float(solve(model, HARD).value)
        soft = []
        for n, alpha in enumerate(alphas, 1):
            tell(n, f"α = {alpha:g}")
            soft.append(_soft(model, alpha))
    full = f"{name}({given})" if given else name
    return Optimum(full, model.horizon, model.discount, best, tuple(soft), note)


def _soft(model: Compiled, alpha: float) -> SoftOptimum:
    best = evaluate(model, solve(model, VARIATIONAL, temperature=alpha), temperature=alpha)
    try:
        log_evidence = float(solve(model, POSTERIOR, temperature=alpha).log_evidence)
    except (ImpossibleError, NotConvergedError):
        log_evidence = None
    numbers = (best.expected_return, best.entropy, best.parts[0].steps)
    return SoftOptimum(alpha, best.elbo, log_evidence, *map(float, numbers))

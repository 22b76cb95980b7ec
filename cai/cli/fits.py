"""What the commands share where policies are fitted: each is made by its name, fitted, and told in words or JSON."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cai.errors import Finding, ImpossibleError, IntractableError, NotConvergedError, WorldError, fault
from cai.support.parallel import each
from cai.support.wording import read_name

if TYPE_CHECKING:
    from cai.compile.table_model import Tables
    from cai.learn.result import Learned

POLICIES = ("tabular", "stationary", "neural", "neural-stationary", "full")
"""The policies by name; the last one bends the dynamics too, so that it is no policy of the world itself."""
COMPARABLE = POLICIES[:-1]
ESTIMATORS = ("auto", "tables", "enumeration", "score", "reparameterised")


@dataclass(frozen=True)
class Job:
    """A world to fit policies to.

    Attributes:
        world: the world.
        tables: its tables, or None where they cannot be had.
        reason: why they cannot be had.
        settings: what was asked of ``cai.fit`` by its own names; all else is as it has it.
        lr: Adam's step size, or None for the usual one.
    """

    world: Any
    tables: "Tables | None"
    reason: IntractableError | None
    settings: Mapping[str, Any]
    lr: float | None = None

    @property
    def compiled(self) -> "Tables":
        """The tables.

        Raises:
            IntractableError: they cannot be had.
        """
        if self.tables is None:
            raise self.reason or AssertionError
        return self.tables

    @property
    def estimator(self) -> str:
        """The name of the estimator that was asked for."""
        return str(self.settings.get("estimator", "auto"))


def job_of(world: Any, *, lr: float | None = None, **settings: Any) -> Job:
    """Compile a world where that can be done; settings that are None were not given."""
    from cai.compile.tabulate import tabulate

    given = {name: value for name, value in settings.items() if value is not None}
    try:
        return Job(world, tabulate(world), None, given, lr)
    except IntractableError as error:
        return Job(world, None, error, given, lr)


def read_names(text: str | None) -> list[str]:
    """Read the comma list of policies that compare is to fit, each once."""
    names = [] if text is None else [part.strip() for part in text.split(",")]
    return list(dict.fromkeys(read_name("--fit", name, COMPARABLE) for name in names))


def read_temperatures(texts: Sequence[float] | None) -> list[float]:
    """Return the temperatures, each once, checked before any work is done on the first of them."""
    alphas = list(dict.fromkeys(texts or [1.0]))
    for alpha in alphas:
        if not 0 < alpha < math.inf:
            raise fault("temperature", f"{alpha}", "positive, finite numbers (the limit 0 is the rule HARD)")
    return alphas


def fitted(job: Job, name: str, alpha: float) -> "Learned":
    """Fit the policy of that name at one temperature.

    Raises:
        IntractableError: it, or its estimator, needs tables that cannot be had.
    """
    from cai.learn.svi.fit import fit

    _require(job, name)
    world = job.world
    if job.tables is not None and name != "full" and job.estimator in {"auto", "tables"}:
        world = job.tables  # they need not be compiled anew
    return fit(world, _made(job, name), temperature=alpha, optimizer=job.lr, **job.settings)


def fitted_each(
    job: Job, names: Sequence[str], alphas: Sequence[float], ray: str | None = None
) -> tuple[dict[float, dict[str, "Learned"]], bool]:
    """Fit policies at every temperature, named as rows of a comparison; return them, and whether all were made whole.

    Ctrl-C ends all with what there is. One that cannot be fitted is left out, with a word.
    """
    asked = [(name, alpha) for alpha in alphas for name in names]
    done: dict[int, Learned | None] = {}
    try:
        for n, one in each(_fitted_or_not, job, asked, ray=ray, title="fits", shown=ray is not None):
            done[n] = one
            if one is not None and one.stopped == "interrupted":
                break
    except KeyboardInterrupt:
        if ray is None:
            raise
    whole = len(done) == len(asked) and all(one is None or one.stopped != "interrupted" for one in done.values())
    begun = {asked[n][1] for n in done}
    found: dict[float, dict[str, Learned]] = {alpha: {} for alpha in alphas if whole or alpha in begun}
    for n, one in sorted(done.items()):
        if one is not None:
            found[asked[n][1]][f"fit:{asked[n][0]}"] = one
    return found, whole


def _fitted_or_not(job: Job, asked: tuple[str, float]) -> "Learned | None":
    name, alpha = asked
    try:
        return fitted(job, name, alpha)
    except (WorldError, ImpossibleError) as error:
        print(f"cai: fit:{name} left out at α = {alpha:g}: {error}", file=sys.stderr)
        return None


def _require(job: Job, name: str) -> None:
    if name == "full" and job.estimator == "tables":
        raise fault("--estimator", "'tables' for the full guide, which is no policy", "auto, enumeration or score")
    if job.reason is None:
        return
    asked = {"--policy": name} if not name.startswith("neural") else {}
    if job.estimator in {"tables", "enumeration"}:
        asked["--estimator"] = job.estimator
    fit_for_it = {"--policy": "neural or neural-stationary", "--estimator": "auto, score or reparameterised"}
    wrong = [
        Finding(option, f"'{text}' for a world that cannot be tabulated", fit_for_it[option])
        for option, text in asked.items()
    ]
    if wrong:
        raise IntractableError([*wrong, *job.reason.findings])


def _made(job: Job, name: str) -> Any:
    """Make the policy, its first weights by the seed alone; None is the table that ``cai.fit`` makes by itself."""
    import torch

    from cai.exact.safety import without_risk
    from cai.learn.svi.full_guide import FullGuide
    from cai.policies.neural import NeuralPolicy
    from cai.policies.tabular import TabularPolicy

    safe = job.world if job.tables is None or name in {"full", "tabular"} else without_risk(job.tables)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.settings.get("seed", 0))
        if name.startswith("neural"):
            made_on = job.world if safe is job.tables else safe  # its program, unless that must be kept from risks
            return NeuralPolicy(made_on, stationary=name == "neural-stationary")
        if name == "full":
            return FullGuide(job.world)
        return TabularPolicy(safe, stationary=True) if name == "stationary" else None


def log_evidence_of(job: Job, alpha: float) -> float | None:
    """Return log Z, nats, or None where it cannot be had."""
    from cai.exact.rules import POSTERIOR
    from cai.exact.solve import solve

    if job.tables is None:
        return None
    try:
        return float(solve(job.tables, POSTERIOR, temperature=alpha).log_evidence)
    except (ImpossibleError, NotConvergedError):
        return None


def record(name: str, one: "Learned", log_evidence: float | None) -> dict[str, Any]:
    """Return the numbers of a fit for JSON, null where one is not known; the gap is ``bound`` - ELBO."""
    full = name == "full"
    numbers = {
        "elbo": one.elbo,
        "standard_error": one.standard_error,
        "samples": one.samples,
        "elbo_star": None if full else one.elbo_star,
        "log_evidence": one.elbo_star if full else log_evidence,
        "gap": one.gap,
    }
    finite = {key: value if value is not None and math.isfinite(value) else None for key, value in numbers.items()}
    head = {"name": name, "temperature": one.temperature, "estimator": one.estimator}
    bound = None if one.elbo_star is None else "log Z" if full else "ELBO*"
    return {**head, **finite, "bound": bound, "steps": one.steps, "stopped": one.stopped}


def print_one(title: str, name: str, one: "Learned", job: Job, log_evidence: float | None) -> None:
    """Print the table of a fit, and in words what its bound is, or why there is none."""
    from cai.view.terminal import print_fit

    if name == "full":
        _print_full(title, one)
        return
    print_fit(f"{title}: {name} policy", one, log_evidence=log_evidence)
    if job.reason is not None:
        print(f"gap unknown: there are no exact answers to measure against, since\n{job.reason}\n")


def _print_full(title: str, one: "Learned") -> None:
    from cai.view.terminal import print_table

    reached = f"{one.elbo:.6g}" + (f" ± {one.standard_error:.2g}" if one.samples else "")
    heads = ("estimator", "steps", "stopped by", "ELBO", "log Z", "log Z-ELBO")
    row = (one.estimator, f"{one.steps:,}", one.stopped, reached, one.elbo_star, one.gap)
    print_table(f"{title}: full guide at α = {one.temperature:g}", heads, [row])
    print(
        "in nats; the full guide bends the start and the dynamics too, so that its bound is log Z (POSTERIOR), not "
        "ELBO*:\nwhat it reaches beyond ELBO* is luck, which no policy can command\n"
    )

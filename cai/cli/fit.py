"""cai fit: a policy fitted to the posterior by stochastic variational inference."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai.cli.app import app, print_json, told
from cai.cli.fits import (
    ESTIMATORS,
    POLICIES,
    Job,
    fitted,
    job_of,
    log_evidence_of,
    print_one,
    read_temperatures,
    record,
)
from cai.cli.keep import keep
from cai.cli.options import (
    Discount,
    Horizon,
    Json,
    Out,
    Seed,
    Settings,
    Steps,
    Temperature,
    World,
    read_world,
    require_folder,
    title_of,
)
from cai.errors import fault
from cai.support.wording import read_name

if TYPE_CHECKING:
    from cai.learn.result import Learned

Policy = Annotated[
    str | None, typer.Option(help=f"{' | '.join(POLICIES)}; tabular unless given, neural where there can be no table.")
]
Estimator = Annotated[str, typer.Option(help=f"Of the gradient: {' | '.join(ESTIMATORS)}.")]
Lr = Annotated[float | None, typer.Option(help="Adam's first step size; 0.1 for a table's exact gradient, else 0.01.")]
Particles = Annotated[
    int | None, typer.Option(min=1, help="Trajectories an update, where the gradient is sampled; 100 unless given.")
]
Tolerance = Annotated[
    float | None, typer.Option(help="Stop within so many nats of ELBO*, where it is known; 1e-4 unless given.")
]
Samples = Annotated[
    int | None, typer.Option(min=2, help="Trajectories for the final ELBO, where it is estimated; 10000 unless given.")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="A file that keeps the fit; where it is there, the fit goes on from it.")
]


@app.command()
@told
def fit(
    world: World,
    policy: Policy = None,
    estimator: Estimator = "auto",
    steps: Steps = None,
    lr: Lr = None,
    particles: Particles = None,
    tolerance: Tolerance = None,
    seed: Seed = None,
    checkpoint: Checkpoint = None,
    samples: Samples = None,
    temperature: Temperature = None,
    horizon: Horizon = None,
    discount: Discount = None,
    settings: Settings = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Fit a policy by stochastic variational inference: how close its ELBO comes to ELBO*."""
    _require(policy, estimator, lr, checkpoint, temperature, out)
    made, alphas = read_world(world, settings, horizon, discount), read_temperatures(temperature)
    wishes = {"steps": steps, "particles": particles, "tolerance": tolerance, "samples": samples, "seed": seed}
    job = job_of(made, lr=lr, estimator=estimator, checkpoint=checkpoint, **wishes)
    name = policy or ("neural" if job.tables is None else "tabular")
    title = title_of(world, settings)
    fits = _fit_at(title, job, name, alphas, quiet=as_json)
    if as_json:
        print_json([record(name, one, log_z) for one, log_z in fits])
    if out is not None:
        keep(title, job, name, fits, out)
    if fits[-1][0].stopped == "interrupted":
        raise KeyboardInterrupt


def _require(policy: Any, estimator: str, lr: Any, checkpoint: Any, temperature: Any, out: Path | None) -> None:
    """Refuse what can be seen to be wrong before any work is done."""
    require_folder(out)
    read_name("--policy", policy or POLICIES[0], POLICIES)
    read_name("--estimator", estimator, ESTIMATORS)
    if lr is not None and not 0 < lr < float("inf"):
        raise fault("--lr", f"{lr}", "a number above 0")
    if checkpoint is not None and len(set(temperature or [])) > 1:
        raise fault("--checkpoint", f"one file for {len(set(temperature))} temperatures", "one temperature at a time")


def _fit_at(
    title: str, job: Job, name: str, alphas: list[float], *, quiet: bool
) -> "list[tuple[Learned, float | None]]":
    """Fit at every temperature, each told as soon as it is there; return the fits with log Z. Ctrl-C ends them all."""
    kept = job.settings.get("checkpoint")
    went_on = kept is not None and kept.is_file()
    found: list[tuple[Learned, float | None]] = []
    for alpha in alphas:
        log_z = None if name == "full" else log_evidence_of(job, alpha)
        one = fitted(job, name, alpha)
        found.append((one, log_z))
        if went_on:
            print(f"cai: went on from {kept}", file=sys.stderr)
        if not quiet:
            print_one(title, name, one, job, log_z)
        if one.stopped == "interrupted":
            break
    if found[-1][0].stopped == "interrupted":
        _tell_what_is_left(alphas[len(found) :], kept)
    return found


def _tell_what_is_left(alphas: Sequence[float], kept: Path | None) -> None:
    if alphas:
        print(f"cai: not fitted: α = {', '.join(f'{alpha:g}' for alpha in alphas)}", file=sys.stderr)
    if kept is not None:
        print(f"cai: the same command goes on from {kept}", file=sys.stderr)

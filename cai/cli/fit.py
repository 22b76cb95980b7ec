"""cai fit: a policy fitted to the posterior by stochastic variational inference."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cai
from cai.cli import complete
from cai.cli import options as opt
from cai.cli.app import app, print_json, say, with_exit_code
from cai.cli.given_options import read_temperatures, read_world, require_folder, title_of, without_none
from cai.cli.output import write_report
from cai.errors import ImpossibleError, IntractableError, NotConvergedError, fault
from cai.learn.names import ESTIMATORS, POLICIES
from cai.support.wording import read_name

if TYPE_CHECKING:
    from cai.learn.result import Learned
    from cai.learn.svi.fit import Compiled

Policy = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.one_of(POLICIES),
        help=f"{' | '.join(POLICIES)}; tabular unless given, affine on a linear-Gaussian world, else neural.",
    ),
]
Estimator = Annotated[
    str,
    typer.Option(
        autocompletion=complete.one_of(("auto", *ESTIMATORS)),
        help=f"How the gradient is estimated: {' | '.join(('auto', *ESTIMATORS))}.",
    ),
]
Lr = Annotated[float | None, typer.Option(help="Adam's first step size; 0.1 for a table's exact gradient, else 0.01.")]
Particles = Annotated[
    int | None,
    typer.Option(min=1, help="Trajectories for each update, where the gradient is sampled; 100 unless given."),
]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Stop when the gap to ELBO*, in nats, is at most this, where it is known; 1e-4 unless given."),
]
Samples = Annotated[
    int | None, typer.Option(min=2, help="Trajectories for the final ELBO, where it is estimated; 10000 unless given.")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="A file that stores the fit. If it exists, the fit goes on from it.")
]


@app.command()
@with_exit_code
def fit(
    world: opt.World,
    policy: Policy = None,
    estimator: Estimator = "auto",
    steps: opt.Steps = None,
    lr: Lr = None,
    particles: Particles = None,
    tolerance: Tolerance = None,
    seed: opt.Seed = None,
    checkpoint: Checkpoint = None,
    samples: Samples = None,
    temperature: opt.Temperature = None,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
) -> None:
    """Fit a policy by stochastic variational inference, and show how close its ELBO comes to ELBO*."""
    require_folder(out)
    alphas = read_temperatures(temperature)
    _require(policy, estimator, lr, checkpoint, alphas)
    title, instance = title_of(world, settings), read_world(world, settings, horizon, discount)
    from cai.learn.svi.fit import default_policy

    model, unknown = _model(instance)
    name = policy or default_policy(model)
    own = without_none(steps=steps, particles=particles, tolerance=tolerance, samples=samples, seed=seed)
    own |= without_none(optimizer=lr, checkpoint=checkpoint)
    fits = list(_fits(title, name, instance, model, unknown, alphas, {"estimator": estimator, **own}, quiet=as_json))
    if as_json:
        print_json([record for record, _ in fits])
    if out is not None:
        _keep(world, title, name, instance, model, fits, out)
    if fits[-1][1].stopped == "interrupted":
        raise KeyboardInterrupt


def _require(policy: Any, estimator: str, lr: Any, checkpoint: Any, alphas: Sequence[float]) -> None:
    """Refuse what can be seen to be wrong before any work is done."""
    read_name("--policy", policy or POLICIES[0], POLICIES)
    read_name("--estimator", estimator, ("auto", *ESTIMATORS))
    if lr is not None and not 0 < lr < float("inf"):
        raise fault("--lr", f"{lr}", "a number above 0")
    if checkpoint is not None and len(alphas) > 1:
        raise fault("--checkpoint", f"one file for {len(alphas)} temperatures", "one temperature at a time")


def _model(world: Any) -> "tuple[Compiled | None, str]":
    """Return what the world is compiled to, or why it is not."""
    from cai.learn.scores import compiled_exactly

    try:
        return compiled_exactly(world), ""
    except IntractableError as error:
        return None, str(error)


def _log_evidence(model: "Compiled | None", alpha: float) -> float | None:
    """Return log Z, nats, or None where it is not known."""
    try:
        return None if model is None else float(cai.solve(model, temperature=alpha).log_evidence)
    except (ImpossibleError, IntractableError, NotConvergedError):
        return None


def _fits(
    title: str,
    name: str,
    world: Any,
    model: "Compiled | None",
    unknown: str,
    alphas: Sequence[float],
    settings: dict[str, Any],
    *,
    quiet: bool,
) -> "Iterator[tuple[dict[str, Any], Learned]]":
    """Fit at every temperature, and print each result at once; yield its numbers and the fit. Ctrl-C ends all."""
    from cai.learn.trained import fit_record
    from cai.view.terminal import print_fit

    file = settings.get("checkpoint")
    went_on = file is not None and file.is_file()
    for n, trained in enumerate(cai.learn.fit_all([name], world, temperatures=alphas, model=model, **settings)):
        if name in trained.left_out:
            raise trained.left_out[name]
        if not trained.runs.get(name):
            raise KeyboardInterrupt
        (fitted,) = trained.runs[name]
        record = fit_record(name, fitted, None if name == "full" else _log_evidence(model, trained.temperature))
        if went_on:
            say(f"went on from {file}")
        if not quiet:
            print_fit(title, name, fitted, log_evidence=record["log_evidence"], unknown=unknown)
        if not trained.whole:
            _say_what_is_left(alphas[n + 1 :], file)
        yield record, fitted


def _say_what_is_left(alphas: Sequence[float], file: Path | None) -> None:
    if alphas:
        say(f"not fitted: α = {', '.join(f'{alpha:g}' for alpha in alphas)}")
    if file is not None:
        say(f"the same command goes on from {file}")


def _keep(
    spec: str,
    title: str,
    name: str,
    world: Any,
    model: "Compiled | None",
    fits: "Sequence[tuple[dict[str, Any], Learned]]",
    out: Path,
) -> None:
    """Write the policy and its numbers, and the report: beside the exact answers where there are any."""
    from cai.learn.saved_fits import save_fits

    kinds = {".pt": "policy", ".json": "numbers"}
    for path in save_fits(out, title, fits):
        print(f"{kinds[path.suffix]}: {path.resolve()}")
    runs = {record["temperature"]: fitted for record, fitted in fits}
    if model is None or name == "full":
        write_report(spec, title, None, list(runs.values()), out)
        return
    rules = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "prior": None}
    comparisons = cai.compare_all(
        {title: model},
        lambda _, alpha: {**rules, f"fit:{name}": runs[alpha]},
        temperatures=list(runs),
        leave_out=True,
    )
    write_report(spec, title, cai.graph(world), comparisons[title], out)

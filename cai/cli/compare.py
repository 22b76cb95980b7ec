"""cai compare: policies of one world, or of a world and its twin, by the same exact accounts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai.cli.app import app, print_json, told
from cai.cli.fits import COMPARABLE, Job, fitted_each, read_names, read_temperatures, record
from cai.cli.inference import inference
from cai.cli.learners import learners, read_learners
from cai.cli.options import (
    Discount,
    Do,
    Form,
    Horizon,
    Jobs,
    Json,
    Learn,
    LearnSteps,
    Observe,
    Out,
    Ray,
    Rules,
    Seed,
    Seeds,
    Settings,
    Steps,
    Temperature,
    World,
    read_conditions,
    read_form,
    read_rules,
    read_settings,
    read_world,
    require_folder,
    require_rules,
    title_of,
)
from cai.cli.results import Fits, compared, compared_each, compiled, write
from cai.errors import fault
from cai.support.parallel import joined

if TYPE_CHECKING:
    from cai.compile.table_model import Tables
    from cai.evaluation.comparison import Comparison
    from cai.learn.result import Learned
    from cai.world.conditions import Conditions

EVERY = ("POSTERIOR", "VARIATIONAL", "HARD", "MAP", "prior")

Twin = Annotated[
    list[str] | None,
    typer.Option(help="Settings of a twin world, name=value: what changes, and what does not, goes into the report."),
]
Fitted = Annotated[
    str | None, typer.Option("--fit", help=f"Fit policies too, a comma list of {', '.join(COMPARABLE)}.")
]
Types = Annotated[
    bool, typer.Option("--inference-types", help="Compare the types of inference, from MAP to the evidence, instead.")
]


@app.command()
@told
def compare(
    world: World,
    rule: Rules = None,
    fit: Fitted = None,
    steps: Steps = None,
    seed: Seed = None,
    learn: Learn = None,
    seeds: Seeds = None,
    learn_steps: LearnSteps = None,
    jobs: Jobs = None,
    inference_types: Types = False,
    temperature: Temperature = None,
    horizon: Horizon = None,
    discount: Discount = None,
    settings: Settings = None,
    form: Form = "auto",
    observe: Observe = None,
    do: Do = None,
    twin: Twin = None,
    ray: Ray = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Compare policies by the same exact accounts: return, entropy, ELBO, and where every nat is lost."""
    require_folder(out)
    _refuse({"--rule": rule, "--fit": fit, "--twin": twin} if inference_types else {}, "beside --inference-types")
    _refuse({"--steps": steps, "--seed": seed} if fit is None else {}, "without --fit (--learn has its own options)")
    lesson = read_learners(learn, seeds=seeds, steps=learn_steps, jobs=jobs, ray=ray)
    read_settings(twin, "--twin")
    title, changed = title_of(world, settings), [*(settings or []), *(twin or [])]
    if lesson is not None:
        types, kept = inference_types or None, form if form != "auto" else None
        others = {"--inference-types": types, "--form": kept, "--observe": observe, "--do": do}
        _refuse({"--rule": rule, "--fit": fit, "--twin": twin, **others}, "beside --learn")
        made, alphas = read_world(world, settings, horizon, discount), read_temperatures(temperature)
        learners(title, made, lesson, alphas, out, as_json=as_json)
        return
    require_rules(rule or EVERY, prior=True)
    names, alphas = read_names(fit), read_temperatures(temperature)
    tabled = bool(inference_types or names or twin)
    if read_form(form) == "factors" and tabled:
        raise fault("--form", "factors beside --fit, --twin or --inference-types", "tables: those need them")
    made, given = read_world(world, settings, horizon, discount), read_conditions(observe, do)
    from cai.compile.factor_model import Factors

    rules = read_rules(rule or EVERY, prior=True)
    found, _ = compiled(made, "tables" if tabled else form, given, quiet=as_json)
    if isinstance(found, Factors):
        _tell_factors(title, made, compared(found, rules, alphas, given=given), out, as_json=as_json)
        return
    asked = {name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None}
    job = Job(made, found, None, asked)
    if inference_types:
        inference(title, job, alphas, out, ray, as_json=as_json)
        return
    other = (title_of(world, changed), read_world(world, changed, horizon, discount)) if twin else None
    tables = job.compiled  # a world without them is refused before any fit
    with joined(ray):
        fits, whole = fitted_each(job, names, alphas, ray)
        comparisons, notes = _compared(title, tables, rules, fits, other, ray, given)
    if comparisons:
        _print(world, comparisons, fits, notes, as_json=as_json)
    if comparisons and out is not None:
        write(title, job.world, comparisons, out, notes)
    if not whole:
        raise KeyboardInterrupt


def _tell_factors(title: str, world: Any, comparisons: Sequence[Any], out: Any, *, as_json: bool) -> None:
    """Print what was compared on factors, and write its report."""
    if as_json:
        print_json([one.plain() for one in comparisons])
    else:
        from cai.view.terminal import print_comparison

        for one in comparisons:
            print_comparison(title, one)
    if out is not None:
        write(title, world, comparisons, out)


def _refuse(options: Mapping[str, Any], where: str) -> None:
    """Refuse options that would do nothing, before any work is done."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise fault(
            "compare",
            f"{', '.join(given)} {where}",
            "--fit with --steps and --seed, --learn with --seeds, --learn-steps and --jobs, or --inference-types alone",
        )


def _compared(
    title: str,
    tables: "Tables",
    rules: Mapping[str, Any],
    fits: Fits,
    twin: tuple[str, Any] | None,
    ray: str | None,
    given: "Conditions",
) -> tuple[list["Comparison"], list[str]]:
    """Compare the world and its twin, if it has one; the note says what changes between them and what does not."""
    from cai.compile.tabulate import tabulate
    from cai.view.summary import twin_summary

    if twin is None or not fits:
        return compared_each({title: tables}, rules, list(fits), {title: fits}, ray, given)[title], []
    name, world = twin
    sides = {"world": tables, "twin": tabulate(world)}
    done = compared_each(sides, rules, list(fits), {"world": fits, "twin": {}}, ray, given)
    return done["world"], [twin_summary(title, done["world"], name, done["twin"])]


def _print(world: str, comparisons: Sequence["Comparison"], fits: Fits, notes: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json([_plain(one, fits[one.temperature]) for one in comparisons])
        return
    from cai.view.terminal import STOPPED, print_comparison

    for one in comparisons:
        print_comparison(world, one)
        for name, made in fits[one.temperature].items():
            print(f"{name}: {made.steps:,} steps by {made.estimator}, {STOPPED[made.stopped]}")
    for note in notes:
        print(note)


def _plain(one: "Comparison", fits: Mapping[str, "Learned"]) -> dict[str, Any]:
    told = one.plain()
    return {**told, "fits": [record(name, made, one.log_evidence) for name, made in fits.items()]} if fits else told

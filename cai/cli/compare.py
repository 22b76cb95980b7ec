"""cai compare: policies on one world, or on a world and its twin, by the same exact numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cai
from cai.cli import complete
from cai.cli import options as opt
from cai.cli.app import app, say, with_exit_code
from cai.cli.given_options import (
    conditions_of,
    read_conditions,
    read_form,
    read_model,
    read_names,
    read_rules,
    read_settings,
    read_temperatures,
    read_world,
    refuse,
    require_folder,
    rules_of,
    title_of,
    without_none,
)
from cai.cli.output import say_all_left_out, say_left_out, show_comparisons, write_report
from cai.errors import fault
from cai.learn.names import FORMS, POLICIES, forms, with_kl
from cai.support.parallel import joined

if TYPE_CHECKING:
    from cai.evaluation.comparison import Comparison
    from cai.learn.result import Learned
    from cai.learn.trained import Trained

EVERY = ("POSTERIOR", "VARIATIONAL", "HARD", "MAP", "prior")
"""The policies that are compared unless others are asked for."""
EXACT = ("POSTERIOR", "VARIATIONAL", "HARD", "prior")
"""The policies beside learners."""
SEEDS = 10
TABLED = ("--fit", "--twin", "--inference-types")
"""What needs tables."""
COMPARABLE = POLICIES[:-1]
APART = {
    "--inference-types": ("--rule", "--fit", "--twin"),
    "--learn": ("--rule", "--twin", "--inference-types", "--form", "--observe", "--do"),
    "--ray": ("--jobs",),
}
"""What these options have no use for."""
COUNTS = ("--seeds", "--learn-steps", "--jobs")
NEEDS = {"--fit": ("--steps", "--seed"), "--learn": (*COUNTS, "--kl")}
"""Options that belong to another one."""
EXPECTED = (
    "--fit with --steps and --seed, --learn with --seeds, --learn-steps and --jobs or --ray, or --inference-types alone"
)

Twin = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=complete.settings,
        help="Options of a twin world, name=value: the report compares the two worlds.",
    ),
]
Fitted = Annotated[
    str | None,
    typer.Option(
        "--fit",
        autocompletion=complete.several_of(COMPARABLE),
        help=f"Fit policies too: a comma list of {', '.join(COMPARABLE)}.",
    ),
]
Types = Annotated[
    bool, typer.Option("--inference-types", help="Compare the types of inference instead, from MAP to the evidence.")
]


@dataclass(frozen=True)
class Asked:
    """What all ways to compare share: a world at temperatures, where to work, and how to answer."""

    spec: str
    title: str
    alphas: Sequence[float]
    world: Any
    ray: str | None
    as_json: bool
    out: Path | None

    def answer(
        self, comparisons: "Sequence[Comparison]", twin: "tuple[str, Sequence[Comparison]] | None" = None
    ) -> None:
        """Print the comparisons, and what sets a twin apart; write their report."""
        show_comparisons(self.title, comparisons, as_json=self.as_json)
        if twin is not None and not self.as_json:
            from cai.view.summary import twin_summary

            print(twin_summary(self.title, comparisons, *twin))
        if self.out is not None:
            write_report(self.spec, self.title, cai.graph(self.world), comparisons, self.out, twin=twin)


@app.command()
@with_exit_code
def compare(
    world: opt.World,
    rule: opt.Rules = None,
    fit: Fitted = None,
    steps: opt.Steps = None,
    seed: opt.Seed = None,
    learn: opt.Learn = None,
    kl: opt.Estimates = None,
    seeds: opt.Seeds = None,
    learn_steps: opt.LearnSteps = None,
    jobs: opt.Jobs = None,
    inference_types: Types = False,
    temperature: opt.Temperature = None,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    form: opt.Form = "auto",
    observe: opt.Observe = None,
    do: opt.Do = None,
    twin: Twin = None,
    ray: opt.Ray = None,
    as_json: opt.Json = False,
    out: opt.Out = None,
) -> None:
    """Compare policies by exact numbers: return, regret, entropy, ELBO, and where each policy loses nats."""
    require_folder(out)
    ways = {"--rule": rule, "--fit": fit, "--twin": twin, "--learn": learn, "--inference-types": inference_types}
    own = {"--steps": steps, "--seed": seed, "--seeds": seeds, "--learn-steps": learn_steps, "--jobs": jobs, "--kl": kl}
    where = {"--form": read_form(form), "--observe": observe, "--do": do, "--ray": ray}
    _refuse({**ways, **own, **where})
    fits, learners = read_names("--fit", fit, COMPARABLE), read_names("--learn", learn, (*FORMS, "all"))
    estimates = read_names("--kl", kl, opt.KINDS)
    given = read_conditions(observe, do)
    chosen, alphas = read_rules(rule or (EXACT if learn else EVERY), prior=True), read_temperatures(temperature)
    instance, changed = read_world(world, settings, horizon, discount), [*(settings or []), *(twin or [])]
    rules = rules_of(chosen, policies=True)
    asked = Asked(world, title_of(world, settings), alphas, instance, ray, as_json, out)
    if learn is not None:
        fitted, whole = _fitted(asked, fits, without_none(steps=steps, seed=seed))
        if not whole:
            raise KeyboardInterrupt
        learners = with_kl(forms() if "all" in learners else learners, estimates)
        _learners(asked, rules, learners, range(seeds or SEEDS), jobs or 1, without_none(steps=learn_steps), fitted)
    elif inference_types:
        _inference_types(asked, conditions_of(given))
    else:
        other = (title_of(world, changed), read_world(world, changed, horizon, discount)) if twin else None
        _policies(asked, rules, form, conditions_of(given), fits, without_none(steps=steps, seed=seed), other)


def _refuse(options: Mapping[str, Any]) -> None:
    """Refuse options that do not go together, before any work is done."""
    refuse("compare", options, APART, NEEDS, EXPECTED)
    read_settings(options["--twin"], "--twin")
    for name in COUNTS:
        if options[name] is not None and options[name] < 1:
            raise fault(name, f"{options[name]}", "a whole number, at least 1")
    form = options["--form"] or "tables"
    if form != "tables" and any(options[name] for name in TABLED):
        raise fault("--form", f"{form} beside {', '.join(TABLED[:-1])} or {TABLED[-1]}", "tables: those need them")


def _policies(
    asked: Asked,
    rules: Mapping[str, Any],
    form: str,
    conditions: Any,
    names: Sequence[str],
    settings: Mapping[str, Any],
    other: tuple[str, Any] | None,
) -> None:
    """Compare rules, and policies that are fitted first; of a twin the rules alone."""
    from cai.evaluation.columns import columns_of
    from cai.world.spec import read

    form = "tables" if (names or other) and read(asked.world).variables.spaces is not None else form
    models = {"world": read_model(asked.world, form, conditions, quiet=asked.as_json)}
    models |= {"twin": read_model(other[1], form, conditions, quiet=True)} if other else {}
    with joined(asked.ray):
        fits, whole = _fitted(asked, names, settings, models["world"])

        def policies(side: str, alpha: float) -> dict[str, Any]:
            return {**rules, **(fits[alpha] if side == "world" else {})}

        comparisons = cai.compare_all(
            models,
            policies,
            temperatures=list(fits),
            ray=asked.ray,
            leave_out=True,
            conditions=conditions,
            columns=columns_of(asked.world),
        )
    if other:
        say_all_left_out(comparisons["twin"])
    asked.answer(comparisons["world"], (other[0], comparisons["twin"]) if other else None)
    if not whole:
        raise KeyboardInterrupt


def _fitted(
    asked: Asked, names: Sequence[str], settings: Mapping[str, Any], model: Any = None
) -> tuple[dict[float, dict[str, Any]], bool]:
    """Return what was fitted, by temperature and name, and whether all was; one that cannot be fitted is left out."""
    if not names:
        return {alpha: {} for alpha in asked.alphas}, True
    fits, whole = {}, True
    for trained in cai.learn.fit_all(
        names, asked.world, temperatures=asked.alphas, model=model, ray=asked.ray, **settings
    ):
        for name, reason in trained.left_out.items():
            say_left_out(f"fit:{name}", trained.temperature, reason)
        runs = {f"fit:{name}": run for name, each in trained.runs.items() for run in each}
        whole = trained.whole
        if runs or whole:
            fits[trained.temperature] = runs
    if not fits:
        raise KeyboardInterrupt
    return fits, whole


def _inference_types(asked: Asked, conditions: Any) -> None:
    """Compare the types of inference."""
    from cai.evaluation.inference_types import inference_types_all

    model = read_model(asked.world, "tables", conditions, quiet=asked.as_json)
    asked.answer(inference_types_all(model, temperatures=asked.alphas, ray=asked.ray))


def _learners(
    asked: Asked,
    rules: Mapping[str, Any],
    names: Sequence[str],
    seeds: Sequence[int],
    jobs: int,
    settings: Mapping[str, Any],
    fits: Mapping[float, Mapping[str, Any]],
) -> None:
    """Compare learners over seeds beside the exact answers and the fits; print a temperature as soon as it is done."""
    where: dict[str, Any] = {"seeds": seeds, "jobs": jobs, "ray": asked.ray, "folder": asked.out and asked.out / "runs"}
    comparisons: list[Comparison] = []
    whole = True
    for trained in cai.learn.learn_all(names, asked.world, temperatures=asked.alphas, **where, **settings):
        runs, whole = _complete_runs(trained, len(seeds)), trained.whole
        if runs:
            both = {**rules, **fits.get(trained.temperature, {}), **runs}
            comparisons.append(cai.compare(asked.world, both, temperature=trained.temperature, leave_out=True))
            if not asked.as_json:
                show_comparisons(asked.title, comparisons[-1:], as_json=False)
    if asked.as_json:
        show_comparisons(asked.title, comparisons, as_json=True)
    if asked.out is not None:
        write_report(asked.spec, asked.title, None, comparisons, asked.out)
    if not whole:
        if asked.out is not None:
            say(f"the runs are kept in {asked.out / 'runs'}; the same command goes on from there")
        raise KeyboardInterrupt


def _complete_runs(trained: "Trained", seeds: int) -> "Mapping[str, Sequence[Learned]]":
    """Return the learners that have runs; say on stderr which have none or too few, and raise where none can learn."""
    runs = {name: each for name, each in trained.runs.items() if each}
    if trained.whole and not runs:
        raise list(trained.left_out.values())[-1]
    for name, reason in trained.left_out.items():
        say_left_out(name, trained.temperature, reason)
    for name, each in trained.runs.items():
        if len(each) < seeds:
            say(f"{name}: {len(each)} of {seeds} runs are complete")
    return runs

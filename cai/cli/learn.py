"""cai learn: one learner on a world or on a Gymnasium environment, kept in a folder from which it can go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cai
from cai.bridges.named import is_id
from cai.cli import complete, known
from cai.cli import options as opt
from cai.cli.app import app, print_json, say, with_exit_code
from cai.cli.given_options import read_settings, read_temperatures, read_world, require_folder, title_of, without_none
from cai.cli.output import write_report
from cai.errors import fault
from cai.learn.names import FORMS, LEARNERS, SOFT, at_temperature, learner_of
from cai.learn.presets import as_text, presets_of
from cai.simulate.registered import require_options
from cai.support.catalogue import literal
from cai.support.wording import meant, read_name

if TYPE_CHECKING:
    from cai.evaluation.comparison import Comparison
    from cai.learn.result import Learned

World = Annotated[
    str,
    typer.Argument(
        autocompletion=complete.worlds,
        help="A catalogue name, a file, file.py:Class, or a Gymnasium id such as CartPole-v1.",
    ),
]
Algorithm = Annotated[
    str,
    typer.Option(
        "--algorithm",
        "-a",
        autocompletion=complete.one_of(FORMS),
        help=f"{' | '.join(LEARNERS)}; with soft_ before it for a temperature.",
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        "-t",
        help="The temperature α, reward units; the preset's or 1 unless given. A hard learner is only measured at it.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Environment steps; a started batch is finished. The learner's own number unless given."),
]
Seed = Annotated[int, typer.Option(min=0, help="The seed of all randomness.")]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        autocompletion=complete.learner_settings,
        help="A setting of the learner, name=value (lr=0.05, network=(32,)), in place of the preset's; repeatable.",
    ),
]
NoPreset = Annotated[
    bool,
    typer.Option("--no-preset", help="Take the learner's defaults, also where it has a preset for the environment."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Store progress.jsonl, TensorBoard's events and the learner here; the same command goes on.",
    ),
]


@app.command()
@with_exit_code
def learn(
    world: World,
    algorithm: Algorithm = "soft_q_learning",
    temperature: Alpha = None,
    steps: Steps = None,
    seed: Seed = 0,
    option: Option = None,
    no_preset: NoPreset = False,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    as_json: opt.Json = False,
    out: Out = None,
) -> None:
    """Learn from samples: REINFORCE, soft policy gradient, (soft) Q, fitted Q or soft actor-critic.

    On an id a learner has its preset for it, if there is one (cai show ID); an --option changes one setting of it.
    """
    require_folder(out)
    read_name("--algorithm", algorithm, FORMS)
    given = without_none(temperature=temperature) | read_options(option, algorithm) | without_none(steps=steps)
    suited = {} if no_preset else presets_of(world).get(algorithm, {})
    preset = {name: value for name, value in suited.items() if name not in given}
    own = preset | given
    (alpha,) = read_temperatures([own.pop("temperature", 1.0)])
    subject, env = read_subject(world, settings, horizon, discount)
    own |= at_temperature(algorithm, alpha)
    own |= {} if out is None else {"log": out, "checkpoint": out / "learner.checkpoint"}
    learned = learner_of(algorithm)(subject, seed=seed, **env, **own)
    if as_json:
        print_json(learned.plain() | ({"preset": preset} if preset else {}))
    else:
        from cai.view.terminal import print_learned

        if preset:
            print(_told(preset, given))
        print_learned(title_of(world, settings), learned)
    if out is not None:
        print(f"kept: {out.resolve()}")
        results = learned if is_id(world) else _beside_exact(subject, algorithm, alpha, learned)
        write_report(world, title_of(world, settings), None, results, out)
    if learned.stopped == "interrupted":
        if out is not None:
            say("the same command goes on from there")
        raise KeyboardInterrupt


def _told(preset: dict[str, Any], given: dict[str, Any]) -> str:
    """Write what was taken of a preset, and what was given beside it."""
    beside = f"; given: {as_text(given)}" if given else ""
    return f"preset: {as_text(preset)}{beside} (--no-preset: the learner's defaults)"


def _beside_exact(world: Any, algorithm: str, alpha: float, learned: "Learned") -> "Comparison":
    """Compare what was learned with the exact answers, as far as the world has any."""
    rules = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD, "prior": None}
    return cai.compare(world, {**rules, algorithm: learned}, temperature=alpha, leave_out=True)


def read_subject(
    spec: str, settings: Sequence[str] | None, horizon: str | None, discount: float | None
) -> tuple[Any, dict[str, Any]]:
    """Return what is learned on, with the argument that only an environment has: a world, or an id and its options.

    Raises:
        WorldError: there is no such world or id, or no such option; an environment has no horizon or discount of ours.
    """
    if not is_id(spec):
        return read_world(spec, settings, horizon, discount), {}
    if horizon is not None or discount is not None:
        raise fault("learn", "--horizon or --discount beside a Gymnasium id", "a world for those")
    options = {name: literal(value) for name, value in read_settings(settings).items()}
    require_options(spec, options)
    return spec, {"env_options": options}


def read_options(texts: Sequence[str] | None, algorithm: str) -> dict[str, Any]:
    """Read the learner's settings; values are Python literals, or else words.

    Raises:
        WorldError: one is no name=value, or the learner has no such setting.
    """
    names = [*(setting.name for setting in known.learner_settings(algorithm.removeprefix(SOFT))), "steps"]
    values: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or name not in names:
            expected = f"name=value with one of {', '.join(names)}; options of an environment belong in --set"
            raise fault("--option", f"'{text}'", f"{expected}{meant(name, names)}")
        values[name] = literal(value)
    return values

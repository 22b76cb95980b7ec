"""cai verify: a learner learns the probes, and is told which exact answer it learned."""

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import cai
from cai.cli import complete
from cai.cli import options as opt
from cai.cli.app import app, print_json, say, with_exit_code
from cai.cli.given_options import read_names, refuse, require_folder
from cai.cli.learn import read_options
from cai.cli.output import write_report
from cai.errors import fault
from cai.learn.names import FORMS, LEARNERS, is_soft
from cai.support.files import write_whole
from cai.support.wording import read_name

if TYPE_CHECKING:
    from cai.verification.probe import Probe
    from cai.verification.verification import Verification

Agent = Annotated[
    str | None,
    typer.Argument(
        autocompletion=complete.agents, help="A file with a function train(env, seed) -> policy, or file.py:function."
    ),
]
Algorithm = Annotated[
    str | None,
    typer.Option(
        "--algorithm",
        "-a",
        autocompletion=complete.one_of(FORMS),
        help=f"A learner of this library instead: {' | '.join(LEARNERS)}; with soft_ before it for a temperature.",
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="A setting of the learner of --algorithm, name=value; repeatable."),
]
ListProbes = Annotated[bool, typer.Option("--list", help="List the probes, what each catches and what it needs.")]
ListMistakes = Annotated[bool, typer.Option("--mistakes", help="List the mistakes that a policy is held against.")]
Probes = Annotated[
    list[str] | None, typer.Option("--probe", autocompletion=complete.probes, help="One probe; repeatable.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds; no verdict comes of one alone.")]
Minutes = Annotated[float | None, typer.Option(help="The minutes that all of it may take; no limit unless given.")]
Without = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.several_of(("temperature", "prior", "masks", "time", "bootstrap", "optimism")),
        help="What the learner does not claim to know of, a comma list of temperature, prior, masks, time, bootstrap, "
        "optimism: the probes that need it are left out.",
    ),
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--rule",
        "-r",
        help="What it is to learn: VARIATIONAL (reward and entropy; unless given), HARD (reward), POSTERIOR.",
    ),
]
Hard = Annotated[bool, typer.Option("--hard", help="Short for --rule HARD: a learner of returns.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 where a probe is undecided or was not run, too.")]
JUnit = Annotated[Path | None, typer.Option("--junit", help="Write the verdicts as JUnit XML into this file.")]
Folder = Annotated[Path | None, typer.Option("--out", help="Write a report with figures and numbers into this folder.")]

RULES = ("VARIATIONAL", "HARD", "POSTERIOR")
WIDTH = 100
"""Of the lists, in columns."""


@app.command()
@with_exit_code
def verify(
    agent: Agent = None,
    algorithm: Algorithm = None,
    option: Option = None,
    list_probes: ListProbes = False,
    list_mistakes: ListMistakes = False,
    probe: Probes = None,
    seeds: Seeds = 5,
    minutes: Minutes = None,
    jobs: opt.Jobs = None,
    ray: opt.Ray = None,
    without: Without = None,
    rule: Rule = None,
    hard: Hard = False,
    strict: Strict = False,
    junit: JUnit = None,
    as_json: opt.Json = False,
    out: Folder = None,
) -> None:
    """Let a learner learn small worlds with exact answers, and say which answer it learned, right or wrong."""
    if list_probes or list_mistakes:
        _list(list_probes, list_mistakes, as_json)
        return
    train, name = _learner(agent, algorithm, option)
    chosen = _rule(algorithm, rule, hard)
    if minutes is not None and not minutes > 0:
        raise fault("--minutes", f"{minutes:g}", "a positive number")
    require_folder(out)
    if junit is not None and junit.is_dir():
        raise fault("--junit", f"'{junit}' is a folder", "a file, such as verdicts.xml")
    require_folder(None if junit is None else junit.absolute().parent, "--junit")
    settings: dict[str, Any] = {
        "probes": _probes(probe),
        "without": _claims(without),
        "seeds": seeds,
        "minutes": minutes,
        "ray": ray,
    }
    found = cai.verify(train, rule=chosen, jobs=1 if jobs is None else jobs, **settings)
    _show(found, name, as_json, junit, out)
    if found.interrupted:
        raise KeyboardInterrupt
    open_ones = [one.probe for one in found.verdicts if one.verdict in ("undecided", "not run")]
    if open_ones:
        say(f"without a verdict: {', '.join(open_ones)}{'' if strict else ' (--strict counts that as a failure)'}")
    if found.failed or (strict and not found.passed):
        raise typer.Exit(1)


def _show(found: "Verification", name: str, as_json: bool, junit: Path | None, out: Path | None) -> None:
    if as_json:
        print_json(found.plain())
    else:
        from cai.view.terminal import print_verification

        print_verification(name, found)
    if junit is not None:
        from cai.verification.junit import junit_xml

        write_whole(junit.absolute().parent, {junit.name: junit_xml(found, name).encode()})
    if out is not None:
        write_report("", f"Unit tests of {name}", None, {name: found}, out)


def _learner(agent: str | None, algorithm: str | None, option: list[str] | None) -> tuple[Any, str]:
    """Return the function ``train``, and what it is called.

    Raises:
        WorldError: there is none, or it is not clear which.
    """
    if (agent is None) == (algorithm is None):
        seen = "neither a file nor a learner" if agent is None else "a file beside --algorithm"
        raise fault("verify", seen, "one of: my_agent.py:train, --algorithm NAME, --list, --mistakes")
    if algorithm is not None:
        read_name("--algorithm", algorithm, FORMS)
        from cai.verification.trainers.own import own

        return own(algorithm, **read_options(option, algorithm)), algorithm
    refuse("verify", {"--option": option}, {}, {"--algorithm": ["--option"]}, "the settings of your file in your file")
    from cai.verification.trainers.train_file import train_of_file

    return train_of_file(str(agent)), str(agent)


def _rule(algorithm: str | None, rule: str | None, hard: bool) -> Any:
    """Return the rule: the one that is given, else HARD for a learner of this library without a temperature."""
    if rule is not None and hard:
        raise fault("verify", "--hard beside --rule", "one of them")
    returns = hard or (algorithm is not None and not is_soft(algorithm))
    name = read_name("--rule", "HARD" if rule is None and returns else (rule or "VARIATIONAL").upper(), RULES)
    from cai.exact.rules import NAMED

    return NAMED[name]


def _probes(names: list[str] | None) -> list[str] | None:
    from cai.verification.probes import PROBES

    return None if not names else [read_name("--probe", name, [*PROBES, "seeds"]) for name in dict.fromkeys(names)]


def _claims(without: str | None) -> list[Any]:
    from cai.verification.probe import Claim

    return read_names("--without", without, get_args(Claim))


def _list(probes: bool, mistakes: bool, as_json: bool) -> None:
    """Print the probes, or the mistakes, or both."""
    told = [*(_told_probes() if probes else ()), *(_told_mistakes() if mistakes else ())]
    if as_json:
        print_json(told)
        return
    width = max(len(one["name"]) for one in told) + 2
    for one in told:
        lines = wrap(one["words"], WIDTH - width)
        print(one["name"].ljust(width) + ("\n" + " " * width).join(lines))
        rest = [f"{head}: {_text(value)}" for head, value in one.items() if head not in ("name", "words") and value]
        if rest:
            print(" " * width + "; ".join(rest))


def _told_probes() -> list[dict[str, Any]]:
    from cai.verification.probe import ALL
    from cai.verification.probes import PROBES

    def told(one: "Probe") -> dict[str, Any]:
        only = [] if one.rules == ALL else sorted(one.rules)
        return {"name": one.name, "words": one.words, "catches": one.catches, "needs": sorted(one.needs), "only": only}

    words = "One seed twice, with another seed in between: the same seed has to give the same policy."
    seeds = {"name": "seeds", "words": words, "catches": "seeds that share state", "needs": [], "only": []}
    return [*(told(one) for one in PROBES.values()), seeds]


def _told_mistakes() -> list[dict[str, Any]]:
    from cai.verification.mistakes import MISTAKES

    return [{"name": one.name, "words": one.words} for one in MISTAKES.values()]


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)

"""Completions of the shell: worlds, their options, rules, learners, without loading torch or a world."""

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from cai.bridges.named import source_of
from cai.cli import known
from cai.errors import CaiError
from cai.learn.names import FORMS
from cai.support.catalogue import names, outlines


def worlds(incomplete: str) -> list[tuple[str, str]]:
    """Offer the catalogue, the Python files of a folder, and Gymnasium's ids that have a table."""
    said = [(name, one.summary) for name, one in outlines().items()]
    above = Path(incomplete).parent if "/" in incomplete else Path()
    said += [(str(path), "a file") for path in sorted(above.glob("*.py")) if not path.name.startswith("_")]
    if incomplete[:1].isupper():
        import gymnasium  # which takes a fifth of a second

        tabular = (id_ for id_, spec in gymnasium.registry.items() if "toy_text" in str(spec.entry_point))
        said += [(id_, "of Gymnasium") for id_ in tabular if not id_.startswith("Blackjack")]
    return _from(incomplete, said)


def settings(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the options of the world that stands before, ``name=``."""
    # An option that still lacks its value ends the parsing before the arguments have their names.
    world = ctx.params.get("world") or next(iter(ctx.args), "")
    try:
        options = source_of(str(world)).options or ()
    except CaiError:
        return []
    return _from(incomplete, [(f"{option.name}=", option.words or f"{option}") for option in options])


def learner_settings(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the settings of the learner that stands before, ``name=``."""
    learner = str(ctx.params.get("algorithm") or "").removeprefix("soft_")
    if learner not in FORMS:
        return []
    return _from(incomplete, [(f"{one.name}=", one.words) for one in known.learner_settings(learner)])


def catalogue(incomplete: str) -> list[str]:
    """Offer the names of the catalogue."""
    return [name for name in names() if name.startswith(incomplete)]


def rules(incomplete: str) -> list[str]:
    """Offer the rules."""
    return [name for name in known.rules() if name.startswith(incomplete.upper())]


def methods(incomplete: str) -> list[str]:
    """Offer the methods of approximate inference."""
    return [name for name in known.methods() if name.startswith(incomplete)]


def forms(incomplete: str) -> list[str]:
    """Offer the compiled forms."""
    return [name for name in known.forms() if name.startswith(incomplete)]


def claims(incomplete: str) -> list[str]:
    """Offer the claims."""
    return [name for name in known.claims() if name.startswith(incomplete)]


def probes(incomplete: str) -> list[tuple[str, str]]:
    """Offer the probes, and the check of seeds."""
    from cai.verification.probes import PROBES

    return _from(incomplete, [*((name, one.catches) for name, one in PROBES.items()), ("seeds", "seeds share state")])


def agents(incomplete: str) -> list[tuple[str, str]]:
    """Offer the Python files of a folder."""
    above = Path(incomplete).parent if "/" in incomplete else Path()
    return _from(incomplete, [(f"{path}:train", "a file") for path in sorted(above.glob("*.py"))])


def one_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what offers some names."""
    every = tuple(choices)

    def offers(incomplete: str) -> list[str]:
        return [name for name in every if name.startswith(incomplete)]

    return offers


def several_of(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what offers some names in a comma list."""
    every = tuple(choices)

    def offers(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in every if name.startswith(last)]

    return offers


def _from(incomplete: str, said: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, words) for name, words in said if name.startswith(incomplete)]

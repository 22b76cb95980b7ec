"""What is read from the arguments and options that commands share."""

import contextlib
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.bridges.named import load_world
from cai.cli import known
from cai.cli.app import say
from cai.errors import fault
from cai.support.progress import working
from cai.support.wording import meant, read_name

PICTURES = (".svg", ".png", ".pdf")
"""The kinds of files that pictures are written to."""


def read_world(spec: str, settings: Sequence[str] | None, horizon: str | None, discount: float | None) -> Any:
    """Make the world that a spec names, with its settings; a horizon or discount that is given replaces its own."""
    pairs, overrides = read_settings(settings), read_clock(horizon, discount)
    # What a file prints on its own is no part of the answer.
    with contextlib.redirect_stdout(sys.stderr), working(f"reading {spec}"):
        return load_world(spec, pairs, overrides)


def read_clock(horizon: str | None, discount: float | None) -> dict[str, Any]:
    """Read the horizon and the discount that are given."""
    overrides: dict[str, Any] = {}
    if horizon is not None:
        overrides["horizon"] = _read_horizon(horizon)
    if discount is not None:
        if not 0 < discount <= 1:
            raise fault("--discount", f"{discount}", "a number above 0 and at most 1")
        overrides["discount"] = discount
    return overrides


def read_settings(texts: Sequence[str] | None, option: str = "--set") -> dict[str, str]:
    """Read ``name=value`` texts; a later one of one name counts."""
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise fault(option, f"'{text}'", "name=value")
        pairs[name] = value
    return pairs


def _read_horizon(text: str) -> int | None:
    if text in {"inf", "none", "None"}:
        return None
    if not re.fullmatch(r"0*[1-9][0-9]{0,99}", text):
        raise fault("--horizon", f"'{text}'", "a positive integer of at most 100 digits, or 'inf'")
    return int(text)


def read_form(text: str) -> str | None:
    """Read the name of a form; None for "auto"."""
    return None if read_name("--form", text, known.forms()) == "auto" else text


def read_conditions(observe: Sequence[str] | None, do: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """Read evidence and interventions from ``site=value``, by the names that the library has for them."""
    return {"observe": read_sites("--observe", observe), "do": read_sites("--do", do)}


def conditions_of(given: Mapping[str, Mapping[str, str]]) -> Any:
    """Return the conditions of sites that were read."""
    from cai.world.conditions import read_conditions as read

    return read(given["observe"], given["do"])


def read_model(world: Any, form: str, conditions: Any, *, quiet: bool) -> Any:
    """Compile a world under conditions; say on stderr what is to be known of it, and what a long run will cost."""
    from cai.compile.conditioned import conditioned
    from cai.exact.forms import compiled
    from cai.view.sizes import is_long, size_of
    from cai.world.spec import remark

    with working("compiling"):
        model = conditioned(world, compiled(world, form), conditions)
    if not quiet:
        for line in filter(None, (remark(world), size_of(model) if is_long(model) else None)):
            say(line)
    return model


def read_picture(option: str, path: Path | None) -> None:
    """Refuse a picture's file that cannot be drawn, before any work is done."""
    if path is not None and path.suffix not in PICTURES:
        raise fault(option, f"'{path}'", f"a file that ends in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}")


def read_temperatures(texts: Sequence[float] | None) -> list[float]:
    """Return the temperatures, each once, checked before any work is done on the first of them."""
    alphas = list(dict.fromkeys(texts or [1.0]))
    for alpha in alphas:
        if not 0 < alpha < math.inf:
            raise fault("temperature", f"{alpha}", "positive, finite numbers (the limit 0 is the rule HARD)")
    return alphas


def read_names(option: str, text: str | None, known: Sequence[str]) -> list[str]:
    """Read a comma list of known names, each once."""
    names = [] if text is None else [part.strip() for part in text.split(",")]
    return list(dict.fromkeys(read_name(option, name, known) for name in names))


def without_none(**settings: Any) -> dict[str, Any]:
    """Return the settings that were given: all else is as the library has it."""
    return {name: value for name, value in settings.items() if value is not None}


def refuse(
    command: str,
    options: Mapping[str, Any],
    apart: Mapping[str, Sequence[str]],
    needs: Mapping[str, Sequence[str]],
    expected: str,
) -> None:
    """Refuse options that would do nothing, before any work is done.

    Args:
        command: its name.
        options: by name; None or False was not given.
        apart: by option, those that cannot stand beside it.
        needs: by option, those that cannot stand without it.
        expected: what goes together, in words.
    """
    present = [name for name, value in options.items() if value is not None and value is not False]
    clashes = [(name, "beside", others) for name, others in apart.items() if name in present]
    clashes += [(name, "without", others) for name, others in needs.items() if name not in present]
    for name, how, others in clashes:
        wrong = [other for other in others if other in present]
        if wrong:
            raise fault(command, f"{', '.join(wrong)} {how} {name}", expected)


def read_sites(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Read ``site=value`` texts."""
    values = {}
    for text in texts or ():
        site, equals, value = text.rpartition("=")
        if not equals:
            raise fault(option, f"'{text}'", "site=value, such as floor_5=3")
        values[site] = value
    return values


def title_of(world: str, settings: Sequence[str] | None) -> str:
    """Name a world with its settings; a later setting of one name counts."""
    return " ".join([world, *(f"{name}={value}" for name, value in read_settings(settings).items())])


def read_rules(texts: Sequence[str], *, prior: bool) -> list[str]:
    """Read the names of rules, each once, as the library writes them; with ``prior`` the prior may be among them."""
    names = []
    for text in texts:
        if _read_risk(text) is None and text.upper() not in known.rules() and not (text == "prior" and prior):
            expected = f"{', '.join(known.rules())}, RISK(eta){' or prior' if prior else ''}"
            raise fault("--rule", f"'{text}'", f"{expected}{meant(text, known.rules())}")
        names.append(text if text == "prior" else text.upper())
    return list(dict.fromkeys(names))


def rules_of(names: Sequence[str], *, policies: bool) -> dict[str, Any]:
    """Return the rules of names that were read; where they stand for policies, MAP as MAP-plan, the prior as None."""
    from cai.exact.rules import MAP, NAMED, RISK

    rules: dict[str, Any] = {}
    for name in names:
        eta = _read_risk(name)
        rule = None if name == "prior" else NAMED[name] if eta is None else RISK(eta)
        rules["MAP-plan" if rule is MAP and policies else "prior" if rule is None else rule.name] = rule
    return rules


def _read_risk(text: str) -> float | None:
    """Return η of a text such as RISK(-0.5); None where it is no such text.

    Raises:
        WorldError: η is no number, or 0.
    """
    inside = re.fullmatch(r"RISK(?:\((.*)\))?", text, re.IGNORECASE)
    if inside is None:
        return None
    try:
        eta = float(inside[1] or "nan")
    except ValueError:
        eta = math.nan
    if eta == 0 or math.isnan(eta):
        raise fault("--rule", f"'{text}'", "RISK(eta) with a number other than 0, such as 'RISK(-0.5)'")
    return eta


def require_folder(out: Path | None, option: str = "--out") -> None:
    """Refuse a folder that cannot be written into, before any work is done."""
    if out is None:
        return
    expected = "a folder that can be written, made where it is missing"
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise fault(option, f"'{there}' is a file", expected)
    if not os.access(there, os.W_OK):
        raise fault(option, f"'{there}' cannot be written", expected)
    missing = [folder for folder in (out.absolute(), *out.absolute().parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fault(option, f"'{out}': {error.strerror}", expected) from error
    for folder in missing:  # it was only tried: work that is broken off leaves nothing behind
        folder.rmdir()

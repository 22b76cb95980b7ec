"""The options of a world that get sliders: numbers that leave its states and actions as they are, at a few values."""

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cai.bridges.named import load_world, source_of
from cai.compile.linear_model import LinearGaussian
from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import CaiError, Finding, IntractableError, fault, user_code
from cai.support.catalogue import literal
from cai.world.definition import World
from cai.world.spec import read

MOST_VARIANTS = 40
CLOCK = ("horizon", "discount")
"""Options that the page has sliders for anyway."""
CHANCES = (0.0, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.7, 0.85, 1.0)
FACTORS = (-1.0, 0.0, 0.5, 1.0, 2.0)
SMALL = (-0.1, -0.04, -0.01, 0.0, 0.01)


@dataclass(frozen=True)
class Option:
    """An option of a world, the values at which it is compiled, ascending, and which of them the world has itself."""

    name: str
    values: tuple[float | bool, ...]
    chosen: int

    @property
    def labels(self) -> list[str]:
        """What the values are called."""
        return [("yes" if value else "no") if isinstance(value, bool) else f"{value:.4g}" for value in self.values]


@dataclass(frozen=True)
class Variants:
    """A world compiled for each joint value of its options, row-major: the last option varies fastest.

    Attributes:
        name: what the world is called.
        world: as it is at the chosen values; None where it is given as tables.
        options: empty where there is one variant alone.
        tables: of every variant.
    """

    name: str
    world: World | None
    options: tuple[Option, ...]
    tables: tuple[Tables, ...]

    @property
    def chosen(self) -> Tables:
        """The tables of the world itself."""
        number = 0
        for option in self.options:
            number = number * len(option.values) + option.chosen
        return self.tables[number]


Vary = Mapping[str, Sequence[float | bool] | None] | Sequence[str]
"""Options by name with their values, or with None or the names alone: then the values are chosen."""


def variants_of(world: World | Tables | Callable[..., World], vary: Vary | None = None) -> Variants:
    """Compile a world for each joint value of its options.

    Args:
        world: a world, its tables, or a class or function that makes one: then its options can vary.
        vary: which options; None for those numbers and truth values in its signature that change its tables and leave
            its states and actions as they are, two at most.

    Raises:
        WorldError: the world is not valid, is seen in part, has no such option, or another shape at a value of one.
        IntractableError: a variable is not finite, or the tables are too large.
    """
    if isinstance(world, LinearGaussian):
        raise _real()
    if isinstance(world, Tables) or not callable(world) or (isinstance(world, World) and not inspect.isclass(world)):
        if vary:
            seen = f"{', '.join(vary)} of a {type(world).__name__}"
            raise fault("explore, vary", seen, "a class or a function that makes the world with these arguments")
        return Variants(_name(world), None if isinstance(world, Tables) else world, (), (_compiled(world),))
    maker = _Maker(world)
    options = tuple(maker.options(vary))
    values = itertools.product(*(option.values for option in options))
    names = [option.name for option in options]
    tables = tuple(maker.compiled(dict(zip(names, each, strict=True))) for each in values)
    return Variants(_name(maker.world), maker.world, options, tables)


def maker_of(
    spec: str, settings: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> Callable[..., World]:
    """Return what makes the world of a name, as ``cai.load_world`` does: a function of those options that are numbers.

    Args:
        spec, settings, overrides: as ``cai.load_world`` takes them; the settings are its defaults.

    Raises:
        WorldError: there is no such world.
    """
    written = {option.name: option.default for option in source_of(spec).options or () if option.default is not None}
    defaults = {name: _number(value) for name, value in (written | dict(settings or {})).items()}

    def make(**changed: Any) -> World:
        world: World = load_world(spec, {**(settings or {}), **changed}, overrides)
        return world

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=x) for name, x in defaults.items()]
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return make


def _number(text: Any) -> Any:
    """Read a default as it is written: a literal, or a quotient such as ``1 / 3``."""
    quotient = re.fullmatch(r"\(?([\d.]+) / ([\d.]+)\)?", text) if isinstance(text, str) else None
    return float(quotient[1]) / float(quotient[2]) if quotient else literal(text)


class _Maker:
    """What makes a world, with every variant compiled once."""

    def __init__(self, make: Callable[..., World]) -> None:
        self.maker, self.known = make, dict[tuple[tuple[str, Any], ...], Tables]()
        parameters = inspect.signature(make).parameters
        self.defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        self.world = self.make()

    def make(self, **settings: Any) -> World:
        """Make the world at some values; an error of its own, whatever its type, says that it cannot be made there."""
        with user_code(f"world {getattr(self.maker, '__name__', '')}".strip(), "a world that can be made"):
            return self.maker(**settings)

    def compiled(self, settings: Mapping[str, Any]) -> Tables:
        """Return the tables at some values of the options."""
        changed = {name: value for name, value in settings.items() if value != self.defaults[name]}
        key = tuple(sorted(changed.items()))
        if key not in self.known:
            self.known[key] = _compiled(self.make(**changed))
        return self.known[key]

    def options(self, vary: Vary | None) -> Iterator[Option]:
        """Yield the options, with the values at which the world can be compiled."""
        if vary is None:
            yield from self._found()
            return
        for name in vary:
            if not isinstance(self.defaults.get(name), int | float):
                known = ", ".join(n for n, value in self.defaults.items() if isinstance(value, int | float))
                raise fault("explore, vary", f"'{name}'", f"an option with a number to begin with: {known or 'none'}")
            given = vary[name] if isinstance(vary, Mapping) else None
            values = [value for value in self._values(name) if self._fits(name, value)] if given is None else given
            for value in values:
                self._require_shape(name, value)
            yield _option(name, values, self.defaults[name])

    def _found(self) -> Iterator[Option]:
        """Yield up to two options that matter, chances first, with so many values that the variants stay few."""
        names = [name for name, value in self.defaults.items() if isinstance(value, bool | float) and name not in CLOCK]
        room = MOST_VARIANTS
        for name in sorted(names, key=lambda name: not self._is_chance(name)):
            values = [value for value in self._values(name) if self._fits(name, value)]
            if len(values) > 1 and len(values) <= room and self._matters(name, values):
                room //= len(values)
                yield _option(name, values, self.defaults[name])

    def _values(self, name: str) -> Sequence[float | bool]:
        default = self.defaults[name]
        if isinstance(default, bool):
            return (False, True)
        if self._is_chance(name):
            return CHANCES
        return [factor * default for factor in FACTORS] if default else SMALL

    def _is_chance(self, name: str) -> bool:
        """Return whether a number is a probability: what the world refuses above 1 and below 0."""
        return isinstance(self.defaults[name], float) and not self._can(name, 1.5) and not self._can(name, -0.5)

    def _can(self, name: str, value: Any) -> bool:
        try:
            self.make(**{name: value})
        except CaiError:
            return False
        return True

    def _fits(self, name: str, value: Any) -> bool:
        try:
            self._require_shape(name, value)
        except CaiError:
            return False
        return True

    def _require_shape(self, name: str, value: Any) -> None:
        """Raise where the world has other states, actions or times at a value of an option."""
        own, other = self.compiled({}), self.compiled({name: value})
        shapes = [(each.states.size, each.actions.size, each.horizon) for each in (own, other)]
        if shapes[0] != shapes[1]:
            words = [f"{S} states, {A} actions, T = {T}" for S, A, T in shapes]
            raise fault(f"explore, {name} = {value!r}", words[1], f"{words[0]}, as at {name} = {self.defaults[name]!r}")

    def _matters(self, name: str, values: Sequence[Any]) -> bool:
        return any(not _same(self.compiled({}), self.compiled({name: value})) for value in values)


def _option(name: str, values: Sequence[Any], default: Any) -> Option:
    ordered = tuple(sorted({*values, default}))
    return Option(name, ordered, ordered.index(default))


def _same(one: Tables, other: Tables) -> bool:
    names = ("log_initial", "log_prior", "log_prob", "successor", "reward", "terminal")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def _compiled(world: World | Tables) -> Tables:
    if not isinstance(world, Tables) and not _finite(world):
        raise _real()
    if not isinstance(world, Tables) and read(world).observe is not None:
        expected = "a world whose state is seen: the page has no beliefs (cai.partial.solve does)"
        raise fault("explore", "a world that is seen in part", expected)
    tables = tabulate(world).detach()
    if tables.batch_shape:
        raise fault("explore", f"a batch of shape {tuple(tables.batch_shape)}", "one world")
    return tables


def _name(world: Any) -> str:
    return "World" if isinstance(world, Tables) else read(world).name


def _finite(world: World) -> bool:
    """Return whether all variables of states and actions have finitely many values."""
    known = read(world).variables
    return known.state_space is not None and known.action_space is not None


def _real() -> IntractableError:
    seen = "a variable that is a real number, which has no finite support"
    expected = "a finite world: cai.report and cai.view.phase_portrait show worlds of real states"
    return IntractableError([Finding("explore", seen, expected)])

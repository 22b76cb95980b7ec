"""Type checks of every call into cai, cheaper: jaxtyping's where an annotation has a shape, else beartype's alone.

jaxtyping's hook wraps all functions alike: arguments are bound to names and checked twice, so that the letters of a
shape can be compared between them. Where no annotation has letters beartype alone says the same in a tenth of the time.
A function within a function is made anew by each call, and its checks with it: they are made the first time.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType
from typing import Any, ForwardRef, get_args

import jaxtyping


def install() -> None:
    """Take the place of ``jaxtyping.jaxtyped``, which the hook puts on all functions; before cai is imported."""
    whole = jaxtyping.jaxtyped
    made: set[CodeType] = set()

    def jaxtyped(thing: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
        if thing is None:
            return partial(jaxtyped, typechecker=typechecker)
        if inspect.isfunction(thing) and "<locals>" in thing.__qualname__:
            if thing.__code__ in made:
                return thing
            made.add(thing.__code__)
        if inspect.isfunction(thing) and not shaped(thing.__annotations__.values()):
            return typechecker(thing)
        if dataclasses.is_dataclass(thing) and not shaped(thing.__init__.__annotations__.values()):
            thing.__init__ = typechecker(thing.__init__)
            return thing
        return whole(thing, typechecker=typechecker)

    jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]


def shaped(hints: Iterable[Any]) -> bool:
    """Tell whether annotations have shapes in them, or words that only jaxtyping reads as it always did."""
    return any(
        isinstance(hint, (str, ForwardRef))
        or (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray))
        or shaped(hint if isinstance(hint, list) else get_args(hint))
        for hint in hints
    )

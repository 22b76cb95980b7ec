"""Sums of tensors that are kept as sums: a reward of many small terms never becomes one table over all variables.

While a slice runs under ``Additive``, adding two tensors whose sum would be larger than either gives a ``Sum``. Adding,
subtracting, scaling and ``torch.where`` keep it one; whatever else is done to it adds it up first.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from cai.errors import Finding, IntractableError

LARGEST = 1 << 27
"""Numbers in one tensor of a slice; more would tie too many variables together."""


class Sum(Tensor):
    """A sum of tensors that has the shape of the sum, but holds its terms only."""

    terms: tuple[Tensor, ...]

    @staticmethod
    def __new__(cls, terms: Sequence[Tensor]) -> "Sum":
        """Hold these terms."""
        shape = torch.broadcast_shapes(*(term.shape for term in terms))
        dtype = _dtype(terms)
        held: Sum = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        held.terms = tuple(terms)
        return held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Sum of {len(self.terms)} terms, shape {list(self.shape)}"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Apply a function of torch to sums among its arguments."""
        if func in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return apply(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Add up: what comes here passed by every function above."""
        args, kwargs = tree_map_only(Sum, whole, (args, kwargs or {}))
        return func(*args, **kwargs)


class Additive(TorchFunctionMode):
    """While it is on, sums that would grow are kept as ``Sum``, and no tensor of a slice grows beyond ``LARGEST``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Apply a function of torch."""
        if func in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return apply(func, args, kwargs or {})


def terms_of(value: Tensor) -> tuple[Tensor, ...]:
    """Return the terms of a sum, a plain tensor as its only one; terms over the same variables are added up."""
    if not isinstance(value, Sum):
        return (value,)
    merged: list[Tensor] = []
    for term in sorted(value.terms, key=lambda one: -one.numel()):
        home = next((i for i, other in enumerate(merged) if _covers(other, term)), None)
        if home is None:
            merged.append(term)
        else:
            merged[home] = merged[home] + term
    return tuple(merged)


def whole(value: Any) -> Any:
    """Add a sum up; anything else is returned as it is."""
    if not isinstance(value, Sum):
        return value
    _admit("a sum that something other than a sum is made of", value.shape)
    with torch._C.DisableTorchFunction():
        terms = terms_of(value)
        total = terms[0].to(value.dtype)
        for term in terms[1:]:
            total = total + term
        return total


def apply(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Apply a function of torch, keeping sums as sums where it is linear."""
    linear = _LINEAR.get(func)
    if linear is not None and not kwargs:
        kept = linear(func, *args)
        if kept is not None:
            return kept
    args, kwargs = tree_map_only(Sum, whole, (args, kwargs))
    shapes = [one.shape for one in args if isinstance(one, Tensor)] if isinstance(args, tuple) else []
    if len(shapes) > 1 and func not in _SHAPED:
        with suppress(RuntimeError):  # no broadcasting function: torch knows what to do with these
            _admit(f"torch's {getattr(func, '__name__', func)}", torch.broadcast_shapes(*shapes))
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def _admit(what: str, shape: Sequence[int]) -> None:
    if math.prod(shape) > LARGEST:
        variables = sum(size > 1 for size in shape)
        seen = f"{what} over {variables} variables at once, {math.prod(shape):,} numbers"
        expected = f"parts over few variables each ({LARGEST:,} numbers at most); sums of parts are kept apart"
        raise IntractableError([Finding("the slice", seen, expected)])


def _covers(large: Tensor, small: Tensor) -> bool:
    try:
        return bool(torch.broadcast_shapes(large.shape, small.shape) == large.shape)
    except RuntimeError:
        return False


def _dtype(terms: Sequence[Tensor]) -> torch.dtype:
    dtype = terms[0].dtype
    for term in terms[1:]:
        dtype = torch.promote_types(dtype, term.dtype)
    return dtype


def _is_sum(value: Any) -> bool:
    return isinstance(value, Sum)


def _add(func: Any, *args: Any) -> Tensor | None:
    if len(args) != 2 or not all(isinstance(one, Tensor | int | float) for one in args):
        return None
    a, b = args
    if func in _MINUS:
        a, b = (b, a) if func in _REFLECTED else (a, b)
        b = -b if not isinstance(b, Tensor) or b.dtype != torch.bool else b
    if func in _IN_PLACE and not isinstance(a, Sum):
        return None  # torch's own: it writes into a plain tensor, or says why it cannot
    terms: list[Tensor] = []
    for one in (a, b):
        if isinstance(one, Sum):
            terms += one.terms
        else:
            terms.append(one if isinstance(one, Tensor) else torch.as_tensor(one))
    if not any(_is_sum(one) for one in args):
        if not all(isinstance(one, Tensor) for one in args) or _covers(a, b) or _covers(b, a):
            return None
        try:
            torch.broadcast_shapes(a.shape, b.shape)
        except RuntimeError:
            return None  # torch's own words are the better error
    return Sum(terms)


def _scale(func: Any, *args: Any) -> Tensor | None:
    if len(args) != 2 or sum(_is_sum(one) for one in args) != 1:
        return None
    a, b = args
    if not isinstance(a, Sum) and func in _QUOTIENT and func not in _REFLECTED:
        return None
    if isinstance(a, Sum) and func in _QUOTIENT and func in _REFLECTED:
        return None
    held, other = (a, b) if isinstance(a, Sum) else (b, a)
    if isinstance(other, Tensor) and other.dim() > held.dim():
        return None
    return Sum([(term / other if func in _QUOTIENT else term * other) for term in held.terms])


def _negate(func: Any, *args: Any) -> Tensor | None:
    return Sum([-term for term in args[0].terms]) if _is_sum(args[0]) else None


def _cast(func: Any, *args: Any) -> Tensor | None:
    if not _is_sum(args[0]) or (len(args) == 2 and not isinstance(args[1], torch.dtype)) or len(args) > 2:
        return None
    return Sum([func(term, *args[1:]) for term in args[0].terms])


def _where(func: Any, *args: Any) -> Tensor | None:
    if len(args) != 3 or not (_is_sum(args[1]) or _is_sum(args[2])) or _is_sum(args[0]):
        return None
    condition, a, b = args
    kept = [torch.where(condition, one, torch.zeros_like(one)) for one in _as_terms(a)]
    return Sum([*kept, *(torch.where(condition, torch.zeros_like(one), one) for one in _as_terms(b))])


def _as_terms(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Sum):
        return value.terms
    return (value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.get_default_dtype()),)


_IN_PLACE = {Tensor.__iadd__, Tensor.__isub__}
_MINUS = {Tensor.__isub__, torch.sub, torch.subtract, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, torch.rsub}
_REFLECTED = {Tensor.__rsub__, torch.rsub, Tensor.__rtruediv__, Tensor.__rdiv__}
_QUOTIENT = {torch.div, torch.true_divide, Tensor.div, Tensor.__truediv__, Tensor.__rtruediv__, Tensor.__div__}
_PLUS = {Tensor.__iadd__, torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
_TIMES = {torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
_LINEAR: dict[Any, Callable[..., Tensor | None]] = {
    **dict.fromkeys(_PLUS | _MINUS, _add),
    **dict.fromkeys(_TIMES | _QUOTIENT, _scale),
    **dict.fromkeys((torch.neg, Tensor.neg, Tensor.__neg__), _negate),
    **dict.fromkeys((Tensor.to, Tensor.double, Tensor.float), _cast),
    **dict.fromkeys((torch.where, Tensor.where), _where),
}
_SHAPED = {Tensor.__getitem__, torch.stack, torch.cat, Tensor.__setitem__}
_PROPERTIES: Any = [vars(torch._C.TensorBase)[name] for name in ("shape", "dtype", "device", "ndim", "requires_grad")]
_METADATA = {
    *(one.__get__ for one in _PROPERTIES),
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.is_floating_point,
    Tensor.is_complex,
}

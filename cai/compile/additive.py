"""Lazy sums of tensors: a reward of many small terms never becomes one table over all variables.

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
COUNTED = 1 << 62
"""Joint values of the variables that a sum reads, its parts kept apart: torch counts no further."""


class Sum(Tensor):
    """A sum of tensors that has the shape of the sum, but holds its terms only."""

    terms: tuple[Tensor, ...]

    @staticmethod
    def __new__(cls, terms: Sequence[Tensor]) -> "Sum":
        """Hold these terms."""
        shape = torch.broadcast_shapes(*(term.shape for term in terms))
        _admit("a sum", shape, COUNTED)
        dtype = _dtype(terms)
        sum_: Sum = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        sum_.terms = tuple(terms)
        return sum_

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
    """Inside this context, sums that would grow stay a ``Sum``, and no tensor of a slice grows beyond ``LARGEST``."""

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
    for term in sorted(value.terms, key=lambda term: -term.numel()):
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
    if isinstance(args, tuple) and args and isinstance(args[0], Sum) and _writes(func):
        return _written(func, args, kwargs)
    linear = _LINEAR.get(func)
    if linear is not None and not kwargs:
        result = linear(func, *args)
        if result is not None:
            return result
    args, kwargs = tree_map_only(Sum, whole, (args, kwargs))
    shapes = [arg.shape for arg in args if isinstance(arg, Tensor)] if isinstance(args, tuple) else []
    if len(shapes) > 1 and func not in _SHAPED:
        with suppress(RuntimeError):  # no broadcasting function: torch knows what to do with these
            _admit(f"torch's {getattr(func, '__name__', func)}", torch.broadcast_shapes(*shapes))
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def _writes(func: Any) -> bool:
    """Return whether a function changes its first argument in place."""
    name = getattr(func, "__name__", "")
    plain = name.endswith("_") and not name.endswith("__")
    return plain or name == "__setitem__" or (name.startswith("__i") and func in _IN_PLACE)


def _written(func: Any, args: Any, kwargs: Any) -> Sum:
    """Change a sum in place: it is added up, changed, and holds what came of it, under every name that it has."""
    sum_: Sum = args[0]
    total = whole(sum_)
    rest, kwargs = tree_map_only(Sum, whole, (args[1:], kwargs))
    with torch._C.DisableTorchFunction():
        func(total, *rest, **kwargs)
    sum_.terms = (total,)
    return sum_


def _admit(what: str, shape: Sequence[int], most: int = LARGEST) -> None:
    if math.prod(shape) > most:
        variables = sum(size > 1 for size in shape)
        seen = f"{what} over {variables} variables at once, {math.prod(shape):,} numbers"
        expected = f"parts over few variables each ({most:,} numbers at most); the terms of a sum are separate"
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
    if len(args) != 2 or not all(isinstance(arg, Tensor | int | float) for arg in args):
        return None
    a, b = args
    if func in _MINUS:
        a, b = (b, a) if func in _REFLECTED else (a, b)
        b = -b if not isinstance(b, Tensor) or b.dtype != torch.bool else b
    terms: list[Tensor] = []
    for term in (a, b):
        if isinstance(term, Sum):
            terms += term.terms
        else:
            terms.append(term if isinstance(term, Tensor) else torch.as_tensor(term))
    if _dtype([term for term in (a, b) if isinstance(term, Tensor)]) not in _WIDE:
        return None  # sums of booleans and of small integers do not behave like sums of terms
    if not any(_is_sum(arg) for arg in args):
        if not all(isinstance(arg, Tensor) for arg in args) or _covers(a, b) or _covers(b, a):
            return None
        try:
            torch.broadcast_shapes(a.shape, b.shape)
        except RuntimeError:
            return None  # torch's own words are the better error
    return Sum(terms)


def _scale(func: Any, *args: Any) -> Tensor | None:
    if len(args) != 2 or sum(_is_sum(arg) for arg in args) != 1:
        return None
    a, b = args
    if not isinstance(a, Sum) and func in _QUOTIENT and func not in _REFLECTED:
        return None
    if isinstance(a, Sum) and func in _QUOTIENT and func in _REFLECTED:
        return None
    sum_, other = (a, b) if isinstance(a, Sum) else (b, a)
    if isinstance(other, Tensor) and other.dim() > sum_.dim():
        return None
    return Sum([(term / other if func in _QUOTIENT else term * other) for term in sum_.terms])


def _negate(func: Any, *args: Any) -> Tensor | None:
    return Sum([-term for term in args[0].terms]) if _is_sum(args[0]) else None


def _cast(func: Any, *args: Any) -> Tensor | None:
    if not _is_sum(args[0]) or (len(args) == 2 and not isinstance(args[1], torch.dtype)) or len(args) > 2:
        return None
    if len(args) == 2 and not args[1].is_floating_point:  # a sum of rounded terms differs from the rounded sum
        return None
    return Sum([func(term, *args[1:]) for term in args[0].terms])


def _where(func: Any, *args: Any) -> Tensor | None:
    if len(args) != 3 or not any(_is_sum(arg) for arg in args):
        return None
    condition, a, b = args if func is torch.where else (args[1], args[0], args[2])
    if _is_sum(condition):
        return None
    own = _dtype([arg for arg in (a, b) if isinstance(arg, Tensor)])
    if own not in _WIDE:
        return None
    chosen = [torch.where(condition, term, torch.zeros_like(term)) for term in _as_terms(a, own)]
    return Sum([*chosen, *(torch.where(condition, torch.zeros_like(term), term) for term in _as_terms(b, own))])


def _as_terms(value: Any, like: torch.dtype) -> tuple[Tensor, ...]:
    if isinstance(value, Sum):
        return value.terms
    if isinstance(value, Tensor):
        return (value,)
    keeps = isinstance(value, float) <= like.is_floating_point
    return (torch.as_tensor(value, dtype=like if keeps else torch.get_default_dtype()),)


_IN_PLACE = {getattr(Tensor, f"__i{name}__") for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "mod")} | {
    getattr(Tensor, f"__i{name}__") for name in ("and", "or", "xor") if hasattr(Tensor, f"__i{name}__")
}
_WIDE = {torch.int64, torch.int32, torch.float32, torch.float64}
_MINUS = {torch.sub, torch.subtract, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, torch.rsub}
_REFLECTED = {Tensor.__rsub__, torch.rsub, Tensor.__rtruediv__, Tensor.__rdiv__}
_QUOTIENT = {torch.div, torch.true_divide, Tensor.div, Tensor.__truediv__, Tensor.__rtruediv__, Tensor.__div__}
_PLUS = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
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
    *(property_.__get__ for property_ in _PROPERTIES),
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.is_floating_point,
    Tensor.is_complex,
}

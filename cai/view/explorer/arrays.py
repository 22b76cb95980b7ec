"""Arrays of numbers as text for a page: base64, each array once, and few distinct values as numbers into a list."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES: dict[str, np.dtype[Any]] = {"f8": np.dtype("<f8"), "i4": np.dtype("<i4")}
"""Little-endian, as every machine has it that has a browser."""
SMALLEST = 64
"""Entries from which on it pays to look for values that come again."""


@dataclass
class Arrays:
    """A pool of arrays; equal ones are kept once.

    Attributes:
        encoded: by name what ``model.js`` reads: ``{type, data}``, or ``{type, values, index, data}``.
    """

    encoded: dict[str, dict[str, str]] = field(default_factory=dict)
    _names: dict[tuple[str, bytes], str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many characters they take."""
        return sum(len(text) for array in self.encoded.values() for text in array.values())

    def add(self, values: Sequence[float] | NDArray[Any], kind: str = "f8") -> str:
        """Keep an array, flattened, as "f8" (float64) or "i4" (int32); return its name."""
        array: NDArray[Any] = np.asarray(values, dtype=TYPES[kind]).reshape(-1)
        key = (kind, array.tobytes())
        if key not in self._names:
            name = self._names[key] = f"a{len(self._names)}"
            self.encoded[name] = _encoded(array, kind)
        return self._names[key]


def _encoded(array: NDArray[Any], kind: str) -> dict[str, str]:
    """Return the shorter of both forms; bits are compared, so that -0 and every last digit stay."""
    plain = {"type": kind, "data": _base64(array)}
    if array.size < SMALLEST:
        return plain
    bits, index = np.unique(array.view(f"<u{array.itemsize}"), return_inverse=True)
    width = 1 if bits.size <= 1 << 8 else 2 if bits.size <= 1 << 16 else array.itemsize
    if bits.nbytes + width * array.size >= array.nbytes:
        return plain
    return {"type": kind, "values": _base64(bits), "index": f"u{width}", "data": _base64(index.astype(f"<u{width}"))}


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")

"""A cache for what is computed from an object: the last few results, as long as the object exists."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Memo(Generic[T]):
    """Results by object, told apart by identity, and by key.

    Args:
        most: how many results are kept of one object.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._results: WeakKeyDictionary[Any, OrderedDict[Hashable, T]] = WeakKeyDictionary()

    def of(self, owner: Any, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of a key, made where it is not at hand."""
        results = self._results.setdefault(owner, OrderedDict())
        if key not in results:
            results[key] = make()
        results.move_to_end(key)
        while len(results) > self.most:
            results.popitem(last=False)
        return results[key]

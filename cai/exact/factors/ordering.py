"""The order in which a message is multiplied by tables: greedily the smallest next message, the best of several tries.

Sets of variables are bit masks, because a plan examines many thousands of them.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_


@dataclass(frozen=True)
class Order:
    """An order of factors, the variables of the message after each, and what it costs.

    Attributes:
        factors: by number.
        after: the message's variables after each of them, as bit masks.
        work: multiplications.
        peak: the most numbers held at a time.
    """

    factors: tuple[int, ...]
    after: tuple[int, ...]
    work: float
    peak: float


class Orders:
    """Finds orders for the factors of one slice.

    Args:
        scopes: the variables of every factor.
        sizes: of every variable.
    """

    def __init__(self, scopes: Sequence[Sequence[str]], sizes: Mapping[str, int]) -> None:
        self.names = tuple(sizes)
        self._bits = {name: 1 << i for i, name in enumerate(self.names)}
        self._sizes = tuple(sizes.values())
        self._numbers: dict[int, float] = {}
        self._best: dict[tuple[int, tuple[int, ...], int, int], Order] = {}
        self.scopes = tuple(self.mask(scope) for scope in scopes)

    def mask(self, names: Sequence[str]) -> int:
        """Return the bit mask of some variables."""
        return sum(self._bits[name] for name in set(names))

    def variables(self, mask: int) -> tuple[str, ...]:
        """Return the variables of a bit mask."""
        return tuple(name for i, name in enumerate(self.names) if mask >> i & 1)

    def numbers(self, mask: int) -> float:
        """Return how many numbers a table over these variables holds."""
        product = self._numbers.get(mask)
        if product is None:
            product, i, left = 1.0, 0, mask
            while left:
                product *= self._sizes[i] if left & 1 else 1
                left >>= 1
                i += 1
            self._numbers[mask] = product
        return product

    def union(self, factors: Sequence[int]) -> int:
        """Return the variables of some factors together."""
        return reduce(or_, (self.scopes[i] for i in factors), 0)

    def best(self, message: int, factors: Sequence[int], keep: int, tries: int) -> Order:
        """Return the cheapest of several greedy orders in which factors are applied to a message.

        Args:
            message: its variables.
            factors: what is to be applied, all of it.
            keep: the variables that are not summed out, even where no factor is left that reads them.
            tries: how many orders; ties between factors are broken by lot.
        """
        key = (message, tuple(factors), keep, tries)
        if key not in self._best:
            orders = (self._greedy(message, factors, keep, random.Random(n)) for n in range(tries))
            self._best[key] = min(orders, key=lambda order: order.work)
        return self._best[key]

    def nth(self, message: int, factors: Sequence[int], keep: int, n: int) -> Order:
        """Return the n-th greedy order."""
        return self._greedy(message, factors, keep, random.Random(n))

    def _greedy(self, message: int, factors: Sequence[int], keep: int, lot: random.Random) -> Order:
        left, order, after = list(factors), [], []
        lot.shuffle(left)
        work, peak = 0.0, self.numbers(message)
        while left:
            others = self._others(left, keep)
            sizes = [self.numbers((message | self.scopes[i]) & others[n]) for n, i in enumerate(left)]
            n = sizes.index(min(sizes))
            i = left.pop(n)
            work += self.numbers(message | self.scopes[i])
            peak = max(peak, self.numbers(message) + sizes[n])
            message = (message | self.scopes[i]) & others[n]
            order.append(i)
            after.append(message)
        return Order(tuple(order), tuple(after), work, peak)

    def _others(self, left: Sequence[int], keep: int) -> list[int]:
        """Return for each factor the variables that are still needed once it is applied."""
        behind = [keep]
        for i in left:
            behind.append(behind[-1] | self.scopes[i])
        ahead, needed = 0, [0] * len(left)
        for n in range(len(left) - 1, -1, -1):
            needed[n] = behind[n] | ahead
            ahead |= self.scopes[left[n]]
        return needed

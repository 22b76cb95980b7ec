"""Which share of the KL of what is random each part of a world pays: the shares of a variable add up to 1 at most."""

from collections import Counter
from collections.abc import Collection, Sequence

from cai.approximation.bounds.backprojection import Outcomes
from cai.compile.factor_model import Factor


def random_ancestors(outcomes: Outcomes, scope: Sequence[str]) -> set[str]:
    """Return the variables that decide a scope and are drawn; those that follow from others cost no KL."""
    return {name for name in outcomes.ancestors(scope) if not _certain(outcomes.chance[name])}


def shares(outcomes: Outcomes, scopes: Sequence[Sequence[str]], halved: Collection[str] = ()) -> list[float]:
    """Return a share for each scope: one over the most scopes that read one of its variables.

    Args:
        outcomes: what is random.
        scopes: the variables that each part reads.
        halved: variables of which others pay one half.
    """
    each = [random_ancestors(outcomes, scope) for scope in scopes]
    readers = Counter(name for names in each for name in names)
    return [1 / max(((2 if x in halved else 1) * readers[x] for x in names), default=1) for names in each]


def _certain(factor: Factor) -> bool:
    p = factor.table.exp()
    return bool(((p == 0) | (p == 1)).all())

"""Samples: episodes of each policy side by side, written by what is done in them; of texts the texts themselves."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.episodes import episodes, written
from cai.evaluation.evaluation import Evaluation
from cai.view.readings import by_name

BETWEEN = " | "


@dataclass(frozen=True, repr=False)
class Samples:
    """Episodes of each policy, in words.

    Attributes:
        texts: of each policy by name, its episodes.
    """

    texts: Mapping[str, tuple[str, ...]]

    def __repr__(self) -> str:
        wide = max(map(len, self.texts))
        long = [max(map(len, column)) for column in zip(*self.texts.values(), strict=True)]
        return "\n".join(
            f"{name:<{wide}}  " + BETWEEN.join(f"{text:<{size}}" for text, size in zip(each, long, strict=True))
            for name, each in self.texts.items()
        )

    def _repr_html_(self) -> str:
        return f'<pre style="overflow-x: auto">{html.escape(repr(self))}</pre>'


def samples(results: Comparison | Mapping[str, Evaluation], n: int = 3, *, seed: int = 0) -> Samples:
    """Draw n episodes of each policy, all with the same seed, and write what is done in them: of texts the texts.

    Args:
        results: a comparison, or evaluations by name, of worlds with tables and a finite horizon. Of a learner the
            first seed is drawn.
        n: how many of each.
        seed: of everything random in them.

    Raises:
        WorldError: there is no result, n is below 1, or a world has no tables, or no end.
    """
    if n < 1:
        raise fault("samples, n", f"{n}", "at least 1")
    if isinstance(results, Comparison):
        first = {name: each[0].evaluation for name, each in results.subjects.items()}
        results = {name: one for name, one in first.items() if one is not None}
    every = by_name(results, "samples")
    return Samples({name: _texts(one, n, seed) for name, one in every.items()})


def _texts(evaluation: Evaluation, n: int, seed: int) -> tuple[str, ...]:
    drawn = episodes(evaluation, n, torch.Generator().manual_seed(seed))
    each = zip(drawn.actions, drawn.alive, strict=True)
    return tuple(written(evaluation.model, actions[alive[:-1]]) for actions, alive in each)

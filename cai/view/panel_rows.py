"""Panels side by side, on one scale: in a notebook or on a page they wrap as its width asks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cai.evaluation.comparison import Comparison
from cai.view.readings import by_name
from cai.view.vector import svg

ROW = "display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: flex-start; margin: 8px 0"


@dataclass(frozen=True, repr=False)
class Panels(Mapping[str, Figure]):
    """Figures by name, on one scale; a notebook shows them as a row that wraps.

    Attributes:
        figures: the figures, by name.
    """

    figures: Mapping[str, Figure]

    def __getitem__(self, name: str) -> Figure:
        return self.figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.figures)

    def __len__(self) -> int:
        return len(self.figures)

    def __repr__(self) -> str:
        return f"Panels({', '.join(self.figures)})"

    def _repr_html_(self) -> str:
        return f'<div class="cai-row" style="{ROW}">{"".join(svg(figure) for figure in self.figures.values())}</div>'


def side_by_side(draw: Callable[..., Figure], results: Mapping[str, Any] | Comparison, **options: Any) -> Panels:
    """Draw a figure of each result on one scale: ``side_by_side(cai.view.value_map, {"max-ent": a, "hard": b}, t=3)``.

    Args:
        draw: a function of ``cai.view`` that takes a result, and ``title`` and ``scale``.
        results: by name, or a comparison, whose evaluations are drawn.
        options: passed on to ``draw``.

    Raises:
        WorldError: there is no result, or ``draw`` raises it.
    """
    every = by_name(results, "side_by_side")
    first = {name: draw(result, **{"title": name, **options}) for name, result in every.items()}
    scales = [scale for scale in (getattr(figure, "scale", None) for figure in first.values()) if scale is not None]
    if len(set(scales)) < 2 or "scale" in options:
        return Panels(first)
    scale = min(low for low, _ in scales), max(high for _, high in scales)
    shared = {"scale": tuple(np.array(scale).tolist()), **options}
    return Panels({name: draw(result, **{"title": name, **shared}) for name, result in every.items()})

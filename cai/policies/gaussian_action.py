"""An affine-Gaussian policy at one time, in words: mean, deviation and gains by the names of coordinates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian
from cai.errors import fault
from cai.support.display import in_notebook
from cai.support.numbers import MINUS, brief
from cai.world.coordinates import Coordinates

SHOWN = 8
"""The most gains that are written out, the largest first."""


@dataclass(frozen=True, repr=False, eq=False)
class GaussianAction:
    """A Gaussian action of one time, ``a ~ N(gain s + offset, covariance)``, given the free coordinates of s.

    As ``str`` a table with a row for each coordinate of the action.

    Attributes:
        t: the time.
        given: the coordinates of the state that were given, by name.
        states: the names of all coordinates of the state.
        actions: the names of the coordinates of the action.
        gain: da/ds of all coordinates of the state, ``[m, n]``.
        offset: the mean where all that is not given is 0, ``[m]``: the mean itself where all is given.
        covariance: of the action given the state, ``[m, m]``.
    """

    t: int
    given: Mapping[str, float]
    states: tuple[str, ...]
    actions: tuple[str, ...]
    gain: Float[Tensor, "m n"]
    offset: Float[Tensor, " m"]
    covariance: Float[Tensor, "m m"]

    _repr_html_ = in_notebook

    @property
    def free(self) -> tuple[str, ...]:
        """The coordinates of the state that were not given."""
        return tuple(name for name in self.states if name not in self.given)

    @property
    def mean(self) -> Float[Tensor, " m"]:
        """The mean action, ``[m]``.

        Raises:
            WorldError: some coordinate of the state was not given.
        """
        if self.free:
            raise fault("mean", f"no value of {', '.join(self.free)}", "the whole state, or .gain and .offset")
        return self.offset

    @property
    def deviation(self) -> Float[Tensor, " m"]:
        """The standard deviation of each coordinate of the action, ``[m]``; 0 where the policy is certain."""
        return self.covariance.diagonal().clamp(min=0).sqrt()

    @property
    def head(self) -> str:
        """Where this is."""
        return ", ".join((f"t = {self.t}", *(f"{name}={brief(value, 6)}" for name, value in self.given.items())))

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The coordinates of the action as text, under a line of heads: mean or offset, deviation, gains."""
        shown = self.states[:SHOWN]
        mean = "mean" if not self.free else "mean at 0" if not self.given else "mean, the others 0"
        heads = ("action", mean, "deviation", *(f"per {name}" for name in shown))
        rows = [
            (name, *map(written, (self.offset[i], self.deviation[i], *self.gain[i, : len(shown)])))
            for i, name in enumerate(self.actions)
        ]
        return [heads, *rows]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the table leaves out."""
        more = len(self.states) - SHOWN
        return (f"{more:,} more coordinates of the state: .gain has them",) if more > 0 else ()

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        numbers = {name: getattr(self, name).tolist() for name in ("gain", "offset", "covariance")}
        return {"t": self.t, "given": dict(self.given), "states": self.states, "actions": self.actions, **numbers}

    def __str__(self) -> str:
        return laid_out(self.head, self.table, [f"  ({note})" for note in self.notes])

    __repr__ = __str__


def laid_out(head: str, table: Sequence[Sequence[str]], below: Sequence[str] = ()) -> str:
    """Write a line, a small table with aligned columns, and more lines."""
    wide = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    body = ("  " + "  ".join(cell.ljust(w) for cell, w in zip(line, wide, strict=True)).rstrip() for line in table)
    return "\n".join([head, *body, *below])


def written(value: Tensor | float) -> str:
    """Write a number of a table."""
    return brief(float(value), 4)


def affine_in_words(names: Sequence[str], gain: Tensor, offset: Tensor | float) -> str:
    """Write an affine function, ``−2.1·position − 1.8·velocity + 0.5``; of many terms the largest."""
    order = gain.abs().argsort(descending=True, stable=True)[:SHOWN].sort().values.tolist()
    terms = [(float(gain[i]), _times(abs(float(gain[i])), names[i])) for i in order]
    terms.append((float(offset), brief(abs(float(offset)))))
    scale = max(abs(size) for size, _ in terms)
    kept = [(size, text) for size, text in terms if abs(size) > 1e-12 * scale] or [(0.0, "0")]
    first, *rest = kept
    words = (MINUS if first[0] < 0 else "") + first[1]
    words += "".join(f" {MINUS if size < 0 else '+'} {text}" for size, text in rest)
    return words + (" + …" if len(names) > SHOWN else "")


def _times(size: float, name: str) -> str:
    return name if abs(size - 1) < 1e-12 else f"{brief(size)}·{name}"


def require_single(where: str, act: ConditionalGaussian) -> None:
    """Raise a ``WorldError`` where a Gaussian given the state is a batch of them."""
    if act.offset.dim() > 1:
        seen = f"a batch of shape {tuple(act.offset.shape[:-1])}"
        raise fault(where, seen, "the policy of one entry: messages[i].policy")


def gaussian_action(
    act: ConditionalGaussian, t: int, states: Coordinates, actions: Coordinates, given: Mapping[str, Any]
) -> GaussianAction:
    """Return a policy at time t as a function of the coordinates that are not given.

    Raises:
        WorldError: a variable is unknown, or a value is no number; or the policy is a batch.
    """
    require_single("at", act)
    with torch.no_grad():
        placed = states.placed(given, "at")
        s = act.offset.new_zeros(states.dimension)
        for i, value in placed.items():
            s[i] = value
        labels = states.labels
        known = {labels[i]: value for i, value in sorted(placed.items())}
        return GaussianAction(t, known, labels, actions.labels, act.gain, act.mean(s), act.covariance)

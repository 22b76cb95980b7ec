"""The state space of a mixed world: finite variables, together the mode, and real ones beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from cai.world.coordinates import Coordinates
from cai.world.spaces import Space, Values


@dataclass(frozen=True)
class MixedSpace:
    """Modes × R^n. A state is a row ``[*, d + n]``: all its variables side by side, the d finite ones as numbers.

    Attributes:
        modes: the finite variables, numbered jointly.
        reals: the real variables.
        rows: all variables, in the order in which the program samples them.
    """

    modes: Space
    reals: Coordinates
    rows: Coordinates

    @property
    def names(self) -> tuple[str, ...]:
        """All variables."""
        return self.rows.names

    @property
    def labels(self) -> tuple[str, ...]:
        """What each entry of a row is called."""
        return self.rows.labels

    @property
    def dimension(self) -> int:
        """The entries of a row."""
        return self.rows.dimension

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """Lay values side by side; batches broadcast."""
        like = values[self.reals.names[0]]
        return self.rows.join({name: values[name].to(like.dtype) for name in self.names})

    def split(self, s: Tensor) -> dict[str, Tensor]:
        """Give each variable's value in rows; the inverse of ``join``."""
        finite = dict(zip(self.modes.names, self.modes.dtypes, strict=True))
        values = self.rows.split(s)
        return {name: value.to(finite[name]) if name in finite else value for name, value in values.items()}

    def mode(self, s: Tensor) -> Tensor:
        """Return the number of the mode in rows, ``[*]``."""
        return self.modes.join(self.rows.split(s))

    def real(self, s: Tensor) -> Tensor:
        """Return the real coordinates in rows, ``[*, n]``."""
        return s[..., self.rows.where(self.reals.names)]

    def row(self, mode: Tensor, x: Tensor) -> Tensor:
        """Return the row of a mode and real coordinates."""
        finite = {name: value.to(x) for name, value in self.modes.split(mode).items()}
        return self.rows.join(finite | self.reals.split(x))

    def pack(self, values: Mapping[str, Tensor]) -> Values:
        """Hand named values to the program, which speaks of a dict: there are two variables at least."""
        return dict(values)

    def unpack(self, values: Values) -> dict[str, Tensor]:
        """Read the program's form back as named values."""
        assert isinstance(values, Mapping)
        return dict(values)

    def where(self, names: Sequence[str]) -> list[int]:
        """Return the entries of a row that some variables have."""
        return self.rows.where(names)

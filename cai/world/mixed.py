"""The state space of a mixed world: finite variables, together the mode, and real ones beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.errors import fault
from cai.world.coordinates import Coordinates
from cai.world.spaces import Space, Values, Variable


@dataclass(frozen=True)
class MixedSpace:
    """Modes × R^n. A state is a row ``[*, 1 + n]``: the number of its mode, then its real coordinates.

    Attributes:
        modes: the finite variables, numbered jointly.
        reals: the real variables.
        names: all of them, in the order in which the program samples them.
    """

    modes: Space
    reals: Coordinates
    names: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """The number of entries of a row, 1 + n."""
        return 1 + self.reals.dimension

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each entry of a row."""
        return (" × ".join(self.modes.names), *self.reals.labels)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables, as a program describes them."""
        each = zip(self.modes.names, self.modes.sizes, self.modes.dtypes, strict=True)
        finite = [Variable(name, size, torch.Size(), dtype) for name, size, dtype in each]
        known = {variable.name: variable for variable in (*finite, *self.reals.variables)}
        return tuple(known[name] for name in self.names)

    def mode(self, s: Tensor) -> Tensor:
        """Return the numbers of the modes of rows, ``[*]``."""
        return s[..., 0].round().long()

    def real(self, s: Tensor) -> Tensor:
        """Return the real coordinates of rows, ``[*, n]``."""
        return s[..., 1:]

    def row(self, mode: Tensor, x: Tensor) -> Tensor:
        """Return the row of a mode and real coordinates."""
        batch = torch.broadcast_shapes(mode.shape, x.shape[:-1])
        return torch.cat((mode.to(x).expand(batch).unsqueeze(-1), x.expand(*batch, -1)), -1)

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the rows of named values; batches broadcast."""
        return self.row(self.modes.join(values), self.reals.join(values))

    def split(self, s: Tensor) -> dict[str, Tensor]:
        """Give each variable's value in rows; the inverse of ``join``."""
        values = self.modes.split(self.mode(s)) | self.reals.split(self.real(s))
        return {name: values[name] for name in self.names}

    def pack(self, values: Mapping[str, Tensor]) -> Values:
        """Return named values as the program uses them: as a dict, since there are at least two variables."""
        return dict(values)

    def unpack(self, values: Values) -> dict[str, Tensor]:
        """Return named values from the form that the program uses."""
        assert isinstance(values, Mapping)
        return dict(values)

    def where(self, names: Sequence[str]) -> list[int]:
        """Return the positions of some variables in a row.

        Raises:
            WorldError: there is no such variable, or it shares the number of the mode with others.
        """
        if self.modes.names in [(name,) for name in names]:
            return [place for name in names for place in ([0] if name in self.modes.names else self.where([name]))]
        shared = [name for name in names if name in self.modes.names]
        if shared:
            raise fault(f"variable '{shared[0]}'", "one of several that make up the mode", "a real variable")
        return [1 + place for place in self.reals.where(names)]

"""The methods of approximate inference by name. A method of your own is one more class, and a line here."""

from dataclasses import fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch

from cai.approximation.approximation import Approximation
from cai.approximation.bounds.two_sided import Bounds
from cai.approximation.grid import Grid
from cai.approximation.iterated_gaussian import IteratedGaussian
from cai.approximation.neural_svi import NeuralSVI
from cai.approximation.particles import Particles
from cai.approximation.path_integral import PathIntegral
from cai.errors import fault
from cai.support.wording import meant


@runtime_checkable
class Method(Protocol):
    """A way to approximate: a frozen dataclass of its options."""

    name: ClassVar[str]

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Approximate the posterior of a world.

        Args:
            world: a world, or a ``NoiseProgram`` (from a state on, in ``cai.mpc``).
            temperature: α, reward units.
            generator: of all random draws.
            guess: an ``Approximation.guess`` of the same method to start from, one time later; None for none.
            progress: show a bar on a terminal.
        """


METHODS: dict[str, type[Method]] = {
    "bounds": Bounds,
    "grid": Grid,
    "iterated_gaussian": IteratedGaussian,
    "path_integral": PathIntegral,
    "particles": Particles,
    "svi": NeuralSVI,
}
"""The methods by name."""


def method_of(where: str, method: Any, options: dict[str, Any]) -> Method:
    """Return a method with its options, from its name or as it is.

    Raises:
        WorldError: there is no such method, or it has no such option.
    """
    if not isinstance(method, str):
        if not isinstance(method, Method) or isinstance(method, type):
            raise fault(f"{where}, method", f"{method!r}", f"a method, or a name: {', '.join(METHODS)}")
        if options:
            raise fault(where, f"options {sorted(options)} beside a method", "options inside the method")
        return method
    if method not in METHODS:
        raise fault(f"{where}, method", f"'{method}'", f"one of {', '.join(METHODS)}{meant(method, METHODS)}")
    kind = METHODS[method]
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise fault(f"{where}, {name}", f"no option of {method}", f"one of {', '.join(known)}{meant(name, known)}")
    return kind(**options)

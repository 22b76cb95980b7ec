"""approximate: inference where no exact answer can be had, with what is known of its error."""

from typing import Any

import torch

from cai.approximation.approximation import Approximation
from cai.approximation.methods import METHODS, Method, method_of
from cai.exact.temperature import single_temperature
from cai.learn.loop import require_whole
from cai.world.spec import read

REAL = ("iterated_gaussian", "path_integral")
"""The methods for worlds with real variables, the first that there is."""


def suited(world: Any) -> str:
    """Name the method that a world takes unless another is asked for: ``bounds`` where all variables are finite."""
    variables = read(world).variables
    finite = all(variable.size is not None for variable in (*variables.states, *variables.actions))
    return "bounds" if finite else next(name for name in REAL if name in METHODS)


def approximate(
    world: Any,
    method: str | Method | None = None,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Approximation:
    """Approximate the posterior of a world, and say how good the answer is.

    Args:
        world: a world, whatever its variables.
        method: a method by name, see ``cai.approximation.METHODS``, or one with its options. Unless given it is
            ``bounds`` for a world of finite variables, and ``iterated_gaussian`` for one of real variables.
        temperature: α > 0, reward units.
        seed: of all random draws; the same seed gives the same answer.
        progress: show a bar on a terminal.
        options: of a method that is given by name.

    Raises:
        WorldError: the world, the method or an option is not valid.
        IntractableError: the method cannot take this world.
        ImpossibleError: no trajectory that it found is possible.
    """
    require_whole("approximate, seed", seed, 0)
    alpha = float(single_temperature(temperature))
    chosen = method_of("approximate", suited(world) if method is None else method, options)
    return chosen.run(world, alpha, torch.Generator().manual_seed(seed), progress=progress)

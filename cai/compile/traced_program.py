"""A noise program whose pieces are recorded once and then replayed: the same numbers, without the cost of the program.

A slice costs half a millisecond however few its samples are: Pyro's stack, distributions, checks. ``torch.jit.trace``
keeps the tensor operations alone. A recording is only true where the program does the same operations on every input,
so each one is checked, and a program that branches on values runs as it is written.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning

from cai.compile.noise_program import NoiseProgram

CONSTANT = "results are registered as constants"
"""Of the tracer's warnings the only harmless one: a number that the code writes as a tensor."""


def traced(program: NoiseProgram) -> NoiseProgram:
    """Return the same program, recorded when it first runs on inputs of a shape; see the module's words.

    A program that reads the time, branches on values, or draws random numbers of its own runs as it is written, and so
    does one under differentiation. Numbers that the world holds are as they were when it was recorded.
    """
    recording = isinstance(program.caller, Recordings)
    return program if program.spec.timed or recording else replace(program, caller=Recordings())


@dataclass(eq=False)
class Recordings:
    """Calls pieces of a program by their recordings, one for each piece and shape of its inputs.

    Attributes:
        known: the recordings; None for a piece that must run as it is written.
    """

    known: dict[Any, Callable[..., Any] | None] = field(default_factory=dict)

    def __call__(self, piece: str, run: Callable[..., Any], *inputs: Tensor) -> Any:
        """Return ``run(*inputs)``."""
        if any(x.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(x) for x in inputs):
            return run(*inputs)
        key = piece, *((x.shape, x.dtype) for x in inputs)
        if key not in self.known:
            self.known[key] = recorded(run, inputs)
        recording = self.known[key]
        return run(*inputs) if recording is None else recording(*inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {"known": {}}  # recordings cannot be pickled, and are made again


def recorded(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any] | None:
    """Return a function recorded on inputs, or None where that would not be the function on others."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            recording = torch.jit.trace(run, inputs, check_trace=False)
            same = _agree(run, recording, inputs)
        except Exception:  # whatever the tracer or the program cannot do; the plain run says it best
            return None
    doubts = [w for w in said if issubclass(w.category, TracerWarning) and CONSTANT not in str(w.message)]
    return _without_gradient(recording) if same and not doubts else None


def _agree(run: Callable[..., Any], recording: Callable[..., Any], inputs: tuple[Tensor, ...]) -> bool:
    """Tell whether a recording gives the function's numbers at its inputs and at three points elsewhere."""
    generator = torch.Generator().manual_seed(0)
    for spread in (0.0, 0.0, 0.01, 1.0):  # twice the same: a program that draws numbers of its own differs from itself
        points = [_moved(x, spread, generator) for x in inputs]
        theirs, ours = _parts(run(*points)), _parts(recording(*points))
        if not all(
            torch.allclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True) for a, b in zip(theirs, ours, strict=True)
        ):
            return False
    return True


def _moved(x: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Return a point near another, in a shuffled order; a column of whole numbers stays one."""
    if spread == 0 or not x.numel():
        return x
    rows = x.reshape(-1, x.shape[-1])
    rows = rows[torch.randperm(len(rows), generator=generator)]
    noise = spread * torch.randn(rows.shape, generator=generator, dtype=x.dtype)
    return torch.where((rows == rows.round()).all(0), rows, rows + noise).reshape(x.shape)


def _parts(value: Any) -> tuple[Tensor, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _without_gradient(recording: Callable[..., Any]) -> Callable[..., Any]:
    def replay(*inputs: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return recording(*inputs)
        with torch.no_grad():
            return recording(*inputs)

    return replay

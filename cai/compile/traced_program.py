"""A noise program whose pieces are recorded once and then replayed: the same numbers, without the cost of the program.

A slice costs half a millisecond however few its samples are: Pyro's stack, distributions, checks. ``torch.jit.trace``
keeps the tensor operations alone. A recording is only true where the program does the same operations on every input,
so each one is checked, and a program that branches on values runs as it is written.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning

from cai.compile.noise_program import AS_WRITTEN, NoiseProgram, Step

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
        loops: loops about recordings.
    """

    known: dict[Any, Callable[..., Any] | None] = field(default_factory=dict)
    loops: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    def __call__(self, piece: str, run: Callable[..., Any], *inputs: Tensor) -> Any:
        """Return ``run(*inputs)``."""
        recording = self._recording(piece, run, inputs)
        return run(*inputs) if recording is None else _without_gradient(recording, inputs)

    def loop(self, piece: str, step: Step, s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states, actions and rewards of all steps, by a recorded loop about the recorded step."""
        inputs = s, w[:, 0], z[:, 0]
        recording = self._recording(piece, partial(step, 0), inputs)
        if recording is None:
            return AS_WRITTEN.loop(piece, step, s, w, z)
        key = _key(piece, inputs)
        if key not in self.loops:
            self.loops[key] = _scripted(recording)
        looped: tuple[Tensor, Tensor, Tensor] = _without_gradient(self.loops[key], (s, w, z))
        return looped

    def _recording(self, piece: str, run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any] | None:
        """Return the recording of a piece, made where there is none yet; None where it must run as it is written."""
        if any(x.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(x) for x in inputs):
            return None
        key = _key(piece, inputs)
        if key not in self.known:
            self.known[key] = recorded(run, inputs)
        return self.known[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"known": {}, "loops": {}}  # recordings cannot be pickled, and are made again


def recorded(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any] | None:
    """Return a function recorded on inputs, or None where that would not be the function on others."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            recording = _folded(
                torch.jit.trace(lambda *x: run(*x), inputs, check_trace=False)
            )  # the tracer wants a name
            same = _agree(run, recording, inputs)
        except Exception:  # whatever the tracer or the program cannot do; the plain run says it best
            return None
    doubts = [w for w in said if issubclass(w.category, TracerWarning) and CONSTANT not in str(w.message)]
    return recording if same and not doubts else None


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


def _key(piece: str, inputs: tuple[Tensor, ...]) -> Any:
    return piece, *((x.shape, x.dtype) for x in inputs)


SIZED_BY_VALUES = {"aten::nonzero", "aten::masked_select", "aten::index"}
"""What may give a shape that depends on values: then shapes are no constants."""


def _folded(recording: Any) -> Any:
    """Return a recording with the arithmetic on shapes done once: it is for one shape alone."""
    graph = recording.graph.copy()
    torch._C._jit_pass_inline(graph)
    if SIZED_BY_VALUES & {node.kind() for node in graph.nodes()}:
        return recording
    for _ in range(2):  # once more for what the first pass made constant
        torch._C._jit_pass_peephole(graph, False)
        torch._C._jit_pass_constant_propagation(graph)
        torch._C._jit_pass_cse(graph)
        torch._C._jit_pass_dce(graph)
    return torch._C._create_function_from_graph("folded", graph)


def _scripted(step: Any) -> Callable[..., Any]:
    """Return the loop over time about a recorded step, compiled."""

    def loop(s: Tensor, w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, actions, rewards = [s], [], []
        for t in range(w.size(1)):
            a, s, r = step(s, w[:, t], z[:, t])
            states.append(s)
            actions.append(a)
            rewards.append(r)
        return torch.stack(states, 1), torch.stack(actions, 1), torch.stack(rewards, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.export cannot go through a loop of any length
        return cast("Callable[..., Any]", torch.jit.script(loop))


def _without_gradient(recording: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
    if not torch.is_grad_enabled():
        return recording(*inputs)
    with torch.no_grad():
        return recording(*inputs)

"""A checkpoint of a training in a file: written whole or not at all, and read without executing code."""

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from cai.compile.linear_model import LinearGaussian
from cai.compile.table_model import Tables
from cai.errors import fault, must_pass
from cai.learn.problem import State
from cai.learn.result import Progress
from cai.simulate.acting import prior_action
from cai.simulate.rollout import roll
from cai.simulate.simulator import Simulator, drawing, seeded
from cai.support.files import write_whole
from cai.support.process import precision

KEYS = {"of", "steps", "updates", "random", "env_state", "values", "history", "seconds"}


class Checkpoint:
    """Saves a training to its file, and takes it up again; does nothing without a file.

    Args:
        path: the file, or None.
        of: what is learned, how and on what, by name: a file of something else is refused.
    """

    def __init__(self, path: Path | None, of: Mapping[str, str]) -> None:
        self.path, self.of = path, dict(of)

    def save(self, state: State, pack: Callable[[State], State], history: Sequence[Progress], seconds: float) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        packed = {**vars(pack(state)), "history": [dict(vars(row)) for row in history]}
        out = io.BytesIO()  # where a disk is full, torch's own writer may say so by a RuntimeError
        torch.save({"of": self.of, "seconds": seconds, **packed, "values": dict(packed["values"])}, out)
        write_whole(self.path.parent, {self.path.name: out.getvalue()})

    def load(self) -> tuple[State, list[Progress], float] | None:
        """Read the file, if it is there.

        Raises:
            WorldError: the file is no checkpoint, or one of something else.
        """
        if self.path is None or not self.path.exists():
            return None
        saved = self._read(self.path)
        state = State(*(saved[name] for name in ("steps", "updates", "random", "env_state", "values")))
        return state, [Progress(**row) for row in saved["history"]], saved["seconds"]

    def _read(self, path: Path) -> dict[str, Any]:
        where, expected = f"checkpoint '{path}'", "a whole file that a learner wrote"
        content = path.read_bytes()  # an error of the disk is not a fault of the content
        try:
            saved: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:
            if must_pass(error):
                raise
            raise fault(where, f"no checkpoint of a learner ({type(error).__name__})", expected) from None
        if not isinstance(saved, dict) or set(saved) != KEYS or not isinstance(saved["of"], dict):
            raise fault(where, "no checkpoint of a learner", expected)
        for name in sorted({**self.of, **saved["of"]}, key="budget".__eq__):  # the budget is named as the steps
            was, now = saved["of"].get(name, "none"), self.of.get(name, "none")
            if was != now:
                raise fault(where, f"a learner with {name} = {was}", f"{name} = {now}; or another file for another run")
        return saved


def described(value: Any) -> str:
    """Say a setting so that another one is said otherwise, and the same one alike in every process: no addresses."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)} ({_digest(value.detach().cpu().contiguous().numpy().tobytes())})"
    if isinstance(value, torch.nn.Module):
        return f"{value} {described(dict(value.state_dict()))}"
    if isinstance(value, FunctionType):
        inside = [described(cell.cell_contents) for cell in value.__closure__ or ()]
        code = value.__code__
        constants = [constant for constant in code.co_consts if not hasattr(constant, "co_code")]
        return f"{value.__qualname__} ({_digest(code.co_code + repr((constants, code.co_names, inside)).encode())})"
    if isinstance(value, Mapping):
        return f"{ {name: described(entry) for name, entry in value.items()} }"
    if is_dataclass(value) or "__repr__" not in vars(type(value)):
        return f"{type(value).__name__} {described(vars(value)) if hasattr(value, '__dict__') else ''}"
    return re.sub(r" at 0x[0-9a-f]+", "", f"{value}")


def model_described(model: Tables | LinearGaussian) -> str:
    """Describe a compiled world by its sizes and a digest of all its numbers."""
    numbers = (tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in model.tensors)
    return f"{model} {_digest(b''.join(numbers))}"


def samples_described(simulator: Simulator, dtype: torch.dtype) -> str:
    """Describe what is not compiled by its name, its horizon and its first steps under the action prior."""
    with torch.no_grad(), precision(dtype), drawing(seeded(0)):
        rollout = roll(simulator, lambda env_state, t: prior_action(simulator, env_state.state, t), 10)
    states = rollout.states if isinstance(rollout.states, dict) else {"state": rollout.states}
    words = " ".join(f"{float(x.double().sum()):.6g}" for x in (*states.values(), rollout.rewards))
    return f"{simulator.name}, T = {simulator.horizon} ({_digest(words.encode())})"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

"""A learner kept in a file: written beside its place and put there whole, read without executing anything in it."""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from cai.errors import fault, passes
from cai.learn.problem import Algorithm, Problem, State
from cai.learn.result import Progress
from cai.learn.svi.svi_checkpoint import listed, save
from cai.simulate.rollout import prior_action, roll
from cai.simulate.simulator import drawing, seeded
from cai.support.process import precision

KEYS = {"of", "steps", "updates", "random", "env_state", "values", "history", "seconds"}

Kept = tuple[State, tuple[Progress, ...], float]


class Keeper:
    """Saves a learner to its file, and takes it up again; does nothing without a file.

    Args:
        path: the file, or None.
        of: what the learner is, by name: a file of another is refused.
    """

    def __init__(self, path: Path | None, of: Mapping[str, str]) -> None:
        self.path, self.of = path, dict(of)

    def save(self, problem: Problem, state: State, history: tuple[Progress, ...], seconds: float) -> None:
        """Write the file, whole or not at all."""
        if self.path is None:
            return
        kept = {
            "of": self.of,
            "steps": state.steps,
            "updates": state.updates,
            "random": state.random,
            "env_state": None if state.env_state is None else problem.simulator.pack(state.env_state),
            "values": dict(state.values),
            "history": [asdict(one) for one in history],
            "seconds": seconds,
        }
        save(self.path, kept)

    def load(self, problem: Problem) -> Kept | None:
        """Read the file, if it is there.

        Raises:
            WorldError: the file is no checkpoint, or one of another learner, world or setting.
        """
        if self.path is None or not self.path.exists():
            return None
        kept = self._read(self.path)
        env_state = None if kept["env_state"] is None else problem.simulator.unpack(kept["env_state"])
        state = State(kept["steps"], kept["updates"], kept["random"], env_state, kept["values"])
        return state, tuple(Progress(**row) for row in kept["history"]), kept["seconds"]

    def _read(self, path: Path) -> dict[str, Any]:
        where, expected = f"checkpoint '{path}'", "a whole file that a learner wrote"
        content = path.read_bytes()  # what the disk says is no fault of the content
        try:
            kept: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:
            if passes(error):
                raise
            raise fault(where, f"no checkpoint of a learner ({type(error).__name__})", expected) from None
        if not isinstance(kept, dict) or set(kept) != KEYS or not isinstance(kept["of"], dict):
            raise fault(where, "no checkpoint of a learner", expected)
        for name in sorted({**self.of, **kept["of"]}, key="budget".__eq__):  # the budget is told as the steps
            was, now = kept["of"].get(name, "none"), self.of.get(name, "none")
            if was != now:
                raise fault(where, f"a learner with {name} = {was}", f"{name} = {now}; or another file for another run")
        return kept


def fingerprint(algorithm: Algorithm, problem: Problem, world: Any, task: Any) -> dict[str, str]:
    """Describe what is learned, how and on what, so that a checkpoint of something else is not taken up."""
    assert is_dataclass(algorithm)
    own = {one.name: _told(getattr(algorithm, one.name)) for one in fields(algorithm)}
    numbers = {"temperature": problem.temperature, "gamma": problem.gamma}
    asked = {
        name: getattr(task, name) for name in ("seed", "steps", "evaluations", "episodes", "measured_at", "normalise")
    }
    seen = _seen(problem, world) if problem.tables is None else listed(problem.tables)
    told = {key: str(value) for key, value in {**numbers, **asked}.items()}
    return {"learner": algorithm.name, "world": seen, **own, **told}


def _told(value: Any) -> str:
    """Say a setting so that another one is said otherwise, and the same one alike in every process: no addresses."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)} ({_digest(value.detach().cpu().contiguous().numpy().tobytes())})"
    if isinstance(value, torch.nn.Module):
        return f"{value} {_told(dict(value.state_dict()))}"
    if isinstance(value, FunctionType):
        inside = [_told(cell.cell_contents) for cell in value.__closure__ or ()]
        code = value.__code__
        constants = [one for one in code.co_consts if not hasattr(one, "co_code")]
        return f"{value.__qualname__} ({_digest(code.co_code + repr((constants, code.co_names, inside)).encode())})"
    if isinstance(value, Mapping):
        return f"{ {name: _told(one) for name, one in value.items()} }"
    if is_dataclass(value) or "__repr__" not in vars(type(value)):
        return f"{type(value).__name__} {_told(vars(value)) if hasattr(value, '__dict__') else ''}"
    return re.sub(r" at 0x[0-9a-f]+", "", f"{value}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _seen(problem: Problem, world: Any) -> str:
    """Describe what has no tables by its name, its horizon and its first steps under the action prior."""
    simulator = problem.simulator
    with torch.no_grad(), precision(problem.dtype), drawing(seeded(0)):
        found = roll(simulator, lambda env_state, t: prior_action(simulator, env_state.state, t), 10)
    states = found.states if isinstance(found.states, dict) else {"state": found.states}
    words = " ".join(f"{float(one.double().sum()):.6g}" for one in (*states.values(), found.rewards))
    name = simulator.name
    return f"{name}, T = {simulator.horizon} ({_digest(words.encode())})"

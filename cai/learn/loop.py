"""The training loop of all learners: measure, step, record, save; until the last step, the target, or Ctrl-C."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from cai.errors import fault
from cai.learn.checkpoint import Checkpoint
from cai.learn.logs import Log
from cai.learn.problem import Metrics, State
from cai.learn.result import Learned, Progress, Score
from cai.support.progress import Interrupt, bar

Watch = Callable[[int, Metrics, Callable[[], Any]], bool]


@runtime_checkable
class Training(Protocol):
    """An algorithm on its problem: how it steps, how it is measured, and when it is done.

    Attributes:
        name: what the algorithm is called.
        temperature, estimator, elbo_star: as in ``Learned``.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def temperature(self) -> float | None: ...  # noqa: D102
    @property
    def estimator(self) -> str | None: ...  # noqa: D102
    @property
    def elbo_star(self) -> float | None: ...  # noqa: D102

    def identity(self) -> dict[str, str]:
        """Describe what is learned, how and on what, by name: a checkpoint of something else is refused."""

    def first(self) -> State:
        """Return the state before the first step."""

    def step(self, state: State) -> tuple[State, Metrics | Score]:
        """Take a step; return the next state with its metrics, or a score of the policy before the step."""

    def policy(self, state: State) -> Any:
        """Return the policy that a state stands for."""

    def due(self, state: State, history: Sequence[Progress]) -> bool:
        """Return whether it is time to measure, to log and to keep."""

    def score(self, state: State, history: Sequence[Progress]) -> Score | None:
        """Measure the policy if an evaluation is due; None if the next step measures it."""

    def final(self, state: State, history: Sequence[Progress]) -> Score | None:
        """Measure the policy at the end; None where the history has it."""

    def reached(self, state: State, history: Sequence[Progress]) -> str | None:
        """Say which aim is reached, if one is."""

    def pack(self, state: State) -> State:
        """Return a state whose env_state and values can be kept in a file."""

    def unpack(self, packed: State) -> State:
        """Return the state that was packed."""


@dataclass(frozen=True)
class Plan:
    """How long to train, what to write, and the function that watches; see ``Options``."""

    seed: int
    steps: int
    checkpoint: Path | None
    log: Path | None
    progress: bool
    watch: Watch | None = None

    def ended(self, training: Training, state: State, metrics: Metrics, interrupted: bool) -> str | None:
        """Return why the training ends here, if it does; the watch function is called every time."""
        if self.watch is not None and self.watch(state.updates, metrics, partial(training.policy, state)):
            return "watch"
        if state.steps >= self.steps:
            return "steps"
        return "interrupted" if interrupted else None


@torch.enable_grad()
def run(training: Training, plan: Plan) -> Learned:
    """Train, and return the result.

    Raises:
        WorldError: the checkpoint is none, or one of something else; or the work itself fails.
    """
    steps, file = plan.steps, Checkpoint(plan.checkpoint, {} if plan.checkpoint is None else training.identity())
    metrics: Metrics = {}
    with Interrupt() as interrupt, Log(plan.log) as write:
        past = file.load()
        state, history, seconds = (training.first(), [], 0.0) if past is None else (training.unpack(past[0]), *past[1:])
        saved = None if past is None else state
        if history:  # the folder may be a new one
            write(history)
        with bar(training.name, steps, start=state.steps, shown=plan.progress) as show_progress:
            while True:
                if training.due(state, history):
                    score = training.score(state, history)
                    if score is not None:
                        history.append(_row(state, seconds, score, metrics))
                    write(history)
                    file.save(saved := state, training.pack, history, seconds)
                stopped = training.reached(state, history) or plan.ended(training, state, metrics, bool(interrupt))
                if stopped is not None:
                    break
                before, began = state, time.process_time()
                state, outcome = training.step(before)
                if isinstance(outcome, Score):
                    _note(history, before, seconds, outcome)
                else:
                    metrics = outcome
                seconds += time.process_time() - began
                show_progress(min(state.steps, steps), str(history[-1]) if history else "")
        if state is not saved:
            file.save(state, training.pack, history, seconds)
        score = training.final(state, history)
        if score is not None:
            history.append(_row(state, seconds, score, {}))
            write(history)
        policy, counts = training.policy(state), (state.steps, state.updates, seconds)
    known = (training.temperature, plan.seed, tuple(history), *counts, stopped)
    return Learned(policy, training.name, *known, training.estimator, training.elbo_star)


def _row(state: State, seconds: float, score: Score, metrics: Metrics) -> Progress:
    return Progress(state.steps, state.updates, seconds, **vars(score), metrics=metrics)


def _note(history: list[Progress], state: State, seconds: float, seen: Score) -> None:
    """Record what a step saw of the policy that it left; what was measured of it before stays."""
    known = bool(history) and history[-1].updates == state.updates
    row = history.pop() if known else Progress(state.steps, state.updates, seconds)
    nats = row.policy_nats if seen.policy_nats is None else seen.policy_nats
    history.append(replace(row, elbo=seen.elbo, standard_error=seen.standard_error, policy_nats=nats))


def require_whole(where: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number between two bounds.

    Raises:
        WorldError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        expected = f"a whole number, at least {least}" + ("" if most is None else f" and at most {most}")
        raise fault(where, f"{value!r}", expected)
    return value


def require_number(where: str, value: Any, allowed: Callable[[float], bool], expected: str) -> float:
    """Return a number that is allowed.

    Raises:
        WorldError: it is no number, or not allowed.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not allowed(float(value)):
        raise fault(where, f"{value!r}", expected)
    return float(value)


def place_of(where: str, value: Any, *, folder: bool = False) -> Path | None:
    """Return the path of a file, or of a folder, that can be written; None stays None.

    Raises:
        WorldError: it is no path, or cannot be written.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path):
        raise fault(where, f"{value!r}", "a path")
    path = Path(value)
    if path.is_file() if folder else path.is_dir():
        seen, expected = ("a file", "a folder") if folder else ("a folder", "a file")
        raise fault(where, f"{path}, {seen}", expected)
    try:  # before the work, not after it
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fault(where, f"{path}: {error.strerror}", "a place that can be written") from error
    return path

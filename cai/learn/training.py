"""The one training loop: step, evaluate, log, keep; until the steps are taken, the target is held, or Ctrl-C."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import IntractableError, fault
from cai.exact.temperature import as_temperature
from cai.learn import checkpoint as keeping
from cai.learn.logs import Log
from cai.learn.problem import Algorithm, Metrics, Problem, State
from cai.learn.result import Learned, Progress
from cai.learn.scores import SEED, ByEpisodes, Exactly
from cai.simulate.environments import with_options
from cai.simulate.normalise import normalised
from cai.simulate.rollout import simulator_of
from cai.simulate.simulator import drawing, seeded
from cai.simulate.worlds import WorldSimulator
from cai.support.process import precision
from cai.support.progress import Interrupt, bar
from cai.world.definition import World
from cai.world.spec import read


class Options(TypedDict, total=False):
    """What every learner takes besides its own settings.

    Keys:
        env_options: the options of an environment that is given by its id, ``{"is_slippery": False}``: apart from all
            settings of the learner, whatever they are called.
        seed: of all randomness in here; the caller's random state is left alone. 0 unless given.
        steps: environment steps, those of all copies and those before a resume counted; a batch of episodes that has
            begun is finished, so that it may be more. Step sizes settle by them: with other steps it is another run.
        evaluations: how often the policy is evaluated on the way, evenly spread. 20 unless given.
        episodes: of an evaluation where the world has no tables, on fixed seeds that no training uses. 20 unless given.
        measured_at: α, reward units, at which a hard learner's policy is measured in nats; not at all unless given.
        normalise: shift and scale a network's features to mean 0 and deviation 1, as measured once under the action
            prior, before the first step (``cai.simulate.normalise``). False unless given.
        target: stop as soon as an evaluation's deterministic return is this, reward units.
        checkpoint: a file that keeps the learner at every evaluation; where it is there, learning goes on from it, with
            the same numbers as without the break.
        log: a folder for ``progress.jsonl``, one evaluation a line, and TensorBoard's events where it is installed.
        progress: show a bar on a terminal. True unless given.
    """

    env_options: Mapping[str, Any]
    seed: int
    steps: int
    evaluations: int
    episodes: int
    measured_at: float
    normalise: bool
    target: float
    checkpoint: Any
    log: Any
    progress: bool


@dataclass(frozen=True)
class Task:
    """What was asked of a training; see ``Options``."""

    seed: int = 0
    steps: int = 0
    evaluations: int = 20
    episodes: int = 20
    measured_at: float | None = None
    normalise: bool = False
    target: float | None = None
    checkpoint: Path | None = None
    log: Path | None = None
    progress: bool = True

    def due(self, steps: int, history: tuple[Progress, ...]) -> bool:
        """Tell whether another n-th of the steps is full since the last evaluation."""
        return not history or self._part(steps) > self._part(history[-1].steps)

    def _part(self, steps: int) -> int:
        return min(self.evaluations, steps * self.evaluations // self.steps)


def train(
    algorithm: Algorithm,
    world: Any,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    **options: Unpack[Options],
) -> Learned:
    """Run a learner on a world or an environment; at no temperature it is the hard one."""
    world, options = chosen(world, options)
    task = _task(algorithm, options)
    problem = problem_of(algorithm, world, temperature, gamma)
    if task.normalise:
        problem = _normalised(problem, task.seed)
    alpha = task.measured_at if problem.temperature is None else problem.temperature
    score = _measure(world, problem, task, alpha)
    of = {} if task.checkpoint is None else keeping.fingerprint(algorithm, problem, world, task)
    kept = keeping.Keeper(task.checkpoint, of)
    with precision(algorithm.dtype), Interrupt() as interrupt, Log(task.log) as log:
        state, history, seconds = kept.load(problem) or (_first(algorithm, problem, task.seed), (), 0.0)
        metrics: Metrics = {}
        if history:  # the folder may be a new one
            log(history)
        with bar(algorithm.name, task.steps, start=state.steps, shown=task.progress) as tell:
            while True:
                if task.due(state.steps, history):
                    found = score(algorithm.policy(problem, state))
                    counts = (state.steps, state.updates, seconds)
                    history = (*history, Progress(*counts, **vars(found), metrics=metrics))
                    log(history)
                    kept.save(problem, state, history, seconds)
                stopped = _reason(task, state, history, bool(interrupt))
                if stopped is not None:
                    break
                began = time.process_time()
                state, metrics = step(algorithm, problem, state)
                seconds += time.process_time() - began
                tell(min(state.steps, task.steps), _words(history[-1]))
        if stopped == "interrupted":
            kept.save(problem, state, history, seconds)
        policy = algorithm.policy(problem, state)
    counts = (state.steps, state.updates, seconds)
    return Learned(policy, algorithm.name, alpha, task.seed, history, *counts, stopped)


def chosen(world: Any, options: Options) -> tuple[Any, Options]:
    """Return what is learned on, an id with its options, and the other options."""
    rest: Any = {name: value for name, value in options.items() if name != "env_options"}
    return with_options(world, options.get("env_options")), rest


def step(algorithm: Algorithm, problem: Problem, state: State) -> tuple[State, Metrics]:
    """Take one step from a state, by the randomness that the state carries."""
    with drawing(state.random):
        after, metrics = algorithm.step(problem, state)
        return replace(after, random=torch.get_rng_state()), metrics


def _first(algorithm: Algorithm, problem: Problem, seed: int) -> State:
    with drawing(seeded(seed)):
        env_state, values = algorithm.init(problem)
        return State(0, 0, torch.get_rng_state(), env_state, values)


def problem_of(algorithm: Algorithm, world: Any, temperature: float | None, gamma: float | None) -> Problem:
    """Return what an algorithm is to learn on.

    Raises:
        WorldError: the world, the temperature or the discount does not conform.
    """
    alpha = _temperature(f"{algorithm.name}, temperature", temperature)
    if isinstance(world, Tables):
        raise fault(f"{algorithm.name}, world", "tables", "a world or an environment, which can be sampled")
    with precision(algorithm.dtype):
        simulator = simulator_of(world, algorithm.batch)
    own = read(_world(world)).discount if _world(world) is not None else 1.0
    discount = own if gamma is None else gamma
    if isinstance(discount, bool) or not isinstance(discount, int | float) or not 0 <= discount <= 1:
        raise fault(f"{algorithm.name}, gamma", f"{discount!r}", "a number between 0 and 1")
    return Problem(simulator, alpha, float(discount), _tables(world), algorithm.dtype)


def _temperature(where: str, value: Any) -> float | None:
    if value is not None and as_temperature(value).dim():
        raise fault(where, f"{value!r}", "one number")
    return None if value is None else float(as_temperature(value))


def _world(given: Any) -> World | None:
    """Return the Pyro world that is learned on, also where its simulator was given; None for a black box."""
    if isinstance(given, WorldSimulator):
        return given.world
    return given if isinstance(given, World) else None


def _tables(given: Any) -> Tables | None:
    world = _world(given)
    if world is None:
        return None
    try:
        return tabulate(world).detach()
    except IntractableError:
        return None


def _normalised(problem: Problem, seed: int) -> Problem:
    with torch.no_grad(), precision(problem.dtype), drawing(seeded(seed)):
        return replace(problem, simulator=normalised(problem.simulator))


def _measure(world: Any, problem: Problem, task: Task, alpha: float | None) -> Exactly | ByEpisodes:
    if problem.tables is not None:
        return Exactly(problem.tables, alpha)
    discount = read(_world(world)).discount if _world(world) is not None else 1.0
    return ByEpisodes(lambda n: simulator_of(world, n), task.episodes, problem.dtype, discount)


def _reason(task: Task, state: State, history: tuple[Progress, ...], interrupted: bool) -> str | None:
    if task.target is not None:
        rounding = 1e-9 * max(abs(task.target), 1.0)  # an exact return that is the target may fall a few bits short
        if history[-1].deterministic_return >= task.target - rounding:
            return "target"
    if state.steps >= task.steps:
        return "steps"
    return "interrupted" if interrupted else None


def _words(one: Progress) -> str:
    nats = "" if one.policy_nats is None else f", {one.policy_nats:.3g} policy nats"
    return f"return {one.stochastic_return:.4g}{nats}"


def _task(algorithm: Algorithm, options: Options) -> Task:
    unknown = sorted(set(options) - set(vars(Task())))
    if unknown:
        known = ", ".join(vars(Task()))
        expected = f"its own settings, or one of {known}; options of an environment in env_options={{…}}"
        raise fault(algorithm.name, f"no option {', '.join(unknown)}", expected)
    asked: dict[str, Any] = {**vars(Task()), "steps": algorithm.budget, **options}
    for name, least in (("seed", 0), ("steps", 1), ("evaluations", 1), ("episodes", 1)):
        value = asked[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise fault(f"{algorithm.name}, {name}", f"{value!r}", f"a whole number, at least {least}")
    if asked["seed"] >= SEED:
        raise fault(f"{algorithm.name}, seed", f"{asked['seed']}", f"one below {SEED:,}: evaluations have the others")
    if isinstance(asked["target"], bool) or not isinstance(asked["target"], int | float | None):
        raise fault(f"{algorithm.name}, target", f"{asked['target']!r}", "a return, reward units")
    if not isinstance(asked["normalise"], bool):
        raise fault(f"{algorithm.name}, normalise", f"{asked['normalise']!r}", "True or False")
    target = None if asked["target"] is None else float(asked["target"])
    asked["measured_at"] = _temperature(f"{algorithm.name}, measured_at", asked["measured_at"])
    paths = {name: _path(algorithm.name, name, asked[name]) for name in ("checkpoint", "log")}
    return Task(**{**asked, **paths, "target": target})


def _path(learner: str, name: str, value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | Path):
        raise fault(f"{learner}, {name}", f"{value!r}", "a path")
    path = Path(value)
    wrong = path.is_file() if name == "log" else path.is_dir()
    if wrong:
        seen, expected = ("a file", "a folder") if name == "log" else ("a folder", "a file")
        raise fault(f"{learner}, {name}", f"{path}, {seen}", expected)
    try:  # before the work, not after it
        (path if name == "log" else path.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fault(f"{learner}, {name}", f"{path}: {error.strerror}", "a place that can be written") from error
    return path

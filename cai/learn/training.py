"""What all learners share: their options, their problem, and the call of the common training loop."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.temperature import as_temperature
from cai.learn.checkpoint import described, model_described, samples_described
from cai.learn.loop import Plan, Watch, place_of, require_whole, run
from cai.learn.problem import Algorithm, Metrics, Problem, State
from cai.learn.result import Learned, Progress, Score
from cai.learn.scores import SEED, ByEpisodes, ExactScore, GaussianScore, Measure, exact_model
from cai.simulate.environments import with_options
from cai.simulate.normalise import normalised
from cai.simulate.rollout import simulator_of
from cai.simulate.simulator import drawing, seeded
from cai.simulate.vector_environments import forward_simulator
from cai.simulate.worlds import WorldSimulator
from cai.support.process import precision
from cai.support.wording import meant
from cai.world.definition import World
from cai.world.spec import read


class Options(TypedDict, total=False):
    """The options that every learner takes, besides its own.

    Keys:
        env_options: the options of an environment that is given by its id, ``{"is_slippery": False}``: kept apart from
            the learner's own settings.
        seed: of all randomness in the fit; torch's global random state does not change. 0 unless given.
        steps: environment steps, over all copies, also those before a resume. A batch of episodes is always finished,
            so there may be a few more. Step sizes decay with them: a run of fewer steps is not the start of a longer
            run.
        evaluations: how often the policy is evaluated, at even intervals. 20 unless given.
        episodes: the episodes of one evaluation where there is no exact one, with fixed seeds that training does not
            use. 20 unless given.
        measured_at: α, reward units, at which a hard learner's policy is measured in nats; not at all unless given.
        normalise: shift and scale a network's features to mean 0 and deviation 1, as measured once under the action
            prior, before the first step (``cai.simulate.normalise``). False unless given.
        target: stop as soon as an evaluation's deterministic return is this, reward units.
        checkpoint: a file that stores the learner at every evaluation. If the file exists, learning goes on from it,
            with the same numbers as a run that was never interrupted.
        log: a folder for ``progress.jsonl``, one evaluation a line, and TensorBoard's events where it is installed.
        watch: a function ``(updates, metrics, policy)``, called before the first update and after each; it stops the
            learning by returning True. ``policy()`` is the current policy.
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
    watch: Watch
    progress: bool


@dataclass(frozen=True)
class Task:
    """The options of a training; see ``Options``."""

    seed: int = 0
    steps: int = 0
    evaluations: int = 20
    episodes: int = 20
    measured_at: float | None = None
    normalise: bool = False
    target: float | None = None
    checkpoint: Path | None = None
    log: Path | None = None
    watch: Watch | None = None
    progress: bool = True

    def due(self, steps: int, history: Sequence[Progress]) -> bool:
        """Return whether another n-th of the steps is full since the last evaluation."""
        return not history or self._part(steps) > self._part(history[-1].steps)

    def _part(self, steps: int) -> int:
        return min(self.evaluations, steps * self.evaluations // self.steps)


@dataclass(frozen=True)
class SampledTraining:
    """The training of an algorithm on what can be sampled; ``measure`` says how good a policy is."""

    algorithm: Algorithm
    problem: Problem
    world: Any
    task: Task
    measure: Measure
    estimator: str | None = None

    @property
    def name(self) -> str:
        """The algorithm's."""
        return self.algorithm.name

    @property
    def temperature(self) -> float | None:
        """α of the algorithm, or at which a hard one is measured."""
        return self.task.measured_at if self.problem.temperature is None else self.problem.temperature

    @property
    def elbo_star(self) -> float | None:
        """ELBO*, nats, where the world has exact answers."""
        return self.measure.elbo_star

    def identity(self) -> dict[str, str]:
        """Describe the algorithm's settings, the world and the task."""
        own = _settings(self.algorithm)
        names = ("seed", "steps", "evaluations", "episodes", "measured_at", "normalise")
        numbers = {"temperature": self.problem.temperature, "gamma": self.problem.gamma}
        numbers |= {name: getattr(self.task, name) for name in names}
        model, simulator, dtype = self.problem.model, self.problem.simulator, self.problem.dtype
        seen = samples_described(simulator, dtype) if model is None else model_described(model)
        return {"learner": self.name, "world": seen, **own, **{name: str(x) for name, x in numbers.items()}}

    def first(self) -> State:
        """Return the state before the first step."""
        return first(self.algorithm, self.problem, self.task.seed)

    def step(self, state: State) -> tuple[State, Metrics]:
        """Take one step of the algorithm."""
        return step(self.algorithm, self.problem, state)

    def policy(self, state: State) -> Any:
        """Return the policy that a state stands for."""
        return self.algorithm.policy(self.problem, state)

    def due(self, state: State, history: Sequence[Progress]) -> bool:
        """Return whether another n-th of the steps is full since the last evaluation."""
        return self.task.due(state.steps, history)

    def score(self, state: State, history: Sequence[Progress]) -> Score:
        """Measure the policy."""
        return self.measure(self.policy(state))

    def final(self, state: State, history: Sequence[Progress]) -> None:
        """Return nothing: the evaluation at the last step is the last one."""

    def reached(self, state: State, history: Sequence[Progress]) -> str | None:
        """Say whether the target is held."""
        target, reached = self.task.target, history[-1].deterministic_return
        if target is None or reached is None:
            return None
        rounding = 1e-9 * max(abs(target), 1.0)  # an exact return that is the target may fall a few bits short
        return "target" if reached >= target - rounding else None

    def pack(self, state: State) -> State:
        """Return a state whose env_state is tensors and numbers."""
        env_state = state.env_state
        return state if env_state is None else replace(state, env_state=self.problem.simulator.pack(env_state))

    def unpack(self, packed: State) -> State:
        """Return the state that was packed."""
        env_state = packed.env_state
        return packed if env_state is None else replace(packed, env_state=self.problem.simulator.unpack(env_state))


def _settings(algorithm: Any, of: str = "") -> dict[str, str]:
    """Describe the fields of a dataclass by name, and those of dataclasses within, as ``objective.clip``.

    Those of a policy search's method are called what a caller calls them.
    """
    found = dict[str, str]()
    for name, value in ((field.name, getattr(algorithm, field.name)) for field in fields(algorithm)):
        within = of if name == "method" else f"{of}{name}."
        found |= _settings(value, within) if is_dataclass(value) else {f"{of}{name}": described(value)}
    return found


def train(
    algorithm: Algorithm,
    world: Any,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    **options: Unpack[Options],
) -> Learned:
    """Run a learner on a world or an environment; without a temperature it learns the hard objective."""
    world, options = chosen(world, options)
    task = _task(algorithm, options)
    problem = problem_of(algorithm, world, temperature, gamma)
    if task.normalise:
        problem = _normalised(problem, task.seed)
    alpha = task.measured_at if problem.temperature is None else problem.temperature
    training = SampledTraining(algorithm, problem, world, task, _measure(world, problem, task, alpha))
    plan = Plan(task.seed, task.steps, task.checkpoint, task.log, task.progress, task.watch)
    with precision(algorithm.dtype):
        return run(training, plan)


def chosen(world: Any, options: Options) -> tuple[Any, Options]:
    """Return what is learned on, an id with its options, and the other options."""
    rest: Any = {name: value for name, value in options.items() if name != "env_options"}
    return with_options(world, options.get("env_options")), rest


def parted(options: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, Any], Any]:
    """Return the options of some names, and the others."""
    own = {name: value for name, value in options.items() if name in names}
    return own, {name: value for name, value in options.items() if name not in names}


def step(algorithm: Algorithm, problem: Problem, state: State) -> tuple[State, Metrics]:
    """Take one step from a state, by the randomness that the state carries."""
    with drawing(state.random):
        after, metrics = algorithm.step(problem, state)
        return replace(after, random=torch.get_rng_state()), metrics


def first(algorithm: Algorithm, problem: Problem, seed: int) -> State:
    """Return the state before the first step."""
    with drawing(seeded(seed)):
        env_state, values = algorithm.init(problem)
        return State(0, 0, torch.get_rng_state(), env_state, values)


def problem_of(algorithm: Algorithm, world: Any, temperature: float | None, gamma: float | None) -> Problem:
    """Return what an algorithm is to learn on.

    Raises:
        WorldError: the world, the temperature or the discount is not valid.
    """
    alpha = _temperature(f"{algorithm.name}, temperature", temperature)
    if isinstance(world, Tables):
        raise fault(f"{algorithm.name}, world", "tables", "a world or an environment, which can be sampled")
    with precision(algorithm.dtype):
        simulator = simulator_of(world, algorithm.batch)
    source = _world(world)
    own = read(source).discount if source is not None else 1.0
    discount = own if gamma is None else gamma
    if isinstance(discount, bool) or not isinstance(discount, int | float) or not 0 <= discount <= 1:
        raise fault(f"{algorithm.name}, gamma", f"{discount!r}", "a number between 0 and 1")
    return Problem(simulator, alpha, float(discount), None if source is None else exact_model(source), algorithm.dtype)


def _temperature(where: str, value: Any) -> float | None:
    if value is not None and as_temperature(value).dim():
        raise fault(where, f"{value!r}", "one number")
    return None if value is None else float(as_temperature(value))


def _world(source: Any) -> World | None:
    """Return the Pyro world that is learned on, also where its simulator was given; None for a black box."""
    if isinstance(source, WorldSimulator):
        return source.world
    return source if isinstance(source, World) else None


def _normalised(problem: Problem, seed: int) -> Problem:
    with torch.no_grad(), precision(problem.dtype), drawing(seeded(seed)):
        return replace(problem, simulator=normalised(problem.simulator))


def _measure(world: Any, problem: Problem, task: Task, alpha: float | None) -> Measure:
    if isinstance(problem.model, Tables):
        return ExactScore(problem.model, alpha)
    source = _world(world)
    discount = read(source).discount if source is not None else 1.0
    episodes = ByEpisodes(lambda n: forward_simulator(world, n), task.episodes, problem.dtype, discount)
    return episodes if problem.model is None else GaussianScore(problem.model, alpha, episodes)


def _task(algorithm: Algorithm, options: Options) -> Task:
    unknown = sorted(set(options) - set(vars(Task())))
    if unknown:
        known = ", ".join(vars(Task()))
        expected = f"its own settings, or one of {known}; options of an environment in env_options={{…}}"
        own = [name.rpartition(".")[2] for name in _settings(algorithm)]
        expected += meant(unknown[0], [*own, *vars(Task())])
        raise fault(algorithm.name, f"no option {', '.join(unknown)}", expected)
    settings: dict[str, Any] = {**vars(Task()), "steps": algorithm.budget, **options}
    for name, least in (("seed", 0), ("steps", 1), ("evaluations", 1), ("episodes", 1)):
        require_whole(f"{algorithm.name}, {name}", settings[name], least)
    if settings["seed"] >= SEED:
        expected = f"one below {SEED:,}: evaluations have the others"
        raise fault(f"{algorithm.name}, seed", f"{settings['seed']}", expected)
    if isinstance(settings["target"], bool) or not isinstance(settings["target"], int | float | None):
        raise fault(f"{algorithm.name}, target", f"{settings['target']!r}", "a return, reward units")
    if not isinstance(settings["normalise"], bool):
        raise fault(f"{algorithm.name}, normalise", f"{settings['normalise']!r}", "True or False")
    target = None if settings["target"] is None else float(settings["target"])
    settings["measured_at"] = _temperature(f"{algorithm.name}, measured_at", settings["measured_at"])
    settings["checkpoint"] = place_of(f"{algorithm.name}, checkpoint", settings["checkpoint"])
    settings["log"] = place_of(f"{algorithm.name}, log", settings["log"], folder=True)
    return Task(**{**settings, "target": target})

"""A world's slice, enumerated: its spaces, and the factors of the start, the prior and the step at one time."""

import dis
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.ops.provenance import get_provenance
from torch import Tensor

from cai.compile.enumerate import Choice, Enumerate, first_value, run
from cai.compile.factor_model import primed
from cai.compile.labels import labels_of, require_known
from cai.compile.windows import ROOM, Names, Traced, Window, spread, traced, windows
from cai.errors import fault
from cai.world.definition import World
from cai.world.program import variables
from cai.world.spaces import Space, Values

REWARD = "the reward"
"""What the reward is called among the factors of a slice."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a world, learned from single values: what its tables would cost.

    ``latents`` are the variables of ``step`` that take room in tables, ``sites`` all of them, points too.
    """

    states: Space
    actions: Space
    latents: dict[str, int]
    sites: dict[str, int]

    @property
    def outcomes(self) -> int:
        """K, the joint values of the slice's latents."""
        return math.prod(self.latents.values())

    @property
    def noise(self) -> Space:
        """The latents as a space, which numbers the outcomes; next states that are random are primed."""
        names = tuple(primed(name) if name in self.states.names else name for name in self.latents)
        return Space(names, tuple(self.latents.values()), (torch.long,) * len(names), named=True)


@dataclass(frozen=True)
class Enumerated:
    """One slice enumerated, each factor no larger than its scope.

    Dimension -1 is the first state variable, then leftwards the other state variables, the actions, the latents.
    """

    log_prior: dict[str, Tensor]
    log_prob: dict[str, Tensor]
    next_values: dict[str, Tensor]
    reward: Tensor
    dims: dict[str, int]
    sizes: dict[str, int]


def depends_on_time(method: Callable[..., Any], position: int) -> bool:
    """Tell whether a method ever reads its argument ``t``, by its bytecode; a method that cannot be read counts as yes.

    Tabulating every time only to find all slices equal costs T times the work; an argument whose name is never loaded
    provably changes nothing.
    """
    function = inspect.unwrap(getattr(method, "__func__", method))
    code = getattr(function, "__code__", None)
    if code is None or function is not getattr(method, "__func__", method):
        return True
    parameters = list(inspect.signature(method).parameters.values())
    if len(parameters) <= position or parameters[position].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return True
    name = parameters[position].name

    def loads(instruction: dis.Instruction) -> bool:
        named = instruction.argval == name or (isinstance(instruction.argval, tuple) and name in instruction.argval)
        return named and not instruction.opname.startswith(("STORE", "MAKE_CELL"))

    reads_frame = {"locals", "vars", "eval", "exec"} & set(code.co_names)
    return bool(reads_frame) or any(loads(instruction) for instruction in dis.get_instructions(code))


def is_timed(world: World) -> bool:
    """Tell whether the slices may differ over time: its code reads t, and the world does not claim to be stationary."""
    reads = depends_on_time(world.act, 1) or depends_on_time(world.step, 2)
    return reads and not getattr(world, "stationary", False)


def start(world: World, choose: Choice | None = None, *, window: Names | None = None) -> tuple[Space, Enumerate]:
    """Enumerate ``initial``: the state space, and the messenger that holds its factors."""
    messenger = Enumerate("initial", choose=choose, window=window)
    state = run(messenger, world.initial)
    return _space(state, messenger, "initial"), messenger


def measure(world: World, t: int = 0) -> Shape:
    """Learn the sizes of a world from one value of each variable, at no cost in memory.

    Raises:
        WorldError, IntractableError: a piece fails on a single value, or a variable is not finite.
    """
    states, begin = start(world, first_value)
    state = states.pack(begin.values)
    act = Enumerate(f"act, t = {t}", choose=first_value)
    action = run(act, world.act, state, t)
    actions = _space(action, act, f"act, t = {t}")
    step = Enumerate(f"step, t = {t}", points=True, choose=first_value)
    _step(world, states, step, state, action, t)
    sizes = {**begin.cardinalities, **act.cardinalities, **step.cardinalities}
    names = labels_of(world, sizes, actions.names)
    require_known(world, sizes)
    return Shape(states.called(names), actions.called(names), dict(step.sizes), dict(step.cardinalities))


@dataclass(frozen=True)
class Single:
    """One slice on single values: the numbers of state, action and outcome, and what the world's code gives there.

    ``values`` and ``log_probs`` say the same variable by variable, the next state's primed.
    """

    s: int
    a: int
    k: int
    given: dict[str, Tensor]
    values: dict[str, int]
    log_probs: dict[str, Tensor]


def single(world: World, shape: Shape, t: int, choices: int, noise: int) -> Single:
    """Run a slice on single values: ``choices`` seeds which ones, ``noise`` seeds torch while the world's code runs."""
    g = torch.Generator().manual_seed(choices)

    def choose(n: int) -> int:
        return int(torch.randint(n, (), generator=g))

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(noise)
        states, begin = start(world, choose)
        state = states.pack(begin.values)
        act = Enumerate(f"act, t = {t}", choose=choose)
        action = run(act, world.act, state, t)
        step = Enumerate(f"step, t = {t}", points=True, choose=choose)
        following, reward = _step(world, shape.states, step, state, action, t)
        terminal = getattr(world, "terminal", None)
        last = torch.zeros(()) if terminal is None else terminal(state)
    k = 0
    for name, size in shape.latents.items():
        k = k * size + step.chosen[name]
    given = {
        "initial: log p": sum(begin.log_probs.values(), torch.zeros(())),
        "act: log p": sum(act.log_probs.values(), torch.zeros(())),
        "step: log p": sum(step.log_probs.values(), torch.zeros(())),
        "step: the next state's number": states.join(following),
        "step: the reward": reward,
        "terminal: the reward": torch.as_tensor(last),
    }
    names = {name: primed(name) if name in states.names else name for name in step.values}
    ahead = {
        names[name]: step.chosen.get(name, int(value)) for name, value in step.values.items() if value.numel() == 1
    }
    values = {**begin.chosen, **act.chosen, **ahead}
    log_probs = {**act.log_probs, **{names[name]: one for name, one in step.log_probs.items()}}
    s, a = int(shape.states.join(begin.values)), int(shape.actions.join(act.values))
    return Single(s, a, k, given, values, log_probs)


def enumerate_slice(
    world: World, shape: Shape, t: int, *, points: bool = True, window: Names | None = None
) -> Enumerated:
    """Run ``act`` and ``step`` at time ``t`` on all states of the shape, or those it keeps, and all actions at once.

    Without ``points`` every variable lies on a dimension of its own, what is a ``Point`` too; with a ``window`` those
    of its variables alone (next states primed), the others at their first value.

    Raises:
        WorldError: the code does not broadcast, or what it returns is not what it sampled.
        IntractableError: the variables are more than torch has dimensions.
    """
    kept, ahead = shape.states.kept, None if window is None else _sites(window, shape.states)
    states = spread(shape.states, window) if kept is None else shape.states.split(torch.arange(len(kept)))
    act = Enumerate(f"act, t = {t}", first=-1 - max(value.dim() for value in states.values()), window=window)
    action = run(act, world.act, shape.states.pack(states), t)
    actions = _space(action, act, f"act, t = {t}")
    if (actions.names, actions.sizes) != (shape.actions.names, shape.actions.sizes):
        seen, expected = (
            dict(zip(actions.names, actions.sizes, strict=True)),
            "the same variables and sizes at all times",
        )
        raise fault(f"act, t = {t}", f"{seen}", expected)
    step = Enumerate(f"step, t = {t}", first=act.next, points=points, window=ahead)
    next_state, reward = _step(world, shape.states, step, shape.states.pack(states), action, t)
    if points and step.sizes != shape.latents:
        raise fault(f"step, t = {t}", f"latents {step.sizes}", f"the same at all times, as at t = 0: {shape.latents}")
    return Enumerated(
        act.log_probs, step.log_probs, next_state, reward, {**act.dims, **step.dims}, {**act.sizes, **step.sizes}
    )


def _step(
    world: World, states: Space, step: Enumerate, state: Values, action: Values, t: int
) -> tuple[dict[str, Tensor], Tensor]:
    returned = run(step, world.step, state, action, t)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise fault(step.where, f"{type(returned).__name__} returned", "a pair: (next state, reward)")
    next_state, reward = returned
    names = variables(next_state, step.values, step.where)
    if set(names) != set(states.names):
        seen = f"a next state of variables {list(names)}"
        raise fault(step.where, seen, f"the state's own variables {list(states.names)}, as initial samples them")
    for name, size in zip(states.names, states.sizes, strict=True):
        if step.cardinalities[name] != size:
            where = f"{step.where}, variable '{name}'"
            raise fault(where, f"{step.cardinalities[name]} values", f"{size}, as in initial")
    try:
        reward = reward if isinstance(reward, Tensor) else torch.as_tensor(reward)
    except (TypeError, ValueError, RuntimeError):
        raise fault(step.where, f"a reward of type {type(reward).__name__}", "a tensor of rewards") from None
    return {name: step.values[name] for name in states.names}, reward


def slice_windows(world: World, shape: Shape, t: int) -> list[Window | None]:
    """Divide the slice of time t into runs of few variables; one run of all, None, where dimensions are enough."""
    if len(shape.states.names) + len(shape.actions.names) + len(shape.sites) <= ROOM:
        return [None]
    states = shape.states.pack({name: traced(one, name) for name, one in spread(shape.states, frozenset()).items()})
    act = Traced(f"act, t = {t}", {})
    action = run(act, world.act, states, t)
    step = Traced(f"step, t = {t}", {name: primed(name) for name in shape.states.names})
    _, reward = _step(world, shape.states, step, states, action, t)
    return list(windows(f"t = {t}", {**act.reads, **step.reads, REWARD: get_provenance(reward)}))


def start_windows(world: World, states: Space) -> list[Window | None]:
    """Divide the start into runs of few variables; one run of all, None, where dimensions are enough."""
    if len(states.names) <= ROOM:
        return [None]
    begin = Traced("initial", {})
    run(begin, world.initial)
    return list(windows("initial", begin.reads))


def _sites(window: Names, states: Space) -> Names:
    """Return the sites of ``step`` in a window: latents by their names, next states by those of their variables."""
    ahead = {name for name in states.names if primed(name) in window}
    return frozenset(ahead | {name for name in window if name not in states.names})


def _space(values: Values, messenger: Enumerate, where: str) -> Space:
    names = variables(values, messenger.values, where)
    latents = [name for name in messenger.values if name not in names]
    if latents:
        expected = "only the returned variables sampled here: a latent belongs into step"
        raise fault(where, f"latents {latents} sampled beside {list(names)}", expected)
    for name in messenger.dims:
        seen = messenger.values[name].reshape(-1)
        if not torch.equal(seen, torch.arange(len(seen)).to(seen.dtype)):
            span = f"values {seen[:3].tolist()} … {float(seen[-1]):g}"
            raise fault(f"{where}, variable '{name}'", span, "values 0 … n-1")
    dtypes = tuple(messenger.values[name].dtype for name in names)
    return Space(names, tuple(messenger.sizes[name] for name in names), dtypes, isinstance(values, dict))

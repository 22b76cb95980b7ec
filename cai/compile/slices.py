"""A world's slice, enumerated: its spaces, and the factors of the start, the prior and the step at one time."""

from dataclasses import dataclass

import torch
from pyro.ops.provenance import get_provenance
from torch import Tensor

from cai.compile.factor_model import primed
from cai.compile.windows import ROOM, Names, Traced, Window, spread, traced, windows
from cai.errors import fault
from cai.world.enumerate import Choice, Enumerate, require_no_latents, run, take_step
from cai.world.spaces import Space, Values, variable_names
from cai.world.spec import Spec

REWARD = "the reward"
"""What the reward is called among the factors of a slice."""


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


def start(spec: Spec, choose: Choice | None = None, *, window: Names | None = None) -> Enumerate:
    """Enumerate ``initial``: the messenger holds its factors."""
    messenger = Enumerate("initial", choose=choose, window=window)
    _require(spec.states, run(messenger, spec.world.initial), messenger)
    return messenger


def noise(spec: Spec) -> Space:
    """Return the latents as a space, which numbers the outcomes; next states that are random are primed."""
    names = tuple(primed(name) if name in spec.states.names else name for name in spec.latents)
    return Space(names, tuple(spec.latents.values()), (torch.long,) * len(names), named=True)


@dataclass(frozen=True)
class Single:
    """One slice on single values: the numbers of state, action and outcome, and what the world's code gives there.

    ``values`` and ``log_probs`` say the same variable by variable, the next state's primed.
    """

    s: int
    a: int
    k: int
    numbers: dict[str, Tensor]
    values: dict[str, int]
    log_probs: dict[str, Tensor]


def single(spec: Spec, t: int, choices: int, noise: int) -> Single:
    """Run a slice on single values: ``choices`` seeds which ones, ``noise`` seeds torch while the world's code runs."""
    g = torch.Generator().manual_seed(choices)

    def choose(n: int) -> int:
        return int(torch.randint(n, (), generator=g))

    states = spec.states
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(noise)
        begin = start(spec, choose)
        state = states.pack(begin.values)
        act = Enumerate(f"act, t = {t}", choose=choose)
        action = run(act, spec.world.act, state, t)
        step = Enumerate(f"step, t = {t}", points=True, choose=choose)
        following, reward = take_step(spec.world, spec.states, step, state, action, t)
        last = torch.zeros(()) if spec.terminal is None else spec.terminal(state)
    k = 0
    for name, size in spec.latents.items():
        k = k * size + step.chosen[name]
    numbers = {
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
    log_probs = {**act.log_probs, **{names[name]: log_prob for name, log_prob in step.log_probs.items()}}
    s, a = int(states.join(begin.values)), int(spec.actions.join(act.values))
    return Single(s, a, k, numbers, values, log_probs)


def enumerate_slice(
    spec: Spec, t: int, *, rows: Tensor | None = None, points: bool = True, window: Names | None = None
) -> Enumerated:
    """Run ``act`` and ``step`` at time ``t`` on all states, or those of the numbers ``rows``, and all actions at once.

    Without ``points`` every variable lies on a dimension of its own, what is a ``Point`` too; with a ``window`` those
    of its variables alone (next states primed), the others at their first value.

    Raises:
        WorldError: the code does not broadcast, or what it returns is not what it sampled.
        IntractableError: the variables are more than torch has dimensions.
    """
    ahead = None if window is None else _sites(window, spec.states)
    states = spread(spec.states, window) if rows is None else spec.states.split(rows)
    act = Enumerate(f"act, t = {t}", first=-1 - max(value.dim() for value in states.values()), window=window)
    action = run(act, spec.world.act, spec.states.pack(states), t)
    _require(spec.actions, action, act)
    step = Enumerate(f"step, t = {t}", first=act.next, points=points, window=ahead)
    next_state, reward = take_step(spec.world, spec.states, step, spec.states.pack(states), action, t)
    if points and step.sizes != spec.latents:
        raise fault(f"step, t = {t}", f"latents {step.sizes}", f"the same at all times, as at t = 0: {spec.latents}")
    return Enumerated(
        act.log_probs, step.log_probs, next_state, reward, {**act.dims, **step.dims}, {**act.sizes, **step.sizes}
    )


def slice_windows(spec: Spec, t: int) -> list[Window | None]:
    """Divide the slice of time t into runs of few variables; one run of all, None, where dimensions are enough."""
    if len(spec.states.names) + len(spec.actions.names) + len(spec.sites) <= ROOM:
        return [None]
    states = spec.states.pack({name: traced(value, name) for name, value in spread(spec.states, frozenset()).items()})
    act = Traced(f"act, t = {t}", {})
    action = run(act, spec.world.act, states, t)
    step = Traced(f"step, t = {t}", {name: primed(name) for name in spec.states.names})
    _, reward = take_step(spec.world, spec.states, step, states, action, t)
    return list(windows(f"t = {t}", {**act.scopes, **step.scopes, REWARD: get_provenance(reward)}))


def start_windows(spec: Spec) -> list[Window | None]:
    """Divide the start into runs of few variables; one run of all, None, where dimensions are enough."""
    if len(spec.states.names) <= ROOM:
        return [None]
    begin = Traced("initial", {})
    run(begin, spec.world.initial)
    return list(windows("initial", begin.scopes))


def _sites(window: Names, states: Space) -> Names:
    """Return the sites of ``step`` in a window: latents by their names, next states by those of their variables."""
    ahead = {name for name in states.names if primed(name) in window}
    return frozenset(ahead | {name for name in window if name not in states.names})


def _require(space: Space, values: Values, messenger: Enumerate) -> None:
    """Raise unless a piece returned the variables of a space, all that it sampled, with values 0 … n-1."""
    where = messenger.where
    names = variable_names(values, messenger.values, where)
    require_no_latents(messenger, names)
    for name in messenger.dims:
        seen = messenger.values[name].reshape(-1)
        if not torch.equal(seen, torch.arange(len(seen)).to(seen.dtype)):
            span = f"values {seen[:3].tolist()} … {float(seen[-1]):g}"
            raise fault(f"{where}, variable '{name}'", span, "values 0 … n-1")
    sizes = {name: messenger.sizes[name] for name in names}
    if tuple(sizes.items()) != tuple(zip(space.names, space.sizes, strict=True)):
        raise fault(where, f"{sizes}", "the same variables and sizes at all times")

"""switching: a world of modes and real variables as a switching linear-Gaussian system."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.linearise import linearise
from cai.compile.mode_chain import InMode, Leaf, leaves
from cai.compile.quadratic import stacked
from cai.compile.switching_model import SwitchingLinear
from cai.compile.windows import traced
from cai.errors import Finding, IntractableError, fault
from cai.support.process import precision
from cai.world.coordinates import Coordinates
from cai.world.definition import World
from cai.world.enumerate import Enumerate, first_value, run
from cai.world.labels import labels_of
from cai.world.mixed import MixedSpace
from cai.world.spaces import Space, Values, Variable
from cai.world.spec import Spec, read

Key = tuple[int, tuple[tuple[str, int], ...]]
"""A switch: the mode that it leaves, and the value of each finite site of ``step``."""


def is_mixed(spec: Spec) -> bool:
    """Return whether some state variables are finite and others not."""
    finite = [variable.size is not None for variable in spec.variables.states]
    return any(finite) and not all(finite)


def switching(world: World | Spec) -> SwitchingLinear:
    """Compile a mixed world: ``mode' ~ p(mode'|mode)``, ``x' = F y + d`` and ``r(y)`` of each switch, y = (x, a, z).

    The program is run once for each joint value of its finite variables, with these forced, and each run is read by
    ``linearise``.

    Args:
        world: its state is a dict of finite variables (the mode) and real ones, its actions are real.

    Raises:
        WorldError: the program is not valid.
        IntractableError: a finite variable depends on a real one, an action is finite, or in some mode the world is
            not linear-Gaussian; the error names the variable or the site.
    """
    with precision(torch.float64):
        spec = read(world)
        space = _space(spec)
        log_modes = _start(spec, space)
        state, action = _example(spec, space)
        chain = [_switches(spec, space, state, action, t) for t in range(spec.times)]
        switches = dict(sorted((switch for found in chain for switch in found.items()), key=lambda switch: switch[0]))
        each = {key: _in_mode(spec, space, key[0], leaf.values) for key, leaf in switches.items()}
        return _together(spec, space, log_modes, chain, each)


def _space(spec: Spec) -> MixedSpace:
    """Return the modes and the real coordinates of the state."""
    variables = spec.variables
    finite = [variable for variable in variables.states if variable.size is not None]
    reals = [variable for variable in variables.states if variable.size is None]
    for variable in variables.actions:
        if variable.size is not None:
            expected = "a real action: a mixed world has real actions alone"
            raise IntractableError(
                [Finding(f"act, variable '{variable.name}'", f"{variable.size} values, a finite variable", expected)]
            )
    if not finite or not reals:
        kind = "finite" if not reals else "real"
        seen = f"{kind} state variables alone, {[variable.name for variable in variables.states]}"
        raise fault("initial", seen, "finite variables, the mode, and real ones beside them")
    if spec.terminated is not None:
        raise IntractableError([Finding("terminated", "an end of the episode", "none in a mixed world")])
    modes = _numbered(finite).called(labels_of(spec.labels, None, {v.name: v.size or 0 for v in finite}))
    return MixedSpace(modes, Coordinates.of(reals, True), tuple(variable.name for variable in variables.states))


def _numbered(finite: Sequence[Variable]) -> Space:
    sizes = tuple(variable.size or 0 for variable in finite)
    return Space(tuple(v.name for v in finite), sizes, tuple(v.dtype for v in finite), named=True)


def _start(spec: Spec, space: MixedSpace) -> Tensor:
    """Return log p(mode of s_0), nats."""
    log_modes = torch.full((space.modes.size,), -torch.inf)
    for leaf in leaves("initial", spec.world.initial):
        extra = [name for name in leaf.values if name not in space.modes.names]
        if extra:
            raise fault(
                "initial", f"latents {extra} sampled", "the state's variables alone: a latent belongs into step"
            )
        i = int(space.modes.join(leaf.values))
        log_modes = log_modes.index_put((torch.tensor(i),), leaf.log_prob)
    return log_modes


def _example(spec: Spec, space: MixedSpace) -> tuple[dict[str, Tensor], Values]:
    """Return the real part of a state, and an action, each tensor marked by the name of its variable."""
    assert isinstance(spec.example, dict)
    state = {name: traced(spec.example[name], name) for name in space.reals.names}
    drawn = run(Enumerate("act, t = 0", choose=first_value, lenient=True), spec.world.act, spec.example, 0)
    if isinstance(drawn, dict):
        return state, {name: traced(value, name) for name, value in drawn.items()}
    return state, traced(drawn, spec.variables.actions[0].name)


def _switches(spec: Spec, space: MixedSpace, state: dict[str, Tensor], action: Values, t: int) -> dict[Key, Leaf]:
    """Return the possible switches of time t."""
    found: dict[Key, Leaf] = {}
    for i in range(space.modes.size):
        whole = {**state, **space.modes.split(torch.tensor(i))}
        for leaf in leaves(f"step, t = {t}", partial(spec.world.step, whole, action, t)):
            missing = [name for name in space.modes.names if name not in leaf.values]
            if missing:
                raise fault(f"step, t = {t}", f"no site {missing}", "a site for each variable of the next state")
            found[i, tuple((name, int(value)) for name, value in leaf.values.items())] = leaf
    return found


def _in_mode(spec: Spec, space: MixedSpace, mode: int, switch: dict[str, Tensor]) -> LinearGaussian:
    """Return the linear-Gaussian system of the real variables where all finite ones have these values."""
    return linearise(InMode(spec, space.modes.split(torch.tensor(mode)), switch, space.reals.names))


def _together(
    spec: Spec,
    space: MixedSpace,
    log_modes: Tensor,
    chain: list[dict[Key, Leaf]],
    each: dict[Key, LinearGaussian],
) -> SwitchingLinear:
    """Stack the systems of all switches."""
    keys, systems = list(each), list(each.values())
    first = systems[0]
    for key, system in each.items():
        if system.sites != first.sites:
            seen = f"the real variables {list(system.sites.names)} in mode {space.modes.label(key[0])}"
            raise fault("step", seen, f"the same in every mode: {list(first.sites.names)}")
    noise = max(system.noise for system in systems)
    never = first.start_mean.new_tensor(-torch.inf)
    log_switch = torch.stack(
        [torch.stack([found[key].log_prob if key in found else never for key in keys]) for found in chain]
    )
    timed = any(system.timed for system in systems) or not bool((log_switch == log_switch[0]).all())
    at_start = [next(system for key, system in each.items() if key[0] == i) for i in range(space.modes.size)]
    widest = max(system.start_scale.shape[-1] for system in at_start)
    return SwitchingLinear(
        source=torch.tensor([mode for mode, _ in keys]),
        target=torch.stack([_entered(space, dict(switch)) for _, switch in keys]),
        log_switch=log_switch if timed else log_switch[0],
        slices=stacked([_alike(system, noise, timed) for system in systems], int(timed)),
        log_modes=log_modes,
        start_mean=torch.stack([system.start_mean for system in at_start]),
        start_scale=torch.stack(
            [pad(system.start_scale, (0, widest - system.start_scale.shape[-1])) for system in at_start]
        ),
        terminal=stacked([system.terminal for system in at_start]),
        horizon=first.horizon,
        discount=first.discount,
        timed=timed,
        states=space,
        actions=first.actions,
        sites=first.sites,
    )


def _entered(space: MixedSpace, switch: dict[str, int]) -> Tensor:
    return space.modes.join({name: torch.tensor(switch[name]) for name in space.modes.names})


def _alike(system: LinearGaussian, k: int, timed: bool) -> LinearSlice:
    """Return a system's slices with a time axis where others have one, and with k coordinates of noise.

    Nothing depends on the added coordinates. ``log_volume`` is less by ½ log 2π for each: their density is 1.
    """
    T, each, more = system.horizon or 1, system.slices, k - system.noise
    if timed and not system.timed:
        each = each.each(lambda x: x.expand(T, *x.shape))
    return replace(
        each,
        transition=pad(each.transition, (0, more)),
        reward=each.reward.lifted(more),
        readout=pad(each.readout, (0, more)),
        log_volume=each.log_volume - 0.5 * more * math.log(2 * math.pi),
    )

"""A world under conditions: the program itself, and whatever it is compiled to."""

from typing import Any, TypeAlias, overload

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from cai.compile.conditioned_models import condition_factors, condition_tables, point_mass
from cai.compile.conditioned_real import ConditionedReal
from cai.compile.factor_model import Factors
from cai.compile.linear_conditions import forced_action, observed
from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import linearise
from cai.compile.real_program import is_real
from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.compile.virtual_evidence import VirtualEvidence, require_alive
from cai.errors import fault
from cai.world.conditions import Conditions, Given, read_conditions, settled
from cai.world.definition import Point, World
from cai.world.distributions import Numbered
from cai.world.enumerate import base
from cai.world.labels import labels_of
from cai.world.spec import Spec, read

Compiled: TypeAlias = Any
"""A world compiled to one of the forms."""


@overload
def condition(world: Tables, *, observe: Given | None = ..., do: Given | None = ...) -> Tables: ...
@overload
def condition(world: Factors, *, observe: Given | None = ..., do: Given | None = ...) -> Factors: ...
@overload
def condition(world: LinearGaussian, *, observe: Given | None = ..., do: Given | None = ...) -> LinearGaussian: ...
@overload
def condition(world: World, *, observe: Given | None = ..., do: Given | None = ...) -> World: ...
def condition(
    world: World | Tables | Factors | LinearGaussian, *, observe: Given | None = None, do: Given | None = None
) -> World | Tables | Factors | LinearGaussian:
    """Return the world under conditions, in the same form: world, tables, factors or linear-Gaussian system.

    ``observe`` multiplies p(τ, O=1) by 1 where the site has the value and by 0 elsewhere, like one more optimality
    node. It can set a goal in place of a reward. Likelihoods in place of a value make an uncertain observation: p(τ,
    O=1) is multiplied by the likelihood of the site's value. They need not sum to 1, and log Z contains them as they
    are. VARIATIONAL and HARD need a policy under which the observed event is certain; without one they have no finite
    answer. ``do`` replaces the site's distribution by a point mass, which cuts the edges from its parents (Pearl 2009,
    section 3.2). With a discount a condition applies only while the trajectory is alive.

    A real variable takes numbers of its shape, ``{"position_5": 1.5}``, or one of its coordinates does,
    ``{"state[0]_5": 1.5}``; log Z is then the log of a density at what was seen. A Normal or MultivariateNormal in
    place of the numbers makes an uncertain observation, by the density of the site's value. What is certain anyway, as
    a state that no noise and no action can change, counts 1 where it is true.

    Args:
        world: a world, or the tables, factors or linear-Gaussian system it was compiled to.
        observe: a dict by site. An entry is a value, by number or by name, ``{"floor_5": 3}``, or a likelihood from 0
            to 1 for each value, ``{"floor_5": [0.3, 0.7]}``. States have times 0 … T, actions and latents 0 … T-1.
        do: a dict by site of values.

    Raises:
        WorldError: a site or a value does not exist, the horizon is infinite, or the compiled form no longer has the
            site.
    """
    conditions = read_conditions(observe, do)
    if not conditions:
        return world
    if isinstance(world, Tables):
        return condition_tables(world, conditions)
    if isinstance(world, LinearGaussian):
        return observed(forced_action(world, conditions), conditions)
    if isinstance(world, Factors):
        return condition_factors(world, conditions)
    return (ConditionedReal if is_real(read(world)) else Conditioned)(world, conditions)


def conditioned(world: World | Spec | Compiled, model: Compiled, conditions: Conditions) -> Compiled:
    """Put conditions on a compiled world; where its model has forgotten a site, the world is compiled anew."""
    if not conditions:
        return model
    if isinstance(model, LinearGaussian):
        if conditions.forced and not isinstance(world, LinearGaussian):
            return linearise(ConditionedReal(world, conditions))
        return observed(forced_action(model, conditions), conditions)
    if isinstance(model, Factors):
        return condition_factors(model, conditions, _names(world))
    if not isinstance(model, Tables):
        expected = "a world of finite variables alone, or of real ones alone: put the goal into the reward"
        raise fault("observe, do", f"a world compiled to {type(model).__name__}", expected)
    names = {*model.states.names, *model.actions.names}
    visible = not conditions.forced and all(name in names for name, _ in conditions.seen)
    if isinstance(world, Tables | Factors) or visible:
        return condition_tables(model, conditions)
    return tabulate(Conditioned(world, conditions))


class Conditioned:
    """A world under conditions: its slices force some sites and forbid values that contradict the evidence.

    Args:
        world: the world.
        conditions: on its sites.

    Raises:
        WorldError: a condition names no site of the world.
    """

    stationary = False

    def __init__(self, world: World | Spec, conditions: Conditions) -> None:
        spec = read(world)
        self.world, self.own_terminal, self.own_terminated = spec.world, spec.terminal, spec.terminated
        self.name, self.horizon, self.discount, self.layout = spec.name, spec.horizon, spec.discount, spec.layout
        self.observe, self.features, self.labels = spec.observe, spec.features, spec.labels
        self.names = (spec.states.names, spec.actions.names)
        states = spec.states.named_sizes
        latents = {name: size for name, size in spec.sites.items() if name not in states}
        others = {**spec.actions.named_sizes, **latents}
        names = labels_of(spec.labels, spec.layout, {**others, **states})
        self.conditions = settled(conditions, states, others, self.horizon, names)
        require_alive(self.conditions, self.horizon, spec.discount)
        self.virtual = VirtualEvidence(self.conditions.likelihoods, states, self.horizon or 0)

    @property
    def terminal(self) -> Any:
        """The terminal reward, -inf where it disagrees with evidence on s_T; None where there is neither."""
        own, seen = self.own_terminal, self._seen(self.horizon or 0)
        if not seen:
            return own
        return lambda state: (0.0 if own is None else own(state)) + _disagreement(seen, _named(state, self.names[0]))

    @property
    def terminated(self) -> Any:
        """Tells where an episode has ended; None where a condition has a say there too."""
        return self.own_terminated if self.conditions.spare_ends(self.names[0]) else None

    def initial(self) -> Any:
        """Sample s_0."""
        with _Force(self._forced(0)):
            return self.world.initial()

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t."""
        with _Force(self._forced(t)):
            return self.world.act(state, t)

    def step(self, state: Any, action: Any, t: int) -> tuple[Any, Tensor]:
        """Sample s_{t+1}, and the reward: -inf where the slice disagrees with evidence."""
        states, actions = self.names
        now = {name: value for name, value in self._forced(t).items() if name not in states}
        ahead = {name: value for name, value in self._forced(t + 1).items() if name in states}
        with _Force({**now, **ahead}) as forced:
            after, reward = self.world.step(state, action, t)
        seen = self._seen(t)
        if not seen and not self.virtual:
            return after, reward
        values = {**forced.values, **_named(state, states), **_named(action, actions)}
        blind = self.virtual.sample(t, values, _named(after, states))
        return after, reward + _disagreement(seen, values) + blind

    def _seen(self, t: int) -> dict[str, int]:
        return {name: value for (name, time), value in self.conditions.hard_evidence.items() if time == t}

    def _forced(self, t: int) -> dict[str, int]:
        return {name: value for (name, time), value in self.conditions.forced_values.items() if time == t}


class _Force(Messenger):
    """Replaces the distributions of some sites by point masses, and keeps the values of all."""

    def __init__(self, values: dict[str, int]) -> None:
        super().__init__()
        self.forced = values
        self.values: dict[str, Tensor] = {}
        self.now = ""

    def _pyro_sample(self, msg: Any) -> None:
        self.now = msg["name"]  # by the time it is sampled an outer messenger may have set its time on it
        if msg["name"] in self.forced:
            value, point = self.forced[msg["name"]], base(msg["fn"])
            if isinstance(point, Point):  # a Point adds no axis to the tables, also when it is forced
                msg["fn"] = Point(torch.tensor(value), point.cardinality)
            else:
                support = msg["fn"].enumerate_support(expand=False).reshape(-1)
                msg["fn"] = Numbered(point_mass(len(support), value, torch.get_default_dtype()), support.dtype)

    def _pyro_post_sample(self, msg: Any) -> None:
        self.values[self.now] = msg["value"]


def _named(values: Any, names: tuple[str, ...]) -> dict[str, Tensor]:
    return dict(values) if isinstance(values, dict) else {names[0]: values}


def _disagreement(seen: dict[str, int], values: dict[str, Tensor]) -> Any:
    """Return 0 where the values agree with what was seen, else -inf; one small term for each variable."""
    total: Any = 0.0
    for name, value in seen.items():
        total = total + torch.where(values[name] == value, 0.0, -torch.inf)
    return total


def _names(world: World | Spec | Tables | Factors) -> dict[str, tuple[str | None, ...]]:
    """Return what a world calls values of its latents, which factors do not keep."""
    if isinstance(world, Tables | Factors):
        return {}
    spec = read(world)
    return labels_of(spec.labels, spec.layout, spec.sites)

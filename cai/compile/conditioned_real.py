"""A world of real variables under conditions, as a program."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from cai.compile.linear_conditions import Fact, read_facts
from cai.compile.real_program import RealProgram, real_program
from cai.errors import fault
from cai.support.process import precision
from cai.world.conditions import Conditions
from cai.world.coordinates import Coordinates
from cai.world.definition import World
from cai.world.intervened import Intervened
from cai.world.spec import Spec, read


class ConditionedReal:
    """A world of real variables under conditions: the program under ``do``, and the evidence of ``observe``.

    Args:
        world: the world.
        conditions: on its sites.

    Raises:
        WorldError: a condition names no site of the world, or a value is none of its.
    """

    def __init__(self, world: World | Spec, conditions: Conditions) -> None:
        with precision(torch.float64):
            program = real_program(read(world))
            spaces = (program.states, program.actions, program.sites())
        facts = read_facts("do", conditions.forced, spaces, program.spec.horizon)
        read_facts("observe", conditions.seen, spaces, program.spec.horizon)
        self.forced = Forced(program, facts) if facts else program.spec.world
        self.conditions = Conditions(conditions.seen, {})
        self.name, self.horizon, self.discount = program.spec.name, program.spec.horizon, program.spec.discount
        self.terminal, self.observe, self.features = (
            getattr(program.spec, member) for member in ("terminal", "observe", "features")
        )

    def initial(self) -> Any:
        """Sample s_0."""
        return self.forced.initial()

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t."""
        return self.forced.act(state, t)

    def step(self, state: Any, action: Any, t: int) -> tuple[Any, Tensor]:
        """Sample s_{t+1}, and the reward.

        Raises:
            WorldError: a real variable was observed: its evidence is a density, which is no reward.
        """
        if self.conditions:
            expected = "cai.solve or cai.linearise, which take it; or pyro.condition on cai.trajectory(world)"
            raise fault("observe", "evidence on a real variable, in a program that is run", expected)
        return self.forced.step(state, action, t)


class Forced:
    """A world of real variables under ``do``: what depends on a forced variable has its value."""

    def __init__(self, program: RealProgram, facts: Sequence[Fact]) -> None:
        spec = program.spec
        self.world, self.name, self.horizon, self.discount = spec.world, spec.name, spec.horizon, spec.discount
        self.terminal, self.observe, self.features = spec.terminal, spec.observe, spec.features
        self.states = program.states.names
        self.masks: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        sites = {**_shapes(program.sites()), **_shapes(program.states), **_shapes(program.actions)}
        for fact in facts:
            shape, among = sites[fact.variable], list(fact.among)
            none = torch.zeros(shape, dtype=torch.bool), fact.value.new_zeros(shape)
            mask, value = (part.flatten().clone() for part in self.masks.get((fact.variable, fact.t), none))
            mask[among], value[among] = True, fact.value
            self.masks[fact.variable, fact.t] = mask.reshape(shape), value.reshape(shape)

    def initial(self) -> Any:
        """Sample s_0."""
        with _Set(self._at(0)):
            return self.world.initial()

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t."""
        with _Set(self._at(t)):
            return self.world.act(state, t)

    def step(self, state: Any, action: Any, t: int) -> tuple[Any, Tensor]:
        """Sample s_{t+1}, and the reward."""
        now = {name: value for name, value in self._at(t).items() if name not in self.states}
        ahead = {name: value for name, value in self._at(t + 1).items() if name in self.states}
        with _Set({**now, **ahead}):
            returned: tuple[Any, Tensor] = self.world.step(state, action, t)
            return returned

    def _at(self, t: int) -> dict[str, tuple[Tensor, Tensor]]:
        return {name: value for (name, time), value in self.masks.items() if time == t}


def _shapes(space: Coordinates) -> dict[str, torch.Size]:
    return dict(zip(space.names, space.shapes, strict=True))


class _Set(Messenger):
    """Replaces the distributions of some sites by those after an intervention."""

    def __init__(self, values: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            mask, value = self.values[msg["name"]]
            msg["fn"] = Intervened(msg["fn"], mask, value.to(torch.get_default_dtype()))

"""RDDL in: a problem in the planning competitions' language becomes a world with one variable a fluent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor

from cai.bridges.rddl.domain import Domain, read_domain
from cai.bridges.rddl.expressions import Evaluation, number, truth
from cai.bridges.rddl.grounding import ground
from cai.world.definition import Point, World
from cai.world.spec import read


class RDDLWorld:
    """A grounded RDDL problem as a world: one variable for each state fluent; of actions, see ``from_rddl``.

    Variables are named like fluents, ``running(c1)``; truth values are 0 and 1, objects are numbered in their order,
    real numbers are real sites. A termination condition makes its states absorbing, without any further reward.

    Attributes:
        action_names: what each number of the variable "action" does; empty where every action fluent is a variable.
    """

    stationary = True  # RDDL knows no time

    def __init__(self, name: str, domain: Domain, horizon: int, discount: float) -> None:
        self.name, self.domain, self.horizon, self.discount = name, domain, horizon, discount
        self.labels = dict(domain.actions.labels)
        self.action_names = self.labels.get("action", ())
        self.terminated = None if domain.done is None else self._done

    def initial(self) -> dict[str, Tensor]:
        """Sample the instance's first state."""
        state = {}
        for name, value in self.domain.start.items():
            fluent = self.domain.fluents[name]
            first = (
                Delta(torch.tensor(float(value))) if fluent.size is None else Point(torch.tensor(value), fluent.size)
            )
            state[fluent.label] = pyro.sample(fluent.label, first)
        return state

    def act(self, state: Any, t: int) -> Any:
        """Sample the action prior: uniform over what the preconditions allow."""
        return self.domain.actions.sample(self.domain.rules, self.domain.fluents, self._named(state))

    def step(self, state: Any, action: Any, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Sample every state fluent's next value, and the random intermediate fluents that are read on the way."""
        domain = self.domain
        run = Evaluation(domain.rules, domain.fluents, {**self._named(state), **domain.actions.fluents(action)})
        following = {domain.fluents[name].label: run.sample(then) for name, then in domain.following.items()}
        reward: Any = 0.0
        for i, (scale, term) in enumerate(domain.reward):
            part = number(run.value(term))
            part = part if scale == 1 else scale * part
            reward = reward + part if i else part  # a sum of small tensors, which a compiler may keep apart
        for beyond in (*run.beyond, *(~truth(run.value(condition)) for condition in domain.actions.charged)):
            reward = reward + torch.where(beyond, -torch.inf, 0.0)
        return following, reward if isinstance(reward, Tensor) else torch.tensor(reward)

    def _named(self, state: Any) -> dict[str, Tensor]:
        return {name: state[self.domain.fluents[name].label] for name in self.domain.start}

    def _done(self, state: Any) -> Tensor:
        run = Evaluation(self.domain.rules, self.domain.fluents, self._named(state))
        done: Tensor = truth(run.value(self.domain.done))
        return done


class PartiallyObservedRDDLWorld(RDDLWorld):
    """A world whose domain has observation fluents: ``observe(state)`` samples them at sites of their names."""

    partially_observed = True

    def observe(self, state: Any) -> dict[str, Tensor]:
        """Sample what is observed on entering a state, ``{fluent: 0 … size-1}``."""
        domain, now = self.domain, self._named(state)
        then = {domain.following[name]: value for name, value in now.items()}
        run = Evaluation(domain.rules, domain.fluents, {**now, **then})
        return {domain.fluents[name].label: run.sample(name) for name in domain.observed}


def from_rddl(
    problem: str | Path,
    instance: str | int | Path = 1,
    *,
    horizon: int | None = None,
    discount: float | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    deviation: float = 1.0,
) -> World:
    """Import an RDDL problem as a world whose state is a dict of the grounded fluents.

    Truth values, objects, and whole numbers between bounds are finite variables; all other numbers are real ones. Where
    every fluent is finite, ``solve`` takes the world as tables or factors. Where some are real, simulators and
    approximate inference take it: random draws are sites, and a fluent that is certain is a ``Delta``.

    Where the action fluents are finite and few, the values of the one action variable, "action", are the joint actions
    with at most ``max-nondef-actions`` fluents off their default; number 0 has all at their default. Joint actions that
    a precondition on actions forbids are left out. An action that a precondition forbids in some states has prior 0
    there. Otherwise every action fluent is a variable of its own: a finite one is uniform; a real one is uniform within
    bounds that preconditions such as ``release <= level`` give, half-normal from its only bound on, or normal around
    its default. A step that breaks another precondition then has a reward of -inf. State-action
    constraints count as preconditions. Invariants, and conditions that read no action, are not checked (bounds of an
    int fluent are read from them). A partially observed problem also has the method ``observe(state)``.

    Args:
        problem: a name of rddlrepository such as "SysAdmin_MDP_ippc2011", or the path of a domain file.
        instance: its number there, or the path of an instance file.
        horizon: T, in place of the instance's.
        discount: γ, in place of the instance's.
        bounds: the least and the largest value of int fluents, and of real action fluents, by name, ``{"waiting":
            (0, 3)}`` or ``{"waiting(f0)": (0, 3)}``. A step of an int fluent beyond them has a reward of -inf. Choose
            them wide enough that no trajectory of this horizon leaves them; then the world is exact.
        deviation: of the prior of a real action fluent that lacks a bound, in its units.

    Raises:
        WorldError: pyRDDLGym or rddlrepository is missing, there is no such problem, or it cannot be parsed.
        IntractableError: the number of joint actions is too large, an int action fluent has no bounds, or the
            domain has a distribution, a function or a kind of fluent that is not known.
    """
    model = ground(problem, instance)
    domain = read_domain(model, bounds, deviation)
    kind = PartiallyObservedRDDLWorld if domain.observed else RDDLWorld
    T = int(model.horizon) if horizon is None else horizon
    gamma = float(model.discount) if discount is None else discount
    world = kind(f"{model.domain_name}, {model.instance_name}", domain, T, gamma)
    read(world)
    return world

"""q_learning and soft_q_learning: on a table where states are finite, else with a network."""

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from cai.errors import fault
from cai.learn.neural_q import NeuralQ
from cai.learn.result import Learned
from cai.learn.tabular_q import Schedule, Tabular, recent
from cai.learn.training import Options, chosen, train
from cai.simulate.rollout import signature_of
from cai.world.definition import World

TABLE: dict[str, Any] = {"batch": 500, "lr": recent, "explore": 0.1}
NETWORK: dict[str, Any] = {"batch": 32, "lr": 2e-3, "explore": 0.05}


def q_learning(
    world: Any,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    batch: int | None = None,
    lr: float | Schedule | None = None,
    explore: float | None = None,
    behaviour: Any = None,
    network: Sequence[int] | Any = None,
    stationary: bool = False,
    max_steps: int | None = None,
    settle: bool = True,
    double: bool = True,
    n_step: int = 10,
    minibatch: int = 128,
    updates: int = 2,
    warmup: int = 1000,
    capacity: int = 100_000,
    polyak: float = 0.005,
    **options: Unpack[Options],
) -> Learned:
    """Learn by Q-learning: ``θ ← θ + lr ∇Q(s,a) (r + γ max_a' Q(s',a') - Q(s,a))`` (Watkins 1989; Mnih et al. 2015).

    On a table (one for each time, where the horizon is finite) from whole episodes, the last step first; with a network
    from a replay ring and a target network.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α, reward units, at which the policy is measured; learning is hard and does not use it.
        gamma: the discount; the world's own unless given, and 0.99 where that is 1 for a network or an environment.
        batch: copies of the world: 500 episodes at a time for a table, 32 steps at a time for a network.
        lr: the step size; for a table also a function of how often each entry was visited, 5/(4 + n) unless given.
        explore: the share of actions that follow the prior; 0.1 for a table; for a network it falls from 1 to 0.05.
        behaviour: a policy to learn from, whatever it does, in place of the learner's own.
        network: hidden widths, or a torch module on the features; None is a table, or (64, 64) where there is none.
        stationary: one table for all times; a network always stands for all.
        max_steps: cut episodes off after so many steps; needed for a table without a horizon.
        settle: let the network's step size fall to 0 over the steps.
        double: choose the next action by the network, and value it by the target (van Hasselt et al. 2016).
        n_step: how many rewards stand in a network's target before the bootstrap.
        minibatch: transitions a network's update.
        updates: of the network after each step of the copies.
        warmup: environment steps before the first of them.
        capacity: transitions that the replay ring holds.
        polyak: how far the target network moves to the network at each update.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument does not conform.
    """
    return _learn("q_learning", False, 0.0, world, temperature, locals(), options)


def soft_q_learning(
    world: Any,
    *,
    temperature: float = 1.0,
    gamma: float | None = None,
    batch: int | None = None,
    lr: float | Schedule | None = None,
    explore: float | None = None,
    behaviour: Any = None,
    network: Sequence[int] | Any = None,
    stationary: bool = False,
    max_steps: int | None = None,
    settle: bool = True,
    double: bool = True,
    n_step: int = 10,
    minibatch: int = 128,
    updates: int = 2,
    warmup: int = 1000,
    capacity: int = 100_000,
    polyak: float = 0.005,
    value_gradient: float = 0.0,
    **options: Unpack[Options],
) -> Learned:
    """Learn by soft Q-learning: ``θ ← θ + lr ∇Q(s,a) (r + γ V(s') - Q(s,a))``, V = α log Σ_a p(a|s) exp(Q(s,a)/α).

    (Haarnoja et al. 2017, section 3.) The update drops a term -∇V(s) δ, without which it is no gradient of the
    objective; ``value_gradient`` restores a share c of it, ``(∇Q - c ∇V) δ``. At c = 1 it is the soft policy gradient's
    direction, and nothing learns the level of V any more.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α > 0, reward units.
        gamma: the discount; the world's own unless given, and 0.99 where that is 1 for a network or an environment.
        batch: copies of the world: 500 episodes at a time for a table, 32 steps at a time for a network.
        lr: the step size; for a table also a function of how often each entry was visited, 5/(4 + n) unless given.
        explore: the share of actions that follow the prior; 0.1 for a table; for a network it falls from 1 to 0.05.
        behaviour: a policy to learn from, whatever it does, in place of the learner's own.
        network: hidden widths, or a torch module on the features; None is a table, or (64, 64) where there is none.
        stationary: one table for all times; a network always stands for all.
        max_steps: cut episodes off after so many steps; needed for a table without a horizon.
        settle: let the network's step size fall to 0 over the steps.
        double: value the next state by the network's policy under the target's Q.
        n_step: how many rewards stand in a network's target before the bootstrap, the KL between them paid.
        minibatch: transitions a network's update.
        updates: of the network after each step of the copies.
        warmup: environment steps before the first of them.
        capacity: transitions that the replay ring holds.
        polyak: how far the target network moves to the network at each update.
        value_gradient: the share c of the dropped term.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument does not conform.
    """
    return _learn("soft_q_learning", True, value_gradient, world, temperature, locals(), options)


def _learn(
    name: str, soft: bool, c: float, world: Any, temperature: Any, given: dict[str, Any], options: Any
) -> Learned:
    world, options = chosen(world, options)
    shared = {"name": name, "soft": soft, "value_gradient": c, "behaviour": given["behaviour"]}
    tabular = given["network"] is None and signature_of(world).spaces is not None
    cheap, gamma = tabular and isinstance(world, World), given["gamma"]
    if gamma is None and not cheap and getattr(world, "discount", 1.0) == 1.0:
        gamma = 0.99  # one Q for all times, of what may go on for ever
    usual = TABLE if tabular else NETWORK
    shared |= {key: usual[key] if given[key] is None else given[key] for key in usual}
    shared["budget"] = options.get("steps", 2_000_000 if cheap else 100_000)
    if tabular:
        if cheap and world.horizon is None and given["max_steps"] is None:
            raise fault(f"{name}, max_steps", "none, on a world without a horizon", "where to cut episodes off")
        own = {key: given[key] for key in ("stationary", "max_steps")}
        return train(Tabular(**shared, **own), world, temperature=temperature, gamma=gamma, **options)
    if callable(shared["lr"]):
        raise fault(f"{name}, lr", "a function", "a number, for a network")
    keys = ("settle", "double", "n_step", "minibatch", "updates", "warmup", "capacity", "polyak", "max_steps")
    own = {**{key: given[key] for key in keys}, "network": given["network"] or (64, 64), "dtype": torch.float32}
    return train(NeuralQ(**shared, **own), world, temperature=temperature, gamma=gamma, **options)

"""q_learning, hard or soft: on a table where states are finite, else with a network."""

from collections.abc import Sequence
from typing import Any, Unpack

from cai.errors import fault
from cai.learn.algorithms.neural_q import NeuralQ
from cai.learn.algorithms.tabular_q import Schedule, Tabular, polynomial, recent
from cai.learn.result import Learned
from cai.learn.training import Options, chosen, train
from cai.simulate.rollout import variables_simulated
from cai.world.definition import World
from cai.world.spec import read


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
    updates: int = 4,
    warmup: int = 1000,
    capacity: int = 100_000,
    polyak: float = 0.005,
    average: float = 0.001,
    value_gradient: float = 0.0,
    **options: Unpack[Options],
) -> Learned:
    """Learn by (soft) Q-learning: ``θ ← θ + lr ∇Q(s,a) (r + γ V(s') - Q(s,a))`` (Watkins 1989; Mnih et al. 2015).

    V is ``max_a Q(s,a)``; at a temperature ``α log Σ_a p(a|s) exp(Q(s,a)/α)`` (Haarnoja et al. 2017, section 3). This
    update leaves out a term -∇V(s) δ of the soft policy gradient; ``value_gradient`` restores a share c of it, ``(∇Q -
    c ∇V) δ``. At c = 1 the update has the direction of the soft policy gradient, and the level of V is not learned.

    A table (one for each time, if the horizon is finite) learns from whole episodes, the last step first. A network
    learns from a replay buffer with a target network.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment.
        temperature: α > 0, reward units; None for the hard learner.
        gamma: the discount; the world's own unless given, and 0.99 where that is 1 for a network or an environment.
        batch: copies of the world: 500 episodes at a time for a table, 100 where one table stands for all times, and 8
            steps at a time for a network.
        lr: the step size; for a table also a function of how often each entry was visited, 5/(4 + n) unless given, and
            n^-0.6 where one table stands for all times.
        explore: the share of actions drawn from the prior; 0.1 for a table; for a network it falls from 1 to 0.05.
        behaviour: a policy that acts during learning, in place of the learner's own (off-policy learning).
        network: hidden widths, or a torch module on the features; None is a table, or (64, 64) where there is none.
        stationary: one table for all times; a network is always stationary.
        max_steps: cut episodes off after so many steps; required for a table without a horizon.
        settle: let the network's step size decay to 0 over the steps.
        double: choose the next action by the network and value it by the target network (van Hasselt et al. 2016).
        n_step: the number of rewards in a network's target before the bootstrap; at a temperature less the KL between
            them.
        minibatch: transitions in each update of the network.
        updates: updates of the network after each step of the copies.
        warmup: environment steps before the first update.
        capacity: transitions in the replay buffer.
        polyak: how far the target network moves to the network at each update.
        average: a network's policy is that of a moving average of its parameters with this rate; 1: of the last ones.
        value_gradient: the share c of the dropped term.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world or an argument is not valid.
    """
    world, options = chosen(world, options)
    tabular = network is None and variables_simulated(world).spaces is not None
    shared: dict[str, Any] = {"behaviour": behaviour, "value_gradient": value_gradient, "max_steps": max_steps}
    shared |= {name: x for name, x in (("batch", batch), ("lr", lr), ("explore", explore)) if x is not None}
    timed = isinstance(world, World) and world.horizon is not None and not stationary
    shared["budget"] = options.get("steps", 100_000 if not tabular else 2_000_000 if timed else 500_000)
    algorithm: Tabular | NeuralQ
    if tabular:
        usual = {"batch": 500, "lr": recent} if timed else {"batch": 100, "lr": polynomial}
        algorithm = Tabular(**{**usual, **shared}, stationary=stationary)
    else:
        replayed: dict[str, Any] = {"n_step": n_step, "minibatch": minibatch, "updates": updates, "warmup": warmup}
        followed: dict[str, Any] = {
            "capacity": capacity,
            "polyak": polyak,
            "average": average,
            "settle": settle,
            "double": double,
        }
        algorithm = NeuralQ(network=network or (64, 64), **replayed, **followed, **shared)
    gamma = _discount(world, gamma, algorithm)
    return train(algorithm, world, temperature=temperature, gamma=gamma, **options)


def _discount(world: Any, gamma: float | None, algorithm: Tabular | NeuralQ) -> float | None:
    if isinstance(algorithm, Tabular) and isinstance(world, World):
        if world.horizon is None and algorithm.max_steps is None:
            raise fault("q_learning, max_steps", "none, on a world without a horizon", "where to cut episodes off")
        return gamma
    # One Q for all times, without a horizon.
    undiscounted = not isinstance(world, World) or read(world).discount == 1
    return 0.99 if gamma is None and undiscounted else gamma

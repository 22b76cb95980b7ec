"""A probe as a Pyro world, read off its Gymnasium environment."""

from cai.bridges.gymnasium import from_gymnasium
from cai.verification.probe import Probe
from cai.verification.probe_environment import ProbeEnvironment
from cai.world.definition import World


def world_of(probe: Probe) -> World:
    """Return a probe as a world; ``cai.to_gymnasium(world, num_envs=…)`` is its vectorised simulator.

    The simulator shows the state and not the time, it takes a horizon for a time limit, and it does not cut episodes.

    Where neither a horizon nor a discount ends the future, the world has as many steps as the probe has states: no
    episode of such a probe comes into a state twice.
    """
    horizon = len(probe.states) if probe.horizon is None and probe.discount == 1 else probe.horizon
    return from_gymnasium(ProbeEnvironment(probe), horizon=horizon, discount=probe.discount)

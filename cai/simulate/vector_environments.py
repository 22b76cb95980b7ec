"""Gymnasium's own vector environments as a simulator that only goes forward: whole episodes, as a score needs them."""

from typing import Any, cast

import torch
from torch import Tensor

from cai.errors import fault
from cai.simulate.environments import EnvironmentMaker, EnvironmentSimulator
from cai.simulate.registered import vectorised
from cai.simulate.rollout import simulator_of
from cai.simulate.simulator import EnvState, Simulator
from cai.world.spaces import Values


class VectorSimulator:
    """B copies in one vector environment, which cannot return to an earlier state; see ``Simulator``.

    All episodes begin from one seed, not from one each as in ``EnvironmentSimulator``; the law is the same.

    Args:
        single: a simulator of the same environment: its spaces and its prior.
        envs: Gymnasium's vector environment of B copies.
    """

    def __init__(self, single: EnvironmentSimulator, envs: Any) -> None:
        self.single, self.envs, self.batch = single, envs, int(envs.num_envs)
        self.now: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "single":  # what copy and pickle ask of an object not yet made
            raise AttributeError(name)
        return getattr(self.single, name)

    @property
    def example(self) -> Values:
        """Zeros, which disturb no running episode."""
        seen = self.single.seen
        return seen.pack(torch.zeros((self.batch, *seen.shape), dtype=seen.variables[0].dtype))

    def begin(self) -> EnvState:
        """Reset all copies, with one seed."""
        seen, _ = self.envs.reset(seed=int(torch.randint(2**31 - 1, ())))
        self.now, never = torch.zeros(self.batch, dtype=torch.long), torch.zeros(self.batch, dtype=torch.bool)
        return EnvState(torch.as_tensor(seen).clone(), self.now, never, never)  # it may be the buffer of all steps

    def step(self, env_state: EnvState, action: Values) -> tuple[EnvState, Tensor]:
        """Take an action in every copy that has not ended.

        Raises:
            WorldError: this is not where the copies are.
        """
        copies = torch.arange(self.batch) if env_state.copies is None else env_state.copies
        ended = env_state.ended
        if self.now is None or not torch.equal(self.now[copies], env_state.t):
            raise fault("vector environment, step", "an earlier state", "the present one, or begin")
        taken = torch.zeros((self.batch, *self.single.taken.shape), dtype=self.single.taken.variables[0].dtype)
        taken[copies] = self.single.taken.unpack(action).detach()
        seen, paid, over, cut, _ = self.envs.step(taken.numpy())
        # Where an episode has ended the environment may begin a new one, which is nobody's.
        after = torch.as_tensor(seen)[copies]
        state = torch.where(ended.reshape(-1, *[1] * (after.dim() - 1)), env_state.state, after)
        over, cut = (torch.as_tensor(flag)[copies] for flag in (over, cut))
        terminated, truncated = env_state.terminated | (over & ~ended), env_state.truncated | (cut & ~over & ~ended)
        self.now = self.now.clone()
        self.now[copies] = t = torch.where(ended, env_state.t, env_state.t + 1)
        reward = torch.where(ended, 0.0, torch.as_tensor(paid, dtype=torch.get_default_dtype())[copies])
        return EnvState(state, t, terminated, truncated, copies=env_state.copies), reward

    def restart(self, env_state: EnvState) -> EnvState:
        """Begin anew once all have ended."""
        return self.begin() if bool(env_state.ended.all()) else env_state


def forward_simulator(world: Any, batch: int) -> Simulator:
    """Return B copies that need not return to an earlier state: Gymnasium's vector environment where an id has one.

    Raises:
        WorldError: it is no world, environment or simulator.
    """
    maker = EnvironmentMaker(world) if isinstance(world, str) else world
    envs = vectorised(maker.id, maker.options, batch) if isinstance(maker, EnvironmentMaker) else None
    if envs is None:
        return simulator_of(world, batch)
    return cast(Simulator, VectorSimulator(EnvironmentSimulator(maker, 1), envs))

"""The probes as Gymnasium environments, ``cai/NAME-v0``: an import of this file registers them."""

from typing import Any

import gymnasium
import numpy as np

from cai.errors import fault
from cai.verification.probe import Probe
from cai.verification.probes import PROBES

HERE = "cai.verification.probe_environment"


class ProbeEnvironment(gymnasium.Env[Any, Any]):
    """A probe as a Gymnasium environment, with all that a learner may ask for.

    An observation is the number of the state; with a horizon it is (state, time), and the last step terminates. A step
    that terminates shows the state that the outcome names, as one that goes on would.

    Attributes:
        probe: the probe.
        temperature: α, reward units; None where a learner of returns is wanted.
        discount: γ.
        P: ``P[s][a]``, a list of (p, s', r, done).
        initial_state_distrib: p(s_0), ``[S]``.
        action_prior: p(a|s), ``[S, A]``.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 — Gymnasium's own convention

    def __init__(self, probe: Probe | str, hard: bool = False, render_mode: None = None) -> None:
        self.probe = PROBES[probe] if isinstance(probe, str) else probe
        self.temperature, self.discount = None if hard else self.probe.temperature, self.probe.discount
        states, actions = self.probe.states, self.probe.actions
        self.P = {
            s: {
                actions.index(a): [(p, states.index(after), r, over) for p, after, r, over in outcomes]
                for a, outcomes in row.items()
            }
            for s, row in enumerate(self.probe.rows.values())
        }
        self.initial_state_distrib = np.array([self.probe.start.get(state, 0.0) for state in states])
        self.action_prior = np.array(
            [[self.probe.prior_of(state).get(action, 0.0) for action in actions] for state in states]
        )
        self.action_space = gymnasium.spaces.Discrete(len(actions))
        T = self.probe.horizon
        sizes = [len(states)] if T is None else [len(states), T + 1]
        self.observation_space = (
            gymnasium.spaces.Discrete(len(states)) if T is None else gymnasium.spaces.MultiDiscrete(sizes)
        )
        self.render_mode = render_mode
        self.s, self.t, self.over = 0, 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw s_0; return what is observed and the time."""
        super().reset(seed=seed)
        self.s, self.t, self.over = self._draw(self.initial_state_distrib), 0, False
        return self._observation(), {"t": self.t}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Draw an outcome of the action; return observation, reward, terminated, False and the time.

        Raises:
            ResetNeeded: the episode is over, or none has begun.
            WorldError: the action has no outcomes here.
        """
        if self.over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset before the next step")
        outcomes = self.P[self.s].get(int(action)) if self.action_space.contains(action) else None
        if outcomes is None:
            where = f"{self.probe.id}, step in state {self.probe.states[self.s]!r}"
            raise fault(where, f"action {action!r}", f"one of {sorted(self.P[self.s])}")
        _, self.s, reward, ended = outcomes[self._draw([p for p, *_ in outcomes])]
        self.t += 1
        self.over = ended or self.t == self.probe.horizon
        return self._observation(), reward, self.over, False, {"t": self.t}

    def action_masks(self) -> Any:
        """Return which actions the prior allows now, bool, ``[A]``, as MaskablePPO of sb3-contrib asks."""
        return self.action_prior[self.s] > 0

    def _observation(self) -> Any:
        return np.int64(self.s) if self.probe.horizon is None else np.array([self.s, self.t], np.int64)

    def _draw(self, p: Any) -> int:
        """Return a number with the probabilities p: the first whose cumulative one lies above a uniform draw."""
        chance = np.cumsum(p)
        return int(np.searchsorted(chance, self.np_random.random() * chance[-1], side="right"))


def environment_of(probe: Probe, hard: bool = False) -> Any:
    """Return the environment of a probe, also of one that is not registered; a cut probe has its time limit."""
    if PROBES.get(probe.name) is probe:
        return gymnasium.make(probe.id, hard=hard)
    env = ProbeEnvironment(probe, hard=hard)
    return env if probe.cut is None else gymnasium.wrappers.TimeLimit(env, probe.cut)


def register() -> None:
    """Register every probe; a second call changes nothing."""
    for probe in PROBES.values():
        if probe.id not in gymnasium.registry:
            gymnasium.register(
                probe.id, f"{HERE}:ProbeEnvironment", kwargs={"probe": probe.name}, max_episode_steps=probe.cut
            )


register()

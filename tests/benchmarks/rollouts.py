"""Roll-outs of FrozenLake 8x8, T = 100, one thread: beside a plain NumPy look-up of the same table, in one run."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import cai
from cai.simulate.rollout import simulator_of

T = 100


def plain(P: Any, policy: Any, batch: int, rng: np.random.Generator) -> int:
    """Draw trajectories by Gymnasium's table in plain NumPy, ended copies too; return the living steps."""
    rows = [[(P[s][a] + P[s][a][-1:] * 2)[:3] for a in range(4)] for s in range(64)]  # an ended state has one outcome
    chances, after, over = (np.array([[[k[n] for k in a] for a in s] for s in rows]) for n in (0, 1, 3))
    ends = chances.cumsum(-1)
    state, alive, steps = np.zeros(batch, int), np.ones(batch, bool), 0
    states, actions = [state], []
    for t in range(T):
        steps += int(alive.sum())
        action = (policy[t].cumsum(-1)[state, :-1] <= rng.random((batch, 1))).sum(-1)
        k = (ends[state, action, :-1] <= rng.random((batch, 1))).sum(-1)
        alive, state = alive & ~over[state, action, k], np.where(alive, after[state, action, k], state)
        states.append(state)
        actions.append(action)
    np.stack(states), np.stack(actions)
    return steps


def rate(draw: Callable[[], int], rounds: int = 5) -> float:
    """Return the living steps a CPU second of the best round."""
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        steps = draw()
        found.append(steps / (time.process_time() - begun))
    return max(found)


def main() -> None:
    """Print the living steps a CPU second of each way, for several numbers of copies."""
    import gymnasium

    torch.set_num_threads(1)
    P: Any = gymnasium.make("FrozenLake-v1", map_name="8x8").unwrapped.P  # type: ignore[attr-defined]
    world = cai.from_gymnasium("FrozenLake-v1", map_name="8x8", horizon=T)
    messages = cai.solve(world, cai.VARIATIONAL, temperature=0.1)
    policy = messages.policy
    tables = [policy.log_probs(t) for t in range(T)]
    stored = cai.policies.FixedPolicy(tables.__getitem__, policy.states, policy.actions, T)
    probs = torch.stack(tables)[:, :64].exp().numpy()
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for batch in (1000, 10_000, 100_000):
        simulator = simulator_of(world, batch)
        ways: dict[str, Callable[[], int]] = {
            "the prior": lambda simulator=simulator: cai.rollout(simulator, generator=generator).steps,  # type: ignore[misc]
            "a solved policy": lambda simulator=simulator: cai.rollout(simulator, policy, generator=generator).steps,  # type: ignore[misc]
            "its first time": lambda simulator=simulator: (  # type: ignore[misc]
                cai.rollout(simulator, replace(messages), generator=generator).steps
            ),
            "a stored policy": lambda simulator=simulator: cai.rollout(simulator, stored, generator=generator).steps,  # type: ignore[misc]
            "tables made too": lambda batch=batch: cai.rollout(world, stored, batch=batch, generator=generator).steps,  # type: ignore[misc]
            "plain NumPy": lambda batch=batch: plain(P, probs, batch, rng),  # type: ignore[misc]
        }
        rates = {name: rate(way) for name, way in ways.items()}
        words = ", ".join(f"{name} {x / 1e6:.2f}" for name, x in rates.items())
        ratio = rates["a solved policy"] / rates["plain NumPy"]
        print(f"{batch:,} copies, million living steps a second: {words}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()

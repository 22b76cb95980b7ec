"""Steps of our environments beside Gymnasium's own, in one run: the ratio is what counts."""

import time
from typing import Any

import gymnasium

import cai

STEPS = 20_000


def seconds(env: Any, actions: list[Any], anew: bool) -> float:
    """Return the CPU seconds of all steps, resets where an episode has ended among them."""
    env.reset(seed=0)
    begun = time.process_time()
    for action in actions:
        *_, terminated, truncated, _ = env.step(action)
        if anew and (terminated or truncated):
            env.reset()
    return time.process_time() - begun


def measure(copies: int | None) -> None:
    """Print a step of ours beside a step of Gymnasium's, of one environment or of a vector of copies."""
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=100)
    if copies is None:
        plain, ours, n = gymnasium.make("FrozenLake-v1"), cai.to_gymnasium(lake), STEPS
    else:
        plain = gymnasium.make_vec("FrozenLake-v1", num_envs=copies, vectorization_mode="sync")  # type: ignore[assignment]
        ours, n = cai.to_gymnasium(lake, num_envs=copies), 200  # type: ignore[assignment]
    plain.action_space.seed(0)
    actions = [plain.action_space.sample() for _ in range(n)]
    pairs = [(seconds(plain, actions, copies is None), seconds(ours, actions, copies is None)) for _ in range(3)]
    theirs, own = (1e6 * min(each) / n / (copies or 1) for each in zip(*pairs, strict=True))
    print(f"{copies or 'no'} copies: {own:.3g} µs a step, Gymnasium's {theirs:.3g}, ratio {own / theirs:.3g}")


if __name__ == "__main__":
    for each in (None, 16, 1000):
        measure(each)

"""Intervals around ELBO* of competition problems that elimination refuses, and the policy run in pyRDDLGym inside it.

``python -m tests.benchmarks.large_worlds SysAdmin_MDP_ippc2011 6 --minutes 5 --temperature 0.1`` prints a row: the gap
after each minute, the interval, and the mean of return/α - KL over 300 runs in the competition's own simulator.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

import cai
from cai.approximation import Approximation, Bounds
from tests.benchmarks.ippc import RUNS, Runs


def interval(factors: Any, temperature: float, minutes: float, seed: int) -> tuple[Approximation, list[float | None]]:
    """Return the last answer, and the gap that was known after each whole minute, nats; None where none was yet."""
    began, known = time.perf_counter(), list[tuple[float, Approximation]]()
    for found in Bounds(minutes=minutes).refined(factors, temperature, torch.Generator().manual_seed(seed)):
        known.append(((time.perf_counter() - began) / 60, found))
    gaps: list[float | None] = []
    for minute in range(1, round(known[-1][0]) + 1):
        by_then = [found.elbo.gap for passed, found in known if passed <= minute or minute == round(known[-1][0])]
        gaps.append(by_then[-1] if by_then else None)
    return known[-1][1], gaps


def kept(world: Any, policy: Any, problem: str, instance: str, temperature: float) -> np.ndarray[Any, Any]:
    """Return return/α - KL of each of 300 runs in pyRDDLGym, nats: KL(π(·|s) ‖ p(·|s)) at each state on the way."""
    runs, rng = Runs(problem, instance), np.random.default_rng(0)
    start = {name: int(value) for name, value in world.initial().items()}
    states, nats = [dict(start) for _ in range(RUNS)], np.zeros(RUNS)
    runs.env.reset(seed=1)
    for t in range(world.horizon):
        batch = {name: torch.tensor([state[name] for state in states]) for name in start}
        log_pi, _ = policy.choice(t, batch)
        log_prior = policy.ahead.log_prior(t, batch)
        nats -= torch.where(log_pi == -torch.inf, 0.0, log_pi.exp() * (log_pi - log_prior)).sum(-1).numpy()
        for i, row in enumerate(log_pi.exp().numpy()):
            action = world.action_names[rng.choice(len(row), p=row / row.sum())]
            states[i], reward = runs.step(states[i], action)
            nats[i] += reward / temperature
    return nats


def measured(problem: str, instance: str, temperature: float, minutes: float, seed: int = 0) -> dict[str, Any]:
    """Bound a problem for some minutes, and run its policy."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    world: Any = cai.from_rddl(problem, instance)
    factors = cai.factorise(world)
    found, gaps = interval(factors, temperature, minutes, seed)
    nats = kept(world, found.policy, problem, instance, temperature)
    mean, error = float(nats.mean()), float(nats.std(ddof=1) / RUNS**0.5)
    return {
        "problem": problem,
        "instance": instance,
        "states": factors.states.size,
        "temperature": temperature,
        "gaps": gaps,
        "steps": len(found.history),
        "lower": found.elbo.lower,
        "value": found.elbo.value,
        "upper": found.elbo.upper,
        "runs": mean,
        "error": error,
        "inside": found.elbo.lower - 3 * error <= mean <= found.elbo.upper,
    }


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("problem")
    asked.add_argument("instance")
    asked.add_argument("--minutes", type=float, default=5.0)
    asked.add_argument("--temperature", type=float, default=0.1)
    asked.add_argument("--seed", type=int, default=0)
    print(json.dumps(measured(**vars(asked.parse_args()))), flush=True)

"""IPPC 2011's problems solved exactly, and the exact policy run in pyRDDLGym beside what it promised.

``python -m tests.benchmarks.ippc SysAdmin_MDP_ippc2011 3`` prints a row: value, seconds, peak memory, mean of the runs.
"""

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import torch

import cai
from cai.bridges.rddl.grounding import quiet

RUNS = 300


class Runs:
    """pyRDDLGym's simulator, carried from any state of many runs, states and actions by their grounded labels."""

    def __init__(self, problem: str, instance: str) -> None:
        with quiet():
            import pyRDDLGym  # type: ignore[import-untyped]
            from rddlrepository.core.manager import RDDLRepoManager  # type: ignore[import-untyped]

            info = RDDLRepoManager().get_problem(problem)
            self.env = pyRDDLGym.make(info.get_domain(), info.get_instance(instance), vectorized=False)
        self.sampler = self.env.sampler
        self.env.reset(seed=0)

    def step(self, state: dict[str, int], action: str) -> tuple[dict[str, int], float]:
        """Draw what follows a state, and its reward."""
        subs = self.sampler.subs
        names = self.sampler.rddl.variable_groundings
        for fluent in self.sampler.rddl.state_fluents:
            like = np.asarray(self.sampler.init_values[fluent])
            flat = [state[label(name)] for name in names[fluent]]
            subs[fluent] = np.array(flat).astype(like.dtype).reshape(like.shape)[()]
        grounded = {label(name): name for fluent in self.sampler.rddl.action_fluents for name in names[fluent]}
        given = {grounded[fluent]: value for fluent, value in settings(action).items()}
        self.env.done = False
        after, reward, *_ = self.env.step(given)
        index = self.sampler.rddl.object_to_index
        return {label(name): int(index.get(value, value)) for name, value in after.items()}, float(reward)


def settings(action: str) -> dict[str, int]:
    """Return what a joint action sets fluents to, by label: ``"a(x) + not b + move(c)=2"`` is 1, 0 and 2."""
    given: dict[str, int] = {}
    for part in [] if action == "noop" else action.split(" + "):
        fluent, valued, value = part.removeprefix("not ").partition("=")
        given[fluent] = int(value) if valued else int(fluent == part)
    return given


def label(name: str) -> str:
    """Return the label of a grounded fluent, ``running(c1)``."""
    base, _, objects = name.partition("___")
    return f"{base}({objects.replace('__', ',')})" if objects else base


def promised_and_kept(problem: str, instance: str, threads: int) -> dict[str, Any]:
    """Solve an instance under HARD, and run its policy."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    world: Any = cai.from_rddl(problem, instance)
    began = time.perf_counter()
    factors = cai.factorise(world)
    found = cai.solve(factors, cai.HARD)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    runs, rng = Runs(problem, instance), np.random.default_rng(0)
    start = {name: int(value) for name, value in world.initial().items()}
    states, returns = [dict(start) for _ in range(RUNS)], np.zeros(RUNS)
    runs.env.reset(seed=1)
    for t in range(world.horizon):
        probs = found.policy.probs(t)
        for i, state in enumerate(states):
            number = int(factors.states.join({name: torch.tensor(value) for name, value in state.items()}))
            row = probs[number].numpy()
            action = world.action_names[rng.choice(len(row), p=row / row.sum())]
            states[i], reward = runs.step(state, action)
            returns[i] += reward
    return {
        "problem": problem,
        "instance": instance,
        "states": factors.states.size,
        "actions": factors.actions.size,
        "value": float(found.value),
        "seconds": seconds,
        "peak": peak,
        "mean": float(returns.mean()),
        "error": float(returns.std(ddof=1) / RUNS**0.5),
        "threads": threads,
        "all_seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    name, number, *rest = sys.argv[1:]
    print(json.dumps(promised_and_kept(name, number, int(rest[0]) if rest else 2)), flush=True)

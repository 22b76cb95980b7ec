"""Runs of learners that nobody had to wait for: real policies on their way from the prior to the best one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import cai
from cai.compile.table_model import Tables
from cai.learn.result import Learned, Progress


def run_of(
    world: Any,
    shares: Sequence[float],
    *,
    seed: int = 0,
    temperature: float = 1.0,
    every: int = 100,
    noise: float = 0.0,
    hard: bool = False,
    stopped: str = "steps",
) -> Learned:
    """A run whose policy after each ``every`` steps is π ∝ prior exp(x q*/α + noise), x the next of the shares."""
    tables = cai.tabulate(world)
    best = cai.solve(tables, cai.VARIATIONAL, temperature=temperature)
    times = [0] if tables.horizon is None else range(tables.horizon)
    q = torch.stack([best.q(t) if tables.horizon is not None else best.q() for t in times]) / temperature
    sampled = torch.Generator().manual_seed(seed)
    jitter = noise * torch.randn(q.shape, generator=sampled, dtype=q.dtype)
    policies = [_policy(tables, x * q + jitter) for x in shares]
    history = tuple(
        _progress(tables, policy, n * every, temperature, 0.01 * n * (1 + 0.1 * seed), hard)
        for n, policy in enumerate(policies)
    )
    last = history[-1]
    alpha = None if hard else temperature
    return Learned(policies[-1], "fake", alpha, seed, history, last.steps, last.updates, last.seconds, stopped)


def _policy(tables: Tables, logits: Tensor) -> cai.policies.TabularPolicy:
    made = cai.policies.TabularPolicy(tables)
    with torch.no_grad():
        made.logits.copy_((logits if tables.horizon is not None else logits[0]).nan_to_num(neginf=-1e3))
    return made


def _progress(tables: Tables, policy: Any, steps: int, alpha: float, seconds: float, hard: bool) -> Progress:
    with torch.no_grad():
        one = cai.evaluate(tables, policy, temperature=alpha)
        table = policy.log_table()
        greedy = torch.nn.functional.one_hot(table.argmax(-1), table.shape[-1]).double()
        sure = cai.evaluate(tables, greedy, temperature=alpha).expected_return
    nats = {} if hard else {"elbo": one.elbo, "policy_nats": one.optimality_gap, "entropy": one.entropy}
    return Progress(steps, steps // 10, seconds, one.expected_return, sure, **nats)


def blind(run: Learned) -> Learned:
    """The same run where nothing exact was known while it learned."""
    history = tuple(replace(one, elbo=None, policy_nats=None, entropy=None) for one in run.history)
    return replace(run, history=history)


def rising(points: int, slowness: float = 4.0) -> list[float]:
    """Shares of the way that go from 0 towards 1."""
    return [1 - math.exp(-slowness * n / (points - 1)) for n in range(points)]

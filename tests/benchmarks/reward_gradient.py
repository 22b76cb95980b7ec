"""The gradient of log Z with respect to every reward: beside the sweep itself, and beside plain autograd."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import cai
from tests.benchmarks.cases import grid
from tests.benchmarks.worker import clocked, peak, reset_peak, summary
from tests.helpers import load_model

ALPHA = 0.1
CASES = {
    "FrozenLake 8x8, T = 200": partial(load_model("frozen_lake"), "8x8", horizon=200),
    "100,000 cells, T = 20": partial(grid, 316, 20),
    "1,000,000 cells, T = 20": partial(grid, 1000, 20),
}
TOO_LARGE = "1,000,000 cells, T = 20"
"""Autograd keeps some 15 tensors [S, A, K] a step: 35 GB here."""


def measure(case: str, threads: int) -> dict[str, Any]:
    """Measure a sweep, value and gradient together, and value and gradient by autograd, with their peaks of memory."""
    torch.set_num_threads(threads)
    tables = cai.tabulate(CASES[case]())
    reward = tables.reward.clone(memory_format=torch.contiguous_format)
    tables = replace(tables, reward=reward)
    ways = {"sweep": partial(cai.solve, tables, temperature=ALPHA), "cai": partial(_gradient, _solved, tables)}
    if case != TOO_LARGE:
        ways["autograd"] = partial(_gradient, _swept, tables)
        torch.testing.assert_close(ways["autograd"](), ways["cai"](), rtol=1e-8, atol=1e-11)
    lived = float(ways["cai"]().sum())  # every trajectory collects a reward at each time
    assert abs(lived * ALPHA / (tables.horizon or 0) - 1) < 1e-9, lived
    found = {}
    for name, way in ways.items():
        reset_peak()
        found[name] = {**summary(clocked(way, rounds=10, seconds=4.0)), "peak": peak()}
    return found


def _gradient(log_evidence: Any, tables: cai.Tables) -> Tensor:
    reward = tables.reward.detach().requires_grad_()
    (found,) = torch.autograd.grad(log_evidence(replace(tables, reward=reward)), reward)
    return found


def _solved(tables: cai.Tables) -> Tensor:
    return cai.solve(tables, temperature=ALPHA).log_evidence


def _swept(tables: cai.Tables) -> Tensor:
    """The same in plain torch, in units of α, left to autograd."""
    gain, v = tables.reward / ALPHA, tables.terminal / ALPHA
    for _ in range(tables.horizon or 0):
        q = torch.logsumexp(tables.log_prob + gain + v[tables.successor], -1)
        v = torch.logsumexp(tables.log_prior + q, -1)
    return torch.logsumexp(tables.log_initial + v, -1)

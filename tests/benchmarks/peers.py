"""Each method as a closure that solves once and returns the start value, in reward units.

What a peer needs is built before; the timed part is the sweep, with v of all times kept, except where a word says less.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

import cai
from tests.benchmarks.cases import CASES
from tests.benchmarks.posterior_peers import merged
from tests.benchmarks.variational_peers import expected
from tests.benchmarks.worker import clocked, peak, reset_peak, summary

Solve = Callable[[], float]


def prepare(method: str, world: Any, tables: cai.Tables, alpha: float) -> Solve:
    """Return the solver of a method, ready to be timed."""
    peer, rule = method.split(", ")
    if peer == "cai":
        return partial(_cai, tables, getattr(cai, rule), alpha)
    if peer == "Pyro":
        return lambda: alpha * by_enumeration(world, alpha)
    if peer == "QuantEcon":
        return _quantecon(tables)
    return _scipy_posterior(tables, alpha) if rule == "POSTERIOR" else _scipy_variational(tables, alpha)


def solved(case_name: str, method: str) -> dict[str, float]:
    """Measure a method's solves of a case, in a fresh process."""
    torch.set_grad_enabled(False)
    case = CASES[case_name]
    world = case.build()
    begin = time.perf_counter()
    tables = cai.tabulate(world)
    compiled, compile_peak = time.perf_counter() - begin, peak()
    solve = prepare(method, world, tables, case.temperature)
    if not method.startswith("cai"):
        del tables
    reset_peak()
    value, seconds = solve(), clocked(solve, rounds=case.rounds, seconds=5.0)
    found = {"value": value, **summary(seconds), "solve_peak": peak()}
    return {**found, "compile_seconds": compiled, "compile_peak": compile_peak}


def _cai(tables: cai.Tables, rule: cai.Rule, alpha: float) -> float:
    return float(cai.solve(tables, rule, temperature=alpha).value)


def by_enumeration(world: Any, alpha: float) -> float:
    """Pyro's variable elimination on the trajectory program: log Z alone, nats, no v and no policy."""
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    model = config_enumerate(cai.trajectory(world, temperature=alpha))
    return -float(TraceEnum_ELBO(max_plate_nesting=0).loss(model, lambda: None))


def _scipy_posterior(tables: cai.Tables, alpha: float) -> Solve:
    sweep, start = exp_space(tables, alpha), tables.log_initial.exp().numpy()

    def solve() -> float:
        scaled = sweep()[0] / alpha
        highest = scaled.max()
        return float(alpha * (highest + np.log(start @ np.exp(scaled - highest))))

    return solve


def exp_space(tables: cai.Tables, alpha: float) -> Callable[[], np.ndarray]:
    """β ← Mβ in exp space, ``M[s, s'] = Σ p(a|s) p(outcome|s, a) exp(r/α)``, one scale a step: fast, and unsafe.

    Returns:
        the sweep, which gives v ``[T+1, S]`` in reward units.
    """
    M, S, T = merged(tables, alpha), tables.states.size, tables.horizon or 0
    last = (tables.terminal / alpha).exp().numpy()

    def sweep() -> np.ndarray:
        v, beta, shift = np.empty((T + 1, S)), last, 0.0
        v[T] = tables.terminal.numpy()
        for t in range(T - 1, -1, -1):
            beta = M @ beta
            scale = beta.max()
            beta, shift = beta / scale, shift + np.log(scale)
            with np.errstate(divide="ignore"):
                v[t] = alpha * (np.log(beta) + shift)
        return v

    return sweep


def _scipy_variational(tables: cai.Tables, alpha: float) -> Solve:
    """``q = r + Pv``, ``v = α log Σ p(a|s) exp(q/α)``, with P ``[SA, S]`` in CSR."""
    S, T = tables.states.size, tables.horizon or 0
    P, r = expected(tables)
    log_prior, start = tables.log_prior.numpy(), tables.log_initial.exp().numpy()
    last = tables.terminal.numpy()

    def solve() -> float:
        v = np.empty((T + 1, S))
        v[T] = last
        for t in range(T - 1, -1, -1):
            logits = log_prior + (r + P @ v[t + 1]).reshape(log_prior.shape) / alpha
            highest = logits.max(1)
            v[t] = alpha * (highest + np.log(np.exp(logits - highest[:, None]).sum(1)))
        return float(start @ v[0])

    return solve


def _quantecon(tables: cai.Tables) -> Solve:
    """``quantecon.markov.backward_induction`` on state-action pairs: hard max, and nothing soft to compute."""
    from quantecon.markov import DiscreteDP, backward_induction

    S, A = tables.log_prior.shape
    P, r = expected(tables)
    pairs = np.arange(S * A)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # β = 1 turns off its infinite-horizon methods, which are not used
        problem = DiscreteDP(r, P, 1.0, pairs // A, pairs % A)
    start, last, T = tables.log_initial.exp().numpy(), tables.terminal.numpy(), tables.horizon
    backward_induction(problem, 1, last)  # numba compiles here
    return lambda: float(start @ backward_induction(problem, T, last)[0][0])

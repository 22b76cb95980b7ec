"""FrozenLake 8x8, T = 200, one thread: the evidence beside Pyro's two ways, and many temperatures at once."""

from functools import partial
from typing import Any

import pyro
import torch
from pyro.distributions import Delta, DiscreteHMM

import cai
from tests.benchmarks.peers import by_enumeration
from tests.benchmarks.worker import clocked, summary
from tests.helpers import load_model

ALPHA, T, MANY = 0.1, 200, 64


def beside_pyro() -> dict[str, Any]:
    """Measure our solve, the two of Pyro, and ours at 64 temperatures; all evidences must agree."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    world = load_model("frozen_lake")("8x8", horizon=T)
    tables = cai.tabulate(world)
    temperatures = torch.linspace(0.05, 1.0, MANY)
    hmm = hidden_markov(tables, ALPHA)
    ways = {
        "cai": lambda: cai.solve(tables, temperature=ALPHA).log_evidence,
        "DiscreteHMM": hmm,
        "TraceEnum_ELBO": partial(by_enumeration, world, ALPHA),
        "cai, 64 temperatures": lambda: cai.solve(tables, temperature=temperatures).log_evidence,
    }
    found = {name: float(torch.as_tensor(way()).reshape(-1)[0]) for name, way in ways.items()}
    seconds = {name: clocked(way, rounds=30) for name, way in ways.items()}
    return {name: {"log_evidence": found[name], **summary(one)} for name, one in seconds.items()}


def hidden_markov(tables: cai.Tables, alpha: float) -> Any:
    """Return what computes log Z by Pyro's ``DiscreteHMM``, all it needs made ready.

    The chain ``M(s, s') = Σ p(a|s) p(outcome|s,a) exp(r/α)`` is not normalised, and the HMM's must be: its rows are
    divided by their sums c(s), and c(s_t) is observed of every state that is left again. Pyro's chain moves before it
    first observes, so c(s_0) goes to the start.
    """
    S, horizon = tables.states.size, tables.horizon or 0
    weight = (tables.log_prior.unsqueeze(-1) + tables.log_prob + tables.reward / alpha).exp().reshape(S, -1)
    M = torch.zeros(S, S).scatter_add_(1, tables.successor.reshape(S, -1), weight)
    log_c = M.sum(-1).log()
    start = tables.log_initial + log_c
    seen = torch.cat([log_c.expand(horizon - 1, S), tables.terminal[None] / alpha])
    silent = Delta(torch.zeros(horizon, S), log_density=seen)  # says nothing but how likely it is
    chain = DiscreteHMM(start, M.log() - log_c[:, None], silent, duration=horizon)
    said, scale = torch.zeros(horizon), start.logsumexp(-1)
    pyro.clear_param_store()
    return lambda: chain.log_prob(said) + scale

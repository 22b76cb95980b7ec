"""One backup under POSTERIOR as others would compute it, on successors that are merged over actions.

    β(s) = Σ M(s, s') β(s'),    M(s, s') = Σ p(a|s) p(outcome|s, a) exp(r/α)  over the outcomes that lead to s'

"Exp space" keeps β and rescales it once a step; "log space" keeps u = v/α = log β.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit

import cai
from cai.exact.tables.backup import Equation
from tests.benchmarks.by_hand import compiled, shared_out
from tests.benchmarks.peer import (
    Method,
    Peer,
    in_exp_space,
    in_log_space,
    of_values,
    rooms,
    torch_compiled,
    torch_csr,
)


def merged(tables: cai.Tables, alpha: float) -> Any:
    """Return M in CSR, by SciPy alone."""
    from scipy.sparse import csr_matrix

    S, A, K = tables.log_prob.shape
    weight = (tables.log_prior.unsqueeze(-1) + tables.log_prob + tables.reward / alpha).exp().numpy().ravel()
    offsets = np.arange(0, S * A * K + 1, A * K)
    M = csr_matrix((weight, tables.successor.numpy().ravel(), offsets), shape=(S, S))
    M.sum_duplicates()
    M.eliminate_zeros()
    return M


def listed(tables: cai.Tables, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return M as E entries a state, successors and weights ``[S, E]``; weights of 0 fill up."""
    M = merged(tables, alpha)
    count = np.diff(M.indptr)
    here = np.arange(count.max()) < count[:, None]
    to, weight = np.empty(here.shape, np.uint32), np.empty(here.shape)
    to[...], weight[...] = 0, 0
    to[here], weight[here] = M.indices, M.data
    return to, weight


def log_listed(tables: cai.Tables, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the same with log M."""
    to, weight = listed(tables, alpha)
    with np.errstate(divide="ignore"):
        return to, np.log(weight, out=weight)


def by_scipy(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """CSR times vector."""
    M = merged(tables, alpha)

    def step(beta: np.ndarray) -> tuple[np.ndarray, float]:
        beta = M @ beta
        scale = beta.max()
        beta /= scale
        return beta, scale

    return in_exp_space(step, alpha)


def by_torch_csr(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The same in torch."""
    product = torch_csr(merged(tables, alpha))

    def step(beta: torch.Tensor) -> tuple[torch.Tensor, float]:
        beta = product @ beta
        scale = float(beta.max())
        return beta.div_(scale), scale

    return in_exp_space(step, alpha, torch.from_numpy)


def by_c_in_exp_space(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """``exp_space`` in ``backups.c``: each step is scaled by what the one before it found."""
    to, weight = listed(tables, alpha)
    S, E = to.shape
    loop, call, room, last = compiled("exp_space", E=E), shared_out(threads, S), rooms(S), [1.0]

    def step(beta: np.ndarray) -> tuple[np.ndarray, float]:
        out, scale = room(), last[0]
        last[0] = max(call(loop, out, beta, to, weight, 1 / scale))
        return out, scale

    return in_exp_space(step, alpha)


def by_c_in_log_space(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """``log_space`` in ``backups.c``."""
    to, log_m = log_listed(tables, alpha)
    S, E = to.shape
    loop, call, room = compiled("log_space", E=E), shared_out(threads, S), rooms(S)

    def step(u: np.ndarray) -> np.ndarray:
        out = room()
        call(loop, out, u, to, log_m)
        return out

    return in_log_space(step, alpha)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _log_space(out, u, to, log_m, low, high):
    for s in range(low, high):
        top = -np.inf
        for e in range(to.shape[1]):
            top = max(top, log_m[s, e] + u[to[s, e]])
        total = 0.0
        for e in range(to.shape[1]):
            total += np.exp(log_m[s, e] + u[to[s, e]] - top)
        out[s] = top + np.log(total)


def by_numba(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The loop as it is written down."""
    to, log_m = log_listed(tables, alpha)
    call, room = shared_out(threads, len(to)), rooms(len(to))

    def step(u: np.ndarray) -> np.ndarray:
        out = room()
        call(_log_space, out, u, to, log_m)
        return out

    return in_log_space(step, alpha)


def by_torch_compile(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The three tensor operations, fused; entries stand apart, ``[E, S]``, so that vectors run along the states."""
    to, log_m = (torch.from_numpy(one.T.copy()) for one in log_listed(tables, alpha))
    to = to.to(torch.int32)
    step = torch_compiled(lambda u, to, log_m: torch.logsumexp(log_m + u[to], 0), threads)
    return in_log_space(lambda u: step(u, to, log_m), alpha, torch.from_numpy)


def by_jax_gather(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The same in JAX."""
    import jax

    jax.config.update("jax_enable_x64", True)
    to, log_m = (jax.numpy.asarray(one.T.copy()) for one in log_listed(tables, alpha))
    step = jax.jit(lambda u, to, log_m: jax.nn.logsumexp(log_m + u[to], 0))
    return in_log_space(lambda u: step(u, to, log_m).block_until_ready(), alpha, jax.numpy.asarray)


def by_jax_segments(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """Products summed by state."""
    import jax

    jax.config.update("jax_enable_x64", True)
    M = merged(tables, alpha).tocoo()
    rows, columns, weight = (jax.numpy.asarray(one) for one in (M.row, M.col, M.data))

    @jax.jit
    def product(beta: Any, rows: Any, columns: Any, weight: Any) -> Any:
        beta = jax.ops.segment_sum(weight * beta[columns], rows, M.shape[0], indices_are_sorted=True)
        return beta / beta.max(), beta.max()

    def step(beta: Any) -> tuple[Any, float]:
        beta, scale = product(beta, rows, columns, weight)
        return beta, float(scale)

    return in_exp_space(step, alpha, jax.numpy.asarray)


def by_gather(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """``cai``'s own equation as it stands, tensor by tensor over ``[S, A, K]``: what the fast forms are held to."""
    return of_values(
        Equation(cai.POSTERIOR, tables.at(0), tables.terminal.new_tensor(alpha), tables.log_survival), torch.from_numpy
    )


PEERS = {
    "torch gather over (S, A, K)": Method(by_gather),
    "C, exp space": Method(by_c_in_exp_space, needs="C", unsafe=True),
    "C, log space": Method(by_c_in_log_space, needs="C"),
    "SciPy CSR, exp space": Method(by_scipy, threads=(1,), unsafe=True),
    "torch CSR, exp space": Method(by_torch_csr, unsafe=True),
    "numba, log space": Method(by_numba),
    "torch.compile, log space": Method(by_torch_compile, needs="C++"),
    "JAX segment-sum, exp space": Method(by_jax_segments, threads=(2,), unsafe=True),
    "JAX gather, log space": Method(by_jax_gather, threads=(2,)),
}

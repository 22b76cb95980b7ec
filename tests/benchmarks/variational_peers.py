"""One backup under VARIATIONAL as others would compute it.

    q(s, a) = E[r] + Σ p(outcome|s, a) v(s'),    v(s) = α log Σ p(a|s) exp(q/α)

All read p and the successor of each outcome, ``[S, A, K]``, and E[r], ``[S, A]``, except where a word says otherwise.
"""

import warnings
from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit

import cai
from cai.exact.tables.backup import Equation
from tests.benchmarks.by_hand import compiled, shared_out
from tests.benchmarks.peer import Method, Peer, of_values, rooms, torch_compiled, torch_csr


def outcomes(tables: cai.Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the successors in 32 bits and p, ``[S, A, K]``, and E[r], ``[S, A]``."""
    p = tables.log_prob.exp()
    r = torch.where(p > 0, p * tables.reward, 0.0).sum(-1)
    return tables.successor.numpy().astype(np.uint32, order="C"), np.array(p.numpy(), order="C"), r.numpy()


def expected(tables: cai.Tables) -> tuple[Any, np.ndarray]:
    """Return P ``[SA, S]`` in CSR, outcomes of one successor merged, and E[r] ``[SA]``."""
    from scipy.sparse import csr_matrix

    S, A, K = tables.log_prob.shape
    p = tables.log_prob.exp()
    r = torch.where(p > 0, p * tables.reward, 0.0).sum(-1).reshape(-1).numpy()
    offsets = np.arange(0, S * A * K + 1, K)
    P = csr_matrix((p.numpy().ravel(), tables.successor.numpy().ravel(), offsets), shape=(S * A, S))
    P.sum_duplicates()
    P.eliminate_zeros()
    return P, r


def by_c(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """``variational`` in ``backups.c``; it takes p(a|s) as the same in all states."""
    (to, p, r), prior = outcomes(tables), tables.log_prior[0].numpy().copy()
    S, A, K = to.shape
    loop, call, room = compiled("variational", A=A, K=K), shared_out(threads, S), rooms(S)

    def step(v: np.ndarray) -> np.ndarray:
        out = room()
        call(loop, out, v, to, p, r, prior, alpha)
        return out

    return of_values(step)


@njit(nogil=True, error_model="numpy")
@no_type_check
def _backup(out, v, to, p, r, prior, alpha, low, high):
    q = np.empty(to.shape[1])
    for s in range(low, high):
        top = -np.inf
        for a in range(to.shape[1]):
            q[a] = r[s, a]
            for k in range(to.shape[2]):
                q[a] += p[s, a, k] * v[to[s, a, k]]
            top = max(top, q[a])
        total = 0.0
        for a in range(to.shape[1]):
            total += prior[s, a] * np.exp((q[a] - top) / alpha)
        out[s] = top + alpha * np.log(total)


def by_numba(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The loop as it is written down."""
    (to, p, r), prior = outcomes(tables), tables.log_prior.exp().numpy()
    call, room = shared_out(threads, len(to)), rooms(len(to))

    def step(v: np.ndarray) -> np.ndarray:
        out = room()
        call(_backup, out, v, to, p, r, prior, alpha)
        return out

    return of_values(step)


def by_torch_compile(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The tensor operations, fused; outcomes stand apart, ``[K, A, S]``, so that vectors run along the states."""
    to, p, r = (torch.from_numpy(np.ascontiguousarray(one.T)) for one in outcomes(tables))
    to, prior = to.to(torch.int32), tables.log_prior.T.contiguous()

    def backup(v: Any, to: Any, p: Any, r: Any, prior: Any) -> Any:
        return alpha * torch.logsumexp(prior + (r + (p * v[to]).sum(0)) / alpha, 0)

    step = torch_compiled(backup, threads)
    return of_values(lambda v: step(v, to, p, r, prior), torch.from_numpy)


def by_jax(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """The same in JAX."""
    import jax

    jax.config.update("jax_enable_x64", True)
    numbers = [jax.numpy.asarray(np.ascontiguousarray(one.T)) for one in (*outcomes(tables), tables.log_prior.numpy())]

    @jax.jit
    def backup(v: Any, to: Any, p: Any, r: Any, prior: Any) -> Any:
        return alpha * jax.nn.logsumexp(prior + (r + (p * v[to]).sum(0)) / alpha, 0)

    return of_values(lambda v: backup(v, *numbers).block_until_ready(), jax.numpy.asarray)


def by_scipy(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """P in CSR, the rest in NumPy."""
    (P, r), log_prior = expected(tables), tables.log_prior.numpy()

    def step(v: np.ndarray) -> np.ndarray:
        logits = log_prior + (r + P @ v).reshape(log_prior.shape) / alpha
        highest = logits.max(1)
        return alpha * (highest + np.log(np.exp(logits - highest[:, None]).sum(1)))

    return of_values(step)


def by_torch_csr(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """P in CSR, the rest in torch."""
    P, r = expected(tables)
    product, reward = torch_csr(P), torch.from_numpy(r)

    def step(v: torch.Tensor) -> torch.Tensor:
        q = (reward + product @ v).view(tables.log_prior.shape)
        return alpha * torch.logsumexp(tables.log_prior + q / alpha, -1)

    return of_values(step, torch.from_numpy)


def by_quantecon(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """``DiscreteDP.bellman_operator`` on state-action pairs: the hard maximum, with nothing soft to compute."""
    from quantecon.markov import DiscreteDP

    S, A = tables.log_prior.shape
    (P, r), pairs = expected(tables), np.arange(S * A)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # β = 1 turns off its infinite-horizon methods, which are not used
        problem = DiscreteDP(r, P, 1.0, pairs // A, pairs % A)
    return of_values(problem.bellman_operator)


def by_gather(tables: cai.Tables, alpha: float, threads: int) -> Peer:
    """``cai``'s own equation as it stands, tensor by tensor: what the fast forms are held to."""
    return of_values(
        Equation(cai.VARIATIONAL, tables.at(0), tables.terminal.new_tensor(alpha), tables.log_survival),
        torch.from_numpy,
    )


PEERS = {
    "torch gather over (S, A, K)": Method(by_gather),
    "C": Method(by_c, needs="C"),
    "numba": Method(by_numba),
    "torch.compile": Method(by_torch_compile, needs="C++"),
    "JAX gather": Method(by_jax, threads=(2,)),
    "SciPy CSR": Method(by_scipy, threads=(1,)),
    "torch CSR": Method(by_torch_csr),
    "QuantEcon, the hard maximum": Method(by_quantecon, threads=(1,), rule="HARD"),
}

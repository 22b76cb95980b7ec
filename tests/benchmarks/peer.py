"""What a peer is: one backup over and over, on numbers of its own kind."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Peer:
    """A backup: ``step`` takes the values on, as the peer keeps them; ``enter`` and ``leave`` are not timed.

    What an in-place step returns is overwritten by the one after the next.
    """

    step: Callable[[Any], Any]
    enter: Callable[[np.ndarray], Any]
    leave: Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Method:
    """How a peer is made, and what is to be known of it.

    Attributes:
        build: takes tables, α and the number of threads.
        threads: which numbers of threads it is measured with.
        needs: what must be there, beside the extra [bench]: "C" or "C++", a compiler.
        unsafe: whether it loses states, or all, at low temperatures, and says nothing of it.
        rule: which rule it computes, where it is an easier one.
    """

    build: Callable[..., Peer]
    threads: tuple[int, ...] = (1, 2)
    needs: str = ""
    unsafe: bool = False
    rule: str = ""


def in_exp_space(step: Callable[[Any], Any], alpha: float, kind: Callable[[np.ndarray], Any] = np.asarray) -> Peer:
    """Return the peer whose step takes β to the next β and its scale, which is kept apart as a logarithm."""

    def advance(kept: Any) -> Any:
        beta, scale = step(kept[0])
        return beta, kept[1] + np.log(scale)

    return Peer(advance, lambda v: (kind(np.exp(v / alpha)), 0.0), lambda kept: alpha * (np.log(kept[0]) + kept[1]))


def in_log_space(step: Callable[[Any], Any], alpha: float, kind: Callable[[np.ndarray], Any] = np.asarray) -> Peer:
    """Return the peer whose step takes u = v/α to the next u."""
    return Peer(step, lambda v: kind(v / alpha), lambda u: alpha * np.asarray(u))


def of_values(step: Callable[[Any], Any], kind: Callable[[np.ndarray], Any] = np.asarray) -> Peer:
    """Return the peer whose step takes v to the next v."""
    return Peer(step, kind, np.asarray)


def rooms(states: int) -> Callable[[], np.ndarray]:
    """Return what gives one of two arrays in turn; NumPy asks the system for large pages, as ``cai`` does."""
    return cycle([np.empty(states), np.empty(states)]).__next__


def torch_compiled(function: Callable[..., Any], threads: int) -> Callable[..., Any]:
    """Return the function as ``torch.compile`` makes it for so many threads."""
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    made: Callable[..., Any] = torch.compile(function, dynamic=False)
    return made


def torch_csr(matrix: Any) -> torch.Tensor:
    """Return SciPy's CSR matrix as torch's."""
    parts = [torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse tensors are in beta, it says
        return torch.sparse_csr_tensor(*parts, size=matrix.shape)

"""Programs in several threads, and programs that are cut off: what belongs to the process is as it was before."""

import math
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pyro
import pytest
import torch
from pyro.distributions import Categorical
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

import cai
from cai.support.process import precision

GOOD = 0.3


class Coin:
    """One action, one coin: log Z = T log((1 - p) + p e) for a reward of 1 where it falls on 1."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def initial(self) -> Tensor:
        return pyro.sample("coin", Categorical(logits=torch.tensor([1 - GOOD, GOOD]).log()))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("wait", Categorical(logits=torch.zeros(1)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        coin = pyro.sample("coin", Categorical(logits=torch.tensor([1 - GOOD, GOOD]).log()))
        return coin, coin.double()


def of_process() -> tuple[object, ...]:
    validation = (pyro.distributions.is_validation_enabled(), pyro.infer.util.is_validation_enabled())
    return list(_PYRO_STACK), torch.get_default_dtype(), validation


@pytest.mark.parametrize("form", ["tables", "factors"])
def test_threads_take_turns(form: str) -> None:
    before = of_process()
    horizons = [1 + i % 4 for i in range(16)]
    start = threading.Barrier(4)

    def ask(i: int) -> float:
        if i < 4:
            start.wait(timeout=60)
        return float(cai.solve(Coin(horizons[i]), form=form).log_evidence)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(16)))
    assert found == pytest.approx([T * math.log(1 - GOOD + GOOD * math.e) for T in horizons], abs=1e-12)
    assert of_process() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_breaks_off_leaves_nothing_behind(error: type[BaseException]) -> None:
    """Wherever in a slice it happens: in the world's code, or while a handler is put on Pyro's stack."""

    class Broken(Coin):
        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            pyro.poutine.trace().__enter__()
            raise error

    before = of_process()
    for verb in (cai.solve, cai.tabulate, cai.factorise, cai.graph):
        with pytest.raises((error, cai.WorldError)):
            verb(Broken(2))
        assert of_process() == before
    assert float(cai.solve(Coin(1)).log_evidence) == pytest.approx(math.log(1 - GOOD + GOOD * math.e), abs=1e-12)


def test_a_fork_does_not_wait_for_another_thread() -> None:
    """``many(jobs=2)`` forks: what another thread has begun would never end in the child."""
    fork = multiprocessing.get_context("fork")
    begun, over = threading.Event(), threading.Event()
    told = fork.SimpleQueue()

    def fit() -> None:
        with pyro.poutine.block(), precision(torch.float16):
            begun.set()
            over.wait(timeout=60)

    def child() -> None:
        told.put((float(cai.solve(Coin(1)).log_evidence), torch.get_default_dtype()))

    other = threading.Thread(target=fit)
    other.start()
    begun.wait(timeout=60)
    process = fork.Process(target=child)
    process.start()
    process.join(timeout=20)
    ended = process.exitcode
    process.kill()
    over.set()
    other.join()
    assert ended == 0
    assert told.get() == (pytest.approx(math.log(1 - GOOD + GOOD * math.e), abs=1e-12), torch.float32)


def test_a_fork_goes_on_with_the_program_of_its_own_thread() -> None:
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()
    with precision(torch.float64):
        process = fork.Process(target=lambda: told.put(torch.get_default_dtype()))
        process.start()
        process.join(timeout=20)
    assert told.get() == torch.float64

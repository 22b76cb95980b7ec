"""What ends the work from outside is nobody's fault in the code where it arose: it passes as it was raised."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.bridges.networks.networkx import from_networkx
from cai.errors import lacks_memory, user_code

ENDS = [
    MemoryError(),
    TimeoutError("after 10 s"),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]
ends = pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)


class Ending:
    """Two cells, two moves; one of its methods raises."""

    horizon = 2

    def __init__(self, method: str, end: BaseException) -> None:
        self.method, self.end = method, end

    def _maybe(self, method: str) -> None:
        if method == self.method:
            raise self.end

    def initial(self) -> Tensor:
        self._maybe("initial")
        return pyro.sample("cell", cai.Point(torch.tensor(0), 2))

    def act(self, state: Tensor, t: int) -> Tensor:
        self._maybe("act")
        return pyro.sample("move", Categorical(logits=torch.zeros(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        self._maybe("step")
        return pyro.sample("cell", cai.Point(action + 0 * state, 2)), -1.0 * action

    def terminal(self, state: Tensor) -> Tensor:
        self._maybe("terminal")
        return -1.0 * state

    def terminated(self, state: Tensor) -> Tensor:
        self._maybe("terminated")
        return torch.zeros_like(state, dtype=torch.bool)

    def observe(self, state: Tensor) -> Tensor:
        self._maybe("observe")
        return pyro.sample("look", Categorical(logits=torch.zeros(2).expand(*state.shape, 2)))


def same(end: BaseException, call: Callable[..., Any], *args: Any, **settings: Any) -> None:
    """The call raises this very error; Pyro adds its own words to a RuntimeError."""
    with pytest.raises(type(end)) as raised:
        call(*args, **settings)
    assert raised.value is end or (lacks_memory(end) and str(raised.value).startswith(str(end)))


@ends
def test_an_end_inside_a_world_passes_through_every_answer(end: BaseException) -> None:
    stack = len(pyro.poutine.runtime._PYRO_STACK)
    for method in ("initial", "act", "step", "terminal"):
        world = Ending(method, end)
        for call in (cai.solve, cai.tabulate, cai.factorise, cai.check):
            same(end, call, world)
        if method != "terminal":  # the graph has no node of it
            same(end, cai.graph, world)
        same(end, cai.to_gymnasium, world) if method == "initial" else None
    same(end, cai.check, Ending("terminated", end))
    same(end, cai.check, Ending("observe", end))
    same(end, cai.partial.solve, Ending("observe", end))
    assert len(pyro.poutine.runtime._PYRO_STACK) == stack
    assert torch.get_default_dtype() == torch.float32


@ends
def test_an_end_inside_a_policy_passes(end: BaseException) -> None:
    def policy(state: Tensor, t: int) -> Tensor:
        raise end

    class Acting:
        def act(self, state: Tensor, t: int) -> Tensor:
            raise end

    world = Ending("none", end)
    same(end, cai.evaluate, world, policy)
    same(end, cai.evaluate, world, Acting())


@ends
def test_an_end_passes_through_fits_and_learners(end: BaseException) -> None:
    world = Ending("step", end)
    same(end, cai.fit, world, steps=2, estimator="score", progress=False)
    same(end, cai.learn.q_learning, Ending("act", end), steps=2, progress=False)


@ends
def test_an_end_passes_from_the_processes_of_many(end: BaseException) -> None:
    if "fork" not in multiprocessing.get_all_start_methods() or isinstance(end, KeyboardInterrupt):
        return  # Ctrl-C in a run calls off the others: tests/test_training.py

    def learner(world: Any, **settings: Any) -> Any:
        raise end

    with pytest.raises(type(end)):
        cai.learn.many(learner, None, seeds=[0, 1], jobs=2, progress=False)


@ends
def test_an_end_inside_a_file_of_a_world_passes(
    end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ends.py"
    monkeypatch.setattr("tests.test_passing.END", end, raising=False)
    file.write_text("from tests import test_passing\nraise test_passing.END\n")
    same(end, cai.load_world, str(file))
    file.write_text("from tests import test_passing\ndef ends():\n    raise test_passing.END\n")
    same(end, cai.load_world, str(file))


@ends
def test_an_end_inside_a_node_of_a_network_passes(end: BaseException) -> None:
    def conditional(*values: Tensor) -> Tensor:
        raise end

    graph = nx.DiGraph()
    graph.add_node("cell_0", kind="state", table=[0.5, 0.5])
    graph.add_node("move_0", kind="action", table=[0.5, 0.5])
    graph.add_node("cell_1", conditional=conditional, cardinality=2, parents=["cell_0", "move_0"])
    graph.add_edges_from([("cell_0", "cell_1"), ("move_0", "cell_1")])
    same(end, from_networkx, graph, horizon=2)


@ends
def test_an_end_inside_a_reader_passes(end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **settings: Any) -> Any:
        raise end

    file = tmp_path / "kept"
    torch.save({}, file)
    monkeypatch.setattr(torch, "load", fails)
    same(end, cai.fit, Ending("none", end), steps=2, checkpoint=file, progress=False)
    same(end, cai.learn.q_learning, Ending("none", end), steps=2, checkpoint=file, progress=False)


@ends
@pytest.mark.filterwarnings("ignore")
def test_an_end_inside_the_readers_of_other_packages_passes(
    end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = pytest.importorskip("pgmpy.readwrite")

    def fails(*args: Any, **settings: Any) -> Any:
        raise end

    file = tmp_path / "network.bif"
    file.write_text("network unknown { }")
    monkeypatch.setattr(readers, "BIFReader", fails)
    same(end, cai.from_bif, file, actions=[], rewards={}, horizon=1)


@ends
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", ["parser.reader.RDDLReader", "grounder.RDDLGrounder.ground"])
def test_an_end_while_rddl_is_read_or_grounded_passes(
    end: BaseException, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyRDDLGym")
    pytest.importorskip("rddlrepository")

    def fails(*args: Any, **settings: Any) -> Any:
        raise end

    monkeypatch.setattr(f"pyRDDLGym.core.{stage}", fails)
    same(end, cai.from_rddl, "SysAdmin_MDP_ippc2011", 1)


def test_a_lack_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert lacks_memory(raised.value), raised.value
    assert lacks_memory(MemoryError())
    assert not lacks_memory(RuntimeError("sizes differ"))
    with pytest.raises(cai.WorldError, match="sizes differ"), user_code("somewhere", "else"):
        raise RuntimeError("sizes differ")

"""Files are whole or not there: every writer of the library on a disk that is full, at each of many sizes."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import cai
from cai.learn.checkpoint import Checkpoint
from cai.learn.events import Events
from cai.learn.logs import Log
from cai.learn.problem import State
from cai.learn.remote import RemoteRun, _save
from cai.support.files import draft, write_whole
from cai.view.entanglement import draw_entanglement
from cai.view.graph_figure import draw_graph
from cai.view.reports.report import report
from cai.world.dependencies import graph
from tests.helpers import load_model
from tests.worlds import RandomWorld

WORLD = RandomWorld(seed=3, S=3, A=2, K=2, horizon=2, holes=False)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: the system refuses to write more, as it does where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def learned() -> Any:
    return cai.learn.q_learning(WORLD, steps=20, evaluations=2, progress=False)


def logged(folder: Path, one: Any) -> None:
    with Log(folder) as log:
        log(one.history)
    for events in folder.glob("events.*"):  # each has a name of its own
        events.replace(folder / "events")


identity: Callable[[State], State] = lambda state: state  # noqa: E731
STATE = State(3, 3, torch.zeros(9), None, {"weights": torch.arange(500.0)})
Write = Callable[[Path, Any], Any]
WRITERS: dict[str, Write] = {
    "write_whole": lambda folder, _: write_whole(folder, {"a": b"a" * 900, "in/b": b"b" * 900}),
    "checkpoint": lambda folder, one: Checkpoint(folder / "kept", {}).save(STATE, identity, one.history, 0.0),
    "comparison": lambda folder, _: cai.compare(WORLD, {"best": cai.VARIATIONAL}).save(folder),
    "learners": lambda folder, one: cai.compare(WORLD, {"q": [one]}).save(folder),
    "log": logged,
    "remote": lambda folder, one: _save(RemoteRun(cai.learn.q_learning, {}, folder / "kept"), one, b"c" * 900),
    "graph": lambda folder, _: draw_graph(graph(WORLD), folder / "graph.svg"),
    "entanglement": lambda folder, _: draw_entanglement(load_model("sysadmin")(n=2), folder / "ties.svg"),
    "report": lambda folder, _: report([cai.compare(WORLD, {"best": cai.VARIATIONAL})], folder, title="small"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "report" else ()) for name in WRITERS]
)
def test_a_full_disk_leaves_all_files_as_they_were(name: str, tmp_path: Path, learned: Any) -> None:
    write = WRITERS[name]
    write(tmp_path, learned)
    before = contents(tmp_path)
    assert before
    largest = max(len(one) for one in before.values())
    slow = name in {"comparison", "learners", "graph", "entanglement", "report"}
    for size in (0, largest - 1) if slow else range(0, largest, max(1, largest // 40)):
        with pytest.raises(OSError, match="too large"), disk_of(size):
            write(tmp_path, learned)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("stops", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), MemoryError()])
def test_whatever_ends_the_writing_leaves_no_draft(tmp_path: Path, stops: BaseException) -> None:
    (tmp_path / "kept").write_bytes(b"old")

    def half_way() -> None:
        with draft(tmp_path / "kept") as file:
            file.write_bytes(b"half")
            raise stops

    with pytest.raises(type(stops)):
        half_way()
    assert contents(tmp_path) == {"kept": b"old"}


def test_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with draft(tmp_path / "kept") as slow:
        slow.write_bytes(b"slow" * 9)
        write_whole(tmp_path, {"kept": b"fast"})
        assert contents(tmp_path)["kept"] == b"fast"
    assert contents(tmp_path) == {"kept": b"slow" * 9}


def test_a_link_leads_to_its_file_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "kept").write_bytes(b"old")
    (tmp_path / "disk" / "kept").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "kept")
    write_whole(tmp_path, {"link": b"new"})
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "disk") == {"kept": b"new"}
    assert (tmp_path / "disk" / "kept").stat().st_mode & 0o777 == 0o640


def test_a_fit_goes_on_after_the_disk_was_full(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    asked: dict[str, Any] = {"checkpoint": file, "progress": False}
    cai.fit(WORLD, steps=3, **asked)
    before = contents(tmp_path)
    with pytest.raises(OSError, match="too large"), disk_of(file.stat().st_size - 1):
        cai.fit(WORLD, steps=6, **asked)
    assert contents(tmp_path) == before
    unbroken = cai.fit(WORLD, steps=6, progress=False)
    assert cai.fit(WORLD, steps=6, **asked).elbo == unbroken.elbo


def test_sharded_messages_go_on_after_the_disk_was_full(tmp_path: Path) -> None:
    world = RandomWorld(seed=3, S=40, A=2, K=2, horizon=4, holes=False)
    whole = float(cai.distributed.solve(world, folder=tmp_path / "whole").value)
    size = max(len(one) for one in contents(tmp_path / "whole").values())
    for limit in (0, 100, size // 2, size - 8):
        with pytest.raises(OSError, match="too large"), disk_of(limit):
            cai.distributed.solve(world, folder=tmp_path / "kept")
        assert not list(tmp_path.rglob("*.part"))
    assert float(cai.distributed.solve(world, folder=tmp_path / "kept").value) == whole


def test_events_are_whole_records_where_the_disk_gets_full(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    events = Events(tmp_path, 0)
    (file,) = tmp_path.iterdir()
    events.scalars(1, {"return": 0.5})
    size = file.stat().st_size
    for room in (0, 1, 20):
        with pytest.raises(OSError, match=r"too large|No space"), disk_of(size + room):
            events.scalars(2, {"return": 0.7})
        assert file.stat().st_size == size
    events.scalars(2, {"return": 0.7})
    events.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("return")] == [(1, 0.5), (2, pytest.approx(0.7))]


def test_an_interrupt_between_two_files_leaves_out_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, replace = [], Path.replace

    def interrupted(part: Path, place: Path) -> Path:
        if len(put) == 2:
            raise KeyboardInterrupt
        put.append(place.name)
        return replace(part, place)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path, {"data.csv": b"1", "figures/map.svg": b"2", "report.html": b"3"})
    assert put == ["data.csv", "map.svg"]
    assert sorted(contents(tmp_path)) == ["data.csv", "figures/map.svg"]

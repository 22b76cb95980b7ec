"""Sharded messages: equal to one process's, kept on disk, and taken up again after a process was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import cai
from cai.cli import app
from cai.distributed.shards import Group
from cai.distributed.tabulated_rows import rows
from tests.command import FORKS
from tests.helpers import load_model
from tests.oracles.sweep import Swept
from tests.worlds import FactoredWorld, RandomWorld, TimedWorld

RULES = (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-2.0))


def grid() -> Any:
    return load_model("grid")(5, 7, walls=[(2, 3)], step_reward=-0.1, horizon=5)


def spoilt(far: bool) -> RandomWorld:
    """A world that is at fault in its last state alone, or ends in forbidden states everywhere."""
    world = RandomWorld(3, 200, 2, 2, 3, holes=False)
    if far:
        world.prior[0, -1] = 0.0
    else:
        world.last[:] = -torch.inf
    return world


class Mortal(TimedWorld):
    """Kills process 1 where it tabulates its six states at t = 3, where that is asked for."""

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        if t == 3 and state.shape == (6,) and os.environ.get("KILLED", "") == os.environ.get("RANK"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(state, action, t)


WORLDS: dict[str, Callable[[], Any]] = {
    "random": partial(RandomWorld, 1, 11, 3, 2, 5, discount=0.9),
    "timed": partial(TimedWorld, 2, 11, 3, 2, 5),
    "factored": FactoredWorld,
    "grid": grid,
}


Jobs = dict[str, tuple[Callable[[], Any], dict[str, Any]]]


def work(rank: int, port: int, jobs: Jobs, folder: Path, killed: str) -> None:
    """Be process ``rank`` of two, as torchrun would start it; what is raised goes to a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    for name, (make, asked) in jobs.items():
        os.environ["KILLED"] = "1" if name == killed else "none"
        try:
            found = cai.distributed.solve(make(), **asked, folder=folder / name, timeout=60)
            assert len(found.states) == len(found.v(0))
        except cai.CaiError as error:
            (folder / f"{name}.{rank}").write_text(f"{type(error).__name__}: {error}")


def together(jobs: Jobs, folder: Path, *, killed: str = "none") -> list[int]:
    """Run jobs in two processes, one of them ``killed``; return exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [FORKS.Process(target=work, args=(rank, port, jobs, folder, killed)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
    return [-1 if process.exitcode is None else process.exitcode for process in pair]


def same(folder: Path, whole: cai.Messages) -> None:
    found = cai.distributed.open_messages(folder)
    torch.testing.assert_close(found.value, whole.value, rtol=1e-12, atol=1e-12)
    for t in range(found.horizon + 1):
        torch.testing.assert_close(found.v(t), whole.v[t], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_two_processes_give_the_messages_of_one(tmp_path: Path) -> None:
    rules = {"random": RULES, "grid": RULES, "timed": (cai.POSTERIOR, cai.HARD), "factored": (cai.VARIATIONAL, cai.MAP)}
    jobs: Jobs = {
        f"{name} {rule}": (WORLDS[name], {"rule": rule, "temperature": 0.3}) for name in rules for rule in rules[name]
    }
    jobs["far"], jobs["dead"] = (partial(spoilt, True), {}), (partial(spoilt, False), {})
    jobs["single"] = (partial(RandomWorld, 3, 1, 2, 2, 3, holes=False), {})
    assert together(jobs, tmp_path) == [0, 0]
    for name, make in WORLDS.items():
        tables = cai.tabulate(make())
        for rule in rules[name]:
            wrong = [file.read_text() for file in tmp_path.glob(f"{name} {rule}.*")]
            try:
                whole = cai.solve(tables, rule, temperature=0.3)
            except cai.ImpossibleError:
                assert len(wrong) == 2
                assert all(text.startswith("ImpossibleError: under") for text in wrong)
                continue
            assert wrong == []
            same(tmp_path / f"{name} {rule}", whole)
    for rank in range(2):  # what is wrong in one process is raised in both
        assert (
            (tmp_path / f"far.{rank}")
            .read_text()
            .startswith("WorldError: act, t = 0: all actions forbidden in 1 state (s=199)")
        )
        assert (tmp_path / f"dead.{rank}").read_text().startswith("ImpossibleError: the evidence is zero")
        assert "processes: 2 of them for 1 states" in (tmp_path / f"single.{rank}").read_text()


TORCHRUN = """
import sys
import cai
from tests.worlds import RandomWorld

world = RandomWorld(6, 300, 3, 2, 12, holes=False)
for rule in (cai.POSTERIOR, cai.VARIATIONAL):
    cai.distributed.solve(world, rule, temperature=0.4, folder=f"{sys.argv[1]}/{rule}", timeout=60)
"""


@pytest.mark.slow
def test_two_processes_under_torchrun_give_the_messages_of_numpy(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(TORCHRUN)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    places = {"PYTHONPATH": f"{Path(__file__).parents[1]}", "OMP_NUM_THREADS": "1"}
    words = (*torchrun, str(tmp_path / "run.py"), str(tmp_path))
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **places}, timeout=200)
    assert done.returncode == 0, done.stderr
    world = RandomWorld(6, 300, 3, 2, 12, holes=False)
    for rule in ("POSTERIOR", "VARIATIONAL"):
        found, swept = cai.distributed.open_messages(tmp_path / rule), Swept(world, rule, 0.4)
        assert sorted(file.name for file in (tmp_path / rule).glob("v-*")) == ["v-0-of-2.npy", "v-1-of-2.npy"]
        assert float(found.value) == pytest.approx(swept.value, rel=1e-13)
        for t in range(13):
            np.testing.assert_allclose(found.v(t).numpy(), swept.v[t], rtol=1e-13, atol=1e-13)


@pytest.mark.slow
def test_a_killed_process_is_told_and_made_good(tmp_path: Path) -> None:
    job = (partial(Mortal, 5, 11, 2, 2, 8), {"temperature": 0.5, "every": 2})
    begin = time.monotonic()
    assert together({"whole": job, "broken": job}, tmp_path, killed="broken") == [0, -signal.SIGKILL]
    assert time.monotonic() - begin < 50  # the other does not wait for the dead until it loses patience
    assert "process 0 of 2 lost touch with the others" in (tmp_path / "broken.0").read_text()
    assert json.loads((tmp_path / "broken" / "messages.json").read_text())["reached"] == 4
    with pytest.raises(cai.WorldError, match="reach from T = 8 back to t = 4; expected finished messages"):
        cai.distributed.open_messages(tmp_path / "broken")

    np.load(tmp_path / "broken" / "v-1-of-2.npy", mmap_mode="r+")[5] = 99.0  # to see that it goes on from t = 4
    (tmp_path / "broken.0").unlink()
    assert together({"broken": job}, tmp_path) == [0, 0]
    assert not list(tmp_path.glob("broken.*"))
    again, before = (
        cai.distributed.open_messages(tmp_path / "broken"),
        cai.distributed.open_messages(tmp_path / "whole"),
    )
    assert again.value == before.value
    assert all(torch.equal(again.v(t), before.v(t)) for t in (0, 1, 2, 3, 4, 6, 7, 8))
    assert (again.v(5)[5:] == 99.0).all()
    same(tmp_path / "whole", cai.solve(job[0](), temperature=0.5))


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS)
def test_rows_are_those_of_the_tables(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.distributed.tabulated_rows.BLOCK", 12)  # two states at a time
    world = make()
    tables, some = cai.tabulate(world), rows(world, lambda S: range(1, S - 1))
    assert torch.equal(some.log_initial, tables.log_initial[1:-1])
    assert torch.equal(some.terminal, tables.terminal[1:-1])
    for t in range(world.horizon):
        part, whole = some.slice(t), tables.at(t)
        for name in ("log_prior", "log_prob", "successor", "reward"):
            assert torch.equal(getattr(part, name).double(), getattr(whole, name)[1:-1].double())


def test_one_process_alone(tmp_path: Path) -> None:
    world = RandomWorld(7, 5, 2, 2, 4, holes=False)
    found = cai.distributed.solve(world, temperature=0.5, folder=tmp_path)
    same(tmp_path, cai.solve(world, temperature=0.5))
    assert found.log_evidence == cai.distributed.open_messages(tmp_path).value / 0.5
    assert "POSTERIOR at temperature 0.5 on 5 states in 1 shards, T = 4" in repr(found)
    with pytest.raises(AttributeError, match="elbo belongs to VARIATIONAL"):
        _ = found.elbo
    with pytest.raises(cai.WorldError, match="t: 5; expected a time from 0 to 4"):
        found.v(5)
    best = cai.distributed.solve(world, cai.VARIATIONAL, folder=tmp_path / "best")
    torch.testing.assert_close(best.elbo, cai.solve(world, cai.VARIATIONAL).elbo)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"rule": cai.HARD}, "messages with rule = POSTERIOR; expected rule = HARD"),
        ({"rule": cai.Rule("POSTERIOR", cai.HARD.over_outcomes, cai.HARD.over_actions)}, "means = Soft"),
        ({"temperature": 0.25}, "messages with temperature = 0.5; expected temperature = 0.25"),
        ({"world": RandomWorld(8, 5, 2, 2, 4)}, "messages with world = .*; or another folder"),
        ({"world": RandomWorld(7, 5, 2, 2, 5)}, "messages with horizon = 4"),
        ({"world": RandomWorld(7, 5, 2, 2, None, discount=0.9)}, "horizon: None; expected a finite one"),
        ({"temperature": torch.tensor([0.5, 1.0])}, r"temperature: a batch of shape \(2,\)"),
        ({"temperature": -1.0}, "temperature: -1.0; expected positive"),
        ({"every": 0}, "every: 0; expected a whole number"),
    ],
)
def test_wrong_use_is_told(asked: dict[str, Any], words: str, kept: Path) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.distributed.solve(**{"world": RandomWorld(7, 5, 2, 2, 4), "temperature": 0.5, "folder": kept, **asked})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    cai.distributed.solve(RandomWorld(7, 5, 2, 2, 4), temperature=0.5, folder=folder)
    return folder


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    world = RandomWorld(7, 5, 2, 2, 4)
    with pytest.raises(cai.WorldError, match=r"no messages\.json"):
        cai.distributed.open_messages(tmp_path)
    (tmp_path / "messages.json").write_text("[1]")
    with pytest.raises(cai.WorldError, match=r"a messages\.json of something else"):
        cai.distributed.solve(world, folder=tmp_path)
    other = tmp_path / "other"
    cai.distributed.solve(world, folder=other)
    about = json.loads((other / "messages.json").read_text())
    (other / "v-0-of-1.npy").unlink()
    with pytest.raises(cai.WorldError, match=r"no file v-0-of-1\.npy; expected the shard of process 0 of 1"):
        cai.distributed.solve(world, folder=other)
    (other / "messages.json").write_text(json.dumps({**about, "shards": [[0, 2], [2, 5]]}))
    with pytest.raises(cai.WorldError, match="messages in 2 shards; expected 1, one a process"):
        cai.distributed.solve(world, folder=other)


def test_a_group_without_torchrun_is_alone() -> None:
    assert Group.join(torch.device("cpu"), 1.0) == Group(0, 1)


def test_the_command_line(tmp_path: Path) -> None:
    words = ["solve", "river_swim", "--set", "horizon=6", "--shards", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["form"] == "1 shards"
    assert row["log_evidence"] == float(cai.distributed.open_messages(tmp_path).log_evidence)
    done = CliRunner().invoke(app, [*words, "-t", "1", "-t", "2"])
    assert done.exit_code == 2
    assert "POSTERIOR at α = 1, 2; expected one rule and one temperature for a folder" in done.output

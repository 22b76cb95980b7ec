"""Work on a Ray cluster: the same numbers as here, a worker that dies costs a second try, a fault is told as here.

The cluster is a real one of this machine's cores: ``--ray local`` as a user starts it, once for all tests.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import cai
from cai.bridges.named import load_world
from cai.cli.app import app
from cai.learn.seeds import BrokenOff
from cai.support import parallel as cluster
from cai.support.parallel import each, joined
from tests.errands import dies, divides, learns, precision, refuses, sleeps
from tests.test_training import told
from tests.worlds import RandomWorld

pytestmark = pytest.mark.slow  # a cluster, whose workers import torch one after the other


@pytest.fixture(scope="module")
def ray() -> Iterator[str]:
    """Start a cluster that all tests share, for calls find it initialised; return the address that they ask for."""
    with tempfile.TemporaryDirectory(prefix="ray-") as passing, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", passing)  # a short path: it holds sockets, whose names have a limit
        patch.setenv("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", str(200 * 2**20))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves the pipes of its own processes open
            with joined("local"):
                yield "local"


def lake(**settings: str) -> Any:
    return load_world("frozen_lake", {"horizon": "6", **settings})


# A worker that dies


def test_seeds_are_those_of_one_process_though_a_worker_is_killed(
    ray: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks, kept = tmp_path / "marks", {"folder": tmp_path / "kept", "log": tmp_path / "logs"}
    marks.mkdir()
    run = partial(cai.learn.many, learns, lake(), seeds=[2, 0], marks=marks, progress=False)
    found = run(ray=ray, **kept)
    assert sorted(path.name for path in marks.iterdir()) == ["0-0", "2-0", "2-1"]
    said = capsys.readouterr()
    assert said.out == ""  # what Ray says of it is no answer
    assert "A worker died" in said.err
    alone = run()
    assert [one.seed for one in found] == [2, 0]
    assert list(map(told, found)) == list(map(told, alone))
    for one in found:
        (log,) = (tmp_path / "logs").glob(f"*-{one.seed}/progress.jsonl")
        assert len(log.read_text().splitlines()) == len(one.history)
    for again in (run(ray=ray, **kept), run(**kept)):  # what is kept goes along, and is a file as any other
        assert [one.seconds for one in again] == [one.seconds for one in found]


def test_a_task_that_loses_every_worker_is_told(ray: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "RETRIES", 0)
    with pytest.raises(cai.WorldError, match="its worker died, and so it did in 0 more tries") as caught:
        list(each(dies, None, [0], ray=ray))
    assert len(str(caught.value).splitlines()) == 1


# The same numbers as here


def test_worlds_and_temperatures_are_compared_as_here(ray: str) -> None:
    worlds = {"lake": lake(), "random": RandomWorld(3, 4, 3, 2, 4, holes=False)}
    policies = {"POSTERIOR": cai.POSTERIOR, "MAP": cai.MAP, "risk": cai.RISK(-2.0), "prior": None}
    alone = cai.compare_all(worlds, policies, temperatures=[1.0, 0.1], progress=False)
    found = cai.compare_all(worlds, policies, temperatures=[1.0, 0.1], ray=ray, progress=False)
    assert list(found) == ["lake", "random"]
    assert [one.temperature for one in found["random"]] == [1.0, 0.1]
    for name, (n, alpha) in ((name, at) for name in worlds for at in enumerate([1.0, 0.1])):
        there, here = found[name][n], alone[name][n]
        assert there.rows == here.rows == cai.compare(worlds[name], policies, temperature=alpha).rows
        for policy in policies:
            assert torch.equal(there.evaluations[policy].policy_nats, here.evaluations[policy].policy_nats)
            assert torch.equal(there.evaluations[policy].occupancy, here.evaluations[policy].occupancy)


def command(*words: str, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["compare", "frozen_lake", *words])
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "is_slippery=True", "--twin", "is_slippery=False", "--fit", "neural,tabular", "--steps", "3"),
        ("--inference-types", "--json"),
    ],
    ids=["twin and fits", "inference types"],
)
def test_the_command_prints_the_same(ray: str, words: tuple[str, ...]) -> None:
    asked = ("--horizon", "4", "-t", "1", "-t", "0.1", *words)
    assert command(*asked, "--ray", ray) == command(*asked)


def test_learners_at_every_temperature_are_those_of_one_process_and_kept_as_theirs(ray: str, tmp_path: Path) -> None:
    learners, alphas = ("fitted_q", "soft_fitted_q"), [1.0, 0.1]
    learn = partial(cai.learn.learn_all, learners, lake(horizon="3"), temperatures=alphas, seeds=[0, 1], steps=20)
    together = list(learn(ray=ray, folder=tmp_path))
    for folder in (None, tmp_path):
        for there, here in zip(together, learn(folder=folder), strict=True):
            assert there.whole
            assert there.temperature == here.temperature
            assert {name: list(map(told, runs)) for name, runs in there.runs.items()} == {
                name: list(map(told, runs)) for name, runs in here.runs.items()
            }
            if folder is not None:  # read, not learned
                assert [run.seconds for name in learners for run in here.runs[name]] == [
                    run.seconds for name in learners for run in there.runs[name]
                ]
    assert len(list(tmp_path.glob("*/*.learner"))) == 8


# What goes wrong


def test_a_fault_is_raised_and_words_are_said_as_here(ray: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(cai.WorldError) as caught:
        list(each(refuses, "word", [7], ray=ray))
    assert str(caught.value) == "here: a thing; expected another"
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, False)
    assert capfd.readouterr().err == "word 7\n"


def timeless(found: str) -> Any:
    """What the command's JSON says, but for the CPU seconds."""

    def without(row: dict[str, Any]) -> dict[str, Any]:
        over = {name: each for name, each in row.get("over_seeds", {}).items() if name != "seconds"}
        return {**row, "seconds": None, "over_seeds": over}

    return [{**one, "rows": [without(row) for row in one["rows"]]} for one in json.loads(found)]


def test_a_learner_that_cannot_is_left_out_with_the_same_word(ray: str) -> None:
    lasting = ("--horizon", "inf", "--discount", "0.5", "--learn-steps", "20", "--seeds", "1", "--json")
    for names, code in (("soft_q_learning,fitted_q", 0), ("soft_q_learning", 2)):
        out, said = command(*lasting, "--learn", names, code=code)
        found, afar = command(*lasting, "--learn", names, "--ray", ray, code=code)
        assert afar == said
        assert len(said.splitlines()) == 1
        assert code or timeless(found) == timeless(out)


def test_a_bug_keeps_its_kind_and_its_place(ray: str) -> None:
    with pytest.raises(ZeroDivisionError, match="in divides"):
        list(each(divides, None, [0], ray=ray))


def test_ctrl_c_keeps_what_is_done_and_calls_off_the_rest(ray: str, tmp_path: Path) -> None:
    def press() -> None:
        while not (tmp_path / "sleeps-0.learner").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(BrokenOff) as caught:
        cai.learn.many(sleeps, lake(), seeds=[1, 0], ray=ray, folder=tmp_path, progress=False)
    assert [one.seed for one in caught.value.runs] == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["sleeps-0.learner"]
    began = time.monotonic()
    assert dict(each(divides, None, [1, 2], ray=ray)) == {0: 1.0, 1: 0.5}
    assert time.monotonic() - began < 30  # no worker is asleep any more


@pytest.mark.usefixtures("float64")
def test_a_worker_takes_the_callers_precision(ray: str) -> None:
    assert dict(each(precision, None, [0], ray=ray)) == {0: "torch.float64"}


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    _, said = command("--horizon", "3", "--ray", "local", code=2)
    assert "pip install 'cai[ray]'" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere"])
def test_where_no_cluster_is_it_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("ray"), "is_initialized", lambda: False)
    with pytest.raises(cai.WorldError, match=f"ray: '{address}': .*; expected 'local'"):
        list(each(divides, None, [1], ray=address))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"worlds": {}}, "compare_all, worlds"),
        ({"temperatures": []}, "compare_all, temperatures"),
        ({"temperatures": [1.0, -1.0]}, "temperature: -1.0"),
    ],
)
def test_faults_of_compare_all(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.compare_all(**{"worlds": {"lake": lake()}, "policies": {"prior": None}, **asked})


def test_a_cluster_decides_how_many_run_at_a_time() -> None:
    with pytest.raises(cai.WorldError, match="jobs: 2 beside ray"):
        cai.learn.many("q_learning", lake(), seeds=[0], jobs=2, ray="local")
    assert "--jobs beside --ray" in command("--learn", "q_learning", "--jobs", "2", "--ray", "local", code=2)[1]

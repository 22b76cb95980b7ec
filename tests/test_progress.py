"""Long work tells how far it is: a line every so often for the command line, a bar on a terminal, else nothing."""

import io
import os
import sys
import time

import pytest

from cai.support import progress
from cai.support.progress import Work, bar, speak, working


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_DISPLAY", progress._Display())


def test_without_a_terminal_nothing_is_said_and_no_thread_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("sweep", 3) as tell:
        tell(1, "first")
        assert progress._DISPLAY.thread is None
    assert capsys.readouterr() == ("", "")


def test_the_command_line_writes_a_line_every_so_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINES", (0.05, 0.05))
    speak()
    with working("compiling"):
        time.sleep(0.12)
    with bar("seeds", 4, start=1), bar("steps", 10) as tell:
        time.sleep(0.08)
        tell(5, "loss 3")
        time.sleep(0.08)
    time.sleep(0.1)
    out, told = capsys.readouterr()
    lines = told.splitlines()
    assert out == ""
    assert lines[0] == "cai: compiling: 0:00"
    assert "cai: seeds: at the first of 3, 0:00; steps: at the first of 10, 0:00" in lines
    assert "cai: seeds: at the first of 3, 0:00; steps: 5 of 10, 0:00, about 0:00 left, loss 3" in lines
    assert len(lines) < 8  # none once the work is over


def test_what_is_left_is_estimated_from_the_steps_that_are_done() -> None:
    work = Work("steps", 10, 2, 2, began=time.monotonic() - 8)
    assert str(work) == "at the first of 8, 0:08"
    work.update(4, "")
    assert str(work) == "4 of 10, 0:08, about 0:24 left"
    work.reached -= 4
    work.began -= 4  # the next step is under way for four seconds
    assert str(work) == "4 of 10, 0:12, about 0:20 left"
    assert str(Work("long", None, 0, 0, began=time.monotonic() - 3730)) == "1:02:10"


def test_a_terminal_gets_a_bar_within_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(progress, "SOON", 0.01)
    monkeypatch.setattr(progress, "OFTEN", 0.02)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with bar("learners", 2), bar("q_learning", 10) as tell:
        tell(5, "")
        until = time.monotonic() + 10
        while "5 of 10" not in sys.stderr.getvalue() and time.monotonic() < until:
            time.sleep(0.02)
    assert "learners" in sys.stderr.getvalue()
    assert "at the first of 2" in sys.stderr.getvalue()
    assert progress._DISPLAY.thread is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside a thread
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    speak()
    with working("long"):
        child = os.fork()
        if child == 0:
            with working("in the child"):
                os._exit(int(progress._DISPLAY.thread is not None))
        assert os.waitpid(child, 0)[1] == 0

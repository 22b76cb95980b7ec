"""Each command with each kind of wrong input: one message on stderr, a documented exit code, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cai import __main__ as entry
from cai.cli import app
from cai.support.progress import end_or_raise
from tests.command import ROOT

HEAD = """
import sys
import pyro, torch, cai
from pyro.distributions import Categorical

class MyWorld:
    horizon = 2
    def __init__(self, size=2):
        self.size = size
    def initial(self):
        return pyro.sample("cell", cai.Point(torch.tensor(0), self.size))
    def act(self, state, t):
        return pyro.sample("move", Categorical(logits=torch.zeros(2).expand(*state.shape, 2)))
    def step(self, state, action, t):
        {}
        return pyro.sample("cell", cai.Point((state + action) % self.size, self.size)), -1.0 * action
"""
FILES: dict[str, Any] = {
    "good.py": HEAD.format("pass").replace("MyWorld", "Good"),
    "loud.py": 'print("at import")\n' + HEAD.format('print("in step")').replace("MyWorld", "Loud"),
    "syntax.py": "class MyWorld:\n    horizon = = 2\n",
    "raises.py": "raise ValueError('no licence')\n",
    "missing.py": "import a_package_that_is_not_there\n",
    "leaves.py": "import sys\nsys.exit(0)\n",
    "nothing.py": "x = 1\n",
    "empty.py": "",
    "two.py": HEAD.format("pass") + "\nclass Other(MyWorld):\n    pass\n",
    "binary.py": b"\x00\xff\xfe\x00world" * 9,
    "latin.py": "# \xe9t\xe9\n".encode("latin-1"),
    "ending.py": HEAD.format("raise ZeroDivisionError('by zero')").replace("MyWorld", "Ending"),
    "exits.py": HEAD.format("sys.exit(7)").replace("MyWorld", "Exits"),
    "gone.py": HEAD.format("raise GeneratorExit").replace("MyWorld", "Gone"),
    "memory.py": HEAD.format("torch.empty(2**60)").replace("MyWorld", "Memory"),
    "late.py": HEAD.format("raise TimeoutError").replace("MyWorld", "Late"),
    "stopped.py": HEAD.format("raise KeyboardInterrupt").replace("MyWorld", "Stopped"),
    "needy.py": "class Needy:\n    def __init__(self, size):\n        pass\n    def step(self):\n        pass\n",
    "network.py": "import cai\n\n"
    "def network():\n    return cai.from_bif('broken.bif', actions=[], rewards={}, horizon=1)\n",
    "broken.bif": "network x { variable",
    "domain.rddl": "domain broken {",
    "instance.rddl": "instance broken {",
    "kept": b"\x80\x04no checkpoint",
}
WORLDS = (
    "no_such_world",
    "FrozenLake-v9/x",
    "no_such_file.py",
    "good.py:Nobody",
    "folder.py",
    "folder",
    "",
    "rddl:NoSuchProblem",
    "rddl:domain.rddl:instance.rddl",
    *(name for name in FILES if name.endswith(".py") and name not in ("good.py", "loud.py")),
)
QUICK = {"fit": ("--steps", "1"), "learn": ("--steps", "1")}
COMMANDS = ("solve", "compare", "fit", "learn", "graph", "check")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder: Path) -> dict[str, bytes | None]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if "__pycache__" not in str(path)}
    return {name: path.read_bytes() if path.is_file() else None for name, path in found.items()}


def refused(words: tuple[str, ...], folder: Path, codes: tuple[int, ...] = (2,)) -> str:
    """Run a command that must fail; return what it says on stderr."""
    before = listing(folder)
    done = CliRunner().invoke(app, [*words], catch_exceptions=True)
    said = f"{words}: {done.exit_code}\n{done.output}"
    assert isinstance(done.exception, SystemExit), said
    assert done.exit_code in codes, said
    assert "Traceback" not in done.output, said
    if done.exit_code != 1:
        assert done.stderr.strip(), said
        assert not done.stdout, said
        assert all(line.startswith("cai: ") or "Usage" in done.stderr for line in done.stderr.splitlines()), said
    assert listing(folder) == before, said
    return done.stderr


MORE = ("compare", "fit", "graph")
"""Commands that read a world as ``solve`` does."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow if one in MORE else ()) for one in COMMANDS]
)
def test_what_is_no_world_is_one_message(command: str, folder: Path) -> None:
    for world in WORLDS:
        asked = (command, world, *QUICK.get(command, ()), *(("--json",) if len(world) % 2 else ()))
        codes = (130,) if world == "stopped.py" else (1, 2) if command == "check" else (2,)
        said = refused(asked, folder, codes)
        if world in ("exits.py", "leaves.py"):
            assert "sys.exit" in said


WRONG: dict[str, tuple[tuple[str, ...], ...]] = {
    "solve": (
        ("-r", "posteriour"),
        ("-r", "RISK(x)"),
        ("-r", "RISK(0)"),
        ("-r", "RISK(nan)"),
        ("-r", "prior"),
        ("--observe", "cell"),
        ("--observe", "cell_9=1"),
        ("--observe", "nobody_1=1"),
        ("--do", "cell_1=x"),
        ("--form", "matrix"),
        ("--partial",),
        ("--partial", "--form", "tables"),
        ("--partial", "--shards", "page"),
        ("--shards", "kept"),
        ("--shards", "new", "-r", "MAP", "-r", "HARD"),
        ("--shards", "new", "--out", "page"),
    ),
    "compare": (
        ("-r", "hrad"),
        ("--fit", "tabula"),
        ("--steps", "3"),
        ("--learn", "sofq"),
        ("--learn", "q_learning", "--seeds", "0"),
        ("--learn", "q_learning", "--jobs", "0"),
        ("--seeds", "2"),
        ("--inference-types", "--fit", "tabular"),
        ("--twin", "size"),
        ("--twin", "sise=3"),
        ("--fit", "tabular", "--form", "factors"),
        ("--ray", "nowhere:1", "--fit", "tabular"),
    ),
    "fit": (
        ("--policy", "tabulra"),
        ("--estimator", "best"),
        ("--lr", "0"),
        ("--lr", "nan"),
        ("--particles", "0"),
        ("--steps", "-1"),
        ("--samples", "1"),
        ("--tolerance", "nan"),
        ("--checkpoint", "kept"),
        ("--checkpoint", "folder"),
        ("--checkpoint", "good.py/kept"),
        ("--checkpoint", "x", "-t", "1", "-t", "2"),
    ),
    "learn": (
        ("-a", "sofq"),
        ("-o", "lr"),
        ("-o", "nothing=3"),
        ("-o", "{[]: 1}"),
        ("--steps", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**70)),
    ),
    "graph": (
        ("--slices", "0"),
        ("--slices", "9"),
        ("--out", "page.doc"),
        ("--entanglement", "page"),
        ("--observe", "cell"),
        ("--observe", "nobody_1=1"),
    ),
    "check": (),
}
NUMBERS = (
    ("--horizon", "0"),
    ("--horizon", "-3"),
    ("--horizon", "many"),
    ("--horizon", "9" * 5000),
    ("--horizon", "inf"),
    ("--discount", "0"),
    ("--discount", "1.5"),
    ("--discount", "nan"),
    ("--discount", "much"),
    ("-t", "0"),
    ("-t", "-1"),
    ("-t", "inf"),
    ("-t", "warm"),
)
SET = ("size", "=3", "sise=3", "size=", "size=x", "size={[]: 1}", f"size={'(' * 3000}", "a b=1", "size=0", "size=-1")
OUT = ("good.py", "good.py/below", "/proc/nowhere/out", "x" * 300)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_options_are_one_message(command: str, folder: Path) -> None:
    quick = QUICK.get(command, ())
    asked = list(WRONG[command])
    asked += [] if command in ("graph", "check") else NUMBERS
    asked += [("--set", one) for one in (SET[:-2] if command == "graph" else SET)]
    asked += [] if command == "check" else [("--out", one + ".png" * (command == "graph")) for one in OUT[1:]]
    asked += [] if command in ("graph", "check") else [("--out", OUT[0])]
    for options in asked:
        given = options if "--steps" in options else (*quick, *options)
        refused((command, "good.py", *given), folder, (1, 2) if command == "check" else (2,))


def test_wrong_words_of_the_other_commands_are_one_message(folder: Path) -> None:
    (folder / "there.py").write_text("")
    for words in (
        ("new", "there.py"),
        ("new", "folder"),
        ("new", "my-world.py"),
        ("new", "torch.py"),
        ("new", "nowhere/my_world.py"),
        ("new", "good.py/my_world.py"),
        ("claims", "tie"),
        ("claims", "ties", "--out", "good.py"),
        ("claims", "ties", "--seeds", "1"),
        ("list", "more"),
        ("solv", "good.py"),
    ):
        refused(words, folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_checkpoints_and_folders_of_something_else_are_told(folder: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["fit", "good.py", "--steps", "1", "--checkpoint", "fit.pt"]).exit_code == 0
    assert runner.invoke(app, ["learn", "good.py", "--steps", "2", "-a", "q_learning", "--out", "run"]).exit_code == 0
    assert runner.invoke(app, ["solve", "good.py", "--shards", "shards"]).exit_code == 0
    for words in (
        ("fit", "good.py", "--steps", "2", "--checkpoint", "fit.pt", "--seed", "5"),
        ("fit", "good.py", "--set", "size=3", "--checkpoint", "fit.pt"),
        ("learn", "good.py", "--steps", "2", "-a", "q_learning", "--seed", "5", "--out", "run"),
        ("solve", "good.py", "-t", "2", "--shards", "shards"),
    ):
        refused(words, folder)
    whole = {path: (folder / path).read_bytes() for path in ("fit.pt", "run/learner.checkpoint")}
    for cut in (0, 1, 100, 1000):
        for path, content in whole.items():
            (folder / path).write_bytes(content[:cut])
        refused(("fit", "good.py", "--steps", "1", "--checkpoint", "fit.pt"), folder)
        refused(("learn", "good.py", "--steps", "2", "-a", "q_learning", "--out", "run"), folder)
    (folder / "shards" / "messages.json").write_text("{")
    refused(("solve", "good.py", "--shards", "shards"), folder)


def test_words_are_checked_before_the_world_is_read(folder: Path) -> None:
    """The world would leave the process at once; what is near is offered."""
    for words, said in (
        (("solve", "-r", "posteriour"), "did you mean POSTERIOR"),
        (("solve", "--discount", "2"), "discount"),
        (("solve", "-t", "0"), "temperature"),
        (("solve", "--form", "table"), "did you mean tables"),
        (("solve", "--partial", "--form", "tables"), "--form"),
        (("compare", "-r", "hrad"), "did you mean HARD"),
        (("compare", "--learn", "soft_qlearning"), "did you mean soft_q_learning"),
        (("compare", "--discount", "2"), "discount"),
        (("learn", "-a", "soft_qlearning"), "did you mean soft_q_learning"),
        (("fit", "--policy", "tabulra"), "did you mean tabular"),
    ):
        told = refused((words[0], "leaves.py", *words[1:]), folder)
        assert said in told
        assert "sys.exit" not in told
    assert "did you mean frozen_lake" in refused(("solve", "frozenlake"), folder)
    assert "did you mean FrozenLake-v1" in refused(("solve", "FrozenLke-v1"), folder)
    assert "did you mean size" in refused(("solve", "good.py", "--set", "sise=3"), folder)
    (folder / "misspelt.py").write_text("class Shop:\n    def stpe(self): ...\n")
    said = "misspelt.py: no class with a method step; expected a class with the methods initial, act and step"
    assert said in refused(("check", "misspelt.py"), folder)


WITHOUT_TORCH = (
    ("solve", "frozen_lake", "-r", "POSTERIOUR"),
    ("solve", "frozen_lake", "-r", "RISK(0)"),
    ("solve", "frozen_lake", "--form", "table"),
    ("solve", "frozen_lake", "--discount", "2"),
    ("solve", "frozen_lake", "--horizon", "-1"),
    ("solve", "frozen_lake", "--observe", "state_1"),
    ("learn", "CartPole-v9"),
    ("learn", "CartPole-v1", "--set", "gravty=3"),
    ("graph", "frozen_lake", "--slices", "0"),
    ("solve", "frozen_lake", "--set", "is_slipery=True"),
    ("solve", "FrozenLke-v1"),
    ("solve", "FrozenLake-v1", "--set", "is_slipery=True"),
    ("solve", "FrozenLake-v1", "--set", "map_name=9x9"),
    ("solve", "CliffWalking-v1"),
    ("solve", "tiger", "--partial", "--form", "tables"),
    ("compare", "frozen_lake", "--learn", "sofq"),
    ("compare", "frozen_lake", "--fit", "tabula"),
    ("learn", "frozen_lake", "-a", "sofq"),
    ("learn", "frozen_lake", "-o", "lq=3"),
    ("fit", "frozen_lake", "--policy", "tabula"),
    ("claims", "tie"),
    ("check", "frozenlake"),
)
ASK = """
import sys
from typer.testing import CliRunner
from cai.cli import app
for words in {}:
    done = CliRunner().invoke(app, [*words])
    print(done.exit_code, *({{"torch"}} & {{*sys.modules}}), *words)
"""


def test_what_is_wrong_is_told_without_torch(folder: Path) -> None:
    """Torch takes seconds to import, and a slip of the finger should not."""
    script = [sys.executable, "-c", ASK.format(WITHOUT_TORCH)]
    told = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert told.stdout.splitlines() == [f"2 {' '.join(words)}" for words in WITHOUT_TORCH], told.stderr


@pytest.mark.filterwarnings("ignore")
def test_a_gymnasium_id_is_taken_wherever_a_world_is() -> None:
    (row,) = json.loads(CliRunner().invoke(app, ["solve", "FrozenLake-v1", "--json"]).stdout)
    (same,) = json.loads(CliRunner().invoke(app, ["solve", "frozen_lake", "--json"]).stdout)
    assert row == same
    assert row["iterations"] == 100  # the id's own time limit
    assert CliRunner().invoke(app, ["check", "FrozenLake-v1", "--set", "is_slippery=False"]).exit_code == 0
    for words in (("graph",), ("compare", "-r", "HARD"), ("fit", "--steps", "1")):
        asked = [words[0], "CliffWalking-v1", *words[1:], "--set", "horizon=3", "--json"]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output


def test_partial_names_what_was_given_beside_it(folder: Path) -> None:
    said = refused(("solve", "tiger", "--partial", "--form", "tables"), folder)
    assert "--form" in said
    assert "--observe" not in said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "words",
    [
        ("solve", "-r", "HARD", "-r", "PLANNING"),
        ("compare",),
        ("compare", "--inference-types"),
        ("compare", "--learn", "q_learning", "--seeds", "1", "--learn-steps", "2"),
        ("fit", "--steps", "2", "--estimator", "score", "--particles", "2", "--samples", "2"),
        ("learn", "-a", "q_learning", "--steps", "2"),
        ("graph",),
        ("check",),
    ],
)
def test_a_world_that_prints_does_not_spoil_json(words: tuple[str, ...], folder: Path) -> None:
    done = CliRunner().invoke(app, [words[0], "loud.py", *words[1:], "--json"])
    assert done.exit_code == 0, done.output
    json.loads(done.stdout)
    assert "at import" in done.stderr
    assert "in step" in done.stderr


def test_evidence_under_a_rule_that_holds_the_dynamics_is_told_once(folder: Path) -> None:
    said = refused(("solve", "two.py:Other", "--observe", "cell_1=1", "--do", "move_0=0", "-r", "VARIATIONAL"), folder)
    assert said.count("\n") == 1
    assert "use POSTERIOR for evidence" in said
    assert "cell_1 = 1" in said


def test_a_full_disk_under_the_answer_is_one_message(folder: Path) -> None:
    for words in (("list",), ("list", "--json")):
        asked = [sys.executable, "-m", "cai", *words]
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, text=True)
        assert (ended.returncode, ended.stderr) == (2, "cai: No space left on device\n")


IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Presses(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Presses())
sys.argv = ["cai", "list"]
from cai.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["cai.cli", "typer", "cai.cli.solve"])
def test_ctrl_c_during_an_import_ends_at_once(module: str, folder: Path) -> None:
    script = [sys.executable, "-c", IMPORTING.format(module=module)]
    ended = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "cai: interrupted\n")


def test_ctrl_c_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a command that a shell put into the background."""
    monkeypatch.setattr("cai.cli.main", lambda: None)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        entry.main()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        entry.main()
        assert signal.getsignal(signal.SIGINT) is end_or_raise
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

"""The command line, as a user meets it: in a process of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cai.cli import app
from tests.command import ROOT, cai, interrupted

GOOD = """
import pyro, torch, cai
from pyro.distributions import Categorical

class MyWorld:
    horizon = 5
    def __init__(self, size=3, cost=1.0):
        self.size, self.cost = size, cost
    def initial(self):
        return pyro.sample("cell", cai.Point(torch.tensor(0), self.size))
    def act(self, state, t):
        return pyro.sample("move", Categorical(logits=torch.zeros(2).expand(*state.shape, 2)))
    def step(self, state, action, t):
        slip = pyro.sample("slip", Categorical(torch.tensor([0.8, 0.2])))
        cell = pyro.sample("cell", cai.Point((state + action * (1 - slip)) % self.size, self.size))
        return cell, -self.cost * (cell != self.size - 1)

class Other(MyWorld):
    horizon = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_world.py").write_text(GOOD)
    return tmp_path


def test_help_does_not_import_torch() -> None:
    script = "import sys; sys.argv = ['cai', '--help']\nimport cai.cli\ntry: cai.cli.main()\nexcept SystemExit: pass\n"
    script += "print('loaded', sorted({'torch', 'pyro', 'gymnasium', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert "loaded []" in done.stdout
    for command in ("solve", "fit", "compare", "graph", "check", "list"):
        assert command in done.stdout


def test_import_cai_imports_neither_gymnasium_nor_matplotlib() -> None:
    # Those apart whose own kind it is: what they make is a gymnasium.Env, speaks to one, or is a page with pictures.
    apart = {"to_gymnasium", "from_sb3", "report"}
    script = f"import sys, cai; [getattr(cai, n) for n in {{*cai.__all__}} - {apart}]\n"
    script += "print(sorted({'gymnasium', 'matplotlib', 'rich', 'typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_solve_prints_the_same_numbers_as_the_library(folder: Path) -> None:
    done = cai(
        "solve", "my_world.py", "-r", "POSTERIOR", "-r", "VARIATIONAL", "-t", "1", "-t", "0.5", "--json", cwd=folder
    )
    rows = json.loads(done.stdout)
    assert [(row["rule"], row["temperature"]) for row in rows] == [
        ("POSTERIOR", 1.0),
        ("VARIATIONAL", 1.0),
        ("POSTERIOR", 0.5),
        ("VARIATIONAL", 0.5),
    ]
    script = "import sys; sys.path.insert(0, '.'); import cai, my_world\n"
    script += "print(float(cai.solve(my_world.MyWorld(), temperature=0.5).log_evidence))"
    library = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)}
    )
    assert rows[2]["log_evidence"] == float(library.stdout)
    assert rows[3]["elbo"] <= rows[2]["log_evidence"]


@pytest.mark.slow
def test_settings_horizon_and_discount_reach_the_world(folder: Path) -> None:
    plain, costly, short = (
        json.loads(cai("solve", "my_world.py", "-r", "HARD", "--json", *words, cwd=folder).stdout)[0]
        for words in ((), ("--set", "cost=2.0"), ("--horizon", "1"))
    )
    assert costly["value"] == pytest.approx(2 * plain["value"])
    assert short["iterations"] == 1
    endless = cai("solve", "my_world.py", "--horizon", "inf", "--discount", "0.5", "--json", cwd=folder)
    assert json.loads(endless.stdout)[0]["error_bound"] > 0
    other = json.loads(cai("solve", "my_world.py:Other", "--json", cwd=folder).stdout)
    assert other[0]["iterations"] == 2


@pytest.mark.slow
def test_compare_writes_the_whole_report(folder: Path) -> None:
    done = cai("compare", "my_world.py", "-t", "1", "-t", "0.1", "--out", "report", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    written = {path.name for path in (folder / "report").iterdir()}
    assert {"report.html", "comparison.csv", "comparison.json", "figures"} <= written
    assert not [name for name in written if name.endswith(".part")]
    assert len(list((folder / "report" / "figures").glob("*.svg"))) >= 3
    page = (folder / "report" / "report.html").read_text()
    for name in ("POSTERIOR", "VARIATIONAL", "HARD", "MAP-plan", "prior"):
        assert name in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_the_twin_lesson_is_told_in_the_report(tmp_path: Path) -> None:
    words = ("compare", "cliff_walking", "--set", "is_slippery=True", "--twin", "is_slippery=False", "-t", "1")
    done = cai(*words, "-r", "POSTERIOR", "-r", "VARIATIONAL", "--horizon", "20", "--out", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kernel" in done.stdout
    assert "kernel" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.slow
def test_graph_shows_and_draws(folder: Path) -> None:
    done = cai("graph", "my_world.py", "--slices", "2", "--out", "graph.svg", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "slip_1" in done.stdout
    assert (folder / "graph.svg").read_text().lstrip().startswith("<svg")
    told = json.loads(cai("graph", "my_world.py", "--json", cwd=folder).stdout)
    assert {"cell_0", "O_1"} <= {node["id"] for node in told["nodes"]}


def test_check_conforms_and_finds(folder: Path) -> None:
    assert cai("check", "my_world.py", cwd=folder).stdout.strip() == "my_world.py: no faults found"
    broken = GOOD.replace("-self.cost * (cell != self.size - 1)", "torch.where(cell == 1, torch.nan, 0.0)")
    (folder / "broken.py").write_text(broken)
    done = cai("check", "broken.py:MyWorld", cwd=folder)
    assert done.returncode == 1
    assert "rewards are NaN" in done.stdout
    assert json.loads(cai("check", "broken.py:MyWorld", "--json", cwd=folder).stdout)[0]["where"] == "step, t = 0"
    solved = cai("solve", "broken.py:MyWorld", cwd=folder)
    assert solved.returncode == 2
    assert "rewards are NaN" in solved.stderr


def test_a_world_may_be_a_dataclass_with_postponed_annotations(folder: Path) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text = head + GOOD.replace("class MyWorld:", "@dataclass\nclass MyWorld:\n    unit: float = 1.0")
    (folder / "data.py").write_text(text)
    assert cai("check", "data.py:MyWorld", cwd=folder).returncode == 0


def test_a_rule_that_diverges_is_left_out_and_said_so(folder: Path) -> None:
    words = ("--horizon", "inf", "--discount", "0.9", "--set", "cost=-3.0", "--json")
    done = cai("solve", "my_world.py", "-r", "POSTERIOR", "-r", "VARIATIONAL", *words, cwd=folder)
    assert [row["rule"] for row in json.loads(done.stdout)] == ["VARIATIONAL"]
    assert "POSTERIOR left out" in done.stderr
    alone = cai("solve", "my_world.py", *words, cwd=folder)
    assert alone.returncode == 2
    assert "infinite" in alone.stderr


def test_list_names_the_catalogue_with_sizes_and_options_without_torch() -> None:
    script = "import sys; from typer.testing import CliRunner; from cai.cli import app\n"
    script += "for words in (['list'], ['list', '--json']): print(CliRunner().invoke(app, words).stdout, '\\0')\n"
    script += "print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    told, listed, loaded = done.stdout.split("\0")
    assert loaded.strip() == "set()"
    rows = {row["name"]: row for row in json.loads(listed)}
    for name in ("frozen_lake", "cliff_walking", "taxi", "grid", "restaurant", "forest", "cartpole", "pendulum"):
        assert name in told
        assert rows[name]["summary"] in told
    assert "17 states, 4 actions, 3 outcomes; options map_name, is_slippery, horizon" in told
    assert rows["frozen_lake"]["size"] == "17 states, 4 actions, 3 outcomes"
    slip = next(option for option in rows["grid"]["options"] if option["name"] == "slip")
    assert slip == {**slip, "kind": "float", "default": "0.2"}
    assert slip["words"].startswith("the chance that a move goes")
    assert [name for name, row in rows.items() if row["seen_in_part"]] == ["hidden_maze", "thermostat", "tiger"]


COMPLETED = (
    ("cai sh", ["show"]),
    ("cai solve fro", ["frozen_lake"]),
    ("cai solve Fro", ["FrozenLake-v1", "FrozenLake8x8-v1"]),
    ("cai solve my", ["my_world.py"]),
    ("cai solve frozen_lake --set m", ["map_name="]),
    ("cai solve my_world.py --set s", ["size="]),
    ("cai solve FrozenLake-v1 --set is", ["is_slippery="]),
    ("cai compare grid -r V", ["VARIATIONAL"]),
    ("cai compare grid --learn soft_q_learning,rei", ["soft_q_learning,reinforce"]),
    ("cai compare grid --fit tabular,st", ["tabular,stationary"]),
    ("cai learn grid -a q_learning -o n_", ["n_step="]),
    ("cai learn grid -a dpo -o ave", ["average="]),
    ("cai fit grid --estimator sc", ["score"]),
    ("cai solve grid --form fa", ["factors"]),
    ("cai new mine.py --from tig", ["tiger"]),
    ("cai claims reward", ["reward-scale"]),
)


def test_the_shell_completes_without_torch(folder: Path) -> None:
    script = "import os, sys; from cai.cli import main\nsys.argv = ['cai']\n"
    script += "os.environ['_CAI_COMPLETE'] = 'complete_bash'\n"
    script += f"for words in {[words for words, _ in COMPLETED]}:\n"
    script += "    os.environ |= {'COMP_WORDS': words, 'COMP_CWORD': str(len(words.split()) - 1)}\n"
    script += "    try: main()\n    except SystemExit: print('\\0')\n"
    script += "print({'torch'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)}
    )
    *offered, loaded = done.stdout.split("\0")
    assert [lines.split() for lines in offered] == [expected for _, expected in COMPLETED], done.stderr
    assert loaded.strip() == "set()"


@pytest.mark.filterwarnings("ignore")
def test_show_says_what_a_world_is(folder: Path) -> None:
    told = (
        CliRunner().invoke(app, ["show", "grid", "--set", "walls=[(1, 1)]", "--out", str(folder / "grid.svg")]).stdout
    )
    for words in ("25 states, 5 actions, 3 outcomes", "T = 100", "models/grid.py", "slip=0.2", "3=up"):
        assert words in " ".join(told.split()), told
    assert "  S . . . .\n  . # . . .\n" in told
    assert (folder / "grid.svg").read_text().startswith("<svg")
    real = json.loads(CliRunner().invoke(app, ["show", "pendulum", "--json"]).stdout)
    assert (real["finite"], real["states"], real["horizon"], real["variables"][1]["role"]) == (
        False,
        None,
        200,
        "action",
    )
    tiger = json.loads(CliRunner().invoke(app, ["show", "tiger", "--json", "--horizon", "3"]).stdout)
    assert (tiger["states"], tiger["actions"], tiger["outcomes"], tiger["horizon"]) == (6, 3, 6, 3)
    assert tiger["seen_in_part"]
    assert tiger["variables"][1]["labels"] == ["left", "right", "none"]
    assert "  growl_1 ← door_0, tiger_1" in tiger["picture"]
    lake = json.loads(CliRunner().invoke(app, ["show", "FrozenLake-v1", "--json"]).stdout)
    assert lake["picture"][:2] == ["  S . . .", "  . H . H"]
    assert "map_name" in {option["name"] for option in lake["options"]}
    own = json.loads(CliRunner().invoke(app, ["show", str(folder / "my_world.py"), "--json"]).stdout)
    assert [option["name"] for option in own["options"]] == ["size", "cost"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("solve", "frozen_lak"), "no such name"),
        (("solve", "nowhere.py"), "no such file"),
        (("solve", "my_world.py:Missing"), "no 'Missing'"),
        (("solve", "my_world.py", "--set", "sise=3"), "no argument sise"),
        (("solve", "my_world.py", "--set", "size"), "name=value"),
        (("solve", "my_world.py", "--set", "size='x'"), "invalid literal"),
        (("solve", "my_world.py", "-t", "0"), "positive"),
        (("solve", "my_world.py", "-t", "abc"), "valid (number|float)"),
        (("solve", "my_world.py", "-r", "SOFT"), r"POSTERIOR, VARIATIONAL"),
        (("solve", "my_world.py", "-r", "RISK(0)"), "other than 0"),
        (("solve", "my_world.py", "--horizon", "-3"), "positive integer"),
        (("solve", "my_world.py", "--horizon", "²"), "positive integer"),
        (("solve", "my_world.py", "--horizon", "inf"), "discount"),
        (("solve", "my_world.py", "--discount", "1.5"), "at most 1"),
        (("solve", "syntax.py"), "SyntaxError"),
        (("solve", "empty.py"), "no class with a method step"),
        (("solve", "frozen_lake", "--set", "map_name=9x9"), "9x9"),
        (("solve", "cartpole"), "no finite support"),
        (("graph", "my_world.py", "--slices", "0"), "slices"),
        (("graph", "my_world.py", "--out", "graph.doc"), ".svg, .png or .pdf"),
        (("show", "my_world.py", "--out", "map.doc"), ".svg, .png or .pdf"),
        (("solve", "crash.py:MyWorld"), r"NameError.*crash.py:14"),
        (("compare", "my_world.py", "--out", "my_world.py"), "my_world.py"),
        (("compare",), "Missing argument"),
        (("frobnicate",), "No such command"),
    ],
)
def test_bad_input_gets_a_clear_line_and_no_traceback(folder: Path, words: tuple, told: str) -> None:

    (folder / "syntax.py").write_text("class World(:\n")
    (folder / "empty.py").write_text("x = 1\n")
    (folder / "crash.py").write_text(GOOD.replace("slip = ", "slip = missing + "))
    done = cai(*words, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(told, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_with_one_word_and_nothing_half_written(folder: Path) -> None:
    slow = GOOD.replace("slip = ", "open('begun', 'w').close(); import time; time.sleep(0.3); slip = ")
    slow = slow.replace("horizon = 5", "horizon = 200")
    slow = slow.replace("return cell,", "return cell, t * 0.0")
    (folder / "slow.py").write_text(slow)
    words = ("compare", "slow.py:MyWorld", "--out", "r")
    done = interrupted(*words, cwd=folder, when=(folder / "begun").exists)
    told = done.stderr
    assert done.returncode == 130
    assert told.strip().splitlines()[-1] == "cai: interrupted"
    assert "Traceback" not in told
    assert not (folder / "r").exists()

"""cai fit, and the fits and types of inference of cai compare. In process where no signal is needed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import cai
from cai.cli import app
from cai.errors import fault
from tests.helpers import load_model

ROOT = Path(__file__).parent.parent
LAKE = ("frozen_lake", "--horizon", "8", "-t", "0.1")

MACHINES = """
import pyro, torch, cai
from pyro.distributions import Categorical

class Machines:
    '''n machines, up or down, and one hand to repair: 2^n states.'''
    horizon = 3
    def __init__(self, n=40):
        self.n = n
        self.names = [f"m{i}" for i in range(n)]
    def initial(self):
        return {name: pyro.sample(name, Categorical(torch.tensor([0.5, 0.5]))) for name in self.names}
    def act(self, state, t):
        return pyro.sample("repair", Categorical(torch.full((self.n,), 1 / self.n)))
    def step(self, state, action, t):
        after, up = {}, 0.0
        for i, name in enumerate(self.names):
            works = torch.where(action == i, 1.0, torch.where(state[name] == 1, 0.9, 0.1))
            after[name] = pyro.sample(name, Categorical(torch.stack([1 - works, works], -1)))
            up = up + after[name].double()
        return after, up / self.n
"""

RISKY = """
import pyro, torch, cai
from pyro.distributions import Categorical

class Risky:
    horizon = 3
    def initial(self):
        return pyro.sample("cell", cai.Point(torch.tensor(0), 3))
    def act(self, state, t):
        return pyro.sample("move", Categorical(torch.tensor([0.5, 0.5])))
    def step(self, state, action, t):
        cell = pyro.sample("cell", cai.Point((state + action) % 3, 3))
        return cell, torch.where(cell == 2, -torch.inf, 1.0 * cell)
"""

CRASHING = """
import pyro, torch, cai
from pyro.distributions import Normal

class Crashing:
    horizon = 2
    def initial(self):
        return pyro.sample("x", Normal(torch.tensor(0.0), 1.0))
    def act(self, state, t):
        return pyro.sample("u", Normal(torch.zeros_like(state), 1.0))
    def step(self, state, action, t):
        x = pyro.sample("x", Normal(state + action, 1.0))
        return x, -x if x > 0 else x
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("machines", MACHINES), ("risky", RISKY), ("crashing", CRASHING)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def numbers(*words: str) -> list[dict]:
    return json.loads(run(*words, "--json").stdout)


def lake() -> cai.World:
    return load_model("frozen_lake")(horizon=8)


def test_the_numbers_are_those_of_the_library() -> None:
    (told,) = numbers("fit", *LAKE, "--steps", "20", "--tolerance", "0")
    fit = cai.fit(lake(), temperature=0.1, steps=20, tolerance=0.0)
    names = ("temperature", "estimator", "elbo", "standard_error", "samples", "elbo_star", "gap", "steps", "stopped")
    assert {name: told[name] for name in names} == {name: getattr(fit, name) for name in names}
    assert told["name"] == "tabular"
    assert told["bound"] == "ELBO*"
    assert told["log_evidence"] == pytest.approx(float(cai.solve(lake(), temperature=0.1).log_evidence), abs=1e-12)


def test_the_table_tells_what_was_reached_and_why_it_ended() -> None:
    told = run("fit", *LAKE, "--steps", "300").stdout
    for words in ("frozen_lake: tabular policy at α = 0.1", "tables", "gap", "ELBO*", "log Z", "exact"):
        assert words in told


@pytest.mark.parametrize("policy", ["tabular", "stationary", "neural", "neural-stationary"])
def test_every_policy_climbs(policy: str) -> None:
    words = ("fit", *LAKE, "--policy", policy, "--tolerance", "0")
    before, after = (numbers(*words, "--steps", steps)[0] for steps in ("0", "40"))
    assert before["elbo"] < after["elbo"] < after["elbo_star"]
    assert after["gap"] == pytest.approx(after["elbo_star"] - after["elbo"])


@pytest.mark.slow
def test_the_full_guide_is_bounded_by_the_evidence_and_the_words_say_so(folder: Path) -> None:
    words = ("fit", *LAKE, "--policy", "full", "--steps", "30")
    (told,) = numbers(*words, "--out", "r")
    assert told["bound"] == "log Z"
    assert told["elbo_star"] is None
    assert told["gap"] == pytest.approx(told["log_evidence"] - told["elbo"])
    best = float(cai.solve(lake(), rule=cai.VARIATIONAL, temperature=0.1).elbo)
    assert best < told["elbo"] < told["log_evidence"]
    assert {"policy.pt", "fit.json", "report.html", "figures"} <= {path.name for path in (folder / "r").iterdir()}
    assert list((folder / "r" / "figures").glob("alpha-*-fits*.svg"))
    shown = run(*words[:-1], "1").stdout
    assert "log Z-ELBO" in shown
    assert "ELBO*-ELBO" not in shown
    assert "its bound is log Z" in shown


@pytest.mark.parametrize("estimator", ["tables", "enumeration", "score", "reparameterised"])
def test_every_estimator_can_be_asked_for(estimator: str) -> None:
    words = ("fit", *LAKE, "--estimator", estimator, "--steps", "2", "--particles", "3", "--tolerance", "0")
    (told,) = numbers(*words)
    assert (told["estimator"], told["steps"], told["samples"]) == (estimator, 2, 0)


@pytest.mark.parametrize(("policy", "usual"), [("tabular", "0.1"), ("neural", "0.01")])
def test_the_step_size_alone_is_changed(policy: str, usual: str) -> None:
    words = ("fit", *LAKE, "--policy", policy, "--steps", "5", "--tolerance", "0")
    assert numbers(*words, "--lr", usual) == numbers(*words)
    assert numbers(*words, "--lr", "0.003") != numbers(*words)


def test_tolerance_and_seed_reach_the_fit() -> None:
    assert numbers("fit", *LAKE, "--tolerance", "100")[0]["steps"] == 0
    words = ("fit", *LAKE, "--policy", "neural", "--steps", "3", "--tolerance", "0", "--seed")
    torch.manual_seed(1)
    first = numbers(*words, "5")
    torch.manual_seed(2)
    assert numbers(*words, "5") == first  # nothing but the seed counts
    assert numbers(*words, "6") != first


@pytest.mark.slow
def test_a_world_beyond_tables_gets_an_estimate_and_no_invented_gap(folder: Path) -> None:
    words = ("fit", "machines.py", "--set", "n=20", "--steps", "2", "--particles", "4", "--samples", "30")
    (told,) = numbers(*words, "--out", "r")
    assert (told["name"], told["estimator"], told["samples"]) == ("neural", "score", 30)
    assert told["standard_error"] > 0
    assert told["gap"] is told["elbo_star"] is told["log_evidence"] is told["bound"] is None
    assert {"policy.pt", "fit.json", "report.html", "figures"} <= {path.name for path in (folder / "r").iterdir()}
    assert list((folder / "r" / "figures").glob("alpha-*-fits*.svg"))
    (kept,) = json.loads((folder / "r" / "fit.json").read_text())
    assert [point["step"] for point in kept["history"]] == [0, 1, 2]
    assert all(point["gap"] is None for point in kept["history"])
    shown = run(*words).stdout
    assert "±" in shown
    assert "the gap is not known" in shown
    assert "1,048,576 states" in shown


@pytest.mark.slow
def test_the_folder_holds_the_policy_its_numbers_and_the_report(folder: Path) -> None:
    words = ("fit", "restaurant", "-t", "0.1", "-t", "1", "--steps", "4", "--policy", "stationary", "--tolerance", "0")
    shown = run(*words, "--out", "r").stdout
    world, out = load_model("restaurant")(), folder / "r"
    assert str(out / "report.html") in shown
    assert not [path for path in out.rglob("*") if path.name.endswith(".part")]
    rows = json.loads((out / "comparison.json").read_text())
    assert [row["name"] for row in rows[0]["rows"]] == ["POSTERIOR", "VARIATIONAL", "prior", "fit:stationary"]
    assert all(list((out / "figures").glob(f"alpha-{alpha}-fits*.svg")) for alpha in (0.1, 1.0))
    assert "fit:stationary" in (out / "report.html").read_text()
    kept = json.loads((out / "fit.json").read_text())
    for one in kept:
        policy = cai.policies.TabularPolicy(world, stationary=True)
        policy.load_state_dict(torch.load(out / one["file"]))
        assert cai.elbo(world, policy, temperature=one["temperature"]).value == one["elbo"]
        assert one["history"][-1]["elbo"] == one["elbo"]


@pytest.mark.parametrize(
    "words",
    [
        ("machines.py", "--set", "n=6", "--policy", "neural", "--estimator", "score", "--particles", "3"),
        (*LAKE, "--policy", "neural", "--tolerance", "0", "--horizon", "3"),
    ],
)
@pytest.mark.slow
def test_a_fit_goes_on_from_its_checkpoint_with_the_same_numbers(folder: Path, words: tuple[str, ...]) -> None:
    whole = numbers("fit", *words, "--steps", "5")
    numbers("fit", *words, "--steps", "2", "--checkpoint", "fit.pt")
    rest = run("fit", *words, "--steps", "5", "--checkpoint", "fit.pt", "--json")
    assert json.loads(rest.stdout) == whole
    assert "went on from fit.pt" in rest.stderr
    other = run("fit", *words, "--steps", "5", "--seed", "1", "--checkpoint", "fit.pt", code=2)
    assert "seed = 0" in other.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("fit", *LAKE, "--policy", "tabluar"),
            "tabular, stationary, neural, neural-stationary, affine, affine-stationary, full",
        ),
        (("fit", *LAKE, "--estimator", "precise"), "auto, tables, exact, enumeration, score, reparameterised"),
        (("fit", *LAKE, "--estimator", "exact"), "expected 'tables', which is exact too"),
        (("fit", *LAKE, "--policy", "affine"), "'affine' for a world that cannot be linearised"),
        (("fit", *LAKE, "--lr", "0"), "--lr: 0.0"),
        (("fit", *LAKE, "--lr", "nan"), "--lr: nan"),
        (("fit", *LAKE, "--tolerance", "-1"), "at least 0"),
        (("fit", *LAKE, "--steps", "-1"), "--steps"),
        (("fit", *LAKE, "--particles", "0"), "--particles"),
        (("fit", *LAKE, "--samples", "1"), "--samples"),
        (("fit", *LAKE, "--seed", "1" + 30 * "0"), "--seed"),
        (("fit", *LAKE, "-t", "1", "--checkpoint", "fit.pt"), "2 temperatures; expected one"),
        (("fit", *LAKE, "-t", "0"), "temperature: 0"),
        (("fit", *LAKE, "--checkpoint", "broken.pt"), "no checkpoint of a learner"),
        (("fit", *LAKE, "--checkpoint", "."), "a folder"),
        (("fit", *LAKE, "--out", "broken.pt"), "is a file"),
        (("fit", *LAKE, "--policy", "full", "--estimator", "tables"), "auto, enumeration or score"),
        (("fit", "frozen_lake", "--horizon", "inf", "--discount", "0.9", "--policy", "full"), "finite horizon"),
        (("fit", "frozen_lak"), "no such name"),
        (("fit", "machines.py", "--policy", "tabular"), "expected neural or neural-stationary"),
        (("fit", "machines.py", "--policy", "full"), "1,099,511,627,776 states"),
        (("fit", "machines.py", "--estimator", "tables"), "expected auto, score or reparameterised"),
        (("fit", "machines.py", "--estimator", "enumeration"), "1,099,511,627,776 states"),
        (("fit", "crashing.py", "--steps", "1"), "crashing.py:13"),
        (("compare", *LAKE, "--fit", "tabular,full"), "tabular, stationary, neural, neural-stationary"),
        (("compare", *LAKE, "--fit", ""), "one of tabular"),
        (("compare", *LAKE, "--steps", "3"), "--steps without --fit"),
        (("compare", *LAKE, "--inference-types", "--fit", "tabular"), "--fit beside --inference-types"),
        (("compare", "machines.py", "--fit", "neural"), "1,099,511,627,776 states"),
        (("compare", "machines.py", "--inference-types"), "1,099,511,627,776 states"),
    ],
)
def test_bad_input_gets_a_clear_line(folder: Path, words: tuple[str, ...], told: str) -> None:
    (folder / "broken.pt").write_text("this is no checkpoint")
    done = run(*words, code=2)
    assert told in done.stderr, done.stderr
    assert done.stdout == ""


def test_compare_sets_fits_beside_the_exact_rules() -> None:
    words = ("compare", *LAKE, "-t", "1", "--fit", "tabular, neural,tabular", "--steps", "6", "--seed", "3")
    told = numbers(*words)
    for one in told:
        assert [row["name"] for row in one["rows"]][-2:] == ["fit:tabular", "fit:neural"]
        assert [fit["name"] for fit in one["fits"]] == ["fit:tabular", "fit:neural"]
        for fit, row in zip(one["fits"], one["rows"][-2:], strict=True):
            assert row["elbo"] == pytest.approx(fit["elbo"], abs=1e-9)
            assert fit["steps"] <= 6
    (alone,) = numbers("fit", *LAKE, "--policy", "neural", "--steps", "6", "--seed", "3")
    assert alone["elbo"] == told[0]["fits"][1]["elbo"]
    assert "fit:tabular: 6 steps by tables, all updates made" in run(*words).stdout


def test_without_fits_the_json_of_compare_stays_as_it_was() -> None:
    (told,) = numbers("compare", *LAKE, "-r", "HARD")
    assert list(told) == ["temperature", "elbo_star", "log_evidence", "rows"]


def test_a_twin_is_compared_beside_fits() -> None:
    words = ("compare", "frozen_lake", "--horizon", "4", "--fit", "tabular", "--steps", "2", "-r", "VARIATIONAL")
    shown = run(*words, "--twin", "is_slippery=False").stdout
    assert "fit:tabular" in shown
    assert "Twins: frozen_lake and frozen_lake is_slippery=False" in shown


def test_what_is_forbidden_is_not_risked_by_any_policy(folder: Path) -> None:
    (told,) = numbers("compare", "risky.py", "--fit", "tabular,stationary,neural", "--steps", "300", "-r", "POSTERIOR")
    for fit in told["fits"]:
        assert fit["gap"] < 0.01


def test_a_policy_that_cannot_be_fitted_is_left_out_with_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(name: str, *args: Any) -> None:
        if name == "neural":
            raise fault("policy", "a world that it cannot take", "another one")

    monkeypatch.setattr("cai.learn.svi.fit.policy_of", refuses)
    done = run("compare", "risky.py", "--fit", "neural,tabular", "--steps", "5", "--json")
    assert [fit["name"] for fit in json.loads(done.stdout)[0]["fits"]] == ["fit:tabular"]
    assert "fit:neural left out at α = 1" in done.stderr


@pytest.mark.slow
def test_compare_shows_the_types_of_inference(folder: Path) -> None:
    words = ("compare", "frozen_lake", "--horizon", "4", "-t", "0.1", "-t", "1", "--inference-types")
    told = numbers(*words, "--out", "r")
    ladder = cai.inference_types(load_model("frozen_lake")(horizon=4), temperature=0.1)
    assert [row["objective"] for row in told[0]["rows"]] == [row.objective for row in ladder.rows]
    assert [row["name"] for row in told[0]["rows"]] == [row.name for row in ladder.rows]
    assert [one["temperature"] for one in told] == [0.1, 1.0]
    page = (folder / "r" / "report.html").read_text()
    shown = run(*words[:-1], "--inference-types").stdout
    for row in ladder.rows:
        assert row.does in page
        assert row.does in shown


def test_a_type_of_inference_that_has_no_answer_is_told() -> None:
    words = ("compare", "frozen_lake", "--horizon", "inf", "--discount", "0.5", "--inference-types")
    assert set(numbers(*words)[0]["left_out"]) == {"MAP trajectory", "marginal MAP"}


def interrupted(fitted: Callable, after: int) -> Callable:
    """Break off the fit of that number, as Ctrl-C does."""
    made = []

    def wrapped(*arguments: object, **settings: object) -> cai.learn.Learned:
        made.append(fitted(*arguments, **settings))
        return replace(made[-1], stopped="interrupted") if len(made) > after else made[-1]

    return wrapped


@pytest.mark.slow
def test_ctrl_c_ends_a_comparison_with_the_fits_that_are_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.learn.trained.fit", interrupted(cai.fit, 2))
    world = ("restaurant", "-t", "0.1")
    words = ("compare", *world, "-t", "1", "-t", "10", "--fit", "tabular,stationary", "--steps", "2", "--out", "r")
    done = run(*words, code=130)
    assert done.stdout.count("fit:tabular: 2 steps") == 2
    assert done.stdout.count("fit:stationary: 2 steps") == 1
    assert "α = 10" not in done.stdout
    assert done.stderr.splitlines()[-1] == "cai: interrupted"
    assert "fit:stationary" in (folder / "r" / "report.html").read_text()
    assert all(list((folder / "r" / "figures").glob(f"alpha-{alpha}-fits*.svg")) for alpha in (0.1, 1.0))


@pytest.mark.slow
def test_ctrl_c_ends_a_fit_with_its_result_and_the_same_command_goes_on(folder: Path) -> None:
    small = ("--set", "n=14", "--horizon", "1", "--particles", "4", "--samples", "20")
    words = ("fit", "machines.py", *small, "--checkpoint", "fit.pt", "--out", "r")
    process = subprocess.Popen(
        [sys.executable, "-m", "cai.cli", *words, "--steps", "1000000", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    began = time.monotonic()
    while not (folder / "fit.pt").exists() and process.poll() is None and time.monotonic() - began < 90:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "cai: interrupted"
    assert "the same command goes on from fit.pt" in told
    assert "Traceback" not in told
    (one,) = json.loads(shown)
    assert one["stopped"] == "interrupted"
    assert json.loads((folder / "r" / "fit.json").read_text())[0]["elbo"] == one["elbo"]
    (rest,) = numbers(*words[:-2], "--steps", str(one["steps"]))
    assert {**rest, "stopped": "interrupted"} == one

"""The command line on worlds of many variables, under conditions, and seen in part."""

import json
import re
from pathlib import Path

import pytest

import cai as library
from tests.command import cai
from tests.helpers import load_model


def test_solve_in_both_forms_agrees() -> None:
    values = {}
    for form in ("tables", "factors"):
        done = cai("solve", "sysadmin", "--set", "n=3", "--set", "horizon=5", "--form", form, "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert row["form"] == form
        values[form] = row["log_evidence"]
    assert values["tables"] == pytest.approx(values["factors"], abs=1e-10)


@pytest.mark.slow
def test_compare_on_factors_writes_its_report(tmp_path: Path) -> None:
    options = ["--set", "n=4", "--set", "horizon=4", "--form", "factors", "-r", "VARIATIONAL", "-r", "prior"]
    done = cai("compare", "sysadmin", *options, "-t", "1", "-t", "0.1", "--out", "report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 state variables, 16 joint states" in " ".join(done.stdout.split())
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    truth = library.compare(load_model("sysadmin")(n=4, horizon=4), {"prior": None}, temperature=0.1)
    assert repr(truth.rows[0].elbo)[:8] in page
    assert "Where each policy loses most" in page
    assert "too often" in page
    assert "reboot=" in page
    figures = {re.sub(r"-\d\.svg|\.svg", "", path.name) for path in (tmp_path / "report" / "figures").iterdir()}
    assert {"ladder", "elimination", "alpha-0.1-variables", "alpha-1.0-accounts"} <= figures
    assert len(json.loads((tmp_path / "report" / "comparison.json").read_text())) == 2


def test_solve_prints_the_policy_by_name() -> None:
    options = ["sysadmin", "--set", "n=3", "--set", "horizon=4", "-r", "HARD", "--policy"]
    shown = cai("solve", *options, "--form", "factors").stdout
    assert "machine_0=running, machine_1=running, machine_2=running" in shown
    assert "reboot=none 1" in " ".join(shown.split())
    for form in ("factors", "tables"):
        (row,) = json.loads(cai("solve", *options, "--form", form, "--json").stdout)
        ((part,),) = [row["policy"]]
        assert (part["t"], part["states"], len(part["rows"])) == (0, 8, 8)
        first = part["rows"][0]
        assert (first["state"], first["start"]) == ("machine_0=running, machine_1=running, machine_2=running", 1.0)
        truth = library.solve(load_model("sysadmin")(n=3, horizon=4), library.HARD).policy
        for one in part["rows"]:
            state = dict(pair.split("=") for pair in one["state"].split(", "))
            assert one["actions"] == pytest.approx({name: p for name, p in truth.at(0, **state).items() if p > 0})
    assert "20 of 32 states" in cai("solve", "sysadmin", "--set", "n=5", "--set", "horizon=2", "--policy").stdout


def test_conditions() -> None:
    plain, seen, forced = (
        json.loads(cai("solve", "sysadmin", "--set", "n=3", *extra, "--json").stdout)[0]["log_evidence"]
        for extra in ([], ["--observe", "machine_1_2=0"], ["--do", "machine_1_2=0"])
    )
    assert seen < plain
    assert forced not in {seen, plain}
    world = load_model("sysadmin")(n=3)
    assert seen == pytest.approx(float(library.solve(world, observe={"machine_1_2": 0}).log_evidence), abs=1e-10)


def test_seen_in_part() -> None:
    words = [
        "solve",
        "tiger",
        "--set",
        "horizon=3",
        "--partial",
        "-r",
        "VARIATIONAL",
        "-r",
        "HARD",
        "--policy",
        "--json",
    ]
    done = cai(*words)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        assert row["qmdp"] <= row["value"] + 1e-12 <= row["fully_observed"] + 2e-12
        ((first,),) = [part["rows"] for part in row["policy"]]
        assert (first["first seen"], first["start"]) == ("growl=none", 1.0)
        assert first["actions"]["door=listen"] == pytest.approx(1.0, abs=1e-6)
    assert "seen in part" in cai("solve", "tiger", "--set", "horizon=3").stderr


def test_rddl() -> None:
    pytest.importorskip("rddlrepository", reason="the extra rddl")
    done = cai("solve", "rddl:SysAdmin_MDP_ippc2011:1", "-r", "HARD", "--horizon", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["form"] == "factors"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["solve", "sysadmin", "--form", "fancy"], "form: 'fancy'; expected one of"),
        (["solve", "sysadmin", "--observe", "machine_1"], "--observe: 'machine_1'; expected site=value"),
        (["solve", "sysadmin", "--observe", "machine_1_2=7"], "value 7; expected down, running, or 0 … 1"),
        (["solve", "sysadmin", "--do", "engine_1_2=0"], "no variable 'engine_1'"),
        (["solve", "sysadmin", "--set", "n=40"], "joint states"),
        (["solve", "frozen_lake", "--partial"], "observe"),
        (["solve", "tiger", "--partial", "--form", "factors"], "--partial"),
        (["compare", "sysadmin", "--form", "factors", "--fit", "tabular"], "--form: factors beside"),
        (["graph", "sysadmin", "--do", "engine_1_2=0"], "no node 'engine_1_2'"),
        (["solve", "rddl:Nothing:1"], "no problem 'Nothing'"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], said: str) -> None:
    done = cai(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    predicted = "multiplications" in done.stderr  # what a long run will cost is said before it is refused
    assert len(done.stderr.strip().splitlines()) == 1 + predicted

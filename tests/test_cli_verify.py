"""cai verify: verdicts on the terminal, as JSON and as JUnit XML, the exit code, and faults in one line."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.command import cai

AGENT = """
from cai.exact.rules import VARIATIONAL
from cai.verification import MISTAKES
from cai.verification.answer import answer, right
from cai.verification.task import task_of

def train(env, seed):
    task = task_of(env.unwrapped.probe, VARIATIONAL)
    return answer(task, right(task)).log_pi

def forgetful(env, seed):
    return MISTAKES["later entropy missing"].answer(task_of(env.unwrapped.probe, VARIATIONAL)).log_pi

def halfway(env, seed):
    return 0.5 * train(env, seed) + 0.5 * forgetful(env, seed)

def broken(env, seed):
    raise ValueError("a bell\\a rings")

def alone(env):
    return None

number = 3
"""
SOME = ("--probe", "entropy-to-go", "--probe", "luck", "--probe", "noisy-reward", "--seeds", "2")


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    return tmp_path


def test_a_sound_learner_passes(agent: Path) -> None:
    done = cai("verify", "agent.py", *SOME, cwd=agent)
    assert done.returncode == 0, done.stderr
    assert "2 pass, 1 left out." in done.stdout
    assert done.stderr == ""


def test_a_mistake_is_named_everywhere(agent: Path) -> None:
    done = cai("verify", "agent.py:forgetful", *SOME, "--json", "--junit", "to/j.xml", cwd=agent)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    verdicts = {one["probe"]: one["verdict"] for one in told["verdicts"]}
    assert verdicts == {"entropy-to-go": "fail", "luck": "pass", "noisy-reward": "left out"}
    assert told["cause"][0] == "later entropy missing"
    root = ElementTree.parse(agent / "to" / "j.xml").getroot()
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "3",
        "1",
        "0",
        "1",
    )
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failure = cases["entropy-to-go"].find("failure")
    assert failure is not None
    assert "does not count later entropy" in (failure.get("message") or "")
    assert [child.tag for child in cases["luck"]] == ["system-out"]
    assert [child.tag for child in cases["noisy-reward"]] == ["skipped"]


def test_an_error_is_one_and_the_file_stays_xml(agent: Path) -> None:
    done = cai("verify", "agent.py:broken", *SOME, "--junit", "j.xml", cwd=agent)
    assert done.returncode == 1
    assert "ValueError: a bell" in done.stdout
    errors = list(ElementTree.parse(agent / "j.xml").getroot().iter("error"))
    assert [one.get("message") for one in errors] == ["With seed 0: ValueError: a bell\ufffd rings (agent.py:18)"] * 2


def test_what_is_undecided_fails_only_where_that_is_asked(agent: Path) -> None:
    words = ("verify", "agent.py:halfway", "--probe", "entropy-to-go", "--seeds", "2")
    done = cai(*words, cwd=agent)
    assert done.returncode == 0
    assert "without a verdict: entropy-to-go" in done.stderr
    assert cai(*words, "--strict", cwd=agent).returncode == 1


def test_a_learner_of_this_library_has_its_own_rule(tmp_path: Path) -> None:
    done = cai(
        "verify", "-a", "q_learning", "-o", "steps=2500", "--probe", "clipping", "--seeds", "2", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["rule"] == "HARD"


def test_the_lists(tmp_path: Path) -> None:
    probes = json.loads(cai("verify", "--list", "--json", cwd=tmp_path).stdout)
    mistakes = {one["name"] for one in json.loads(cai("verify", "--mistakes", "--json", cwd=tmp_path).stdout)}
    assert {one["catches"] for one in probes if one["name"] != "seeds"} <= mistakes
    assert probes[-1]["name"] == "seeds"
    lines = cai("verify", "--list", cwd=tmp_path).stdout
    assert "catches: optimistic" in lines
    assert max(map(len, lines.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "neither a file nor a learner"),
        (("agent.py", "-a", "soft_q_learning"), "a file beside --algorithm"),
        (
            ("agnt.py",),
            "no such file; expected a Python file with a function train(env, seed), or file.py:function; did",
        ),
        (("soft_q_learning",), "did you mean --algorithm soft_q_learning?"),
        (("agent.py:trian",), "no 'trian'"),
        (("agent.py:number",), "no function; expected train(env, seed)"),
        (("agent.py:alone",), "it takes (env); expected a function of two arguments, (env, seed)"),
        (("agent.py", "--probe", "lack"), "did you mean luck?"),
        (("agent.py", "--without", "masc"), "did you mean masks?"),
        (("agent.py", "--rule", "MAP"), "expected one of VARIATIONAL, HARD, POSTERIOR"),
        (("agent.py", "--hard", "--rule", "HARD"), "--hard beside --rule"),
        (("agent.py", "-o", "lr=1"), "--option without --algorithm"),
        (("agent.py", "--minutes", "0"), "--minutes: 0; expected a positive number\n"),
        (("agent.py", "--junit", "."), "--junit: '.' is a folder; expected a file"),
        (("-a", "soft_q_learing"), "did you mean soft_q_learning?"),
        (("agent.py", "--junit", "agent.py/j.xml"), "--junit: "),
        (("agent.py", "--jobs", "2", "--ray", "local"), "verify, ray"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(agent: Path, words: tuple[str, ...], said: str) -> None:
    done = cai("verify", *words, cwd=agent)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""

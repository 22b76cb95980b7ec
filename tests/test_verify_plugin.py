"""The plugin of pytest: a test for each probe, verdicts in words, the cause at the end, and nothing heavy before."""

import subprocess
import sys
import tomllib

import pytest

import cai
from tests.command import ROOT

pytest_plugins = "pytester"
FILE = """
import cai
from cai.verification import MISTAKES
from cai.verification.task import task_of

def forgetful(env, seed):
    return MISTAKES["later entropy missing"].answer(task_of(env.unwrapped.probe, cai.VARIATIONAL)).log_pi

def test_mine(probe):
    diagnosis = probe.verify(forgetful, without=["masks"])
    assert diagnosis.verdict == "pass"
    assert probe.id == f"cai/{probe.name}-v0"
"""
SOME = "test_mine[luck] or to-go or masks or noisy or truncation"


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Load what a verification needs: modules that an inner run loads go when it ends, and cannot be loaded again."""
    cai.verify(lambda env, seed: lambda obs: [0.5, 0.5], probes=["luck", "seeds"], seeds=2, progress=False)


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a test, in which only the plugin itself is loaded, whatever is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(FILE)
    return pytester


def run(inner: pytest.Pytester, *words: str) -> pytest.RunResult:
    return inner.runpytest_inprocess("-p", "cai.verification.pytest_plugin", "-p", "no:cacheprovider", *words)


def test_each_probe_is_a_test_and_the_cause_is_named(inner: pytest.Pytester) -> None:
    done = run(inner, "--cai", "--cai-seeds", "2", "-rs", "-k", SOME)
    done.assert_outcomes(failed=1, passed=2, skipped=2)
    done.stdout.fnmatch_lines_random([
        "entropy-to-go: fail. Your policy is that of an agent that does not count later entropy*",
        "*left out: It needs a learner that knows of: masks.*",
        "*test_mine: 2 pass, 1 fail, 2 left out. Your learner is an agent that does not count later entropy*",
    ])  # fmt: skip
    done.stdout.no_fnmatch_line("*Traceback*")


def test_what_is_undecided_is_skipped_unless_strict(inner: pytest.Pytester) -> None:
    words = ("--cai", "--cai-seeds", "1", "-k", "test_mine[luck]")
    run(inner, *words).assert_outcomes(skipped=1)
    run(inner, *words, "--cai-strict").assert_outcomes(failed=1)


def test_the_check_of_seeds_is_a_test_too(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        "def test_mine(probe): assert probe.verify(lambda env, seed: lambda obs: [0.5, 0.5]).verdict == 'pass'"
    )
    run(inner, "--cai", "-k", "test_mine[seeds]").assert_outcomes(passed=1)


def test_without_the_option_the_probes_are_skipped(inner: pytest.Pytester) -> None:
    done = run(inner, "-rs")
    assert set(done.parseoutcomes()) - {"warnings"} == {
        "skipped"
    }  # pytest warns of a plugin that is installed and given
    done.stdout.fnmatch_lines(["*the probes are run by pytest --cai*"])


def test_a_probe_of_ones_own_name_is_left_alone(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.parametrize('probe', [1, 2])\ndef test_mine(probe): assert probe")
    run(inner).assert_outcomes(passed=2)


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import sys, cai.verification.pytest_plugin; print({'torch', 'pyro', 'gymnasium', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


def test_pytest_finds_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"cai": "cai.verification.pytest_plugin"}

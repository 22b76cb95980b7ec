"""cai learn: on a world and on a Gymnasium id, kept in a folder from which it goes on; faults in one line."""

import json
from pathlib import Path

import pytest

from tests.command import cai


def test_a_world_is_learned_and_told_in_nats(tmp_path: Path) -> None:
    words = ("frozen_lake", "-a", "soft_q_learning", "-t", "0.1", "--steps", "3000", "-o", "evaluations=2")
    done = cai("learn", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "policy nats" in done.stdout
    assert "all steps taken" in done.stdout


@pytest.mark.slow
def test_what_is_kept_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    words = (
        "CartPole-v1",
        "-a",
        "soft_reinforce",
        "--steps",
        "2000",
        "-o",
        "batch=8",
        "-o",
        "evaluations=2",
        "--out",
        "r",
    )
    first = cai("learn", *words, "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    again = cai("learn", *words, "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    lines = [json.loads(line) for line in (tmp_path / "r" / "progress.jsonl").read_text().splitlines()]
    assert lines == json.loads(first.stdout)["history"]
    other = cai("learn", *words, "--seed", "3", cwd=tmp_path)
    assert other.returncode == 2
    assert "seed = 0" in other.stderr


def test_options_of_an_environment_reach_it(tmp_path: Path) -> None:
    """On a lake of two cells without slips the first step to the right ends every episode with the reward."""
    words = (
        "FrozenLake-v1",
        "-a",
        "q_learning",
        "--set",
        "is_slippery=False",
        "--set",
        "desc=['SG']",
        "--steps",
        "600",
    )
    done = cai("learn", *words, "-o", "batch=50", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["history"][-1]["deterministic_return"] == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "one of the catalogue"),
        (("Nope-v1",), "an installed id"),
        (("frozen_lake", "-o", "plyak=3"), "did you mean polyak"),
        (("frozen_lake", "-a", "nothing"), "--algorithm"),
        (("frozen_lake", "-o", "lq=3"), "one of gamma"),
        (("frozen_lake", "-o", "lr=abc"), "lr: 'abc'"),
        (("frozen_lake", "-t", "0"), "temperature"),
        (("CartPole-v1", "--discount", "0"), "--discount"),
        (("FrozenLake-v1", "--set", "slips=1"), "no option slips"),
        (("FrozenLake-v1", "-o", "is_slippery=False"), "--set"),
        (("pendulum", "-a", "q_learning"), "finitely many"),
    ],
)
def test_faults_are_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = cai("learn", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

"""What is no world and what is no policy is told wherever it is given: in a process without the suite's type checks."""

import json
from pathlib import Path

from tests import misused
from tests.command import FORKS


def test_what_is_no_world_and_no_policy_is_told_everywhere(tmp_path: Path) -> None:
    process = FORKS.Process(target=misused.tell, args=(tmp_path / "told.json",))
    process.start()
    process.join()
    told = json.loads((tmp_path / "told.json").read_text())
    answers = {call: said for call, said in told.items() if not call.startswith("check")}
    assert len(answers) > 200
    assert not {call: said for call, said in answers.items() if not said.startswith("WorldError")}
    assert all(told[f"check, {kind}"] for kind in misused.NO_WORLDS)
    assert "the class Acting; expected an instance" in told["evaluate, class"]
    assert "complex" in told["evaluate, complex"]
    assert "act: no such method" in told["solve, without act"]

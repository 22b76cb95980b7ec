"""The verdicts on a page: the table, the nats from each answer, the worlds, and the files beside it."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import cai
from cai.support.numbers import show
from cai.verification import MISTAKES, Verification
from cai.verification.task import task_of
from cai.view import alt
from cai.view.hypothesis_figure import nats_from_answers


def forgetful(env: Any, seed: int) -> Any:
    found = MISTAKES["later entropy missing"].answer(task_of(env.unwrapped.probe, cai.VARIATIONAL))
    return None if found is None else found.log_pi


@pytest.fixture(scope="module")
def found() -> Verification:
    names = ["entropy-to-go", "best-action", "luck", "masks"]
    return cai.verify(forgetful, probes=names, seeds=2, without=["masks"], progress=False)


def test_a_page_says_verdicts_cause_and_worlds(found: Verification, tmp_path: Path) -> None:
    text = cai.report({"mine": found}, tmp_path, title="Unit tests of mine").read_text(encoding="utf-8")
    assert f"that explains {len(found.explained)} of {len(found.explained)} failures." in text
    assert re.findall(r'<tr data-policy="([\w-]+)"', text)[:4] == ["entropy-to-go", "best-action", "luck", "masks"]
    assert f'<data value="{found["entropy-to-go"].distances["right"].value!r}"' in text
    assert "<b>entropy-to-go</b>: fail, later entropy missing" in text
    assert "narrower, reward 1.4" in text
    assert '<th scope="row">end<' not in text, "nobody acts there"
    assert "Which line of its code would you look at first?" in text
    assert json.loads((tmp_path / "verification.json").read_text()) == json.loads(found.json())
    assert ElementTree.parse(tmp_path / "verification.xml").getroot().get("failures") == str(len(found.explained))
    assert (tmp_path / "verification.csv").read_text().startswith("probe,verdict,mistake,")
    assert len(list(tmp_path.glob("figures/nats-0-*.svg"))) == 2


def test_the_matrix_has_the_right_answer_first_then_the_nearest(found: Verification) -> None:
    panels = nats_from_answers(found)
    (first, *_) = panels.values()
    names = [label.get_text() for label in first.axes[0].get_xticklabels()]
    assert names[:2] == ["right", "later entropy missing"]
    off = found["entropy-to-go"].distances["right"].value
    assert f"entropy-to-go: {show(off)} from right, 0 from later entropy missing" in alt(first)
    every = [label.get_text() for one in panels.values() for label in one.axes[0].get_xticklabels()]
    assert set(every) < {"right", *MISTAKES}
    assert len(every) == len(set(every))
    assert {"no entropy", "optimistic"} <= set(every)
    assert "truncation ends" not in every, "nothing is cut off on these probes"


def test_nothing_learned_has_a_page_and_no_matrix(tmp_path: Path) -> None:
    nothing = cai.verify(lambda env, seed: None, probes=["luck"], seeds=2, progress=False)
    text = cai.report(nothing, tmp_path).read_text(encoding="utf-8")
    assert "it returned None" in text
    assert "Which answer was learned?" not in text
    with pytest.raises(cai.errors.WorldError, match="no probe on which a policy was learned"):
        nats_from_answers(nothing)


def test_a_cause_is_told_once_for_all_that_it_explains() -> None:
    def greedy(env: Any, seed: int) -> Any:
        found = MISTAKES["no entropy"].answer(task_of(env.unwrapped.probe, cai.VARIATIONAL))
        return None if found is None or env.unwrapped.probe.name == "risk" else found.log_pi

    several = cai.verify(greedy, probes=["luck", "risk", "entropy"], seeds=2, progress=False)
    assert several.explained == ("luck", "entropy")
    assert [remark.split(":")[0] for remark in several.remarks] == ["luck", "risk"]

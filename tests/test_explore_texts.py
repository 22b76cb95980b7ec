"""The page that writes texts: its scripts compute what the library computes, and a browser shows it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from py_mini_racer import MiniRacer

import cai
from cai.view.explorer import explore_texts as module
from tests.browser import barriers, browser, needs_chromium, opened

KINDS = {"optimum": "k1_in_reward", "k2": "k2", "k3": "k3", "k1": "k1"}
LETTERS = cai.language.Vocabulary(("a", "b", "c"))


def bigram(delta: float = 0.5) -> Any:
    return cai.language.fit_ngram("abcabbcaacb" * 3, 2, vocabulary=LETTERS, smoothing="add", delta=delta)


@pytest.fixture(scope="module")
def script() -> MiniRacer:
    racer = MiniRacer()
    racer.eval(Path(module.__file__).with_name("texts_engine.js").read_text())
    return racer


def asked(script: MiniRacer, data: Any, word: str, T: int, alpha: float, ends: bool) -> Any:
    letters = [LETTERS.number[letter] for letter in word]
    script.eval(f"var w = Texts.world(Texts.reference({json.dumps(data)}), {letters}, {T}, {json.dumps(ends)}); 0")
    script.eval(f"var best = Texts.solve(w, 'optimum', {alpha})")
    script.eval(f"var account = (p) => Texts.account(w, p, {alpha}, best)")
    script.eval("var told = (p) => JSON.stringify({...account(p), lost: [...account(p).lost]})")
    kinds = [*KINDS, "reference"]
    return {kind: json.loads(script.eval(f"told(Texts.solve(w, '{kind}', {alpha}))")) for kind in kinds}


@pytest.mark.parametrize("ends", [False, True], ids=["contains", "ends with"])
@pytest.mark.parametrize(("word", "alpha", "delta"), [("bb", 0.1, 0.5), ("abab", 0.03, 0.0), ("c", 1.0, 0.5)])
def test_the_page_computes_what_the_library_computes(
    script: MiniRacer, word: str, alpha: float, delta: float, ends: bool
) -> None:
    reference = bigram(delta)
    seen = asked(script, _data(reference), word, 6, alpha, ends)
    automaton = (cai.language.ending_with if ends else cai.language.containing)(word, LETTERS)
    world = cai.tabulate(cai.language_world(reference, automaton, horizon=6))
    policies: dict[str, Any] = {
        kind: cai.kl_fixed_point(world, name, temperature=alpha) for kind, name in KINDS.items()
    }
    for kind, policy in (policies | {"reference": None}).items():
        exact = cai.evaluate(world, policy, temperature=alpha)
        found = seen[kind]
        assert found["accepted"] == pytest.approx(exact.expected_return, abs=1e-11)
        assert found["kl"] == pytest.approx(exact.kl_to_prior, abs=1e-10)
        assert found["elbo"] == pytest.approx(exact.elbo, abs=1e-9)
        assert found["entropy"] == pytest.approx(exact.entropy / 6, abs=1e-10)
        np.testing.assert_allclose(found["lost"], exact.policy_nats.sum(-1), atol=1e-9)


def _data(reference: Any) -> Any:
    return cai.view.explore_texts(reference, pattern="ab").data


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"pattern": "abé"}, "'é'"),
        ({"pattern": ""}, "0 letters"),
        ({"pattern": "abc", "horizon": 2}, "3 letters"),
        ({"temperature": 9.0}, "9.0"),
        ({"horizon": 99}, "99"),
    ],
)
def test_what_no_page_can_show_is_refused(options: dict[str, Any], seen: str) -> None:
    with pytest.raises(cai.WorldError, match=seen):
        cai.view.explore_texts(bigram(), **{"pattern": "ab", **options})


def test_words_cannot_be_typed_letter_by_letter() -> None:
    spoken = cai.language.fit_ngram("to be or not to be", 2, vocabulary=cai.language.words("to be or not to be"))
    with pytest.raises(cai.WorldError, match="single characters"):
        cai.view.explore_texts(spoken, pattern="to")


def test_a_reference_too_large_for_a_page_is_refused() -> None:
    letters = cai.language.characters()
    with pytest.raises(cai.IntractableError, match="contexts of 27 letters"):
        cai.view.explore_texts(cai.language.fit_ngram("the cat sat", 4, vocabulary=letters))


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(
    "look",
    [{"viewport": {"width": 1200, "height": 900}}, {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}],
    ids=["desk", "dark phone"],
)
def test_the_page_writes_what_is_typed(look: dict[str, Any], tmp_path: Path) -> None:
    path = cai.view.explore_texts(bigram(), pattern="bb", horizon=6, temperature=0.1).save(tmp_path / "texts.html")
    with browser() as running, opened(running, path.as_uri(), reduced_motion="reduce", **look) as (page, heard):
        page.wait_for_selector("#numbers tbody tr")
        assert _numbers(page)["optimum"] == pytest.approx(_exact("bb", 6, 0.1), rel=1e-4)
        page.fill("#pattern", "abab")
        page.wait_for_function("document.getElementById('goal').textContent.includes('abab')")
        found = _numbers(page)
        assert found["k3"] == pytest.approx(_exact("abab", 6, 0.1, "k3"), rel=1e-4)
        before = page.locator("#writer-optimum ol").inner_text()
        assert page.locator("#writer-k1 mark").count() == 6  # k1 in the loss always earns the reward
        page.click("#write")
        page.wait_for_function(f"document.querySelector('#writer-optimum ol').innerText !== {json.dumps(before)}")
        page.fill("#pattern", "abz")
        page.wait_for_function("document.getElementById('said').textContent.includes('no letter')")
        assert page.get_attribute("#pattern", "aria-invalid") == "true"
        page.fill("#pattern", "ab")
        page.fill("#prefix", "a")
        page.wait_for_function("document.querySelector('#next svg').getAttribute('aria-label').includes('optimum: b')")
        assert page.evaluate("document.documentElement.scrollWidth") <= look["viewport"]["width"]
        assert not barriers(page)
        assert not heard


def _numbers(page: Any) -> dict[str, list[float]]:
    rows = page.locator("#numbers tbody tr").all()
    return {
        row.get_attribute("data-policy"): [float(cell) for cell in row.locator("td").all_inner_texts()] for row in rows
    }


def _exact(word: str, T: int, alpha: float, kind: str = "optimum") -> list[float]:
    world = cai.tabulate(cai.language_world(bigram(), cai.language.containing(word, LETTERS), horizon=T))
    one = cai.evaluate(world, cai.kl_fixed_point(world, KINDS[kind], temperature=alpha), temperature=alpha)
    return [one.expected_return, one.kl_to_prior, one.elbo, max(0.0, one.optimality_gap), one.entropy / T]

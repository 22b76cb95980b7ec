"""The report: one page for every command, whose numbers are those that were computed and whose words say so plainly."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.evaluation.compare import sampled
from cai.experiments.claims import CLAIMS
from cai.support.numbers import show
from cai.view.reports.about import about_world
from cai.view.reports.game import rules_of, temperature_in_words
from cai.view.reports.glossary import linker
from cai.view.reports.report import report
from cai.view.reports.sections import Picture, Request
from cai.view.reports.twins import lesson, why
from cai.view.summary import summary
from tests.browser import barriers, browser, needs_chromium, opened
from tests.helpers import load_model
from tests.learned import rising, run_of
from tests.page import Page, graphic, page_of
from tests.test_view import Corridor, compared, gambles
from tests.worlds import FactoredWorld, RandomWorld

SMALL = RandomWorld(1, 3, 2, 2, 3, holes=False)


@pytest.fixture(scope="module")
def lake() -> list[cai.Comparison]:
    return compared(cai.from_gymnasium("FrozenLake-v1", horizon=20), [1.0, 0.1])


@pytest.fixture(scope="module")
def cliffs() -> tuple[list[cai.Comparison], list[cai.Comparison]]:
    sides = (cai.from_gymnasium("CliffWalking-v1", horizon=20, is_slippery=slips) for slips in (True, False))
    slippery, sure = (compared(side, [1.0, 0.1]) for side in sides)
    return slippery, sure


def asked(results: Any, **more: Any) -> Request:
    return Request("w", {str(n): one for n, one in enumerate(results)}, **more)


# Comparisons


def test_the_numbers_on_the_page_are_those_of_the_comparison(
    lake: list[cai.Comparison], tmp_path: Path, undrawn: None
) -> None:
    path = report(lake, tmp_path / "out", title="The lake", notes=["A note.\nIts second line."], command="cai compare")
    assert path == tmp_path / "out" / "report.html"
    page = page_of(path)
    cold_to_warm = [lake[1], lake[0]]
    fields = [column.field for column in lake[0].shown]
    expected = [
        (row.name, field, float(getattr(row, field)))
        for one in cold_to_warm
        for row in one.rows
        for field in fields
    ]  # fmt: skip
    in_tables = [
        (policy, field, float(value))
        for policy, field, value in page.numbers
        if policy in {row.name for row in lake[0].rows}
    ]
    assert in_tables == expected
    outside = {field: float(value) for policy, field, value in page.numbers if policy is None}
    assert outside == {
        "log_evidence": lake[1].log_evidence, "elbo_star": lake[1].elbo_star,
        "best_return": lake[1].evaluations["HARD"].best_return,
    }  # fmt: skip
    for text in ("A note. Its second line.", "17 states and 4 actions (left, down, right, up)", "at most T = 20 steps"):
        assert text in page.text
    assert "“ended”" in page.text
    assert "cai compare" in page.text
    assert all(column.meaning in page.text for column in lake[0].shown if column.field != "elbo")
    assert "It is a lower bound of log Z." in page.text


def test_the_coldest_temperature_comes_first_and_all_others_are_folded(
    lake: list[cai.Comparison], tmp_path: Path, undrawn: None
) -> None:
    text = report(lake, tmp_path).read_text(encoding="utf-8")
    assert text.index("Temperature α = 0.1") < text.index("Temperature α = 1<")
    assert text.count('<details class="chapter"') == 1
    assert '<details class="chapter" id="alpha-1.0">' in text
    words = Page(text).text
    (told, *_) = summary([lake[1]])
    assert words.count(told) == 1
    assert summary([lake[0]])[0] not in words  # no sentence for each temperature
    assert "Across temperatures" in words


def test_a_single_temperature_has_no_ladder(tmp_path: Path, undrawn: None) -> None:
    page = page_of(report(compared(SMALL, [1.0]), tmp_path))
    assert "Across temperatures" not in page.text
    assert "ladder" not in page.text


def test_success_stands_on_the_page_where_an_end_pays(
    lake: list[cai.Comparison], tmp_path: Path, undrawn: None
) -> None:
    page = page_of(report(lake[:1], tmp_path))
    success = {policy: float(value) for policy, field, value in page.numbers if field == "success"}
    assert success == {row.name: row.success for row in lake[0].rows}
    assert success["HARD"] == pytest.approx(lake[0].row("HARD").expected_return)  # only the goal pays, and it pays 1
    assert "success" not in {field for _, field, _ in page_of(report(compared(SMALL, [1.0]), tmp_path)).numbers}


def test_places_of_a_stationary_world_are_told_once_for_all_times(
    lake: list[cai.Comparison], tmp_path: Path, undrawn: None
) -> None:
    page = page_of(report(lake[:1], tmp_path))
    first, *rest = lake[0].evaluations["prior"].worst(together=True)
    assert f"{show(first.lost)} of them at {first.label}, t = {first.t} … {first.until}" in page.text
    for loss in (first, *rest):
        assert f"{loss.does.label} " in page.text
    assert ": no policy does better" in page.text
    account = lake[0].evaluations["prior"].account()
    assert re.sub(r"\s+", " ", account).replace(" -", " −") in page.text


@pytest.mark.slow
def test_a_page_holds_its_figures_and_the_folder_too(lake: list[cai.Comparison], tmp_path: Path) -> None:
    world = cai.from_gymnasium("FrozenLake-v1", horizon=20)
    page = page_of(report(lake, tmp_path, title="The lake", dag=cai.graph(world, 2)))
    files = sorted((tmp_path / "figures").iterdir())
    assert len(page.titles) == len(files)
    for file in files:
        graphic(file)
    names = {re.sub(r"-\d+$", "", file.stem) for file in files}
    assert {"key", "ladder", "horizons", "graph", "alpha-0.1-values", "alpha-0.1-value-heat"} <= names
    assert "alpha-1.0-values" in names
    assert "alpha-1.0-value-heat" not in names  # over time at the coldest temperature alone
    report(lake[:1], tmp_path)
    assert not list((tmp_path / "figures").glob("alpha-0.1-*"))


def test_a_small_page_is_drawn(tmp_path: Path) -> None:
    one = cai.compare(SMALL, {"VARIATIONAL": cai.VARIATIONAL})
    page = page_of(report(one, tmp_path))
    files = list((tmp_path / "figures").iterdir())
    assert len(page.titles) == len(files) > 5
    assert "VARIATIONAL" in page.titles[0] or "VARIATIONAL" in (tmp_path / "figures" / "key-1.svg").read_text()


def test_the_data_beside_the_page_hold_every_temperature(tmp_path: Path, undrawn: None) -> None:
    pair = compared(SMALL, [0.1, 1.0])
    report(pair, tmp_path, title="a pair")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text(encoding="utf-8"))))
    expected = [(row.name, row.temperature, row.elbo) for one in pair for row in one.rows]
    assert [(row["name"], float(row["temperature"]), float(row["elbo"])) for row in rows] == expected
    found = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert found == [json.loads(one.json()) for one in pair]
    assert not list(tmp_path.rglob("*.part"))


def test_a_second_report_leaves_nothing_of_the_first(cliffs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def empty(name: str, title: str, caption: str, *_: Any, **__: Any) -> Picture:
        return Picture(name, title, caption, ("<svg/>", "<svg/>"))

    monkeypatch.setattr("cai.view.reports.pictures.picture", empty)
    slippery, sure = cliffs
    report(slippery, tmp_path, twin=("sure", sure))
    mine = {tmp_path / "notes.csv", tmp_path / "figures" / "mine.svg", tmp_path / "figures" / "ladder-of-mine.svg"}
    for path in mine:
        path.write_text("mine")
    before = {path.name for path in tmp_path.rglob("*")}
    assert {"twin.csv", "ladder-1.svg"} <= before
    report(slippery[:1], tmp_path)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    other = tmp_path / "other"
    report(slippery[:1], other)
    alone = {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path) for path in left - mine} == alone
    assert mine <= left


def test_names_and_notes_are_escaped(tmp_path: Path, undrawn: None) -> None:
    rude = {"<script>alert(1)</script>": None, "R&D $x$": cai.VARIATIONAL}
    one = cai.compare(SMALL, rude, temperature=1.0)
    page = page_of(report([one], tmp_path, title="<i>a</i> & b", notes=["<img src=x onerror=y>"], about="<u>u</u>"))
    assert not page.tags & {"i", "u"}
    for text in ("<i>a</i> & b", "<img src=x onerror=y>", "<script>alert(1)</script>", "R&D $x$", "<u>u</u>"):
        assert text in page.text


def test_a_world_of_minus_infinities_has_a_report(tmp_path: Path) -> None:
    comparisons = gambles(1.0, 0.1)
    page = page_of(report(comparisons, tmp_path, title="gamble"))
    numbers = {(policy, field): value for policy, field, value in page.numbers}
    assert numbers[None, "elbo_star"] == ""
    assert float(numbers[None, "log_evidence"]) == comparisons[1].log_evidence
    assert numbers["prior", "elbo"] == "-inf"
    assert numbers["prior", "policy_nats"] == ""
    assert "−∞" in page.text
    assert "No policy nats are drawn" in page.text
    assert not list((tmp_path / "figures").glob("*policy-nats*"))
    assert list((tmp_path / "figures").glob("*luck-nats*"))


@pytest.mark.slow
def test_an_infinite_horizon_and_a_map_with_walls_have_a_report(tmp_path: Path) -> None:
    lasting = compared(RandomWorld(2, 4, 3, 3, None, holes=False, discount=0.9, positive=False), [1.0])
    page = page_of(report(lasting, tmp_path / "a", title="on"))
    assert "no last step: after each step it goes on with probability γ = 0.9" in page.text
    report(compared(Corridor(), [1.0]), tmp_path / "b", title="walls")
    for file in tmp_path.rglob("*.svg"):
        graphic(file)


def test_nothing_is_luck_where_all_is_sure(cliffs: Any, tmp_path: Path, undrawn: None) -> None:
    page = page_of(report(cliffs[1][:1], tmp_path, title="sure"))
    assert "the posterior assumes no luck" in page.text
    shown = {policy for policy, field, value in page.numbers if field == "luck_nats" and abs(float(value)) < 1e-9}
    assert shown == {"POSTERIOR", "VARIATIONAL", "HARD", "prior"}


def test_what_does_not_belong_together_is_refused(lake: list[cai.Comparison], cliffs: Any, tmp_path: Path) -> None:
    wrong = (([], "nothing"), ([lake[0], lake[0]], "once"), ([lake[0], cliffs[0][1]], "one world"), ([3], "int"))
    for results, message in wrong:
        with pytest.raises(cai.WorldError, match=message):
            report(results, tmp_path, title="no")
    with pytest.raises(cai.WorldError, match="report, twin: temperatures"):
        report(cliffs[0], tmp_path, twin=("other", cliffs[1][:1]))
    assert not list(tmp_path.iterdir())


# Twins, types of inference, factors


def test_twins_have_a_section_of_their_own(cliffs: Any, tmp_path: Path, undrawn: None) -> None:
    slippery, sure = cliffs
    page = page_of(report(slippery, tmp_path, title="slippery", twin=("sure", sure)))
    a, b = slippery[1], sure[1]
    told = lesson(("slippery", "sure"), a, b)
    assert f"log Z = {show(a.log_evidence)} nats." in told
    assert f"{show(b.elbo_star - a.elbo_star)} nats apart." in told
    assert told in page.text
    assert "log Z is an average over the prior's trajectories, so it must be the same" in page.text
    numbers = {(policy, field): value for policy, field, value in page.numbers if policy in ("slippery", "sure")}
    assert float(numbers["slippery", "elbo_star"]) == a.elbo_star
    assert float(numbers["sure", "log_evidence"]) == b.log_evidence
    for name in ("twin.csv", "twin.json"):
        assert (tmp_path / name).is_file()
    other = compared(RandomWorld(1, 48, 4, 3, 20, holes=False), [0.1])[0]
    assert "is not the same" in why(a, other)


def test_a_twin_without_a_safe_policy_is_told_in_words(tmp_path: Path, undrawn: None) -> None:
    class Icy(Corridor):
        """To slip is forbidden, and nobody can help it."""

        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            slip = pyro.sample("slip", Categorical(torch.tensor([0.8, 0.2])))
            return pyro.sample("s", cai.Point(state, 6)), torch.where(slip == 1, -torch.inf, 0.0)

    rules = {"POSTERIOR": cai.POSTERIOR, "prior": None}
    safe, risky = ([cai.compare(world, rules)] for world in (Corridor(), Icy()))
    assert safe[0].elbo_star is not None
    assert risky[0].elbo_star is None
    page = page_of(report(safe, tmp_path, title="safe", twin=("risky", risky)))
    assert "One of the exact answers is not finite" in page.text
    assert "twin-maps" not in "".join(path.name for path in tmp_path.glob("figures/*"))


def test_the_types_of_inference_are_a_table(tmp_path: Path, undrawn: None) -> None:
    types = cai.inference_types(load_model("frozen_lake")(horizon=8), temperature=0.1)
    page = page_of(report(types, tmp_path))
    numbers = {(policy, field): value for policy, field, value in page.numbers}
    for row in types.rows:
        assert float(numbers[row.name, "objective"]) == row.objective
        assert numbers[row.name, "does"] == row.does
    assert "The types of inference" in page.text


def test_worlds_in_factors_have_lessons_too(tmp_path: Path, undrawn: None) -> None:
    factors = cai.factorise(FactoredWorld())
    one = cai.compare(factors, {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "prior": None})
    page = page_of(report(one, tmp_path))
    assert "state variables with" in page.text
    assert summary([one])[0] in page.text
    assert "Where each policy loses most" in page.text


# Learners


def test_learners_are_told_over_their_seeds(tmp_path: Path, undrawn: None) -> None:
    runs = [run_of(SMALL, rising(5), seed=n, noise=0.1) for n in range(3)]
    found = cai.compare(SMALL, {"VARIATIONAL": cai.VARIATIONAL, "soft": runs})
    page = page_of(report(found, tmp_path))
    for text in ("3 seeds", "soft: 0, 1 and 2", "How to read numbers over seeds", "3 of 3"):
        assert text in page.text
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines() == found.runs_csv().splitlines()
    place = found.worst("soft", 1, together=True)[0]
    assert place.label in page.text


def test_what_was_only_sampled_has_a_report(tmp_path: Path, undrawn: None) -> None:
    run = run_of(SMALL, rising(5), seed=4)
    page = page_of(report(run, tmp_path, title="black box", about=about_world("CartPole-v1")))
    for text in (
        "no exact answers",
        "Gymnasium counts it as solved from a return of 475 on",
        "seed 4",
        "Before and after",
    ):
        assert text in page.text
    alone = sampled({"fake": [run]}, 1.0)
    assert (tmp_path / "comparison.csv").read_text(encoding="utf-8").splitlines() == alone.csv().splitlines()


# Everything else that a command finds


def test_claims_have_a_page(tmp_path: Path, undrawn: None) -> None:
    result = CLAIMS["ties"].run(seeds=2, side=3, progress=False)
    page = page_of(report({"ties": result}, tmp_path, title="Claims"))
    sentence = result.verdict.sentence(result.evidence)
    assert sentence[1:] in page.text
    assert all(check.words in page.text for check in result.verdict.checks)
    kept = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert kept["ties"]["verdict"] == result.verdict.word
    rows = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text(encoding="utf-8"))))
    assert [row["check"] for row in rows] == [check.words for check in result.verdict.checks]


def test_a_world_seen_in_part_has_a_page(tmp_path: Path, undrawn: None) -> None:
    answers = [cai.partial.solve(load_model("tiger")(horizon=4), rule) for rule in (cai.VARIATIONAL, cai.HARD)]
    page = page_of(report(answers, tmp_path, title="tiger"))
    numbers = {(policy, field): value for policy, field, value in page.numbers}
    for one in answers:
        row = f"{one.rule} at α = 1"
        assert float(numbers[row, "value"]) == float(one.value)
        assert float(numbers[row, "full"]) == float(one.fully_observed)
    assert "The state is not seen." in page.text
    assert f"{answers[0].n_beliefs:,} beliefs" in page.text
    assert len(json.loads((tmp_path / "beliefs.json").read_text())) == 2


def test_what_follows_from_a_graph_has_a_page(tmp_path: Path, undrawn: None) -> None:
    world = FactoredWorld()
    dag = cai.graph(world, 2)
    found = cai.graphs.explain(world, dag)
    page = page_of(report(found, tmp_path, title="factored", dag=dag))
    assert found.why_markov in page.text
    assert found.elimination is not None
    assert f"{len(found.elimination)} steps" in page.text
    assert json.loads((tmp_path / "explanation.json").read_text())["relevant"] == found.relevant


# Words


def test_the_first_use_of_a_word_leads_to_the_glossary() -> None:
    link = linker({"elbo", "elbo_star", "nat", "policy"})
    first = str(link("ELBO* is above the ELBO, in nats; <b>"))
    assert re.findall(r'href="#term-(\w+)"', first) == ["elbo_star", "elbo", "nat"]
    assert first.endswith("; &lt;b&gt;")
    assert str(link("ELBO* and ELBO, nats; a new natural policy")).count("href") == 1  # "policy" alone is new


def test_the_game_is_explained_from_the_world_itself() -> None:
    lasting = cai.tabulate(RandomWorld(2, 4, 3, 3, None, holes=False, discount=0.9, positive=False))
    assert "A game has no last step" in " ".join(rules_of(lasting))
    coin = cai.tabulate(SMALL)
    assert " ".join(rules_of(coin)).startswith("The world has 3 states and 2 actions. A game lasts T = 3 steps.")
    letters = cai.tabulate(cai.load_world("letters"))  # is paid at the end of a text
    assert "Each step pays 0 reward units, and the end between 0 and 1." in " ".join(rules_of(letters))
    must = load_model("letters")(horizon=5, rejected=-torch.inf)
    told = "Each step pays 0 reward units, and the end 1, or −∞ where it is forbidden."
    assert told in " ".join(rules_of(cai.tabulate(must)))
    uniform = cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=3))
    told = temperature_in_words([0.1, 1.0], uniform)
    assert "α = 0.1 and 1, coldest first" in told
    assert f"pays {show(0.1 * float(torch.tensor(4.0).log()))} reward units" in told


def test_a_world_is_told_in_its_authors_words() -> None:
    lake = about_world("frozen_lake")
    assert lake.startswith("Gymnasium's FrozenLake-v1: cross a frozen lake to the goal")
    assert not re.search(r"Source|Size|``", lake)
    assert about_world("no such world") == about_world("") == ""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: compared(RandomWorld(0, 4, 3, 1, 4, holes=False), [0.5]), "HARD earns the most"),
        (lambda: compared(Corridor(), [0.5]), "What does the posterior count on"),
        (lambda: [cai.compare(SMALL, {"prior": None})], "All numbers here are at α = 1"),
    ],
    ids=["price", "luck", "units"],
)
def test_a_page_ends_with_a_question(
    make: Callable[[], list[cai.Comparison]], said: str, tmp_path: Path, undrawn: None
) -> None:
    page = page_of(report(make(), tmp_path))
    assert said in page.text.split("A question to end with")[-1]


# In a browser


@pytest.mark.slow
@needs_chromium
@pytest.mark.filterwarnings("ignore")
def test_a_page_has_no_barriers_and_asks_for_nothing(cliffs: Any, tmp_path: Path) -> None:
    """In light and dark, at the width of a desk and of a phone, with everything unfolded."""
    slippery, sure = cliffs
    path = report(slippery, tmp_path, title="slippery", twin=("sure", sure), about=about_world("cliff_walking"))
    shown = slippery[1].row("VARIATIONAL")
    with browser() as running:
        for scheme, width in (("light", 1200), ("dark", 1200), ("light", 390), ("dark", 390)):
            options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
            with opened(running, path.resolve().as_uri(), **options) as (page, complaints):
                page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                assert barriers(page) == []
                assert complaints == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                cell = page.locator("tr[data-policy='VARIATIONAL'] data[data-field='elbo']").first
                assert float(cell.get_attribute("value")) == shown.elbo
                assert cell.inner_text() == show(shown.elbo)

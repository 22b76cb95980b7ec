"""Texts shown: the same draws for every policy, losses by the place of the automaton, entropy per token."""

from pathlib import Path
from typing import Any

import pytest
import torch

import cai
from cai.evaluation.episodes import episodes
from cai.view.reports.policy_parts import tables_of
from cai.view.reports.sections import Table
from tests.learned import run_of
from tests.page import page_of

LETTERS = cai.language.Vocabulary(("a", "b", "c"))


@pytest.fixture(scope="module")
def compared() -> cai.Comparison:
    bigram = cai.language.fit_ngram("abcabbcaacb" * 3, 2, vocabulary=LETTERS)
    world = cai.tabulate(cai.language_world(bigram, cai.language.containing("bb", LETTERS), horizon=5))
    loss = cai.kl_fixed_point(world, "k2", temperature=0.2)
    return cai.compare(world, {"bigram": None, "optimum": cai.VARIATIONAL, "k2": loss}, temperature=0.2)


def test_what_is_done_first_is_told_of_states_that_can_be_the_start(compared: cai.Comparison) -> None:
    best = compared.evaluations["optimum"].variational
    (table,) = tables_of(best, "first")
    assert isinstance(table, Table)
    assert [line.name for line in table.lines] == ["·|·"]
    assert table.note == f"The other {best.model.states.size - 1} cannot be the start."


def test_samples_are_texts_of_each_policy_with_its_chances(compared: cai.Comparison) -> None:
    found = cai.view.samples(compared, 400, seed=3)
    again = cai.view.samples(compared.evaluations, 400, seed=3)
    assert found.texts == again.texts
    for name, texts in found.texts.items():
        assert {len(text) for text in texts} == {5}
        assert set("".join(texts)) <= set("abc")
        accepted = sum("bb" in text for text in texts) / 400
        earned = compared.evaluations[name].expected_return  # 1 for a text that is accepted
        assert abs(accepted - earned) <= 4 * max(earned * (1 - earned), 1e-3) ** 0.5 / 20
    assert repr(cai.view.samples(compared, 1)).count("\n") == 2
    with pytest.raises(cai.WorldError, match="at least 1"):
        cai.view.samples(compared, 0)


def test_an_episode_stops_where_its_text_ends() -> None:
    bigram = cai.language.fit_ngram("abcabbcaacb" * 3, 2, vocabulary=LETTERS)
    automaton = cai.language.containing("b", LETTERS)
    world = cai.tabulate(cai.language_world(bigram, automaton, horizon=6, end="c"))
    one = cai.evaluate(world, None)
    drawn = episodes(one, 500, torch.Generator().manual_seed(0))
    lengths = drawn.alive[:, :-1].sum(1).double()
    steps = one.parts[0].steps
    assert abs(float(lengths.mean()) - steps) < 4 * float(lengths.std()) / 500**0.5
    for text in cai.view.samples({"bigram": one}, 20).texts["bigram"]:
        assert "c" not in text[:-1]
        assert len(text) == 6 or text.endswith("c")
    (row,) = cai.compare(world, {"bigram": None}).rows
    assert row.entropy_per_step == pytest.approx(row.entropy / steps, rel=1e-12)


@pytest.mark.parametrize("end", [None, "c"])
def test_learners_of_texts_stand_beside_their_acceptance_and_their_kl(end: str | None) -> None:
    bigram = cai.language.fit_ngram("abcabbcaacb" * 3, 2, vocabulary=LETTERS)
    world = cai.language_world(bigram, cai.language.containing("bb", LETTERS), horizon=5, end=end)
    runs = [run_of(world, [0, 0.5], seed=seed, noise=0.1) for seed in (0, 1)]
    found = cai.compare(world, {"bigram": None, "learner": runs})
    heads = {column.head for column in found.shown}
    assert {"accepted", "KL prior", "ELBO", "policy nats", "H/step"} <= heads
    assert not {"luck", "start", "log Z-ELBO"} & heads
    for row in found.rows:  # a text that is accepted is paid 1
        assert row.acceptance == pytest.approx(row.expected_return, abs=1e-12)


def test_nats_by_place_are_the_sums_over_the_states_there(compared: cai.Comparison) -> None:
    one = compared.evaluations["k2"]
    figure = cai.view.nats_over_time(one, by=cai.view.place)
    labels = one.model.states.labels[0]  # type: ignore[union-attr]
    for group in ("·", "b", "bb"):
        inside = [s for s, label in enumerate(labels) if str(label).endswith(f"|{group}")]
        total = float(one.policy_nats[:, inside].sum())
        assert total < 1e-12 or f"{group}: {cai.support.numbers.show(total)} nats" in cai.view.alt(figure)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["·", "b", "bb"]
    with pytest.raises(cai.WorldError, match="one of them"):
        cai.view.nats_over_time(one, by=cai.view.place, states=[0])


def test_a_report_on_texts_shows_texts_and_where_the_nats_go(compared: cai.Comparison, tmp_path: Path) -> None:
    page: Any = page_of(cai.report(compared, tmp_path))
    for text in cai.view.samples(compared).texts["optimum"]:
        assert text in page.text
    assert "Return against KL to the prior" in page.text
    assert "Policy nats by place" in page.text

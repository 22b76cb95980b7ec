"""How fits went: the curves show the recorded numbers, the report and the terminal say what is true of them."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cai
from cai.learn.result import Learned, Progress
from cai.support.numbers import chance, show
from cai.view.curves import curve_of, elbo_curves
from cai.view.panel_rows import Panels
from cai.view.policy_looks import look
from cai.view.reports.costliest_places import losses_of
from cai.view.reports.report import report
from cai.view.reports.sections import Table, Words
from cai.view.style import INK
from cai.view.terminal import print_fit
from tests.page import graphic, page_of
from tests.test_view import Corridor, gambles, texts
from tests.worlds import RandomWorld

WORLD = RandomWorld(1, 3, 2, 2, 3, holes=False)
STAR = float(cai.solve(WORLD, cai.VARIATIONAL).elbo)
EVIDENCE = float(cai.solve(WORLD).log_evidence)


def fitted(
    elbos: list[float],
    *,
    exact: bool = True,
    every: int = 1,
    alpha: float = 1.0,
    error: float = 0.0,
    samples: int = 0,
    **changed: Any,
) -> Learned:
    """A fit that saw these ELBOs, the last of them at its end; an inexact one saw them through noise."""
    noise, last, star = 0.0 if exact else 0.1, len(elbos) - 1, changed.get("elbo_star", STAR)
    rows = [
        Progress(n, n, 0.1 * n, elbo=elbo + noise * (-1) ** n, policy_nats=STAR - elbo if n % every == 0 else None)
        for n, elbo in enumerate(elbos[:-1])
    ]
    gap = None if star is None or samples else star - elbos[-1]
    end = Progress(last, last, 0.1 * last, elbo=elbos[-1], policy_nats=gap, standard_error=error, samples=samples)
    policy, estimator = cai.evaluate(WORLD, None).policy, "tables" if exact else "score"
    one = Learned(policy, "svi", alpha, 0, (*rows, end), last, last, 0.1 * last, "steps", estimator, STAR)
    return replace(one, **changed)


def climbing(steps: int, first: float = 3.0, rate: float = 0.8) -> list[float]:
    return [STAR - first * rate**n for n in range(steps + 1)]


def drawn(panels: Panels) -> tuple[Any, Any]:
    return panels["elbo"].axes[0], panels["gap"].axes[0]


def told(panels: Panels) -> str:
    """Return what is written on all panels, and said of them."""
    each = [f"{texts(figure)}\n{cai.view.alt(figure)}" for figure in panels.values()]
    return " ".join("\n".join(each).split())


def heights(axes: Any, count: int) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines if len(line.get_ydata()) == count]


# The curves


def test_an_exact_fit_is_drawn_as_it_was_recorded() -> None:
    elbos = climbing(30)
    figure = elbo_curves({"mine": fitted(elbos)}, elbo_star=STAR, log_evidence=EVIDENCE)
    left, right = drawn(figure)
    np.testing.assert_allclose(heights(left, 31)[0], elbos)
    np.testing.assert_allclose(heights(right, 31)[0], STAR - np.array(elbos))
    assert (left.get_xscale(), right.get_xscale(), right.get_yscale()) == ("linear", "linear", "log")
    rules = [line for line in left.lines if line.get_color() == INK and len(line.get_ydata()) == 2]
    level = {float(line.get_ydata()[0]): line.get_linestyle() for line in rules if line.get_linestyle() != "-"}
    assert level == {EVIDENCE: ":", STAR: "--"}
    words = told(figure)
    assert f"ELBO* = {show(STAR)}" in words
    assert f"log Z = {show(EVIDENCE)}" in words
    assert "mine" in words
    assert "α = 1" in words
    assert "noisy" not in words


def test_estimates_are_pale_and_exact_values_are_marked() -> None:
    elbos = climbing(30)
    figure = elbo_curves({"score": fitted(elbos, exact=False, every=5)}, elbo_star=STAR, log_evidence=None)
    left, right = drawn(figure)
    noisy = next(line for line in left.lines if len(line.get_ydata()) == 30)
    assert noisy.get_alpha() < 0.5
    np.testing.assert_allclose(noisy.get_ydata(), [elbo + 0.1 * (-1) ** n for n, elbo in enumerate(elbos[:-1])])
    exact = next(line for line in left.lines if len(line.get_ydata()) == 7)
    np.testing.assert_allclose(exact.get_xdata(), range(0, 31, 5))
    np.testing.assert_allclose(exact.get_ydata(), elbos[::5])
    assert exact.get_marker() != "None"
    np.testing.assert_allclose(heights(right, 7)[0], STAR - np.array(elbos[::5]))
    assert "Pale: the noisy estimate of a step; marked: exact." in told(figure)
    assert "log Z" not in told(figure)


def test_where_nothing_is_exact_a_running_mean_leads_to_an_error_bar() -> None:
    blind = fitted(climbing(40), exact=False, every=100, elbo_star=None, error=0.2, samples=100)
    blind = replace(blind, history=tuple(replace(one, policy_nats=None) for one in blind.history))
    figure = elbo_curves({"blind": blind}, elbo_star=None, log_evidence=None)
    assert list(figure) == ["elbo"]  # no gap is known: no panel for it
    axes = figure["elbo"].axes[0]
    mean = curve_of("blind", blind, look(0)).line
    assert len(mean) == 40 - 4 + 1
    np.testing.assert_allclose(mean[0], [1.5, np.mean([one.elbo for one in blind.history[:4]])])
    assert len(axes.containers) == 1
    assert "running mean" in told(figure)
    low, high = axes.get_ylim()
    assert low < blind.elbo - 0.2 < blind.elbo + 0.2 < high


def test_far_away_first_steps_do_not_squash_the_rest() -> None:
    elbos = [-1e6, -1e4, *climbing(60)]
    figure = elbo_curves({"late": fitted(elbos)}, elbo_star=STAR, log_evidence=EVIDENCE)
    left, _ = drawn(figure)
    low, high = left.get_ylim()
    assert high - low < 10
    assert low < STAR < high
    assert "begins below the frame: late from −1,000,000" in told(figure)
    calm = elbo_curves({"calm": fitted(climbing(60, rate=0.99))}, elbo_star=STAR, log_evidence=EVIDENCE)
    assert drawn(calm)[0].get_ylim()[0] < STAR - 3
    assert "below the frame" not in told(calm)


def test_a_far_away_evidence_is_named_outside_the_frame() -> None:
    figure = elbo_curves({"a": fitted(climbing(20))}, elbo_star=STAR, log_evidence=STAR + 500)
    assert drawn(figure)[0].get_ylim()[1] < STAR + 5
    assert f"log Z = {show(STAR + 500)} ↑" in told(figure)
    same = elbo_curves({"a": fitted(climbing(20))}, elbo_star=STAR, log_evidence=STAR)
    assert f"ELBO* = log Z = {show(STAR)}" in told(same)


def test_a_guide_that_bends_the_dynamics_is_measured_against_the_evidence() -> None:
    bent = fitted([EVIDENCE - 1, EVIDENCE - 0.1], elbo_star=EVIDENCE)
    figure = elbo_curves({"a": fitted(climbing(20)), "bent": bent}, elbo_star=STAR, log_evidence=EVIDENCE)
    assert "Compared with log Z, because a full guide also changes the dynamics: bent." in told(figure)


def test_the_record_of_the_last_step_is_the_result_itself() -> None:
    one = fitted(climbing(30))
    assert (
        curve_of("a", one, look(0)).end.tolist() == [[30, one.elbo]] == curve_of("a", one, look(0)).line[-1:].tolist()
    )
    assert len(curve_of("a", one, look(0)).line) == len(curve_of("a", one, look(0)).gaps) == 31


def test_many_steps_have_a_logarithmic_axis() -> None:
    left, right = drawn(elbo_curves({"a": fitted(climbing(300))}, elbo_star=STAR, log_evidence=EVIDENCE))
    assert (left.get_xscale(), right.get_xscale()) == ("symlog", "symlog")
    floor = right.get_ylim()[0]
    assert heights(right, 301)[0][-1] == floor  # rounding is nothing, and lies on the floor


@pytest.mark.parametrize(
    "fit",
    [
        fitted([STAR - 1]),
        fitted([STAR]),
        fitted([-math.inf, -math.inf]),
        fitted([-math.inf, STAR - 1, STAR - 0.5]),
        fitted([-math.inf, -math.inf], exact=False),
        fitted(climbing(0), elbo_star=None),
    ],
)
def test_short_and_impossible_fits_are_drawn_too(fit: Learned) -> None:
    for names, star in ((("a", "b"), STAR), (("a",), None)):
        panels = elbo_curves(dict.fromkeys(names, fit), elbo_star=star, log_evidence=None)
        assert all("<svg" in cai.view.svg(figure) for figure in panels.values())


def test_what_is_not_finite_is_named() -> None:
    lost = elbo_curves({"lost": fitted([-math.inf, -math.inf])}, elbo_star=STAR, log_evidence=None)
    assert "ends at −∞: lost" in told(lost)
    with pytest.raises(cai.WorldError, match="at least one fit"):
        elbo_curves({}, elbo_star=None, log_evidence=None)


# The report


def test_the_report_shows_the_fits_of_each_temperature(tmp_path: Path, undrawn: None) -> None:
    fits = {
        1.0: {
            "exact": fitted(climbing(30)),
            "<b>": fitted(climbing(9), exact=False, error=0.5, samples=100, steps=1234),
        },
        0.1: {"cold": fitted(climbing(5), alpha=0.1, stopped="gap")},
    }
    comparisons = [cai.compare(WORLD, {"prior": None, **fits[alpha]}, temperature=alpha) for alpha in fits]
    page = page_of(report(comparisons, tmp_path, title="fits"))
    numbers = {(policy, field): value for policy, field, value in page.numbers}
    assert float(numbers["exact", "steps"]) == 30
    assert float(numbers["exact", "elbo"]) == comparisons[0].row("prior").elbo  # of the policy itself, exactly
    words = page.text
    for text in ("1,234", "score", "tables", "gap"):
        assert text in words
    assert words.count("How the fits went") == 2
    assert "b" in page.tags  # the names in the summaries, not the policy's


@pytest.mark.slow
def test_a_policy_with_parameters_is_drawn_on_the_map(tmp_path: Path) -> None:
    module = cai.policies.TabularPolicy(cai.tabulate(Corridor()))
    assert module.log_probs(0).requires_grad
    report([cai.compare(Corridor(), {"module": module})], tmp_path, title="module")
    assert [graphic(file) for file in (tmp_path / "figures").glob("alpha-1.0-values*.svg")]


def test_every_chapter_says_where_each_policy_loses_most(tmp_path: Path, undrawn: None) -> None:
    policies = {"prior": None, "best": cai.VARIATIONAL, "still": torch.tensor([0.0, 0.0, 1.0]).expand(6, 3)}
    comparison = cai.compare(Corridor(), policies, temperature=0.5)
    page = page_of(report([comparison], tmp_path, title="losses"))
    words = page.text
    assert page.tags >= {"details", "summary"}
    assert "Where each policy loses most" in words
    assert "How the fits went" not in words
    still = comparison.evaluations["still"]
    for loss in (*still.worst(together=True), *still.worst(by="regret", together=True)):
        assert f"{loss.label} t = {loss.t}" in words
        assert f"{loss.should.label} {chance(loss.should.policy)} ({chance(loss.should.best)})" in words
    first = comparison.evaluations["still"].worst(1, together=True)[0]
    assert f"{show(first.lost)} of them at {first.label}, t = {first.t}" in words
    for one in comparison.evaluations.values():
        account = re.sub(r"\s+", " ", one.account()).replace(" -", " −")
        assert account in words
    assert ": no policy does better" in words


def test_what_has_no_optimum_still_has_an_account(tmp_path: Path) -> None:
    (comparison,) = gambles(1.0)
    said = losses_of(comparison)
    assert all("nothing to measure against" in one.lead for one in said)
    account, *tables = said[1].parts
    assert not tables
    assert isinstance(account, Words)
    assert "−inf nats: it risks a forbidden reward or action;" in account.text


def test_the_infinite_horizon_is_told_without_times() -> None:
    world = RandomWorld(2, 4, 3, 3, None, holes=False, discount=0.9, positive=False)
    (said,) = losses_of(cai.compare(world, {"prior": None}))
    assert re.search(r"of them at s=\d$", said.lead)
    _, nats, _ = said.parts
    assert isinstance(nats, Table)
    assert {line.cells[0].shown for line in nats.lines} == {"all times"}


# The terminal


def test_a_fit_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    one = fitted(climbing(30))
    print_fit("a [world]", "tabular", one, log_evidence=EVIDENCE)
    out = capsys.readouterr().out
    assert "a [world]: tabular policy at α = 1" in out
    assert all(f"{value:.6g}" in out for value in (one.elbo, one.gap, STAR, EVIDENCE))
    assert "exact" in out
    print_fit("b", "tabular", fitted(climbing(30), elbo_star=None, error=0.25, samples=100, stopped="interrupted"))
    out = capsys.readouterr().out
    assert f"{one.elbo:.6g} ± 0.25" in out
    assert "interrupted" in out
    assert "mean of 100 trajectories" in out
    assert "ELBO* is not known" in out
    assert "log Z" not in out

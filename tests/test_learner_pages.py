"""The pictures, the page and the command of learners: what is drawn and told is what was computed."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from matplotlib.colors import to_hex
from typer.testing import CliRunner

import cai
from cai.cli import app
from cai.errors import fault
from cai.learn.result import Learned, Progress
from cai.learn.seeds import BrokenOff, many
from cai.support.numbers import between, brief, digits
from cai.view.bars import column_bars
from cai.view.curve_names import spread
from cai.view.map_figures import nats_map
from cai.view.policy_looks import look, looks_of
from cai.view.profiles import performance_profiles
from cai.view.reports.cells import lines_of
from cai.view.reports.report import report
from cai.view.return_kl_figure import return_against_kl
from cai.view.seed_curves import learning_curves
from cai.view.terminal import print_comparison
from cai.view.vector import svg
from tests.helpers import load_model
from tests.learned import blind, rising, run_of
from tests.page import graphic, page_of
from tests.test_figures import coloured
from tests.test_view import Corridor, Gamble, named_axes, texts
from tests.worlds import RandomWorld

ALPHA = 0.1


def lake() -> cai.World:
    return load_model("frozen_lake")(horizon=8)


EXACT = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD, "prior": None}


@pytest.fixture(scope="module")
def compared() -> cai.Comparison:
    world = cai.tabulate(lake())
    learned = {
        name: [
            run_of(world, rising(7, slow), seed=n, temperature=ALPHA, noise=noise, hard=name == "q") for n in range(4)
        ]
        for name, slow, noise in (("reinforce", 1.0, 0.3), ("q", 3.0, 0.2), ("soft_q", 6.0, 0.05))
    }
    return cai.compare(world, {**EXACT, **learned}, temperature=ALPHA)


# The pictures


def test_the_curves_are_those_of_the_comparison(compared: cai.Comparison) -> None:
    figure = learning_curves(compared)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    lines = [line for line in axes.lines if len(line.get_ydata()) == 7]
    for line, name in zip(lines, ("reinforce", "soft_q"), strict=True):  # q's history has no policy nats
        np.testing.assert_allclose(line.get_ydata(), compared.curves[name]["policy_nats"].value)
        np.testing.assert_allclose(line.get_xdata(), range(0, 601, 100))
    for field in ("stochastic_return", "deterministic_return"):
        lines = [line for line in learning_curves(compared, field).axes[0].lines if len(line.get_ydata()) == 7]
        for line, name in zip(lines, compared.curves, strict=True):
            np.testing.assert_allclose(line.get_ydata(), compared.curves[name][field].value)


def test_the_profiles_are_those_of_the_comparison(compared: cai.Comparison) -> None:
    figure = performance_profiles(compared)
    (axes,) = named_axes(figure).values()
    for line, one in zip(axes.lines, compared.profiles.values(), strict=False):
        np.testing.assert_allclose(line.get_ydata(), one.fraction)
        np.testing.assert_allclose(1 - np.asarray(line.get_xdata()), one.thresholds)
    assert axes.get_xlim()[0] > axes.get_xlim()[1]  # missing less lies farther right
    assert "median score" in texts(figure)


def test_the_map_adds_up_times_and_states() -> None:
    world = Corridor()  # states 4 and 5 share a cell
    found = cai.compare(world, {"a": [run_of(world, [0.5], seed=n, noise=0.5) for n in range(2)]})
    lost = found.mean("a", "policy_nats")
    assert lost is not None
    seeds = [subject.evaluation for subject in found.subjects["a"] if subject.evaluation is not None]
    cells = coloured(nats_map(seeds))
    assert float(lost.sum(0)[5]) > 0.01
    assert cells[2, 2] == pytest.approx(float(lost.sum(0)[4:].sum()))
    assert cells[0, 0] == pytest.approx(float(lost.sum(0)[0]))


@pytest.mark.parametrize("wished", [[0.0, 0.0, 0.0], [0.5, 0.5, 0.51, 0.9], [0.97, 0.98, 1.0], [0.2], []])
def test_labels_are_moved_apart_and_no_farther(wished: list[float]) -> None:
    found = spread(wished, 0.1)
    assert all(b - a >= 0.1 - 1e-12 for a, b in pairwise(found))
    assert all(-1e-12 <= one <= 1 + 1e-12 for one in found)
    assert spread([0.1, 0.4, 0.8], 0.1) == [0.1, 0.4, 0.8]
    assert spread([0.0] * 4, 1.0) == [0.0, 1.0, 2.0, 3.0]  # too many: beyond the top


def test_an_interval_has_the_digits_that_tell_its_ends_apart() -> None:
    assert between(1.0, 2.0) == "[1, 2]"
    assert between(3.05012, 3.05034) == "[3.0501, 3.0503]"
    assert between(-math.inf, 1e-12) == "[−∞, 0]"
    assert between(2.0, 2.0) == ""


def endless() -> Learned:
    """A run of the forbidden: it never has a finite ELBO."""
    history = tuple(Progress(n, n, 0.0, -math.inf, -math.inf, -math.inf, math.inf, 0.1) for n in range(3))
    return Learned(cai.evaluate(Corridor(), None).policy, "fake", 1.0, 7, history, 2, 2, 0.1, "steps")


@pytest.mark.parametrize(
    "make",  # not made until its test runs: every process collects every test
    [
        pytest.param(lambda: {"one": [run_of(Corridor(), [0.0, 1.0])]}, marks=pytest.mark.slow),
        pytest.param(lambda: {"best": [run_of(Corridor(), [1.0])]}, marks=pytest.mark.slow),
        pytest.param(lambda: {"lost": [endless()]}, marks=pytest.mark.slow),
        lambda: {
            "mixed": [endless(), run_of(Corridor(), [0.2, 1.0])],
            "<b>$x_1": [run_of(Corridor(), [0.0, 0.5, 1.0])],
        },
        pytest.param(
            lambda: {f"learner {n}": [run_of(Corridor(), [0.0, 0.1 * n])] for n in range(11)}, marks=pytest.mark.slow
        ),
        lambda: {"blind": [blind(run_of(Corridor(), [0.1, 0.9]))]},
    ],
    ids=["one", "best", "lost", "mixed", "many", "blind"],
)
def test_whatever_was_learned_can_be_drawn(make: Callable[[], dict[str, Sequence[Learned]]], tmp_path: Path) -> None:
    learned = make()
    found = cai.compare(Corridor(), learned)
    page = page_of(report(found, tmp_path, title="corridor"))
    figures = tmp_path / "figures"
    for name in ("returns", "losses"):
        assert [graphic(file) for file in figures.glob(f"alpha-1.0-{name}*.svg")]
    assert bool(list(figures.glob("alpha-1.0-learning*.svg"))) == ("blind" not in learned)
    assert "nan" not in page.words


def test_what_cannot_be_drawn_says_why(compared: cai.Comparison) -> None:
    bare = cai.compare(Gamble(), {"a": [replace(endless(), policy=cai.evaluate(Gamble(), None).policy)]})
    with pytest.raises(cai.WorldError, match="no normalised scores"):
        performance_profiles(bare)
    with pytest.raises(cai.WorldError, match="no run that knows its policy_nats"):
        learning_curves(cai.compare(Corridor(), {"blind": [blind(run_of(Corridor(), [0.1, 0.9]))]}))
    assert "<svg" in cai.view.svg(learning_curves(bare, "stochastic_return"))


# The page


def test_the_page_tells_what_was_computed(compared: cai.Comparison, tmp_path: Path, undrawn: None) -> None:
    page = page_of(report(compared, tmp_path, title="<lake>"))
    numbers = {(policy, field): value for policy, field, value in page.numbers}
    for row in compared.rows:
        assert float(numbers[row.name, "policy_nats"]) == row.policy_nats
        assert float(numbers[row.name, "expected_return"]) == row.expected_return
        if not row.seeds:
            assert numbers[row.name, "steps"] == ""
    assert numbers["q", "worst_policy_nats"] == ""
    assert ("q", "evidence_gap") not in numbers  # intervals take its room
    for text in ("<lake>", "4 seeds", "q: its history has no policy nats", "Where each policy loses most"):
        assert text in page.text
    place = compared.worst("q", 1, by="regret", together=True)[0]  # a hard learner is told by reward
    assert f"{place.label}, t = {place.t} … {place.until}: {brief(place.lost)} reward units" in page.text
    best = [line.name for line in lines_of(compared, compared.shown) if line.best]
    assert best == ["VARIATIONAL", "soft_q"]
    rows = json.loads((tmp_path / "comparison.json").read_text())[0]["rows"]
    assert [row["name"] for row in rows] == [row.name for row in compared.rows]
    assert (tmp_path / "comparison.csv").read_text(encoding="utf-8").splitlines() == compared.csv().splitlines()
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines() == compared.runs_csv().splitlines()


@pytest.mark.slow
def test_each_temperature_has_its_chapter_and_an_old_picture_goes(tmp_path: Path) -> None:
    world = RandomWorld(1, 3, 2, 2, 3, holes=False)
    found = [
        cai.compare(world, {"a": [run_of(world, [0, 1], seed=n, temperature=alpha) for n in (0, 1)]}, temperature=alpha)
        for alpha in (0.1, 1.0)
    ]
    report(found[:1], tmp_path, title="w")
    page = report(found[1:], tmp_path, title="w").read_text(encoding="utf-8")
    assert "α = 0.1" not in page
    assert not list((tmp_path / "figures").glob("alpha-0.1-*"))
    page = report(found, tmp_path, title="w").read_text(encoding="utf-8")
    assert page.index('id="alpha-0.1"') < page.index('id="alpha-1.0"')
    assert len((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4
    assert "losses" not in " ".join(path.name for path in (tmp_path / "figures").iterdir())  # no layout, no map
    with pytest.raises(cai.WorldError, match="each temperature once"):
        report([found[0], found[0]], tmp_path, title="w")


def test_the_terminal_tells_the_same(compared: cai.Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison("lake", compared)
    told = capsys.readouterr().out
    for row in compared.rows:
        assert digits(row.policy_nats, 4 if row.seeds else 6) in told
        assert row.name in told
    assert "VARIATIONAL" in told
    assert "4 seeds" in told


# The command


def _alpha(asked: dict[str, Any]) -> float:
    """α of a soft learner, or at which a hard one is measured."""
    return float(asked.get("temperature") or asked["measured_at"])


@pytest.fixture
def school(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put learners that need no time in the place of the real ones; return how each was called."""
    calls: list[dict[str, Any]] = []

    def many(name: str, world: Any, **asked: Any) -> list[Learned]:
        calls.append({"name": name, **asked})
        if name == "fussy":
            raise fault("fussy", "this world", "another one")
        seeds = asked["seeds"][:1] if name == "slow" else asked["seeds"]
        made = [run_of(world, rising(4), seed=n, temperature=_alpha(asked), noise=0.1) for n in seeds]
        if name in ("slow", "stuck"):
            raise BrokenOff(made if name == "slow" else [])
        return made

    monkeypatch.setattr("cai.cli.compare.FORMS", ("soft_q", "q", "fussy", "slow", "stuck"))
    monkeypatch.setattr("cai.learn.trained.many", many)
    return calls


def command(*words: str, code: int = 0) -> Result:
    lake = ("frozen_lake", "--horizon", "6", "-t", "0.1")
    done = CliRunner().invoke(app, ["compare", *lake, *words])
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_learners_are_run_and_told(school: list[dict[str, Any]], tmp_path: Path, undrawn: None) -> None:
    asked = ("--learn", "soft_q,q,soft_q", "--seeds", "3", "--learn-steps", "500", "--jobs", "2")
    told = command(*asked, "--out", str(tmp_path)).stdout
    assert [call["name"] for call in school] == ["soft_q", "q"]
    assert all(list(call["seeds"]) == [0, 1, 2] for call in school)
    assert all((call["steps"], call["jobs"], _alpha(call)) == (500, 2, 0.1) for call in school)
    for words in ("soft_q", "3 seeds", "VARIATIONAL", "policy nats", "report:"):
        assert words in told
    assert (tmp_path / "report.html").is_file()
    (found,) = json.loads(command(*asked, "--json").stdout)
    assert [one["name"] for one in found["rows"]][4:] == ["soft_q", "q"]
    assert found["rows"][4]["seeds"] == [0, 1, 2]


@pytest.mark.slow
def test_unless_told_otherwise_ten_seeds_of_the_learners_own_length(school: list[dict[str, Any]]) -> None:
    command("--learn", "q", "-t", "1")
    assert [(len(call["seeds"]), call.get("steps"), call["jobs"]) for call in school] == [(10, None, 1)] * 2
    assert [_alpha(call) for call in school] == [0.1, 1.0]


def test_a_learner_that_cannot_is_left_out_with_a_word(school: list[dict[str, Any]]) -> None:
    done = command("--learn", "fussy,q", "--seeds", "2", "--json")
    assert "fussy left out at α = 0.1: fussy: this world; expected another one" in done.stderr
    assert [one["name"] for one in json.loads(done.stdout)[0]["rows"]][4:] == ["q"]
    assert command("--learn", "fussy", code=2).stderr == "cai: fussy: this world; expected another one\n"


@pytest.mark.slow
def test_interrupted_it_keeps_what_there_is(school: list[dict[str, Any]], tmp_path: Path, undrawn: None) -> None:
    done = command("--learn", "q,slow,soft_q", "--seeds", "3", "--json", "--out", str(tmp_path), code=130)
    assert [call["name"] for call in school] == ["q", "slow"]
    q, slow = json.loads(done.stdout)[0]["rows"][4:]
    assert (q["seeds"], slow["seeds"]) == ([0, 1, 2], [0])
    assert "slow: 1 of 3 runs are complete" in done.stderr
    kept = f"cai: the runs are kept in {tmp_path / 'runs'}; the same command goes on from there"
    assert done.stderr.endswith(f"{kept}\ncai: interrupted\n")
    assert (tmp_path / "report.html").is_file()


def test_fits_stand_beside_learners(school: list[dict[str, Any]]) -> None:
    done = command("--learn", "q", "--seeds", "1", "--fit", "tabular", "--steps", "3", "--json")
    (comparison,) = json.loads(done.stdout)
    assert [row["name"] for row in comparison["rows"]][4:] == ["fit:tabular", "q"]
    assert comparison["fits"][0]["steps"] == 3


def test_a_learner_without_a_whole_run_is_not_told(school: list[dict[str, Any]]) -> None:
    done = command("--learn", "q,stuck", "--seeds", "2", "--json", code=130)
    assert [one["name"] for one in json.loads(done.stdout)[0]["rows"]][4:] == ["q"]
    assert "stuck: 0 of 2 runs are complete" in done.stderr
    assert json.loads(command("--learn", "stuck", "--json", code=130).stdout) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_seeds_that_were_whole_before_ctrl_c_are_kept(jobs: int, tmp_path: Path) -> None:
    def learner(world: Any, *, seed: int, progress: bool, checkpoint: Path | None = None) -> Learned:
        made = tmp_path / str(seed)
        if seed == 3:  # Ctrl-C while it runs, once two others are whole
            while not all((tmp_path / str(n)).exists() for n in (1, 2)):
                time.sleep(0.01)
        run = run_of(world, rising(3), seed=seed, stopped="interrupted" if seed == 3 else "steps")
        made.touch()
        return run

    with pytest.raises(BrokenOff) as caught:
        many(learner, Corridor(), seeds=[1, 2, 3], jobs=jobs, progress=False)
    assert [(run.seed, run.stopped) for run in caught.value.runs] == [(1, "steps"), (2, "steps")]


def test_ctrl_c_begins_no_further_seed(tmp_path: Path) -> None:
    run, caller = run_of(Corridor(), rising(3)), os.getpid()

    def learner(world: Any, *, seed: int, progress: bool, checkpoint: Path) -> Learned:
        (tmp_path / str(seed)).touch()
        if seed == 2 and os.getpid() != caller:
            os.kill(caller, signal.SIGINT)  # to the caller alone: the runs under way go on to their end
        time.sleep(0.2)
        return replace(run, seed=seed)

    with pytest.raises(BrokenOff) as caught:
        many(learner, Corridor(), seeds=range(20), jobs=2, progress=False)
    begun = sorted(int(path.name) for path in tmp_path.iterdir())
    assert [one.seed for one in caught.value.runs] == begun
    assert len(begun) < 10


def test_seeds_that_were_whole_are_read_from_their_files(tmp_path: Path) -> None:
    def learner(world: Any, *, steps: int = 420, seed: int, **asked: Any) -> Learned:
        run = cai.learn.q_learning(world, steps=steps, batch=20, seed=seed, measured_at=1.0, evaluations=2, **asked)
        return replace(run, stopped="interrupted") if seed == 1 else run

    with pytest.raises(BrokenOff) as caught:
        many(learner, RandomWorld(1, 3, 2, 2, 3, holes=False), seeds=[0, 1], jobs=2, folder=tmp_path, progress=False)
    (run,) = caught.value.runs
    kept = torch.load(tmp_path / "learner-0.learner", weights_only=True)["history"]
    assert (run.seed, run.steps) == (0, 420)
    assert [one.seconds for one in run.history] == [one["seconds"] for one in kept]  # not learned a second time


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--learn", "sarsa"), "--learn: 'sarsa'; expected one of soft_q, q, fussy, slow, stuck, all"),
        (("--learn", ""), "--learn: ''"),
        (("--learn", "q", "--seeds", "0"), "--seeds: 0; expected a whole number, at least 1"),
        (("--learn", "q", "--jobs", "0"), "--jobs: 0"),
        (("--learn", "q", "--learn-steps", "-3"), "--learn-steps: -3"),
        (("--seeds", "3", "--jobs", "1"), "--seeds, --jobs without --learn"),
        (("--learn", "q", "--rule", "HARD"), "--rule beside --learn"),
        (("--learn", "q", "--inference-types"), "--inference-types beside --learn"),
        (("--learn", "q", "--seed", "3"), "--seed without --fit"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(school: list[dict[str, Any]], words: Sequence[str], said: str) -> None:
    told = command(*words, code=2).stderr
    assert said in told
    assert len(told.splitlines()) == 1
    assert not school


def test_the_generator_of_the_caller_is_left_alone(compared: cai.Comparison) -> None:
    before = torch.random.get_rng_state()
    learning_curves(compared)
    cai.compare(cai.tabulate(lake()), compared.runs, temperature=ALPHA)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_policy_has_one_colour_on_all_figures(compared: cai.Comparison) -> None:
    looks = looks_of(compared)
    assert list(looks) == [row.name for row in compared.rows]
    bars = column_bars(compared).axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [one.colour.lower() for one in looks.values()]
    learned = [name for name in compared.runs if "policy_nats" in compared.curves[name]]
    for drawn, names in ((learning_curves(compared), learned), (performance_profiles(compared), compared.profiles)):
        (ax,) = drawn.axes
        colours = {looks[name].colour for name in names}
        assert colours <= {str(line.get_color()) for line in ax.lines}
        assert {to_hex(band.get_facecolor()[0]) for band in ax.collections} == set(map(str.lower, colours))
    front = return_against_kl(compared).axes[0].lines
    marks = {(line.get_color(), line.get_marker()) for line in front if line.get_marker() not in ("", "None", ">")}
    assert {(one.colour, one.marker) for one in looks.values()} <= marks


def test_more_policies_than_colours_differ_in_their_marks() -> None:
    each = [look(n) for n in range(24)]
    assert len({one.colour for one in each}) == 8
    for mark in ("marker", "dash", "hatch"):
        assert len({(one.colour, getattr(one, mark)) for one in each}) == 24
    nine = cai.compare(RandomWorld(1, 3, 2, 2, 3, holes=False), dict.fromkeys("abcdefghi"), temperature=1.0)
    bars = column_bars(nine)
    assert [bool(bar.get_hatch()) for bar in bars.axes[0].patches] == [False] * 8 + [True]
    assert 'fill="#0072b2"' in svg(bars)  # the ground of the hatch

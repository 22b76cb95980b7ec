"""Worlds of real states shown: figures hold what was computed, policies and reasons say it by name."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import Ellipse
from pyro.distributions import Normal

import cai
from cai.exact.gaussian.gaussian_reasons import GaussianReasons
from cai.support.numbers import brief, show
from cai.view.displays import html
from cai.view.real_readings import Mixture, value_at
from cai.view.reports.real_sections import system
from cai.view.reports.report import KINDS
from cai.view.reports.sections import Request
from cai.view.system_words import equations
from tests import command
from tests.worlds import RandomWorld

RULES = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD}
HERE = {"position": 1.0, "velocity": -0.5}


@pytest.fixture(scope="module")
def cart() -> Any:
    return cai.linearise(cai.load_world("double_integrator", {"horizon": 8}))


@pytest.fixture(scope="module")
def solved(cart: Any) -> dict[str, cai.Messages]:
    return {name: cai.solve(cart, rule, temperature=2.0) for name, rule in RULES.items()}


# Figures


@pytest.mark.parametrize(("name", "place"), [("velocity", 1), ("force", 2)])
def test_a_tube_of_a_coordinate_is_its_mean_and_95_percent(
    solved: dict[str, cai.Messages], name: str, place: int
) -> None:
    figure = cai.view.tubes({"a": solved["VARIATIONAL"]}, name)
    joints = [solved["VARIATIONAL"].marginals(t) for t in range(8)]
    mean, deviation = (np.array([float(getattr(one, of)[place]) for one in joints]) for of in ("mean", "deviation"))
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata()[:8], mean, atol=1e-12)
    band = axes.collections[0].get_paths()[0].vertices
    for t in range(8):
        ends = band[np.isclose(band[:, 0], t), 1]
        assert (ends.min(), ends.max()) == pytest.approx(
            (mean[t] - 1.959964 * deviation[t], mean[t] + 1.959964 * deviation[t])
        )
    assert "95%" in cai.view.alt(figure)
    assert f"mean {show(mean[0])} at t = 0" in cai.view.alt(figure)


def test_a_tube_marks_where_it_is_certain(cart: Any) -> None:
    seen = cai.solve(cai.load_world("double_integrator", {"horizon": 8}), observe={"position_5": 1.0})
    figure = cai.view.tubes({"seen": seen}, "position")
    assert figure.axes[0].collections[1].get_offsets().tolist() == [[5.0, pytest.approx(1.0)]]
    assert "certain at t = 5" in cai.view.alt(figure)


def test_a_phase_portrait_holds_value_path_and_marginals(solved: dict[str, cai.Messages]) -> None:
    messages = solved["POSTERIOR"]
    figure = cai.view.phase_portrait(messages, t=3)
    axes = figure.axes[0]
    path = np.stack(axes.lines[0].get_data(), -1)
    np.testing.assert_allclose(path, torch.stack([messages.states(t).mean for t in range(9)]), atol=1e-12)
    ellipses = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
    for t, drawn in zip((0, 2, 3, 5, 6, 8), ellipses, strict=True):
        rim = drawn.get_patch_transform().transform(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        off = torch.as_tensor(rim) - messages.states(t).mean
        within = (off @ torch.linalg.inv(messages.states(t).covariance) * off).sum(-1)
        np.testing.assert_allclose(within, -2 * math.log(0.05), rtol=1e-6)  # the 95 % quantile of χ²₂
    low, high = figure.scale
    corner = torch.tensor([axes.get_xlim()[1], axes.get_ylim()[1]], dtype=torch.float64)
    assert low - 1e-9 <= float(messages.v.at(3)(corner)) <= high + 1e-9
    value = float(messages.v.at(3)(messages.states(3).mean))
    assert f"v is {show(value)} reward units" in cai.view.alt(figure)


def test_gains_over_time_are_the_policys(solved: dict[str, cai.Messages]) -> None:
    figure = cai.view.gains_over_time(solved["HARD"], "force")
    for j in range(2):
        drawn = figure.axes[0].lines[1 + j].get_ydata()
        gains = [float(solved["HARD"].policy.at(t).gain[0, j]) for t in range(8)]
        np.testing.assert_allclose(drawn, gains)


def test_what_is_for_numbered_states_names_what_is_for_real_ones(solved: dict[str, cai.Messages]) -> None:
    messages = solved["HARD"]
    for draw, use in (
        (cai.view.value_map, "phase_portrait"), (cai.view.policy_arrows, "gains_over_time"),
        (cai.view.occupancy_map, "tubes"), (cai.view.messages_over_time, "phase_portrait"),
        (cai.view.occupancy_over_time, "tubes"),
    ):  # fmt: skip
        with pytest.raises(cai.WorldError, match=rf"a world of real states; expected .*{use}"):
            draw(messages)
    with pytest.raises(cai.WorldError, match="'place'; expected one of position, velocity, force"):
        cai.view.tubes({"a": messages}, "place")
    with pytest.raises(cai.WorldError, match="position twice"):
        cai.view.phase_portrait(messages, "position", "position")
    with pytest.raises(cai.WorldError, match="from 0 to 7"):
        cai.view.phase_portrait(messages, t=8)


@pytest.fixture(scope="module")
def compared(cart: Any) -> cai.Comparison:
    return cai.compare(cart, {**RULES, "prior": None}, temperature=2.0)


def test_an_evaluation_is_drawn_as_its_policy_fares(compared: cai.Comparison, solved: dict[str, cai.Messages]) -> None:
    """Under VARIATIONAL dynamics are the true ones, so that the evaluation of its policy goes where its messages go."""
    own, measured = solved["VARIATIONAL"], compared.evaluations["VARIATIONAL"]
    one, other = (cai.view.phase_portrait(result).axes[0].lines[0].get_data() for result in (own, measured))
    np.testing.assert_allclose(one, other, atol=1e-12)
    start = own.operator.initial()
    to_come = value_at(measured, 0)
    assert float(start.expect(to_come)) == pytest.approx(measured.expected_return)
    for what, total in (("reward", None), ("kl", measured.kl_to_prior), ("luck", float(measured.luck_nats.sum()))):
        figure = cai.view.cost_over_time({"a": measured}, what)
        row = figure.axes[0].lines[0].get_ydata()
        last = float(own.states(8).expect(own.model.terminal)) if total is None else 0.0
        assert row.sum() + last == pytest.approx(measured.expected_return if total is None else total)
    lost = cai.view.nats_over_time(compared.evaluations["POSTERIOR"], "regret").axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(lost, compared.evaluations["POSTERIOR"].regret_per_state)
    with pytest.raises(cai.WorldError, match="one of"):
        cai.view.cost_over_time({"a": measured}, "skill")


def test_costs_by_time_are_sums_over_states_where_states_are_numbered() -> None:
    evaluation = cai.evaluate(RandomWorld(3, 4, 2, 2, 5, holes=False), None, temperature=0.5)
    row = cai.view.cost_over_time({"prior": evaluation}, "policy").axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(row, evaluation.policy_nats.sum(-1))
    row = cai.view.cost_over_time({"prior": evaluation}, "reward").axes[0].lines[0].get_ydata()
    terminal = float(evaluation.parts[0].states[-1] @ evaluation.parts[0].operator.terminal())
    assert row.sum() + terminal == pytest.approx(evaluation.expected_return)


def test_a_sampled_policy_has_tubes_and_no_portrait(cart: Any) -> None:
    def push(state: Any, t: int) -> Any:
        return Normal(-torch.tanh(state["position"]), 1.0)

    sampled = cai.evaluate(cart, push, temperature=2.0)
    figure = cai.view.tubes({"tanh": sampled}, "force")
    states = sampled.parts[0].states[3].values
    expected = float(-torch.tanh(states[:, 0]).mean())
    assert figure.axes[0].lines[0].get_ydata()[3] == pytest.approx(expected, abs=5 / len(states) ** 0.5)
    for draw in (cai.view.phase_portrait, cai.view.gains_over_time):
        with pytest.raises(cai.WorldError, match="known by samples alone"):
            draw(sampled)
    assert str(sampled.worst(1)[0]).endswith("nats lost.")


def test_a_tube_of_modes_is_that_of_the_mixture() -> None:
    bumps = Mixture(*(torch.tensor(x, dtype=torch.float64) for x in ([0.25, 0.75], [-1.0, 3.0], [0.5, 0.1])))
    assert bumps.mean == pytest.approx(2.0)
    assert bumps.quantile(0.125) == pytest.approx(-1.0, abs=1e-6)  # the middle of the first
    assert bumps.quantile(0.625) == pytest.approx(3.0, abs=1e-6)
    icy = cai.solve(cai.load_world("icy_road", {"horizon": 3}))
    drawn = cai.view.tubes({"icy": icy}, "offset").axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, [float(icy.marginal(t, "offset").mean) for t in range(4)], atol=1e-12)
    assert cai.view.tubes({"icy": icy}, "road").axes[0].get_yticklabels()[1].get_text() == "icy"
    with pytest.raises(cai.WorldError, match="modes and real states"):
        cai.view.phase_portrait(icy)


# Words


def test_a_policy_is_read_by_name(solved: dict[str, cai.Messages]) -> None:
    policy = solved["VARIATIONAL"].policy
    act, s = policy.conditional(3), torch.tensor([1.0, -0.5], dtype=torch.float64)
    whole, there, half = policy.at(3), policy.at(3, **HERE), policy.at(3, velocity=-0.5)
    torch.testing.assert_close(there.mean, act.mean(s))
    torch.testing.assert_close(there.deviation, act.covariance.diagonal().sqrt())
    torch.testing.assert_close(half.offset, act.offset + act.gain[:, 1] * -0.5)
    assert half.free == ("position",)
    assert brief(float(act.gain[0, 1]), 4) in str(whole)
    assert "force given position and velocity, T = 8" in repr(policy)
    for t, given, words in (
        (8, HERE, "from 0 to 7"), (0, {"posision": 1}, "did you mean position"),
        (0, {"position": "far"}, "expected numbers"), (0, {"position": [1, 2]}, "a finite number"),
    ):  # fmt: skip
        with pytest.raises(cai.WorldError, match=words):
            policy.at(t, **given)
    with pytest.raises(cai.WorldError, match="no value of position"):
        _ = half.mean


def test_reasons_are_those_of_the_messages(solved: dict[str, cai.Messages]) -> None:
    s = torch.tensor([1.0, -0.5], dtype=torch.float64)
    for name, messages in solved.items():
        said = messages.explain(3, **HERE)
        assert isinstance(said, GaussianReasons)
        (one,) = said.actions
        op, act = messages.operator, messages.policy.conditional(3)
        a = act.mean(s)
        score = messages.q(3) if name == "HARD" else messages.q(3) + 2.0 * op.log_prior(3)
        fall = score(torch.cat((s, a))) - score(torch.cat((s, a + 1)))
        assert (one.mean, one.cost, said.v) == pytest.approx((float(a), float(fall), float(messages.v.at(3)(s))))
        assert f"v = {brief(said.v, 5)} reward units is" in str(said)
        assert said.certain == (name == "HARD")
    said = solved["POSTERIOR"].explain(3, **HERE)
    op, a = solved["POSTERIOR"].operator, solved["POSTERIOR"].policy.conditional(3).mean(s)
    sober = float(solved["VARIATIONAL"].policy.conditional(3).mean(s))
    assert said.luck is not None
    assert said.luck.nats == pytest.approx(float(op.luck(3, solved["POSTERIOR"].v.at(4))(torch.cat((s, a)))))
    assert f"VARIATIONAL, which assumes no luck, takes force = {brief(sober, 4)}" in str(said)
    with pytest.raises(cai.WorldError, match="no value of velocity"):
        solved["HARD"].explain(0, position=1.0)


def test_evidence_that_no_policy_makes_certain_is_said(tmp_path: Path, undrawn: None) -> None:
    seen = cai.solve(cai.load_world("double_integrator", {"horizon": 8}), temperature=2.0, observe={"position_5": 1.0})
    assert "VARIATIONAL, which assumes no luck, has no answer" in str(seen.explain(0, **HERE))
    assert "contradicts the exact evidence" in str(seen.explain(5, position=2.0, velocity=0.0))
    assert "Where state and action are" in cai.report(seen, tmp_path).read_text()


def test_a_system_is_written_as_equations(cart: Any) -> None:
    told = dict(equations(cart))
    assert told["next velocity"] == "velocity + 0.2·force + noise of deviation 0.1"
    assert told["E[reward]"] == "−position² − 0.1·velocity² − 0.1·force²"
    assert told["terminal reward"] == "−10·position² − 10·velocity²"
    assert told["prior of force"] == "N(0, 2²)"
    assert told["start of position"] == "N(2, 0.5²)"
    assert told["noise correlations"] == "position and velocity 1"


def test_a_notebook_shows_them(cart: Any, solved: dict[str, cai.Messages]) -> None:
    messages = solved["POSTERIOR"]
    for shown, words in (
        (cart, "next velocity"), (messages.states(2), "deviation"), (messages.policy, "per position"),
        (messages.explain(0, **HERE), "A deviation of 1 in force"),
    ):  # fmt: skip
        assert words in str(html(shown))
    page = str(html(messages))
    assert page.count("<svg") == 4  # three tubes and the portrait
    assert "log Z" in page
    assert "Gaussian action prior" in page


# The report


def test_a_page_of_messages_tells_the_whole_world(
    solved: dict[str, cai.Messages], tmp_path: Path, undrawn: None
) -> None:
    page = cai.report(solved["VARIATIONAL"], tmp_path, title="cart").read_text()
    for words in (
        "velocity + 0.2·force + noise of deviation 0.1", "its Gaussian action prior", "Phase portraits",
        "Where state and action are", "Reward and nats by time", "Gains of force", "At t = 0, position=2",
    ):  # fmt: skip
        assert words in page
    gain = show(float(solved["VARIATIONAL"].policy.conditional(0).gain[0, 0]))
    assert gain in page


@pytest.mark.slow
def test_a_page_of_a_comparison_is_drawn(compared: cai.Comparison, tmp_path: Path) -> None:
    cai.report(compared, tmp_path)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn >= {"marginals-1", "portraits-1", "portraits-policies-1", "costs-1", "gains-force-1"}


def test_sections_step_aside_and_say_which_prior(compared: cai.Comparison) -> None:
    (section,) = system(Request("cart", {"2": compared}))
    assert "Every number in nats is relative to its Gaussian action prior" in section.parts[0].text  # type: ignore[union-attr]
    finite = cai.compare(RandomWorld(3, 4, 2, 2, 5, holes=False), {"prior": None})
    assert list(system(Request("other", {"1": finite}))) == []
    assert any(kind.takes(compared.evaluations["HARD"]) for kind in KINDS)


# The command line


SMALL = ("double_integrator", "--set", "horizon=5")


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (("solve", *SMALL, "-r", "VARIATIONAL", "--policy"), "per velocity", 0),
        (("solve", "pendulum"), "which is not Gaussian", 2),
        (("show", "double_integrator"), "−position² − 0.1·velocity² − 0.1·force²", 0),
        (("explore", *SMALL, "--out", "x.html"), "expected a finite world", 2),
        pytest.param(("solve", *SMALL, "--observe", "positon_3=1"), "did you mean position", 2, marks=pytest.mark.slow),
        pytest.param(("show", "pendulum"), "no exact ones: initial, variable 'state'", 0, marks=pytest.mark.slow),
        pytest.param(("compare", *SMALL, "--json"), '"log_evidence"', 0, marks=pytest.mark.slow),
        pytest.param(("compare", *SMALL, "--out", "page"), "report: ", 0, marks=pytest.mark.slow),
    ],
)
def test_the_command_line_speaks_of_real_worlds(words: tuple[str, ...], told: str, code: int, tmp_path: Path) -> None:
    done = command.cai(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr

"""Pictures, the summary and the report: what is drawn is what was computed, and the page says so truly."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyro
import pytest
import torch
from matplotlib import image as images
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.support.files import write_whole
from cai.support.numbers import rounded, show
from cai.view import figures, summaries
from cai.view.graph_figure import draw_graph, graph
from cai.view.maps import choices_matter, states_on_map
from cai.view.scene import PROMISE, scene
from cai.view.summary import kernel_distance, promise_gap, summary, twin_summary
from tests.worlds import RandomWorld


class Gamble:
    """Every policy risks a forbidden reward: ELBO* = -inf, while log Z is finite."""

    horizon = 3

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.tensor([1.0, 0.0])))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        k = pyro.sample("k", Categorical(torch.tensor([0.9, 0.1])))
        return pyro.sample("s", cai.Point((state + k) % 2, 2)), torch.where(k == 1, -torch.inf, action * 1.0)


class Corridor:
    """Six states on a 3 × 3 map: two share a cell, four cells are empty; one action stays; state 4 is forbidden."""

    horizon = 6
    layout = cai.Layout(
        cell=torch.tensor([0, 1, 2, 5, 8, 8]),
        shape=(3, 3),
        moves=((1.0, 0.0), (0.0, 1.0), None),
        marks={0: "S", 8: "G", 4: "#"},
    )

    def initial(self) -> Tensor:
        return pyro.sample("s", Categorical(torch.tensor([0.5, 0.5, 0, 0, 0, 0])))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Categorical(torch.ones(3).expand(*state.shape, 3)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        slip = pyro.sample("slip", Categorical(torch.tensor([0.8, 0.2])))
        ahead = torch.where((action == 2) | (slip == 1), state, (state + 1 + action).clamp(max=5))
        reward = torch.where((ahead == 4) | (state == 4), -torch.inf, (ahead == 5) * 1.0 - 0.1)
        return pyro.sample("s", cai.Point(ahead, 6)), reward


RULES = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD}


def compared(world: Any, alphas: Sequence[float], **policies: Any) -> list[cai.Comparison]:
    tables = cai.tabulate(world)
    return [cai.compare(tables, {**RULES, "prior": None, **policies}, temperature=alpha) for alpha in alphas]


def gambles(*alphas: float) -> list[cai.Comparison]:
    return [cai.compare(Gamble(), {"POSTERIOR": cai.POSTERIOR, "prior": None}, temperature=alpha) for alpha in alphas]


@pytest.fixture(scope="module")
def lake() -> list[cai.Comparison]:
    return compared(cai.from_gymnasium("FrozenLake-v1", horizon=20), [1.0, 0.1])


@pytest.fixture(scope="module")
def cliffs() -> tuple[list[cai.Comparison], list[cai.Comparison]]:
    slippery, sure = (cai.from_gymnasium("CliffWalking-v1", horizon=30, is_slippery=slips) for slips in (True, False))
    return compared(slippery, [1.0, 0.1]), compared(sure, [1.0, 0.1])


def pixels(path: Path) -> np.ndarray:
    picture = images.imread(path)
    assert min(picture.shape[0] / 150, picture.shape[1] / 400) > 1, f"{path} is small"
    assert picture[..., :3].std() > 0.01, f"{path} is blank"
    return picture


# The numbers behind the pictures


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_policy_values_meet_the_elbo(seed: int, discount: float) -> None:
    world = RandomWorld(seed, 4, 3, 3, 5, holes=False, discount=discount)
    for one in compared(world, [0.7])[0].evaluations.values():
        assert (one.model.log_initial.exp() @ one.v[0] / 0.7).item() == pytest.approx(one.elbo, abs=1e-10)


def test_policy_values_meet_the_elbo_of_the_infinite_horizon() -> None:
    world = RandomWorld(3, 4, 3, 3, None, holes=False, discount=0.9, positive=False)
    for one in compared(world, [0.7])[0].evaluations.values():
        assert (one.model.log_initial.exp() @ one.v / 0.7).item() == pytest.approx(one.elbo, abs=1e-8)


def test_the_scene_holds_the_exact_messages(lake: list[cai.Comparison]) -> None:
    tables, alpha = lake[1].tables, lake[1].temperature
    ready = scene(lake[1])
    posterior, variational = (cai.solve(tables, rule, temperature=alpha) for rule in (cai.POSTERIOR, cai.VARIATIONAL))
    torch.testing.assert_close(ready.v[PROMISE], posterior.v)
    torch.testing.assert_close(ready.v["VARIATIONAL"], variational.v, atol=1e-12, rtol=1e-12)
    assert (ready.v[PROMISE] >= ready.v["VARIATIONAL"] - 1e-12).all()
    assert float(ready.visits["HARD"].sum()) == pytest.approx(20)  # one state at each of 20 times


def test_only_the_most_visited_states_are_shown(lake: list[cai.Comparison]) -> None:
    ready = scene(lake[0], limit=5)
    total = sum(ready.visits.values())
    assert set(ready.states.tolist()) == set(total.argsort(descending=True)[:5].tolist())
    assert ready.shown == "the 5 most visited of 17 states"
    assert "the 5 most visited of 17 states" in texts(figures.occupancy_heat(ready))
    torch.testing.assert_close(ready.v["HARD"], scene(lake[0]).v["HARD"][:, ready.states])
    ever = scene(lake[0], limit=16)  # the four holes and the goal are never states that act: done is
    assert ever.shown == f"the {int((total > 0).sum())} states ever visited, of 17"
    with pytest.raises(cai.WorldError, match="at least 1"):
        scene(lake[0], limit=0)


# Figures


def texts(figure: Figure) -> str:
    return "\n".join(found.get_text() for found in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def named_axes(figure: Figure) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_the_map_shows_values_marks_and_the_policy_as_arrows(lake: list[cai.Comparison]) -> None:
    ready = scene(lake[1])
    panels = named_axes(figures.value_maps(ready))
    assert list(panels) == ["promised by POSTERIOR", "POSTERIOR", "VARIATIONAL", "HARD", "prior"]
    hard = panels["HARD"]
    shown = np.asarray(hard.images[0].get_array())
    np.testing.assert_allclose(shown.reshape(-1), ready.v_0["HARD"][:16])
    assert [text.get_text() for text in hard.texts].count("H") == 4

    probs = lake[1].evaluations["HARD"].policy.probs(0)
    frozen = [s for s in range(16) if s not in {5, 7, 11, 12, 15}]  # no arrows in holes or at the goal
    arrows = next(found for found in hard.collections if isinstance(found, PolyCollection))
    paths = arrows.get_paths()
    assert len(paths) == int((probs[frozen] > 0).sum())
    left, down, right, up = ((-1, 0), (0, 1), (1, 0), (0, -1))
    for s in frozen:
        tips = [
            path.vertices[3] - [s % 4, s // 4]
            for path in paths
            if np.hypot(*(path.vertices[3] - [s % 4, s // 4])) < 0.5
        ]
        drawn = {(int(np.sign(round(x, 6))), int(np.sign(round(y + 0.07, 6)))) for x, y in tips}
        assert drawn == {way for way, p in zip((left, down, right, up), probs[s], strict=True) if p > 0}


def test_the_area_of_an_arrow_is_its_probability() -> None:
    policy = torch.tensor([0.64, 0.36, 0.0]).expand(6, 3)
    one = compared(Corridor(), [1.0], mine=policy)[0]
    panel = named_axes(figures.value_maps(scene(one)))["mine"]
    paths = next(found for found in panel.collections if isinstance(found, PolyCollection)).get_paths()
    x, y = np.array([path.vertices[:-1] for path in paths]).transpose(2, 0, 1)
    areas = 0.5 * np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1))
    assert sorted(set(areas.round(6) / areas.max().round(6))) == pytest.approx([0.36 / 0.64, 1.0], abs=1e-3)


def test_a_move_that_stays_is_a_dot_and_minus_infinity_is_hatched() -> None:
    one = compared(Corridor(), [1.0], still=torch.tensor([0.0, 0.0, 1.0]).expand(6, 3))[0]
    ready = scene(one)
    figure = figures.value_maps(ready)
    still, prior = named_axes(figure)["still"], named_axes(figure)["prior"]
    outlines = next(found for found in still.collections if isinstance(found, PolyCollection)).get_paths()
    assert all(len(path.vertices) > 20 for path in outlines)
    assert np.ma.getmaskarray(prior.images[0].get_array())[0, :3].all()  # the prior risks what is forbidden
    assert prior.patch.get_hatch()
    words = texts(figure)
    assert "dot: no move" in words
    assert "no state" in words
    assert "−∞: risks what is forbidden" in words
    assert "the most visited is shown" in words.replace("\n", " ")


def test_of_states_in_one_cell_the_most_visited_is_on_the_map() -> None:
    grid = states_on_map(Corridor.layout, torch.tensor([1.0, 1, 1, 1, 0.2, 0.5]))
    assert grid.tolist() == [[0, 1, 2], [-1, -1, 3], [-1, -1, 5]]
    assert states_on_map(Corridor.layout, torch.zeros(6))[2, 2] == 4  # a tie: the lowest number


def test_no_arrow_where_the_choice_makes_no_difference() -> None:
    tables = cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=3))
    assert (~choices_matter(tables.at(0))).nonzero().flatten().tolist() == [5, 7, 11, 12, 15, 16]


def test_a_map_needs_a_layout() -> None:
    with pytest.raises(cai.WorldError, match="layout"):
        figures.value_maps(scene(compared(RandomWorld(1, 3, 2, 2, 3, holes=False), [1.0])[0]))


def test_heat_maps_show_each_field_by_state_and_time(lake: list[cai.Comparison]) -> None:
    one, ready = lake[1], scene(lake[1])
    fields = {
        figures.occupancy_heat: {name: found.occupancy.sum(-1) for name, found in one.evaluations.items()},
        figures.policy_nats_heat: {name: found.policy_nats for name, found in one.evaluations.items()},
        figures.luck_nats_heat: {name: found.luck_nats for name, found in one.evaluations.items()},
    }
    for draw, by_name in fields.items():
        panels = named_axes(draw(ready))
        assert list(panels) == list(by_name)
        for name, field in by_name.items():
            image = panels[name].images[0]
            shown, floor = np.asarray(image.get_array()), image.norm.vmin
            assert shown.shape == (17, 20)
            visible = field.T.numpy() > floor
            np.testing.assert_allclose(shown[visible], field.T.numpy()[visible])
            assert (shown[~visible] < floor).all()  # drawn as nothing, not as a hole
    assert "zero everywhere" in texts(figures.policy_nats_heat(ready))  # of VARIATIONAL


def test_infinite_horizon_draws_bars() -> None:
    ready = scene(compared(RandomWorld(2, 6, 3, 3, None, holes=False, discount=0.9, positive=False), [0.5])[0])
    for draw in (figures.value_heat, figures.occupancy_heat, figures.policy_nats_heat, figures.luck_nats_heat):
        panels = named_axes(draw(ready))
        assert all(len(axes.patches) == 6 and not axes.images for axes in panels.values())
    bars = named_axes(figures.value_heat(ready))["VARIATIONAL"].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], ready.v["VARIATIONAL"])


def test_bars_of_minus_infinity_are_hatched() -> None:
    world = Gamble()
    world.horizon, world.discount = None, 0.5  # type: ignore[assignment,attr-defined]
    one = cai.compare(world, {"prior": None}, temperature=1.0)
    axes = named_axes(figures.value_heat(scene(one)))["prior"]
    assert [patch for patch in axes.patches if patch.get_hatch()]
    assert "−∞" in [text.get_text() for text in axes.texts]


def lines(axes: Any, alphas: int) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines if len(line.get_xdata()) == alphas]


def test_the_ladder_climbs_through_the_numbers(lake: list[cai.Comparison]) -> None:
    returns, free, gaps = summaries.ladder(lake).axes
    cold_to_warm = [lake[1], lake[0]]
    for n, row in enumerate(lake[0].rows):
        drawn = lines(returns, 2)[n]
        np.testing.assert_allclose(drawn, [one.rows[n].expected_return for one in cold_to_warm])
        np.testing.assert_allclose(lines(free, 2)[n], [one.temperature * one.rows[n].elbo for one in cold_to_warm])
        if row.name == "HARD":
            np.testing.assert_allclose(lines(gaps, 2)[n], [one.rows[n].optimality_gap for one in cold_to_warm])
        if row.name == "VARIATIONAL":
            assert (lines(gaps, 2)[n] == gaps.get_ylim()[0]).all()  # nothing: on the floor
    exact = [
        [one.temperature * one.elbo_star for one in cold_to_warm],
        [one.temperature * one.log_evidence for one in cold_to_warm],
    ]
    np.testing.assert_allclose(lines(free, 2)[-2:], exact)


def test_a_ladder_of_one_rung_and_of_infinite_numbers() -> None:
    single = summaries.ladder(gambles(1.0))
    assert "not finite: POSTERIOR" in texts(single)
    single.canvas.draw()
    rung = summaries.ladder(compared(RandomWorld(1, 3, 2, 2, 3, holes=False), [0.5])).axes[0]
    assert [line.get_ydata()[0] for line in rung.lines] == [
        row.expected_return for row in compared(RandomWorld(1, 3, 2, 2, 3, holes=False), [0.5])[0].rows
    ]


def test_accounts_stack_up_to_the_evidence_gap(lake: list[cai.Comparison]) -> None:
    left, right = summaries.accounts(lake[1]).axes
    ends = [patch.get_x() + patch.get_width() for patch in left.patches]
    rows = lake[1].rows
    np.testing.assert_allclose(ends[-len(rows) :], [row.evidence_gap for row in rows], atol=1e-9)
    np.testing.assert_allclose(
        [patch.get_width() for patch in right.patches], [row.optimality_gap for row in rows], atol=1e-9
    )


# The graph


def test_the_graph_is_drawn_with_time_to_the_right(tmp_path: Path) -> None:
    dag = cai.graph(cai.from_gymnasium("FrozenLake-v1", horizon=9), slices=3)
    axes = graph(dag).axes[0]
    centre = {text.get_text(): text.get_position() for text in axes.texts}
    assert centre["state₀"][0] < centre["state₁"][0] < centre["state₂"][0] < centre["state₃"][0]
    assert len({centre[f"state{n}"][1] for n in "₀₁₂₃"}) == 1
    assert centre["action₁"][1] > centre["state₁"][1] > centre["outcome₁"][1] > centre["O₁"][1]
    nodes = [patch for patch in axes.patches if type(patch).__name__ == "Ellipse"]
    assert len(nodes) == len(dag)
    assert len(axes.patches) == len(dag) + dag.number_of_edges()
    shaded = {tuple(patch.center) for patch in nodes if patch.get_facecolor()[3] > 0}
    assert shaded == {centre[f"O{n}"] for n in "₀₁₂"}

    assert pixels(draw_graph(dag, tmp_path / "deep" / "model.png")).shape[2] in (3, 4)
    svg = draw_graph(dag, tmp_path / "model.SVG").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "model.SVG"]


def test_the_graph_names_its_kinds_and_plates(tmp_path: Path) -> None:
    dag = nx.DiGraph()
    dag.add_node("$x_0", kind="state", time=0, variable="$x", observed=False, plates=("animals",))
    dag.add_node("$x_1", kind="state", time=1, variable="$x", observed=True, plates=("animals",))
    dag.add_edge("$x_0", "$x_1")
    words = texts(graph(dag))
    assert "$x₁" in words
    assert "plate animals" in words
    assert "plates: animals" in words
    assert "filled: observed" in words
    draw_graph(dag, tmp_path / "plates.png")
    with pytest.raises(cai.WorldError, match=r"\.svg, \.png or \.pdf"):
        draw_graph(dag, tmp_path / "model.gif")
    with pytest.raises(cai.WorldError, match="without nodes"):
        draw_graph(nx.DiGraph(), tmp_path / "none.png")


# The summary


def test_stochastic_dynamics_leave_luck_that_no_policy_can_have(lake: list[cai.Comparison]) -> None:
    told = summary(lake)
    for one, text in zip(reversed(lake), told, strict=False):
        promised = f"the posterior promises log Z = {show(one.log_evidence)} nats"
        assert text.startswith(f"At α = {show(one.temperature)}, {promised}")
        assert f"reaches ELBO* = {show(one.elbo_star)} nats" in text
        gap = show(one.log_evidence - one.elbo_star)
        assert text.endswith(f"No policy can have the {gap} nats between them: they are for luck.")
    assert told[-1] == "The highest ELBO of those compared: VARIATIONAL at α = 0.1 and α = 1."


def test_deterministic_dynamics_and_a_fixed_start_leave_none(cliffs: Any) -> None:
    told = summary(cliffs[1])
    assert all("the posterior counts on no luck" in text for text in told[:2])
    assert not any("No policy" in text for text in told)
    assert [promise_gap(one) for one in cliffs[1]] == [0.0, 0.0]


def test_the_start_is_told_from_luck() -> None:
    world = RandomWorld(0, 4, 3, 1, 4, holes=False)  # one outcome an action: deterministic
    one = compared(world, [0.5])[0]
    assert f"the {show(one.rows[0].start_nats)} nats between them: they are for a better start." in summary([one])[0]
    both = compared(RandomWorld(0, 4, 3, 3, 4, holes=False), [0.5])[0]
    gap, start = both.log_evidence - both.elbo_star, both.rows[0].start_nats
    assert f"{show(start)} of them are for a better start and {show(gap - start)} for luck." in summary([both])[0]


def test_what_cannot_be_is_said_in_words() -> None:
    assert "but ELBO* = −∞: every policy risks what is forbidden" in summary(gambles(1.0))[0]
    with pytest.raises(cai.WorldError, match="at least one"):
        summary([])


def test_an_evidence_too_large_to_exist_is_said_to_be_so() -> None:
    greedy = RandomWorld(3, 4, 3, 3, None, holes=False, discount=0.9)
    one = cai.compare(greedy, {"VARIATIONAL": cai.VARIATIONAL, "prior": None}, temperature=0.2)
    assert one.log_evidence is None
    assert f"ELBO* = {show(one.elbo_star)} nats, but log Z = +∞" in summary([one])[0]
    assert PROMISE not in scene(one).v


def test_twins_have_one_evidence_and_two_optima(cliffs: Any) -> None:
    slippery, sure = cliffs
    text = twin_summary("slippery", slippery, "sure", sure)
    assert "The prior's marginal kernel Σ_a p(a|s) p(s′, r | s, a) is the same in both" in text
    for a, b in zip(slippery, sure, strict=True):
        assert a.log_evidence == pytest.approx(b.log_evidence, abs=1e-9)
        apart = b.elbo_star - a.elbo_star
        assert apart > 10
        found = next(line for line in text.splitlines() if line.startswith(f"α = {show(a.temperature)}:"))
        assert f"log Z = {show(a.log_evidence)} (slippery) and {show(b.log_evidence)} (sure), equal" in found
        ends = f"ELBO* = {show(a.elbo_star)} (slippery) and {show(b.elbo_star)} (sure)"
        assert f"{ends}, {show(apart)} nats apart." in found
    assert kernel_distance(slippery[0].tables, sure[0].tables) < 1e-12
    with pytest.raises(cai.WorldError, match="same temperatures"):
        twin_summary("slippery", slippery, "sure", sure[:1])


def test_worlds_that_are_no_twins_are_not_called_so(lake: list[cai.Comparison], cliffs: Any) -> None:
    dry = compared(cai.from_gymnasium("FrozenLake-v1", horizon=20, is_slippery=False), [1.0, 0.1])
    tilted = cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=20))
    assert kernel_distance(lake[0].tables, dry[0].tables) < 1e-12  # under a uniform prior these are twins as well
    moved = cai.tabulate(RandomWorld(1, 17, 4, 3, 20, holes=False))
    assert kernel_distance(tilted, moved) > 0.01
    assert kernel_distance(lake[0].tables, cliffs[0][0].tables) is None
    text = twin_summary("lake", lake, "random", compared(RandomWorld(1, 17, 4, 3, 20, holes=False), [1.0, 0.1]))
    assert "differs, and so may log Z" in text
    assert "is the same in both" not in text


# Words


def test_numbers_are_written_for_people() -> None:
    written = {
        -1234.56: "−1,234.6",
        0.0: "0",
        3e-7: "3.00×10⁻⁷",
        -math.inf: "−∞",
        math.inf: "∞",
        0.01: "0.01",
        63.0134: "63.013",
    }
    assert {value: show(value) for value in written} == written
    assert show(None) == "–"
    assert rounded(1e-12, 5.0) == 0
    assert rounded(1e-12, 1e6) == 0
    assert rounded(1e-3, 5.0) == 1e-3
    assert rounded(1e-5, 1e5) == 0
    assert rounded(-math.inf, 1.0) == -math.inf
    assert rounded(None, None) is None


# Files


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path, {"a.txt": b"old", "in/b.txt": b"old"})
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "b.txt" in path.name:
            write_bytes(path, content[:1])
            raise OSError("disk full")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path, {"a.txt": b"new", "in/b.txt": b"new"})
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a.txt": b"old", "in/b.txt": b"old"}

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
from matplotlib.figure import Figure
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.compile.prior_kernel import kernel_distance
from cai.support.files import write_whole
from cai.support.numbers import rounded, show
from cai.view.graph_figure import draw_graph, graph
from cai.view.maps import choices_matter, states_on_map
from cai.view.summary import promise_gap, summary, twin_summary
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


# Figures


def texts(figure: Figure) -> str:
    return "\n".join(found.get_text() for found in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def named_axes(figure: Figure) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_of_states_in_one_cell_the_most_visited_is_on_the_map() -> None:
    grid = states_on_map(Corridor.layout, torch.tensor([1.0, 1, 1, 1, 0.2, 0.5]))
    assert grid.tolist() == [[0, 1, 2], [-1, -1, 3], [-1, -1, 5]]
    assert states_on_map(Corridor.layout, torch.zeros(6))[2, 2] == 4  # a tie: the lowest number


def test_no_arrow_where_the_choice_makes_no_difference() -> None:
    tables = cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=3))
    assert (~choices_matter(tables.at(0))).nonzero().flatten().tolist() == [5, 7, 11, 12, 15, 16]


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
        assert text.endswith(f"No policy can reach the {gap} nats between them: they are for luck.")
    assert told[-1] == "The highest ELBO of those compared: VARIATIONAL at α = 0.1 and α = 1."


def test_deterministic_dynamics_and_a_fixed_start_leave_none(cliffs: Any) -> None:
    told = summary(cliffs[1])
    assert all("the posterior assumes no luck" in text for text in told[:2])
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
    assert "but ELBO* = −∞: every policy risks a forbidden reward" in summary(gambles(1.0))[0]
    with pytest.raises(cai.WorldError, match="at least one"):
        summary([])


def test_an_evidence_too_large_to_exist_is_said_to_be_so() -> None:
    greedy = RandomWorld(3, 4, 3, 3, None, holes=False, discount=0.9)
    one = cai.compare(greedy, {"VARIATIONAL": cai.VARIATIONAL, "prior": None}, temperature=0.2)
    assert one.log_evidence is None
    assert f"ELBO* = {show(one.elbo_star)} nats, but log Z = +∞" in summary([one])[0]


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

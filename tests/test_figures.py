"""The public figures: what is drawn is what was computed, panels share a scale, and the graphics follow the page."""

import xml.etree.ElementTree as Tree
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import cai
from cai.support.numbers import show
from cai.view.curve_names import spread
from cai.view.style import FAINT, GREY, INK, amounts
from cai.view.tube_figure import Chances, marginals_over_time
from tests.test_view import Corridor, compared, gambles
from tests.worlds import RandomWorld

RULES = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD, "prior": None}
ALPHA = 0.02


@pytest.fixture(scope="module")
def lake() -> cai.Tables:
    return cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=20))


@pytest.fixture(scope="module")
def one(lake: cai.Tables) -> cai.Comparison:
    return cai.compare(lake, RULES, temperature=ALPHA)


@pytest.fixture(scope="module")
def messages(lake: cai.Tables) -> cai.Messages:
    return cai.solve(lake, cai.VARIATIONAL, temperature=ALPHA)


OPEN = [s for s in range(16) if s not in {5, 7, 11, 12, 15}]
"""Cells of the lake that are neither holes nor the goal."""


def coloured(figure: Figure) -> dict[tuple[float, float], float]:
    """Return the numbers of the cells by their middles."""
    (found,) = (
        part for part in figure.axes[0].collections if part.get_gid() == "crisp" and part.get_array() is not None
    )
    middles = [tuple(path.vertices[:4].mean(0).round(6)) for path in found.get_paths()]
    return dict(zip(middles, np.asarray(found.get_array()).tolist(), strict=True))


def words_of(figure: Figure) -> str:
    return "\n".join(found.get_text() for found in figure.findobj(lambda artist: hasattr(artist, "get_text")))


# Maps


def test_a_value_map_holds_the_values_of_cells_in_which_somebody_acts(messages: cai.Messages) -> None:
    figure = cai.view.value_map(messages, t=3)
    assert coloured(figure) == {(s % 4, s // 4): pytest.approx(float(messages.v[3, s])) for s in OPEN}
    hatches = [part for part in figure.axes[0].collections if part.get_hatch()]
    assert [len(part.get_paths()) for part in hatches] == [5]
    best = max(OPEN, key=lambda s: messages.v[3, s])
    assert f"Highest: {show(float(messages.v[3, best]))} reward units at state={best}" in cai.view.alt(figure)
    assert f"at the start, state=0 (S): {show(float(messages.v[3, 0]))}" in cai.view.alt(figure)
    rows = cai.view.alt(figure).partition("row by row: ")[2].rstrip(".").split("; ")
    likeliest = messages.policy.probs(3).argmax(-1)
    names = ["left", "down", "right", "up"]
    assert [row.split(", ") for row in rows] == [
        [names[likeliest[4 * r + c]] if 4 * r + c in OPEN else "–" for c in range(4)] for r in range(4)
    ]


def test_the_area_of_an_arrow_is_the_probability_of_its_action() -> None:
    tables = cai.tabulate(Corridor())
    evaluation = cai.evaluate(tables, torch.tensor([0.64, 0.36, 0.0]).expand(6, 3), temperature=1.0)
    figure = cai.view.policy_arrows(evaluation)
    arrows = next(part for part in figure.axes[0].collections if part.get_zorder() == 3)
    x, y = np.array([path.vertices[:-1] for path in arrows.get_paths()]).transpose(2, 0, 1)
    areas = 0.5 * np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1))
    assert sorted(set((areas / areas.max()).round(6))) == pytest.approx([0.36 / 0.64, 1.0], abs=1e-3)
    assert "most visited" in words_of(figure)  # two states share a cell


def test_panels_of_one_quantity_share_a_scale(one: cai.Comparison) -> None:
    panels = cai.view.side_by_side(cai.view.value_map, one)
    assert list(panels) == list(RULES)
    v = torch.stack([evaluation.v[0, OPEN] for evaluation in one.evaluations.values()])
    for figure in panels.values():
        assert figure.scale == pytest.approx((float(v.min()), float(v.max())))
        (cells,) = (part for part in figure.axes[0].collections if part.get_gid() == "crisp")
        assert (cells.norm.vmin, cells.norm.vmax) == pytest.approx(figure.scale)
    fixed = cai.view.side_by_side(cai.view.value_map, one, scale=(0.0, 1.0), arrows=False)
    assert {figure.scale for figure in fixed.values()} == {(0.0, 1.0)}
    assert panels._repr_html_().count("<svg") == 4
    with pytest.raises(cai.WorldError, match="at least one"):
        cai.view.side_by_side(cai.view.value_map, {})


def test_visits_and_nats_of_a_cell_are_those_of_its_states(one: cai.Comparison) -> None:
    evaluation = one.evaluations["POSTERIOR"]
    visits = evaluation.occupancy.sum((0, 2))
    drawn = coloured(cai.view.occupancy_map(evaluation))
    assert drawn == {(s % 4, s // 4): pytest.approx(float(visits[s])) for s in OPEN if visits[s] > 0}
    at_3 = coloured(cai.view.occupancy_map(evaluation, t=3))
    assert sum(at_3.values()) == pytest.approx(1 - float(evaluation.occupancy[3, 16].sum()))
    for what, field in {"policy": "policy_nats", "luck": "luck_nats", "regret": "regret_per_state"}.items():
        figure = cai.view.nats_map(evaluation, what)
        lost = getattr(evaluation, field).sum(0)
        assert sum(coloured(figure).values()) == pytest.approx(float(lost.sum()), rel=1e-3)
        assert show(float(lost.sum())) in cai.view.alt(figure)
    two = cai.view.nats_map([evaluation, one.evaluations["VARIATIONAL"]])
    assert sum(coloured(two).values()) == pytest.approx(float(evaluation.policy_nats.sum()) / 2, rel=1e-3)


def test_what_cannot_be_drawn_is_said(lake: cai.Tables, one: cai.Comparison, messages: cai.Messages) -> None:
    plain = cai.solve(RandomWorld(1, 3, 2, 2, 3, holes=False), cai.HARD)
    both = cai.solve(lake, cai.HARD, temperature=torch.tensor([1.0, 2.0]))
    with pytest.raises(cai.WorldError, match="layout"):
        cai.view.value_map(plain)
    with pytest.raises(cai.WorldError, match="from 0 to 19"):
        cai.view.value_map(messages, t=20)
    with pytest.raises(cai.WorldError, match="batch"):
        cai.view.value_map(both)
    with pytest.raises(cai.WorldError, match="a Tables; expected"):
        cai.view.value_map(lake)
    with pytest.raises(cai.WorldError, match="'skill'"):
        cai.view.nats_map(one.evaluations["HARD"], "skill")
    with pytest.raises(cai.WorldError, match="tubes: messages with a batch"):
        cai.view.tubes({"both": both}, "state")
    for draw in (cai.view.column_bars, cai.view.nats_bars, cai.view.performance_profiles):
        with pytest.raises(cai.WorldError, match=r": a Messages; expected what cai\.compare returns"):
            draw(messages)  # type: ignore[operator]
    for scale in ((1.0, 0.0), (1.0, 1.0), (0.0, float("nan"))):
        with pytest.raises(cai.WorldError, match=r"scale: .* low below high"):
            cai.view.value_map(messages, scale=scale)
    with pytest.raises(cai.WorldError, match="above 0"):
        cai.view.occupancy_map(messages, scale=(0.0, 1.0))
    for draw in (cai.view.tubes, cai.view.learning_curves, partial(cai.view.side_by_side, cai.view.value_map)):
        words = ("s",) if draw is cai.view.tubes else ()
        for results, seen in ((messages, "a Messages"), ({}, "none")):
            with pytest.raises(cai.WorldError, match=f"results: {seen}; expected a comparison, or at least one result"):
                draw(results, *words)  # type: ignore[operator]
    with pytest.raises(cai.WorldError, match="not drawn by"):
        cai.view.alt(Figure())


def test_minus_infinity_is_hatched_and_said() -> None:
    (gamble,) = compared(Corridor(), [1.0])
    figure = cai.view.value_map(gamble.evaluations["prior"])
    assert [part for part in figure.axes[0].collections if part.get_hatch()]
    assert "at −∞" in cai.view.alt(figure)


def test_a_given_axes_is_drawn_on(messages: cai.Messages) -> None:
    mine = Figure(figsize=(8, 4))
    left, right = mine.subplots(1, 2)
    assert cai.view.value_map(messages, ax=left) is mine
    cai.view.policy_arrows(messages, ax=right, title="mine")
    assert right.get_title(loc="left") == "mine"
    assert cai.view.alt(mine).count("Likeliest actions") == 2


# Over time


def test_messages_over_time_are_v(messages: cai.Messages, one: cai.Comparison) -> None:
    drawn = coloured(cai.view.messages_over_time(messages, states=[0, 14]))
    assert drawn == {
        (t, row): pytest.approx(float(messages.v[t, s])) for t in range(21) for row, s in enumerate([0, 14])
    }
    field = one.evaluations["POSTERIOR"].policy_nats
    nats = coloured(cai.view.nats_over_time(one.evaluations["POSTERIOR"]))
    assert sum(nats.values()) == pytest.approx(float(field.sum()), rel=1e-3)
    rows = [text.get_text() for text in cai.view.occupancy_over_time(messages).axes[0].get_yticklabels()]
    assert rows == [f"{s} (S)" if s == 0 else str(s) for s in OPEN]  # neither holes nor "ended"


def test_an_infinite_horizon_has_bars() -> None:
    world = RandomWorld(2, 6, 3, 3, None, holes=False, discount=0.9, positive=False)
    answer = cai.solve(world, cai.VARIATIONAL, temperature=0.5)
    bars = cai.view.messages_over_time(answer).axes[0].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], answer.v)
    with pytest.raises(cai.WorldError, match="infinite horizon"):
        cai.view.tubes({"a": answer}, answer.model.states.names[0])


def test_a_tube_is_the_mean_and_the_band_of_a_variable() -> None:
    chances = Chances(torch.tensor([0.05, 0.2, 0.5, 0.25], dtype=torch.float64))
    assert chances.mean == pytest.approx(1.95)
    assert [chances.quantile(share) for share in (0.05, 0.1, 0.5, 0.75, 0.9)] == [0, 1, 2, 2, 3]
    factors = cai.factorise(cai.load_world("sysadmin", overrides={"horizon": 6}))
    answer = cai.solve(factors, cai.VARIATIONAL, temperature=0.5)
    figure = cai.view.tubes(
        {"max-ent": answer, "as evaluated": cai.evaluate(factors, answer, temperature=0.5)}, "machine_1"
    )
    first, second = (line.get_ydata() for line in figure.axes[0].lines[:2])
    np.testing.assert_allclose(first, [float(answer.marginal(t, "machine_1")[1]) for t in range(7)])
    np.testing.assert_allclose(first, second, atol=1e-12)
    assert f"mean {show(float(first[0]))} at t = 0" in cai.view.alt(figure)
    with pytest.raises(cai.WorldError, match="'machine_9'"):
        cai.view.tubes({"a": answer}, "machine_9")


def test_another_kind_of_result_may_have_tubes() -> None:
    class Bell:
        mean = 0.5

        def quantile(self, share: float) -> float:
            return share

    class Walk:
        pass

    marginals_over_time.register(Walk, lambda result, variable: [Bell()] * 3)
    axes = cai.view.tubes({"walk": Walk()}, "x", share=0.5).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.5] * 3
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.25, 0.75)


# Comparisons


def test_the_ladder_climbs_through_the_numbers(lake: cai.Tables, one: cai.Comparison) -> None:
    warm = cai.compare(lake, RULES, temperature=1.0)
    for what, read in {
        "return": lambda comparison, row: row.expected_return,
        "elbo": lambda comparison, row: comparison.temperature * row.elbo,
    }.items():
        figure = cai.view.temperature_ladder([warm, one], what)
        for line, row, other in zip(figure.axes[0].lines, one.rows, warm.rows, strict=False):
            np.testing.assert_allclose(line.get_ydata(), [read(one, row), read(warm, other)])
            assert f"{row.name}: {show(read(one, row))} to {show(read(warm, other))}" in cai.view.alt(figure)
    gaps = cai.view.temperature_ladder([one, warm], "gap").axes[0]
    assert (gaps.lines[1].get_ydata() == gaps.get_ylim()[0]).all()  # VARIATIONAL: nothing, on the floor
    with pytest.raises(cai.WorldError, match="1 comparisons; expected a list of two at least"):
        cai.view.temperature_ladder([one])
    with pytest.raises(cai.WorldError, match="one comparison; expected a list"):
        cai.view.temperature_ladder(one)  # type: ignore[arg-type]


def test_bars_are_a_column_and_the_parts_of_the_evidence_gap(one: cai.Comparison) -> None:
    figure = cai.view.column_bars(one, "expected_return")
    np.testing.assert_allclose(
        [bar.get_width() for bar in figure.axes[0].patches], [row.expected_return for row in one.rows]
    )
    assert f"J* = {show(one.row('HARD').expected_return)}" in cai.view.alt(figure)
    parts = cai.view.nats_bars(one).axes[0].patches
    ends = [bar.get_x() + bar.get_width() for bar in parts[-4:]]
    np.testing.assert_allclose(ends, [row.evidence_gap for row in one.rows], atol=1e-9)
    assert "−∞" in words_of(cai.view.column_bars(gambles(1.0)[0], "elbo"))
    with pytest.raises(cai.WorldError, match="'charm'"):
        cai.view.column_bars(one, "charm")


def test_learning_curves_are_interquartile_means_with_bands() -> None:
    world = cai.from_gymnasium("FrozenLake-v1", horizon=5)
    runs = [cai.learn.q_learning(world, temperature=0.1, steps=400, seed=seed) for seed in range(2)]
    both = cai.compare(world, {"soft q": runs, "prior": None}, temperature=0.1)
    for figure in (cai.view.learning_curves(both), cai.view.learning_curves({"soft q": runs})):
        curve = both.curves["soft q"]["policy_nats"]
        low = figure.axes[0].get_ylim()[0]
        np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), curve.value.numpy().clip(low))
        assert f"soft q: {show(float(curve.value[0]))} to {show(float(curve.value[-1]))}" in cai.view.alt(figure)
    assert "prior, which does not learn" in cai.view.alt(cai.view.learning_curves(both, "stochastic_return"))
    with pytest.raises(cai.WorldError, match="no run that knows its elbo"):
        cai.view.learning_curves({"q": [cai.learn.q_learning(world, steps=50)]}, "elbo")


def test_labels_are_moved_apart() -> None:
    assert spread([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.5, 0.6, 0.9])
    assert spread([0.98, 0.99], 0.1) == pytest.approx([0.9, 1.0])


# As vector graphics


def every_kind(one: cai.Comparison, messages: cai.Messages) -> dict[str, Any]:
    evaluation = one.evaluations["POSTERIOR"]
    return {
        "value_map": cai.view.value_map(messages),
        "arrows": cai.view.policy_arrows(messages),
        "occupancy": cai.view.occupancy_map(messages),
        "nats": cai.view.nats_map(evaluation, "luck"),
        "messages": cai.view.messages_over_time(messages),
        "bars": cai.view.column_bars(one, "elbo"),
        "parts": cai.view.nats_bars(one),
        "graph": cai.view.graph(cai.from_gymnasium("FrozenLake-v1", horizon=5)),
    }


def test_graphics_have_words_no_pixels_and_no_ink_of_their_own(one: cai.Comparison, messages: cai.Messages) -> None:
    seen: set[str] = set()
    for name, figure in every_kind(one, messages).items():
        text = cai.view.svg(figure)
        root = Tree.fromstring(text)
        space = "{http://www.w3.org/2000/svg}"
        title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
        assert f"{title.text} {desc.text}".split() == cai.view.alt(figure).split(), name
        assert not [element for element in root.iter() if element.tag in (f"{space}image", f"{space}style")], name
        assert not any(ink in text for ink in (INK, GREY, FAINT, "#000000", "#ffffff")), name
        assert "currentColor" in text
        assert list(root.iter(f"{space}text")), "text stays text"
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        assert not ids & seen, "two figures of a page share an id"
        seen |= ids
        assert len(text) < 80_000
    assert cai.view.svg(cai.view.value_map(messages), alt="A map.").count("A map.") == 2


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_text_of_the_graphic(messages: cai.Messages) -> None:
    figure = cai.view.value_map(messages, title="日本 → α")
    assert "日本 → α" in cai.view.svg(figure)


def test_a_dollar_in_a_name_begins_no_formula() -> None:
    class Priced(Corridor):
        layout = replace(Corridor.layout, marks={0: r"$\bad$"})
        labels: ClassVar = {"s": [r"$\bad$", "$1", "$2", "$3", "$4", "$5"]}

    tables = cai.tabulate(Priced())
    pair = [cai.compare(tables, {r"$\bad$": cai.POSTERIOR, "prior": None}, temperature=alpha) for alpha in (0.5, 1.0)]
    best = cai.solve(tables, cai.VARIATIONAL)
    for figure in (
        cai.view.value_map(best, title=r"$\bad$"),
        cai.view.tubes(pair[0], "s"),
        cai.view.messages_over_time(best),
        cai.view.column_bars(pair[0]),
        cai.view.temperature_ladder(pair),
    ):
        assert r"$\bad$" in cai.view.svg(figure)
    assert r"$\bad$" in tables._repr_html_()


def test_a_figure_shows_itself_in_a_notebook(messages: cai.Messages) -> None:
    figure = cai.view.value_map(messages)
    assert figure._repr_html_() == cai.view.svg(figure)
    assert figure._repr_html_() == cai.view.value_map(messages)._repr_html_()  # the same each time


def test_the_graph_says_which_time_a_node_is_of() -> None:
    figure = cai.view.graph(cai.load_world("sysadmin"), 1)
    words = words_of(figure)
    assert "machine_0 at 1" in words
    assert "machine_0₁" not in words
    assert "machine_0_1 depends on machine_0_0" in cai.view.alt(figure)


@pytest.mark.parametrize("name", ["Oranges", "Blues", "Purples"])
def test_the_largest_amount_is_seen_on_a_dark_page(name: str) -> None:
    def luminance(colour: Any) -> float:  # WCAG 2.2, relative luminance
        x = np.asarray(colour[:3])
        return float(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    paper = luminance((0x14 / 255, 0x19 / 255, 0x1F / 255))
    assert (luminance(amounts(name)(1.0)) + 0.05) / (paper + 0.05) > 4.5

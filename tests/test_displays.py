"""What a notebook shows: every kind of result as a picture or a table, the numbers those of the result."""

import importlib.util
import pickle
import re
from html.parser import HTMLParser
from typing import Any

import networkx as nx
import pytest
import torch

import cai
from cai.support.numbers import show
from cai.view.displays import html
from tests.test_separate import Islands
from tests.worlds import RandomWorld

RULES = {"POSTERIOR": cai.POSTERIOR, "max-ent": cai.VARIATIONAL, "prior": None}


class Shown(HTMLParser):
    """The tables, the words and the tags of a display."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert not self.open, f"{self.open} are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def lake() -> cai.Tables:
    return cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=12))


@pytest.fixture(scope="module")
def machines() -> cai.Messages:
    return cai.solve(
        cai.factorise(cai.load_world("sysadmin", overrides={"horizon": 5})), cai.VARIATIONAL, temperature=0.5
    )


def shown(result: Any) -> Shown:
    text = result._repr_html_()
    assert not re.search(r"(?<!-)\b(?:color|background): *#", text), "the page's own colours"
    return Shown(text)


def test_messages_are_head_numbers_and_maps(
    lake: cai.Tables, machines: cai.Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = cai.solve(lake, cai.VARIATIONAL, temperature=0.02)
    page = shown(messages)
    assert f"ELBO* = {show(float(messages.elbo))} nats" in " ".join(page.words)
    assert {"svg", "title", "desc"} <= page.tags
    first = shown(machines).rows[1]
    assert first[:3] == [
        "machine_0=running, machine_1=running, machine_2=running, machine_3=running",
        "1",
        show(float(machines.v[0, 15])),
    ]
    batch = cai.solve(lake, cai.HARD, temperature=torch.tensor([1.0, 2.0]))
    assert "HARD at α = 1, 2" in " ".join(shown(batch).words)
    monkeypatch.setattr("cai.exact.forms.JOINT", 1)
    parts = cai.solve(cai.factorise(Islands((0, 0))), cai.HARD)
    assert len(parts.parts) == 2
    assert "start value" in " ".join(shown(parts).words)


def test_an_evaluation_is_its_account_and_maps(lake: cai.Tables) -> None:
    evaluation = cai.evaluate(lake, None, temperature=0.1)
    page = shown(evaluation)
    assert evaluation.account() in "".join(page.words)
    assert "svg" in page.tags
    gamble = cai.evaluate(RandomWorld(1, 3, 2, 2, 3, holes=False), None, temperature=1.0)
    assert "svg" not in shown(gamble).tags


def test_a_comparison_is_its_table(lake: cai.Tables) -> None:
    one = cai.compare(lake, RULES, temperature=0.1)
    heads, *rows = shown(one).rows
    assert heads == ["policy", *(f"{column.title}, {column.unit}" for column in one.shown)]
    assert [row[0] for row in rows] == list(RULES)
    elbo = [column.field for column in one.shown].index("elbo") + 1
    assert [row[elbo] for row in rows] == [show(row.elbo) for row in one.rows]
    rude = cai.compare(lake, {"<b>": None}, temperature=0.1)
    assert "b" not in shown(rude).tags


def test_what_was_learned_is_its_curve() -> None:
    world = cai.from_gymnasium("FrozenLake-v1", horizon=8)
    fit = cai.fit(world, temperature=0.01, steps=20)
    page = shown(fit)
    assert f"ELBO = {show(fit.elbo)} nats" in " ".join(page.words)
    assert "svg" in page.tags
    assert "q_learning" in " ".join(shown(cai.learn.q_learning(world, steps=50)).words)


def test_compiled_worlds_are_their_variables(lake: cai.Tables, machines: cai.Messages) -> None:
    assert ["actions", "action", "4", "left, down, right, up"] in shown(lake).rows
    assert ["states", "machine_0", "2", "down, running"] in shown(machines.model).rows
    assert "svg" in shown(lake).tags
    shown(cai.stack([lake, lake]))


def test_a_graph_is_drawn_and_stays_a_graph(lake: cai.Tables) -> None:
    dag = cai.graph(cai.from_gymnasium("FrozenLake-v1", horizon=5))
    assert shown(dag).tags >= {"svg", "title"}
    again = pickle.loads(pickle.dumps(dag))
    assert nx.utils.graphs_equal(dag, again)
    assert nx.is_directed_acyclic_graph(dag)
    assert nx.utils.graphs_equal(nx.DiGraph(dag), dag)
    assert dag.subgraph(["state_0"]).copy()._repr_html_()
    assert type(dag)()._repr_html_() is None


def test_what_has_no_display_says_nothing() -> None:
    assert html(object()) is None


KERNEL = """
import cai
world = cai.from_gymnasium("FrozenLake-v1", horizon=5)
cai.solve(world, cai.VARIATIONAL, temperature=0.1)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nbclient") is None, reason="needs the extra 'docs'")
def test_a_kernel_shows_them_and_warns_of_nothing() -> None:
    import nbformat
    from nbclient import NotebookClient

    lines = KERNEL.strip().split("\n")
    sources = [
        "\n".join(lines),
        "cai.graph(world)",
        "cai.view.value_map(cai.solve(world, cai.HARD))",
        "import cai.learn",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert not [out for each in outputs for out in each if out.output_type == "stream"], "no warning at the import"
    for each in outputs[:3]:
        (out,) = each
        assert "<svg" in out.data["text/html"]
        assert "text/plain" in out.data

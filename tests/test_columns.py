"""One list of columns: a column is one entry, and is then in every table, file and page."""

import csv
import io
import json
from pathlib import Path

import pytest

import cai
from cai.view.reports.report import report
from cai.view.terminal import print_comparison
from tests.learned import run_of
from tests.worlds import FactoredWorld, RandomWorld

WORLD = RandomWorld(3, 4, 3, 2, 4, holes=False)


def perplexity(evaluation: cai.Evaluation) -> float:
    return 2.0 * evaluation.entropy


MINE = cai.Column("twice", "twice H", "twice the entropy", "nats", "Two times the entropy.", perplexity)


@pytest.mark.parametrize("world", [cai.tabulate(WORLD), cai.factorise(FactoredWorld())], ids=["tables", "factors"])
def test_a_column_of_your_own_is_everywhere(
    world: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], undrawn: None
) -> None:
    comparison = cai.compare(world, {"prior": None}, columns=[*cai.COLUMNS, MINE])
    (row,) = comparison.rows
    assert row.twice == 2 * row.entropy
    assert "twice H" in comparison.table()
    assert [float(line["twice"]) for line in csv.DictReader(io.StringIO(comparison.csv()))] == [row.twice]
    assert json.loads(comparison.json())["rows"][0]["twice"] == row.twice
    page = report(comparison, tmp_path).read_text(encoding="utf-8")
    for words in ("twice the entropy", "Two times the entropy.", f'<data value="{row.twice!r}" data-field="twice"'):
        assert words in page
    print_comparison("world", comparison)
    assert "twice H" in capsys.readouterr().out


def test_the_docs_list_every_column() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "api.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if line.startswith("- `") and " · " in line]
    assert listed == [f"- `{one.field}` · {one.title} · {one.unit or 'words'} · {one.meaning}" for one in cai.COLUMNS]


def test_a_comparison_has_the_columns_that_its_policies_have() -> None:
    def fields(comparison: cai.Comparison) -> set[str]:
        return {column.field for column in comparison.columns}

    none = {"success", "standard_error"}  # nothing ends here, and nothing is sampled
    exact = {column.field for column in cai.COLUMNS if column.of == "evaluation"} - none
    learned = {column.field for column in cai.COLUMNS if column.of != "inference"} - none - {"estimator"}
    assert fields(cai.compare(WORLD, {"prior": None})) == exact
    runs = [run_of(WORLD, [0, 1], seed=seed) for seed in (0, 1)]
    both = cai.compare(WORLD, {"prior": None, "learner": runs})
    assert fields(both) == learned
    assert fields(cai.inference_types(WORLD)) == exact | {"computes", "objective", "does"}
    hidden = {column.field for column in cai.COLUMNS if column.shown != "always"}
    assert {column.field for column in both.shown} == learned - hidden  # beside intervals there is less room
    assert "evidence_gap" in json.loads(both.json())["rows"][0]  # never in a file


def test_fields_are_unique_and_every_number_has_a_unit() -> None:
    assert len({column.field for column in cai.COLUMNS}) == len(cai.COLUMNS)
    row = cai.inference_types(WORLD).rows[0]
    for column in cai.COLUMNS:
        if column.field in row.cells:
            assert isinstance(getattr(row, column.field), float) == bool(column.unit)

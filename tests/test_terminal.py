"""Tables on the terminal."""

import pytest
from rich.console import Console

from cai.view.terminal import _parts

HEADS, ROWS = ["policy", *"abcdef"], [["prior", *("1.23456789" for _ in range(6))]]


@pytest.mark.parametrize(("width", "count"), [(20, 6), (40, 3), (60, 2), (200, 1)])
def test_a_narrow_terminal_gets_a_wide_table_in_parts(width: int, count: int) -> None:
    parts = _parts(Console(force_terminal=True, width=width), HEADS, ROWS)
    assert len(parts) == count
    assert [column for part in parts for column in part[1:]] == list(range(1, 7))
    assert all(part[0] == 0 for part in parts)


def test_a_pipe_gets_one_table() -> None:
    assert len(_parts(Console(force_terminal=False, width=20), HEADS, ROWS)) == 1

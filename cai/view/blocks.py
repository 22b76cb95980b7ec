"""Small pieces of HTML that displays in notebooks are made of: in the page's own colours, without a stylesheet."""

from collections.abc import Sequence
from html import escape

TABLE = "border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9em; margin: 6px 0"
CELL = "padding: 2px 10px; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent)"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Lay out a small table in the page's own colours; the first columns, of words, to the left."""

    def side(column: int) -> str:
        return "left" if column < words else "right"

    def cells(tag: str, row: Sequence[str]) -> str:
        look = ' scope="col"' if tag == "th" else ""
        each = (
            f'<{tag}{look} style="{CELL}; text-align: {side(n)}">{escape(cell)}</{tag}>' for n, cell in enumerate(row)
        )
        return f"<tr>{''.join(each)}</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f'<table style="{TABLE}"><thead>{cells("th", heads)}</thead><tbody>{body}</tbody></table>'


def block(*parts: str) -> str:
    """Put parts under one another."""
    return f'<div class="cai">{"".join(parts)}</div>'


def line(text: str) -> str:
    """Return a paragraph of text, its line breaks kept."""
    return f'<p style="margin: 4px 0; white-space: pre-line">{escape(text)}</p>'


def heading(text: str) -> str:
    """Return the first line of a display."""
    return f'<p style="margin: 4px 0"><strong>{escape(text)}</strong></p>'

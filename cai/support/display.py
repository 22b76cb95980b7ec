"""How results show themselves in a notebook: one function that every result takes as its ``_repr_html_``."""

from typing import Any


def in_notebook(result: Any) -> str | None:
    """Return a result as HTML for a notebook, None where text says as much."""
    from cai.view.displays import html  # the view stands above every room; only a notebook asks, so it is read then

    return html(result)

"""explore_texts: a page that writes texts in the browser, under the exact conditional and under four KLs."""

from typing import Any

import torch

from cai.errors import Finding, IntractableError, fault
from cai.language.ngram import NGram
from cai.view.explorer.explore import Explorer

ENTRIES = 200_000
"""The most numbers of a reference that a page takes in."""
LONGEST = 24
"""The longest text that is written."""


def explore_texts(
    reference: NGram, *, pattern: str = " the ", horizon: int = 12, temperature: float = 0.1, title: str | None = None
) -> Explorer:
    """Return a page on which a pattern is typed, and the exact conditional writes: the policies are solved in it.

    Beside the conditional stand the fixed points of k2 (and ratio × k3), k3 and k1 in the loss, which drift apart as α
    is moved: ``cai.kl_fixed_point`` has the equations. A text is worth 1 reward unit if it contains the pattern, or
    ends with it.

    Args:
        reference: an n-gram over characters.
        pattern: what is looked for at first.
        horizon: T, the letters of a text at first, from 2 to 24.
        temperature: the first α, reward units, from 0.02 to 2.
        title: of the page.

    Raises:
        WorldError: tokens are no single characters, the pattern has others, or is longer than T, or a number is out of
            its range.
        IntractableError: the reference has more numbers than a page takes in.
    """
    where, letters = "explore_texts", reference.vocabulary.tokens
    if any(len(letter) != 1 for letter in letters):
        raise fault(f"{where}, reference", "tokens of several characters", "single characters, which can be typed")
    if not 1 <= len(reference.vocabulary.encode(pattern, f"{where}, pattern")) <= horizon:
        raise fault(f"{where}, pattern", f"{len(pattern)} letters", f"from 1 to {horizon}, the length of a text")
    for name, value, low, high in (("horizon", horizon, 2, LONGEST), ("temperature", temperature, 0.02, 2.0)):
        if not low <= value <= high:
            raise fault(f"{where}, {name}", f"{value}", f"from {low} to {high}")
    start = {"pattern": pattern, "horizon": int(horizon), "alpha": float(temperature)}
    data = _numbers(reference) | {"first": start, "longest": LONGEST}
    data |= {"title": title or "Four KLs, one pattern", "size": f"{reference.order}-gram over {len(letters)} letters"}
    scripts = ("page_numbers.js", "texts_engine.js", "texts_charts.js", "texts_page.js")
    return Explorer(data, "texts.html.jinja", scripts, ("page.css", "texts.css"))


def _numbers(reference: NGram) -> dict[str, Any]:
    """Return p(x|context) of every context, and the context after each token."""
    letters, size = reference.vocabulary.tokens, reference.size
    if size * len(letters) > ENTRIES:
        seen = f"{size:,} contexts of {len(letters)} letters"
        raise IntractableError(
            [Finding("explore_texts, reference", seen, f"at most {ENTRIES:,} numbers: a smaller order")]
        )
    every = torch.arange(size)
    return {
        "letters": "".join(letters),
        "memories": size,
        "start": reference.start,
        "probability": reference.log_next(every).exp().flatten().tolist(),
        "following": reference.following(every).flatten().tolist(),
    }

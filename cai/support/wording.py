"""Names that people write and read: those known before torch is loaded, near misses, and lists in a sentence."""

import difflib
import re
from collections.abc import Iterable, Sequence

from cai.errors import fault


def read_name(where: str, text: str, known: Sequence[str]) -> str:
    """Return a name that is known.

    Raises:
        WorldError: it is not.
    """
    if text not in known:
        raise fault(where, f"'{text}'", f"one of {', '.join(known)}{meant(text, known)}")
    return text


def meant(text: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean …?"`` where a known name is near to the text, whatever its capitals; else nothing.

    Near is what begins with the text, what differs by few letters, or what has the letters of the text in their order:
    ``sofq`` for soft_q_learning.
    """
    lower, by_lower = text.lower(), {name.lower(): name for name in known}
    longer = [name for name in by_lower if len(text) > 2 and name.startswith(lower)]
    near = longer or difflib.get_close_matches(lower, by_lower, n=1) or _shortened(lower, by_lower)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def _shortened(text: str, known: Iterable[str]) -> list[str]:
    """Return the name whose beginning has the letters of a text in their order; none where the text is very short."""
    spelled = re.compile(".*?".join(map(re.escape, text)))
    found = [(match.end(), name) for name in known if (match := spelled.match(name))]
    return [min(found)[1]] if found and len(text) > 2 else []


def listed(names: Sequence[str], most: int = 6) -> str:
    """Write names out for people, the middle left out where they are many."""
    if len(names) > most:
        shown = ", ".join([*names[: most - 2], "…", names[-1]])
        return f"{shown} ({len(names)} in all)"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)

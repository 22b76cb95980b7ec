"""What a world is, in its author's words: the docstring of its file, or what Gymnasium says of an environment."""

import ast
import re

from cai.bridges.named import is_id
from cai.errors import WorldError
from cai.support.catalogue import file_of

LEFT_OUT = re.compile(r"(Source|Sources|Size|Args|Attributes|Shapes?)\b.*:")
"""How paragraphs begin that are not about the game."""


def about_world(spec: str) -> str:
    """Return what the file of a world says of it, without running it; empty where it says nothing.

    Args:
        spec: a name of the catalogue, ``my_world.py`` or ``my_world.py:Class``, or a Gymnasium id.
    """
    if is_id(spec):
        return about_environment(spec)
    try:
        path, _ = file_of(spec)
        text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (WorldError, OSError, SyntaxError, ValueError):
        return ""
    kept = [part for part in re.split(r"\n\s*\n", text) if not LEFT_OUT.match(part.strip())]
    lines = [" ".join(line for line in part.split("\n") if not LEFT_OUT.match(line.strip())) for part in kept[:3]]
    return re.sub(r"\s+", " ", " ".join(lines)).replace("``", "").strip()


def about_environment(name: str) -> str:
    """Return what Gymnasium says of an environment: its name, its time limit, and when it counts as solved."""
    import gymnasium

    try:
        known = gymnasium.spec(name)
    except gymnasium.error.Error:
        return ""
    text = f"Gymnasium's {name}."
    if known.max_episode_steps:
        text += f" An episode is cut after {known.max_episode_steps:,} steps."
    if known.reward_threshold is not None:
        text += f" Gymnasium counts it as solved from a return of {known.reward_threshold:g} on."
    return text

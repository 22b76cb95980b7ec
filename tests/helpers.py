"""What several test files share."""

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

MODELS = Path(__file__).parent.parent / "models"


def load_model(name: str) -> Callable[..., Any]:
    """Return the class or function of ``models/<name>.py``, as a user who copied the file would import it."""
    spec = importlib.util.spec_from_file_location(f"models_{name}", MODELS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    camel = "".join(word.capitalize() for word in name.split("_"))
    return getattr(module, name, None) or getattr(module, camel)  # type: ignore[no-any-return]


def slow_after(quick: int, values: Iterable[Any]) -> list[Any]:
    """Return parameters of a test: the first few are quick, the others are left to ``make test-all``."""
    each = [one if isinstance(one, tuple) else (one,) for one in values]
    return [pytest.param(*one, marks=[pytest.mark.slow] if n >= quick else []) for n, one in enumerate(each)]


def examples(count: int) -> settings:
    """Return how many examples a test has in ``make test-all``; in ``make test`` and in a search in proportion."""
    return settings(max_examples=max(2, count * settings.default.max_examples // 30))

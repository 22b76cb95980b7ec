"""What several test files share."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

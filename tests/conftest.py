"""Settings of the whole suite."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

# The same examples every time, so that a red run can be run again; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=300, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

torch.set_num_threads(1)  # the worlds are tiny: a second thread only costs


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Name an object by its class: an address differs between the processes that share the tests."""
    return type(val).__name__ if type(val).__repr__ is object.__repr__ else None


@pytest.fixture
def float64() -> Iterator[None]:
    """Let programs make their tensors in float64, as exact answers are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)

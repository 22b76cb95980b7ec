"""Settings of the whole suite."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

from tests import checked

checked.install()

# The same examples every time, so that a red run can be run again; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("quick", settings.get_profile("fixed"), max_examples=10)
settings.register_profile("explore", deadline=None, max_examples=300, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

torch.set_num_threads(1)  # the worlds are tiny: a second thread only costs
gc.disable()  # until all tests are collected: what is made until then stays


TOGETHER = ("tests/test_book.py", "tests/test_docs.py", "tests/test_engine.py", "tests/test_ray.py")
"""Files whose tests share what takes long to make: the book, kernels, a cluster. One process runs each, and first."""


def pytest_configure(config: pytest.Config) -> None:
    """Take fewer examples where slow tests are left out too."""
    if config.getoption("markexpr") == "not slow":
        settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish() -> None:
    """Look for garbage from here on, but not among the tests themselves."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share tests out one by one, but for those files: pytest-xdist 3.8's own groups do nothing under pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file if file in TOGETHER else nodeid

    return ByFile(config, log)


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


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of reports undrawn: they take most of the time, and what a test asks may be in the words."""
    from cai.view.reports import approximation_sections, claim_sections, pictures
    from cai.view.reports.sections import Picture

    def picture(name: str, title: str, caption: str, *_: Any, **__: Any) -> Picture:
        return Picture(name, title, caption, ())

    for module in (approximation_sections, claim_sections, pictures):
        monkeypatch.setattr(module, "picture", picture)

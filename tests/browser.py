"""A page in headless Chromium, as its reader has it: what it asks for, what it complains of, what axe-core finds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
SERIOUS = ("serious", "critical")


@contextmanager
def browser() -> Iterator[Any]:
    """Start a browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextmanager
def opened(running: Any, address: str, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """Open a page in colours or a size; the list gets what it asks the network for, and its errors."""
    context = running.new_context(**options)
    page, heard = context.new_page(), []
    page.on("request", lambda request: heard.append(request.url) if request.url.startswith("http") else None)
    page.on("console", lambda said: heard.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(address, wait_until="load")
    yield page, heard
    context.close()


def barriers(page: Any) -> list[str]:
    """Return what axe-core finds on a page that is serious or worse, a line for each kind."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in SERIOUS]

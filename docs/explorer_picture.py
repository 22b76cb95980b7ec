"""The picture of the explorer in the book: ``python docs/explorer_picture.py`` writes it; it needs Chromium."""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import cai
from cai.view.explorer.options import maker_of

PICTURE = Path(__file__).parent / "_static" / "explorer.png"
ADDRESS = "#a=0.003"
SIZE = {"width": 1180, "height": 900}
COLOURS = 200
"""So few suffice, and the file is small."""


def picture() -> bytes:
    """Open the explorer on FrozenLake 8×8 in a browser, and return what is seen."""
    explorer = cai.view.explore(maker_of("FrozenLake-v1", {"map_name": "8x8"}), title="FrozenLake 8×8")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = explorer.save(Path(folder) / "lake.html")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport=SIZE, color_scheme="light")
        tab.goto(page.as_uri() + ADDRESS)
        tab.wait_for_timeout(1000)
        seen = tab.screenshot()
        browser.close()
    small = io.BytesIO()
    Image.open(io.BytesIO(seen)).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    PICTURE.write_bytes(picture())
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")

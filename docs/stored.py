"""What the book's long experiments found, kept in ``docs/data/``: numbers only, a file for each experiment.

The experiments stand in the chapters; there ``stored`` reads what was found. These commands run the chapters' cells:

    python docs/stored.py              write all the files anew (some CPU minutes)
    python docs/stored.py claims       those of one chapter
    python docs/stored.py --compare    run all anew, write nothing, and fail where a number differs

``make test`` does a small part of each experiment, and compares it with the file.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cai.experiments.verdict import Mean, mean_of

DOCS = Path(__file__).parent
DATA = DOCS / "data"
PAGES = sorted(page.stem for page in DOCS.glob("*.md") if "from stored import" in page.read_text(encoding="utf-8"))
READ, SAMPLE, COMPARE, WRITE = "read", "sample", "compare", "write"
MODE = "CAI_STORED"
"""The environment's variable: whether to read, to compare a sample or the whole with the file, or to write it."""
DIGITS = 8


def stored(name: str, experiment: Callable[[], Any], *, sample: Callable[[], Any], tolerance: float = 1e-5) -> Any:
    """Return what the experiment found, from ``docs/data/name.json``; ``sample`` does a small part of it.

    The tolerance, a share of each number, is for machines that round differently.
    """
    mode, file = os.environ.get(MODE, READ), DATA / f"{name}.json"
    if mode == WRITE:
        file.write_text(text_of(plain(experiment())), encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    if mode in (SAMPLE, COMPARE):
        again = plain(sample() if mode == SAMPLE else experiment())
        assert not (faults := differences(again, found, name, tolerance)), "\n".join(faults)
    return found


def plain(found: Any) -> Any:
    """Return the numbers as JSON has them, to eight digits: a dataclass by its fields, a mean by its runs."""
    if isinstance(found, Mean):
        return plain(found.runs)
    if is_dataclass(found):
        return {field.name: plain(getattr(found, field.name)) for field in fields(found)}
    if isinstance(found, Mapping):
        return {str(key): plain(one) for key, one in found.items()}
    if isinstance(found, Sequence) and not isinstance(found, str):
        return [plain(one) for one in found]
    return float(f"{found:.{DIGITS}g}") if isinstance(found, float) else found


def text_of(numbers: Any) -> str:
    """Return the file's text, a line for each key of the first level."""
    if not isinstance(numbers, dict):
        return json.dumps(numbers) + "\n"
    lines = [f" {json.dumps(key, ensure_ascii=False)}: {json.dumps(one)}" for key, one in numbers.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def revived(kind: Any, numbers: Any) -> Any:
    """Return the dataclass, mapping, tuple or mean that ``plain`` has made numbers of."""
    if kind is Mean:
        return mean_of(numbers)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: revived(hints[name], one) for name, one in numbers.items()})
    if isinstance(numbers, dict):
        return {key: revived(get_args(kind)[1], one) for key, one in numbers.items()}
    return tuple(revived(get_args(kind)[0], one) for one in numbers) if isinstance(numbers, list) else numbers


def differences(part: Any, whole: Any, where: str, tolerance: float) -> list[str]:
    """Tell where a part differs from the whole: it may have fewer keys, and of a list the first entries alone."""
    if isinstance(part, dict) and isinstance(whole, dict) and part and part.keys() <= whole.keys():
        return [one for key in part for one in differences(part[key], whole[key], f"{where}, {key}", tolerance)]
    if isinstance(part, list) and isinstance(whole, list) and 0 < len(part) <= len(whole):
        pairs = enumerate(zip(part, whole, strict=False))
        return [one for n, pair in pairs for one in differences(*pair, f"{where}[{n}]", tolerance)]
    numbers = isinstance(part, int | float) and isinstance(whole, int | float)
    same = math.isclose(part, whole, rel_tol=tolerance, abs_tol=1e-9) if numbers else part == whole
    return [] if same else [f"{where}: {part} where {whole} is stored"]


def main() -> None:
    """Run the cells of chapters, each in a Python of its own."""
    parser = argparse.ArgumentParser(description="Make the data of the book's long experiments anew.")
    parser.add_argument("pages", nargs="*", metavar="chapter", help=f"of {', '.join(PAGES)}; all unless given")
    parser.add_argument("--compare", action="store_true", help="write nothing; fail where a number differs")
    said = parser.parse_args()
    mode = COMPARE if said.compare else WRITE
    for page in said.pages or PAGES:
        code = f"from tests import chapters; chapters.run({page!r}, {mode!r})"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run((sys.executable, "-c", code), env=environment, cwd=DOCS.parent, check=True)


if __name__ == "__main__":
    main()

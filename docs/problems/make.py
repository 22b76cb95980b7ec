"""The problem sets: the notebooks of ``solutions/``, and what students get of them.

python docs/problems/make.py             write the students' pages, without the cells that solve, beside this file
python docs/problems/make.py FOLDER      write the solved notebooks into a folder, as .ipynb, for a teacher
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOLVED = sorted((HERE / "solutions").glob("*.md"))
SOLUTION = re.compile(r"^```\{code-cell\} ipython3\n:tags: \[solution\]\n.*?^```\n\n?", re.MULTILINE | re.DOTALL)


def student(solved: str) -> str:
    """Return a problem set without its solutions."""
    return SOLUTION.sub("", solved).rstrip() + "\n"


def main() -> None:
    """Write the students' pages, or a teacher's notebooks."""
    for source in SOLVED:
        solved = source.read_text(encoding="utf-8")
        if len(sys.argv) == 1:
            (HERE / source.name).write_text(student(solved), encoding="utf-8")
        else:
            sys.path.insert(0, str(HERE.parent / "_ext"))
            try:
                from notebooks import write
            except ModuleNotFoundError as missing:
                sys.exit(f"the notebooks need {missing.name}; `make docs` installs it: run this with .venv/bin/python")

            write(solved, HERE, Path(sys.argv[1]) / f"{source.stem}.ipynb")


if __name__ == "__main__":
    main()

"""Each executed page is a notebook to download, too: linked at its head, and complete without the rest of the book."""

import base64
import json
import re
import zlib
from pathlib import Path
from types import SimpleNamespace

import jupytext
from nbformat.v4 import new_code_cell
from sphinx.directives.code import LiteralInclude, LiteralIncludeReader

DOCS = Path(__file__).resolve().parent.parent
HELPERS = {
    "exercises": ["exercises.py"],
    "pictures": ["pictures.py"],
    "answers": ["answers.py", "exercises.py"],
    "stored": ["stored.py", "data/*.json"],
}
"""What a cell imports of the book, and the files that this needs."""
QUOTED = ("start-at", "start-after", "end-at", "end-before")
"""Options of ``literalinclude`` whose value may stand in quotes."""
BLOCK = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w-]+)\}(?P<rest>[^\n]*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S
)
KEPT = """\
# What this page takes from the rest of the book: its checks, and the results of its long experiments.
import base64, json, zlib
from pathlib import Path

kept = "{packed}"
for name, text in json.loads(zlib.decompress(base64.b64decode(kept))).items():
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
"""


def setup(app):
    """Write the notebooks when the book has been built."""
    app.connect("html-page-context", link)
    app.connect("build-finished", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def link(app, page, template, context, doctree) -> None:
    """Put the link under the title of a page that is executed."""
    if is_notebook(app.env.doc2path(page) if page in app.env.found_docs else ""):
        address = f"{'../' * page.count('/')}notebooks/{page}.ipynb"
        line = f'<p class="notebook"><a download href="{address}">Download this page as a notebook</a></p>'
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{line}", 1)


def is_notebook(source) -> bool:
    """Whether a page has cells to run."""
    return Path(source).suffix == ".md" and "\n```{code-cell}" in Path(source).read_text(encoding="utf-8")


def write_all(app, exception) -> None:
    """Write ``notebooks/page.ipynb`` for each executed page."""
    if exception is not None or app.builder.format != "html":
        return
    for page in sorted(app.env.found_docs):
        source = Path(app.env.doc2path(page))
        if is_notebook(source):
            write(source.read_text(encoding="utf-8"), source.parent, Path(app.outdir) / "notebooks" / f"{page}.ipynb")


def write(text: str, folder: Path, target: Path) -> None:
    """Write a page of MyST, whose includes are sought from a folder, as a notebook that runs on its own."""
    notebook = jupytext.reads(
        text.replace("name: python3", "name: python3\n  display_name: Python 3", 1), fmt="md:myst"
    )
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, folder)
    files = needed(code)
    if files:
        packed = base64.b64encode(zlib.compress(json.dumps(files).encode(), 9)).decode()
        first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
        notebook.cells.insert(first, new_code_cell(KEPT.format(packed=packed)))
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(notebook, target)


def needed(code: str) -> dict[str, str]:
    """Return the files of the book that the cells of a page need, by name."""
    patterns = [
        one for name, files in HELPERS.items() if re.search(rf"^from {name} import", code, re.M) for one in files
    ]
    paths = sorted({path for pattern in patterns for path in DOCS.glob(pattern)})
    return {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in paths}


def plain(text: str, folder: Path) -> str:
    """Return Markdown without what only Sphinx reads: comments, labels, directives, links to pages."""
    text = re.sub(r"^(%[^\n]*|\([\w-]+\)=)\n", "", text, flags=re.M)
    text = BLOCK.sub(lambda found: unfolded(found, folder), text)
    return re.sub(r"\]\(([\w./]+)\.md(?:#[\w-]*)?\)", r"](\1.ipynb)", text)


def unfolded(block: re.Match, folder: Path) -> str:
    """Return what a directive shows: included lines as code, all else as its text."""
    options = dict(re.findall(r"^:([\w-]+): *([^\n]*)$", block["body"], re.M))
    if block["name"] == "literalinclude":
        return f"```python\n{included(folder / block['rest'].strip(), options)}\n```"
    if block["name"] == "math":
        return f"$$\n{block['body']}$$"
    if block["name"] == "toctree":
        return ""
    return re.sub(r"^:[\w-]+:[^\n]*\n", "", block["body"], flags=re.M)


def included(path: Path, options: dict[str, str]) -> str:
    """Return the lines of a file that ``literalinclude`` shows, as Sphinx reads them."""
    known = LiteralInclude.option_spec
    read = {
        name: known[name](value.strip("\"'") if name in QUOTED else value or None) for name, value in options.items()
    }
    text, _ = LiteralIncludeReader(str(path), read, SimpleNamespace(source_encoding="utf-8")).read()
    return text.rstrip()

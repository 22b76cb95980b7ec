"""Sphinx: Markdown with executed cells, and the API from the docstrings. Warnings and failing cells are errors."""

import ast
import importlib
import os
import re
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

from sphinx.domains.python import PyObject
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parent.parent
STUBS = {".".join(stub.parent.relative_to(ROOT).parts): stub for stub in (ROOT / "cai").rglob("__init__.pyi")}
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]
# The cells run in kernels of their own: give them this checkout, ``stored``, and one thread each.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(ROOT / "docs"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm, by way of Pyro, would like to have widgets

project = "cai"
author = "the authors of cai"
copyright = "the authors of cai"
extensions = ["myst_nb", "executed", "formulas", "notebooks", "readable", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_ext", "problems/solutions"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 120
nb_output_stderr = "warn"
nb_merge_streams = True
nb_ipywidgets_js = {}  # no page asks the network for a script

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Keys", "Attributes")]  # of a typed dict
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "cai: control as inference"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["book.css"]


@cache
def public_names() -> dict[str, str]:
    """Map where each public object is defined to its public name: its module and name to ``cai.Tables``."""
    lines = [(room, line) for room, stub in STUBS.items() for line in ast.parse(stub.read_text()).body]
    imports = [(room, line) for room, line in lines if isinstance(line, ast.ImportFrom) and line.module]
    return {f"{room}.{line.module}.{one.name}": f"{room}.{one.name}" for room, line in imports for one in line.names}


@cache
def words_on(name: str) -> list[str]:
    """Return the string that follows the assignment of a constant such as ``cai.POSTERIOR``."""
    home = next(long for long, short in public_names().items() if short == name)
    module, variable = home.rsplit(".", 1)
    body = ast.parse(Path(importlib.import_module(module).__file__).read_text()).body
    for line, following in pairwise(body):
        if isinstance(line, ast.Assign) and any(getattr(target, "id", None) == variable for target in line.targets):
            return ast.literal_eval(following.value).splitlines() if isinstance(following, ast.Expr) else []
    return []


def say_constants(app, what, name, obj, options, lines) -> None:
    """Autodoc looks for a constant's words in ``cai/__init__.py``, which only re-exports: fetch them from its home."""
    if what == "data":
        lines[:] = words_on(name)


def read_properties(app, what, name, obj, options, lines) -> None:
    """Napoleon takes what stands before a property's first colon for its type; read properties as functions instead."""
    if what == "property":
        read = GoogleDocstring(lines, app.config, app, "function", name, obj, options).lines()
        lines[:] = ["..", "", *read]  # an empty comment has no colon, so that it finds no type


def part_attributes(app, what, name, obj, options, lines) -> None:
    """Give each of the attributes that share a line its own: Sphinx would take the first for the type of the second."""
    for i in reversed(range(len(lines))):
        shared = re.fullmatch(r":ivar ([\w, ]+,[\w, ]+):(.*)", lines[i])
        if shared:
            lines[i : i + 1] = [f":ivar {one.strip()}:{shared[2]}" for one in shared[1].split(",")]


def escape_mathematics(app, what, name, obj, options, lines) -> None:
    """Docstrings hold plain mathematics, where ``p(a|s)`` is no substitution and ``[*B, S]`` no emphasis."""
    code_or_emphasis = r"(``(?:(?!``|\n\n)[\s\S])+``|(?<!\S)\*\w[^*\n]*\w\*(?!\w))"  # code may go on in the next line
    pieces = re.split(code_or_emphasis, "\n".join(lines))
    whole = "".join(re.sub(r"([*|])", r"\\\1", piece) if n % 2 == 0 else piece for n, piece in enumerate(pieces))
    lines[:] = whole.split("\n")


def hide_protocol_signatures(app, what, name, obj, options, signature, returns):
    """A protocol is not called: its ``(*args, **kwargs)`` says nothing."""
    return ("", returns) if getattr(obj, "_is_protocol", False) and what == "class" else None


def link_to_public_name(app, env, node, contnode):
    """Type hints name the module that defines a class; send the reader to its public name."""
    public = public_names().get(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or public is None:
        return None
    domain = env.get_domain("py")
    found = domain.find_obj(env, None, None, public, None, 0)
    if not found:
        return None
    _, target = found[0]
    return make_refnode(app.builder, node["refdoc"], target.docname, target.node_id, contnode, public)


def setup(app) -> None:
    """Connect the hooks; the escaping comes after napoleon, which adds lines of its own."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", read_properties, priority=100)
    app.connect("autodoc-process-docstring", say_constants)
    app.connect("autodoc-process-docstring", part_attributes, priority=800)
    app.connect("autodoc-process-docstring", escape_mathematics, priority=900)
    app.connect("autodoc-process-signature", hide_protocol_signatures)
    app.connect("missing-reference", link_to_public_name)

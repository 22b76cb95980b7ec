"""Formulas as MathML, made when the book is built: no page needs a script or the network for them.

``latex2mathml`` reads TeX. What it does not know, or writes as no browser draws it, is put right before and after.
"""

import html
import re
import unicodedata
from xml.etree import ElementTree as Tree

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

MACROS = (
    (r"\\begin\{aligned\}", r"\\begin{align*}"),
    (r"\\end\{aligned\}", r"\\end{align*}"),
    (r"\\\\\[[^\]]*\]", r"\\\\"),  # extra room below a row
    (r"\\arg(?=\s*\\(?:max|min))", r"\\text{arg}\\,"),
    (r"\\(?:mathrm|operatorname)\*?\{([A-Za-z ]{2,})\}", r"\\text{\1}"),  # a word, not a product of letters
    (r"\\textit\{([^}]*)\}", r"\\text{\1}"),
)
SIGNS = {"~": "∼", "′": "′", "″": "″"}
"""What is read as a name and is an operator: its sign."""
FUNCTIONS = ("log", "exp", "max", "min", "sup", "inf", "arg")
ALPHABETS = {"double-struck": "DOUBLE-STRUCK", "script": "SCRIPT", "bold": "BOLD", "bold-italic": "BOLD ITALIC"}
TIGHT = ("/", "|", "‖")
SPACES = {"negativethinmathspace": "-0.167em"}
NAMESPACE = "http://www.w3.org/1998/Math/MathML"


def setup(app):
    """Take the place of MathJax."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("config-inited", lambda app, config: setattr(config, "html_math_renderer", "mathml"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_inline(self, node) -> None:
    """Write a formula within a line."""
    self.body.append(mathml(node.astext(), "inline"))
    raise SkipNode  # it holds the TeX


def visit_block(self, node) -> None:
    """Write a formula of its own line, with its number where it has one; keys scroll it where it is too wide."""
    names = "".join(f' id="{html.escape(name)}"' for name in node["ids"][:1])
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    self.body.append(f'<div class="formula" tabindex="0"{names}>{number}{mathml(node.astext(), "block")}</div>\n')
    raise SkipNode


def mathml(tex: str, display: str) -> str:
    """Return TeX as MathML that browsers draw."""
    for pattern, replacement in MACROS:
        tex = re.sub(pattern, replacement, tex)
    Tree.register_namespace("", NAMESPACE)
    math = Tree.fromstring(convert(tex, display=display))
    for parent in math.iter():
        mend(parent)
        space_functions(parent)
    left = re.findall(r"\\[A-Za-z]+", "".join(math.itertext()))
    if left:
        raise ValueError(f"a formula holds {', '.join(left)}, which no browser draws: {tex}")
    return Tree.tostring(math, encoding="unicode")


def mend(one: Tree.Element) -> None:
    """Say what MathML Core has no attribute for by letters and style."""
    alphabet = ALPHABETS.get(one.get("mathvariant", ""))
    if alphabet:
        one.attrib.pop("mathvariant")
        one.text = "".join(letter(alphabet, x) for x in one.text)
    elif one.attrib.pop("mathvariant", None) == "monospace":
        one.set("class", "code")
    elif named(one) == "mi" and len(one.text or "") == 1 and one.text.isupper() and not one.text.isascii():
        one.set("mathvariant", "normal")  # Greek capitals stand upright
    if one.text in SIGNS and named(one) == "mi":
        one.tag, one.text = f"{{{NAMESPACE}}}mo", SIGNS[one.text]
    if one.get("width") in SPACES:
        one.set("width", SPACES[one.get("width")])
    if named(one) == "mtd":
        one.set("class", one.get("columnalign", "centre"))
    if named(one) == "mo" and one.text in TIGHT:
        one.attrib.update(lspace="0", rspace="0", **({} if one.get("minsize") else {"stretchy": "false"}))


def letter(alphabet: str, x: str) -> str:
    """Return a letter or digit of an alphabet: those that Unicode had before the others have a shorter name."""
    kind = "DIGIT" if x.isdigit() else "CAPITAL" if x.isupper() else "SMALL"
    name = unicodedata.name(x).removeprefix("DIGIT ") if x.isdigit() else x.upper()
    for full in (f"MATHEMATICAL {alphabet} {kind} {name}", f"{alphabet} {kind} {name}"):
        try:
            return unicodedata.lookup(full)
        except KeyError:
            continue
    return x


def space_functions(row: Tree.Element) -> None:
    """Part a function's name from the factors beside it, as TeX does."""
    if named(row) not in ("mrow", "mtd", "math", "mstyle"):
        return
    children = list(row)
    for i in reversed(range(len(children))):
        if is_function(children[i]):
            for at, beside in ((i + 1, children[i + 1 : i + 2]), (i, children[max(i - 1, 0) : i])):
                if beside and named(beside[0]) not in ("mo", "mspace"):
                    row.insert(at, Tree.Element(f"{{{NAMESPACE}}}mspace", width="0.167em"))


def is_function(one: Tree.Element) -> bool:
    """Whether it is a function's name, with or without what stands below and above it."""
    while named(one) in ("msub", "msup", "msubsup", "munder", "munderover") or (named(one) == "mrow" and len(one) == 1):
        one = one[0]
    return (one.text or "").strip() in FUNCTIONS


def named(one: Tree.Element) -> str:
    """Return a tag without its namespace."""
    return one.tag.rpartition("}")[2]

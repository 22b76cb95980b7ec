"""BIF and XMLBIF files, as pgmpy reads them, and the probabilities that are written in them."""

import gzip
import importlib.util
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cai.errors import fault, must_pass, quoted

SUFFIXES = {".bif": "BIFReader", ".xmlbif": "XMLBIFReader", ".xml": "XMLBIFReader"}
DIGITS = 0.01
"""How far from 1 pgmpy lets a row of probabilities sum: the digits that were written down."""


def located(path: Path) -> Path:
    """Return the file, or that of a network which pgmpy ships, if it is the name of one."""
    if path.suffix or path.exists():
        return path
    spec = importlib.util.find_spec("pgmpy")
    example = Path(spec.origin).parent / "utils" / "example_models" / f"{path}.bif.gz" if spec and spec.origin else path
    return example if example.exists() else path


def read(where: str, path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, Any]]:
    """Return the states, the parents and the probabilities ``[own, parents]`` of a file's variables.

    The reader's own model is left aside: of XMLBIF it gives parents the names of the child's states.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    if not SUFFIXES.keys() & set(suffix):
        raise fault(where, f"the suffix '{path.suffix}'", f"a file in {', '.join(SUFFIXES)}, or such a name of pgmpy's")
    kind = SUFFIXES[suffix[0]]
    reader = getattr(module(where, "pgmpy.readwrite"), kind)
    form = kind.removesuffix("Reader")
    try:
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        text = data.decode("utf-8", "replace" if form == "XMLBIF" else "strict").replace("\r\n", "\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise fault(where, quoted(error), "a file of text that can be read") from None
    # The reader ends a block where a line ends in "}", and leaves out one that has blanks behind it.
    text = re.sub(r"\}[ \t]*$", "}", text, flags=re.MULTILINE) + "\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = form == "XMLBIF" and not packed  # its file says how it is encoded
            network = reader(path=str(path)) if whole else reader(string=text)
        states = {str(name): [str(value) for value in values] for name, values in network.variable_states.items()}
        parents = {name: [str(parent) for parent in above] for name, above in network.variable_parents.items()}
        cpds = dict(network.variable_CPD if form == "XMLBIF" else network.variable_cpds)
        for name, table in cpds.items():
            columns = int(np.prod([len(states[parent]) for parent in parents[name]]))
            if table.shape != (len(states[name]), columns):
                raise ValueError(f"{table.size} probabilities of '{name}' where {len(states[name])} × {columns} belong")
    except Exception as error:  # the readers' errors have no common base
        if must_pass(error):
            raise
        words = "text that is no such network" if isinstance(error, AttributeError) else quoted(error)
        raise fault(where, words, f"a network in {form}, as pgmpy reads it") from None
    if form == "BIF":
        _require_blocks(where, network)
    if not states:
        raise fault(where, "no variables", f"a network in {form}, as pgmpy reads it")
    return states, parents, cpds


def _require_blocks(where: str, reader: Any) -> None:
    """Check that the reader left out no block of the text, which it does without a word."""
    for word, blocks in (("variable", reader.variable_names), ("probability", reader.variable_parents)):
        written = len(re.findall(rf"^\s*{word}\b", reader.network, re.MULTILINE))
        if written != len(blocks):
            seen = f"{written} blocks '{word}', of which {len(blocks)} could be read"
            raise fault(where, seen, "one block a variable, each closed by a '}' at the end of a line")


def module(where: str, name: str) -> Any:
    """Return a module of pgmpy.

    Raises:
        WorldError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise fault(where, f"{error}", "the package that reads such networks: pip install 'cai[pgmpy]'") from None


def normalised(table: Any) -> Any:
    """Return probabilities with rows that are off 1 by written digits normalised."""
    if table is None:
        return None
    total = table.sum(-1, keepdims=True)
    return np.where(np.abs(total - 1) <= DIGITS, table / np.where(total == 0, 1.0, total), table)

"""What the nodes of a network hold: tables and functions, evaluated on their parents' values and looked over."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.inspect import fits
from cai.errors import Finding, WorldError, must_pass, quoted
from cai.support.process import precision

Content = Tensor | Callable[..., object]
"""A table with an axis for each parent, or a function of the parents' values."""

ROUNDING = 1e-6
"""How far from 1 a row of probabilities may sum: the digits of a number written as text, or of a float32."""
DUST = 1e-9
"""How far below 0 a probability may lie: the rounding of 1 - a - b, which counts as 0."""
LARGEST = 1 << 24
"""Numbers in one node's table."""


@dataclass(frozen=True)
class Node:
    """One node of a two-slice network, read off its attributes.

    Attributes:
        key: the node of the graph.
        variable, time: what it is a copy of, and when; the time of a reward says nothing.
        kind: state, action, latent or reward.
        parents: the nodes that it reads, in the order of the axes of its table.
        size: the number of its values; 0 for a reward, and where it is not known.
        values: their names, if it has them.
        content: probabilities or rewards; None for an action with a uniform prior.
        terminal: whether it is a reward on the last state.
    """

    key: Hashable
    variable: str
    time: int
    kind: str
    parents: tuple[Hashable, ...]
    size: int
    values: tuple[str, ...] | None
    content: Content | None
    terminal: bool

    @property
    def where(self) -> str:
        """How errors call it."""
        return f"node '{self.key}'"


def evaluate(node: Node, values: Sequence[Tensor]) -> Tensor:
    """Return the probabilities, own value on the last axis, or the reward at its parents' values (which broadcast)."""
    content = node.content
    if isinstance(content, Tensor):
        table = content[tuple(values)] if values else content
    else:
        assert content is not None
        value = content(*values)
        table = value if isinstance(value, Tensor) else torch.as_tensor(value)
    return table.to(torch.get_default_dtype())


def inspect_content(node: Node, nodes: Mapping[Hashable, Node]) -> Iterator[Finding]:
    """Check the numbers of a node whose parents are all known: their shape, and that they are what they should be."""
    sizes = tuple(nodes[parent].size for parent in node.parents)
    expected = sizes if node.kind == "reward" else (*sizes, node.size)
    if math.prod(expected) > LARGEST:
        seen = f"{math.prod(expected):,} numbers over {len(sizes)} parents"
        yield Finding(node.where, seen, f"at most {LARGEST:,}: fewer parents, or latents in between")
        return
    try:
        with precision(torch.float64), torch.no_grad():
            table = node.content if isinstance(node.content, Tensor) else evaluate(node, _grid(sizes))
    except WorldError as error:  # a form's own words
        yield from (
            Finding(f"{node.where}, {finding.where}", finding.seen, finding.expected) for finding in error.findings
        )
        return
    except Exception as error:
        if must_pass(error):
            raise
        seen = f"a function that raises {quoted(error)}"
        yield Finding(node.where, seen, f"a function of {_listed(node.parents)} that broadcasts over their values")
        return
    words = _misshapen(node, table, expected)
    if words is not None:
        yield Finding(node.where, *words)
        return
    full = table.detach().to(torch.float64).expand(expected)
    yield from (_rewards if node.kind == "reward" else _probabilities)(node, nodes, full)


def _grid(sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Lay the values of each parent along a dimension of its own, the first leftmost."""
    return tuple(torch.arange(n).reshape((n,) + (1,) * (len(sizes) - 1 - i)) for i, n in enumerate(sizes))


def _misshapen(node: Node, table: Tensor, expected: tuple[int, ...]) -> tuple[str, str] | None:
    own = node.kind != "reward"
    axes = f"an axis for each parent, {_listed(node.parents)}" + (", then its own values" if own else "")
    if isinstance(node.content, Tensor):
        if tuple(table.shape) != expected:
            return f"a table of shape {tuple(table.shape)}", f"{expected}: {axes}"
    elif not fits(table, expected) or (own and table.shape[-1:] != expected[-1:]):
        return f"a function that gives shape {tuple(table.shape)}", f"a shape that broadcasts to {expected}: {axes}"
    return None


def _probabilities(node: Node, nodes: Mapping[Hashable, Node], p: Tensor) -> Iterator[Finding]:
    total = p.sum(-1)
    faults = (
        ((p.isnan() | p.isinf()).any(-1), "probabilities that are NaN or infinite", "numbers from 0 to 1"),
        ((p < -DUST).any(-1), "negative probabilities", "numbers from 0 to 1"),
        ((total - 1).abs() > ROUNDING, "probabilities that do not sum to 1", "a sum of 1 over its own values"),
    )
    for rows, seen, expected in faults:
        if bool(rows.any()):
            first = tuple(rows.nonzero()[0].tolist())
            count = f"{int(rows.sum())} of {rows.numel()} rows"
            numbers = ", ".join(f"{probability:.6g}" for probability in p[first].tolist()[:8])
            yield Finding(node.where, f"{seen} in {count}, first{_row(node, nodes, first)}: {numbers}", expected)
            return


def _rewards(node: Node, nodes: Mapping[Hashable, Node], r: Tensor) -> Iterator[Finding]:
    for bad, name in ((r.isnan(), "NaN"), (r == torch.inf, "+inf")):
        if bool(bad.any()):
            seen = f"{int(bad.sum())} rewards are {name}, first{_row(node, nodes, tuple(bad.nonzero()[0].tolist()))}"
            yield Finding(node.where, seen, "finite rewards, or -inf for what is forbidden")


def _row(node: Node, nodes: Mapping[Hashable, Node], index: tuple[int, ...]) -> str:
    def name(parent: Hashable, i: int) -> str:
        values = nodes[parent].values
        return f"{parent}={i if values is None else values[i]}"

    row = ", ".join(name(parent, i) for parent, i in zip(node.parents, index, strict=True))
    return f" at {row}" if row else ""


def _listed(parents: Sequence[Hashable]) -> str:
    return ", ".join(str(parent) for parent in parents) or "none"

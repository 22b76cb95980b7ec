"""A regular expression as an automaton: it pays at the end of a text that the expression matches.

Python's own parser reads the expression, so its syntax and its errors are those of ``re``. greenery makes a finite
automaton of it, in which anchors and word boundaries are marks between the characters. The subset construction (Rabin &
Scott 1959) reads a mark wherever its condition holds, and looks for a match from every place on.
"""

import re
import re._compiler as _compiler
import re._parser as _parser
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import or_
from typing import Any, TypeAlias

import torch
from greenery import EPSILON, NULL, Charclass, Fsm
from greenery.fsm import from_charclass
from jaxtyping import Int
from torch import Tensor

from cai.errors import Finding, IntractableError, fault
from cai.language.automaton import Automaton, paying_at_end
from cai.language.given import require_vocabulary
from cai.language.vocabulary import Vocabulary, visible

MOST = 10_000
"""The most states of a pattern's automaton before it is made minimal."""
REPEATED = 300
"""How often a part may be repeated by a number: the time that greenery takes rises with its square."""
START, END, BOUNDARY, INSIDE = "\ufdd0\ufdd1\ufdd2\ufdd3"
"""The marks, characters that no text has (Unicode, section 23.7): each says what holds at a place."""
MARK_OF = {
    "AT_BEGINNING": START,
    "AT_BEGINNING_STRING": START,
    "AT_END": END,
    "AT_END_STRING": END,
    "AT_BOUNDARY": BOUNDARY,
    "AT_NON_BOUNDARY": INSIDE,
}


def matching(
    pattern: str, vocabulary: Vocabulary, accepted: float = 1.0, rejected: float = 0.0, *, whole: bool = False
) -> Automaton:
    r"""Return the automaton that pays at the end of a text, ``accepted`` where a regular expression matches.

    The syntax is that of ``re``, without lookaround, back references, possessive parts and MULTILINE; ``$`` is the very
    end, as ``\Z``. A text of words is read as its words with a space between two. A part that is repeated by a number
    takes greenery a time that rises with the square of it: ``a{0,100}`` some seconds.

    Args:
        pattern: the regular expression.
        vocabulary: the tokens.
        accepted: at the end of a text that matches, reward units.
        rejected: at the end of any other text; -inf where it must match.
        whole: whether the whole text must match (``re.fullmatch``), not some part of it (``re.search``).

    Raises:
        WorldError: the pattern is no text, is broken or not regular, or the vocabulary has none of the characters that
            it needs at some place.
        IntractableError: its automaton has more than 10,000 states, or a part is repeated more than 300 times.
    """
    if not isinstance(pattern, str):
        raise fault("matching, pattern", f"{pattern!r}", "a regular expression of Python, a text")
    require_vocabulary("matching", vocabulary)
    letters = sorted({*"".join(vocabulary.tokens), *vocabulary.separator})
    name = f"{'wholly ' if whole else ''}matching {pattern!r}"
    rows, accepting = _table(name, _Search(_parsed(name, pattern, letters), tuple(letters), whole))
    successor = _by_token(torch.tensor(rows), vocabulary, {letter: i for i, letter in enumerate(letters)})
    accepts = torch.tensor([accepting[0], *accepting])
    unnamed = paying_at_end(name, vocabulary, successor, accepts, ("",) * len(successor), accepted, rejected).minimal()
    return replace(unnamed, labels=_shortest(unnamed))


def _parsed(name: str, pattern: str, letters: Iterable[str]) -> Fsm:
    try:
        tree = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise fault(name, str(error), "a regular expression of Python") from error
    return _Parsed(name, tuple(letters)).sequence(tree, tree.state.flags)


@dataclass(frozen=True)
class _Parsed:
    """What Python's parser has read, over some letters, as automata of greenery."""

    name: str
    letters: tuple[str, ...]

    def sequence(self, tree: Iterable[tuple[Any, Any]], flags: int) -> Fsm:
        if flags & re.MULTILINE:
            raise fault(self.name, "MULTILINE", "^ and $ that stand for the ends of the text")
        parts = [self.piece(str(kind), (kind, value), flags) for kind, value in tree]
        return Fsm.concatenate(*parts) if parts else EPSILON

    def piece(self, kind: str, node: tuple[Any, Any], flags: int) -> Fsm:
        value = node[1]
        match kind:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return self.letter(node, flags)
            case "BRANCH":
                return reduce(or_, (self.sequence(tree, flags) for tree in value[1]))
            case "SUBPATTERN":
                _, added, removed, tree = value
                return self.sequence(tree, (flags | added) & ~removed)
            case "MAX_REPEAT" | "MIN_REPEAT":  # greedy or not, the same texts match
                low, high, tree = value
                most = low if high is _parser.MAXREPEAT else high
                if most > REPEATED:
                    seen = f"a part that is repeated {most:,} times"
                    raise IntractableError([Finding(self.name, seen, f"at most {REPEATED:,} times")])
                one = self.sequence(tree, flags)
                more = one.star() if high is _parser.MAXREPEAT else (one | EPSILON).times(high - low)
                return one.times(low) + more
            case "AT":
                return from_charclass(Charclass(MARK_OF[str(value)]))
        raise fault(self.name, kind.lower().replace("_", " "), "a pattern without lookaround, back references and more")

    def letter(self, node: tuple[Any, Any], flags: int) -> Fsm:
        """Return the automaton of one letter, whatever ``re`` takes there."""
        state = _parser.State()
        state.flags = flags
        one = _compiler.compile(_parser.SubPattern(state, [node]))
        found = [letter for letter in self.letters if one.fullmatch(letter)]
        if not found and str(node[0]) in ("LITERAL", "IN"):
            seen = repr(chr(node[1])) if str(node[0]) == "LITERAL" else "a class of characters, none of which occurs"
            raise fault(self.name, seen, f"characters of the vocabulary: {visible(''.join(self.letters))}")
        return from_charclass(Charclass("".join(found))) if found else NULL


_State: TypeAlias = tuple[frozenset[int], bool | None] | None
"""Which states of the pattern a prefix may be in, and whether its last letter is of a word; None: a match is found."""


@dataclass(frozen=True)
class _Search:
    """A search for a match, letter by letter: the subset construction, with marks read where they hold."""

    pattern: Fsm
    letters: tuple[str, ...]
    whole: bool
    start: _State = field(init=False, default=(frozenset(), None))

    @cached_property
    def symbol(self) -> dict[str, Any]:
        """What greenery calls a letter or a mark: the class of characters that no part of the pattern tells apart."""
        every = (*self.letters, START, END, BOUNDARY, INSIDE)
        return {letter: next(c for c in self.pattern.alphabet if c.accepts(letter)) for letter in every}

    @cached_property
    def live(self) -> frozenset[Any]:
        """The states from which there is a match."""
        return frozenset(state for state in self.pattern.states if self.pattern.islive(state))

    @cached_property
    def kinds(self) -> list[tuple[Any, bool]]:
        """Of each letter, what the search knows of it."""
        return [(self.symbol[letter], bool(re.match(r"\w", letter))) for letter in self.letters]

    def at(self, state: tuple[frozenset[int], bool | None], after: bool | None) -> frozenset[int]:
        """Return the states of the pattern at a place, by what stands before it and after it; None is the text's end.

        A match may begin here, but for the whole text's.
        """
        held, before = state
        holds = {START: before is None, END: after is None, BOUNDARY: bool(before) != bool(after)}
        holds[INSIDE] = not holds[BOUNDARY]
        marks = [self.symbol[mark] for mark, true in holds.items() if true]
        found = {*held, self.pattern.initial} if before is None or not self.whole else {*held}
        queue = [*found]
        for q in queue:
            new = {self.pattern.map[q][mark] for mark in marks} - found
            found |= new
            queue += new
        return self.live & found

    def after(self, state: _State, kind: tuple[Any, bool]) -> _State:
        """Return the state after a letter of a kind."""
        if state is None:
            return None
        symbol, word = kind
        here = self.at(state, word)
        if not self.whole and here & self.pattern.finals:
            return None
        return frozenset(self.pattern.map[q][symbol] for q in here) & self.live, word

    def accepts(self, state: _State) -> bool:
        """Return whether a text that ends here matches."""
        return state is None or bool(self.at(state, None) & self.pattern.finals)


def _table(name: str, search: _Search) -> tuple[list[list[int]], list[bool]]:
    """Return the next state at each letter, and whether a state accepts, breadth first."""
    number, queue, rows = {search.start: 0}, [search.start], list[list[int]]()
    for state in queue:
        then = {kind: search.after(state, kind) for kind in dict.fromkeys(search.kinds)}
        for new in then.values():
            if new not in number:
                number[new] = len(number)
                queue.append(new)
        rows.append([number[then[kind]] for kind in search.kinds])
        if len(queue) > MOST:
            raise IntractableError([Finding(name, f"more than {MOST:,} states", "a simpler pattern")])
    return rows, [search.accepts(state) for state in queue]


def _by_token(table: Int[Tensor, "Q C"], vocabulary: Vocabulary, number: dict[str, int]) -> Int[Tensor, "Q+1 V"]:
    """Return the next state at each token, one more than in the table; no separator stands before the first token."""
    columns = []
    for token in vocabulary.tokens:
        first, later = torch.zeros(1, dtype=torch.long), torch.arange(len(table))
        for letter in vocabulary.separator:
            later = table[later, number[letter]]
        for letter in token:
            first, later = table[first, number[letter]], table[later, number[letter]]
        columns.append(torch.cat((first, later)) + 1)
    return torch.stack(columns, -1)


def _shortest(automaton: Automaton) -> tuple[str, ...]:
    """Return the shortest text that leads to each state."""
    texts, queue = {automaton.start: list[int]()}, [automaton.start]
    for q in queue:
        for x, new in enumerate(automaton.successor[q].tolist()):
            if new not in texts:
                texts[new] = [*texts[q], x]
                queue.append(new)
    return tuple(automaton.vocabulary.shown(texts[q]) for q in range(len(automaton)))

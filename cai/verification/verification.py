"""The result of ``cai.verify``: a diagnosis of every probe, and what explains the failures together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cai.support.display import in_notebook
from cai.support.numbers import brief, finite
from cai.verification.diagnosis import NEARER, RIGHT, Diagnosis, cause_of, whose

BAD = ("fail", "error", "out of time")
"""The verdicts that are failures."""
SILENT = ("left out", "not run")


@dataclass(frozen=True, repr=False)
class Verification:
    """What the probes say of a learner.

    Attributes:
        rule: the name of the rule that it was held to.
        seeds: those that were asked for.
        verdicts: a diagnosis of every probe, in order.
        seconds: that it took.
        interrupted: whether Ctrl-C ended it.
    """

    rule: str
    seeds: tuple[int, ...]
    verdicts: tuple[Diagnosis, ...]
    seconds: float = 0.0
    interrupted: bool = False

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        return f"Verification under {self.rule}: {self.summary}\n{self.table()}"

    def __getitem__(self, probe: str) -> Diagnosis:
        """Return the diagnosis of a probe.

        Raises:
            KeyError: there is none of that name.
        """
        return {one.probe: one for one in self.verdicts}[probe]

    @property
    def passed(self) -> bool:
        """Whether every probe that was not left out passes, and there is one."""
        words = {one.verdict for one in self.verdicts} - {"left out"}
        return words == {"pass"}

    @property
    def failed(self) -> bool:
        """Whether a probe fails, raises or is out of time."""
        return any(one.verdict in BAD for one in self.verdicts)

    @cached_property
    def cause(self) -> tuple[str, ...]:
        """The mistake that explains the failures best; several where they cannot be told apart; empty where none does.

        It is the one whose total distance over all probes is smallest, if on a failed probe it is four times nearer, in
        nats, than what is right.
        """
        return cause_of(self.verdicts)

    @cached_property
    def explained(self) -> tuple[str, ...]:
        """The failed probes that the cause explains."""
        if not self.cause:
            return ()
        nats = {one.probe: one.distances for one in self.verdicts if one.verdict == "fail" and one.distances}
        first = self.cause[0]
        return tuple(n for n, d in nats.items() if first in d and NEARER * d[first].value <= d[RIGHT].value)

    @property
    def summary(self) -> str:
        """How many probes have each verdict, and the cause, in words."""
        counts = {word: sum(one.verdict == word for one in self.verdicts) for word in _order(self.verdicts)}
        said = ", ".join(f"{count} {word}" for word, count in counts.items())
        failures = sum(one.verdict == "fail" for one in self.verdicts)
        why = ""
        if self.cause:
            why = f". Your learner is {whose(self.cause)}: that explains {len(self.explained)} of {failures} failures"
        elif failures:
            why = ". No known mistake explains the failures"
        return f"{said}{why}."

    def table(self) -> str:
        """Return the verdicts as aligned text, a line for each probe."""
        heads = ("probe", "verdict", "nats from right", "nearest mistake", "nats from it", "nats short")
        lines = [heads, *map(_cells, self.verdicts)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        right = (False, False, True, False, True, True)

        def aligned(line: Sequence[str]) -> str:
            cells = zip(line, widths, right, strict=True)
            return "  ".join(text.rjust(w) if to_right else text.ljust(w) for text, w, to_right in cells).rstrip()

        return "\n".join(map(aligned, lines))

    def plain(self) -> dict[str, Any]:
        """Return it as dicts, lists and numbers."""
        head = {"rule": self.rule, "seeds": list(self.seeds), "passed": self.passed, "cause": list(self.cause)}
        tail = {"explained": list(self.explained), "seconds": self.seconds, "interrupted": self.interrupted}
        return {**head, **tail, "verdicts": [finite(one.plain()) for one in self.verdicts]}

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.plain(), indent=2, ensure_ascii=False)


def _order(verdicts: Sequence[Diagnosis]) -> list[str]:
    """Return the verdicts that there are, good ones first."""
    words = ("pass", "undecided", *BAD, *SILENT)
    return [word for word in words if any(one.verdict == word for one in verdicts)]


def _cells(one: Diagnosis) -> tuple[str, ...]:
    nats = {name: average.value for name, average in one.distances.items()}
    wrong = one.causes[0] if one.causes else one.catches
    numbers = [nats.get(RIGHT), nats.get(wrong), None if one.nats_short is None else one.nats_short.value]
    off, there, short = ("" if number is None else brief(number) for number in numbers)
    return (one.probe, one.verdict, off, wrong if there else "", there, short)

"""The result of ``cai.verify``: a diagnosis of every probe, and what explains the failures together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cai.support.display import in_notebook
from cai.support.numbers import brief, finite
from cai.verification.causes import causes_of, explains
from cai.verification.diagnosis import Diagnosis, whose
from cai.verification.hypotheses import RIGHT

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

    @property
    def cause(self) -> tuple[str, ...]:
        """The mistake that explains the failures best; several where they cannot be told apart; empty where none does.

        It explains a failure where it is four times nearer, in nats, than what is right. That which explains most
        failures comes first; among those, the one whose total distance over all probes is smallest.
        """
        return self._causes[0] if self._causes else ()

    @property
    def second_cause(self) -> tuple[str, ...]:
        """A second mistake, where two together explain more failures than any one does; empty else."""
        return self._causes[1] if len(self._causes) > 1 else ()

    @cached_property
    def _causes(self) -> tuple[tuple[str, ...], ...]:
        return causes_of(self.verdicts)

    @property
    def explained(self) -> tuple[str, ...]:
        """The failed probes that the cause explains, or the second one."""
        return tuple(one.probe for one in self.verdicts if self._explained_by(one) is not None)

    def _explained_by(self, one: Diagnosis) -> str | None:
        """Return the cause that explains a failure; None where there is none."""
        causes = (names[0] for names in self._causes)
        return next((name for name in causes if one.verdict == "fail" and explains(name, one)), None)

    @property
    def summary(self) -> str:
        """How many probes have each verdict, and the cause, in words."""
        counts = {word: sum(one.verdict == word for one in self.verdicts) for word in _order(self.verdicts)}
        said = ", ".join(f"{n} {'errors' if n > 1 and word == 'error' else word}" for word, n in counts.items())
        failures = sum(one.verdict == "fail" for one in self.verdicts)
        share = f"{len(self.explained)} of {failures}"
        why = ""
        if self.second_cause:
            both = f"{whose(self.cause)}; and {whose(self.second_cause)}"
            why = f". No known mistake alone explains as much as two together, {share} failures: {both}"
        elif self.cause:
            what = "is" if len(self.explained) == failures else "is nearest to"
            why = f". Your learner {what} {whose(self.cause)}: that explains {share} failures"
        elif failures:
            why = ". No known mistake explains the failures"
        return f"{said}{why}."

    @property
    def remarks(self) -> list[str]:
        """The words of each probe that does not pass; of those that a cause explains, of one; last what is left out.

        Probes with the same words are told together, such as an error that every one of them raises.
        """
        by_cause = {one.probe: self._explained_by(one) for one in self.verdicts}
        first = {cause: probe for probe, cause in reversed(by_cause.items())}
        shown = [
            one
            for one in self.verdicts
            if one.verdict != "pass" and (by_cause[one.probe] is None or first[by_cause[one.probe]] == one.probe)
        ]
        shown.sort(key=lambda one: one.verdict == "left out")
        told: dict[str, list[str]] = {}
        for one in shown:
            told.setdefault(f"{one.verdict}. {one.words}", []).append(one.probe)
        return [f"{', '.join(names)}: {words}" for words, names in told.items()]

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The heads of the table, and a line for each probe; the first three columns are words."""
        return [
            ("probe", "verdict", "mistake", "nats from right", "nats from it", "nats short", "return", "seeds"),
            *map(_cells, self.verdicts),
        ]

    def table(self) -> str:
        """Return the verdicts as aligned text; "mistake" is the one that a policy is held against."""
        widths = [max(map(len, column)) for column in zip(*self.lines, strict=True)]

        def aligned(line: Sequence[str]) -> str:
            cells = [
                text.ljust(w) if n < 3 else text.rjust(w) for n, (text, w) in enumerate(zip(line, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        return "\n".join(map(aligned, self.lines))

    def plain(self) -> dict[str, Any]:
        """Return it as dicts, lists and numbers."""
        head = {"rule": self.rule, "seeds": list(self.seeds), "passed": self.passed}
        causes = {"cause": list(self.cause), "second_cause": list(self.second_cause)}
        tail = {"explained": list(self.explained), "seconds": self.seconds, "interrupted": self.interrupted}
        return {
            **head,
            **causes,
            "summary": self.summary,
            **tail,
            "verdicts": [finite(one.plain()) for one in self.verdicts],
        }

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.plain(), indent=2, ensure_ascii=False)


def _order(verdicts: Sequence[Diagnosis]) -> list[str]:
    """Return the verdicts that there are, good ones first."""
    words = ("pass", "undecided", *BAD, *SILENT)
    return [word for word in words if any(one.verdict == word for one in verdicts)]


def _cells(one: Diagnosis) -> tuple[str, ...]:
    if one.nats_short is None or one.expected_return is None:
        return (one.probe, one.verdict, *[""] * 6)
    averages = (one.distances[RIGHT], one.distances[one.rival], one.nats_short, one.expected_return)
    return (one.probe, one.verdict, one.rival, *(brief(number.value) for number in averages), str(len(one.seeds)))

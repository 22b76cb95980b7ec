"""The plugin of pytest: a test that takes the fixture ``probe`` runs on every probe, with ``pytest --cai``.

    def test_my_agent(probe):
        probe.verify(train)

It fails with the diagnosis in words, and is skipped where the probe is left out or undecided. At the end the mistake
that explains the failures is named; with pytest-xdist, whose processes know only their own tests, it is not. ``-k``
chooses among the probes. Nothing heavy is imported before the first of these tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cai.verification.probes import PROBES

if TYPE_CHECKING:
    from cai.verification.diagnosis import Diagnosis

NAMES = (*PROBES, "seeds")
"""The probes, and the check that seeds share no state."""
Told = dict[str, list[tuple[str, "Diagnosis"]]]
"""The rule and the diagnosis of each probe, by test."""
TOLD = pytest.StashKey[Told]()


@dataclass(frozen=True)
class ProbeFixture:
    """A probe in a test.

    Attributes:
        name: its name; "seeds" is the check that seeds share no state.
        seeds: how many seeds a learner is given, from ``--cai-seeds``.
        strict: whether an undecided probe fails, from ``--cai-strict``.
        found: where the diagnoses of the test are kept for the summary.
    """

    name: str
    seeds: int
    strict: bool
    found: "list[tuple[str, Diagnosis]]"

    @property
    def id(self) -> str | None:
        """The id of its Gymnasium environment, ``cai/NAME-v0``; None for the check of seeds."""
        return PROBES[self.name].id if self.name in PROBES else None

    def verify(self, train: Any, **settings: Any) -> "Diagnosis":
        """Let a learner learn the probe; end the test by the verdict, or return the diagnosis where it passes.

        Args:
            train: a function ``(env, seed) -> policy``.
            settings: of ``cai.verify``: rule, seeds, without, minutes, …
        """
        __tracebackhide__ = True
        import cai

        result = cai.verify(train, probes=[self.name], **{"seeds": self.seeds, "progress": False, **settings})
        (one,) = result.verdicts
        self.found.append((result.rule, one))
        if result.failed or (self.strict and one.verdict in ("undecided", "not run")):
            pytest.fail(f"{self.name}: {one.verdict}. {one.words}", pytrace=False)
        if not result.passed:
            pytest.skip(f"{one.verdict}: {one.words}")
        return one


@pytest.fixture(params=NAMES)
def probe(request: pytest.FixtureRequest) -> ProbeFixture:
    """A world with exact answers, made to catch one kind of mistake: ``probe.verify(train)``; with ``pytest --cai``."""
    options = request.config.option
    if not options.cai:
        pytest.skip("the probes are run by pytest --cai")
    test = request.node.nodeid.partition("[")[0]
    found = request.config.stash.setdefault(TOLD, {}).setdefault(test, [])
    return ProbeFixture(request.param, options.cai_seeds, options.cai_strict, found)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("cai", "unit tests of reinforcement learning")
    group.addoption("--cai", action="store_true", help="Run the tests that take the fixture probe.")
    group.addoption("--cai-seeds", type=int, default=5, metavar="N", help="Seeds of a learner on each probe.")
    group.addoption("--cai-strict", action="store_true", help="An undecided probe fails.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the ids of the probes with Gymnasium."""
    if config.option.cai:
        import cai.verification.probe_environment  # noqa: F401


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the mistake that explains the failures of each test."""
    for test, line in _causes(config.stash.get(TOLD, {})):
        terminalreporter.section("cai", sep="-")
        terminalreporter.line(f"{test}: {line}")


def _causes(told: Told) -> Iterator[tuple[str, str]]:
    """Yield the summary of each test that has failures."""
    for test, found in told.items():
        if any(one.verdict == "fail" for _, one in found):
            from cai.verification.verification import Verification

            rule, first = found[0]
            yield test, Verification(rule, first.seeds, tuple(one for _, one in found)).summary

"""The runs of a verification: every probe and seed, one after the other, in processes or on a cluster."""

import random
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cai.exact.rule_means import is_maximum
from cai.exact.rules import Rule
from cai.support.apart import Overdue, Skipped, attempted, each_apart
from cai.support.parallel import each
from cai.support.progress import bar
from cai.support.randomness import generators_kept
from cai.verification.probe import Probe
from cai.verification.reading import Reading, places_of, read
from cai.verification.shared_seeds import SEEDS, Repeated, repeated
from cai.verification.task import task_of

Train = Callable[[Any, int], Any]
"""A function ``(env, seed) -> policy``."""


@dataclass(frozen=True)
class Run:
    """One call of ``train``, or three for the check of seeds."""

    probe: Probe
    seed: int
    repeats: bool = False

    @property
    def name(self) -> str:
        """The probe's, or that of the check."""
        return SEEDS if self.repeats else self.probe.name


@dataclass(frozen=True)
class Done:
    """What came of a run, and the seconds that it took."""

    result: Any
    seconds: float


@dataclass
class Log:
    """What has ended so far, by probe and seed."""

    outcomes: dict[tuple[str, int], Done] = field(default_factory=dict)

    def stuck(self, run: Run) -> bool:
        """Return whether a probe has been out of time before: its other seeds would be, too."""
        return any(probe == run.name and isinstance(done.result, Overdue) for (probe, _), done in self.outcomes.items())


def learned(train: Train, probe: Probe, rule: Rule, seed: int) -> Reading:
    """Return what a learner learns on a probe.

    Raises:
        WorldError: what it returned is no policy of the probe.
    """
    from cai.verification.probe_environment import environment_of  # Gymnasium is slow to import

    env = environment_of(probe, hard=is_maximum(rule.over_actions))
    try:
        task = task_of(probe, rule)
        return read(train(env, seed), task, places_of(task))
    finally:
        env.close()


def _work(common: tuple[Train, Rule], run: Run) -> Done:
    train, rule = common
    began = time.monotonic()

    def task(n: int) -> Reading | Repeated:
        if run.repeats:
            return repeated(lambda seed: learned(train, run.probe, rule, seed), run.seed)
        with _global_randomness(run):
            return learned(train, run.probe, rule, run.seed)

    return Done(attempted(task, 0), time.monotonic() - began)


@contextmanager
def _global_randomness(run: Run) -> Iterator[None]:
    """Seed the global generators for a run, and put them back.

    A learner that draws from them is then random over seeds, and alike in one process and in many. That it does not use
    its own seed is told by the check of seeds, which leaves them alone.
    """
    own = zlib.crc32(f"{run.probe.name}, {run.seed}".encode())
    with generators_kept():
        random.seed(own)
        np.random.seed(own)
        torch.default_generator.manual_seed(own)
        yield


def run_all(
    train: Train,
    rule: Rule,
    runs: Sequence[Run],
    log: Log,
    minutes: float | None,
    jobs: int,
    ray: str | None,
    progress: bool,
) -> bool:
    """Run them all into the log; return whether Ctrl-C ended it."""
    common = train, rule

    def task(n: int) -> Done:
        return _work(common, runs[n])

    ended: Iterator[tuple[int, Any]]
    if ray is not None:
        ended = each(_work, common, runs, ray=ray, shown=False)
    elif jobs > 1 or minutes is not None:
        seconds = None if minutes is None else 60 * minutes
        patience, stuck = len({run.seed for run in runs}), lambda n: log.stuck(runs[n])
        ended = each_apart(task, len(runs), jobs=jobs, seconds=seconds, patience=patience, skip=stuck)
    else:
        ended = ((n, task(n)) for n in range(len(runs)))
    try:
        with bar("verify", len(runs), shown=progress) as tell:
            for done, (n, one) in enumerate(ended, 1):
                if not isinstance(one, Skipped):
                    seconds = one.seconds if isinstance(one, Overdue) else 0.0
                    log.outcomes[runs[n].name, runs[n].seed] = one if isinstance(one, Done) else Done(one, seconds)
                tell(done, runs[n].name)
    except KeyboardInterrupt:
        return True
    return False

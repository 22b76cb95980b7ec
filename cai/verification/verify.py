"""Unit tests of a learner: it learns the probes, seed by seed, and each policy is held against the exact answers."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, get_args

from cai.errors import fault
from cai.exact.rules import VARIATIONAL, Rule, require_a_rule
from cai.support.apart import Failed, Overdue
from cai.support.wording import read_name
from cai.verification.diagnosis import Diagnosis, diagnose
from cai.verification.hypotheses import Hypotheses, hypotheses
from cai.verification.learning_runs import Done, Log, Run, Train, run_all
from cai.verification.mistakes import MISTAKES
from cai.verification.probe import ALL, Claim, Probe
from cai.verification.probes import PROBES
from cai.verification.reading import Reading
from cai.verification.shared_seeds import SEEDS, compared
from cai.verification.verification import Verification

NOT_RUN = "The time was over, or Ctrl-C came, before it began."
FIRST = PROBES["luck"]
"""On which seeds are checked where no other probe is run."""


def verify(
    train: Train,
    *,
    rule: Rule = VARIATIONAL,
    probes: Collection[str | Probe] | None = None,
    seeds: int | Sequence[int] = 5,
    minutes: float | None = None,
    jobs: int = 1,
    ray: str | None = None,
    without: Collection[Claim] = (),
    progress: bool = True,
) -> Verification:
    """Let a learner learn small worlds with exact answers, and say which answer it learned.

    ``train(env, seed)`` is called for each probe and seed; what it returns is read as log π of every observation (see
    ``cai.verification.reading``), and its path KL to the right answer and to that of every known mistake,
    ``Σ_t E_π̂ KL(π̂_t(·|s_t) ‖ π_t(·|s_t))`` in nats, is exact. The verdict follows from the seeds (see
    ``cai.verification.diagnosis``): pass, fail with a named cause, or undecided with the number of seeds that would
    decide. The environment says what a learner may want to know: ``env.unwrapped.temperature`` (None for HARD),
    ``.discount``, ``.action_prior``, ``.action_masks()``.

    One more probe, "seeds", trains twice with one seed and once with another in between: see
    ``cai.verification.shared_seeds``.

    With ``jobs`` > 1 or ``minutes`` each run is forked into a process of its own. Ctrl-C leaves what is done.

    Args:
        train: a function ``(env, seed) -> policy``; whatever it raises is that probe's verdict.
        rule: what it is to learn: VARIATIONAL (reward and entropy), HARD (reward) or POSTERIOR (optimistic).
        probes: names, or probes of one's own; None takes all.
        seeds: how many, from 0, or a list; no verdict of one alone.
        minutes: for all of it. A run that takes all its probe's share of what is left, and three times as long as any
            other, is killed as one that hangs. A slow learner has fewer seeds. None sets no limit.
        jobs: processes at a time.
        ray: a Ray cluster in place of processes: "local", "auto" or host:port. Then ``train`` is pickled.
        without: what the learner does not claim to know of: "temperature", "prior", "masks", "time", "bootstrap" or
            "optimism". The probes that need it are left out, and reported as left out. What ``train.without`` says is
            left out, too, where ``train`` has it, as those of ``cai.trainers`` do.
        progress: show a bar on a terminal.

    Raises:
        WorldError: an argument is none of these.

    Source: Osband et al. 2020, Behaviour suite for reinforcement learning, for the idea of probes.
    """
    began = time.monotonic()
    asked, checked = _probes(probes), _seeds(seeds)
    _require(train, rule, minutes, jobs, ray, without)
    without = {*without, *getattr(train, "without", ())}
    known = {probe.name: hypotheses(probe, rule) for probe in asked if isinstance(probe, Probe)}
    out = {name: words for name, one in known.items() if (words := _left_out(one, without))}
    running = [one.probe for name, one in known.items() if name not in out]
    runs = [Run(probe, seed) for seed in checked for probe in running]
    if SEEDS in asked:
        runs.append(Run(running[0] if running else FIRST, checked[0], repeats=True))
    log = Log()
    interrupted = run_all(train, rule, runs, log, minutes, jobs, ray, progress)
    verdicts = [
        _seeds_verdict(log) if name == SEEDS else _verdict(known[name], out.get(name), checked, log)
        for name in (probe if isinstance(probe, str) else probe.name for probe in asked)
    ]
    return Verification(rule.name, checked, tuple(verdicts), time.monotonic() - began, interrupted)


def _verdict(known: Hypotheses, left_out: str | None, seeds: Sequence[int], log: Log) -> Diagnosis:
    name, catches = known.probe.name, known.probe.catches
    if left_out is not None:
        return Diagnosis(name, catches, "left out", left_out)
    done = {seed: log.outcomes[name, seed] for seed in seeds if (name, seed) in log.outcomes}
    seconds = sum(one.seconds for one in done.values())
    readings = {seed: one.result for seed, one in done.items() if isinstance(one.result, Reading)}
    bad = _bad({seed: one for seed, one in done.items() if not (readings and _at_end(one))})
    found = diagnose(known, readings, seconds) if readings else Diagnosis(name, catches, "not run", NOT_RUN)
    if bad is None or (bad[0] == "out of time" and found.verdict == "fail"):
        return found
    return replace(found, verdict=bad[0], words=bad[1], causes=(), seconds=seconds)


def _seeds_verdict(log: Log) -> Diagnosis:
    done = {seed: one for (name, seed), one in log.outcomes.items() if name == SEEDS}
    bad = _bad(done)
    if bad is not None:
        return Diagnosis(SEEDS, SEEDS, *bad)
    for one in done.values():
        return Diagnosis(SEEDS, SEEDS, *compared(one.result), seconds=one.seconds)
    return Diagnosis(SEEDS, SEEDS, "not run", NOT_RUN)


def _at_end(one: Done) -> bool:
    return isinstance(one.result, Overdue) and one.result.at_end


def _bad(done: dict[int, Done]) -> tuple[Any, str] | None:
    """Return the verdict and words of a run that did not end well; None where all did."""
    for seed, one in done.items():
        if isinstance(one.result, Failed):
            return "error", f"With seed {seed}: {one.result.words}"
        if isinstance(one.result, Overdue):
            return "out of time", f"With seed {seed} it had not ended after {one.result.seconds:.3g} s, and was killed."
    return None


def _left_out(known: Hypotheses, without: Collection[str]) -> str | None:
    """Say why a probe is left out; None where it is not."""
    missing = sorted(known.probe.needs & set(without))
    if missing:
        return f"It needs a learner that knows of: {', '.join(missing)}."
    if known.rule.name not in known.probe.rules or not known.tells:
        return f"Under {known.rule.name} the mistake makes no difference."
    return None


def _probes(probes: Collection[str | Probe] | None) -> list[str | Probe]:
    """Return the probes that are asked for, and SEEDS among them."""
    if probes is None:
        return [*PROBES.values(), SEEDS]
    if isinstance(probes, str) or not isinstance(probes, Collection) or not probes:
        raise fault("verify, probes", f"{probes!r}", "a list of names or probes, or None for all")
    asked = [_probe(one) for one in probes]
    names = [one if isinstance(one, str) else one.name for one in asked]
    if len(set(names)) < len(names):
        raise fault("verify, probes", f"{', '.join(names)}", "each name but once")
    return asked


def _probe(one: Any) -> str | Probe:
    if isinstance(one, Probe):
        read_name("mistake", one.catches, list(MISTAKES))
        return one
    read_name("probe", one, [*PROBES, SEEDS])
    return SEEDS if one == SEEDS else PROBES[one]


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    if isinstance(numbers, Sequence) and numbers and all(type(seed) is int and seed >= 0 for seed in numbers):
        once = tuple(dict.fromkeys(numbers))
        if len(once) == len(numbers):
            return once
    expected = "a number of seeds, or a list of whole numbers, at least 0, each but once"
    raise fault("verify, seeds", f"{seeds!r}", expected)


def _require(
    train: Any, rule: Any, minutes: float | None, jobs: int, ray: str | None, without: Collection[str]
) -> None:
    if not callable(train):
        raise fault("verify, train", f"a {type(train).__name__}", "a function (env, seed) -> policy")
    require_a_rule(rule)
    if rule.name not in ALL:
        raise fault("verify, rule", rule.name, "cai.VARIATIONAL, HARD or POSTERIOR")
    if minutes is not None and not minutes > 0:
        raise fault("verify, minutes", f"{minutes!r}", "a positive number, or None for no limit")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise fault("verify, jobs", f"{jobs!r}", "a whole number, at least 1")
    if ray is not None and (jobs > 1 or minutes is not None):
        raise fault("verify, ray", "jobs or minutes beside it", "a cluster alone: it decides how many run at a time")
    if isinstance(without, str):
        raise fault("verify, without", f"{without!r}", f"a list of some of: {', '.join(get_args(Claim))}")
    for claim in without:
        read_name("claim", claim, get_args(Claim))

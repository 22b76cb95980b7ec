"""From distances over seeds to a verdict: which exact answer is the learned policy, and how sure is that.

One answer explains a policy better than another where it is at least ``NEARER`` times nearer, in nats. Nats are
quadratic in small differences, so that is twice as near: on the way between the two answers the first third belongs to
the one, the last third to the other, and the middle to none. Per seed and mistake h the numbers are paired:

    pass        mean(D_right - D_h / 4) < 0 for every h that counts, each surely (95 %)
    fail, named mean(D_h - D_right / 4) < 0 for some h that counts, surely (99 %, divided among the h that count)
    fail        mean(D_right - D_untrained) > 0, surely (99 %): farther from right than who has learned nothing

and undecided else. ``D`` is the path KL of the learned policy, and surely means Student's interval over seeds. A sound
learner that is short of training lies between an untrained policy and the right answer. It fails only where it comes to
lie, seed after seed, within a third of the way around one wrong answer; on these probes it does not if its logits have
gone at least 70 % of the way from the prior's to the right ones (a test says so). A pass needs no correction for many
mistakes, because all must be excluded; a fail does, because one is enough.

A mistake counts on a probe where its answer is at least a quarter as far from the right one as that of the mistake that
the probe is made for: no learner can be told apart from what is hardly different.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.evaluation.statistics import mean_interval, student
from cai.support.numbers import brief, finite
from cai.verification.distances import accounts, q_distance
from cai.verification.hypotheses import APART, NEARER, RIGHT, Hypotheses
from cai.verification.mistakes import MISTAKES
from cai.verification.reading import Reading

Word = Literal["pass", "fail", "undecided", "left out", "error", "out of time", "not run"]
PASS, FAIL = 0.05, 0.01
"""With what probability a verdict is wrong where the truth is on the edge."""
MOST_SEEDS = 1000
"""More seeds than these are not asked for."""


@dataclass(frozen=True)
class Average:
    """A number over seeds.

    Attributes:
        value: its mean.
        low, high: Student's 95 % interval of the mean; infinite for one seed.
        runs: the number itself, a seed each.
    """

    value: float
    low: float
    high: float
    runs: tuple[float, ...]

    def plain(self) -> dict[str, Any]:
        """Return it as numbers; None for one that is infinite."""
        return {**finite({"value": self.value, "low": self.low, "high": self.high}), "runs": list(self.runs)}


@dataclass(frozen=True)
class Diagnosis:
    """What a probe says of a learner.

    Attributes:
        probe: the probe's name.
        catches: the mistake that it is made for.
        verdict: "pass", "fail", "undecided", "left out", "error", "out of time" or "not run".
        words: the verdict in a sentence or two.
        causes: the mistakes whose answer the policy is, where it fails; several where they cannot be told apart here.
        rival: the mistake that the policy is held against beside what is right: the first cause of a failure, the
            probe's own of a pass, else the nearest that counts; empty where nothing was learned.
        seeds: those that ended.
        more_seeds: with how many seeds in all an undecided probe would likely be decided; None where seeds do not help.
        distances: the path KL to the right answer ("right") and to that of each mistake that is determined here, nats.
        q_distances: of the learned Q to the same, reward units; empty where there is none.
        expected_return: E[Σ γ^t r_t], reward units.
        elbo: ELBO(π), nats.
        nats_short: ELBO* - ELBO(π), nats.
        seconds: that learning took, all seeds together.
    """

    probe: str
    catches: str
    verdict: Word
    words: str
    causes: tuple[str, ...] = ()
    rival: str = ""
    seeds: tuple[int, ...] = ()
    more_seeds: int | None = None
    distances: Mapping[str, Average] = field(default_factory=dict)
    q_distances: Mapping[str, Average] = field(default_factory=dict)
    expected_return: Average | None = None
    elbo: Average | None = None
    nats_short: Average | None = None
    seconds: float = 0.0

    @property
    def nearest(self) -> str | None:
        """The answer that is nearest: "right" or a mistake's name."""
        return min(self.distances, key=lambda name: self.distances[name].value, default=None)

    def plain(self) -> dict[str, Any]:
        """Return it as dicts, lists and numbers."""
        averages = {name: getattr(self, name) for name in ("expected_return", "elbo", "nats_short")}
        return {
            **{
                name: getattr(self, name)
                for name in ("probe", "catches", "verdict", "words", "rival", "more_seeds", "seconds")
            },
            "causes": list(self.causes),
            "seeds": list(self.seeds),
            **{name: None if average is None else average.plain() for name, average in averages.items()},
            "distances": {name: one.plain() for name, one in self.distances.items()},
            "q_distances": {name: one.plain() for name, one in self.q_distances.items()},
        }


def average(runs: Sequence[float] | Tensor) -> Average:
    """Return a number over seeds."""
    x = torch.as_tensor(runs, dtype=torch.float64)
    return Average(*mean_interval(x, 0.025), tuple(x.tolist()))


def diagnose(known: Hypotheses, readings: Mapping[int, Reading], seconds: float = 0.0) -> Diagnosis:
    """Return what the policies of some seeds say.

    Args:
        known: the probe and its answers.
        readings: the policy of each seed, at least one.
        seconds: that learning took.
    """
    task, policies = known.task, [reading.log_pi for reading in readings.values()]
    each_seed = [known.distances(policy) for policy in policies]
    nats = {name: torch.stack([one[name] for one in each_seed]) for name in known.answers}
    verdict, causes, more = judge(nats, known.counted, known.untrained)
    distances = {name: average(runs) for name, runs in nats.items()}
    nearest = min(known.counted, key=lambda name: distances[name].value)
    nearer = [h for h in nats if _explains(nats[h], nats[nearest], FAIL) and _explains(nats[h], nats[RIGHT], FAIL)]
    nearest = min(nearer, key=lambda name: distances[name].value, default=nearest)
    rival = causes[0] if causes else known.probe.catches if verdict == "pass" else nearest
    qs = [(reading.log_pi, reading.q) for reading in readings.values() if reading.q is not None]
    each = [accounts(task, policy) for policy in policies]
    return Diagnosis(
        known.probe.name,
        known.probe.catches,
        verdict,
        _sentence(known, distances, verdict, causes, rival, more) + _near_untrained(known, readings, distances, causes),
        causes,
        rival,
        tuple(readings),
        more,
        distances,
        {n: average([q_distance(task, log_pi, q, one) for log_pi, q in qs]) for n, one in known.answers.items() if qs},
        average([one.expected_return for one in each]),
        average([one.elbo for one in each]),
        average([one.nats_short for one in each]),
        seconds,
    )


Name = TypeVar("Name")
Nats = Mapping[str, Float[Tensor, " N"]]
"""The distance to each answer, by seed."""


def judge(nats: Nats, counted: Sequence[str], untrained: float) -> tuple[Word, tuple[str, ...], int | None]:
    """Return the verdict, the named causes, and how many seeds would decide; see the module's words.

    Args:
        nats: the distances of each seed.
        counted: the mistakes that count.
        untrained: how far a policy is from right that has learned nothing, nats.
    """
    to_pass = [nats[RIGHT] - nats[h] / NEARER for h in counted]
    to_fail = {h: nats[h] - nats[RIGHT] / NEARER for h in counted}
    tail = FAIL / len(counted)
    if all(_surely_below(x, PASS) for x in to_pass):
        return "pass", (), None
    failing = [h for h, x in to_fail.items() if _surely_below(x, tail)]
    if failing:  # what does not count is named where it is nearer than all that do
        nearest = nats[min(failing, key=lambda h: float(nats[h].mean()))]
        nearer = [h for h, x in nats.items() if _explains(x, nearest, tail) and _explains(x, nats[RIGHT], tail)]
        return "fail", nearest_of({h: x for h, x in nats.items() if h in failing or h in nearer}), None
    astray = untrained - nats[RIGHT]
    if _surely_below(astray, FAIL):
        return "fail", (), None
    if all(float(x.mean()) < 0 for x in to_pass):
        return "undecided", (), _largest([seeds_needed(x, PASS) for x in to_pass])
    for x in [*to_fail.values(), astray]:
        if float(x.mean()) < 0:
            return "undecided", (), seeds_needed(x, tail)
    return "undecided", (), None


def _explains(one: Tensor, other: Tensor, tail: float) -> bool:
    """Return whether an answer surely explains a policy better than another."""
    return _surely_below(one - other / NEARER, tail)


def nearest_of(nats: Mapping[Name, Float[Tensor, " N"]]) -> tuple[Name, ...]:
    """Return the nearest answer, and with it those that the seeds cannot tell from it."""
    best = min(nats, key=lambda name: float(nats[name].mean()))
    least = nats[best]
    same = [
        name
        for name, x in nats.items()
        if float((x - least).mean()) <= APART
        or (not _surely_below(least - x, PASS) and float((least - x / NEARER).mean()) > 0)
    ]
    return tuple(sorted(same, key=lambda name: name != best))


def seeds_needed(x: Float[Tensor, " N"], tail: float) -> int | None:
    """Return with how many seeds the mean would surely be below 0, if mean and spread stay; None beyond 1,000."""
    mean, spread, n = -float(x.mean()), float(x.std()) if len(x) > 1 else 0.0, len(x) + 1
    while n <= MOST_SEEDS:
        if student(n - 1, 1 - tail) * spread / n**0.5 < mean:
            return n
        n += 1
    return None


def _surely_below(x: Tensor, tail: float) -> bool:
    _, _, high = mean_interval(x, tail)
    return high < 0


def _largest(numbers: Sequence[int | None]) -> int | None:
    known = [n for n in numbers if n is not None]
    return max(known) if len(known) == len(numbers) else None


def whose(causes: Sequence[str]) -> str:
    """Write "an agent that …, or an agent that …" of mistakes; of many the first two, and how many more."""
    more = len(causes) - 2
    named = [MISTAKES[name].words for name in (causes if more <= 1 else causes[:2])]
    return ", or ".join([*named, *([f"{more} others that cannot be told from it"] if more > 1 else [])])


def _sentence(
    known: Hypotheses,
    distances: Mapping[str, Average],
    verdict: Word,
    causes: tuple[str, ...],
    rival: str,
    more: int | None,
) -> str:
    """Say a verdict in a sentence or two."""
    off, there = brief(distances[RIGHT].value), brief(distances[rival].value)
    if causes:
        return f"Your policy is that of {whose(causes)}: {there} nats from that, {off} from the right one."
    apart = f"{there} from that of {whose([rival])}"
    if verdict == "pass":
        return f"Your policy is the right one: {off} nats from it, {apart}."
    if verdict == "fail":
        untrained = f"An untrained one is {brief(known.untrained)} from the right one"
        return f"Your policy is none that is known: {off} nats from the right one, {apart}. {untrained}."
    between = f"Your policy is {off} nats from the right one, {apart}"
    if len(distances[RIGHT].runs) == 1:
        return f"{between}. One seed has no interval: take at least two."
    if more is not None:
        return f"{between}. Some {more} seeds would decide."
    if rival not in known.counted and distances[RIGHT].value < known.least:
        return f"{between}: this probe hardly tells the two apart."
    return f"{between}: it is neither. More seeds would not decide; longer training may."


def _near_untrained(
    known: Hypotheses, readings: Mapping[int, Reading], distances: Mapping[str, Average], causes: tuple[str, ...]
) -> str:
    """Say of a policy that is near to one that has learned nothing; empty where a named answer explains it as well."""
    each = [known.from_untrained(reading.log_pi) for reading in readings.values()]
    nats = sum(each) / len(each)
    if NEARER * nats >= min(distances[name].value for name in (RIGHT, *causes)):
        return ""
    guessed = any(reading.guessed for reading in readings.values())
    hint = " Its numbers were read as logits: wrap action values in cai.verification.q_values." if guessed else ""
    return f" It is near an untrained one, {brief(nats)} nats from it.{hint}"

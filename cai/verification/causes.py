"""From the diagnoses of all probes to the mistake, or the two, that explain the failures.

Of all single mistakes and pairs of them, those come first that explain most failures; then one before two; then those
nearest to the learned policies, in nats over all probes. A pair is as near to a failed policy as the nearer of the two,
and to one that passed as the farther: where what is learned is right, both must be. So a learner with two mistakes
hears of both where each has probes of its own. Where both matter at once their answer is a third, which is not known:
such a failure may go by another name, or by none, and one without a name is not counted.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from cai.verification.diagnosis import Diagnosis, nearest_of
from cai.verification.hypotheses import NEARER, RIGHT
from cai.verification.mistakes import MISTAKES

Names = tuple[str, ...]


def causes_of(diagnoses: Sequence[Diagnosis]) -> tuple[Names, ...]:
    """Return the mistake that explains the failures best, or two; with each, those that cannot be told from it.

    On a probe on which a mistake determines no answer, any known answer may be its own, and the nearest counts. The
    result is empty where nothing failed, or no known mistake explains it better than what is right.
    """
    failed = [one for one in diagnoses if one.verdict == "fail"]
    able = [name for name in MISTAKES if any(explains(name, one) for one in failed)]
    named = [one for one in failed if any(explains(name, one) for name in able)]
    told = [one for one in diagnoses if one.distances and (one.verdict != "fail" or one in named)]
    seeds = set.intersection(*(set(one.seeds) for one in told)) if named else set[int]()
    if not seeds:
        return ()
    covered = {h: {one.probe for one in named if h not in one.distances or explains(h, one)} for h in able}
    totals = _totals(told, sorted(seeds), [*combinations(able, 1), *combinations(able, 2)])
    truth = float(totals.pop((RIGHT,)).sum())
    ranks = {
        names: (-len(set.union(*(covered[name] for name in names))), len(names))
        for names, total in totals.items()
        if float(total.sum()) < truth
    }
    best = {names: totals[names] for names, rank in ranks.items() if rank == min(ranks.values())}
    return _grouped(nearest_of(best), covered) if best else ()


def explains(name: str, failure: Diagnosis) -> bool:
    """Return whether a mistake's answer is ``NEARER`` times nearer to a policy that failed than what is right."""
    nats = failure.distances
    return name in nats and NEARER * nats[name].value <= nats[RIGHT].value


def _totals(told: Sequence[Diagnosis], seeds: Sequence[int], sets: Sequence[Names]) -> dict[Names, Tensor]:
    """Return the distance of each set of mistakes over all probes, by seed, nats; that of what is right among them."""
    passed = torch.tensor([[one.verdict == "pass"] for one in told])
    here = [{h: torch.tensor(x.runs, dtype=torch.float64) for h, x in one.distances.items()} for one in told]
    kept = [[one.seeds.index(seed) for seed in seeds] for one in told]
    nearest = [torch.stack(list(nats.values())).amin(0) for nats in here]

    def by_probe(name: str) -> Tensor:
        rows = [nats.get(name, least)[k] for nats, least, k in zip(here, nearest, kept, strict=True)]
        return torch.stack(rows)

    each = {name: by_probe(name) for name in {RIGHT}.union(*sets)}

    def total(names: Names) -> Tensor:
        both = torch.stack([each[name] for name in names])
        return torch.where(passed, both.amax(0), both.amin(0)).sum(0)

    return {names: total(names) for names in [(RIGHT,), *sets]}


def _grouped(alike: Sequence[Names], covered: dict[str, set[str]]) -> tuple[Names, ...]:
    """Return, of sets that cannot be told apart, the mistakes of the first, each with those that may stand for it."""
    first = sorted(alike[0], key=lambda name: -len(covered[name]))

    def group(name: str) -> Names:
        rest = set(first) - {name}
        others = [other for names in alike for other in set(names) - rest if set(names) >= rest]
        return tuple(dict.fromkeys([name, *others]))

    return tuple(map(group, first))

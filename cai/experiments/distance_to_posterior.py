"""How far samplers are from the posterior, in nats: against samples, horizon, dimension and temperature.

On linear-Gaussian worlds log Z is exact. Draw one trajectory from a sampler's N by weight; the law of what it draws has

    KL(law ‖ p(τ|O)) ≤ log Z - E[log Ẑ_N]

(Maddison et al. 2017; Naesseth et al. 2018; Cremer, Morris & Duvenaud 2017), since Ẑ_N has no bias. It falls to 0
with N.
For policies ``log Z - ELBO`` is the KL itself, of the law of trajectories that the policy gives: ``evidence_gap``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cai
from cai.experiments.verdict import Mean, mean_of
from cai.support.progress import bar

SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "path integral, the prior": ("path_integral", {"iterations": 1}),
    "path integral, 10 moves": ("path_integral", {"iterations": 11, "movers": 20.0, "adapt_deviation": True}),
    "particles": ("particles", {"runs": 1}),
    "particles, twisted": ("particles", {"runs": 1, "twist": "iterated_gaussian"}),
}
"""The methods that draw, by their name in tables."""
BASE: Mapping[str, float] = {"samples": 1000, "horizon": 10, "states": 2, "temperature": 1.0}
"""The setting from which one number at a time is changed."""
AXES: Mapping[str, tuple[float, ...]] = {
    "samples": (10, 100, 1000, 10000),
    "horizon": (1, 3, 10, 30, 60),
    "states": (1, 2, 4, 8),
    "temperature": (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01),
}
ALONE = 2.0
"""The effective sample size below which one trajectory has most of the weight."""

Table = Mapping[str, Mapping[str, Mapping[str, Mean]]]
"""By axis, value and method."""


@dataclass(frozen=True)
class DistanceToPosterior:
    """Bounds on the KL to the exact posterior of random linear-Gaussian worlds.

    Attributes:
        nats: log Z - log Ẑ of each seed; its mean bounds the KL of a drawn trajectory's law.
        sample_size: the least effective sample size over time, of each seed.
        policies: the exact KL of VARIATIONAL's policy and of the action prior, by axis, value and policy, nats.
    """

    nats: Table
    sample_size: Table
    policies: Table

    def collapse(self, axis: str, method: str) -> tuple[str, ...]:
        """Return the values of an axis at which the mean effective sample size is about 1."""
        return tuple(value for value, by in self.sample_size[axis].items() if by[method].value < ALONE)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal: nats, mean ± standard error over the seeds."""
        heads = ("setting", *SAMPLERS, "VARIATIONAL's policy", "the prior's")
        rows = [
            [f"{axis} {value}", *by.values(), *self.policies[axis][value].values()]
            for axis, values in self.nats.items()
            for value, by in values.items()
        ]
        return heads, rows


def distances(
    axes: Mapping[str, Sequence[float]] = AXES, *, seeds: int = 10, progress: bool = True
) -> DistanceToPosterior:
    """Run every sampler on random worlds, one number of the setting changed at a time.

    Args:
        axes: which values of which number.
        seeds: how many worlds; the seed draws the world and the samples.
        progress: show a bar on a terminal.
    """
    points = [(axis, value) for axis, values in axes.items() for value in values]
    found: dict[str, Any] = {field: {axis: {} for axis in axes} for field in ("nats", "sample_size", "policies")}
    with bar("distance to the posterior", len(points), shown=progress) as tell:
        for i, (axis, value) in enumerate(points):
            runs = [_measured({**BASE, axis: value}, seed) for seed in range(seeds)]
            for field in found:
                by = {name: mean_of([run[field][name] for run in runs]) for name in runs[0][field]}
                found[field][axis][f"{value:g}"] = by
            tell(i + 1, f"{axis} {value:g}")
    return DistanceToPosterior(**found)


def _measured(setting: Mapping[str, float], seed: int) -> dict[str, dict[str, float]]:
    n, T, alpha = int(setting["states"]), int(setting["horizon"]), setting["temperature"]
    world = cai.load_world("lqg", {"states": n, "actions": max(n // 2, 1), "horizon": T, "seed": seed})
    model = cai.linearise(world)
    log_z = float(cai.solve(model, temperature=alpha).log_evidence)
    rows: dict[str, dict[str, float]] = {"nats": {}, "sample_size": {}, "policies": {}}
    for name, (method, options) in SAMPLERS.items():
        options = {**options, "samples": int(setting["samples"])}
        run = cai.approximate(world, method, temperature=alpha, seed=seed, progress=False, **options)
        assert run.log_evidence.value is not None
        assert run.effective_sample_size is not None
        rows["nats"][name] = log_z - run.log_evidence.value
        rows["sample_size"][name] = float(run.effective_sample_size.min())
    best = cai.solve(model, cai.VARIATIONAL, temperature=alpha).policy
    for name, policy in (("VARIATIONAL", best), ("prior", None)):
        rows["policies"][name] = float(cai.evaluate(model, policy, temperature=alpha).evidence_gap)
    return rows

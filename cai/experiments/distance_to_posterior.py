"""How far approximations are from the posterior, in nats: against samples, horizon, dimension and temperature.

On linear-Gaussian worlds log Z is exact. Draw one trajectory from a sampler's N by weight; the law of what it draws has

    KL(law ‖ p(τ|O)) ≤ log Z - E[log Ẑ_N]

(Maddison et al. 2017; Naesseth et al. 2018; Cremer, Morris & Duvenaud 2017), since Ẑ_N has no bias. It falls to 0
with N.
For policies ``log Z - ELBO`` is the KL itself, of the law of trajectories that the policy gives: ``evidence_gap``. It
is exact for the policies here, SAC's apart, whose ELBO is sampled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
SAC: Mapping[str, Any] = {"steps": 3000, "warmup": 200, "evaluations": 1, "network": (32, 32)}
"""How soft actor-critic learns: a small budget."""
LEARNED = (3.0, 1.0, 0.3, 0.1)
"""The temperatures at which it does."""

Table = Mapping[str, Mapping[str, Mapping[str, Mean]]]
"""By axis, value and method."""


@dataclass(frozen=True)
class DistanceToPosterior:
    """Bounds on the KL to the exact posterior of random linear-Gaussian worlds, and the KL itself.

    Attributes:
        nats: log Z - log Ẑ of each seed; its mean bounds the KL of a drawn trajectory's law.
        sample_size: the least effective sample size over time, of each seed.
        laws: the KL of laws of trajectories that have a form, by axis, value and law, nats. All are laws of policies,
            but the iterated Gaussian's own, which infers the noise of the dynamics too. SAC's is there for some
            temperatures and the first worlds.
    """

    nats: Table
    sample_size: Table
    laws: Table

    def collapse(self, axis: str, method: str) -> tuple[str, ...]:
        """Return the values of an axis at which the mean effective sample size is about 1."""
        return tuple(value for value, by in self.sample_size[axis].items() if by[method].value < ALONE)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal: nats, mean ± standard error over the seeds."""
        laws = list(next(iter(self.laws[next(iter(self.laws))].values())))
        heads = ("setting", *SAMPLERS, *laws)
        rows = [
            [f"{axis} {value}", *by.values(), *(self.laws[axis][value][name] for name in laws)]
            for axis, values in self.nats.items()
            for value, by in values.items()
        ]
        return heads, rows


def distances(
    axes: Mapping[str, Sequence[float]] = AXES, *, seeds: int = 10, learners: int = 3, progress: bool = True
) -> DistanceToPosterior:
    """Run every method on random worlds, one number of the setting changed at a time.

    Args:
        axes: which values of which number.
        seeds: how many worlds; the seed draws the world and the samples.
        learners: in how many of them SAC learns.
        progress: show a bar on a terminal.
    """
    points = [(axis, value) for axis, values in axes.items() for value in values]
    found: dict[str, Any] = {field: {axis: {} for axis in axes} for field in ("nats", "sample_size", "laws")}
    with bar("distance to the posterior", len(points), shown=progress) as tell:
        for i, (axis, value) in enumerate(points):
            runs = [_measured({**BASE, axis: value}, seed) for seed in range(seeds)]
            for field in found:
                by = {name: mean_of([run[field][name] for run in runs]) for name in runs[0][field]}
                found[field][axis][f"{value:g}"] = by
            if axis == "temperature" and value in LEARNED and learners:
                found["laws"][axis][f"{value:g}"]["SAC's policy"] = mean_of(
                    [_learned(value, k) for k in range(learners)]
                )
            tell(i + 1, f"{axis} {value:g}")
    return DistanceToPosterior(**found)


def _world(setting: Mapping[str, float], seed: int) -> Any:
    n, T = int(setting["states"]), int(setting["horizon"])
    return cai.load_world("lqg", {"states": n, "actions": max(n // 2, 1), "horizon": T, "seed": seed})


def _measured(setting: Mapping[str, float], seed: int) -> dict[str, dict[str, float]]:
    alpha, samples, world = setting["temperature"], int(setting["samples"]), _world(setting, seed)
    model = cai.linearise(world)
    log_z = float(cai.solve(model, temperature=alpha).log_evidence)
    rows: dict[str, dict[str, float]] = {"nats": {}, "sample_size": {}}
    for name, (method, options) in SAMPLERS.items():
        run = cai.approximate(world, method, temperature=alpha, seed=seed, progress=False, samples=samples, **options)
        assert run.log_evidence.value is not None
        assert run.effective_sample_size is not None
        rows["nats"][name] = log_z - run.log_evidence.value
        rows["sample_size"][name] = float(run.effective_sample_size.min())
    return {**rows, "laws": _laws(world, model, alpha, samples, seed, log_z)}


def _laws(world: Any, model: Any, alpha: float, samples: int, seed: int, log_z: float) -> dict[str, float]:
    """Return the KL of each law to the posterior, nats."""

    def run(method: str, **options: Any) -> Any:
        return cai.approximate(world, method, temperature=alpha, seed=seed, progress=False, **options)

    moments = run("path_integral", samples=samples, **SAMPLERS["path integral, 10 moves"][1]).policy
    inferred, planned = run("iterated_gaussian", rule="POSTERIOR"), run("iterated_gaussian").policy
    plan = run("path_integral", samples=samples, iterations=10).guess.mean
    gain, offset = _affine(cai.solve(model, temperature=alpha).policy, model.horizon)
    policies = {
        "VARIATIONAL's policy": cai.solve(model, cai.VARIATIONAL, temperature=alpha).policy,
        "iterated Gaussian's policy": planned,
        "path integral's policy": moments,
        "MPPI's plan": (torch.zeros_like(gain), plan, _prior_covariance(plan)),
        "MPPI, replanned": (gain, offset, _prior_covariance(plan)),
        "the prior": None,
    }
    exact = {name: float(cai.evaluate(model, by, temperature=alpha).evidence_gap) for name, by in policies.items()}
    return {"iterated Gaussian's law": log_z - _mean_log_weight(inferred), **exact}


def _affine(policy: Any, T: int) -> tuple[Tensor, Tensor]:
    """Return the gains and offsets of all times: POSTERIOR's are the means that MPPI tends to in each state."""
    each = [policy.conditional(t) for t in range(T)]
    return torch.stack([act.gain for act in each]), torch.stack([act.offset for act in each])


def _prior_covariance(plan: Tensor) -> Tensor:
    """Return the covariance that MPPI draws with, and keeps: that of the action prior, I."""
    T, m = plan.shape
    return torch.eye(m, dtype=plan.dtype).expand(T, m, m)


def _mean_log_weight(run: Any) -> float:
    """Return E_q[log p(τ, O) / q(τ)] over the trajectories of a law q: log Z - KL(q ‖ p(τ|O))."""
    log_weights = run.trajectories.log_weights
    return float(run.log_evidence.value + math.log(len(log_weights)) + log_weights.mean())


def _learned(alpha: float, seed: int) -> float:
    """Return the sampled KL of SAC's policy after its training."""
    world = _world({**BASE, "temperature": alpha}, seed)
    learned = cai.learn.sac(world, temperature=alpha, seed=seed, progress=False, **SAC)
    return float(cai.evaluate(world, learned, temperature=alpha).evidence_gap)

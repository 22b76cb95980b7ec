"""POSTERIOR is risk-seeking: the return that this costs, as a function of temperature and noise.

Random linear systems with Gaussian noise and quadratic cost, the actions with a flat prior. The messages of POSTERIOR
and VARIATIONAL differ in one matrix (Whittle 1981): where VARIATIONAL has the Riccati matrix P, POSTERIOR has

    P̃ = P (I + W P/α)⁻¹,     W the covariance of the noise.

P̃ is at most P: given optimality, the noise is expected to lower the cost. So POSTERIOR's gain is not the best one, and
its covariance ``α (R + B'P̃B)⁻¹`` exceeds ``α (R + B'PB)⁻¹``. VARIATIONAL has the best gain, and loses ``½ α`` for each
action coordinate and time, whatever the noise. So its return is at least POSTERIOR's, at every α. All returns are
exact; the systems are random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

import cai
from cai.experiments.verdict import Check, Mean, Verdict, judged, mean_of
from cai.support.progress import bar

SIZE: Mapping[str, Any] = {"states": 4, "actions": 2, "radius": 0.95, "horizon": 30}
SETTLED = 1e-9
"""A difference in return that counts, as a share of the least cost: far above rounding."""


@dataclass(frozen=True)
class RiskSeeking:
    """Exact returns of POSTERIOR's and VARIATIONAL's policies on the same systems.

    Attributes:
        temperatures: α, reward units.
        noises: the size of the noise, its standard deviation in the first direction.
        least: the least expected cost ``-J*``, HARD's, of each system, by noise, reward units.
        variational: the cost of VARIATIONAL's policy beyond the least, by noise and α, a number for each system.
        posterior: the same of POSTERIOR's policy.
        gain: the part of it that is due to the gain: the cost of POSTERIOR's mean action beyond the least.
        luck: log Z - ELBO*, nats.
    """

    temperatures: tuple[float, ...]
    noises: tuple[float, ...]
    least: Mapping[str, Mean]
    variational: Mapping[str, Mapping[str, Mean]]
    posterior: Mapping[str, Mapping[str, Mean]]
    gain: Mapping[str, Mapping[str, Mean]]
    luck: Mapping[str, Mapping[str, Mean]]

    claim = "on noisy linear systems the posterior policy's true return is the worse one"

    def lost(self, noise: float, temperature: float) -> Mean:
        """Return what POSTERIOR's policy costs beyond VARIATIONAL's, as a share of the least cost."""
        return self._share(self.posterior, self.variational, noise, temperature)

    def lost_by_gain(self, noise: float, temperature: float) -> Mean:
        """Return what POSTERIOR's mean action alone costs beyond the least, as a share of it."""
        n, a = name(noise), name(temperature)
        pairs = zip(self.gain[n][a].runs, self.least[n].runs, strict=True)
        return mean_of([lost / least for lost, least in pairs])

    def _share(self, more: Any, less: Any, noise: float, temperature: float) -> Mean:
        n, a = name(noise), name(temperature)
        runs = zip(more[n][a].runs, less[n][a].runs, self.least[n].runs, strict=True)
        return mean_of([(one - other) / least for one, other, least in runs])

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        systems = len(self.least[name(self.noises[0])].runs)
        return f"exact returns of {systems} random systems, at {len(self.noises)} noises and {len(self.temperatures)} α"

    @property
    def verdict(self) -> Verdict:
        """Whether POSTERIOR's return is the worse one on every system, at each noise and temperature."""
        checks = []
        for noise in self.noises:
            for alpha in self.temperatures:
                lost = self.lost(noise, alpha)
                worse = sum(run > SETTLED for run in lost.runs)
                words = f"noise {noise:g}, α = {alpha:g}: worse by {lost.value:.2g} of the least cost, on {worse} of"
                checks.append(Check(f"{words} {len(lost.runs)} systems", worse == len(lost.runs)))
        return judged(checks)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal; costs as shares of the least cost, mean ± standard error over the systems."""
        heads = ("noise", "α", "POSTERIOR - VARIATIONAL", "by the gain alone", "largest", "least", "luck, nats")
        rows = [
            [noise, alpha, lost, self.lost_by_gain(noise, alpha), max(lost.runs), min(lost.runs), luck]
            for noise in self.noises
            for alpha in self.temperatures
            for lost in [self.lost(noise, alpha)]
            for luck in [self.luck[name(noise)][name(alpha)]]
        ]
        return heads, rows


def risk_sought(
    temperatures: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    *,
    noises: Sequence[float] = (0.1, 0.3, 1.0),
    systems: int = 50,
    progress: bool = True,
) -> RiskSeeking:
    """Solve random systems under both rules, and evaluate both policies under the true noise.

    Args:
        temperatures: α, reward units.
        noises: the sizes of the noise; a system is the same at each.
        systems: how many, drawn by the seeds 0, 1, ….
        progress: show a bar on a terminal.
    """
    found: dict[str, Any] = {field: {} for field in ("least", "variational", "posterior", "gain", "luck")}
    with bar("risk seeking", len(noises) * systems, shown=progress) as tell:
        for i, noise in enumerate(noises):
            each = []
            for seed in range(systems):
                each.append(_measured(_system(noise, seed), temperatures))
                tell(i * systems + seed + 1, "")
            found["least"][name(noise)] = mean_of([least for least, _ in each])
            for field in ("variational", "posterior", "gain", "luck"):
                by_alpha = {name(alpha): mean_of([rows[alpha][field] for _, rows in each]) for alpha in temperatures}
                found[field][name(noise)] = by_alpha
    return RiskSeeking(tuple(temperatures), tuple(noises), **found)


def name(number: float) -> str:
    """Return a number as a key."""
    return f"{number:g}"


def _system(noise: float, seed: int) -> cai.LinearGaussian:
    """Return a random system whose actions have a flat prior, so that nothing but the rule differs."""
    model = cai.linearise(cai.load_world("lqg", {**SIZE, "noise": noise, "seed": seed}))
    slices = replace(model.slices, flat=torch.ones_like(model.slices.flat))
    return replace(model, slices=slices)


def _measured(model: cai.LinearGaussian, temperatures: Sequence[float]) -> tuple[float, dict[float, dict[str, float]]]:
    best = float(cai.solve(model, cai.HARD).value)
    rows = {}
    for alpha in temperatures:
        rules = {"variational": cai.VARIATIONAL, "posterior": cai.POSTERIOR, "gain": cai.MAP}  # MAP: the gains alone
        solved = {field: cai.solve(model, rule, temperature=alpha) for field, rule in rules.items()}
        rows[alpha] = {field: best - _return_of(model, one.policy) for field, one in solved.items()}
        rows[alpha]["luck"] = float(solved["posterior"].log_evidence - solved["variational"].elbo)
    return -best, rows


def _return_of(model: cai.LinearGaussian, policy: Any) -> float:
    return float(cai.evaluate(model, policy).expected_return)

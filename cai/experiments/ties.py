"""Claim 3: ties are broken on principle: equally good ways are equally likely, and a small doubt changes little.

A grid without slipping, crossed from corner to corner in no more moves than it takes: all C(2n, n) shortest paths are
equally good. Soft policies spread over the paths; arg-max takes one of them; sharing ties move by move is not even.
Then every reward is changed by at most ε. Values change by at most ε (T-t), so that for every state and action

    |log π'_t(a|s) - log π_t(a|s)| <= 2 ε (T-t)/α,

while an arg-max may change altogether, however small ε is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import cai
from cai.experiments.measure import final_states, moves, solved
from cai.experiments.verdict import Check, Mean, Verdict, judged, mean_of
from cai.support.progress import bar

ARG_MAX, SHARED = "arg-max", "HARD, ties shared"
LITTLE = 1e-6
"""The change of rewards at which a jump is a jump, reward units."""


@dataclass(frozen=True)
class Ties:
    """How ties are broken.

    Attributes:
        paths: how many are equally good.
        entropy: of the trajectory, by policy, nats; log(paths) is an even spread over the best.
        best: the chance to take one of the best, by policy.
        epsilons: the sizes of the changes, reward units.
        moved: total variation of p(s_t, a_t), the mean over time, before and after a change, by policy and size.
        tightest: the largest |Δ log π_t| as a share of its bound 2 ε (T-t)/α, by soft policy.
        temperatures: α of each soft policy, reward units.
        seeds: how many changes were drawn at each size.
    """

    paths: int
    entropy: Mapping[str, float]
    best: Mapping[str, float]
    epsilons: tuple[float, ...]
    moved: Mapping[str, tuple[Mean, ...]]
    tightest: Mapping[str, float]
    temperatures: Mapping[str, float]
    seeds: int

    claim = "soft policies break ties on principle: evenly, without jumps"

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        return f"exact numbers over {self.paths:,} equally good paths, and {self.seeds} random changes of each size"

    @property
    def verdict(self) -> Verdict:
        """Whether each temperature spreads evenly over the best, only over them, and does not jump."""
        return verdict_of(self)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal."""
        at = nearest(self.epsilons, LITTLE)
        heads = (
            "policy",
            f"entropy (even: {math.log(self.paths):.4g})",
            "on a best path",
            f"moved by ε = {self.epsilons[at]:.0e}",
        )
        return heads, [[name, nats, self.best[name], str(self.moved[name][at])] for name, nats in self.entropy.items()]


def verdict_of(result: Ties) -> Verdict:
    """Judge every soft policy beside the hard ones' jump."""
    at, even = nearest(result.epsilons, LITTLE), math.log(result.paths)
    jump = min(result.moved[name][at].value for name in (ARG_MAX, SHARED))
    checks = [
        Check(
            f"hard policies jump: a change of {result.epsilons[at]:.0e} moves at least {jump:.2g} of their probability",
            jump > 0.1,
        )
    ]
    for name in result.temperatures:
        nats, best, moved = result.entropy[name], result.best[name], result.moved[name][at].value
        words = f"{name}: entropy {nats:.4g} nats (even: {even:.4g}), best paths have probability {best:.3g}"
        checks.append(Check(words, best > 0.95 and abs(nats - even) < 0.05 * even))
        words = f"{name}: the same change moves {moved:.1g}; |Δ log π| is {result.tightest[name]:.2g} of its bound"
        checks.append(Check(words, moved < 0.01 and result.tightest[name] <= 1))
    return judged(checks)


def nearest(epsilons: Sequence[float], to: float) -> int:
    """Return the place of the size next to one, by ratio."""
    return min(range(len(epsilons)), key=lambda i: abs(math.log(epsilons[i] / to)))


def ties_broken(
    side: int = 5,
    *,
    temperatures: Sequence[float] = (0.02, 0.05, 0.2),
    seeds: int = 5,
    epsilons: Sequence[float] = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    progress: bool = True,
) -> Ties:
    """Measure how ties are broken, before and after small changes of all rewards.

    Args:
        side: of the square grid.
        temperatures: α, reward units.
        seeds: changes drawn at each size.
        epsilons: the largest change of a reward, reward units.
        progress: show a bar on a terminal.
    """
    length = 2 * (side - 1)
    grid = {"rows": side, "columns": side, "slip": 0.0, "horizon": length}
    tables = cai.tabulate(cai.load_world("grid", grid)).detach()
    names = {f"soft, α = {alpha:g}": alpha for alpha in temperatures}
    before = _policies(tables, names, seed=0)
    moved: dict[str, list[Mean]] = {name: [] for name in before}
    tightest = dict.fromkeys(names, 0.0)
    with bar("ties", len(epsilons) * seeds, shown=progress) as tell:
        for n, epsilon in enumerate(epsilons):
            runs: dict[str, list[float]] = {name: [] for name in before}
            for seed in range(seeds):
                after = _policies(_changed(tables, epsilon, seed), names, seed=0)
                for name, table in after.items():
                    runs[name].append(_moved(tables, before[name], table))
                for name, alpha in names.items():
                    share = _share_of_bound(before[name], after[name], epsilon, alpha)
                    tightest[name] = max(tightest[name], share)
                tell(n * seeds + seed + 1, f"ε = {epsilon:g}")
            for name, distances in runs.items():
                moved[name].append(mean_of(distances))
    entropy = {name: cai.evaluate(tables, log_pi.exp()).entropy for name, log_pi in before.items()}
    best = {name: float(final_states(tables, log_pi)[-1]) for name, log_pi in before.items()}
    as_tuples = {name: tuple(means) for name, means in moved.items()}
    return Ties(math.comb(length, length // 2), entropy, best, tuple(epsilons), as_tuples, tightest, names, seeds)


def _policies(tables: cai.Tables, soft: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    """Return log π of all policies, ``[T, S, A]``."""
    shared = solved(tables, cai.HARD)
    return {ARG_MAX: one_of_the_best(shared, seed), SHARED: shared} | {
        name: solved(tables, cai.VARIATIONAL, alpha) for name, alpha in soft.items()
    }


def one_of_the_best(log_pi: Tensor, seed: int) -> Tensor:
    """Return an arg-max: of equally probable actions one, which one a seed has fixed for each time and state."""
    rank = torch.rand(log_pi.shape, generator=torch.Generator().manual_seed(seed), dtype=log_pi.dtype)
    first = torch.where(log_pi == log_pi.amax(-1, keepdim=True), rank, -1.0).argmax(-1, keepdim=True)
    return torch.full_like(log_pi, -torch.inf).scatter(-1, first, 0.0)


def _changed(tables: cai.Tables, epsilon: float, seed: int) -> cai.Tables:
    noise = torch.rand(tables.reward.shape, generator=torch.Generator().manual_seed(seed), dtype=tables.reward.dtype)
    return replace(tables, reward=tables.reward + epsilon * (2 * noise - 1))


def _moved(tables: cai.Tables, before: Tensor, after: Tensor) -> float:
    return float((moves(tables, before) - moves(tables, after)).abs().sum() / (2 * len(before)))


def _share_of_bound(before: Tensor, after: Tensor, epsilon: float, alpha: float) -> float:
    to_come = torch.arange(len(before), 0, -1, dtype=before.dtype)
    gap = (after - before).abs().flatten(1).amax(-1)
    rounding = 1e-12 * float(before.abs().max()) + 1e-12 / alpha  # log π is a difference of values over α
    return float(((gap - rounding).clamp(min=0) / (2 * epsilon * to_come / alpha)).max())

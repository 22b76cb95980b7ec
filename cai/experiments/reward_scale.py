"""Claim 5: soft optimality becomes hard optimality as the reward scale grows, which is the same as α falling.

    0 <= E_HARD[Σ r] - E_soft[Σ r] <= v_HARD - v_soft <= α Σ_t log 1/p(a*|s*)  (= α T log|A| for a uniform prior)

The middle one holds because the soft value pays its KL out of the return; the last because the hard policy, at the
price of its KL, is one of those that the soft one maximises over.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import cai
from cai.experiments.deep_sea import slope
from cai.experiments.measure import table_of
from cai.experiments.verdict import Check, Verdict, judged
from cai.support.progress import bar

WORLDS: Mapping[str, Mapping[str, Any]] = {
    "grid": {"horizon": 20},
    "river_swim": {"small": 0.0005, "large": 1.0},
    "restaurant": {},
    "deep_sea": {"size": 8},
}
RARE = 0.01
"""A soft policy counts as hard if suboptimal actions, which the hard policy never takes, have less probability."""


@dataclass(frozen=True)
class RewardScale:
    """The distances to hard optimality, exactly.

    Attributes:
        temperatures: α, reward units, descending.
        value_gap: v_HARD - v_soft at the start, by world, reward units.
        return_gap: E_HARD[Σ r] - E_soft[Σ r], by world, reward units.
        policy_gap: the share of a soft policy's actions that the hard one never takes there, by world.
        bound: α T log|A|, by world, reward units.
    """

    temperatures: tuple[float, ...]
    value_gap: Mapping[str, tuple[float, ...]]
    return_gap: Mapping[str, tuple[float, ...]]
    policy_gap: Mapping[str, tuple[float, ...]]
    bound: Mapping[str, tuple[float, ...]]

    claim = "soft optimality becomes hard as the reward scale grows"

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        return f"exact numbers at {len(self.temperatures)} temperatures in {len(self.value_gap)} worlds"

    @property
    def verdict(self) -> Verdict:
        """Whether the limit is reached, within its bound, at its rate."""
        return verdict_of(self)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal."""
        heads = ("world", "α", "v_HARD − v_soft", "bound", "return lost", "suboptimal actions")
        shown = (0, len(self.temperatures) // 2, -1)
        rows = [
            [
                name,
                self.temperatures[i],
                gaps[i],
                self.bound[name][i],
                self.return_gap[name][i],
                self.policy_gap[name][i],
            ]
            for name, gaps in self.value_gap.items()
            for i in shown
        ]
        return heads, rows


def verdict_of(result: RewardScale) -> Verdict:
    """Judge each world: within the bound at every α, and at the last ones in proportion to α, to next to nothing."""
    checks = []
    alphas = torch.tensor(result.temperatures, dtype=torch.float64)
    for name, gaps in result.value_gap.items():
        value, bound = torch.tensor(gaps, dtype=torch.float64), torch.tensor(result.bound[name], dtype=torch.float64)
        lost, odd = result.return_gap[name], result.policy_gap[name]
        rounding = 1e-9 * max(1.0, float(value.abs().max()))
        within = bool((value <= bound + rounding).all()) and bool((value >= value.new_tensor(lost) - rounding).all())
        ratio = float((value / bound).max())
        checks.append(Check(f"{name}: v_HARD − v_soft is at most {ratio:.3f} of its bound at every α", within))
        rate = slope(alphas[-4:].log(), value[-4:].clamp(min=1e-300).log())
        arrived = abs(rate - 1) < 0.1 and lost[-1] < 0.01 * max(lost[0], rounding) and odd[-1] < RARE
        first = next((alpha for alpha, share in zip(result.temperatures, odd, strict=True) if share < RARE), None)
        when = "at no α tried" if first is None else f"from α = {first:.1g} on"
        words = f"{name}: at the lowest α the gap falls like α^{rate:.2f}, and {lost[-1]:.1g} of return is lost;"
        checks.append(Check(f"{words} suboptimal actions have probability below {RARE:.0%} {when}", arrived))
    return judged(checks)


def soft_against_hard(
    worlds: Mapping[str, Mapping[str, Any]] = WORLDS,
    *,
    highest: float = 10.0,
    lowest: float = 1e-7,
    points: int = 25,
    progress: bool = True,
) -> RewardScale:
    """Solve every world at ever lower α, and hard.

    Args:
        worlds: names of the catalogue, with settings.
        highest, lowest: α, reward units.
        points: how many, evenly in log α.
        progress: show a bar on a terminal.
    """
    alphas = torch.logspace(torch.tensor(highest).log10(), torch.tensor(lowest).log10(), points, dtype=torch.float64)
    gaps: dict[str, list[tuple[float, ...]]] = {}
    with bar("reward_scale", len(worlds), shown=progress) as tell:
        for done, (name, settings) in enumerate(worlds.items()):
            gaps[name] = gaps_of(cai.load_world(name, settings), alphas.tolist())
            tell(done + 1, name)
    names = ("value_gap", "return_gap", "policy_gap", "bound")
    fields = {field: {name: rows[n] for name, rows in gaps.items()} for n, field in enumerate(names)}
    return RewardScale(tuple(alphas.tolist()), **fields)


def gaps_of(world: Any, alphas: Sequence[float]) -> list[tuple[float, ...]]:
    """Return the gaps of value, return and policy, and the bound, a number for each α."""
    tables = cai.tabulate(world)
    assert tables.horizon is not None
    hard = cai.solve(tables, cai.HARD)
    best, support = cai.evaluate(tables, hard), table_of(tables, hard.policy) > -torch.inf
    value, returned, odd = [], [], []
    for alpha in alphas:
        soft = cai.solve(tables, cai.VARIATIONAL, temperature=alpha)
        evaluation = cai.evaluate(tables, soft, temperature=alpha)
        value.append(float(hard.value) - float(soft.value))
        returned.append(best.expected_return - evaluation.expected_return)
        odd.append(float(evaluation.occupancy[~support].sum()) / tables.horizon)
    bound = tables.horizon * math.log(tables.actions.size)
    return [tuple(value), tuple(returned), tuple(odd), tuple(alpha * bound for alpha in alphas)]

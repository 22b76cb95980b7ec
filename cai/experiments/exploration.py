"""Claim 1: soft learners explore better, and their entropy does not collapse.

A corridor three cells wide with a near small prize and a far large one. REINFORCE maximises the return alone, the soft
policy gradient the return plus α times the entropy. Both have the same start and the same number of steps. Entropy
counts only until a prize is taken: after that actions have no effect, and every policy is random.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cai
from cai.experiments.measure import table_of, watched
from cai.experiments.verdict import Check, Mean, Verdict, above, judged, mean_of
from cai.support.progress import bar

HARD = "REINFORCE"
NEAR, FAR = 0.5, 1.0


@dataclass(frozen=True)
class Curves:
    """One learner's way, a number at each evaluation, over seeds.

    Attributes:
        entropy: E_π Σ H(π(·|s_t)) before a prize is taken, nats.
        returned: E_π Σ r, reward units.
        coverage: exp of the entropy of where it is before a prize is taken: how many cells it visits in effect.
    """

    entropy: tuple[Mean, ...]
    returned: tuple[Mean, ...]
    coverage: tuple[Mean, ...]


@dataclass(frozen=True)
class Exploration:
    """How the learners explored.

    Attributes:
        episodes: at each evaluation.
        curves: by learner.
        seeds: how many.
    """

    episodes: tuple[int, ...]
    curves: Mapping[str, Curves]
    seeds: int

    claim = "soft learners explore better, without entropy collapse"

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        return f"{self.seeds} seeds of {self.episodes[-1]:,} episodes for each learner"

    @property
    def verdict(self) -> Verdict:
        """Whether each soft learner keeps its entropy, and whether it finds more."""
        return verdict_of(
            {name: (curve.entropy[-1], curve.coverage[-1], curve.returned[-1]) for name, curve in self.curves.items()}
        )

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal."""
        heads = ("learner", "entropy at first", "at the end, nats", "cells visited", "return")
        return heads, [
            [name, *map(str, (curve.entropy[0], curve.entropy[-1], curve.coverage[-1], curve.returned[-1]))]
            for name, curve in self.curves.items()
        ]


def verdict_of(ends: Mapping[str, tuple[Mean, Mean, Mean]]) -> Verdict:
    """Judge the soft learners' entropy, coverage and return at the end against REINFORCE's, by two standard errors."""
    nats, cells, paid = ends[HARD]
    checks = []
    for name, (own_nats, own_cells, own_paid) in ends.items():
        if name == HARD:
            continue
        words = f"{name}: entropy {own_nats} nats ({HARD} {nats}), cells visited {own_cells} ({HARD} {cells})"
        checks.append(Check(words, above(own_nats, nats) and above(own_cells, cells)))
        words = f"{name}: return {own_paid} ({HARD} {paid}); the near prize is {NEAR:g}, the far one {FAR:g}"
        checks.append(Check(words, above(own_paid, paid)))
    return judged(checks)


def explored(
    temperatures: Sequence[float] = (0.01, 0.1, 0.3),
    *,
    seeds: int = 8,
    updates: int = 120,
    batch: int = 50,
    lr: float = 0.2,
    evaluations: int = 12,
    progress: bool = True,
) -> Exploration:
    """Let REINFORCE and the soft policy gradient learn, and watch.

    Args:
        temperatures: α of the soft learners, reward units.
        seeds: runs of each.
        updates: of each run.
        batch: episodes an update.
        lr: Adam's step size.
        evaluations: on the way, the one before the first update not counted.
        progress: show a bar on a terminal.
    """
    goals = [(1, 0, NEAR), (1, 8, FAR)]
    corridor = {"rows": 3, "columns": 9, "start": (1, 3), "goals": goals, "slip": 0.0, "horizon": 10}
    world = cai.load_world("grid", corridor)
    learners = {HARD: None} | {f"soft, α = {alpha:g}": alpha for alpha in temperatures}
    curves, at = {}, [n * updates // evaluations for n in range(evaluations + 1)]
    with bar("exploration", len(learners) * seeds, shown=progress) as tell:
        for i, (name, alpha) in enumerate(learners.items()):
            runs = []
            for seed in range(seeds):
                runs.append(on_the_way(world, alpha, seed, at, batch, lr))
                tell(i * seeds + seed + 1, name)
            fields = torch.tensor(runs, dtype=torch.float64)  # [N, evaluations, 3]
            curves[name] = Curves(*(tuple(mean_of(fields[:, n, k]) for n in range(len(at))) for k in range(3)))
    return Exploration(tuple(n * batch for n in at), curves, seeds)


def on_the_way(
    world: Any, alpha: float | None, seed: int, at: Sequence[int], batch: int, lr: float
) -> list[tuple[float, float, float]]:
    """Return entropy, return and coverage after so many updates of one run."""
    tables, rows = cai.tabulate(world).detach(), []

    def watch(updates: int, metrics: Mapping[str, float], policy: Callable[[], Any]) -> bool:
        if updates in at:
            rows.append(measured(tables, world.goal, table_of(tables, policy())))
        return updates >= at[-1]

    settings = {"batch": batch, "lr": lr, "settle": False, "stationary": False}
    watched(cai.learn.reinforce, world, watch, temperature=alpha, seed=seed, **settings)
    return rows


def measured(tables: cai.Tables, decided: Tensor, log_pi: Tensor) -> tuple[float, float, float]:
    """Return entropy (nats) and return of a policy, and in how many cells it is in effect, until it is decided."""
    evaluation = cai.evaluate(tables, log_pi.exp())
    joint = evaluation.occupancy
    undecided = torch.where(decided, 0.0, joint.sum(-1))
    nats = -torch.where(joint > 0, joint * log_pi, 0.0).sum(-1)[:, ~decided].sum()
    where = undecided.sum(0) / undecided.sum()
    return float(nats), evaluation.expected_return, math.exp(float(torch.special.entr(where).sum()))

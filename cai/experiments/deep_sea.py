"""Where inference as it is usually written fails: how many dives until Deep Sea is solved, against its size N.

One treasure among 2^N dives. A learner that knows the map, but not which action goes where nor what anything pays,
dives until its regret, on average over all dives so far, is below half the treasure. Soft Q-learning treats the mean of
its beliefs as the truth. It finds the treasure only by its random actions, after about 2^N dives. K-learning and
posterior sampling prefer actions with unknown rewards. The exact messages know the world and need no dives.

Source: O'Donoghue, Osband & Ionescu (2020), Making sense of reinforcement learning and probabilistic inference.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import cai
from cai.experiments.measure import watched
from cai.experiments.verdict import Check, Verdict, judged
from cai.support.progress import bar

SOFT, BELIEFS, K_LEARNING, PSRL = "soft Q-learning", "soft Q on beliefs", "K-learning", "PSRL"
HOPELESS, PATIENT = (SOFT, BELIEFS), (K_LEARNING, PSRL)


@dataclass(frozen=True)
class DeepSea:
    """How long each learner took.

    Attributes:
        sizes: N.
        dives: episodes until solved, by learner, a row for each size, a number for each seed; inf where the learner
            gave up after ``patience`` episodes.
        patience: by learner, the most episodes at each size.
        known: the expected return of the exact VARIATIONAL policy at the same α, as a share of the best, at each size.
        temperature: α of the soft learners, reward units.
        seeds: how many.
    """

    sizes: tuple[int, ...]
    dives: Mapping[str, tuple[tuple[float, ...], ...]]
    patience: Mapping[str, tuple[int, ...]]
    known: tuple[float, ...]
    temperature: float
    seeds: int

    claim = "soft Q-learning needs about 2^N dives, K-learning and PSRL do not"

    @property
    def typical(self) -> dict[str, tuple[float, ...]]:
        """The mean of log₂ dives over seeds as dives, by learner; those who gave up count with their patience."""
        return {
            name: tuple(
                2 ** (sum(math.log2(min(dives, most)) for dives in row) / len(row))
                for row, most in zip(rows, self.patience[name], strict=True)
            )
            for name, rows in self.dives.items()
        }

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        return f"{self.seeds} seeds at each of the sizes N = {', '.join(map(str, self.sizes))}"

    @property
    def verdict(self) -> Verdict:
        """Whether the two kinds part as claimed."""
        return verdict_of(self.sizes, self.typical)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal."""
        rows: list[list[Any]] = [[name, *(f"{n:,.0f}" for n in row)] for name, row in self.typical.items()]
        return ("dives until solved", *(f"N = {n}" for n in self.sizes)), [
            *rows,
            ["2^N", *(f"{2**n:,}" for n in self.sizes)],
        ]


def verdict_of(sizes: Sequence[int], typical: Mapping[str, Sequence[float]]) -> Verdict:
    """Judge by growth: doublings of the dives per row added, where 1 is 2^N, and the power of N, log-log."""
    rows, logs = torch.tensor(sizes, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64).log()
    checks = []
    for name in HOPELESS:
        rate = slope(rows, torch.tensor(typical[name], dtype=torch.float64).log2())
        checks.append(Check(f"{name}: dives grow like 2^({rate:.2f} N); exponential if above 2^(0.7 N)", rate > 0.7))
    for name in PATIENT:
        heights = torch.tensor(typical[name], dtype=torch.float64)
        power, rate = slope(logs, heights.log()), slope(rows, heights.log2())
        words = f"{name}: dives grow like N^{power:.1f}, or 2^({rate:.2f} N); polynomial if below N^4 and 2^(0.7 N)"
        checks.append(Check(words, power < 4 and rate < 0.7))
    last = {name: row[-1] for name, row in typical.items()}
    quick, slow = max(last[name] for name in PATIENT), min(last[name] for name in HOPELESS)
    words = (
        f"N = {sizes[-1]}: the slower of K-learning and PSRL needs {quick:,.0f} dives, the faster soft one {slow:,.0f}"
    )
    return judged([*checks, Check(words, quick < slow)])


def slope(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the slope of the least-squares line."""
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def dives_needed(
    sizes: Sequence[int] = (4, 6, 8, 10, 12),
    *,
    seeds: int = 5,
    temperature: float = 0.05,
    beta: float = 3.0,
    noise: float = 0.1,
    progress: bool = True,
) -> DeepSea:
    """Let every learner dive at every size, a seed at a time.

    The settings of K-learning and of the beliefs were chosen after trials on these sizes. Believing in more noise, or
    not being told the map, both take many more dives; without the map K-learning took more than soft Q-learning.

    The soft learners learn from 2^N/16 dives at once, which only makes them quicker to run: what they wait for is luck.

    Args:
        sizes: N, ascending.
        seeds: runs of each learner at each size; the seed draws the luck, the map is the same.
        temperature: α of the soft learners, reward units.
        beta: of K-learning.
        noise: how much rewards are believed to scatter, reward units; in truth they do not.
        progress: show a bar on a terminal.
    """
    dives: dict[str, list[tuple[float, ...]]] = {name: [] for name in (*HOPELESS, *PATIENT)}
    patience: dict[str, list[int]] = {name: [] for name in dives}
    known, done = [], 0
    with bar("deep_sea", len(sizes) * len(dives) * seeds, shown=progress) as tell:
        for size in sizes:
            world = cai.load_world("deep_sea", {"size": size})
            tables = cai.tabulate(world)
            known.append(known_share(tables, temperature))
            for name, (learn, batch) in learners(size, tables, beta, noise).items():
                soft = {"temperature": temperature} if name in HOPELESS else {}
                patience[name].append(most := 8 * 2**size if name in HOPELESS else 10 * size**3)
                runs = []
                for seed in range(seeds):
                    runs.append(dives_of(learn, batch, world, most, seed=seed, **soft))
                    done += 1
                    tell(done, f"N = {size}, {name}")
                dives[name].append(tuple(runs))
    as_tuples = {name: tuple(rows) for name, rows in patience.items()}
    return DeepSea(
        tuple(sizes), {name: tuple(rows) for name, rows in dives.items()}, as_tuples, tuple(known), temperature, seeds
    )


def learners(size: int, tables: cai.Tables, beta: float, noise: float) -> dict[str, tuple[Callable[..., Any], int]]:
    """Return the four learners for a size and their episodes an update; all but the model-free one know the map."""
    batch, settings = max(1, 2**size // 16), dict[str, Any](noise=noise, following=cai.learn.neighbours(tables))
    return {
        SOFT: (partial(cai.learn.q_learning, batch=batch, explore=0.0), batch),
        BELIEFS: (partial(cai.learn.certainty_equivalence, batch=batch, **settings), batch),
        K_LEARNING: (partial(cai.learn.k_learning, beta=beta, **settings), 1),
        PSRL: (partial(cai.learn.posterior_sampling, **settings), 1),
    }


def dives_of(learn: Callable[..., Any], batch: int, world: Any, most: int, **settings: Any) -> float:
    """Return after how many episodes the average regret fell below half the best return; inf if not within ``most``."""
    best, regret, solved = world.treasure - world.move_cost, 0.0, math.inf

    def watch(updates: int, metrics: Mapping[str, float], policy: Callable[[], Any]) -> bool:
        nonlocal regret, solved
        episodes = updates * batch
        regret += batch * (best - metrics["return"]) if updates else 0.0
        solved = float(episodes) if updates and regret < best / 2 * episodes else math.inf
        return solved < math.inf or episodes >= most

    watched(learn, world, watch, **settings)
    return solved


def known_share(tables: cai.Tables, temperature: float) -> float:
    """Return how often the exact policy at a temperature finds the treasure: it knows the world."""
    messages = cai.solve(tables, cai.VARIATIONAL, temperature=temperature)
    return float(cai.evaluate(tables, messages, temperature=temperature).occupancy[-1, -1].max())

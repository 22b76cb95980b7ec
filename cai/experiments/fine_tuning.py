"""Claim 2: a policy learned with entropy is easier to specialise.

A square room, its start in the middle, four equal prizes in the corners: REINFORCE and the soft policy gradient learn
to reach any prize. Then three of the four prizes are removed. From either policy, and from scratch, exact gradient
steps on the new return go on until the policy takes the last prize with probability 0.9.

After Haarnoja, Tang, Abbeel & Levine (2017), Reinforcement learning with deep energy-based policies, section 5.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import cai
from cai.experiments.measure import final_states, finished, table_of
from cai.experiments.verdict import Check, Mean, Verdict, above, judged, mean_of
from cai.support.progress import bar

HARD, SOFT, SCRATCH = "REINFORCE", "soft policy gradient", "from scratch"
CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4))
ENOUGH = 0.9
"""The chance of the prize at which a policy counts as specialised."""
COOL = 0.01
"""α of the climb, reward units: almost the return alone, one nat costs a hundredth of the prize."""


@dataclass(frozen=True)
class FineTuning:
    """How fast policies were specialised.

    Attributes:
        before: the chance of any prize before, by start.
        rarest: the chance of the rarest prize before, by start.
        steps: gradient steps until specialised, by start: the mean over the four prizes, over seeds.
        slowest: the same for the slowest of the four prizes.
        curves: the chance of the one prize at each step, the mean over prizes and seeds, by start.
        patience: the most steps; who needed more counts with these.
        temperature: α of the soft learner, reward units.
        seeds: how many.
    """

    before: Mapping[str, Mean]
    rarest: Mapping[str, Mean]
    steps: Mapping[str, Mean]
    slowest: Mapping[str, Mean]
    curves: Mapping[str, tuple[float, ...]]
    patience: int
    temperature: float
    seeds: int

    claim = "a policy learned with entropy is easier to specialise"

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        return f"{self.seeds} seeds of each learner; to each of 4 prizes at most {self.patience:,} exact gradient steps"

    @property
    def verdict(self) -> Verdict:
        """Whether the soft start is the faster one."""
        return verdict_of(self.steps, self.slowest)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal."""
        heads = ("start", "any prize", "rarest prize", "steps to 0.9", "slowest prize")
        fields = (self.before, self.rarest, self.steps, self.slowest)
        return heads, [[name, *(str(field[name]) for field in fields)] for name in self.steps]


def verdict_of(steps: Mapping[str, Mean], slowest: Mapping[str, Mean]) -> Verdict:
    """Judge the soft start against the hard one and against none, by two standard errors."""
    words = [
        f"steps on average: {steps[SOFT]} from the soft policy, {steps[HARD]} from the hard one",
        f"steps to the slowest prize: {slowest[SOFT]} from the soft policy, {slowest[HARD]} from the hard one",
        f"steps on average: {steps[SOFT]} from the soft policy, {steps[SCRATCH]} from scratch",
    ]
    pairs = [(steps[HARD], steps[SOFT]), (slowest[HARD], slowest[SOFT]), (steps[SCRATCH], steps[SOFT])]
    return judged([Check(text, above(*pair)) for text, pair in zip(words, pairs, strict=True)])


def specialised(
    *,
    seeds: int = 8,
    temperature: float = 0.1,
    updates: int = 300,
    patience: int = 2000,
    lr: float = 1.0,
    progress: bool = True,
) -> FineTuning:
    """Learn in the room with four prizes, hard and soft, and specialise to each.

    Args:
        seeds: runs of each learner.
        temperature: α of the soft learner, reward units.
        updates: of each learner, of 20 episodes each.
        patience: the most gradient steps of a specialisation.
        lr: their size.
        progress: show a bar on a terminal.
    """
    room = room_with(CORNERS)
    tables, rooms = cai.tabulate(room).detach(), [cai.tabulate(room_with([corner])).detach() for corner in CORNERS]
    settings: dict[str, Any] = {"batch": 20, "lr": 0.1, "settle": False, "stationary": False}
    settings |= {"steps": updates * 20 * room.horizon, "evaluations": 1, "progress": False}
    starts: dict[str, list[Tensor]] = {HARD: [], SOFT: []}
    with bar("fine_tuning", 3 * seeds, shown=progress) as tell:
        for n, (name, alpha) in enumerate({HARD: None, SOFT: temperature}.items()):
            for seed in range(seeds):
                learned = finished(cai.learn.reinforce(room, temperature=alpha, seed=seed, **settings))
                starts[name].append(table_of(tables, learned.policy))
                tell(n * seeds + seed + 1, name)
        scratch = tables.log_prior.expand(room.horizon, *tables.log_prior.shape)
        curves = {}
        for name, policies in {**starts, SCRATCH: [scratch]}.items():
            curves[name] = [climbed_each(rooms, log_pi, patience, lr) for log_pi in policies]
            tell(3 * seeds if name == SCRATCH else 2 * seeds, f"specialising {name}")
    curves[SCRATCH] *= seeds  # nothing is random there
    before = {
        name: torch.stack([prizes(tables, log_pi) for log_pi in rows])
        for name, rows in {**starts, SCRATCH: [scratch] * seeds}.items()
    }
    return _summary(before, curves, patience, temperature)


def _summary(
    before: Mapping[str, Tensor], curves: Mapping[str, Sequence[Tensor]], patience: int, temperature: float
) -> FineTuning:
    """Sum up the chances of the prizes before, ``[N, 4]``, and the curves of each seed, ``[4, patience + 1]``."""
    needed = {name: torch.stack([(rows < ENOUGH).sum(-1).double() for rows in each]) for name, each in curves.items()}
    return FineTuning(
        {name: mean_of(chances.sum(-1)) for name, chances in before.items()},
        {name: mean_of(chances.amin(-1)) for name, chances in before.items()},
        {name: mean_of(steps.mean(-1)) for name, steps in needed.items()},
        {name: mean_of(steps.amax(-1)) for name, steps in needed.items()},
        {name: tuple(torch.stack(list(each)).mean((0, 1)).tolist()) for name, each in curves.items()},
        patience,
        temperature,
        len(before[HARD]),
    )


def room_with(corners: Sequence[tuple[int, int]]) -> Any:
    """Return the room with prizes of 1 in these corners."""
    goals = [(*corner, 1.0) for corner in corners]
    room = {"rows": 5, "columns": 5, "start": (2, 2), "goals": goals, "slip": 0.0, "horizon": 6}
    return cai.load_world("grid", room)


def prizes(tables: cai.Tables, log_pi: Tensor) -> Tensor:
    """Return the chance of each corner's prize, ``[4]``."""
    return final_states(tables, log_pi)[[5 * row + column for row, column in CORNERS]]


def climbed_each(rooms: Sequence[cai.Tables], log_pi: Tensor, patience: int, lr: float) -> Tensor:
    """Return the chance of the one prize at each step of its specialisation, for each of the four, ``[4, patience+1]``.

    Once it is taken nine times of ten the climb ends, and the rest is filled with what was reached.
    """
    return torch.stack([_climbed(room, log_pi, patience, lr) for room in rooms])


def _climbed(room: cai.Tables, log_pi: Tensor, patience: int, lr: float) -> Tensor:
    """Climb by the exact gradient of a softmax policy, ``∂J/∂θ_t(s,a) = p(s_t, a_t) (q - α log π/p - v)``."""
    logits, curve = log_pi.clamp(min=-40.0), []
    for _ in range(patience + 1):
        log_pi = logits.log_softmax(-1)
        evaluation = cai.evaluate(room, log_pi.exp(), temperature=COOL)
        curve.append(evaluation.expected_return)  # the prize is 1, and taken once
        if curve[-1] >= ENOUGH:
            break
        v = evaluation.v
        q = (room.log_prob.exp() * (room.reward + v[1:, room.successor])).sum(-1)
        logits = logits + lr * evaluation.occupancy * (q - COOL * (log_pi - room.log_prior) - v[:-1].unsqueeze(-1))
    reached = torch.tensor(curve, dtype=logits.dtype)
    return torch.cat([reached, reached[-1].expand(patience + 1 - len(reached))])

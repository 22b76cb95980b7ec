"""Claim 4: soft policies withstand changed dynamics.

A room to be crossed beside a pit. Policies are solved for a floor that hardly slips, and then act, as they are, on
floors that slip more, and in rooms where one cell has become a wall: every cell in turn that leaves a way. Everything
is exact.

The claim: Eysenbach & Levine (2022), Maximum entropy RL (provably) solves some robust RL problems: soft policies
maximise a lower bound on the return under *some* disturbances, chosen with the softness. Whether those below are among
them is asked here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import cai
from cai.experiments.measure import solved
from cai.experiments.ties import one_of_the_best
from cai.experiments.verdict import Check, Verdict, judged
from cai.support.progress import bar

ARG_MAX, SHARED = "arg-max", "HARD, ties shared"
ROOM: Mapping[str, Any] = {
    "rows": 4,
    "columns": 6,
    "start": (3, 0),
    "goals": [(3, 5, 1.0), (3, 2, -1.0), (3, 3, -1.0)],
    "horizon": 20,
    "step_reward": -0.01,
}
NOMINAL = 0.05
MARGIN = 0.01
"""What counts as better, reward units: one hundredth of the prize."""


@dataclass(frozen=True)
class Robustness:
    """Returns of the same policies under changed dynamics.

    Attributes:
        nominal: as solved for, by policy, reward units.
        slips: the chances to slip.
        slipping: the return at each, by policy.
        walls: the cells that became a wall, one at a time.
        walled: the return with each, by policy.
    """

    nominal: Mapping[str, float]
    slips: tuple[float, ...]
    slipping: Mapping[str, tuple[float, ...]]
    walls: tuple[int, ...]
    walled: Mapping[str, tuple[float, ...]]

    claim = "soft policies withstand changed dynamics"

    @property
    def changes(self) -> dict[str, dict[str, float]]:
        """The return under each kind of change, by kind and policy."""
        return {
            "more slipping, mean": {name: _mean(row) for name, row in self.slipping.items()},
            "more slipping, worst": {name: min(row) for name, row in self.slipping.items()},
            "a wall, mean": {name: _mean(row) for name, row in self.walled.items()},
            "a wall, worst": {name: min(row) for name, row in self.walled.items()},
        }

    @property
    def evidence(self) -> str:
        """What the verdict rests on."""
        return f"exact returns at {len(self.slips)} chances to slip and with {len(self.walls)} walls, one at a time"

    @property
    def verdict(self) -> Verdict:
        """Whether each soft policy beats both hard ones under each change."""
        return verdict_of(self.changes)

    @property
    def table(self) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Heads and rows for a terminal."""
        kinds = self.changes
        rows = [[name, returned, *(row[name] for row in kinds.values())] for name, returned in self.nominal.items()]
        return ("policy", "as solved for", *kinds), rows


def verdict_of(changes: Mapping[str, Mapping[str, float]]) -> Verdict:
    """Judge every kind of change and every temperature against the better of the hard policies."""
    checks = []
    for kind, returns in changes.items():
        hard = max(returns[name] for name in (ARG_MAX, SHARED))
        for name, returned in returns.items():
            if name not in (ARG_MAX, SHARED):
                words = f"{kind}: return {returned:.3f} of {name}, {hard:.3f} of the better hard policy"
                checks.append(Check(words, returned > hard + MARGIN))
    return judged(checks)


def withstood(
    temperatures: Sequence[float] = (0.01, 0.05, 0.2),
    *,
    slips: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
    draws: int = 10,
    progress: bool = True,
) -> Robustness:
    """Solve for one room, act in others.

    Args:
        temperatures: α of the soft policies, reward units.
        slips: the changed chances to slip.
        draws: ways to break the ties of the arg-max policy, over which its return is the mean.
        progress: show a bar on a terminal.
    """
    world = _room()
    tables = cai.tabulate(world).detach()
    shared = solved(tables, cai.HARD)
    policies = {ARG_MAX: [one_of_the_best(shared, seed) for seed in range(draws)], SHARED: [shared]}
    policies |= {f"soft, α = {alpha:g}": [solved(tables, cai.VARIATIONAL, alpha)] for alpha in temperatures}
    free = [cell for cell in range(world.n_cells) if cell != world.start and not world.goal[cell]]
    walls = {cell: room for cell in free if _way_left(room := cai.tabulate(_walled(cell)).detach())}
    rooms = [*(cai.tabulate(_room(slip=slip)).detach() for slip in slips), *walls.values()]
    nominal = {name: _returns(tables, rows) for name, rows in policies.items()}
    returns: dict[str, list[float]] = {name: [] for name in policies}
    with bar("robustness", len(rooms), shown=progress) as tell:
        for done, room in enumerate(rooms):
            for name, rows in policies.items():
                returns[name].append(_returns(room, rows))
            tell(done + 1, "")
    slipping = {name: tuple(row[: len(slips)]) for name, row in returns.items()}
    walled = {name: tuple(row[len(slips) :]) for name, row in returns.items()}
    return Robustness(nominal, tuple(slips), slipping, tuple(walls), walled)


def _room(**changed: Any) -> Any:
    return cai.load_world("grid", {**ROOM, "slip": NOMINAL, **changed})


def _walled(cell: int) -> Any:
    return _room(walls=[divmod(cell, ROOM["columns"])])


def _way_left(tables: cai.Tables) -> bool:
    """Return whether a policy that knows the wall can still take the prize in time."""
    return float(cai.solve(tables, cai.HARD).value) > 0


def _returns(tables: cai.Tables, policies: Sequence[Tensor]) -> float:
    return _mean([cai.evaluate(tables, log_pi.exp()).expected_return for log_pi in policies])


def _mean(row: Sequence[float]) -> float:
    return sum(row) / len(row)

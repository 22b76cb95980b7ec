"""What the engine was to reach, and whether this run did: ratios within the run, on two cores, and memory."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.run import RUN


@dataclass(frozen=True)
class Target:
    """A target: ``seen`` asks the run, ``bound`` is the most it may be, or the least where ``least`` says so."""

    name: str
    bound: float
    seen: Callable[[], float]
    least: bool = False
    unit: str = "x"

    def __str__(self) -> str:
        """Return the row of the table."""
        asked = f"{'>=' if self.least else '<='} {self.bound:g} {self.unit}"
        try:
            seen = self.seen()
        except KeyError:
            return f"| {self.name} | {asked} | not measured | |"
        met = seen >= self.bound if self.least else seen <= self.bound
        return f"| {self.name} | {asked} | {seen:.3g} {self.unit} | {'met' if met else '**not met**'} |"


def targets() -> list[str]:
    """Return a row for each target; none before anything was measured."""
    return [str(one) for one in TARGETS] if RUN.ours or RUN.whole or RUN.lake or RUN.gradients else []


def _to_limit(rule: str, limit: str, threads: int) -> Callable[[], float]:
    return lambda: RUN.ours[rule, threads]["seconds"] / RUN.limits[f"{limit}, {threads}"]


def _to_peer(rule: str, peer: str, threads: int, of: str = "") -> Callable[[], float]:
    return lambda: RUN.ours[rule, threads]["seconds"] / RUN.peers[of or rule, peer, 1]["seconds"]


def _grown() -> float:
    one, ten = RUN.whole[1000, 20], RUN.whole[3163, 20]
    return float(ten["solve"] / one["solve"])


def _lake(other: str) -> Callable[[], float]:
    return lambda: RUN.lake[other]["seconds"] / RUN.lake["cai"]["seconds"]


def _gradient(case: str) -> Callable[[], float]:
    return lambda: RUN.gradients[case]["cai"]["seconds"] / RUN.gradients[case]["sweep"]["seconds"]


def _size(side: int, horizon: int) -> Callable[[], float]:
    return lambda: RUN.whole[side, horizon]["peak"] / 1e9


SCIPY, QUANTECON = "SciPy CSR, exp space", "QuantEcon, the hard maximum"
TARGETS = [
    *(
        target
        for threads in (1, 2)
        for target in (
            Target(f"POSTERIOR to its limit, {threads} thread(s)", 2.4, _to_limit("POSTERIOR", "merged", threads)),
            Target(
                f"POSTERIOR, {threads} thread(s), to SciPy's in exp space", 1.0, _to_peer("POSTERIOR", SCIPY, threads)
            ),
            Target(f"VARIATIONAL to its limit, {threads} thread(s)", 2.0, _to_limit("VARIATIONAL", "generic", threads)),
            Target(
                f"HARD, {threads} thread(s), to QuantEcon's", 1.0, _to_peer("HARD", QUANTECON, threads, "VARIATIONAL")
            ),
        )
    ),
    Target("10^6 cells, T = 50: a script's peak", 1.2, _size(1000, 50), unit="GB"),
    Target("10^7 cells, T = 20: time to that of 10^6", 12.0, _grown),
    Target("10^7 cells, T = 20: a script's peak", 12.0, _size(3163, 20), unit="GB"),
    Target("FrozenLake: DiscreteHMM to cai", 5.0, _lake("DiscreteHMM"), least=True),
    Target("FrozenLake: TraceEnum_ELBO to cai", 50.0, _lake("TraceEnum_ELBO"), least=True),
    Target("FrozenLake: 64 temperatures to one", 8.0, _lake("cai, 64 temperatures")),
    Target("gradient to sweep, FrozenLake", 3.0, _gradient("FrozenLake 8x8, T = 200")),
    Target("gradient to sweep, 10^5 cells", 3.0, _gradient("100,000 cells, T = 20")),
    Target("gradient to sweep, 10^6 cells", 3.0, _gradient("1,000,000 cells, T = 20")),
]

"""What a run of the engine's benchmarks has found so far, and on what machine."""

import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count, getloadavg
from pathlib import Path
from typing import Any

from tests.benchmarks.by_hand import compiler

Found = dict[str, Any]
"""``seconds`` (the least), ``median``, ``peak`` in bytes, and what else belongs to one measurement."""


@dataclass
class Run:
    """The measurements, filled in by the tests.

    Attributes:
        limits: the least seconds of streaming a format's bytes, by ``"format, threads"``.
        rates: the bytes a second then.
        peers: one backup by (rule, peer, threads).
        ours: one backup by (rule, threads).
        solves: a whole solve by (rule, threads).
        whole: a fresh process that tabulates and solves, by (side, T).
        lake: FrozenLake's ways to the evidence.
        gradients: a case's ways to the gradient, by case.
        absent: why a peer was left out, by (rule, peer).
    """

    limits: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    peers: dict[tuple[str, str, int], Found] = field(default_factory=dict)
    ours: dict[tuple[str, int], Found] = field(default_factory=dict)
    solves: dict[tuple[str, int], Found] = field(default_factory=dict)
    whole: dict[tuple[int, int], Found] = field(default_factory=dict)
    lake: dict[str, Found] = field(default_factory=dict)
    gradients: dict[str, dict[str, Found]] = field(default_factory=dict)
    absent: dict[tuple[str, str], str] = field(default_factory=dict)

    def limit(self, seconds: dict[str, float], rates: dict[str, float]) -> None:
        """Take the limits anew where they were lower this time."""
        for name, found in seconds.items():
            self.limits[name] = min(found, self.limits.get(name, found))
            self.rates[name] = max(rates[name], self.rates.get(name, 0.0))


RUN = Run()


def machine() -> list[str]:
    """Say what this was measured on."""
    packages = ("torch", "numba", "numpy", "scipy", "jax", "quantecon", "pyro-ppl")
    versions = [f"{name} {_version(name)}" for name in packages]
    c = f"C compiler {_compiler_version()}" if compiler() else "no C compiler"
    load = f"load average at the end {getloadavg()[0]:.1f}"
    return [
        f"{_cpu()}, {cpu_count()} cores; {load}.",
        f"Python {platform.python_version()}, {', '.join(versions)}, {c}.",
    ]


def _cpu() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _compiler_version() -> str:
    asked = [shutil.which("gcc") or "cc", "-dumpfullversion", "-dumpversion"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()

"""How a report was made: the command, the versions, the seeds, and the files beside the page."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from cai.approximation.approximation import Approximation
from cai.support.wording import listed
from cai.verification.verification import Verification
from cai.view.reports.sections import Code, Files, Pairs, Part, Request, Section, Title, Words

PACKAGES = {"cai": "control-as-inference", "PyTorch": "torch", "Pyro": "pyro-ppl", "Gymnasium": "gymnasium"}
HOLDS = {
    "comparison.csv": "every number of every policy and temperature, a line each",
    "comparison.json": "the same as JSON, with curves and costliest places of learners",
    "twin.csv": "the same numbers of the twin world",
    "twin.json": "the same of the twin world as JSON",
    "runs.csv": "a line for each run of each learner",
    "claims.json": "the numbers of each experiment, and what was checked",
    "claims.csv": "what was checked of each claim, a line each",
    "verification.json": "every verdict, with the nats from each answer, a number a seed",
    "verification.csv": "the table of the verdicts, a line each",
    "verification.xml": "the verdicts as JUnit XML",
    "beliefs.csv": "the answers under each rule, a line each",
    "beliefs.json": "the same as JSON",
    "graph.json": "the graph in networkx's own form",
    "explanation.json": "what follows from the graph, as JSON",
    "approximations.csv": "what each method knows of log Z and ELBO*, a line each",
    "approximations.json": "the same as JSON, with the effective sample sizes and notes",
    "figures/": "the figures as SVG",
}
"""What the files hold, by name."""


def made(request: Request, files: Sequence[str]) -> Iterator[Section]:
    """Say how the report was made."""
    parts: list[Part] = []
    if request.command:
        parts += [Words("This page was written by"), Code(request.command)]
    else:
        parts.append(Words("This page was written by cai.report in Python."))
    parts.append(Pairs(tuple((name, "", "", text) for name, text in {**_versions(), **_seeds(request)}.items())))
    beside = dict.fromkeys("figures/" if name.startswith("figures/") else name for name in files)
    parts += [Title("The files beside this page"), Files(tuple((name, HOLDS.get(name, "")) for name in beside))]
    yield Section("made", "How this was made", tuple(parts))


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:  # run from its folder, without having been installed
            continue
    return {"Versions": ", ".join(f"{name} {number}" for name, number in found.items())}


def _seeds(request: Request) -> Mapping[str, str]:
    """Name the seeds of each learner, those of several temperatures together."""
    seeds: dict[str, list[int]] = {}
    for name, result in request.results.items():
        runs = {name: [result]} if hasattr(result, "seed") else getattr(result, "runs", {})
        for learner, each in runs.items():
            known = seeds.setdefault(learner, [])
            known += [run.seed for run in each if run.seed not in known]
    if any(isinstance(result, Approximation) for result in request.results.values()):
        return {"Seeds": "those that cai.approximate was given; the same seed gives the same answer"}
    tested = [result for result in request.results.values() if isinstance(result, Verification)]
    if tested:
        return {"Seeds": listed([str(seed) for seed in tested[0].seeds], 12)}
    if not seeds:
        return {"Seeds": "none: nothing here was drawn at random"}
    return {
        "Seeds": "; ".join(
            f"{name}: {listed([str(seed) for seed in sorted(each)], 12)}" for name, each in seeds.items()
        )
    }

"""Approximations on a page: what each method knows of log Z and ELBO*, how large its sample is, and its particles."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from cai.approximation.approximation import Approximation
from cai.approximation.estimate import UNKNOWN, Estimate
from cai.errors import fault
from cai.evaluation.rows import written
from cai.exact.messages import Messages
from cai.exact.rules import POSTERIOR, VARIATIONAL
from cai.support.numbers import brief
from cai.view.particle_figure import labels_of, particles
from cai.view.real_readings import is_real
from cai.view.reports.cells import plain_table
from cai.view.reports.pictures import picture
from cai.view.reports.question import asked
from cai.view.reports.sections import Items, Part, Request, Section, Title, Words
from cai.view.sample_size_figure import effective_sample_size

HEADS = ("method", "α", "log Z, nats", "ELBO*, nats", "least effective sample size")
MOST = 4
"""Coordinates whose particles are drawn."""


def is_approximate(result: Any) -> bool:
    """Return whether a result can be on a page of approximations: one of them, or an exact answer beside them."""
    return isinstance(result, Approximation | Messages)


def approximated(request: Request) -> Iterator[Section]:
    """List what each method knows, with the errors; draw sample sizes and particles; say what a reader must know."""
    found = _approximations(request)
    parts: list[Part] = [Words(request.about)] if request.about else []
    parts.append(Words(READ))
    rows = [(name, *_row(one)) for name, one in _named(request).items()]
    parts.append(plain_table("What each method knows", HEADS, rows, "±: a standard error. Exact answers have none."))
    weighed = {name: one for name, one in found.items() if one.effective_sample_size is not None}
    if weighed:
        caption = "1/Σw² of the weights at each time, logarithmic. At 1 one trajectory has all the weight."
        parts.append(picture("sample-size", "Effective sample size", caption, effective_sample_size, weighed))
    drawn = {name: one for name, one in found.items() if one.trajectories is not None}
    if drawn:
        caption = "Blue: drawn by weight. Dashed: the weighted mean. Grey: drawn without regard to weight."
        exact = any(_exact(request, one) for one in drawn.values())
        caption += " Orange: the exact posterior, with 2 standard deviations around its mean." if exact else ""
        parts.append(picture("particles", "Particles", caption, _particles, request, drawn))
    for name, one in found.items():
        if one.notes:
            parts += [Title(f"Notes of {name}"), Items(tuple(one.notes))]
    parts += [Words(note, "note") for note in request.notes]
    yield Section("approximations", "What is known of the answer", tuple(parts), "Approximations")


READ = (
    "Beside each number is what is known of its error. A bound holds always, or with high probability where it was "
    "sampled. The ELBO of a policy is a lower bound on ELBO*, and that on log Z."
)


def _named(request: Request) -> dict[str, Any]:
    """Return the results by name; one without a name has that of its method or rule, numbered where that is taken."""
    named: dict[str, Any] = {}
    for name, one in request.results.items():
        own = one.method if isinstance(one, Approximation) else f"exact, {one.rule}"
        shown = own if name.isdecimal() else name
        named[shown if shown not in named else f"{shown} {name}"] = one
    return named


def _approximations(request: Request) -> dict[str, Approximation]:
    return {name: one for name, one in _named(request).items() if isinstance(one, Approximation)}


def _row(one: Approximation | Messages) -> tuple[float, str, str, float | None]:
    """Return the temperature, what is known of log Z and of ELBO*, nats, and the least effective sample size."""
    sizes = one.effective_sample_size if isinstance(one, Approximation) else None
    log_z, elbo = _known(one)
    return float(one.temperature), str(log_z), str(elbo), None if sizes is None else float(sizes.min())


def _known(one: Approximation | Messages) -> tuple[Estimate, Estimate]:
    """Return what is known of log Z and of ELBO*, nats; of an exact answer the number of its own rule."""
    if isinstance(one, Approximation):
        return one.log_evidence, one.elbo
    if one.batch_shape:
        raise fault("report, results", f"messages with a batch of shape {tuple(one.batch_shape)}", "one entry of it")
    answer = Estimate(float(one.value) / float(one.temperature))
    return answer if one.rule == POSTERIOR else UNKNOWN, answer if one.rule == VARIATIONAL else UNKNOWN


def _particles(request: Request, drawn: Mapping[str, Approximation]) -> dict[str, Figure]:
    """Draw the first coordinates of each."""
    return {
        f"{name}, {label}": particles(one, label, exact=_exact(request, one), title=f"{name}: {label}")
        for name, one in drawn.items()
        for label in labels_of(one)[:MOST]
    }


def _exact(request: Request, one: Approximation) -> Messages | None:
    """Return the exact posterior over real states at the same temperature, where it is among the results."""
    for other in request.each:
        same = isinstance(other, Messages) and other.rule == POSTERIOR and is_real(other)
        if same and float(other.temperature) == one.temperature:
            found: Messages = other
            return found
    return None


def approximation_question(request: Request) -> Iterator[Section]:
    """Ask what a colder world would do to the smallest sample, or what a lower bound leaves open."""
    found = _approximations(request)
    sizes = {
        name: float(one.effective_sample_size.min())
        for name, one in found.items()
        if one.effective_sample_size is not None
    }
    if sizes:
        name = min(sizes, key=lambda each: sizes[each])
        text = f"The effective sample size of {name} is {brief(sizes[name])}. What would it be at half the temperature?"
        hint = "A weight is exp(Σ r/α): half of α squares all weights. See which few trajectories are left then."
        yield asked(text, "the figure of effective sample sizes", hint)
        return
    name, one = next(iter(found.items()))
    text = f"{name} knows of ELBO*: {one.elbo}. What would you run next to bound it from the other side?"
    hint = 'A relaxation that is proved to lie above: cai.approximate(world, "bounds"), or an exact solution of a part.'
    yield asked(text, "the two bounds", hint)


def approximation_files(request: Request) -> dict[str, str]:
    """Return what each method knows, as CSV and JSON."""
    named = _named(request)
    plain: list[dict[str, Any]] = []
    for name, one in named.items():
        log_z, elbo = _known(one)
        sizes = one.effective_sample_size if isinstance(one, Approximation) else None
        entry = {
            "name": name,
            "temperature": float(one.temperature),
            "log_evidence": log_z.plain(),
            "elbo": elbo.plain(),
        }
        entry["effective_sample_size"] = None if sizes is None else sizes.tolist()
        plain.append({**entry, "notes": list(getattr(one, "notes", ()))})
    lines = [
        (one["name"], one["temperature"], *one["log_evidence"].values(), *one["elbo"].values(), _least(one))
        for one in plain
    ]
    parts = [f"{number}_{part}" for number in ("log_evidence", "elbo") for part in UNKNOWN.plain()]
    return {
        "approximations.csv": written(("name", "temperature", *parts, "least_effective_sample_size"), lines),
        "approximations.json": json.dumps(plain, indent=2) + "\n",
    }


def _least(one: Mapping[str, Any]) -> float | None:
    return None if one["effective_sample_size"] is None else min(one["effective_sample_size"])

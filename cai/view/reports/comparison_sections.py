"""The sections of a comparison: across temperatures, one temperature after the other, and the model."""

from collections.abc import Iterator

import torch

from cai.evaluation.comparison import Comparison
from cai.support.numbers import MINUS, show
from cai.support.wording import listed
from cai.view.episode_samples import samples
from cai.view.reports.cells import number, table_of, words
from cai.view.reports.costliest_places import losses_of
from cai.view.reports.game import soft
from cai.view.reports.pictures import (
    across_pictures,
    at_temperature,
    has_map,
    learning,
    model_pictures,
    nothing,
    over_seeds,
    over_time,
)
from cai.view.reports.policy_parts import best_policy
from cai.view.reports.sections import Cell, Fold, Head, Items, Line, Part, Request, Section, Table, Title, Words
from cai.view.summary import is_best, promise_gap

TYPES = ("computes", "objective", "does")
"""The columns of the types of inference."""


def across(request: Request) -> Iterator[Section]:
    """Show every temperature side by side, where there are two or more; and other horizons."""
    comparisons: list[Comparison] = request.each
    parts: list[Part] = []
    if comparisons[0].model is not None and len(comparisons) > 1:
        parts.append(_ladder_table(comparisons))
    parts += across_pictures(comparisons)
    if parts:
        yield Section("across", "Across temperatures" if len(comparisons) > 1 else "Other horizons", tuple(parts))


def _ladder_table(comparisons: list[Comparison]) -> Table:
    heads = (
        Head("log Z", "nats", "log_evidence"), Head("ELBO*", "nats", "elbo_star"), Head("difference", "nats"),
        Head("the highest ELBO", wordy=True),
    )  # fmt: skip
    note = "The difference is out of every policy's reach: it is luck, or a better start than the world's."
    return Table("log Z and ELBO* at every temperature", "α", heads, tuple(map(_rung, comparisons)), note)


def _rung(comparison: Comparison) -> Line:
    names = [row.name for row in comparison.rows if is_best(row.elbo, [other.elbo for other in comparison.rows])]
    cells: tuple[Cell, ...] = (
        number(comparison.log_evidence, "log_evidence"),
        number(comparison.elbo_star, "elbo_star"),
        number(promise_gap(comparison)),
        words(listed(names)),
    )
    return Line(show(comparison.temperature), cells)


def temperatures(request: Request) -> Iterator[Section]:
    """Yield a section for each temperature, the coldest first; all but that one are folded."""
    for n, comparison in enumerate(request.each):
        at = f"α = {show(comparison.temperature)}"
        title, short = (f"Temperature {at}", at) if soft(comparison) else ("What was learned", "")
        yield Section(
            f"alpha-{comparison.temperature!r}", title, tuple(_parts(comparison, whole=n == 0)), short, folded=n > 0
        )


def _parts(comparison: Comparison, *, whole: bool) -> Iterator[Part]:
    columns = comparison.shown
    types = [column for column in columns if column.field in TYPES]
    if types:
        yield Title("The types of inference")
        yield table_of(f"Types of inference at α = {show(comparison.temperature)}", comparison, types)
    yield Title("All numbers")
    rest = [column for column in columns if column.field not in TYPES]
    if comparison.model is None:  # what was not sampled is not known
        rest = [column for column in rest if any(row.cells.get(column.field) is not None for row in comparison.rows)]
    yield table_of(f"All numbers at α = {show(comparison.temperature)}", comparison, rest, _reading(comparison))
    remarks = tuple(_remarks(comparison))
    if remarks:
        yield Items(remarks)
    yield from learning(comparison)
    yield from at_temperature(comparison)
    if _choices_are_all(comparison):
        yield Title("Samples of each policy")
        yield Words(repr(samples(comparison)), "account")
    if whole:
        yield from best_policy(comparison, mapped=has_map(comparison))
        yield from _over_time(comparison)
    losses = losses_of(comparison)
    if losses:
        yield Title("Where each policy loses most")
        yield from losses


def _choices_are_all(comparison: Comparison) -> bool:
    """Return whether a policy's named actions tell its whole episode: the world leaves nothing to chance."""
    tables = comparison.tables
    if tables is None or tables.horizon is None or tables.layout is not None or not tables.actions.labels:
        return False
    certain = tables.log_prob.shape[-1] == 1 and int((tables.log_initial > -torch.inf).sum()) == 1
    return certain and tables.discount == 1.0


def _over_time(comparison: Comparison) -> Iterator[Part]:
    """Show values and occupancy by state and time: folded where a map has shown them already."""
    timed = tuple(over_time(comparison))
    if timed and has_map(comparison):
        yield Fold("Over time", "values and occupancy, state by state", timed)
    else:
        yield from timed


def _reading(comparison: Comparison) -> str:
    seeds = over_seeds(comparison)
    text = "Shaded: the highest ELBO" + (", and of learners the highest mean" if seeds else "")
    text += ". Where intervals overlap, the seeds do not tell learners apart." if seeds else "."
    return f"{text} – : not known, or not finite."


def _remarks(comparison: Comparison) -> Iterator[str]:
    for text in comparison.remarks:
        yield text.replace(" -inf", f" {MINUS}∞")
    for name, why in comparison.left_out.items():
        yield f"{name} is left out: {why}"
    if comparison.tables is None or not comparison.evaluations:
        return
    if comparison.elbo_star is None:
        yield "No policy nats are drawn: ELBO* is not finite, so there is nothing to measure against."
    elif nothing(comparison, "policy_nats"):
        yield "No policy nats are drawn: they are zero everywhere, since every policy here is a best one."
    if comparison.log_evidence is None:
        yield "No luck nats are drawn: log Z is not finite, so there is nothing to measure against."
    elif nothing(comparison, "luck_nats"):
        yield "No luck nats are drawn: they are zero everywhere, since the posterior counts on no luck."


def model(request: Request) -> Iterator[Section]:
    """Draw the graphical model, and of a world whose variables are kept apart how a backup ties them."""
    parts: list[Part] = list(model_pictures(request.each[0], request.dag))
    if parts:
        yield Section("model", "The graphical model", tuple(parts), "Model")


READING = (
    "Interquartile mean: the mean of the middle half of the seeds. One lucky seed does not lift it, and one lost seed "
    "does not sink it. How many seeds are infinite or unknown is said beside it.",
    "Interval: the seeds are drawn anew 2,000 times; 95 % of the interquartile means fall inside. With few seeds the "
    "interval is too short, since it knows no other seeds.",
    "Worst after best: a curve that touches a good value and falls again has not learned it. Read the end, not the "
    "first hit.",
    "Performance profile: at each score the share of runs above it. A learner whose curve lies above another's "
    "everywhere is better by every standard.",
)


def reading(request: Request) -> Iterator[Section]:
    """Say how numbers over seeds are read, where there are any."""
    if any(map(over_seeds, request.each)):
        yield Section("reading", "How to read numbers over seeds", (Items(READING),), "Seeds")

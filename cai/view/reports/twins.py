"""Twins: two worlds that the prior cannot tell apart have one log Z, and a best policy each."""

from collections.abc import Iterator, Sequence

from cai.evaluation.comparison import Comparison
from cai.support.numbers import show
from cai.view.reports.cells import number
from cai.view.reports.glance import best_return
from cai.view.reports.pictures import twin_maps, twin_promises
from cai.view.reports.sections import Cell, Head, Line, Part, Request, Section, Table, Words
from cai.view.summary import distance, same_for_the_prior


def twins(request: Request) -> Iterator[Section]:
    """Set a world and its twin side by side, at the coldest temperature first."""
    if request.twin is None:
        return
    other, comparisons = request.twin
    pairs = list(zip(request.each, comparisons, strict=True))
    names, coldest = (request.title, other), pairs[0]
    parts: list[Part] = [Words(lesson(names, *coldest), "loud"), Words(why(*coldest))]
    parts += twin_promises(names, pairs)
    parts += [table(names, *coldest), *twin_maps(names, *coldest)]
    yield Section("twins", f"Twins: {names[0]} and {names[1]}", tuple(parts), "Twins")


def lesson(names: Sequence[str], a: Comparison, b: Comparison) -> str:
    """Say what the evidence does not see, in two sentences."""
    z_a, z_b, star_a, star_b = a.log_evidence, b.log_evidence, a.elbo_star, b.elbo_star
    if z_a is None or z_b is None or star_a is None or star_b is None:
        return "One of the exact answers is not finite, so there is nothing to set side by side."
    z, star = distance(z_a, z_b), distance(star_a, star_b)
    at = f"At α = {show(a.temperature)}"
    if z == 0:
        first = f"{at} the posterior promises the same in both worlds: log Z = {show(z_a)} nats."
    else:
        first = f"{at} the promises of the posterior are {show(z)} nats apart."
    if star == 0:
        return f"{first} The best policies reach the same too."
    ends = f"ELBO* = {show(star_a)} nats in {names[0]} and {show(star_b)} nats in {names[1]}"
    return f"{first} The best policy reaches {ends}: {show(star)} nats apart."


def why(a: Comparison, b: Comparison) -> str:
    """Say whether the prior can tell the two worlds apart."""
    same = same_for_the_prior(a, b)
    kernel = "Σ_a p(a|s) p(s′, r | s, a)"
    if same:
        return (
            f"When the prior acts, both worlds move and pay alike: the prior's marginal kernel {kernel} is the same in "
            "both. log Z is an average over the prior's trajectories, so it must be the same. What a policy can reach "
            "need not be: it depends on what each single action does."
        )
    return f"When the prior acts, the worlds differ: its marginal kernel {kernel} is not the same, and so may log Z be."


def table(names: Sequence[str], a: Comparison, b: Comparison) -> Table:
    """Return the exact answers of both worlds, and their differences."""
    heads = (
        Head("log Z", "nats", "log_evidence"),
        Head("ELBO*", "nats", "elbo_star"),
        Head("J*", "reward units", "best_return"),
    )
    each = [(one.log_evidence, one.elbo_star, best_return(one)) for one in (a, b)]
    fields = [head.field for head in heads]

    def cells(values: Sequence[float | None]) -> tuple[Cell, ...]:
        return tuple(number(value, field) for value, field in zip(values, fields, strict=True))

    gaps = [None if x is None or y is None else distance(x, y) for x, y in zip(*each, strict=True)]
    lines = (
        *(Line(name, cells(values)) for name, values in zip(names, each, strict=True)),
        Line("difference", cells(gaps)),
    )
    return Table(f"Both worlds at α = {show(a.temperature)}", "world", heads, lines)

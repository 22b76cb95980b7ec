"""A comparison in sentences, one for each temperature, with computed numbers; and a comparison of twin worlds."""

from collections.abc import Sequence

from cai.compile.prior_kernel import kernel_distance
from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.support.numbers import rounded, show
from cai.support.wording import listed


def summary(comparisons: Sequence[Comparison]) -> list[str]:
    """Return sentences on log Z and ELBO*, one for each temperature, and on the best policy.

    Raises:
        WorldError: there is no comparison, or two share a temperature.
    """
    ordered = coldest_first(comparisons)
    compiled = [comparison for comparison in ordered if comparison.model is not None]
    exact = [f"At α = {show(comparison.temperature)}, {_promise(comparison)}." for comparison in compiled]
    best = _best(ordered)
    return [*exact, *([best] if best else [])]


def coldest_first(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Order comparisons from the coldest to the warmest.

    Raises:
        WorldError: there is none, or two share a temperature.
    """
    if not comparisons:
        raise fault("comparisons", "none", "at least one")
    temperatures = [comparison.temperature for comparison in comparisons]
    if len(set(temperatures)) < len(temperatures):
        raise fault("comparisons", f"temperatures {temperatures}", "each temperature once")
    return sorted(comparisons, key=lambda comparison: comparison.temperature)


def promise_gap(comparison: Comparison) -> float | None:
    """Return log Z - ELBO* >= 0, nats; None where it is not finite."""
    log_z, star = comparison.log_evidence, comparison.elbo_star
    return None if log_z is None or star is None else rounded(log_z - star, log_z)


def _promise(comparison: Comparison) -> str:
    log_z, star, gap = show(comparison.log_evidence), show(comparison.elbo_star), promise_gap(comparison)
    if comparison.log_evidence is None and comparison.elbo_star is None:
        return "neither log Z nor ELBO* is finite: every trajectory has a forbidden reward, or none ends"
    if comparison.log_evidence is None:  # log Z >= ELBO*, so it can only be too large
        return f"ELBO* = {star} nats, but log Z = +∞: a few very long trajectories outweigh the probability of an end"
    if gap is None:
        return f"log Z = {log_z} nats, but ELBO* = −∞: every policy risks a forbidden reward"
    if gap == 0:
        return f"log Z = ELBO* = {star} nats: the posterior assumes no luck"
    start = rounded(comparison.rows[0].start_nats, gap) or 0.0
    luck = rounded(gap - start, comparison.log_evidence) or 0.0
    both = f"{show(start)} of them are for a better start and {show(luck)} for luck"
    why = both if start > 0 and luck > 0 else "they are for a better start" if start > 0 else "they are for luck"
    promised = f"the posterior promises log Z = {log_z} nats, and the best policy reaches ELBO* = {star} nats"
    return f"{promised}. No policy can reach the {show(gap)} nats between them: {why}"


def _best(ordered: Sequence[Comparison]) -> str | None:
    """Name the best row at each temperature, if there is more than one."""
    winners: dict[str, list[str]] = {}
    for comparison in ordered:
        names = [row.name for row in comparison.rows if is_best(row.elbo, [other.elbo for other in comparison.rows])]
        if names and len(comparison.rows) > 1:
            winners.setdefault(listed(names), []).append(f"α = {show(comparison.temperature)}")
    parts = [f"{names} at {listed(where)}" for names, where in winners.items()]
    return f"The highest ELBO of those compared: {'; '.join(parts)}." if parts else None


def is_best(value: float | None, others: Sequence[float | None]) -> bool:
    """Return whether a number is the highest of all that are known, up to rounding; an infinite one never is."""
    known = [other for other in others if other is not None]
    return value is not None and abs(value) < float("inf") and rounded(max(known) - value, max(known)) == 0


def twin_summary(
    name_a: str, comparisons_a: Sequence[Comparison], name_b: str, comparisons_b: Sequence[Comparison]
) -> str:
    """Compare two worlds that may have the same dynamics under the prior, with a line for each temperature.

    The function checks whether the prior's marginal kernel Σ_a p(a|s) p(s', r|s, a) is the same in both. If it is, log
    Z is the same, while ELBO* may differ.

    Raises:
        WorldError: the two sides do not share their temperatures, or a side is empty.
    """
    sides = coldest_first(comparisons_a), coldest_first(comparisons_b)
    alphas = [[comparison.temperature for comparison in side] for side in sides]
    if alphas[0] != alphas[1]:
        raise fault("twin_summary", f"temperatures {alphas[0]} and {alphas[1]}", "the same temperatures on both sides")
    same = same_for_the_prior(sides[0][0], sides[1][0])
    why = "is the same in both, so log Z must be too" if same else "differs, and so may log Z"
    head = f"Twins: {name_a} and {name_b}. The prior's marginal kernel Σ_a p(a|s) p(s′, r | s, a) {why}:"
    return "\n".join([head, *(_twin_line(name_a, a, name_b, b) for a, b in zip(*sides, strict=True))])


def same_for_the_prior(a: Comparison, b: Comparison) -> bool:
    """Return whether two worlds have equal dynamics and rewards under the prior: then log Z is the same at every
    temperature."""
    if a.tables is None or b.tables is None:
        return False
    apart = kernel_distance(a.tables, b.tables)
    return apart is not None and apart <= 1e-9


def _twin_line(name_a: str, a: Comparison, name_b: str, b: Comparison) -> str:
    pairs = (("log Z", a.log_evidence, b.log_evidence), ("ELBO*", a.elbo_star, b.elbo_star))
    words = (f"{what} = {show(x)} ({name_a}) and {show(y)} ({name_b}), {_apart(x, y)}" for what, x, y in pairs)
    return f"α = {show(a.temperature)}: {'; '.join(words)}."


def _apart(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return "equal" if a is b else "infinitely far apart"
    gap = distance(a, b)
    return "equal" if gap == 0 else f"{show(gap)} nats apart"


def distance(a: float, b: float) -> float:
    """Return how far two exact numbers are apart, 0 where that is rounding."""
    return rounded(abs(a - b), max(abs(a), abs(b))) or 0.0

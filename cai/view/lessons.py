"""Lessons in words, every number in them computed: what a comparison teaches, and what a pair of twin worlds does."""

from collections.abc import Sequence

import torch

from cai.comparison.compare import Comparison, Row
from cai.errors import fault
from cai.types import Slice, Tables
from cai.view.words import listed, rounded, show


def lesson(comparisons: Sequence[Comparison]) -> list[str]:
    """Say in words what the numbers teach, a paragraph each: the promise and what can be had, at each temperature, and beyond.

    Raises:
        WorldError: there is no comparison.
    """
    ordered = warm_to_cold(comparisons)
    paragraphs = [_promise(one) for one in ordered]
    paragraphs += [text for one in ordered if (text := _believing(one))]
    paragraphs += [text for text in (_falling(ordered), _paying(ordered), _best(ordered)) if text]
    return paragraphs


def warm_to_cold(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Order comparisons from the warmest to the coldest.

    Raises:
        WorldError: there is none, or two share a temperature.
    """
    if not comparisons:
        raise fault("comparisons", "none", "at least one")
    temperatures = [one.temperature for one in comparisons]
    if len(set(temperatures)) < len(temperatures):
        raise fault("comparisons", f"temperatures {temperatures}", "each temperature once")
    return sorted(comparisons, key=lambda one: -one.temperature)


def promise_gap(one: Comparison) -> float | None:
    """Return log Z - ELBO* >= 0, nats: what the posterior promises beyond the best policy; 0 where it is rounding.

    None where either is -inf.
    """
    if one.log_evidence is None or one.elbo_star is None:
        return None
    return rounded(one.log_evidence - one.elbo_star, one.log_evidence)


def _promise(one: Comparison) -> str:
    alpha, gap = f"At α = {show(one.temperature)}", promise_gap(one)
    if one.log_evidence is None:
        return f"{alpha} the evidence is zero: no trajectory at all avoids what is forbidden, so log Z and ELBO* are −∞."
    promised = f"POSTERIOR promises log Z = {show(one.log_evidence)} nats"
    if gap is None:
        return (
            f"{alpha} {promised}, but ELBO* = −∞: some trajectory avoids what is forbidden, yet every policy that lives "
            "with the true dynamics risks it. The promise is luck through and through."
        )
    if gap == 0:
        return (
            f"{alpha} POSTERIOR and VARIATIONAL coincide: log Z = ELBO* = {show(one.elbo_star)} nats. "
            "Nothing that matters is left to luck, so inference bends only the actions, and every nat promised can be had."
        )
    return f"{alpha} {promised}, but the best policy that lives with the true dynamics reaches ELBO* = {show(one.elbo_star)} nats. {_whose_luck(one, gap)}"


def _whose_luck(one: Comparison, gap: float) -> str:
    """Split the gap: the start's share is the same for every policy, the rest is the dynamics'."""
    start = rounded(one.rows[0].start_nats, gap) or 0.0
    rest = rounded(gap - start, one.log_evidence)
    if start == 0:
        return (
            f"The difference of {show(gap)} nats is luck that no policy can have: "
            "the posterior bends the dynamics as if fortune took sides."
        )
    if rest == 0:
        return (
            f"The difference of {show(gap)} nats is the luck of the start alone: the posterior wishes for another s₀. "
            "Beyond that the two agree, since nothing after the start is left to luck."
        )
    return (
        f"The difference of {show(gap)} nats is luck that no policy can have: {show(start)} nats for the start that the "
        f"posterior wishes for, {show(rest)} nats for dynamics bent as if fortune took sides."
    )


def _believing(one: Comparison) -> str | None:
    """Say what it costs to act on the posterior's word, where a row does so and a row is the optimum."""
    optimum = _named(one, lambda row: rounded(row.optimality_gap, one.elbo_star) == 0)
    believer = _named(one, lambda row: rounded(row.action_nats, one.log_evidence) == 0)
    if not promise_gap(one) or optimum is None or believer is None or believer == optimum:
        return None
    loss = rounded(believer.optimality_gap, one.elbo_star)
    if not loss:
        return None
    return (
        f"Whoever acts on that promise pays for it: at α = {show(one.temperature)} the policy of {believer.name} reaches "
        f"ELBO = {show(believer.elbo)} nats with an expected return of {show(believer.expected_return)} reward units, "
        f"{show(loss)} nats below {optimum.name}, whose expected return is {show(optimum.expected_return)}."
    )


def _falling(ordered: Sequence[Comparison]) -> str | None:
    """Say how the gap changes from the warmest to the coldest temperature."""
    warm, cold = promise_gap(ordered[0]), promise_gap(ordered[-1])
    if len(ordered) < 2 or warm is None or cold is None or (warm == 0 and cold == 0):
        return None
    first, last = ordered[0].temperature, ordered[-1].temperature
    verb = "grows" if cold > warm else "shrinks"
    return (
        f"As α falls from {show(first)} to {show(last)}, the gap log Z − ELBO* {verb} from {show(warm)} to {show(cold)} nats; "
        f"in reward units, α times the gap, it goes from {show(first * warm)} to {show(last * cold)}."
    )


def _paying(ordered: Sequence[Comparison]) -> str | None:
    """Say what the policy with the highest return pays in KL at the warmest temperature, where it is not the best by ELBO."""
    one = ordered[0]
    greedy = max(one.rows, key=lambda row: row.expected_return)
    lost = rounded(greedy.optimality_gap, one.elbo_star)
    if not lost:
        return None
    return (
        f"The highest return is not the highest ELBO: at α = {show(one.temperature)} {greedy.name} earns the most, "
        f"{show(greedy.expected_return)} reward units, but strays {show(greedy.kl_to_prior)} nats from the prior, which leaves it "
        f"{show(lost)} nats below ELBO*. The price of a nat is α: the colder, the less the prior weighs."
    )


def _best(ordered: Sequence[Comparison]) -> str | None:
    """Name the best row at each temperature, where more than one competes."""
    if min(len(one.rows) for one in ordered) < 2:
        return None
    parts = []
    for one in ordered:
        top = max(row.elbo for row in one.rows)
        names = [row.name for row in one.rows if rounded(top - row.elbo, top) == 0]
        parts.append(f"{listed(names)} at α = {show(one.temperature)}")
    return f"Best of those compared, by ELBO: {'; '.join(parts)}."


def _named(one: Comparison, fits: object) -> Row | None:
    return next((row for row in one.rows if fits(row)), None)  # type: ignore[operator]


def twin_lesson(name_a: str, comparisons_a: Sequence[Comparison], name_b: str, comparisons_b: Sequence[Comparison]) -> str:
    """Say how two worlds compare that the prior may not be able to tell apart, a line for each temperature.

    Whether the prior's marginal kernel Σ_a p(a|s) p(s', r|s, a) is the same in both is checked, not assumed; where it is,
    log Z must coincide, whatever the values of VARIATIONAL do.

    Raises:
        WorldError: the two sides do not share their temperatures, or a side is empty.
    """
    sides = warm_to_cold(comparisons_a), warm_to_cold(comparisons_b)
    alphas = [[one.temperature for one in side] for side in sides]
    if alphas[0] != alphas[1]:
        raise fault("twin_lesson", f"temperatures {alphas[0]} and {alphas[1]}", "the same temperatures on both sides")
    apart = kernel_distance(sides[0][0].tables, sides[1][0].tables)
    lines = [_twin_line(name_a, a, name_b, b) for a, b in zip(*sides, strict=True)]
    pairs = list(zip(*sides, strict=True))
    agree = all(_difference(a.log_evidence, b.log_evidence) == 0 for a, b in pairs)
    return "\n".join([_twin_claim(name_a, name_b, apart, agree), *lines, *_twin_moral(pairs, agree)])


def _twin_claim(name_a: str, name_b: str, apart: float | None, agree: bool) -> str:
    head = f"Twins: {name_a} and {name_b}. "
    if apart is not None and apart <= 1e-9:
        return head + (
            "Let the prior act, and nobody can tell the two worlds apart: the prior's marginal kernel Σ_a p(a|s) p(s′, r | s, a) "
            f"is the same in both{' to within ' + show(apart) if apart else ''}. "
            "So the evidence, which is a mean over what the prior does, must be the same too:"
        )
    if agree:
        return head + "The prior's kernels differ, and yet the evidence coincides:"
    return head + "The prior acts differently in the two worlds, so even the evidence tells them apart:"


def _twin_line(name_a: str, a: Comparison, name_b: str, b: Comparison) -> str:
    evidence, best = _difference(a.log_evidence, b.log_evidence), _difference(a.elbo_star, b.elbo_star)
    raw = abs((a.log_evidence or 0.0) - (b.log_evidence or 0.0))
    same = f"equal to within {show(raw)}" if raw else "equal"
    log_z = f"log Z = {show(a.log_evidence)} ({name_a}) and {show(b.log_evidence)} ({name_b}), "
    log_z += same if evidence == 0 else f"{_apart(evidence)} apart"
    elbo = f"ELBO* = {show(a.elbo_star)} and {show(b.elbo_star)}, "
    elbo += "equal" if best == 0 else f"{_apart(best)} apart"
    return f"α = {show(a.temperature)}: {log_z}; {elbo}."


def _twin_moral(pairs: Sequence[tuple[Comparison, Comparison]], agree: bool) -> list[str]:
    gaps = [_difference(a.elbo_star, b.elbo_star) for a, b in pairs]
    if not agree or not any(gap != 0 for gap in gaps):
        return []
    return [
        "The posterior asks which lucky trajectories are worth explaining, and cannot say whether the agent chose or the world was "
        "kind. VARIATIONAL holds the dynamics fixed and asks what an agent can do: that is where the two worlds part."
    ]


def _apart(nats: float | None) -> str:
    return "infinitely far" if nats is None else f"{show(nats)} nats"


def _difference(a: float | None, b: float | None) -> float | None:
    """Return |a - b|, 0 where it is rounding or both are -inf, None where one alone is -inf."""
    if a is None or b is None:
        return 0.0 if a is b else None
    return rounded(abs(a - b), max(abs(a), abs(b)))


def kernel_distance(a: Tables, b: Tables) -> float | None:
    """Return the largest difference between the prior's kernels Σ_a p(a|s) p(s', r|s, a) of two worlds, over s, s', r and t.

    None where the worlds differ in the number of states or in their horizon, so that there is nothing to set side by side.
    """
    if a.states.size != b.states.size or a.horizon != b.horizon:
        return None
    times = range(a.horizon or 1) if a.timed or b.timed else range(1)
    return max((_slice_distance(a.at(t), b.at(t), a.states.size) for t in times), default=0.0)


def _slice_distance(a: Slice, b: Slice, S: int) -> float:
    keys, weights = [], []
    for one, sign in ((a, 1.0), (b, -1.0)):
        weight = (one.log_prior.unsqueeze(-1) + one.log_prob).exp()
        origin = torch.arange(S).reshape(-1, 1, 1).expand(weight.shape)
        kept = weight > 0
        keys.append(torch.stack([origin[kept].double(), one.successor[kept].double(), one.reward[kept].double()], -1))
        weights.append(sign * weight[kept].double())
    unique, where = torch.unique(torch.cat(keys), dim=0, return_inverse=True)
    total = torch.zeros(len(unique), dtype=torch.float64).index_add(0, where, torch.cat(weights))
    return float(total.abs().max())

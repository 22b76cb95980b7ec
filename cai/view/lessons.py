"""Lessons in words, every number in them computed: what a comparison teaches, and what a pair of twin worlds does."""

from collections.abc import Sequence

import torch

from cai.compile.table_model import Slice, Tables
from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.row import Row
from cai.view.words import listed, rounded, show


def lesson(comparisons: Sequence[Comparison]) -> list[str]:
    """Say in words what the numbers teach, a paragraph each: what is promised and what can be had, and what follows.

    Raises:
        WorldError: there is no comparison.
    """
    ordered = warm_to_cold(comparisons)
    paragraphs = [_promise(one) for one in ordered]
    further = (_falling(ordered), _believing(ordered), _paying(ordered), _best(ordered))
    paragraphs += [text for text in further if text]
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

    None where either is not finite.
    """
    if one.log_evidence is None or one.elbo_star is None:
        return None
    return rounded(one.log_evidence - one.elbo_star, one.log_evidence)


def _promise(one: Comparison) -> str:
    alpha, gap = f"At α = {show(one.temperature)}", promise_gap(one)
    if one.log_evidence is None:
        return f"{alpha} {_without_evidence(one)}"
    promised = f"POSTERIOR promises log Z = {show(one.log_evidence)} nats"
    if gap is None:
        return (
            f"{alpha} {promised}, but ELBO* = −∞: some trajectory avoids what is forbidden, yet every policy that "
            "lives with the true dynamics risks it. The promise is luck through and through."
        )
    if gap == 0:
        return (
            f"{alpha} POSTERIOR and VARIATIONAL coincide: log Z = ELBO* = {show(one.elbo_star)} nats. "
            "Nothing that matters is left to luck: inference bends only the actions, and every nat promised can be had."
        )
    best = f"but the best policy that lives with the true dynamics reaches ELBO* = {show(one.elbo_star)} nats"
    return f"{alpha} {promised}, {best}. {_whose_luck(one, gap)}"


def _without_evidence(one: Comparison) -> str:
    if one.elbo_star is not None:  # log Z >= ELBO*, so it can only be too large
        return (
            f"ELBO* = {show(one.elbo_star)} nats, but log Z = +∞: a few very long lives outweigh the chance of an end, "
            "and the mean over lifetimes that the posterior takes does not exist."
        )
    if one.tables.horizon is None:
        return "neither log Z nor ELBO* is finite."
    return "the evidence is zero: no trajectory avoids what is forbidden, so log Z = ELBO* = −∞."


def _whose_luck(one: Comparison, gap: float) -> str:
    """Split the gap: the start's share is the same for every policy, the rest is the dynamics'."""
    start = rounded(one.rows[0].start_nats, gap) or 0.0
    rest = rounded(gap - start, one.log_evidence)
    if start == 0:
        return (
            f"The difference of {show(gap)} nats is out of reach of every policy: "
            "the posterior bends the dynamics as if fortune took sides."
        )
    if rest == 0:
        return (
            f"The difference of {show(gap)} nats is the luck of the start alone: the posterior wishes for another s₀. "
            "Beyond that the two agree, since nothing after the start is left to luck."
        )
    return (
        f"The difference of {show(gap)} nats is out of reach of every policy: {show(start)} nats for the start that "
        f"the posterior wishes for, {show(rest)} nats for dynamics bent as if fortune took sides."
    )


def _believing(ordered: Sequence[Comparison]) -> str | None:
    """Say what it costs to act on the posterior's word, at the temperature where it costs most."""
    found = [(believer.optimality_gap, one, believer) for one in ordered if (believer := _believer(one)) is not None]
    if not found:
        return None
    loss, one, believer = max(found, key=lambda each: each[0] or 0.0)
    text = (
        f"Whoever acts on that promise pays for it, most at α = {show(one.temperature)}: there the policy of "
        f"{believer.name} reaches ELBO = {show(believer.elbo)} nats, {show(loss)} below ELBO*, with an expected "
        f"return of {show(believer.expected_return)} reward units"
    )
    optimum = next((row for row in one.rows if rounded(row.optimality_gap, one.elbo_star) == 0), None)
    return text + ("." if optimum is None else f"; {optimum.name} earns {show(optimum.expected_return)}.")


def _believer(one: Comparison) -> Row | None:
    """Return the row that acts as the posterior does and loses by it, if there is one."""
    for row in one.rows:
        if row.action_nats is not None and rounded(row.action_nats, one.log_evidence) == 0:
            return row if rounded(row.optimality_gap, one.elbo_star) else None
    return None


def _falling(ordered: Sequence[Comparison]) -> str | None:
    """Say how the gap changes from the warmest to the coldest temperature."""
    warm, cold = promise_gap(ordered[0]), promise_gap(ordered[-1])
    if len(ordered) < 2 or warm is None or cold is None or (warm == 0 and cold == 0):
        return None
    first, last = ordered[0].temperature, ordered[-1].temperature
    verb = "grows" if cold > warm else "shrinks"
    return (
        f"As α falls from {show(first)} to {show(last)}, the gap log Z − ELBO* {verb} from {show(warm)} to "
        f"{show(cold)} nats; in reward units, α times that, it goes from {show(first * warm)} to {show(last * cold)}."
    )


def _paying(ordered: Sequence[Comparison]) -> str | None:
    """Say what the highest return costs in KL at the warmest temperature, where it is not the best by ELBO."""
    one = ordered[0]
    greedy = max(one.rows, key=lambda row: row.expected_return)
    lost = rounded(greedy.optimality_gap, one.elbo_star)
    if not lost:
        return None
    return (
        f"The highest return is not the highest ELBO: at α = {show(one.temperature)} {greedy.name} earns the most, "
        f"{show(greedy.expected_return)} reward units, but strays {show(greedy.kl_to_prior)} nats from the prior, "
        f"which leaves it {show(lost)} nats below ELBO*. A nat costs α: the colder, the less the prior weighs."
    )


def _best(ordered: Sequence[Comparison]) -> str | None:
    """Name the best row at each temperature, where more than one competes."""
    if min(len(one.rows) for one in ordered) < 2:
        return None
    winners: dict[str, list[str]] = {}
    for one in ordered:
        top = max(row.elbo for row in one.rows)
        if top == float("-inf"):
            continue
        names = [row.name for row in one.rows if rounded(top - row.elbo, top) == 0]
        winners.setdefault(listed(names), []).append(f"α = {show(one.temperature)}")
    parts = [f"{names} at {listed(where)}" for names, where in winners.items()]
    return f"Best of those compared, by ELBO: {'; '.join(parts)}." if parts else None


def twin_lesson(
    name_a: str, comparisons_a: Sequence[Comparison], name_b: str, comparisons_b: Sequence[Comparison]
) -> str:
    """Say how two worlds compare that the prior may not be able to tell apart, a line for each temperature.

    Whether the prior's marginal kernel Σ_a p(a|s) p(s', r|s, a) is the same in both is checked, not assumed; where it
    is, log Z must coincide, whatever the values of VARIATIONAL do.

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
            "Let the prior act, and nobody can tell the two worlds apart: the prior's marginal kernel "
            f"Σ_a p(a|s) p(s′, r | s, a) is the same in both{' to within ' + show(apart) if apart else ''}. "
            "So the evidence, which is a mean over what the prior does, must be the same too:"
        )
    if agree:
        return head + "The prior's kernels differ, and yet the evidence coincides:"
    return head + "The prior acts differently in the two worlds, so even the evidence tells them apart:"


def _twin_line(name_a: str, a: Comparison, name_b: str, b: Comparison) -> str:
    evidence, best = _difference(a.log_evidence, b.log_evidence), _difference(a.elbo_star, b.elbo_star)
    raw = abs((a.log_evidence or 0.0) - (b.log_evidence or 0.0))
    same = f"equal to within {show(raw)} nats" if raw else "equal"
    log_z = f"log Z = {_nats(a.log_evidence)} ({name_a}) and {_nats(b.log_evidence)} ({name_b}), "
    log_z += same if evidence == 0 else f"{_apart(evidence)} apart"
    elbo = f"ELBO* = {_nats(a.elbo_star)} and {_nats(b.elbo_star)}, "
    elbo += "equal" if best == 0 else f"{_apart(best)} apart"
    return f"α = {show(a.temperature)}: {log_z}; {elbo}."


def _twin_moral(pairs: Sequence[tuple[Comparison, Comparison]], agree: bool) -> list[str]:
    gaps = [_difference(a.elbo_star, b.elbo_star) for a, b in pairs]
    if not agree or not any(gap != 0 for gap in gaps):
        return []
    return [
        "The posterior asks which lucky trajectories are worth explaining, and cannot say whether the agent chose or "
        "the world was kind. VARIATIONAL holds the dynamics fixed and asks what an agent can do: that is where the two "
        "worlds part."
    ]


def _nats(value: float | None) -> str:
    return "not finite" if value is None else show(value)


def _apart(nats: float | None) -> str:
    return "infinitely far" if nats is None else f"{show(nats)} nats"


def _difference(a: float | None, b: float | None) -> float | None:
    """Return |a - b|, 0 where it is rounding or neither is finite, None where one alone is not finite."""
    if a is None or b is None:
        return 0.0 if a is b else None
    return rounded(abs(a - b), max(abs(a), abs(b)))


def kernel_distance(a: Tables, b: Tables) -> float | None:
    """Return the largest difference between two worlds as the prior lives them; 0: no evidence can tell them apart.

    Compared are p(s_0), Σ_a p(a|s) p(s', r|s, a) over s, s', r and t, and the terminal reward. None where the worlds
    differ in the number of states, the horizon or the discount, so that there is nothing to set side by side.
    """
    if (a.states.size, a.horizon, a.discount) != (b.states.size, b.horizon, b.discount):
        return None
    times = range(a.horizon or 1) if a.timed or b.timed else range(1)
    slices = max((_slice_distance(a.at(t), b.at(t), a.states.size) for t in times), default=0.0)
    terminal = torch.where(a.terminal == b.terminal, 0.0, (a.terminal - b.terminal).abs()).max()
    return max(slices, float((a.log_initial.exp() - b.log_initial.exp()).abs().max()), float(terminal))


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

"""The oracle: every number in 50 digits, from plain lists. It shares no code with the library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpmath import inf, mp, mpf

from tests.fuzz.cases import Case

mp.dps = 50
Pairs = list[tuple[Any, Any]]
Mean = Callable[[Pairs], Any]
"""A mean of (weight, x)."""


def soft(eta: Any) -> Mean:
    """η log Σ w exp(x/η)."""

    def mean(pairs: Pairs) -> Any:
        pairs = [(w, x) for w, x in pairs if w > 0]
        if eta < 0 and any(x == -inf for _, x in pairs):
            return -inf
        pairs = [(w, x) for w, x in pairs if x > -inf]
        if not pairs:
            return -inf
        top = (max if eta > 0 else min)(x for _, x in pairs)
        return top + eta * mp.log(mp.fsum(w * mp.exp((x - top) / eta) for w, x in pairs))

    return mean


def expect(pairs: Pairs) -> Any:
    """Σ w x."""
    pairs = [(w, x) for w, x in pairs if w > 0]
    return -inf if any(x == -inf for _, x in pairs) else mp.fsum(w * x for w, x in pairs)


def best(pairs: Pairs) -> Any:
    """Max x."""
    return max((x for w, x in pairs if w > 0), default=-inf)


def worst(pairs: Pairs) -> Any:
    """Min x."""
    return min(x for w, x in pairs if w > 0)


def viterbi(alpha: Any) -> Mean:
    """Max α log w + x."""
    return lambda pairs: max((alpha * mp.log(w) + x for w, x in pairs if w > 0), default=-inf)


def hurwicz(optimism: Any) -> Mean:
    """(1 - optimism) Σ w x + optimism max x."""

    def mean(pairs: Pairs) -> Any:
        average = expect(pairs)
        return -inf if average == -inf else (1 - optimism) * average + optimism * best(pairs)

    return mean


@dataclass(frozen=True)
class Exact:
    """The numbers of a case: normalised probabilities, conditions put in."""

    start: list[Any]
    prior: Callable[[int, int], list[Any]]
    outcomes: Callable[[int, int, int], list[tuple[Any, int, Any]]]
    last: list[Any]
    barred: Callable[[int, int], bool]


def normal(row: Sequence[Any]) -> list[Any]:
    """Divide by the sum, which differs from one by rounding."""
    total = mp.fsum(mpf(p) for p in row)
    return [mpf(p) / total for p in row]


def read(case: Case, observe: dict[tuple[str, int], int], do: dict[tuple[str, int], int]) -> Exact:
    """Put the conditions on state and action of a case into its numbers."""
    rows: dict[tuple[int, ...], Any] = {}

    def prior(t: int, s: int) -> list[Any]:
        if ("a", t) in do:
            return [mpf(a == do["a", t]) for a in range(case.A)]
        row = normal(case.at(t).prior[s])
        return [p * (a == observe.get(("a", t), a)) for a, p in enumerate(row)]

    def outcomes(t: int, s: int, a: int) -> list[tuple[Any, int, Any]]:
        if (t, s, a) not in rows:
            listed = case.at(t).outcomes[s][a]
            chances = normal([p for p, *_ in listed])
            to = do.get(("s", t + 1))
            rows[t, s, a] = [
                (p, successor if to is None else to, mpf(r))
                for p, (_, successor, r) in zip(chances, listed, strict=True)
            ]
        return rows[t, s, a]

    start = normal(case.start)
    if ("s", 0) in do:
        start = [mpf(s == do["s", 0]) for s in range(case.S)]

    def barred(t: int, s: int) -> bool:
        return observe.get(("s", t), s) != s

    return Exact(start, prior, outcomes, [mpf(r) for r in case.last], barred)


@dataclass(frozen=True)
class Sweep:
    """``v[t][s]``, ``q[t][s][a]`` and the start value; for the infinite horizon one t."""

    v: list[list[Any]]
    q: list[list[list[Any]]]
    value: Any


class NoAnswer(Exception):  # noqa: N818 - no error, an answer
    """The fixed point was not found."""


def backup(case: Case, exact: Exact, over: Mean, across: Mean, t: int, v_next: list[Any]) -> tuple[list[Any], Any]:
    """Compute v and q of one time by the equation."""
    gamma = mpf(case.discount)
    c = [over([(gamma, v), (1 - gamma, mpf(0))]) for v in v_next]
    q = [
        [over([(p, r + c[s_next]) for p, s_next, r in exact.outcomes(t, s, a)]) for a in range(case.A)]
        for s in range(case.S)
    ]
    v = [-inf if exact.barred(t, s) else across(list(zip(exact.prior(t, s), q[s], strict=True))) for s in range(case.S)]
    return v, q


def sweep(case: Case, exact: Exact, over: Mean, across: Mean) -> Sweep:
    """Sweep backward, or to the fixed point from the value 0 of an ended life."""
    if case.horizon is None:
        return settled(case, exact, over, across)
    v = [[-inf if exact.barred(case.horizon, s) else r for s, r in enumerate(exact.last)]]
    q: list[Any] = []
    for t in reversed(range(case.horizon)):
        row, values = backup(case, exact, over, across, t, v[0])
        v, q = [row, *v], [values, *q]
    return Sweep(v, q, over(list(zip(exact.start, v[0], strict=True))))


def settled(case: Case, exact: Exact, over: Mean, across: Mean, most: int = 1500) -> Sweep:
    """Back up until nothing changes in the first 25 digits."""
    v = [mpf(0)] * case.S
    for _ in range(most):
        row, q = backup(case, exact, over, across, 0, v)
        change = max((abs(x - y) for x, y in zip(row, v, strict=True) if x != y), default=mpf(0))
        if change <= mpf(10) ** -25 * max(abs(x) for x in row if x > -inf) if any(x > -inf for x in row) else True:
            return Sweep([row], [q], over(list(zip(exact.start, row, strict=True))))
        v = row
    raise NoAnswer


def soft_policy(case: Case, exact: Exact, found: Sweep, alpha: Any) -> list[list[list[Any]]]:
    """π_t(a|s) = p(a|s) exp((q - v)/α); the prior where nothing is possible."""

    def row(t: int, s: int) -> list[Any]:
        prior, v = exact.prior(t, s), found.v[t][s]
        if v == -inf:
            return prior
        return [
            p * mp.exp((q - v) / alpha) if p > 0 and q > -inf else mpf(0)
            for p, q in zip(prior, found.q[t][s], strict=True)
        ]

    return [[row(t, s) for s in range(case.S)] for t in range(len(found.q))]


def tilted(case: Case, exact: Exact, found: Sweep, alpha: Any) -> list[list[list[Any]]]:
    """p(s_t, a_t, alive | O) under POSTERIOR, by the forward pass through the tilted dynamics."""
    policy, gamma = soft_policy(case, exact, found, alpha), mpf(case.discount)
    mu = [
        p * mp.exp((v - found.value) / alpha) if v > -inf else mpf(0)
        for p, v in zip(exact.start, found.v[0], strict=True)
    ]
    joints = []
    for t in range(len(found.q)):
        joint = [[mu[s] * pi for pi in policy[t][s]] for s in range(case.S)]
        joints.append(joint)
        mu = [mpf(0)] * case.S
        for s in range(case.S):
            for a in range(case.A):
                if joint[s][a] > 0:
                    for p, s_next, r in exact.outcomes(t, s, a):
                        v = found.v[t + 1][s_next]
                        if p > 0 and r > -inf and v > -inf:
                            mu[s_next] += joint[s][a] * gamma * p * mp.exp((r + v - found.q[t][s][a]) / alpha)
    return joints


@dataclass(frozen=True)
class Account:
    """What a policy gets: reward units, then nats."""

    expected_return: Any
    entropy: Any
    kl: Any
    policy_nats: Any
    start_nats: Any
    action_nats: Any
    luck_nats: Any
    regret: Any


def visits(case: Case, exact: Exact, policy: list[list[list[float]]]) -> list[list[Any]]:
    """p(s_t, alive) under a policy, ``[T+1][S]``; for the infinite horizon the expected visits, one row."""
    gamma = mpf(case.discount)

    def flow(t: int, mu: list[Any]) -> list[Any]:
        ahead = [mpf(0)] * case.S
        for s in range(case.S):
            for a in range(case.A):
                for p, s_next, _ in exact.outcomes(t, s, a):
                    ahead[s_next] += gamma * mu[s] * mpf(policy[t][s][a]) * p
        return ahead

    if case.horizon is None:
        columns = [flow(0, [mpf(s == one) for s in range(case.S)]) for one in range(case.S)]
        matrix = mp.matrix(case.S, case.S)
        for i in range(case.S):
            for j in range(case.S):
                matrix[i, j] = mpf(i == j) - columns[j][i]
        return [list(mp.lu_solve(matrix, mp.matrix(exact.start)))]
    rows = [exact.start]
    for t in range(case.horizon):
        rows.append(flow(t, rows[-1]))
    return rows


def times(weight: Any, x: Any) -> Any:
    """Weight times x, where nothing counts for nothing."""
    return mpf(0) if weight == 0 else weight * x


def log_ratio(p: Any, q: Any) -> Any:
    """Log p/q of p > 0."""
    return inf if q == 0 else mp.log(p / q)


def account(
    case: Case, exact: Exact, policy: list[list[list[float]]], answers: dict[str, Sweep], alpha: Any
) -> Account:
    """Count return and nats of a policy along its visits; nobody acts, and nothing counts, where it has ended."""
    variational, posterior, hard = answers["VARIATIONAL"], answers["POSTERIOR"], answers["HARD"]
    best_policy, wished = (soft_policy(case, exact, found, alpha) for found in (variational, posterior))
    reached = visits(case, exact, policy)
    totals = dict.fromkeys(
        ("expected_return", "entropy", "kl", "policy_nats", "action_nats", "luck_nats", "regret"), mpf(0)
    )
    for t in range(case.horizon or 1):
        for s in set(range(case.S)) - case.ended:
            for a in range(case.A):
                pi = mpf(policy[t][s][a])
                weight = reached[t][s] * pi
                if weight == 0:
                    continue
                totals["entropy"] -= weight * mp.log(pi)
                totals["kl"] += times(weight, log_ratio(pi, exact.prior(t, s)[a]))
                totals["policy_nats"] += times(weight, log_ratio(pi, best_policy[t][s][a]))
                totals["action_nats"] += times(weight, log_ratio(pi, wished[t][s][a]))
                totals["luck_nats"] += times(weight, luck(case, exact, posterior, alpha, t, s, a))
                totals["regret"] += times(weight, regret(hard.v[t][s], hard.q[t][s][a]))
                totals["expected_return"] += times(weight, expect([(p, r) for p, _, r in exact.outcomes(t, s, a)]))
    if case.horizon is not None:
        totals["expected_return"] += mp.fsum(times(mu, r) for mu, r in zip(reached[-1], exact.last, strict=True))
    start = mp.fsum(
        times(p, mpf(inf) if v == -inf else (posterior.value - v) / alpha)
        for p, v in zip(exact.start, posterior.v[0], strict=True)
    )
    return Account(start_nats=start, **totals)


def regret(v: Any, q: Any) -> Any:
    """v* - q*; nothing where all is lost already."""
    return mpf(0) if v == -inf else v - q


def luck(case: Case, exact: Exact, found: Sweep, alpha: Any, t: int, s: int, a: int) -> Any:
    """KL(p(outcome, survival | s, a) ‖ the same given O), nats."""
    gamma, q, total = mpf(case.discount), found.q[t][s][a], mpf(0)
    v_next = found.v[0] if case.horizon is None else found.v[t + 1]
    if q == -inf:
        return mpf(0)  # given an impossible event nothing is tilted
    for p, s_next, r in exact.outcomes(t, s, a):
        for chance, v in ((gamma, v_next[s_next]), (1 - gamma, mpf(0))):
            if p * chance > 0:
                total += p * chance * (inf if r + v == -inf else (q - r - v) / alpha)
    return total

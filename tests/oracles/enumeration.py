"""The first oracle: every trajectory of a random world, one by one, in plain Python; shares no code with cai."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from tests.worlds import RandomWorld

NEVER = -math.inf


@dataclass(frozen=True)
class Path:
    """One trajectory: log p(τ) with the prior's actions, log p(τ) without them, the rewards, the visits."""

    log_p: float
    log_dynamics: float
    rewards: float
    visits: tuple[tuple[int, int, int], ...]  # (s, a, k) while alive
    start: int
    end: int | None  # s_T, or None where it died on the way


def log(x: float) -> float:
    return math.log(x) if x > 0 else NEVER


def logsumexp(values: list[float]) -> float:
    top = max(values, default=NEVER)
    return top if top == NEVER else top + math.log(sum(math.exp(v - top) for v in values))


def paths(world: RandomWorld) -> list[Path]:
    """Enumerate every trajectory of positive probability, deaths included."""
    assert world.horizon is not None
    found: list[Path] = []
    for s, p in enumerate(world.start.tolist()):
        if p > 0:
            found += _extend(world, s, 0, log(p), log(p), 0.0, (), s)
    return found


def _extend(world, s, t, log_p, log_d, r, visits, start) -> Iterator[Path]:
    if t == world.horizon:
        yield Path(log_p, log_d, r + float(world.last[s]), visits, start, s)
        return
    i = world.time(t)
    for a in range(world.A):
        for k in range(world.K):
            prior, outcome = float(world.prior[i, s, a]), float(world.outcome[i, s, a, k])
            if prior == 0 or outcome == 0:
                continue
            total = r + float(world.reward[i, s, a, k])
            step, d_step = log(prior) + log(outcome), log(outcome)
            seen = (*visits, (s, a, k))
            if world.discount < 1:
                end = log(1 - world.discount)
                yield Path(log_p + step + end, log_d + d_step + end, total, seen, start, None)
            live = log(world.discount)
            following = int(world.successor[i, s, a, k])
            yield from _extend(world, following, t + 1, log_p + step + live, log_d + d_step + live, total, seen, start)


def log_evidence(world: RandomWorld, alpha: float) -> float:
    return logsumexp([path.log_p + path.rewards / alpha for path in paths(world)])


def posterior(world: RandomWorld, alpha: float) -> list[tuple[float, Path]]:
    """Give each trajectory its posterior probability."""
    log_z = log_evidence(world, alpha)
    return [(math.exp(path.log_p + path.rewards / alpha - log_z), path) for path in paths(world)]


def marginal(world: RandomWorld, alpha: float, t: int) -> list[list[list[float]]]:
    """p(s_t, a_t, k_t, alive | O)."""
    table = [[[0.0] * world.K for _ in range(world.A)] for _ in range(world.S)]
    for weight, path in posterior(world, alpha):
        if t < len(path.visits):
            s, a, k = path.visits[t]
            table[s][a][k] += weight
    return table


def best(world: RandomWorld, alpha: float) -> float:
    """The score of the most probable trajectory, α log p + Σ r."""
    return max(alpha * path.log_p + path.rewards for path in paths(world))


def marginal_map(world: RandomWorld, alpha: float) -> dict[tuple[int, ...], float]:
    """log p(a_{0:T-1}, O) of every action sequence: its paths, summed; -inf where none is possible."""
    groups: dict[tuple[int, ...], list[float]] = {}
    for path in paths(world):
        actions = tuple(a for _, a, _ in path.visits)
        groups.setdefault(actions, []).append(path.log_p + path.rewards / alpha)
    return {actions: logsumexp(scores) for actions, scores in groups.items()}


def planning(world: RandomWorld, alpha: float) -> float:
    """log max Σ p(τ) exp(Σ r/α) over the paths of a deterministic policy, every such policy tried."""
    found = [(path.log_p + path.rewards / alpha, path.visits) for path in paths(world)]
    scores = []
    for choice in itertools.product(range(world.A), repeat=world.horizon * world.S):
        kept = [x for x, visits in found if all(choice[t * world.S + s] == a for t, (s, a, _) in enumerate(visits))]
        scores.append(logsumexp(kept))
    return max(scores)


def elbo(world: RandomWorld, policy: list, alpha: float) -> float:
    """ELBO(π) = Σ_τ p̂(τ) [Σ r/α + log p(τ) - log p̂(τ)], over every trajectory; ``policy[t][s][a]``."""
    total = 0.0
    for path in paths(world):
        log_q = path.log_dynamics + sum(log(policy[t][s][a]) for t, (s, a, _) in enumerate(path.visits))
        if log_q > NEVER:
            total += math.exp(log_q) * (path.rewards / alpha + path.log_p - log_q)
    return total


def soft(pairs: list[tuple[float, float]], eta: float) -> float:
    """η log Σ w exp(x/η) over (w, x) with w > 0."""
    pairs = [(w, x) for w, x in pairs if w > 0]
    if eta < 0 and any(x == NEVER for _, x in pairs):
        return NEVER
    return eta * logsumexp([log(w) + x / eta for w, x in pairs])


def mean(pairs: list[tuple[float, float]]) -> float:
    return sum(w * x for w, x in pairs if w > 0)


def value(world: RandomWorld, rule: str, alpha: float, eta: float = 0.0) -> float:
    """The start value by recursion over the tree of histories, for VARIATIONAL, HARD, RISK and PLANNING."""
    eta = alpha if rule == "PLANNING" else eta
    over = (lambda pairs: soft(pairs, eta)) if rule in {"RISK", "PLANNING"} else mean
    survival = [world.discount, 1 - world.discount]

    def state_value(s: int, t: int) -> float:
        if t == world.horizon:
            return float(world.last[s])
        i, entries = world.time(t), []
        for a in range(world.A):
            outcomes = []
            for k in range(world.K):
                following = state_value(int(world.successor[i, s, a, k]), t + 1)
                going_on = over([(survival[0], following), (survival[1], 0.0)])
                outcomes.append((float(world.outcome[i, s, a, k]), float(world.reward[i, s, a, k]) + going_on))
            entries.append((float(world.prior[i, s, a]), over(outcomes)))
        if rule == "HARD":
            return max(x for w, x in entries if w > 0)
        if rule == "PLANNING":
            return max(alpha * log(w) + x for w, x in entries if w > 0)
        return soft(entries, alpha)

    return over([(p, state_value(s, 0)) for s, p in enumerate(world.start.tolist())])

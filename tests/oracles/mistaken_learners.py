"""Learners on a probe that make a mistake, their updates taken in expectation; and all episodes of a probe.

They are written with loops, dicts and the mathematics module, apart from ``cai.verification``'s own backups.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, log

from cai.verification.probe import Probe

Key = tuple[str, int]
Row = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """A step as a learner stores it, and its probability given state and action."""

    p: float
    reward: float
    after: Key
    terminated: bool
    truncated: bool


class Learner:
    """A tabular learner whose update is taken in expectation over outcomes; a mistake is another method."""

    def __init__(self, probe: Probe, soft: bool) -> None:
        self.probe, self.soft, self.alpha, self.gamma = probe, soft, probe.temperature, probe.discount

    # what a mistake changes
    def prior(self, state: str) -> Row:
        return dict(self.probe.prior_of(state))

    def reward(self, reward: float) -> float:
        return reward

    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        return self.reward(sample.reward) + self.gamma * (0.0 if sample.terminated else v(sample.after))

    def mean(self, weighted: list[tuple[float, float]]) -> float:
        return sum(p * x for p, x in weighted)

    def value(self, state: str, q: Row) -> float:
        if not self.soft:
            return max(q[a] for a, p in self.prior(state).items() if p > 0)
        return self.alpha * log(sum(p * exp(q[a] / self.alpha) for a, p in self.prior(state).items()))

    def policy(self, state: str, q: Row) -> Row:
        if not self.soft:
            return greedy({a: q[a] for a, p in self.prior(state).items() if p > 0}, self.prior(state))
        weights = {a: p * exp((q[a] - max(q.values())) / self.alpha) for a, p in self.prior(state).items()}
        return {a: w / sum(weights.values()) for a, w in weights.items()}

    # what all do
    def samples(self, key: Key, action: str) -> list[Sample]:
        state, t = key
        last = self.probe.horizon is not None and t + 1 == self.probe.horizon
        return [
            Sample(p, r, (after, t + (self.probe.horizon is not None)), over or last, self.probe.cut == 1)
            for p, after, r, over in self.probe.rows[state][action]
        ]

    def keys(self) -> list[Key]:
        return [(state, t) for t in range(self.probe.horizon or 1) for state in self.probe.rows]

    def learn(self) -> dict[Key, Row]:
        q = {key: dict.fromkeys(self.probe.actions, 0.0) for key in self.keys()}

        def v(key: Key) -> float:
            return self.value(key[0], q[key]) if key in q else 0.0  # a state after the last step is never updated

        for _ in range(100 if self.probe.cut else 12):  # no episode of the others is longer
            q = {
                key: {a: self.mean([(k.p, self.target(k, v)) for k in self.samples(key, a)]) for a in row}
                for key, row in q.items()
            }
        return q

    def learned(self) -> dict[Key, Row]:
        return {key: self.policy(key[0], row) for key, row in self.learn().items()}


def greedy(q: Row, prior: Row) -> Row:
    """The best action; those that are tied share as the prior does."""
    tied = [a for a, x in q.items() if x > max(q.values()) - 1e-9]
    return {a: prior[a] / sum(prior[b] for b in tied) for a in tied}


def log_mean_exp(weighted: list[tuple[float, float]], eta: float) -> float:
    return eta * log(sum(p * exp(x / eta) for p, x in weighted))


class TruncationEnds(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        done = sample.terminated or sample.truncated
        return sample.reward + self.gamma * (0.0 if done else v(sample.after))


class TerminationGoesOn(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        return sample.reward + self.gamma * v(sample.after)


class StaleTarget(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        return sample.reward


class LastRewardLost(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        return 0.0 if sample.terminated or sample.truncated else super().target(sample, v)


class NoDiscount(Learner):
    def __init__(self, probe: Probe, soft: bool) -> None:
        super().__init__(probe, soft)
        self.gamma = 1.0


class DiscountTwice(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        return sample.reward + self.gamma * (0.0 if sample.terminated else self.gamma * v(sample.after))


class RewardDiscounted(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        return self.gamma * (sample.reward + (0.0 if sample.terminated else v(sample.after)))


class RewardClipped(Learner):
    def reward(self, reward: float) -> float:
        return min(max(reward, -1.0), 1.0)


class MasksIgnored(Learner):
    def prior(self, state: str) -> Row:
        prior = {a: self.probe.prior_of(state).get(a, 0.0) for a in self.probe.actions}
        return dict.fromkeys(prior, 1 / len(prior)) if min(prior.values()) == 0 else prior


class PriorIgnored(Learner):
    def prior(self, state: str) -> Row:
        allowed = [a for a, p in self.probe.prior_of(state).items() if p > 0]
        return dict.fromkeys(allowed, 1 / len(allowed))


class PlainEntropy(Learner):
    def prior(self, state: str) -> Row:
        return {a: 1.0 for a, p in self.probe.prior_of(state).items() if p > 0}


class Optimistic(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        future = 0.0 if sample.terminated else v(sample.after)
        return sample.reward + log_mean_exp([(self.gamma, future), (1 - self.gamma, 0.0)], self.alpha)

    def mean(self, weighted: list[tuple[float, float]]) -> float:
        return log_mean_exp(weighted, self.alpha)


class Cautious(Learner):
    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        future = 0.0 if sample.terminated else v(sample.after)
        return sample.reward + log_mean_exp([(self.gamma, future), (1 - self.gamma, 0.0)], -self.alpha)

    def mean(self, weighted: list[tuple[float, float]]) -> float:
        return log_mean_exp(weighted, -self.alpha)


class BestOutcome(Learner):
    def mean(self, weighted: list[tuple[float, float]]) -> float:
        return max(x for p, x in weighted if p > 0)


class NoEntropy(Learner):
    def __init__(self, probe: Probe, soft: bool) -> None:
        super().__init__(probe, soft=False)


class EntropyAdded(Learner):
    def __init__(self, probe: Probe, soft: bool) -> None:
        super().__init__(probe, soft=True)


def at_temperature(factor: float) -> type[Learner]:
    class AtAnother(Learner):
        def __init__(self, probe: Probe, soft: bool) -> None:
            super().__init__(probe, soft)
            self.alpha = factor * probe.temperature

    return AtAnother


def counting_entropy(weight: float) -> type[Learner]:
    class Counting(Learner):
        def value(self, state: str, q: Row) -> float:
            pi, prior = self.policy(state, q), self.prior(state)
            bonus = {a: -self.alpha * log(p / prior[a]) if self.soft and p > 0 else 0.0 for a, p in pi.items()}
            return sum(p * (q[a] + weight * bonus[a]) for a, p in pi.items())

    return Counting


class EntropyNegative(Learner):
    def score(self, state: str, q: Row) -> Row:
        scale = self.alpha if self.soft else 0.0
        return {a: q[a] - scale * log(p) for a, p in self.prior(state).items() if p > 0}

    def value(self, state: str, q: Row) -> float:
        return max(self.score(state, q).values())

    def policy(self, state: str, q: Row) -> Row:
        return greedy(self.score(state, q), self.prior(state))


class BestAction(Learner):
    def value(self, state: str, q: Row) -> float:
        return max(q[a] for a, p in self.prior(state).items() if p > 0)


class ValuesOfThePrior(Learner):
    def value(self, state: str, q: Row) -> float:
        return sum(p * q[a] for a, p in self.prior(state).items())


class MostProbable(Learner):
    """MAP: the score of a choice and of an outcome is α log p more."""

    def target(self, sample: Sample, v: Callable[[Key], float]) -> float:
        future = 0.0 if sample.terminated else v(sample.after)
        return sample.reward + self.mean([(self.gamma, future), (1 - self.gamma, 0.0)])

    def mean(self, weighted: list[tuple[float, float]]) -> float:
        return max(self.alpha * log(p) + x for p, x in weighted if p > 0)

    def score(self, state: str, q: Row) -> Row:
        return {a: q[a] + self.alpha * log(p) for a, p in self.prior(state).items() if p > 0}

    def value(self, state: str, q: Row) -> float:
        return max(self.score(state, q).values())

    def policy(self, state: str, q: Row) -> Row:
        return greedy(self.score(state, q), self.prior(state))


class Planning(MostProbable):
    def mean(self, weighted: list[tuple[float, float]]) -> float:
        return log_mean_exp(weighted, self.alpha)


LEARNERS: dict[str, type[Learner]] = {
    "truncation ends": TruncationEnds,
    "termination goes on": TerminationGoesOn,
    "stale target": StaleTarget,
    "last reward lost": LastRewardLost,
    "no discount": NoDiscount,
    "discount twice": DiscountTwice,
    "reward discounted": RewardDiscounted,
    "reward clipped": RewardClipped,
    "reward averaged": Learner,
    "masks ignored": MasksIgnored,
    "prior ignored": PriorIgnored,
    "prior not normalised": PlainEntropy,
    "optimistic": Optimistic,
    "cautious": Cautious,
    "luck averaged": Learner,
    "best outcome": BestOutcome,
    "temperature x 2": at_temperature(2.0),
    "temperature / 2": at_temperature(0.5),
    "temperature x 10": at_temperature(10.0),
    "temperature / 10": at_temperature(0.1),
    "no entropy": NoEntropy,
    "entropy added": EntropyAdded,
    "later entropy missing": counting_entropy(0.0),
    "later entropy negative": counting_entropy(-1.0),
    "later entropy twice": counting_entropy(2.0),
    "entropy negative": EntropyNegative,
    "best action": BestAction,
    "values of the prior": ValuesOfThePrior,
    "most probable": MostProbable,
    "planning": Planning,
}


@dataclass(frozen=True)
class Path:
    """An episode: its probability, and its steps (state, action, reward) in order."""

    p: float
    steps: tuple[tuple[Key, str, float], ...]
    after: Key


def paths(probe: Probe, policy: Callable[[Key], Row]) -> Iterator[Path]:
    """Every episode of the environment, with its probability under a policy."""
    todo = [Path(p, (), (state, 0)) for state, p in probe.start.items()]
    learner = Learner(probe, soft=True)
    while todo:
        path = todo.pop()
        for action, pi in policy(path.after).items():
            for k in learner.samples(path.after, action):
                longer = Path(path.p * pi * k.p, (*path.steps, (path.after, action, k.reward)), k.after)
                if longer.p > 0:
                    (yield longer) if k.terminated or k.truncated else todo.append(longer)

"""Every mistake's fixed point against a learner that makes it, written with loops, dicts and the mathematics module."""

from collections import defaultdict
from math import log

import pytest
import torch

import cai
from cai.verification.mistakes import MISTAKES
from cai.verification.probe import Probe
from cai.verification.probes import PROBES
from cai.verification.task import task_of
from tests.oracles.mistaken_learners import LEARNERS, Key, Learner, Optimistic, Row, Sample, paths

BY_PATHS = {"next state for state", "advantages normalised", "values without time", "policy without time"}


def test_every_mistake_has_an_oracle() -> None:
    assert {*LEARNERS, *BY_PATHS} == set(MISTAKES)


def found(name: str, probe: Probe, rule: cai.Rule) -> dict[Key, Row] | None:
    """The exact answer of a mistake, by state, time and action."""
    exact = MISTAKES[name].answer(task_of(probe, rule))
    if exact is None:
        return None
    states, actions = probe.states, probe.actions
    return {
        (states[s], t): dict(zip(actions, row, strict=True))
        for t, rows in enumerate(exact.log_pi.exp().tolist())
        for s, row in enumerate(rows)
    }


def agree(one: dict[Key, Row], other: dict[Key, Row]) -> None:
    for key, row in one.items():
        if key[0] != "end":
            for a, p in row.items():
                assert p == pytest.approx(other[key].get(a, 0.0), abs=1e-10), (key, a)


EVERYWHERE = {cai.VARIATIONAL: ("truncation", "termination", "masks", "time"), cai.HARD: ("clipping", "time")}
"""Probes with a cut, a chance of the end, a mask, luck and a horizon."""


@pytest.mark.parametrize("name", LEARNERS)
def test_an_answer_is_what_the_mistaken_learner_learns(name: str) -> None:
    made, determined = [probe.name for probe in PROBES.values() if probe.catches == name], 0
    for rule, others in EVERYWHERE.items():
        for which in dict.fromkeys([*made, *others]):
            answers = found(name, PROBES[which], rule)
            if answers is not None:
                determined += 1
                agree(answers, LEARNERS[name](PROBES[which], soft=rule is cai.VARIATIONAL).learned())
    assert determined >= 5  # an endless world has no value without a discount, and that is all


def test_where_rewards_are_averaged_an_optimist_knows_only_their_mean() -> None:
    class Averaging(Optimistic):
        def samples(self, key: Key, action: str) -> list[Sample]:
            seen = super().samples(key, action)
            mean = sum(k.p * k.reward for k in seen)
            return [Sample(k.p, mean, k.after, k.terminated, k.truncated) for k in seen]

    probe = PROBES["noisy-reward"]
    answers = found("reward averaged", probe, cai.POSTERIOR)
    assert answers is not None
    agree(answers, Averaging(probe, soft=True).learned())
    averaged = found("luck averaged", probe, cai.POSTERIOR)
    assert averaged is not None
    agree(averaged, Learner(probe, soft=True).learned())


@pytest.mark.parametrize("name", ["small-stakes", "clipping", "own-policy", "discount", "time"])
def test_normalised_advantages_are_those_of_all_episodes(name: str) -> None:
    probe = PROBES[name]
    pi = found("advantages normalised", probe, cai.VARIATIONAL)
    assert pi is not None
    returns: dict[Key, list[tuple[float, str, float]]] = defaultdict(list)
    for path in paths(probe, lambda key: pi[key]):
        for i, (key, action, _) in enumerate(path.steps):
            paid = sum(probe.discount**j * r for j, (_, _, r) in enumerate(path.steps[i:]))
            returns[key].append((path.p, action, paid))
    weight = {key: sum(p for p, _, _ in rows) for key, rows in returns.items()}
    v = {key: sum(p * g for p, _, g in rows) / weight[key] for key, rows in returns.items()}
    square = sum(p * (g - v[key]) ** 2 for key, rows in returns.items() for p, _, g in rows)
    sigma = (square / sum(weight.values())) ** 0.5
    for key, rows in returns.items():
        scores = {}
        for action, p in pi[key].items():
            if p > 1e-9:  # where the advantages leave no spread the policy is deterministic
                mean = sum(w * g for w, a, g in rows if a == action) / sum(w for w, a, _ in rows if a == action)
                scores[action] = log(p / probe.prior_of(key[0])[action]) - mean / (probe.temperature * (sigma + 1e-8))
        assert max(scores.values()) - min(scores.values()) < 1e-5


@pytest.mark.parametrize("name", ["time", "deadline"])
def test_values_without_time_are_learned_from_all_times(name: str) -> None:
    probe = PROBES[name]
    pi = found("values without time", probe, cai.VARIATIONAL)
    assert pi is not None
    assert probe.horizon is not None
    visits: dict[tuple[str, int], float] = defaultdict(float)
    for path in paths(probe, lambda key: pi[key]):
        for (state, t), _, _ in path.steps:
            visits[state, t] += path.p
    learner, q = Learner(probe, soft=True), {state: dict.fromkeys(probe.actions, 0.0) for state in probe.rows}
    for _ in range(300):  # every step of every episode is a sample, and none shows the time
        v = {state: learner.value(state, row) for state, row in q.items()}
        for state, row in q.items():
            seen = [(t, visits[state, t]) for t in range(probe.horizon)]
            for action in row:
                row[action] = sum(
                    w * k.p * (k.reward + (0.0 if k.terminated else v[k.after[0]]))
                    for t, w in seen
                    for k in learner.samples((state, t), action)
                ) / sum(w for _, w in seen)
    for state, row in q.items():
        for action, p in learner.policy(state, row).items():
            assert pi[state, 0][action] == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("name", ["time", "deadline"])
def test_no_policy_without_time_has_a_steeper_elbo(name: str) -> None:
    probe = PROBES[name]
    pi = found("policy without time", probe, cai.VARIATIONAL)
    assert pi is not None
    states, actions = probe.states, probe.actions
    logits = torch.tensor(
        [[log(pi[s, 0][a]) for a in actions] for s in states], dtype=torch.float64, requires_grad=True
    )
    log_pi, elbo = logits.log_softmax(-1), torch.zeros((), dtype=torch.float64)
    for path in paths(probe, lambda key: dict.fromkeys(actions, 1.0)):  # p of the path is that of its luck
        taken = [(states.index(key[0]), actions.index(a), probe.prior_of(key[0])[a], r) for key, a, r in path.steps]
        log_p = torch.stack([log_pi[s, a] for s, a, _, _ in taken])
        score = sum(r for *_, r in taken) / probe.temperature + sum(log(prior) for _, _, prior, _ in taken)
        elbo = elbo + path.p * log_p.sum().exp() * (score - log_p.sum())
    (gradient,) = torch.autograd.grad(elbo, logits)
    assert gradient.abs().max() < 1e-9


DETERMINED = ("first-reward", "transition", "masks", "luck", "surprise", "prior")
"""Where every state has one predecessor, all of whose actions lead to it, and a discount where there are several."""


@pytest.mark.parametrize("name", DETERMINED)
@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD], ids=str)
def test_what_is_stored_with_the_next_state_is_learned_there(name: str, rule: cai.Rule) -> None:
    probe = PROBES[name]
    pi = found("next state for state", probe, rule)
    assert pi is not None
    learner = Learner(probe, soft=rule is cai.VARIATIONAL)
    uniform = dict.fromkeys(probe.actions, 0.0)
    q: dict[Key, Row] = {(state, 0): dict(uniform) for state in probe.states}
    episodes = list(paths(probe, lambda key: dict(probe.prior_of(key[0]))))
    for _ in range(100):
        stored: dict[tuple[Key, str], list[tuple[float, float]]] = defaultdict(list)
        for path in episodes:
            states = [key for key, _, _ in path.steps] + [path.after]
            for (_, action, reward), after in zip(path.steps, states[1:], strict=True):
                v = 0.0 if after == path.after else learner.value(after[0], q[after])
                stored[after, action].append((path.p, reward + probe.discount * v))
        for (after, action), seen in stored.items():
            q[after][action] = sum(p * x for p, x in seen) / sum(p for p, _ in seen)
    for key in {key for path in episodes for key, _, _ in path.steps}:
        for action, p in learner.policy(key[0], q[key]).items():
            assert pi[key][action] == pytest.approx(p, abs=1e-9)


def test_where_visits_decide_the_next_state_determines_nothing() -> None:
    for name in ("truncation", "target", "time", "termination"):
        assert found("next state for state", PROBES[name], cai.VARIATIONAL) is None

"""The probes: right answers by exact messages, mistakes told from what is right, environments as the rows."""

from itertools import combinations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from torch import Tensor

import cai
from cai.verification.answer import Answer, answer, right
from cai.verification.mistakes import MISTAKES
from cai.verification.probe import Probe
from cai.verification.probe_environment import ProbeEnvironment
from cai.verification.probe_world import world_of
from cai.verification.probes import PROBES
from cai.verification.task import Task, task_of
from cai.verification.visits import path_kl

RULES = {rule.name: rule for rule in (cai.VARIATIONAL, cai.HARD, cai.POSTERIOR)}
every_probe = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES.keys())


def right_answer(task: Task) -> Answer:
    return answer(task, right(task))


def apart(task: Task, one: Answer, other: Answer) -> float:
    """Nats an episode of one policy from another, which is read with a tremble of 1 %."""
    n = one.log_pi.shape[-1]
    read = (0.99 * other.log_pi.exp() + 0.01 / n).log()
    same = (0.99 * one.log_pi.exp() + 0.01 / n).log()
    return path_kl(task, one.log_pi, read) - path_kl(task, one.log_pi, same)


def acted_in(task: Task) -> Tensor:
    """The states that are no end."""
    return ~(task.over.all(-1).all(-1) & (task.r == 0).all(-1).all(-1))


CHECKED = [(probe, rule) for probe in PROBES.values() for rule in RULES.values() if rule is cai.VARIATIONAL]
CHECKED += [
    (PROBES[name], rule) for name in ("truncation", "noisy-reward", "time") for rule in (cai.HARD, cai.POSTERIOR)
]


@pytest.mark.parametrize(("probe", "rule"), CHECKED, ids=[f"{probe.name}-{rule}" for probe, rule in CHECKED])
def test_the_right_answer_is_that_of_the_exact_messages(probe: Probe, rule: cai.Rule) -> None:
    task = task_of(probe, rule)
    found = right_answer(task)
    messages = cai.solve(world_of(probe), rule=rule, temperature=probe.temperature)
    S, here = len(probe.states), acted_in(task)
    for t in range(probe.horizon or 1):
        assert (messages.q(t)[:S] - found.q[t])[here].abs().max() < 1e-10
        ours, theirs = found.log_pi[t].exp()[here], messages.policy.probs(t)[:S][here]
        assert (ours - theirs).abs().max() < 1e-10


@every_probe
def test_a_probe_catches_its_mistake(probe: Probe) -> None:
    for name in probe.rules:
        task = task_of(probe, RULES[name])
        wrong = MISTAKES[probe.catches].answer(task)
        assert wrong is not None
        assert apart(task, wrong, right_answer(task)) > 0.1


SAME = {"reward averaged", "luck averaged", "entropy added"}
"""Mistakes that are none under VARIATIONAL: it averages over rewards and luck, and has entropy."""


def test_some_probe_tells_any_two_mistakes_apart() -> None:
    tasks = [task_of(probe, cai.VARIATIONAL) for probe in PROBES.values()]
    answers = {"right": [right_answer(task) for task in tasks]}
    answers |= {name: [one.answer(task) for task in tasks] for name, one in MISTAKES.items() if name not in SAME}
    for one, other in combinations(answers, 2):
        nats = [
            max(apart(task, a, b), apart(task, b, a))
            for task, a, b in zip(tasks, answers[one], answers[other], strict=True)
            if a is not None and b is not None
        ]
        assert max(nats) > 0.05, f"{one} and {other}"


@every_probe
def test_the_environment_draws_from_the_rows(probe: Probe) -> None:
    check_env(gymnasium.make(probe.id).unwrapped)
    env = ProbeEnvironment(probe)
    assert np.allclose(env.action_prior.sum(-1), 1)
    env.reset(seed=0)
    for s, row in env.P.items():
        for a, outcomes in row.items():
            assert sum(p for p, *_ in outcomes) == pytest.approx(1)
            n = 1 if len(outcomes) == 1 else 400
            counts = np.zeros(len(outcomes))
            for _ in range(n):
                env.s, env.t, env.over = s, 0, False
                seen, reward, terminated, _, _ = env.step(a)
                state = seen if probe.horizon is None else seen[0]
                last = probe.horizon == 1
                counts += [(state, reward, terminated) == (after, r, over or last) for _, after, r, over in outcomes]
            p = np.array([p for p, *_ in outcomes])
            assert (np.abs(counts / n - p) <= 4 * np.sqrt(p * (1 - p) / n)).all()

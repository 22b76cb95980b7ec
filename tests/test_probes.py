"""The probes: right answers by exact messages, mistakes told from what is right, environments as the rows."""

import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import permutations, product
from math import exp, log
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

import cai
from cai.verification.answer import Answer, answer, right
from cai.verification.distances import path_kl
from cai.verification.hypotheses import RIGHT, hypotheses
from cai.verification.mistakes import MISTAKES
from cai.verification.probe import Probe
from cai.verification.probe_environment import ProbeEnvironment
from cai.verification.probe_world import world_of
from cai.verification.probes import PROBES
from cai.verification.task import Task, task_of
from tests.oracles.mistaken_learners import Key, paths

RULES = {rule.name: rule for rule in (cai.VARIATIONAL, cai.HARD, cai.POSTERIOR)}
every_probe = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES.keys())


def right_answer(task: Task) -> Answer:
    return answer(task, right(task))


def apart(task: Task, one: Answer, other: Answer) -> float:
    """Nats an episode of one policy from another."""
    log_pi = one.log_pi.expand(task.horizon or 1, -1, -1)
    return float(path_kl(task, log_pi, other.log_pi.expand_as(log_pi)))


def acted_in(probe: Probe) -> Tensor:
    """The states that are no end."""
    return torch.tensor([state != "end" for state in probe.states])


CHECKED = [(PROBES[name], rule) for name in ("truncation", "noisy-reward", "time") for rule in RULES.values()]
CHECKED += [(PROBES[name], cai.VARIATIONAL) for name in ("prior", "discount")]


@pytest.mark.parametrize(("probe", "rule"), CHECKED, ids=[f"{probe.name}-{rule}" for probe, rule in CHECKED])
def test_the_right_answer_is_that_of_the_exact_messages(probe: Probe, rule: cai.Rule) -> None:
    task = task_of(probe, rule)
    found = right_answer(task)
    messages = cai.solve(world_of(probe), rule=rule, temperature=probe.temperature)
    S, here = len(probe.states), acted_in(probe)
    for t in range(probe.horizon or 1):
        assert (messages.q(t)[:S] - found.q[t])[here].abs().max() < 1e-10
        ours, theirs = found.log_pi[t].exp()[here], messages.policy.probs(t)[:S][here]
        assert (ours - theirs).abs().max() < 1e-10


LEARNED = [probe for probe in PROBES.values() if probe.cut is None]
"""The probes whose episodes end by themselves: all of them can be written down."""


def tabled(probe: Probe, found: Answer) -> dict[Key, dict[str, float]]:
    """A policy by state, time and action."""
    return {
        (state, t): dict(zip(probe.actions, rows[s], strict=True))
        for t, rows in enumerate(found.log_pi.exp().tolist())
        for s, state in enumerate(probe.states)
    }


@pytest.mark.parametrize("probe", LEARNED, ids=[probe.name for probe in LEARNED])
def test_of_all_episodes_the_right_policy_has_the_best_elbo(probe: Probe) -> None:
    task = task_of(probe, cai.VARIATIONAL)
    found = right_answer(task)
    logits = found.log_pi.clone().requires_grad_()
    log_pi, elbo = logits.log_softmax(-1), torch.zeros((), dtype=torch.float64)
    for path in paths(probe, lambda key: dict.fromkeys(probe.rows[key[0]], 1.0)):  # its p is that of luck
        places = [(t, probe.states.index(state), probe.actions.index(a)) for (state, t), a, _ in path.steps]
        priors = [probe.prior_of(state).get(a, 0.0) for (state, _), a, _ in path.steps]
        if min(priors) > 0:
            taken = torch.stack([log_pi[place] for place in places])
            score = sum(
                probe.discount**i * (path.steps[i][2] / probe.temperature + log(priors[i]) - taken[i])
                for i in range(len(places))
            )
            elbo = elbo + path.p * taken.sum().exp() * score
    v = right(task).value(found.q[0])
    assert float(elbo.detach()) == pytest.approx(float(task.start @ v) / probe.temperature, abs=1e-10)
    (gradient,) = torch.autograd.grad(elbo, logits)
    assert gradient.abs().max() < 1e-10


@pytest.mark.parametrize("probe", LEARNED, ids=[probe.name for probe in LEARNED])
def test_of_all_episodes_the_posterior_keeps_the_share_that_it_should(probe: Probe) -> None:
    """p(a|s, O = 1) is the weight of the episodes that take a in s among those through s; a discount ends some."""
    policy = tabled(probe, right_answer(task_of(probe, cai.POSTERIOR)))
    weight: dict[Key, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for path in paths(probe, lambda key: dict(probe.prior_of(key[0]))):
        n = len(path.steps)
        for last in range(n):
            lives = probe.discount**last * (1 if last == n - 1 else 1 - probe.discount)
            w = path.p * lives * exp(sum(r for _, _, r in path.steps[: last + 1]) / probe.temperature)
            for key, action, _ in path.steps[: last + 1]:
                weight[key][action] += w
    for key, row in weight.items():
        for action, w in row.items():
            assert policy[key][action] == pytest.approx(w / sum(row.values()), abs=1e-10)


HARD_PROBES = [probe for probe in LEARNED if "HARD" in probe.rules]


@pytest.mark.parametrize("probe", HARD_PROBES, ids=[probe.name for probe in HARD_PROBES])
def test_of_all_deterministic_policies_the_right_one_is_the_best(probe: Probe) -> None:
    def value(policy: Callable[[Key], dict[str, float]]) -> float:
        return sum(
            path.p * sum(probe.discount**i * r for i, (_, _, r) in enumerate(path.steps))
            for path in paths(probe, policy)
        )

    chosen = tabled(probe, right_answer(task_of(probe, cai.HARD)))
    keys = [key for key in chosen if key[0] != "end"]
    allowed = [[a for a, p in probe.prior_of(state).items() if p > 0] for state, _ in keys]
    values = []
    for actions in product(*allowed):
        policy = {key: {action: 1.0} for key, action in zip(keys, actions, strict=True)}
        values.append(value(policy.__getitem__))
    best = value(lambda key: {action: p for action, p in chosen[key].items() if p > 0})
    assert best == pytest.approx(max(values), abs=1e-10)
    others = [v for v in values if v < best - 1e-9]
    assert best - max(others) > 0.01


@every_probe
def test_a_learner_of_returns_has_one_answer(probe: Probe) -> None:
    task = task_of(probe, cai.HARD)
    if "HARD" in probe.rules:
        assert (right_answer(task).log_pi.exp().amax(-1)[:, acted_in(probe)] == 1).all()


@every_probe
def test_a_probe_catches_its_mistake(probe: Probe) -> None:
    for name in probe.rules:
        task = task_of(probe, RULES[name])
        wrong = MISTAKES[probe.catches].answer(task)
        assert wrong is not None
        assert apart(task, wrong, right_answer(task)) > 0.15
        assert apart(task, right_answer(task), wrong) > 0.15


@every_probe
def test_where_the_prior_is_not_asked_for_entropy_may_be_relative_to_it_or_not(probe: Probe) -> None:
    if "prior" not in probe.needs and "VARIATIONAL" in probe.rules:
        task = task_of(probe, cai.VARIATIONAL)
        plain = MISTAKES["prior not normalised"].answer(task)
        assert plain is None or apart(task, plain, right_answer(task)) < 1e-9


SAME = {"reward averaged", "luck averaged", "entropy added"}
"""Mistakes that are none under VARIATIONAL: it averages over rewards and luck, and has entropy."""


def test_what_is_no_mistake_for_one_rule_is_one_for_another() -> None:
    optimist, greedy = task_of(PROBES["noisy-reward"], cai.POSTERIOR), task_of(PROBES["luck"], cai.HARD)
    for name, task in (("reward averaged", optimist), ("luck averaged", optimist), ("entropy added", greedy)):
        wrong = MISTAKES[name].answer(task)
        assert wrong is not None
        assert apart(task, right_answer(task), wrong) > 0.1


@pytest.mark.slow  # some 900 fixed points
def test_some_probe_tells_any_two_mistakes_apart() -> None:
    names = [RIGHT, *(name for name in MISTAKES if name not in SAME)]
    most = dict.fromkeys(permutations(names, 2), 0.0)
    for probe in PROBES.values():
        known = hypotheses(probe, cai.VARIATIONAL)
        for one, exact in known.answers.items():
            for other, nats in known.distances(exact.log_pi.expand(probe.horizon or 1, -1, -1)).items():
                if (one, other) in most:
                    most[one, other] = max(most[one, other], float(nats))
    for pair, nats in most.items():
        assert nats > 0.05, pair


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


def test_an_id_is_all_that_a_learner_needs() -> None:
    env = gymnasium.make("cai.verification.probe_environment:cai/truncation-v0", hard=True)
    _, _ = env.reset(seed=0)
    _, _, terminated, truncated, _ = env.step(1)
    inner = env.unwrapped
    assert (terminated, truncated) == (False, True)
    assert (inner.probe.name, inner.temperature, inner.discount) == ("truncation", None, 0.7)
    assert gymnasium.make("cai/masks-v0").unwrapped.temperature == 0.5
    masks = ProbeEnvironment("masks")
    masks.reset(seed=0)
    assert masks.action_masks().tolist() == [True, True, False]


def test_an_import_of_the_environments_is_light() -> None:
    code = (
        "import sys; import cai.verification.probe_environment; "
        "assert not {'torch', 'pyro', 'stable_baselines3', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_horizon_shows_the_time_and_terminates() -> None:
    env = ProbeEnvironment("time")
    seen, _ = env.reset(seed=0)
    times, over = [int(seen[1])], False
    while not over:
        seen, _, over, truncated, _ = env.step(0)
        assert not truncated
        times.append(int(seen[1]))
    assert times == [0, 1, 2, 3]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


def test_a_step_that_terminates_shows_the_state_that_the_row_names() -> None:
    env, seen = ProbeEnvironment("termination"), set()
    rich = env.probe.states.index("rich")
    for seed in range(20):
        env.reset(seed=seed)
        state, _, terminated, _, _ = env.step(1)
        assert state == rich
        seen.add(terminated)
    assert seen == {False, True}


def test_an_action_that_is_none_is_refused() -> None:
    env = ProbeEnvironment("masks")
    env.reset(seed=0)
    with pytest.raises(cai.WorldError, match=r"cai/masks-v0, step in state 'here'.*action 3.*one of \[0, 1, 2\]"):
        env.step(3)


@pytest.mark.parametrize("name", ["target", "masks", "time"])
def test_the_world_of_a_probe_is_a_vectorised_simulator(name: str) -> None:
    probe, n = PROBES[name], 4_000
    envs = cai.to_gymnasium(world_of(probe), num_envs=n)
    policy = right_answer(task_of(probe, cai.VARIATIONAL)).log_pi.exp()
    rng, paid = np.random.default_rng(0), np.zeros(n)
    seen, _ = envs.reset(seed=0)
    going = np.ones(n, bool)
    for t in range(probe.horizon or len(probe.states)):
        rows = policy[min(t, len(policy) - 1)][torch.as_tensor(seen).clamp(max=len(probe.states) - 1)].numpy()
        actions = (rows.cumsum(-1) < rng.random((n, 1))).sum(-1)
        seen, reward, terminated, truncated, _ = envs.step(actions)
        paid += np.where(going, reward, 0.0)
        going &= ~(terminated | truncated)
    exact = cai.evaluate(world_of(probe), policy if probe.horizon else policy[0], temperature=probe.temperature)
    assert abs(paid.mean() - exact.expected_return) < 4 * paid.std() / n**0.5


PLAIN: dict[str, Any] = {
    "name": "mine",
    "catches": "optimistic",
    "words": "",
    "rows": {"here": {"left": [(1.0, "there", 0.0, True)]}, "there": {"left": [(1.0, "there", 0.0, True)]}},
    "start": {"here": 1.0},
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rows": {"here": {"left": [(0.5, "here", 0.0, True)]}}}, "rows['here']['left']: probabilities 0.5; expected"),
        (
            {"rows": {"here": {"left": [(1.0, "here", 0.0, False)]}}},
            "rows['here']: no way to an end; expected an outcome",
        ),
        ({"rows": {"here": {"left": []}}}, "rows['here']['left']: probabilities of nothing; expected a sum of 1"),
        (
            {"rows": {"here": {"left": [(1.0, "here", -math.inf, True)]}}},
            "rows['here']['left']: a reward of -inf; expected a finite",
        ),
        ({"rows": {"here": {"left": [(1.0, "away", 0.0, True)]}}}, "'away'; expected states of rows: 'here'"),
        ({"start": {"away": 1.0}}, "start: 'away'; expected states of rows: 'here', 'there'"),
        ({"start": {}}, "start: probabilities of nothing; expected a sum of 1"),
        ({"prior": {"here": {"left": 0.5, "up": 0.5}}}, "prior['here']: 'up'; expected actions of the state: 'left'"),
        ({"prior": {"away": {"left": 1.0}}}, "prior: 'away'; expected states of rows"),
        ({"discount": 1.5}, "discount: 1.5; expected a number above 0, at most 1"),
        ({"temperature": 0.0}, "temperature: 0.0; expected a positive number, reward units"),
        ({"horizon": 0}, "horizon: 0; expected at least 1, or None"),
        ({"cut": 1}, "cut 1, horizon None, discount 1; expected cut 1 with no horizon and a discount below 1"),
    ],
)
def test_a_probe_that_is_none_is_one_line(changed: dict[str, Any], words: str) -> None:
    Probe(**PLAIN)
    with pytest.raises(cai.WorldError) as caught:
        Probe(**{**PLAIN, **changed})
    assert str(caught.value).startswith("probe 'mine', ") or "probe 'mine': cut" in str(caught.value)
    assert words in str(caught.value)

"""Verification: learners in expectation are named, sound ones pass, bad ones are reported, and the others go on."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cai
from cai.evaluation.statistics import mean_interval
from cai.support.apart import Failed, Overdue, Skipped, each_apart
from cai.verification import MISTAKES, PROBES, actions, logits, probabilities, q_values, world_of
from cai.verification.answer import Answer, answer, right
from cai.verification.diagnosis import judge, seeds_needed
from cai.verification.distances import accounts, path_kl
from cai.verification.episode_visits import occupancy
from cai.verification.probe import Probe
from cai.verification.reading import Reading, places_of, read
from cai.verification.task import Task, task_of

Train = Callable[[Any, int], Any]
QUICK = ["luck", "entropy-to-go", "temperature"]


def exact(task: Task, mistake: str | None = None) -> Answer:
    found = answer(task, right(task)) if mistake is None else MISTAKES[mistake].answer(task)
    return answer(task, right(task)) if found is None else found


def learner(mistake: str | None, noise: float, rule: cai.Rule = cai.VARIATIONAL) -> Train:
    """A learner in expectation: an exact policy, with Gaussian noise on its logits."""

    def train(env: Any, seed: int) -> Any:
        log_pi = exact(task_of(env.unwrapped.probe, rule), mistake).log_pi
        draws = torch.Generator().manual_seed(seed)
        return logits(log_pi + noise * torch.randn(log_pi.shape, generator=draws, dtype=torch.float64))

    return train


def noisy_policy(task: Task, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    shape = (task.horizon or 1, *task.log_prior.shape)
    return (task.log_prior + torch.randn(shape, generator=draws, dtype=torch.float64)).log_softmax(-1)


@pytest.mark.parametrize("name", ["truncation", "termination", "prior", "masks", "luck", "deadline", "length"])
def test_return_and_elbo_are_those_of_evaluate(name: str) -> None:
    probe = PROBES[name]
    task = task_of(probe, cai.VARIATIONAL)
    log_pi, world = noisy_policy(task, 0), world_of(probe)
    S = cai.tabulate(world).states.size  # with the ended state, in which nobody acts
    pad = torch.full((len(log_pi), S - log_pi.shape[1], log_pi.shape[2]), 1 / log_pi.shape[2]).double()
    rows = torch.cat([log_pi.exp(), pad], 1)
    found = accounts(task, log_pi)
    truth = cai.evaluate(world, rows if probe.horizon else rows[0], temperature=probe.temperature)
    assert found.expected_return == pytest.approx(float(truth.expected_return), abs=1e-10)
    assert found.elbo == pytest.approx(float(truth.elbo), abs=1e-10)
    assert found.nats_short == pytest.approx(float(truth.optimality_gap), abs=1e-10)


@pytest.mark.parametrize("probe", [p for p in PROBES.values() if p.discount == 1], ids=lambda p: p.name)
def test_the_distance_from_right_is_what_the_elbo_is_short_of(probe: Probe) -> None:
    task = task_of(probe, cai.VARIATIONAL)
    log_pi = noisy_policy(task, 1)
    assert float(path_kl(task, log_pi, exact(task).log_pi)) == pytest.approx(
        accounts(task, log_pi).nats_short, abs=1e-9
    )


def test_a_policy_that_never_ends_has_a_finite_distance() -> None:
    loop = {"here": {"stay": [(1.0, "here", 0.0, False)], "go": [(1.0, "here", 1.0, True)]}}
    task = task_of(Probe("loop", "no entropy", "", loop, {"here": 1.0}), cai.VARIATIONAL)
    stays = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64).log()
    assert occupancy(task, stays).item() == 2.0**20
    assert math.isfinite(float(path_kl(task, stays, torch.tensor([[[0.5, 0.5]]]).double().log())))


def test_an_answer_is_not_left_for_an_action_that_it_never_takes() -> None:
    task = task_of(PROBES["luck"], cai.HARD)
    best = exact(task).log_pi
    assert float(path_kl(task, best, best)) == 0
    other = best.flip(-1)  # two actions: always the wrong one
    visited = int((occupancy(task, other) > 0).sum())
    assert visited
    assert float(path_kl(task, other, best)) > math.log(1 / 0.01) / 2


def test_an_answer_without_a_choice_is_told_from_one_with() -> None:
    task = task_of(PROBES["luck"], cai.HARD)
    soft = MISTAKES["entropy added"].answer(task)
    assert soft is not None
    assert float(path_kl(task, exact(task).log_pi, soft.log_pi)) > 0.01


def policies(log_pi: Tensor) -> dict[str, Any]:
    """One policy in every form that a user may return."""
    table = log_pi[0]
    draws = np.random.default_rng(0)
    net = torch.nn.Embedding.from_pretrained(table.clone())
    return {
        "probabilities": lambda obs: table[obs].exp().numpy(),
        "single precision": lambda obs: table[obs].exp().float(),
        "logits": lambda obs: (table[obs] + 3).tolist(),
        "a row": lambda obs: table[obs].exp().unsqueeze(0),
        "a distribution": lambda obs: torch.distributions.Categorical(logits=table[obs]),
        "a module": net,
        "an array": table.exp().numpy(),
        "by time": log_pi.exp(),
        "a tuple": lambda obs: (table[obs].exp().numpy(), None),
        "said probabilities": probabilities(lambda obs: table[obs].exp()),
        "said logits": logits(lambda obs: table[obs] - 1),
        "drawn": lambda obs: draws.choice(len(table[obs]), p=table[obs].exp().numpy()),
        "said drawn": actions(lambda obs: np.array([draws.choice(len(table[obs]), p=table[obs].exp().numpy())])),
    }


def test_a_policy_is_read_in_every_form() -> None:
    task = task_of(PROBES["luck"], cai.VARIATIONAL)
    log_pi, places = exact(task).log_pi, places_of(task_of(PROBES["luck"], cai.VARIATIONAL))
    rows = [place.s for place in places]
    for name, policy in policies(log_pi).items():
        found = read(policy, task, places)
        off = float((found.log_pi[0, rows].exp() - log_pi[0, rows].exp()).abs().max())
        assert off < (0.08 if found.sampled else 1e-6), name
        assert found.sampled == ("drawn" in name)


def test_a_policy_of_the_library_is_read() -> None:
    world = world_of(PROBES["luck"])
    solved = cai.solve(world, rule=cai.VARIATIONAL, temperature=PROBES["luck"].temperature)
    task = task_of(PROBES["luck"], cai.VARIATIONAL)
    for policy in (solved, solved.policy):
        found = read(policy, task, places_of(task))
        assert float(path_kl(task, found.log_pi, exact(task).log_pi)) < 1e-10


def test_a_time_that_the_task_does_not_know_is_averaged_over_visits() -> None:
    task = task_of(PROBES["termination"], cai.VARIATIONAL)
    log_pi = exact(task).log_pi[0]
    draws = torch.Generator().manual_seed(0)
    timed = [torch.randn(log_pi.shape, generator=draws, dtype=torch.float64).log_softmax(-1) for _ in range(2)]
    policy = SimpleNamespace(log_probs=lambda t: timed[t], horizon=2)
    found = read(policy, task, places_of(task)).log_pi[0]
    first = PROBES["termination"].states.index("fork")
    assert float((found[first] - timed[0][first]).abs().max()) < 1e-12
    later = next(place.s for place in places_of(task) if place.s != first)
    assert float((found[later] - timed[1][later]).abs().max()) < 1e-12


def test_action_values_are_read_by_the_rule() -> None:
    probe = PROBES["discount"]
    for rule in (cai.VARIATIONAL, cai.HARD):
        task = task_of(probe, rule)
        truth = exact(task)
        found = read(q_values(lambda obs, q=truth.q: q[0, obs]), task, places_of(task))
        assert float(path_kl(task, found.log_pi, truth.log_pi)) < 1e-10
        assert found.q is not None
    kept = read(q_values(truth.q, policy=truth.log_pi.exp()), task, places_of(task))
    assert kept.q is not None
    assert torch.equal(kept.log_pi, found.log_pi)


def test_an_action_a_state_is_a_policy() -> None:
    task = task_of(PROBES["discount"], cai.HARD)
    best = exact(task).log_pi
    chosen = best[0].argmax(-1)
    for policy in (chosen, chosen.numpy(), chosen.tolist(), actions(chosen)):
        assert float(path_kl(task, read(policy, task, places_of(task)).log_pi, best)) == 0
    with pytest.raises(cai.WorldError, match="an array of shape"):
        read(q_values(chosen), task, places_of(task))


def test_a_policy_knows_the_time_where_it_is_observed() -> None:
    task = task_of(PROBES["deadline"], cai.VARIATIONAL)
    log_pi = exact(task).log_pi
    found = read(lambda obs: log_pi[obs[1], obs[0]].exp(), task, places_of(task))
    assert float(path_kl(task, found.log_pi, log_pi)) < 1e-12


BAD: dict[str, tuple[Any, str]] = {
    "nothing": (None, "it returned None"),
    "a number": (3.5, "it returned a float"),
    "None of an observation": (lambda obs: None, "observation 0: None"),
    "a shape": (lambda obs: [0.2, 0.3, 0.5], r"numbers of shape \[3\]; expected one for each of the 2 actions"),
    "an array's shape": (np.ones((7, 2)), r"an array of shape \[7, 2\], float64; expected \[S, A\]"),
    "NaN": (lambda obs: torch.tensor([float("nan"), 0.0]), r"observation 0: \[nan, 0.0\]"),
    "an array's actions": (np.full(2, 2), "observation 0: action 2; expected an action from 0 to 1"),
    "an array of real numbers": (np.zeros(2), r"an array of shape \[2\], float64; expected .* of whole numbers"),
    "a negative one": (lambda obs: [1.5, -0.5], r"\[1.5, -0.5\]; expected probabilities"),
    "a sum": (probabilities(lambda obs: [0.5, 0.4]), r"\[0.5, 0.4\]; expected probabilities"),
    "an action": (lambda obs: 2, "action 2; expected an action from 0 to 1"),
    "no action": (actions(lambda obs: 0.5), "0.5; expected an action"),
    "words": (lambda obs: "left", "'left'; expected probabilities, logits"),
    "infinity": (lambda obs: [math.inf, 0.0], r"\[inf, 0.0\]; expected finite logits"),
    "NaN values": (q_values(lambda obs: [math.nan, 0.0]), "NaN"),
    "an error": (lambda obs: {}[obs], "KeyError"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_policy_is_told_with_its_observation(name: str) -> None:
    policy, words = BAD[name]
    task = task_of(PROBES["luck"], cai.VARIATIONAL)
    with pytest.raises(cai.WorldError, match=words):
        read(policy, task, places_of(task))


def test_right_policies_pass_and_mistaken_ones_are_named() -> None:
    sound = cai.verify(learner(None, 0.05), probes=[*QUICK, "seeds"], progress=False)
    assert sound.passed
    assert not sound.cause
    wrong = cai.verify(learner("later entropy missing", 0.05), probes=QUICK, progress=False)
    assert [one.verdict for one in wrong.verdicts] == ["pass", "fail", "pass"]
    assert wrong.cause[0] == "later entropy missing"
    assert wrong.explained == ("entropy-to-go",)
    assert "that of an agent that does not count later entropy" in wrong["entropy-to-go"].words
    assert not wrong.passed
    assert wrong.failed


@pytest.mark.slow
@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD, cai.POSTERIOR], ids=str)
def test_every_mistake_is_named_on_its_own_probe(rule: cai.Rule) -> None:
    for probe in PROBES.values():
        if rule.name in probe.rules:
            found = cai.verify(learner(probe.catches, 0.03, rule), rule=rule, probes=[probe.name], progress=False)
            assert found.verdicts[0].verdict == "fail", (probe.name, found.verdicts[0].words)
            assert probe.catches in found.cause


def test_a_probe_that_is_made_for_another_mistake_names_the_nearest_too() -> None:
    found = cai.verify(learner("later entropy missing", 0.01), probes=["entropy-sign", "best-action"], progress=False)
    sign, best = found.verdicts
    assert sign.verdict == "fail"  # its own mistake is later entropy negative
    assert sign.causes[0] == "later entropy missing"
    assert best.verdict == "undecided"  # 0.05 nats from right: too near to count on this probe
    assert best.rival == "later entropy missing"
    assert "this probe hardly tells the two apart" in best.words


@pytest.mark.slow
@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD, cai.POSTERIOR], ids=str)
def test_sound_learners_with_noise_do_not_fail(rule: cai.Rule) -> None:
    for noise in (0.1, 0.3, 1.0):
        found = cai.verify(learner(None, noise, rule), rule=rule, seeds=range(100, 105), progress=False)
        assert not found.failed, found.table()


def test_much_noise_is_undecided_with_a_number_of_seeds() -> None:
    few = cai.verify(learner(None, 0.25), probes=["temperature"], seeds=3, progress=False)["temperature"]
    assert few.verdict == "undecided"
    assert few.more_seeds is not None
    assert 3 < few.more_seeds < 60
    enough = cai.verify(learner(None, 0.25), probes=["temperature"], seeds=2 * few.more_seeds, progress=False)
    assert enough.verdicts[0].verdict == "pass"


def test_a_probe_of_ones_own_is_judged() -> None:
    own = replace(PROBES["luck"], name="my-luck", temperature=0.4)
    found = cai.verify(learner("optimistic", 0.01), probes=[own], progress=False)
    assert found.cause == ("optimistic",)


def test_one_seed_is_undecided() -> None:
    alone = cai.verify(learner(None, 0.0), probes=["luck"], seeds=1, progress=False)["luck"]
    assert alone.verdict == "undecided"
    assert "One seed has no interval" in alone.words


def test_between_two_answers_more_seeds_do_not_decide() -> None:
    nats = {"right": torch.tensor([1.0, 1.1, 0.9]), "wrong": torch.tensor([1.1, 0.9, 1.0])}
    assert judge(nats, ["wrong"], 2.0) == ("undecided", (), None)


def test_far_from_every_answer_fails_without_a_name() -> None:
    nats = {"right": torch.tensor([5.0, 5.1, 4.9]), "wrong": torch.tensor([4.0, 4.1, 3.9])}
    assert judge(nats, ["wrong"], 2.0) == ("fail", (), None)


def test_the_number_of_seeds_decides() -> None:
    """With the mean and the spread that were assumed, the interval just excludes 0."""
    x = torch.tensor([-3.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    n = seeds_needed(x, 0.05)
    assert n is not None
    z = torch.linspace(-1, 1, n, dtype=torch.float64)

    def high(count: int) -> float:
        y = z[:count] - z[:count].mean()
        return mean_interval(x.mean() + y / y.std() * x.std(), 0.05)[2]

    assert high(n) < 0 < high(n - 1)
    assert seeds_needed(x + 10, 0.05) is None


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn((2000, 5), generator=draws, dtype=torch.float64)
    covered = [low <= 0 <= high for _, low, high in (mean_interval(row, 0.025) for row in x)]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2000))


def test_a_verdict_on_the_edge_is_wrong_as_seldom_as_it_says() -> None:
    """Skewed distances, as of policies with Gaussian noise, where the wrong answer is just four times nearer."""
    draws = torch.Generator().manual_seed(1)
    wrong = 0.2 * torch.randn((400, 5, 3), generator=draws, dtype=torch.float64).square().sum(-1)
    fails = sum(judge({"right": 4 * d + 1.5 * (d - d.mean()), "wrong": d}, ["wrong"], 1e9)[0] == "fail" for d in wrong)
    assert fails <= 12  # of 400, at 1 %: more has a probability of 2.5e-4


def awkward(env: Any, seed: int) -> Any:
    """A learner that does something else on each probe."""
    name = env.unwrapped.probe.name
    if name == "discount":
        raise ValueError("no such layer")
    if name == "prior":
        return None
    if name == "risk":
        return lambda obs: [0.1] * 7
    if name == "length":
        return lambda obs: torch.full((env.action_space.n,), float("nan"))
    if name == "time":
        time.sleep(600)
    if name == "clipping":
        os._exit(3)
    if name == "target":
        raise SystemExit(2)
    return learner(None, 0.0)(env, seed)


def test_a_probe_that_goes_wrong_is_told_and_the_others_go_on() -> None:
    names = ["time", "discount", "prior", "risk", "length", "clipping", "target", "luck"]
    began = time.monotonic()
    found = cai.verify(awkward, probes=names, seeds=1, minutes=0.2, jobs=2, progress=False)
    assert time.monotonic() - began < 30
    said = {one.probe: (one.verdict, one.words) for one in found.verdicts}
    assert said["discount"][0] == "error"
    assert "ValueError: no such layer" in said["discount"][1]
    assert "it returned None" in said["prior"][1]
    assert "numbers of shape [7]" in said["risk"][1]
    assert "nan" in said["length"][1]
    assert said["time"][0] == "out of time"
    assert "exit code 3" in said["clipping"][1]
    assert "SystemExit" in said["target"][1]
    assert found["luck"].distances["right"].value == 0
    assert found.failed


def test_a_task_has_its_share_of_the_time_and_dies_with_its_children() -> None:
    def task(n: int) -> int:
        if n == 1 and os.fork() == 0:
            time.sleep(600)
        if n == 1:
            os._exit(0)
        if n == 2:
            time.sleep(600)
        return n

    results = dict(each_apart(task, 5, jobs=2, seconds=2.0, skip=lambda n: n == 3))
    assert results[0] == 0
    assert isinstance(results[1], Failed)
    assert isinstance(results[2], Overdue)
    assert isinstance(results[3], Skipped)
    assert results[4] == 4


def test_a_slow_learner_has_fewer_seeds() -> None:
    def slow(env: Any, seed: int) -> Any:
        time.sleep(0.3)
        return learner(None, 0.0)(env, seed)

    found = cai.verify(slow, probes=["luck", "prior"], seeds=20, minutes=0.06, progress=False)
    for one in found.verdicts:
        assert one.verdict in ("pass", "undecided")
        assert 1 <= len(one.seeds) < 10


def test_ctrl_c_leaves_what_is_done() -> None:
    def train(env: Any, seed: int) -> Any:
        if seed == 2 and env.unwrapped.probe.name == "temperature":
            raise KeyboardInterrupt
        return learner(None, 0.0)(env, seed)

    found = cai.verify(train, probes=["luck", "temperature"], seeds=3, progress=False)
    assert found.interrupted
    assert found["luck"].seeds == (0, 1, 2)
    assert found["temperature"].seeds == (0, 1)


def test_seeds_that_share_state_are_told() -> None:
    memory: list[float] = []

    def shared(env: Any, seed: int) -> Any:
        memory.append(0.1)
        return logits(exact(task_of(env.unwrapped.probe, cai.VARIATIONAL)).log_pi + torch.tensor([sum(memory), 0.0]))

    found = cai.verify(shared, probes=["luck", "seeds"], seeds=2, progress=False)
    assert found["seeds"].verdict == "fail"
    assert "The same seed gave two policies" in found["seeds"].words
    same = cai.verify(learner(None, 0.0), probes=["luck", "seeds"], seeds=2, progress=False)["seeds"]
    assert "All seeds gave the same policy" in same.words


def test_a_learner_that_draws_from_global_generators_is_random_over_seeds() -> None:
    def careless(env: Any, seed: int) -> Any:
        log_pi = exact(task_of(env.unwrapped.probe, cai.VARIATIONAL)).log_pi
        return logits(log_pi + 0.05 * torch.randn(log_pi.shape) + 0.05 * np.random.randn() + 0.05 * random.random())

    state = torch.get_rng_state()
    here = cai.verify(careless, probes=["luck"], seeds=3, progress=False)["luck"]
    assert torch.equal(state, torch.get_rng_state())
    assert len(set(here.distances["right"].runs)) == 3
    there = cai.verify(careless, probes=["luck", "seeds"], seeds=3, jobs=2, progress=False)
    assert there["luck"].distances == here.distances
    assert there["seeds"].verdict == "fail"


def test_what_is_not_claimed_is_left_out() -> None:
    found = cai.verify(learner(None, 0.0), probes=["masks", "luck"], without=["masks"], progress=False)
    assert found["masks"].verdict == "left out"
    assert "masks" in found["masks"].words
    assert found.passed


def test_a_verification_is_plain_data() -> None:
    found = cai.verify(learner(None, 0.0), probes=["luck"], seeds=2, progress=False)
    plain = found.plain()
    assert plain["verdicts"][0]["distances"]["right"]["value"] == 0
    assert '"passed": true' in found.json()
    assert "luck" in found.table()
    assert "1 pass" in repr(found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"probes": ["luc"]}, "luck"),
        ({"probes": []}, "a list of names"),
        ({"probes": ["luck", "luck"]}, "each name but once"),
        ({"probes": [replace(PROBES["luck"], catches="optimism")]}, "optimistic"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, "each but once"),
        ({"seeds": "abc"}, "whole numbers"),
        ({"seeds": [0.5, 1]}, "whole numbers"),
        ({"jobs": 0}, "at least 1"),
        ({"minutes": 0.0}, "positive"),
        ({"without": ["mask"]}, "masks"),
        ({"rule": cai.MAP}, "VARIATIONAL, HARD or POSTERIOR"),
        ({"without": "masks"}, "a list of"),
        ({"ray": "local", "jobs": 2}, "alone"),
        ({"rule": "HARD"}, "cai.HARD"),
    ],
)
def test_wrong_arguments_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.verify(learner(None, 0.0), progress=False, **settings)
    with pytest.raises(cai.WorldError, match="a function"):
        cai.verify(3)  # type: ignore[arg-type]


def test_a_verification_shows_itself_in_a_notebook() -> None:
    page = cai.verify(awkward, probes=["discount", "luck"], seeds=2, progress=False)._repr_html_()
    assert page is not None
    assert "no such layer" in page
    assert "optimistic" in page


@pytest.mark.slow
def test_a_cluster_finds_the_same() -> None:
    here = cai.verify(learner("optimistic", 0.1), probes=["luck", "seeds"], seeds=2, progress=False)
    there = cai.verify(learner("optimistic", 0.1), probes=["luck", "seeds"], seeds=2, ray="local", progress=False)
    assert [one.words for one in here.verdicts] == [one.words for one in there.verdicts]


@pytest.mark.slow
@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.POSTERIOR], ids=str)
@pytest.mark.parametrize("share", [0.7, 0.8, 0.9, 1.1, 1.2, 1.3])
def test_a_learner_short_of_training_does_not_fail(rule: cai.Rule, share: float) -> None:
    """Its logits have gone a share of the way from the prior's to the right ones."""

    def train(env: Any, seed: int) -> Any:
        task = task_of(env.unwrapped.probe, rule)
        draws = torch.Generator().manual_seed(seed)
        best, noise = exact(task).log_pi, torch.randn(task.log_prior.shape, generator=draws, dtype=torch.float64)
        way = torch.where(best > -torch.inf, task.log_prior + share * (best - task.log_prior), best)
        return logits(way + 0.05 * noise)

    found = cai.verify(train, rule=rule, progress=False)
    assert not found.failed, found.table()


def test_a_reading_is_of_the_acting_learner_only() -> None:
    """A policy is not asked about states in which nobody acts."""
    task = task_of(PROBES["luck"], cai.VARIATIONAL)
    asked: list[int] = []

    def policy(obs: Any) -> Any:
        asked.append(int(obs))
        return [0.5, 0.5]

    assert isinstance(read(policy, task, places_of(task)), Reading)
    assert PROBES["luck"].states.index("end") not in asked


SLEEPER = """
import time, cai
from cai.verification import PROBES
from cai.verification.answer import answer, right
from cai.verification.task import task_of

def train(env, seed):
    if seed == 2:
        print("asleep", flush=True)
        time.sleep(600)
    task = task_of(env.unwrapped.probe, cai.VARIATIONAL)
    return cai.verification.logits(answer(task, right(task)).log_pi)

found = cai.verify(train, probes=["luck"], seeds=3, jobs=2, progress=False)
print(found.interrupted, found["luck"].verdict, found["luck"].seeds)
"""


@pytest.mark.slow
def test_ctrl_c_kills_the_processes_and_leaves_what_is_done() -> None:
    begun = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
    assert begun.stdout is not None
    assert begun.stdout.readline() == "asleep\n"
    time.sleep(1.0)
    children = Path(f"/proc/{begun.pid}/task/{begun.pid}/children").read_text().split()
    begun.send_signal(signal.SIGINT)
    said, _ = begun.communicate(timeout=30)
    assert said == "True pass (0, 1)\n"
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_probes_with_the_same_words_are_told_together_and_what_is_left_out_last() -> None:
    def broken(env: Any, seed: int) -> Any:
        raise RuntimeError("no such thing")

    settings: dict[str, Any] = {"probes": ["masks", "luck", "risk"], "without": ["masks"], "seeds": 1}
    first, last = cai.verify(broken, **settings, progress=False).remarks
    assert first.startswith("luck, risk: error. With seed 0: RuntimeError: no such thing")
    assert last == "masks: left out. It needs a learner that knows of: masks."


def test_a_cause_that_explains_only_some_failures_is_called_the_nearest() -> None:
    def astray(env: Any, seed: int) -> Any:  # always gambles; and in another world does what nobody learns
        wrong = [[0.001, 0.001, 0.998]] * env.observation_space.n
        return actions(lambda obs: 0) if env.unwrapped.probe.name == "rare-luck" else probabilities(wrong)

    found = cai.verify(astray, probes=["rare-luck", "temperature"], seeds=2, progress=False)
    assert [one.verdict for one in found.verdicts] == ["fail", "fail"]
    assert len(found.explained) == 1
    assert "Your learner is nearest to an agent" in found.summary


def with_mistakes(**by_probe: str) -> Train:
    """A learner in expectation with one mistake a probe; elsewhere it is sound."""

    def train(env: Any, seed: int) -> Any:
        return learner(by_probe.get(env.unwrapped.probe.name), 0.02)(env, seed)

    return train


def test_of_two_mistakes_both_are_named() -> None:
    two = with_mistakes(luck="optimistic", clipping="reward clipped", deadline="reward clipped")
    found = cai.verify(two, probes=["luck", "clipping", "deadline", "prior"], seeds=3, progress=False)
    assert found.cause == ("reward clipped",)  # it explains more failures
    assert found.second_cause[0] == "optimistic"
    assert found.explained == ("luck", "clipping", "deadline")
    assert "two together, 3 of 3 failures: an agent that clips rewards to [-1, 1]; and an agent that" in found.summary
    assert [remark.split(":")[0] for remark in found.remarks] == ["luck", "clipping"]
    assert found.plain()["second_cause"][0] == "optimistic"


def test_a_failure_without_a_name_does_not_change_the_name_of_others() -> None:
    def astray(env: Any, seed: int) -> Any:  # clips rewards; and in one world does what nobody learns
        wrong = [[0.001, 0.001, 0.998]] * env.observation_space.n
        return (
            probabilities(wrong)
            if env.unwrapped.probe.name == "temperature"
            else learner("reward clipped", 0.02)(env, seed)
        )

    found = cai.verify(astray, probes=["clipping", "temperature"], seeds=2, progress=False)
    assert [one.verdict for one in found.verdicts] == ["fail", "fail"]
    assert not found["temperature"].causes
    assert found.cause[0] == "reward clipped"
    assert not found.second_cause


def test_a_policy_near_an_untrained_one_is_told_so() -> None:
    def flat(env: Any, seed: int) -> Any:
        return lambda obs: np.array([0.1, 0.0]) + 0.01 * seed  # a network's action values, not said to be any

    words = cai.verify(flat, probes=["luck"], seeds=2, progress=False)["luck"].words
    assert "It is near an untrained one" in words
    assert words.endswith("wrap action values in cai.verification.q_values.")
    said = cai.verify(lambda env, seed: logits(flat(env, seed)), probes=["luck"], seeds=2, progress=False)["luck"]
    assert "It is near an untrained one" in said.words
    assert "q_values" not in said.words
    sound = cai.verify(learner(None, 0.05), probes=["luck"], seeds=2, progress=False)["luck"]
    assert "untrained" not in sound.words

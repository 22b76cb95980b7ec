"""The one training loop: pure steps, runs that are broken off and taken up again, files, logs, seeds and faults."""

import json
import os
import pickle
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import cai
from cai.bridges.named import load_world
from cai.learn import checkpoint, replay, training
from cai.learn.checkpoint import Checkpoint
from cai.learn.functions import Adam, Network, Table, function_of
from cai.learn.problem import Problem, State
from cai.learn.result import Learned, Progress
from cai.learn.scores import ByEpisodes
from cai.simulate.rollout import simulator_of
from cai.simulate.simulator import drawing, seeded
from cai.simulate.worlds import WorldSimulator
from tests.helpers import slow_after
from tests.worlds import FactoredWorld, PointMass, RandomWorld, TimedWorld

Run = Callable[..., Learned]
QUIET: dict[str, Any] = {"progress": False, "episodes": 3, "evaluations": 3, "seed": 4}
NEURAL: dict[str, Any] = {"network": (16,), "minibatch": 8, "warmup": 40, "updates": 2, **QUIET}


def small(**changed: Any) -> RandomWorld:
    return RandomWorld(**{"seed": 3, "S": 3, "A": 2, "K": 2, "horizon": 3, "holes": False, **changed})


def limited(steps: int) -> Any:
    return gymnasium.make("CartPole-v1", max_episode_steps=steps)


soft_pg = partial(cai.learn.reinforce, temperature=0.5, batch=10, **QUIET)
soft_q = partial(cai.learn.q_learning, temperature=0.5, **NEURAL)

RUNS: dict[str, Run] = {
    "soft_pg table": partial(soft_pg, small(), natural=False, steps=300),
    "natural_pg table": partial(soft_pg, small(), steps=300),
    "soft_pg network": partial(soft_pg, TimedWorld(2, 3, 2, 2, 4, holes=False), network=(8,), steps=400),
    "soft_pg continuous": partial(soft_pg, PointMass(bounded=True), steps=200, normalise=True),
    "reinforce value": partial(cai.learn.reinforce, small(), baseline="value", batch=10, steps=300, **QUIET),
    "reinforce black box": partial(cai.learn.reinforce, "CartPole-v1", baseline="value", batch=4, steps=600, **QUIET),
    "soft_q table": partial(cai.learn.q_learning, small(), temperature=0.5, batch=10, steps=300, **QUIET),
    "soft_q factored": partial(cai.learn.q_learning, FactoredWorld(), temperature=0.5, steps=4500, **QUIET),
    "soft_q network": partial(soft_q, small(), batch=4, capacity=60, steps=160),  # the ring goes round
    "soft_q black box": partial(soft_q, "CartPole-v1", batch=2, n_step=3, capacity=150, steps=160, episodes=1),
    "q normalised": partial(cai.learn.q_learning, partial(limited, 30), batch=3, steps=120, normalise=True, **NEURAL),
}


def told(run: Learned) -> Any:
    """All that a run says of itself, but for the time that it took."""
    return run.steps, run.updates, run.stopped, [replace(one, seconds=0.0) for one in run.history]


def kept(path: Path) -> dict[str, Any]:
    """What a file holds, but for the time that it took."""
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return {**found, "seconds": 0.0, "history": [{**row, "seconds": 0.0} for row in found["history"]]}


def equal(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def lines(folder: Path) -> list[dict[str, Any]]:
    """What was written down, read as JSON itself reads it: no NaN, but for the time that it took."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = (folder / "progress.jsonl").read_text(encoding="utf-8")
    return [{**json.loads(line, parse_constant=refuse), "seconds": 0.0} for line in text.splitlines()]


# A step


class Spied:
    """Remembers the algorithm, the problem and every state of a run."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.states: list[State] = []
        true = training.step

        def spy(algorithm: Any, problem: Problem, state: State) -> Any:
            self.algorithm, self.problem = algorithm, problem
            self.states.append(state)
            return true(algorithm, problem, state)

        patch.setattr(training, "step", spy)


def values(state: State, *, ring: bool = True) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in state.values.items() if ring or not name.startswith("replay.")}


@pytest.mark.parametrize("name", list(RUNS))
def test_a_step_is_a_function_of_the_state(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spied = Spied(patch)
        RUNS[name]()
    take = partial(training.step, spied.algorithm, spied.problem)
    before = torch.get_rng_state()
    with training.precision(spied.algorithm.dtype):
        for state in (spied.states[-1], spied.states[-1], spied.states[0]):
            held = values(state, ring=False)
            (one, metrics), ring = take(state), values(state)
            (two, again), random_now = take(state), torch.get_rng_state()
            assert equal(values(state, ring=False), held)
            assert equal(values(state), ring)
            assert equal(dict(one.values), dict(two.values))
            assert equal(metrics, again)
            assert torch.equal(one.random, two.random)
            assert not torch.equal(one.random, state.random)
            assert one.steps > state.steps
            if one.env_state is not None:
                assert two.env_state is not None
                assert torch.equal(one.env_state.state, two.env_state.state)
            assert torch.equal(random_now, before)


# Runs without and with breaks


class BrokenError(Exception):
    """The machine went down."""


def broken(run: Run, where: Mapping[str, Path], n: int, patch: pytest.MonkeyPatch, *, early: bool) -> None:
    """Run until the n-th evaluation was kept, or written down but not kept."""
    save, saved = Checkpoint.save, [0]

    def fragile(*given: Any) -> None:
        saved[0] += 1
        if early and saved[0] == n:
            raise BrokenError
        save(*given)
        if saved[0] == n:
            raise BrokenError

    with patch.context() as patched:
        patched.setattr(Checkpoint, "save", fragile)
        with pytest.raises(BrokenError):
            run(**where)


def places(folder: Path, name: str) -> dict[str, Path]:
    return {"checkpoint": folder / f"{name}.learner", "log": folder / name}


@pytest.mark.parametrize("breaks", [(2, 3), pytest.param((1, 4), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if n in (0, 3, 7) else pytest.mark.slow) for n, name in enumerate(RUNS)]
)
def test_a_resumed_run_is_the_uninterrupted_one(
    name: str, breaks: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RUNS[name]
    first = places(tmp_path, "whole")
    whole = run(**first)
    assert len(whole.history) == 4
    assert whole.history[0].steps == 0
    for n in breaks:
        here = places(tmp_path, f"{n}")
        broken(run, here, n, monkeypatch, early=n % 2 == 0)
        resumed = run(**here)
        assert told(resumed) == told(whole)
        assert equal(kept(here["checkpoint"]), kept(first["checkpoint"]))
        assert lines(here["log"]) == lines(first["log"])
    assert told(run()) == told(whole)  # nor does the file itself change anything


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """SIGKILL at 20 moments, in forked children; then the same call to the end."""
    asked = {**NEURAL, "evaluations": 30, "episodes": 1, "capacity": 300, "batch": 2, "temperature": 0.5, "updates": 1}
    run = partial(cai.learn.q_learning, "CartPole-v1", steps=900, **asked)
    whole = run(checkpoint=tmp_path / "whole")
    moments, kills, midway, lives = random.Random(0), 0, 0, 0
    while kills < 20:
        lives += 1
        path = tmp_path / f"{lives}"
        while kills < 20 and not _ran(partial(run, checkpoint=path), moments.uniform(0.02, 0.3)):
            kills += 1
            midway += path.exists() and 0 < kept(path)["steps"] < 900
        assert told(run(checkpoint=path)) == told(whole)
        assert equal(kept(path), kept(tmp_path / "whole"))
    assert midway >= 5


def _ran(run: Callable[[], Any], seconds: float) -> bool:
    """Tell whether a run came to its end in time; kill it otherwise."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return not os.WIFSIGNALED(os.waitpid(child, 0)[1])


def pressed(patch: pytest.MonkeyPatch, n: int) -> None:
    """Press Ctrl-C in the n-th step from here on."""
    true, calls = training.step, [0]

    def step(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == n:
            os.kill(os.getpid(), signal.SIGINT)
        return true(*given)

    patch.setattr(training, "step", step)


@pytest.mark.parametrize("name", ["soft_pg table", "soft_q black box", "soft_q network"])
def test_ctrl_c_keeps_what_was_done(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, run = places(tmp_path, "kept"), RUNS[name]
    before = signal.getsignal(signal.SIGINT)
    for n in (1, 2):
        with monkeypatch.context() as patch:
            pressed(patch, n)
            found = run(**here)
        assert found.stopped == "interrupted"
        assert signal.getsignal(signal.SIGINT) is before
        assert kept(here["checkpoint"])["steps"] == found.steps
        assert found.policy is not None
    whole = run(**places(tmp_path, "whole"))
    assert 0 < found.steps < whole.steps
    assert told(run(**here)) == told(whole)
    assert equal(kept(here["checkpoint"]), kept(tmp_path / "whole.learner"))
    assert lines(here["log"]) == lines(tmp_path / "whole")


def test_where_it_is_logged_and_whether_it_is_shown_does_not_matter(tmp_path: Path) -> None:
    run, file = RUNS["soft_q network"], tmp_path / "kept"
    with pytest.MonkeyPatch.context() as patch:
        pressed(patch, 30)
        assert run(checkpoint=file, log=tmp_path / "one", target=1e6).stopped == "interrupted"
    found = run(checkpoint=file, log=tmp_path / "two", progress=True)
    assert told(found) == told(run())
    assert [row["steps"] for row in lines(tmp_path / "two")] == [one.steps for one in found.history]
    run(checkpoint=file, log=tmp_path / "three")  # nothing is left to be done: it is written down all the same
    assert lines(tmp_path / "three") == lines(tmp_path / "two")


# Files


def make_fit(path: Path) -> None:
    cai.fit(small(), steps=2, checkpoint=path, progress=False)


class Evil:
    """Runs a command when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def refused(run: Callable[[], Any], *words: str) -> None:
    """One finding, in one line, that says each of the words."""
    with pytest.raises(cai.WorldError) as caught:
        run()
    assert len(caught.value.findings) == 1
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    run, path = RUNS["soft_q table"], tmp_path / "kept"
    run(checkpoint=path)
    whole = path.read_bytes()
    for content in (b"", b"no checkpoint", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        refused(partial(run, checkpoint=path), "checkpoint", "no checkpoint of a learner", str(path))
        assert path.read_bytes() == content
    path.unlink()
    make_fit(path)
    refused(partial(run, checkpoint=path), "a learner with learner = svi")
    torch.save({"steps": 1}, path)
    refused(partial(run, checkpoint=path), "no checkpoint of a learner")


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path, proof = tmp_path / "kept", tmp_path / "proof"
    run = partial(RUNS["soft_q table"], checkpoint=path)
    run()
    content = torch.load(path, weights_only=True)
    for evil in (Evil(proof), {**content, "values": {**content["values"], "q": Evil(proof)}}):
        torch.save(evil, path)
        refused(run, "no checkpoint of a learner")
        path.write_bytes(pickle.dumps(evil))
        refused(run, "no checkpoint of a learner")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"lr": 0.1}, "lr"),
        ({"seed": 5}, "seed"),
        ({"temperature": 0.6}, "temperature"),
        ({"gamma": 0.5}, "gamma"),
        ({"steps": 600}, "steps"),
        ({"evaluations": 5}, "evaluations"),
        ({"normalise": True}, "normalise"),
        ({"baseline": None}, "objective.baseline"),
    ],
)
def test_a_checkpoint_of_another_setting_is_refused(changed: dict[str, Any], word: str, tmp_path: Path) -> None:
    run = partial(RUNS["soft_pg table"], natural=False, checkpoint=tmp_path / "kept")
    run()
    refused(partial(run, **changed), f"a learner with {word} = ", "another file")


def another(world: Any, **changed: Any) -> Any:
    for name, value in changed.items():
        setattr(world, name, value)
    return world


class Heavier(PointMass):
    def step(self, state: Any, action: Any, t: int) -> Any:
        following, reward = super().step(state, action, t)
        return following, reward - 0.01


Heavier.__name__ = "PointMass"


@pytest.mark.parametrize(
    ("world", "other"),
    [
        (small(), small(seed=4)),
        (small(), another(small(), last=small().last + 1)),
        (PointMass(bounded=True), another(PointMass(bounded=True), horizon=3)),
        (PointMass(bounded=True), Heavier(bounded=True)),
        (partial(limited, 30), partial(limited, 40)),
        (partial(limited, 30), "Acrobot-v1"),
        (load_world("cartpole"), load_world("cartpole", overrides={"horizon": 400})),
    ],
    ids=["table", "terminal", "horizon", "reward", "limit", "id", "catalogue"],
)
def test_a_checkpoint_of_another_world_is_refused(world: Any, other: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = {**QUIET, "batch": 2, "steps": 2, "evaluations": 1, "checkpoint": tmp_path / "kept"}
    run = partial(cai.learn.reinforce, **{**asked, "episodes": 1})
    run(world)
    run(world)
    refused(partial(run, other), "with world = ")
    refused(partial(cai.learn.q_learning, world, **{**asked, "episodes": 1}), "with learner = reinforce")


def test_a_policy_to_learn_from_is_told_without_its_address(tmp_path: Path) -> None:
    def run() -> Learned:
        policy = cai.solve(small(), cai.VARIATIONAL).policy
        return RUNS["soft_q table"](behaviour=policy, checkpoint=tmp_path / "kept")

    assert told(run()) == told(run())
    policy = cai.solve(small(), cai.VARIATIONAL).policy
    assert " at 0x" not in checkpoint.described(policy)


# Logs


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.parametrize("n", [2, 3])
def test_tensorboard_reads_every_evaluation_once(n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, here = RUNS["soft_q network"], places(tmp_path, "kept")
    broken(run, here, n, monkeypatch, early=True)
    with monkeypatch.context() as patch:
        pressed(patch, 2)
        run(**here)
    found = run(**here)
    read = events(here["log"])
    assert {"stochastic_return", "deterministic_return", "elbo", "policy_nats", "entropy", "loss"} <= {
        *read.Tags()["scalars"]
    }
    for name in ("stochastic_return", "policy_nats"):
        points = [(one.step, one.value) for one in read.Scalars(name)]
        expected = [(one.steps, pytest.approx(getattr(one, name), rel=1e-6)) for one in found.history]
        assert points == expected


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    from cai.learn.logs import Log

    row = Progress(3, 1, 0.5, float("-inf"), 2.0, float("nan"), None, 0.1, {"loss": float("nan"), "return": 1.0})
    with Log(tmp_path) as log:
        log((row,))
    (found,) = lines(tmp_path)
    assert found["stochastic_return"] is None
    assert found["elbo"] is None
    assert found["deterministic_return"] == 2.0
    assert found["metrics"] == {"loss": None, "return": 1.0}
    assert {one.value for one in events(tmp_path).Scalars("return")} == {1.0}
    assert "loss" not in events(tmp_path).Tags()["scalars"]


# Evaluations


@pytest.mark.parametrize(
    "world",
    [small(), TimedWorld(5, 3, 3, 2, 4, positive=False, holes=False), small(discount=0.8), FactoredWorld()],
    ids=["stationary", "timed", "discounted", "factored"],
)
@pytest.mark.parametrize("soft", [True, False])
def test_scores_are_those_of_evaluate(world: Any, soft: bool) -> None:
    at = {"temperature" if soft else "measured_at": 0.5}
    found = cai.learn.reinforce(world, steps=600, batch=20, **at, **QUIET)
    last, exact = found.history[-1], cai.evaluate(world, found, temperature=0.5)
    for name, expected in (
        ("stochastic_return", exact.expected_return),
        ("entropy", exact.entropy),
        ("elbo", exact.elbo),
        ("policy_nats", exact.optimality_gap),
    ):
        assert getattr(last, name) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    tables = cai.tabulate(world)

    def greedy(t: int) -> Tensor:
        best = found.policy.probs(t).argmax(-1)
        return nn.functional.one_hot(best, tables.actions.size).double().log()

    sure = cai.policies.FixedPolicy(greedy, tables.states, tables.actions)
    exact = cai.evaluate(world, sure, temperature=0.5)
    assert last.deterministic_return == pytest.approx(exact.expected_return, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("horizon", [4, None])
@pytest.mark.usefixtures("float64")
def test_episodes_agree_with_the_exact_scores_under_a_discount_too(horizon: int | None) -> None:
    world = small(horizon=horizon, discount=0.7)
    run = partial(cai.learn.q_learning, world, temperature=0.5, batch=50, max_steps=30, steps=3000)
    found = run(**{**QUIET, "evaluations": 1})
    score = ByEpisodes(lambda n: simulator_of(world, n), 20_000, torch.float64, 0.7)(found.policy)
    exact = cai.evaluate(world, found, temperature=0.5).expected_return
    rewards = cai.rollout(world, found, batch=20_000, max_steps=30).rewards
    spread = (0.7 ** torch.arange(len(rewards)).unsqueeze(-1) * rewards).sum(0).std()
    cut = 0.0 if horizon else 1e-3 * 3 / 0.3  # rewards lie within 3 of 0
    assert abs(score.stochastic_return - exact) <= 4 * float(spread) / 20_000**0.5 + cut


def test_a_world_without_tables_and_without_an_end_can_be_scored() -> None:
    world = load_world("cartpole", overrides={"horizon": None, "discount": 0.5})
    found = soft_q(world, steps=60, batch=2)
    assert 1 < found.history[-1].stochastic_return <= 2  # Σ 0.5^t


@pytest.mark.parametrize("name", ["soft_pg table", "soft_q black box", "soft_q network"])
def test_how_often_a_policy_is_scored_changes_nothing(name: str) -> None:
    often, seldom = RUNS[name](evaluations=20), RUNS[name](evaluations=2)
    assert replace(often.history[-1], seconds=0.0) == replace(seldom.history[-1], seconds=0.0)
    assert len(often.history) > len(seldom.history) == 3


def test_the_environments_of_a_vector_are_left_alone_by_evaluations_too() -> None:
    env = gymnasium.vector.SyncVectorEnv([partial(limited, 30)] * 2)
    env.reset(seed=3)
    run = partial(soft_q, env, batch=2, steps=160)
    often, seldom = run(evaluations=20), run(evaluations=2)
    assert replace(often.history[-1], seconds=0.0) == replace(seldom.history[-1], seconds=0.0)
    stepped = env.step(env.action_space.sample() * 0)[0]
    env.reset(seed=3)
    assert np.array_equal(stepped, env.step(env.action_space.sample() * 0)[0])


@pytest.mark.parametrize("evaluations", [1, 3, 7])
def test_evaluations_are_spread_evenly(evaluations: int) -> None:
    found = soft_q(small(), batch=4, steps=210, evaluations=evaluations)
    visited = range(0, 216, 4)
    expected = [next(n for n in visited if n * evaluations >= k * 210) for k in range(evaluations + 1)]
    assert [one.steps for one in found.history] == expected
    assert found.stopped == "steps"
    assert found.steps == 212


def test_steps_that_are_longer_than_a_share_are_scored_once_each() -> None:
    task = training.Task(steps=100, evaluations=10)

    def at(steps: int) -> tuple[Progress, ...]:
        return (Progress(steps, 0, 0.0, 0.0, 0.0),)

    assert task.due(0, ())
    assert task.due(55, at(0))
    assert not task.due(58, at(55))  # the shares that were leapt over are gone
    assert task.due(60, at(55))
    assert task.due(130, at(90))
    assert not task.due(130, at(100))


@pytest.mark.slow
def test_a_target_ends_a_run_early(tmp_path: Path) -> None:
    world = load_world("frozen_lake", {"is_slippery": "False", "horizon": "30"})
    run = partial(cai.learn.q_learning, world, batch=50, **QUIET)
    whole = run(steps=20_000, evaluations=20)
    assert whole.history[0].deterministic_return < 0.9
    assert whole.history[-1].deterministic_return == pytest.approx(1.0, abs=1e-12)  # not exactly: that is no obstacle
    found = run(steps=20_000, evaluations=20, target=1.0, checkpoint=tmp_path / "kept")
    assert found.stopped == "target"
    assert found.steps < whole.steps
    assert [replace(one, seconds=0.0) for one in found.history] == told(whole)[3][: len(found.history)]
    assert all(one.deterministic_return < 0.9 for one in found.history[:-1])
    assert told(run(steps=20_000, evaluations=20, checkpoint=tmp_path / "kept")) == told(whole)
    assert run(steps=20_000, target=-1).steps == 0


# What surrounds a run


@pytest.mark.parametrize("name", slow_after(1, ["soft_pg network", "soft_q black box", "reinforce value"]))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_callers_randomness_and_dtype_are_left_alone_and_do_not_matter(name: str, dtype: torch.dtype) -> None:
    first = told(RUNS[name]())
    torch.manual_seed(123)
    np.random.seed(5)
    state = (torch.get_rng_state(), np.random.get_state()[1].tolist())
    with training.precision(dtype):
        found = told(RUNS[name]())
        assert torch.get_default_dtype() == dtype
        with pytest.raises(cai.WorldError):
            RUNS[name](steps=0)
        assert torch.get_default_dtype() == dtype
    assert equal(state, (torch.get_rng_state(), np.random.get_state()[1].tolist()))
    assert found == first
    assert told(RUNS[name](seed=7)) != first


@pytest.mark.slow
def test_normalising_is_part_of_the_policy_and_changes_what_is_learned() -> None:
    world = load_world("cartpole", overrides={"horizon": 30})
    run = partial(soft_pg, world, batch=4, steps=600, network=(8,), evaluations=1)
    plain, scaled = run(), run(normalise=True)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    seen, own = scaled.policy.simulator.features(x), plain.policy.simulator.features(x)
    assert torch.equal(own, x)
    spread = (own[0] - own[1]) / (seen[0] - seen[1])  # the deviations under the prior
    assert bool((spread > 0).all())
    assert float(spread[:3].max()) < float(spread[3])  # the pole's angular velocity differs most
    assert told(plain) != told(scaled)
    again = run(normalise=True)
    assert torch.equal(again.policy.simulator.features(x), seen)
    assert torch.equal(again.policy.log_pi(x, 0), scaled.policy.log_pi(x, 0))
    assert not torch.equal(run(normalise=True, seed=9).policy.simulator.features(x), seen)


# Many seeds


def failing(world: Any, *, seed: int, error: Callable[[], Exception], **options: Any) -> Learned:
    if seed == 2:
        raise error()
    return cai.learn.reinforce(world, seed=seed, batch=10, steps=60, **options)


class Odd(Exception):  # noqa: N818
    """Cannot be sent to another process."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"one {one}, other {other}")


@pytest.mark.parametrize("name", slow_after(1, ["soft_q_learning", "soft_reinforce"]))
def test_side_by_side_is_one_after_the_other(name: str, tmp_path: Path) -> None:
    asked = {"temperature": 0.5, "batch": 10, "steps": 150, "evaluations": 2, "progress": False}
    run = partial(cai.learn.many, name, small(), seeds=[3, 0, 8], **asked)
    alone = run(jobs=1)
    assert [one.seed for one in alone] == [3, 0, 8]
    for found in (run(jobs=2), run(jobs=2, folder=tmp_path / "kept", log=tmp_path / "logs")):
        assert list(map(told, found)) == list(map(told, alone))
    again = run(jobs=2, folder=tmp_path / "kept")
    assert [one.seconds for one in again] == [one.seconds for one in found]  # read, not learned anew
    assert list(map(told, again)) == list(map(told, alone))
    assert len(list((tmp_path / "logs").iterdir())) == 3
    for one, folder in zip(alone, ("3", "0", "8"), strict=True):
        (here,) = (tmp_path / "logs").glob(f"*-{folder}")
        assert [row["steps"] for row in lines(here)] == [row.steps for row in one.history]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: cai.fault("here", "a thing", "another"), ["here: a thing; expected another"]),
        (lambda: Odd(1, 2), ["Odd: one 1, other 2"]),
        (lambda: ZeroDivisionError("by zero"), ["ZeroDivisionError: by zero"]),
    ],
    ids=["ours", "odd", "python"],
)
def test_a_run_that_fails_in_another_process_is_quoted(error: Any, words: list[str]) -> None:
    refused(lambda: cai.learn.many(failing, small(), seeds=[0, 1, 2], jobs=2, progress=False, error=error), *words)


def test_a_run_that_is_killed_is_told_and_can_be_taken_up(tmp_path: Path) -> None:
    def kill() -> Exception:
        if not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ZeroDivisionError()

    run = partial(cai.learn.many, failing, small(), seeds=[0, 2], jobs=2, progress=False, error=kill)
    refused(partial(run, folder=tmp_path), "killed", "folder=")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"learner": "no_such"}, "'no_such'"),
        ({"learner": "soft_q_learning"}, "temperature: none"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"jobs": 0}, "jobs: 0"),
        ({"checkpoint": "here"}, "folder="),
    ],
)
def test_faults_of_many(asked: dict[str, Any], words: str) -> None:
    refused(lambda: cai.learn.many(**{"learner": "q_learning", "world": small(), "seeds": [1], **asked}), words)


# Faults


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"steps": 0}, "steps: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": True}, "seed: True"),
        ({"seed": 2**40}, "seed: 1099511627776"),
        ({"evaluations": 0}, "evaluations: 0"),
        ({"episodes": 0}, "episodes: 0"),
        ({"target": "high"}, "target: 'high'"),
        ({"normalise": "yes"}, "normalise: 'yes'"),
        ({"checkpoint": 3}, "checkpoint: 3"),
        ({"checkpoint": "FOLDER"}, "a folder"),
        ({"log": "FILE"}, "a file"),
        ({"checkpoint": "FILE/inside"}, "checkpoint"),
        ({"gamma": 1.5}, "gamma: 1.5"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_faults_are_one_line_that_names_the_option(asked: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").touch()
    (tmp_path / "FOLDER").mkdir()
    asked = {key: str(tmp_path / one) if str(one).startswith("F") else one for key, one in asked.items()}
    for learner in (soft_pg, cai.learn.q_learning):
        refused(partial(learner, small(), **{"progress": False, "steps": 30, **asked}), words)


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (cai.tabulate(small()), "tables"),
        ("NoSuchThing-v0", "NoSuchThing"),
        (PointMass, "makes a PointMass"),
        (None, "a NoneType"),
        (small(horizon=None, discount=0.9), "max_steps"),
    ],
    ids=["tables", "id", "class", "none", "endless"],
)
def test_faults_name_the_world(world: Any, words: str) -> None:
    refused(lambda: cai.learn.reinforce(world, steps=10, progress=False), words)


# Parts


@given(st.integers(0, 2**31 - 1))
def test_a_network_is_torchs(seed: int) -> None:
    simulator = simulator_of("CartPole-v1", 1)
    with drawing(seeded(seed)):
        function = function_of(simulator, 3, (5, 4), activation=torch.tanh)
        thetas, x = function.init(2), torch.randn(7, 4)
    assert isinstance(function, Network)
    torches = []
    for theta in thetas:
        module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        nn.utils.vector_to_parameters(theta, module.parameters())
        torches.append(module(x))
        own = function_of(simulator, 3, module)
        torch.testing.assert_close(own(theta, x), torches[-1])
        assert torch.equal(own.init(), theta)
    torch.testing.assert_close(function(thetas, x), torch.stack(torches))
    torch.testing.assert_close(function(thetas[0], x), torches[0])
    assert float(thetas.abs().max()) <= 0.5


def test_a_table_has_a_row_for_every_time_and_state() -> None:
    with training.precision(torch.float64):
        table = Table(WorldSimulator(FactoredWorld(), 1), 2, 3)
        theta = torch.arange(36.0)
        assert table.init().shape == theta.shape
        state = {"floor": torch.tensor([0, 2]), "door": torch.tensor([1, 0])}
        assert table(theta, table.inputs(state, torch.tensor([0, 2]))).tolist() == [[2, 3], [32, 33]]
        assert table(theta, table.inputs(state, 1)).tolist() == [[14, 15], [20, 21]]


@given(st.integers(0, 2**31 - 1), st.sampled_from([None, 0.1]))
def test_adam_is_torchs(seed: int, clip: float | None) -> None:
    g = torch.Generator().manual_seed(seed)
    theta = torch.randn(5, generator=g, dtype=torch.float64)
    own, theirs = Adam(0.03, clip), nn.Parameter(theta.clone())
    optimizer, moments = torch.optim.Adam([theirs], lr=0.03), own.init(theta)
    for _ in range(4):
        gradient = torch.randn(5, generator=g, dtype=torch.float64)
        before, held = theta.clone(), {name: one.clone() for name, one in moments.items()}
        following, after = own(theta, gradient, moments)
        assert torch.equal(theta, before)
        assert equal(moments, held)
        theirs.grad = gradient.clone()
        if clip is not None:
            nn.utils.clip_grad_norm_([theirs], clip)
        optimizer.step()
        theta, moments = following, after
        torch.testing.assert_close(theta, theirs.detach(), rtol=1e-4 if clip else 1e-12, atol=1e-7 if clip else 0)


@given(st.integers(1, 7), st.integers(1, 25), st.integers(1, 3), st.integers(0, 2**31 - 1))
def test_a_ring_remembers_its_last_rows_in_their_order(capacity: int, rows: int, ahead: int, seed: int) -> None:
    ring = replay.empty(capacity, {"x": torch.zeros(2, 1), "n": torch.zeros(2, dtype=torch.long)})
    for n in range(rows):
        ring = replay.add(ring, {"x": torch.tensor([[n], [n + 0.5]]), "n": torch.tensor([n, -n])})
    held = list(range(max(rows - capacity, 0), rows))
    if len(held) < ahead:
        return
    with drawing(seeded(seed)):
        row, copy = replay.places(ring, 200, ahead)
    starts = {int(n) for n in replay.read(ring, "n", row, torch.zeros_like(copy))}
    assert starts == set(held[: len(held) - ahead + 1])
    for k in range(ahead):
        x = replay.read(ring, "x", row + k, copy).squeeze(-1)
        first = replay.read(ring, "x", row, copy).squeeze(-1)
        assert torch.equal(x, first + k)
        assert torch.equal(x.frac() > 0, copy == 1)


def test_a_ring_without_room_is_a_fault() -> None:
    refused(lambda: soft_q(small(), batch=8, capacity=7, steps=30), "capacity")

"""fit can be stopped, killed and taken up again, with the numbers of a run without a break."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyro
import pytest
import torch

import cai
from tests.helpers import slow_after
from tests.worlds import RandomWorld, Ring

pytestmark = pytest.mark.usefixtures("float64")


def small(**options) -> RandomWorld:
    return RandomWorld(3, 3, 2, 2, 3, holes=False, **options)


def numbers(found: cai.learn.Learned) -> list[tuple[int, float, float | None]]:
    return [(one.steps, one.elbo, one.policy_nats) for one in found.history]


@pytest.mark.parametrize("estimator", slow_after(1, ["tables", "score"]))
def test_a_resumed_fit_has_the_numbers_of_an_uninterrupted_one(tmp_path: Path, estimator: str) -> None:
    world, options = small(), {"estimator": estimator, "particles": 10, "every": 7, "tolerance": 0.0, "seed": 5}
    whole = cai.fit(world, cai.policies.TabularPolicy(world), steps=16, **options)
    path = tmp_path / "fit.pt"
    for steps in (4, 11, 16):
        found = cai.fit(world, cai.policies.TabularPolicy(world), steps=steps, checkpoint=path, **options)
    assert numbers(found) == numbers(whole)
    assert torch.equal(found.policy.logits, whole.policy.logits)
    again = cai.fit(world, cai.policies.TabularPolicy(world), steps=16, checkpoint=path, **options)
    assert numbers(again) == numbers(whole)


def test_a_schedule_is_taken_up_where_it_was(tmp_path: Path) -> None:
    def run(steps: int, path: Path | None = None) -> cai.learn.Learned:
        settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9}
        optimizer = pyro.optim.ExponentialLR(settings)
        return cai.fit(
            small(),
            cai.policies.TabularPolicy(small()),
            optimizer=optimizer,
            steps=steps,
            checkpoint=path,
            tolerance=0.0,
        )

    run(7, tmp_path / "fit.pt")
    assert numbers(run(20, tmp_path / "fit.pt")) == numbers(run(20))


@pytest.mark.slow
def test_a_torch_optimiser_is_taken_up_where_it_was(tmp_path: Path) -> None:
    def run(steps: int, path: Path | None = None) -> cai.learn.Learned:
        policy = cai.policies.TabularPolicy(small())
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
        options = {"estimator": "score", "particles": 5, "tolerance": 0.0}
        return cai.fit(small(), policy, optimizer=optimizer, steps=steps, checkpoint=path, **options)

    run(5, tmp_path / "fit.pt")
    assert numbers(run(9, tmp_path / "fit.pt")) == numbers(run(9))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    def run(seed: int) -> list[tuple[int, float, float | None]]:
        return numbers(
            cai.fit(small(), cai.policies.TabularPolicy(small()), estimator="score", steps=8, particles=5, seed=seed)
        )

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    path, world = tmp_path / "fit.pt", small()
    cai.fit(world, steps=3, checkpoint=path, tolerance=0.0)
    for other in ({"temperature": 2.0}, {"seed": 1}, {"estimator": "enumeration"}):
        with pytest.raises(cai.WorldError, match=next(iter(other))):
            cai.fit(world, steps=3, checkpoint=path, **other)
    with pytest.raises(cai.WorldError, match="world"):
        cai.fit(RandomWorld(4, 3, 2, 2, 3, holes=False), steps=3, checkpoint=path)
    with pytest.raises(cai.WorldError, match="policy"):
        cai.fit(world, cai.policies.TabularPolicy(world, stationary=True), steps=3, checkpoint=path)
    other = small()
    other.last = other.last + 1.0  # a terminal reward
    with pytest.raises(cai.WorldError, match="world"):
        cai.fit(other, steps=3, checkpoint=path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(cai.WorldError, match="no checkpoint of a learner"):
        cai.fit(world, steps=3, checkpoint=path)
    torch.save({"step": 1}, path)
    with pytest.raises(cai.WorldError, match="no checkpoint of a learner"):
        cai.fit(world, steps=3, checkpoint=path)


def test_a_checkpoint_of_another_world_without_tables_is_refused(tmp_path: Path) -> None:
    class Dearer(Ring):
        def step(self, state, action, t):
            following, reward = super().step(state, action, t)
            return following, reward - 0.01

    Dearer.__name__ = "Ring"
    options = {"steps": 1, "particles": 2, "samples": 10, "checkpoint": tmp_path / "fit.pt"}
    cai.fit(Ring(5, 2), cai.policies.NeuralPolicy(Ring(5, 2)), **options)  # tables
    options["checkpoint"] = tmp_path / "ring.pt"
    cai.fit(Ring(horizon=2), **options)
    cai.fit(Ring(horizon=2), **options)
    with pytest.raises(cai.WorldError, match="world"):
        cai.fit(Dearer(horizon=2), **options)


SCRIPT = """
import sys, torch, cai
torch.set_default_dtype(torch.float64)
from tests.worlds import RandomWorld
world = RandomWorld(3, 3, 2, 2, 3, holes=False)
found = cai.fit(world, cai.policies.TabularPolicy(world), estimator="score", particles=10, steps=int(sys.argv[2]),
                checkpoint=sys.argv[1], every=5, tolerance=0.0)
print(found.stopped, found.steps, found.elbo)
"""


def started(path: Path, steps: int) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(path), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=root)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_result_and_sigkill_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    process = started(path, 100_000)
    wait_for(path, process)
    process.send_signal(signal.SIGINT)
    stopped, steps, elbo = process.communicate(timeout=60)[0].split()[-3:]
    assert stopped == "interrupted"
    world = small()
    options = {"estimator": "score", "particles": 10, "every": 5, "tolerance": 0.0, "progress": False}
    whole = cai.fit(world, cai.policies.TabularPolicy(world), steps=int(steps), **options)
    assert whole.elbo == float(elbo)

    written = path.stat().st_mtime_ns
    process = started(path, 100_000)
    until = time.monotonic() + 60
    while path.stat().st_mtime_ns == written:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.communicate()
    kept = int(torch.load(path, weights_only=True)["updates"])
    assert kept > int(steps)
    found = cai.fit(world, cai.policies.TabularPolicy(world), steps=kept + 3, checkpoint=path, **options)
    whole = cai.fit(world, cai.policies.TabularPolicy(world), steps=kept + 3, **options)
    assert numbers(found) == numbers(whole)


def test_ctrl_c_in_this_process_ends_the_fit_after_the_step_and_gives_the_handler_back() -> None:
    class Pressed(cai.policies.TabularPolicy):
        calls = 0

        def act(self, state, t):
            self.calls += 1
            if self.calls == 40:
                os.kill(os.getpid(), signal.SIGINT)
            return super().act(state, t)

    mine = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = cai.fit(small(), Pressed(small()), estimator="score", steps=100_000, tolerance=0.0)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, mine)
    assert found.stopped == "interrupted"
    assert 0 < found.steps < 20

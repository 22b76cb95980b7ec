"""fit: what it reaches, that it can be stopped and taken up again, and that it says what is wrong."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import Trace_ELBO, TraceEnum_ELBO

import cai
from tests.helpers import load_model
from tests.worlds import FactoredWorld, PointMass, RandomWorld, Ring, random_worlds

pytestmark = pytest.mark.usefixtures("float64")


def small(**options) -> RandomWorld:
    return RandomWorld(3, 3, 2, 2, 3, holes=False, **options)


# What it reaches


def test_frozen_lake_comes_within_a_thousandth_of_elbo_star() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=100, map_name="8x8")
    found = cai.fit(lake, temperature=0.1, tolerance=1e-3)
    assert (found.estimator, found.stopped) == ("tables", "gap")
    assert 0 <= cai.evaluate(lake, found, temperature=0.1).optimality_gap <= 1e-3


def test_slippery_cliff_comes_within_a_thousandth_and_a_stationary_policy_cannot() -> None:
    cliff = cai.tabulate(cai.from_gymnasium("CliffWalking-v1", horizon=100, is_slippery=True))
    found = cai.fit(cliff, tolerance=1e-3)
    assert found.stopped == "gap"
    assert 0 <= cai.evaluate(cliff, found).optimality_gap <= 1e-3
    still = cai.fit(cliff, cai.TabularPolicy(cliff, stationary=True), tolerance=1e-3, steps=600)
    assert still.stopped == "steps"
    assert 4.0 < still.gap < 4.2  # near the end nothing is to be gained any more, which a stationary table cannot know
    assert still.history[-1].gap == still.gap


@settings(max_examples=15)
@given(random_worlds(discount=1.0), st.sampled_from([0.3, 1.0]))
def test_any_random_world_is_climbed_to_elbo_star(world: RandomWorld, alpha: float) -> None:
    try:
        star = float(cai.solve(world, cai.VARIATIONAL, temperature=alpha).elbo)
    except cai.ImpossibleError:
        with pytest.raises(cai.ImpossibleError):
            cai.fit(world, temperature=alpha)
        return
    found = cai.fit(world, temperature=alpha, tolerance=1e-6, progress=False)
    assert found.stopped == "gap"
    assert found.elbo == pytest.approx(star, abs=2e-6)


def test_deterministic_dynamics_and_one_start_leave_no_kl_to_the_posterior() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=20, is_slippery=False)
    for alpha in (1.0, 0.1):
        found = cai.fit(lake, temperature=alpha, tolerance=1e-7)
        account = cai.evaluate(lake, found, temperature=alpha)
        assert account.evidence_gap < 1e-6
        assert account.start_nats == pytest.approx(0.0, abs=1e-9)
        assert float(account.luck_nats.sum()) == pytest.approx(0.0, abs=1e-9)


def test_taxi_keeps_exactly_the_nats_of_its_random_start() -> None:
    taxi = cai.tabulate(load_model("taxi")())
    taxi = replace(taxi, horizon=25)
    found = cai.fit(taxi, tolerance=1e-6)
    account = cai.evaluate(taxi, found)
    start = cai.solve(taxi).initial()
    p = taxi.log_initial.exp()
    kl = torch.where(p > 0, p * (p / start.clamp(min=1e-300)).log(), 0.0).sum()
    assert account.start_nats > 0.1
    assert account.start_nats == pytest.approx(float(kl), rel=1e-9)
    assert account.evidence_gap == pytest.approx(account.start_nats, abs=2e-6)


@pytest.mark.parametrize("estimator", ["tables", "enumeration"])
def test_exact_estimators_make_the_same_climb(estimator: str) -> None:
    world = small(discount=0.8)
    here = cai.fit(world, cai.TabularPolicy(world), estimator=estimator, steps=30, tolerance=0.0)
    there = cai.fit(world, cai.TabularPolicy(world), estimator="tables", steps=30, tolerance=0.0)
    for one, two in zip(here.history, there.history, strict=True):
        assert one.elbo == pytest.approx(two.elbo, abs=1e-9)
        assert one.gap == pytest.approx(two.gap, abs=1e-9)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_score_function_climbs_too(discount: float) -> None:
    world = small(discount=discount)
    found = cai.fit(world, cai.TabularPolicy(world), estimator="score", steps=150, tolerance=0.002, every=10)
    start = found.elbo_star - cai.elbo(world, None).value
    assert found.gap < 0.1 * start
    assert found.standard_error == 0.0  # the fit was sampled, its measure is exact
    noisy, exact = found.history[3], found.history[10]
    assert noisy.gap is None
    assert exact.gap is not None


def test_the_infinite_horizon_is_climbed_on_its_tables() -> None:
    world = RandomWorld(3, 4, 2, 2, None, holes=False, discount=0.9, positive=False)
    found = cai.fit(world, temperature=0.5, tolerance=1e-5)
    assert (found.estimator, found.stopped) == ("tables", "gap")


def test_a_neural_policy_learns_on_tables() -> None:
    world = FactoredWorld()
    found = cai.fit(world, cai.NeuralPolicy(world, hidden=(32,)), steps=600, tolerance=1e-3)
    assert found.stopped == "gap"
    assert cai.evaluate(world, found).optimality_gap < 1e-3


def test_a_module_of_one_s_own_with_act_alone_can_be_fitted() -> None:
    world = small()

    class Mine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.zeros(3, 2))

        def act(self, state, t):
            return pyro.sample("a", pyro.distributions.Categorical(logits=self.table[state]))

    for estimator in ("tables", "enumeration"):
        found = cai.fit(world, Mine(), steps=100, estimator=estimator)
        assert found.history[-1].elbo > found.history[0].elbo + 0.1
        assert cai.evaluate(world, found).elbo == pytest.approx(found.elbo, abs=1e-9)


# Where the exact answer cannot be had


def test_ten_to_the_twelve_states_get_a_standard_error_and_no_gap() -> None:
    world = Ring()
    with pytest.raises(cai.IntractableError):
        cai.tabulate(world)
    before = cai.elbo(world, cai.NeuralPolicy(world), temperature=0.05, samples=2000)
    found = cai.fit(world, temperature=0.05, steps=6, particles=20, samples=2000)
    assert isinstance(found.policy, cai.NeuralPolicy)
    assert (found.estimator, found.elbo_star, found.gap) == ("score", None, None)
    assert found.standard_error > 0
    assert found.samples == 2000
    both = (found.standard_error**2 + before.standard_error**2) ** 0.5
    assert found.elbo > before.value + 3 * both
    assert "±" in repr(found)


def test_a_continuous_world_is_climbed_through_its_samples() -> None:
    """The posterior of a linear-Gaussian world by conditioning one joint Gaussian: no fit may beat log Z."""
    world = PointMass()
    found = cai.fit(world, steps=300, particles=50, optimizer=pyro.optim.Adam({"lr": 0.02}))
    assert found.estimator == "reparameterised"
    assert found.gap is None
    log_z = gaussian_evidence(world.horizon)
    assert found.elbo < log_z + 4 * found.standard_error
    assert found.elbo > cai.elbo(world, None, samples=20_000).value + 3.0
    # the best policy: u = -x m with the Riccati gain of cost (x + u)² and price u²/2; x' noise cannot be steered
    assert found.elbo == pytest.approx(riccati_elbo(world.horizon), abs=0.1)


def gaussian_evidence(T: int) -> float:
    """log Z with x_{t+1} = x_t + u_t + 0.1 ε, r = -(x_t + u_t)²: a backward recursion of exp(-a x² - c)."""
    a, c = torch.tensor(0.0), torch.tensor(0.0)
    for _ in range(T):
        # over ε: exp(-a (y + 0.1 ε)²) -> exp(-a' y²)/sqrt(1 + 2 a 0.01), a' = a/(1 + 2 a 0.01)
        c = c + 0.5 * torch.log1p(2 * a * 0.01)
        a = a / (1 + 2 * a * 0.01) + 1.0
        # over u ~ N(0, 1): y = x + u, the same with variance 1
        c = c + 0.5 * torch.log1p(2 * a)
        a = a / (1 + 2 * a)
    c = c + 0.5 * torch.log1p(2 * a * 0.25)
    a = a / (1 + 2 * a * 0.25)
    return float(-a * 1.0 - c)


def riccati_elbo(T: int) -> float:
    """ELBO* with the dynamics held: the noise costs its mean, the action is soft."""
    a, c = torch.tensor(0.0), torch.tensor(0.0)
    for _ in range(T):
        c = c + a * 0.01  # E[a (y + 0.1 ε)²] = a y² + 0.01 a
        a = a + 1.0
        c = c + 0.5 * torch.log1p(2 * a)
        a = a / (1 + 2 * a)
    return float(-a * (1.0 + 0.25) - c)


def test_a_bounded_action_space_is_climbed_by_a_squashed_gaussian() -> None:
    world = PointMass(bounded=True)
    found = cai.fit(world, steps=150, particles=50, optimizer=pyro.optim.Adam({"lr": 0.02}))
    assert found.estimator == "reparameterised"
    assert found.elbo > cai.elbo(world, None, samples=20_000).value + 0.5


# The full guide


@pytest.mark.parametrize("kind", ["plain", "dying", "factored"])
def test_the_full_guide_becomes_the_posterior(kind: str) -> None:
    world = FactoredWorld() if kind == "factored" else small(discount=0.8 if kind == "dying" else 1.0)
    world.horizon = 2
    guide = cai.FullGuide(world)
    found = cai.fit(world, guide, steps=500, tolerance=1e-7)
    assert found.estimator == "enumeration"
    post = cai.solve(world)
    assert found.elbo_star == pytest.approx(float(post.log_evidence), abs=1e-12)
    assert abs(found.gap) < 1e-6  # KL(guide ‖ p(τ|O))
    with torch.no_grad():
        bent = cai.tabulate(guide)
    close = {"rtol": 0, "atol": 3e-3}  # KL is quadratic in the distance: its root
    torch.testing.assert_close(bent.log_initial.exp(), post.initial(), **close)
    for t in range(world.horizon):
        seen = post.marginals(t) > 1e-3
        torch.testing.assert_close(bent.at(t).log_prior.exp(), post.policy.probs(t), **close)
        torch.testing.assert_close(bent.at(t).log_prob.exp()[seen], post.dynamics(t).exp()[seen], **close)
    if guide.survival is not None:
        s = torch.arange(3)
        torch.testing.assert_close(guide.survive(s, 0).detach(), post.survival(0), **close)


def test_the_full_guide_at_the_posterior_has_no_kl_at_all() -> None:
    """Set by hand to p(x|…) times the messages' tilt: the enumerated ELBO is log Z to rounding."""
    world = small()
    post, guide = cai.solve(world), cai.FullGuide(world)
    guide.tables["initial"]["of s"].data = post.log_initial() - cai.tabulate(world).log_initial
    for t in range(3):
        guide.tables["act"]["of a"].data[t] = post.policy.log_probs(t)
        guide.tables["step"]["of k"].data[t] = post.dynamics(t)
    for t in range(3):
        one = cai.tabulate(world).at(t)
        guide.tables["act"]["of a"].data[t] -= one.log_prior
        guide.tables["step"]["of k"].data[t] -= one.log_prob
    found = cai.fit(world, guide, steps=0)
    assert found.elbo == pytest.approx(float(post.log_evidence), abs=1e-12)


def test_what_a_full_guide_cannot_bend() -> None:
    with pytest.raises(cai.WorldError, match="finite horizon"):
        cai.FullGuide(RandomWorld(0, 2, 2, 2, None, discount=0.9))
    with pytest.raises(cai.IntractableError, match="parameters"):
        cai.FullGuide(small(), max_entries=10)
    with pytest.raises(cai.IntractableError, match="parameters"):
        cai.FullGuide(Ring(70))


# Optimisers and objectives


def test_any_optimiser_and_any_pyro_objective() -> None:
    world = small()
    for optimizer in (pyro.optim.ClippedAdam({"lr": 0.05}), pyro.optim.SGD({"lr": 0.5})):
        found = cai.fit(world, optimizer=optimizer, steps=60)
        assert found.history[-1].elbo > found.history[0].elbo
    policy = cai.TabularPolicy(world)
    found = cai.fit(world, policy, optimizer=torch.optim.RMSprop(policy.parameters(), lr=0.05), steps=60)
    assert found.history[-1].elbo > found.history[0].elbo
    scheduled = pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5})
    policy = cai.TabularPolicy(world)
    cai.fit(world, policy, optimizer=scheduled, steps=60, tolerance=0.0)
    assert float(policy.logits.detach().abs().max()) < 0.2 + 1e-9  # Σ 0.1 · 0.5^n: the schedule was followed
    plateau = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "patience": 1}
    cai.fit(world, cai.TabularPolicy(world), optimizer=pyro.optim.ReduceLROnPlateau(plateau), steps=10)
    for objective in (Trace_ELBO(num_particles=5), TraceEnum_ELBO(max_plate_nesting=0)):
        found = cai.fit(world, cai.TabularPolicy(world), estimator=objective, steps=5)
        assert found.estimator == type(objective).__name__


def test_the_param_store_and_the_random_state_of_the_caller_are_left_alone() -> None:
    store = pyro.get_param_store()
    store.clear()
    pyro.param("mine", torch.tensor(2.0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    cai.fit(small(), cai.TabularPolicy(small()), estimator="score", steps=3)
    assert list(store.keys()) == ["mine"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float64
    store.clear()


# Stopping and going on


def numbers(found: cai.Fit) -> list[tuple[int, float, float | None]]:
    return [(one.step, one.elbo, one.gap) for one in found.history]


@pytest.mark.parametrize("estimator", ["tables", "score"])
def test_a_resumed_fit_has_the_numbers_of_an_uninterrupted_one(tmp_path: Path, estimator: str) -> None:
    world, options = small(), {"estimator": estimator, "particles": 10, "every": 7, "tolerance": 0.0, "seed": 5}
    whole = cai.fit(world, cai.TabularPolicy(world), steps=30, **options)
    path = tmp_path / "fit.pt"
    for steps in (4, 11, 30):
        found = cai.fit(world, cai.TabularPolicy(world), steps=steps, checkpoint=path, **options)
    assert numbers(found) == numbers(whole)
    assert torch.equal(found.policy.logits, whole.policy.logits)
    again = cai.fit(world, cai.TabularPolicy(world), steps=30, checkpoint=path, **options)
    assert numbers(again) == numbers(whole)


def test_a_schedule_is_taken_up_where_it_was(tmp_path: Path) -> None:
    def run(steps: int, path: Path | None = None) -> cai.Fit:
        settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9}
        optimizer = pyro.optim.ExponentialLR(settings)
        return cai.fit(
            small(), cai.TabularPolicy(small()), optimizer=optimizer, steps=steps, checkpoint=path, tolerance=0.0
        )

    run(7, tmp_path / "fit.pt")
    assert numbers(run(20, tmp_path / "fit.pt")) == numbers(run(20))


def test_a_torch_optimiser_is_taken_up_where_it_was(tmp_path: Path) -> None:
    def run(steps: int, path: Path | None = None) -> cai.Fit:
        policy = cai.TabularPolicy(small())
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
        options = {"estimator": "score", "particles": 5, "tolerance": 0.0}
        return cai.fit(small(), policy, optimizer=optimizer, steps=steps, checkpoint=path, **options)

    run(5, tmp_path / "fit.pt")
    assert numbers(run(9, tmp_path / "fit.pt")) == numbers(run(9))


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    def run(seed: int) -> list[tuple[int, float, float | None]]:
        return numbers(cai.fit(small(), cai.TabularPolicy(small()), estimator="score", steps=8, particles=5, seed=seed))

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
        cai.fit(world, cai.TabularPolicy(world, stationary=True), steps=3, checkpoint=path)
    other = small()
    other.last = other.last + 1.0  # a terminal reward
    with pytest.raises(cai.WorldError, match="world"):
        cai.fit(other, steps=3, checkpoint=path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(cai.WorldError, match="no checkpoint of a fit"):
        cai.fit(world, steps=3, checkpoint=path)
    torch.save({"step": 1}, path)
    with pytest.raises(cai.WorldError, match="no checkpoint of a fit"):
        cai.fit(world, steps=3, checkpoint=path)


def test_a_checkpoint_of_another_world_without_tables_is_refused(tmp_path: Path) -> None:
    class Dearer(Ring):
        def step(self, state, action, t):
            following, reward = super().step(state, action, t)
            return following, reward - 0.01

    Dearer.__name__ = "Ring"
    options = {"steps": 1, "particles": 2, "samples": 10, "checkpoint": tmp_path / "fit.pt"}
    cai.fit(Ring(5, 2), cai.NeuralPolicy(Ring(5, 2)), **options)  # tables
    options["checkpoint"] = tmp_path / "ring.pt"
    cai.fit(Ring(), **options)
    cai.fit(Ring(), **options)
    with pytest.raises(cai.WorldError, match="world"):
        cai.fit(Dearer(), **options)


SCRIPT = """
import sys, torch, cai
torch.set_default_dtype(torch.float64)
from tests.worlds import RandomWorld
world = RandomWorld(3, 3, 2, 2, 3, holes=False)
found = cai.fit(world, cai.TabularPolicy(world), estimator="score", particles=10, steps=int(sys.argv[2]),
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


def test_ctrl_c_leaves_a_usable_result_and_sigkill_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    process = started(path, 100_000)
    wait_for(path, process)
    process.send_signal(signal.SIGINT)
    stopped, steps, elbo = process.communicate(timeout=60)[0].split()[-3:]
    assert stopped == "interrupted"
    world = small()
    options = {"estimator": "score", "particles": 10, "every": 5, "tolerance": 0.0, "progress": False}
    whole = cai.fit(world, cai.TabularPolicy(world), steps=int(steps), **options)
    assert whole.elbo == float(elbo)

    written = path.stat().st_mtime_ns
    process = started(path, 100_000)
    until = time.monotonic() + 60
    while path.stat().st_mtime_ns == written:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.communicate()
    kept = int(torch.load(path, weights_only=True)["step"])
    assert kept > int(steps)
    found = cai.fit(world, cai.TabularPolicy(world), steps=kept + 3, checkpoint=path, **options)
    whole = cai.fit(world, cai.TabularPolicy(world), steps=kept + 3, **options)
    assert numbers(found) == numbers(whole)


def test_ctrl_c_in_this_process_ends_the_fit_after_the_step_and_gives_the_handler_back() -> None:
    class Pressed(cai.TabularPolicy):
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


# What is wrong


class Trap(RandomWorld):
    """Action 1 risks a reward of -inf."""

    def step(self, state, action, t):
        following, reward = super().step(state, action, t)
        return following, torch.where(action == 1, -torch.inf, reward)


def test_a_policy_that_risks_the_forbidden_is_named_and_left_whole() -> None:
    world = Trap(0, 3, 2, 2, 3, holes=False)
    for estimator in ("tables", "enumeration", "score"):
        policy = cai.TabularPolicy(world)
        with pytest.raises(cai.WorldError, match=r"t = 0, state s=\d: a=1 can be chosen, which risks a reward of -inf"):
            cai.fit(world, policy, estimator=estimator, steps=5)
        assert bool((policy.logits == 0).all())
        assert policy.logits.grad is None or bool((policy.logits.grad == 0).all())
    safe = cai.without_risk(world)
    for policy in (cai.TabularPolicy(safe, stationary=True), cai.NeuralPolicy(safe, hidden=(8,))):
        assert cai.fit(world, policy, steps=100).gap < 0.01
    found = cai.fit(world, tolerance=1e-5)  # the default policy keeps to what is safe
    assert found.stopped == "gap"
    assert bool((found.policy.probs(0)[:, 1] == 0).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -1}, "steps"),
        ({"particles": 0}, "particles"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"every": 0}, "every"),
        ({"temperature": torch.tensor([1.0, 2.0])}, "one temperature"),
        ({"temperature": 0.0}, "temperature"),
        ({"estimator": "magic"}, "'tables', 'enumeration'"),
        ({"optimizer": -3.0}, "step size"),
        ({"seed": 10**30}, "seed"),
        ({"policy": "left"}, "a torch module with act"),
        ({"policy": torch.nn.Linear(1, 1)}, "a torch module with act"),
    ],
)
def test_a_wrong_argument_is_named(options: dict, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.fit(small(), **options)


def test_more_wrong_arguments() -> None:
    world = small()
    policy = cai.TabularPolicy(world)
    with pytest.raises(cai.WorldError, match="closure"):
        cai.fit(world, policy, optimizer=torch.optim.LBFGS(policy.parameters()))
    with pytest.raises(cai.WorldError, match="a world, whose program can be run"):
        cai.fit(cai.tabulate(world), estimator="enumeration")
    with pytest.raises(cai.WorldError, match="something to fit"):
        cai.fit(world, policy.requires_grad_(False))
    with pytest.raises(cai.WorldError, match="one world"):
        cai.fit(cai.stack([cai.tabulate(world), cai.tabulate(world)]))
    with pytest.raises(cai.WorldError, match="horizon"):
        cai.fit(world, cai.TabularPolicy(RandomWorld(3, 3, 2, 2, 2, holes=False)))
    for estimator in ("tables", "enumeration"):
        with pytest.raises(cai.IntractableError):
            cai.fit(Ring(), estimator=estimator)
    with pytest.raises(cai.IntractableError):
        cai.fit(PointMass(), cai.NeuralPolicy(PointMass()), estimator="enumeration")
    with pytest.raises(cai.WorldError, match="full guide"):
        cai.fit(world, cai.FullGuide(world), estimator="tables")


def test_nothing_is_possible_says_so() -> None:
    world = RandomWorld(0, 2, 2, 2, 2, holes=False)
    world.reward = torch.full_like(world.reward, -torch.inf)
    with pytest.raises(cai.ImpossibleError):
        cai.fit(world)

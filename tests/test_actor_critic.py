"""Soft actor-critic: its losses against sums and loops, its head against torch's, and what it learns."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import AffineTransform, Normal, TransformedDistribution, Uniform
from torch.distributions.transforms import TanhTransform

import cai
from cai.bridges.named import load_world
from cai.learn.action_expectations import Drawn, Summed
from cai.learn.action_heads import Squashed
from cai.learn.algorithms.actor_critic import GAMMA, ActorCritic, critic_loss, sac
from cai.learn.checkpoint import Checkpoint
from cai.learn.functions import Network
from cai.learn.problem import Problem, State
from cai.learn.result import Learned
from cai.learn.training import problem_of, step
from cai.policies.heads import MARGIN, tanh_gaussian
from cai.simulate.environments import EnvironmentSimulator
from cai.simulate.simulator import seeded
from cai.support.process import precision
from tests.helpers import examples, slow_after
from tests.worlds import PointMass, RandomWorld, TimedWorld

SHORT: dict[str, Any] = {
    "network": (16,),
    "batch": 2,
    "minibatch": 8,
    "warmup": 20,
    "capacity": 1000,
    "progress": False,
}
seeds = st.integers(0, 2**31 - 1)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(theta: np.ndarray, sizes: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """One state through a multilayer perceptron, one sum after the other."""
    start = 0
    for n, (before, after) in enumerate(pairwise(sizes)):
        weight, start = theta[start : start + before * after].reshape(after, before), start + before * after
        bias, start = theta[start : start + after], start + after
        x = np.array([sum(w * one for w, one in zip(row, x, strict=True)) for row in weight]) + bias
        x = x if n == len(sizes) - 2 else np.maximum(x, 0)
    return x


# The losses


@given(seeds)
def test_the_critics_loss_is_half_a_squared_error_of_each(seed: int) -> None:
    q, target = drawn(seed, 2, 5), drawn(seed + 1, 5)
    naive = sum(0.5 * sum((q[k, n] - target[n]) ** 2 for n in range(5)) / 5 for k in range(2))
    assert float(critic_loss(q, target)) == pytest.approx(float(naive), abs=1e-12)


@examples(6)
@given(seeds, st.floats(0.01, 5))
def test_the_value_of_finitely_many_actions_is_a_sum(seed: int, alpha: float) -> None:
    critic = Network(EnvironmentSimulator("CartPole-v1", 1), (4, 5, 3))
    theta, x, out = drawn(seed, 2, 43), drawn(seed + 1, 6, 4), drawn(seed + 2, 6, 3)
    prior = drawn(seed + 3, 6, 3).index_fill(-1, torch.tensor([seed % 3]), -torch.inf).log_softmax(-1)
    v, kl = Summed(critic).value(theta, x, out, prior, alpha)
    for n in range(6):
        q = np.minimum(*[by_hand(theta[k].numpy(), critic.sizes, x[n].numpy()) for k in range(2)])
        pi = (prior[n] + out[n]).exp().numpy()
        pi = pi / pi.sum()
        p = prior[n].exp().numpy()
        nats = sum(pi[a] * math.log(pi[a] / p[a]) for a in range(3) if p[a] > 0)
        assert float(kl[n]) == pytest.approx(nats, abs=1e-10)
        assert float(v[n]) == pytest.approx(float(pi @ q) - alpha * nats, abs=1e-9)


@given(seeds)
def test_a_forbidden_action_leaves_the_gradient_finite(seed: int) -> None:
    critic = Network(EnvironmentSimulator("CartPole-v1", 1), (4, 3))
    out = drawn(seed, 6, 3).requires_grad_()
    prior = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64).log().expand(6, 3)
    v, _ = Summed(critic).value(drawn(seed, 2, 15), drawn(seed, 6, 4), out, prior, 0.3)
    (gradient,) = torch.autograd.grad(v.sum(), out)
    assert bool(gradient.isfinite().all())
    assert bool((gradient[:, 1] == 0).all())


@examples(6)
@given(seeds, st.floats(0.01, 5))
def test_the_value_of_a_draw_is_that_of_its_action(seed: int, alpha: float) -> None:
    simulator = EnvironmentSimulator("Pendulum-v1", 1)
    bound = torch.tensor([2.0], dtype=torch.float64)
    over = Drawn(Squashed(simulator, -bound, bound), Network(simulator, (4, 5, 1)))
    theta, x, out = drawn(seed, 2, 31), drawn(seed + 1, 6, 3), drawn(seed + 2, 6, 2)
    with precision(torch.float64), torch.random.fork_rng():
        torch.manual_seed(seed)
        v, ratio = over.value(theta, x, out, torch.zeros(()), alpha)
        torch.manual_seed(seed)
        noise = torch.randn(6, 1)
    for n in range(6):
        deviation = 0.9 * math.exp(float(out[n, 1].clamp(-5, 2)))
        u = float(out[n, 0]) + deviation * float(noise[n])
        log_pi = float(Normal(out[n, 0], deviation).log_prob(torch.tensor(u, dtype=torch.float64))) - 2 * math.log(
            2 / (2 * math.cosh(u))
        )
        seen = np.append(x[n].numpy(), math.tanh(u))
        q = min(by_hand(theta[k].numpy(), (4, 5, 1), seen)[0] for k in range(2))
        assert float(ratio[n]) == pytest.approx(log_pi - math.log(1 / 2), abs=1e-9)
        assert float(v[n]) == pytest.approx(q - alpha * float(ratio[n]), abs=1e-9)


# The head


@examples(12)
@given(seeds)
def test_the_ratio_of_a_squashed_gaussian_is_torchs(seed: int) -> None:
    low, high = torch.tensor([-2.0, 0.0], dtype=torch.float64), torch.tensor([2.0, 5.0], dtype=torch.float64)
    actor = Squashed(EnvironmentSimulator("Pendulum-v1", 1), low, high)
    out = drawn(seed, 7, 4).clamp(-1.5, 1.5)
    with precision(torch.float64), torch.random.fork_rng():
        torch.manual_seed(seed)
        code = actor.draw(out, torch.zeros(()))
    mean, log_scale = out.chunk(2, -1)
    normal = Normal(mean, 0.9 * log_scale.exp())
    squash = [TanhTransform(cache_size=1), AffineTransform((low + high) / 2, (high - low) / 2, cache_size=1)]
    density = TransformedDistribution(normal, squash).log_prob(_through(squash, code)).sum(-1)
    uniform = Uniform(low, high).log_prob((low + high) / 2).sum()
    torch.testing.assert_close(actor.ratio(out, torch.zeros(()), code), density - uniform, rtol=0, atol=1e-9)


@given(seeds)
def test_the_head_is_that_of_neural_policies(seed: int) -> None:
    low, high = torch.tensor([-2.0, 0.0], dtype=torch.float64), torch.tensor([2.0, 5.0], dtype=torch.float64)
    actor = Squashed(EnvironmentSimulator("Pendulum-v1", 1), low, high)
    out = drawn(seed, 7, 4).clamp(-1.5, 1.5)
    code = drawn(seed + 1, 7, 2).clamp(-2, 2)
    theirs = tanh_gaussian(low, high, *out.chunk(2, -1), 1).log_prob(actor.values(code))
    ours = actor.ratio(out, torch.zeros(()), code) - (high - low).log().sum() - 2 * math.log(1 - MARGIN)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def _through(squash: list[Any], code: torch.Tensor) -> torch.Tensor:
    for one in squash:
        code = one(code)
    return code


# The step


def began(env: Any, temperature: float | None, **settings: Any) -> tuple[ActorCritic, Problem, State]:
    usual: dict[str, Any] = {
        **{"target_kl": None, "batch": 2, "lr": 1e-2, "settle": True, "network": (16,), "minibatch": 8, "updates": 2},
        **{"warmup": 20, "capacity": 1000, "polyak": 0.1, "average": 0.1, "max_steps": None, "budget": 1000},
    }
    algorithm = ActorCritic(dtype=torch.float32, **{**usual, **settings})
    problem = problem_of(algorithm, env, temperature, GAMMA)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        env_state, values = algorithm.init(problem)
    return algorithm, problem, State(0, 0, seeded(1), env_state, values)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("temperature", [None, 0.3])
def test_a_step_is_a_function_of_the_state(env: str, temperature: float | None) -> None:
    algorithm, problem, state = began(env, temperature)
    for _ in range(15):
        state, _ = step(algorithm, problem, state)
    held = {name: one.clone() for name, one in state.values.items() if not name.startswith("replay.")}
    (one, told), (again, told_again) = step(algorithm, problem, state), step(algorithm, problem, state)
    assert told == told_again
    assert all(torch.equal(state.values[name], value) for name, value in held.items())
    assert all(torch.equal(one.values[name], again.values[name]) for name in held)
    assert torch.equal(one.random, again.random)
    assert one.env_state is not None
    assert again.env_state is not None
    assert torch.equal(one.env_state.state, again.env_state.state)
    assert not torch.equal(one.values["actor"], held["actor"])


def test_nothing_moves_before_the_warmup_is_over_and_the_prior_acts() -> None:
    algorithm, problem, state = began("CartPole-v1", None, warmup=22)
    for _ in range(10):
        state, told = step(algorithm, problem, state)
        assert told == {}
        assert state.updates == 0
        log_pi = algorithm.policy(problem, state).log_pi(state.env_state.state, 0)  # type: ignore[union-attr]
        torch.testing.assert_close(log_pi, torch.full((2, 2), -math.log(2)))
    assert step(algorithm, problem, state)[0].updates == 2


def test_a_learned_temperature_follows_the_kl() -> None:
    for target_kl, rises in ((1e-6, True), (0.69, False)):
        algorithm, problem, state = began("CartPole-v1", None, target_kl=target_kl)
        for _ in range(100):
            state, _ = step(algorithm, problem, state)
        assert bool(state.values["log_alpha"] > 0) is rises


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_noise_is_held_for_as_many_steps_in_each_copy(env: str) -> None:
    algorithm, problem, state = began(env, None, hold=3, warmup=1000, batch=9)
    for _ in range(12):
        state, _ = step(algorithm, problem, state)
    blocks = state.values["replay.action"][:12].reshape(4, 3, 9)  # π = p at every state, so the noise alone acts
    assert bool((blocks == blocks[:, :1]).all())
    assert all(not torch.equal(one[0], other[0]) for one, other in pairwise(blocks))
    assert len(blocks[0, 0].unique()) > 1


def test_copies_start_again_after_max_steps_with_a_value_to_come() -> None:
    algorithm, problem, state = began("CartPole-v1", None, max_steps=3)
    for _ in range(6):
        state, _ = step(algorithm, problem, state)
        assert state.env_state is not None
        assert int(state.env_state.t.max()) < 3
    assert float(state.values["replay.terminated"][:6].sum()) == 0


def test_what_follows_an_end_is_not_the_next_start() -> None:
    algorithm, problem, state = began("CartPole-v1", None)
    for _ in range(40):
        state, _ = step(algorithm, problem, state)
    x, x_next, over = (state.values[f"replay.{name}"][:40] for name in ("x", "x_next", "terminated"))
    same = (x[1:] == x_next[:-1]).all(-1)
    assert bool(over.any())
    assert torch.equal(same, over[:-1] == 0)
    assert bool((x_next[over == 1].abs()[:, 2] > 0.2).all())  # the pole has fallen: 12 degrees


def test_what_the_prior_forbids_is_never_done() -> None:
    world = TimedWorld(4, S=3, A=3, K=2, horizon=3, holes=False)
    world.prior[0, :, 1] = world.prior[1:, :, 2] = 0
    algorithm, problem, state = began(world, 0.3)
    for _ in range(60):
        state, told = step(algorithm, problem, state)
    assert all(math.isfinite(one) for one in told.values())
    taken = state.values["replay.action"][:60].reshape(20, 3, 2)  # both copies are at the same time
    assert bool((taken[:, 0] != 1).all())
    assert bool((taken[:, 1:] != 2).all())
    policy = algorithm.policy(problem, state)
    for t in range(3):
        assert torch.equal(policy.probs(t) == 0, world.prior[t] == 0)


# Runs


class BrokenError(Exception):
    """The machine went down."""


@pytest.mark.parametrize(("env", "hold"), slow_after(1, [("CartPole-v1", 4), ("Pendulum-v1", 1)]))
def test_a_resumed_run_is_the_uninterrupted_one(
    env: str, hold: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {**SHORT, "steps": 120, "evaluations": 3, "episodes": 1, "seed": 3, "hold": hold}
    whole = sac(env, **asked)
    save, saved = Checkpoint.save, []

    def fragile(*given: Any) -> None:
        save(*given)
        saved.append(1)
        if len(saved) == 3:
            raise BrokenError

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", fragile)
        with pytest.raises(BrokenError):
            sac(env, checkpoint=tmp_path / "kept", **asked)
    resumed = sac(env, checkpoint=tmp_path / "kept", **asked)
    assert _told(resumed) == _told(whole)


def _told(one: Learned) -> Any:
    return one.steps, one.updates, [replace(row, seconds=0.0) for row in one.history]


def test_the_temperature_is_told_honestly() -> None:
    asked: dict[str, Any] = {**SHORT, "steps": 60, "evaluations": 1, "episodes": 1}
    auto, fixed = sac("CartPole-v1", **asked), sac("CartPole-v1", temperature=0.3, **asked)
    assert auto.temperature is None
    assert auto.history[-1].metrics["temperature"] != 1
    assert fixed.temperature == 0.3
    assert fixed.history[-1].metrics["temperature"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": "warm"}, "'warm'"),
        ({"temperature": -1.0}, "-1"),
        ({"target_kl": 0.1, "temperature": 1.0}, "fixed temperature"),
        ({"target_kl": -0.1}, "-0.1"),
        ({"network": (0,)}, "network"),
        ({"gamma": 2.0}, "gamma"),
    ],
)
def test_faults_name_the_argument(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        sac("CartPole-v1", **{**SHORT, **wrong})


class Heavy(PointMass):
    """A prior on the real line that is not Gaussian."""

    def act(self, state: Any, t: int) -> Any:
        return pyro.sample("push", pyro.distributions.Laplace(torch.zeros_like(state), 1.0))


def test_a_prior_on_the_real_line_is_gaussian_or_flat() -> None:
    with pytest.raises(cai.WorldError, match=r"a Laplace; expected .* Gaussian, flat, or uniform on one interval"):
        sac(Heavy(), **SHORT)


# What is learned


@pytest.mark.slow
def test_the_policy_comes_close_to_the_soft_optimum_of_a_small_world() -> None:
    world = RandomWorld(4, S=3, A=3, K=2, horizon=None, holes=False, discount=0.8)
    asked: dict[str, Any] = {"steps": 8000, "batch": 20, "updates": 2, "minibatch": 64, "warmup": 500, "lr": 0.01}
    run = sac(world, temperature=0.5, network=(), max_steps=10, evaluations=4, progress=False, **asked)
    first, last = run.history[0].policy_nats, run.history[-1].policy_nats
    assert first is not None
    assert last is not None
    assert last < 0.01 * first


@pytest.mark.slow
def test_a_point_is_pushed_to_zero() -> None:
    asked: dict[str, Any] = {"steps": 3000, "warmup": 200, "minibatch": 64, "network": (32,), "episodes": 200}
    run = sac(PointMass(bounded=True), batch=4, updates=1, lr=3e-3, evaluations=2, progress=False, **asked)
    assert run.history[-1].deterministic_return > 0.1 * run.history[0].stochastic_return
    assert run.history[-1].stochastic_return > 0.2 * run.history[0].stochastic_return


@pytest.mark.slow
def test_a_pole_stands_longer_than_by_chance() -> None:
    asked: dict[str, Any] = {"steps": 3000, "warmup": 500, "minibatch": 64, "network": (32, 32), "episodes": 10}
    run = sac("CartPole-v1", evaluations=2, progress=False, **asked)
    assert run.history[-1].deterministic_return > 4 * run.history[0].stochastic_return


def test_the_policy_acts_on_the_worlds_own_sites() -> None:
    world = load_world("pendulum", overrides={"horizon": 5})
    run = sac(world, **{**SHORT, "steps": 60, "evaluations": 1, "episodes": 2})
    found = cai.elbo(world, run.policy, temperature=10.0, samples=200)
    prior = -5 * (math.pi**2 + 0.1 * 64 + 0.004) / 10
    assert prior - 60 < float(found.value) < 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torque = run.policy.sample(torch.zeros(50, 2))
    assert torque.shape == (50,)
    assert float(torque.abs().max()) <= 2

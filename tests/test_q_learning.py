"""Q-learning and soft Q-learning: their values, their targets, and what the shortcut of soft Q-learning drops."""

from functools import partial
from typing import Any

import gymnasium
import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.compile.tabulate import tabulate
from cai.exact.tables.policy_evaluation import policy_elbo, values
from cai.learn import replay
from cai.learn.algorithms.neural_q import NeuralQ, accumulated, scaled
from cai.learn.algorithms.tabular_q import Tabular
from cai.learn.names import at_temperature
from cai.learn.soft_values import log_policy, policy_value, q_loss, state_value
from cai.learn.training import first, problem_of, step
from cai.world.spec import read
from tests.helpers import examples
from tests.worlds import FactoredWorld, RandomWorld, TimedWorld

pytestmark = pytest.mark.usefixtures("float64")
seeds = st.integers(0, 2**31 - 1)


def random_q(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    log_prior = torch.randn(shape, generator=g).log_softmax(-1)
    return torch.randn(shape, generator=g), log_prior


# The values


@given(seeds, st.floats(0.01, 100))
def test_a_soft_value_is_what_its_policy_is_worth(seed: int, alpha: float) -> None:
    q, log_prior = random_q(seed, 3, 4)
    log_pi = log_policy(q, log_prior, alpha)
    v = state_value(q, log_prior, alpha)
    torch.testing.assert_close(policy_value(q, log_pi, log_prior, alpha), v)
    torch.testing.assert_close(alpha * (log_pi - log_prior), q - v.unsqueeze(-1))  # Q - V = α log π/p
    other = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed + 1)).log_softmax(-1)
    assert bool((policy_value(q, other, log_prior, alpha) <= v + 1e-9).all())  # and no other policy is worth more


def test_a_hard_policy_shares_ties_as_the_prior_does_and_never_does_what_is_forbidden() -> None:
    q = torch.tensor([[1.0, 1.0, 0.0, 5.0]])
    log_prior = torch.tensor([[0.2, 0.6, 0.2, 0.0]]).log()
    assert state_value(q, log_prior, None).tolist() == [1.0]
    torch.testing.assert_close(log_policy(q, log_prior, None).exp(), torch.tensor([[0.25, 0.75, 0.0, 0.0]]))
    assert float(log_policy(q, log_prior, 0.1).exp()[0, 3]) == 0.0


# What the shortcut drops


@examples(6)
@given(seeds, st.sampled_from([0.3, 1.0, 4.0]))
def test_the_two_step_identity(seed: int, alpha: float) -> None:
    # The lectures' (∇Q - ∇V)(r + V(s') - Q + V), in expectation: the soft Q-learning direction ∇Q (r + V(s') - Q)
    # plus the term -∇V (r + V(s') - Q) that soft Q-learning drops; and V itself, a baseline, adds nothing.
    world = RandomWorld(seed=seed, S=3, A=2, K=2, horizon=3, holes=False)
    q, log_prior = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(seed)), world.prior[0].log()
    weights = occupancies(world, log_policy(q, log_prior, alpha).exp())
    written_out, direction, dropped = (torch.zeros_like(q) for _ in range(3))
    for (t, s, a, k), weight in weights.items():
        theta = q.clone().requires_grad_()
        v = state_value(theta[t], log_prior, alpha)
        (grad_q,) = torch.autograd.grad(theta[t, s, a], theta, retain_graph=True)
        (grad_v,) = torch.autograd.grad(v[s], theta)
        following = int(world.successor[0, s, a, k])
        v_next = world.last[following] if t == 2 else state_value(q[t + 1], log_prior, alpha)[following]
        delta = float(world.reward[0, s, a, k] + v_next - q[t, s, a])
        written_out += weight * (grad_q - grad_v) * (delta + float(v[s].detach()))
        direction += weight * grad_q * delta
        dropped -= weight * grad_v * delta
    torch.testing.assert_close(written_out, direction + dropped, rtol=1e-10, atol=1e-12)
    assert float(dropped.abs().max()) > 1e-6  # the shortcut is one


@examples(6)
@given(seeds, st.sampled_from([0.3, 1.0, 4.0]))
def test_with_the_dropped_term_it_is_the_gradient_of_the_elbo(seed: int, alpha: float) -> None:
    # Where V_θ(s') is what the policy is worth from s' on, (∇Q - ∇V) δ summed over all outcomes is α ∇ELBO.
    world = RandomWorld(seed=seed, S=3, A=2, K=2, horizon=3, holes=False)
    tables, log_prior = cai.tabulate(world), world.prior[0].log()
    logits = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    log_pi = (log_prior + logits).log_softmax(-1)
    (exact,) = torch.autograd.grad(policy_elbo(tables, log_pi, torch.tensor(alpha)), logits)

    v = values(tables, log_pi.detach(), torch.tensor(alpha)).v
    q = alpha * (log_pi.detach() - log_prior) + v[:3].unsqueeze(-1)  # Q_θ with V_θ = V^π, and π its policy
    torch.testing.assert_close(state_value(q, log_prior, alpha), v[:3])
    found = torch.zeros_like(q)
    for (t, s, a, k), weight in occupancies(world, log_pi.detach().exp()).items():
        theta = q.clone().requires_grad_()
        target = world.reward[0, s, a, k] + v[t + 1, int(world.successor[0, s, a, k])]
        value = state_value(theta[t, s], log_prior[s], alpha)
        loss = q_loss(theta[t, s, a].view(1), target.view(1), value.view(1), 1.0)
        (gradient,) = torch.autograd.grad(loss, theta)
        found -= weight * gradient
    # Q moves the logits by 1/α each, so that ∂ELBO/∂Q = 1/α ∂ELBO/∂logits; and the objective is α ELBO.
    torch.testing.assert_close(found / alpha, exact, rtol=1e-9, atol=1e-10)


def occupancies(world: RandomWorld, pi: Tensor) -> dict[tuple[int, int, int, int], float]:
    """p(s_t, a_t, outcome) under a policy ``[T, S, A]``, in plain loops."""
    found: dict[tuple[int, int, int, int], float] = {}
    now = {s: float(p) for s, p in enumerate(world.start)}
    for t in range(len(pi)):
        following = dict.fromkeys(range(world.S), 0.0)
        for s in range(world.S):
            for a in range(world.A):
                for k in range(world.K):
                    p = now[s] * float(pi[t, s, a]) * float(world.outcome[0, s, a, k])
                    found[t, s, a, k] = p
                    following[int(world.successor[0, s, a, k])] += p
        now = following
    return found


def test_q_loss_is_the_shortcut_or_the_whole_of_it() -> None:
    g = torch.Generator().manual_seed(0)
    theta, target = torch.randn(5, 3, generator=g).requires_grad_(), torch.randn(5, generator=g)
    a, log_prior = torch.tensor([0, 2, 1, 1, 0]), torch.full((5, 3), 1 / 3).log()
    for c in (0.0, 0.4, 1.0):
        v, q_a = state_value(theta, log_prior, 0.5), theta[range(5), a]
        (found,) = torch.autograd.grad(q_loss(q_a, target, v, c), theta)
        one_hot, pi = torch.nn.functional.one_hot(a, 3), log_policy(theta, log_prior, 0.5).exp()
        expected = -(one_hot - c * pi) * (target - q_a).unsqueeze(-1) / 5
        torch.testing.assert_close(found, expected.detach())


# On a table


def tabular(**changed: Any) -> Tabular:
    return Tabular(**{"batch": 5000, "lr": 1.0, "explore": 1.0, "budget": 1, **changed})


@pytest.mark.parametrize("soft", [True, False])
@examples(4)
@given(seeds)
def test_one_pass_over_a_deterministic_world_is_the_exact_backup(soft: bool, seed: int) -> None:
    # K = 1, every (s, a) tried, a step size of 1: going backward through the episodes is the backward sweep.
    world = RandomWorld(seed=seed, S=3, A=2, K=1, horizon=4, holes=False)
    world.start, world.last = torch.full((3,), 1 / 3), torch.zeros(3)
    world.terminal = None  # a transition then teaches all times
    one = tabular(batch=300)
    problem = problem_of(one, world, 0.7 if soft else None, None)
    after, _ = step(one, problem, first(one, problem, 0))
    exact = cai.solve(world, cai.VARIATIONAL if soft else cai.HARD, temperature=0.7)
    expected = torch.stack([exact.q(t) for t in range(4)])
    torch.testing.assert_close(after.values["q"].view(4, 3, 2), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("world", [TimedWorld(1, 3, 2, 2, 3, holes=False), FactoredWorld(2)], ids=["timed", "factored"])
def test_worlds_of_every_shape_are_learned(world: Any) -> None:
    found = cai.learn.q_learning(world, temperature=1.0, steps=300_000, batch=2000, progress=False)
    assert found.history[-1].policy_nats < 0.01 * found.history[0].policy_nats


def test_learning_is_off_policy() -> None:
    world = RandomWorld(seed=5, S=3, A=2, K=2, horizon=4, holes=False)
    elsewhere = cai.solve(world, cai.VARIATIONAL, temperature=50.0).policy  # acts almost as the prior does
    found = cai.learn.q_learning(world, temperature=0.2, behaviour=elsewhere, steps=400_000, batch=4000, progress=False)
    assert found.history[-1].policy_nats < 0.02 * found.history[0].policy_nats


@pytest.mark.slow
def test_a_world_without_a_horizon_is_learned_by_one_table() -> None:
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=None, holes=False, discount=0.8)
    found = cai.learn.q_learning(
        world, temperature=0.5, max_steps=20, explore=1.0, steps=400_000, batch=200, progress=False
    )
    assert found.history[-1].policy_nats < 0.02 * found.history[0].policy_nats
    with pytest.raises(cai.WorldError, match="max_steps"):
        cai.learn.q_learning(world)


def test_a_step_size_is_a_number_or_any_schedule() -> None:
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    for lr in (0.3, lambda n: 1 / n):
        found = cai.learn.q_learning(world, temperature=1.0, lr=lr, steps=50_000, progress=False)
        assert found.history[-1].policy_nats < 0.2 * found.history[0].policy_nats


def test_the_term_that_keeps_the_level_moves_no_level() -> None:
    # ∇Q - ∇V sums to zero over the actions: at c = 1 a row's prior-weighted mean stays where it was.
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    one = tabular(value_gradient=1.0, lr=0.1)
    problem = problem_of(one, world, 1.0, None)
    after, _ = step(one, problem, first(one, problem, 0))
    rows = after.values["q"].view(-1, 2)
    assert float(rows.abs().max()) > 0.01
    torch.testing.assert_close(rows.sum(-1), torch.zeros(len(rows)), rtol=0, atol=1e-12)


# With a network


def neural(**changed: Any) -> NeuralQ:
    usual = {"batch": 3, "lr": 1e-2, "settle": False, "network": (8,), "explore": 1.0, "n_step": 1, "minibatch": 64}
    last = {"updates": 1, "warmup": 0, "capacity": 300, "polyak": 0.1, "budget": 1000, "dtype": torch.float64}
    return NeuralQ(**{**usual, **last, **changed})


@pytest.mark.parametrize("n", [1, 3])
def test_targets_over_n_steps_are_those_of_a_plain_loop(n: int) -> None:
    one = neural(n_step=n, warmup=10**9)
    problem = problem_of(one, "FrozenLake-v1", 0.5, 0.9)
    state = first(one, problem, 0)
    for _ in range(60):
        state, _ = step(one, problem, state)
    values = dict(state.values)
    rows = {name: values[f"replay.{name}"] for name in ("x", "reward", "ratio", "ended", "terminated", "x_next")}
    torch.manual_seed(3)
    row, copy = replay.places(values, one.minibatch, n)
    torch.manual_seed(3)
    batch = one.sample(values, problem)
    for i, (r, c) in enumerate(zip(row.tolist(), copy.tolist(), strict=True)):
        total, factor, at = 0.0, 1.0, r
        for k in range(n):
            at = r + k
            total += factor * float(rows["reward"][at, c] - (0.5 * rows["ratio"][at, c] if k else 0.0))
            factor *= 0.9
            if rows["ended"][at, c]:
                break
        assert float(batch.reward[i]) == pytest.approx(total, abs=1e-12)
        assert float(batch.discount[i]) == pytest.approx(0.0 if rows["terminated"][at, c] else factor, abs=1e-12)
        assert torch.equal(batch.x_next[i], rows["x_next"][at, c])
        assert torch.equal(batch.x[i], rows["x"][r, c])


def test_a_ring_forgets_the_oldest_rows_and_an_old_state_keeps_its_own() -> None:
    row = {"x": torch.zeros(2)}
    ring = replay.empty(3, row)
    states = [ring]
    for n in range(1, 6):
        ring = {**ring, **replay.add(ring, {"x": torch.full((2,), float(n))})}
        states.append(ring)
    assert ring["replay.x"][:, 0].tolist() == [4.0, 5.0, 3.0]
    torch.manual_seed(0)
    at, copy = replay.places(ring, 1000, ahead=2)
    first, second = (replay.read(ring, "x", at + k, copy) for k in (0, 1))
    assert sorted(set(zip(first.tolist(), second.tolist(), strict=True))) == [(3.0, 4.0), (4.0, 5.0)]
    assert int(states[2]["replay.count"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
def test_a_network_comes_close_to_the_soft_optimum(double: bool) -> None:
    world = RandomWorld(seed=5, S=3, A=2, K=2, horizon=None, holes=False, discount=0.7)
    settings_ = {"network": (32,), "double": double, "lr": 1e-2, "minibatch": 256, "updates": 1, "explore": 0.5}
    found = cai.learn.q_learning(
        world, temperature=0.5, steps=40_000, batch=40, evaluations=2, progress=False, **settings_
    )
    assert found.history[-1].policy_nats < 0.05 * found.history[0].policy_nats


# What a review found


class Ending(RandomWorld):
    """The same world without a terminal reward, or with one that is 0: nothing may change."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(seed=2, S=3, A=2, K=2, horizon=4, holes=False)
        self.last = torch.zeros(3)
        if not terminal:
            self.terminal = None  # type: ignore[assignment]


def test_one_table_learns_from_every_time_also_beside_a_terminal_reward() -> None:
    one = tabular(stationary=True, lr=lambda n: 1 / n, batch=1000)
    visits = []
    for terminal in (False, True):
        problem = problem_of(one, Ending(terminal), 1.0, 0.9)
        after, _ = step(one, problem, first(one, problem, 0))
        visits.append(float(after.values["visits"].sum()))
    assert visits == [4000.0, 3000.0]  # r_T belongs to no slice: the last step is left out where it is paid


def test_one_table_learns_backward_so_that_a_reward_comes_to_the_start_in_one_batch() -> None:
    one = tabular(lr=1.0, batch=1, stationary=True)
    problem = problem_of(one, partial(gymnasium.make, "FrozenLake-v1", is_slippery=False), None, 0.9)
    state = first(one, problem, 0)
    for _ in range(200):  # until an episode first comes to the goal
        state, metrics = step(one, problem, state)
        if metrics["return"]:
            break
    q = state.values["q"].view(-1, 4)
    assert metrics["return"] == 1.0
    assert q[14, 2] == 1.0
    assert q[0].max() > 0


def test_a_moving_average_is_the_policy_of_a_network() -> None:
    slow, last = neural(average=0.01), neural(average=1.0)
    problem = problem_of(slow, "FrozenLake-v1", 0.5, 0.9)
    state = first(slow, problem, 0)
    mean = state.values["theta"]
    for _ in range(10):
        state, _ = step(slow, problem, state)
        mean = mean + 0.01 * (state.values["theta"] - mean)
    assert torch.allclose(state.values["mean"], mean)
    again = first(last, problem, 0)
    for _ in range(10):
        again, _ = step(last, problem, again)
    assert torch.equal(again.values["mean"], again.values["theta"])


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [None, 0.01])
def test_an_id_alone_learns_the_best_stationary_policy_of_the_frozen_lake(temperature: float | None) -> None:
    tables = tabulate(read(cai.from_gymnasium("FrozenLake-v1", horizon=None, discount=0.99)))
    p, v = tables.log_prob.exp(), torch.zeros(tables.states.size, dtype=torch.float64)
    for _ in range(5000):  # value iteration
        q = (p * (tables.reward + 0.99 * v[tables.successor])).sum(-1)
        v = state_value(q, tables.log_prior, temperature)
    found = cai.learn.q_learning("FrozenLake-v1", temperature=temperature, evaluations=1, progress=False)
    chosen = found.policy.log_probs(0).argmax(-1)
    lost = q.amax(-1)[:16] - q[:16].gather(-1, chosen[:16].unsqueeze(-1)).squeeze(-1)
    assert lost.max() < 0.005  # some actions are nearly as good as the best


def test_a_time_that_no_episode_came_to_is_not_learned() -> None:
    one = tabular(max_steps=2)
    world = TimedWorld(0, 3, 2, 2, 4, holes=False)
    problem = problem_of(one, world, 1.0, None)
    after, _ = step(one, problem, first(one, problem, 0))
    visits = after.values["visits"].view(4, 6).sum(-1)
    assert visits.tolist() == [5000.0, 5000.0, 0.0, 0.0]
    with pytest.raises(cai.WorldError, match="stationary"):
        cai.learn.q_learning(world, stationary=True, progress=False)


@pytest.mark.parametrize("learner", ["reinforce", "soft_reinforce", "q_learning", "soft_q_learning"])
@pytest.mark.parametrize("network", [None, (8,)])
def test_a_reward_of_minus_infinity_is_refused_and_not_averaged(learner: str, network: Any) -> None:
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    world.reward[0, :, 1] = -torch.inf
    asked = {"network": network, "steps": 500, "progress": False, **at_temperature(learner, 1.0)}
    with pytest.raises(cai.WorldError, match="reward: -inf"):
        cai.learn.many(learner, world, seeds=[0], **asked)


def test_a_ring_too_small_for_n_steps_is_refused_and_an_empty_one_is_not_learned_from() -> None:
    with pytest.raises(cai.WorldError, match="capacity"):
        cai.learn.q_learning("CartPole-v1", n_step=50, capacity=64, progress=False)
    one = neural(n_step=10, warmup=0)
    problem = problem_of(one, "FrozenLake-v1", 0.5, 0.9)
    state = first(one, problem, 0)
    for _ in range(9):
        state, _ = step(one, problem, state)
    assert state.updates == 0
    state, _ = step(one, problem, state)
    assert state.updates == 1


def test_a_network_acts_by_the_prior_of_its_time() -> None:
    world = TimedWorld(0, 3, 2, 2, 4, holes=False)
    world.prior[1:, :, 1], world.prior[1:, :, 0] = 0.0, 1.0  # from t = 1 on the second action is forbidden
    one = neural(warmup=10**9, batch=20)
    problem = problem_of(one, world, 1.0, 0.9)
    state = first(one, problem, 0)
    taken = []
    for t in range(4):
        state, _ = step(one, problem, state)
        taken.append(state.values["replay.action"][t])
    assert bool((torch.stack(taken[1:]) == 0).all())
    assert bool((taken[0] == 1).any())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("explore", 2.0), ("n_step", 0), ("minibatch", 0), ("lr", -1.0), ("updates", -2), ("polyak", 5.0), ("lr", "x")],
)
def test_settings_are_what_their_names_promise(setting: str, value: Any) -> None:
    with pytest.raises((cai.WorldError, TypeError, BeartypeCallHintParamViolation), match=setting):
        cai.learn.train(neural(**{setting: value}), "FrozenLake-v1", temperature=1.0, gamma=0.9, steps=10)


def test_values_of_minus_infinity_leave_the_prior() -> None:
    q, log_prior = torch.full((1, 2), -torch.inf), torch.tensor([[0.3, 0.7]]).log()
    for alpha in (None, 0.5):
        torch.testing.assert_close(log_policy(q, log_prior, alpha), log_prior)


@given(seeds, st.integers(1, 5), st.integers(1, 4))
def test_features_are_scaled_by_all_that_was_met(seed: int, rows: int, batch: int) -> None:
    met = 3 * torch.randn(rows + 1, batch, 2, generator=torch.Generator().manual_seed(seed)) + 7
    met[..., 1] = 5.0  # never moves
    kept = {"count": torch.zeros(()), "mean": torch.zeros(2), "square": torch.zeros(2)}
    for x in met:
        kept = accumulated(kept, x)
    flat = met.flatten(0, 1)
    torch.testing.assert_close(kept["mean"], flat.mean(0))
    torch.testing.assert_close((kept["square"] / kept["count"]).sqrt(), flat.std(0, correction=0))
    found = scaled(kept, flat)
    torch.testing.assert_close(found.mean(0), torch.zeros(2))
    assert bool((found[:, 1] == 0).all())
    if len(flat) > 1:
        torch.testing.assert_close(found[:, 0].std(correction=0), torch.ones(()))

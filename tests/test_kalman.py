"""Partly seen linear-Gaussian worlds against one dense joint Gaussian, which is conditioned without any recursion."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyro
import pytest
import torch
from pyro.distributions import GaussianHMM, MultivariateNormal, Normal
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

import cai
from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.linear_observations import LinearObservations, linearise_observations
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic, stacked
from cai.partial.gaussian_beliefs import GaussianBeliefs
from cai.partial.gaussian_messages import solve_beliefs
from cai.partial.kalman import kalman
from cai.partial.plans import planned, planning
from cai.partial.risk_sensitive_filter import filtered
from cai.view.policies import print_policy
from cai.world.coordinates import Coordinates

pytestmark = pytest.mark.usefixtures("float64")
SEEDS = range(2)


def space(name: str, n: int) -> Coordinates:
    return Coordinates((name,), (torch.Size((n,)),), named=False)


@dataclass(frozen=True)
class Random:
    """A random system: its sizes, and how many directions of noise the slice and the reading have."""

    n: int = 3
    m: int = 2
    k: int = 3
    p: int = 2
    noise: int = 2
    T: int = 5
    start: int = 3

    def draw(self, seed: int) -> tuple[LinearGaussian, ConditionalGaussian]:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g)

        n, m, k, T = self.n, self.m, self.k, self.T
        N = n + m + k
        half = normal(T, N, N) * 0.4
        reward = Quadratic(-half @ half.mT - 0.1 * torch.eye(N), normal(T, N), normal(T))
        prior = ConditionalGaussian(torch.zeros(T, m, n), normal(T, m), normal(T, m, m))
        flat = torch.zeros(T, m, dtype=torch.bool)
        transition = normal(T, n, N) * 0.6
        sl = LinearSlice(transition, normal(T, n), reward, prior, flat, transition, normal(T, n), torch.zeros(T))
        end = normal(n, n)
        terminal = Quadratic(-end @ end.T, normal(n), normal(()))
        spaces = space("s", n), space("a", m), space("s", n)
        model = LinearGaussian(sl, normal(n), normal(n, self.start), terminal, T, 1.0, True, *spaces)
        return model, ConditionalGaussian(normal(self.p, n), normal(self.p), normal(self.p, self.noise))


@dataclass(frozen=True)
class Dense:
    """All of s_0 … s_T and y_0 … y_{T-1} as affine functions of one vector x of independent standard normals.

    x holds the noise of the start, of each slice and of each reading; actions are given numbers.
    """

    states: Tensor
    state_means: Tensor
    readings: Tensor
    reading_means: Tensor

    @classmethod
    def of(cls, model: LinearGaussian, reading: ConditionalGaussian, actions: Tensor) -> "Dense":
        n, m, k, T = model.states.dimension, model.actions.dimension, model.noise, len(actions)
        first, q = model.start_scale.shape[-1], reading.scale.shape[-1]
        size = first + T * (k + q)

        def noise(start: int, count: int) -> Tensor:
            return torch.eye(size)[start : start + count]

        rows, means = [model.start_scale @ noise(0, first)], [model.start_mean]
        y_rows, y_means = [], []
        for t in range(T):
            y_rows.append(reading.gain @ rows[t] + reading.scale @ noise(first + T * k + t * q, q))
            y_means.append(reading.gain @ means[t] + reading.offset)
            A, B, G = model.at(t).transition.split([n, m, k], -1)
            rows.append(A @ rows[t] + G @ noise(first + t * k, k))
            means.append(A @ means[t] + B @ actions[t] + model.at(t).drift)
        return cls(*map(torch.stack, (rows, means, y_rows, y_means)))

    def given(self, y: Tensor) -> tuple[Gaussian, Tensor]:
        """Return p(x | the numbers of y that are not NaN) and their log-density."""
        seen = ~y.isnan()
        rows, e = self.readings[: len(y)][seen], (y - self.reading_means[: len(y)])[seen]
        S = rows @ rows.T
        pull = rows.T @ torch.linalg.pinv(S, hermitian=True)
        log_p = MultivariateNormal(torch.zeros(len(e)), S).log_prob(e) if len(e) else e.sum()
        covariance = torch.eye(rows.shape[-1]) - pull @ rows
        return Gaussian(pull @ e, covariance, torch.ones(())), log_p

    def state(self, t: int, y: Tensor) -> Gaussian:
        return self.given(y)[0].through(self.states[t], self.state_means[t])


def engine(model: LinearGaussian, reading: ConditionalGaussian) -> GaussianBeliefs:
    return GaussianBeliefs(model, LinearObservations(space("y", len(reading.offset)), reading))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return bool((a - b).abs().max() <= tolerance * (1 + b.abs().max()))


def same(a: Gaussian, b: Gaussian) -> bool:
    return close(a.mean, b.mean) and close(a.covariance, b.covariance)


def record(model: LinearGaussian, reading: ConditionalGaussian, seed: int) -> tuple[Tensor, Tensor]:
    """Draw actions, and readings of a true trajectory."""
    g = torch.Generator().manual_seed(100 + seed)
    actions = torch.randn(model.horizon, model.actions.dimension, generator=g)
    dense = Dense.of(model, reading, actions)
    x = torch.randn(dense.states.shape[-1], generator=g)
    return dense.readings @ x + dense.reading_means, actions


SYSTEMS = {
    "regular": Random(),
    "no noise in one direction": Random(k=2, start=1),
    "more readings than states": Random(n=2, p=3, noise=3, start=2),
    "certain start": Random(start=0),
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_filter_and_the_smoother_are_the_dense_joint_conditioned(system: str, seed: int) -> None:
    model, reading = SYSTEMS[system].draw(seed)
    y, actions = record(model, reading, seed)
    y[1, 0], y[2] = torch.nan, torch.nan
    found, dense, T = kalman(model, reading, y, actions), Dense.of(model, reading, actions), len(y)
    smoothed = found.smoothed()
    for t in range(T):
        assert same(found.beliefs.at(t), dense.state(t, y[: t + 1]))
        assert same(found.predicted.at(t), dense.state(t, y[:t]))
        assert same(smoothed.at(t), dense.state(t, y))
    assert same(found.beliefs.at(T), dense.state(T, y))
    assert close(found.log_likelihood, dense.given(y)[1])


@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD])
@pytest.mark.parametrize("seed", SEEDS)
def test_gains_are_those_of_full_sight(rule: cai.Rule, seed: int) -> None:
    """Certainty equivalence, found and not assumed: the belief is a world of its own, solved by the same operator."""
    model, reading = Random().draw(seed)
    found = solve_beliefs(engine(model, reading), rule, torch.tensor(0.7))
    for t in range(model.horizon):
        mine, seen = found.policy(t), found.full.policy.conditional(t)
        for name in ("gain", "offset", "covariance"):
            assert close(getattr(mine, name), getattr(seen, name))
    assert float(found.value) < float(found.fully_observed)
    assert close(found.qmdp, found.value)


def log_weight(
    model: LinearGaussian, reading: ConditionalGaussian, y: Tensor, actions: Tensor, alpha: float, past: bool, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the trajectory of independent standard normals x; return log p(y, O | x) and (s_t, a_t, …, s_T)."""
    m, k, now = model.actions.dimension, model.noise, len(y) - 1
    start, rest = x.split([model.start_scale.shape[-1], len(x) - model.start_scale.shape[-1]])
    s, total, kept = model.start_mean + model.start_scale @ start, x.new_zeros(()), []
    R = MultivariateNormal(torch.zeros(len(reading.offset)), reading.covariance)
    for t, w in enumerate(rest.reshape(model.horizon, m + k)):
        sl = model.at(t)
        if t <= now:
            total = total + R.log_prob(y[t] - reading.mean(s))
        a = actions[t] if t < now else sl.prior.draw(s, w[:m])
        kept += [s, a] if t >= now else []
        whole = torch.cat((s, a, w[m:]))
        if past or t >= now:
            total = total + sl.reward(whole) / alpha
        s = sl.transition @ whole + sl.drift
    return total + model.terminal(s) / alpha, torch.cat((*kept, s))


@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_plans_are_the_dense_joint_conditioned(past: bool, seed: int) -> None:
    model, reading = Random(k=2, T=4).draw(seed)
    y, actions = record(model, reading, seed)
    alpha, now = 0.8, 2

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        return log_weight(model, reading, y[: now + 1], actions, alpha, past, x)

    size = model.start_scale.shape[-1] + model.horizon * (model.actions.dimension + model.noise)
    zero = torch.zeros(size)
    (c, held), slope = run(zero), jacobian(lambda x: run(x)[0], zero)
    precision = torch.eye(size) - hessian(lambda x: run(x)[0], zero)
    covariance, rows = torch.linalg.inv(precision), jacobian(lambda x: run(x)[1], zero)
    log_z = c + 0.5 * slope @ covariance @ slope - 0.5 * torch.logdet(precision)
    expected = Gaussian(covariance @ slope, covariance, torch.ones(())).through(rows, held)

    found = planned(engine(model, reading), y[: now + 1], actions[:now], torch.tensor(alpha), past=past)
    assert same(found.joint, expected)
    assert close(found.log_past + found.log_evidence, log_z)
    n, m = model.states.dimension, model.actions.dimension
    assert same(found.action, expected.of(list(range(n, n + m))))
    assert found.actions.mean.shape == ((model.horizon - now) * m,)


class Cart:
    """A cart whose place is read with an error, and whose speed is not read."""

    horizon, discount = 6, 1.0

    def initial(self) -> dict[str, Tensor]:
        return {
            "place": pyro.sample("place", Normal(torch.tensor(1.0), 1.0)),
            "speed": pyro.sample("speed", Normal(torch.tensor(0.0), 0.5)),
        }

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("push", Normal(torch.zeros_like(state["place"]), 2.0))

    def step(self, state: dict[str, Tensor], push: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        gust = pyro.sample("gust", Normal(torch.zeros_like(push), 0.3))
        place = pyro.sample("place", Normal(state["place"] + 0.3 * state["speed"], 0.1))
        speed = pyro.sample("speed", Normal(state["speed"] + 0.3 * push + gust, 0.2))
        return {"place": place, "speed": speed}, -(place**2) - 0.2 * push**2 + 0.5 * gust

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        bias = pyro.sample("bias", Normal(torch.zeros_like(state["place"]), 0.2))
        near = pyro.sample("near", Normal(2 * state["place"] + bias + 1, 0.3))
        return {"near": near, "far": pyro.sample("far", Normal(state["place"] - bias, 0.6))}


def test_observe_is_read_off_with_latents_that_make_readings_correlated() -> None:
    seen = linearise_observations(Cart())
    assert seen.space.names == ("near", "far")
    assert close(seen.reading.gain, torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
    assert close(seen.reading.offset, torch.tensor([1.0, 0.0]))
    assert close(seen.reading.covariance, torch.tensor([[0.04 + 0.09, -0.04], [-0.04, 0.04 + 0.36]]))


def test_the_likelihood_is_that_of_pyros_hidden_markov_model() -> None:
    world, T = Cart(), 5
    y, actions = torch.randn(3, T, 2), torch.randn(3, T - 1, 1)
    found = cai.partial.kalman_filter(world, y, actions.squeeze(-1))
    model, reading = cai.linearise(world), linearise_observations(world).reading
    A, B, G = model.slices.transition.split([2, 1, model.noise], -1)
    drift = torch.cat((model.start_mean.expand(3, 1, 2), actions @ B.T + model.slices.drift), 1)
    start, moved = model.start_scale @ model.start_scale.T, G @ G.T
    hmm = GaussianHMM(
        MultivariateNormal(torch.zeros(2), torch.eye(2)),
        torch.stack([torch.zeros(2, 2), *[A.T] * (T - 1)]),
        MultivariateNormal(drift, torch.stack([start, *[moved] * (T - 1)])),
        reading.gain.T,
        MultivariateNormal(reading.offset, reading.covariance),
    )
    assert close(found.log_likelihood, hmm.log_prob(y))


def test_records_may_be_named_and_have_gaps() -> None:
    world = Cart()
    whole = torch.tensor([[0.3, 1.0], [torch.nan, 0.4], [torch.nan, torch.nan]])
    named = {"near": [0.3, None, None], "far": [1.0, 0.4, None]}
    moments = [{"near": 0.3, "far": 1.0}, {"far": 0.4}, None]
    first = cai.partial.filter_beliefs(world, whole, [0.1, 0.2])
    for other in (named, moments):
        assert same(cai.partial.filter_beliefs(world, other, [0.1, 0.2]), first)
    batch = cai.partial.filter_beliefs(world, whole.expand(4, 3, 2), torch.tensor([0.1, 0.2]).expand(4, 2))
    assert same(batch.at(3), first)


def test_the_policy_of_beliefs_acts_by_gain_on_the_filtered_mean() -> None:
    found = cai.partial.solve(Cart(), temperature=0.5)
    belief = cai.partial.filter_beliefs(Cart(), torch.tensor([[0.3, 1.0], [0.2, 0.4]]), [0.1])
    act, pi = found.act([{"near": 0.3, "far": 1.0}, {"near": 0.2, "far": 0.4}], [0.1]), found.policy(1)
    assert close(act.mean, pi.mean(belief.mean[1]))
    assert close(found.covariance(1), belief.covariance[1])
    assert float(found.elbo) < float(found.full.elbo)
    named = found.at([{"near": 0.3, "far": 1.0}, {"near": 0.2, "far": 0.4}], [0.1])
    assert close(named.mean, act.mean)
    assert named.states == ("estimated_place", "estimated_speed")
    assert "estimated_place" in str(found.explain([{"near": 0.3, "far": 1.0}]))


@pytest.mark.parametrize("start", [0, 3])
def test_to_see_all_exactly_is_full_sight(start: int) -> None:
    model, _ = Random(k=2, start=start).draw(0)
    everything = ConditionalGaussian(torch.eye(3), torch.zeros(3), torch.zeros(3, 0))
    found = solve_beliefs(engine(model, everything), cai.VARIATIONAL, torch.tensor(0.7))
    assert close(found.value, found.fully_observed)
    assert float(found.covariance(2).abs().max()) < 1e-12


def glider(scale: float) -> tuple[LinearGaussian, ConditionalGaussian]:
    """A place that moves by its speed, both without noise; the place is read."""
    model, _ = Random(n=2, m=1, k=1, start=2, T=4).draw(0)
    A = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    transition = torch.cat((A, torch.zeros(2, 2)), -1).expand(4, 2, 4)
    model = replace(model, slices=replace(model.slices, transition=transition, drift=torch.zeros(4, 2)))
    return model, ConditionalGaussian(torch.tensor([[1.0, 0.0]]), torch.zeros(1), torch.full((1, 1), scale))


def test_what_is_certain_tells_nothing_and_must_be_read_as_it_is() -> None:
    model, reading = glider(0.0)
    y, idle = torch.tensor([[2.0], [2.5], [3.0], [3.5]]), torch.zeros(3, 1)
    found = kalman(model, reading, y, idle)
    assert close(found.beliefs.mean[1], torch.tensor([2.5, 0.5]))
    assert found.log_prob[2:].tolist() == [0.0, 0.0]
    assert close(found.smoothed().mean[0], torch.tensor([2.0, 0.5]))
    two = Dense.of(model, reading, torch.zeros(4, 1)).given(y[:2])[1]
    assert close(found.log_likelihood, two)
    with pytest.raises(cai.ImpossibleError, match=r"observe, t = 2: off by 0.1 from the only reading"):
        kalman(model, reading, torch.tensor([[2.0], [2.5], [3.1], [3.5]]), idle)


def test_the_likelihood_and_the_value_are_differentiable() -> None:
    def numbers(scale: Tensor) -> Tensor:
        model, reading = glider(0.0)
        reading = replace(reading, scale=scale)
        y = torch.tensor([[2.0], [2.5], [torch.nan], [3.5]])
        value = solve_beliefs(engine(model, reading), cai.VARIATIONAL, torch.tensor(0.7)).value
        certain, _ = Random(n=2, m=1, k=1, start=0, T=4).draw(0)  # covariances of rank 0 and 1
        plan = planned(engine(certain, reading), y[:2], torch.zeros(1, 1), torch.tensor(0.7), past=True)
        likelihood = kalman(model, reading, y, torch.zeros(3, 1)).log_likelihood
        return torch.stack((likelihood, value, plan.log_past + plan.log_evidence))

    assert torch.autograd.gradcheck(numbers, torch.full((1, 1), 0.4, requires_grad=True))


def test_systems_side_by_side_are_a_batch() -> None:
    each = [Random().draw(seed) for seed in SEEDS]
    models, readings = zip(*each, strict=True)
    spaces = (models[0].states, models[0].actions, models[0].sites)
    starts = [torch.stack([getattr(m, name) for m in models]) for name in ("start_mean", "start_scale")]
    terminal = stacked([m.terminal for m in models])
    batch = LinearGaussian(stacked([m.slices for m in models]), *starts, terminal, 5, 1.0, True, *spaces)
    reading = stacked(readings)
    both = engine(batch, replace(reading, gain=reading.gain))
    found = solve_beliefs(both, cai.VARIATIONAL, torch.tensor(0.7))
    alone = [solve_beliefs(engine(*one), cai.VARIATIONAL, torch.tensor(0.7)) for one in each]
    assert close(found.value, torch.stack([one.value for one in alone]))
    assert close(found.qmdp, found.value)
    records = [record(*one, seed) for seed, one in enumerate(each)]
    y, actions = (torch.stack(part) for part in zip(*records, strict=True))
    found_plan = planned(both, y[:, :3], actions[:, :2], torch.tensor(0.8), past=True)
    for i, one in enumerate(each):
        assert same(kalman(batch, reading, y, actions).smoothed().at(i), kalman(*one, y[i], actions[i]).smoothed())
        own = planned(engine(*one), y[i, :3], actions[i, :2], torch.tensor(0.8), past=True)
        assert same(found_plan.joint.at(i), own.joint)


class Peeking(Cart):
    """Its prior reads the speed, which is not seen."""

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("push", Normal(-state["speed"], 2.0))


class Bent(Cart):
    def observe(self, state: dict[str, Tensor]) -> Tensor:
        return pyro.sample("near", Normal(state["place"] ** 2, 0.3))


class Gusty(Cart):
    """What a gust brings grows as its square."""

    def step(self, state: dict[str, Tensor], push: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        following, _ = super().step(state, push, t)
        return following, state["place"] ** 2


GAP = [None, None]
FAULTS = {
    "peeking": (lambda: cai.partial.solve(Peeking()), r"act, t = 0: a prior of push that depends on the unseen"),
    "peeking plan": (lambda: cai.partial.plan(Peeking(), GAP, [0.1]), r"act, t = 0: a prior of push"),
    "not affine": (lambda: cai.partial.solve(Bent()), r"observe, variable 'near': not affine"),
    "rule": (lambda: cai.partial.solve(Cart(), cai.POSTERIOR), r"rule: POSTERIOR; expected VARIATIONAL or HARD"),
    "cut": (lambda: cai.partial.solve(Cart(), horizon=3), r"horizon: 3 on a linear-Gaussian world"),
    "compiled": (lambda: cai.partial.solve(cai.linearise(Cart())), r"world: a cai.LinearGaussian"),
    "unknown action": (lambda: cai.partial.plan(Cart(), GAP, [torch.nan]), r"actions: NaN"),
    "too many": (lambda: cai.partial.filter_beliefs(Cart(), [None] * 7, [0.0] * 6), r"observations: 7 of them"),
    "shape": (lambda: cai.partial.filter_beliefs(Cart(), torch.zeros(2, 3), [0.0]), r"shape \(2, 3\)"),
    "name": (lambda: cai.partial.filter_beliefs(Cart(), [{"fa": 1.0}], []), r"observations, t = 0: values of \['fa'\]"),
    "no actions": (lambda: cai.partial.plan(Cart(), GAP, [0.0, 0.0]), r"history: 2 observations and as many"),
    "infinite": (lambda: cai.partial.plan(Gusty(), GAP, [0.0], temperature=0.5), r"t = 0: the evidence is infinite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(fault: str) -> None:
    wrong, message = FAULTS[fault]
    with pytest.raises(cai.CaiError, match=message):
        wrong()


def test_check_looks_at_observe() -> None:
    assert cai.check(Cart()) == []
    assert [finding.where for finding in cai.check(Bent())] == ["observe, variable 'near'"]


@pytest.mark.parametrize("past", [True, False, None])
def test_the_estimate_in_the_loop_is_the_filters(past: bool | None) -> None:
    """None: the best policy's loop, with Kalman's filter; else the planner's."""
    model, reading = Random(k=2, T=4).draw(1)
    whole, alpha = engine(model, reading), torch.tensor(0.8)
    if past is None:
        fed = solve_beliefs(whole, cai.VARIATIONAL, alpha).output_feedback
    else:
        fed = planning(whole, alpha, past=past)
    g = torch.Generator().manual_seed(3)
    n, q = model.states.dimension, reading.scale.shape[-1]
    z = torch.randn(fed.loop.start_scale.shape[-1], generator=g)
    x, y, actions, e = fed.loop.start_mean + fed.loop.start_scale @ z, [], torch.randn(4, 2, generator=g), z[-q:]
    for t in range(4):
        y.append(reading.draw(x[:n], e))
        belief, _ = filtered(model, reading, torch.stack(y), actions[:t], alpha if past else None)
        assert close(belief.mean, x[n:])
        if past is not None:
            act = fed.policy.conditional(t)
            plan = planned(whole, torch.stack(y), actions[:t], alpha, past=past).action
            assert close(act.mean(x), plan.mean)
            assert close(act.covariance, plan.covariance)
        noise = torch.randn(fed.loop.noise, generator=g)
        x, e = fed.loop.at(t).transition @ torch.cat((x, actions[t], noise)) + fed.loop.at(t).drift, noise[-q:]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_price_of_not_seeing_is_the_policy_nats_of_the_loop(seed: int) -> None:
    model, reading = Random(k=2, T=4).draw(seed)
    found = solve_beliefs(engine(model, reading), cai.VARIATIONAL, torch.tensor(0.8))
    best = cai.evaluate(found.output_feedback.loop, found.output_feedback.policy, temperature=0.8)
    assert close(best.elbo, found.elbo)
    assert close(best.optimality_gap, found.full.elbo - found.elbo)
    assert close(best.policy_nats.sum(), found.full.elbo - found.elbo)
    for past in (True, False):
        fed = planning(engine(model, reading), torch.tensor(0.8), past=past)
        assert float(cai.evaluate(fed.loop, fed.policy, temperature=0.8).elbo) < float(found.elbo)


class Endless(Cart):
    horizon, discount = None, 0.8

    def observe(self, state: dict[str, Tensor]) -> Tensor:
        return pyro.sample("near", Normal(state["place"], 0.3))


class Long(Endless):
    horizon = 120


class Blind(Endless):
    """The speed is read, the place is not, and it wanders."""

    def observe(self, state: dict[str, Tensor]) -> Tensor:
        return pyro.sample("near", Normal(state["speed"], 0.3))


@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD])
def test_an_infinite_horizon_is_the_limit_of_long_ones(rule: cai.Rule) -> None:
    found, long = (cai.partial.solve(world, rule, temperature=0.5) for world in (Endless(), Long()))
    assert close(found.value, long.value)
    assert close(found.qmdp, found.value)
    for t in (0, 3, 20):
        assert close(found.policy(t).gain, found.full.policy.conditional(t).gain)
        assert close(found.policy(t).gain, long.policy(t).gain)
        assert close(found.covariance(t), long.covariance(t))
        assert close(found.v(t).c, long.v(t).c)
    assert close(found.act([0.3], []).mean, long.act([0.3], []).mean)


def test_what_no_reading_tells_of_is_named() -> None:
    with pytest.raises(cai.NotConvergedError, match=r"grows without end: place does not die out, and no reading"):
        cai.partial.solve(Blind())


@pytest.mark.parametrize("sign", [1, -1])
def test_no_other_policy_of_the_estimate_is_better(sign: int) -> None:
    model, reading = Random(k=2, T=3).draw(0)
    found, g = (
        solve_beliefs(engine(model, reading), cai.VARIATIONAL, torch.tensor(0.8)),
        torch.Generator().manual_seed(0),
    )
    loop, best = found.output_feedback.loop, found.output_feedback.policy
    gain, offset, scale = (sign * 0.05 * torch.randn(3, *shape, generator=g) for shape in ((2, 3), (2,), (2, 2)))

    def other(t: int) -> ConditionalGaussian:
        act, moved = best.conditional(t), torch.cat((torch.zeros(2, 3), gain[t]), -1)
        return ConditionalGaussian(act.gain + moved, act.offset + offset[t], act.scale + scale[t])

    assert float(cai.evaluate(loop, replace(best, conditional=other), temperature=0.8).elbo) < float(found.elbo)


class Half(Cart):
    """The place itself is seen, and the prior may read it; the speed is not."""

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("push", Normal(-0.5 * state["place"], 2.0))

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"place": state["place"]}


def test_what_is_seen_exactly_the_prior_may_read() -> None:
    found = cai.partial.solve(Half(), temperature=0.5)
    assert found.engine.seen.space.names == ("place",)
    assert float(found.covariance(3)[0].abs().max()) < 1e-12
    loop = found.output_feedback
    assert close(cai.evaluate(loop.loop, loop.policy, temperature=0.5).elbo, found.elbo)
    assert close(found.policy(0).gain, found.full.policy.conditional(0).gain)
    belief, plan = cai.partial.filter_beliefs(Half(), [0.4], []), cai.partial.plan(Half(), [0.4], temperature=0.5)
    assert close(belief.mean[0], torch.tensor([0.4, 0.0]))
    assert close(plan.messages.initial().mean[0], torch.tensor(0.4))


def test_what_is_no_policy_of_states_and_mixed_worlds_are_refused_in_one_line() -> None:
    with pytest.raises(cai.WorldError, match=r"which acts on a record of observations and actions; expected a policy"):
        cai.evaluate(Half(), cai.partial.solve(Half()))
    road = cai.load_world("icy_road", {"horizon": 2})
    road.observe = lambda state: state["offset"]
    for ask in (lambda: cai.partial.solve(road), lambda: cai.partial.filter_beliefs(road, [0.0], [])):
        with pytest.raises(cai.IntractableError, match="a belief is a mixture of ever more Gaussians"):
            ask()


@pytest.mark.slow  # the report loads matplotlib
def test_the_page_and_the_terminal_show_what_is_done_on_the_estimates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cai.partial.solve(Cart(), temperature=0.5)
    cai.report(found, tmp_path)
    assert "At each time this is read: near and far." in (tmp_path / "report.html").read_text()
    print_policy("first", found)
    assert "estimated_speed" in capsys.readouterr().out

"""Affine-Gaussian policies: sampled and scored as one joint Gaussian, learned exactly, by REINFORCE and by SAC."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

import cai
from cai.bridges.named import load_world
from cai.compile.quadratic import ConditionalGaussian
from cai.errors import IntractableError
from cai.exact.forms import operator
from cai.exact.gaussian.affine_elbo import affine_elbo, reward_and_prior
from cai.learn.action_heads import actor_of
from cai.policies.affine import AffinePolicy
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.simulate.rollout import simulator_of
from cai.world.coordinates import Coordinates

pytestmark = pytest.mark.usefixtures("float64")

# Drawn and scored

VARIABLES = Coordinates(("push", "turn", "grip"), (torch.Size(), torch.Size([2]), torch.Size([1, 2])))
STATES = Coordinates(("x", "y"), (torch.Size(), torch.Size([2])))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def policy_of(scale: Tensor, actions: Coordinates = VARIABLES) -> tuple[AffineGaussianPolicy, ConditionalGaussian]:
    """Return a policy that is the same at all times."""
    one = ConditionalGaussian(drawn(1, len(scale), 3), drawn(2, len(scale)), scale)
    return AffineGaussianPolicy({0: one, 1: one}.__getitem__, STATES, actions), one


@pytest.mark.parametrize("columns", [5, 7])
def test_variables_one_by_one_are_the_joint_gaussian(columns: int) -> None:
    """Several variables of several shapes, correlated: log π is that of one multivariate Gaussian, by any factor."""
    policy, one = policy_of(drawn(3, 5, columns))
    x, a = drawn(4, 6, 3), drawn(5, 6, 5)
    seen = policy.log_prob(STATES.pack(STATES.split(x)), VARIABLES.pack(VARIABLES.split(a)))
    joint = dist.MultivariateNormal(one.mean(x), one.covariance)
    torch.testing.assert_close(seen, joint.log_prob(a))


def test_draws_have_the_mean_and_the_covariance() -> None:
    policy, one = policy_of(drawn(3, 5, 5))
    x = drawn(4, 1, 3).expand(20_000, 3)
    pyro.set_rng_seed(0)
    a = VARIABLES.join(policy.sample(STATES.pack(STATES.split(x)), 1))
    error = one.covariance.diagonal().sqrt() / math.sqrt(len(a))
    assert bool(((a.mean(0) - one.mean(x[0])).abs() < 5 * error).all())
    torch.testing.assert_close(a.T.cov(), one.covariance, rtol=0.1, atol=0.2)
    mode = VARIABLES.join(policy.mode(STATES.pack(STATES.split(x[0]))))
    torch.testing.assert_close(mode, one.mean(x[0]))


def test_a_certain_variable_is_a_point_and_one_that_is_half_certain_is_refused() -> None:
    actions = Coordinates(("push", "turn"), (torch.Size(), torch.Size([2])))
    state = STATES.pack(STATES.split(drawn(4, 2, 3)))
    policy, _ = policy_of(torch.zeros(3, 1), actions)
    trace = pyro.poutine.trace(policy.act).get_trace(state, 0)
    assert isinstance(trace.nodes["turn"]["fn"], dist.Delta)
    policy, _ = policy_of(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]), actions)
    with pytest.raises(IntractableError, match="'turn': certain in one direction"):
        policy.sample(state)


# The head of learners


class Correlated:
    """A prior that leans on the state, of correlated numbers."""

    horizon = 3

    def initial(self) -> Tensor:
        return pyro.sample("s", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        factor = torch.tensor([[1.0, 0.0], [0.5, 2.0]]).to(state)
        return pyro.sample("a", dist.MultivariateNormal(0.5 * state + 1, scale_tril=factor))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("s", dist.Normal(0.5 * (state + action), 0.1).to_event(1)), -action.square().sum(-1)


class Free(Correlated):
    """The same with a flat prior."""

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", dist.ImproperUniform(dist.constraints.real, state.shape[:-1], (2,)))


def test_the_ratio_of_the_head_is_that_of_the_two_densities() -> None:
    world = Correlated()
    actor: Any = actor_of(simulator_of(world, 5))
    state, out = drawn(1, 5, 2), drawn(2, 5, 4)
    prior = actor.prior(state, 0)
    code = actor.draw(out, prior)
    log_pi = actor.gaussian(out, prior).log_prob(code)
    log_p = pyro.poutine.trace(world.act).get_trace(state, 0).nodes["a"]["fn"].log_prob(code)
    torch.testing.assert_close(actor.ratio(out, prior, code), log_pi - log_p)
    assert bool((actor.ratio(torch.zeros(5, 4), prior, code).abs() < 1e-12).all())  # at zero it is the prior
    free: Any = actor_of(simulator_of(Free(), 5))
    torch.testing.assert_close(
        free.ratio(out, free.prior(state, 0), code), free.gaussian(out, free.prior(state, 0)).log_prob(code)
    )


# Measured and fitted exactly


def small(name: str = "lqg", **arguments: Any) -> Any:
    usual = {"states": 2, "actions": 1, "horizon": 3} if name == "lqg" else {"horizon": 3}
    return load_world(name, {**usual, **arguments})


def random_policy(world: Any, seed: int = 0, **settings: Any) -> AffinePolicy:
    policy = AffinePolicy(world, **settings)
    with torch.no_grad():
        for n, parameter in enumerate(policy.parameters()):
            parameter.copy_(0.3 * drawn(seed + n, *parameter.shape))
    return policy


@pytest.mark.parametrize(
    "world", [small(), small("tracking"), small("thermostat"), Free()], ids=lambda w: type(w).__name__
)
def test_it_starts_at_the_prior(world: Any) -> None:
    """A flat prior is stood in for by a standard normal."""
    policy, act = AffinePolicy(world), cai.linearise(world).at(0).prior
    torch.testing.assert_close(policy.conditional(0).gain, act.gain)
    torch.testing.assert_close(policy.conditional(0).offset, act.offset)
    torch.testing.assert_close(policy.conditional(0).covariance, act.covariance)
    assert AffinePolicy(world, stationary=True).horizon is None


@pytest.mark.parametrize("name", ["lqg", "double_integrator", "tracking"])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_closed_form_is_the_mean_of_samples(name: str, alpha: float) -> None:
    """Pyro's own weights log p(τ, O) - log p̂(τ) of 4,000 trajectories of a random policy: five standard errors."""
    world = small(name)
    policy = random_policy(world)
    exact = elbo_of(world, policy.conditional, alpha).detach()
    seen = cai.elbo(world, policy, temperature=alpha, method="sampling", samples=4000)
    assert abs(seen.value - float(exact)) < 5 * seen.standard_error


def elbo_of(world: Any, policy: Any, alpha: float = 1.0) -> Tensor:
    op: Any = operator(cai.linearise(world), cai.VARIATIONAL, alpha)
    return affine_elbo(op, policy, reward_and_prior(op))


@pytest.mark.parametrize("name", ["lqg", "thermostat"])
def test_no_policy_has_more_than_the_best_one(name: str) -> None:
    """VARIATIONAL's own policy reaches ELBO*, where the gradient is 0; a random one is below by its policy nats."""
    world = small(name)
    best = cai.solve(world, cai.VARIATIONAL)
    assert float(elbo_of(world, best.policy.conditional)) == pytest.approx(float(best.elbo), abs=1e-10)
    assert float(elbo_of(world, random_policy(world).conditional).detach()) < float(best.elbo)


def test_the_gradient_is_that_of_differences() -> None:
    world = small("tracking")
    policy = random_policy(world)
    shapes = {name: p.shape for name, p in policy.named_parameters()}

    def value(*parameters: Tensor) -> Tensor:
        given = dict(zip(shapes, parameters, strict=True))
        return functional_call(_Elbo(world, policy), {f"policy.{name}": p for name, p in given.items()}, ())

    assert torch.autograd.gradcheck(value, tuple(policy.parameters()), atol=1e-6, fast_mode=True)


class _Elbo(torch.nn.Module):
    def __init__(self, world: Any, policy: AffinePolicy) -> None:
        super().__init__()
        self.world, self.policy = world, policy

    def forward(self) -> Tensor:
        return elbo_of(self.world, self.policy.conditional)


def test_a_few_steps_of_fit_say_what_they_are() -> None:
    """The default on a linear-Gaussian world; the numbers of the history are exact."""
    world = small()
    found = cai.fit(world, steps=3, progress=False)
    assert isinstance(found.policy, AffinePolicy)
    assert found.estimator == "exact"
    assert found.elbo_star == pytest.approx(float(cai.solve(world, cai.VARIATIONAL).elbo))
    first, last = found.history[0], found.history[-1]
    assert last.elbo == pytest.approx(float(elbo_of(world, found.policy.conditional).detach()), abs=1e-12)
    assert last.standard_error == 0
    assert first.policy_nats > last.policy_nats > 0
    assert last.deterministic_return > last.stochastic_return
    model = cai.fit(cai.linearise(world), "affine", steps=3, progress=False)
    assert model.elbo == found.elbo


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "temperature"),
    [
        ("lqg", {}, 1.0),
        ("lqg", {"horizon": None, "discount": 0.7}, 1.0),
        ("double_integrator", {}, 0.5),
        ("tracking", {}, 1.0),
        ("thermostat", {}, 3.0),
    ],
)
def test_exact_ascent_reaches_the_optimum(name: str, arguments: dict[str, Any], temperature: float) -> None:
    """The policy comes to be VARIATIONAL's, gain for gain."""
    world = small(name, **arguments)
    found = cai.fit(world, "affine", temperature=temperature, steps=6000, tolerance=1e-6, progress=False)
    assert found.stopped == "gap"
    best = cai.solve(world, cai.VARIATIONAL, temperature=temperature).policy.conditional(1)
    torch.testing.assert_close(found.policy.conditional(1).gain, best.gain, atol=1e-2, rtol=1e-2)


@pytest.mark.slow
def test_a_flat_prior_is_fitted_too() -> None:
    found = cai.fit(Free(), "affine", steps=3000, tolerance=1e-6, progress=False)
    assert found.stopped == "gap"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"policy": "tabular"}, "'tabular' for a world that cannot be tabulated"),
        ({"policy": "full"}, "'full' for a world that cannot be tabulated"),
        ({"policy": "neural", "estimator": "exact"}, "an affine-Gaussian policy: 'affine'; or reparameterised"),
        ({"estimator": "tables"}, "'tables' for a world that cannot be tabulated"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.CaiError, match=words):
        cai.fit(small(), steps=1, progress=False, **settings)


def test_a_world_that_is_not_linear_is_refused() -> None:
    with pytest.raises(cai.IntractableError, match="'affine' for a world that cannot be linearised"):
        cai.fit(load_world("pendulum"), "affine", steps=1, progress=False)
    with pytest.raises(cai.CaiError):
        AffinePolicy(load_world("pendulum"))


# Learned from samples, measured exactly


def test_reinforce_learns_an_affine_policy_with_exact_numbers() -> None:
    world = small()
    found = cai.learn.reinforce(world, temperature=1.0, steps=1500, batch=50, evaluations=2, progress=False)
    assert isinstance(found.policy, AffineGaussianPolicy)
    assert found.elbo == pytest.approx(float(elbo_of(world, found.policy.conditional).detach()), abs=1e-12)
    assert found.standard_error == 0
    assert found.gap > 0
    assert found.elbo > found.history[0].elbo


@pytest.mark.parametrize("hidden", [None, (8,)])
def test_a_learned_policy_scores_as_it_draws(hidden: Any) -> None:
    """The policy of either kind, as a program."""
    world = small("double_integrator")
    found = cai.learn.reinforce(world, steps=30, batch=5, evaluations=1, network=hidden, progress=False)
    state = {"position": torch.tensor([1.0, 2.0]), "velocity": torch.zeros(2)}
    action = found.policy.sample(state, 1)
    assert action.shape == (2,)
    assert found.policy.log_prob(state, action, 1).isfinite().all()


@pytest.mark.slow
def test_reinforce_comes_close_to_the_optimum() -> None:
    world = small(horizon=5)
    found = cai.learn.reinforce(world, temperature=1.0, steps=200_000, evaluations=2, progress=False)
    assert found.gap < 0.05


@pytest.mark.slow
def test_sac_beats_the_prior_by_far() -> None:
    world = small(horizon=5)
    found = cai.learn.sac(world, temperature=1.0, steps=3000, warmup=200, evaluations=1, progress=False)
    evaluation = cai.evaluate(world, found)
    assert evaluation.standard_error > 0
    assert evaluation.elbo > cai.evaluate(world, None).elbo + 3

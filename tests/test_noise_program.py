"""A world as a function of noise is the program itself: the same laws, the same rewards, of any distribution."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import cai
from cai.compile.noise_program import noise_program
from cai.world.noise import log_normal, quantile
from tests.helpers import examples, load_model
from tests.worlds import FactoredWorld, RandomWorld

pytestmark = pytest.mark.usefixtures("float64")
N = 20_000
LAWS = {
    "uniform": (lambda: dist.Uniform(torch.tensor(-2.0), torch.tensor(5.0)), stats.uniform(-2, 7)),
    "normal": (lambda: dist.Normal(torch.tensor(1.0), torch.tensor(3.0)), stats.norm(1, 3)),
    "exponential": (lambda: dist.Exponential(torch.tensor(2.0)), stats.expon(scale=0.5)),
    "laplace": (lambda: dist.Laplace(torch.tensor(0.5), torch.tensor(2.0)), stats.laplace(0.5, 2)),
    "gumbel": (lambda: dist.Gumbel(torch.tensor(0.5), torch.tensor(2.0)), stats.gumbel_r(0.5, 2)),
}


@pytest.mark.parametrize("name", LAWS)
def test_noise_gives_each_distribution_its_own_law(name: str) -> None:
    make, law = LAWS[name]
    z = torch.linspace(-5, 5, 41)
    value = quantile("site", make())(z.unsqueeze(-1))
    assert torch.allclose(value, torch.as_tensor(law.ppf(stats.norm.cdf(z))), rtol=1e-10, atol=1e-10)


@examples(20)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6), st.integers(0, 10**6))
def test_a_finite_site_takes_each_value_with_its_probability(weights: list[float], seed: int) -> None:
    p = torch.tensor(weights) / sum(weights)
    z = torch.randn(N, 1, generator=torch.Generator().manual_seed(seed))
    counts = torch.bincount(quantile("site", dist.Categorical(p))(z), minlength=len(p)) / N
    assert bool(((counts - p).abs() <= 5 * (p * (1 - p) / N).sqrt() + 1e-9).all())


def test_a_value_of_probability_zero_is_never_taken() -> None:
    site = quantile("site", dist.Categorical(torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0])))
    taken = site(torch.tensor([[-40.0], [-1.0], [0.5], [40.0]]))
    assert taken.tolist() == [1, 1, 3, 3]


class Correlated:
    """A vector whose numbers move together, an action within bounds, and noise of two kinds."""

    horizon = 4

    def initial(self):
        root = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
        return pyro.sample("x", dist.MultivariateNormal(torch.tensor([1.0, -1.0]), scale_tril=root))

    def act(self, state, t):
        low = torch.full(state.shape[:-1], -0.5)
        return pyro.sample("push", dist.Uniform(low, low + 1))

    def step(self, state, action, t):
        gust = pyro.sample("gust", dist.Laplace(torch.tensor(0.0), torch.tensor(0.1)))
        calm = pyro.sample("calm", dist.Bernoulli(torch.tensor(0.25)))
        moved = state + ((action + gust) * (1 - calm)).unsqueeze(-1)
        return pyro.sample("x", dist.Delta(moved, event_dim=1)), -state.square().sum(-1)


def test_shapes_and_bounds_of_a_mixed_program() -> None:
    program = noise_program(Correlated())
    assert (program.start_noise, program.act_noise, program.step_noise) == (2, 1, 2)
    z = torch.randn(3, N, 2, generator=torch.Generator().manual_seed(0))
    s = program.start(z)
    assert s.shape == (3, N, 2)
    seen = torch.cov(s.flatten(0, 1).mT)
    assert torch.allclose(seen, torch.tensor([[1.0, 0.8], [0.8, 1.0]]), atol=4 * (3 * N / 2) ** -0.5)
    a = program.act(0, s, 30 * z[..., :1])
    assert float(a.min()) >= -0.5
    assert float(a.max()) <= 0.5
    following, reward = program.step(0, s, a, z)
    assert following.shape == s.shape
    assert torch.equal(reward, -s.square().sum(-1))


@pytest.mark.parametrize("world", [RandomWorld(3, 4, 2, 2, 3), FactoredWorld(3)], ids=["random", "factored"])
def test_the_mean_of_the_weights_is_the_evidence_of_the_tables(world) -> None:
    """E exp(return/α) over noise is the evidence of the backward sweep."""
    alpha, program = 1.0, noise_program(world)
    generator = torch.Generator().manual_seed(1)
    s = program.start(torch.randn(N, program.start_noise, generator=generator))
    total = torch.zeros(N)
    for t in range(program.horizon):
        a = program.act(t, s, torch.randn(N, program.act_noise, generator=generator))
        s, r = program.step(t, s, a, torch.randn(N, program.step_noise, generator=generator))
        total = total + r
    weights = ((total + program.terminal(s)) / alpha).exp()
    exact = float(cai.solve(world, temperature=alpha).log_evidence.exp())
    assert abs(float(weights.mean()) - exact) <= 4 * float(weights.std()) / N**0.5


def test_from_a_state_on() -> None:
    program = noise_program(load_model("pendulum")(horizon=200))
    later = program.starting(torch.tensor([0.3, -1.0]), 195, 20)
    assert (later.first, later.horizon) == (195, 5)
    s = later.start(torch.zeros(7, later.start_noise))
    assert s.tolist() == [[0.3, -1.0]] * 7


def test_a_terminal_reward_is_paid_at_the_worlds_own_end_alone() -> None:
    program = noise_program(load_model("double_integrator")())
    s = torch.ones(1, 2)
    assert program.starting(s[0], 0, 5).terminal(s).tolist() == [0.0]
    assert program.starting(s[0], 28, 5).terminal(s).tolist() == [-20.0]


def test_what_cannot_be_taken_is_named() -> None:
    class Odd(Correlated):
        def step(self, state, action, t):
            odd = pyro.sample("odd", dist.VonMises(torch.tensor(0.0), torch.tensor(1.0)))
            return pyro.sample("x", dist.Delta(state + odd.unsqueeze(-1), event_dim=1)), state[..., 0]

    with pytest.raises(cai.IntractableError, match=r"step, t = 0, variable 'odd': VonMises"):
        noise_program(Odd())
    with pytest.raises(cai.WorldError, match="horizon: None"):
        noise_program(load_model("pendulum")(horizon=None, discount=0.9))


def test_the_log_density_of_noise() -> None:
    z = torch.tensor([[0.3, -2.0], [0.0, 0.0]])
    assert torch.allclose(log_normal(z), dist.Normal(torch.zeros(2), 1.0).to_event(1).log_prob(z))


def test_a_method_is_named_and_its_options_are_known() -> None:
    world = Correlated()
    with pytest.raises(cai.WorldError, match="approximate, method: 'nothing'"):
        cai.approximate(world, "nothing")
    with pytest.raises(cai.WorldError, match="approximate, seed"):
        cai.approximate(world, "nothing", seed=-1)

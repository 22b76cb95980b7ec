"""A policy as other noise in the action prior: its densities are those of the change of variables."""

from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from cai.compile.noise_program import noise_program
from cai.compile.quadratic import ConditionalGaussian
from cai.policies.noise_policy import NoisePolicy
from cai.world.noise import log_normal
from tests.helpers import slow_after


def real(*numbers: Any) -> Tensor:
    return torch.tensor(*numbers, dtype=torch.float64)


PRIORS = {
    "normal": dist.Normal(real(0.3), real(0.5)),
    "uniform": dist.Uniform(real(-2.0), real(1.0)),
    "laplace": dist.Laplace(real(0.2), real(0.7)),
    "vector": dist.Normal(real([0.3, -0.1]), real([0.5, 2.0])).to_event(1),
    "correlated": dist.MultivariateNormal(real([0.0, 1.0]), scale_tril=real([[0.5, 0.0], [0.7, 2.0]])),
    "finite": dist.Categorical(real([0.2, 0.0, 0.5, 0.3])),
}


def world(prior: Any) -> Any:
    def start() -> Tensor:
        return pyro.sample("s", dist.Normal(torch.tensor(0.0), 1.0))

    def act(s: Tensor, t: int) -> Tensor:
        return pyro.sample("a", prior.expand(s.shape))

    def step(s: Tensor, a: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("s", dist.Delta(s)), s

    return SimpleNamespace(horizon=2, initial=start, act=act, step=step)


def policy(prior: Any) -> tuple[NoisePolicy, ConditionalGaussian]:
    program = noise_program(world(prior))
    k = program.act_noise
    root = torch.tensor([[0.5, 0.0], [-0.3, 0.4]], dtype=torch.float64)[:k, :k]
    law = ConditionalGaussian(torch.full((k, 1), 0.4, dtype=torch.float64), torch.linspace(-0.6, 0.9, k).double(), root)
    return NoisePolicy(program, lambda t: law), law


@pytest.mark.parametrize("name", ["normal", "uniform", "laplace", "vector", "correlated"])
def test_density_is_the_change_of_variables(name: str) -> None:
    """p(a) of the policy over p(a) of the prior is N(w; m, Σ) over N(w; 0, I) at a = act(w)."""
    pi, law = policy(PRIORS[name])
    s, w = torch.randn(5, 1).double(), torch.randn(5, pi.program.act_noise).double()
    a = pi.program.action(pi.program.act(0, s, w))
    xi = torch.linalg.solve_triangular(law.scale, (w - law.mean(s)).unsqueeze(-1), upper=False).squeeze(-1)
    log_q = log_normal(xi) - law.scale.diagonal().log().sum()
    ratio = pi.log_prob(s.squeeze(-1), a) - PRIORS[name].log_prob(a)
    assert torch.allclose(ratio, log_q - log_normal(w), atol=1e-10)


def test_finite_actions_have_the_noise_s_interval_probabilities() -> None:
    """The share of a fine grid of noise that gives each action; what the prior forbids stays forbidden."""
    pi, law = policy(PRIORS["finite"])
    s = torch.tensor([[0.7], [-8.0]]).double()
    uniform = (torch.arange(200_000).double() + 0.5) / 200_000
    w = law.mean(s).unsqueeze(1) + 0.5 * torch.special.ndtri(uniform).reshape(1, -1, 1)
    drawn = pi.program.act(0, s.unsqueeze(1).expand(2, 200_000, 1), w).squeeze(-1)
    shares = torch.stack([(drawn == a).double().mean(-1) for a in range(4)], -1)
    log_p = pi.log_prob(s.squeeze(-1).unsqueeze(-1), torch.arange(4))
    assert torch.allclose(log_p.exp(), shares, atol=1e-5)
    assert bool((log_p[:, 1] == -torch.inf).all())
    assert bool(log_p[:, 0].isfinite().all())


@pytest.mark.parametrize("name", PRIORS)
def test_samples_are_possible_actions(name: str) -> None:
    """A draw has the shape of an action, and a finite log-probability."""
    pyro.set_rng_seed(0)
    pi, _ = policy(PRIORS[name])
    s = torch.zeros(100).double()
    a = pi.sample(s, 1)
    assert a.shape == (100, *PRIORS[name].event_shape)
    assert bool(pi.log_prob(s, a, 1).isfinite().all())


def two_actions(a: Any, b: Any) -> Any:
    """A world with an action variable whose law depends on the one before it."""

    def act(s: Tensor, t: int) -> dict[str, Tensor]:
        first = pyro.sample("a", a.expand(s.shape))
        return {"a": first, "b": pyro.sample("b", b(first))}

    def step(s: Tensor, a: dict[str, Tensor], t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("s", dist.Delta(s)), s

    return SimpleNamespace(horizon=1, initial=lambda: pyro.sample("s", dist.Normal(0.0, 1.0)), act=act, step=step)


@pytest.mark.parametrize("name", ["normal", "uniform", "laplace", "vector"])
def test_noises_of_two_action_variables_covary(name: str) -> None:
    """log q(a, b) is the joint density of the noise by the change of variables, and samples have its covariance."""
    prior = PRIORS[name]
    world = two_actions(
        prior, lambda a: dist.Normal(a.reshape((*a.shape[: a.dim() - len(prior.event_shape)], -1)).sum(-1), 0.5)
    )
    program = noise_program(world)
    k = program.act_noise
    root = torch.eye(k).double() * 0.5
    root[-1, 0] = 0.4
    law = ConditionalGaussian(torch.full((k, 1), 0.4).double(), torch.linspace(-0.6, 0.9, k).double(), root)
    pi = NoisePolicy(program, lambda t: law)
    s, w = torch.randn(5, 1).double(), torch.randn(5, k).double()
    a = program.action(program.act(0, s, w))
    xi = torch.linalg.solve_triangular(root, (w - law.mean(s)).unsqueeze(-1), upper=False).squeeze(-1)
    log_q = log_normal(xi) - root.diagonal().log().sum()
    log_p = prior.log_prob(a["a"]) + world_density(a, prior)
    assert torch.allclose(pi.log_prob(s.squeeze(-1), a) - log_p, log_q - log_normal(w), atol=1e-9)


def world_density(a: dict[str, Tensor], prior: Any) -> Tensor:
    """Return log p(b|a) of the prior."""
    total = a["a"] if not prior.event_shape else a["a"].sum(-1)
    return dist.Normal(total, 0.5).log_prob(a["b"])


def test_what_follows_a_finite_action_does_not_covary_with_it() -> None:
    """Its noise is its own: the law of b given a is that of N(m_b, Σ_bb)."""
    world = two_actions(PRIORS["finite"], lambda a: dist.Normal(a.double(), 0.5))
    program = noise_program(world)
    root = torch.tensor([[0.5, 0.0], [0.4, 0.3]]).double()
    law = ConditionalGaussian(torch.zeros(2, 1).double(), torch.tensor([0.1, 0.2]).double(), root)
    pi = NoisePolicy(program, lambda t: law)
    s, b = torch.zeros(3).double(), torch.tensor([0.0, 1.0, 2.5]).double()
    joint = pi.log_prob(s, {"a": torch.full((3,), 2), "b": b})
    alone = pi.log_prob(s[:1], {"a": torch.tensor([2]), "b": torch.tensor([2.1]).double()})
    density = dist.Normal(2.0 + 0.5 * 0.2, 0.5 * 0.5).log_prob
    assert torch.allclose(joint - density(b), (alone - density(torch.tensor(2.1))).expand(3), atol=1e-9)


@pytest.mark.parametrize("name", slow_after(4, ["normal", "vector", "correlated", "finite", "uniform", "laplace"]))
def test_the_median_is_the_action_at_the_mean_of_the_noise(name: str) -> None:
    pi, law = policy(PRIORS[name])
    s = torch.linspace(-1, 1, 5).double()
    expected = pi.program.action(pi.program.act(0, s.unsqueeze(-1), law.mean(s.unsqueeze(-1))))
    assert torch.equal(pi.median(s, 1), expected)
    if name in ("normal", "uniform", "laplace"):
        draws = torch.stack([pi.sample(s, 1) for _ in range(2000)])
        below = (draws < pi.median(s, 1)).double().mean(0)
        assert bool(((below - 0.5).abs() < 4 * 0.5 / 2000**0.5).all())

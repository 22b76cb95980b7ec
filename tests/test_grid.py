"""The grid: its interpolation, the exact answers it must give, its error against its step, and what it refuses."""

from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.approximation.lattice import Lattice
from cai.approximation.quadrature import rule_of


def lattice(points: tuple[int, ...], periodic: tuple[bool, ...]) -> Lattice:
    """Return a grid over the box -1 … 2."""
    d = len(points)
    low, high = -torch.ones(d, dtype=torch.float64), 2 * torch.ones(d, dtype=torch.float64)
    return Lattice(tuple(map(str, range(d))), low, high, points, periodic, (False,) * d)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.integers(0, 1000))
def test_interpolation_reproduces_linear_functions(points: list[int], seed: int) -> None:
    """Its weights are probabilities, and the corners' mean is the state itself, put on the edge where it is outside."""
    g, grid = torch.Generator().manual_seed(seed), lattice(tuple(points), (False,) * len(points))
    x = 4 * torch.rand(50, len(points), generator=g, dtype=torch.float64) - 1.5
    number, weight, outside = grid.corners(x)
    assert weight.shape == (50, 2 ** len(points))
    assert bool((weight >= 0).all())
    assert torch.allclose(weight.sum(-1), torch.ones(50, dtype=torch.float64), atol=1e-14)
    mean = (weight.unsqueeze(-1) * grid.states(0, grid.size)[number]).sum(-2)
    assert torch.allclose(mean, x.clamp(-1, 2), atol=1e-12)
    assert torch.equal(outside, ((x < -1) | (x > 2)).any(-1))


def test_a_periodic_coordinate_goes_round() -> None:
    """A state and the same one a turn later have the same corners; between the last point and the first both count."""
    grid = lattice((6,), (True,))
    number, weight, outside = grid.corners(torch.tensor([[1.75], [4.75], [-1.25]], dtype=torch.float64))
    assert number.tolist() == [[5, 0]] * 3
    assert not bool(outside.any())
    assert torch.allclose(weight, torch.full((3, 2), 0.5, dtype=torch.float64))


PLANE = dist.Normal(torch.zeros(2), 1.0).to_event(1)


@pytest.mark.parametrize("fn", [dist.Normal(0.0, 1.0), dist.Uniform(-1.0, 1.0), PLANE])
def test_nodes_integrate_polynomials(fn: Any) -> None:
    """The first moments of a coordinate."""
    nodes = rule_of(fn, 6)
    w = nodes.log_w.exp()
    bounded = isinstance(fn, dist.Uniform)
    x = 2 * torch.special.ndtr(nodes.z[:, 0]) - 1 if bounded else nodes.z[:, 0]
    moments = [float(w @ x**k) for k in range(5)]
    assert moments == pytest.approx([1, 0, 1 / 3, 0, 1 / 5] if bounded else [1, 0, 1, 0, 3], abs=1e-12)


class Ring:
    """Six places on a ring, a slippery step, and a place that pays; all of them points of a grid."""

    def __init__(self, terminated: bool = False) -> None:
        self.horizon, self.discount = 4, 0.9
        if terminated:
            self.terminated = lambda place: place == 3

    def initial(self) -> Tensor:
        return pyro.sample("place", dist.Categorical(torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0, 0.0])))

    def act(self, place: Tensor, t: int) -> Tensor:
        left = 0.1 + 0.1 * place
        return pyro.sample("move", dist.Categorical(torch.stack((left, 1 - left), -1)))

    def step(self, place: Tensor, move: Tensor, t: int) -> tuple[Tensor, Tensor]:
        slip = pyro.sample("slip", dist.Bernoulli(0.2 + 0.05 * place))
        to = (place + (2 * move - 1) * (1 - slip.long())) % 6
        over = (place == 3) & hasattr(self, "terminated")
        to, paid = torch.where(over, place, to), torch.where(over, 0.0, 1.0 * (to == 3) - 0.1 * move)
        return pyro.sample("place", cai.Point(to, 6)), paid


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD])
def test_a_world_on_the_grid_is_solved_exactly(rule: cai.Rule, terminated: bool) -> None:
    """Finite variables keep all their values, and finite noise its probabilities: the value and the policy agree."""
    world = Ring(terminated)
    true = cai.solve(world, rule, temperature=0.3)
    found = cai.approximate(world, "grid", temperature=0.3, rule=rule, progress=False)
    assert torch.allclose(found.policy.v, true.v, atol=1e-12)
    assert torch.allclose(found.policy.value(torch.arange(3), 1), true.v[1, :3], atol=1e-12)
    own = torch.stack([found.policy.log_prob(torch.arange(3), torch.full((3,), a), 1).exp() for a in (0, 1)], -1)
    assert torch.allclose(own, true.policy.probs(1)[:3], atol=1e-12)


BOX = {"low": -6.0, "high": 6.0, "actions": 9, "nodes": 3}


def test_the_error_is_of_the_order_of_the_step_squared() -> None:
    """On the double integrator, whose value is known: slope 2, and the estimate of the error is of its size."""
    world = cai.load_world("double_integrator", {"horizon": 3, "noise": 0.3})
    true = float(cai.solve(world, cai.VARIATIONAL, temperature=2.0).value)
    study = cai.approximation.grid_convergence(world, [21, 41, 81], temperature=2.0, reference=true, **BOX)
    assert 1.8 < study.slope < 2.2
    assert "slope" in str(study)
    assert all(3.5 < row.ratio < 4.5 for row in study.rows[1:])
    elbo = cai.approximate(world, "grid", temperature=2.0, points=41, progress=False, **BOX).elbo
    assert 0.5 < elbo.standard_error / abs(elbo.value - true / 2) < 2


def swing(**members: Any) -> Any:
    """Return one real coordinate that is pushed within bounds."""

    def act(x: Tensor, t: int) -> Tensor:
        return pyro.sample("u", dist.Uniform(-torch.ones_like(x), torch.ones_like(x)))

    def step(x: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("x", dist.Delta(x + u)), -(x**2) - 0.1 * u**2

    def initial() -> Tensor:
        return pyro.sample("x", dist.Normal(torch.tensor(1.0), 0.5))

    return SimpleNamespace(initial=initial, act=act, step=step, **{"horizon": 3, "discount": 1.0, **members})


def test_the_policy_has_a_density() -> None:
    """It integrates to 1 between points of the grid, and its draws are possible; HARD takes a node."""
    found = cai.approximate(swing(), "grid", temperature=0.3, points=21, progress=False)
    u = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = found.policy.log_prob(torch.tensor(0.37).expand(len(u)), u, 0).exp()
    assert float(torch.trapezoid(density, u)) == pytest.approx(1, abs=1e-3)
    assert abs(float(torch.trapezoid(density * u, u)) + 0.37) < 0.05
    hard = cai.approximate(swing(), "grid", points=21, rule=cai.HARD, progress=False)
    assert hard.policy.sample(torch.tensor([2.0, -2.0]), 0).tolist() == [-1, 1]
    assert any("HARD" in note for note in hard.notes)


def test_control_that_plans_on_a_grid_takes_the_median_of_its_density() -> None:
    """Half of the density lies below the action, which need not be a node."""
    control = cai.mpc(swing(), "grid", 3, temperature=0.3, points=21, low=-3.0, high=3.0, halved=False)
    x = torch.tensor(0.37)
    taken = float(control.sample(x, 0))
    u = torch.linspace(-1, taken, 20_001, dtype=torch.float64)
    below = control.plan(x, 0).policy.log_prob(x.expand(len(u)), u, 0).exp()
    assert float(torch.trapezoid(below, u)) == pytest.approx(0.5, abs=1e-3)


def test_the_elbo_of_the_policy_is_that_of_the_grid() -> None:
    """Measured by roll-outs, within four standard errors and the error of the grid."""
    world, alpha = swing(), 0.5
    found = cai.approximate(world, "grid", temperature=alpha, points=101, actions=41, progress=False)
    draws = cai.rollout(world, found.policy, batch=2000, generator=torch.Generator().manual_seed(0))
    prior = -torch.tensor(2.0).log()
    kl = sum(found.policy.log_prob(draws.states[t], draws.actions[t], t) - prior for t in range(3))
    each = draws.returns / alpha - kl
    error = 4 * float(each.std()) / len(each) ** 0.5
    assert abs(float(each.mean()) - found.elbo.value) < error + 4 * found.elbo.standard_error < 0.5


def test_what_leaves_the_box_is_told() -> None:
    """It is put on the edge: the value there is the edge's, a number."""
    found = cai.approximate(swing(), "grid", low=-0.5, high=0.5, points=5, rule=cai.HARD, progress=False)
    assert any("leave the box" in note for note in found.notes)
    wide = cai.approximate(swing(bounds={"x": (-9.0, 9.0)}), "grid", points=5, halved=False, progress=False)
    assert "-9 … 9" in wide.notes[0]
    assert "not halved" in wide.notes[-1]
    assert "roll-outs" in cai.approximate(swing(), "grid", points=5, progress=False).notes[0]


def test_an_infinite_horizon_is_one_slice() -> None:
    """The policy of any time is that of time 0."""
    found = cai.approximate(swing(horizon=None, discount=0.5), "grid", points=11, progress=False)
    x = torch.tensor([0.3])
    assert torch.equal(found.policy.log_prob(x, -x, 0), found.policy.log_prob(x, -x, 7))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 1}, "points of 'x'"),
        ({"points": (3, 4)}, "one for each of 1"),
        ({"low": 2.0, "high": 1.0}, "low below high"),
        ({"low": float("nan")}, "low of .x.: nan; expected a finite number"),
        ({"periodic": ("y",)}, "no such variable"),
        ({"actions": 0}, "actions"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    """In one line that names the option."""
    with pytest.raises(cai.WorldError, match=said):
        cai.approximate(swing(), "grid", progress=False, **options)


def test_too_many_dimensions_and_too_much_memory_are_refused() -> None:
    """Before anything is allocated."""

    def initial() -> Tensor:
        return pyro.sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1))

    def step(x: Tensor, u: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("x", dist.Delta(x + u.unsqueeze(-1), event_dim=1)), -x.square().sum(-1)

    def act(x: Tensor, t: int) -> Tensor:
        return pyro.sample("u", dist.Normal(torch.zeros_like(x[..., 0]), 1.0))

    with pytest.raises(cai.IntractableError, match="5 dimensions"):
        cai.approximate(SimpleNamespace(initial=initial, act=act, step=step, horizon=2), "grid", progress=False)
    with pytest.raises(cai.IntractableError, match="bytes"):
        cai.approximate(swing(), "grid", points=10**9, low=-1, high=1, progress=False)

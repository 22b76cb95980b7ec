"""linearise: what is read off a program is the program, and what is not linear-Gaussian is refused in one line."""

from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.distributions import Delta, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal
from torch import Tensor
from torch.distributions import constraints

import cai
from cai.compile.linear_model import LinearGaussian
from tests.linear_worlds import LinearWorld

pytestmark = pytest.mark.usefixtures("float64")


def close(ours: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**20), st.booleans(), st.booleans(), st.integers(0, 2))
def test_a_random_program_has_the_numbers_that_it_was_made_of(seed: int, timed: bool, noisy: bool, latent: int) -> None:
    world = LinearWorld(seed, latent=latent, noisy=noisy, timed=timed, horizon=2)
    model, truth = cai.linearise(world), world.system().model()
    assert model.timed == timed
    for name in ("transition", "drift", "log_volume"):
        close(getattr(model.slices, name), getattr(truth.slices, name))
    pairs = [(model.slices.reward, truth.slices.reward), (model.terminal, truth.terminal)]
    for ours, by_hand in [*pairs, (model.slices.prior, truth.slices.prior)]:
        for tensor, other in zip(ours.tensors, by_hand.tensors, strict=True):
            close(tensor, other)
    close(model.start_mean, truth.start_mean)
    close(model.start_scale, truth.start_scale)


class Crowded:
    """Every kind of site: named variables, matrices, correlated and no noise, latents, a later action of an earlier."""

    horizon = 4

    def initial(self) -> dict[str, Tensor]:
        x = pyro.sample("x", Normal(1.0, 0.5))
        grid = pyro.sample("grid", Normal(torch.ones(2, 2), 0.3).to_event(2))
        return {"x": x, "grid": grid, "twice": pyro.sample("twice", Delta(2 * x))}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        flat = dist.ImproperUniform(constraints.real, state["x"].shape, torch.Size([2]))
        push = pyro.sample("push", flat)
        pull = pyro.sample("pull", Normal(push.sum(-1) - state["x"] + t, 0.7))
        return {"push": push, "pull": pull}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        x, grid = state["x"], state["grid"]
        wind = pyro.sample("wind", Normal(0.2 * x, 0.3).expand(x.shape))
        roots = torch.tensor([[[0.5, 0.0], [0.2, 0.4]], [[0.3, 0.0], [0.1, 0.2]]])
        loc = grid @ grid.new_tensor([[0.9, 0.1], [0.0, 0.8]]) + action["push"].unsqueeze(-1)
        moved = pyro.sample("grid", Independent(MultivariateNormal(loc, scale_tril=roots), 1))
        low = LowRankMultivariateNormal(action["push"], torch.tensor([[0.3], [0.1]]), torch.tensor([0.2, 0.4]))
        pair = pyro.sample("pair", low)
        after = pyro.sample("x", Delta(x + wind + pair.sum(-1)))
        twice = pyro.sample("twice", Normal(state["twice"] + action["pull"], 0.0))
        paid = -(moved**2).sum((-2, -1)) + wind * action["pull"] - (after - t) ** 2 + 3.0
        return {"x": after, "grid": moved, "twice": twice}, paid

    def terminal(self, state: dict[str, Tensor]) -> Tensor:
        return -(torch.linalg.norm(state["grid"], dim=(-2, -1)) ** 2)  # its second derivative at 0 is none


def noise_of(fn: Any, value: Tensor) -> Tensor:
    """Return the standard normal noise that a site was drawn with."""
    if isinstance(fn, Delta):
        return value.new_zeros(0)
    base = fn
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Normal):
        return torch.where(base.scale > 0, (value - base.loc) / base.scale, 0.0).flatten()
    solved = torch.linalg.solve_triangular(base.scale_tril, (value - base.loc).unsqueeze(-1), upper=False)
    return solved.flatten()


def test_a_program_with_every_kind_of_site_is_what_its_own_draws_say() -> None:
    world = Crowded()
    model = cai.linearise(world)
    assert model.timed
    assert model.states.labels == ("x", "grid[0, 0]", "grid[0, 1]", "grid[1, 0]", "grid[1, 1]", "twice")
    assert model.at(0).flat.tolist() == [True, True, False]
    torch.manual_seed(0)
    for t in range(3):
        s, a = torch.randn(model.states.dimension), torch.randn(model.actions.dimension)
        state, action = model.states.split(s), model.actions.split(a)
        with pyro.validation_enabled(False):
            trace = pyro.poutine.trace(lambda: world.step(state, action, t)).get_trace()  # noqa: B023
        sites = {name: node for name, node in trace.nodes.items() if node["type"] == "sample"}
        z = torch.cat([noise_of(node["fn"], node["value"]) for node in sites.values()])
        y, slice_ = torch.cat([s, a, z]), model.at(t)
        values = {name: node["value"] for name, node in sites.items()}
        close(slice_.readout @ y + slice_.readout_offset, model.sites.join(values))
        close(slice_.transition @ y + slice_.drift, model.states.join(values))
        close(slice_.reward(y), trace.nodes["_RETURN"]["value"][1])
        prior, w = slice_.prior, torch.cat([a[:2], ((a[2] - a[:2].sum() + s[0] - t) / 0.7)[None]])
        close(prior.mean(s) + prior.scale @ w, a)
        close(model.terminal(s), world.terminal(state))


class World:
    """A world in which one piece at a time is replaced."""

    horizon = 3

    def initial(self) -> Tensor:
        return pyro.sample("s", Normal(torch.zeros(2), 1.0).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("a", Normal(0.2 * state[..., 0], 1.0))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return goes(state + action.unsqueeze(-1)), -(action**2)


def goes(following: Tensor) -> Tensor:
    return pyro.sample("s", Delta(following, event_dim=1))


def like(**members: Any) -> Any:
    return type("Changed", (World,), members)()


def stepping(following: Any = goes, paid: Any = lambda s, a, t: -(a**2)) -> Any:
    return like(step=lambda self, s, a, t: (following(s), paid(s, a, t)))


def normal(scale: Any) -> Any:
    return lambda s: pyro.sample("s", Normal(s, scale(s) if callable(scale) else scale).to_event(1))


INDEFINITE = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
REFUSED = [
    (stepping(lambda s: goes(s.sin())), r"variable 's\[0\]': not affine: it is .* at s\[0\] = .* a difference of"),
    (stepping(lambda s: goes(s.clamp(-1e5, 1e5))), r"step, t = 0, variable 's\[\d\]': not affine"),
    (stepping(paid=lambda s, a, t: -a.abs()), "the reward: not quadratic: it is .* expected a quadratic function of s"),
    (stepping(paid=lambda s, a, t: -(a**2) if t < 2 else a**3), "step, t = 2, the reward: not quadratic"),
    (stepping(normal(lambda s: s.abs() + 0.1)), "variable 's': noise whose scale depends on the slice: 0.1 at 0, and"),
    (stepping(normal(-0.1)), "noise of scale -0.1; expected a scale of at least 0"),
    (stepping(normal(float("nan"))), "noise of scale nan; expected finite numbers"),
    (stepping(lambda s: goes(s / 0)), "variable 's': a mean of nan; expected finite numbers"),
    (stepping(lambda s: pyro.sample("s", MultivariateNormal(s, INDEFINITE))), "not positive-definite .*expected a cov"),
    (stepping(lambda s: pyro.sample("s", dist.StudentT(3, s, 1).to_event(1))), "StudentT, which is not Gaussian"),
    (stepping(lambda s: pyro.sample("s", Normal(s, 0.1))), r"a batch of shape \(2,\) on a single state; .*to_event"),
    (stepping(lambda s: goes(s.float())), "variable 's': float32 numbers; expected float64"),
    (stepping(lambda s: goes(s @ torch.ones(2, 2).float())), "double != float"),
    (stepping(paid=lambda s, a, t: -(a.float() ** 2)), "the reward: float32 numbers; expected float64"),
    (stepping(paid=lambda s, a, t: a / 0), "the reward: nan at 0"),
    (stepping(paid=lambda s, a, t: s), r"a reward of shape \(2,\)"),
    (stepping(paid=lambda s, a, t: -(a**2).sum()), "for one state alone, but .* among several .* broadcasts"),
    (stepping(paid=lambda s, a, t: a + torch.randn(())), "two runs on the same values differ"),
    (stepping(lambda s: goes(s if s[..., 0] > 0 else -s)), "RuntimeError: Boolean value of Tensor .*test_linearise.py"),
    (stepping(lambda s: goes(s * s[..., 0].item())), "cannot be converted to Scalar .*test_linearise.py"),
    (like(terminated=lambda self, s: s[..., 0] > 1), "terminated: episodes that end"),
    (like(terminal=lambda self, s: s[..., 0].exp()), "terminal, the reward: not quadratic"),
    (
        like(act=lambda self, s, t: pyro.sample("a", Normal(0.0, s[..., 0] ** 2))),
        "act, t = 0, variable 'a': noise whose",
    ),
    (
        like(act=lambda self, s, t: pyro.sample("a", dist.ImproperUniform(constraints.positive, s.shape[:-1], ()))),
        "expected ImproperUniform.constraints.real",
    ),
    (
        like(initial=lambda self: pyro.sample("s", dist.ImproperUniform(constraints.real, (), (2,)))),
        "only actions may have a flat prior",
    ),
    (stepping(lambda s: pyro.sample("s", Normal(s, 1.0).to_event(1).mask(True))), "a masked or scaled site"),
    (like(horizon=None, discount=0.9, step=lambda self, s, a, t: (goes(s), 0.0 * a + t)), "act and step: they read t"),
    (
        like(stationary=True, step=lambda self, s, a, t: (goes(s), 0.0 * a + t)),
        "stationary: True, but the slices differ over time",
    ),
]


@pytest.mark.parametrize("i", range(len(REFUSED)))
def test_what_is_not_linear_gaussian_is_refused_in_a_line(i: int) -> None:
    world, words = REFUSED[i]
    with pytest.raises((cai.IntractableError, cai.WorldError), match=words) as caught:
        cai.solve(world)
    assert "\n" not in str(caught.value)
    assert [str(finding) for finding in cai.check(world)] == [str(finding) for finding in caught.value.findings]


def test_a_form_is_picked_by_the_kind_of_the_variables() -> None:
    assert cai.solve(World()).form == "gaussian"
    assert cai.check(World()) == []
    assert cai.solve(cai.load_world("frozen_lake", {"horizon": 3})).form == "tables"
    with pytest.raises(cai.IntractableError, match=r"Uniform, which is not Gaussian.* approximation: cai\.approximate"):
        cai.solve(cai.load_world("pendulum"))
    with pytest.raises(cai.IntractableError, match="Uniform, which has no finite support"):  # its actions are finite
        cai.solve(cai.load_world("acrobot"))
    with pytest.raises(cai.IntractableError, match="Point, which is not Gaussian"):
        cai.solve(cai.load_world("grid"), form="gaussian")


def test_a_flat_prior_is_integrated_but_not_drawn_from() -> None:
    flat = like(act=lambda self, s, t: pyro.sample("a", dist.ImproperUniform(constraints.real, s.shape[:-1], ())))
    assert cai.rollout(flat, cai.solve(flat).policy, batch=2).actions.shape == (3, 2)
    with pytest.raises(cai.WorldError, match="variable 'a': a flat prior, from which nothing can be drawn"):
        cai.rollout(flat, batch=2)


def test_slices_that_are_equal_have_no_axis_of_time() -> None:
    assert not cai.linearise(like(step=lambda self, s, a, t: (goes(s), -(a**2) + 0 * t))).timed
    assert cai.linearise(like(step=lambda self, s, a, t: (goes(s), -(a**2) + t))).timed


def test_it_is_differentiable_in_what_the_world_is_made_of() -> None:
    root = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)

    def paid(s: Tensor, a: Tensor, t: int) -> Tensor:
        return -root * (s**2).sum(-1) - (root * a - 1) ** 2

    assert cai.linearise(stepping(normal(0.3))).requires_grad is False
    world = stepping(lambda s: pyro.sample("s", Normal(root * s, root).to_event(1)), paid)
    (slope,) = torch.autograd.grad(cai.solve(world).value, root)
    with torch.no_grad():
        values = [float(cai.solve(world).value) for root.data in (torch.tensor(0.6 + d) for d in (1e-5, -1e-5))]
    assert float(slope) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def broken(**fields: Any) -> LinearGaussian:
    model = cai.linearise(World())
    inside = {name: value for name, value in fields.items() if hasattr(model.slices, name)}
    outside = {name: value for name, value in fields.items() if name not in inside}
    return replace(model, slices=replace(model.slices, **inside), **outside)


def test_a_compiled_system_is_checked_when_it_is_solved() -> None:
    reward = cai.linearise(World()).slices.reward
    skew = replace(reward, M=reward.M + torch.ones(3, 3).triu(1))
    for model, words in [
        (broken(drift=torch.zeros(3)), r"drift: shape \(3,\); expected shape \(2,\)"),
        (broken(drift=torch.tensor([0.0, torch.nan])), r"drift at \[1\]: nan; expected finite"),
        (broken(start_scale=torch.full((2, 2), torch.inf)), "start_scale at .* inf"),
        (broken(reward=skew), "reward.M at .* not symmetric"),
        (broken(horizon=0), "horizon: 0"),
        (broken(discount=2.0), "discount: 2.0"),
        (broken(timed=True, horizon=None), "timed: slices that differ over time"),
    ]:
        with pytest.raises(cai.WorldError, match=words):
            cai.solve(model)

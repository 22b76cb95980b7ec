"""Iterated Gaussian inference against exact solutions on linear worlds, and on worlds that are not linear."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import cai
from cai.approximation.expansion import MOMENTS, expanded, fifth_degree, sigma, taylor
from cai.approximation.iterated_gaussian import IteratedGaussian, Search
from cai.approximation.noise_elbo import policy_elbo
from cai.approximation.noise_law import NoiseLaw, prior_law, separate
from cai.compile.noise_program import noise_program
from cai.compile.quadratic import ConditionalGaussian, Gaussian
from models.double_integrator import DoubleIntegrator
from models.icy_road import IcyRoad
from models.lqg import LQG
from models.mountain_car import MountainCar
from models.pendulum import Pendulum
from models.tracking import Tracking
from tests.linear_worlds import LinearWorld

RULES = {"VARIATIONAL": cai.VARIATIONAL, "POSTERIOR": cai.POSTERIOR}
LINEAR: dict[str, Any] = {
    "double_integrator": DoubleIntegrator(horizon=6),
    "lqg": LQG(states=2, actions=2, horizon=4),
    "tracking": Tracking(horizon=4),
    "random": LinearWorld(3, n=2, m=2, horizon=3, timed=True),
    "certain": LinearWorld(5, noisy=False, latent=0, horizon=3),
}


def gain_in_actions(world: Any, noise: ConditionalGaussian, t: int) -> ConditionalGaussian:
    """Return a law of the noise of a Gaussian action prior as a law of the action."""
    return cai.linearise(world).prior_at(t).driven(noise)


@pytest.mark.parametrize("moments", ["taylor", "sigma"])
@pytest.mark.parametrize("name", LINEAR)
class TestOneStepIsExactOnLinearWorlds:
    @pytest.mark.parametrize("rule", RULES)
    def test_values_of_the_expansion_about_any_law(self, name: str, moments: str, rule: str) -> None:
        program = noise_program(LINEAR[name])
        model, _ = expanded(program, wandering(program), MOMENTS[moments])
        exact, ours = (cai.solve(world, RULES[rule], temperature=0.7) for world in (LINEAR[name], model))
        assert float(ours.value) == pytest.approx(float(exact.value), rel=1e-8)

    def test_gains_and_spread_of_the_policy(self, name: str, moments: str) -> None:
        world = LINEAR[name]
        exact = cai.solve(world, cai.VARIATIONAL, temperature=0.7).policy
        found = cai.approximate(
            world, "iterated_gaussian", temperature=0.7, iterations=1, moments=moments, samples=8, checks=8
        )
        for t in range(world.horizon):
            ours = gain_in_actions(world, found.policy.noise(t), t)
            for one, other in ((ours.gain, exact.conditional(t).gain), (ours.offset, exact.conditional(t).offset)):
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(ours.covariance, exact.conditional(t).covariance, rtol=1e-8, atol=1e-8)

    def test_posterior_weights_are_all_the_same(self, name: str, moments: str) -> None:
        found = cai.approximate(
            LINEAR[name], "iterated_gaussian", iterations=1, moments=moments, rule="POSTERIOR", samples=8, checks=16
        )
        exact = float(cai.solve(LINEAR[name], cai.POSTERIOR).log_evidence)
        assert found.log_evidence.value == pytest.approx(exact, abs=1e-7)
        assert float(found.effective_sample_size[-1]) == pytest.approx(16, abs=1e-5)


def wandering(program: Any) -> NoiseLaw:
    """Return some law away from the prior."""
    draw, law = torch.Generator().manual_seed(1), prior_law(program)

    def moved(part: ConditionalGaussian) -> ConditionalGaussian:
        gain = 0.2 * torch.randn(part.gain.shape, generator=draw, dtype=torch.float64)
        return ConditionalGaussian(gain, torch.randn(part.offset.shape, generator=draw).double(), 0.7 * part.scale)

    return NoiseLaw(moved(law.start), moved(law.act), moved(law.step))


class TestBounds:
    @pytest.mark.parametrize("rule", RULES)
    def test_a_policy_is_below_the_best_elbo_and_its_lower_bounds_hold(self, rule: str) -> None:
        world = LQG(states=2, actions=1, horizon=6)
        found = cai.approximate(world, "iterated_gaussian", temperature=0.3, rule=rule, checks=2000)
        best = float(cai.solve(world, cai.VARIATIONAL, temperature=0.3).elbo)
        log_z = float(cai.solve(world, cai.POSTERIOR, temperature=0.3).log_evidence)
        assert found.elbo.value is not None
        assert found.elbo.value <= best + 4 * found.elbo.standard_error
        assert found.elbo.lower <= best
        assert found.log_evidence.lower <= log_z

    def test_the_elbo_of_the_prior_is_its_mean_return(self) -> None:
        world = DoubleIntegrator(horizon=5, discount=0.9)
        program = noise_program(world)
        ours = policy_elbo(program, prior_law(program), 2.0, 4000, torch.Generator().manual_seed(0))
        exact = float(cai.evaluate(world, None, temperature=2.0).elbo)
        assert ours.value == pytest.approx(exact, abs=4 * ours.standard_error)

    def test_survival_counts_in_the_elbo(self) -> None:
        world = DoubleIntegrator(horizon=5, discount=0.9)
        found = cai.approximate(world, "iterated_gaussian", checks=4000)
        best = cai.solve(world, cai.VARIATIONAL)
        assert found.elbo.value == pytest.approx(float(best.elbo), abs=4 * found.elbo.standard_error)

    def test_the_objective_never_falls(self) -> None:
        program = hanging(12)
        found = IteratedGaussian(iterations=6, samples=16, checks=16).run(
            program, 1.0, torch.Generator().manual_seed(2)
        )
        assert list(found.history) == sorted(found.history)
        assert found.history[-1] > found.history[0]


def hanging(T: int) -> Any:
    """Return the pendulum, hanging at rest, for T steps."""
    return noise_program(Pendulum(T)).starting(torch.tensor([math.pi, 0.0], dtype=torch.float64), 0, T)


def mean_return(found: Any) -> float:
    """Return the mean return of the roll-outs of a policy, reward units."""
    return float(found.trajectories.rewards.sum(-1).mean())


@pytest.mark.slow
class TestPendulum:
    @pytest.mark.parametrize("moments", ["sigma", "taylor"])
    def test_it_swings_up_from_hanging(self, moments: str) -> None:
        program, draw = hanging(60), torch.Generator().manual_seed(11)
        start = IteratedGaussian(iterations=0).run(program, 0.2, draw)
        found = IteratedGaussian(moments=moments).run(program, 0.2, draw)
        assert mean_return(found) > mean_return(start) + 100
        if moments == "sigma":  # derivatives find a local optimum, half-way up
            assert float(found.trajectories.states[:, -1, 0].cos().mean()) > 0.9


class TestLaws:
    def test_the_points_integrate_up_to_degree_five(self) -> None:
        for N in (1, 2, 3, 6):
            x, p = fifth_degree(N)
            assert float(p.sum()) == pytest.approx(1)
            torch.testing.assert_close(x.mT @ (p.unsqueeze(-1) * x), torch.eye(N, dtype=torch.float64))
            assert float(p @ x[:, 0] ** 4) == pytest.approx(3)
            assert float(p @ (x[:, 0] ** 2 * x[:, -1] ** 2)) == pytest.approx(1 if N > 1 else 3)
            assert float(p @ x[:, 0] ** 5) == pytest.approx(0, abs=1e-12)

    def test_sigma_points_see_the_spread_that_derivatives_do_not(self) -> None:
        def f(y: Tensor) -> tuple[Tensor, Tensor]:
            return y.sin(), -y[..., 0].cos()

        law = Gaussian(*(torch.tensor(x, dtype=torch.float64) for x in ([0.3], [[0.04]], 1.0)))
        smoothed = math.exp(-0.02) * math.cos(0.3)  # E cos y, the slope of E sin y
        assert float(sigma(f, law).transition) == pytest.approx(smoothed, rel=1e-3)
        assert float(taylor(f, law).transition) == pytest.approx(math.cos(0.3), rel=1e-12)

    def test_independent_blocks_keep_the_precision(self) -> None:
        root = torch.linalg.cholesky(torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64))
        law = ConditionalGaussian(torch.zeros(2, 1).double(), torch.zeros(2).double(), root)
        torch.testing.assert_close(
            separate(law, torch.eye(2, dtype=torch.bool)).covariance, 0.75 * torch.eye(2, dtype=torch.float64)
        )
        assert separate(law, torch.ones(2, 2, dtype=torch.bool)) is law

    def test_a_guess_one_step_later_starts_no_worse(self) -> None:
        program, method = noise_program(DoubleIntegrator(horizon=6)), IteratedGaussian(iterations=3, checks=16)
        first = method.run(program, 1.0, torch.Generator().manual_seed(0))
        state = torch.tensor([1.0, 0.0], dtype=torch.float64)
        later = program.starting(state, 1, 5)
        warm = method.run(later, 1.0, torch.Generator().manual_seed(0), first.guess.shifted())
        cold = method.run(later, 1.0, torch.Generator().manual_seed(0))
        assert warm.history[0] > cold.history[0]
        assert warm.history[-1] == pytest.approx(cold.history[-1], rel=1e-9)

    def test_a_hold_leaves_the_best_law_where_it_is(self) -> None:
        program = noise_program(DoubleIntegrator(horizon=4))
        for rule in RULES:
            search = Search(program, 1.0, IteratedGaussian(rule=rule), 0)
            model, begin = expanded(program, prior_law(program), MOMENTS["taylor"])
            best = search.solved(model, begin, prior_law(program), 0.0)
            held = search.solved(model, begin, best, 3.0)
            for one, other in zip(parts(best), parts(held), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def parts(law: NoiseLaw) -> list[Tensor]:
    """Return gains, offsets and covariances of a law."""
    return [x for one in (law.start, law.act, law.step) for x in (one.gain, one.offset, one.covariance)]


class TestBadInput:
    @pytest.mark.parametrize(
        "options",
        [{"iterations": -1}, {"samples": 1}, {"moments": "third"}, {"rule": "HARD"}, {"nudge": -1.0}],
    )
    def test_options_out_of_range_are_named(self, options: dict[str, Any]) -> None:
        with pytest.raises(cai.WorldError, match=next(iter(options))):
            cai.approximate(DoubleIntegrator(horizon=2), "iterated_gaussian", **options)

    def test_a_horizon_of_one(self) -> None:
        found = cai.approximate(Pendulum(1), iterations=3)
        assert found.method == "iterated_gaussian"  # what a world of real variables takes unless told otherwise
        assert math.isfinite(found.elbo.lower)

    @pytest.mark.parametrize("temperature", [1e-9, 1e9])
    def test_temperatures_far_out(self, temperature: float) -> None:
        found = IteratedGaussian(iterations=3, checks=16).run(hanging(5), temperature, torch.Generator().manual_seed(0))
        assert all(math.isfinite(x) for x in found.history)
        assert found.elbo.value is not None
        assert not math.isnan(found.elbo.value)
        assert not found.policy.noise(0).offset.isnan().any()
        assert (
            ("its error is not known" in str(found))
            == (temperature < 1)
            == math.isinf(found.log_evidence.standard_error)
        )

    def test_finite_states_are_refused(self) -> None:
        with pytest.raises(cai.IntractableError, match="real"):
            cai.approximate(IcyRoad(), "iterated_gaussian")

    def test_finite_actions_are_taken(self) -> None:
        found = cai.approximate(MountainCar(horizon=5), "iterated_gaussian", iterations=1, checks=16, samples=8)
        action = found.policy.sample(found.policy.program.state(torch.tensor([[-0.5, 0.0]])), 0)
        assert int(action) in range(3)

    def test_discount_under_posterior_is_refused(self) -> None:
        with pytest.raises(cai.CaiError, match="discount"):
            cai.approximate(DoubleIntegrator(horizon=3, discount=0.9), "iterated_gaussian", rule="POSTERIOR")

    def test_rewards_of_minus_infinity_are_named(self) -> None:
        class Wall(DoubleIntegrator):
            def step(self, state: Any, force: Tensor, t: int) -> Any:
                following, reward = super().step(state, force, t)
                return following, torch.where(state["position"] > 1.5, -math.inf, reward)

        with pytest.raises(cai.ImpossibleError, match="t = "):
            cai.approximate(Wall(horizon=3), "iterated_gaussian")

"""Mixed worlds: modes with a linear-Gaussian state, against every sequence of modes by itself."""

import math
from dataclasses import replace
from pathlib import Path

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.distributions import Bernoulli, Categorical, Normal
from torch import Tensor

import cai
from cai.compile.by_mode import ConditionalsByMode
from cai.compile.linear_model import LinearGaussian
from cai.compile.switching_model import SwitchingLinear
from cai.view.policies import InMode, policy_rows, print_policy
from tests.helpers import examples
from tests.oracles.mode_sequences import every_sequence
from tests.switching_systems import Road, random_switching

few = examples(2)
pytestmark = pytest.mark.usefixtures("float64")
seeds, alphas = st.integers(0, 2**20), st.floats(0.8, 2.0)


def close(ours: Tensor | float, truth: Tensor | float, tolerance: float = 1e-9) -> None:
    ours, truth = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, truth))
    scale = max(1.0, float(truth.abs().amax()))
    torch.testing.assert_close(ours, truth, rtol=0, atol=tolerance * scale)


@st.composite
def systems(draw: st.DrawFn) -> SwitchingLinear:
    """Systems of 2 modes, T = 2."""
    discount = draw(st.sampled_from([1.0, 0.8]))
    return random_switching(draw(seeds), T=2, discount=discount, timed=draw(st.booleans()), flat=draw(st.booleans()))


class TestPosterior:
    @few
    @given(systems(), alphas)
    def test_it_is_every_sequence_of_modes(self, model: SwitchingLinear, alpha: float) -> None:
        post = cai.solve(model, temperature=alpha)
        each = list(every_sequence(model))
        solved = [one.log_mean_exp(alpha) for one in each]
        joint = torch.stack([one.log_p + log_z for one, (log_z, _, _) in zip(each, solved, strict=True)])
        close(post.log_evidence, joint.logsumexp(0))
        share = joint.softmax(0)
        for t in range(3):
            modes, mean, square = torch.zeros(2), torch.zeros(2), torch.zeros(2, 2)
            for w, one, (_, middle, spread) in zip(share, each, solved, strict=True):
                if one.alive or len(one.x) > t + 1:
                    F = one.x[t][:, :-1]
                    x = F @ middle + one.x[t][:, -1]
                    modes[one.modes[t]] += w
                    mean, square = mean + w * x, square + w * (F @ spread @ F.T + x.outer(x))
            states, mass = post.states(t), modes.sum()
            close(states.mode_mass, modes)
            close(states.moments.mean, mean / mass)
            close(states.moments.covariance, square / mass - (mean / mass).outer(mean / mass))

    def test_samples_have_its_moments(self) -> None:
        post = cai.solve(random_switching(3, discount=0.9))
        drawn = post.sample(4000, generator=torch.Generator().manual_seed(0))
        alive = drawn.alive[:, 2]
        states, seen = post.states(2), drawn.states[alive, 2]
        p = states.mode_mass
        assert abs(float(alive.double().mean() - p.sum())) < 4 / math.sqrt(4000)
        assert abs(float((seen[:, 0] == 1).double().mean() - p[1] / p.sum())) < 4 / math.sqrt(4000)
        error = states.moments.deviation / math.sqrt(len(seen))
        assert bool(((seen[:, 1:].mean(0) - states.moments.mean).abs() < 4 * error).all())
        action = post.marginal(2, "a")
        acted = drawn.actions[alive, 2]
        assert bool(((acted.mean(0) - action.mean).abs() < 4 * action.deviation / math.sqrt(len(seen))).all())

    def test_its_policy_is_a_density_and_draws_what_it_scores(self) -> None:
        policy = cai.solve(random_switching(5, m=2)).policy
        state = {"mode": torch.tensor(1), "x": torch.tensor([0.3, -0.4])}
        g = torch.linspace(-8, 8, 81)
        plane = torch.stack(torch.meshgrid(g, g, indexing="ij"), -1)
        p = policy.log_prob(state, plane).exp() * (g[1] - g[0]) ** 2
        close(p.sum(), 1.0, 1e-6)
        many = {"mode": torch.ones(4000, dtype=torch.long), "x": state["x"].expand(4000, 2)}
        with pyro.poutine.seed(rng_seed=0):
            drawn = policy.act(many, 0)
        mean = (p.unsqueeze(-1) * plane).sum((0, 1))
        deviation = (p.unsqueeze(-1) * (plane - mean).square()).sum((0, 1)).sqrt()
        assert bool(((drawn.mean(0) - mean).abs() < 4 * deviation / math.sqrt(4000)).all())

    def test_it_is_differentiable(self) -> None:
        model = random_switching(7)
        rewards = model.slices.reward.c.clone().requires_grad_()
        asked = replace(model, slices=replace(model.slices, reward=replace(model.slices.reward, c=rewards)))
        cai.solve(asked, temperature=1.5).log_evidence.backward()
        close(rewards.grad.sum(), 3 / 1.5)

    def test_what_it_does_is_read_by_name(self) -> None:
        policy = cai.solve(Road(), cai.HARD).policy
        wet, dry = (policy.at(0, road=name, offset=1.0, drift=0.5) for name in ("icy", "dry"))
        state = {"road": torch.tensor(1), "offset": torch.tensor(1.0), "drift": torch.tensor(0.5)}
        close(wet.mean, policy.act(state, 0).reshape(1))
        assert not torch.equal(wet.gain, dry.gain)
        assert "offset=1" in str(wet)
        with pytest.raises(cai.WorldError, match="at: variables"):
            policy.at(0, offset=1.0)
        with pytest.raises(cai.IntractableError, match="a mixture of 256 Gaussians"):
            cai.solve(Road()).policy.at(0, road="icy")

    def test_its_dynamics_are_tilted_to_each_switch(self) -> None:
        post, flat = cai.solve(random_switching(8)), cai.solve(random_switching(8), cai.HARD)
        y = torch.tensor([[1.0, 0.3, -0.2, 0.5]])
        p = flat.dynamics(0).weights.log_weights(y).exp()
        close(p[0, 3:], flat.model.log_switch[3:].exp())
        assert not torch.allclose(post.dynamics(0).weights.log_weights(y).exp().sum(), p[:, :3].sum())
        with pytest.raises(cai.IntractableError, match="forward"):
            _ = post.forward


class TestMap:
    @few
    @given(seeds, alphas)
    def test_it_is_the_best_of_all_sequences(self, seed: int, alpha: float) -> None:
        model = random_switching(seed, T=2)
        best = cai.solve(model, cai.MAP, temperature=alpha)
        close(best.value, max(float(one.best(alpha) + alpha * one.log_p) for one in every_sequence(model)))
        path = best.most_probable()
        assert path.states.shape == (1, 3, 3)

    def test_densities_of_trajectories_of_several_lengths_are_not_compared(self) -> None:
        with pytest.raises(cai.IntractableError, match="discount: MAP with γ"):
            cai.solve(random_switching(0, discount=0.8), cai.MAP)


class TestAveraged:
    @few
    @given(seeds, alphas, st.booleans())
    def test_the_policys_elbo_is_the_optimum(self, seed: int, alpha: float, timed: bool) -> None:
        model = random_switching(seed, T=2, timed=timed, discount=0.9)
        best = cai.solve(model, cai.VARIATIONAL, temperature=alpha)
        acts = [best.policy.conditional(t).each for t in range(2)]

        def elbo() -> Tensor:
            return sum(math.exp(one.log_p) * one.mean() for one in every_sequence(model, acts, alpha)) / alpha

        close(best.elbo, elbo())
        g = torch.Generator().manual_seed(seed)
        acts = [act.each(lambda x: x + 0.1 * torch.randn(x.shape, generator=g)) for act in acts]
        assert float(elbo()) < float(best.elbo) < float(cai.solve(model, temperature=alpha).log_evidence)

    def test_hard_is_the_coupled_riccati_equations(self) -> None:
        """Costa, Fragoso and Marques 2005, equation 4.14, with a cost of the state and one of the action."""
        model = random_switching(11, modes=3, extra=0, m=2, T=30)
        n, m, zero = 2, 2, torch.zeros(3, 2)
        A, B = model.slices.transition[::3, :, :n], model.slices.transition[::3, :, n : n + m]
        Q, R = torch.eye(n) * torch.tensor([1.0, 2.0, 0.5])[:, None, None], torch.eye(m)
        cost = torch.stack([torch.block_diag(-2 * Q[i], -2 * R, torch.zeros(2, 2)) for i in range(3)])
        transition = torch.cat((A, B, torch.zeros(3, n, 2)), -1).repeat_interleave(3, 0)
        nothing = torch.zeros_like(model.slices.reward.b)
        reward = replace(model.slices.reward, M=cost.repeat_interleave(3, 0), b=nothing, c=nothing[:, 0])
        slices = replace(model.slices, transition=transition, drift=0 * model.slices.drift, reward=reward)
        terminal = replace(model.terminal, M=-2 * Q, b=zero, c=zero[:, 0])
        hard = cai.solve(replace(model, slices=slices, terminal=terminal), cai.HARD)
        P, X = model.log_switch.exp().reshape(3, 3), Q
        for _ in range(30):
            E = torch.einsum("ij,jab->iab", P, X)
            K = -torch.linalg.solve(R + B.mT @ E @ B, B.mT @ E @ A)
            X = Q + A.mT @ E @ A + A.mT @ E @ B @ K
        close(hard.v[0].each.M, -2 * X)
        close(hard.policy.conditional(0).each.gain, K)


def steered(state: dict[str, Tensor], t: int) -> Normal:
    """A linear rule that differs on ice."""
    return Normal(-0.6 * state["offset"] - (1 + state["road"]) * state["drift"], 0.8)


def bent(state: dict[str, Tensor], t: int) -> Normal:
    """A rule that is not linear."""
    return Normal(torch.tanh(steered(state, t).loc), 0.8)


class TestAccounts:
    @few
    @given(seeds, alphas, st.sampled_from([1.0, 0.8]))
    def test_they_are_exact_where_a_policy_is_affine_in_each_mode(self, seed: int, alpha: float, on: float) -> None:
        model = random_switching(seed, T=2, discount=on)
        best = cai.solve(model, cai.VARIATIONAL, temperature=alpha).policy
        g = torch.Generator().manual_seed(seed)

        def moved(t: int) -> ConditionalsByMode:
            acts = best.conditional(t)
            return replace(acts, each=acts.each.each(lambda x: x + 0.2 * torch.randn(x.shape, generator=g)))

        acts = [moved(t) for t in range(2)]
        result = cai.evaluate(model, replace(best, conditional=acts.__getitem__), temperature=alpha)
        each = list(every_sequence(model, [act.each for act in acts], alpha))
        close(result.elbo, sum(math.exp(one.log_p) * one.mean() for one in each) / alpha)
        close(result.policy_nats.sum(), result.optimality_gap)
        close(result.regret_per_state.sum(), result.best_return - result.expected_return)
        close(result.evidence_gap, cai.solve(model, temperature=alpha).log_evidence - result.elbo)
        with pytest.raises(cai.IntractableError, match="log of a sum"):
            _ = result.action_nats

    def test_one_sequence_has_every_account(self) -> None:
        model = random_switching(9, extra=0, T=3)
        swaps = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).log().flatten()
        ours = replace(model, log_switch=swaps, log_modes=torch.tensor([1.0, 0.0]).log())
        keep = (swaps == 0).nonzero().flatten()
        ours = replace(
            ours,
            source=model.source[keep],
            target=model.target[keep],
            log_switch=swaps[keep],
            slices=model.slices.each(lambda x: x[keep]),
        )
        result = cai.evaluate(ours, None)
        close(result.start_nats + result.action_nats.sum() + result.luck_nats.sum(), result.evidence_gap)

    def test_a_program_is_found_out_and_others_are_sampled(self) -> None:
        world = Road()
        exact, sampled = cai.evaluate(world, steered), cai.evaluate(world, bent, samples=2000)
        assert exact.standard_error == 0 < sampled.standard_error
        again = cai.evaluate(world, exact.policy)
        close(again.elbo, exact.elbo)
        close(exact.visits["road"][1], world.chain.mT @ torch.tensor([0.8, 0.2]), 1e-6)

        class Steered:
            def act(self, state: dict[str, Tensor], t: int) -> Tensor:
                return pyro.sample("steer", steered(state, t))

        close(cai.evaluate(world, Steered()).elbo, exact.elbo)

    def test_a_certain_policy_is_infinitely_far_from_the_prior_though_some_modes_have_no_mass(self) -> None:
        it = cai.evaluate(cai.load_world("icy_road", {"horizon": 2}), cai.HARD)
        assert it.kl_to_prior == it.optimality_gap == -it.entropy == math.inf
        assert it.regret == pytest.approx(0, abs=1e-9)

    def test_the_posterior_acts_by_a_mixture_and_is_sampled(self) -> None:
        post = cai.solve(Road(horizon=3))
        result = cai.evaluate(Road(horizon=3), post, samples=2000)
        assert result.standard_error > 0
        close(result.action_nats.sum(), 0.0)
        gap = result.optimality_gap - float(result.policy_nats.sum())
        assert abs(gap) < 5 * result.parts[0].standard_error("elbo")

    def test_compare_has_a_row_for_each_and_leaves_out_what_is_too_long(self) -> None:
        table = cai.compare(Road(horizon=3), {"max-ent": cai.VARIATIONAL, "hard": cai.HARD, "mine": steered})
        assert table.row("hard").regret == pytest.approx(0, abs=1e-9)
        assert table.row("max-ent").policy_nats == pytest.approx(0, abs=1e-9)
        assert table.row("mine").action_nats is None
        assert table.row("mine").evidence_gap > table.row("max-ent").evidence_gap > 0
        far = cai.compare(Road(horizon=12), {"posterior": cai.POSTERIOR, "max-ent": cai.VARIATIONAL}, leave_out=True)
        assert "sequences of modes" in far.left_out["posterior"]
        assert far.row("max-ent").evidence_gap is None


class TestLaws:
    @pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.RISK(-2.0), cai.PLANNING])
    def test_one_mode_is_the_gaussian_form(self, rule: cai.Rule) -> None:
        model = random_switching(2, modes=1, extra=0, timed=True)
        plain = _plain(model)
        ours, truth = cai.solve(model, rule, temperature=1.4), cai.solve(plain, rule, temperature=1.4)
        close(ours.value, truth.value)
        close(ours.policy.conditional(1).each.at(0).gain, truth.policy.conditional(1).gain)
        close(ours.states(2).moments.mean, truth.states(2).mean)

    @pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD])
    def test_modes_that_do_not_differ_do_not_matter(self, rule: cai.Rule) -> None:
        model = random_switching(4, extra=0)
        one = replace(
            model.each(lambda x: x[:1].expand(x.shape)), log_switch=model.log_switch, log_modes=model.log_modes
        )
        close(cai.solve(one, rule).value, cai.solve(_plain(one), rule).value)

    @pytest.mark.parametrize("name", ["pairs", "outcome_marginals", "survival", "log_initial"])
    def test_what_has_a_part_for_each_sequence_is_refused_by_name(self, name: str) -> None:
        post = cai.solve(random_switching(3, T=2, discount=0.8))
        with pytest.raises(cai.IntractableError, match=f"^{name}: .*exact$"):
            getattr(post, name)()
        with pytest.raises(cai.WorldError, match="explain: modes and real states together"):
            post.explain(0)

    def test_only_possible_sequences_count(self) -> None:
        """A machine that can only break: T + 2 sequences, however long the horizon."""
        model = random_switching(6, extra=0, T=40)
        log_switch = torch.tensor([[0.9, 0.1], [0.0, 1.0]]).log().flatten()
        post = cai.solve(replace(model, log_switch=log_switch), temperature=3.0)
        assert len(post.v[0]) == 42
        assert (
            post.log_evidence > cai.solve(replace(model, log_switch=log_switch), cai.VARIATIONAL, temperature=3.0).elbo
        )

    def test_too_many_sequences_are_refused_with_their_number(self) -> None:
        model = random_switching(0, modes=3, extra=0, T=39)
        with pytest.raises(cai.IntractableError, match=r"POSTERIOR: 1.2e\+19 sequences of modes over T = 39"):
            cai.solve(model)
        assert math.isfinite(cai.solve(model, cai.HARD).value)

    @pytest.mark.parametrize("rule", [cai.RISK(2.0), cai.PLANNING])
    def test_rules_that_do_not_go_through_the_sum_are_refused(self, rule: cai.Rule) -> None:
        with pytest.raises(cai.IntractableError, match="do not commute"):
            cai.solve(random_switching(0), rule)


def _plain(model: SwitchingLinear) -> LinearGaussian:
    """Return the system of the first mode alone."""
    first = model.along(0, torch.zeros(1, dtype=torch.long))[0]
    slices = model.slices.each(lambda x: x[:, 0]) if model.timed else first.slices
    return replace(first, slices=slices, horizon=model.horizon, timed=model.timed)


class TestProgram:
    def test_it_is_read_off_for_every_switch(self) -> None:
        world = Road()
        model = cai.solve(world, cai.HARD).model
        assert isinstance(model, SwitchingLinear)
        assert model.source.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        close(model.log_switch.exp().reshape(2, 2, 2).sum(1), world.chain)
        e = int(((model.source == 1) & (model.target == 0)).nonzero()[1])
        close(model.slices.transition[e], torch.tensor([[1, 0.5, 0, 0, 0.01], [0, 1, 0.1, 0.3, 0]]))
        close(model.slices.drift[e], torch.tensor([0.0, 0.2]))
        post = cai.solve(world)
        each = list(every_sequence(post.model))
        close(post.log_evidence, torch.stack([one.log_p + one.log_mean_exp(1.0)[0] for one in each]).logsumexp(0))

    def test_a_trajectory_scores_as_the_program_does(self) -> None:
        """The density of a trajectory of the model's sites is Pyro's own on the trajectory program."""
        world = Road(horizon=2)
        model = cai.solve(world, cai.HARD).model
        trace = pyro.poutine.trace(cai.trajectory(world)).get_trace()
        rows = torch.stack(
            [
                model.states.join({name: trace.nodes[f"{name}_{t}"]["value"].double() for name in model.states.names})
                for t in range(3)
            ]
        )
        back = model.states.split(rows)
        assert torch.equal(back["road"], torch.stack([trace.nodes[f"road_{t}"]["value"] for t in range(3)]))
        close(model.states.row(model.states.mode(rows), model.states.real(rows)), rows)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("road", "step, t = 0, variable 'road': it depends on offset"),
            ("steer", "act, variable 'steer': 2 values, a finite variable"),
            ("cubic", "offset"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_name(self, change: str, words: str) -> None:
        class Other(Road):
            def act(self, state, t):  # type: ignore[no-untyped-def]
                return pyro.sample("steer", Bernoulli(0.5)) if change == "steer" else super().act(state, t)

            def step(self, state, action, t):  # type: ignore[no-untyped-def]
                if change == "road":
                    road = pyro.sample(
                        "road", Categorical(torch.stack((state["offset"].sigmoid(), 1 - state["offset"].sigmoid()), -1))
                    )
                    return {**state, "road": road}, action
                following, reward = super().step(state, action, t)
                return following, reward + state["offset"] ** 3 * (change == "cubic")

        with pytest.raises(cai.IntractableError, match=words):
            cai.solve(Other(), form="switching")


def test_the_policy_at_the_start_is_shown_for_each_mode(capsys: pytest.CaptureFixture[str]) -> None:
    found = cai.solve(cai.load_world("icy_road", {"horizon": 2}), cai.HARD)
    rows = list(policy_rows(found))
    assert [row.plain()["mode"] for row in rows] == ["road=dry", "road=icy"]
    for row, mode in zip(rows, ("dry", "icy"), strict=True):
        assert isinstance(row, InMode)
        assert torch.equal(row.action.gain, found.policy.at(0, road=mode).gain)
    print_policy("HARD", found)
    assert "HARD, t = 0, road=icy" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_of_a_comparison_says_what_has_no_closed_form(tmp_path: Path) -> None:
    rules = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD}
    comparison = cai.compare(cai.load_world("icy_road"), rules, samples=1000)
    page = cai.report(comparison, tmp_path).read_text(encoding="utf-8")
    assert "Between log Z and its ELBO there are" in page

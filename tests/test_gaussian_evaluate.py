"""Policies on linear-Gaussian worlds: what is read off them, exactly or by samples, and what the accounts say."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.distributions import Delta, MultivariateNormal, Normal, Poisson, StudentT, TransformedDistribution
from torch import Tensor, nn
from torch.distributions.transforms import TanhTransform

import cai
from cai.compile.model import Model, is_finite
from cai.compile.quadratic import ConditionalGaussian, Gaussian
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.world.coordinates import Coordinates
from tests.helpers import examples
from tests.linear_worlds import LinearWorld, System, random_system, systems, temperatures

few = examples(4)
SYSTEM = random_system(3, 3, 2, 2, 4)
WORLD = LinearWorld(5, n=2, m=1, horizon=4)
K, k, C = (torch.tensor(x, dtype=torch.float64) for x in ([[0.3, -0.2]], [0.1], [[0.4]]))


def random_act(system: System, seed: int, *, rank: int | None = None) -> ConditionalGaussian:
    """A policy that has nothing to do with the system, another at each time."""
    g = torch.Generator().manual_seed(seed)
    sizes = ((system.m, system.n), (system.m,), (system.m, system.m if rank is None else rank))
    gain, offset, scale = (torch.randn(system.T, *size, generator=g, dtype=torch.float64) for size in sizes)
    return ConditionalGaussian(0.4 * gain, offset, 0.7 * scale)


def close(x: float, y: float) -> None:
    assert x == pytest.approx(y, rel=1e-9, abs=1e-9)


def decomposed(it: cai.Evaluation) -> None:
    """Check the three identities that hold for every policy."""
    close(it.optimality_gap, float(it.policy_nats.sum()))
    close(it.evidence_gap, it.start_nats + float(it.action_nats.sum()) + float(it.luck_nats.sum()))
    close(it.regret, it.best_return - it.expected_return)


class TestDecompositions:
    @few
    @given(systems(free=None), temperatures, st.integers(0, 1000))
    def test_both_gaps_are_sums_of_losses_of_any_policy(self, system: System, alpha: float, seed: int) -> None:
        it = cai.evaluate(system.model(), random_act(system, seed), temperature=alpha)
        decomposed(it)
        slack = 1e-9 * max(1.0, abs(it.elbo), abs(it.log_evidence))
        assert it.policy_nats.shape == (system.T,)
        for losses in (it.policy_nats, it.action_nats, it.luck_nats):
            assert bool((losses > -slack).all())
        assert it.start_nats > -slack
        assert it.standard_error == it.standard_error_of("elbo") == 0

    @few
    @given(systems(flat=False), temperatures)
    def test_within_a_prior_that_is_certain_in_some_direction(self, system: System, alpha: float) -> None:
        model = system.model()
        for policy in (None, cai.POSTERIOR, cai.VARIATIONAL):
            decomposed(cai.evaluate(model, policy, temperature=alpha))
        assert cai.evaluate(model, None, temperature=alpha).kl_to_prior == pytest.approx(0, abs=1e-9)

    @few
    @given(systems(discount=0.9, free=None), st.integers(0, 1000))
    def test_with_a_discount_the_gap_to_variational_and_the_regret(self, system: System, seed: int) -> None:
        it = cai.evaluate(system.model(), random_act(system, seed))
        close(it.optimality_gap, float(it.policy_nats.sum()))
        close(it.regret, it.best_return - it.expected_return)
        with pytest.raises(cai.IntractableError, match="mixture"):
            _ = it.log_evidence
        assert "not available" in it.account()

    def test_over_an_infinite_horizon(self) -> None:
        model = replace(random_system(8, 2, 1, 2, 1, discount=0.8, noise=0.2).model(), horizon=None)
        act = ConditionalGaussian(*(part[0] for part in random_act(random_system(8, 2, 1, 2, 1), 0).tensors))
        it = cai.evaluate(model, act)
        close(it.optimality_gap, float(it.policy_nats))
        close(it.regret, it.best_return - it.expected_return)
        steps = 200  # the same sums, cut off where 0.8^T is nothing
        long = cai.evaluate(replace(model, horizon=steps), act)
        close(it.kl_to_prior, long.kl_to_prior)
        close(it.expected_return, long.expected_return - float(long.final_states.expect(long.model.terminal)))
        assert float(it.occupancy.mass) == pytest.approx(1 / (1 - 0.8))


class TestCertainPolicies:
    @pytest.mark.parametrize("policy", [cai.HARD, torch.full((2, 3), 0.1)])
    def test_their_divergences_are_infinite_and_their_returns_are_not(self, policy: Any) -> None:
        it = cai.evaluate(SYSTEM.model(), policy)
        assert it.kl_to_prior == float(it.policy_nats.sum()) == float(it.action_nats.sum()) == torch.inf
        assert it.elbo == it.entropy == -torch.inf
        close(it.regret, it.best_return - it.expected_return)
        assert abs(it.expected_return) < torch.inf
        assert "certain where the prior is not" in it.account()

    def test_hard_has_no_regret(self) -> None:
        assert cai.evaluate(SYSTEM.model(), cai.HARD).regret == pytest.approx(0, abs=1e-9)

    def test_nor_has_a_policy_that_leaves_the_plane_of_the_prior_a_density(self) -> None:
        system = random_system(4, 2, 2, 2, 3, free=1)
        wide, off = random_act(system, 0), random_act(system, 0, rank=1)
        for act in (wide, off):
            assert cai.evaluate(system.model(), act).kl_to_prior == torch.inf
        prior = system.model().slices.prior
        within = ConditionalGaussian(prior.gain, prior.offset, 2 * prior.scale)
        assert cai.evaluate(system.model(), within).kl_to_prior == pytest.approx(
            system.T * (2 - 0.5 - torch.log(torch.tensor(2.0)))
        )


def act_of(law: Callable[[Tensor], Any]) -> Any:
    """An object whose ``act`` samples the action of WORLD."""

    class Actor:
        def act(self, state: Tensor, t: int) -> Tensor:
            return pyro.sample("a", law(state))

    return Actor()


def normal(state: Tensor) -> Any:
    return MultivariateNormal(state @ K.mT + k, C)


FORMS = {
    "triple": (K, k, C),
    "dict": {"gain": K, "offset": k, "covariance": C},
    "over time": (K.expand(4, 1, 2), k, C.expand(4, 1, 1)),
    "gaussian": ConditionalGaussian(K, k, C.sqrt()),
    "program": act_of(normal),
    "function": lambda state, t: normal(state),
    "function of time": lambda state, t: normal(state + 0 * t),
    "lists": ([[0.3, -0.2]], [0.1], [[0.4]]),
}


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_way_to_write_a_policy_is_the_same_policy(self, form: str) -> None:
        with torch.no_grad():
            it, own = (cai.evaluate(WORLD, policy) for policy in (FORMS[form], FORMS["gaussian"]))
        close(it.elbo, own.elbo)
        assert isinstance(it.policy, AffineGaussianPolicy)
        assert it.standard_error == 0

    def test_messages_a_rule_and_the_rules_policy_are_one(self) -> None:
        var = cai.solve(WORLD, cai.VARIATIONAL)
        numbers = {cai.evaluate(WORLD, policy).elbo for policy in (var, cai.VARIATIONAL, var.policy)}
        assert len(numbers) == 1
        assert numbers.pop() == pytest.approx(float(var.elbo), rel=1e-9)

    def test_the_prior_is_read_off_the_world(self) -> None:
        assert cai.evaluate(WORLD, None).kl_to_prior == 0
        assert cai.evaluate(WORLD, WORLD).kl_to_prior == pytest.approx(0, abs=1e-9)  # its own act

    def test_an_affine_module_is_exact_in_float32_too(self) -> None:
        it = cai.evaluate(WORLD, Affine())
        assert isinstance(it.policy, AffineGaussianPolicy)
        assert it.elbo == pytest.approx(cai.evaluate(WORLD, FORMS["gaussian"]).elbo, rel=1e-6)

    def test_several_variables_are_sampled_one_after_the_other(self) -> None:
        g = torch.Generator().manual_seed(0)
        root = torch.randn(3, 3, generator=g, dtype=torch.float64)
        states = Coordinates(("x",), (torch.Size([2]),))
        actions = Coordinates(("u", "v"), (torch.Size([2]), torch.Size()))
        act = ConditionalGaussian(torch.ones(3, 2).double(), torch.zeros(3).double(), root)
        policy = AffineGaussianPolicy(lambda t: act, states, actions)
        state, a = {"x": torch.randn(5, 2, generator=g).double()}, torch.randn(5, 3, generator=g).double()
        law = MultivariateNormal(state["x"].sum(-1, keepdim=True).expand(5, 3), root @ root.mT)
        torch.testing.assert_close(policy.log_prob(state, actions.split(a), 0), law.log_prob(a))
        trace = pyro.poutine.trace(policy.act).get_trace(state, 0)
        assert {name: tuple(site["value"].shape) for name, site in trace.nodes.items() if site["type"] == "sample"} == {
            "u": (5, 2),
            "v": (5,),
        }

    @pytest.mark.parametrize(
        ("policy", "says"),
        [
            (torch.ones(3, 3), "gain of shape"),
            ((K, k), "2 parts"),
            ((K, k, -C), "eigenvalue"),
            ((K, k * torch.nan, C), "finite"),
            ({"gain": K}, "gain"),
            (3.0, "a float"),
            (act_of(lambda s: Normal(torch.zeros(2), 1.0).to_event(1)), "variable 'a'"),
            (act_of(lambda s: torch.zeros(1)), "policy"),
            (lambda state, t: Normal(torch.tensor(torch.nan).double(), 1.0), "policy"),
            (
                AffineGaussianPolicy(lambda t: FORMS["gaussian"], *(Coordinates(("b",), (torch.Size(),)),) * 2),
                "a policy for",
            ),
        ],
    )
    def test_what_is_no_policy_is_refused_in_one_line(self, policy: Any, says: str) -> None:
        with pytest.raises(cai.WorldError, match=says):
            cai.evaluate(WORLD, policy)

    def test_a_flat_prior_is_no_policy(self) -> None:
        model = random_system(2, flat=True).model()
        with pytest.raises(cai.WorldError, match="flat"):
            cai.evaluate(model, None)
        some = cai.compare(model, {"prior": None, "best": cai.VARIATIONAL}, leave_out=True)
        assert "flat" in some.left_out["prior"]
        assert [row.name for row in some.rows] == ["best"]

    def test_every_compiled_world_is_a_model(self) -> None:
        assert isinstance(SYSTEM.model(), Model)
        assert not is_finite(SYSTEM.model())

    def test_an_evaluation_is_pickled(self) -> None:
        it = cai.evaluate(WORLD, cai.VARIATIONAL)
        assert pickle.loads(pickle.dumps(it)).elbo == it.elbo


class Affine(nn.Module):
    """A linear layer, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(2, 1)
        self.mean.weight.data, self.mean.bias.data = K.float(), k.float()
        self.deviation = nn.Parameter(C.sqrt()[0].float())

    def forward(self, state: Tensor, t: int) -> Any:
        return Normal(self.mean(state), self.deviation).to_event(1)


class Squashed(Affine):
    def forward(self, state: Tensor, t: int) -> Any:
        return Normal(self.mean(state).tanh(), self.deviation).to_event(1)


def bent(state: Tensor, t: int) -> Any:
    """A policy that is nearly affine-Gaussian, so that it must be sampled."""
    return StudentT(1e8, state @ K.mT + k, C.sqrt()[0, 0]).to_event(1)


NUMBERS = ("expected_return", "elbo", "kl_to_prior", "entropy", "regret", "policy_nats", "action_nats", "luck_nats")


def within(sampled: cai.Evaluation, exact: cai.Evaluation) -> None:
    """Check that numbers are no further apart than four standard errors, and that these are small."""
    for field in NUMBERS:
        ours, truth = (torch.as_tensor(getattr(one, field)).sum() for one in (sampled, exact))
        error = sampled.standard_error_of(field)
        assert abs(float(ours - truth)) <= 4 * error
        assert 0 < error < 0.1 * max(1.0, abs(float(truth)))


class TestSamples:
    def test_a_sampled_policy_is_the_exact_one_within_its_errors(self) -> None:
        sampled, exact = (cai.evaluate(WORLD, policy, seed=1) for policy in (bent, (K, k, C)))
        within(sampled, exact)
        assert sampled.standard_error == sampled.standard_error_of("expected_return")
        assert sampled.policy_nats.shape == (4,)
        assert sampled.evidence_gap == pytest.approx(exact.evidence_gap, abs=4 * sampled.standard_error_of("elbo"))
        assert sampled.start_nats == exact.start_nats
        near = sampled.visits["s"]
        assert isinstance(near, Gaussian)
        torch.testing.assert_close(near.mean, exact.visits["s"].mean, rtol=0, atol=0.1)

    def test_so_is_one_over_an_infinite_horizon(self) -> None:
        system = random_system(8, 2, 1, 2, 1, discount=0.8, noise=0.2)
        system = replace(system, A=0.5 * system.A)
        model = replace(system.model(), horizon=None)
        sampled, exact = (cai.evaluate(model, policy, samples=3000) for policy in (bent, (K, k, C)))
        for field in ("expected_return", "elbo", "kl_to_prior", "regret"):
            assert abs(getattr(sampled, field) - getattr(exact, field)) <= 4 * sampled.standard_error_of(field)

    def test_more_samples_tell_more_and_a_seed_tells_the_same(self) -> None:
        first, again, other, more = (
            cai.evaluate(WORLD, bent, samples=samples, seed=seed)
            for samples, seed in ((500, 0), (500, 0), (500, 1), (8000, 0))
        )
        assert first.elbo == again.elbo
        assert first.elbo != other.elbo
        assert more.standard_error < 0.5 * first.standard_error
        with pytest.raises(cai.WorldError, match="samples"):
            cai.evaluate(WORLD, bent, samples=1)

    def test_a_network_runs_in_its_own_dtype(self) -> None:
        net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        it = cai.evaluate(WORLD, lambda state, t: Normal(net(state.float()), 0.5).to_event(1), samples=100)
        assert 0 < it.standard_error < torch.inf
        assert cai.evaluate(WORLD, Squashed(), samples=100).kl_to_prior < torch.inf

    def test_a_bent_controller_that_is_certain_has_no_density(self) -> None:
        it = cai.evaluate(WORLD, act_of(lambda s: Delta(torch.tanh(s @ K.to(s).mT), event_dim=1)))
        assert it.kl_to_prior == torch.inf
        assert it.standard_error > 0
        assert it.standard_error_of("elbo") == 0

    def test_tables_show_the_errors(self) -> None:
        it = cai.compare(WORLD, {"bent": bent, "best": cai.VARIATIONAL}, samples=500)
        assert it.table().splitlines()[1].count("±") == 9
        assert it.row("bent").standard_error == it.evaluations["bent"].standard_error
        sampled, best = json.loads(it.json())["rows"]
        assert sampled["standard_errors"]["elbo"] == it.evaluations["bent"].standard_error_of("elbo")
        assert "standard_errors" not in best
        assert it.csv().splitlines()[0].split(",")[3] == "standard_error"


class TestExactEvidence:
    def test_what_is_a_density_of_evidence_is_not_to_be_had_but_the_return_is(self) -> None:
        world = LinearWorld(6, noisy=False, latent=0, horizon=4)
        goal = cai.condition(world, observe={"a_1": torch.zeros(1, dtype=torch.float64)})
        it = cai.evaluate(goal, cai.POSTERIOR)
        assert abs(it.expected_return) < torch.inf
        for field in ("elbo", "optimality_gap", "evidence_gap", "policy_nats", "action_nats", "luck_nats", "regret"):
            with pytest.raises(cai.IntractableError, match="evidence on a real variable"):
                getattr(it, field)
        assert it.account().startswith("ELBO(π) is not available")
        row = cai.compare(goal, {"posterior": cai.POSTERIOR, "bent": bent}, samples=50).row("posterior")
        assert row.elbo is None
        assert row.expected_return == it.expected_return
        assert cai.evaluate(goal, None).expected_return == cai.evaluate(goal, bent).expected_return == -torch.inf


class TestWhereItLoses:
    def test_times_are_ranked(self) -> None:
        it = cai.evaluate(WORLD, (K, k, C))
        for by, lost, unit in (("nats", it.policy_nats, "nats"), ("regret", it.regret_per_state, "reward units")):
            places = it.worst(2, by=by)
            order = lost.argsort(descending=True)
            assert [place.t for place in places] == order[:2].tolist()
            assert str(places[0]).startswith(f"t = {int(order[0])}: ")
            assert str(places[0]).endswith(f"{unit} lost.")
        assert it.worst(1, together=True)[0].lost == pytest.approx(it.optimality_gap)
        assert not cai.evaluate(WORLD, cai.VARIATIONAL).worst(3)

    def test_an_account_says_it_in_words(self) -> None:
        assert "the policy nats: what a better policy can win" in cai.evaluate(WORLD, (K, k, C)).account()

    def test_measures_are_gaussians(self) -> None:
        it = cai.evaluate(WORLD, (K, k, C))
        assert it.occupancy.mean.shape == (4, 3)
        assert it.log_policy.M.shape == (4, 3, 3)
        torch.testing.assert_close(it.final_states.mean, it.visits["s"].mean[-1])


class TestWhatHasNoAnswer:
    def test_a_batch_of_policies_is_refused(self) -> None:
        both = cai.solve(WORLD, temperature=torch.tensor([0.5, 1.0]))
        for ask in (lambda: cai.evaluate(WORLD, both), lambda: both.policy.act(torch.zeros(2, dtype=torch.float64), 0)):
            with pytest.raises(cai.WorldError, match=r"a batch of shape \(2,\); expected the policy of one entry"):
                ask()

    def test_an_action_with_a_probability_of_its_own_is_infinitely_far_from_a_density(self) -> None:
        def certain(s: Tensor, t: int) -> Normal:
            return Normal(s.sum(-1, keepdim=True).tanh(), 0.0, validate_args=False).to_event(1)

        def counted(s: Tensor, t: int) -> Any:
            return Poisson(s.sum(-1, keepdim=True).exp()).to_event(1)

        def squashed(s: Tensor, t: int) -> Any:
            return TransformedDistribution(Delta(s[..., :1]), [TanhTransform()]).to_event(1)

        for act in (certain, counted, squashed):
            it = cai.evaluate(WORLD, act, samples=20)
            assert it.kl_to_prior == torch.inf
            assert abs(it.expected_return) < torch.inf

    def test_a_seed_is_a_whole_number_of_any_size(self) -> None:
        def bent(s: Tensor, t: int) -> Any:
            return Normal(s[..., :1].tanh(), 0.5).to_event(1)

        with pytest.raises(cai.WorldError, match=r"seed: 1\.5; expected a whole number"):
            cai.evaluate(WORLD, bent, seed=1.5)  # type: ignore[arg-type]
        one, other = (cai.evaluate(WORLD, bent, samples=20, seed=2**62).expected_return for _ in range(2))
        assert one == other

    def test_policy_support_reads_numbered_states(self) -> None:
        with pytest.raises(cai.WorldError, match=r"a policy on real states, s; expected numbered ones"):
            cai.policy_support(cai.solve(WORLD))

    def test_what_grows_beyond_all_numbers_is_refused_in_a_line(self) -> None:
        cart = cai.load_world("double_integrator", {"horizon": 900})
        with pytest.raises(cai.IntractableError, match=r"evaluate, t = \d+: a state whose variance is above 1e\+250"):
            cai.evaluate(cart, ([[20.0, 20.0]], [0.0], [[1.0]]))
        model = cai.linearise(cart)
        wild = replace(model, slices=replace(model.slices, transition=3 * model.slices.transition))
        deaf = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
        wild = replace(wild, slices=replace(wild.slices, transition=wild.slices.transition * deaf))
        with pytest.raises(cai.IntractableError, match=r"HARD, t = \d+: numbers beyond the range of the dtype"):
            cai.solve(wild, cai.HARD)


def test_a_controller_that_is_no_policy_is_told_what_to_give() -> None:
    """A gain without a row for each action, a bare action, and a vector's distribution that is several draws."""
    cart = cai.linearise(cai.load_world("double_integrator", {"horizon": 2}))
    with pytest.raises(cai.WorldError, match=r"a gain of shape \[2\]; expected shape \[1, 2\]"):
        cai.evaluate(cart, torch.zeros(2))
    with pytest.raises(cai.WorldError, match=r"expected a distribution of the action.*Delta"):
        cai.evaluate(cart, lambda state, t: -state["position"])
    pen = cai.linearise(cai.load_world("tracking", {"horizon": 2}))
    with pytest.raises(cai.WorldError, match=r"shape \[2\]: .to_event\(1\)"):
        cai.evaluate(pen, lambda state, t: Normal(torch.zeros(2), 1.0))


def test_a_sampled_account_says_how_well_it_is_known() -> None:
    cart = cai.linearise(cai.load_world("double_integrator", {"horizon": 2}))
    sampled = cai.evaluate(cart, lambda state, t: Normal(state["position"].tanh(), 1.0), samples=50)
    assert f"J(π) = {sampled.expected_return:.3g} ± {sampled.standard_error:.2g} reward units" in sampled.account()
    assert sampled.account().count("±") == 5
    assert "±" not in cai.evaluate(cart, cai.VARIATIONAL).account()

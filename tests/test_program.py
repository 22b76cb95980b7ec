"""A world is a plain Pyro model: Predictive, condition, TraceEnum_ELBO, infer_discrete, render_model, plates, MCMC."""

import math

import pyro
import pytest
import torch
from hypothesis import assume, given
from pyro.distributions import Categorical
from pyro.infer import MCMC, NUTS, Predictive, TraceEnum_ELBO, config_enumerate, infer_discrete
from pyro.infer.autoguide.initialization import init_to_sample

import cai
from tests.helpers import examples
from tests.oracles import enumeration as oracle
from tests.worlds import FactoredWorld, RandomWorld, random_worlds, temperatures

pytestmark = pytest.mark.usefixtures("float64")


def evidence(world, alpha: float) -> float:
    """Pyro's own answer: the model enumerated, an empty guide."""
    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    return -elbo.loss(config_enumerate(cai.trajectory(world, temperature=alpha)), lambda: None)


def elbo_of(world, policy, alpha: float) -> float:
    """Pyro's own ELBO(π): the guide enumerated, the model replayed."""
    guide = config_enumerate(cai.trajectory(world, policy))
    return -TraceEnum_ELBO(max_plate_nesting=0).loss(cai.trajectory(world, temperature=alpha), guide)


@examples(10)
@given(random_worlds(), temperatures)
def test_evidence_equals_traceenum(world: RandomWorld, alpha: float) -> None:
    assume(oracle.log_evidence(world, alpha) > -math.inf)
    ours = float(cai.solve(world, temperature=alpha).log_evidence)
    assert ours == pytest.approx(evidence(world, alpha), rel=1e-10, abs=1e-10)


@examples(10)
@given(random_worlds(holes=False), temperatures)
def test_elbo_equals_traceenum_with_the_policy_as_guide(world: RandomWorld, alpha: float) -> None:
    best = cai.solve(world, cai.VARIATIONAL, temperature=alpha)
    assert float(best.elbo) == pytest.approx(elbo_of(world, best.policy, alpha), rel=1e-10, abs=1e-10)


def test_factored_world_equals_traceenum() -> None:
    world = FactoredWorld()
    assert float(cai.solve(world).log_evidence) == pytest.approx(evidence(world, 1.0), abs=1e-12)
    best = cai.solve(world, cai.VARIATIONAL)
    assert float(best.elbo) == pytest.approx(elbo_of(world, best.policy, 1.0), abs=1e-12)


def test_a_forbidden_first_action_variable_does_not_break_the_guide() -> None:
    class Forbids(FactoredWorld):
        def act(self, state, t):
            barred = torch.tensor([[0.0, -torch.inf], [0.0, 0.0], [0.0, 0.0]])
            lift = pyro.sample("lift", Categorical(logits=barred[state["floor"]]))
            return {"lift": lift, "push": pyro.sample("push", Categorical(logits=self.push[state["door"], lift]))}

    world = Forbids()
    best = cai.solve(world, cai.VARIATIONAL)
    assert float(best.elbo) == pytest.approx(elbo_of(world, best.policy, 1.0), abs=1e-12)
    with pytest.raises(cai.WorldError, match="batch"):
        pyro.poutine.trace(cai.trajectory(world, cai.solve(world, temperature=[1.0, 2.0]).policy)).get_trace()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_probability_of_zero_is_zero_in_the_program_too(dtype: torch.dtype) -> None:
    """torch makes it 2e-16 (1e-7 in float32): at α = 0.05 that forbidden action would be the best there is."""
    torch.set_default_dtype(dtype)

    class Shop:
        horizon = 3

        def initial(self):
            return pyro.sample("goods", cai.Point(torch.tensor(1), 3))

        def act(self, state, t):
            may = (torch.arange(3) <= state[..., None]).to(torch.get_default_dtype())
            return pyro.sample("sell", Categorical(may / may.sum(-1, keepdim=True)))

        def step(self, state, action, t):
            rush = pyro.sample("rush", pyro.distributions.Bernoulli(torch.zeros(())))
            left = (state - action).clamp(min=0)
            return pyro.sample("goods", cai.Point(left, 3)), 1.0 * action + 0.5 * rush

    ours = float(cai.solve(Shop(), temperature=0.05).log_evidence)
    assert ours == pytest.approx(evidence(Shop(), 0.05), rel=1e-5)


def test_an_endless_world_can_be_written_out_for_some_steps() -> None:
    world = RandomWorld(seed=0, S=2, A=2, K=2, horizon=None, discount=0.9)
    assert "O_4" in pyro.poutine.trace(cai.trajectory(world, horizon=4)).get_trace()


def test_a_temperature_must_be_positive() -> None:
    with pytest.raises(cai.WorldError, match="temperature"):
        cai.trajectory(FactoredWorld(), temperature=-1.0)


class TwoStep:
    """Three slices of two states: enough for the trap to close."""

    horizon = 3

    def __init__(self, optimality) -> None:
        self.optimality = optimality

    def program(self, policy=None):
        logits = torch.tensor([[0.3, -0.2], [0.1, 0.6]])
        reward = torch.tensor([[-1.0, -0.5], [-3.0, -0.2]])

        def run():
            s = pyro.sample("s_0", Categorical(logits=logits[0]))
            for t in pyro.markov(range(self.horizon)):
                a = pyro.sample(f"a_{t}", Categorical(logits=logits[s]))
                s_next = pyro.sample(f"s_{t + 1}", Categorical(logits=logits[(s + a) % 2]))
                if policy is None:
                    self.optimality(f"O_{t}", reward[s, a] + 0.0 * s_next)
                s = s_next

        return run


def test_the_trap_of_pyro_factor_and_the_right_optimality_node() -> None:
    """DESIGN section 1: `pyro.factor` in `pyro.markov` with an enumerated guide is silently wrong in Pyro 1.9.2."""

    def observed(name, potential):
        pyro.sample(name, cai.Optimality(potential), obs=torch.tensor(1.0))

    def answer(optimality):
        model = TwoStep(optimality)
        guide = config_enumerate(model.program(policy="prior"))
        return -TraceEnum_ELBO(max_plate_nesting=0).loss(model.program(), guide)

    # The guide is the prior itself, so the ELBO is the expected reward: enumerate it by hand.
    logits = torch.tensor([[0.3, -0.2], [0.1, 0.6]]).log_softmax(-1).exp().tolist()
    reward = [[-1.0, -0.5], [-3.0, -0.2]]

    def expected(s: int, t: int) -> float:
        if t == 3:
            return 0.0
        return sum(
            logits[s][a] * (reward[s][a] + sum(logits[(s + a) % 2][n] * expected(n, t + 1) for n in range(2)))
            for a in range(2)
        )

    truth = sum(logits[0][s] * expected(s, 0) for s in range(2))
    assert answer(observed) == pytest.approx(truth, abs=1e-12)
    assert abs(answer(lambda name, potential: pyro.factor(name, potential)) - truth) > 0.1


def test_an_observed_site_does_not_help_where_model_and_guide_are_both_marked() -> None:
    """The docstring of trajectory warns of it: mark one of the two."""
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    policy = cai.solve(world, cai.VARIATIONAL).policy
    guide = config_enumerate(cai.trajectory(world, policy))
    both = -TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(cai.trajectory(world)), guide)
    assert abs(both - elbo_of(world, policy, 1.0)) > 0.1


def test_site_names_carry_their_time() -> None:
    world = RandomWorld(seed=0, S=3, A=2, K=2, horizon=2, holes=False)
    sites = list(pyro.poutine.trace(cai.trajectory(world)).get_trace().stochastic_nodes)
    observed = list(pyro.poutine.trace(cai.trajectory(world)).get_trace().observation_nodes)
    assert sites == ["s_0", "a_0", "k_0", "s_1", "a_1", "k_1", "s_2"]
    assert observed == ["O_0", "O_1", "O_2"]
    guide = pyro.poutine.trace(cai.trajectory(world, cai.solve(world).policy)).get_trace()
    assert guide.observation_nodes == []
    assert list(guide.stochastic_nodes) == sites


def test_predictive_draws_the_prior_in_parallel_and_one_by_one() -> None:
    world, n = RandomWorld(seed=1, S=3, A=2, K=2, horizon=3, holes=False), 4000
    pyro.set_rng_seed(0)
    together = Predictive(cai.trajectory(world), num_samples=n, parallel=True)()
    assert together["s_3"].shape == (n,)
    share = torch.bincount(together["a_0"], minlength=2) / n
    truth = (world.start[:, None] * world.prior[0]).sum(0)
    assert bool(((share - truth).abs() < 5 * (truth * (1 - truth) / n).sqrt()).all())
    single = Predictive(cai.trajectory(world), num_samples=5)()
    assert single["s_3"].shape[0] == 5


def test_condition_restricts_the_evidence() -> None:
    world = RandomWorld(seed=2, S=3, A=2, K=2, horizon=2, holes=False)
    conditioned = pyro.condition(cai.trajectory(world), data={"a_0": torch.tensor(1)})
    ours = -TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(conditioned), lambda: None)
    kept = [p.log_p + p.rewards for p in oracle.paths(world) if p.visits[0][1] == 1]
    assert ours == pytest.approx(oracle.logsumexp(kept), abs=1e-12)


def test_infer_discrete_finds_the_most_probable_trajectory() -> None:
    world = RandomWorld(seed=4, S=3, A=2, K=2, horizon=3, holes=False)
    program = infer_discrete(config_enumerate(cai.trajectory(world)), first_available_dim=-1, temperature=0)
    sites = pyro.poutine.trace(program).get_trace().nodes
    found = cai.solve(world, cai.MAP).most_probable()
    assert [int(sites[f"s_{t}"]["value"]) for t in range(4)] == found.states[0].tolist()
    assert [int(sites[f"a_{t}"]["value"]) for t in range(3)] == found.actions[0].tolist()


def test_infer_discrete_samples_the_posterior() -> None:
    world, n = RandomWorld(seed=5, S=2, A=2, K=2, horizon=2, holes=False), 4000
    truth = cai.solve(world).marginals(1).sum(0)
    pyro.set_rng_seed(0)
    single = cai.trajectory(world)

    def batch():
        with pyro.plate("draws", n):
            single()

    program = infer_discrete(config_enumerate(batch), first_available_dim=-2, temperature=1)
    drawn = pyro.poutine.trace(program).get_trace().nodes["a_1"]["value"]
    assert drawn.shape == (n,)
    share = torch.bincount(drawn.long(), minlength=2) / n
    assert bool(((share - truth).abs() < 5 * (truth * (1 - truth) / n).sqrt()).all())


def test_render_model_names_every_node() -> None:
    source = pyro.render_model(cai.trajectory(RandomWorld(seed=0, S=3, A=2, K=2, horizon=2, holes=False))).source
    for name in ("s_0", "a_0", "k_0", "O_0", "s_1", "O_1"):
        assert name in source


class Biased:
    """A coin of unknown bias beside the control problem: a continuous latent outside the slices."""

    horizon = 2

    def initial(self):
        return pyro.sample("s", cai.Point(torch.tensor(0), 2))

    def act(self, state, t):
        return pyro.sample("a", Categorical(logits=torch.zeros(2).expand(*state.shape, 2)))

    def step(self, state, action, t):
        return pyro.sample("s", cai.Point((state + action) % 2, 2)), -1.0 * action


def test_mcmc_runs_on_the_trajectory_with_its_discrete_sites_summed_out() -> None:
    def model():
        alpha = pyro.sample("alpha", pyro.distributions.LogNormal(0.0, 0.5))
        cai.trajectory(Biased(), temperature=alpha)()

    pyro.set_rng_seed(0)
    kernel = NUTS(config_enumerate(model), max_plate_nesting=0, init_strategy=init_to_sample())
    mcmc = MCMC(kernel, num_samples=20, warmup_steps=15, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["alpha"].shape == (20,)
    assert bool((mcmc.get_samples()["alpha"] > 0).all())


def test_optimality_can_be_drawn_where_it_is_a_probability() -> None:
    node = cai.Optimality(torch.tensor([-0.5, 0.0, -torch.inf]))
    both = torch.logaddexp(node.log_prob(torch.tensor(1.0)), node.log_prob(torch.zeros(3)))
    torch.testing.assert_close(both, torch.zeros(3))
    pyro.set_rng_seed(0)
    drawn = node.sample((4000,)).mean(0)
    torch.testing.assert_close(drawn, torch.tensor([math.exp(-0.5), 1.0, 0.0]), atol=0.03, rtol=0)
    with pytest.raises(cai.WorldError, match="can only be observed"):
        cai.Optimality(torch.tensor(0.1)).sample()


def test_point_is_a_distribution() -> None:
    point = cai.Point(torch.tensor([2, 0]), 3)
    support = point.enumerate_support()
    assert support.shape == (3, 2)
    torch.testing.assert_close(point.log_prob(support).exp().sum(0), torch.ones(2))
    assert point.sample((5,)).shape == (5, 2)
    assert point.expand((4, 2)).batch_shape == (4, 2)


def test_infinite_horizon_has_no_trajectory() -> None:
    with pytest.raises(cai.WorldError, match="finite horizon"):
        cai.trajectory(RandomWorld(seed=0, S=2, A=2, K=2, horizon=None, discount=0.9))

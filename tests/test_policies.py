"""Policies: one interface, tables and programs that say the same, whatever the policy is made of."""

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import distributions as dist
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

import cai
from tests.helpers import examples, slow_after
from tests.worlds import FactoredWorld, PointMass, RandomWorld, Ring, TimedWorld, random_worlds

pytestmark = pytest.mark.usefixtures("float64")


def shaken(policy: nn.Module, seed: int = 0) -> nn.Module:
    """Give a policy random parameters."""
    g = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        parameter.data = torch.randn(parameter.shape, generator=g, dtype=parameter.dtype)
    return policy


def softmax_by_time(world):
    sizes = cai.tabulate(world).actions.size

    def probs(state, t):
        shape = (state["floor"] if isinstance(state, dict) else state).shape
        return torch.softmax(torch.arange(sizes) * 0.3 * (t + 1) * torch.ones((*shape, 1)), -1)

    return probs


def policies(world) -> dict[str, nn.Module]:
    """One of each kind, with random parameters."""
    made = {
        "tabular": shaken(cai.policies.TabularPolicy(world), 1),
        "stationary": shaken(cai.policies.TabularPolicy(world, stationary=True), 2),
        "neural": shaken(cai.policies.NeuralPolicy(world, hidden=(5, 4)), 3),
        "neural on tables": shaken(cai.policies.NeuralPolicy(cai.tabulate(world), hidden=(5,)), 4),
        "neural stationary": shaken(cai.policies.NeuralPolicy(world, hidden=(5,), stationary=True), 5),
        "function": cai.policies.FunctionPolicy(world, softmax_by_time(world)),
    }
    parts = [made["tabular"], made["neural"], cai.solve(cai.tabulate(world)).policy]
    return {**made, "mixture": cai.policies.MixturePolicy(parts, [0.2, 0.3, 0.5])}


KINDS = ("tabular", "stationary", "neural", "neural on tables", "neural stationary", "function", "mixture")
WORLDS = {
    "plain": lambda: RandomWorld(3, 3, 2, 2, 3, holes=False),
    "dying": lambda: TimedWorld(4, 3, 2, 2, 3, holes=False, discount=0.8),
    "factored": FactoredWorld,
}


class DyingFactoredWorld(FactoredWorld):
    """Two action variables and a discount: after death both follow the prior, the second given the first."""

    discount = 0.7


WORLDS["dying factored"] = DyingFactoredWorld


@pytest.mark.parametrize("name", slow_after(1, ["dying factored", "dying", "plain", "factored"]))
@pytest.mark.parametrize("kind", KINDS)
def test_the_program_and_the_tables_say_the_same(name: str, kind: str) -> None:
    world = WORLDS[name]()
    policy = policies(world)[kind]
    exact = cai.evaluate(world, policy)
    torch.testing.assert_close(exact.log_policy.exp().sum(-1), torch.ones(exact.log_policy.shape[:-1]))
    guide = config_enumerate(cai.trajectory(world, policy))
    by_program = -TraceEnum_ELBO(max_plate_nesting=0).loss(cai.trajectory(world), guide)
    assert exact.elbo == pytest.approx(by_program, abs=1e-10)


@pytest.mark.parametrize("name", ["plain", "factored"])
@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_reads_the_table_and_sample_follows_it(name: str, kind: str) -> None:
    world, n, t = WORLDS[name](), 20_000, 1
    policy, tables = policies(world)[kind], cai.tabulate(world)
    states, actions = tables.states, tables.actions
    assert isinstance(policy, cai.policies.protocol.FinitePolicy)
    table = policy.log_probs(t).detach()
    s, a = torch.arange(states.size).unsqueeze(-1), torch.arange(actions.size)
    with torch.no_grad():
        scored = policy.log_prob(states.pack(states.split(s)), actions.pack(actions.split(a)), t)
    torch.testing.assert_close(scored.expand(table.shape), table)

    torch.manual_seed(0)
    with torch.no_grad():
        drawn = policy.sample(states.pack(states.split(torch.full((n,), states.size - 1))), t)
    share = torch.bincount(actions.join(actions.unpack(drawn)), minlength=actions.size) / n
    truth = table[-1].exp()
    assert bool(((share - truth).abs() <= 5 * (truth * (1 - truth) / n).sqrt() + 1e-12).all())


@examples(8)
@given(random_worlds())
def test_at_zero_a_policy_is_the_prior_and_what_is_forbidden_stays_so(world: RandomWorld) -> None:
    for policy in (cai.policies.TabularPolicy(world), cai.policies.NeuralPolicy(world, hidden=(4,))):
        for t in range(world.horizon):
            torch.testing.assert_close(policy.probs(t).detach(), world.prior[world.time(t)])
        shaken(policy)
        for t in range(world.horizon):
            assert bool((policy.probs(t)[world.prior[world.time(t)] == 0] == 0).all())


@examples(8)
@given(random_worlds(holes=False), st.integers(0, 1000))
def test_all_times_at_once_equal_time_by_time(world: RandomWorld, seed: int) -> None:
    tables = cai.tabulate(world)
    for policy in (
        cai.policies.TabularPolicy(world),
        cai.policies.NeuralPolicy(world, hidden=(4,)),
        cai.policies.NeuralPolicy(tables, hidden=(4,)),
    ):
        shaken(policy, seed)
        by_time = torch.stack([policy.log_probs(t) for t in range(world.horizon)])
        torch.testing.assert_close(policy.log_table().expand(by_time.shape), by_time, rtol=0, atol=1e-14)


def test_a_mixture_is_the_weighted_sum_and_its_weights_can_be_fitted() -> None:
    world = FactoredWorld()
    one, two = shaken(cai.policies.TabularPolicy(world), 1), shaken(cai.policies.NeuralPolicy(world, hidden=(4,)), 2)
    mixed = cai.policies.MixturePolicy([one, two], [1.0, 3.0])
    torch.testing.assert_close(mixed.probs(2), 0.25 * one.probs(2) + 0.75 * two.probs(2))
    best = cai.solve(world, cai.VARIATIONAL).policy
    parts = cai.policies.MixturePolicy([best, cai.policies.FunctionPolicy(world, softmax_by_time(world))])
    found = cai.fit(world, parts, steps=400, tolerance=1e-4)
    assert found.stopped == "gap"
    assert float(parts.logits.softmax(-1)[0].detach()) > 0.98
    for wrong in ([], [1.0]):
        with pytest.raises(cai.WorldError, match="mixture"):
            cai.policies.MixturePolicy(wrong)
    with pytest.raises(cai.WorldError, match="positive"):
        cai.policies.MixturePolicy([one, two], [1.0, 0.0])


def test_a_function_may_give_probabilities_a_distribution_or_a_dict() -> None:
    world = FactoredWorld()
    logits = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))

    def by_variable(state, t):
        return {
            "lift": dist.Categorical(logits=logits[state["floor"], 0]),
            "push": dist.Bernoulli(torch.full_like(state["door"] * 1.0, 0.3)),
        }

    policy = cai.policies.FunctionPolicy(world, by_variable)
    table = policy.probs(0).reshape(3, 2, 2, 2)
    torch.testing.assert_close(table[..., 1].sum(-1), torch.full((3, 2), 0.3))
    torch.testing.assert_close(table.sum(-1)[:, 0], logits[:, 0].softmax(-1))
    single = cai.policies.FunctionPolicy(PointMass(), lambda state, t: dist.Normal(-state, 0.5))
    assert float(single.log_prob(torch.tensor(1.0), torch.tensor(-1.0))) == pytest.approx(-0.2257913526, abs=1e-9)
    ring = cai.policies.FunctionPolicy(
        Ring(), lambda state, t: torch.ones((*state["m0"].shape, 3)) / 3
    )  # needs no table
    assert cai.elbo(Ring(), ring, samples=10).method == "sampling"
    with pytest.raises(cai.WorldError, match="each of"):
        cai.policies.FunctionPolicy(world, lambda state, t: {"lift": dist.Categorical(logits=torch.zeros(2))}).probs(0)
    with pytest.raises(cai.WorldError, match="t = 1: ZeroDivisionError"):
        cai.policies.FunctionPolicy(world, lambda state, t: 1 / 0).probs(1)
    with pytest.raises(cai.WorldError, match="expected a function"):
        cai.policies.FunctionPolicy(world, lambda state, t: "left").sample(world.initial())
    with pytest.raises(cai.IntractableError, match="finite"):
        single.probs(0)


@pytest.mark.parametrize("bounded", [False, True])
def test_a_continuous_policy_is_a_density_on_the_prior_s_support(bounded: bool) -> None:
    policy = shaken(cai.policies.NeuralPolicy(PointMass(bounded), hidden=(4,)))
    with torch.no_grad():
        low, high = (-1 + 1e-9, 1 - 1e-9) if bounded else (-60.0, 60.0)
        grid = torch.linspace(low, high, 200_001)
        density = policy.log_prob(torch.tensor(0.3), grid, 2).exp()
        inside = density.isfinite()
        assert float(torch.trapezoid(density[inside], grid[inside])) == pytest.approx(1.0, abs=2e-3)
        torch.manual_seed(0)
        drawn = policy.sample(torch.full((50_000,), 0.3), 2)
        assert bool(policy.log_prob(torch.tensor(0.3), drawn, 2).isfinite().all())
        if bounded:
            assert bool((drawn.abs() < 1).all())
        mean = torch.trapezoid((density * grid)[inside], grid[inside])
        assert float(drawn.mean()) == pytest.approx(float(mean), abs=5 * float(drawn.std()) / 50_000**0.5 + 1e-3)


def test_a_new_gaussian_policy_is_the_prior() -> None:
    policy = cai.policies.NeuralPolicy(PointMass())
    u = torch.linspace(-2, 2, 5)
    ours = policy.log_prob(torch.tensor(0.7), u, 1).detach()
    torch.testing.assert_close(ours, dist.Normal(torch.zeros(5), 1.0).log_prob(u))


class Plane(PointMass):
    """The same in the plane: vectors, and a prior that depends on a weather of two kinds."""

    def initial(self):
        return {
            "x": pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1)),
            "calm": pyro.sample("calm", dist.Bernoulli(torch.tensor(0.5))),
        }

    def act(self, state, t):
        loc = torch.zeros_like(state["x"])
        push = pyro.sample("push", dist.Normal(loc, 1.0 + state["calm"].unsqueeze(-1)).to_event(1))
        return {"push": push, "shout": pyro.sample("shout", dist.Bernoulli(torch.full_like(state["calm"], 0.5)))}

    def step(self, state, action, t):
        x = pyro.sample("x", dist.Normal(state["x"] + action["push"], 0.1).to_event(1))
        calm = pyro.sample("calm", dist.Bernoulli(0.8 * state["calm"] + 0.1 + 0 * action["shout"]))
        return {"x": x, "calm": calm}, -x.square().sum(-1)


def test_vectors_and_mixed_variables() -> None:
    world = Plane()
    policy = shaken(cai.policies.NeuralPolicy(world, hidden=(6,)))
    with pyro.plate("n", 100):
        trace = pyro.poutine.trace(cai.trajectory(world, policy)).get_trace()
    assert trace.nodes["push_0"]["value"].shape == (100, 2)
    assert trace.nodes["shout_3"]["value"].shape == (100,)
    estimate = cai.elbo(world, policy, samples=500)
    assert estimate.method == "sampling"
    assert estimate.standard_error > 0


def test_features_replace_the_encoding() -> None:
    world = RandomWorld(0, 3, 2, 2, 3, holes=False)
    policy = cai.policies.NeuralPolicy(
        world, hidden=(4,), features=lambda s, t: torch.stack([s / 3.0, s * 0 + t / 3.0], -1)
    )
    assert cai.evaluate(world, policy).kl_to_prior == pytest.approx(0.0, abs=1e-12)
    found = cai.fit(world, policy, steps=20)
    assert found.history[-1].elbo > found.history[0].elbo


def test_what_cannot_be_a_policy_says_so() -> None:
    class HalfLine(PointMass):
        def act(self, state, t):
            return pyro.sample("u", dist.Exponential(torch.ones_like(state)))

    with pytest.raises(cai.WorldError, match="interval"):
        cai.policies.NeuralPolicy(HalfLine()).sample(torch.tensor(1.0))
    with pytest.raises(cai.IntractableError, match="entries"):
        cai.policies.NeuralPolicy(Ring()).probs(0)
    with pytest.raises(cai.IntractableError):
        cai.policies.TabularPolicy(Ring())
    world = RandomWorld(0, 3, 2, 2, 3, holes=False)
    with pytest.raises(cai.WorldError, match="each action site, 'push' too"):
        cai.policies.NeuralPolicy(FactoredWorld()).log_prob(FactoredWorld().initial(), {"lift": torch.tensor(0)})
    with pytest.raises(cai.WorldError, match="horizon"):
        cai.evaluate(RandomWorld(0, 3, 2, 2, 2, holes=False), cai.policies.TabularPolicy(world))
    with pytest.raises(cai.WorldError, match=r"shape \[3\]; .* one action a state torch.eye\(2\)\[actions\]"):
        cai.evaluate(world, torch.tensor([0, 1, 1]))
    with pytest.raises(cai.WorldError, match=r"sum to 1; of action values cai.from_q makes a policy"):
        cai.evaluate(world, torch.tensor([[0.2, 0.9], [0.1, 0.3], [0.0, 0.5]]))


def test_a_policy_of_a_wrong_shape_is_named_by_the_shape_that_was_given() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=2)
    with pytest.raises(cai.WorldError, match=r"policy: a tensor of shape \[5, 16, 4\]"):
        cai.evaluate(lake, torch.full((5, 16, 4), 0.25))

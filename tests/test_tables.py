"""tabulate: shapes, order, sparsity, refusals, time, precision, dropping what cannot be reached."""

import pyro
import pytest
import torch
from hypothesis import given
from pyro.distributions import Bernoulli, Binomial, Categorical, Normal

import cai
from tests.helpers import examples
from tests.worlds import FactoredWorld, RandomWorld, TimedWorld, random_worlds


@examples(12)
@given(random_worlds())
def test_tables_are_the_numbers_the_world_was_written_with(world: RandomWorld) -> None:
    tables = cai.tabulate(world)
    lead = (world.horizon,) if tables.timed else ()
    shape = (*lead, world.S, world.A, world.K)

    def fit(x: torch.Tensor) -> torch.Tensor:
        return x if tables.timed else x[0]

    assert tables.log_prob.shape == shape
    torch.testing.assert_close(tables.log_prob.exp(), fit(world.outcome), rtol=0, atol=1e-15)
    assert torch.equal(tables.successor, fit(world.successor).reshape(shape))
    assert torch.equal(tables.reward, fit(world.reward))
    torch.testing.assert_close(tables.log_prior.exp(), fit(world.prior), rtol=0, atol=1e-15)
    torch.testing.assert_close(tables.log_initial.exp(), world.start, rtol=0, atol=1e-15)


def test_factored_states_are_numbered_row_major_in_sampling_order() -> None:
    tables = cai.tabulate(FactoredWorld())
    assert tables.states.names == ("floor", "door")
    assert tables.log_prob.shape == (6, 4, 4)
    for number in range(6):
        assert tables.state(number) == {"floor": number // 2, "door": number % 2}
        assert tables.index(**tables.state(number)) == number
    world = FactoredWorld()
    floor, door, lift, push, wind = 2, 1, 1, 0, 1
    s, a = tables.index(floor=floor, door=door), lift * 2 + push
    up = (floor + lift + wind) % 3
    for door_next in range(2):
        k = wind * 2 + door_next
        assert int(tables.successor[s, a, k]) == up * 2 + door_next
        log_p = world.wind[wind] + world.door[up, door, push, door_next]
        assert float(tables.log_prob[s, a, k]) == pytest.approx(float(log_p), abs=1e-15)
        assert float(tables.reward[s, a, k]) == float(world.pay[floor, door, lift, push, wind, up, door_next])


@pytest.mark.parametrize(
    ("values", "words"),
    [({"floor": 1}, "variables"), ({"floor": 5, "door": 0}, "value 5"), ({"x": 0}, "no variable 'x'")],
)
def test_a_wrong_index_is_named(values: dict, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.tabulate(FactoredWorld()).index(**values)


def test_time_is_kept_only_where_it_matters() -> None:
    stationary = RandomWorld(seed=0, S=3, A=2, K=2, horizon=4, holes=False)
    assert not cai.tabulate(stationary).timed
    assert cai.tabulate(TimedWorld(seed=0, S=3, A=2, K=2, horizon=4, holes=False)).timed

    class Pretends(RandomWorld):
        def step(self, state, action, t):
            return self._slice(state, action, 0 * t)

    assert not cai.tabulate(Pretends(seed=0, S=3, A=2, K=2, horizon=4)).timed


def test_a_parameter_of_each_time_keeps_its_own_gradient_even_where_values_agree() -> None:
    reward = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    class Paid(RandomWorld):
        def step(self, state, action, t):
            following, _ = self._slice(state, action, 0)
            return following, reward[t].expand(following.shape)

    cai.solve(Paid(seed=0, S=2, A=2, K=2, horizon=3, holes=False)).log_evidence.backward()
    torch.testing.assert_close(reward.grad, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("written", ["t", "wrapped", "lambda", "closure", "locals"])
def test_any_way_to_read_the_time_is_seen(written: str) -> None:
    import functools

    class World(RandomWorld):
        pass

    def late(self, state, action, when):
        following, reward = self._slice(state, action, 0)
        return following, reward - when

    ways = {
        "t": lambda self, state, action, t: late(self, state, action, t),
        "wrapped": functools.wraps(late)(lambda *args: late(*args)),
        "lambda": lambda self, state, action, t: (lambda u=t: late(self, state, action, u))(),
        "closure": lambda self, state, action, t: (lambda: late(self, state, action, t))(),
        "locals": lambda self, state, action, t: late(self, state, action, locals()["t"]),
    }
    World.step = ways[written]
    assert cai.tabulate(World(seed=0, S=2, A=2, K=2, horizon=3)).timed


def test_a_claim_to_be_stationary_is_believed_and_checked() -> None:
    class Claims(RandomWorld):
        stationary = True
        drift = 0.0

        def step(self, state, action, t):
            following, reward = self._slice(state, action, 0)
            return following, reward + self.drift * t

    endless = Claims(seed=0, S=2, A=2, K=2, horizon=None, discount=0.9, positive=False)
    assert cai.solve(endless).v.shape == (2,)
    liar = Claims(seed=0, S=2, A=2, K=2, horizon=3)
    liar.drift = 1.0
    with pytest.raises(cai.WorldError, match="stationary: True, but reward differs over time"):
        cai.tabulate(liar)
    with pytest.raises(cai.WorldError, match="stationary: True, but slices differ over time"):
        cai.factorise(liar)


def test_unreachable_states_are_dropped_on_request_only() -> None:
    world = RandomWorld(seed=0, S=3, A=2, K=2, horizon=3, holes=False)
    world.start = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    world.successor = world.successor.clamp(min=1, max=1)
    whole, kept = cai.tabulate(world), cai.tabulate(world, reachable=True)
    assert whole.states.size == 3
    assert kept.states.kept.tolist() == [1]
    assert kept.state(0) == {"s": 1}
    assert kept.index(s=1) == 0
    with pytest.raises(cai.WorldError, match="dropped"):
        kept.index(s=2)
    assert float(cai.solve(kept).log_evidence) == pytest.approx(float(cai.solve(whole).log_evidence), abs=1e-14)
    policy = cai.solve(kept).policy
    pyro.poutine.trace(cai.trajectory(world, policy)).get_trace()


def test_what_a_forbidden_action_reaches_is_kept_for_who_forces_it() -> None:
    """Three states in a row pay -1, -2 and -13 a step; the action that leads on, from s to s + 1, is forbidden."""
    world = RandomWorld(seed=0, S=4, A=2, K=1, horizon=3, holes=False)
    world.start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    world.prior[0] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    world.successor[0, :, :, 0] = torch.tensor([[0, 1], [1, 2], [2, 2], [3, 3]])
    world.reward[0, :, :, 0] = torch.tensor([-1.0, -2.0, -13.0, 0.0], dtype=torch.float64)[:, None]
    world.last = torch.zeros(4, dtype=torch.float64)
    kept = cai.tabulate(world, reachable=True)
    assert kept.states.kept.tolist() == [0, 1, 2]
    assert float(cai.solve(kept, do={"a_0": 1, "a_1": 1}).log_evidence) == -16.0
    assert float(cai.solve(kept).log_evidence) == -3.0
    assert cai.solve(kept).q(0)[0].tolist() == [-3.0, -1.0 - 2.0 - 2.0]
    forward = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(3, 3, 2)
    with torch.no_grad():
        assert cai.evaluate(kept, forward).expected_return == -16.0


def test_large_tables_are_refused_before_they_are_allocated() -> None:
    class Huge:
        horizon = 3

        def initial(self):
            return {f"s{i}": pyro.sample(f"s{i}", cai.Point(torch.tensor(0), 10)) for i in range(9)}

        def act(self, state, t):
            return pyro.sample("a", Categorical(logits=torch.zeros(3).expand(*state["s0"].shape, 3)))

        def step(self, state, action, t):
            return {name: pyro.sample(name, cai.Point(value, 10)) for name, value in state.items()}, 0.0 * action

    with pytest.raises(cai.IntractableError, match=r"1,000,000,000 states.*bytes"):
        cai.tabulate(Huge())


def test_float32_worlds_are_normalised_again_in_float64() -> None:
    class Coarse(RandomWorld):
        def step(self, state, action, t):
            p = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float32)
            k = pyro.sample("k", Categorical(p))
            return pyro.sample("s", cai.Point((state + action + k) % 2, 2)), -1.0 * k

    tables = cai.tabulate(Coarse(seed=0, S=2, A=2, K=3, horizon=2))
    torch.testing.assert_close(
        tables.log_prob.logsumexp(-1), torch.zeros(2, 2, dtype=torch.float64), rtol=0, atol=1e-15
    )
    single = cai.tabulate(Coarse(seed=0, S=2, A=2, K=3, horizon=2), dtype=torch.float32)
    assert single.log_prob.dtype == torch.float32
    ours, exact = cai.solve(single).log_evidence, cai.solve(tables).log_evidence
    assert ours.dtype == torch.float32
    assert float(ours) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("fn", ["categorical", "bernoulli", "binomial"])
def test_a_probability_of_zero_is_zero(fn: str) -> None:
    """torch clamps probs to 2e-16 before the logarithm; at a low temperature that miracle would win."""

    class Sure(RandomWorld):
        def step(self, state, action, t):
            made = {
                "categorical": Categorical(torch.tensor([1.0, 0.0])),
                "bernoulli": Bernoulli(torch.tensor(0.0)),
                "binomial": Binomial(1, torch.tensor(0.0)),
            }[fn]
            k = pyro.sample("k", made)
            return pyro.sample("s", cai.Point(state, 2)), 1000.0 * k

    tables = cai.tabulate(Sure(seed=0, S=2, A=2, K=2, horizon=3, holes=False))
    assert bool((tables.log_prob[..., 1] == -torch.inf).all())
    world = Sure(seed=0, S=2, A=2, K=2, horizon=3, holes=False)
    world.last *= 0
    assert float(cai.solve(world, temperature=0.01).log_evidence) == pytest.approx(0.0, abs=1e-12)


def test_a_continuous_site_is_intractable() -> None:
    class Noisy(RandomWorld):
        def step(self, state, action, t):
            pyro.sample("noise", Normal(0.0, 1.0))
            return self._slice(state, action, 0)

    with pytest.raises(cai.IntractableError, match=r"noise.*Normal"):
        cai.tabulate(Noisy(seed=0, S=2, A=2, K=2, horizon=2))


def test_tabulating_draws_nothing_from_the_callers_stream() -> None:
    pyro.set_rng_seed(0)
    first = torch.rand(1)
    pyro.set_rng_seed(0)
    cai.solve(RandomWorld(seed=0, S=2, A=2, K=2, horizon=2))
    assert torch.equal(torch.rand(1), first)
    assert torch.get_default_dtype() == torch.float32

"""evaluate and compare: every nat accounted for, against enumeration and as laws."""

import csv
import io
import json
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import cai
from tests.helpers import examples
from tests.oracles import enumeration as oracle
from tests.worlds import RandomWorld, random_worlds, temperatures

many = examples(20)


def random_policy(world: RandomWorld, seed: int) -> torch.Tensor:
    """A random time-dependent policy that respects the prior's support."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand((world.horizon, world.S, world.A), generator=g, dtype=torch.float64) + 0.01
    weights = weights * (world.prior.expand(world.horizon, -1, -1) > 0)
    return weights / weights.sum(-1, keepdim=True)


@many
@given(random_worlds(), temperatures, st.integers(0, 2**31 - 1))
def test_elbo_equals_enumeration(world: RandomWorld, alpha: float, seed: int) -> None:
    policy = random_policy(world, seed)
    truth = oracle.elbo(world, policy.tolist(), alpha)
    ours = cai.evaluate(world, policy, temperature=alpha).elbo
    assert ours == truth if math.isinf(truth) else ours == pytest.approx(truth, rel=1e-10, abs=1e-10)


@many
@given(random_worlds(), temperatures, st.integers(0, 2**31 - 1))
def test_both_decompositions_hold_for_any_policy(world: RandomWorld, alpha: float, seed: int) -> None:
    assume(oracle.value(world, "VARIATIONAL", alpha) > -math.inf)
    tables = cai.tabulate(world)
    rules = [cai.solve(tables, rule, temperature=alpha) for rule in (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP)]
    for policy in (None, random_policy(world, seed), *rules):
        one = cai.evaluate(tables, policy, temperature=alpha)
        assume(one.elbo > -math.inf)
        scale = max(1.0, abs(one.elbo))
        assert abs(float(one.policy_nats.sum()) - one.optimality_gap) <= 1e-9 * scale
        total = one.start_nats + float(one.action_nats.sum()) + float(one.luck_nats.sum())
        assert abs(total - one.evidence_gap) <= 1e-9 * scale
        assert bool((one.policy_nats >= -1e-12).all())
        assert bool((one.luck_nats >= -1e-12).all())
        assert one.optimality_gap >= -1e-9 * scale


@many
@given(random_worlds(holes=False), temperatures, st.integers(0, 2**31 - 1))
def test_no_policy_beats_the_variational_optimum(world: RandomWorld, alpha: float, seed: int) -> None:
    best = float(cai.solve(world, cai.VARIATIONAL, temperature=alpha).elbo)
    assert oracle.elbo(world, random_policy(world, seed).tolist(), alpha) <= best + 1e-9


def test_luck_is_zero_without_chance() -> None:
    world = RandomWorld(seed=8, S=3, A=2, K=1, horizon=3, holes=False)
    assert float(cai.evaluate(world, cai.solve(world)).luck_nats.abs().sum()) < 1e-12


def test_a_deterministic_world_with_random_start_keeps_exactly_its_start_nats() -> None:
    world = RandomWorld(seed=8, S=3, A=2, K=1, horizon=3, holes=False)
    one = cai.evaluate(world, cai.solve(world))
    p, q = world.start, cai.solve(world).initial()
    assert one.evidence_gap == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-12)


def test_a_forbidden_action_costs_infinitely_many_nats() -> None:
    world = RandomWorld(seed=1, S=2, A=2, K=1, horizon=2, holes=False)
    world.prior[0, :, 0], world.prior[0, :, 1] = 0.0, 1.0
    one = cai.evaluate(world, torch.full((2, 2), 0.5))
    assert one.elbo == -math.inf
    assert one.optimality_gap == math.inf
    assert float(one.policy_nats.sum()) == math.inf


def test_every_kind_of_policy_says_the_same() -> None:
    world = RandomWorld(seed=2, S=3, A=2, K=2, horizon=3, holes=False)
    table = cai.solve(world).policy.probs(0)

    class Actor:
        def act(self, state, t):
            import pyro

            return pyro.sample("a", pyro.distributions.Categorical(probs=table[state]))

    forms = [table, table.numpy(), table.tolist(), table.expand(3, 3, 2), lambda state, t: table[state], Actor()]
    numbers = {round(cai.evaluate(world, form).elbo, 12) for form in forms}
    assert len(numbers) == 1
    assert cai.evaluate(world, cai.HARD).elbo == cai.evaluate(world, cai.solve(world, cai.HARD)).elbo


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (torch.ones(3, 3) / 3, r"shape \[3, 3\]"),
        (torch.ones(3, 2), "sum to 1"),
        (torch.tensor([[1.5, -0.5]]).expand(3, 2), "at least 0"),
        (lambda state, t: [0.5, 0.5], "a list"),
        (lambda state, t: torch.tensor([0.2, 0.2]), "sum to 1"),
        ("greedy", "a str"),
    ],
)
def test_a_wrong_policy_is_named(policy, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.evaluate(RandomWorld(seed=2, S=3, A=2, K=2, horizon=3, holes=False), policy)


class Logs:
    """A policy that answers with a given table."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    def log_probs(self, t: int = 0) -> torch.Tensor:
        return self.table

    def probs(self, t: int = 0) -> torch.Tensor:
        return self.table.exp()

    def act(self, state, t):
        raise AssertionError("a table needs no program")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (torch.full((3, 2), torch.nan), "nan"),
        (torch.zeros(3, 2), "sum to 1"),
        (torch.zeros(1, 2).log_softmax(-1), r"shape \[1, 2\]"),
        (torch.zeros(3, 3, 2).log_softmax(-1), r"shape \[3, 3, 2\]"),
    ],
)
def test_no_form_of_policy_slips_past_the_gate(table: torch.Tensor, words: str) -> None:
    """A diverged network must not come out on top with a score of 0."""
    world = RandomWorld(seed=2, S=3, A=2, K=2, horizon=3, holes=False)
    with pytest.raises(cai.WorldError, match=words):
        cai.evaluate(world, Logs(table))


def test_messages_of_another_world_or_of_a_batch_are_refused() -> None:
    def world(S: int, T: int) -> RandomWorld:
        return RandomWorld(seed=2, S=S, A=2, K=2, horizon=T, holes=False)

    with pytest.raises(cai.WorldError, match="for the horizon 5"):
        cai.evaluate(world(3, 3), cai.solve(world(3, 5)))
    with pytest.raises(cai.WorldError, match=r"shape \[1, 2\]"):
        cai.evaluate(world(3, 3), cai.solve(world(1, 3)))
    with pytest.raises(cai.WorldError, match=r"shape \[3, 3, 2\]"):
        cai.evaluate(world(3, 3), cai.solve(world(3, 3), temperature=[0.5, 1.0, 2.0]))


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_policys_own_value_is_its_elbo_from_every_state(discount: float) -> None:
    for horizon in (3, None):
        if horizon is None and discount == 1.0:
            continue
        world = RandomWorld(seed=2, S=3, A=2, K=2, horizon=horizon, holes=False, discount=discount, positive=False)
        one = cai.evaluate(world, cai.solve(world, cai.POSTERIOR, temperature=0.5), temperature=0.5)
        v_0 = one.v if horizon is None else one.v[0]
        assert float(world.start @ v_0) / 0.5 == pytest.approx(one.elbo, abs=1e-12)


def test_comparison_tells_the_same_in_table_csv_and_json(tmp_path) -> None:
    world = RandomWorld(seed=2, S=3, A=2, K=2, horizon=3, holes=False)
    found = cai.compare(world, {"post": cai.POSTERIOR, "prior": None}, temperature=0.5)
    assert found.log_evidence == pytest.approx(oracle.log_evidence(world, 0.5), abs=1e-12)
    assert found.rows[1].kl_to_prior == 0.0
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["name"] for row in rows] == ["post", "prior"]
    assert float(rows[0]["elbo"]) == found.rows[0].elbo
    told = json.loads(found.json())
    assert told["rows"][0]["luck_nats"] == found.rows[0].luck_nats
    assert found.table().splitlines()[0].split()[0] == "policy"
    found.save(tmp_path / "deep" / "folder")
    assert sorted(p.name for p in (tmp_path / "deep" / "folder").iterdir()) == ["comparison.csv", "comparison.json"]


def test_a_comparison_survives_an_elbo_of_minus_infinity() -> None:
    world = RandomWorld(seed=2, S=2, A=1, K=2, horizon=1, holes=False)
    world.start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    world.reward[0, 0, 0] = torch.tensor([-torch.inf, -1.0])
    found = cai.compare(world, {"posterior": cai.POSTERIOR})
    assert found.elbo_star is None
    assert found.rows[0].optimality_gap is None
    assert found.log_evidence == pytest.approx(oracle.log_evidence(world, 1.0), abs=1e-12)
    assert found.rows[0].evidence_gap == math.inf
    json.loads(found.json())

"""The types of inference: marginal MAP against every sequence, the chain of bounds, and one world that tells them."""

import math
from itertools import pairwise

import pyro
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.exact.marginal_map import block_bounds
from tests.helpers import examples, load_model
from tests.oracles import enumeration as oracle
from tests.worlds import FactoredWorld, RandomWorld, random_worlds, temperatures

TOLERANCE = 1e-9
NAMES = ["MAP trajectory", "marginal MAP", "planning", "variational", "posterior"]
many = examples(40)
without_end = random_worlds(discount=1.0)


def agrees(ours: float, truth: float) -> bool:
    return ours == truth if math.isinf(truth) else abs(ours - truth) <= TOLERANCE * max(1.0, abs(truth))


def possible(world: RandomWorld, alpha: float) -> bool:
    return oracle.log_evidence(world, alpha) > -math.inf


class TestMarginalMap:
    @many
    @given(without_end, temperatures)
    def test_it_is_the_best_of_all_sequences(self, world: RandomWorld, alpha: float) -> None:
        if not possible(world, alpha):
            with pytest.raises(cai.ImpossibleError, match="evidence is zero"):
                cai.marginal_map(world, temperature=alpha)
            return
        scores = oracle.marginal_map(world, alpha)
        found = cai.marginal_map(world, temperature=alpha)
        assert agrees(found.log_score, max(scores.values()))
        assert agrees(scores[tuple(found.actions.tolist())], max(scores.values()))
        assert agrees(found.log_evidence, oracle.log_evidence(world, alpha))

    @many
    @given(without_end, temperatures)
    def test_its_bounds_hold_whatever_the_block(self, world: RandomWorld, alpha: float) -> None:
        assume(possible(world, alpha))
        truth = max(oracle.marginal_map(world, alpha).values())
        tables = cai.tabulate(world)
        planning = float(cai.solve(tables, cai.PLANNING, temperature=alpha).value) / alpha
        with pytest.MonkeyPatch.context() as patch:
            for entries, exact in ((1, False), (10**6, True)):  # blocks of one action, and of all
                patch.setattr("cai.exact.marginal_map._ENTRIES", entries)
                bound = block_bounds(tables, torch.tensor(alpha, dtype=torch.float64))[0]
                root = float((tables.log_initial.unsqueeze(-1) + bound).logsumexp(0).max())
                assert (
                    truth - TOLERANCE * max(1.0, abs(truth)) <= root <= planning + TOLERANCE * max(1.0, abs(planning))
                )
                assert not exact or agrees(root, truth)
                assert agrees(cai.marginal_map(tables, temperature=alpha).log_score, truth)

    @pytest.mark.slow
    @many
    @given(random_worlds(K=1, discount=1.0), temperatures)
    def test_where_nothing_is_luck_it_is_map_and_needs_no_search(self, world: RandomWorld, alpha: float) -> None:
        world.start = torch.eye(world.S, dtype=torch.float64)[0]
        assume(possible(world, alpha))
        found = cai.marginal_map(world, temperature=alpha)
        best = cai.solve(world, cai.MAP, temperature=alpha)
        assert agrees(found.log_score, float(best.value) / alpha)
        assert found.nodes == world.horizon
        assert agrees(
            oracle.marginal_map(world, alpha)[tuple(best.most_probable().actions[0].tolist())], found.log_score
        )

    @pytest.mark.parametrize(("name", "arguments"), [("cliff_walking", {}), ("frozen_lake", {"is_slippery": False})])
    def test_ties_are_not_searched(self, name: str, arguments: dict[str, bool]) -> None:
        # Every shortest path is as good as any other, and so is every way to idle after it.
        world = load_model(name)(horizon=30, **arguments)
        assert cai.marginal_map(world, temperature=0.1).nodes == 30

    @pytest.mark.parametrize("alpha", [1e-4, 1e4])
    def test_cold_and_deep_it_neither_underflows_nor_approximates(self, alpha: float) -> None:
        world = RandomWorld(3, S=3, A=3, K=2, horizon=5)
        scores = oracle.marginal_map(world, alpha)
        found = cai.marginal_map(world, temperature=alpha)
        assert agrees(found.log_score, max(scores.values()))
        assert agrees(scores[tuple(found.actions.tolist())], found.log_score)

    def test_too_many_nodes_are_refused_with_the_bound(self) -> None:
        world = load_model("frozen_lake")(horizon=20)
        exact = cai.marginal_map(world)
        with pytest.raises(cai.IntractableError, match=r"4\^20 sequences; the best bound so far is -27\.6") as caught:
            cai.marginal_map(world, max_nodes=exact.nodes - 1)
        (finding,) = caught.value.findings
        bound = float(finding.seen.split(" is ")[1].split(" nats")[0])
        assert finding.where == f"marginal_map, max_nodes = {exact.nodes - 1}"
        assert exact.log_score <= bound + TOLERANCE
        assert cai.marginal_map(world, max_nodes=exact.nodes).log_score == exact.log_score

    def test_what_has_no_answer_is_refused_in_words(self) -> None:
        lake = load_model("frozen_lake")
        with pytest.raises(cai.WorldError, match=r"discount: 0\.9; expected 1"):
            cai.marginal_map(lake(horizon=5, discount=0.9))
        with pytest.raises(cai.WorldError, match="an infinite horizon"):
            cai.marginal_map(lake(horizon=None, discount=0.9))
        with pytest.raises(cai.WorldError, match="one temperature"):
            cai.marginal_map(lake(horizon=5), temperature=torch.tensor([1.0, 2.0]))
        for wrong in (0, 2.5, True, "many"):
            with pytest.raises(cai.WorldError, match="max_nodes"):
                cai.marginal_map(lake(horizon=5), max_nodes=wrong)
            with pytest.raises(cai.WorldError, match="max_nodes"):
                cai.inference_types(lake(horizon=5), max_nodes=wrong)

    def test_it_speaks_of_named_actions_and_acts(self) -> None:
        found = cai.marginal_map(FactoredWorld(), temperature=0.5)
        assert found.labels == tuple(found.tables.actions.label(a) for a in found.actions.tolist())
        assert found.labels[0].startswith("lift=")
        assert "log_score=" in repr(found)
        for t, a in enumerate(found.actions.tolist()):
            assert bool((found.policy.probs(t)[:, a] == 1).all())
        assert cai.evaluate(found.tables, found, temperature=0.5).entropy == 0


def elbo(world: RandomWorld, policy: cai.policies.protocol.FinitePolicy, alpha: float) -> float:
    """ELBO(π) by enumeration; -inf where the policy leaves the prior's paths, which are all that the oracle lists."""
    table = [policy.probs(t).tolist() for t in range(world.horizon)]
    share = sum(
        math.exp(path.log_dynamics) * math.prod(table[t][s][a] for t, (s, a, _) in enumerate(path.visits))
        for path in oracle.paths(world)
    )
    return oracle.elbo(world, table, alpha) if share > 1 - 1e-9 else -math.inf


class TestPlanning:
    @examples(12)
    @given(random_worlds(), temperatures)
    def test_its_value_is_the_best_of_all_policies(self, world: RandomWorld, alpha: float) -> None:
        assume(possible(world, alpha))
        value = float(cai.solve(world, cai.PLANNING, temperature=alpha).value)
        assert agrees(value, oracle.value(world, "PLANNING", alpha))
        assert agrees(value / alpha, oracle.planning(world, alpha))

    @many
    @given(random_worlds(), temperatures)
    def test_the_chain_of_bounds(self, world: RandomWorld, alpha: float) -> None:
        assume(possible(world, alpha))
        tables = cai.tabulate(world)
        best, planning, posterior = (
            float(cai.solve(tables, rule, temperature=alpha).value) / alpha
            for rule in (cai.MAP, cai.PLANNING, cai.POSTERIOR)
        )
        middle = [cai.marginal_map(tables, temperature=alpha).log_score] if world.discount == 1 else []
        chain = [best, *middle, planning, posterior]
        assert all(low <= high + TOLERANCE * max(1.0, abs(high)) for low, high in pairwise(chain))

    @examples(8)
    @given(random_worlds(holes=False), st.sampled_from([0.3, 1.0]))
    def test_its_gradient_is_its_own_flow(self, world: RandomWorld, alpha: float) -> None:
        tables = cai.tabulate(world)
        bonus = torch.zeros((), dtype=torch.float64, requires_grad=True)
        shifted = cai.Tables(**{**vars(tables), "reward": tables.reward + bonus})
        cai.solve(shifted, cai.PLANNING, temperature=alpha).value.backward()
        messages = cai.solve(tables, cai.PLANNING, temperature=alpha)
        expected = sum(float(messages.marginals(t).sum()) for t in range(world.horizon))
        assert abs(float(bonus.grad) - expected) < 1e-8  # d value/d every reward = the steps that are lived


class Crossing:
    """Four ways over a river, that four types of inference fall for; all but the bridge may drown.

    Bridge: sure and dull. Ticket: even odds, the best single outcome. Ferry: lands on one of four islands, all alike.
    Maze: leads to the left or the right door, and each wants its own action.
    """

    horizon = 2
    bridge, ticket, ferry, maze = range(4)
    start, home, won, island, left, right, drowned = 0, 1, 2, 3, 7, 8, 9
    chances = torch.tensor(
        [[1.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5], [0.2, 0.2, 0.2, 0.2, 0.2], [0.4, 0.4, 0.0, 0.0, 0.2]],
        dtype=torch.float64,
    )
    leads = torch.tensor([[1, 1, 1, 1, 1], [2, 2, 2, 2, 9], [3, 4, 5, 6, 9], [7, 8, 8, 8, 9]])

    def __init__(self) -> None:
        self.pay = torch.zeros(10, 4, dtype=torch.float64)  # of the second step, by state and action
        self.pay[self.home], self.pay[self.won], self.pay[self.drowned] = 1.0, 10.4, -100.0
        self.pay[self.island : self.island + 4] = 10.0
        self.pay[self.left, 0] = self.pay[self.right, 1] = 10.5

    def initial(self) -> Tensor:
        return pyro.sample("place", cai.Point(torch.tensor(0), 10))

    def act(self, place: Tensor, t: int) -> Tensor:
        return pyro.sample("way", Categorical(torch.ones(*place.shape, 4, dtype=torch.float64) / 4))

    def step(self, place: Tensor, way: Tensor, t: int) -> tuple[Tensor, Tensor]:
        luck = pyro.sample("luck", Categorical(self.chances[way]))
        following = self.leads[way, luck] if t == 0 else place + 0 * luck
        return pyro.sample("place", cai.Point(following, 10)), self.pay[place, way]


def inferences(types: cai.Comparison) -> dict:
    return {name: one.inference for name, (one,) in types.subjects.items()}


class TestInferenceTypes:
    def test_each_type_takes_its_own_way(self) -> None:
        world = Crossing()
        types = cai.inference_types(world)
        assert [row.name for row in types.rows] == NAMES
        likeliest = {name: int(one.policy.probs(0)[world.start].argmax()) for name, one in inferences(types).items()}
        assert likeliest["MAP trajectory"] == world.ticket
        assert likeliest["marginal MAP"] == world.ferry
        assert likeliest["planning"] == world.maze
        assert likeliest["variational"] == world.bridge
        reacts = [name for name, one in inferences(types).items() if one.actions is None]
        assert reacts == NAMES[2:]
        for name in ("planning", "posterior"):
            policy = inferences(types)[name].policy
            assert policy.probs(1)[world.left].argmax() == 0
            assert policy.probs(1)[world.right].argmax() == 1
        returns = {row.name: row.expected_return for row in types.rows}
        assert agrees(returns["MAP trajectory"], 0.5 * 10.4 - 0.5 * 100)
        assert agrees(returns["marginal MAP"], 0.8 * 10 - 0.2 * 100)
        assert agrees(returns["planning"], 0.8 * 10.5 - 0.2 * 100)
        assert returns["variational"] > 0.99

    def test_the_objectives_are_what_they_say(self) -> None:
        types = cai.inference_types(Crossing())
        prior = -2 * math.log(4)
        luck = {"MAP trajectory": math.log(0.5) + 10.4, "marginal MAP": math.log(0.8) + 10}
        for name, expected in {**luck, "planning": math.log(0.8) + 10.5}.items():
            assert abs(types.row(name).objective - prior - expected) < 1e-6, name
        assert agrees(types.row("variational").objective, types.elbo_star)
        assert agrees(types.row("posterior").objective, types.log_evidence)
        elbo = {row.name: row.elbo for row in types.rows}
        assert max(elbo, key=elbo.__getitem__) == "variational"

    def test_it_is_read_as_text(self) -> None:
        types = cai.inference_types(load_model("frozen_lake")(horizon=20), temperature=0.1)
        table = types.table()
        assert "left ×3; down ×8; right; down; right; " in table
        assert "left 100%; then by the state" in table
        assert table in repr(types)
        assert [line.split("  ")[0].strip() for line in table.splitlines()] == ["policy", *NAMES]
        assert "lift=" in cai.inference_types(FactoredWorld()).table()

    def test_what_cannot_be_had_is_left_out_with_its_reason(self) -> None:
        lake = load_model("frozen_lake")
        few = cai.inference_types(lake(horizon=20), max_nodes=5)
        assert list(few.left_out) == ["marginal MAP"]
        assert "max_nodes = 5" in few.left_out["marginal MAP"]
        assert "left out: marginal MAP, since" in few.table()
        with pytest.raises(cai.WorldError, match="max_nodes = 5"):
            few.row("marginal MAP")
        mortal = cai.inference_types(lake(horizon=20, discount=0.9))
        assert list(mortal.left_out) == ["marginal MAP"]
        assert "discount: 0.9" in mortal.left_out["marginal MAP"]
        forever = cai.inference_types(lake(horizon=None, discount=0.9))
        assert list(forever.left_out) == NAMES[:2]
        assert [row.name for row in forever.rows] == NAMES[2:]

    def test_a_mode_that_dies_leaves_the_rest_to_the_prior(self) -> None:
        world = load_model("frozen_lake")(horizon=20, discount=0.9)
        types = cai.inference_types(world)
        one = inferences(types)["MAP trajectory"]
        messages = cai.solve(world, cai.MAP)
        lived = int(messages.most_probable().alive[0, :-1].sum())
        assert len(one.actions) == lived < 20
        assert bool((one.policy.probs(19) == 0.25).all())
        assert "then by the prior" in types.table()

    @examples(16)
    @given(random_worlds(), temperatures)
    def test_every_world_has_its_accounts(self, world: RandomWorld, alpha: float) -> None:
        if not possible(world, alpha):
            with pytest.raises(cai.ImpossibleError, match="evidence is zero"):
                cai.inference_types(world, temperature=alpha)
            return
        types = cai.inference_types(world, temperature=alpha)
        assert {row.name for row in types.rows} | set(types.left_out) == set(NAMES)
        assert len(types.table().splitlines()) == 6
        log_z = types.row("posterior").objective
        for row in types.rows:
            assert row.objective <= log_z + TOLERANCE * max(1.0, abs(log_z))
            assert row.elbo <= log_z + TOLERANCE * max(1.0, abs(log_z))
            assert agrees(row.elbo, elbo(world, inferences(types)[row.name].policy, alpha)), row.name

    def test_a_forbidden_action_on_the_way_costs_everything(self) -> None:
        world = RandomWorld(0, S=2, A=2, K=2, horizon=2, holes=False)
        world.prior[:] = torch.eye(2, dtype=torch.float64)  # each state forbids what the other asks for
        types = cai.inference_types(world)
        elbo = {row.name: row.elbo for row in types.rows}
        assert elbo["MAP trajectory"] == elbo["marginal MAP"] == -math.inf
        assert elbo["planning"] > -math.inf

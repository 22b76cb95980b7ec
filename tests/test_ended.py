"""After the end of an episode nobody acts: every account stops there, in every form, for every policy."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Categorical, Normal
from torch import Tensor
from torch.nn.functional import one_hot

import cai
from cai.exact.tables.policy_evaluation import policy_elbo
from cai.learn.scores import ExactScore
from cai.policies.as_policy import as_policy, log_table

Rows = Callable[[int, int], list[float]]


def lake(horizon: int | None, **options: Any) -> Any:
    """The 4 × 4 lake, 16 states and the ended episode."""
    return cai.from_gymnasium("FrozenLake-v1", horizon=horizon, **options)


def by_hand(pi: Rows, horizon: int, discount: float = 1.0) -> tuple[float, float, float]:
    """Return E Σ r, E Σ KL(π ‖ uniform) and E Σ H(π) of the living steps, by plain recursion over Gymnasium's P."""
    table = gymnasium.make("FrozenLake-v1").unwrapped.P  # type: ignore[attr-defined]
    here, total, kl, entropy = {0: 1.0}, 0.0, 0.0, 0.0
    for t in range(horizon):
        after: dict[int, float] = {}
        for s, chance in here.items():
            for a, p in enumerate(pi(t, s)):
                if p == 0:
                    continue
                kl += chance * p * math.log(4 * p)
                entropy -= chance * p * math.log(p)
                for q, successor, reward, done in table[s][a]:
                    total += chance * p * q * reward
                    if not done:
                        after[successor] = after.get(successor, 0.0) + discount * chance * p * q
        here = after
    return total, kl, entropy


def random_policy(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, 4, generator=g, dtype=torch.float64).softmax(-1)


def agrees(found: Any, expected: float) -> bool:
    return math.isclose(float(found), expected, rel_tol=1e-10, abs_tol=1e-10)


class TestAccounts:
    def test_the_row_of_the_ended_state_is_nobodys(self) -> None:
        tables = cai.tabulate(lake(100))
        best = cai.solve(tables, cai.VARIATIONAL, temperature=0.02)
        table = torch.stack([best.policy.probs(t) for t in range(100)])
        table[:, 16] = torch.tensor([0.7, 0.1, 0.1, 0.1])
        found = cai.evaluate(tables, table, temperature=0.02)
        assert abs(found.optimality_gap) < 1e-9
        assert found.policy_nats[:, 16].abs().sum() < 1e-9
        assert found.worst(1) == ()
        assert "no policy does better" in found.account()
        total, kl, entropy = by_hand(lambda t, s: table[t, s].tolist(), 100)
        assert agrees(found.expected_return, total)
        assert agrees(found.kl_to_prior, kl)
        assert agrees(found.entropy, entropy)
        assert agrees(best.elbo, total / 0.02 - kl)  # the optimum is the same number

    @pytest.mark.parametrize("compiled", [cai.tabulate, cai.factorise])
    @pytest.mark.parametrize(("horizon", "discount"), [(60, 1.0), (60, 0.9), (None, 0.9)])
    def test_a_greedy_policy_pays_for_living_steps(self, compiled: Any, horizon: int | None, discount: float) -> None:
        world = compiled(lake(horizon, discount=discount))
        moves = [0, 3, 3, 3, 0, 0, 0, 0, 3, 1, 0, 0, 0, 2, 1, 0, 2]
        found = cai.evaluate(world, one_hot(torch.tensor(moves), 4).double(), temperature=0.1)
        pi = [[float(a == moves[s]) for a in range(4)] for s in range(16)]
        total, kl, entropy = by_hand(lambda t, s: pi[s], horizon or 500, discount)
        assert agrees(found.expected_return, total)
        assert agrees(found.kl_to_prior, kl)
        assert abs(found.entropy - entropy) < 1e-12
        assert agrees(found.elbo, total / 0.1 - kl)
        assert agrees(found.optimality_gap, float(found.policy_nats.sum()))
        parts = found.start_nats + float(found.action_nats.sum() + found.luck_nats.sum())
        assert agrees(found.evidence_gap, parts)

    @pytest.mark.parametrize("compiled", [cai.tabulate, cai.factorise])
    def test_entropy_stops_at_the_end(self, compiled: Any) -> None:
        pi = random_policy(3, 12, 17)
        found = cai.evaluate(compiled(lake(12)), pi, temperature=0.1)
        assert agrees(found.entropy, by_hand(lambda t, s: pi[t, s].tolist(), 12)[2])

    def test_learners_measure_themselves_alike(self) -> None:
        pi = random_policy(4, 17)
        tables = cai.tabulate(lake(30))
        found = ExactScore(tables, 0.1)(as_policy(tables, pi))
        total, kl, entropy = by_hand(lambda t, s: pi[s].tolist(), 30)
        assert found.entropy is not None
        assert found.elbo is not None
        assert agrees(found.entropy, entropy)
        assert agrees(found.elbo, total / 0.1 - kl)

    def test_what_does_not_say_that_it_ends_goes_on(self) -> None:
        world: Any = lake(9)
        world.terminated = None
        found = cai.evaluate(world, one_hot(torch.zeros(17, dtype=torch.long), 4).double(), temperature=0.1)
        assert agrees(found.kl_to_prior, 9 * math.log(4))


class Fall(torch.nn.Module):
    """Two steps to the edge; who walks on has fallen. Two variables, of which one tells."""

    horizon = 4

    def __init__(self, *, end_pays: float = 0.0, rises: bool = False, bonus: float | None = None) -> None:
        super().__init__()
        self.end_pays, self.rises = end_pays, rises
        self.terminal = None if bonus is None else lambda state: bonus * (state["fallen"] == 1)

    def initial(self) -> Any:
        """Stand on the first step."""
        place = pyro.sample("place", cai.Point(torch.tensor(0), 3))
        return {"place": place, "fallen": pyro.sample("fallen", cai.Point(torch.tensor(0), 2))}

    def act(self, state: Any, t: int) -> Any:
        """Walk with 0.25."""
        return pyro.sample("walk", Categorical(torch.tensor([0.75, 0.25])))

    def step(self, state: Any, action: Any, t: int) -> Any:
        """Go on, or fall; gusts push back."""
        gust = pyro.sample("gust", Categorical(torch.tensor([0.8, 0.2])))
        down = state["fallen"] == 1
        on = (state["place"] + action - gust).clamp(0, 2)
        fallen = (down & ~torch.tensor(self.rises)) | ((state["place"] == 2) & (action == 1))
        after = {
            "place": pyro.sample("place", cai.Point(torch.where(down, state["place"], on), 3)),
            "fallen": pyro.sample("fallen", cai.Point(fallen.long(), 2)),
        }
        return after, torch.where(down, self.end_pays, -1.0 * action)

    def terminated(self, state: Any) -> Tensor:
        """Tell who has fallen."""
        return state["fallen"] == 1


class TestForms:
    def test_three_ways_to_the_same_elbo(self) -> None:
        pi = random_policy(5, 17)
        for discount in (1.0, 0.9):
            world = lake(5, discount=discount)
            total, kl, _ = by_hand(lambda t, s: pi[s].tolist(), 5, discount)
            ways = [cai.elbo(world, lambda s, t: pi[s], temperature=0.1, method=m) for m in ("tables", "enumeration")]
            assert all(agrees(one.value, total / 0.1 - kl) for one in ways)
            drawn = cai.elbo(world, lambda s, t: pi[s], temperature=0.1, method="sampling", samples=4000)
            assert abs(drawn.value - (total / 0.1 - kl)) < 5 * drawn.standard_error

    @pytest.mark.parametrize("bonus", [None, 2.0])
    def test_a_terminal_reward_is_paid_and_nobody_acts(self, bonus: float | None) -> None:
        world: Any = Fall(bonus=bonus)

        def walk(state: Any, t: int) -> Tensor:
            assert not bool((state["fallen"] == 1).any())
            return torch.tensor([0.1, 0.9], dtype=torch.float64).expand(*state["place"].shape, 2)

        value = cai.evaluate(cai.tabulate(world), walk, temperature=0.5)
        assert agrees(cai.evaluate(cai.factorise(world), walk, temperature=0.5).elbo, value.elbo)
        for method in ("tables", "enumeration"):
            assert agrees(cai.elbo(world, walk, temperature=0.5, method=method).value, value.elbo)
        assert agrees(value.optimality_gap, float(value.policy_nats.sum()))
        kl = 0.1 * math.log(0.1 / 0.75) + 0.9 * math.log(0.9 / 0.25)
        here, paid, lost = {0: 1.0}, 0.0, 0.0
        for _ in range(4):
            after: dict[int, float] = {}
            for place, chance in here.items():
                paid, lost = paid - 0.9 * chance, lost + kl * chance
                for move, p in ((0, 0.1), (1, 0.9)):
                    for gust, q in ((0, 0.8), (1, 0.2)):
                        if not (place == 2 and move == 1):
                            there = min(max(place + move - gust, 0), 2)
                            after[there] = after.get(there, 0.0) + chance * p * q
            here = after
        paid += (bonus or 0.0) * (1 - sum(here.values()))
        assert agrees(value.elbo, paid / 0.5 - lost)

    def test_a_continuous_walk_pays_until_it_ends(self) -> None:
        class Walk:
            horizon = 4

            def initial(self) -> Any:
                return pyro.sample("x", Normal(torch.tensor(0.0), 1e-3))

            def act(self, state: Any, t: int) -> Any:
                return pyro.sample("go", Categorical(logits=torch.zeros(2)))

            def step(self, state: Any, action: Any, t: int) -> Any:
                on = torch.where(state > 1, 0.0, 0.6 * action)
                return pyro.sample("x", Normal(state + on, 1e-3)), 0.0 * state

            def terminated(self, state: Any) -> Tensor:
                return state > 1

        steps = sum(t * p for t, p in ((2, 0.81), (3, 2 * 0.81 * 0.1), (4, 1 - 0.81 - 2 * 0.81 * 0.1)))
        kl = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
        found = cai.elbo(Walk(), lambda s, t: Categorical(torch.tensor([0.1, 0.9])), samples=4000)  # type: ignore[arg-type]
        assert found.method == "sampling"
        assert abs(found.value + kl * steps) < 5 * found.standard_error

    def test_the_factor_reads_what_tells(self) -> None:
        factors = cai.factorise(Fall())
        assert factors.ends is not None
        assert factors.ends.scope == ("fallen",)
        assert torch.equal(factors.ended, cai.tabulate(Fall()).ended)  # type: ignore[arg-type]
        assert cai.factorise(lake(3)).ended.nonzero().tolist() == [[16]]  # type: ignore[union-attr]

    @pytest.mark.parametrize("compiled", [cai.tabulate, cai.factorise])
    @pytest.mark.parametrize("fault", [{"end_pays": 0.5}, {"rises": True}])
    def test_an_end_that_is_none_is_refused(self, compiled: Any, fault: Any) -> None:
        with pytest.raises(cai.WorldError, match="terminated, t = 0"):
            compiled(Fall(**fault))

    def test_the_mask_goes_along(self) -> None:
        tables = cai.tabulate(lake(3))
        assert tables.ended is not None
        kept = cai.tabulate(lake(3), reachable=True)
        assert kept.states.label(kept.states.size - 1) == "ended"
        assert kept.ended is not None
        assert kept.ended.nonzero().flatten().tolist() == [kept.states.size - 1]
        open_ended: Any = lake(3)
        open_ended.terminated = None
        both = cai.stack([tables, cai.tabulate(open_ended)])
        assert both.ended is not None
        assert both.ended.sum(-1).tolist() == [1, 0]
        assert tables.to(dtype=torch.float32).detach().ended is tables.ended
        assert torch.equal(pickle.loads(pickle.dumps(tables)).ended, tables.ended)

    def test_an_entry_of_a_batch_has_its_own_mask(self) -> None:
        open_ended: Any = lake(3)
        open_ended.terminated = None
        two = [cai.tabulate(lake(3)), cai.tabulate(open_ended)]
        found, pi = cai.solve(cai.stack(two)), random_policy(1, 17)
        for i in range(2):
            told = [cai.evaluate(one, pi).entropy for one in (found[i].model, two[i])]
            assert agrees(*told)
        assert agrees(cai.evaluate(two[0], pi).entropy, by_hand(lambda t, s: pi[s].tolist(), 3)[2])

    @pytest.mark.parametrize("compiled", [lambda world: world, cai.tabulate, cai.factorise])
    def test_conditions(self, compiled: Any) -> None:
        def ends(**given: Any) -> bool:
            found = cai.condition(compiled(lake(3)), **given)
            return (found if hasattr(found, "ended") else cai.tabulate(found)).ended is not None

        assert ends(observe={"state_3": 16})
        assert ends(do={"action_0": 1})
        assert not ends(observe={"action_2": 1})

    @pytest.mark.parametrize("form", [lambda world: world, cai.tabulate, cai.factorise])
    def test_an_uncertain_sight_may_fail_after_the_end_too(self, form: Any) -> None:
        """A trajectory goes on as it does unseen, whether a sight fails or not: return apart, nothing changes."""
        sight, pi = {"state_3": [0.5 + s / 40 for s in range(17)], "state_5": [0.9] * 17}, random_policy(4, 17)
        seen = cai.evaluate(cai.condition(form(lake(5)), observe=sight), pi, temperature=0.1)
        _, kl, entropy = by_hand(lambda t, s: pi[s].tolist(), 5)
        assert agrees(seen.kl_to_prior, kl)
        assert agrees(seen.entropy, entropy)
        assert seen.elbo == -math.inf

    def test_a_fit_has_nothing_to_learn_there(self) -> None:
        tables = cai.tabulate(lake(8))
        policy = cai.policies.TabularPolicy(tables)
        policy_elbo(tables, log_table(tables, policy), torch.tensor(0.1, dtype=torch.float64)).backward()
        assert policy.logits.grad is not None
        assert policy.logits.grad[:, 16].abs().max() == 0
        assert policy.logits.grad[:, :16].abs().max() > 0


class TestPoliciesOfThePlainEnvironment:
    @pytest.mark.parametrize("shape", [(16,), (12, 16)])
    @pytest.mark.parametrize("compiled", [cai.tabulate, cai.factorise])
    def test_tensors_and_arrays(self, compiled: Any, shape: tuple[int, ...]) -> None:
        pi, world = random_policy(6, *shape), compiled(lake(12))
        total, kl, _ = by_hand(lambda t, s: (pi[s] if pi.dim() == 2 else pi[t, s]).tolist(), 12)
        for given in (pi, pi.numpy(), pi.tolist()):
            assert agrees(cai.evaluate(world, given, temperature=0.1).elbo, total / 0.1 - kl)

    def test_functions_and_programs_are_asked_about_living_states(self) -> None:
        pi, world = random_policy(7, 16), lake(12)
        total, kl, _ = by_hand(lambda t, s: pi[s].tolist(), 12)

        class Program:
            def act(self, state: Tensor, t: int) -> Any:
                return pyro.sample("action", Categorical(one_hot(state, 16).double() @ pi))

        policies = [
            lambda state, t: one_hot(state, 16).double() @ pi,
            lambda state, t: Categorical(one_hot(state, 16).double() @ pi),
            lambda state, t: pi,  # a row for each of its own states
            Program(),
        ]
        for policy in policies:
            assert agrees(cai.evaluate(world, policy, temperature=0.1).elbo, total / 0.1 - kl)

    def test_another_number_of_rows_is_refused(self) -> None:
        with pytest.raises(cai.WorldError, match=r"shape \[15, 4\]"):
            cai.evaluate(lake(3), np.full((15, 4), 0.25))


def test_a_policy_learned_on_the_plain_environment_is_measured_on_its_world() -> None:
    lake = cai.tabulate(cai.from_gymnasium("FrozenLake-v1", horizon=20))
    learned = cai.learn.q_learning("FrozenLake-v1", steps=50, seed=0)
    rows = learned.policy.probs(0)
    assert rows.shape == (16, 4)
    for policy in (learned, learned.policy):
        found, plain = (cai.evaluate(lake, one, temperature=0.1) for one in (policy, rows))
        assert (found.expected_return, found.elbo, found.regret) == (plain.expected_return, plain.elbo, plain.regret)
    with pytest.raises(cai.WorldError, match="S = 16 without the states of an ended episode"):
        cai.evaluate(lake, rows[:15], temperature=0.1)


def test_what_cannot_be_seen_is_told_without_blaming_the_rewards() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=20)
    for form in ("tables", "factors"):
        with pytest.raises(
            cai.ImpossibleError, match=r"the observation \(state_10 = 15\) is impossible on every trajectory"
        ):
            cai.solve(lake, form=form, observe={"state_10": 15})  # who is at the goal has ended

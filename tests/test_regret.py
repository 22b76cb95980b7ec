"""Regret, J* - J(π) = Σ_t E_π[v*_t - q*_t], against enumeration and recursions in plain Python."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import cai
from tests.helpers import examples, load_model
from tests.oracles import enumeration as oracle
from tests.test_losses import LEFT, Fork, Gamble
from tests.worlds import FactoredWorld, RandomWorld, random_worlds

few = examples(15)


def random_policy(world: RandomWorld, seed: int) -> torch.Tensor:
    weights = torch.rand((world.horizon, world.S, world.A), generator=torch.Generator().manual_seed(seed)).double()
    weights = (weights + 0.01) * (world.prior.expand(world.horizon, -1, -1) > 0)
    return weights / weights.sum(-1, keepdim=True)


def mean_return(world: RandomWorld, policy: list) -> float:
    """E_π[Σ r] over every trajectory."""
    total = 0.0
    for path in oracle.paths(world):
        p = math.exp(path.log_dynamics) * math.prod(policy[t][s][a] for t, (s, a, _) in enumerate(path.visits))
        total += p * path.rewards if p > 0 else 0.0
    return total


def by_recursion(world: RandomWorld, policy: list) -> list[list[float]]:
    """p(s_t, alive) Σ_a π(a|s) (v*(s) - q*(s, a)), one state and time after the other."""
    T, S, A, K, γ = world.horizon, range(world.S), range(world.A), range(world.K), world.discount
    v = [float(x) for x in world.last]
    gaps: list[list[list[float]]] = []
    for t in reversed(range(T)):
        i = world.time(t)
        q = [[0.0] * world.A for _ in S]
        for s in S:
            for a in A:
                for k in K:
                    p = float(world.outcome[i, s, a, k])
                    q[s][a] += (
                        p * (float(world.reward[i, s, a, k]) + γ * v[int(world.successor[i, s, a, k])]) if p else 0.0
                    )
        v = [max(q[s][a] for a in A if world.prior[i, s, a] > 0) for s in S]
        gaps.append([[v[s] - q[s][a] if v[s] > -math.inf else 0.0 for a in A] for s in S])
    gaps.reverse()
    d, found = [float(x) for x in world.start], []
    for t in range(T):
        i = world.time(t)
        found.append([sum(d[s] * policy[t][s][a] * gaps[t][s][a] for a in A if d[s] * policy[t][s][a] > 0) for s in S])
        ahead = [0.0] * world.S
        for s in S:
            for a in A:
                for k in K:
                    flow = d[s] * policy[t][s][a] * float(world.outcome[i, s, a, k]) * γ
                    ahead[int(world.successor[i, s, a, k])] += flow
        d = ahead
    return found


@few
@given(random_worlds(), st.integers(0, 2**31 - 1))
def test_regret_is_what_enumeration_says(world: RandomWorld, seed: int) -> None:
    best = oracle.value(world, "HARD", 1.0)
    assume(best > -math.inf)
    policy = random_policy(world, seed)
    reached, places = mean_return(world, policy.tolist()), by_recursion(world, policy.tolist())
    one = cai.evaluate(world, policy, temperature=0.3)
    assert one.regret == pytest.approx(best - reached, abs=1e-10)
    torch.testing.assert_close(one.regret_per_state, torch.tensor(places, dtype=torch.float64), atol=1e-10, rtol=0)
    assert bool((one.regret_per_state >= 0).all())


def test_the_best_policy_has_none_to_the_last_digit() -> None:
    for world in (RandomWorld(3, 4, 3, 3, 4, holes=False), RandomWorld(2, 5, 3, 3, None, holes=False, discount=0.9)):
        assert cai.evaluate(world, cai.HARD).regret == 0.0
    assert cai.evaluate(FactoredWorld(), cai.HARD).regret == 0.0
    assert cai.evaluate(cai.factorise(FactoredWorld()), cai.HARD).regret == 0.0


def test_the_infinite_horizon_sums_over_all_times() -> None:
    world = RandomWorld(2, 6, 3, 3, None, holes=False, discount=0.8, positive=False)
    pi, γ = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).expand(6, 3), 0.8
    gain = (world.outcome[0] * world.reward[0]).sum(-1)
    v = torch.zeros(6, dtype=torch.float64)
    for _ in range(400):  # 0.8^400 is below the last digit
        q = gain + γ * (world.outcome[0] * v[world.successor[0]]).sum(-1)
        v = q.amax(-1)
    d, visits = world.start, torch.zeros(6, dtype=torch.float64)
    for _ in range(400):
        visits, ahead = visits + d, torch.zeros(6, dtype=torch.float64)
        flow = γ * d[:, None, None] * pi.unsqueeze(-1) * world.outcome[0]
        d = ahead.index_add(0, world.successor[0].flatten(), flow.flatten())
    truth = visits * (pi * (v.unsqueeze(-1) - q)).sum(-1)
    one = cai.evaluate(world, pi)
    torch.testing.assert_close(one.regret_per_state, truth, atol=1e-9, rtol=0)
    assert one.regret == pytest.approx(float(world.start @ v) - one.expected_return, abs=1e-8)


def test_what_risks_the_forbidden_has_infinite_regret_and_no_nan() -> None:
    class Cliff(Fork):
        """The first action is forbidden by its reward."""

        def step(self, state: torch.Tensor, action: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
            return super().step(state, action, t)[0], torch.where(action == 0, -torch.inf, 1.0)

    one = cai.evaluate(Cliff(), LEFT)
    assert one.regret == math.inf
    assert one.regret_per_state.tolist() == [[math.inf, math.inf]]
    assert cai.evaluate(Cliff(), torch.tensor([0.0, 1.0]).expand(2, 2)).regret == 0.0
    with pytest.raises(cai.ImpossibleError):
        _ = cai.evaluate(Gamble(), None).regret
    assert cai.compare(Gamble(), {"prior": None}).rows[0].regret is None


def test_a_greedy_policy_has_many_nats_and_no_regret() -> None:
    lake = load_model("frozen_lake")()
    one = cai.evaluate(lake, cai.HARD, temperature=0.02)
    assert one.regret < 1e-15  # tied maximisers differ by rounding
    assert one.optimality_gap > 10


# In words


def test_the_places_of_regret_by_hand() -> None:
    (loss,) = cai.evaluate(Fork(), LEFT).worst(by="regret")
    assert (loss.t, loss.state, loss.reach, loss.unit) == (0, 0, 0.5, "reward units")
    assert loss.lost == pytest.approx(0.5 * math.log(3))
    words = "too often a=left 1.00 (best: 0), too seldom a=right 0 (best: 1.00)"
    assert str(loss) == f"t = 0, s=0 (S): 0.549 reward units, probability 0.50; {words}."
    with pytest.raises(cai.WorldError, match="nats"):
        cai.evaluate(Fork(), LEFT).worst(by="shame")


def test_the_account_says_it_in_reward_units() -> None:
    best = f"J* = {0.5 * math.log(3):.3g} reward units."
    words = f"{0.5 * math.log(3):.3g} reward units, the regret: what a better policy can earn. {best}"
    assert cai.evaluate(Fork(), LEFT).account().splitlines()[-1] == f"J* - J(π) = {words}"
    words = f"0 reward units, the regret: no policy earns more. {best}"
    assert cai.evaluate(Fork(), cai.HARD).account().splitlines()[-1] == f"J* - J(π) = {words}"


def test_times_of_a_state_are_told_as_one() -> None:
    world = RandomWorld(5, 3, 2, 2, 6, holes=False)
    one = cai.evaluate(world, None)
    each, whole = one.worst(1000), one.worst(together=True)
    assert len(whole) == 3
    for loss in whole:
        mine = [other for other in each if other.state == loss.state]
        assert loss.lost == pytest.approx(sum(other.lost for other in mine))
        assert loss.reach == pytest.approx(sum(other.reach for other in mine))
        assert (loss.t, loss.until) == (min(other.t for other in mine), max(other.t for other in mine))
        assert loss.does.policy == pytest.approx(float(world.prior[0, loss.state, loss.does.action]))
        assert str(loss).startswith(f"t = {loss.t} … {loss.until}, s={loss.state}: ")

"""Roll-outs by number are those by what is seen, to the last bit; and the tables that both go by are kept."""

import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.exact import finite
from cai.simulate.acting import chooser_of
from cai.simulate.rollout import Rollout, episodes
from cai.simulate.simulator import drawing, seeded
from cai.simulate.walks import Numbered, Seen, walk_of
from cai.simulate.worlds import WorldSimulator
from cai.support.process import precision
from tests.test_simulate import Begun, Cut, Goal, TimedCut, tensors
from tests.worlds import RandomWorld, TimedWorld, pairs_of_worlds, random_worlds


class Late(Cut):
    """What is paid at the end has another dtype than what is paid before."""

    def terminal(self, state: Tensor) -> Tensor:
        return state.double() / 3


def with_finite_rewards(world: Any) -> Any:
    """Return a world in which no policy is ruled out; actions and outcomes may be."""
    for half in getattr(world, "halves", (world,)):
        half.reward = half.reward.clamp(min=-5.0)
    return world


RANDOM = st.one_of(random_worlds(), pairs_of_worlds()).map(with_finite_rewards)
ENDING = st.sampled_from([Cut, Begun, TimedCut, Late]).map(lambda kind: kind())
GOALS = st.builds(Goal, st.one_of(st.none(), st.integers(1, 9)), st.just(0.8))


def policy_of(kind: str, world: Any, seed: int) -> Any:
    if kind == "prior":
        return None
    if kind == "learned":
        policy = cai.policies.TabularPolicy(world)
        torch.nn.init.normal_(policy.logits, generator=torch.Generator().manual_seed(seed))
        return policy
    return cai.solve(world, cai.HARD if kind == "hard" else cai.VARIATIONAL, temperature=0.5).policy


@given(
    st.one_of(RANDOM, ENDING, GOALS),
    st.sampled_from(["prior", "learned", "hard", "soft"]),
    st.sampled_from([1, 2, 7, 60]),
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(0, 2**31 - 1),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_by_number_or_by_what_is_seen_a_roll_out_is_the_same(
    world: Any, kind: str, batch: int, steps: int | None, seed: int, dtype: torch.dtype
) -> None:
    with precision(dtype):
        simulator = WorldSimulator(world, batch)
        choose = chooser_of(simulator, policy_of(kind, cai.tabulate(world), seed))

        def rolled(by: Any) -> tuple[Rollout, Tensor]:
            with torch.no_grad(), drawing(seeded(seed)):
                return episodes(simulator, by, steps or (None if world.horizon else 9)), torch.get_rng_state()

        assert isinstance(walk_of(simulator, choose, simulator.begin()), Numbered)
        (numbered, after), (seen, also) = rolled(choose), rolled(lambda env_state, t: choose(env_state, t))
    assert torch.equal(after, also)
    for one, other in zip(tensors(numbered), tensors(seen), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_a_policy_whose_numbers_are_not_the_worlds_goes_by_what_is_seen() -> None:
    world, other = RandomWorld(1, 3, 2, 2, 3), RandomWorld(1, 3, 3, 2, 3)
    simulator = WorldSimulator(world, 4)
    same, wrong = (chooser_of(simulator, cai.solve(one, temperature=1.0).policy) for one in (world, other))
    begun = simulator.begin()
    later, _ = simulator.step(begun, torch.zeros(4, dtype=torch.long))
    assert isinstance(walk_of(simulator, same, begun), Numbered)
    assert isinstance(walk_of(simulator, wrong, begun), Seen)
    assert isinstance(walk_of(simulator, same, later), Seen)


def test_the_tables_of_a_solved_policy_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = cai.solve(TimedWorld(1, 3, 2, 2, 4, holes=False), temperature=0.5)
    policy = messages.policy
    assert messages.policy is policy
    tables = [policy.log_probs(t) for t in range(4)]
    assert all(policy.log_probs(t) is table for t, table in enumerate(tables))
    again = pickle.loads(pickle.dumps(policy))
    assert all(torch.equal(again.log_probs(t), table) for t, table in enumerate(tables))
    for t in (-1, 4):
        with pytest.raises(cai.WorldError, match="t: "):
            policy.log_probs(t)
    monkeypatch.setattr(finite, "MOST", 23)  # of 4·3·2 entries
    large = cai.solve(TimedWorld(1, 3, 2, 2, 4, holes=False), temperature=0.5).policy
    assert large.log_probs(1) is not large.log_probs(1)
    assert torch.equal(large.log_probs(1), tables[1])


def test_one_table_serves_all_times_of_the_infinite_horizon() -> None:
    policy = cai.solve(RandomWorld(1, 3, 2, 2, None, holes=False, discount=0.9), cai.VARIATIONAL).policy
    assert policy.log_probs(7) is policy.log_probs(0)


def test_a_table_that_has_a_gradient_is_computed_anew() -> None:
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    policy = cai.solve(RandomWorld(1, 3, 2, 2, 3, holes=False), temperature=alpha).policy
    with torch.no_grad():
        policy.log_probs(1)
    slopes = [torch.autograd.grad(policy.log_probs(1)[0, 0], alpha, retain_graph=True)[0] for _ in range(2)]
    assert bool(slopes[0] == slopes[1] != 0)


def test_a_table_of_inference_mode_is_not_given_to_what_learns() -> None:
    policy = cai.solve(RandomWorld(1, 3, 2, 2, 3, holes=False), temperature=0.5).policy
    with torch.inference_mode():
        policy.log_probs(0)
    weights = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    (weights * policy.log_probs(0)).sum().backward()
    assert weights.grad is not None

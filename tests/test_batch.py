"""Batches: temperatures and stacked worlds at once equal the loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cai
from tests.helpers import examples, slow_after
from tests.worlds import RandomWorld, TimedWorld

RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-2.0)]


def worlds(seed: int, horizon: int | None, discount: float, kind=RandomWorld) -> list[cai.Tables]:
    made = [
        kind(seed=seed + i, S=3, A=2, K=1 + i, horizon=horizon, holes=False, discount=discount, positive=False)
        for i in range(2)
    ]
    return [cai.tabulate(world) for world in made]


@pytest.mark.parametrize("rule", slow_after(2, RULES), ids=str)
@examples(4)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.7]))
def test_temperatures_and_worlds_at_once_equal_the_loop(rule, seed: int, discount: float) -> None:
    for kind in (RandomWorld, TimedWorld):
        tables = worlds(seed, 3, discount, kind)
        alphas = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
        both = cai.solve(cai.stack(tables), rule, temperature=alphas[:, None])
        assert both.v.shape == (3, 2, 4, 3)
        for i, alpha in enumerate(alphas):
            for j, one in enumerate(tables):
                alone = cai.solve(one, rule, temperature=float(alpha))
                torch.testing.assert_close(both.v[i, j], alone.v, rtol=1e-13, atol=1e-13)
                torch.testing.assert_close(both.value[i, j], alone.value, rtol=1e-13, atol=1e-13)
                torch.testing.assert_close(both.q(1)[i, j], alone.q(1), rtol=1e-13, atol=1e-13)
                torch.testing.assert_close(both.marginals(2)[i, j], alone.marginals(2), rtol=1e-12, atol=1e-13)
                torch.testing.assert_close(both.policy.probs(0)[i, j], alone.policy.probs(0), rtol=1e-12, atol=1e-13)


def test_several_temperatures_on_one_world() -> None:
    (tables, _) = worlds(0, 3, 1.0)
    several = cai.solve(tables, temperature=[0.5, 2.0])
    assert several.log_evidence.shape == (2,)
    alone = cai.solve(tables, temperature=2.0)
    torch.testing.assert_close(several[1].log_evidence, alone.log_evidence)
    assert several[1].most_probable().states.tolist() == alone.most_probable().states.tolist()
    torch.testing.assert_close(several.forward[1], alone.forward)


def test_an_entry_of_stacked_worlds_stands_alone() -> None:
    tables = worlds(0, 3, 1.0)
    both = cai.solve(cai.stack(tables))
    torch.testing.assert_close(both[1].marginals(1), cai.solve(tables[1]).marginals(1))
    with pytest.raises(cai.WorldError, match="index on messages"):
        both[0][0]


def test_a_grid_of_temperatures_and_worlds_is_taken_apart_row_by_row() -> None:
    both = cai.solve(cai.stack(worlds(0, 3, 1.0)), temperature=torch.tensor([[0.5], [2.0]], dtype=torch.float64))
    torch.testing.assert_close(both[1].q(0), both.q(0)[1])
    torch.testing.assert_close(both[1][0].marginals(2), both.marginals(2)[1, 0])
    with pytest.raises(cai.WorldError, match="index 9"):
        both[9]


def test_fixed_points_in_a_batch_equal_the_loop() -> None:
    tables = worlds(0, None, 0.8)
    both = cai.solve(cai.stack(tables), cai.VARIATIONAL, temperature=[0.5, 0.5])
    for j, one in enumerate(tables):
        alone = cai.solve(one, cai.VARIATIONAL, temperature=0.5)
        torch.testing.assert_close(both.v[j], alone.v, rtol=0, atol=both.error_bound + alone.error_bound)


def test_gradients_of_a_batch_sum_over_it() -> None:
    (tables, _) = worlds(0, 3, 1.0)
    from dataclasses import replace

    def gradient(temperature) -> torch.Tensor:
        reward = tables.reward.clone().requires_grad_()
        cai.solve(replace(tables, reward=reward), temperature=temperature).log_evidence.sum().backward()
        return reward.grad

    torch.testing.assert_close(gradient([0.5, 2.0]), gradient(0.5) + gradient(2.0))


def test_what_needs_one_entry_says_so() -> None:
    (tables, _) = worlds(0, 3, 1.0)
    several = cai.solve(tables, temperature=[0.5, 2.0])
    for ask in (lambda: several.sample(3), lambda: several.pairs(0), lambda: several.most_probable()):
        with pytest.raises(cai.WorldError, match=r"messages\[i\]"):
            ask()
    with pytest.raises(cai.WorldError, match="one temperature"):
        cai.evaluate(tables, None, temperature=torch.tensor([0.5, 2.0]))


def test_worlds_that_do_not_fit_are_not_stacked() -> None:
    with pytest.raises(cai.WorldError, match="world 1"):
        cai.stack([worlds(0, 3, 1.0)[0], worlds(0, 2, 1.0)[0]])
    with pytest.raises(cai.WorldError, match="at least one"):
        cai.stack([])
    kept = [cai.tabulate(only(s), reachable=True) for s in (0, 1)]
    with pytest.raises(cai.WorldError, match="world 1"):
        cai.stack(kept)


def only(s: int) -> RandomWorld:
    """A world that starts in s and stays there."""
    world = RandomWorld(seed=0, S=2, A=1, K=1, horizon=2, holes=False)
    world.start = torch.eye(2, dtype=torch.float64)[s]
    world.successor[0, :, 0, 0] = torch.arange(2)
    return world


def test_systems_are_solved_side_by_side() -> None:
    systems = [cai.linearise(cai.load_world("lqg", {"seed": seed, "horizon": 4})) for seed in range(3)]
    both = cai.stack(systems)
    for rule in (cai.POSTERIOR, cai.VARIATIONAL):
        each = torch.stack([cai.solve(system, rule).value for system in systems])
        torch.testing.assert_close(cai.solve(both, rule).value, each, rtol=1e-12, atol=0)
    with pytest.raises(cai.WorldError, match="stack, world 1"):
        cai.stack([systems[0], cai.linearise(cai.load_world("lqg", {"horizon": 5}))])
    with pytest.raises(cai.WorldError, match=r"'LinearGaussian', 'Tables'"):
        cai.stack([systems[0], worlds(0, 3, 1.0)[0]])

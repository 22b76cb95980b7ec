"""The picture of many horizons: its numbers are those of as many solves."""

from dataclasses import replace

import pytest

import cai
from cai.evaluation.by_horizon import by_horizon
from cai.view.horizon_figures import horizon_curves
from tests.worlds import RandomWorld, TimedWorld


def compared(world: RandomWorld, temperature: float) -> cai.Comparison:
    return cai.compare(world, {"prior": None}, temperature=temperature)


def test_every_horizon_is_a_solve_of_its_own() -> None:
    one = compared(RandomWorld(2, 4, 2, 2, 20, holes=False), 0.4)
    found = by_horizon(one)
    assert found is not None
    assert found.posterior.horizons == found.variational.horizons
    assert found.posterior.horizons[0] == 1
    assert found.posterior.horizons[-1] == 200
    for values in (found.posterior, found.variational):
        for T, value in zip(values.horizons, values.value, strict=True):
            alone = cai.solve(replace(one.tables, horizon=T), values.rule, temperature=0.4)
            assert float(value) == pytest.approx(float(alone.value), abs=1e-9)


def test_the_picture_draws_them() -> None:
    found = [by_horizon(compared(RandomWorld(2, 4, 2, 2, 20, holes=False), alpha)) for alpha in (0.4, 2.0)]
    (values,), (per_step,) = (horizon_curves(found, 20, per_step=divided).axes for divided in (False, True))
    heights = found[1].variational.value
    assert tuple(heights.tolist()) in {tuple(line.get_ydata()) for line in values.lines}
    share = heights / heights.new_tensor(found[1].variational.horizons)
    assert tuple(share.tolist()) in {tuple(line.get_ydata()) for line in per_step.lines}
    assert "this world has T = 20" in cai.view.alt(values.figure)


def test_what_has_no_other_horizon_is_left_out() -> None:
    assert by_horizon(compared(TimedWorld(2, 3, 2, 2, 4, holes=False), 1.0)) is None
    assert by_horizon(compared(RandomWorld(2, 3, 2, 2, None, holes=False, discount=0.8, positive=False), 1.0)) is None
    late = RandomWorld(2, 3, 2, 2, 6, holes=False)
    late.last[:] = -float("inf")
    late.last[2] = 0.0
    late.start[:] = 0.0
    late.start[0] = 1.0
    late.successor[0] = (late.successor[0] * 0 + 1).cumsum(0).clamp(max=2)  # two steps to the only end that is allowed
    assert by_horizon(compared(late, 1.0)) is None

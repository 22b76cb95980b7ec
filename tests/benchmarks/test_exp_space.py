"""Why the sweep stays in log space: what the faster exp space loses, and says nothing of."""

import numpy as np
import pytest

import cai
from tests.benchmarks.peers import exp_space
from tests.helpers import load_model


def test_exp_space_loses_states_and_log_space_does_not() -> None:
    """The 100 x 100 grid at a cost of 1 a step, T = 100: the numbers in tests/benchmarks/RESULTS.md."""
    pytest.importorskip("scipy", reason="the extra [bench] is not installed")
    world = load_model("grid")(
        rows=100, columns=100, goals=[(50, 50, 1.0)], start=(30, 30), step_reward=-1.0, horizon=100
    )
    tables = cai.tabulate(world)
    for alpha, lost_percent, worst in ((1.0, 0, 1e-12), (0.3, 0, 1e-12), (0.1, 20, 7e-4), (0.03, 90, 1e-6)):
        exact = cai.solve(tables, temperature=alpha).v[0].numpy()
        seen = exp_space(tables, alpha)()[0]
        assert np.isfinite(exact).all()
        assert (exact >= -100 - 1e-9).all()
        kept = np.isfinite(seen)
        assert round(100 * float(1 - kept.mean())) == lost_percent
        assert float(np.abs(seen - exact)[kept].max()) <= worst
    with np.errstate(all="ignore"):
        assert np.isnan(exp_space(cai.tabulate(load_model("frozen_lake")("8x8")), 0.001)()[0]).all()

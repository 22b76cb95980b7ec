"""GRPO lands on the fixed point of its own estimate of the KL: in a few seeds quickly, in ten slowly."""

import pytest
import torch

from cai.experiments.sampled_fixed_points import PLACES, PREDICTED, SampledFixedPoints, landed
from cai.experiments.verdict import HOLDS


def test_the_verdict_counts_seeds() -> None:
    apart = torch.zeros(3, 3)
    nats = torch.ones(2, len(PLACES), len(PREDICTED))
    for i, own in enumerate((0, 1, 1, 1, 2)):
        nats[:, i, own] = 0.1
    assert SampledFixedPoints(nats, apart).nearest == (2, 2, 2, 2, 2)
    assert SampledFixedPoints(nats, apart).verdict.word == HOLDS
    nats[1, 0] = torch.tensor([0.3, 0.2, 0.4])
    found = SampledFixedPoints(nats, apart)
    assert found.nearest == (1, 2, 2, 2, 2)
    assert [check.holds for check in found.verdict.checks] == [False, True, True, True, True]


@pytest.mark.slow
def test_grpo_lands_on_its_own_fixed_point_in_ten_of_ten_seeds() -> None:
    found = landed(progress=False)
    assert found.nearest == (10, 10, 10, 10, 10), found.table
    assert float(found.apart[~torch.eye(3, dtype=torch.bool)].min()) > 0.05  # or there is nothing to tell apart

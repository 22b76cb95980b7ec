"""The fuzzing command itself: it finds nothing where there is nothing, and a planted fault where there is one."""

from collections import Counter

import pytest
import torch

from cai.exact.rule_means import Expect
from tests.fuzz.__main__ import one


@pytest.mark.slow
def test_it_finds_nothing_on_seeds_that_agree() -> None:
    counts = Counter[str]()
    assert not any(one(seed, None, counts) for seed in (103, 104, 105))
    assert counts.total() == 3


def test_it_finds_a_mean_that_is_wrong_in_the_eighth_digit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Expect.value

    def wrong(self: Expect, x: torch.Tensor, log_w: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return right(self, x, log_w, alpha) * (1 + 1e-8)

    monkeypatch.setattr(Expect, "value", wrong)
    assert any(one(seed, "plain", Counter()) for seed in range(100, 130))
    assert "seed " in capsys.readouterr().out

"""The same calls on tensors on a GPU: skipped where there is none."""

import pytest
import torch

import cai
from cai.exact.tables import backup_forms as forms
from tests.helpers import load_model
from tests.worlds import RandomWorld

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(-2.0)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_solve_on_the_gpu_is_that_of_the_cpu(rule, dtype: torch.dtype) -> None:
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-4}
    for world in (RandomWorld(3, 6, 3, 3, 12, discount=0.9, positive=False), load_model("grid")(rows=9, columns=9)):
        there = cai.tabulate(world).to("cuda", dtype)
        seen, truth = cai.solve(there, rule, temperature=0.3), cai.solve(world, rule, temperature=0.3)
        assert seen.v.device.type == "cuda"
        torch.testing.assert_close(seen.v.cpu().double(), truth.v, **tolerance)
        torch.testing.assert_close(seen.policy.probs(3).cpu().double(), truth.policy.probs(3), **tolerance)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD], ids=str)
def test_the_compiled_form_of_a_large_world(rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "KERNEL_WORK", 0)
    world = cai.tabulate(load_model("grid")(rows=40, columns=40))
    truth = cai.solve(world, rule, temperature=0.3)
    torch.testing.assert_close(cai.solve(world.to("cuda"), rule, temperature=0.3).v.cpu(), truth.v, rtol=0, atol=1e-10)


def test_gradients_and_batches_on_the_gpu() -> None:
    from dataclasses import replace

    world = cai.tabulate(RandomWorld(5, 6, 3, 3, 12, holes=False))
    gradients = []
    for place in ("cpu", "cuda"):
        reward = world.reward.to(place, copy=True).requires_grad_()
        there = replace(world.to(place), reward=reward)
        cai.solve(there, temperature=[0.5, 2.0]).log_evidence.sum().backward()
        gradients.append(reward.grad.cpu())
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)

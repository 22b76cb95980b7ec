"""fit: steps and seconds to a thousandth of a nat, what a gradient costs, how noisy the sampled ones are."""

from typing import Any

import pytest
import torch

import cai
from cai.exact.tables.policy_evaluation import policy_elbo
from tests.benchmarks.conftest import FITS, GRADIENTS, VARIANCES
from tests.gradients import samples
from tests.test_elbo import by_pyro, by_tables, random_policy
from tests.worlds import RandomWorld

WORLDS = {
    "FrozenLake 8x8 slippery, T=100, α=0.1": ("FrozenLake-v1", {"map_name": "8x8"}, 0.1),
    "CliffWalking slippery, T=100, α=1": ("CliffWalking-v1", {"is_slippery": True}, 1.0),
}
POLICIES = {
    "tabular": lambda world: cai.policies.TabularPolicy(world),
    "stationary": lambda world: cai.policies.TabularPolicy(world, stationary=True),
    "neural": lambda world: cai.policies.NeuralPolicy(world),
}


pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", WORLDS)
def test_fit(benchmark: Any, name: str, kind: str) -> None:
    identifier, options, alpha = WORLDS[name]
    world = cai.from_gymnasium(identifier, horizon=100, **options)
    tables = cai.tabulate(world)

    tolerance = 0.0 if kind == "stationary" else 1e-3  # a stationary table is shown at its best

    def fitted() -> cai.learn.Learned:
        torch.manual_seed(0)
        return cai.fit(
            tables, POLICIES[kind](world), temperature=alpha, tolerance=tolerance, steps=2000, progress=False
        )

    found = benchmark.pedantic(fitted, rounds=1)
    assert found.gap == pytest.approx(cai.evaluate(tables, found, temperature=alpha).optimality_gap, abs=1e-9)
    if kind == "tabular":
        assert found.stopped == "gap"
    FITS.append({"world": name, "policy": kind, "fit": found, "seconds": benchmark.stats.stats.median})


@pytest.mark.parametrize("method", ["cai, tables", "autograd through the tables", "Pyro, TraceEnum_ELBO"])
@pytest.mark.parametrize(("map_name", "horizon"), [("4x4", 20), ("8x8", 100)])
def test_gradient(benchmark: Any, method: str, map_name: str, horizon: int) -> None:
    """One exact gradient of the same ELBO, three ways."""
    world = cai.from_gymnasium("FrozenLake-v1", horizon=horizon, map_name=map_name)
    policy, tables = random_policy(world, 0), cai.tabulate(world)

    def plain() -> tuple[float, torch.Tensor]:
        policy.zero_grad()
        value = swept(tables, policy.log_table(), 0.1)
        value.backward()
        return value.item(), policy.logits.grad.clone()

    def analytic() -> tuple[float, torch.Tensor]:
        policy.zero_grad()
        value = policy_elbo(tables, policy.log_table(), torch.tensor(0.1))
        value.backward()
        return value.item(), policy.logits.grad.clone()

    work = {
        "cai, tables": analytic,
        "autograd through the tables": plain,
        "Pyro, TraceEnum_ELBO": lambda: by_pyro(world, policy, 0.1),
    }[method]
    benchmark.group = f"gradient, FrozenLake {map_name}"
    value, gradient = benchmark.pedantic(work, rounds=3, warmup_rounds=1)
    truth = by_tables(world, policy, 0.1)
    assert value == pytest.approx(truth[0], rel=1e-9)
    torch.testing.assert_close(gradient, truth[1], rtol=1e-8, atol=1e-10)
    case = f"FrozenLake {map_name}, T={horizon}"
    GRADIENTS.append({"case": case, "method": method, "seconds": benchmark.stats.stats.median})


def swept(tables: cai.Tables, log_pi: torch.Tensor, alpha: float) -> torch.Tensor:
    """ELBO(π) by a backward sweep in plain torch, for autograd to walk back."""
    p, v = tables.log_prob.exp(), tables.terminal
    for t in range(tables.horizon - 1, -1, -1):
        q = (p * (tables.reward + v[tables.successor])).sum(-1)
        v = (log_pi[t].exp() * (q - alpha * (log_pi[t] - tables.log_prior))).sum(-1)
    return (tables.log_initial.exp() * v).sum() / alpha


@pytest.mark.parametrize("kind", ["score function", "reward-to-go", "TraceGraph", "baseline"])
@pytest.mark.parametrize("horizon", [4, 16])
def test_variance(benchmark: Any, kind: str, horizon: int) -> None:
    """The variance of one trajectory's gradient, all coordinates together, and the cost of 10,000 of them."""
    world = RandomWorld(3, 3, 2, 2, horizon, holes=False)
    logits = torch.randn((horizon, 3, 2), generator=torch.Generator().manual_seed(1))
    benchmark.group = f"variance, T={horizon}"
    drawn = benchmark.pedantic(lambda: samples(world, logits, kind, 10_000, 0.7), rounds=3)
    policy = cai.policies.TabularPolicy(world)
    policy.logits.data = logits - policy.log_base
    truth = by_tables(world, policy, 0.7)[1]
    assert bool(((drawn.mean(0) - truth).abs() <= 4.5 * drawn.std(0) / 100 + 1e-12).all())
    variance = float(drawn.var(0).sum())
    VARIANCES.append(
        {
            "case": f"random world, T={horizon}",
            "kind": kind,
            "variance": variance,
            "seconds": benchmark.stats.stats.median,
        }
    )

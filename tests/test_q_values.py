"""from_q: tables and functions of action values as policies."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

import cai
from tests.worlds import FactoredWorld, RandomWorld

Q = [[1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [3.0, 3.0, 3.0]]


def world() -> Any:
    """Three states, three actions, nothing forbidden."""
    return RandomWorld(1, 3, 3, 2, 4, holes=False)


def test_greedy_shares_ties() -> None:
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    for given in (Q, np.array(Q), torch.tensor(Q, dtype=torch.float64), lambda s, t: torch.tensor(Q)[s]):
        policy: Any = cai.from_q(given, world())
        torch.testing.assert_close(policy.probs(0), expected)
    torch.testing.assert_close(cai.from_q(Q), expected)


def test_boltzmann_is_the_priors_tilt() -> None:
    policy: Any = cai.from_q(Q, world(), temperature=0.5)
    prior = cai.tabulate(world()).at(0).log_prior.exp().tolist()
    for s in range(3):
        weights = [prior[s][a] * math.exp(Q[s][a] / 0.5) for a in range(3)]
        found = policy.probs(0)[s].tolist()
        assert found == pytest.approx([one / sum(weights) for one in weights], abs=1e-12)
    assert cai.from_q(Q, temperature=0.5)[1].tolist() == pytest.approx(  # type: ignore[index]
        [math.exp(q / 0.5) / sum(math.exp(p / 0.5) for p in Q[1]) for q in Q[1]], abs=1e-12
    )


def test_what_is_forbidden_is_never_best() -> None:
    barred = RandomWorld(1, 4, 3, 2, 4, holes=True)
    allowed = cai.tabulate(barred).at(2).log_prior > -torch.inf
    policy: Any = cai.from_q(torch.where(allowed, 0.0, 9.0), barred)
    torch.testing.assert_close(policy.probs(2), allowed.double() / allowed.sum(-1, keepdim=True))
    nothing: Any = cai.from_q(torch.full((4, 3), -torch.inf), barred, temperature=1.0)
    torch.testing.assert_close(nothing.log_probs(2), cai.tabulate(barred).at(2).log_prior)


@pytest.mark.parametrize("compiled", [lambda one: one, cai.tabulate, cai.factorise])
def test_the_optimal_q_gives_the_optimal_policy(compiled: Any) -> None:
    lake = compiled(cai.from_gymnasium("FrozenLake-v1", horizon=8))
    for rule, alpha in ((cai.HARD, None), (cai.VARIATIONAL, 0.1)):
        best: Any = cai.solve(lake, rule, temperature=0.1)
        q = torch.stack([best.q(t) for t in range(8)])
        for rows in (q, q[:, :16]):  # the state "ended" may be left out
            policy = cai.from_q(rows, lake, temperature=alpha)
            found, expected = cai.evaluate(lake, policy, temperature=0.1), cai.evaluate(lake, best, temperature=0.1)
            assert found.expected_return == pytest.approx(expected.expected_return, abs=1e-12)
            if alpha is not None:
                assert found.elbo == pytest.approx(expected.elbo, abs=1e-12)


def test_a_function_is_asked_about_living_states() -> None:
    lake = cai.from_gymnasium("FrozenLake-v1", horizon=8)
    table = torch.rand(16, 4, generator=torch.Generator().manual_seed(0))

    def q(state: Tensor, t: int) -> Tensor:
        return one_hot(state, 16).float() @ table

    assert cai.evaluate(lake, cai.from_q(q, lake)).elbo == cai.evaluate(lake, cai.from_q(table, lake)).elbo


def test_it_acts_and_goes_through_a_pickle() -> None:
    policy: Any = cai.from_q(np.arange(24.0).reshape(6, 4), cai.tabulate(FactoredWorld()))
    assert torch.equal(pickle.loads(pickle.dumps(policy)).probs(0), policy.probs(0))
    assert cai.rollout(FactoredWorld(), policy, batch=7).rewards.shape[1] == 7


@pytest.mark.parametrize(
    ("q", "words"),
    [
        ([[1.0, 2.0, 3.0]], r"shape \[1, 3\]; expected \[S, A\] = \[3, 3\]"),
        ([1.0, 2.0, 3.0], r"shape \[3\]"),
        ([[math.nan] * 3] * 3, "NaN"),
        ([[math.inf] * 3] * 3, "inf"),
        ("q", "a str"),
        (None, "a NoneType"),
        (lambda s, t: torch.zeros(2, 2), r"shape \[2, 2\]"),
        (lambda s: 0, "TypeError"),
    ],
)
def test_what_is_no_q_is_refused(q: Any, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.evaluate(world(), cai.from_q(q, world()))
    with pytest.raises(cai.WorldError, match="temperature"):
        cai.from_q(Q, world(), temperature=0.0)

"""Exact messages against full enumeration, on random worlds."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import cai
from tests.helpers import examples
from tests.oracles import enumeration as oracle
from tests.worlds import RandomWorld, random_worlds, temperatures

TOLERANCE = 1e-10
many = examples(16)


def agrees(ours: float, truth: float) -> bool:
    return ours == truth if math.isinf(truth) else abs(ours - truth) <= TOLERANCE * max(1.0, abs(truth))


def possible(world: RandomWorld, alpha: float) -> bool:
    return oracle.log_evidence(world, alpha) > -math.inf


@many
@given(random_worlds(), temperatures)
def test_evidence_equals_enumeration(world: RandomWorld, alpha: float) -> None:
    truth = oracle.log_evidence(world, alpha)
    if truth == -math.inf:
        with pytest.raises(cai.ImpossibleError, match="evidence is zero"):
            cai.solve(world, temperature=alpha)
    else:
        assert agrees(float(cai.solve(world, temperature=alpha).log_evidence), truth)


@many
@given(random_worlds(), temperatures, st.sampled_from([-2.0, -0.3, 0.5, 4.0]))
def test_values_equal_recursion_over_histories(world: RandomWorld, alpha: float, eta: float) -> None:
    for name, rule in (("VARIATIONAL", cai.VARIATIONAL), ("HARD", cai.HARD), ("RISK", cai.RISK(eta))):
        truth = oracle.value(world, name, alpha, eta)
        if truth == -math.inf:
            with pytest.raises(cai.ImpossibleError):
                cai.solve(world, rule, temperature=alpha)
        else:
            assert agrees(float(cai.solve(world, rule, temperature=alpha).value), truth)


@many
@given(random_worlds(), temperatures)
def test_most_probable_trajectory_equals_enumeration(world: RandomWorld, alpha: float) -> None:
    assume(possible(world, alpha))
    messages = cai.solve(world, cai.MAP, temperature=alpha)
    truth = oracle.best(world, alpha)
    assert agrees(float(messages.value), truth)
    found = messages.most_probable()
    length = int(found.alive[0, :-1].sum())
    visited = list(zip(found.states[0].tolist(), found.actions[0].tolist(), strict=False))[:length]
    winners = [p for p in oracle.paths(world) if agrees(alpha * p.log_p + p.rewards, truth)]
    assert visited in [[(s, a) for s, a, _ in p.visits] for p in winners]


@many
@given(random_worlds(), temperatures)
def test_marginals_equal_enumeration(world: RandomWorld, alpha: float) -> None:
    assume(possible(world, alpha))
    messages = cai.solve(world, temperature=alpha)
    for t in range(world.horizon):
        truth = torch.tensor(oracle.marginal(world, alpha, t), dtype=torch.float64)
        torch.testing.assert_close(messages.outcome_marginals(t), truth, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(messages.marginals(t), truth.sum(-1), rtol=0, atol=TOLERANCE)
    start = torch.zeros(world.S, dtype=torch.float64)
    for weight, path in oracle.posterior(world, alpha):
        start[path.start] += weight
    torch.testing.assert_close(messages.initial(), start, rtol=0, atol=TOLERANCE)


@many
@given(random_worlds(), temperatures)
def test_pairs_policy_and_dynamics_equal_enumeration(world: RandomWorld, alpha: float) -> None:
    assume(possible(world, alpha))
    messages, t = cai.solve(world, temperature=alpha), world.horizon - 1
    pairs = torch.zeros(world.S, world.S, dtype=torch.float64)
    for weight, path in oracle.posterior(world, alpha):
        if path.end is not None:
            pairs[path.visits[t][0], path.end] += weight
    torch.testing.assert_close(messages.pairs(t).to_dense(), pairs, rtol=0, atol=TOLERANCE)
    joint = torch.tensor(oracle.marginal(world, alpha, t), dtype=torch.float64)
    visited = joint.sum(-1)
    seen = visited > 1e-6  # conditionals of what is hardly ever visited are quotients of rounding errors
    conditional = (joint / visited.unsqueeze(-1))[seen]
    torch.testing.assert_close(messages.dynamics(t).exp()[seen], conditional, rtol=0, atol=1e-8)
    rows = visited.sum(-1) > 1e-6
    policy = (visited / visited.sum(-1, keepdim=True))[rows]
    torch.testing.assert_close(messages.policy.probs(t)[rows], policy, rtol=0, atol=1e-8)


@many
@given(random_worlds(), temperatures)
def test_forward_and_backward_messages_meet(world: RandomWorld, alpha: float) -> None:
    assume(possible(world, alpha))
    messages = cai.solve(world, temperature=alpha)
    met = torch.logsumexp(messages.forward + messages.v / alpha, -1)
    dead = torch.zeros_like(met)
    if world.discount < 1:  # the alive share of the posterior, by enumeration
        weights = oracle.posterior(world, alpha)
        alive = [sum(w for w, p in weights if len(p.visits) > t) for t in range(world.horizon)]
        alive.append(sum(w for w, p in weights if p.end is not None))
        dead = torch.tensor(alive, dtype=torch.float64).log()
    torch.testing.assert_close(met - dead, messages.log_evidence.expand_as(met), rtol=1e-10, atol=1e-9)


@many
@given(random_worlds(), temperatures)
def test_variational_is_at_most_posterior(world: RandomWorld, alpha: float) -> None:
    assume(oracle.value(world, "VARIATIONAL", alpha) > -math.inf)
    elbo = cai.solve(world, cai.VARIATIONAL, temperature=alpha).elbo
    assert float(elbo) <= float(cai.solve(world, temperature=alpha).log_evidence) + TOLERANCE


@many
@given(random_worlds(K=1, discount=1.0), temperatures)
def test_rules_agree_where_dynamics_are_deterministic(world: RandomWorld, alpha: float) -> None:
    world.start = torch.eye(world.S, dtype=torch.float64)[0]
    assume(possible(world, alpha))
    post, var = cai.solve(world, temperature=alpha), cai.solve(world, cai.VARIATIONAL, temperature=alpha)
    torch.testing.assert_close(post.log_evidence, var.elbo, rtol=1e-12, atol=TOLERANCE)


@examples(10)
@given(random_worlds(holes=False), temperatures)
def test_risk_is_monotone_in_eta_and_holds_both_ends(world: RandomWorld, alpha: float) -> None:
    tables = cai.tabulate(world)

    def value(eta: float) -> float:
        return float(cai.solve(tables, cai.RISK(eta), temperature=alpha).value)

    post, var = (float(cai.solve(tables, rule, temperature=alpha).value) for rule in (cai.POSTERIOR, cai.VARIATIONAL))
    assert agrees(value(alpha), post)
    assert agrees(value(math.inf), var)
    assert agrees(value(-math.inf), var)
    averse = [value(eta) for eta in (-0.2, -1.0, -50.0)]
    seeking = [value(eta) for eta in (50.0, 1.0, 0.2)]
    ladder = [*averse, var, *seeking]
    assert all(low <= high + 1e-9 for low, high in itertools.pairwise(ladder))


@many
@given(random_worlds(), st.integers(0, 2**31 - 1))
def test_posterior_samples_have_the_posterior_distribution(world: RandomWorld, seed: int) -> None:
    assume(possible(world, 1.0))
    n = 2000
    messages = cai.solve(world)
    drawn = messages.sample(n, generator=torch.Generator().manual_seed(seed))
    for t in range(world.horizon):
        truth = torch.tensor(oracle.marginal(world, 1.0, t), dtype=torch.float64).sum(-1)
        alive = drawn.alive[:, t]
        counts = torch.zeros(world.S, world.A, dtype=torch.float64)
        counts.index_put_((drawn.states[alive, t], drawn.actions[alive, t]), counts.new_ones(()), accumulate=True)
        error = (truth * (1 - truth) / n).clamp(min=0).sqrt()
        assert bool((((counts / n) - truth).abs() <= 6 * error + 1e-12).all())

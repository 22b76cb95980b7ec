"""fit says what is wrong, and leaves the policy whole."""

import pytest
import torch

import cai
from tests.worlds import PointMass, RandomWorld, Ring

pytestmark = pytest.mark.usefixtures("float64")


def small(**options) -> RandomWorld:
    return RandomWorld(3, 3, 2, 2, 3, holes=False, **options)


class Trap(RandomWorld):
    """Action 1 risks a reward of -inf."""

    def step(self, state, action, t):
        following, reward = super().step(state, action, t)
        return following, torch.where(action == 1, -torch.inf, reward)


def test_a_policy_that_risks_the_forbidden_is_named_and_left_whole() -> None:
    world = Trap(0, 3, 2, 2, 3, holes=False)
    for estimator in ("tables", "enumeration", "score"):
        policy = cai.policies.TabularPolicy(world)
        with pytest.raises(cai.WorldError, match=r"t = 0, state s=\d: a=1 can be chosen, which risks a reward of -inf"):
            cai.fit(world, policy, estimator=estimator, steps=5)
        assert bool((policy.logits == 0).all())
        assert policy.logits.grad is None or bool((policy.logits.grad == 0).all())
    safe = cai.without_risk(world)
    for policy in (cai.policies.TabularPolicy(safe, stationary=True), cai.policies.NeuralPolicy(safe, hidden=(8,))):
        assert cai.fit(world, policy, steps=100).gap < 0.01
    found = cai.fit(world, tolerance=1e-5)  # the default policy keeps to what is safe
    assert found.stopped == "gap"
    assert bool((found.policy.probs(0)[:, 1] == 0).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -1}, "steps"),
        ({"particles": 0}, "particles"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"every": 0}, "every"),
        ({"temperature": torch.tensor([1.0, 2.0])}, "one temperature"),
        ({"temperature": 0.0}, "temperature"),
        ({"estimator": "magic"}, "'tables', 'exact', 'enumeration'"),
        ({"optimizer": -3.0}, "step size"),
        ({"seed": 10**30}, "seed"),
        ({"policy": "left"}, "one of tabular, stationary, neural"),
        ({"policy": 3}, "a torch module with act"),
        ({"policy": torch.nn.Linear(1, 1)}, "a torch module with act"),
    ],
)
def test_a_wrong_argument_is_named(options: dict, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.fit(small(), **options)


def test_more_wrong_arguments() -> None:
    world = small()
    policy = cai.policies.TabularPolicy(world)
    with pytest.raises(cai.WorldError, match="closure"):
        cai.fit(world, policy, optimizer=torch.optim.LBFGS(policy.parameters()))
    with pytest.raises(cai.WorldError, match="a world, whose program can be run"):
        cai.fit(cai.tabulate(world), estimator="enumeration")
    with pytest.raises(cai.WorldError, match="something to fit"):
        cai.fit(world, policy.requires_grad_(False))
    with pytest.raises(cai.WorldError, match="one world"):
        cai.fit(cai.stack([cai.tabulate(world), cai.tabulate(world)]))
    with pytest.raises(cai.WorldError, match="horizon"):
        cai.fit(world, cai.policies.TabularPolicy(RandomWorld(3, 3, 2, 2, 2, holes=False)))
    for estimator in ("tables", "enumeration"):
        with pytest.raises(cai.IntractableError):
            cai.fit(Ring(), estimator=estimator)
    with pytest.raises(cai.IntractableError):
        cai.fit(PointMass(), cai.policies.NeuralPolicy(PointMass()), estimator="enumeration")
    with pytest.raises(cai.WorldError, match="full guide"):
        cai.fit(world, cai.learn.FullGuide(world), estimator="tables")


def test_nothing_is_possible_says_so() -> None:
    world = RandomWorld(0, 2, 2, 2, 2, holes=False)
    world.reward = torch.full_like(world.reward, -torch.inf)
    with pytest.raises(cai.ImpossibleError):
        cai.fit(world)

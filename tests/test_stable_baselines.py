"""Stable-Baselines3 models as policies: the probabilities are the models' own, and every nat is accounted for."""

import math
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import cai
from cai.bridges.environment import to_gymnasium
from cai.bridges.stable_baselines import from_sb3
from tests.helpers import load_model
from tests.worlds import FactoredWorld, PointMass, RandomWorld

sb3 = pytest.importorskip("stable_baselines3", reason="the extra [sb3] is not installed")
contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
TINY = {"PPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1}, "A2C": {}, "DQN": {"learning_starts": 20}}


def trained(kind: str, world: Any, steps: int = 64, **options: Any) -> Any:
    """Return a model that has seen a few steps of a world."""
    options = {**TINY.get(kind, {"learning_starts": 20, "policy_kwargs": {"net_arch": [8]}}), **options}
    model = getattr(sb3, kind)("MlpPolicy", to_gymnasium(world), device="cpu", seed=0, **options)
    return model.learn(steps)


def small() -> RandomWorld:
    """Return a world of three states and three actions, with nothing forbidden."""
    return RandomWorld(1, 3, 3, 2, 4, holes=False)


@pytest.fixture(scope="module")
def sac() -> Any:
    return trained("SAC", load_model("pendulum")(horizon=10))


@pytest.fixture(scope="module")
def clipped() -> Any:
    return trained("A2C", PointMass(bounded=True))


@pytest.mark.parametrize("kind", ["PPO", "A2C"])
def test_tables_are_the_models_own_probabilities(kind: str) -> None:
    model = trained(kind, small())
    own = model.policy.get_distribution(torch.arange(3)).distribution.probs.double()
    policy = from_sb3(model)
    assert isinstance(policy, cai.policies.protocol.FinitePolicy)
    torch.testing.assert_close(policy.probs(0), own, rtol=0, atol=1e-6)  # the model computes in float32
    torch.testing.assert_close(policy.probs(3).sum(-1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["PPO", "A2C"])
def test_joint_actions_are_the_product_of_the_models_own(kind: str) -> None:
    model = trained(kind, FactoredWorld())
    rows = torch.tensor([[floor, door] for floor in range(3) for door in range(2)])
    lift, push = (one.probs.double() for one in model.policy.get_distribution(rows).distribution)
    own = (lift.unsqueeze(-1) * push.unsqueeze(-2)).reshape(6, 4)
    torch.testing.assert_close(from_sb3(model).probs(0), own, rtol=0, atol=1e-6)  # type: ignore[attr-defined]


@pytest.mark.parametrize("world", [small(), load_model("deep_sea")(size=3)], ids=["discrete", "multi-discrete"])
def test_dqn_is_greedy(world: Any) -> None:
    model = trained("DQN", world)
    states = cai.tabulate(world).states
    rows = np.array([list(states.split(torch.tensor(s)).values()) for s in range(states.size)])
    greedy, _ = model.predict(rows.squeeze(-1) if rows.shape[-1] == 1 else rows, deterministic=True)
    probs = from_sb3(model).probs(0)  # type: ignore[attr-defined]
    assert torch.equal(probs, torch.eye(probs.shape[-1], dtype=torch.float64)[torch.as_tensor(greedy)])


@pytest.mark.parametrize("kind", ["PPO", "A2C", "DQN"])
def test_every_nat_is_accounted_for(kind: str) -> None:
    world = small()
    result = cai.evaluate(world, from_sb3(trained(kind, world), world), temperature=0.5)
    assert result.optimality_gap > 0
    assert result.optimality_gap == pytest.approx(float(result.policy_nats.sum()), abs=1e-10)
    parts = result.start_nats + float(result.action_nats.sum()) + float(result.luck_nats.sum())
    assert result.evidence_gap == pytest.approx(parts, abs=1e-10)
    assert result.regret == pytest.approx(result.best_return - result.expected_return, abs=1e-10)
    state = cai.tabulate(world).state(0)
    assert list(result.policy.at(0, **state).values()) == pytest.approx(result.policy.probs(0)[0].tolist())


def test_the_program_and_the_table_are_one_policy() -> None:
    world = FactoredWorld()
    policy = from_sb3(trained("PPO", world))
    exact = cai.evaluate(world, policy).elbo
    assert cai.elbo(world, policy, method="enumeration").value == pytest.approx(exact, abs=1e-10)
    sampled = cai.elbo(world, policy, method="sampling", samples=2000)
    assert abs(sampled.value - exact) <= 4 * sampled.standard_error
    assert cai.compare(world, {"ppo": policy, "best": cai.VARIATIONAL}).rows[0].elbo == pytest.approx(exact)


@pytest.mark.slow
def test_ppo_learns() -> None:
    """Four thousand steps close most of the gap between the prior and the best return."""
    world = small()
    model = trained("PPO", world, 4096, n_steps=512, batch_size=64, n_epochs=10, learning_rate=3e-3, gamma=1.0)
    prior, best = (cai.evaluate(world, one).expected_return for one in (None, cai.HARD))
    assert cai.evaluate(world, from_sb3(model)).expected_return > (prior + best) / 2


def test_sac_has_its_own_density_in_the_worlds_units(sac: Any) -> None:
    """Off by no more than the 1e-6 that SB3 adds under its logarithm, and that keeps us off the ends."""
    policy, world = from_sb3(sac), load_model("pendulum")()
    state = torch.tensor([[0.1, 0.2], [3.0, -1.0], [-2.0, 4.0]], dtype=torch.float64)
    mean, log_std, _ = sac.actor.get_action_dist_params(world.features(state).float())
    own = sac.actor.action_dist.proba_distribution(mean, log_std)
    scaled = torch.tensor([[-0.9], [0.05], [0.8]])
    density = own.log_prob(scaled).double() - math.log(2)  # torques of ±2 Nm
    torch.testing.assert_close(policy.log_prob(state, 2 * scaled[:, 0].double()), density, rtol=0, atol=2e-5)


def test_sac_draws_what_the_model_draws(sac: Any) -> None:
    """The median is tanh of the mean: 2000 draws, 4 standard errors of a share of one half."""
    policy, state = from_sb3(sac), torch.tensor([0.1, 0.2], dtype=torch.float64)
    middle, _ = sac.predict(load_model("pendulum")().features(state).float().numpy(), deterministic=True)
    torch.manual_seed(0)
    drawn = policy.sample(state.expand(2000, 2))
    assert drawn.shape == (2000,)
    assert float(drawn.abs().max()) < 2
    assert abs(float((drawn < float(middle[0])).double().mean()) - 0.5) <= 4 * 0.5 / 2000**0.5


def test_sac_has_an_elbo() -> None:
    world = PointMass(bounded=True)
    estimate = cai.elbo(world, from_sb3(trained("SAC", world)), samples=500)
    assert estimate.method == "sampling"
    assert math.isfinite(estimate.value)


def test_clipped_actions_are_point_masses_at_the_ends(clipped: Any) -> None:
    policy, state = from_sb3(clipped), torch.tensor(0.3)
    with torch.no_grad():
        own = clipped.policy.get_distribution(torch.tensor([[0.3]])).distribution
    inside = torch.tensor([-0.5, 0.7])
    expected = own.log_prob(inside.unsqueeze(-1))[:, 0]
    torch.testing.assert_close(policy.log_prob(state, inside), expected.double(), check_dtype=False, rtol=0, atol=1e-5)
    assert policy.log_prob(state, torch.tensor([-1.0, 1.0, 1.5])).tolist() == [math.inf, math.inf, -math.inf]
    torch.manual_seed(0)
    drawn: Tensor = policy.sample(state.expand(4000))
    share, p = float((drawn == 1).double().mean()), 1 - float(own.cdf(torch.tensor(1.0)))
    assert abs(share - p) <= 4 * (p * (1 - p) / 4000) ** 0.5
    assert float(drawn.abs().max()) == 1


@pytest.mark.filterwarnings("ignore:Encountered .inf. log_prob_sum at site:UserWarning")  # the point masses, rightly
def test_the_kl_of_clipped_actions_is_infinite(clipped: Any) -> None:
    assert cai.elbo(PointMass(bounded=True), from_sb3(clipped), samples=100).value == -math.inf


def test_observations_are_normalised_as_in_training() -> None:
    world = PointMass(bounded=True)
    vectorised = sb3.common.vec_env.DummyVecEnv([lambda: to_gymnasium(world)])
    normalised = sb3.common.vec_env.VecNormalize(vectorised)
    model = sb3.PPO("MlpPolicy", normalised, device="cpu", seed=0, **TINY["PPO"]).learn(64)
    seen = torch.as_tensor(normalised.normalize_obs(np.array([[0.3]], np.float32)))
    own = model.policy.get_distribution(seen).distribution.log_prob(torch.tensor([[0.2]]))[:, 0].detach()
    got = from_sb3(model, world).log_prob(torch.tensor([0.3]), torch.tensor(0.2))
    torch.testing.assert_close(got, own, check_dtype=False, rtol=0, atol=1e-5)


def test_features_reach_the_model() -> None:
    class Seen(RandomWorld):
        def features(self, state: Tensor) -> Tensor:
            return torch.stack([state, state**2], -1) / 2

    world = Seen(1, 3, 3, 2, 4, holes=False)
    model = trained("A2C", world)
    own = model.policy.get_distribution(world.features(torch.arange(3))).distribution.probs.double()
    torch.testing.assert_close(from_sb3(model).probs(), own, rtol=0, atol=1e-6)  # type: ignore[attr-defined]


def test_real_states_have_no_table_but_an_elbo() -> None:
    world = load_model("mountain_car")(horizon=5)
    model = trained("A2C", world)
    policy, state = from_sb3(model), torch.tensor([[-0.5, 0.0], [0.1, 0.02]])
    own = model.policy.get_distribution(state).distribution.logits[:, 2].double().detach()
    torch.testing.assert_close(policy.log_prob(state, torch.tensor(2)).double(), own, rtol=0, atol=1e-6)
    assert cai.elbo(world, policy, samples=50).value == pytest.approx(-5, abs=1)  # a cost of 1 a step, and some KL
    with pytest.raises(cai.IntractableError):
        policy.probs()  # type: ignore[attr-defined]


def test_the_world_is_found_or_given() -> None:
    world = small()
    model = trained("A2C", world)
    found = [from_sb3(model), from_sb3(model, world), from_sb3(model, to_gymnasium(world))]
    assert all(torch.equal(one.log_probs(), found[0].log_probs()) for one in found)  # type: ignore[attr-defined]
    model.env = None
    assert isinstance(from_sb3(model, world), cai.Policy)
    with pytest.raises(cai.WorldError, match=r"from_sb3\(model, world\)"):
        from_sb3(model)


def test_what_does_not_fit_is_named() -> None:
    model = trained("A2C", small())
    wrapped = gymnasium.wrappers.TransformAction(to_gymnasium(small()), lambda a: (a + 1) % 3, None)
    options: dict[str, Any] = {"device": "cpu"}
    box = to_gymnasium(PointMass(bounded=True))
    for arguments, message in (
        ((3,), "a int; expected a model of Stable-Baselines3: PPO, A2C, TRPO, MaskablePPO, DQN"),
        ((sb3.TD3("MlpPolicy", box, **options),), "a TD3"),
        ((sb3.SAC("MlpPolicy", box, use_sde=True, **options),), "use_sde"),
        ((model, 3), "a world"),
        ((model, RandomWorld(0, 4, 3, 2, 4, holes=False)), r"observation_space: the model's Discrete\(3\)"),
        ((model, RandomWorld(0, 3, 2, 2, 4, holes=False)), "action_space"),
        ((model, gymnasium.make("FrozenLake-v1")), "FrozenLakeEnv, and no world beside it"),
        ((sb3.A2C("MlpPolicy", wrapped, **options),), "ActionWrapper"),
        ((sb3.A2C("MlpPolicy", gymnasium.make("FrozenLake-v1"), **options),), "FrozenLakeEnv"),
    ):
        with pytest.raises(cai.WorldError, match=message):
            from_sb3(*arguments)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(cai.WorldError, match=r"pip install 'cai\[sb3\]'"):
        from_sb3(object())


FEW = {"n_steps": 8, "batch_size": 8, "device": "cpu", "seed": 0}


@pytest.mark.parametrize("kind", ["PPO", "DQN"])
def test_a_model_of_the_plain_environment_is_read(kind: str) -> None:
    model = getattr(sb3, kind)("MlpPolicy", "FrozenLake-v1", device="cpu", seed=0)
    world = cai.from_gymnasium("FrozenLake-v1", horizon=6)
    policy: Any = from_sb3(model, world)
    if kind == "PPO":
        own = model.policy.get_distribution(torch.arange(16)).distribution.probs.detach().double()
    else:
        own = torch.eye(4, dtype=torch.float64)[torch.as_tensor(model.predict(np.arange(16), deterministic=True)[0])]
    torch.testing.assert_close(policy.probs(0)[:16], own, rtol=0, atol=1e-6)
    own = own / own.sum(-1, keepdim=True)
    expected = cai.evaluate(world, own, temperature=0.1)
    assert cai.evaluate(world, policy, temperature=0.1).elbo == pytest.approx(expected.elbo, abs=1e-5)
    assert cai.rollout(world, policy, batch=50).alive.shape[1] == 50


def test_a_model_of_another_environment_is_not() -> None:
    model = sb3.PPO("MlpPolicy", "FrozenLake8x8-v1", **FEW)
    with pytest.raises(cai.WorldError, match=r"Discrete\(64\); expected the world's, Discrete\(17\)"):
        from_sb3(model, cai.from_gymnasium("FrozenLake-v1", horizon=6))


def test_trpo_has_its_own_probabilities() -> None:
    model = contrib.TRPO("MlpPolicy", to_gymnasium(small()), **FEW)
    own = model.policy.get_distribution(torch.arange(3)).distribution.probs.detach().double()
    torch.testing.assert_close(from_sb3(model).probs(0), own, rtol=0, atol=1e-6)  # type: ignore[attr-defined]


def test_qr_dqn_is_greedy_in_the_mean_of_its_quantiles() -> None:
    model = contrib.QRDQN("MlpPolicy", to_gymnasium(small()), device="cpu", seed=0, buffer_size=10)
    greedy, _ = model.predict(np.arange(3), deterministic=True)
    probs = from_sb3(model).probs(0)  # type: ignore[attr-defined]
    assert torch.equal(probs, torch.eye(3, dtype=torch.float64)[torch.as_tensor(greedy)])


@pytest.mark.parametrize("kind", ["TQC", "CrossQ"])
def test_tqc_and_cross_q_draw_what_the_model_draws(kind: str) -> None:
    world = load_model("pendulum")(horizon=10)
    nets = {"net_arch": [8]}
    made = getattr(contrib, kind)
    model = made("MlpPolicy", to_gymnasium(world), device="cpu", seed=0, buffer_size=10, policy_kwargs=nets)
    policy, state = from_sb3(model), torch.tensor([[0.1, 0.2], [2.0, -1.0]], dtype=torch.float64)
    model.policy.set_training_mode(False)  # CrossQ normalises batches
    mean, log_std, _ = model.actor.get_action_dist_params(world.features(state).float())
    own = model.actor.action_dist.proba_distribution(mean, log_std)
    scaled = torch.tensor([[-0.6], [0.3]])
    density = own.log_prob(scaled).detach().double() - math.log(2)  # torques of ±2 Nm
    torch.testing.assert_close(policy.log_prob(state, 2 * scaled[:, 0].double()), density, rtol=0, atol=2e-5)


def test_maskable_ppo_is_masked_by_the_prior() -> None:
    world = RandomWorld(1, 4, 3, 2, 4, holes=True)
    model = contrib.MaskablePPO("MlpPolicy", to_gymnasium(world), **FEW)
    policy: Any = from_sb3(model, world)
    allowed = cai.tabulate(world).at(1).log_prior > -torch.inf
    assert not bool(allowed.all())
    own = model.policy.get_distribution(torch.arange(4), action_masks=allowed.numpy()).distribution.probs
    torch.testing.assert_close(policy.probs(1), own.detach().double(), rtol=0, atol=1e-6)
    assert policy.probs(1)[~allowed].max() == 0
    assert cai.evaluate(world, policy).kl_to_prior < math.inf


def test_maskable_ppo_over_several_actions() -> None:
    world = FactoredWorld()
    model = contrib.MaskablePPO("MlpPolicy", to_gymnasium(world), **FEW)
    rows = torch.tensor([[floor, door] for floor in range(3) for door in range(2)])
    lift, push = (one.probs.detach().double() for one in model.policy.get_distribution(rows).distributions)
    prior = cai.tabulate(world).at(0).log_prior.reshape(6, lift.shape[-1], -1) > -torch.inf
    lift, push = lift * prior.any(2), push * prior.any(1)
    own = (lift / lift.sum(-1, keepdim=True)).unsqueeze(-1) * (push / push.sum(-1, keepdim=True)).unsqueeze(-2)
    torch.testing.assert_close(from_sb3(model).probs(0), own.flatten(1), rtol=0, atol=1e-6)  # type: ignore[attr-defined]


def test_kinds_without_a_policy_are_refused_with_the_reason() -> None:
    recurrent = contrib.RecurrentPPO("MlpLstmPolicy", to_gymnasium(small()), **FEW)
    with pytest.raises(cai.WorldError, match="memory of its LSTM"):
        from_sb3(recurrent)
    sure = sb3.TD3("MlpPolicy", to_gymnasium(load_model("pendulum")(horizon=10)), device="cpu", buffer_size=10)
    with pytest.raises(cai.WorldError, match="is deterministic"):
        from_sb3(sure)

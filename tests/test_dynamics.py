"""Steps of our environments: by look-up and by program the world's own frequencies, one by one and many at once."""

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

import cai
from cai.bridges.environment import WorldEnvironments
from cai.exact.solve import solve
from cai.simulate import outcomes
from tests.helpers import load_model
from tests.oracles import enumeration
from tests.test_simulate import Goal
from tests.worlds import FactoredWorld, PointMass, RandomWorld, TimedWorld


def chi_square(counts: Any, p: Any) -> float:
    """Return Pearson's statistic as a standard normal deviate (Wilson and Hilferty 1931); what cannot be never is."""
    counts, p = np.asarray(counts, float), np.asarray(p, float)
    assert (counts[p == 0] == 0).all()
    counts, expected = counts[p > 0], p[p > 0] * counts.sum()
    df = len(expected) - 1
    x = float(((counts - expected) ** 2 / expected).sum())
    return ((x / df) ** (1 / 3) - (1 - 2 / (9 * df))) / (2 / (9 * df)) ** 0.5


def timed() -> TimedWorld:
    return TimedWorld(4, 3, 2, 3, 3, holes=False)


@pytest.fixture(params=["look-up", "program"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to step: without room for tables the program runs."""
    if request.param == "program":
        monkeypatch.setattr(outcomes, "MOST", 0)
    return str(request.param)


def is_of(form: str, env: Any) -> bool:
    return type(env.dynamics).__name__ == {"look-up": "LookedUp", "program": "Programmed"}[form]


def law(world: RandomWorld, actions: list[int]) -> dict[tuple[Any, ...], float]:
    """The law of s_0, s_1, r_0, s_2, r_1, … under fixed actions, γ = 1, in plain Python."""
    found: dict[tuple[Any, ...], float] = {(s,): p for s, p in enumerate(world.start.tolist()) if p > 0}
    for t, a in enumerate(actions):
        longer: Counter[tuple[Any, ...]] = Counter()
        for path, p in found.items():
            s, i = path[-1] if t == 0 else path[-2], world.time(t)
            for k in range(world.K):
                following, r = int(world.successor[i, s, a, k]), float(world.reward[i, s, a, k])
                r += float(world.last[following]) if t + 1 == world.horizon else 0.0
                longer[*path, following, round(r, 9)] += p * float(world.outcome[i, s, a, k])
        found = dict(longer)
    return found


def test_many_steps_at_once_have_the_worlds_frequencies(form: str) -> None:
    """20,000 trajectories against their exact law, every reward in it; 4 deviations of chi-square."""
    world, actions, n = timed(), [1, 0, 1], 20_000
    env: Any = cai.to_gymnasium(world, num_envs=n)
    assert is_of(form, env)
    columns = [env.reset(seed=0)[0]]
    for t, a in enumerate(actions):
        seen, paid, terminated, truncated, info = env.step(np.full(n, a))
        columns += [seen, paid.round(9)]
        assert (terminated | truncated).all() == (t == 2)
        assert (info["t"] == t + 1).all()
    counts, p = Counter(zip(*(column.tolist() for column in columns), strict=True)), law(world, actions)
    assert set(counts) <= set(p)
    assert abs(chi_square([counts[path] for path in p], list(p.values()))) < 4


def test_single_steps_have_gymnasiums_frequencies() -> None:
    """10,000 steps on the slippery lake against its own table P, every (s, a) by itself."""
    env, plain = cai.to_gymnasium(load_model("frozen_lake")(horizon=100)), gymnasium.make("FrozenLake-v1").unwrapped
    counts: dict[tuple[int, int], Counter[int]] = {}
    draw, (seen, _) = np.random.default_rng(0), env.reset(seed=1)
    for a in draw.integers(4, size=10_000).tolist():
        after, _, terminated, truncated, _ = env.step(a)
        counts.setdefault((int(seen), a), Counter())[16 if terminated else int(after)] += 1
        seen = env.reset()[0] if terminated or truncated else after
    scores = []
    for (s, a), each in counts.items():
        p: Counter[int] = Counter()
        for chance, following, _, done in plain.P[s][a]:  # type: ignore[attr-defined]
            p[16 if done else following] += chance
        if len(p) > 1 and each.total() > 50:
            scores.append(chi_square([each[k] for k in p], list(p.values())))
        assert set(each) <= set(p)
    assert len(scores) > 10
    assert max(map(abs, scores)) < 4


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_samples_of_the_messages_have_the_posteriors_frequencies(discount: float) -> None:
    """20,000 trajectories of p(τ | O = 1), deaths included, against every trajectory's own probability."""
    world, alpha = RandomWorld(7, 2, 2, 2, 3, holes=False, discount=discount), 0.7
    found = solve(world, cai.POSTERIOR, temperature=alpha).sample(20_000, generator=torch.Generator().manual_seed(0))
    lived = found.alive.tolist()
    p: Counter[tuple[Any, ...]] = Counter()
    for weight, path in enumeration.posterior(world, alpha):
        steps = tuple((s, a, round(float(world.reward[0, s, a, k]), 9)) for s, a, k in path.visits)
        p[path.start, steps, path.end] += weight
    counts: Counter[tuple[Any, ...]] = Counter()
    for s, a, r, alive in zip(
        found.states.tolist(), found.actions.tolist(), found.rewards.tolist(), lived, strict=True
    ):
        n = sum(alive[:-1])
        steps = tuple((s[t], a[t], round(r[t], 9)) for t in range(n))
        counts[s[0], steps, s[-1] if alive[-1] else None] += 1
    assert set(counts) <= set(p)
    assert abs(chi_square([counts[one] for one in p], list(p.values()))) < 4


def test_a_copy_that_has_ended_begins_anew_at_the_next_step(form: str) -> None:
    world = load_model("frozen_lake")(is_slippery=False, horizon=5)
    env: Any = cai.to_gymnasium(world, num_envs=2)
    assert is_of(form, env)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    told = [env.step(np.array([a, 0])) for a in (2, 1, 3, 2, 1, 0, 0)]  # right, down: into the hole; then anew
    assert [one[2].tolist() for one in told] == [[n in (1, 4), False] for n in range(7)]
    assert [one[3].tolist() for one in told] == [[False, n == 4] for n in range(7)]
    assert [one[4]["t"].tolist() for one in told] == [[1, 1], [2, 2], [0, 3], [1, 4], [2, 5], [0, 0], [1, 1]]
    assert [int(one[0][0]) for one in told if one[4]["t"][0] < 2] == [1, 0, 1, 0, 0]
    assert told[2][1].tolist() == [0.0, 0.0]


def test_a_seed_fixes_every_draw(form: str) -> None:
    env = cai.to_gymnasium(timed(), num_envs=5)
    before, found = torch.get_rng_state(), []
    for seed in (3, 3, 4):
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(np.ones(5, int))[0] for _ in range(8)]
        found.append(np.stack(seen).tolist())
    assert found[0] == found[1] != found[2]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_the_terminal_reward_is_paid_to_each_copy_at_its_own_horizon(form: str, discount: float) -> None:
    world = Goal(3, discount)
    single, env = cai.to_gymnasium(world), cai.to_gymnasium(world, num_envs=3)
    single.reset(seed=0)
    env.reset(seed=0)
    for _ in range(3):
        one, many = single.step(1), env.step(np.ones(3, int))
        assert many[1].tolist() == [one[1]] * 3
        assert (many[2].tolist(), many[3].tolist()) == ([one[2]] * 3, [one[3]] * 3)


def test_spaces_and_faults_of_many() -> None:
    world = FactoredWorld()
    env: Any = cai.to_gymnasium(world, num_envs=4)
    assert env.single_observation_space == cai.to_gymnasium(world).observation_space
    assert env.observation_space.shape == (4, 2)
    assert env.reset(seed=0)[0] in env.observation_space
    for _ in range(5):
        assert env.step(env.action_space.sample())[0] in env.observation_space
    with pytest.raises(cai.WorldError, match="expected"):
        env.step(np.full((4, 2), 7))
    with pytest.raises(gymnasium.error.ResetNeeded):
        cai.to_gymnasium(world, num_envs=2).step(np.zeros((2, 2), int))
    with pytest.raises(cai.WorldError, match="num_envs: 0"):
        cai.to_gymnasium(world, num_envs=0)
    mass: Any = cai.to_gymnasium(PointMass(bounded=True), num_envs=3)
    assert type(mass.dynamics).__name__ == "Programmed"
    mass.reset(seed=0)
    pushes = np.array([[-0.5], [0.0], [0.5]], np.float32)
    seen, paid, *_ = mass.step(pushes)
    assert seen.shape == mass.observation_space.shape
    assert len(set(paid.tolist())) == 3


class Gated:
    """Two action variables; "push" may be 1 only where "lift" is 0, and not at all in the last state."""

    horizon = 4

    def initial(self) -> Tensor:
        return pyro.sample("s", dist.Categorical(torch.ones(3)))

    def act(self, state: Tensor, t: int) -> dict[str, Tensor]:
        lift = pyro.sample("lift", dist.Categorical(torch.tensor([0.5, 0.5]).expand(*state.shape, 2)))
        open_ = (lift == 0) & (state < 2)
        push = torch.stack([torch.ones(open_.shape), open_.to(torch.get_default_dtype())], -1)
        return {"lift": lift, "push": pyro.sample("push", dist.Categorical(push))}

    def step(self, state: Tensor, action: dict[str, Tensor], t: int) -> tuple[Tensor, Tensor]:
        return pyro.sample("s", cai.Point((state + 1) % 3, 3)), torch.zeros(state.shape)


def test_masks_are_the_priors_support(form: str) -> None:
    env: Any = cai.to_gymnasium(Gated())
    env.reset(seed=0)
    for _ in range(3):
        assert env.action_masks().tolist() == [True, True, True, int(env.state) < 2]
        env.step(np.zeros(2, int))
    many: Any = cai.to_gymnasium(Gated(), num_envs=6)
    seen, _ = many.reset(seed=0)
    assert many.action_masks().tolist() == [[True, True, True, s < 2] for s in seen.tolist()]
    holes = TimedWorld(5, 4, 3, 2, 3)
    holes.reward = torch.where(holes.reward.isfinite(), holes.reward, -9.0)
    env = cai.to_gymnasium(holes)
    for seed in range(5):
        s, _ = env.reset(seed=seed)
        for t in range(3):
            allowed = env.action_masks()
            assert allowed.tolist() == (holes.prior[t, int(s)] > 0).tolist()
            s, *_ = env.step(int(allowed.argmax()))


def test_masks_of_what_has_none() -> None:
    env: Any = cai.to_gymnasium(PointMass(bounded=True))
    env.reset(seed=0)
    with pytest.raises(cai.WorldError, match="action_masks"):
        env.action_masks()
    with pytest.raises(gymnasium.error.ResetNeeded):
        cai.to_gymnasium(Gated()).action_masks()  # type: ignore[attr-defined]


def test_states_that_are_not_finite_have_masks_too() -> None:
    env: Any = cai.to_gymnasium(load_model("mountain_car")())
    env.reset(seed=0)
    assert env.action_masks().tolist() == [True, True, True]
    many = WorldEnvironments(load_model("mountain_car")(), 2)
    many.reset(seed=0)
    assert many.action_masks().tolist() == [[True, True, True]] * 2

"""Worlds that fall apart: what is solved part by part is what is solved jointly."""

import math
from dataclasses import replace
from typing import Any

import mpmath
import pyro
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.compile.table_model import Trajectories
from cai.exact.parts import parts_of
from tests.oracles.endless import DIGITS, Endless
from tests.test_forms import apart
from tests.worlds import Pair, RandomWorld

KINDS = (((2,), True), ((3, 2), False), ((2, 2, 2), True), ((2,), False))
"""The sizes of an island's variables, and whether it has an action."""


class Islands:
    """Islands that nothing ties, of random numbers by kind: variables are sampled island by island only at the last.

    An action ``idle`` is seen by a reward alone, and a constant reward by nothing. The reward reads no latent, so that
    it can be told from states and actions.
    """

    def __init__(self, kinds: tuple[int, ...] = (0, 1, 2, 3), seed: int = 0, discount: float = 1.0) -> None:
        self.kinds, self.horizon, self.discount = kinds, 3, discount
        self.idle, self.constant = torch.tensor([0.3, -0.2, 0.1]), 0.25
        self.tables = [self._random(kind, seed) for kind in kinds]
        deepest = max(len(KINDS[kind][0]) for kind in kinds)
        self.order = [  # the first variables of all islands, then the second: numbers of parts interleave
            (i, j) for j in range(deepest) for i, kind in enumerate(kinds) if j < len(KINDS[kind][0])
        ]

    def _random(self, kind: int, seed: int) -> dict[str, Any]:
        (sizes, acts), g = KINDS[kind], torch.Generator().manual_seed(97 * seed + kind)
        moves = 2 if acts else 1

        def logits(*shape: int) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64).log_softmax(-1)

        before = [1, *sizes[:-1]]
        return {
            "sizes": sizes,
            "acts": acts,
            "start": [logits(n, size) for n, size in zip(before, sizes, strict=True)],
            "prior": logits(sizes[0], 2),
            "wind": logits(2),
            "next": [logits(size, sizes[j - 1], moves, 2, size) for j, size in enumerate(sizes)],
            "pay": torch.randn((*sizes, moves, sizes[0]), generator=g, dtype=torch.float64),
            "last": torch.randn(sizes[-1], generator=g, dtype=torch.float64),
        }

    def initial(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for i, j in self.order:
            table = self.tables[i]["start"][j]
            logits = table[state[f"v{i}_{j - 1}"]] if j else table[0]
            state[f"v{i}_{j}"] = pyro.sample(f"v{i}_{j}", Categorical(logits=logits))
        return state

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        action = {"idle": pyro.sample("idle", Categorical(logits=torch.zeros(3)))}
        for i, one in enumerate(self.tables):
            if one["acts"]:
                action[f"a{i}"] = pyro.sample(f"a{i}", Categorical(logits=one["prior"][state[f"v{i}_0"]]))
        return action

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Any]:
        winds = [
            pyro.sample(f"w{i}", Categorical(logits=one["wind"])) if len(one["sizes"]) > 1 else torch.tensor(0)
            for i, one in enumerate(self.tables)
        ]
        following: dict[str, Tensor] = {}
        for i, j in self.order:
            one, n = self.tables[i], len(self.tables[i]["sizes"])
            key = (state[f"v{i}_{j}"], state[f"v{i}_{(j - 1) % n}"], self.move(i, action), winds[i])
            following[f"v{i}_{j}"] = pyro.sample(f"v{i}_{j}", Categorical(logits=one["next"][j][key]))
        return following, self.reward(state, action, following)

    def move(self, i: int, action: dict[str, Tensor]) -> Tensor:
        return action[f"a{i}"] if self.tables[i]["acts"] else torch.tensor(0)

    def reward(self, state: dict[str, Tensor], action: dict[str, Tensor], following: dict[str, Tensor]) -> Tensor:
        total = self.constant + self.idle[action["idle"]]
        for i, one in enumerate(self.tables):
            here = tuple(state[f"v{i}_{j}"] for j in range(len(one["sizes"])))
            total = total + one["pay"][(*here, self.move(i, action), following[f"v{i}_0"])]
        return total

    def terminal(self, state: dict[str, Tensor]) -> Any:
        return sum(one["last"][state[f"v{i}_{len(one['sizes']) - 1}"]] for i, one in enumerate(self.tables))


def both(factors: cai.Factors, rule: cai.Rule, alpha: float = 0.7) -> tuple[cai.Messages, cai.Messages]:
    whole = cai.solve(factors, rule, temperature=alpha)
    with apart():
        parts = cai.solve(factors, rule, temperature=alpha)
    assert len(whole.parts) == 1
    assert len(parts.parts) > 1
    return whole, parts


@pytest.fixture(scope="module")
def factors() -> cai.Factors:
    return cai.factorise(Islands())


def test_the_parts_share_no_variable_and_leave_none_out(factors: cai.Factors) -> None:
    parts = parts_of(factors)
    assert [sorted(part.states.names) for part in parts] == [
        ["v0_0"],
        ["v1_0", "v1_1"],
        ["v2_0", "v2_1", "v2_2"],
        ["v3_0"],
    ]
    assert [part.actions.names for part in parts] == [("idle", "a0"), (), ("a2",), ()]
    assert [tuple(part.latents) for part in parts] == [(), ("w1",), ("w2",), ()]
    assert sum(len(part.slices[0].reward) for part in parts) == len(factors.slices[0].reward)
    assert len(parts_of(parts[2])) == 1


def test_what_was_solved_says_its_parts(factors: cai.Factors) -> None:
    _, parts = both(factors, cai.POSTERIOR)
    assert "2 + 6 + 8 + 2 states" in repr(parts)
    assert (parts.iterations, parts.error_bound) == (3, 0)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_marginals_across_parts_are_products(rule: cai.Rule, factors: cai.Factors) -> None:
    whole, parts = both(factors, rule)
    for names in (("v2_1",), ("v2_0", "v0_0"), ("a2", "v1_1", "idle", "v2_2"), ("v3_0", "a0", "v1_0"), "v1_0"):
        for t in range(3):
            torch.testing.assert_close(parts.marginal(t, names), whole.marginal(t, names), rtol=0, atol=1e-12)
    one, other = parts.marginal(2, "v0_0"), parts.marginal(2, ("v2_0", "v2_1"))
    product = one[:, None, None] * other
    torch.testing.assert_close(parts.marginal(2, ("v0_0", "v2_0", "v2_1")), product, rtol=0, atol=1e-15)
    torch.testing.assert_close(parts.marginal(1, ("w1", "v0_0")), whole.marginal(1, ("w1", "v0_0")), rtol=0, atol=1e-12)
    for wrong in ("w9", (), ("v0_0", "v0_0"), ("v0_0", "v9_0")):
        with pytest.raises(cai.WorldError, match="marginal, names"):
            parts.marginal(1, wrong)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_policies_act_side_by_side(rule: cai.Rule, factors: cai.Factors) -> None:
    whole, parts = both(factors, rule)
    states, actions, n = factors.states, factors.actions, 40
    g = torch.Generator().manual_seed(0)
    s, a = (torch.randint(space.size, (n,), generator=g) for space in (states, actions))
    for t in range(3):
        truth = whole.policy.probs(t)[s, a].log()
        ours = parts.policy.log_prob(states.split(s), actions.split(a), t)
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-10)
    drawn = parts.policy.sample(states.split(s), 1)
    assert set(drawn) == set(actions.names)
    assert bool((whole.policy.probs(1)[s, actions.join(drawn)] > 0).all())


def rewards_of(world: Islands, factors: cai.Factors, drawn: Trajectories) -> Tensor:
    """The rewards by the world's own code, from the joint numbers."""
    states, actions = factors.states.split(drawn.states), factors.actions.split(drawn.actions)
    here, ahead = ({name: value[:, part] for name, value in states.items()} for part in (slice(-1), slice(1, None)))
    return world.reward(here, actions, ahead)


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_samples_are_numbered_jointly_and_follow_the_marginals(rule: cai.Rule, factors: cai.Factors) -> None:
    _, parts = both(factors, rule)
    n = 4000
    drawn = parts.sample(n, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.rewards, rewards_of(Islands(), factors, drawn), rtol=0, atol=1e-12)
    assert bool(drawn.alive.all())
    values = {**factors.states.split(drawn.states[:, 2]), **factors.actions.split(drawn.actions[:, 2])}
    for pair in (("v0_0", "v2_1"), ("v1_0", "idle"), ("a0", "a2")):
        truth = parts.marginal(2, pair)
        seen = torch.zeros_like(truth)
        seen.index_put_(tuple(values[name] for name in pair), torch.tensor(1 / n).double(), accumulate=True)
        assert bool(((seen - truth).abs() <= 5 * (truth * (1 - truth) / n).sqrt()).all())


# With a discount the parts die together


@pytest.fixture(scope="module")
def mortal() -> cai.Factors:
    return cai.factorise(Islands((0, 1, 3), discount=0.7))


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.MAP, cai.RISK(2.0)], ids=str)
def test_with_a_discount_only_averages_are_split(rule: cai.Rule, mortal: cai.Factors) -> None:
    whole = cai.solve(mortal, rule)
    with apart():
        assert len(cai.solve(mortal, rule).parts) == 1
        ones = [cai.solve(part, rule) for part in parts_of(mortal)]
    assert abs(sum(float(one.value) for one in ones) - float(whole.value)) > 1e-3


def test_samples_with_a_discount_die_as_one(mortal: cai.Factors) -> None:
    _, parts = both(mortal, cai.VARIATIONAL)
    n = 4000
    drawn = parts.sample(n, generator=torch.Generator().manual_seed(0))
    for t in range(4):
        p = 0.7**t
        assert abs(float(drawn.alive[:, t].double().mean()) - p) <= 5 * math.sqrt(p * (1 - p) / n)
    over = ~drawn.alive[:, :-1]
    assert bool((drawn.rewards[over] == 0).all())
    assert bool((drawn.states[:, 1:][over] == drawn.states[:, :-1][over]).all())
    paid = rewards_of(Islands((0, 1, 3), discount=0.7), mortal, drawn)
    torch.testing.assert_close(drawn.rewards, torch.where(over, 0.0, paid), rtol=0, atol=1e-12)
    with pytest.raises(cai.IntractableError, match="parts that share a discount"):
        parts.most_probable()


# Many islands


class Lights:
    """Lights that go on and off by themselves, each in its way, three of them by a switch."""

    horizon = 4

    def __init__(self, which: range) -> None:
        self.which = which
        self.names = [f"light{i}" for i in which]

    def initial(self) -> dict[str, Tensor]:
        return {name: pyro.sample(name, Categorical(torch.tensor([0.5, 0.5]))) for name in self.names}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        return {f"switch{i}": pyro.sample(f"switch{i}", Categorical(torch.ones(2))) for i in range(3)}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Any]:
        following, reward = {}, -0.3 * sum(action.values())
        for i, name in zip(self.which, self.names, strict=True):
            p = 0.1 + 0.02 * i * state[name]
            p = p if i >= 3 else p + 0.5 * action[f"switch{i}"]
            following[name] = pyro.sample(name, Categorical(torch.stack([1 - p, p], -1)))
            reward = reward + (0.5 - 0.01 * i) * following[name]
        return following, reward


def test_forty_islands_are_solved_without_a_table() -> None:
    many = cai.factorise(Lights(range(40)))
    assert many.states.size == 1 << 40
    found = cai.solve(many, temperature=0.7)
    assert len(found.parts) > 1
    assert len(found.parts) == 40
    few = [cai.solve(Lights(part), temperature=0.7, form="tables") for part in (range(3), range(3, 6))]
    assert float(sum(one.value for one in found.parts[:3])) == pytest.approx(float(few[0].value), rel=1e-10)
    assert float(few[1].value - sum(one.value for one in found.parts[3:6])) == pytest.approx(idle(0.7), rel=1e-10)
    assert float(found.value) == pytest.approx(float(sum(one.value for one in found.parts)), rel=1e-12)
    torch.testing.assert_close(found.marginal(2, ("light39", "light0")).sum(0), found.marginal(2, "light0"))
    drawn = found.sample(3, generator=torch.Generator().manual_seed(0))
    assert int(drawn.states.max()) > 1 << 32
    assert set(many.states.split(drawn.states)) == set(many.states.names)


def test_parts_keep_their_plans() -> None:
    factors = cai.factorise(Islands((0, 3)))
    with apart():
        first, second = (cai.solve(factors, rule, temperature=0.7) for rule in (cai.POSTERIOR, cai.HARD))
    for one, other in zip(first.operator.parts, second.operator.parts, strict=True):
        assert one.plan(0) is other.plan(0)


def idle(alpha: float) -> float:
    """What three switches that move nothing are worth: each step their price, averaged over the prior."""
    return 4 * 3 * alpha * math.log((1 + math.exp(-0.3 / alpha)) / 2)


def test_what_has_too_many_states_for_a_number_is_told() -> None:
    factors = cai.factorise(Islands((0, 3)))
    _, parts = both(factors, cai.POSTERIOR)
    wide = replace(factors.states, sizes=(1 << 32, 1 << 32))
    vast = replace(parts, operator=replace(parts.operator, model=replace(factors, states=wide)))
    for ask in (lambda: vast.sample(2), vast.most_probable):
        with pytest.raises(cai.IntractableError, match=r"at most 2\^62"):
            ask()


@pytest.mark.parametrize("rule", [cai.VARIATIONAL, cai.HARD], ids=str)
@settings(max_examples=4, phases=[Phase.generate])
@given(st.integers(0, 2**31 - 1), st.floats(-12, 8), st.floats(-6, 6), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_bound_of_a_sum_over_parts_holds_at_every_scale(
    rule: cai.Rule, seed: int, size: float, heat: float, gamma: float
) -> None:
    mpmath.mp.dps = DIGITS
    truth, scale = mpmath.mpf(0), 10**size
    halves = [RandomWorld(seed + i, 3, 2, 2, None, holes=False, discount=gamma) for i in range(2)]
    for half in halves:
        half.reward *= 10**size
    with apart():
        found = cai.solve(Pair((halves[0], halves[1])), rule, temperature=10**heat, form="factors")
    assert len(found.parts) > 1
    for half in halves:
        tables = cai.tabulate(half)
        oracle = Endless(tables, str(rule), 10**heat)
        v = oracle.solve([mpmath.mpf(0)] * 3)
        truth += oracle.start(v, tables.log_initial)
        scale = max(scale, *(abs(float(x)) for x in v))
    assert abs(mpmath.mpf(float(found.value)) - truth) <= found.error_bound < 1e-9 * scale

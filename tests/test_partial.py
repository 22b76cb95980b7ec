"""Partial observation: what is seen, beliefs, and policies over them, against histories enumerated in plain Python."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import pyro
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyro.distributions import Bernoulli, Categorical, Normal
from torch import Tensor

import cai
from cai.compile.observations import tabulate_observations
from cai.exact import forms
from cai.partial import belief_bounds, belief_tree
from cai.partial import factored_beliefs as factored
from cai.partial.belief_messages import BeliefMessages
from cai.partial.factored_beliefs import FactoredBeliefs, factored_beliefs
from cai.partial.filtering import (
    BeliefEngine,
    TableBeliefs,
    belief_engine,
    filter_beliefs,
    filter_with,
    see,
    table_beliefs,
)
from tests.helpers import examples, load_model, slow_after
from tests.oracles.endless import DIGITS, Endless
from tests.oracles.enumeration import NEVER, soft
from tests.worlds import FactoredWorld, RandomWorld, Ring, TimedWorld, temperatures

Tiger, HiddenMaze = load_model("tiger"), load_model("hidden_maze")
RULES = {"VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD}
LISTEN, LEFT, RIGHT = range(3)
FROM_LEFT, FROM_RIGHT, SILENCE = range(3)


@dataclass
class HiddenWorld(RandomWorld):
    """A random world of which a noisy reading ``o`` is seen, ``seen [S, O]``; its prior is the same in all states."""

    O: int = 2  # noqa: E741 — the number of observations

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prior = self.prior[:, :1].repeat(1, self.S, 1)
        g = torch.Generator().manual_seed(self.seed + 1)
        seen = torch.rand((self.S, self.O), generator=g, dtype=torch.float64) + 0.05
        if self.holes:
            seen = torch.where(torch.rand(seen.shape, generator=g) < 0.3, 0.0, seen)
            seen[:, 0] += 0.1
        self.seen = seen / seen.sum(-1, keepdim=True)

    def observe(self, state: Tensor) -> Tensor:
        return pyro.sample("o", Categorical(logits=self.seen[state].log()))


class HiddenTimed(HiddenWorld, TimedWorld):
    """The same, with slices that change over time."""


@st.composite
def hidden_worlds(draw: st.DrawFn, **fixed: Any) -> HiddenWorld:
    chosen = {
        "seed": draw(st.integers(0, 2**31 - 1)),
        "S": draw(st.integers(1, 3)),
        "A": draw(st.integers(1, 2)),
        "K": draw(st.integers(1, 2)),
        "O": draw(st.integers(1, 2)),
        "horizon": draw(st.integers(1, 3)),
        "holes": draw(st.booleans()),
        "discount": draw(st.sampled_from([1.0, 0.8])),
    }
    return draw(st.sampled_from([HiddenWorld, HiddenTimed]))(**{**chosen, **fixed})


def oracle(world: HiddenWorld, rule: str, alpha: float) -> float:
    """The start value by recursion over histories, each carried as the joint p(s_t, o_0 … o_t, alive | a_0 … a_{t-1}).

    Nothing is divided by p(history), and no two histories are held to be one.
    """
    S, A, K = range(world.S), range(world.A), range(world.K)

    def before(joint: list[float], t: int) -> float:
        if t == world.horizon:
            return sum(joint[s] * float(world.last[s]) for s in S if joint[s] > 0)
        return sum(after([joint[s] * float(world.seen[s, o]) for s in S], t) for o in range(world.O))

    def after(joint: list[float], t: int) -> float:
        mass = sum(joint)
        if mass == 0:
            return 0.0
        i, entries = world.time(t), []
        for a in A:
            reward, following = 0.0, [0.0 for _ in S]
            for s, k in itertools.product(S, K):
                w = joint[s] * float(world.outcome[i, s, a, k])
                if w > 0:
                    reward += w * float(world.reward[i, s, a, k])
                    following[int(world.successor[i, s, a, k])] += w * world.discount
            entries.append((float(world.prior[i, 0, a]), (reward + before(following, t + 1)) / mass))
        if rule == "HARD":
            return mass * max(x for w, x in entries if w > 0)
        return mass * soft(entries, alpha)

    return before(world.start.tolist(), 0)


History = tuple[tuple[int, ...], tuple[int, ...]]


def value_of(world: HiddenWorld, policy: Callable[[History], list[float]], alpha: float) -> float:
    """E[Σ r - α Σ log π/p] of a policy over histories, every trajectory one by one; α = 0 is the plain return."""

    def after(p: float, s: int, seen: tuple[int, ...], done: tuple[int, ...], t: int) -> float:
        if t == world.horizon:
            return p * float(world.last[s])
        i, total = world.time(t), 0.0
        for o in range(world.O):
            here = p * float(world.seen[s, o])
            pi = policy(((*seen, o), done)) if here > 0 else []
            for a, k in itertools.product(range(len(pi)), range(world.K)):
                w = here * pi[a] * float(world.outcome[i, s, a, k])
                if w > 0:
                    paid = alpha * math.log(pi[a] / float(world.prior[i, s, a])) if alpha else 0.0
                    total += w * (float(world.reward[i, s, a, k]) - paid)
                    s_next = int(world.successor[i, s, a, k])
                    total += after(w * world.discount, s_next, (*seen, o), (*done, a), t + 1)
        return total

    return sum(after(p, s, (), (), 0) for s, p in enumerate(world.start.tolist()) if p > 0)


@pytest.mark.parametrize("rule", RULES)
@examples(10)
@given(world=hidden_worlds(), alpha=temperatures)
def test_values_are_those_of_the_recursion_over_histories(rule: str, world: HiddenWorld, alpha: float) -> None:
    """And QMDP, which asks for nothing, is no better; and where the state is seen it is no worse."""
    expected = oracle(world, rule, alpha)
    if expected == NEVER:
        with pytest.raises(cai.ImpossibleError):
            cai.partial.solve(world, RULES[rule], temperature=alpha)
        return
    found, slack = cai.partial.solve(world, RULES[rule], temperature=alpha), 1e-10 * max(1, abs(expected))
    assert abs(float(found.value) - expected) <= slack
    assert float(found.qmdp) <= expected + slack
    assert expected <= float(found.fully_observed) + slack
    assert found.error_bound == 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("forbidden", "at"), [((0,), (0,)), ((0,), (1,)), ((0,), (0, 1, 2)), ((0, 1), (1,)), ((2,), (0, 1))]
)
def test_actions_may_be_forbidden_in_every_belief_of_a_time(
    rule: str, forbidden: tuple[int, ...], at: tuple[int, ...]
) -> None:
    world = HiddenTimed(seed=5, S=3, A=3, K=2, O=2, horizon=3, holes=False)
    for t in at:
        world.prior[t, :, list(forbidden)] = 0.0
    world.prior /= world.prior.sum(-1, keepdim=True)
    found = cai.partial.solve(world, RULES[rule], temperature=0.7)
    assert float(found.value) == pytest.approx(oracle(world, rule, 0.7), rel=1e-12)
    for t in at:
        assert bool((found.policy(t)[:, list(forbidden)] == 0).all())


@examples(6)
@given(world=hidden_worlds(holes=False, horizon=2), alpha=temperatures)
def test_the_policy_attains_the_value_and_others_do_not(world: HiddenWorld, alpha: float) -> None:
    found = cai.partial.solve(world, cai.VARIATIONAL, temperature=alpha)
    value = float(found.value)
    attained = value_of(world, lambda history: found.act(*history).tolist(), alpha)
    assert abs(attained - value) <= 1e-10 * max(1, abs(value))
    assert float(found.elbo) == pytest.approx(value / alpha, rel=1e-12)
    g = torch.Generator().manual_seed(world.seed)
    for _ in range(3):
        drawn: dict[History, list[float]] = {}

        def at_random(history: History, drawn: dict[History, list[float]] = drawn) -> list[float]:
            return drawn.setdefault(history, torch.rand(world.A, generator=g).double().softmax(0).tolist())

        assert value_of(world, at_random, alpha) <= value + 1e-10 * max(1, abs(value))


def test_hard_is_the_best_of_all_deterministic_policies_over_histories() -> None:
    for seed in range(3):
        world = HiddenWorld(seed=seed, S=3, A=2, K=2, horizon=2, holes=False, discount=0.9, O=2)
        firsts = [((o,), ()) for o in range(2)]
        seconds = [((o, p), (a,)) for o, p, a in itertools.product(range(2), repeat=3)]
        values = []
        for choice in itertools.product(range(2), repeat=len(firsts) + len(seconds)):
            plan = dict(zip([*firsts, *seconds], choice, strict=True))
            if all(choice[2 + n] == 0 or plan[((o,), ())] == a for n, ((o, _), (a,)) in enumerate(seconds)):
                # what follows an action that the plan does not take makes no new policy
                values.append(value_of(world, lambda h, plan=plan: [1.0 - plan[h], float(plan[h])], 0.0))
        assert len(values) == 64
        assert abs(float(cai.partial.solve(world, cai.HARD).value) - max(values)) <= 1e-12


def test_where_nothing_is_seen_hard_is_the_best_sequence_of_actions() -> None:
    world = HiddenTimed(seed=4, S=3, A=2, K=2, horizon=4, holes=False, O=1)
    plans = itertools.product(range(2), repeat=4)
    best = max(
        value_of(world, lambda h, plan=plan: [float(a == plan[len(h[1])]) for a in range(2)], 0.0) for plan in plans
    )
    found = cai.partial.solve(world, cai.HARD)
    assert abs(float(found.value) - best) <= 1e-12
    assert [len(found.beliefs(t)) for t in range(4)] == [1, 2, 4, 8]


@pytest.mark.parametrize("rule", RULES)
def test_where_all_is_seen_it_is_the_plain_solution(rule: str) -> None:
    class Seen(FactoredWorld):
        def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return state

    found, plain = (
        cai.partial.solve(Seen(3), RULES[rule], temperature=0.5),
        cai.solve(Seen(3), RULES[rule], temperature=0.5),
    )
    assert abs(float(found.value - plain.value)) <= 1e-12
    assert abs(float(found.qmdp - plain.value)) <= 1e-12
    for t in range(3):
        assert torch.equal(found.beliefs(t).sum(-1), torch.ones(6, dtype=torch.float64))
        s = found.beliefs(t).argmax(-1)
        torch.testing.assert_close(found.v(t), plain.v[t][s], rtol=0, atol=1e-12)
        torch.testing.assert_close(found.q(t), plain.q(t)[s], rtol=0, atol=1e-12)
        torch.testing.assert_close(found.policy(t), plain.policy.probs(t)[s], rtol=0, atol=1e-10)
    history = {"floor": [2, 1], "door": [0, 1]}
    assert torch.equal(found.act(history, {"lift": [1], "push": [0]}), found.act([4, 3], [2]))


# ---------------------------------------------------------------------------------------------------------- filtering


@examples(6)
@given(world=hidden_worlds(horizon=3), data=st.data())
def test_filtering_is_the_enumeration_of_all_trajectories(world: HiddenWorld, data: st.DataObject) -> None:
    seen = data.draw(st.lists(st.integers(0, world.O - 1), min_size=3, max_size=3))
    done = data.draw(st.lists(st.integers(0, world.A - 1), min_size=3, max_size=3))
    joint = world.start.tolist()
    rows, blocked = [], None
    paths = [((s,), p) for s, p in enumerate(joint)]
    for t in range(3):
        paths = [(path, p * float(world.seen[path[-1], seen[t]])) for path, p in paths]
        rows.append([sum(p for path, p in paths if path[-1] == s) for s in range(world.S)])
        if sum(rows[-1]) == 0:
            blocked = t
            break
        i = world.time(t)
        paths = [
            ((*path, int(world.successor[i, path[-1], done[t], k])), p * float(world.outcome[i, path[-1], done[t], k]))
            for path, p in paths
            for k in range(world.K)
        ]
    if blocked is not None:
        with pytest.raises(
            cai.ImpossibleError, match=f"observe, t = {blocked}: o={seen[blocked]} has probability zero"
        ):
            filter_beliefs(world, seen, done)
        return
    rows.append([sum(p for path, p in paths if path[-1] == s) for s in range(world.S)])
    expected = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(
        filter_beliefs(world, seen, done), expected / expected.sum(-1, keepdim=True), rtol=0, atol=1e-12
    )


def test_records_are_numbers_or_named_values() -> None:
    seen, done = [2, 0, 0], [0, 0]
    numbered = filter_beliefs(Tiger(), seen, done)
    assert numbered.shape == (3, 6)
    named = filter_beliefs(Tiger(), {"growl": torch.tensor(seen)}, {"door": done})
    row_by_row = filter_beliefs(Tiger(), [{"growl": o} for o in seen], [{"door": a} for a in done])
    assert torch.equal(numbered, named)
    assert torch.equal(numbered, row_by_row)
    assert filter_beliefs(Tiger(), seen, [0, 0, 1]).shape == (4, 6)
    torch.testing.assert_close(numbered[2, FROM_LEFT], torch.tensor(0.85**2 / (0.85**2 + 0.15**2)).double())


def test_a_filter_takes_any_engine() -> None:
    engine = table_beliefs(Tiger())
    assert isinstance(engine, BeliefEngine)
    assert torch.equal(torch.stack(filter_with(engine, [2, 1], [0])), filter_beliefs(Tiger(), [2, 1], [0]))


@pytest.mark.parametrize(
    ("seen", "done", "words"),
    [
        ([], [], "0 observations and 0 actions"),
        ([2, 0], [], "2 observations and 0 actions"),
        ([2, 3], [0], "number 3; expected numbers 0 … 2"),
        ([2, 0.5], [0], "whole numbers"),
        ({"roar": [2]}, [], r"no values of \['growl'\]"),
        ({"growl": [5]}, [], "variable 'growl'"),
        ([2] * 21, [0] * 20, "at most T = 20"),
    ],
)
def test_a_record_that_does_not_fit_is_told(seen: Any, done: Any, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        filter_beliefs(Tiger(), seen, done)


# ------------------------------------------------------------------------------------------ filtering, kept apart


def same_beliefs(world: Any, seed: int = 0) -> None:
    """Hold the engine of factors to that of tables, for every observation along one record."""
    flat, kept = table_beliefs(world), factored_beliefs(world)
    assert isinstance(kept, BeliefEngine)
    for a, b in ((flat.seen.space, kept.seen.space), (flat.model.actions, kept.model.actions)):
        assert (a.names, a.sizes, a.dtypes, a.named) == (b.names, b.sizes, b.dtypes, b.named)
        assert [a.label(n) for n in range(a.size)] == [b.label(n) for n in range(b.size)]
    assert flat.model.horizon == kept.model.horizon
    g = torch.Generator().manual_seed(seed)
    a, b = flat.start(), kept.start()
    for t in range(world.horizon or 3):
        found = []
        for o in range(flat.seen.space.size):
            (after_a, log_a), (after_b, log_b) = see(flat, a, o), see(kept, b, o)
            assert log_a == log_b or abs(log_a - log_b) <= 1e-12
            torch.testing.assert_close(after_a, after_b, rtol=0, atol=1e-12)
            found += [(after_a, after_b)] if log_a > -math.inf else []
        a, b = found[int(torch.randint(len(found), (), generator=g))]
        action = int(torch.randint(flat.model.actions.size, (), generator=g))
        a, b = flat.predict(a, action, t), kept.predict(b, action, t)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@examples(4)
@given(world=hidden_worlds())
def test_beliefs_kept_apart_are_those_of_tables(world: HiddenWorld) -> None:
    same_beliefs(world, world.seed)


def blinks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A variable as it is, a reading through two latents, one of which two readings share, and one that none reads."""
    blink = pyro.sample("blink", Bernoulli(torch.tensor(0.25)))
    shut = pyro.sample("shut", cai.Point(torch.where(blink > 0, 0, state["door"]), 2))
    pyro.sample("idle", Categorical(torch.tensor([[0.5, 0.5], [0.1, 0.9]])[state["door"]]))
    hum = pyro.sample("hum", Categorical(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])[shut]))
    echo = pyro.sample("echo", Categorical(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])[hum]))
    glow = pyro.sample("glow", Categorical(torch.tensor([[1.0, 0.0], [0.3, 0.7]])[blink.long()]))
    return {"echo": echo, "hum": hum, "glow": glow, "floor": state["floor"]}


LOOKS: list[Callable[[dict[str, Tensor]], Any]] = [
    blinks,
    lambda s: s,
    lambda s: s["door"],
    lambda s: pyro.sample("sum", cai.Point(s["floor"] + s["door"], 4)),
    lambda s: pyro.sample("none", cai.Point(torch.tensor(0), 1)),
]


@pytest.mark.parametrize("look", LOOKS)
def test_whatever_is_seen_beliefs_kept_apart_are_those_of_tables(look: Callable[[Any], Any]) -> None:
    same_beliefs(Building(look))


@pytest.mark.parametrize("make", [Tiger, HiddenMaze])
def test_the_models_have_the_same_beliefs_kept_apart(make: Callable[..., Any]) -> None:
    same_beliefs(make(horizon=3))


class Listening(Ring):
    """The machines of a ring, each heard by itself; a crew is sent to one, or stays."""

    stationary = True

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("crew", Categorical(logits=torch.zeros(self.n + 1)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        following, up = {}, 0.0
        for i, name in enumerate(self.names):
            p = torch.where(state[name] == 1, 0.5 + 0.4 * state[self.names[i - 1]], 0.05)
            p = torch.where(action == i, 1.0, p)
            following[name] = pyro.sample(name, Categorical(torch.stack([1 - p, p], -1)))
            up = up + following[name]
        return following, up - 0.5 * (action < self.n)

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        table = torch.tensor([[0.75, 0.25], [0.1, 0.9]])
        return {f"hum_{name}": pyro.sample(f"hum_{name}", Categorical(table[state[name]])) for name in self.names}


def heard(n: int, T: int) -> tuple[list[dict[str, int]], list[int]]:
    g = torch.Generator().manual_seed(n)
    hums = torch.randint(2, (T, n), generator=g).tolist()
    return [{f"hum_m{i}": hum for i, hum in enumerate(row)} for row in hums], torch.randint(
        n + 1, (T,), generator=g
    ).tolist()


@pytest.mark.slow
def test_twelve_machines_are_filtered_without_tables() -> None:
    """Against a filter with the whole matrix of transitions, written by hand."""
    n, T = 12, 3
    world, (hums, crews) = Listening(n, horizon=8), heard(n, T)
    assert isinstance(belief_engine(world), FactoredBeliefs)
    found = filter_beliefs(world, hums, crews)
    assert found.shape == (T + 1, 2**n)
    bits = (torch.arange(2**n).unsqueeze(-1) >> torch.arange(n - 1, -1, -1)) & 1
    hum = torch.tensor([[0.75, 0.25], [0.1, 0.9]], dtype=torch.float64)
    belief = (0.4 + 0.2 * bits.double()).prod(-1)
    for t in range(T):
        seen = torch.tensor([hums[t][f"hum_m{i}"] for i in range(n)])
        belief = belief * hum[bits, seen].prod(-1)
        belief = belief / belief.sum()
        torch.testing.assert_close(found[t], belief, rtol=0, atol=1e-12)
        up = torch.where(bits == 1, 0.5 + 0.4 * bits.roll(1, -1).double(), 0.05)
        up[:, crews[t] : crews[t] + 1] = 1.0
        log_up, log_down = (p.clamp(min=1e-300).log() for p in (up, 1 - up))
        belief = belief @ (log_up @ bits.double().T + log_down @ (1.0 - bits).T.double()).exp()
    torch.testing.assert_close(found[T], belief, rtol=0, atol=1e-12)


def test_fewer_machines_have_the_same_beliefs_in_tables() -> None:
    world, record = Listening(4, horizon=8), heard(4, 5)
    assert isinstance(belief_engine(world), TableBeliefs)
    kept = torch.stack(filter_with(factored_beliefs(world), *in_numbers(world, record)))
    torch.testing.assert_close(filter_beliefs(world, *record), kept, rtol=0, atol=1e-12)


def in_numbers(world: Any, record: tuple[list[dict[str, int]], list[int]]) -> tuple[list[int], list[int]]:
    space = table_beliefs(world).seen.space
    return [int(space.join({name: torch.tensor(v) for name, v in row.items()})) for row in record[0]], record[1]


def test_what_is_too_large_or_compiled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(cai.WorldError, match=r"cai\.Factors, which do not contain observe"):
        filter_beliefs(cai.factorise(Building(blinks)), [0], [])
    with pytest.raises(cai.WorldError, match="observe: no such method"):
        filter_beliefs(Ring(12), [0], [])
    monkeypatch.setattr(forms, "SMALL", 1)
    world = Listening(4, horizon=8)
    assert isinstance(belief_engine(world), FactoredBeliefs)
    with pytest.raises(cai.ImpossibleError, match="observe, t = 1: floor=0 has probability zero"):
        filter_with(factored_beliefs(Stairs(lambda s: s["floor"])), [0, 0], [0])
    monkeypatch.setattr(factored, "MAX_BYTES", 150.0)
    with pytest.raises(cai.IntractableError, match="one step of variable elimination"):
        filter_beliefs(world, [0, 0], [0])
    monkeypatch.setattr(factored, "MAX_BYTES", 100.0)
    with pytest.raises(cai.IntractableError, match="S = 16 joint states"):
        filter_beliefs(world, [0], [])


# ------------------------------------------------------------------------------------------------------- what is seen


class Building(FactoredWorld):
    """A factored world, seen as ``look`` says."""

    def __init__(self, look: Callable[[dict[str, Tensor]], Any]) -> None:
        super().__init__(1)
        self.look = look

    def observe(self, state: dict[str, Tensor]) -> Any:
        return self.look(state)


class Stairs(Building):
    """One goes up, always."""

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        floor = pyro.sample("floor", cai.Point((state["floor"] + 1) % 3, 3))
        return {"floor": floor, "door": pyro.sample("door", cai.Point(state["door"], 2))}, 0.0 * floor


def test_a_variable_is_passed_on_beside_a_reading_and_latents_are_summed_out() -> None:
    def look(state: dict[str, Tensor]) -> dict[str, Tensor]:
        blink = pyro.sample("blink", Bernoulli(torch.tensor(0.25)))
        wide = torch.where(blink > 0, 0, state["door"])
        shut = pyro.sample("shut", cai.Point(wide, 2))
        hum = pyro.sample("hum", Categorical(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])[shut]))
        return {"hum": hum, "floor": state["floor"]}

    found = tabulate_observations(Building(look))
    assert found.space.names == ("floor", "hum")
    assert found.space.sizes == (3, 3)
    assert found.log_prob.shape == (6, 9)
    for s in range(6):
        floor, door = divmod(s, 2)
        closed = 0.75 * door
        for o in range(9):
            level, hum = divmod(o, 3)
            expected = (level == floor) * ((1 - closed) * [0.5, 0.3, 0.2][hum] + closed * [0.1, 0.2, 0.7][hum])
            assert abs(float(found.log_prob[s, o].exp()) - expected) <= 1e-12


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (lambda s: s["floor"] + 0, "a tensor returned that is none of the sampled sites"),
        (lambda s: {"level": s["floor"]}, "not as sampled"),
        (lambda s: pyro.sample("door", cai.Point(s["door"], 2)), "which are variables of the state"),
        (lambda s: pyro.sample("lift", cai.Point(s["door"], 2)), "variable 'lift': a name that an action"),
        (lambda s: pyro.sample("wind", cai.Point(s["door"], 2)), "variable 'wind': a name that an action"),
        (lambda s: pyro.sample("o", cai.Point(s["floor"], 2)), "variable 'o': probabilities that sum to 0"),
        (lambda s: pyro.sample("o", Categorical(torch.ones(3, 7)[s["tower"]])), "KeyError"),
        (lambda s: pyro.sample("o", Categorical(torch.rand(3, 2))), r"shape \(3,\) for one state"),
        (lambda s: pyro.sample("o", Categorical(torch.rand(6, 2))), r"a tensor of shape .*6"),
        (lambda s: pyro.sample("o", Categorical(torch.rand(2).expand(*s["door"].shape, 2))), "in a second run"),
        (lambda s: pyro.sample("o", cai.Point((s["floor"] < s["floor"].max()).long(), 2)), "among all at once"),
        (lambda s: s["nothing"] if False else 3, "a int returned"),
    ],
)
def test_what_cannot_be_seen_is_told(look: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        tabulate_observations(Building(look))


def test_sizes_and_supports_are_told() -> None:
    with pytest.raises(cai.IntractableError, match="observe, variable 'x': Normal"):
        tabulate_observations(Building(lambda s: pyro.sample("x", Normal(s["floor"] * 1.0, 1.0))))
    with pytest.raises(cai.IntractableError, match="observe: S = 6 states x O = 3 observations"):
        tabulate_observations(Building(lambda s: s["floor"]), max_bytes=100.0)
    with pytest.raises(cai.WorldError, match="observe: no such method"):
        tabulate_observations(FactoredWorld())


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.MAP, cai.PLANNING, cai.RISK(-1.0)])
def test_rules_that_bend_the_dynamics_have_no_policy_over_beliefs(rule: cai.Rule) -> None:
    with pytest.raises(cai.WorldError, match="a policy over beliefs needs a rule that averages over outcomes"):
        cai.partial.solve(Tiger(), rule)


def test_a_prior_that_knows_more_than_is_seen_is_told() -> None:
    with pytest.raises(cai.WorldError, match="act, t = 0: different action priors in the states floor=0, door=0 and"):
        cai.partial.solve(Building(lambda s: s["floor"]))


def test_too_many_beliefs_are_refused_before_they_are_stored() -> None:
    with pytest.raises(cai.IntractableError, match=r"beliefs, t = 3: 5\d\d different beliefs .*max_beliefs = 500"):
        cai.partial.solve(HiddenMaze(), max_beliefs=500)


def test_horizons_and_temperatures_that_do_not_fit_are_told() -> None:
    with pytest.raises(cai.WorldError, match="None for an infinite horizon"):
        cai.partial.solve(Tiger(horizon=None))
    with pytest.raises(cai.WorldError, match="5 beside the world's own T = 20"):
        cai.partial.solve(Tiger(), horizon=5)
    with pytest.raises(cai.WorldError, match="a single number"):
        cai.partial.solve(Tiger(), temperature=torch.tensor([1.0, 2.0]))
    found = cai.partial.solve(Tiger(horizon=2), cai.HARD)
    with pytest.raises(cai.WorldError, match="a time from 0 to 1"):
        found.v(2)
    with pytest.raises(cai.WorldError, match="1 to T = 2 observations"):
        found.act([2, 0, 0], [0, 0])
    with pytest.raises(cai.ImpossibleError, match="observe, t = 1: growl=none has probability zero"):
        found.act([2, 2], [LISTEN])
    with pytest.raises(AttributeError, match="elbo belongs to VARIATIONAL"):
        _ = found.elbo


def test_what_is_forbidden_is_never_risked() -> None:
    """A door is never safe: the belief is never sure. One listens for ever, and QMDP does so too."""
    found = cai.partial.solve(Tiger(mauling=-torch.inf, horizon=6, discount=1.0), cai.HARD)
    assert float(found.value) == pytest.approx(-6, abs=1e-12)
    assert float(found.qmdp) == pytest.approx(-6, abs=1e-12)
    assert float(found.fully_observed) == pytest.approx(60, abs=1e-12)
    with pytest.raises(
        cai.ImpossibleError, match="at t = 0 where the states tiger=left, growl=none; tiger=right, growl=none"
    ):
        cai.partial.solve(Tiger(mauling=-torch.inf, listening=-torch.inf, horizon=6), cai.HARD)
    assert cai.partial.solve(Tiger(mauling=-torch.inf, horizon=None), cai.HARD, horizon=5).error_bound == math.inf


# ------------------------------------------------------------------------------------------------------------- merging


def test_merged_keeps_the_order_and_survives_equal_hashes() -> None:
    keys = torch.tensor([[5, 1], [2, 2], [5, 1], [0, 3], [2, 2]])
    first, kind = belief_tree.merged(keys)
    assert first.tolist() == [0, 1, 3]
    assert kind.tolist() == [0, 1, 0, 2, 1]
    many = torch.randint(0, 3, (2000, 6), generator=torch.Generator().manual_seed(0)) * 2**42
    first, kind = belief_tree.merged(many)
    assert len(first) == len({tuple(row) for row in many.tolist()})
    assert torch.equal(many[first[kind]], many)


def test_what_is_possible_is_not_merged_with_what_is_not() -> None:
    p = torch.tensor([[1.0, 0.0], [1.0, 1e-300], [1.0, 1e-14], [1.0, 3e-13]], dtype=torch.float64)
    assert belief_tree.merged(belief_tree.cells(p))[1].tolist() == [0, 1, 1, 2]


def test_neither_merging_nor_blocks_change_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one rule: the beliefs are the same under all."""
    folded = cai.partial.solve(HiddenMaze(horizon=4), cai.VARIATIONAL, temperature=0.2)
    monkeypatch.setattr(belief_tree, "BLOCK", 100)
    cut = cai.partial.solve(HiddenMaze(horizon=4), cai.VARIATIONAL, temperature=0.2)
    assert cut.n_beliefs == folded.n_beliefs
    monkeypatch.setattr(belief_tree, "CELL", 2.0**-62)  # only beliefs of the very same bits are one
    apart = cai.partial.solve(HiddenMaze(horizon=4), cai.VARIATIONAL, temperature=0.2)
    assert apart.n_beliefs > folded.n_beliefs
    for other in (cut, apart):
        assert abs(float(other.value - folded.value)) <= 1e-12


# --------------------------------------------------------------------------------------------------- published numbers


def test_tiger_for_ever_has_its_published_value() -> None:
    """19.3714 at the even belief with γ = 0.95: pomdp-solve and SARSOP, e.g. the printed runs of pomdp-py's tests.

    SARSOP's bounds meet there within 1e-6, printed as 19.3714.
    """
    found = cai.partial.solve(Tiger(horizon=None), cai.HARD, horizon=400)
    assert found.error_bound < 1e-6
    assert abs(float(found.value) - 19.3714) <= 0.5e-4
    assert abs(float(found.fully_observed) - 10 / 0.05) <= 1e-9
    assert opens_after(found, [FROM_LEFT], LISTEN)
    assert opens_after(found, [FROM_RIGHT, FROM_RIGHT], LEFT)
    assert opens_after(found, [FROM_LEFT, FROM_LEFT], RIGHT)
    assert opens_after(found, [FROM_LEFT, FROM_RIGHT, FROM_LEFT], LISTEN)
    assert opens_after(found, [FROM_LEFT, FROM_RIGHT, FROM_LEFT, FROM_LEFT], RIGHT)


def test_tiger_is_a_walk_on_the_lead_of_the_growls() -> None:
    """Value iteration on the one number that matters, how many more growls came from the left: no beliefs at all."""
    accuracy, lead = 0.65, 6
    odds, v = accuracy / (1 - accuracy), [0.0] * 101
    p = [1 / (1 + odds ** -(d - 50)) for d in range(101)]
    for _ in range(800):
        opening = [max(10 * x - 100 * (1 - x), 10 * (1 - x) - 100 * x) + 0.95 * v[50] for x in p]
        up = [x * accuracy + (1 - x) * (1 - accuracy) for x in p]
        listening = [-1 + 0.95 * (u * v[min(d + 1, 100)] + (1 - u) * v[max(d - 1, 0)]) for d, u in enumerate(up)]
        v = [max(pair) for pair in zip(opening, listening, strict=True)]
    found = cai.partial.solve(Tiger(accuracy=accuracy, horizon=None), cai.HARD, horizon=400)
    assert abs(float(found.value) - v[50]) <= found.error_bound + 1e-10
    assert found.error_bound < 1e-6
    assert opens_after(found, [FROM_LEFT] * (lead - 1), LISTEN)
    assert opens_after(found, [FROM_LEFT] * lead, RIGHT)


def opens_after(found: BeliefMessages, growls: list[int], door: int) -> bool:
    """Tell whether the policy surely does this after listening to so many growls."""
    pi = found.act([SILENCE, *growls], [LISTEN] * len(growls))
    return float(pi[door]) == pytest.approx(1, abs=1e-12)


def test_tiger_of_short_horizons_has_its_published_policies() -> None:
    """Kaelbling, Littman & Cassandra (1998): listen with one or two steps left, open after two equal growls with three.

    A door is worth -45 at the even belief, -6.5 after one growl, and 10 p - 100 (1-p) after two, p = 0.7225/0.745.
    """
    for T in (1, 2):
        found = cai.partial.solve(Tiger(horizon=T, discount=1.0), cai.HARD)
        assert float(found.value) == pytest.approx(-T, abs=1e-12)
        assert opens_after(found, [], LISTEN)
        assert float(found.q(0)[0, LEFT]) == pytest.approx(-45 - (T - 1), abs=1e-12)
    assert opens_after(found, [FROM_LEFT], LISTEN)
    assert float(found.q(1)[found.find([SILENCE, FROM_LEFT], [LISTEN])[1], RIGHT]) == pytest.approx(-6.5, abs=1e-12)
    found = cai.partial.solve(Tiger(horizon=3, discount=1.0), cai.HARD)
    p, twice = 0.7225 / 0.745, 0.745
    assert float(found.value) == pytest.approx(-2 + twice * (10 * p - 100 * (1 - p)) + (1 - twice) * -1, abs=1e-12)
    assert opens_after(found, [FROM_LEFT, FROM_LEFT], RIGHT)
    assert opens_after(found, [FROM_LEFT, FROM_RIGHT], LISTEN)


@pytest.mark.parametrize("rule", RULES)
def test_the_error_bound_of_a_cut_horizon_holds(rule: str) -> None:
    worlds = [HiddenWorld(seed=n, S=3, A=2, K=2, horizon=None, holes=False, discount=0.6, O=2) for n in range(2)]
    for world in [*worlds, Tiger(horizon=None)]:
        near, far = (cai.partial.solve(world, RULES[rule], temperature=0.3, horizon=T) for T in (4, 8))
        assert far.error_bound < near.error_bound
        assert abs(float(near.value - far.value)) <= near.error_bound + far.error_bound
        assert float(near.qmdp) <= float(near.value) + 1e-10
        assert float(near.value) <= float(near.fully_observed) + near.error_bound + 1e-10


@pytest.mark.parametrize("rule", RULES)
def test_the_hidden_maze_is_worth_less_than_the_seen_one(rule: str) -> None:
    world = HiddenMaze(horizon=5)
    assert world.sight.reshape(3, 4).tolist() == [[1, 0, 0, 4], [3, 0, 1, 5], [1, 0, 0, 2]]
    found = cai.partial.solve(world, RULES[rule], temperature=0.05)
    assert float(found.qmdp) < float(found.value) < float(found.fully_observed)
    assert "6 observations, 2,611 beliefs" in repr(found)


@pytest.mark.parametrize("make", [Tiger, HiddenMaze])
def test_the_models_conform_and_solve_where_all_is_seen(make: Callable[..., Any]) -> None:
    world = make(horizon=4)
    assert cai.check(world) == []
    assert float(cai.solve(world, cai.HARD).value) >= float(cai.partial.solve(world, cai.HARD).value)


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (Tiger, {"accuracy": 1.5}, "Tiger, accuracy: 1.5; expected a probability"),
        (HiddenMaze, {"slip": -0.1}, "HiddenMaze, slip"),
        (HiddenMaze, {"maze": ("..", ".")}, "rows of one length"),
        (HiddenMaze, {"maze": ("GP",)}, "with a free cell"),
    ],
)
def test_a_model_refuses_nonsense(make: Callable[..., Any], arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        make(**arguments)


# ------------------------------------------------------------------------------------------ bounds, against 60 digits


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=5, phases=[Phase.generate])
@given(st.integers(0, 2**31 - 1), st.floats(-12, 8), st.floats(-6, 6), st.sampled_from([0.3, 0.7, 0.9]))
def test_the_bound_holds_where_all_is_seen_at_every_scale(
    rule: str, seed: int, size: float, heat: float, gamma: float
) -> None:
    mpmath.mp.dps = DIGITS
    world = HiddenWorld(seed, 3, 2, 2, None, holes=False, discount=gamma, O=3)
    world.seen = torch.eye(3, dtype=torch.float64)
    world.reward *= 10**size
    found = cai.partial.solve(world, RULES[rule], temperature=10**heat, horizon=int(40 / -math.log(gamma)))
    tables = cai.tabulate(world)
    known = Endless(tables, rule, 10**heat)
    v = known.solve([mpmath.mpf(0)] * 3)
    truth = mpmath.fsum(p * x for p, x in zip(weights(world.start), v, strict=True))
    scale = max(float(tables.reward.abs().max()), *(abs(float(x)) for x in v))
    assert abs(mpmath.mpf(float(found.value)) - truth) <= found.error_bound < 1e-8 * scale


def weights(p: Tensor) -> list[Any]:
    numbers = [mpmath.mpf(x) for x in p.log().tolist()]
    return [mpmath.exp(x) / mpmath.fsum(map(mpmath.exp, numbers)) for x in numbers]


@pytest.mark.parametrize("cell", [belief_tree.CELL, 1e-4])
@settings(max_examples=4, phases=[Phase.generate])
@given(st.integers(0, 2**31 - 1), st.floats(-12, 8), st.sampled_from([0.03, 0.1]))
def test_the_bound_holds_however_beliefs_are_merged(cell: float, seed: int, size: float, gamma: float) -> None:
    """With one action nothing is decided: the value is that of the chain, whatever is seen."""
    mpmath.mp.dps = DIGITS
    world = HiddenWorld(seed, 3, 1, 3, None, holes=False, discount=gamma, O=2)
    world.reward *= 10**size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(belief_tree, "CELL", cell)
        patch.setattr(belief_bounds, "CELL", cell)
        found = cai.partial.solve(world, cai.HARD, horizon=9)
    v = Endless(cai.tabulate(world), "HARD", 1.0).solve([mpmath.mpf(0)] * 3)
    truth = mpmath.fsum(p * x for p, x in zip(weights(world.start), v, strict=True))
    assert abs(mpmath.mpf(float(found.value)) - truth) <= found.error_bound


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", slow_after(1, [1.0, 1e-12, 1e8]))
def test_the_bound_holds_where_little_is_seen_at_every_scale(rule: str, size: float) -> None:
    """With γ = 1e-4, six steps over histories are the truth to 24 digits."""
    mpmath.mp.dps = DIGITS
    world = HiddenWorld(2, 2, 2, 2, None, holes=False, discount=1e-4, O=2)
    world.reward *= size
    truth = history_value(world, rule, 0.3 * size, 6)
    for T in (1, 4, 6):
        found = cai.partial.solve(world, RULES[rule], temperature=0.3 * size, horizon=T)
        assert abs(mpmath.mpf(float(found.value)) - truth) <= found.error_bound < 10 * size * (1e-4**T + 1e-11)


def history_value(world: HiddenWorld, rule: str, alpha: float, T: int) -> Any:
    """The start value to 60 digits, by recursion over histories."""
    S, A, K = range(world.S), range(world.A), range(world.K)
    prior, gamma = weights(world.prior[0, 0]), mpmath.mpf(world.discount)
    seen, chance = [weights(world.seen[s]) for s in S], [[weights(world.outcome[0, s, a]) for a in A] for s in S]
    to, reward = world.successor[0].tolist(), world.reward[0].tolist()

    def before(joint: list[Any], t: int) -> Any:
        if t == T:
            return mpmath.mpf(0)
        return mpmath.fsum(after([joint[s] * seen[s][o] for s in S], t) for o in range(world.O))

    def after(joint: list[Any], t: int) -> Any:
        mass, q = mpmath.fsum(joint), []
        for a in A:
            paid, following = mpmath.mpf(0), [mpmath.mpf(0) for _ in S]
            for s, k in itertools.product(S, K):
                w = joint[s] * chance[s][a][k]
                paid += w * mpmath.mpf(reward[s][a][k])
                following[to[s][a][k]] += w * gamma
            q.append((paid + before(following, t + 1)) / mass)
        if rule == "HARD":
            return mass * max(q)
        top = max(q)
        shares = mpmath.fsum(p * mpmath.exp((x - top) / alpha) for p, x in zip(prior, q, strict=True))
        return mass * (top + alpha * mpmath.log(shares))

    return before(weights(world.start), 0)

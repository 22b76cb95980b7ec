"""check: each fault is named in words, and solve fails with the same finding."""

import re

import pyro
import pytest
import torch
from pyro.distributions import Categorical, Normal, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

import cai
from tests.helpers import load_model, slow_after
from tests.worlds import FactoredWorld, RandomWorld, Ring, TimedWorld


class Good:
    """Two cells, two moves, a coin: conforms. Each bad world below breaks one line of it."""

    horizon = 4

    def initial(self) -> Tensor:
        return pyro.sample("cell", cai.Point(torch.tensor(0), 2))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("move", Categorical(logits=torch.zeros(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        coin = pyro.sample("coin", Categorical(torch.tensor([0.9, 0.1])))
        return self.move(state, action, coin), self.reward(state, action, coin)

    def move(self, state: Tensor, action: Tensor, coin: Tensor) -> Tensor:
        return pyro.sample("cell", cai.Point((state + action + coin) % 2, 2))

    def reward(self, state: Tensor, action: Tensor, coin: Tensor) -> Tensor:
        return -1.0 * (state + coin)


class Unnormalised(TorchDistribution):
    """A two-valued distribution whose probabilities sum to 1.5."""

    has_enumerate_support = True
    arg_constraints: dict = {}  # noqa: RUF012
    support = constraints.boolean

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return torch.arange(2)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.full(value.shape, 0.75).log()


class NoStep:
    horizon = 3

    def initial(self) -> Tensor:
        return torch.tensor(0)

    act = None


class Endless(Good):
    horizon = None


class Fractional(Good):
    horizon = 2.5


class Doomed(Good):
    discount = 1.5


class NotNormal(Good):
    def step(self, state, action, t):
        coin = pyro.sample("coin", Unnormalised())
        return self.move(state, action, coin), self.reward(state, action, coin)


class WrongBatch(Good):
    def step(self, state, action, t):
        coin = pyro.sample("coin", Categorical(torch.ones(7, 2) / 2))
        return self.move(state, action, coin), self.reward(state, action, coin)


class OneByOne(Good):
    def reward(self, state, action, coin):
        return torch.tensor(1.0) if state == 0 else torch.tensor(0.0)


class Continuous(Good):
    def step(self, state, action, t):
        wind = pyro.sample("wind", Normal(0.0, 1.0))
        return self.move(state, action, 0), -wind


class NanReward(Good):
    def reward(self, state, action, coin):
        return torch.where(state == 1, torch.nan, 0.0)


class InfiniteReward(Good):
    def reward(self, state, action, coin):
        return torch.where(state == 1, torch.inf, 0.0)


class ShapedReward(Good):
    def reward(self, state, action, coin):
        return torch.zeros(5)


class NoAction(Good):
    def act(self, state, t):
        table = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]])
        return pyro.sample("move", Stuck(table[state]))


class Stuck(TorchDistribution):
    """A table of logits taken as it is, so that a row may forbid everything."""

    has_enumerate_support = True
    arg_constraints: dict = {}  # noqa: RUF012
    support = constraints.boolean

    def __init__(self, table: Tensor) -> None:
        self.table = table
        super().__init__(table.shape[:-1], validate_args=False)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return torch.arange(2).reshape((2,) + (1,) * len(self.batch_shape))

    def sample(self, sample_shape=()):
        return torch.zeros(self.batch_shape, dtype=torch.long)

    def log_prob(self, value: Tensor) -> Tensor:
        value, table = torch.broadcast_tensors(value, self.table[..., 0])
        return table - 0.6931471805599453 * (table > -torch.inf)


class AllForbidden(Good):
    def act(self, state, t):
        table = torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]])
        return pyro.sample("move", Categorical(logits=table[state]))


class Remembers(Good):
    last = torch.tensor(0)

    def reward(self, state, action, coin):
        before, self.last = self.last, state
        return -1.0 * (before == state)


class Random(Good):
    def reward(self, state, action, coin):
        return -torch.rand(())


class Impossible(Good):
    def reward(self, state, action, coin):
        return torch.full((), -torch.inf)


class NotASite(Good):
    def move(self, state, action, coin):
        return (state + action + coin) % 2


class OutOfRange(Good):
    def move(self, state, action, coin):
        return pyro.sample("cell", cai.Point(state + action + coin, 2))


class OtherSize(Good):
    def move(self, state, action, coin):
        return pyro.sample("cell", cai.Point((state + action + coin) % 3, 3))


class OtherName(Good):
    def move(self, state, action, coin):
        return pyro.sample("place", cai.Point((state + action + coin) % 2, 2))


class NoPair(Good):
    def step(self, state, action, t):
        return self.move(state, action, 0)


class Observes(Good):
    def step(self, state, action, t):
        pyro.sample("sensor", Categorical(torch.ones(2) / 2), obs=torch.tensor(1))
        return self.move(state, action, 0), self.reward(state, action, 0)


class Plated(Good):
    def step(self, state, action, t):
        with pyro.plate("coins", 3):
            coins = pyro.sample("coin", Categorical(torch.ones(2) / 2))
        return self.move(state, action, coins.sum()), -1.0 * state


class Crashes(Good):
    def step(self, state, action, t):
        return self.move(state, action, 0), self.missing[state]


class Reserved(Good):
    def step(self, state, action, t):
        o = pyro.sample("O", Categorical(torch.ones(2) / 2))
        return self.move(state, action, o), -1.0 * o


class HiddenChoice(Good):
    def act(self, state, t):
        mood = pyro.sample("mood", Categorical(torch.ones(2) / 2))
        return pyro.sample(
            "move", Categorical(logits=torch.stack([mood * 1.0, mood * 0.0], -1).expand(*state.shape, 2))
        )


class BadTerminal(Good):
    def terminal(self, state):
        return torch.where(state == 0, torch.nan, 0.0)


class SumsOverTheBatch(Good):
    def reward(self, state, action, coin):
        return -1.0 * (state == 1).sum()


class NotIndexed(Good):
    def reward(self, state, action, coin):
        return torch.tensor([0.0, -1.0])  # as many numbers as actions or states, but never looked up


class WrongSoftmax(Good):
    def act(self, state, t):
        scores = torch.tensor([[0.0, 1.0], [3.0, -1.0]])[state]
        return pyro.sample("move", Categorical(logits=scores.log_softmax(0)))


class SumsTerminal(Good):
    def terminal(self, state):
        return torch.tensor([1.0, 2.0])[state].sum()


class RandomPrior(Good):
    def act(self, state, t):
        return pyro.sample("move", Categorical(logits=torch.rand(2, 2)[state]))


class ReturnsAnother(Good):
    def initial(self):
        return {"cell": pyro.sample("cell", cai.Point(torch.tensor(0), 2))}

    def act(self, state, t):
        return Good.act(self, state["cell"], t)

    def step(self, state, action, t):
        cell = self.move(state["cell"], action, 0)
        return {"cell": 1 - cell}, -1.0 * cell


class RemembersLong(Good):
    horizon = 8

    def step(self, state, action, t):
        if t == 0:
            self.key = state
        following = self.move(state, action, 0)
        return following, -1.0 * (state == self.key) if t == 6 else 0.0 * state


class Masked(Good):
    def step(self, state, action, t):
        coin = pyro.sample("coin", Categorical(torch.ones(2) / 2).mask(False))
        return self.move(state, action, coin), self.reward(state, action, coin)


class Scaled(Good):
    def step(self, state, action, t):
        with pyro.poutine.scale(scale=2.0):
            coin = pyro.sample("coin", Categorical(torch.ones(2) / 2))
        return self.move(state, action, coin), self.reward(state, action, coin)


class ComplexReward(Good):
    def reward(self, state, action, coin):
        return -1.0 * state + 0j


class TwiceNamed(Good):
    def step(self, state, action, t):
        coin = pyro.sample("move", Categorical(torch.ones(2) / 2))
        return self.move(state, action, coin), self.reward(state, action, coin)


class WrongLayout(Good):
    layout = cai.Layout(torch.tensor([0, 1, 2]), (1, 3), (None, None), {})


class NoLayout(Good):
    layout = "a map"


FAULTS = [
    (SumsOverTheBatch, "the reward is .* alone, but .* among all at once|of shape"),
    (NotIndexed, "the reward of shape"),
    (WrongSoftmax, "log p is .* alone|of shape|sum to"),
    (SumsTerminal, "terminal: the reward is"),
    (RandomPrior, "differs between two runs"),
    (ReturnsAnother, "not as sampled"),
    (RemembersLong, "the reward reads 'cell_0'"),
    (Masked, "a masked or scaled site"),
    (Scaled, "a masked or scaled site"),
    (ComplexReward, "complex"),
    (TwiceNamed, "both an action and a latent"),
    (Reserved, "the trajectory program uses"),
    (WrongLayout, r"cells of shape \(3,\)"),
    (NoLayout, "a str"),
    (Endless, "horizon: None with a discount of 1"),
    (Fractional, "horizon: 2.5"),
    (Doomed, "discount: 1.5"),
    (NotNormal, "variable 'coin': probabilities that sum to 1.5"),
    (WrongBatch, "variable 'coin': log-probabilities of shape"),
    (OneByOne, "code that broadcasts"),
    (Continuous, "Normal, which has no finite support"),
    (NanReward, "rewards are NaN"),
    (InfiniteReward, r"rewards are \+inf"),
    (ShapedReward, r"a reward of shape \(5,\)"),
    (NoAction, r"all actions forbidden in 1 state \(cell=1\)"),
    (AllForbidden, r"all actions forbidden in 1 state \(cell=1\)"),
    (Remembers, "the reward reads 'cell_0', which is outside its slice"),
    (Random, "differs between two runs"),
    (NotASite, "none of the sampled sites"),
    (OutOfRange, "next values from 0 to 3"),
    (OtherSize, "3 values; expected 2, as in initial"),
    (OtherName, r"a next state of variables \['place'\]"),
    (NoPair, "a pair"),
    (Observes, "variable 'sensor': an observed site"),
    (Plated, "plates"),
    (Crashes, "AttributeError"),
    (HiddenChoice, r"latents \['mood'\]"),
    (BadTerminal, "terminal: 1 rewards are NaN"),
]


@pytest.mark.parametrize("world", [Good, FactoredWorld], ids=lambda w: w.__name__)
def test_a_good_world_has_no_findings(world) -> None:
    assert cai.check(world()) == []
    cai.solve(world())


@pytest.mark.parametrize("kind", [RandomWorld, TimedWorld])
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_random_worlds_conform(kind, discount: float) -> None:
    assert cai.check(kind(seed=1, S=3, A=2, K=2, horizon=3, holes=False, discount=discount)) == []


@pytest.mark.parametrize(("world", "words"), FAULTS, ids=lambda x: getattr(x, "__name__", None))
def test_a_fault_is_named_by_check_and_by_solve(world, words: str) -> None:
    findings = cai.check(world())
    assert findings
    assert any(re.search(words, str(finding)) for finding in findings), findings
    with pytest.raises((cai.WorldError, cai.IntractableError), match=words):
        cai.solve(world())


def test_a_next_state_may_be_a_latent_itself() -> None:
    class Jump(Good):
        def move(self, state, action, coin):
            return pyro.sample("cell", cai.Point(coin, 2))

    assert cai.check(Jump()) == []
    assert cai.tabulate(Jump()).successor[0, 0].tolist() == [0, 1]


def test_missing_methods_are_listed_together() -> None:
    assert [finding.where for finding in cai.check(NoStep())] == ["act", "step"]


def test_a_reserved_name_is_a_finding() -> None:
    assert "the trajectory program uses" in str(cai.check(Reserved())[0])


def test_an_unreachable_optimum_names_the_states_that_block_it() -> None:
    (finding,) = cai.check(Impossible())
    assert str(finding).startswith("step, t = 0, state cell=0")
    with pytest.raises(cai.ImpossibleError, match="cell=0"):
        cai.solve(Impossible())


def test_several_faults_of_one_slice_are_all_told() -> None:
    class Two(NotNormal, NanReward):
        pass

    assert len(cai.check(Two())) == 2


def test_a_fault_at_a_later_time_is_found_with_its_time() -> None:
    class Later(Good):
        def step(self, state, action, t):
            following = self.move(state, action, 0)
            return following, torch.where(state == 1, torch.nan, 0.0) if t == 2 else 0.0 * state

    assert "t = 2" in str(cai.check(Later())[0])


class Coins(Good):
    """One variable, and so many coins in a slice that no table holds their outcomes; nothing is there to keep apart."""

    def step(self, state, action, t):
        heads = sum(pyro.sample(f"coin_{i}", Categorical(torch.ones(2))) for i in range(64))
        return self.move(state, action, heads), -1.0 * state


def test_a_world_too_large_for_tables_is_told_so_without_making_them() -> None:
    (finding,) = cai.check(Coins())
    assert finding.seen == "67 variables read at once"
    assert "61" in finding.expected
    with pytest.raises(cai.IntractableError, match=r"K = 18,446,744,073,709,551,616 outcomes"):
        cai.tabulate(Coins())


# Worlds whose tables would be too large, with variables to keep apart


class Sound(Ring):
    """A large ring, seen by its noise. Each bad world below breaks one line of it."""

    def __init__(self) -> None:
        super().__init__(24, 2)

    def observe(self, state):
        return {f"hum_{name}": self.hum(name, state[name]) for name in self.names}

    def hum(self, name, up):
        return pyro.sample(f"hum_{name}", Categorical(torch.tensor([[0.9, 0.1], [0.2, 0.8]])[up]))


class LoudRing(Sound):
    def hum(self, name, up):
        if name != "m7":
            return super().hum(name, up)
        return pyro.sample("hum_m7", cai.Point(up + 1, 2))


class DrawnRing(Sound):
    def hum(self, name, up):
        p = torch.rand(2, 2) if name == "m7" else torch.ones(2, 2)
        return pyro.sample(f"hum_{name}", Categorical(p[up]))


class ComparedRing(Sound):
    def hum(self, name, up):
        return pyro.sample(f"hum_{name}", cai.Point((up < up.max()).long(), 2))


class RealRing(Sound):
    def hum(self, name, up):
        return pyro.sample(f"hum_{name}", Normal(1.0 * up, 1.0))


class StateRing(Sound):
    def hum(self, name, up):
        return pyro.sample(name, cai.Point(up, 2))


class NamedRing(Sound):
    def observe(self, state):
        return pyro.sample("crew", cai.Point(state["m7"], 2))


class BatchRing(Sound):
    def hum(self, name, up):
        return pyro.sample(f"hum_{name}", Categorical(torch.ones(7, 2)))


class NoLookRing(Sound):
    observe = 3


class NanRing(Sound):
    def step(self, state, action, t):
        following, reward = super().step(state, action, t)
        return following, reward + torch.where(state["m3"] == 1, torch.nan, 0.0)


class UnnormalisedRing(Sound):
    def step(self, state, action, t):
        pyro.sample("coin", Unnormalised())
        return super().step(state, action, t)


class TiedRing(Ring):
    """Small enough to be solved: no crew may have been, and none is always safe."""

    def __init__(self) -> None:
        super().__init__(12, 2)

    def step(self, state, action, t):
        following, reward = super().step(state, action, t)
        return following, reward + torch.where(following["m3"] < 2, -torch.inf, 0.0)


LARGE = [
    (LoudRing, r"observe, variable 'hum_m7': probabilities that sum to 0"),
    (DrawnRing, r"observe, variable 'hum_m7': log p is .* in a second run"),
    (ComparedRing, r"observe, variable 'hum_m0': log p is .* among all at once"),
    (RealRing, r"observe, variable 'hum_m0': Normal"),
    (StateRing, r"which are variables of the state"),
    (NamedRing, r"observe, variable 'crew': a name that an action"),
    (BatchRing, r"observe, variable 'hum_m0'.*: a tensor of shape .*7"),
    (NoLookRing, r"observe: no such method"),
    (NanRing, r"step, t = 0: .* rewards are NaN"),
    (UnnormalisedRing, r"variable 'coin': probabilities that sum to 1.5"),
    (TiedRing, r"the evidence is zero: no trajectory can be optimal"),
]


@pytest.mark.parametrize("world", [Ring, Sound], ids=lambda w: w.__name__)
def test_a_large_world_whose_variables_are_kept_apart_conforms(world) -> None:
    assert cai.check(world()) == []


@pytest.mark.parametrize(("world", "words"), slow_after(5, LARGE), ids=lambda x: getattr(x, "__name__", None))
def test_a_fault_of_a_large_world_is_named(world, words: str) -> None:
    (finding,) = cai.check(world())
    assert re.search(words, str(finding)), finding


# What is seen of a small world


class Blurred(Good):
    def observe(self, state):
        return pyro.sample("blur", Categorical(torch.tensor([[0.9, 0.1], [0.1, 0.9]])[state]))


class Deaf(Blurred):
    def observe(self, state):
        return pyro.sample("blur", Unnormalised())


class Moody(Blurred):
    def observe(self, state):
        return pyro.sample("blur", Normal(state * 1.0, 1.0))


class Unseen(Blurred):
    observe = None


def test_what_is_seen_of_a_small_world_is_looked_at() -> None:
    assert cai.check(Blurred()) == []
    assert cai.check(Unseen()) == []
    assert "observe, variable 'blur': probabilities that sum to 1.5" in str(cai.check(Deaf())[0])
    assert "observe, variable 'blur': Normal" in str(cai.check(Moody())[0])


# The optional member terminated


class Ended(Good):
    """Cell 1 absorbs and pays nothing; move 1 is forbidden there. Each bad world below breaks one line of it."""

    def act(self, state, t):
        return pyro.sample("move", Categorical(logits=torch.tensor([[0.0, 0.0], [0.0, -torch.inf]])[state]))

    def step(self, state, action, t):
        coin = pyro.sample("coin", Categorical(torch.tensor([[0.9, 0.1], [1.0, 0.0]])[state]))
        following = torch.where(state == 1, self.stays(action, coin, t), coin | action)
        return pyro.sample("cell", cai.Point(following, 2)), torch.where(state == 1, self.pays(action, coin, t), -1.0)

    def stays(self, action, coin, t):
        return 1 - (action | coin)  # what is forbidden or impossible leads back

    def pays(self, action, coin, t):
        return 1.0 * (action | coin)

    def terminated(self, state):
        return state == 1


class Leaves(Ended):
    def stays(self, action, coin, t):
        return 0 * action


class LeavesLater(Ended):
    def stays(self, action, coin, t):
        return 0 * action + int(t != 2)


class LeavesByChance(Ended):
    def step(self, state, action, t):
        coin = pyro.sample("coin", Categorical(torch.tensor([0.9, 0.1])))
        return pyro.sample("cell", cai.Point(1 - coin + 0 * state, 2)), 0.0 * state


class Pays(Ended):
    def pays(self, action, coin, t):
        return torch.tensor(1e-9)


class NumbersForBools(Ended):
    def terminated(self, state):
        return 1 * (state == 1)


class OneForAll(Ended):
    def terminated(self, state):
        return (state == 1).any()


class PlainBool(Ended):
    def terminated(self, state):
        return False


class BrokenEnd(Ended):
    def terminated(self, state):
        return bool(state == 1)


class NoEndMethod(Ended):
    terminated = True


ENDS = [
    (Leaves, ["terminated, t = 0: cell=1; move=0 leads to cell=0; expected an absorbing state"]),
    (LeavesLater, ["terminated, t = 2: cell=1; move=0 leads to cell=0; expected an absorbing state"]),
    (LeavesByChance, ["terminated, t = 0: cell=1; move=0 leads to cell=0; expected an absorbing state"]),
    (Pays, ["terminated, t = 0: cell=1; move=0 pays 1e-09; expected a reward of 0"]),
    (NumbersForBools, ["terminated: a tensor of torch.int64 and shape (2,); expected a bool tensor of shape (2,)"]),
    (OneForAll, ["terminated: a tensor of torch.bool and shape (); expected a bool tensor of shape (2,)"]),
    (PlainBool, ["terminated: a bool; expected a bool tensor of shape (2,)"]),
    (BrokenEnd, ["terminated: RuntimeError"]),
    (NoEndMethod, ["terminated: TypeError"]),
]


def test_ends_that_are_ends_have_no_findings() -> None:
    assert cai.check(Ended()) == []


@pytest.mark.parametrize(("world", "words"), ENDS, ids=lambda x: getattr(x, "__name__", None))
def test_an_end_that_is_none_is_named_by_check(world, words: list[str]) -> None:
    found = [str(finding) for finding in cai.check(world())]
    assert len(found) == len(words)
    for finding, start in zip(found, words, strict=True):
        assert finding.startswith(start)
    with pytest.raises(cai.WorldError, match="terminated"):
        cai.solve(world())


def test_an_end_that_moves_and_pays_is_told_twice() -> None:
    class Both(Leaves, Pays):
        pass

    assert len(cai.check(Both())) == 2


@pytest.mark.parametrize("name", ["frozen_lake", "cliff_walking", "deep_sea"])
def test_the_ends_of_the_catalogue_are_ends(name: str) -> None:
    assert cai.check(load_model(name)()) == []

"""Evidence and interventions: tables, factors and the program under Pyro's own condition and inference say the same."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.distributions import Bernoulli, Categorical
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.poutine.messenger import Messenger
from torch import Tensor

import cai
from tests.helpers import examples, slow_after
from tests.worlds import FactoredWorld, RandomWorld, random_worlds

pytestmark = pytest.mark.usefixtures("float64")

SIZES = {"floor": 3, "door": 2, "lift": 2, "push": 2, "wind": 2}
STATES = ("floor", "door")
FORMS = ("tables", "factors")


class Force(Messenger):
    """Puts a point mass in the place of some sites' distributions: pyro.do breaks inside pyro.markov (Pyro 1.9.2)."""

    def __init__(self, values: dict[str, int]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.values:
            size = msg["fn"].enumerate_support(expand=False).shape[0]
            hot = torch.arange(size) == self.values[name]
            msg["fn"] = Categorical(logits=torch.where(hot, 0.0, -torch.inf))


def evidence(world: Any, alpha: float, observe: dict[str, int], do: dict[str, int]) -> float:
    """Pyro's own log p(O=1, observed | do): the trajectory program, enumerated."""
    program = cai.trajectory(world, temperature=alpha)

    def forced() -> None:
        with Force(do):
            program()

    seen = pyro.condition(forced, data={site: torch.tensor(value) for site, value in observe.items()})
    return -TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(seen), lambda: None)


SEEN = [
    {"floor_0": 1},
    {"floor_2": 0},
    {"door_3": 1},
    {"floor_3": 2, "door_3": 0},
    {"lift_1": 1},
    {"push_0": 0, "lift_2": 0},
    {"wind_1": 1},
    {"wind_0": 0, "wind_2": 1, "floor_1": 1, "push_1": 1, "door_0": 0},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["observe", "do"])
@pytest.mark.parametrize("given", slow_after(3, SEEN[::-1]), ids=lambda sites: "-".join(sites))
def test_solve_equals_the_program_under_conditions(given: dict[str, int], what: str, form: str) -> None:
    world, alpha = FactoredWorld(), 0.7
    truth = evidence(world, alpha, given if what == "observe" else {}, given if what == "do" else {})
    ours = cai.solve(world, temperature=alpha, form=form, **{what: given})
    assert float(ours.log_evidence) == pytest.approx(truth, abs=1e-10)
    wrapped = cai.condition(world, **{what: given})
    assert float(cai.solve(wrapped, temperature=alpha, form=form).log_evidence) == pytest.approx(truth, abs=1e-10)
    assert evidence(wrapped, alpha, {}, {}) == pytest.approx(truth, abs=1e-10)


LIKELY = [
    {"floor_0": [0.2, 0.0, 1.0]},
    {"floor_2": [0.3, 0.7, 0.1], "lift_1": [0.9, 0.2]},
    {"floor_3": [0.5, 0.4, 0.0], "floor_2": (0.1, 0.2, 0.3), "door_3": torch.tensor([0.6, 0.2])},
    {"wind_1": [0.25, 0.5], "push_1": 1, "door_3": [0.0, 1.0]},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", LIKELY, ids=lambda sites: "-".join(sites))
def test_likelihoods_weigh_the_values(given: dict[str, Any], form: str) -> None:
    """Σ w(x) p(O=1, x), the p(O=1, x) by Pyro's own enumeration of the program."""
    world, alpha = FactoredWorld(), 0.7
    soft = {site: [float(w) for w in one] for site, one in given.items() if not isinstance(one, int)}
    hard = {site: one for site, one in given.items() if isinstance(one, int)}
    total = 0.0
    for values in itertools.product(*(range(len(one)) for one in soft.values())):
        weight = math.prod(one[value] for one, value in zip(soft.values(), values, strict=True))
        seen = {**hard, **dict(zip(soft, values, strict=True))}
        total += weight * math.exp(evidence(world, alpha, seen, {})) if weight else 0.0
    ours = cai.solve(world, temperature=alpha, form=form, observe=given)
    assert float(ours.log_evidence) == pytest.approx(math.log(total), abs=1e-10)
    wrapped = cai.condition(world, observe=given)
    assert evidence(wrapped, alpha, {}, {}) == pytest.approx(math.log(total), abs=1e-10)
    assert float(cai.solve(wrapped, temperature=alpha, form=form).log_evidence) == pytest.approx(
        math.log(total), abs=1e-10
    )


@pytest.mark.parametrize("form", FORMS)
def test_likelihoods_tilt_the_marginals(form: str) -> None:
    """p(x|seen, O) ∝ w(x) p(x|O), whatever else there is; a sight that is certain of a value is that value."""
    weights = torch.tensor([0.3, 0.7, 0.05])
    plain = cai.solve(FactoredWorld(), form=form).marginal(1, "floor")
    tilted = cai.solve(FactoredWorld(), form=form, observe={"floor_1": weights.tolist()}).marginal(1, "floor")
    torch.testing.assert_close(tilted, plain * weights / (plain * weights).sum())
    both = [cai.solve(FactoredWorld(), form=form, observe={"floor_2": one}) for one in (1, [0.0, 1.0, 0.0])]
    assert float(both[0].log_evidence) == pytest.approx(float(both[1].log_evidence), abs=1e-12)
    sure = [cai.solve(FactoredWorld(), cai.HARD, form=form, observe={"lift_1": one}) for one in (1, [0.0, 1.0])]
    assert float(sure[0].value) == pytest.approx(float(sure[1].value), abs=1e-12)
    with pytest.raises(cai.ImpossibleError, match=r"HARD needs .* use POSTERIOR for evidence"):
        cai.solve(FactoredWorld(), cai.HARD, form=form, observe={"lift_1": [0.5, 0.9]})


def test_values_are_seen_by_their_names() -> None:
    class Named(FactoredWorld):
        labels = {"floor": ["ground", "1", "roof"], "lift": ["off", "on"], "wind": ["calm", "storm"]}  # noqa: RUF012

    world = Named()
    for name, number in (({"floor_2": "roof"}, {"floor_2": 2}), ({"wind_1": "storm"}, {"wind_1": 1})):
        for form in FORMS:
            by_name, by_number = (cai.solve(world, form=form, observe=one) for one in (name, number))
            assert float(by_name.log_evidence) == float(by_number.log_evidence)
    assert float(cai.solve(world, do={"lift_0": "on"}).value) == float(cai.solve(world, do={"lift_0": 1}).value)
    assert cai.condition(cai.tabulate(world), observe={"floor_1": "1"}) is not None
    with pytest.raises(cai.WorldError, match="value 'cellar'; expected ground, 1, roof, or 0 … 2"):
        cai.solve(world, observe={"floor_1": "cellar"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"observe": {"floor_1": [0.5, 0.5]}}, "3 likelihoods from 0 to 1"),
        ({"observe": {"floor_1": [0.5, 1.5, 0]}}, "3 likelihoods from 0 to 1"),
        ({"observe": {"floor_1": [0, 0, 0]}}, "not all 0"),
        ({"observe": {"floor_1": [0.5, math.nan, 0]}}, "3 likelihoods from 0 to 1"),
        ({"do": {"floor_1": [0.5, 0.5, 0]}}, "an intervention is certain"),
    ],
)
@pytest.mark.parametrize("compiled", [cai.tabulate, cai.factorise, lambda world: world])
def test_likelihoods_that_are_none(given: dict[str, Any], words: str, compiled: Callable[[Any], Any]) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.condition(compiled(FactoredWorld()), **given)


@pytest.mark.parametrize("form", FORMS)
def test_seen_and_forced_at_once(form: str) -> None:
    observe, do = {"floor_3": 2, "wind_0": 1, "lift_2": 0}, {"door_1": 0, "wind_1": 1, "push_0": 1, "floor_0": 2}
    truth = evidence(FactoredWorld(2), 0.5, observe, do)
    ours = cai.solve(FactoredWorld(2), temperature=0.5, form=form, observe=observe, do=do)
    assert float(ours.log_evidence) == pytest.approx(truth, abs=1e-10)


def test_compiled_forms_are_conditioned_as_the_world() -> None:
    world, seen = FactoredWorld(), {"floor_2": 0, "push_1": 1, "door_3": 1}
    truth = float(cai.solve(world, temperature=0.7, observe=seen).log_evidence)
    for form in (cai.tabulate(world), cai.factorise(world)):
        assert float(cai.solve(form, temperature=0.7, observe=seen).log_evidence) == pytest.approx(truth, abs=1e-12)
        under = cai.solve(cai.condition(form, observe=seen), temperature=0.7)
        assert float(under.log_evidence) == pytest.approx(truth, abs=1e-12)
    assert cai.condition(world) is world


def test_marginals_agree_with_what_was_seen() -> None:
    found = cai.solve(FactoredWorld(), form="factors", observe={"floor_2": 0, "lift_1": 1}, do={"door_1": 1})
    torch.testing.assert_close(found.marginal(2, "floor"), torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(found.marginal(1, ("door", "lift")), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    drawn = found.sample(50, generator=torch.Generator().manual_seed(0))
    assert bool((found.model.states.split(drawn.states[:, 2])["floor"] == 0).all())


@pytest.mark.parametrize("conditions", [{"observe": {"floor_2": 1, "lift_0": 1}}, {"do": {"door_1": 0, "push_2": 1}}])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.MAP, cai.VARIATIONAL, cai.HARD], ids=str)
def test_with_a_discount_factors_equal_tables(rule: cai.Rule, conditions: dict[str, Any]) -> None:
    class Mortal(FactoredWorld):
        discount = 0.8

    if "observe" in conditions and rule in (cai.VARIATIONAL, cai.HARD):
        conditions = {"observe": {"lift_0": 1}}  # the only evidence that such a rule can make certain
    flat, kept = (cai.solve(Mortal(), rule, temperature=0.7, form=form, **conditions) for form in FORMS)
    assert float(flat.value) == pytest.approx(float(kept.value), abs=1e-10)
    torch.testing.assert_close(flat.v, kept.v, rtol=0, atol=1e-10)
    if rule == cai.POSTERIOR and "do" in conditions:  # evidence counts while it lives, the program's sites go on
        truth = evidence(Mortal(), 0.7, {}, conditions["do"])
        assert float(kept.log_evidence) == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_rule_that_holds_the_dynamics_asks_for_certainty(form: str) -> None:
    with pytest.raises(cai.ImpossibleError, match=r"VARIATIONAL needs .* use POSTERIOR for evidence"):
        cai.solve(FactoredWorld(), cai.VARIATIONAL, form=form, observe={"floor_2": 0})
    sure = cai.solve(FactoredWorld(), cai.VARIATIONAL, form=form, observe={"lift_1": 1})
    assert math.isfinite(float(sure.elbo))
    torch.testing.assert_close(sure.policy.probs(1).reshape(3, 2, 2, 2)[:, :, 0], torch.zeros(3, 2, 2))


def test_forcing_what_cannot_be_is_no_contradiction_but_seeing_it_is() -> None:
    class Still(FactoredWorld):
        def initial(self) -> dict[str, Tensor]:
            return {"floor": pyro.sample("floor", cai.Point(torch.tensor(0), 3)), "door": self.shut()}

        def shut(self) -> Tensor:
            return pyro.sample("door", Bernoulli(torch.tensor(0.0)))

        def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
            return super().act({"floor": state["floor"], "door": state["door"].long()}, t)

        def step(self, state: Any, action: Any, t: int) -> tuple[dict[str, Tensor], Tensor]:
            after, reward = super().step({**state, "door": state["door"].long()}, action, t)
            return {"floor": after["floor"], "door": after["door"]}, reward

    for form in FORMS:
        with pytest.raises(cai.ImpossibleError, match="evidence is zero"):
            cai.solve(Still(), form=form, observe={"floor_0": 2})
        forced = cai.solve(Still(), form=form, do={"floor_0": 2, "door_0": 1})
        assert float(forced.log_evidence) == pytest.approx(evidence(Still(), 1.0, {}, {"floor_0": 2, "door_0": 1}))


class Confounded:
    """Mood moves the door and pays: a door seen open tells of a good mood, a door forced open tells nothing."""

    horizon = 1

    def initial(self) -> dict[str, Tensor]:
        mood = pyro.sample("mood", Categorical(torch.tensor([0.5, 0.5])))
        return {"mood": mood, "door": pyro.sample("door", Categorical(torch.tensor([[0.9, 0.1], [0.2, 0.8]])[mood]))}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("wait", Categorical(torch.ones(1)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        mood = pyro.sample("mood", cai.Point(state["mood"], 2))
        return {"mood": mood, "door": pyro.sample("door", cai.Point(state["door"], 2))}, 1.0 * state["mood"]


@pytest.mark.parametrize("form", FORMS)
def test_seeing_is_not_doing(form: str) -> None:
    seen = cai.solve(Confounded(), form=form, observe={"door_0": 1})
    forced = cai.solve(Confounded(), form=form, do={"door_0": 1})
    e = math.e
    assert float(seen.log_evidence) == pytest.approx(math.log(0.5 * 0.1 + 0.5 * 0.8 * e), abs=1e-12)
    assert float(forced.log_evidence) == pytest.approx(math.log(0.5 + 0.5 * e), abs=1e-12)
    p_seen = seen.initial().reshape(2, 2)[1, 1]
    p_forced = forced.initial().reshape(2, 2)[1, 1]
    assert float(p_seen) == pytest.approx(0.8 * e / (0.1 + 0.8 * e), abs=1e-12)
    assert float(p_forced) == pytest.approx(e / (1 + e), abs=1e-12)


def shares(world: Any, name: str, t: int, size: int) -> float:
    """log Σ over the values of a site of the evidence with that value seen, nats."""
    total = 0.0
    for value in range(size):
        try:
            total += math.exp(float(cai.solve(world, temperature=0.7, observe={f"{name}_{t}": value}).log_evidence))
        except cai.ImpossibleError:
            continue  # a state that cannot be reached at this time
    return math.log(total)


@examples(4)
@given(st.sampled_from(sorted(SIZES)), st.integers(0, 3), st.integers(0, 3))
def test_the_values_of_a_site_share_the_evidence(name: str, t: int, seed: int) -> None:
    t = t if name in STATES else min(t, 2)
    factors = cai.factorise(FactoredWorld(seed))
    whole = float(cai.solve(factors, temperature=0.7).log_evidence)
    assert shares(factors, name, t, SIZES[name]) == pytest.approx(whole, abs=1e-10)


@examples(4)
@given(random_worlds(holes=False, discount=1.0), st.data())
def test_the_values_of_a_site_share_the_evidence_of_random_worlds(world: RandomWorld, data: st.DataObject) -> None:
    name, size = data.draw(st.sampled_from([("s", world.S), ("a", world.A)]))
    t = data.draw(st.integers(0, (world.horizon or 0) - (name != "s")))
    tables = cai.tabulate(world)
    whole = float(cai.solve(tables, temperature=0.7).log_evidence)
    assert shares(tables, name, t, size) == pytest.approx(whole, abs=1e-10)


def endless() -> FactoredWorld:
    world = FactoredWorld()
    world.horizon, world.discount = None, 0.9
    return world


FAULTS: list[tuple[Callable[[], Any], dict[str, Any], str]] = [
    (FactoredWorld, {"observe": {"floor": 1}}, r"observe, site 'floor': no time; expected .* such as 'floor_5'"),
    (FactoredWorld, {"do": {"_x": 1}}, "do, site '_x': no time"),
    (FactoredWorld, {"observe": {"tower_1": 1}}, "observe, site 'tower_1': no variable 'tower'"),
    (FactoredWorld, {"observe": {"floor_4": 1}}, "observe, site 'floor_4': time 4; expected a time from 0 to 3"),
    (FactoredWorld, {"do": {"lift_3": 1}}, "do, site 'lift_3': time 3; expected a time from 0 to 2"),
    (FactoredWorld, {"do": {"wind_3": 1}}, "do, site 'wind_3': time 3; expected a time from 0 to 2"),
    (FactoredWorld, {"observe": {"floor_1": 3}}, "observe, site 'floor_1': value 3; expected 0 … 2"),
    (FactoredWorld, {"do": {"floor_1": -1}}, "do, site 'floor_1': value -1; expected 0 … 2"),
    (FactoredWorld, {"observe": {"floor_1": 0.5}}, "observe, site 'floor_1': value 0.5; expected the number of a"),
    (FactoredWorld, {"do": {"floor_1": "up"}}, "do, site 'floor_1': value 'up'"),
    (FactoredWorld, {"observe": {"door_1": 1}, "do": {"door_1": 1}}, "site 'door_1': both observed and forced"),
    (endless, {"observe": {"floor_1": 1}}, "observe, site 'floor_1': an infinite horizon"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("make", "conditions", "words"), FAULTS)
def test_a_condition_that_does_not_fit_is_told(
    make: Callable[[], Any], conditions: dict[str, Any], words: str, form: str
) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.solve(make(), form=form, **conditions)
    with pytest.raises(cai.WorldError, match=words):
        cai.condition(make(), **conditions)


def test_what_tables_have_forgotten_is_told() -> None:
    tables, factors = cai.tabulate(FactoredWorld()), cai.factorise(FactoredWorld())
    with pytest.raises(cai.WorldError, match="observe, site 'wind_1': no variable 'wind'"):
        cai.solve(tables, observe={"wind_1": 1})
    with pytest.raises(cai.WorldError, match="do: 'floor' of a world that is compiled to tables"):
        cai.solve(tables, do={"floor_1": 1})
    with pytest.raises(cai.WorldError, match="do: 'lift' of a world that is compiled to tables"):
        cai.solve(tables, do={"lift_1": 1})
    kept = cai.solve(factors, observe={"wind_1": 1}, do={"floor_1": 1, "lift_1": 1})
    truth = evidence(FactoredWorld(), 1.0, {"wind_1": 1}, {"floor_1": 1, "lift_1": 1})
    assert float(kept.log_evidence) == pytest.approx(truth, abs=1e-10)


def test_the_only_action_of_tables_can_be_forced() -> None:
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=3, holes=False)
    forced = cai.solve(cai.tabulate(world), do={"a_1": 1})
    truth = evidence(world, 1.0, {}, {"a_1": 1})
    assert float(forced.log_evidence) == pytest.approx(truth, abs=1e-10)
    seen = cai.solve(cai.tabulate(world), observe={"a_1": 1})
    assert float(seen.log_evidence) == pytest.approx(evidence(world, 1.0, {"a_1": 1}, {}), abs=1e-10)
    assert float(seen.log_evidence) < float(forced.log_evidence)

"""Policies read by name: small tables of action names and probabilities, for every form of policy."""

from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Categorical

import cai
from tests.test_labels import NAMES, Pump
from tests.worlds import FactoredWorld, RandomWorld


class Rule(Pump):
    """A worn pump is mended four times in five, a good one never."""

    def act(self, state: Any, t: int) -> Any:
        worn = (state["pump"] == 1).unsqueeze(-1)
        return pyro.sample("job", Categorical(torch.where(worn, torch.tensor([0.2, 0.8]), torch.tensor([1.0, 0.0]))))


def forms(world: Any) -> dict[str, Any]:
    """The action prior in every form that a policy has."""
    tables, factors = cai.tabulate(world), cai.factorise(world)
    probs = tables.at(0).log_prior.exp()
    return {
        "prior": cai.evaluate(tables, None).policy,
        "factors": cai.evaluate(factors, None).policy,
        "tensor": cai.evaluate(tables, probs).policy,
        "tabular": cai.policies.TabularPolicy(world),
        "stationary": cai.policies.TabularPolicy(world, stationary=True),
        "neural": cai.policies.NeuralPolicy(world),
        "function": cai.policies.FunctionPolicy(world, world.act_by_table),
        "mixture": cai.policies.MixturePolicy([cai.policies.TabularPolicy(world), cai.policies.NeuralPolicy(world)]),
    }


def test_every_form_is_read_by_name() -> None:
    world = Rule(NAMES)
    probs = cai.tabulate(world).at(0).log_prior.exp()
    world.act_by_table = lambda state, t: probs[3 * state["pump"] + state["way"]]  # type: ignore[attr-defined]
    for name, policy in forms(world).items():
        for state in ({"pump": "worn", "way": "far"}, {"pump": 1, "way": 2}, {"way": "far", "pump": 1}):
            found = policy.at(1, **state)
            assert dict(found) == pytest.approx({"job=use": 0.2, "job=mend": 0.8}), name
            assert found["job=mend"] == pytest.approx(0.8)
            assert found.of("job") == pytest.approx({"use": 0.2, "mend": 0.8})
        assert str(policy.at(2, pump="worn", way=1)) == "t = 2, pump=worn, way=1\n  job=mend  0.8\n  job=use   0.2", (
            name
        )
        assert str(policy.at(0, pump="ok", way="near")) == "t = 0, pump=ok, way=near\n  job=use  1", name


def test_messages_speak_of_several_action_variables() -> None:
    world = FactoredWorld()
    flat, kept = (cai.solve(world, cai.VARIATIONAL, form=form).policy for form in ("tables", "factors"))
    truth = flat.probs(1)[2 * 2 + 1]
    for policy in (flat, kept):
        found = policy.at(1, floor=2, door=1)
        names = ["lift=0, push=0", "lift=0, push=1", "lift=1, push=0", "lift=1, push=1"]
        assert dict(found) == pytest.approx(dict(zip(names, truth.tolist(), strict=True)))
        assert found.of("lift") == pytest.approx({"0": float(truth[:2].sum()), "1": float(truth[2:].sum())})
    with pytest.raises(cai.WorldError, match="'floor'; expected one of lift, push"):
        flat.at(1, floor=2, door=1).of("floor")


def test_separate_parts_are_multiplied(monkeypatch: Any) -> None:
    from tests.test_separate import Islands

    monkeypatch.setattr("cai.exact.forms.JOINT", 1)
    world = Islands((1, 3, 1))
    apart = cai.solve(cai.factorise(world), cai.VARIATIONAL)
    assert len(apart.parts) > 1
    whole = cai.solve(cai.tabulate(world), cai.VARIATIONAL).policy
    state = cai.tabulate(world).state(7)
    assert dict(apart.policy.at(1, **state)) == pytest.approx(dict(whole.at(1, **state)), abs=1e-12)
    some = {name: value for name, value in state.items() if name == "x_0_0"} or dict(list(state.items())[:1])
    table = apart.policy.at(1, **some)
    rest = [name for name in state if name not in some and name not in table.unread]
    assert sorted(table.variables) == sorted(rest)
    for values, row in zip(table.values, table, strict=True):
        full = {**state, **some, **{name: int(value) for name, value in zip(table.variables, values, strict=True)}}
        assert dict(row) == pytest.approx(dict(whole.at(1, **full)), abs=1e-12)
    with pytest.raises(cai.WorldError, match=r"at: no variable 'v0_9'; expected some of .*; did you mean v0_1\?"):
        apart.policy.at(1, v0_9=0)


def test_names_of_values_in_separate_parts_may_hold_commas(monkeypatch: Any) -> None:
    from tests.test_separate import Islands

    monkeypatch.setattr("cai.exact.forms.JOINT", 1)
    world = Islands((3, 3))
    world.labels = {"v0_0": ["calm, dry", "a=b"]}  # type: ignore[attr-defined]
    policy = cai.solve(cai.factorise(world), cai.VARIATIONAL).policy
    assert len(policy.parts) == 2
    assert policy.at(0, v0_0="calm, dry").given == {"v0_0": "calm, dry"}
    assert policy.at(0, v0_0="a=b").given == {"v0_0": "a=b"}


@pytest.mark.parametrize(
    ("t", "state", "words"),
    [
        (
            0,
            {"pump": "worn", "speed": 1},
            r"no variable 'speed'; expected some of pump \(ok, worn, or 0 … 1\), way \(near, far, or",
        ),
        (0, {"pumps": "worn"}, r"no variable 'pumps'; expected some of .*; did you mean pump\?"),
        (0, {"pump": "broken", "way": 0}, "variable 'pump': value 'broken'; expected ok, worn, or 0 … 1"),
        (0, {"pump": 2, "way": 0}, "value 2"),
        (0, {"pump": "1", "way": 0}, "value '1'"),
        (3, {"pump": 0, "way": 0}, "a time from 0 to 2"),
        (-1, {"pump": 0, "way": 0}, "a time from 0 to 2"),
        (0.5, {"pump": 0, "way": 0}, r"at, t: 0\.5; expected a time from 0 to 2"),
        ("first", {"pump": 0}, "at, t: first; expected a time from 0 to 2"),
    ],
)
def test_what_is_no_state_is_named(t: Any, state: dict[str, Any], words: str) -> None:
    for policy in (cai.solve(Pump(NAMES)).policy, cai.policies.TabularPolicy(Pump(NAMES))):
        with pytest.raises(cai.WorldError, match=words):
            policy.at(t, **state)


def test_a_bare_state_and_a_batch() -> None:
    world = RandomWorld(3, 4, 3, 3, None, holes=False, discount=0.9, positive=False)
    messages = cai.solve(world, cai.VARIATIONAL, temperature=[0.5, 1.0])
    with pytest.raises(cai.WorldError, match=r"messages\[i\]"):
        messages.policy.at(0, s=1)
    found = messages[1].policy.at(0, s=1)
    assert list(found.values()) == pytest.approx(messages[1].policy.probs(0)[1].tolist())
    assert list(found) == ["a=0", "a=1", "a=2"]


def test_many_actions_are_cut() -> None:
    class Many(Pump):
        def act(self, state: Any, t: int) -> Any:
            return pyro.sample("job", Categorical(torch.arange(1.0, 21.0)))

        def step(self, state: Any, action: Any, t: int) -> Any:
            return super().step(state, action % 2, t)

    found = cai.evaluate(cai.tabulate(Many(None)), None).policy.at(0, pump=0, way=0)
    assert len(found) == 20
    lines = str(found).splitlines()
    assert lines[1] == "  job=19  0.09524"
    assert len(lines) == 14
    assert lines[-1] == f"  and 8 more, {36 / 210:.2g} together"


def test_what_is_left_out_has_a_row_for_each_kind_of_state() -> None:
    world = Rule(NAMES)
    probs = cai.tabulate(world).at(0).log_prior.exp()
    world.act_by_table = lambda state, t: probs[3 * state["pump"] + state["way"]]  # type: ignore[attr-defined]
    for name, policy in forms(world).items():
        everything = policy.at(1)
        assert (everything.variables, everything.values, everything.unread) == (
            ("pump",),
            (("ok",), ("worn",)),
            ("way",),
        ), name
        assert [dict(row) for row in everything] == [
            pytest.approx({"job=use": 1.0, "job=mend": 0.0}),
            pytest.approx({"job=use": 0.2, "job=mend": 0.8}),
        ]
        assert str(everything) == (
            "t = 1\n  pump  does\n  ok    job=use 1\n  worn  job=mend 0.8; job=use 0.2\n  (does not depend on way)"
        )
        (row,) = policy.at(1, pump="worn")
        assert dict(row) == pytest.approx({"job=use": 0.2, "job=mend": 0.8})
        assert policy.at(1, pump="worn").given == {"pump": "worn"}
        assert len(policy.at(1, way=1)) == 2
    with pytest.raises(cai.WorldError, match="variable 'pump': value 'lost'; expected ok, worn"):
        policy.at(1, pump="lost")


def test_a_row_stands_for_all_its_states() -> None:
    policy = cai.solve(FactoredWorld(), cai.VARIATIONAL).policy
    table, probs = policy.at(1), policy.probs(1)
    for s, row in enumerate(table.row_of.tolist()):
        torch.testing.assert_close(table[row].probs, probs[s], atol=1e-9, rtol=0)
    assert policy.at(1, floor=2).row_of.tolist().count(-1) == 4
    assert table.plain()["rows"][0]["actions"] == pytest.approx(table[0].likeliest(4))


def test_policies_say_how_they_are_read() -> None:
    assert repr(cai.solve(Pump(NAMES)).policy) == (
        "FixedPolicy(6 states of pump and way, 2 actions of job, T = 3; read it with .at(t, pump=…))"
    )
    assert "TabularPolicy(6 states" in repr(cai.policies.TabularPolicy(Pump(NAMES)))


# Why


@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP], ids=str)
@pytest.mark.parametrize("form", ["tables", "factors"])
def test_reasons_hold_the_numbers_of_the_messages(rule: cai.Rule, form: str) -> None:
    messages = cai.solve(Pump(NAMES), rule, temperature=0.5, form=form)
    why = messages.explain(1, pump="worn", way="far")
    s = messages.model.states.number({"pump": "worn", "way": "far"}, "test")
    assert (why.t, why.state, why.rule) == (1, "pump=worn, way=2", str(rule)) or why.state == "pump=worn, way=far"
    assert why.v == pytest.approx(float(messages.v[1, s]))
    for one in why.actions:
        a = ["job=use", "job=mend"].index(one.action)
        assert one.q == pytest.approx(float(messages.q(1)[s, a]))
        assert one.policy == pytest.approx(float(messages.policy.probs(1)[s, a]))
        assert one.prior == pytest.approx(float(messages.model.log_prior_at(1)[s, a].exp()))
    assert [one.policy for one in why.actions] == sorted((one.policy for one in why.actions), reverse=True)
    assert f"under {rule} at α = 0.5" in str(why)


def test_many_rare_actions_are_not_passed_over() -> None:
    class Many(Pump):
        """An even number mends, and all numbers are rare."""

        def act(self, state: Any, t: int) -> Any:
            return pyro.sample("job", Categorical(torch.ones(*state["pump"].shape, 2000)))

        def step(self, state: Any, action: Any, t: int) -> Any:
            return super().step(state, action % 2, t)

    messages = cai.solve(Many(None), cai.VARIATIONAL, temperature=10.0)
    assert all("job=" in does and does.endswith("; …") for *_, does in messages.policy.at(0).lines())
    words = str(messages.explain(0, pump=1, way=0))
    assert "are most probable" in words
    assert "each): their q is" in words
    assert "so each is" in words


def test_reasons_say_by_how_much_and_what_is_luck() -> None:
    world = cai.from_gymnasium("FrozenLake-v1", horizon=30)
    best = cai.solve(world, cai.VARIATIONAL, temperature=0.01)
    q, pi = best.q(0)[4], best.policy.probs(0)[4]
    ahead = float(q[0] - q[1])
    words = str(best.explain(0, state=4))
    assert f"left is most probable ({float(pi[0]):.2f}): its q is {ahead:.4f} reward units above that of down" in words
    assert f"so it is {float(pi[0] / pi[1]):.3g} times as likely." in words
    assert "luck" not in words
    post = cai.solve(world, cai.POSTERIOR, temperature=0.01)
    why = post.explain(0, state=4)
    tilted = post.outcome_marginals(0)  # of the start state alone
    assert float(tilted.sum()) == pytest.approx(1)
    luck = cai.evaluate(world, post, temperature=0.01).luck_nats
    visits = cai.evaluate(world, post, temperature=0.01).occupancy[1, 4]
    at_1 = {one.action: one.luck for one in post.explain(1, state=4).actions}
    names = ["left", "down", "right", "up"]
    total = sum(float(p) * at_1[name] for p, name in zip(visits, names, strict=True))
    assert total == pytest.approx(float(luck[1, 4]))
    assert "it expects state=8 with probability 0.54, but the true one is 0.33" in str(why)
    assert "All actions are equally probable" in str(cai.solve(world, cai.HARD).explain(0, state=5))


def test_reasons_need_one_state_of_one_part(monkeypatch: Any) -> None:
    from tests.test_separate import Islands

    messages = cai.solve(Pump(NAMES), temperature=[0.5, 1.0])
    with pytest.raises(cai.WorldError, match=r"messages\[i\]"):
        messages.explain(0, pump="ok", way=0)
    with pytest.raises(cai.WorldError, match="explain: variables"):
        messages[0].explain(0, pump="ok")
    monkeypatch.setattr("cai.exact.forms.JOINT", 1)
    apart = cai.solve(cai.factorise(Islands((0, 0))), cai.VARIATIONAL)
    first, second = apart.parts
    (name,), (other,) = first.model.states.names, second.model.states.names
    assert apart.explain(1, **{name: 1}).v == pytest.approx(float(first.v[1, 1]))
    with pytest.raises(cai.WorldError, match="one independent part"):
        apart.explain(1, **{name: 1, other: 0})


def test_a_policy_over_beliefs_is_read_after_what_was_seen_and_done() -> None:
    world = cai.load_world("tiger", overrides={"horizon": 4})
    answer = cai.partial.solve(world, cai.VARIATIONAL, temperature=1.0)
    held = answer.at([2, 0], [0])
    assert held.state == "belief tiger=left, growl=left 0.85; tiger=right, growl=left 0.15"
    torch.testing.assert_close(held.probs, answer.act([2, 0], [0]))
    why = answer.explain([2, 0], [0])
    t, n = answer.find([2, 0], [0])
    assert why.v == pytest.approx(float(answer.v(t)[n]))
    assert {one.action: one.q for one in why.actions}["door=listen"] == pytest.approx(float(answer.q(t)[n, 0]))
    ((p, first),) = answer.first()
    assert (p, first.state) == (1.0, "growl=none")
    torch.testing.assert_close(first.probs, answer.act([2]))

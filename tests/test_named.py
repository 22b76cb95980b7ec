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
    with pytest.raises(cai.WorldError, match="at: variables"):
        apart.policy.at(1)


@pytest.mark.parametrize(
    ("t", "state", "words"),
    [
        (
            0,
            {"pump": "worn"},
            r"variables \['pump'\]; expected each of pump \(ok, worn, or 0 … 1\), way \(near, far, or",
        ),
        (0, {"pump": "broken", "way": 0}, "variable 'pump': value 'broken'; expected ok, worn, or 0 … 1"),
        (0, {"pump": 2, "way": 0}, "value 2"),
        (0, {"pump": "1", "way": 0}, "value '1'"),
        (3, {"pump": 0, "way": 0}, "a time from 0 to 2"),
        (-1, {"pump": 0, "way": 0}, "a time from 0 to 2"),
    ],
)
def test_what_is_no_state_is_named(t: int, state: dict[str, Any], words: str) -> None:
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

"""One law over all forms: whatever a result says, it says the same of tables, factors and independent parts.

That tables say what is true is for the oracles: ``test_exact``, ``test_rules``, ``test_accounts``, ``test_infinite``.
"""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any
from weakref import ref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from tests.helpers import examples, slow_after
from tests.means import Quantile, Sparse
from tests.worlds import FactoredWorld, Pair, RandomWorld, pairs_of_worlds, temperatures

OWN = cai.Rule("own", cai.VARIATIONAL.over_outcomes, Sparse())
"""A mean over actions that says nothing of itself: factors take it, but not part by part."""
RULES = [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, cai.MAP, cai.PLANNING, cai.RISK(2.0), cai.RISK(-0.7), OWN]
ONLY = (cai.ImpossibleError, cai.NotConvergedError)
some = examples(4)
OFTEN = (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD, OWN)
"""The rules that the quick tests look at too."""
each_rule = pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=() if rule in OFTEN else pytest.mark.slow) for rule in RULES], ids=str
)


@contextmanager
def apart() -> Iterator[None]:
    """Solve independent parts apart, however small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cai.exact.forms.JOINT", 1)
        yield


def falls_apart(world: Pair, rule: cai.Rule) -> bool:
    return rule.is_known and (world.discount == 1 or rule.averages)


def solved(world: Pair, rule: cai.Rule, alpha: float) -> list[cai.Messages] | None:
    """Return the messages on tables, factors and, where it falls apart, parts; None where none has an answer."""

    def solve(model: Any) -> Any:
        try:
            return cai.solve(model, rule, temperature=alpha)
        except ONLY as error:
            return type(error)

    factors = cai.factorise(world)
    forms = [solve(cai.tabulate(world)), solve(factors)]
    with apart():
        forms.append(solve(factors))
    if isinstance(forms[0], type):
        assert len(set(forms)) == 1
        return None
    assert [len(messages.parts) for messages in forms] == [1, 1, 1 + falls_apart(world, rule)]
    return forms if falls_apart(world, rule) else forms[:2]


def agree(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> bool:
    if a.shape != b.shape:
        return False
    gap = torch.where(a == b, 0.0, (a - b).abs() / (1 + a.abs()))
    return bool((gap <= tolerance).all())


def added(parts: tuple[Tensor, Tensor], axes: int) -> Tensor:
    """Return x + y over joint states, and joint actions where there are two axes."""
    return _joint(parts, axes, torch.add)


def times(parts: tuple[Tensor, Tensor], axes: int) -> Tensor:
    """Return x y over joint states, and joint actions where there are two axes."""
    return _joint(parts, axes, torch.mul)


def _joint(parts: tuple[Tensor, Tensor], axes: int, op: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    x, y = parts
    if axes == 1:
        return op(x.unsqueeze(-1), y.unsqueeze(-2)).flatten(-2)
    return op(x[..., :, None, :, None], y[..., None, :, None, :]).flatten(-2).flatten(-3, -2)


def by_successor(messages: cai.Messages, t: int, weights: Tensor) -> Tensor:
    """Sum what the outcomes have, ``[S, A, K]``, over those with one successor, ``[S, A, S]``."""
    slice_, S = messages.tilt(t).slice, messages.model.states.size
    shape = (*slice_.log_prob.shape[:-1], S)
    return weights.new_zeros(shape).scatter_add(-1, slice_.successor.expand_as(weights), weights)


def same_chain(tables: cai.Messages, factors: cai.Messages, t: int) -> None:
    """Hold all that is said outcome by outcome to the tables', successor by successor; factors list more of them."""
    for read in (
        lambda m: m.dynamics(t).exp(),
        lambda m: m.outcome_marginals(t),
        lambda m: torch.where(m.dynamics(t) > -torch.inf, m.dynamics(t).exp() * m.tilt(t).slice.reward, 0.0),
    ):
        flat, kept = (by_successor(m, t, read(m)) for m in (tables, factors))
        assert agree(flat, kept)
    assert agree(tables.survival(t), factors.survival(t))
    for messages in (tables, factors):
        assert agree(messages.tilt(t).log_policy.exp(), messages.policy.probs(t))
        assert agree(messages.outcome_marginals(t).sum(-1), messages.marginals(t))
    pairs = tables.pairs(t).to_dense()
    assert agree(pairs, factors.pairs(t).to_dense())
    if tables.model.horizon is not None:
        assert agree(pairs.sum(0), tables.states(t + 1))


NAMES = ["x", "b", "k", ("y", "x"), ("b", "a"), ("y", "a"), ("k", "l"), ("l", "x", "b")]
"""Of one part, then of both."""


def same_marginals(world: Pair, forms: list[cai.Messages], t: int) -> None:
    for names in NAMES:
        if all(set(names) <= set(messages.operator.variables) for messages in forms):
            across = world.horizon is None and len(forms) > 2 and _parts_of(forms[2], names) > 1
            if across:
                with pytest.raises(cai.IntractableError, match="of several parts"):
                    forms[2].marginal(t, names)
            truth, *others = (messages.marginal(t, names) for messages in forms[: 2 if across else 3])
            assert all(agree(truth, other) for other in others), names


def _parts_of(messages: cai.Messages, names: str | tuple[str, ...]) -> int:
    return sum(bool(set(names) & set(part.operator.variables)) for part in messages.parts)


def same_on_whole(tables: cai.Messages, factors: cai.Messages) -> None:
    """Hold everything that follows from messages over joint states to the tables'."""
    assert agree(tables.v, factors.v)
    assert agree(tables.value, factors.value)
    assert agree(tables.initial(), factors.initial())
    T = tables.model.horizon
    for t in range(T or 1):
        assert agree(tables.q(t), factors.q(t))
        assert agree(tables.policy.probs(t), factors.policy.probs(t))
        assert agree(tables.states(t), factors.states(t))
        assert agree(tables.marginals(t), factors.marginals(t))
        same_chain(tables, factors, t)
    if T is not None:
        assert agree(tables.states(T), factors.states(T))
        a, b = tables.most_probable(), factors.most_probable()
        assert torch.equal(a.alive, b.alive)
        assert torch.equal(a.states, b.states)
        assert torch.equal(a.actions, b.actions)
        assert agree(a.rewards, b.rewards)
    if T is not None and tables.rule == cai.POSTERIOR:
        possible = tables.v > -torch.inf
        assert agree(*(torch.where(possible, messages.forward, 0.0) for messages in (tables, factors)))
        for messages in (tables, factors):
            met = messages.forward + messages.v / messages.temperature - messages.log_evidence
            states = torch.stack([messages.states(t) for t in range(T + 1)])
            assert agree(torch.where(possible, met.exp(), 0.0), states)


def same_in_parts(world: Pair, tables: cai.Messages, parts: cai.Messages) -> None:
    """Hold everything that the parts say to the tables': values add up, and chances of the living multiply."""
    T, alive = tables.model.horizon, world.discount
    possible = tables.v > -torch.inf
    assert agree(tables.v, added(parts.v, 1))
    assert agree(tables.value, parts.value)
    assert agree(tables.value, sum(part.value for part in parts.parts))
    assert agree(tables.initial(), times(parts.initial(), 1))
    for t in range(T or 1):
        assert agree(tables.q(t), added(parts.q(t), 2))
        here = possible if T is None else possible[t]
        act = times(tuple(part.policy.probs(t) for part in parts.parts), 2)
        assert agree(tables.policy.probs(t)[here], act[here])
        for part, joint, states in zip(parts.parts, parts.marginals(t), parts.states(t), strict=True):
            names = (*part.model.states.names, *part.model.actions.names)
            assert agree(tables.marginal(t, names).reshape(joint.shape), joint)
            assert agree(states, part.states(t))
        if T is not None:
            assert agree(tables.states(t), times(parts.states(t), 1) / alive**t)
            assert agree(tables.marginals(t), times(parts.marginals(t), 2) / alive**t)
        with pytest.raises(cai.IntractableError, match="outcomes of"):
            parts.tilt(t)
    if T is not None and alive == 1:
        a, b = tables.most_probable(), parts.most_probable()
        assert torch.equal(a.states, b.states)
        assert torch.equal(a.actions, b.actions)
        assert agree(a.rewards, b.rewards)
        if tables.rule == cai.POSTERIOR:
            assert agree(tables.forward[possible], added(parts.forward, 1)[possible])


def same(world: Pair, rule: cai.Rule, alpha: float) -> None:
    forms = solved(world, rule, alpha)
    if forms is None:
        return
    tables, factors, *rest = forms
    assert [messages.form for messages in forms] == ["tables", "factors", "separate factors"][: len(forms)]
    same_on_whole(tables, factors)
    for parts in rest:
        same_in_parts(world, tables, parts)
    for t in range(tables.model.horizon or 1):
        same_marginals(world, forms, t)
    for name, owner in (("log_evidence", cai.POSTERIOR), ("elbo", cai.VARIATIONAL)):
        for messages in forms:
            if rule == owner:
                assert agree(getattr(messages, name), tables.value / tables.temperature)
            else:
                with pytest.raises(AttributeError, match=f"{name} belongs to {owner}"):
                    getattr(messages, name)


@each_rule
@some
@given(pairs_of_worlds(), temperatures)
def test_messages_are_those_of_the_tables(rule: cai.Rule, world: Pair, alpha: float) -> None:
    same(world, rule, alpha)


@pytest.mark.parametrize("rule", slow_after(2, [cai.POSTERIOR, OWN, *RULES[1:-2], cai.RISK(-50.0)]), ids=str)
@examples(3)
@given(pairs_of_worlds(horizon=None, holes=False, positive=False, discount=0.7), st.sampled_from([0.3, 10.0]))
def test_messages_of_the_infinite_horizon_are_those_of_the_tables(rule: cai.Rule, world: Pair, alpha: float) -> None:
    same(world, rule, alpha)


@pytest.mark.parametrize("rule", slow_after(1, [cai.HARD, cai.MAP, cai.PLANNING]), ids=str)
@pytest.mark.parametrize("horizon", [3, None])
def test_ties_are_shared_alike(rule: cai.Rule, horizon: int | None) -> None:
    """Both actions are the same, but for rounding."""
    halves = [RandomWorld(i, 3, 2, 2, horizon, holes=False, positive=False, discount=0.7) for i in range(2)]
    for half in halves:
        half.prior = torch.full_like(half.prior, 0.5)
        for field in (half.outcome, half.successor, half.reward):
            field[:, :, 1] = field[:, :, 0].flip(-1)
    same(Pair((halves[0], halves[1])), rule, 1.0)


@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.MAP, cai.RISK(-50.0)], ids=str)
@pytest.mark.parametrize("discount", slow_after(1, [0.8, 1.0]))
def test_samples_follow_the_marginals(rule: cai.Rule, horizon: int | None, discount: float) -> None:
    if horizon is None and discount == 1:
        return
    halves = [RandomWorld(i, 2, 2, 2, horizon, holes=False, positive=False, discount=discount) for i in range(2)]
    forms = solved(Pair((halves[0], halves[1])), rule, 2.0)
    assert forms is not None
    n, (tables, *_) = 4000, forms
    S, A = tables.model.states.size, tables.model.actions.size
    for messages in forms:
        drawn = messages.sample(n, steps=3, generator=torch.Generator().manual_seed(0))
        conditionals = [tables.operator.conditionals(t, tables._at(t + 1)) for t in range(3)]
        mu, reward = tables.initial(), 0.0
        for t, chain in enumerate(conditionals):
            alive = drawn.alive[:, t]
            seen = torch.bincount((drawn.states[:, t] * A + drawn.actions[:, t])[alive], minlength=S * A) / n
            truth = tables.operator.joint(mu, chain.log_policy).reshape(-1)
            assert bool(((seen - truth).abs() <= 5 * (truth * (1 - truth) / n).sqrt() + 1e-12).all())
            reward += float((chain.joint(mu) * tables.model.at(t).reward).sum())
            mu = chain.push(mu)
        assert abs(float(drawn.returns.mean()) - reward) <= 5 * float(drawn.returns.std()) / math.sqrt(n) + 1e-12


NUMBERS = ("expected_return", "entropy", "kl_to_prior", "elbo", "elbo_star", "log_evidence", "best_return")
NUMBERS += ("optimality_gap", "evidence_gap", "regret", "start_nats", "standard_error")
BY_STATE = ("policy_nats", "action_nats", "luck_nats", "regret_per_state")
TENSORS = (*BY_STATE, "log_policy", "occupancy", "final_states")


def said(read: Callable[[], Any]) -> Any:
    """Return what is said, or the type of the error that says why there is nothing."""
    try:
        return read()
    except ONLY as error:
        return type(error)


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, type) or isinstance(b, type):
        return a == b
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return agree(a, b, 1e-9)


def measured(world: Pair, policy: Any, alpha: float) -> list[cai.Evaluation] | None:
    """Return the evaluation on tables, factors and parts; None where the policy's own rule has no answer."""
    models = [cai.tabulate(world), cai.factorise(world)]
    forms = [said(lambda model=model: cai.evaluate(model, policy, temperature=alpha)) for model in models]
    if not isinstance(policy, Tensor) and policy is not OWN:
        with apart():
            forms.append(said(lambda: cai.evaluate(models[1], policy, temperature=alpha)))
    if isinstance(forms[0], type):
        assert len(set(forms)) == 1
        return None
    return forms


def same_accounts(forms: list[cai.Evaluation]) -> None:
    if forms[0].elbo == -math.inf:  # where the whole can do nothing it does as the prior, a part that can does better
        forms = forms[:2]
    tables, factors, *rest = forms
    for name in NUMBERS:
        truth, *others = (said(lambda form=form, name=name: getattr(form, name)) for form in forms)
        assert all(alike(truth, other) for other in others), name
    for name in TENSORS:
        a, b = (said(lambda form=form, name=name: getattr(form, name)) for form in (tables, factors))
        assert alike(a, b), name
    for other in forms[1:]:
        assert set(other.visits) == set(tables.visits)
        assert all(alike(tables.visits[name], visits) for name, visits in other.visits.items())
    for by in ("nats", "regret"):
        a, b = (said(lambda form=form, by=by: form.worst(5, by)) for form in (tables, factors))
        assert isinstance(a, type) == isinstance(b, type)
        if not isinstance(a, type):
            assert alike([loss.lost for loss in a], [loss.lost for loss in b])
    for a, b in zip(*(form.account().splitlines() for form in (tables, factors)), strict=True):
        assert a == b or ("has no finite value" in a and a.startswith(b.rstrip(".")))  # tables say where, too
    for parts in rest:
        for name in BY_STATE:
            a, b = (said(lambda form=form, name=name: getattr(form, name).sum()) for form in (tables, parts))
            assert alike(a, b), name


@pytest.mark.parametrize(
    "policy", slow_after(5, [None, "random", *OFTEN, *(rule for rule in RULES if rule not in OFTEN)]), ids=str
)
@examples(3)
@given(pairs_of_worlds(), temperatures)
def test_evaluations_are_those_of_the_tables(policy: Any, world: Pair, alpha: float) -> None:
    if policy == "random":
        shape = [math.prod(sizes) for sizes in zip(*((half.S, half.A) for half in world.halves), strict=True)]
        policy = torch.rand(world.horizon, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        policy = policy / policy.sum(-1, keepdim=True)
    forms = measured(world, policy, alpha)
    if forms is not None:
        same_accounts(forms)


@pytest.mark.parametrize("policy", [None, cai.VARIATIONAL, cai.HARD], ids=str)
@examples(3)
@given(pairs_of_worlds(horizon=None, holes=False, positive=False, discount=0.7), st.sampled_from([0.3, 10.0]))
def test_evaluations_of_the_infinite_horizon_are_those_of_the_tables(policy: Any, world: Pair, alpha: float) -> None:
    forms = measured(world, policy, alpha)
    assert forms is not None
    same_accounts(forms)


@examples(4)
@given(pairs_of_worlds(holes=False), temperatures)
def test_comparisons_are_those_of_the_tables(world: Pair, alpha: float) -> None:
    rules = {"prior": None, **{str(rule): rule for rule in RULES if rule is not OWN}}
    factors = cai.factorise(world)
    tables, *others = (cai.compare(model, rules, temperature=alpha) for model in (cai.tabulate(world), factors))
    with apart():
        others.append(cai.compare(factors, rules, temperature=alpha))
    for other in others:
        assert alike(tables.elbo_star, other.elbo_star)
        assert alike(tables.log_evidence, other.log_evidence)
        for a, b in zip(tables.rows, other.rows, strict=True):
            assert a.name == b.name
            assert set(a.cells) == set(b.cells)
            assert all(alike(getattr(a, field), getattr(b, field)) for field in a.cells if a.estimate(field))


# What is made ready for a world is kept with it


def world(which: int) -> Any:
    """A world of each form, its horizon long enough that something is made ready."""
    halves = [RandomWorld(i, 3, 2, 2, 9, holes=False, discount=0.8) for i in range(2)]
    pair = Pair((halves[0], halves[1]))
    made = (
        lambda: cai.tabulate(halves[0]),
        lambda: cai.factorise(pair),
        lambda: cai.factorise(FactoredWorld()),
    )
    return made[which]()


def numbers(model: Any) -> dict[str, Tensor]:
    """A tensor of each kind that a model holds."""
    if isinstance(model, cai.Tables):
        return {name: getattr(model, name) for name in ("log_initial", "log_prior", "log_prob", "reward", "terminal")}
    slice_ = model.slices[0]
    fields = {
        "initial": model.initial.values(),
        "prior": slice_.prior.values(),
        "chance": slice_.chance.values(),
        "reward": slice_.reward,
        "terminal": model.terminal,
    }
    return {name: next(iter(factors)).table for name, factors in fields.items() if factors}


def everything(model: Any, rule: cai.Rule, alpha: float = 0.6) -> list[Tensor]:
    messages = cai.solve(model, rule, temperature=alpha)
    return [messages.v, messages.value, messages.q(1), messages.policy.probs(1), messages.marginals(1)]


@pytest.mark.parametrize("rule", slow_after(1, [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD]), ids=str)
@pytest.mark.parametrize("which", slow_after(2, [0, 2, 1]))
def test_a_world_changed_in_place_is_solved_anew(which: int, rule: cai.Rule) -> None:
    whole = world(which)
    for name in numbers(whole):
        model, fresh = deepcopy(whole), deepcopy(whole)
        before = everything(model, rule)
        cai.evaluate(model, rule, temperature=0.6).account()
        for changed in (model, fresh):
            table = numbers(changed)[name]
            table.copy_(table.flip(-1) if name not in ("reward", "terminal") else table + torch.arange(table.shape[-1]))
        after, truth = everything(model, rule), everything(fresh, rule)
        assert all(torch.equal(a, b) for a, b in zip(after, truth, strict=True)), name
        seen = rule != cai.HARD or "prior" not in name  # it reads which actions there are, and no more
        assert seen != all(torch.equal(a, b) for a, b in zip(after, before, strict=True)), name
        a, b = (cai.evaluate(one, rule, temperature=0.6) for one in (model, fresh))
        assert (a.expected_return, a.elbo, a.account()) == (b.expected_return, b.elbo, b.account())


@pytest.mark.parametrize("which", range(3))
def test_in_inference_mode_too(which: int) -> None:
    with torch.inference_mode():
        model = world(which)
        before = cai.solve(model).value
        numbers(model)["reward"].add_(1.0)
        assert float(cai.solve(model).value) > float(before) + 1.0


@pytest.mark.parametrize("which", slow_after(2, [0, 2, 1]))
def test_what_is_kept_of_one_question_answers_no_other(which: int) -> None:
    asked = [(rule, alpha) for rule in (cai.POSTERIOR, cai.VARIATIONAL, cai.RISK(2.0), OWN) for alpha in (0.6, 0.7)]
    model, whole = world(which), world(which)
    truth = [everything(deepcopy(whole), *question) for question in asked]
    for question, answer in [*zip(asked, truth, strict=True)] * 2 + [*zip(asked, truth, strict=True)][::-1]:
        assert all(torch.equal(a, b) for a, b in zip(everything(model, *question), answer, strict=True))
    other = cai.Rule("POSTERIOR", Sparse() if which == 0 else cai.HARD.over_outcomes, Quantile())  # of a known name
    for rule in (other, cai.POSTERIOR, other):
        found, fresh = everything(model, rule), everything(deepcopy(whole), rule)
        assert all(torch.equal(a, b) for a, b in zip(found, fresh, strict=True))
    longer = replace(model, horizon=model.horizon + 1)
    assert torch.equal(cai.solve(longer).v, cai.solve(replace(whole, horizon=longer.horizon)).v)


def test_what_is_kept_does_not_keep_a_world_alive() -> None:
    for which in range(3):
        model = world(which)
        for rule in (cai.POSTERIOR, cai.VARIATIONAL, OWN):
            everything(model, rule)
        cai.compare(model, {"hard": cai.HARD})
    with apart():
        cai.solve(model).marginals(1)
    models = [world(which) for which in range(3)]
    gone = [ref(model) for model in models]
    for model in models:
        everything(model, cai.POSTERIOR)
        cai.evaluate(model, cai.HARD).account()
    del model, models
    gc.collect()
    assert [one() for one in gone] == [None] * 3

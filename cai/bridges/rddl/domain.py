"""A grounded RDDL domain read into terms: what its fluents mean, how they change, and what may be done."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.bridges.rddl.expressions import Fluent
from cai.bridges.rddl.joint_actions import Actions, fits, joint_actions, keep_allowed
from cai.bridges.rddl.separate_actions import MIRRORED, require_bounds, separate_actions
from cai.bridges.rddl.terms import Folder, Term
from cai.errors import Finding, IntractableError, fault


@dataclass(frozen=True)
class Domain:
    """A grounded problem as terms.

    Attributes:
        fluents: what every name means, the next states' names too.
        rules: each next state's, intermediate and observation fluent's term.
        reward: scaled terms that add up to the reward.
        done: tells the states in which an episode ends; None where none does.
        start: the first value of each state fluent.
        following: the name of each state fluent's next value.
        observed: the observation fluents.
        actions: how the action fluents are chosen.
    """

    fluents: Mapping[str, Fluent]
    rules: Mapping[str, Any]
    reward: tuple[tuple[float, Any], ...]
    done: Term | None
    start: Mapping[str, float]
    following: Mapping[str, str]
    observed: tuple[str, ...]
    actions: Actions


def read_domain(model: Any, limits: Mapping[str, tuple[float, float]] | None = None, deviation: float = 1.0) -> Domain:
    """Read pyRDDLGym's grounded model.

    Args:
        model: the model.
        limits: the least and the largest value of int fluents, and of real action fluents, by name.
        deviation: of the priors of real action fluents that lack a bound.

    Raises:
        IntractableError: the actions cannot be listed or bounded, or a term reads what one slice cannot give it.
        WorldError: the model does not fit together.
    """
    fluents = {name: _declared(name, kind, model) for name, kind in model.variable_ranges.items()}
    unbound = {name: fluent for name, fluent in fluents.items() if model.variable_types[name] != "non-fluent"}
    folder = Folder(_constants(model), unbound)
    promises = [folder.fold(expression, "state-invariants") for expression in model.invariants]
    conditions = [folder.fold(expression, "action-preconditions") for expression in model.preconditions]
    bounds = _bounds(part for term in (*promises, *conditions) for part in _conjuncts(term))
    limits = _limits(limits or {}, unbound.values())
    fluents = {name: _bounded(name, fluent, bounds, limits, model) for name, fluent in unbound.items()}
    rules = {name: folder.fold(expression, fluents[name].label) for name, (_, expression) in model.cpfs.items()}
    paid = folder.fold(model.reward, "reward")
    finite = all(fluents[name].size is not None for name in (*model.state_fluents, *model.action_fluents))
    reward = folder.addends(paid) if finite else [(1.0, paid)]  # only elimination wants its small parts
    done = folder.make("|", *(folder.fold(expression, "termination") for expression in model.terminations))
    if isinstance(done, Term):
        rules, reward = _absorbed(folder, done, rules, reward, model)
    _acyclic(rules)
    parts = _on_actions([part for term in conditions for part in _conjuncts(term)], rules, model)
    if finite or fits(*_choices(model, fluents)):
        actions = _joint(model, fluents, rules, reward, parts)
    else:
        actions = _separate(folder, model, fluents, done, parts, limits, deviation)
    for name in model.observ_fluents:
        _observation(fluents[name].label, rules[name], rules, model)
    return Domain(
        fluents=fluents,
        rules=rules,
        reward=tuple((scale, term) for scale, term in reward if scale != 0),
        done=done if isinstance(done, Term) else None,
        start={name: _first(fluents[name], value, model) for name, value in model.state_fluents.items()},
        following=dict(model.next_state),
        observed=tuple(model.observ_fluents),
        actions=actions,
    )


def _absorbed(
    folder: Folder, done: Term, rules: Mapping[str, Any], reward: Sequence[tuple[float, Any]], model: Any
) -> tuple[dict[str, Any], list[tuple[float, Any]]]:
    """Let every fluent stay and nothing be paid where an episode has ended."""
    _require("termination", done, rules, model.state_fluents)
    stay = {then: folder.make("if", done, folder.read(name), rules[then]) for name, then in model.next_state.items()}
    return {**rules, **stay}, [(scale, folder.make("if", done, 0.0, term)) for scale, term in reward]


def _declared(name: str, kind: str, model: Any) -> Fluent:
    label = _readable(name.removesuffix("'"))
    if kind == "bool":
        return Fluent(label, 2, boolean=True)
    return Fluent(label, len(model.type_to_objects[kind]) if kind in model.type_to_objects else None)


def _limits(limits: Mapping[str, tuple[float, float]], fluents: Iterable[Fluent]) -> dict[str, tuple[float, float]]:
    """Return the limits by the label of each fluent, those of a fluent of many objects for all of its copies."""
    labels = [fluent.label.removesuffix("'") for fluent in fluents]
    bounds: dict[str, tuple[float, float]] = {}
    for name, pair in limits.items():
        mine = [label for label in labels if name in (label, label.split("(")[0])]
        fine = isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(end, int | float) for end in pair)
        if not mine or not fine or not -math.inf < pair[0] <= pair[1] < math.inf:
            expected = "a fluent's name, and the least and the largest of its numbers"
            raise fault("from_rddl, bounds", f"{name!r}: {pair!r}", expected)
        bounds |= dict.fromkeys(mine, (pair[0], pair[1]))
    return bounds


def _bounded(
    name: str,
    fluent: Fluent,
    bounds: Mapping[str, tuple[float, float]],
    limits: Mapping[str, tuple[float, float]],
    model: Any,
) -> Fluent:
    role, kind = model.variable_types[name], model.variable_ranges[name]
    limit = limits.get(fluent.label.removesuffix("'"))
    if limit is not None and (kind, role) != ("real", "action-fluent"):
        if kind != "int" or not all(float(end).is_integer() for end in limit):
            raise fault("from_rddl, bounds", f"'{fluent.label}': {limit!r}, of {kind}", "whole numbers, for an int")
        least, largest = (int(end) for end in limit)
        return replace(fluent, size=largest - least + 1, low=least, limited=True)
    if fluent.size is not None or role in ("interm-fluent", "derived-fluent") or kind != "int":
        return fluent  # an intermediate number needs no bounds: it is computed, not sampled
    low, high = bounds.get(name.removesuffix("'"), (-math.inf, math.inf))
    if not math.isfinite(low + high):
        if role == "action-fluent":
            require_bounds(fluent.label)
        return fluent
    return replace(fluent, size=max(int(high - low) + 1, 1), low=int(low))


def _constants(model: Any) -> dict[str, Any]:
    constants = dict(model.object_to_index)
    for name, value in model.non_fluents.items():
        constants[name] = _plain(value, model.variable_ranges[name], model)
    return constants


def _plain(value: Any, kind: str, model: Any) -> Any:
    if isinstance(value, str):
        return model.object_to_index[value.removeprefix("@")]
    if value is None:
        return {"bool": False, "real": 0.0}.get(kind, 0)
    return bool(value) if kind == "bool" else value


def _first(fluent: Fluent, value: Any, model: Any) -> float:
    if fluent.size is None:
        return float(value or 0.0)
    first = int(_plain(value, "bool" if fluent.boolean else "int", model)) - fluent.low
    if not 0 <= first < (fluent.size or 0):
        raise fault(f"from_rddl, '{fluent.label}'", f"a first value of {value}", "one within its bounds")
    return first


def _conjuncts(term: Any) -> Sequence[Any]:
    return term.args if isinstance(term, Term) and term.op == "^" else (term,)


def _bounds(promises: Iterable[Any]) -> dict[str, tuple[float, float]]:
    """Read the bounds of numbers off promises such as ``0 <= level`` and ``level <= 5``."""
    bounds: dict[str, tuple[float, float]] = {}
    for term in promises:
        if not isinstance(term, Term) or term.op not in MIRRORED:
            continue
        op, (left, right) = term.op, term.args
        if isinstance(right, Term):
            op, left, right = MIRRORED[op], right, left
        if isinstance(right, Term) or left.op != "read":
            continue
        low, high = bounds.get(left.args[0], (-math.inf, math.inf))
        if op in (">=", ">"):
            low = max(low, math.ceil(right) if op == ">=" else math.floor(right) + 1)
        else:
            high = min(high, math.floor(right) if op == "<=" else math.ceil(right) - 1)
        bounds[left.args[0]] = float(low), float(high)
    return bounds


def _on_actions(conditions: Sequence[Any], rules: Mapping[str, Any], model: Any) -> list[Term]:
    """Return the conditions that read an action; the others are promises on states."""
    known = {*model.state_fluents, *model.action_fluents}
    terms = [term for term in conditions if isinstance(term, Term)]
    return [term for term in terms if _require("action-preconditions", term, rules, known) & set(model.action_fluents)]


def _choices(model: Any, fluents: Mapping[str, Fluent]) -> tuple[list[float], int]:
    """Return how many values off its default each action fluent has, and how many may be off it together."""
    sizes = [fluents[name].size for name in model.action_fluents]
    choices = [math.inf if size is None else size - 1 for size in sizes]
    return choices, min(model.max_allowed_actions, len(choices))


def _joint(
    model: Any,
    fluents: Mapping[str, Fluent],
    rules: Mapping[str, Any],
    reward: Sequence[tuple[float, Any]],
    conditions: Sequence[Term],
) -> Actions:
    """List the joint actions, without those that a condition on actions alone forbids."""
    named = {name: fluents[name] for name in model.action_fluents}
    defaults = {name: int(_first(fluents[name], value, model)) for name, value in model.action_fluents.items()}
    states = set(model.state_fluents)
    scopes = [_require("action-preconditions", term, rules, {*states, *named}) for term in conditions]
    alone = [term for term, scope in zip(conditions, scopes, strict=True) if not scope & states]
    rest = tuple(term for term, scope in zip(conditions, scopes, strict=True) if scope & states)
    actions = joint_actions(named, defaults, model.max_allowed_actions)
    terms = (*rules.values(), *(term for _, term in reward))
    needed = frozenset[str]().union(*(term.scope for term in terms if isinstance(term, Term)))
    return replace(keep_allowed(actions, alone, rules, fluents), conditions=rest, needed=needed)


def _separate(
    folder: Folder,
    model: Any,
    fluents: Mapping[str, Fluent],
    done: Any,
    conditions: Sequence[Term],
    limits: Mapping[str, tuple[float, float]],
    deviation: float,
) -> Actions:
    named = {name: fluents[name] for name in model.action_fluents}
    if model.max_allowed_actions < len(named):
        seen = f"{len(named)} action fluents, real ones among them, of which {model.max_allowed_actions} may be set"
        raise IntractableError([Finding("from_rddl, actions", seen, "max-nondef-actions that allows all of them")])
    defaults = {name: _first(fluents[name], value, model) for name, value in model.action_fluents.items()}
    actions = separate_actions(folder, named, defaults, conditions, limits, deviation)
    open_ended = tuple(folder.make("|", done, term) for term in actions.charged)  # nothing is asked after the end
    return replace(actions, charged=open_ended)


def _observation(label: str, rule: Any, rules: Mapping[str, Any], model: Any) -> None:
    if not isinstance(rule, Term):
        return
    scope = _require(f"'{label}'", rule, rules, {*model.state_fluents, *model.prev_state})
    if scope & set(model.state_fluents) and scope & set(model.prev_state):
        seen = "an observation that reads the state before and after the step"
        raise IntractableError([Finding(f"from_rddl, '{label}'", seen, "observations of one state")])


def _require(where: str, term: Term, rules: Mapping[str, Any], known: Iterable[str]) -> frozenset[str]:
    """Return what a term reads of the given fluents, through intermediate ones without a draw; it may read no other."""
    known, scope, seen = set(known), set(), set()
    left = list(term.scope)
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        rule = rules.get(name)
        if name in known:
            scope.add(name)
        elif name not in rules or name.endswith("'") or (isinstance(rule, Term) and rule.random):
            expected = "the state only (a precondition also the action), and no random variable"
            raise IntractableError([Finding(f"from_rddl, {where}", f"it reads '{_readable(name)}'", expected)])
        elif isinstance(rule, Term):
            left += rule.scope
    return frozenset(scope)


def _readable(name: str) -> str:
    base, *objects = name.removesuffix("'").split("___")
    prime = "'" if name.endswith("'") else ""
    return f"{base}({objects[0].replace('__', ',')}){prime}" if objects else f"{base}{prime}"


def _acyclic(rules: Mapping[str, Any]) -> None:
    settled: set[str] = set()
    for root in rules:
        stack = [(root, iter(_inner(root, rules)))]
        path = {root}
        while stack:
            name, rest = stack[-1]
            following = next((name for name in rest if name not in settled), None)
            if following is None:
                settled.add(name)
                path.discard(name)
                stack.pop()
            elif following in path:
                expected = "fluents that depend on each other in an order"
                raise fault(f"from_rddl, '{_readable(following)}'", "it depends on itself within one step", expected)
            else:
                path.add(following)
                stack.append((following, iter(_inner(following, rules))))


def _inner(name: str, rules: Mapping[str, Any]) -> list[str]:
    rule = rules[name]
    return [name for name in rule.scope if name in rules] if isinstance(rule, Term) else []

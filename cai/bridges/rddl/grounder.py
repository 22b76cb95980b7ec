"""What pyRDDLGym's grounder leaves out: objects as values, chances of them, and constraints on actions."""

import math
from typing import Any

from pyRDDLGym.core.grounder import RDDLGrounder
from pyRDDLGym.core.parser.parser import Expression

from cai.bridges.rddl.joint_actions import refuse_many
from cai.errors import fault


class Grounder(RDDLGrounder):  # type: ignore[misc]
    """Grounds what pyRDDLGym's grounder leaves out."""

    def _extract_objects(self) -> None:
        super()._extract_objects()
        choices, most = self._choices(), getattr(self.AST.instance, "max_nondef_actions", "pos-inf")
        if not self._has_real_fluents():  # with real ones, every action fluent may be a variable of its own
            refuse_many(choices, len(choices) if most == "pos-inf" else int(most))  # known before all is written out
        self.enum_types |= set(self.objects)  # an object is a value like any other
        declared = sorted(variable.name for variable in self.AST.domain.pvariables)
        for block, name in ((self.AST.instance, "init_state"), (self.AST.non_fluents, "init_non_fluent")):
            for (given, _), _ in getattr(block, name, []):
                if given not in declared:
                    raise fault(f"RDDL, {name}", f"'{given}', which is not declared", f"one of {', '.join(declared)}")
            if hasattr(block, name):  # an enumerated value is written with its @ there, and grounded without
                setattr(block, name, [_bare(entry) for entry in getattr(block, name)])
        self.truths = {
            variable.name: bool(variable.default) for variable in self.AST.domain.pvariables if _is_fixed(variable)
        }
        for (name, objects), value in getattr(self.AST.non_fluents, "init_non_fluent", []):
            if name in self.truths:
                self.truths[self._append_variation_to_name(name, objects) if objects else name] = bool(value)

    def _has_real_fluents(self) -> bool:
        chosen = ("state-fluent", "action-fluent")
        return any(v.range == "real" and v.fluent_type in chosen for v in self.AST.domain.pvariables)

    def _choices(self) -> list[int]:
        """Return how many values off its default each action fluent has; an int has one at least."""
        choices: list[int] = []
        for variable in self.AST.domain.pvariables:
            if variable.fluent_type == "action-fluent":
                copies = math.prod(len(self.objects[kind]) for kind in variable.param_types or ())
                choices += [max(1, len(self.objects.get(variable.range, ())) - 1)] * copies
        return choices

    def _ground_constraints(self) -> None:
        constraints, self.AST.domain.constraints = self.AST.domain.constraints, []
        super()._ground_constraints()
        self.preconditions += [
            self._scan_expr_tree(constraint, {}) for constraint in constraints if constraint is not None
        ]

    def _scan_expr_tree_pvar(self, expr: Any, dic: Any) -> Any:
        name, args = expr.args
        if args is None and name in dic:
            return Expression(("pvar_expr", (f"@{dic[name]}", None)))
        grounded = super()._scan_expr_tree_pvar(expr, dic)
        fixed = self.truths.get(grounded.args[0], self.truths.get(name))
        return grounded if fixed is None else Expression(("boolean", fixed))

    def _scan_expr_tree_abr(self, expr: Any, dic: Any) -> Any:
        op = expr.etype[1]
        if op not in ("^", "&", "|"):
            return super()._scan_expr_tree_abr(expr, dic)
        children = []
        for child in expr.args:
            children.append(self._scan_expr_tree(child, dic))
            if children[-1].etype[0] == "constant" and bool(children[-1].args) == (op == "|"):
                return children[-1]  # most of a large domain is ruled out so, before it is written out
        return Expression((op, tuple(children)))

    def _scan_expr_tree_control(self, expr: Any, dic: Any) -> Any:
        subject = self._scan_expr_tree(expr.args[0], dic)
        if expr.etype[1] == "if":
            branches = expr.args[1:]
            if subject.etype[0] == "constant":
                return self._scan_expr_tree(branches[0 if subject.args else 1], dic)
            return Expression(("if", (subject, *(self._scan_expr_tree(branch, dic) for branch in branches))))
        cases: list[Any] = [subject]
        for kind, case in expr.args[1:]:
            literal, inner = case if kind == "case" else (None, case)
            inner = self._scan_expr_tree(inner, dic)
            cases.append((kind, (literal, inner) if kind == "case" else inner))
        return Expression(("switch", tuple(cases)))

    def _scan_expr_tree_func(self, expr: Any, dic: Any) -> Any:
        op = expr.etype[1]
        if op not in ("Discrete", "UnnormDiscrete", "Discrete(p)", "UnnormDiscrete(p)"):
            return super()._scan_expr_tree_func(expr, dic)
        if op.endswith("(p)"):
            *variables, (inner,) = expr.args
            (_, (variable, kind)), *more = variables
            if more:
                raise NotImplementedError(f"{op} over several objects at once.")
            probabilities = [self._scan_expr_tree(inner, {**dic, variable: value}) for value in self.objects[kind]]
        else:
            (_, kind), *cases = expr.args
            listed = {case[0].removeprefix("@"): case[1] for _, case in cases}
            zero = Expression(("number", 0.0))
            probabilities = [self._scan_expr_tree(listed.get(value, zero), dic) for value in self.objects[kind]]
        return Expression(("randomvar", (op.removesuffix("(p)"), probabilities)))


def _bare(entry: Any) -> Any:
    (name, objects), value = entry
    return (name, [object_.removeprefix("@") for object_ in objects] if objects else objects), value


def _is_fixed(variable: Any) -> bool:
    return bool(variable.fluent_type == "non-fluent" and variable.range == "bool")

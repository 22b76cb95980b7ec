"""RDDL's files: found in rddlrepository or on disk, parsed and grounded by pyRDDLGym, without a word printed."""

import contextlib
import difflib
import importlib
import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai.bridges.rddl_actions import refuse_many
from cai.errors import Finding, IntractableError, fault, passes

_EXAMPLES = ("SysAdmin_MDP_ippc2011", "Navigation_MDP_ippc2011")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what other packages print and warn of."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def ground(problem: str | Path, instance: str | int | Path) -> Any:
    """Return pyRDDLGym's grounded model of a problem and an instance.

    State-action constraints stand among its preconditions. Objects may be values, and chances of them be given by
    ``Discrete``, which pyRDDLGym's own grounder leaves out.

    Raises:
        WorldError: a package is missing, no such problem or instance is there, or a file cannot be parsed.
        IntractableError: pyRDDLGym cannot ground the domain.
    """
    where = f"from_rddl('{problem}', '{instance}')"
    with quiet():
        domain, instance_file = _files(where, problem, instance)
        reader, parser, grounder = (
            _module(where, f"pyRDDLGym.core.{name}") for name in ("parser.reader", "parser.parser", "grounder")
        )
        try:
            text = reader.RDDLReader(str(domain), str(instance_file)).rddltxt
            machine = parser.RDDLParser(None, False)
            machine.build(write_tables=False, debug=False)
            parsed = machine.parse(text)
        except Exception as error:  # the parser's errors have no common base
            if passes(error):
                raise
            expected = "a domain and an instance in RDDL, as pyRDDLGym parses it"
            raise fault(where, _line(error), expected) from None
        try:
            return _grounder(grounder.RDDLGrounder, parser.Expression)(parsed).ground()
        except NotImplementedError as error:
            expected = "a domain that can be grounded, without nested fluents, matrices and Python functions"
            raise IntractableError([Finding(where, _line(error), expected)]) from None
        except Exception as error:  # nor have the grounder's
            if passes(error):
                raise
            raise fault(where, _line(error), "a domain and an instance that fit") from None


def _module(where: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise fault(where, f"{error}", "the packages that read RDDL: pip install 'cai[rddl]'") from None


def _files(where: str, problem: str | Path, instance: str | int | Path) -> tuple[Path, Path]:
    if Path(problem).suffix == ".rddl":
        domain = Path(problem)
        for path in (domain, Path(str(instance))):
            if not path.is_file():
                raise fault(where, f"no file '{path}'", "the paths of a domain file and of an instance file")
        return domain, Path(str(instance))
    managers = _module(where, "rddlrepository.core.manager")
    try:
        known = managers.RDDLRepoManager()
    except Exception as error:  # its list of problems was never finished
        if passes(error):
            raise
        known = managers.RDDLRepoManager(rebuild=True)
    if str(problem) not in known.list_problems():
        near = difflib.get_close_matches(str(problem), known.list_problems(), n=3, cutoff=0.3)
        expected = f"a path that ends in .rddl, or a name of rddlrepository such as {', '.join(near or _EXAMPLES)}"
        raise fault(where, f"no problem '{problem}'", expected)
    info = known.get_problem(str(problem))
    if Path(str(instance)).suffix == ".rddl" and Path(str(instance)).is_file():
        return Path(info.get_domain()), Path(str(instance))
    if str(instance) not in info.list_instances():
        raise fault(where, f"no instance '{instance}'", f"a path, or one of {', '.join(info.list_instances())}")
    return Path(info.get_domain()), Path(info.get_instance(str(instance)))


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() not in ("", "...")]
    if isinstance(error, AttributeError):  # what the parser says at an unexpected end
        return "text that breaks off"
    if not lines:
        return type(error).__name__
    return " ".join([lines[0].rstrip("."), *lines[-1:][: len(lines) - 1]])


def _bare(entry: Any) -> Any:
    (name, objects), value = entry
    return (name, [one.removeprefix("@") for one in objects] if objects else objects), value


def _is_fixed(variable: Any) -> bool:
    return bool(variable.fluent_type == "non-fluent" and variable.range == "bool")


def _grounder(base: Any, expression: Any) -> Any:
    class Grounder(base):  # type: ignore[misc]
        """Grounds what pyRDDLGym's grounder leaves out."""

        def _extract_objects(self) -> None:
            super()._extract_objects()
            choices, most = self._choices(), getattr(self.AST.instance, "max_nondef_actions", "pos-inf")
            refuse_many(
                choices, len(choices) if most == "pos-inf" else int(most)
            )  # known before anything is written out
            self.enum_types |= set(self.objects)  # an object is a value like any other
            for block, name in ((self.AST.instance, "init_state"), (self.AST.non_fluents, "init_non_fluent")):
                if hasattr(block, name):  # an enumerated value is written with its @ there, and grounded without
                    setattr(block, name, [_bare(entry) for entry in getattr(block, name)])
            self.truths = {one.name: bool(one.default) for one in self.AST.domain.pvariables if _is_fixed(one)}
            for (name, objects), value in getattr(self.AST.non_fluents, "init_non_fluent", []):
                if name in self.truths:
                    self.truths[self._append_variation_to_name(name, objects) if objects else name] = bool(value)

        def _choices(self) -> list[int]:
            """Return how many values off its default each action fluent has; an int has one at least."""
            found: list[int] = []
            for one in self.AST.domain.pvariables:
                if one.fluent_type == "action-fluent":
                    copies = math.prod(len(self.objects[kind]) for kind in one.param_types or ())
                    found += [max(1, len(self.objects.get(one.range, ())) - 1)] * copies
            return found

        def _ground_constraints(self) -> None:
            constraints, self.AST.domain.constraints = self.AST.domain.constraints, []
            super()._ground_constraints()
            self.preconditions += [self._scan_expr_tree(one, {}) for one in constraints if one is not None]

        def _scan_expr_tree_pvar(self, expr: Any, dic: Any) -> Any:
            name, args = expr.args
            if args is None and name in dic:
                return expression(("pvar_expr", (f"@{dic[name]}", None)))
            grounded = super()._scan_expr_tree_pvar(expr, dic)
            fixed = self.truths.get(grounded.args[0], self.truths.get(name))
            return grounded if fixed is None else expression(("boolean", fixed))

        def _scan_expr_tree_abr(self, expr: Any, dic: Any) -> Any:
            op = expr.etype[1]
            if op not in ("^", "&", "|"):
                return super()._scan_expr_tree_abr(expr, dic)
            children = []
            for child in expr.args:
                children.append(self._scan_expr_tree(child, dic))
                if children[-1].etype[0] == "constant" and bool(children[-1].args) == (op == "|"):
                    return children[-1]  # most of a large domain is ruled out so, before it is written out
            return expression((op, tuple(children)))

        def _scan_expr_tree_control(self, expr: Any, dic: Any) -> Any:
            subject = self._scan_expr_tree(expr.args[0], dic)
            if expr.etype[1] == "if":
                branches = expr.args[1:]
                if subject.etype[0] == "constant":
                    return self._scan_expr_tree(branches[0 if subject.args else 1], dic)
                return expression(("if", (subject, *(self._scan_expr_tree(branch, dic) for branch in branches))))
            cases: list[Any] = [subject]
            for kind, case in expr.args[1:]:
                literal, inner = case if kind == "case" else (None, case)
                inner = self._scan_expr_tree(inner, dic)
                cases.append((kind, (literal, inner) if kind == "case" else inner))
            return expression(("switch", tuple(cases)))

        def _scan_expr_tree_func(self, expr: Any, dic: Any) -> Any:
            op = expr.etype[1]
            if op not in ("Discrete", "UnnormDiscrete", "Discrete(p)", "UnnormDiscrete(p)"):
                return super()._scan_expr_tree_func(expr, dic)
            if op.endswith("(p)"):
                *variables, (inner,) = expr.args
                (_, (variable, kind)), *more = variables
                if more:
                    raise NotImplementedError(f"{op} over several objects at once.")
                chances = [self._scan_expr_tree(inner, {**dic, variable: one}) for one in self.objects[kind]]
            else:
                (_, kind), *cases = expr.args
                listed = {case[0].removeprefix("@"): case[1] for _, case in cases}
                zero = expression(("number", 0.0))
                chances = [self._scan_expr_tree(listed.get(one, zero), dic) for one in self.objects[kind]]
            return expression(("randomvar", (op.removesuffix("(p)"), chances)))

    return Grounder

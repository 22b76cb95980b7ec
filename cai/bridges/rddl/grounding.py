"""RDDL's files: found in rddlrepository or on disk, parsed and grounded by pyRDDLGym, without a word printed."""

import contextlib
import difflib
import importlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai.errors import Finding, IntractableError, fault, must_pass

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
        names = ("pyRDDLGym.core.parser.reader", "pyRDDLGym.core.parser.parser", "cai.bridges.rddl.grounder")
        reader, parser, grounder = (_module(where, name) for name in names)
        try:
            text = reader.RDDLReader(str(domain), str(instance_file)).rddltxt
            machine = parser.RDDLParser(None, False)
            machine.build(write_tables=False, debug=False)
            parsed = machine.parse(text)
        except Exception as error:  # the parser's errors have no common base
            if must_pass(error):
                raise
            expected = "a domain and an instance in RDDL, as pyRDDLGym parses it"
            raise fault(where, _line(error), expected) from None
        try:
            return grounder.Grounder(parsed).ground()
        except NotImplementedError as error:
            expected = "a domain that can be grounded, without nested fluents, matrices and Python functions"
            raise IntractableError([Finding(where, _line(error), expected)]) from None
        except Exception as error:  # nor have the grounder's
            if must_pass(error):
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
        if must_pass(error):
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
        return "text that ends too early"
    if not lines:
        return type(error).__name__
    return " ".join([lines[0].rstrip("."), *lines[-1:][: len(lines) - 1]])

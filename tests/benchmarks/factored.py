"""What a fresh process measures on SysAdmin rings: our backups on factors and on tables, and the peers' answers."""

import time
from typing import Any

import torch

import cai
from cai.bridges.rddl.grounding import quiet
from cai.exact.factors.factor_operator import FactorOperator
from tests.benchmarks.worker import clocked, peak, reset_peak, summary
from tests.helpers import load_model

RULES = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD}
RING = """
non-fluents ring {{ domain = sysadmin_mdp; objects {{ computer : {{{names}}}; }};
  non-fluents {{ REBOOT-PROB = 0.05; {edges} }}; }}
instance small {{ domain = sysadmin_mdp; non-fluents = ring; init-state {{ {up} }};
  max-nondef-actions = 1; horizon = {horizon}; discount = 1.0; }}
"""


def ring(n: int, horizon: int = 40) -> Any:
    """Return the catalogue's ring of n machines."""
    return load_model("sysadmin")(n=n, topology="ring", horizon=horizon)


def backups(n: int, rule: str, threads: int) -> dict[str, Any]:
    """Measure one backup on factors: seconds, and the peak while it runs; what compiling and planning took beside."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    began = time.perf_counter()
    op = FactorOperator(cai.factorise(ring(n)), RULES[rule], torch.ones((), dtype=torch.float64))
    cost = op.cost()
    ready = time.perf_counter() - began
    v = op.terminal().clone()
    op.backup(0, v)
    reset_peak()
    found = summary(clocked(lambda: op.backup(0, v), rounds=5))
    return {**found, "peak": peak(), "ready": ready, "work": cost.work}


def flat(n: int, rule: str, threads: int) -> dict[str, Any]:
    """Measure one backup of the same ring on tables, T = 1 … 11 apart."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    began = time.perf_counter()
    short, long = (cai.tabulate(ring(n, horizon=T)) for T in (1, 11))
    ready = (time.perf_counter() - began) / 2
    seconds = [
        summary(clocked(lambda one=one: cai.solve(one, RULES[rule]), rounds=3))["seconds"] for one in (short, long)
    ]
    return {"seconds": (seconds[1] - seconds[0]) / 10, "peak": peak(), "ready": ready}


def whole(n: int, horizon: int, threads: int) -> dict[str, Any]:
    """Measure a whole solve on factors, compiling and planning included."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    world, began = ring(n, horizon), time.perf_counter()
    found = cai.solve(world, cai.VARIATIONAL, form="factors")
    return {"seconds": time.perf_counter() - began, "value": float(found.value), "peak": peak()}


def symbolic(n: int, horizon: int) -> dict[str, Any]:
    """Measure pyRDDLGym-symbolic's exact value iteration on the competition's SysAdmin ring, and ours on the same."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    names = [f"c{i}" for i in range(1, n + 1)]
    edges = " ".join(f"CONNECTED({a},{b});" for a, b in zip(names, names[1:] + names[:1], strict=True))
    text = RING.format(
        names=", ".join(names), edges=edges, up=" ".join(f"running({c});" for c in names), horizon=horizon
    )
    with TemporaryDirectory() as folder, quiet():
        from pyRDDLGym.core.grounder import RDDLGrounder  # type: ignore[import-untyped]
        from pyRDDLGym.core.parser.parser import RDDLParser  # type: ignore[import-untyped]
        from pyRDDLGym.core.parser.reader import RDDLReader  # type: ignore[import-untyped]
        from pyRDDLGym_symbolic.core.model import RDDLModelXADD  # type: ignore[import-untyped]
        from pyRDDLGym_symbolic.mdp.mdp_parser import MDPParser  # type: ignore[import-untyped]
        from pyRDDLGym_symbolic.solver.vi import ValueIteration  # type: ignore[import-untyped]
        from rddlrepository.core.manager import RDDLRepoManager  # type: ignore[import-untyped]

        domain = RDDLRepoManager().get_problem("SysAdmin_MDP_ippc2011").get_domain()
        instance = Path(folder) / "instance.rddl"
        instance.write_text(text)
        parser = RDDLParser(None, False)
        parser.build()
        tree = parser.parse(RDDLReader(domain, str(instance)).rddltxt)
        began = time.perf_counter()
        model = RDDLModelXADD(RDDLGrounder(tree).ground(), reparam=False)
        model.compile()
        mdp = MDPParser().parse(model, model.discount, concurrency=1, is_linear=True, include_noop=True, is_vi=True)
        solver = ValueIteration(mdp=mdp, max_iter=horizon, enable_early_convergence=False, perform_reduce_lp=False)
        solver.solve()
        theirs = time.perf_counter() - began
        world = cai.from_rddl(domain, instance)
        value = _at_the_start(solver)
    began = time.perf_counter()
    ours = cai.solve(world, cai.HARD, form="factors")
    return {"peer": theirs, "seconds": time.perf_counter() - began, "value": float(ours.value), "theirs": value}


def _at_the_start(solver: Any) -> float:
    """Read the value of the state in which all machines run."""
    context = solver.mdp.context
    node = context.get_exist_node(solver.value_dd)
    while not node.is_leaf():  # every decision is whether a machine runs
        node = context.get_exist_node(node.high)
    return float(node.expr)

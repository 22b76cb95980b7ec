"""The safe part of a world: a single action that risks a reward of -inf makes the ELBO of its policy -inf."""

from dataclasses import replace

import torch

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.exact.rules import VARIATIONAL
from cai.exact.solve import solve
from cai.world.definition import World


@torch.no_grad()
def without_risk(world: World | Tables) -> Tables:
    """Return the world's tables with a prior that forbids every action from which a reward of -inf cannot be excluded.

    A policy computed on these tables takes safe actions only. Evaluate it on the world itself, with the world's own
    prior.

    Args:
        world: a world, or its tables.

    Raises:
        WorldError, IntractableError: the world cannot be tabulated.
        ImpossibleError: every policy risks a reward of -inf.
    """
    tables = tabulate(world)
    if bool((tables.reward > -torch.inf).all() and (tables.terminal > -torch.inf).all()):
        return tables
    messages = solve(tables, VARIATIONAL)  # a reward of -inf is forbidden at every temperature
    rows = []
    for t in range(tables.horizon or 1):
        prior = tables.at(t).log_prior
        safe = torch.where(messages.q(t) > -torch.inf, prior, -torch.inf)
        lost = (safe == -torch.inf).all(-1, keepdim=True)  # no safe policy reaches this state
        rows.append(torch.where(lost, prior, safe.log_softmax(-1)))
    if tables.horizon is None:
        return replace(tables, log_prior=rows[0])
    T = tables.horizon
    names = ("log_prob", "successor", "reward")
    fields = {name: getattr(tables, name) for name in names}
    if not tables.timed:
        fields = {name: field.expand(T, *field.shape) for name, field in fields.items()}
    return replace(tables, log_prior=torch.stack(rows), timed=True, **fields)

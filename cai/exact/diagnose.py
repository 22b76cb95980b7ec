"""Why the evidence is zero: the states in which every continuation is forbidden."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import Finding, ImpossibleError
from cai.exact.operator import Operator
from cai.exact.rules import POSTERIOR, Rule
from cai.world.conditions import Conditions


@contextmanager
def evidence_explained(rule: Rule, conditions: Conditions) -> Iterator[None]:
    """Explain in plain words why a rule has no answer under an observation."""
    try:
        yield
    except ImpossibleError as error:
        if not conditions.seen:
            raise
        seen = ", ".join(f"{name}_{t} = {value}" for (name, t), value in conditions.seen.items())
        if not rule.averages:
            lead = "the evidence is zero" if rule == POSTERIOR else f"under {rule} the start value is -inf"
            words = f"{lead}: the observation ({seen}) is impossible on every trajectory that can be optimal"
            raise ImpossibleError(words) from error
        words = f"{rule} needs a policy that makes the observation ({seen}) certain, and there is none"
        raise ImpossibleError(f"{words}: use POSTERIOR for evidence") from error


def require_possible(op: Operator, value: Tensor) -> None:
    """Raise where a start value, reward units, ``[*B]``, is -inf.

    Raises:
        ImpossibleError: it is so; on tables the message names the states.
    """
    impossible = value == -torch.inf
    if not bool(impossible.any()):
        return
    if op.batch_shape:
        entries = impossible.nonzero().tolist()
        raise ImpossibleError(f"{op.rule}: the start value is -inf in batch entries {entries}; solve one to see why")
    raise no_answer(op.rule, blockers(op.model, risk=op.rule.lost_by_one) if isinstance(op.model, Tables) else ())


def no_answer(rule: Rule, findings: Sequence[Finding] = (), when: str = "") -> ImpossibleError:
    """Return the error for a start value of -inf, which says what stops every trajectory as far as it is known."""
    why = "every policy risks a forbidden reward" if rule.lost_by_one else "no trajectory can be optimal"
    lead = "the evidence is zero" if rule == POSTERIOR and not when else f"under {rule} the start value{when} is -inf"
    return ImpossibleError("; ".join([f"{lead}: {why}", *(str(finding) for finding in findings[:5])]))


def blockers(tables: Tables, *, risk: bool = False) -> list[Finding]:
    """Find the states that stop every trajectory: reachable, with each allowed outcome at reward -inf.

    Walks forward from the start through what is allowed and not forbidden, and names each time's dead ends. With
    ``risk`` an action counts as blocked if any of its outcomes is forbidden, as for rules that take an expectation.
    """
    reached = tables.log_initial > -torch.inf
    findings = [_dead_end(tables, "initial", reached, "no start state")] if not reached.any() else []
    for t in range(tables.horizon or 1):
        slice_ = tables.at(t)
        possible = (
            (slice_.log_prior > -torch.inf).unsqueeze(-1)
            & (slice_.log_prob > -torch.inf)
            & (slice_.reward > -torch.inf)
        )
        open_ways = possible.any(-1)
        seen = "every allowed outcome has a reward of -inf"
        if risk:
            barred = (slice_.log_prob > -torch.inf) & (slice_.reward == -torch.inf)
            open_ways = open_ways & ~barred.any(-1)
            seen = "every allowed action risks a reward of -inf"
        stuck = reached & ~open_ways.any(-1)
        if stuck.any():
            findings.append(_dead_end(tables, f"step, t = {t}", stuck, seen))
        following = torch.zeros_like(reached)
        following[slice_.successor[reached][possible[reached]]] = True
        reached = following
    stuck = reached & (tables.terminal == -torch.inf)
    if stuck.any():
        findings.append(_dead_end(tables, "terminal", stuck, "a terminal reward of -inf"))
    return findings


def _dead_end(tables: Tables, where: str, stuck: torch.Tensor, seen: str) -> Finding:
    numbers = stuck.nonzero().flatten()
    names = "; ".join(tables.states.label(int(s)) for s in numbers[:5])
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return Finding(f"{where}, state {names}{more}", seen, "an outcome that is not forbidden")


def risks(tables: Tables, log_pi: torch.Tensor) -> list[Finding]:
    """Name the first time and state where a policy ``[T, S, A]`` makes ELBO(π) = -inf, and by which action."""
    reached = tables.log_initial > -torch.inf
    for t in range(tables.horizon or tables.states.size):  # after S steps an infinite horizon reaches no new state
        slice_, acts = tables.at(t), (log_pi if tables.horizon is None else log_pi[t]) > -torch.inf
        possible = slice_.log_prob > -torch.inf
        paid = (possible & (slice_.reward == -torch.inf)).any(-1)
        for seen, wrong in (("a reward of -inf", paid), ("what the prior forbids", slice_.log_prior == -torch.inf)):
            places = (reached.unsqueeze(-1) & acts & wrong).nonzero()
            if len(places):
                s, a = (int(i) for i in places[0])
                where = f"policy, t = {t}, state {tables.states.label(s)}"
                plays = f"{tables.actions.label(a)} can be chosen, which risks {seen}"
                return [Finding(where, plays, "an action that does not: ELBO(π) is -inf (forbid it in act)")]
        following = torch.zeros_like(reached)
        following[slice_.successor[reached][(acts.unsqueeze(-1) & possible)[reached]]] = True
        reached = following if tables.horizon is not None else reached | following
    stuck = reached & (tables.terminal == -torch.inf)
    return [_dead_end(tables, "terminal", stuck, "a terminal reward of -inf")] if bool(stuck.any()) else []

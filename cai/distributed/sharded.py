"""solve: the backward sweep of a world whose states are divided among processes."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.compile.tabulate import SLICE
from cai.distributed.shards import Group, cut, plan
from cai.distributed.store import Folder, ShardedMessages
from cai.distributed.tabulated_rows import Rows, rows
from cai.errors import ImpossibleError, fault
from cai.exact.diagnose import no_answer
from cai.exact.rounding import largest
from cai.exact.rule_means import Mean, assumption
from cai.exact.rules import POSTERIOR, Rule, require_a_rule
from cai.exact.sweep import backups
from cai.exact.tables.backup import Equation
from cai.exact.tables.backup_forms import ready
from cai.exact.temperature import as_temperature
from cai.world.definition import World


@torch.no_grad()
def solve(
    world: World,
    rule: Rule = POSTERIOR,
    *,
    temperature: float | Tensor = 1.0,
    folder: Path | str,
    every: int = 10,
    device: str = "cpu",
    timeout: float = 1800.0,
) -> ShardedMessages:
    """Solve a world with a finite horizon in many processes: the sweep of ``solve``, a range of states in each.

    Every process of a torch.distributed group makes the same call; ``torchrun`` starts such a group, and without it
    there is one process. Each process tabulates its own states only. For a backup it needs v of its halo: the states of
    other processes that its states can lead to. Each process writes ``v_t`` to its own file at once. If a process is
    lost, the same command goes on from the last time that all processes have written, and gives the same numbers.

    Args:
        world: a world; every process makes its own.
        rule: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING or RISK(eta).
        temperature: α > 0, reward units; one number.
        folder: where the messages are stored; each machine may have its own folder.
        every: the number of backups between two syncs of the files to disk, from which a run can go on.
        device: where to compute: "cpu" (gloo carries the halo), or "cuda" (NCCL).
        timeout: seconds to wait for another process before it counts as lost.

    Returns:
        ShardedMessages: the start value, and v of this process's own states.

    Raises:
        WorldError: the world or an argument is not valid, or the folder holds messages of something else.
        IntractableError: a variable is not finite.
        ImpossibleError: the start value is -inf; for POSTERIOR the evidence is zero.
        CaiError: another process is lost.
    """
    alpha = _checked(rule, temperature, every).to(device)
    group = Group.join(torch.device(device), timeout)
    shard = Shard(group, group.agree(lambda: rows(world, lambda S: cut(S, group)[group.rank])), rule, alpha)
    store = Folder(Path(folder), group, cut(shard.own.spec.states.size, group), shard.described())
    reached, v = store.resume(shard.own.terminal)
    v = v.to(device)
    for t, v_t in zip(reversed(range(reached)), backups(shard, v, reached), strict=True):
        v = v_t
        with shard.timed("write"):
            store.write(t, v)
            if t and t % every == 0:
                store.mark(t)
    value = shard.start(v)
    if value == -torch.inf:
        raise ImpossibleError(
            f"{no_answer(rule)}; cai.solve on a smaller world of this kind names the states that block it"
        )
    return store.finish(value, shard.seconds)


class Shard:
    """One process's states under a rule, and their backups.

    Args:
        group: the processes.
        own: the rows of this one's states.
        rule: how outcomes and actions are marginalised.
        alpha: the temperature, reward units; its device is where the backups are computed.

    Raises:
        WorldError: the horizon is infinite, or the slice is not valid.
    """

    def __init__(self, group: Group, own: Rows, rule: Rule, alpha: Tensor) -> None:
        if own.spec.horizon is None:
            raise fault("horizon", "None", "a finite one: cai.solve finds the fixed point in one process")
        self.group, self.own, self.rule, self.alpha, self.T = group, own, rule, alpha, own.spec.horizon
        self.seconds = dict.fromkeys(("tabulate", "exchange", "backup", "write"), 0.0)
        self._first: Slice | None = self._tabulate(0)
        self._step: Callable[[Tensor], Tensor] | None = None

    def described(self) -> dict[str, Any]:
        """Say what the messages are of; a world that reads t is known by its first slice and its last."""
        assert self._first is not None
        slices = [self._first, self._tabulate(self.T - 1)] if self.own.spec.timed else [self._first]
        digests = self.group.gather(_digest([self.own.log_initial, self.own.terminal], *map(_fields, slices)))
        states, actions = self.own.spec.states, self.own.spec.actions
        sizes = dict(zip((*states.names, *actions.names), (*states.sizes, *actions.sizes), strict=True))
        return {
            "world": f"{sizes} {hashlib.sha256(' '.join(digests).encode()).hexdigest()[:16]}",
            "horizon": self.T,
            "discount": self.own.spec.discount,
            "rule": self.rule.name,
            "means": f"{_said(self.rule.over_outcomes)} over outcomes, {_said(self.rule.over_actions)} over actions",
            "temperature": float(self.alpha),
        }

    def backup(self, t: int, v_next: Tensor, out: None = None) -> Tensor:
        """Return this shard's ``v_t [S_r]`` from its ``v_{t+1} [S_r]``, the halo's v fetched.

        It stands until the next v but one is made.
        """
        if self.own.spec.timed:
            return self._ready(self._tabulate(t), uses=1)(v_next)
        if self._first is not None:
            self._step, self._first = self._ready(self._first, uses=self.T), None
        assert self._step is not None
        return self._step(v_next)

    def start(self, v: Tensor) -> Tensor:
        """Return the mean over s_0 of ``v [S_r]``, reward units: of each shard's states, then of the shards."""
        log_p = self.own.log_initial.to(v.device)
        if assumption(self.rule.over_outcomes) is None:  # a mean of means need not be the mean
            mine = log_p > -torch.inf
            parts = self.group.gather((v[mine].cpu(), log_p[mine].cpu()))
            x, log_w = (torch.cat(part) for part in zip(*parts, strict=True))
            return self.rule.over_outcomes.value(x, log_w, self.alpha.cpu())
        log_share = log_p.logsumexp(-1)
        mean = self.rule.over_outcomes.value
        own = mean(v, log_p - log_share, self.alpha) if log_share > -torch.inf else torch.zeros_like(log_share)
        shares = self.group.gather((float(own), float(log_share)))
        means, log_shares = torch.tensor(shares, dtype=torch.float64).unbind(-1)
        return mean(means, log_shares, self.alpha.cpu())

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds that a piece of work takes to those of its kind."""
        begin = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - begin

    def _tabulate(self, t: int) -> Slice:
        with self.timed("tabulate"):
            return self.group.agree(lambda: self.own.slice(t))

    def _ready(self, slice_: Slice, uses: int) -> Callable[[Tensor], Tensor]:
        device = self.alpha.device
        with self.timed("tabulate"):
            halo, places = plan(self.group, cut(self.own.spec.states.size, self.group), slice_.successor.to(device))
            here = Slice(slice_.log_prior.to(device), slice_.log_prob.to(device), places, slice_.reward.to(device))
            log_survival = self.alpha.new_tensor([self.own.spec.discount, 1 - self.own.spec.discount]).log()
            equation = Equation(self.rule, here, self.alpha, log_survival)
            step = ready(equation, uses=uses, scale=largest(self.own.terminal))
        n = len(self.own.states)
        rooms = [torch.empty(n + len(halo.wanted), dtype=torch.float64, device=device) for _ in range(2)]

        def back_up(v_next: Tensor) -> Tensor:
            rooms.reverse()  # what the last backup wrote is read where it lies
            with self.timed("exchange"):
                halo.extend(v_next, rooms[0])
            with self.timed("backup"):
                return step(rooms[0], out=rooms[1][:n])

        return back_up


def _said(mean: Mean) -> str:
    """Describe a mean alike in every process; what Python says by itself has an address in it."""
    kind = type(mean)
    return repr(mean) if kind.__repr__ is not object.__repr__ else f"{kind.__module__}.{kind.__qualname__} {vars(mean)}"


def _fields(slice_: Slice) -> list[Tensor]:
    return [getattr(slice_, name) for name in SLICE]


def _digest(*parts: list[Tensor]) -> str:
    """Digest numbers; of a row that is repeated for all states, one is enough."""
    digest = hashlib.sha256()
    for value in (value for part in parts for value in part):
        digest.update((value[:1] if value.stride(0) == 0 else value).contiguous().numpy().data)
    return digest.hexdigest()


def _checked(rule: Rule, temperature: float | Tensor, every: int) -> Tensor:
    require_a_rule(rule)
    if not isinstance(every, int) or every < 1:
        raise fault("every", f"{every!r}", "a whole number, at least 1")
    alpha = as_temperature(temperature)
    if alpha.dim():
        raise fault(
            "temperature", f"a batch of shape {tuple(alpha.shape)}", "one temperature, with a folder of its own"
        )
    return alpha

"""Messages in a folder: one file of v for each shard, and a small file that describes them and their progress."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cai.distributed.shards import Group
from cai.errors import fault, require_time
from cai.exact.messages import in_nats
from cai.exact.rules import POSTERIOR, VARIATIONAL
from cai.support.files import draft, flush, write_whole
from cai.support.memory import require_disk

KEYS = {"of", "shards", "reached", "value"}


@dataclass(frozen=True, repr=False)
class ShardedMessages:
    """The messages of one rule on one world, kept in a folder by the processes that made them.

    Attributes:
        folder: where they are.
        rule: the name of the rule.
        temperature: α, reward units.
        horizon: T.
        value: the start value, reward units: the rule's mean over outcomes, taken over s_0.
        shards: the states of each file.
        states: the states whose v can be read here: one shard's in a process of the group, all in an opened folder.
        seconds: where this process's time went (tabulate, exchange, backup, write); empty in an opened folder.
    """

    folder: Path
    rule: str
    temperature: Float[Tensor, ""]
    horizon: int
    value: Float[Tensor, ""]
    shards: tuple[range, ...]
    states: range
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        S, alpha = self.shards[-1].stop, float(self.temperature)
        where = f"{S:,} states in {len(self.shards)} shards, T = {self.horizon}, in '{self.folder}'"
        return f"ShardedMessages({self.rule} at temperature {alpha:g} on {where})"

    @property
    def log_evidence(self) -> Float[Tensor, ""]:
        """log Z = log p(O=1), nats: ``log Σ p(s_0) exp(v_0/α)``; POSTERIOR only."""
        return in_nats(self.rule, POSTERIOR, "log_evidence", self.value, self.temperature)

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """ELBO* = max over policies of ELBO(π), nats: ``Σ p(s_0) v_0/α``; VARIATIONAL only."""
        return in_nats(self.rule, VARIATIONAL, "elbo", self.value, self.temperature)

    def v(self, t: int) -> Float[Tensor, " S"]:
        """Return v of time t for ``states``, reward units; read from disk, and no more of it than is looked at.

        Raises:
            WorldError: t lies outside 0 … T.
        """
        t = require_time("t", t, self.horizon, end=True)
        mine = [r for r, shard in enumerate(self.shards) if shard.start in self.states]
        parts = [_row(file_of(self.folder, r, len(self.shards)), t) for r in mine]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def open_messages(folder: Path | str) -> ShardedMessages:
    """Open the finished messages in a folder of ``cai.distributed.solve``, in one ordinary process.

    Raises:
        WorldError: the folder has no messages, or they do not reach time 0.
    """
    about, where = read(Path(folder)), f"folder '{folder}'"
    if about is None:
        raise fault(where, "no messages.json", "a folder that cai.distributed.solve wrote")
    if about["value"] is None:
        seen = f"messages that reach from T = {about['of']['horizon']} back to t = {about['reached']}"
        raise fault(where, seen, "finished messages: run the command that makes them again to go on")
    return _messages(Path(folder), about, None, {})


class Folder:
    """Where a group keeps its messages while it makes them; every method is called by all processes alike.

    Args:
        path: the folder.
        group: the processes.
        shards: the states of each.
        of: what the messages are of, by name: a folder of something else is refused.
    """

    def __init__(self, path: Path, group: Group, shards: tuple[range, ...], of: Mapping[str, Any]) -> None:
        self.path, self.group, self.shards, self.of = path, group, shards, dict(of)
        self.file = file_of(path, group.rank, group.size)

    def resume(self, terminal: Tensor) -> tuple[int, Tensor]:
        """Return the last time that all shards have kept, and v of it; T and the terminal reward in a new folder.

        Raises:
            WorldError: the folder holds messages of something else, or has lost a file.
        """
        lead = self.group.agree(lambda: read(self.path) if self.group.rank == 0 else None)
        about = self.group.gather(lead)[0]
        if about is None:
            self.group.agree(lambda: self._begin(terminal))
            self.mark(self.of["horizon"])
            return self.of["horizon"], terminal
        self._require_same(about)
        return about["reached"], self.group.agree(lambda: self._kept(about["reached"]))

    def write(self, t: int, v: Tensor) -> None:
        """Write the shard's v of time t; it counts once it is marked."""
        _put(self.file, t, v)

    def mark(self, t: int, value: float | None = None) -> None:
        """Make sure that all shards have v of time t on disk, and then say so."""
        self.group.agree(lambda: flush(self.file))
        self.group.agree(lambda: self._say(t, value) if self.group.rank == 0 else None)

    def finish(self, value: Tensor, seconds: Mapping[str, float]) -> ShardedMessages:
        """Keep the start value beside v of all times, and return what was made."""
        self.mark(0, float(value))
        return _messages(self.path, self._about(0, float(value)), self.group.rank, seconds)

    def _about(self, t: int, value: float | None) -> dict[str, Any]:
        shards = [[shard.start, shard.stop] for shard in self.shards]
        return {"of": self.of, "shards": shards, "reached": t, "value": value}

    def _say(self, t: int, value: float | None) -> None:
        about = json.dumps(self._about(t, value), indent=2) + "\n"
        write_whole(self.path, {"messages.json": about.encode()})

    def _begin(self, terminal: Tensor) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        shape = (self.of["horizon"] + 1, len(terminal))
        size = f"values of {len(terminal):,} states at T = {self.of['horizon']:,} times"
        require_disk(self.path, size, shape[0] * terminal.nbytes)
        with draft(self.file) as file:
            np.lib.format.open_memmap(file, mode="w+", dtype=np.float64, shape=shape)
            _put(file, self.of["horizon"], terminal)

    def _kept(self, t: int) -> Tensor:
        if not self.file.is_file():
            expected = f"the shard of {self.group}; or an empty folder, to begin anew"
            raise fault(f"folder '{self.path}'", f"no file {self.file.name}", expected)
        return _row(self.file, t).clone()

    def _require_same(self, about: Mapping[str, Any]) -> None:
        where = f"folder '{self.path}'"
        if len(about["shards"]) != self.group.size:
            seen = f"messages in {len(about['shards'])} shards"
            raise fault(where, seen, f"{self.group.size}, one a process; or another folder for these processes")
        for name, now in self.of.items():
            was = about["of"].get(name)
            if was != now:
                seen = f"messages with {name} = {was}"
                raise fault(where, seen, f"{name} = {now}; or another folder for these messages")


def file_of(folder: Path, rank: int, size: int) -> Path:
    """Return the file of a shard: ``[T+1, S_r]``, float64."""
    return folder / f"v-{rank}-of-{size}.npy"


def read(folder: Path) -> dict[str, Any] | None:
    """Read what a folder says of its messages; None where it says nothing.

    Raises:
        WorldError: its words are of something else.
    """
    file = folder / "messages.json"
    if not file.exists():
        return None
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        about = None
    if not isinstance(about, dict) or set(about) != KEYS:
        raise fault(f"folder '{folder}'", "a messages.json of something else", "one that cai.distributed.solve wrote")
    return about


def _messages(
    folder: Path, about: Mapping[str, Any], rank: int | None, seconds: Mapping[str, float]
) -> ShardedMessages:
    shards = tuple(range(*ends) for ends in about["shards"])
    return ShardedMessages(
        folder=folder,
        rule=about["of"]["rule"],
        temperature=torch.tensor(about["of"]["temperature"], dtype=torch.float64),
        horizon=about["of"]["horizon"],
        value=torch.tensor(about["value"], dtype=torch.float64),
        shards=shards,
        states=range(shards[-1].stop) if rank is None else shards[rank],
        seconds=seconds,
    )


def _row(file: Path, t: int) -> Tensor:
    return torch.from_numpy(np.load(file, mmap_mode="c")[t])  # "c": what is done to the tensor stays in memory


def _put(file: Path, t: int, v: Tensor) -> None:
    """Write the row of time t; through the map it would be slow, and a full disk would kill the process."""
    rows = np.load(file, mmap_mode="r")
    with file.open("r+b") as there:
        there.seek(rows.offset + t * rows.strides[0])
        there.write(v.cpu().numpy().data)

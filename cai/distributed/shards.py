"""The state space divided into shards, one for each process: the process group, and the halo of v that each needs."""

import atexit
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cai.errors import CaiError, fault

X = TypeVar("X")
CHUNK = 2**22
"""Successors that are looked at at once."""


@dataclass(frozen=True)
class Group:
    """The processes that share a state space: this one is number ``rank`` of ``size``."""

    rank: int
    size: int

    @staticmethod
    def join(device: torch.device, timeout: float) -> "Group":
        """Enter the group that torch.distributed has, or the one that torchrun's variables describe, or be alone.

        Args:
            device: where the numbers lie: NCCL carries them on CUDA, gloo elsewhere.
            timeout: seconds to wait for another process before it counts as lost.
        """
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device)
        if not dist.is_initialized() and "RANK" in os.environ and "WORLD_SIZE" in os.environ:
            backend = "nccl" if device.type == "cuda" else "gloo"
            with _in_touch("a process"):
                dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
            atexit.register(_leave)
        if not dist.is_initialized():
            return Group(0, 1)
        return Group(dist.get_rank(), dist.get_world_size())

    def __str__(self) -> str:
        return f"process {self.rank} of {self.size}"

    def gather(self, mine: X) -> list[X]:
        """Return what every process has here, by rank; for small things.

        Raises:
            CaiError: another process is lost.
        """
        if self.size == 1:
            return [mine]
        everyones: list[X] = [mine] * self.size
        with _in_touch(str(self)):
            dist.all_gather_object(everyones, mine)
        return everyones

    def agree(self, work: Callable[[], X]) -> X:
        """Do this process's part of a work; what goes wrong in one process is raised in all."""
        done: list[X] = []
        wrong: CaiError | OSError | None = None
        try:
            done.append(work())
        except (CaiError, OSError) as error:
            wrong = error
        for other in self.gather(wrong):
            if other is not None:
                raise other
        return done[0]

    def swap(self, sent: Sequence[Tensor], got: Sequence[Tensor]) -> None:
        """Send ``sent[r]`` to each rank r, and fill ``got[r]`` with what r sent here; who has nothing is not bothered.

        Raises:
            CaiError: another process is lost.
        """
        others = [r for r in range(self.size) if r != self.rank]
        moves = [dist.P2POp(dist.isend, sent[r], r) for r in others if sent[r].numel()]
        moves += [dist.P2POp(dist.irecv, got[r], r) for r in others if got[r].numel()]
        if moves:
            with _in_touch(str(self)):
                for work in dist.batch_isend_irecv(moves):
                    work.wait()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _in_touch(who: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = re.sub(r"^\[[^]]*\] ", "", str(error)).strip().split(". ")[0]  # without gloo's own file and line
        way_on = "start all of them again with the same command, and they go on from what is on disk"
        raise CaiError(f"{who} lost touch with the others ({reason}): {way_on}") from error


def cut(S: int, group: Group) -> tuple[range, ...]:
    """Cut the numbers 0 … S-1 into one range a process, as even as can be.

    Raises:
        WorldError: there are more processes than states.
    """
    if group.size > S:
        raise fault("processes", f"{group.size} of them for {S} states", "at most one for each state")
    return tuple(range(S * r // group.size, S * (r + 1) // group.size) for r in range(group.size))


@dataclass(frozen=True)
class Halo:
    """The foreign states whose v this shard's backups read, and its own that others read.

    Attributes:
        group: the processes.
        wanted: numbers of the foreign states, ascending, ``[H]``.
        takes: how many of them each rank owns.
        gives: for each rank, the places in this shard of what it reads.
    """

    group: Group
    wanted: Tensor
    takes: list[int]
    gives: list[Tensor]

    def extend(self, v: Tensor, room: Tensor) -> Tensor:
        """Put the shard's v ``[S_r]``, unless it lies there already, and then the halo's into ``room [S_r + H]``."""
        if v.data_ptr() != room.data_ptr():
            room[: len(v)] = v
        self.group.swap([v[places] for places in self.gives], room[len(v) :].split(self.takes))
        return room


def plan(group: Group, shards: Sequence[range], successor: Tensor) -> tuple[Halo, Tensor]:
    """Find out, once, who must send what to whom.

    Args:
        group: the processes.
        shards: the states of each.
        successor: this shard's successors, as numbers of the whole world, ``[S_r, A, K]``.

    Returns:
        The halo, and the successors as places in ``Halo.extend``, int32.
    """
    own, device = shards[group.rank], successor.device
    flat = successor.reshape(-1)
    foreign = [piece[_is_foreign(piece, own)].unique() for piece in flat.split(CHUNK)]
    wanted = torch.cat(foreign).unique().long()
    starts = torch.tensor([shard.start for shard in shards[1:]], device=device)
    takes = torch.bincount(torch.bucketize(wanted, starts, right=True), minlength=group.size).tolist()
    wanted_here = [takes_there[group.rank] for takes_there in group.gather(takes)]
    asked_for = [torch.empty(n, dtype=torch.long, device=device) for n in wanted_here]
    group.swap(wanted.split(takes), asked_for)
    halo = Halo(group, wanted, takes, [numbers - own.start for numbers in asked_for])
    places = torch.empty(flat.shape, dtype=torch.int32, device=device)
    for there, piece in zip(places.split(CHUNK), flat.split(CHUNK), strict=True):
        far = _is_foreign(piece, own)
        there.copy_(piece - own.start)
        there[far] = (len(own) + torch.searchsorted(wanted, piece[far].long())).int()
    return halo, places.reshape(successor.shape)


def _is_foreign(numbers: Tensor, own: range) -> Tensor:
    return (numbers < own.start) | (numbers >= own.stop)

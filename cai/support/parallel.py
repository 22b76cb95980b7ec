"""Independent tasks, run here or on a Ray cluster with the same results; a task whose worker dies runs again."""

import contextlib
import io
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cai.errors import CaiError, fault
from cai.support.catalogue import LOADED
from cai.support.progress import bar

if TYPE_CHECKING:
    import torch  # slow to import, and the command line begins with this file

RETRIES = 3
"""How often a task is begun anew whose worker has died."""

Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def joined(address: str | None) -> Iterator[Any]:
    """Join a cluster within a ``with`` block, shared by all calls inside; yields Ray, or None without a cluster.

    Args:
        address: "local" starts one of this machine's cores, "auto" finds the one that runs on this machine, host:port
            is another's; a Ray that is initialised already is taken as it is, and left running. None: no cluster.

    Raises:
        WorldError: Ray is not installed, or there is no cluster at the address.
    """
    if address is None:
        yield None
        return
    ray = _ray()
    mine = not ray.is_initialized()
    apart: Any = _WithoutRay(sys.stdout)
    with contextlib.redirect_stdout(apart):
        if mine:
            _join(ray, address)
        try:
            yield ray
        finally:
            if mine:
                ray.shutdown()


def each(
    task: Callable[[Common, Item], Result],
    common: Common,
    items: Sequence[Item],
    *,
    ray: str | None = None,
    title: str = "tasks",
    shown: bool = True,
) -> Iterator[tuple[int, Result]]:
    """Yield ``(n, task(common, items[n]))`` as they are done: here in their order, on a cluster in any.

    Ctrl-C, or an end before the last, calls off what is under way; what was yielded stays the caller's.

    Args:
        task: a function of a module; with Ray, what it takes and returns is pickled, and what it says on stderr is
            said here.
        common: what all tasks share; it is sent to every machine once.
        items: what they do not share.
        ray: None runs them here; see ``joined``.
        title: of the progress bar.
        shown: show the bar.

    Raises:
        CaiError: of a task, as it was raised.
        WorldError: Ray is not installed or cannot be reached, or a task lost its worker more than ``RETRIES`` times.
    """
    with joined(ray if items else None) as cluster, bar(title, len(items), shown=shown) as tell:
        here = ((n, task(common, item)) for n, item in enumerate(items))
        results = here if cluster is None else _sent(cluster, task, common, items)
        for done, result in enumerate(results, 1):
            tell(done, "")
            yield result


class _WithoutRay:
    """Standard output for answers only: what Ray's own threads tell of dead workers goes to stderr."""

    def __init__(self, out: Any) -> None:
        self.out = out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)

    def write(self, text: str) -> int:
        """Write a text to where its thread may write."""
        by_ray = threading.current_thread().name.startswith("ray_")
        written: int = (sys.stderr if by_ray else self.out).write(text)
        return written


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise fault("ray", f"Ray cannot be imported ({error})", "the extra: pip install 'cai[ray]'") from error
    return ray


def _join(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # whoever wants to report to Ray's makers says so
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        seen = f"'{address}': {_line(error)}"
        expected = "'local', 'auto' where a cluster runs on this machine, or host:port of one"
        raise fault("ray", seen, expected) from error


def _knock(address: str) -> None:
    """Raise OSError at once if there is no cluster at this address: Ray itself would try for minutes."""
    there = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", address)
    if there is not None:
        socket.create_connection((there[1], int(there[2])), timeout=10).close()


def _sent(
    ray: Any, task: Callable[[Common, Item], Result], common: Common, items: Sequence[Item]
) -> Iterator[tuple[int, Result]]:
    import torch

    answer = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(_answer)
    with _by_value(ray.cloudpickle):
        shared = ray.put((task, common, torch.get_default_dtype()))
        waiting = {answer.remote(shared, item): n for n, item in enumerate(items)}
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), _received(ray, done)
    finally:
        for task_ in waiting:
            ray.cancel(task_, force=True)


Shared = tuple[Callable[[Any, Any], Any], Any, "torch.dtype"]


def _answer(shared: Shared, item: Any) -> tuple[Any, CaiError | None, str]:
    """Do a task on a worker, with the caller's default dtype; return its result or our own error, and its words."""
    import torch

    task, common, dtype = shared
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                result, wrong = task(common, item), None
            except CaiError as error:
                result, wrong = None, error
        return result, wrong, said.getvalue()
    finally:
        torch.set_default_dtype(before)


def _received(ray: Any, answer: Any) -> Any:
    errors = ray.exceptions
    try:
        result, wrong, said = ray.get(answer)
    except errors.RayTaskError:  # a bug, with its traceback
        raise
    except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
        seen = f"its worker died, and so it did in {RETRIES} more tries: {_line(error)}"
        raise fault("ray, a task", seen, "one that its worker survives: most likely it needs more memory") from error
    except errors.RayError as error:
        expected = "a cluster that runs, with the same Python and the same cai on every machine"
        raise fault("ray, a task", f"{type(error).__name__}: {_line(error)}", expected) from error
    print(said, end="", file=sys.stderr)
    if wrong is not None:
        raise wrong
    return result


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _by_value(pickler: Any) -> Iterator[None]:
    """Send the files of worlds along: the machines of a cluster need not have them."""
    own = [module for name, module in list(sys.modules.items()) if name.startswith(LOADED)]
    for module in own:
        pickler.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            pickler.unregister_pickle_by_value(module)

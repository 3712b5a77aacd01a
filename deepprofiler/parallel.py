"""Processor cores that this process may use, and maps over sites, wells or plates in order."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Literal, TypeVar

from deepprofiler.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int:
    """Count the processor cores that this process may use, at least 1.

    A batch system or container gives a process fewer cores than the machine has: by its affinity,
    or by a quota of processor time of its control group. More workers than that only wait for each
    other, and take memory.

    Parameters
    ----------
    groups : Path
        Where Linux says which control groups this process is in.
    mount : Path
        Folder of the control groups.

    Returns
    -------
    int
        The smaller of both; a quota of a part of a core counts as a core.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Only Linux has it.
        cores = os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(groups, mount)]
    return max(1, min([cores, *quotas]))


def _quotas(groups: Path, mount: Path) -> Iterator[float]:
    """Yield the quotas of the control groups of this process and of all around them, in cores."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one folder for all controllers, and no names here.
        folder = mount / controllers
        for part in (Path(name), *Path(name).parents):
            # In a container the names may be those of the machine outside: only the last is there.
            quota = _quota(folder / str(part).lstrip("/"))
            if quota is not None:
                yield quota


def _quota(group: Path) -> float | None:
    """Read the quota of one control group; None where it has none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            text = " ".join((group / name).read_text(encoding="ascii") for name in names)
            quota, period = (float(number) for number in text.split())
        except (OSError, ValueError):  # No such file, or `max`.
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    kind: Literal["process", "thread"] = "process",
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, computed by several workers.

    At most ``2 × workers`` results wait to be taken, so that memory stays bounded however slowly
    they are consumed.

    Parameters
    ----------
    function : callable
        For ``kind="process"`` it and the items must be picklable.
    items : iterable
    workers : int
        1 with ``kind="process"`` runs in this process; 1 with ``kind="thread"`` reads ahead.
    kind : {"process", "thread"}

    Yields
    ------
    object
        One result per item, in the items' order.

    Raises
    ------
    DataError
        A worker process was ended from outside, most often for want of memory.
    """
    if kind == "process" and workers == 1:
        yield from map(function, items)
        return
    pool: Executor
    if kind == "process":
        # Spawned, not forked: a fork copies the locks of threads that it does not copy.
        pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_live_as_long_as_the_parent
        )
    else:
        pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a worker process was ended from outside, most often for want of memory; "
            "run again with a smaller --cores: what is finished is kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _live_as_long_as_the_parent() -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent, and ends when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

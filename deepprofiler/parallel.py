"""Map a function over sites, wells or plates, in order, a bounded distance ahead."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Literal, TypeVar

from deepprofiler.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


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

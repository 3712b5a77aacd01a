"""Tell the user how far long work has come."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as ProgressTask
from rich.text import Text

Item = TypeVar("Item")
CONSOLE = Console(stderr=True)
LOG = logging.getLogger("deepprofiler")
_SECONDS_BETWEEN_LINES = 15.0


def start_logging(level: int) -> None:
    """Send log lines to the terminal's progress display, or plainly elsewhere."""
    handler: logging.Handler
    if CONSOLE.is_terminal:
        handler = RichHandler(console=CONSOLE, show_path=False, show_level=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(level)
    LOG.propagate = False


class _Rate(ProgressColumn):
    """Finished items per second."""

    def render(self, task: ProgressTask) -> Text:
        """Draw the rate of ``task``."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "…")


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield the items and show how many of ``total`` are done, the rate and the time left.

    A bar on a terminal, a log line every 15 seconds elsewhere; neither with ``--quiet``.
    """
    if not LOG.isEnabledFor(logging.INFO) or total == 0:
        yield from items
        return
    if CONSOLE.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, _Rate(), TimeRemainingColumn(), console=CONSOLE) as bar:
            yield from bar.track(items, total=total, description=what)
        return
    start = logged = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - logged >= _SECONDS_BETWEEN_LINES and count < total:
            rate = count / (now - start)
            left = (total - count) / rate
            LOG.info("%s: %d of %d, %.2g/s, %.0f s left", what, count, total, rate, left)
            logged = now


class TrainingProgress:
    """Shows the steps of training: a bar on a terminal, a log line every 15 seconds elsewhere.

    Called with epoch, step, number of steps and loss; used as a context manager.
    """

    def __init__(self, epochs: int):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        shown = CONSOLE.is_terminal and LOG.isEnabledFor(logging.INFO)
        self._bar = Progress(
            *columns, _Rate(), TimeRemainingColumn(), console=CONSOLE, disable=not shown
        )
        self._task = self._bar.add_task("train", total=None)
        self._epochs = epochs
        self._start = self._logged = 0.0
        self._done = -1

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Show that a step was finished."""
        total, step_number = self._epochs * steps, (epoch - 1) * steps + step
        what = f"train: epoch {epoch} of {self._epochs}, loss {loss:.3f}"
        self._bar.update(self._task, total=total, completed=step_number, description=what)
        self._done += 1
        now = time.monotonic()
        if self._done == 0:
            # The first step is slow, since the network is compiled in it.
            self._start = self._logged = now
        if not CONSOLE.is_terminal and now - self._logged >= _SECONDS_BETWEEN_LINES:
            rate = self._done / (now - self._start)
            left = (total - step_number) / rate
            LOG.info("%s: step %d of %d, %.2g/s, %.0f s left", what, step, steps, rate, left)
            self._logged = now

"""A bar on a terminal, plain lines elsewhere, nothing where quiet was asked for."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from deepprofiler import progress
from deepprofiler.progress import (
    LOG,
    TrainingProgress,
    start_logging,
    track,
)


@pytest.fixture(autouse=True)
def logger():
    """Give the logger back as it was."""
    kept = LOG.handlers[:], LOG.level, LOG.propagate
    yield
    LOG.handlers[:], LOG.propagate = kept[0], kept[2]
    LOG.setLevel(kept[1])


def show(level: int, use, *, terminal: bool = False, monkeypatch) -> str:
    """What ``use`` writes to the standard error."""
    stream = io.StringIO()
    monkeypatch.setattr(
        progress, "CONSOLE", Console(file=stream, force_terminal=terminal, width=100)
    )
    clock = SimpleNamespace(monotonic=itertools.count(0, 20).__next__)
    monkeypatch.setattr(progress, "time", clock)
    with contextlib.redirect_stderr(stream):
        start_logging(level)
        use()
    return stream.getvalue()


def long_work() -> None:
    LOG.info("beginning with [brackets]")
    assert list(track("abc", 3, "work")) == ["a", "b", "c"]
    LOG.warning("a warning")


def training() -> None:
    with TrainingProgress(2) as steps:
        for epoch in (1, 2):
            for step in (1, 2, 3):
                steps(epoch, step, 3, 0.5)


def test_plain_lines_elsewhere(monkeypatch):
    text = show(logging.INFO, long_work, monkeypatch=monkeypatch)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert "\r" not in text
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[9:] for line in lines][::3] == ["beginning with [brackets]", "a warning"]
    for done, line in enumerate(lines[1:3], 1):
        assert re.search(rf" work: {done} of 3, [\d.e+]+/s, \d+ s left$", line)


def test_a_bar_on_a_terminal(monkeypatch):
    text = show(logging.INFO, long_work, terminal=True, monkeypatch=monkeypatch)
    assert "\x1b[" in text
    assert "3/3" in text
    assert "beginning with [brackets]" in re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet(monkeypatch, terminal):
    text = show(logging.WARNING, long_work, terminal=terminal, monkeypatch=monkeypatch)
    assert text.strip().endswith("a warning")
    assert len(text.strip().splitlines()) == 1
    assert "work" not in text
    assert show(logging.WARNING, training, terminal=terminal, monkeypatch=monkeypatch) == ""


def test_training_in_plain_lines(monkeypatch):
    lines = show(logging.INFO, training, monkeypatch=monkeypatch).splitlines()
    # None of the first step, in which the network is compiled.
    assert len(lines) == 5
    assert "train: epoch 2 of 2, loss 0.500: step 3 of 3" in lines[-1]
    assert lines[-1].endswith(" 0 s left")


def test_training_with_a_bar(monkeypatch):
    text = show(logging.INFO, training, terminal=True, monkeypatch=monkeypatch)
    assert "6/6" in text
    assert "epoch 2 of 2" in text


def test_few_lines_for_quick_work(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "CONSOLE", Console(file=stream, force_terminal=False))
    with contextlib.redirect_stderr(stream):
        start_logging(logging.INFO)
        assert len(list(track(range(1000), 1000, "work"))) == 1000
    assert stream.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_exception_ends_the_bar(monkeypatch, terminal):
    def use() -> None:
        with pytest.raises(ZeroDivisionError):
            list(track((1 / item for item in (1, 0)), 2, "work"))
        with pytest.raises(ZeroDivisionError), TrainingProgress(1):
            _ = 1 / 0

    text = show(logging.INFO, use, terminal=terminal, monkeypatch=monkeypatch)
    # The cursor is shown again.
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")


def test_nothing_to_do(monkeypatch):
    assert show(logging.INFO, lambda: list(track([], 0, "work")), monkeypatch=monkeypatch) == ""

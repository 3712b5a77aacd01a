"""Errors whose remedy lies with the user, and the words that messages share."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class DeepProfilerError(Exception):
    """Base of every error whose remedy lies with the user.

    The command line prints its message without a traceback and exits with code 2. Any other
    exception is a bug and keeps its traceback.
    """


class ConfigError(DeepProfilerError):
    """The configuration, or an option of the command line, cannot be used."""


class DataError(DeepProfilerError):
    """An index, image, location, weight or feature file cannot be used."""


class PluginError(DeepProfilerError):
    """A plugin is unknown, broken or does not fit the others."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Name the most similar of some names as ``; nearest is `…` ``; empty if none is similar."""
    matches = get_close_matches(name, list(names), n=1)
    return f"; nearest is `{matches[0]}`" if matches else ""


@contextmanager
def plugin_code(source: Any, consequence: str) -> Iterator[None]:
    """Turn any error of a plugin's code into a PluginError with file and line.

    Parameters
    ----------
    source : object
        The plugin, or its file, or, for an installed package, the name of its module.
    consequence : str
        What cannot be done now.
    """
    own = str(source) if isinstance(source, str | Path) else _file(source)
    try:
        yield
    except DeepProfilerError:
        raise
    except Exception as error:
        where = own
        frames = [
            (frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)
        ]
        if isinstance(error, SyntaxError) and error.filename:
            frames.append((error.filename, error.lineno))
        package = own.partition(":")[0].split(".")[0]
        for name, line in frames:
            # Its own file, a helper beside it, or another file of its package.
            is_beside = own.endswith(".py") and Path(name).parent == Path(own).parent
            if is_beside or package in Path(name).with_suffix("").parts:
                where = f"{name} line {line}"
        raise PluginError(f"{where}: {type(error).__name__}: {error}; {consequence}") from error


def _file(plugin: Any) -> str:
    """File that defines a function or class, or the name of its module."""
    try:
        return str(inspect.getsourcefile(plugin))
    except TypeError:
        return str(plugin.__module__)


def listing(names: Iterable[str], shown: int = 20) -> str:
    """Name the first few in backticks, separated by commas."""
    listed = [f"`{name}`" for name in names]
    return ", ".join(listed[:shown]) + (", …" if len(listed) > shown else "")


def counted(n: int, singular: str, plural: str) -> str:
    """Write a number with its noun: ``1 batch``, ``2 batches``."""
    return f"{n} {singular if n == 1 else plural}"

"""Errors whose remedy lies with the user, and the words that messages share."""

from __future__ import annotations

import errno
import inspect
import re
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


class FileSystemError(DeepProfilerError):
    """The operating system refused a file, which says nothing about what the file holds."""


_LOCK = (
    "another program has the file open, or the disk offers no file locks: close that program, or, "
    "on a network disk, set the environment variable HDF5_USE_FILE_LOCKING=FALSE, and run again"
)
_CONNECTION = "the connection to the disk was lost: mount it again and run again to continue"
# What the operating system may refuse, and what the user can do.
_REMEDIES = {
    **dict.fromkeys(("EACCES", "EPERM", "EROFS"), "allow this user to write there"),
    **dict.fromkeys(("ENOSPC", "EDQUOT"), "free some space and run again to continue"),
    "EFBIG": "allow this user to write larger files (ulimit -f)",
    **dict.fromkeys(("ENOTDIR", "EEXIST"), "move away the file that is in the way"),
    "EISDIR": "move away the folder that is in the way",
    "ENAMETOOLONG": "choose shorter names",
    **dict.fromkeys(("EMFILE", "ENFILE"), "allow more open files (ulimit -n)"),
    **dict.fromkeys(("EAGAIN", "ENOMEM"), "end other programs, or use a smaller --cores"),
    **dict.fromkeys(("EBUSY", "ETXTBSY"), "close the program that uses the file"),
    "ENOLCK": _LOCK,
    "EIO": (
        "the disk, or the network to it, failed: have it checked (dmesg names the device), then "
        "run again to continue"
    ),
    **dict.fromkeys(
        (
            "ESTALE",
            "ETIMEDOUT",
            "ENOTCONN",
            "ECONNRESET",
            "ECONNREFUSED",
            "ECONNABORTED",
            "EHOSTDOWN",
            "EHOSTUNREACH",
            "ENETDOWN",
            "ENETUNREACH",
            "EREMOTEIO",
            "ENODEV",
            "ENXIO",
            "ESHUTDOWN",
        ),
        _CONNECTION,
    ),
}
_ELSE = "run again to continue; if the same comes again, add --verbose and report what it prints"


def system_remedy(error: OSError) -> str | None:
    """Say what to do where the operating system refused a file; None for other reasons.

    Parameters
    ----------
    error : OSError
        One without a number, such as HDF5's of a damaged file, is not of the operating system,
        unless its text quotes one.
    """
    text = str(error)
    if "unable to lock file" in text:
        # Where a disk offers no locks, the number differs from one kind of disk to another.
        return _LOCK
    quoted = re.search(r"errno = (\d+)", text)
    number = int(quoted[1]) if error.errno is None and quoted else error.errno
    return None if number is None else _REMEDIES.get(errno.errorcode.get(number, ""))


def refusal(error: OSError) -> str:
    """Say what the operating system refused, where, and what to do."""
    place = f"{error.filename}: {error.strerror or error}" if error.filename else str(error)
    return f"{place}; {system_remedy(error) or _ELSE}"


def require_system(path: Path, error: Exception) -> None:
    """Raise FileSystemError where an error in reading a file is of the operating system.

    To be called before a file is called damaged: no remedy for that, such as to delete it, helps
    against a disk that fails.
    """
    remedy = system_remedy(error) if isinstance(error, OSError) else None
    if remedy is not None:
        raise FileSystemError(f"{path}: {error}; {remedy}") from None


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


def install_extra(extra: str) -> str:
    """Give the command that installs the packages of an extra, such as ``classical``.

    From a folder with the source it is that folder, as this program need not be in a package index.
    """
    folder = Path(__file__).parents[1]
    if (folder / "pyproject.toml").exists():
        return f'pip install -e "{folder}[{extra}]"'
    return f'pip install "deepprofiler-keras[{extra}]"'


def listing(names: Iterable[str], shown: int = 20) -> str:
    """Name the first few in backticks, separated by commas."""
    listed = [f"`{name}`" for name in names]
    return ", ".join(listed[:shown]) + (", …" if len(listed) > shown else "")


def counted(n: int, singular: str, plural: str) -> str:
    """Write a number with its noun: ``1 batch``, ``2 batches``."""
    return f"{n} {singular if n == 1 else plural}"

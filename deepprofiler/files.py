"""Safe names for files, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zlib import crc32

from deepprofiler.errors import DataError, require_system

if TYPE_CHECKING:
    import h5py

# Allowed unquoted in file names of every common operating system.
_PLAIN = " !#$&'()+,-.;=@[]^_`{}~"
_LONGEST = 150
_DAY = 24 * 3600


def file_name(name: str) -> str:
    """Turn any text into one safe path part; ordinary names stay as they are.

    Characters that some file system gives a meaning (slashes, colons, control characters …)
    and leading dots are percent-encoded; very long names are cut and end in a hash.

    Parameters
    ----------
    name : str
        A name from the index or the command line.

    Returns
    -------
    str
        At most 200 bytes, never empty, never ``.`` or ``..``; different names give different
        results.
    """
    # Bytes of the command line that are not text arrive as surrogates.
    safe = "".join(
        c if c.isalnum() or c in _PLAIN else quote(c, safe="", errors="surrogateescape")
        for c in name
    )
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if not safe:
        safe = "%"
    encoded = safe.encode()
    if len(encoded) > _LONGEST:
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
        safe = encoded[:_LONGEST].decode(errors="ignore") + "~" + digest
    return safe


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file's content as hexadecimal text; None where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; what was written there replaces it at the end.

    If the block raises, the temporary file is removed and ``path`` stays as it was. What a killed
    process left in the folder is removed as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        # HDF5 and NumPy do not say which file the operating system refused.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@lru_cache(maxsize=4096)
def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes that have ended; once for each folder."""
    for left in folder.glob(".*.part"):
        made_by = re.fullmatch(r"\..+\.([0-9a-f]{8})-([0-9]+)\.part", left.name)
        if made_by is None:
            continue
        host, number = made_by.groups()
        with suppress(OSError):
            # Of another machine's processes only the age tells.
            dead = host == _host() and not _is_running(int(number))
            if dead or time.time() - left.stat().st_mtime > _DAY:
                left.unlink()


@lru_cache
def _host() -> str:
    """Name this machine in eight characters."""
    return f"{crc32(platform.node().encode()):08x}"


def _is_running(number: int) -> bool:
    """Whether this machine runs a process of that number, as far as it can be told."""
    if os.name != "posix":
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def open_versioned(
    path: Path, kind: str, *, versions: range, advice: str, missing: str = ""
) -> h5py.File:
    """Open an HDF5 file of this program for reading; the one way in which all are opened.

    Parameters
    ----------
    path : Path
    kind : str
        What the attribute ``format`` must say.
    versions : range
        Versions of the format that can be read.
    advice : str
        What to do where the file cannot be used, such as "delete it and run `profile`".
    missing : str
        What to do where there is no file; by default the same.

    Returns
    -------
    h5py.File
        Its attribute ``version`` is one of ``versions``.

    Raises
    ------
    DataError
        The file is missing, is not HDF5, is of another format, or of a version that cannot be
        read.
    FileSystemError
        The operating system refuses the file.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; {missing or advice}") from None
    except OSError as error:
        require_system(path, error)
        raise DataError(f"{path} is not a readable HDF5 file ({error}); {advice}") from None
    try:
        _require_version(path, dict(file.attrs), kind, versions, advice)
    except BaseException:
        file.close()
        raise
    return file


def _require_version(
    path: Path, attributes: dict[str, Any], kind: str, versions: range, advice: str
) -> None:
    attributes = _format_and_version(attributes)
    if attributes.get("format") != kind:
        raise DataError(f"{path} is not a file of the format {kind}; {advice}")
    try:
        version = int(attributes["version"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} is damaged (its version is missing); {advice}") from None
    if version >= versions.stop:
        raise DataError(
            f"{path} has format version {version}; this program reads up to {versions.stop - 1}: "
            "use a newer release"
        )
    if version not in versions:
        raise DataError(f"{path} has format version {version}, which is no longer read; {advice}")


def _format_and_version(attributes: dict[str, Any]) -> dict[str, Any]:
    """Read attributes; crops and checkpoints of version 1 hold theirs as JSON in ``about``."""
    if "format" in attributes or "about" not in attributes:
        return attributes
    try:
        return dict(json.loads(attributes["about"]))
    except (TypeError, ValueError):
        return {}

"""Safe names for files, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

# Allowed unquoted in file names of every common operating system.
_PLAIN = " !#$&'()+,-.;=@[]^_`{}~"
_LONGEST = 150


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
    safe = "".join(c if c.isalnum() or c in _PLAIN else quote(c, safe="") for c in name)
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if not safe:
        safe = "%"
    encoded = safe.encode()
    if len(encoded) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        safe = encoded[:_LONGEST].decode(errors="ignore") + "~" + digest
    return safe


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; what was written there replaces it at the end.

    If the block raises, the temporary file is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

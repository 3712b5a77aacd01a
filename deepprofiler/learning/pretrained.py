"""Weight files trained on ImageNet: fetched once, into Keras's own cache."""

from __future__ import annotations

import os
import shutil
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import urlopen

from deepprofiler.errors import DataError
from deepprofiler.files import replacing

# Of each wait for the server, in seconds.
_PATIENCE = 5.0


def cached(address: str) -> Path:
    """Tell where the file of an address is, or belongs: ``~/.keras/models``, as for Keras.

    The variable ``KERAS_HOME`` names another folder than ``~/.keras``.
    """
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / PurePosixPath(urlsplit(address).path).name


def fetch(address: str) -> Path:
    """Give the file of an address, downloaded if it is not in the cache.

    Raises
    ------
    DataError
        There is no connection; the path where the file may be put is named.
    """
    path = cached(address)
    if path.exists():
        return path
    try:
        with (
            urlopen(address, timeout=_PATIENCE) as answer,
            replacing(path) as temporary,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
            # A connection that breaks off looks like the end of the file.
            if file.tell() != int(answer.headers.get("Content-Length", file.tell())):
                raise OSError("the connection broke off")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{address} cannot be downloaded ({reason}); download it elsewhere and put it at {path}"
        ) from None
    return path

"""Which files this program wrote, and whether it still reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepprofiler.errors import DataError


def require_format(path: Path, about: Mapping[str, Any], name: str, version: int) -> None:
    """Compare what a file says of itself with what can be read.

    Parameters
    ----------
    path : Path
        Named in errors.
    about : mapping
        ``format`` and ``version`` of the file.
    name : str
        The format.
    version : int
        The newest version that can be read.

    Raises
    ------
    KeyError, ValueError
        The file says neither, or is of another format.
    DataError
        It is of a newer version.
    """
    if about["format"] != name:
        raise ValueError(f"its format is {about['format']}, not {name}")
    if int(about["version"]) > version:
        raise DataError(
            f"{path} has format version {about['version']}; this program reads up to {version}: "
            "use a newer release"
        )

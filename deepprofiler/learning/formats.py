"""Whether a file can be used: its format and version, and whether its weights fit a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepprofiler.errors import DataError

_SHOWN = 5


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


def does_not_fit(
    path: Path, fitting: int, total: int, what: str, problems: Sequence[str]
) -> DataError:
    """Make the error of a weight file that is not for a network.

    Parameters
    ----------
    path : Path
        The file.
    fitting, total : int
        How many of the network's ``what`` match, of how many.
    what : str
        Such as ``layers``.
    problems : sequence of str
        What differs, one line each; the first are shown.

    Returns
    -------
    DataError
    """
    lines = [*problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more")
    listing = "".join(f"\n  {line}" for line in lines)
    return DataError(
        f"{path} does not fit the network: {fitting} of {total} {what} match, nothing was "
        f"loaded{listing}"
    )

"""What can be wrong with an image file, and the messages that say it.

Apart from the reading: both readers of files raise these, and whoever reads a site puts them beside
the line of the index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from deepprofiler.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:")


class ImageError(DataError):
    """One image file cannot be used.

    Parameters
    ----------
    path : Path
    problem : str
        What is wrong, as a code: ``missing``, ``unreadable``, ``empty``, ``not-an-image``,
        ``no-header``, ``truncated``, ``damaged``, ``colour``, ``stack``, ``wrong-axes``,
        ``wrong-pages``, ``wrong-size``, ``wrong-type``, ``not-finite``, ``labels`` (no numbers of
        objects) or ``output`` (a file that this program wrote).
    detail : str
        The same in words, with the values that were found and expected.
    """

    def __init__(self, path: Path, problem: str, detail: str) -> None:
        super().__init__(path, problem, detail)
        self.path = path
        self.problem = problem
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"

    def in_index(self, channels: Sequence[str], source: str) -> str:
        """Say which channels of an index name the file, and what is wrong with it.

        Parameters
        ----------
        channels : sequence of str
        source : str
            The path as the index has it.
        """
        return f"{_listed(channels)}: {self}"


class MissingImage(ImageError):  # noqa: N818 - its base says that it is an error
    """An image file does not exist.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "missing", "does not exist")
        # Unpickling calls the class with these.
        self.args = (path,)

    def __str__(self) -> str:
        return f"{self.path} {self.detail}"

    def in_index(self, channels: Sequence[str], source: str) -> str:
        """See :meth:`ImageError.in_index`; a relative path is followed by where it starts."""
        verb = "names" if len(channels) == 1 else "name"
        text = f"{_listed(channels)} {verb} {source}, which does not exist"
        if os.sep == "/" and ("\\" in source or _DRIVE.match(source)):
            return (
                f"{text}: it is a path of Windows. Write it with / and without a drive letter, "
                "from inputs/images on, or as a whole path of this machine."
            )
        relative = not Path(source).is_absolute()
        return f"{text}. Paths are relative to inputs/images." if relative else text


def _listed(channels: Sequence[str]) -> str:
    return f"channel{'s' * (len(channels) > 1)} {', '.join(channels)}"

"""A site, a well, and the files that hold a site's channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deepprofiler.imaging.read import ImageFile


@dataclass(frozen=True)
class Site:
    """One field of view.

    Attributes
    ----------
    plate, well, site : str
    line : int
        Line of the index; the header is line 1.
    images : Path
        Folder that relative paths start from.
    sources : tuple of (str, int, int)
        Path, page and number of pages of each channel, in the index's order of channels.
    index : str
        Name of the index's file.
    channels : tuple of str
    shares_names : bool
        Whether other images differ from this site's only in their ending, or are the same.
    """

    plate: str
    well: str
    site: str
    line: int
    images: Path
    sources: tuple[tuple[str, int, int], ...]
    index: str = "index.csv"
    channels: tuple[str, ...] = ()
    shares_names: bool = False

    @property
    def files(self) -> tuple[ImageFile, ...]:
        """The files of the channels, in order; absolute paths stay as they are."""
        # Made when asked for: half a million paths would take most of the time of reading.
        return tuple(ImageFile(self.images / name, *pages) for name, *pages in self.sources)


@dataclass(frozen=True)
class Well:
    """The sites of one well; ``line`` is that of the first site."""

    plate: str
    well: str
    sites: tuple[Site, ...]
    line: int


def page_sources(
    table: pd.DataFrame, channels: Sequence[str], pictures: Sequence[str]
) -> list[tuple[tuple[str, int, int], ...]]:
    """Find the path, page and number of pages of each channel, for each row.

    Columns that name one file in a row are the pages of that file, in the order of ``pictures``,
    which are all columns of images, whether they are ``channels`` or not.
    """
    places = [list(pictures).index(column) for column in channels]
    sources = []
    for row in zip(*(table[column].tolist() for column in pictures), strict=True):
        if len(set(row)) == len(row):
            sources.append(tuple([(row[place], 0, 1) for place in places]))
        else:
            counts = [(row[:place].count(row[place]), row.count(row[place])) for place in places]
            names = [row[place] for place in places]
            sources.append(tuple((name, *pages) for name, pages in zip(names, counts, strict=True)))
    return sources


def names_shared(sources: Sequence[tuple[tuple[str, int, int], ...]]) -> list[bool]:
    """Tell, for each site, whether a path without its ending is also that of another image."""
    stems = [[_stem(name) for name, _, pages in site if pages == 1] for site in sources]
    counts = Counter(stem for site in stems for stem in site)
    if len(counts) == counts.total():
        return [False] * len(sources)
    return [any(counts[stem] > 1 for stem in site) for site in stems]


def _stem(name: str) -> str:
    stem = name.rpartition(".")[0]
    # Most paths are plain, and half a million would take seconds.
    return str(Path(stem)) if "./" in stem or "//" in stem else stem

"""What a report page shows: plain values, gathered by a caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.profiling.findings import Comparison, LeftOut


@dataclass(frozen=True)
class Picture:
    """A saved figure.

    Attributes
    ----------
    title, caption : str
        The caption also says what is seen to who cannot see it.
    image : Path
        PNG or SVG, put into the page.
    data : Path, optional
        CSV of what is drawn, offered beside it.
    half : bool
        Whether two such pictures fit beside each other.
    folded : bool
        Whether it is shown only on request.
    """

    title: str
    caption: str
    image: Path
    data: Path | None = None
    half: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    title : str
    rows : DataFrame
    note : str
        What its columns mean.
    bold : ndarray, optional
        (rows, columns) bool: the values that stand out.
    folded : bool
        Whether it is shown only on request.
    """

    title: str
    rows: pd.DataFrame
    note: str = ""
    bold: np.ndarray | None = None
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, tables, pictures, and small print as a list."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Points:
    """One view of the interactive embedding.

    Attributes
    ----------
    name : str
        What a point is: ``wells``, ``treatments``, ``cells``.
    points : ndarray
        (n, 2), arbitrary units.
    about : str
        Method, perplexity and seed, and how many of how many are drawn.
    columns : DataFrame
        n rows. Every column can colour the points and is shown for a point; columns of numbers
        get a continuous scale.
    thumbnails : ndarray, optional
        (n, S, S, 3) uint8, shown with a point.
    """

    name: str
    points: np.ndarray
    about: str
    columns: pd.DataFrame
    thumbnails: np.ndarray | None = None


@dataclass(frozen=True)
class Wells:
    """Wells on their plates, for interactive plate maps.

    Attributes
    ----------
    plates, wells : sequence of str
        n names each.
    quantities : DataFrame
        n rows of numbers, NaN where nothing was measured; each column can be chosen.
    flags : sequence of str
        n reasons to look at a well, blank where there is none.
    about : str
        How the quantities were measured.
    """

    plates: Sequence[str]
    wells: Sequence[str]
    quantities: pd.DataFrame
    flags: Sequence[str]
    about: str


@dataclass(frozen=True)
class Similarities:
    """Similarities of treatments in the order of a clustering, for an interactive heat map.

    Attributes
    ----------
    names, groups : sequence of str
        n names, and the group of each; a blank one is unknown.
    matrix : ndarray
        (n, n), from -1 to 1.
    group, about : str
        What the groups are, blank where none are known, and how the matrix was made.
    """

    names: Sequence[str]
    groups: Sequence[str]
    matrix: np.ndarray
    group: str
    about: str


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each treatment among the other compounds.

    Attributes
    ----------
    rows : DataFrame
        Columns ``query, query_group, neighbour, neighbour_group, similarity``, the nearest of a
        query first. A blank group is unknown.
    group : str
        What the groups are: ``mechanism``, ``gene``; blank where none are known.
    similarity : str
        What the similarity is: ``cosine similarity``.
    """

    rows: pd.DataFrame
    group: str
    similarity: str


@dataclass(frozen=True)
class Report:
    """Everything that the page says.

    Attributes
    ----------
    title, subtitle : str
    facts : mapping
        Sizes of the screen for the first screen, such as ``{"cells": 17280}``.
    comparison : Comparison
        The learned profile beside its baselines.
    notes : tuple of str
        Further sentences for the first screen, such as warnings.
    left_out : tuple of LeftOut
    wells : Wells, optional
    views : tuple of Points
    similarities : Similarities, optional
    neighbours : Neighbours, optional
    results : tuple of Section
        Shown below the comparison.
    sections : tuple of Section
        Shown below everything that the reader can explore.
    failures : DataFrame, optional
        One row per site or well that failed, with its reason.
    provenance : mapping
        Names to values: seed, checkpoint, its digest, versions, date.
    config : str
        The resolved configuration as text.
    """

    title: str
    subtitle: str
    facts: Mapping[str, int | float | str]
    comparison: Comparison
    left_out: tuple[LeftOut, ...]
    provenance: Mapping[str, str]
    config: str = ""
    notes: tuple[str, ...] = ()
    wells: Wells | None = None
    views: tuple[Points, ...] = ()
    similarities: Similarities | None = None
    neighbours: Neighbours | None = None
    results: tuple[Section, ...] = ()
    sections: tuple[Section, ...] = ()
    failures: pd.DataFrame | None = None

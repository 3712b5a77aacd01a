"""Nearest neighbours as tables: the most similar profiles of each, and ``neighbours.csv``.

``neighbours.csv`` and the report page show the very table that :func:`neighbours_table` returns: a
new column is added there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.evaluation.screen import Screen
from deepprofiler.evaluation.similarity import (
    Metric,
    Similarity,
    allowed_blocks,
    codes_of,
    labelled,
)
from deepprofiler.profiling.profiles import Profiles

_NEAREST = 5


def neighbours_table(screen: Screen, count: int = _NEAREST) -> pd.DataFrame:
    """Nearest treatments of other compounds of each treatment, negative controls aside.

    Parameters
    ----------
    screen : Screen
        Its index names treatments.
    count : int
        Neighbours of each treatment.

    Returns
    -------
    DataFrame
        ``treatment``, ``group`` (the mechanism, else the gene, else blank), ``rank`` (from 1),
        ``neighbour``, ``neighbour_group``, ``similarity``. Empty where no treatment has a
        neighbour, or where similarities are undefined, which the scores report.
    """
    treatment = screen.column("treatment")
    try:
        profiles = screen.treatments
        nearest = nearest_profiles(
            profiles,
            name=treatment,
            controls=None,
            differ=[screen.column("compound")],
            count=count,
            metric=screen.metric,
        )
    except DataError:
        profiles = screen.treated.subset(np.zeros(0, int))
        nearest = pd.DataFrame({name: np.zeros(0, int) for name in _PAIR})
    names, groups = profiles.values(treatment), _groups(screen, profiles)
    row, neighbour = nearest["row"].to_numpy(int), nearest["neighbour_row"].to_numpy(int)
    return pd.DataFrame(
        {
            "treatment": names[row],
            "group": groups[row],
            "rank": nearest["rank"],
            "neighbour": names[neighbour],
            "neighbour_group": groups[neighbour],
            "similarity": nearest["similarity"],
        }
    )


def _groups(screen: Screen, profiles: Profiles) -> np.ndarray:
    """Mechanism or gene of each treatment, (n,); blank where neither is known."""
    column = screen.group_column
    if column is None:
        return np.full(len(profiles), "", object)
    # A treatment with several genes has none in its profile: it stands for itself.
    return profiles.values(column if column in profiles.metadata else screen.column("treatment"))


_PAIR = ("row", "neighbour_row", "rank", "similarity")


def nearest_profiles(
    profiles: Profiles,
    *,
    name: str,
    controls: np.ndarray | None,
    differ: Sequence[str] = (),
    count: int = _NEAREST,
    metric: Metric = "cosine",
    shown: Sequence[str] = (),
) -> pd.DataFrame:
    """Most similar profiles of each profile, such as the nearest treatments of each treatment.

    Parameters
    ----------
    profiles : Profiles
    name : str
        Column that names a profile, such as the treatment; rows where it is blank take no part.
    controls : ndarray of bool, (n,), or None
        Negative controls; neither listed nor neighbours.
    differ : sequence of str
        Columns in which a neighbour must differ, such as the compound.
    count : int
        Neighbours of each profile; fewer where fewer are allowed.
    metric : {"cosine", "correlation", "euclidean"}
    shown : sequence of str
        Further columns to list; those of the neighbour are called ``neighbour_<column>``.

    Returns
    -------
    DataFrame
        ``row``, ``neighbour_row`` (row numbers in ``profiles``), ``rank`` (1 is the nearest; tied
        neighbours are in the order of the profiles), ``similarity``, then ``name`` and the shown
        columns of both.

    Raises
    ------
    DataError
        See :class:`~deepprofiler.evaluation.similarity.Similarity`; or a column is missing.
    """
    _, rows = labelled(profiles, name, controls)
    similarity = Similarity(profiles, rows, metric)
    keys = [codes_of(profiles, column)[0] for column in differ]
    parts = []
    for block, allowed in allowed_blocks(rows, rows, keys):
        scores = np.where(allowed, similarity.block(block, rows), -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        ranked = np.take_along_axis(scores, order, axis=1)
        query, rank = np.nonzero(np.isfinite(ranked))
        columns = block[query], rows[order[query, rank]], rank + 1, ranked[query, rank]
        parts.append(pd.DataFrame(dict(zip(_PAIR, columns, strict=True))))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_PAIR))
    for column in dict.fromkeys([name, *shown]):
        values = profiles.values(column)
        table[column] = values[table["row"].to_numpy(int)]
        table[f"neighbour_{column}"] = values[table["neighbour_row"].to_numpy(int)]
    return table

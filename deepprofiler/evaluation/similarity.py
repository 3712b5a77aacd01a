"""Similarities between profiles, and nearest neighbours among the allowed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.profile_files import require_mask
from deepprofiler.profiling.profiles import Profiles

Metric = Literal["cosine", "correlation", "euclidean"]
BLOCK = 512
"""Queries compared at a time, so that memory grows with n and not with n²."""


class Similarity:
    """Similarities of n profiles, block by block; larger is more alike.

    Cosine similarity, Pearson's correlation over the features, or the negative Euclidean distance.
    All are rounded to ten digits (of 1, or of the longest vector), so that equal profiles tie
    whatever the order of a sum was.

    Parameters
    ----------
    profiles : Profiles
    rows : ndarray of int, (m,)
        The profiles that take part; only these are checked.
    metric : {"cosine", "correlation", "euclidean"}

    Raises
    ------
    DataError
        A value is not finite; or a vector is all zero under cosine, or all the same under
        correlation, so that it has no angle.
    """

    def __init__(self, profiles: Profiles, rows: np.ndarray, metric: Metric) -> None:
        if metric not in ("cosine", "correlation", "euclidean"):
            raise ValueError(f"metric={metric!r}; choose cosine, correlation or euclidean")
        profiles.require_finite(rows)
        vectors = np.zeros(profiles.features.shape)
        vectors[rows] = profiles.features[rows]
        if metric == "correlation":
            constant = rows[np.ptp(vectors[rows], axis=1) == 0]
            vectors[rows] -= vectors[rows].mean(axis=1, keepdims=True)
            # The mean of equal numbers may differ from them in the last digit.
            vectors[constant] = 0
        lengths = np.linalg.norm(vectors[rows], axis=1)
        zero = np.flatnonzero(lengths == 0)
        if metric != "euclidean":
            if len(zero):
                same = "zero" if metric == "cosine" else "the same"
                raise DataError(
                    f"{len(zero)} of {len(rows)} profiles are {same} in every feature, so {metric} "
                    f"similarity is undefined; the first is {profiles.describe(rows[zero[0]])}. "
                    "Leave them out, or choose metric euclidean"
                )
            vectors[rows] /= lengths[:, None]
        self.metric = metric
        self._vectors = vectors
        self._scale = float(lengths.max(initial=0)) or 1.0

    def block(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Similarities (q, c) of two lists of row numbers."""
        if self.metric != "euclidean":
            return np.round(self._vectors[queries] @ self._vectors[candidates].T, 10)
        from scipy.spatial.distance import cdist

        distances = cdist(self._vectors[queries], self._vectors[candidates])
        return -np.round(distances / self._scale, 10) * self._scale


def allowed_blocks(
    queries: np.ndarray, candidates: np.ndarray, differ: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of queries with the candidates that each may be compared with.

    Parameters
    ----------
    queries, candidates : ndarray of int
        Row numbers.
    differ : sequence of ndarray of int, each (n,)
        Codes, such as the compound of each row; a pair is allowed if it differs in all of them.

    Yields
    ------
    block : ndarray of int, (q,)
    allowed : ndarray of bool, (q, c)
        A profile is never its own candidate.
    """
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        allowed = block[:, None] != candidates[None]
        for codes in differ:
            allowed &= codes[block][:, None] != codes[candidates][None]
        yield block, allowed


def codes_of(profiles: Profiles, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Integer codes (n,) of a column and the sorted values that they stand for (K,)."""
    codes, values = pd.factorize(profiles.values(column), sort=True, use_na_sentinel=False)
    return codes, np.asarray(values)


def blank(values: np.ndarray) -> np.ndarray:
    """Tell which values are blank: an empty text, or a number that is missing."""
    return np.array([value == "" or value != value for value in values], bool)


def nearest_profiles(
    profiles: Profiles,
    *,
    name: str,
    controls: np.ndarray | None,
    differ: Sequence[str] = (),
    count: int = 5,
    metric: Metric = "cosine",
    shown: Sequence[str] = (),
) -> pd.DataFrame:
    """Table of the most similar profiles of each, such as each treatment's neighbours.

    Parameters
    ----------
    profiles : Profiles
    name : str
        Column that names a profile, such as the treatment; without a name it takes no part.
    controls : ndarray of bool, (n,), or None
        Negative controls; neither listed nor anybody's neighbour.
    differ : sequence of str
        Columns in which a neighbour must differ, such as the compound.
    count : int
        Neighbours of each; fewer where fewer are allowed.
    metric : {"cosine", "correlation", "euclidean"}
    shown : sequence of str
        Further columns to list; the neighbour's as ``neighbour_<column>``.

    Returns
    -------
    DataFrame
        ``row``, ``neighbour_row`` (row numbers in ``profiles``), ``rank`` (1 is the nearest; the
        equally near in the order of the table), ``similarity``, then the columns of both.

    Raises
    ------
    DataError
        See :class:`Similarity`; or a column is missing.
    """
    _, rows = labelled(profiles, name, controls)
    similarity = Similarity(profiles, rows, metric)
    keys = [codes_of(profiles, column)[0] for column in differ]
    found = []
    for block, allowed in allowed_blocks(rows, rows, keys):
        scores = np.where(allowed, similarity.block(block, rows), -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        ranked = np.take_along_axis(scores, order, axis=1)
        query, rank = np.nonzero(np.isfinite(ranked))
        found.append(
            pd.DataFrame(
                {
                    "row": block[query],
                    "neighbour_row": rows[order[query, rank]],
                    "rank": rank + 1,
                    "similarity": ranked[query, rank],
                }
            )
        )
    columns = ["row", "neighbour_row", "rank", "similarity"]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
    for column in dict.fromkeys([name, *shown]):
        values = profiles.values(column)
        table[column] = values[table["row"].to_numpy(int)]
        table[f"neighbour_{column}"] = values[table["neighbour_row"].to_numpy(int)]
    return table


def treated(profiles: Profiles, controls: np.ndarray | None) -> np.ndarray:
    """Row numbers of the profiles that are no negative controls."""
    if controls is None:
        return np.arange(len(profiles))
    return np.flatnonzero(~require_mask(controls, len(profiles), "controls"))


def labelled(
    profiles: Profiles, label: str, controls: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a label (n,), and row numbers of those that have one and are no controls."""
    codes, labels = codes_of(profiles, label)
    rows = treated(profiles, controls)
    return codes, rows[~blank(labels)[codes[rows]]]

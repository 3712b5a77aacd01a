"""Similarities between profiles, in blocks, and which pairs of profiles may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.profiles import Profiles, require_mask

Metric = Literal["cosine", "correlation", "euclidean"]
BLOCK = 512
"""Queries that are compared at a time, so that memory grows with n and not with n²."""


class Similarity:
    """Similarities of n profiles, block by block; larger is more similar.

    Cosine similarity, Pearson's correlation over the features, or the negative Euclidean distance.
    All are rounded to ten digits (of 1, or of the longest vector), so that equal profiles are tied
    in whatever order numbers were summed.

    Parameters
    ----------
    profiles : Profiles
    rows : ndarray of int, (m,)
        The profiles that take part; only these are checked.
    metric : {"cosine", "correlation", "euclidean"}

    Raises
    ------
    DataError
        A value is not finite; or a vector is zero in all features under cosine, or constant under
        correlation, so that its similarity is undefined.
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
            products = self._vectors[queries] @ self._vectors[candidates].T
            return np.asarray(np.round(products, 10))
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
    """Mask (n,) of blank values: empty texts and missing numbers."""
    return np.array([value == "" or value != value for value in values], bool)


def treated(profiles: Profiles, controls: np.ndarray | None) -> np.ndarray:
    """Row numbers of the profiles that are not negative controls."""
    if controls is None:
        return np.arange(len(profiles))
    return np.flatnonzero(~require_mask(controls, len(profiles), "controls"))


def labelled(
    profiles: Profiles, label: str, controls: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a label (n,), and row numbers of those that have one and are not controls."""
    codes, labels = codes_of(profiles, label)
    rows = treated(profiles, controls)
    return codes, rows[~blank(labels)[codes[rows]]]

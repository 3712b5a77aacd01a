"""Mean average precision: how high profiles of the same label rank among the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.neighbours import (
    Metric,
    Similarity,
    allowed_blocks,
    blank,
    codes_of,
    treated,
)
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.resampling import Interval, bootstrap

Negatives = Literal["others", "controls", "both"]


@dataclass(frozen=True)
class AveragePrecision:
    """Result of a retrieval.

    Attributes
    ----------
    value : float
        Mean average precision of the n queries; ties by expectation.
    n, total : int
        Queries that count; queries there are.
    chance : float
        The value expected if each query's candidates came in random order.
    by_label : Interval
        Bootstrap over labels of the fixed outcomes.
    metric, negatives : str
        What was compared, and against what.
    queries : DataFrame
        One row per query that counts: ``row``, ``label``, ``positives``, ``candidates``,
        ``average_precision``, ``chance``.
    labels : DataFrame
        Means of the queries of a label: ``label``, ``queries``, ``average_precision``.
    left_out : DataFrame
        Queries that do not count: ``row``, ``label``, ``reason``.
    notes : tuple of str
        What was compared and left out, in sentences.
    """

    value: float
    n: int
    total: int
    chance: float
    by_label: Interval
    metric: str
    negatives: str
    queries: pd.DataFrame
    labels: pd.DataFrame
    left_out: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"mAP {self.value:.3f} of {self.n} queries against {self.negatives} (chance "
            f"{self.chance:.3f}; {self.metric})"
        )


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of one ranking, expected over the orders of tied candidates.

    McSherry and Najork 2008. With one positive tied with 16 others: 0.202.

    Parameters
    ----------
    scores : ndarray, (c,)
        Larger ranks higher; equal scores are tied.
    positive : ndarray of bool, (c,)
        At least one.
    """
    _, group = np.unique(-scores, return_inverse=True)
    sizes = np.bincount(group)
    hits = np.bincount(group, weights=positive)
    before = np.cumsum(sizes) - sizes
    hits_before = np.cumsum(hits) - hits
    # Place p = 1, 2, … within its group of tied candidates, in the order of the ranking.
    place = np.arange(1, len(scores) + 1) - np.repeat(before, sizes)
    size, hit = np.repeat(sizes, sizes), np.repeat(hits, sizes)
    share = np.where(size > 1, (hit - 1) / np.maximum(size - 1, 1), 0)
    expected = hit / size * (np.repeat(hits_before, sizes) + 1 + (place - 1) * share)
    return float((expected / np.arange(1, len(scores) + 1)).sum() / positive.sum())


def mean_average_precision(
    profiles: Profiles,
    *,
    label: str,
    controls: np.ndarray | None,
    differ: Sequence[str] = (),
    negatives: Negatives = "others",
    queries: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> AveragePrecision:
    """Mean over queries of the average precision of candidates with the query's label.

    Parameters
    ----------
    profiles : Profiles
    label : str
        Column that makes a candidate a positive, such as the treatment. Rows where it is blank
        take no part.
    controls : ndarray of bool, (n,), or None
        Negative controls: never queries, never positives.
    differ : sequence of str
        Columns in which query and candidate must differ, such as the plate.
    negatives : {"others", "controls", "both"}
        What positives are ranked against: treated profiles of other labels, negative controls, or
        both. The result depends on it much.
    queries, candidates : ndarray of bool, (n,), optional
        Rows that may be queries, and rows that may be ranked. None: all.
    metric : {"cosine", "euclidean"}
    seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a vector is zero under cosine, or no query has
        both a positive and a negative.
    """
    if negatives not in ("others", "controls", "both"):
        raise ValueError(f"negatives={negatives!r}; choose others, controls or both")
    codes, labels = codes_of(profiles, label)
    keys = [codes_of(profiles, column)[0] for column in differ]
    labelled = np.zeros(len(profiles), bool)
    labelled[treated(profiles, controls)] = True
    is_control = ~labelled
    labelled &= ~blank(labels)[codes]
    asked = np.flatnonzero(labelled & _mask(queries, len(profiles)))
    ranked = labelled | is_control if negatives != "others" else labelled
    ranked = np.flatnonzero(ranked & _mask(candidates, len(profiles)))
    similarity = Similarity(profiles, np.union1d(asked, ranked), metric)
    negative = is_control if negatives == "controls" else np.ones(len(profiles), bool)

    found, left_out = [], []
    for block, allowed in allowed_blocks(asked, ranked, keys):
        same = (codes[block][:, None] == codes[ranked][None]) & labelled[ranked]
        scores = similarity.block(block, ranked)
        positive = allowed & same
        entered = positive | (allowed & ~same & negative[ranked])
        for query, row in enumerate(block):
            mine, total = int(positive[query].sum()), int(entered[query].sum())
            if not mine or mine == total:
                missing = "negative" if mine else "allowed partner"
                left_out.append((row, labels[codes[row]], f"no {missing}"))
                continue
            of = positive[query][entered[query]]
            precision = average_precision(scores[query][entered[query]], of)
            chance = average_precision(np.zeros(total), of)
            found.append((row, labels[codes[row]], mine, total, precision, chance))
    if not found:
        raise DataError(
            f"mean average precision is undefined: none of {len(asked)} queries has both a "
            f"candidate of the same {label} and a negative ({negatives})"
        )
    columns = ["row", "label", "positives", "candidates", "average_precision", "chance"]
    table = pd.DataFrame(found, columns=columns)
    dropped = pd.DataFrame(left_out, columns=["row", "label", "reason"])
    means = table.groupby("label", sort=True).agg(
        queries=("row", "size"), average_precision=("average_precision", "mean")
    )
    meaning = {"others": "profiles of other labels", "controls": "negative controls"}
    notes = [
        f"negatives: {meaning.get(negatives, 'profiles of other labels and negative controls')}"
    ]
    notes += [
        f"{len(group)} of {len(asked)} queries have {reason}, left out: "
        f"{', '.join(map(str, group['label'].unique()[:5]))}"
        for reason, group in dropped.groupby("reason", sort=True)
    ]
    precisions = table["average_precision"].to_numpy()
    return AveragePrecision(
        value=float(precisions.mean()),
        n=len(table),
        total=len(asked),
        chance=float(table["chance"].mean()),
        by_label=bootstrap(precisions, table["label"].to_numpy(), seed=seed),
        metric=metric,
        negatives=negatives,
        queries=table,
        labels=means.reset_index(),
        left_out=dropped,
        notes=tuple(notes),
    )


def _mask(rows: np.ndarray | None, n: int) -> np.ndarray:
    if rows is None:
        return np.ones(n, bool)
    rows = np.asarray(rows)
    if rows.dtype != bool or rows.shape != (n,):
        raise ValueError(f"queries and candidates are masks of shape ({n},), not {rows.shape}")
    return rows

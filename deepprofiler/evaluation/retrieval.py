"""Mean average precision: how high profiles of the same label rank among the others.

Average precision is exact with ties, and is tested against a null of random rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure, Note, NoteCode, Reason, require_positive
from deepprofiler.evaluation.resampling import Interval, bootstrap, clopper_pearson
from deepprofiler.evaluation.similarity import (
    Metric,
    Similarity,
    allowed_blocks,
    blank,
    codes_of,
    treated,
)
from deepprofiler.profiling.profiles import Profiles, require_mask

Negatives = Literal["others", "controls", "both"]
_NEGATIVES = {
    "others": "profiles of other labels",
    "controls": "negative controls",
    "both": "profiles of other labels and negative controls",
}

EXACT = 20_000
"""Where there are at most so many ways to place the positives, all of them are enumerated."""

_CHUNK = 4_000_000
_SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class AveragePrecision(Measure):
    """Mean average precision of n queries, ties by expectation; chance is that of random rankings.

    Attributes
    ----------
    chance : float
    by_compound : Interval
        Bootstrap over labels, or the given clusters, of the fixed outcomes.
    negatives : {"others", "controls", "both"}
        What the positives were ranked against.
    queries : DataFrame
        One row per query that counts: ``row``, ``label``, ``positives``, ``candidates``,
        ``average_precision``, ``chance``, ``normalized`` ((average precision - chance) /
        (1 - chance)), ``cluster``.
    left_out : DataFrame
        Queries that do not count: ``row``, ``label``, ``reason`` (a
        :class:`~deepprofiler.evaluation.measure.Reason`).
    permutations, seed : int
        Of the random rankings of p-values; the seed is that of the bootstrap as well.
    """

    chance: float
    by_compound: Interval
    negatives: Negatives
    queries: pd.DataFrame = field(repr=False)
    left_out: pd.DataFrame = field(repr=False)
    permutations: int
    seed: int

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Means of the queries of each label, tested against random rankings.

        Columns ``label``, ``queries``, ``average_precision``, ``normalized``, ``p_value`` of the
        mean, ``exact`` (whether all rankings were enumerated) and ``corrected_p_value``
        (Benjamini–Hochberg over the labels).
        """
        from scipy.stats import false_discovery_control

        null = RandomRankings(self.permutations, self.seed)
        groups = self.queries.groupby("label", sort=True)
        means = groups.agg(
            queries=("row", "size"),
            average_precision=("average_precision", "mean"),
            normalized=("normalized", "mean"),
        )
        tested = [
            null.p_value(
                group["average_precision"].mean(),
                group["positives"].to_numpy(),
                group["candidates"].to_numpy(),
            )
            for _, group in groups
        ]
        means["p_value"] = [p for p, _ in tested]
        means["exact"] = [exact for _, exact in tested]
        means["corrected_p_value"] = false_discovery_control(means["p_value"], method="bh")
        return means.reset_index()

    @property
    def normalized(self) -> Measure:
        """Mean normalized average precision: 0 for a random ranking, 1 for a perfect one."""
        values = self.queries["normalized"].to_numpy(float)
        return Measure(
            name=f"{self.name}, normalized",
            value=float(values.mean()),
            n=self.n,
            total=self.total,
            unit=self.unit,
            chance=0.0,
            exact=None,
            by_compound=bootstrap(values, self.queries["cluster"].to_numpy(), seed=self.seed),
            metric=self.metric,
            null=self.null,
        )

    @property
    def retrieved(self) -> Measure:
        """Share of labels whose corrected p-value is below 0.05."""
        below = (self.labels["corrected_p_value"] < _SIGNIFICANT).to_numpy(float)
        return Measure(
            name=f"{self.name}, share with corrected p < {_SIGNIFICANT}",
            value=float(below.mean()),
            n=len(below),
            total=len({*self.labels["label"], *self.left_out["label"]} - {""}),
            unit="labels",
            chance=None,
            exact=clopper_pearson(below.sum(), len(below)),
            by_compound=None,
            metric=self.metric,
            null=self.null,
        )


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Which candidates of a query are ranked, and which of them are positives.

    Attributes
    ----------
    label : str
        Column that makes a candidate a positive, such as the treatment. Rows where it is blank
        take no part.
    differ : sequence of str
        Columns in which query and candidate must differ, such as the plate.
    negatives : {"others", "controls", "both"}
        What positives are ranked against: treated profiles of other labels, negative controls, or
        both. The result depends strongly on it.
    metric : {"cosine", "correlation", "euclidean"}
    name : str
        Of the result.
    cluster : str or None
        Column that the bootstrap draws by, such as the compound; None: the label.

    Raises
    ------
    ValueError
        ``negatives`` is none of these.
    """

    label: str
    differ: Sequence[str] = ()
    negatives: Negatives = "others"
    metric: Metric = "cosine"
    name: str = "mAP"
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.negatives not in _NEGATIVES:
            raise ValueError(f"negatives={self.negatives!r}; choose others, controls or both")


def mean_average_precision(
    profiles: Profiles,
    ranking: Ranking,
    *,
    controls: np.ndarray | None,
    queries: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
    permutations: int = 10_000,
    seed: int = 0,
) -> AveragePrecision:
    """Mean over queries of the average precision of candidates with the query's label.

    Parameters
    ----------
    profiles : Profiles
    ranking : Ranking
    controls : ndarray of bool, (n,), or None
        Negative controls: never queries, never positives.
    queries, candidates : ndarray of bool, (n,), optional
        Rows that may be queries, and rows that may be ranked. None: all.
    permutations : int
        Random rankings for p-values, where there are too many to enumerate; see
        :class:`RandomRankings`.
    seed : int
        Of the bootstrap and of the random rankings.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a vector is zero under cosine, or no query has
        both a positive and a negative.
    """
    require_positive("permutations", permutations)
    pool = _Pool.of(profiles, ranking, controls, queries, candidates)
    table, left_out = _rank(profiles, ranking, pool)
    if not len(table):
        raise DataError(
            f"mean average precision is undefined: none of {len(pool.queries)} queries has both a "
            f"candidate of the same {ranking.label} and a negative ({ranking.negatives})"
        )
    table["normalized"] = (table["average_precision"] - table["chance"]) / (1 - table["chance"])
    table["cluster"] = profiles.values(ranking.cluster or ranking.label)[table["row"]]
    total = len(pool.queries) + len(pool.unlabelled)
    precisions = table["average_precision"].to_numpy()
    return AveragePrecision(
        name=ranking.name,
        value=float(precisions.mean()),
        n=len(table),
        total=total,
        unit="profiles",
        chance=float(table["chance"].mean()),
        exact=None,
        by_compound=bootstrap(precisions, table["cluster"].to_numpy(), seed=seed),
        metric=ranking.metric,
        null=f"negatives: {_NEGATIVES[ranking.negatives]}; null: candidates in random order, all "
        f"orders where these are at most {EXACT:,}, else {permutations:,} draws",
        negatives=ranking.negatives,
        queries=table,
        left_out=left_out,
        notes=_notes(ranking, left_out, total),
        permutations=permutations,
        seed=seed,
    )


@dataclass(frozen=True)
class _Pool:
    """Labels of n profiles, and the rows that are queries, candidates and negatives.

    ``codes`` (n,) are positions in ``labels`` (K,). ``queries``, ``unlabelled`` (rows that would
    be queries if they had a label) and ``candidates`` are row numbers; ``positive`` and
    ``negative`` (n,) are the rows that may be one.
    """

    codes: np.ndarray
    labels: np.ndarray
    queries: np.ndarray
    unlabelled: np.ndarray
    candidates: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(
        cls,
        profiles: Profiles,
        ranking: Ranking,
        controls: np.ndarray | None,
        queries: np.ndarray | None,
        candidates: np.ndarray | None,
    ) -> _Pool:
        codes, labels = codes_of(profiles, ranking.label)
        is_control = np.ones(len(profiles), bool)
        is_control[treated(profiles, controls)] = False
        labelled = ~is_control & ~blank(labels)[codes]
        may_query = _mask(queries, len(profiles))
        ranked = labelled if ranking.negatives == "others" else labelled | is_control
        only_controls = ranking.negatives == "controls"
        return cls(
            codes,
            labels,
            queries=np.flatnonzero(labelled & may_query),
            unlabelled=np.flatnonzero(may_query & ~labelled & ~is_control),
            candidates=np.flatnonzero(ranked & _mask(candidates, len(profiles))),
            positive=labelled,
            negative=is_control if only_controls else np.ones(len(profiles), bool),
        )


def _rank(profiles: Profiles, ranking: Ranking, pool: _Pool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average precision and chance of each query; and the queries that are left out."""
    keys = [codes_of(profiles, column)[0] for column in ranking.differ]
    similarity = Similarity(profiles, np.union1d(pool.queries, pool.candidates), ranking.metric)
    rows: list[tuple[int, object, int, int, float, float]] = []
    left_out = [(int(row), "", Reason.NO_LABEL) for row in pool.unlabelled]
    chances: dict[tuple[int, int], float] = {}
    for block, allowed in allowed_blocks(pool.queries, pool.candidates, keys):
        same = pool.codes[block][:, None] == pool.codes[pool.candidates][None]
        same &= pool.positive[pool.candidates]
        scores = similarity.block(block, pool.candidates)
        positive = allowed & same
        entered = positive | (allowed & ~same & pool.negative[pool.candidates])
        for query, row in enumerate(block):
            label = pool.labels[pool.codes[row]]
            counts = int(positive[query].sum()), int(entered[query].sum())
            if counts[0] in (0, counts[1]):
                left_out.append(
                    (row, label, Reason.NO_NEGATIVE if counts[0] else Reason.NO_PARTNER)
                )
                continue
            hits = positive[query][entered[query]]
            precision = average_precision(scores[query][entered[query]], hits)
            if counts not in chances:
                chances[counts] = average_precision(np.zeros(counts[1]), hits)
            rows.append((row, label, *counts, precision, chances[counts]))
    columns = ["row", "label", "positives", "candidates", "average_precision", "chance"]
    return (
        pd.DataFrame(rows, columns=columns),
        pd.DataFrame(left_out, columns=["row", "label", "reason"]),
    )


def _notes(ranking: Ranking, left_out: pd.DataFrame, total: int) -> tuple[Note, ...]:
    notes = [Note(NoteCode.NEGATIVES, {"negatives": ranking.negatives})]
    for reason, group in left_out.groupby("reason", sort=True):
        values = {
            "reason": Reason(str(reason)),
            "label": spoken(ranking.label),
            "count": len(group),
            "total": total,
            "unit": "queries",
            "names": tuple(str(name) for name in group["label"].unique() if name),
        }
        notes.append(Note(NoteCode.LEFT_OUT, values))
    return tuple(notes)


def _mask(rows: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n, bool) if rows is None else require_mask(rows, n, "queries or candidates")


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of one ranking, as expected over all orders of tied candidates.

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


def random_average_precisions(
    positives: int, candidates: int, times: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Average precisions of random rankings.

    Parameters
    ----------
    positives, candidates : int
        At least one positive, and at most as many as candidates.
    times : int
        Number of draws, where there are more than ``EXACT`` ways to place the positives.
    rng : Generator

    Returns
    -------
    values : ndarray
    exact : bool
        Whether all ways to place the positives were enumerated, each once.
    """
    places = np.arange(1, positives + 1)
    if comb(candidates, positives) <= EXACT:
        ranks = np.array(list(combinations(range(1, candidates + 1), positives)))
        return (places / ranks).mean(axis=1), True
    values = np.empty(times)
    step = max(1, _CHUNK // candidates)
    for start in range(0, times, step):
        keys = rng.random((min(step, times - start), candidates))
        ranks = np.sort(np.argpartition(keys, positives - 1, axis=1)[:, :positives], axis=1) + 1
        values[start : start + step] = (places / ranks).mean(axis=1)
    return values, False


class RandomRankings:
    """Null distribution of mean average precision: candidates in random order.

    As in copairs, queries with the same numbers of positives and candidates share one random
    ranking: queries of one label are each other's positives, and with independent rankings p-values
    would be too small. Queries with other numbers have rankings of their own.

    Parameters
    ----------
    times : int
        Random rankings, where there are too many to enumerate.
    seed : int
    """

    def __init__(self, times: int, seed: int) -> None:
        self.times = times
        self._rng = np.random.default_rng(seed)
        self._nulls: dict[tuple[int, int], tuple[np.ndarray, bool]] = {}

    def p_value(
        self, mean: float, positives: np.ndarray, candidates: np.ndarray
    ) -> tuple[float, bool]:
        """Probability that random rankings reach a mean, and whether it is exact.

        Parameters
        ----------
        mean : float
            Mean average precision of n queries.
        positives, candidates : ndarray of int, (n,)
            Of each query.
        """
        pairs, counts = np.unique(
            np.stack([positives, candidates], axis=1), axis=0, return_counts=True
        )
        nulls = [self._null(int(hits), int(total)) for hits, total in pairs]
        reached = mean - 1e-9  # Equal up to rounding counts as reached.
        if len(nulls) == 1 and nulls[0][1]:
            return float((nulls[0][0] >= reached).mean()), True
        means = np.zeros(self.times)
        for (values, exact), count in zip(nulls, counts, strict=True):
            drawn = self._rng.choice(values, self.times) if exact else values
            means += drawn * (count / counts.sum())
        return float(((means >= reached).sum() + 1) / (self.times + 1)), False

    def _null(self, positives: int, candidates: int) -> tuple[np.ndarray, bool]:
        key = positives, candidates
        if key not in self._nulls:
            self._nulls[key] = random_average_precisions(*key, self.times, self._rng)
        return self._nulls[key]

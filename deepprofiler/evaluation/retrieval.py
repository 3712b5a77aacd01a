"""Mean average precision: how high profiles of the same label rank among the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import Interval, bootstrap, clopper_pearson
from deepprofiler.evaluation.similarity import (
    Metric,
    Similarity,
    allowed_blocks,
    blank,
    codes_of,
    treated,
)
from deepprofiler.profiling.profile_files import require_mask
from deepprofiler.profiling.profiles import Profiles

EXACT = 20_000
"""Up to so many ways to place the positives, all of them are enumerated."""

_CHUNK = 4_000_000


def random_average_precisions(
    positives: int, candidates: int, times: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Average precisions of random orders: of all, if they are few, else of ``times`` draws.

    Returns
    -------
    values : ndarray
    exact : bool
        Whether these are all orders, each place of the positives once.
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


class RandomOrders:
    """Tests means of average precisions against candidates in random order.

    Queries with equally many positives and candidates are taken to share one random order, as
    copairs does: those of one label see each other, and independent orders would be too sure.
    Queries that differ in these numbers have orders of their own.

    Parameters
    ----------
    times : int
        Random orders, where there are too many to go through all.
    seed : int
    """

    def __init__(self, times: int, seed: int) -> None:
        self.times = times
        self._rng = np.random.default_rng(seed)
        self._known: dict[tuple[int, int], tuple[np.ndarray, bool]] = {}

    def p_value(
        self, mean: float, positives: np.ndarray, candidates: np.ndarray
    ) -> tuple[float, bool]:
        """Chance that random orders reach a mean, and whether it is exact.

        Parameters
        ----------
        mean : float
            Mean average precision of n queries.
        positives, candidates : ndarray of int, (n,)
            Of each query.
        """
        kinds, counts = np.unique(
            np.stack([positives, candidates], axis=1), axis=0, return_counts=True
        )
        nulls = [self._null(int(hits), int(total)) for hits, total in kinds]
        reached = mean - 1e-9  # What is equal but for rounding counts as reached.
        if len(nulls) == 1 and nulls[0][1]:
            return float((nulls[0][0] >= reached).mean()), True
        means = np.zeros(self.times)
        for (values, exact), count in zip(nulls, counts, strict=True):
            drawn = self._rng.choice(values, self.times) if exact else values
            means += drawn * (count / counts.sum())
        return float(((means >= reached).sum() + 1) / (self.times + 1)), False

    def _null(self, positives: int, candidates: int) -> tuple[np.ndarray, bool]:
        key = positives, candidates
        if key not in self._known:
            self._known[key] = random_average_precisions(*key, self.times, self._rng)
        return self._known[key]


Negatives = Literal["others", "controls", "both"]


@dataclass(frozen=True, kw_only=True)
class AveragePrecision(Measure):
    """Result of a retrieval.

    Its value is the mean average precision of the n queries, ties by expectation; chance is that of
    candidates in random order.

    Attributes
    ----------
    chance : float
    by_compound : Interval
        Bootstrap over labels, or what was given as cluster, of the fixed outcomes.
    negatives : str
        What the positives were ranked against: ``others``, ``controls`` or ``both``.
    queries : DataFrame
        One row per query that counts: ``row``, ``label``, ``positives``, ``candidates``,
        ``average_precision``, ``chance``, ``normalized``: (average precision - chance) /
        (1 - chance), ``cluster``.
    left_out : DataFrame
        Queries that do not count: ``row``, ``label``, ``reason``.
    permutations, seed : int
        Of the random orders that p-values come from; the seed is that of the bootstrap as well.
    """

    chance: float
    by_compound: Interval
    negatives: str
    queries: pd.DataFrame
    left_out: pd.DataFrame
    permutations: int
    seed: int

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Means of the queries of each label, tested against candidates in random order.

        Columns ``label``, ``queries``, ``average_precision``, ``normalized``, ``p_value`` of the
        mean, ``exact`` (whether all orders were gone through) and ``corrected_p_value``
        (Benjamini–Hochberg over the labels).
        """
        from scipy.stats import false_discovery_control

        orders = RandomOrders(self.permutations, self.seed)
        groups = self.queries.groupby("label", sort=True)
        means = groups.agg(
            queries=("row", "size"),
            average_precision=("average_precision", "mean"),
            normalized=("normalized", "mean"),
        )
        tested = [
            orders.p_value(
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
        """Mean normalized average precision: 0 is a random order, 1 a perfect one."""
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
        found = (self.labels["corrected_p_value"] < 0.05).to_numpy(float)
        return Measure(
            name=f"{self.name}, share with corrected p < 0.05",
            value=float(found.mean()),
            n=len(found),
            total=len({*self.labels["label"], *self.left_out["label"]} - {""}),
            unit="labels",
            chance=None,
            exact=clopper_pearson(found.sum(), len(found)),
            by_compound=None,
            metric=self.metric,
            null=self.null,
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
    name: str = "mAP",
    cluster: str | None = None,
    permutations: int = 10_000,
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
    metric : {"cosine", "correlation", "euclidean"}
    name : str
        Of the result.
    cluster : str, optional
        Column that the bootstrap draws by, such as the compound; else the label.
    permutations : int
        Random orders for p-values, where there are too many to go through all; see
        :class:`~deepprofiler.evaluation.retrieval.RandomOrders`.
    seed : int
        Of the bootstrap and of the random orders.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a vector is zero under cosine, or no query has
        both a positive and a negative.
    """
    if negatives not in ("others", "controls", "both"):
        raise ValueError(f"negatives={negatives!r}; choose others, controls or both")
    if permutations < 1:
        raise ValueError(f"permutations={permutations}; p-values need at least one")
    codes, labels = codes_of(profiles, label)
    keys = [codes_of(profiles, column)[0] for column in differ]
    labelled = np.zeros(len(profiles), bool)
    labelled[treated(profiles, controls)] = True
    is_control = ~labelled
    labelled &= ~blank(labels)[codes]
    may_ask = _mask(queries, len(profiles))
    asked = np.flatnonzero(labelled & may_ask)
    unlabelled = np.flatnonzero(may_ask & ~labelled & ~is_control)
    ranked = labelled | is_control if negatives != "others" else labelled
    ranked = np.flatnonzero(ranked & _mask(candidates, len(profiles)))
    similarity = Similarity(profiles, np.union1d(asked, ranked), metric)
    negative = is_control if negatives == "controls" else np.ones(len(profiles), bool)

    found: list[tuple[Any, ...]] = []
    left_out = [(row, "", f"no {spoken(label)}") for row in unlabelled]
    chances: dict[tuple[int, int], float] = {}
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
            if (mine, total) not in chances:
                chances[mine, total] = average_precision(np.zeros(total), of)
            chance = chances[mine, total]
            found.append((row, labels[codes[row]], mine, total, precision, chance))
    if not found:
        raise DataError(
            f"mean average precision is undefined: none of {len(asked)} queries has both a "
            f"candidate of the same {label} and a negative ({negatives})"
        )
    columns = ["row", "label", "positives", "candidates", "average_precision", "chance"]
    table = pd.DataFrame(found, columns=columns)
    table["normalized"] = (table["average_precision"] - table["chance"]) / (1 - table["chance"])
    table["cluster"] = profiles.values(cluster or label)[table["row"]]
    dropped = pd.DataFrame(left_out, columns=["row", "label", "reason"])
    meaning = {"others": "profiles of other labels", "controls": "negative controls"}
    against = meaning.get(negatives, "profiles of other labels and negative controls")
    notes = [f"negatives: {against}"]
    every = len(asked) + len(unlabelled)
    for reason, group in dropped.groupby("reason", sort=True):
        names = [name for name in group["label"].unique() if name][:5]
        which = f": {', '.join(map(str, names))}" if names else ""
        notes.append(f"{len(group)} of {every} queries have {reason}, left out{which}")
    precisions = table["average_precision"].to_numpy()
    return AveragePrecision(
        name=name,
        value=float(precisions.mean()),
        n=len(table),
        total=every,
        unit="profiles",
        chance=float(table["chance"].mean()),
        exact=None,
        by_compound=bootstrap(precisions, table["cluster"].to_numpy(), seed=seed),
        metric=metric,
        null=f"negatives: {against}; null: candidates in random order, all orders where these are "
        f"at most {EXACT:,}, else {permutations:,} draws",
        negatives=negatives,
        queries=table,
        left_out=dropped,
        notes=tuple(notes),
        permutations=permutations,
        seed=seed,
    )


def _mask(rows: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n, bool) if rows is None else require_mask(rows, n, "queries or candidates")

"""Enrichment: do the closest pairs of treatments share a mechanism more often than others.

The definition is that of the notebooks of the original DeepProfiler's experiments: pairs above a
percentile of all similarities, their odds of a common mechanism over those of the rest, Fisher's
one-sided test. Here pairs of one compound do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import Interval, draws, percentiles
from deepprofiler.evaluation.similarity import (
    Metric,
    Similarity,
    allowed_blocks,
    codes_of,
    labelled,
)
from deepprofiler.profiling.profiles import Profiles


@dataclass(frozen=True, kw_only=True)
class Enrichment(Measure):
    """Odds ratio of sharing a mechanism among the closest pairs; its p-value is Fisher's.

    Attributes
    ----------
    by_compound : Interval
        Bootstrap over compounds of the fixed pairs: a pair counts as often as both of its compounds
        are drawn. The p-value takes pairs as independent, which they are not.
    table : DataFrame
        Pairs by ``top`` and ``rest`` (rows), ``same`` and ``other`` mechanism (columns). Where
        pairs are tied at the threshold, fractional: by expectation.
    threshold : float
        Similarity of the last pair of the top.
    precision, base : float
        Share of pairs with the same mechanism, in the top and in all.
    """

    by_compound: Interval
    table: pd.DataFrame
    threshold: float
    precision: float
    base: float


def enrichment(
    profiles: Profiles,
    *,
    compound: str,
    mechanism: str,
    controls: np.ndarray | None,
    percent: float = 1.0,
    metric: Metric = "cosine",
    times: int = 2000,
    seed: int = 0,
) -> Enrichment:
    """Odds that a close pair shares its mechanism, over the odds that another pair does.

    Of all pairs of profiles of different compounds, the closest ``percent`` are the top: as many as
    lie above that percentile of all similarities.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment.
    compound, mechanism : str
        Columns of metadata. Rows with a blank mechanism take no part.
    controls : ndarray of bool, (n,), or None
        Negative controls; they take no part.
    percent : float
        Above 0, below 100.
    metric : {"cosine", "correlation", "euclidean"}
    times, seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`; or pairs of different compounds all
        share a mechanism, or none does.
    """
    if not 0 < percent < 100:
        raise ValueError(f"percent={percent}; choose above 0 and below 100")
    codes, rows = labelled(profiles, mechanism, controls)
    compounds = codes_of(profiles, compound)[0]
    first, second, score = _pairs(Similarity(profiles, rows, metric), rows, compounds)
    same = codes[first] == codes[second]
    if not same.any() or same.all():
        raise DataError(
            f"enrichment is undefined: of {len(same)} pairs of different {spoken(compound)}s "
            f"{int(same.sum())} share their {spoken(mechanism)}"
        )
    # As many as lie above NumPy's percentile; rounded, since 1 % of 300 pairs is 3, not 3.0…04.
    size = max(1, ceil(round((len(score) - 1) * percent / 100, 9)))
    threshold = float(np.partition(score, -size)[-size])
    above, level = score > threshold, score == threshold
    places = size - int(above.sum())
    share = above + level * (places / level.sum())
    names, members = np.unique(compounds[[first, second]], return_inverse=True)
    sums = [
        _by_compounds(members, weights, len(names))
        for weights in (share * same, share, same.astype(float), np.ones(len(score)))
    ]
    often = draws(len(names), times, seed)
    drawn = [np.einsum("tc,tc->t", often @ cells, often) for cells in sums]
    top_same, top, all_same, every = (float(cells.sum()) for cells in sums)
    notes = [
        f"{top_same:.4g} of the {size} closest pairs share their {spoken(mechanism)}, and "
        f"{all_same / every:.1%} of all",
        "Fisher's test takes pairs as independent, which they are not",
    ]
    tied = int(level.sum())
    if tied > places:
        notes.append(f"{tied} pairs are tied at the threshold, for {places} places")
    return Enrichment(
        name=f"odds ratio of the top {percent:g} %",
        value=float(_odds_ratio(*(cells.sum() for cells in sums))),
        n=len(score),
        total=len(score),
        unit="pairs",
        chance=1.0,
        exact=None,
        by_compound=percentiles(_odds_ratio(*drawn), f"bootstrap over {len(names)} clusters"),
        metric=metric,
        null=f"pairs of different {spoken(compound)}s; null: Fisher's, one-sided",
        p_value=_fisher(above, level, same, places),
        notes=tuple(notes),
        table=pd.DataFrame(
            [
                [top_same, top - top_same],
                [all_same - top_same, every - top - all_same + top_same],
            ],
            index=["top", "rest"],
            columns=["same", "other"],
        ),
        threshold=threshold,
        precision=top_same / top,
        base=all_same / every,
    )


def _pairs(
    similarity: Similarity, rows: np.ndarray, compounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both rows of each pair of different compounds, and their similarity."""
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for block, allowed in allowed_blocks(rows, rows, [compounds]):
        query, candidate = np.nonzero(allowed & (block[:, None] < rows[None]))
        scores = similarity.block(block, rows)[query, candidate]
        found.append((block[query], rows[candidate], scores))
    first, second, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, score


def _fisher(above: np.ndarray, level: np.ndarray, same: np.ndarray, places: int) -> float:
    """Fisher's one-sided p-value, expected over which of the tied pairs take the last places."""
    from scipy.stats import fisher_exact, hypergeom

    size, total = int(above.sum()) + places, int(same.sum())
    tied, hits = int(level.sum()), int((level & same).sum())
    p_value = 0.0
    for drawn in range(max(0, places - (tied - hits)), min(hits, places) + 1):
        found = int((above & same).sum()) + drawn
        rest = len(same) - size - total + found
        counts = np.array([[found, size - found], [total - found, rest]])
        p = fisher_exact(counts, alternative="greater").pvalue
        p_value += float(hypergeom.pmf(drawn, tied, hits, places) * p)
    return min(1.0, p_value)


def _by_compounds(members: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Sums (C, C) of pairs' weights by their compounds (2, pairs): a draw is a quadratic form."""
    flat = np.bincount(members[0] * count + members[1], weights=weights, minlength=count**2)
    return flat.reshape(count, count)


def _odds_ratio(
    top_same: np.ndarray, top: np.ndarray, same: np.ndarray, every: np.ndarray
) -> np.ndarray:
    """Odds ratios from sums of pairs; infinite or NaN where a cell is empty."""
    cells = top_same, every - top - same + top_same, top - top_same, same - top_same
    # Sums of shares leave traces where a cell is empty.
    a, d, b, c = (np.where(cell < 1e-9, 0, cell) for cell in cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a * d / (b * c))

"""Enrichment: how much more often the closest pairs of treatments share a mechanism than others.

The definition is that of the notebooks of the original DeepProfiler's experiments: the pairs above
a percentile of all similarities, the odds that they share a mechanism over the odds of the other
pairs, and Fisher's one-sided test. Here, pairs of one compound do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure, Note, NoteCode, require_percentage
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
        Pairs by ``top`` and ``rest`` (rows), ``same`` and ``other`` mechanism (columns). Pairs
        that are tied at the threshold count by expectation, so that numbers may be fractional.
    threshold : float
        Similarity of the last pair of the top.
    precision, base : float
        Share of pairs with the same mechanism, in the top and in all.
    """

    by_compound: Interval
    table: pd.DataFrame = field(repr=False)
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
    require_percentage("percent", percent)
    codes, rows = labelled(profiles, mechanism, controls)
    compounds = codes_of(profiles, compound)[0]
    first, second, score = _pairs(Similarity(profiles, rows, metric), rows, compounds)
    same = codes[first] == codes[second]
    if not same.any() or same.all():
        raise DataError(
            f"enrichment is undefined: of {len(same)} pairs of different {spoken(compound)}s "
            f"{int(same.sum())} share their {spoken(mechanism)}"
        )
    top = _Top.of(score, percent)
    names, members = np.unique(compounds[[first, second]], return_inverse=True)
    # Sums of pairs by their compounds: same and all in the top, same and all.
    sums = [
        _by_compounds(members, weights, len(names))
        for weights in (top.share * same, top.share, same.astype(float), np.ones(len(score)))
    ]
    counts = draws(len(names), times, seed)
    drawn = [np.einsum("tc,tc->t", counts @ cells, counts) for cells in sums]
    top_same, top_all, all_same, total = (float(cells.sum()) for cells in sums)
    return Enrichment(
        name=f"odds ratio of the top {percent:g} %",
        value=float(_odds_ratio(*(cells.sum() for cells in sums))),
        n=len(score),
        total=len(score),
        unit="pairs",
        chance=1.0,
        exact=None,
        by_compound=percentiles(_odds_ratio(*drawn), clusters=len(names)),
        metric=metric,
        null=f"pairs of different {spoken(compound)}s; null: Fisher's, one-sided",
        p_value=_fisher(top, same),
        notes=_notes(top, top_same, all_same / total, spoken(mechanism)),
        table=pd.DataFrame(
            [
                [top_same, top_all - top_same],
                [all_same - top_same, total - top_all - all_same + top_same],
            ],
            index=["top", "rest"],
            columns=["same", "other"],
        ),
        threshold=top.threshold,
        precision=top_same / top_all,
        base=all_same / total,
    )


@dataclass(frozen=True)
class _Top:
    """The closest of n pairs: those above a threshold, and some of those tied at it.

    ``above`` and ``tied`` are masks (n,); ``places`` is the number of tied pairs in the top.
    """

    threshold: float
    above: np.ndarray
    tied: np.ndarray
    places: int

    @classmethod
    def of(cls, score: np.ndarray, percent: float) -> _Top:
        """Find the pairs above a percentile, as NumPy defines it."""
        # Rounded, since 1 % of 300 pairs is 3 and not 3.0…04.
        size = max(1, ceil(round((len(score) - 1) * percent / 100, 9)))
        threshold = float(np.partition(score, -size)[-size])
        above = score > threshold
        return cls(threshold, above, score == threshold, size - int(above.sum()))

    @property
    def size(self) -> int:
        """Number of pairs in the top."""
        return int(self.above.sum()) + self.places

    @property
    def share(self) -> np.ndarray:
        """Probability of each pair to be in the top, (n,)."""
        return np.asarray(self.above + self.tied * (self.places / self.tied.sum()))


def _notes(top: _Top, count: float, share: float, label: str) -> tuple[Note, ...]:
    closest = {"count": count, "total": top.size, "share": share, "label": label}
    notes = [Note(NoteCode.CLOSEST_PAIRS, closest), Note(NoteCode.DEPENDENT_PAIRS)]
    tied = int(top.tied.sum())
    if tied > top.places:
        notes.append(Note(NoteCode.TIED_PAIRS, {"count": tied, "total": top.places}))
    return tuple(notes)


def _pairs(
    similarity: Similarity, rows: np.ndarray, compounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both rows of each pair of different compounds, and their similarity."""
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for block, allowed in allowed_blocks(rows, rows, [compounds]):
        query, candidate = np.nonzero(allowed & (block[:, None] < rows[None]))
        scores = similarity.block(block, rows)[query, candidate]
        parts.append((block[query], rows[candidate], scores))
    first, second, score = (np.concatenate(part) for part in zip(*parts, strict=True))
    return first, second, score


def _fisher(top: _Top, same: np.ndarray) -> float:
    """Fisher's one-sided p-value, expected over which of the tied pairs are in the top."""
    from scipy.stats import fisher_exact, hypergeom

    total = int(same.sum())
    tied, tied_same = int(top.tied.sum()), int((top.tied & same).sum())
    p_value = 0.0
    fewest = max(0, top.places - (tied - tied_same))
    for drawn in range(fewest, min(tied_same, top.places) + 1):
        hits = int((top.above & same).sum()) + drawn
        rest = len(same) - top.size - total + hits
        counts = np.array([[hits, top.size - hits], [total - hits, rest]])
        p = fisher_exact(counts, alternative="greater").pvalue
        p_value += float(hypergeom.pmf(drawn, tied, tied_same, top.places) * p)
    return min(1.0, p_value)


def _by_compounds(members: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Sums (C, C) of pairs' weights by their compounds (2, pairs): a draw is a quadratic form."""
    flat = np.bincount(members[0] * count + members[1], weights=weights, minlength=count**2)
    return flat.reshape(count, count)


def _odds_ratio(
    top_same: np.ndarray, top: np.ndarray, same: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """Odds ratios from sums of pairs; infinite or NaN where a cell is empty."""
    cells = top_same, total - top - same + top_same, top - top_same, same - top_same
    # Rounding leaves traces in the sums of an empty cell.
    a, d, b, c = (np.where(cell < 1e-9, 0, cell) for cell in cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a * d / (b * c))

"""Percent replicating: are replicates more similar than wells of different treatments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import (
    Measure,
    Note,
    NoteCode,
    Reason,
    require_percentage,
    require_positive,
)
from deepprofiler.evaluation.resampling import Interval, bootstrap, clopper_pearson
from deepprofiler.evaluation.similarity import Metric, Similarity, labelled
from deepprofiler.profiling.profiles import Profiles


@dataclass(frozen=True, kw_only=True)
class Replicating(Measure):
    """Share of treatments whose replicates are more similar than a percentile of the null.

    Attributes
    ----------
    exact, by_compound : Interval
    treatments : DataFrame
        One row per treatment that counts: ``label``, ``replicates``, ``median`` (of the
        similarities of its pairs of wells), ``threshold``, ``replicating``, ``cluster``.
    left_out : DataFrame
        Treatments that do not count: ``label``, ``replicates``, ``reason`` (a
        :class:`~deepprofiler.evaluation.measure.Reason`).
    """

    exact: Interval
    by_compound: Interval
    treatments: pd.DataFrame = field(repr=False)
    left_out: pd.DataFrame = field(repr=False)


def percent_replicating(
    profiles: Profiles,
    *,
    treatment: str,
    controls: np.ndarray | None,
    compound: str | None = None,
    metric: Metric = "correlation",
    percentile: float = 95.0,
    times: int = 1000,
    seed: int = 0,
) -> Replicating:
    """Share of treatments whose median replicate similarity is above a percentile of the null.

    For the null of a treatment with r wells, r wells of r different treatments are drawn ``times``
    times, and the median of their pairwise similarities is taken. A well is not compared with
    itself.

    Parameters
    ----------
    profiles : Profiles
        One row per well.
    treatment : str
        Column of metadata; wells of one value are replicates. Wells without one take no part.
    controls : ndarray of bool, (n,), or None
        Negative controls; they take no part.
    compound : str, optional
        Column that the bootstrap draws by; by default the treatment.
    metric : {"cosine", "correlation", "euclidean"}
    percentile : float
        Of the null, above 0 and below 100.
    times, seed : int
        Of the null; the seed is that of the bootstrap as well.

    Returns
    -------
    Replicating
        Treatments with one well are left out and counted, as are those with more wells than there
        are treatments to draw a null from.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a profile has no angle, or no treatment is left.
    """
    require_percentage("percentile", percentile)
    require_positive("times", times)
    codes, rows = labelled(profiles, treatment, controls)
    similarity = Similarity(profiles, rows, metric)
    groups = [rows[codes[rows] == code] for code in np.unique(codes[rows])]
    thresholds = _thresholds(similarity, groups, percentile, times, seed)
    labels, clusters = profiles.values(treatment), profiles.values(compound or treatment)
    treatments, left_out = [], []
    for group in groups:
        label, size = labels[group[0]], len(group)
        if size in thresholds:
            median, threshold = _median(similarity, group), thresholds[size]
            cluster = clusters[group[0]]
            treatments.append((label, size, median, threshold, median > threshold, cluster))
        else:
            left_out.append((label, size, Reason.NO_REPLICATE if size == 1 else Reason.NO_NULL))
    unit = f"{spoken(treatment)}s"
    if not treatments:
        raise DataError(
            f"percent replicating is undefined: of {len(groups)} {unit} none has replicates and "
            "enough other treatments for a null"
        )
    columns = ["label", "replicates", "median", "threshold", "replicating", "cluster"]
    table = pd.DataFrame(treatments, columns=columns)
    dropped = pd.DataFrame(left_out, columns=["label", "replicates", "reason"])
    above = table["replicating"].to_numpy(float)
    return Replicating(
        name="percent replicating",
        value=float(above.mean()),
        n=len(table),
        total=len(groups),
        unit=unit,
        chance=1 - percentile / 100,
        exact=clopper_pearson(above.sum(), len(table)),
        by_compound=bootstrap(above, table["cluster"].to_numpy(), seed=seed),
        metric=metric,
        null=f"null: {times} draws of as many wells, all of different {unit}; its "
        f"{percentile:g}th percentile",
        notes=_notes(dropped, len(groups), unit, spoken(treatment)),
        treatments=table,
        left_out=dropped,
    )


def _thresholds(
    similarity: Similarity, groups: list[np.ndarray], percentile: float, times: int, seed: int
) -> dict[int, float]:
    """Percentile of the null by number of replicates; none where there are too few treatments."""
    rng = np.random.default_rng(seed)
    return {
        size: float(
            np.percentile(
                [_median(similarity, _strangers(groups, size, rng)) for _ in range(times)],
                percentile,
            )
        )
        for size in sorted({len(group) for group in groups})
        if 1 < size <= len(groups)
    }


def _notes(left_out: pd.DataFrame, total: int, unit: str, label: str) -> tuple[Note, ...]:
    return tuple(
        Note(
            NoteCode.LEFT_OUT,
            {
                "reason": Reason(str(reason)),
                "label": label,
                "count": len(group),
                "total": total,
                "unit": unit,
                "names": tuple(map(str, group["label"])),
            },
        )
        for reason, group in left_out.groupby("reason", sort=True)
    )


def _strangers(groups: list[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw wells (size,) of different treatments; every treatment is equally likely."""
    chosen = rng.choice(len(groups), size, replace=False)
    return np.array([rng.choice(groups[group]) for group in chosen])


def _median(similarity: Similarity, rows: np.ndarray) -> float:
    """Median similarity of all pairs among rows."""
    pairs = np.triu_indices(len(rows), 1)
    return float(np.median(similarity.block(rows, rows)[pairs]))

"""Are replicates more alike than wells of different treatments? Percent replicating."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import Interval, bootstrap, clopper_pearson
from deepprofiler.evaluation.similarity import Metric, Similarity, labelled
from deepprofiler.profiling.profiles import Profiles


@dataclass(frozen=True, kw_only=True)
class Replicating(Measure):
    """Share of treatments whose replicates are more alike than the null's percentile.

    Attributes
    ----------
    exact, by_compound : Interval
    treatments : DataFrame
        One row per treatment that counts: ``label``, ``replicates``, ``median`` (of the
        similarities of its pairs of wells), ``threshold``, ``replicating``, ``cluster``.
    left_out : DataFrame
        Treatments that do not count: ``label``, ``replicates``, ``reason``.
    """

    exact: Interval
    by_compound: Interval
    treatments: pd.DataFrame
    left_out: pd.DataFrame


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

    The null of a treatment with r wells: as often as ``times``, r wells of r different treatments
    are drawn, and the median of their pairwise similarities is taken. A well is not compared with
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
        What the bootstrap draws; else the treatment.
    metric : {"cosine", "correlation", "euclidean"}
    percentile : float
        Of the null, above 0 and below 100.
    times, seed : int
        Of the null; the seed is that of the bootstrap as well.

    Returns
    -------
    Replicating
        Treatments of one well, and those with more wells than there are treatments to draw a null
        from, are left out and counted.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a profile has no angle, or no treatment is left.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"percentile={percentile}; choose above 0 and below 100")
    if times < 1:
        raise ValueError(f"times={times}; a null needs at least one draw")
    labels = profiles.values(treatment)
    codes, rows = labelled(profiles, treatment, controls)
    similarity = Similarity(profiles, rows, metric)
    groups = [rows[codes[rows] == code] for code in np.unique(codes[rows])]
    sizes = [len(group) for group in groups]
    rng = np.random.default_rng(seed)
    thresholds = {
        size: float(
            np.percentile(
                [_median(similarity, _strangers(groups, size, rng)) for _ in range(times)],
                percentile,
            )
        )
        for size in sorted(set(sizes))
        if 1 < size <= len(groups)
    }
    found, left_out = [], []
    clusters = profiles.values(compound or treatment)
    for group, size in zip(groups, sizes, strict=True):
        label = labels[group[0]]
        if size not in thresholds:
            reason = "no replicate" if size == 1 else "more replicates than treatments for a null"
            left_out.append((label, size, reason))
            continue
        median, threshold = _median(similarity, group), thresholds[size]
        found.append((label, size, median, threshold, median > threshold, clusters[group[0]]))
    if not found:
        raise DataError(
            f"percent replicating is undefined: of {len(groups)} {spoken(treatment)}s none has "
            "replicates and enough others for a null"
        )
    columns = ["label", "replicates", "median", "threshold", "replicating", "cluster"]
    table = pd.DataFrame(found, columns=columns)
    dropped = pd.DataFrame(left_out, columns=["label", "replicates", "reason"])
    above = table["replicating"].to_numpy(float)
    return Replicating(
        name="percent replicating",
        value=float(above.mean()),
        n=len(table),
        total=len(groups),
        unit=f"{spoken(treatment)}s",
        chance=1 - percentile / 100,
        exact=clopper_pearson(above.sum(), len(table)),
        by_compound=bootstrap(above, table["cluster"].to_numpy(), seed=seed),
        metric=metric,
        null=f"null: {times} draws of as many wells, all of different {spoken(treatment)}s; its "
        f"{percentile:g}th percentile",
        notes=tuple(
            f"{len(group)} of {len(groups)} {spoken(treatment)}s have {reason}, left out: "
            f"{', '.join(map(str, group['label'][:5]))}"
            for reason, group in dropped.groupby("reason", sort=True)
        ),
        treatments=table,
        left_out=dropped,
    )


def _strangers(groups: list[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw wells (size,) of different treatments; every treatment is equally likely."""
    chosen = rng.choice(len(groups), size, replace=False)
    return np.array([rng.choice(groups[group]) for group in chosen])


def _median(similarity: Similarity, rows: np.ndarray) -> float:
    """Median similarity of all pairs among rows."""
    pairs = np.triu_indices(len(rows), 1)
    return float(np.median(similarity.block(rows, rows)[pairs]))

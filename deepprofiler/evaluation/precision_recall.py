"""How many of the k nearest share the mechanism, and how many of those that do are found."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import bootstrap
from deepprofiler.evaluation.similarity import (
    Metric,
    Similarity,
    allowed_blocks,
    codes_of,
    labelled,
    treated,
)
from deepprofiler.profiling.profiles import Profiles


def precision_recall(
    profiles: Profiles,
    *,
    treatment: str,
    compound: str,
    mechanism: str,
    controls: np.ndarray | None,
    k: int = 10,
    metric: Metric = "cosine",
    seed: int = 0,
) -> tuple[Measure, Measure]:
    """Precision and recall at k, as in the notebooks of the original DeepProfiler's experiments.

    Precision at k is the share of the k nearest that have the query's mechanism (of all allowed
    ones where there are fewer than k); recall at k is the share of the allowed ones with that
    mechanism that are among the k nearest. Both are means over queries, then over treatments.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment; of several, the results are averaged.
    treatment, compound, mechanism, controls, metric, seed
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`.
    k : int
        How many neighbours are looked at; those tied at the last place count by expectation.

    Returns
    -------
    precision, recall : Measure

    Raises
    ------
    DataError
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`.
    """
    if k < 1:
        raise ValueError(f"k={k}; at least one neighbour is looked at")
    codes, rows = labelled(profiles, mechanism, controls)
    keys = [codes_of(profiles, compound)[0]]
    similarity = Similarity(profiles, rows, metric)
    parts = []
    for block, allowed in allowed_blocks(rows, rows, keys):
        same = allowed & (codes[block][:, None] == codes[rows][None])
        asked = same.any(axis=1)
        block, allowed, same = block[asked], allowed[asked], same[asked]
        scores = np.where(allowed, similarity.block(block, rows), -np.inf)
        count, hits = allowed.sum(axis=1), same.sum(axis=1)
        places = np.minimum(k, count)
        ordered = -np.sort(-scores, axis=1)
        last = np.take_along_axis(ordered, places[:, None] - 1, axis=1)
        above, level = scores > last, scores == last
        left = (places - above.sum(axis=1)) / level.sum(axis=1)
        found = (above & same).sum(axis=1) + left * (level & same).sum(axis=1)
        columns = (found / places, found / hits, hits / count, places / count)
        parts.append(pd.DataFrame(np.stack([block, *columns], axis=1)))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if not len(table):
        raise DataError(
            f"precision and recall are undefined: of {len(rows)} profiles with a "
            f"{spoken(mechanism)} none shares it with another {spoken(compound)}"
        )
    table.columns = ["row", "precision", "recall", "chance of precision", "chance of recall"]
    table["unit"] = profiles.values(treatment)[table["row"].astype(int)]
    units = table.groupby("unit", sort=False).agg("mean")
    first = table.groupby("unit", sort=False)["row"].first().astype(int).to_numpy()
    clusters = profiles.values(compound)[first]
    total = len(set(profiles.values(treatment)[treated(profiles, controls)]))
    known = len(set(profiles.values(treatment)[rows]))
    notes = [
        f"{missing} of {total} {spoken(treatment)}s have no {what}, left out"
        for missing, what in (
            (total - known, spoken(mechanism)),
            (known - len(units), "allowed partner"),
        )
        if missing
    ]
    made = [
        Measure(
            name=f"{what} at {k}",
            value=float(units[what].mean()),
            n=len(units),
            total=total,
            unit=f"{spoken(treatment)}s",
            chance=float(units[f"chance of {what}"].mean()),
            exact=None,
            by_compound=bootstrap(units[what].to_numpy(), clusters, seed=seed),
            metric=metric,
            null=f"allowed profiles of other {spoken(compound)}s in random order",
            notes=tuple(notes),
        )
        for what in ("precision", "recall")
    ]
    return made[0], made[1]

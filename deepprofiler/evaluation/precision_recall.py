"""Precision and recall among the k nearest neighbours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure, Note, NoteCode, Reason, require_positive
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

    Precision at k is the share of the k nearest (or of all allowed candidates, if these are fewer)
    that have the query's mechanism. Recall at k is the share of the allowed candidates with that
    mechanism that are among the k nearest. Both are means over queries, then over treatments.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment; the results of several rows are averaged.
    treatment, compound, mechanism, controls, metric, seed
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`.
    k : int
        Number of neighbours; those tied at the last place count by expectation.

    Returns
    -------
    precision, recall : Measure

    Raises
    ------
    DataError
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`.
    """
    require_positive("k", k)
    codes, rows = labelled(profiles, mechanism, controls)
    compounds = [codes_of(profiles, compound)[0]]
    similarity = Similarity(profiles, rows, metric)
    parts = []
    for block, allowed in allowed_blocks(rows, rows, compounds):
        same = allowed & (codes[block][:, None] == codes[rows][None])
        counts = same.any(axis=1)
        block, allowed, same = block[counts], allowed[counts], same[counts]
        scores = np.where(allowed, similarity.block(block, rows), -np.inf)
        parts.append(_at_k(scores, allowed, same, k).assign(row=block))
    queries = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if not len(queries):
        raise DataError(
            f"precision and recall are undefined: of {len(rows)} profiles with a "
            f"{spoken(mechanism)} none shares it with another {spoken(compound)}"
        )
    names = profiles.values(treatment)
    groups = queries.groupby(names[queries["row"]], sort=False)
    units = groups.mean()
    clusters = profiles.values(compound)[groups["row"].first().to_numpy()]
    unit = f"{spoken(treatment)}s"
    treatments = list(dict.fromkeys(map(str, names[treated(profiles, controls)])))
    with_mechanism = set(map(str, names[rows]))
    without_partner = with_mechanism - set(map(str, units.index))
    left_out = {
        Reason.NO_LABEL: [name for name in treatments if name not in with_mechanism],
        Reason.NO_PARTNER: [name for name in treatments if name in without_partner],
    }
    precision, recall = (
        Measure(
            name=f"{what} at {k}",
            value=float(units[what].mean()),
            n=len(units),
            total=len(treatments),
            unit=unit,
            chance=float(units[f"{what}_chance"].mean()),
            exact=None,
            by_compound=bootstrap(units[what].to_numpy(), clusters, seed=seed),
            metric=metric,
            null=f"allowed profiles of other {spoken(compound)}s in random order",
            notes=_notes(left_out, len(treatments), unit, spoken(mechanism)),
        )
        for what in ("precision", "recall")
    )
    return precision, recall


def _at_k(scores: np.ndarray, allowed: np.ndarray, same: np.ndarray, k: int) -> pd.DataFrame:
    """Precision and recall of each query, and what a random order is expected to give.

    Scores (q, c) are -inf where a candidate is not allowed; ``same`` are allowed candidates with
    the query's label.
    """
    candidates, positives = allowed.sum(axis=1), same.sum(axis=1)
    places = np.minimum(k, candidates)
    ordered = -np.sort(-scores, axis=1)
    last = np.take_along_axis(ordered, places[:, None] - 1, axis=1)
    above, tied = scores > last, scores == last
    # Each tied candidate is as likely as the others to be among the k nearest.
    chance = (places - above.sum(axis=1)) / tied.sum(axis=1)
    hits = (above & same).sum(axis=1) + chance * (tied & same).sum(axis=1)
    return pd.DataFrame(
        {
            "precision": hits / places,
            "recall": hits / positives,
            "precision_chance": positives / candidates,
            "recall_chance": places / candidates,
        }
    )


def _notes(
    left_out: dict[Reason, list[str]], total: int, unit: str, label: str
) -> tuple[Note, ...]:
    return tuple(
        Note(
            NoteCode.LEFT_OUT,
            {
                "reason": reason,
                "label": label,
                "count": len(names),
                "total": total,
                "unit": unit,
                "names": tuple(names),
            },
        )
        for reason, names in left_out.items()
        if names
    )

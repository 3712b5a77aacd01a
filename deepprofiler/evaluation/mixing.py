"""Silhouettes: how strongly profiles are grouped by batch, as they should not be, or mechanism."""

from __future__ import annotations

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure, Note, NoteCode
from deepprofiler.evaluation.resampling import bootstrap
from deepprofiler.evaluation.similarity import Metric, Similarity, blank
from deepprofiler.profiling.profiles import Profiles


def silhouette(
    profiles: Profiles,
    *,
    by: str,
    cluster: str | None = None,
    rows: np.ndarray | None = None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Measure:
    """Mean silhouette (Rousseeuw 1987) of profiles grouped by a column, from -1 to 1.

    By batch, a value near 0 shows that batches are mixed, as they should be; by mechanism, a high
    value shows that mechanisms are separated. Compare the values before and after a correction.

    Parameters
    ----------
    profiles : Profiles
    by : str
        Column that groups the profiles; rows where it is blank take no part.
    cluster : str, optional
        Column that the bootstrap draws by, such as the compound; by default ``by``.
    rows : ndarray of bool, (n,), optional
        The profiles that take part. None: all.
    metric : {"cosine", "correlation", "euclidean"}
    seed : int
        Of the bootstrap.

    Returns
    -------
    Measure
        A group of one profile has silhouette 0, as in scikit-learn, and is counted in a note.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a profile has no angle, there is one group, or
        as many groups as profiles.

    Notes
    -----
    Time grows with the square of the number of profiles.
    """
    from sklearn.metrics import silhouette_samples

    grouped = ~blank(profiles.values(by))
    if rows is not None:
        grouped &= np.asarray(rows, bool)
    part = profiles.subset(grouped)
    labels = part.values(by).astype(str)
    names, sizes = np.unique(labels, return_counts=True)
    if not 1 < len(names) < len(labels):
        raise DataError(
            f"the silhouette by {spoken(by)} is undefined: {len(labels)} profiles are of "
            f"{len(names)} {spoken(by)}(s); it needs at least two, and fewer than profiles"
        )
    # Raises an error for profiles that have no angle.
    Similarity(part, np.arange(len(part)), metric)
    values = silhouette_samples(part.features.astype(float), labels, metric=metric)
    alone = int((sizes == 1).sum())
    return Measure(
        name=f"silhouette by {spoken(by)}",
        value=float(values.mean()),
        n=len(values),
        total=len(profiles) if rows is None else int(np.asarray(rows, bool).sum()),
        unit="profiles",
        chance=0.0,
        exact=None,
        by_compound=bootstrap(values, part.values(cluster or by), seed=seed),
        metric=metric,
        null=f"{len(names)} groups",
        notes=(Note(NoteCode.SINGLETONS, {"count": alone}),) if alone else (),
    )

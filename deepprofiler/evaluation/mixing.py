"""Do profiles lie together by batch or by mechanism? Silhouettes, to compare corrections by."""

from __future__ import annotations

import numpy as np

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure
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

    By batch, a value near 0 tells that batches are mixed, as they should be; by mechanism, a high
    one that mechanisms lie apart. Call it before and after a correction.

    Parameters
    ----------
    profiles : Profiles
    by : str
        Column that groups the profiles; rows where it is blank take no part.
    cluster : str, optional
        Column that the bootstrap draws by, such as the compound; else ``by``.
    rows : ndarray of bool, (n,), optional
        The profiles that take part. None: all.
    metric : {"cosine", "correlation", "euclidean"}
    seed : int
        Of the bootstrap.

    Returns
    -------
    Measure
        A group of one profile has silhouette 0, as in scikit-learn, and is counted in a note. Its
        time grows with the number of profiles squared.

    Raises
    ------
    DataError
        A column is missing, a value is not finite, a profile has no angle, there is one group, or
        as many groups as profiles.
    """
    from sklearn.metrics import silhouette_samples

    there = ~blank(profiles.values(by))
    if rows is not None:
        there &= np.asarray(rows, bool)
    chosen = profiles.subset(there)
    labels = chosen.values(by).astype(str)
    names, sizes = np.unique(labels, return_counts=True)
    if not 1 < len(names) < len(labels):
        raise DataError(
            f"the silhouette by {spoken(by)} is undefined: {len(labels)} profiles are of "
            f"{len(names)} {spoken(by)}(s); there must be two, and fewer than profiles"
        )
    Similarity(chosen, np.arange(len(chosen)), metric)  # Refuses profiles that have no angle.
    values = silhouette_samples(chosen.features.astype(float), labels, metric=metric)
    alone = int((sizes == 1).sum())
    return Measure(
        name=f"silhouette by {spoken(by)}",
        value=float(values.mean()),
        n=len(values),
        total=len(profiles) if rows is None else int(np.asarray(rows, bool).sum()),
        unit="profiles",
        chance=0.0,
        exact=None,
        by_compound=bootstrap(values, chosen.values(cluster or by), seed=seed),
        metric=metric,
        null=f"{len(names)} groups",
        notes=(f"{alone} group(s) of one profile, with silhouette 0",) if alone else (),
    )

"""Two dimensions for the eye: t-SNE of profiles or of single cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprofiler.errors import DataError

COMPONENTS = 50


@dataclass(frozen=True)
class Embedding:
    """Points for a scatter plot.

    Attributes
    ----------
    points : ndarray
        (n, 2) float32, arbitrary units.
    method : str
        ``t-SNE``, or ``PCA`` where there are fewer than four rows.
    perplexity : float
        The perplexity used, which small data lower; 0 for PCA.
    """

    points: np.ndarray
    method: str
    perplexity: float


def tsne(features: np.ndarray, *, seed: int, perplexity: float = 30.0) -> Embedding:
    """Embed rows in two dimensions by t-SNE, the same for the same seed.

    More than 50 features are first reduced to 50 principal components. The start is PCA, which
    keeps the large distances meaningful and does not depend on the order of the rows. Fewer than
    four rows have no neighbourhoods to preserve: their principal components are returned.

    Parameters
    ----------
    features : ndarray
        (n, D), finite.
    seed : int
    perplexity : float
        Lowered to (n - 1) / 3 where n is small.

    Returns
    -------
    Embedding

    Raises
    ------
    DataError
        A value is not finite, or there is no feature.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, dtype=np.float32)
    count, size = features.shape
    if size == 0:
        raise DataError(f"an embedding needs features, and the {count} rows have none")
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"an embedding needs finite features: row {row}, feature {column} is "
            f"{features[row, column]} ({len(bad)} such values in all); leave them out first"
        )
    if size == 1:
        features = np.column_stack([features, np.zeros(count, np.float32)])
    # Sums over several threads are added in any order; one thread gives the same points again.
    with threadpool_limits(limits=1):
        if count < 4 or np.ptp(features, axis=0).max() == 0:
            return Embedding(_principal(features), "PCA", 0.0)
        if size > COMPONENTS:
            reduced = PCA(min(COMPONENTS, count), svd_solver="randomized", random_state=seed)
            features = reduced.fit_transform(features)
        used = float(min(perplexity, (count - 1) / 3))
        model = TSNE(perplexity=used, init="pca", random_state=seed, n_jobs=1)
        points = model.fit_transform(features).astype(np.float32)
    return Embedding(points, "t-SNE", used)


def _principal(features: np.ndarray) -> np.ndarray:
    """First two principal components (n, 2) float32, zero where there are fewer."""
    centred = features - features.mean(axis=0) if len(features) else features
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(features), 2), np.float32)
    kept = min(2, len(values))
    points[:, :kept] = left[:, :kept] * values[:kept]
    return points

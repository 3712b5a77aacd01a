"""Embeddings in two dimensions: t-SNE or UMAP of profiles or of single cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from deepprofiler.errors import ConfigError, DataError, install_extra

COMPONENTS = 50


@dataclass(frozen=True)
class Embedding:
    """Points for a scatter plot.

    Attributes
    ----------
    points : ndarray
        (n, 2) float32, arbitrary units.
    method : str
        ``t-SNE`` or ``UMAP``; ``PCA`` with fewer than four rows.
    perplexity : float
        Of t-SNE; lower than asked for with few rows, and 0 for other methods.
    neighbours : int
        Of UMAP; lower than asked for with few rows, and 0 for other methods.
    """

    points: np.ndarray
    method: str
    perplexity: float = 0.0
    neighbours: int = 0

    def __str__(self) -> str:
        """Give method and setting, such as ``t-SNE, perplexity 30``."""
        if self.perplexity:
            return f"{self.method}, perplexity {self.perplexity:.3g}"
        return f"{self.method}, {self.neighbours} neighbours" if self.neighbours else self.method


def tsne(features: np.ndarray, *, seed: int, perplexity: float = 30.0) -> Embedding:
    """Embed rows in two dimensions by t-SNE; the same seed gives the same points.

    More than 50 features are first reduced to 50 principal components. The initial points are from
    PCA, which preserves large distances better than random points and does not depend on the order
    of the rows. For fewer than four rows, their first two principal components are returned.

    Parameters
    ----------
    features : ndarray
        (n, D), finite.
    seed : int
    perplexity : float
        At most (n - 1) / 3 is used.

    Returns
    -------
    Embedding

    Raises
    ------
    DataError
        A value is not finite, or there are no features.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = _usable(features)
    # Several threads add up sums in any order; one thread makes the result reproducible.
    with threadpool_limits(limits=1):
        if _too_few(features):
            return Embedding(_principal(features), "PCA")
        features = _reduced(features, seed)
        used = float(min(perplexity, (len(features) - 1) / 3))
        model = TSNE(perplexity=used, init="pca", random_state=seed, n_jobs=1)
        points = model.fit_transform(features).astype(np.float32)
    return Embedding(points, "t-SNE", perplexity=used)


def umap(features: np.ndarray, *, seed: int, neighbours: int = 15) -> Embedding:
    """Embed rows in two dimensions by UMAP (McInnes et al. 2018), reproducibly for a seed.

    Needs the extra ``umap``. Many features and few rows are treated as in :func:`tsne`.

    Parameters
    ----------
    features : ndarray
        (n, D), finite.
    seed : int
    neighbours : int
        At most n - 1 is used.

    Returns
    -------
    Embedding

    Raises
    ------
    ConfigError
        The package umap-learn is not installed.
    DataError
        A value is not finite, or there are no features.
    """
    from threadpoolctl import threadpool_limits

    require_umap()
    with warnings.catch_warnings():
        # umap warns that parametric UMAP needs TensorFlow; it is not used here.
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP

    features = _usable(features)
    with threadpool_limits(limits=1):
        if _too_few(features):
            return Embedding(_principal(features), "PCA")
        features = _reduced(features, seed)
        used = min(neighbours, len(features) - 1)
        # The spectral start needs more rows than dimensions.
        start = "spectral" if len(features) > 10 else "random"
        model = UMAP(n_neighbors=used, init=start, random_state=seed, n_jobs=1)
        points = np.asarray(model.fit_transform(features), dtype=np.float32)
    return Embedding(points, "UMAP", neighbours=used)


def require_umap() -> None:
    """Raise ConfigError if umap-learn is not installed."""
    if find_spec("umap") is None:
        raise ConfigError(f"UMAP needs umap-learn: {install_extra('umap')}; or choose tsne")


def _usable(features: np.ndarray) -> np.ndarray:
    """Return features as (n, D) float32 with D at least 2; raise DataError for invalid ones."""
    features = np.asarray(features, dtype=np.float32)
    count, size = features.shape
    if size == 0:
        raise DataError(f"an embedding needs features, and the {count} rows have none")
    invalid = np.argwhere(~np.isfinite(features))
    if len(invalid):
        row, column = invalid[0]
        raise DataError(
            f"an embedding needs finite features: row {row}, feature {column} is "
            f"{features[row, column]} ({len(invalid)} such values in all); leave them out first"
        )
    if size == 1:
        features = np.column_stack([features, np.zeros(count, np.float32)])
    return features


def _too_few(features: np.ndarray) -> bool:
    return len(features) < 4 or bool(np.ptp(features, axis=0).max() == 0)


def _reduced(features: np.ndarray, seed: int) -> np.ndarray:
    """Reduce features to at most 50 principal components."""
    from sklearn.decomposition import PCA

    count, size = features.shape
    if size <= COMPONENTS:
        return features
    reduced = PCA(min(COMPONENTS, count), svd_solver="randomized", random_state=seed)
    return np.asarray(reduced.fit_transform(features))


def _principal(features: np.ndarray) -> np.ndarray:
    """First two principal components (n, 2) float32, zero where there are fewer."""
    centred = features - features.mean(axis=0) if len(features) else features
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(features), 2), np.float32)
    rank = min(2, len(values))
    points[:, :rank] = left[:, :rank] * values[:rank]
    return points

"""Two dimensions for the eye: t-SNE or UMAP of profiles or of single cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from deepprofiler.errors import ConfigError, DataError

COMPONENTS = 50


@dataclass(frozen=True)
class Embedding:
    """Points for a scatter plot.

    Attributes
    ----------
    points : ndarray
        (n, 2) float32, arbitrary units.
    method : str
        ``t-SNE`` or ``UMAP``, or ``PCA`` where there are fewer than four rows.
    perplexity : float
        Of t-SNE, as used: small data lower it; 0 for other methods.
    neighbours : int
        Of UMAP, as used: small data lower it; 0 for other methods.
    """

    points: np.ndarray
    method: str
    perplexity: float = 0.0
    neighbours: int = 0

    def __str__(self) -> str:
        """Method and setting, such as ``t-SNE, perplexity 30``."""
        if self.perplexity:
            return f"{self.method}, perplexity {self.perplexity:.3g}"
        return f"{self.method}, {self.neighbours} neighbours" if self.neighbours else self.method


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
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = _usable(features)
    # Sums over several threads are added in any order; one thread gives the same points again.
    with threadpool_limits(limits=1):
        if _too_few(features):
            return Embedding(_principal(features), "PCA")
        features = _reduced(features, seed)
        used = float(min(perplexity, (len(features) - 1) / 3))
        model = TSNE(perplexity=used, init="pca", random_state=seed, n_jobs=1)
        points = model.fit_transform(features).astype(np.float32)
    return Embedding(points, "t-SNE", perplexity=used)


def umap(features: np.ndarray, *, seed: int, neighbours: int = 15) -> Embedding:
    """Embed rows in two dimensions by UMAP (McInnes et al. 2018), the same for the same seed.

    Needs the extra ``umap``. Features are reduced and few rows are treated as :func:`tsne` does.

    Parameters
    ----------
    features : ndarray
        (n, D), finite.
    seed : int
    neighbours : int
        Lowered to n - 1 where n is small.

    Returns
    -------
    Embedding

    Raises
    ------
    ConfigError
        The package umap-learn is not installed.
    DataError
        A value is not finite, or there is no feature.
    """
    from threadpoolctl import threadpool_limits

    require_umap()
    with warnings.catch_warnings():
        # It warns that its variant for networks needs TensorFlow; this is not that one.
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP

    features = _usable(features)
    with threadpool_limits(limits=1):
        if _too_few(features):
            return Embedding(_principal(features), "PCA")
        features = _reduced(features, seed)
        used = min(neighbours, len(features) - 1)
        # Fewer rows than dimensions of the spectral start need another one.
        start = "spectral" if len(features) > 10 else "random"
        model = UMAP(n_neighbors=used, init=start, random_state=seed, n_jobs=1)
        points = np.asarray(model.fit_transform(features), dtype=np.float32)
    return Embedding(points, "UMAP", neighbours=used)


def require_umap() -> None:
    """Refuse UMAP where the package umap-learn is not installed (ConfigError)."""
    if find_spec("umap") is None:
        raise ConfigError(
            'UMAP needs umap-learn: pip install "deepprofiler-keras[umap]"; or choose tsne'
        )


def _usable(features: np.ndarray) -> np.ndarray:
    """Features (n, D) float32, D at least 2; refuse what cannot be embedded."""
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
    return features


def _too_few(features: np.ndarray) -> bool:
    return len(features) < 4 or bool(np.ptp(features, axis=0).max() == 0)


def _reduced(features: np.ndarray, seed: int) -> np.ndarray:
    """At most 50 principal components."""
    from sklearn.decomposition import PCA

    count, size = features.shape
    if size <= COMPONENTS:
        return features
    reduced = PCA(min(COMPONENTS, count), svd_solver="randomized", random_state=seed)
    return reduced.fit_transform(features)


def _principal(features: np.ndarray) -> np.ndarray:
    """First two principal components (n, 2) float32, zero where there are fewer."""
    centred = features - features.mean(axis=0) if len(features) else features
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(features), 2), np.float32)
    kept = min(2, len(values))
    points[:, :kept] = left[:, :kept] * values[:kept]
    return points

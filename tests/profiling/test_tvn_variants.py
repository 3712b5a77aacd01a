"""The named variants of TVN, against the steps of their programs done one after the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import fractional_matrix_power, sqrtm
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from deepprofiler.errors import DataError
from deepprofiler.profiling import AuthorsTVN, CellMoments, EfaarTVN, Profiles

BATCH = "Metadata_Batch"


def screen(size: int = 6) -> tuple[Profiles, np.ndarray, np.ndarray]:
    """Two weeks with means and covariances of their own; 30 and 40 of 50 wells are controls."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, 1, (50, size)) @ rng.normal(size=(size, size)) for mean in (1.0, 3.0)]
    batch = np.repeat(["w1", "w2"], 50)
    controls = np.concatenate([np.arange(50) < 30, np.arange(50) < 40])
    names = [f"f{i}" for i in range(size)]
    return Profiles(pd.DataFrame({BATCH: batch}), np.concatenate(parts), names), controls, batch


def test_the_authors_notebook() -> None:
    profiles, controls, batch = screen()
    rows = profiles.features
    centred = rows - rows[controls].mean(axis=0)
    values, vectors = np.linalg.eigh(centred[controls].T @ centred[controls] / controls.sum())
    white = centred @ vectors @ np.diag(1 / np.sqrt(values + 1))
    target = sqrtm(white[controls].T @ white[controls] / controls.sum() + np.eye(6)).real
    expected = np.empty_like(white)
    for week in ("w1", "w2"):
        ours = white[controls & (batch == week)]
        own = np.linalg.inv(sqrtm(ours.T @ ours / len(ours) + np.eye(6)).real)
        expected[batch == week] = white[batch == week] @ own @ target
    fitted = AuthorsTVN(batch=BATCH).fit(profiles, controls=controls)
    given = fitted.transform(profiles).features
    # Axes and their signs are free: inner products are what is compared.
    np.testing.assert_allclose(given @ given.T, expected @ expected.T, atol=1e-8)
    summary = fitted.fitted_
    assert (summary.n, summary.unit, summary.d, summary.rank) == (70, "wells", 6, 6)


def test_efaar_benchmarking() -> None:
    profiles, controls, batch = screen()
    rows = profiles.features
    scaled = StandardScaler().fit(rows[controls]).transform(rows)
    turned = PCA().fit(scaled[controls]).transform(scaled)
    for week in ("w1", "w2"):
        own = turned[controls & (batch == week)]
        turned[batch == week] = StandardScaler().fit(own).transform(turned[batch == week])
    target = fractional_matrix_power(np.cov(turned[controls].T) + np.eye(6) / 2, 0.5)
    expected = np.empty_like(turned)
    for week in ("w1", "w2"):
        own = np.cov(turned[controls & (batch == week)].T) + np.eye(6) / 2
        expected[batch == week] = (
            turned[batch == week] @ fractional_matrix_power(own, -0.5) @ target
        )
    given = EfaarTVN(batch=BATCH).fit(profiles, controls=controls).transform(profiles).features
    np.testing.assert_allclose(given @ given.T, expected @ expected.T, atol=1e-8)


def test_without_batches() -> None:
    profiles, controls, _ = screen()
    given = EfaarTVN().fit(profiles, controls=controls).transform(profiles).features
    scaled = StandardScaler().fit_transform(profiles.features[controls])
    expected = StandardScaler().fit_transform(PCA().fit_transform(scaled))
    np.testing.assert_allclose(
        given[controls] @ given[controls].T, expected @ expected.T, atol=1e-8
    )
    white = AuthorsTVN().fit(profiles, controls=controls).transform(profiles).features
    values = np.linalg.eigvalsh(np.cov(profiles.features[controls].T, bias=True))[::-1]
    np.testing.assert_allclose(
        np.cov(white[controls].T, bias=True), np.diag(values / (values + 1)), atol=1e-8
    )


@pytest.mark.parametrize("kind", [AuthorsTVN, EfaarTVN])
def test_moments_of_cells_fit_what_the_cells_themselves_would(kind: type) -> None:
    profiles, _, batch = screen()
    cells = CellMoments(profiles.names)
    for week in ("w1", "w2"):
        cells.add({BATCH: week}, profiles.features[batch == week])
    by_cells = kind(batch=BATCH, fit_on="cells").fit(profiles, cells=cells)
    by_rows = kind(batch=BATCH, fit_on="wells").fit(profiles)
    np.testing.assert_allclose(
        by_cells.transform(profiles).features, by_rows.transform(profiles).features, atol=1e-8
    )


@pytest.mark.parametrize("kind", [AuthorsTVN, EfaarTVN])
def test_what_cannot_be_fitted_is_named(kind: type) -> None:
    profiles, controls, _ = screen()
    controls[50:] = False
    with pytest.raises(DataError, match="w2 has 0 control wells and needs at least 2"):
        kind(batch=BATCH).fit(profiles, controls=controls)


def test_efaar_needs_variance() -> None:
    profiles, controls, _ = screen()
    features = profiles.features.copy()
    features[:, 2] = 4
    constant = profiles.with_features(features, profiles.names)
    with pytest.raises(DataError, match="feature f2 does not vary among the 70 control wells"):
        EfaarTVN(batch=BATCH).fit(constant, controls=controls)
